"""Documents that are rewritten whole, and folders of numbered files: each state that is whole is read, and nothing twice."""

import json
import os
import re
from pathlib import Path

import msgspec
import pytest

from agentwatch.model import Cursor, Fault
from agentwatch.sources import documents
from agentwatch.sources.documents import BROKEN_S, FORGET_S, Documents, Wanted
from agentwatch.sources.tree import Root


class Reader:
    """Reads documents of a tree as the pipeline would, with a clock of its own; `said` is what was read, in order."""

    def __init__(self, base: Path, *, is_log_dir: bool = True, history_s: float = 86_400.0) -> None:
        self.now, self.wall = 1000.0, 2_000_000_000.0  # far from what the files say: none is racy
        self.said: list[object] = []
        self.faults: list[Fault] = []
        self.history: list[bool] = []
        root = Root(base, is_log_dir=is_log_dir, format="x")
        self.wanted = [Wanted("doc", root, re.compile(r".*\.json")), Wanted("folder", root, re.compile(r"[^/]+/events"), re.compile(r"(\d+)\.ev"))]
        self.history_s = history_s
        self.documents = self._start([])

    def _start(self, cursors: list[Cursor]) -> Documents:
        return Documents(self.wanted, cursors, history_s=self.history_s, clock=lambda: self.now, wall=lambda: self.wall, tell=self.faults.append)

    def restart(self) -> "Reader":
        """As after a kill: nothing survives but the saved cursors."""
        self.documents = self._start(msgspec.json.decode(msgspec.json.encode(self.documents.cursors()), type=list[Cursor]))
        return self

    def look(self) -> "Reader":
        for _ in self.documents.sweep():
            pass
        return self.read()

    def read(self) -> "Reader":
        for _ in range(1000):
            if not self.documents.is_behind:
                return self
            reading = self.documents.turn()
            if reading is not None:
                self.documents.advance(reading, self._understood(reading))
        pytest.fail("documents wait, and nothing reads them")

    def wait(self, seconds: float) -> "Reader":
        self.now += seconds
        self.wall += seconds
        return self.read()

    def _understood(self, reading: documents.Reading) -> int | None:
        if isinstance(reading.said, bytes):
            try:
                json.loads(reading.said)
            except ValueError:
                return None
            self.said.append(reading.said)
            self.history.append(reading.is_history)
            return 1
        whole = 0
        for number, data in reading.said:
            if not data.endswith(b"}"):
                break
            self.said.append(number)
            whole += 1
        return whole


@pytest.fixture
def reader(tmp_path):
    return Reader(tmp_path)


def test_a_document_is_read_again_only_when_it_changed(reader, tmp_path):
    """A sweep over documents that nothing happened to reads none."""
    (tmp_path / "a.json").write_text("[1]")
    reader.look().look().wait(5).look()
    assert reader.said == [b"[1]"]
    (tmp_path / "a.json").write_text("[1,2]")
    assert reader.look().said == [b"[1]", b"[1,2]"]


def test_a_document_that_was_replaced_is_read_again(reader, tmp_path):
    """A new inode is a change, whatever size and time say."""
    path = tmp_path / "a.json"
    path.write_text("[1]")
    reader.look()
    (tmp_path / "new").write_text("[2]")
    os.utime(tmp_path / "new", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    (tmp_path / "new").replace(path)
    assert reader.wait(5).look().said == [b"[1]", b"[2]"]


def test_a_hint_is_enough(reader, tmp_path):
    """What the file system tells of is looked at without a sweep."""
    (tmp_path / "a.json").write_text("[1]")
    reader.documents.hint(str(tmp_path / "a.json"), is_directory=False)
    assert reader.read().said == [b"[1]"]
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b.json").write_text("[2]")
    reader.documents.hint(str(tmp_path / "below"), is_directory=True)
    assert reader.read().said == [b"[1]", b"[2]"]


def test_a_half_document_is_looked_at_again_without_a_word(reader, tmp_path):
    """Between a truncation and its end a document is no fault: it is read when it is whole."""
    path = tmp_path / "a.json"
    for half in ("", "[1", "[1,"):
        path.write_text(half)
        reader.look().wait(1)
    path.write_text("[1,2]")
    reader.wait(1)
    assert (reader.look().said, reader.faults) == ([b"[1,2]"], [])


def test_a_document_that_stays_half_is_told_once(reader, tmp_path):
    """After a minute it is no more being written; when it changes it has another chance."""
    path = tmp_path / "a.json"
    path.write_text("[1")
    reader.look()
    for _ in range(int(BROKEN_S) * 3):
        reader.wait(1).look()
    assert [fault.kind for fault in reader.faults] == ["unfinished_document"]
    path.write_text("[1,2]")
    assert reader.look().said == [b"[1,2]"]


def test_what_was_read_just_after_it_was_written_is_read_once_more(reader, tmp_path):
    """A second write within one tick of the kernel's clock leaves time and size as they are."""
    path = tmp_path / "a.json"
    path.write_text("[1]")
    reader.wall = path.stat().st_mtime
    reader.look()
    stamp = path.stat().st_mtime_ns
    path.write_text("[2]")
    os.utime(path, ns=(stamp, stamp))
    reader.wait(1)
    assert reader.look().said == [b"[1]", b"[2]"]


def test_a_document_that_is_rewritten_all_the_time_is_read_seldom(reader, tmp_path):
    """After a reading that took a second it rests for twenty."""
    path = tmp_path / "a.json"
    path.write_text("[1]")
    for _ in reader.documents.sweep():
        pass
    reading = reader.documents.turn()
    reader.now += 1.0
    reader.documents.advance(reading, 1)
    path.write_text("[1,2]")
    reader.documents.hint(str(path), is_directory=False)
    assert not reader.documents.is_behind
    assert reader.documents.wait_s() == pytest.approx(20.0)
    reader.now += 20.1
    assert reader.documents.is_behind


def test_a_restart_reads_nothing_that_did_not_change(reader, tmp_path):
    """What was read is remembered with inode, size and time."""
    (tmp_path / "a.json").write_text("[1]")
    (tmp_path / "run" / "events").mkdir(parents=True)
    (tmp_path / "run" / "events" / "0.ev").write_text("{}")
    reader.look().restart().look()
    assert sorted(reader.said, key=str) == [0, b"[1]"]


def test_old_documents_of_an_agents_own_folder_are_history(tmp_path):
    """They are read, so that what comes later is known to be new, and marked; in the log directory everything counts."""
    path = tmp_path / "a.json"
    path.write_text("[1]")
    day_ago = path.stat().st_mtime - 90_000
    os.utime(path, (day_ago, day_ago))
    native, logs = Reader(tmp_path, is_log_dir=False), Reader(tmp_path)
    native.wall = logs.wall = day_ago + 90_010
    assert (native.look().history, logs.look().history) == ([True], [False])
    path.write_text("[1,2]")
    assert native.restart().look().history == [True, False]


def test_a_document_that_is_too_large_is_told_and_not_read(reader, tmp_path, monkeypatch):
    """Memory is bounded whatever lies in a folder."""
    monkeypatch.setattr(documents, "MOST_BYTES", 10)
    (tmp_path / "a.json").write_text("[1,2,3,4,5,6,7]")
    reader.look().look()
    assert ([fault.kind for fault in reader.faults], reader.said) == (["too_large"], [])


def test_what_is_no_file_is_left_alone(reader, tmp_path):
    """A pipe would keep us waiting; a link would have the same document read twice."""
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "real.json").write_text("[1]")
    (tmp_path / "b.json").symlink_to(tmp_path / "real.json")
    (tmp_path / "c.json").mkdir()
    assert reader.look().said == [b"[1]"]


def test_a_document_that_is_gone_is_forgotten_after_a_day(reader, tmp_path):
    """Until then it may be put back, and is known."""
    path = tmp_path / "a.json"
    path.write_text("[1]")
    reader.look()
    path.rename(tmp_path / "away")
    reader.look()
    (tmp_path / "away").rename(path)
    reader.look()
    assert reader.said == [b"[1]"]
    path.unlink()
    reader.look().wait(FORGET_S + 1).look()
    assert reader.documents.cursors() == []


def test_the_files_of_a_folder_are_read_once_each_in_order(reader, tmp_path):
    """By their numbers, as they come; what has no number is none of them."""
    folder = tmp_path / "run" / "events"
    folder.mkdir(parents=True)
    for name in ("2.ev", "10.ev", "1.ev", ".lock", "x.txt"):
        (folder / name).write_text("{}")
    assert reader.look().said == [1, 2, 10]
    (folder / "11.ev").write_text("{}")
    reader.documents.hint(str(folder / "11.ev"), is_directory=False)
    assert reader.read().said == [1, 2, 10, 11]
    (folder / "12.ev").write_text("{}")
    assert reader.restart().look().look().said == [1, 2, 10, 11, 12]


def test_a_half_file_in_a_folder_holds_back_those_behind_it_for_a_minute(reader, tmp_path):
    """Order is kept while it may still be ended; then it is told, and left out."""
    folder = tmp_path / "run" / "events"
    folder.mkdir(parents=True)
    (folder / "0.ev").write_text("{}")
    (folder / "1.ev").write_text("{")
    (folder / "2.ev").write_text("{}")
    assert reader.look().said == [0]
    (folder / "1.ev").write_text("{}")
    assert reader.wait(1).said == [0, 1, 2]
    (folder / "3.ev").write_text("{")
    (folder / "4.ev").write_text("{}")
    reader.look()
    for _ in range(int(BROKEN_S) * 2):
        reader.wait(1)
    assert (reader.said, [fault.kind for fault in reader.faults]) == ([0, 1, 2, 4], ["unfinished_document"])


def test_a_long_folder_is_read_in_turns(reader, tmp_path, monkeypatch):
    """One turn takes no more files than it may."""
    monkeypatch.setattr(documents, "MOST_FILES", 7)
    folder = tmp_path / "run" / "events"
    folder.mkdir(parents=True)
    for number in range(50):
        (folder / f"{number}.ev").write_text("{}")
    assert reader.look().said == list(range(50))
