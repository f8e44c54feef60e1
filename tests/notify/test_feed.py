"""The alert log's lines, each at least once and none torn, whatever happens to the file."""

import gzip
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.alert_log import rotated
from agentwatch.notify.feed import MOST_LINE_BYTES, Feed


class Log:
    """A log that is written, rotated and read; `read` are the lines in the order in which they were handed out."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "agent-alerts.jsonl"
        self.written, self.read = [], []
        self.cursor = None
        self.generation = 0
        self.start()

    def start(self):
        self.feed = Feed(self.path, lambda: rotated(self.folder), self.cursor)

    def write(self, count=1, *, size=10):
        with self.path.open("ab") as file:
            for _ in range(count):
                line = b"%s%06d" % (b"x" * size, len(self.written))
                self.written.append(line)
                file.write(line + b"\n")

    def look(self):
        for batch in self.feed.batches():
            self.read += batch.lines
            self.cursor = batch.cursor or self.cursor

    def rename(self, suffix=".{}"):
        self.generation += 1
        if self.path.exists():
            self.path.rename(self.path.with_name(self.path.name + suffix.format(self.generation)))

    def copy_and_truncate(self):
        self.generation += 1
        if self.path.exists():
            self.path.with_name(f"{self.path.name}.{self.generation}").write_bytes(self.path.read_bytes())
            os.truncate(self.path, 0)

    def compress(self):
        for path in rotated(self.folder):
            if path.suffix != ".gz":
                stat = path.stat()
                packed = path.with_name(f"{path.name}.gz")
                packed.write_bytes(gzip.compress(path.read_bytes()))
                os.utime(packed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
                path.unlink()

    def restart(self):
        self.feed.close()
        self.start()

    def new(self):
        """The lines in the order in which they were handed out first."""
        return list(dict.fromkeys(line.rstrip(b"\n") for line in self.read))


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path)
    yield made
    made.feed.close()


def test_nothing_is_nothing(log):
    """No file, an empty file, a file that did not change."""
    log.look()
    log.path.touch()
    log.look()
    log.write()
    log.look()
    log.look()
    assert log.read == log.written


def test_half_a_line_waits_for_its_other_half(log):
    """A reader that is quicker than the writer sees whole lines only."""
    with log.path.open("ab") as file:
        file.write(b"one\ntw")
        file.flush()
        log.look()
        assert log.read == [b"one"]
        file.write(b"o\n")
    log.look()
    assert log.read == [b"one", b"two"]


def test_a_line_that_is_too_long_is_passed_over_and_the_next_is_not(log):
    """Also where the reader ends in the middle of it."""
    with log.path.open("ab") as file:
        file.write(b"one\n" + b"x" * (2 * MOST_LINE_BYTES))
        file.flush()
        log.look()
        log.restart()
        file.write(b"x" * 100 + b"\ntwo\n")
    log.look()
    assert log.read == [b"one", b"two"]


@pytest.mark.parametrize("is_running", [True, False], ids=["while it reads", "while nobody reads"])
@pytest.mark.parametrize("rotate", [Log.rename, Log.copy_and_truncate, lambda log: (log.rename(), log.compress())], ids=["renamed", "copied", "compressed"])
def test_a_rotation_loses_nothing(log, rotate, is_running):
    """What came between the last look and the rotation is read, and then the new file."""
    log.write(3)
    log.look()
    log.write(2)
    if not is_running:
        log.feed.close()
    rotate(log)
    log.write(4)
    if not is_running:
        log.start()
    log.look()
    assert log.new() == log.written


def test_a_writer_that_never_rests_lets_the_reader_come_to_an_end(log):
    """What is told when all was read is told in a storm, too."""
    log.write()
    for number, batch in enumerate(log.feed.batches()):
        log.read += batch.lines
        log.write()
        assert number < 3
    log.look()
    assert log.new() == log.written


@pytest.mark.parametrize("is_compressed", [False, True])
def test_what_was_moved_into_the_archive_before_it_was_read_is_found(log, is_compressed):
    """As `logrotate` does with `olddir`, while nobody reads."""
    log.write(2)
    log.look()
    log.write(2)
    log.feed.close()
    log.rename()
    if is_compressed:
        log.compress()
    (log.folder / "archive").mkdir()
    for path in rotated(log.folder):
        path.rename(log.folder / "archive" / path.name)
    log.write(3)
    log.start()
    log.look()
    assert log.new() == log.written


def test_an_archive_that_is_a_link_is_not_followed(log, tmp_path):
    """Nor is one that is no folder."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "agent-alerts.jsonl.1").write_text("{}\n")
    (log.folder / "archive").symlink_to(other)
    assert rotated(log.folder) == []
    (log.folder / "archive").unlink()
    (log.folder / "archive").touch()
    assert rotated(log.folder) == []


def test_a_file_that_was_refilled_beyond_the_cursor_is_known_by_its_content(log):
    """The same inode and more bytes than before, and yet another file."""
    log.write(2, size=5)
    log.look()
    log.feed.close()
    log.copy_and_truncate()
    log.write(9, size=50)
    log.start()
    log.look()
    assert log.new() == log.written


def test_a_log_that_was_filled_and_emptied_since_it_was_found_empty_is_looked_for_in_its_copies(log):
    """An empty file has nothing to be known by."""
    log.path.touch()
    log.look()
    log.write(2)
    log.copy_and_truncate()
    log.write()
    log.look()
    assert log.new() == log.written


def test_a_link_in_the_place_of_the_log_is_not_followed(log, tmp_path):
    """Somebody else's file is not read out to a chat."""
    secret = tmp_path / "secret"
    secret.write_text("root:x\n")
    log.path.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic link"):
        log.look()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(["write", "write", "long", "look", "look", "rename", "copy", "compress", "restart"]), max_size=30))
def test_whatever_happens_to_the_log_each_line_is_handed_out(tmp_path_factory, steps):
    """Writes, rotations of each kind, compressions and restarts in any order."""
    log = Log(tmp_path_factory.mktemp("log"))
    acts = {
        "write": lambda: log.write(2), "long": lambda: log.write(3, size=700_000), "look": log.look, "rename": log.rename,
        "copy": log.copy_and_truncate, "compress": log.compress, "restart": log.restart,
    }  # fmt: skip
    for step in steps:
        acts[step]()
    log.write()
    log.look()
    log.look()
    log.feed.close()
    assert set(log.new()) == set(log.written)
