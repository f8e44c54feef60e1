"""Wake-ups by the real kernel, and what they leave to the sweep. Numbers are the cases of `docs/design.md`, Faults."""

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentwatch.sources.tree import Root
from agentwatch.sources.watch import Watch
from tests.sources.harness import Tail, append, eventually, numbered, text

# What the module itself arranges, pytest undoes: it makes errors of all warnings.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:watchdog.observers.inotify")


class Watched(Tail):
    """A tailer that hears of changes by inotify, and sweeps only when it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.watch = Watch(self.roots)
        self.watch.refresh()
        self.pump()
        self.lost = 0

    def hear(self) -> list[bytes]:
        """Take the notes that were left, and read what they tell of."""
        dirty, lost = self.watch.take()
        self.lost += lost
        for (root, path), is_directory in dirty.items():
            if is_directory:
                self.tailer.hint_directory(root, path)
            else:
                self.tailer.hint(root, path)
        self.tailer.settle()
        self.read()
        return self.lines

    def hears(self, *lines: bytes) -> bool:
        """By events alone, within a few seconds."""
        eventually(lambda: len(self.hear()) >= len(lines), what=f"{len(lines)} lines by events")
        return self.has_exactly(*lines)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.mkdir()
    return path


@pytest.fixture
def tail(root: Path) -> Iterator[Watched]:
    tail = Watched(root)
    yield tail
    tail.watch.close()
    tail.tailer.close()


def test_an_append_wakes(root: Path, tail: Watched) -> None:
    """New file, new lines, rotation: each by its event."""
    path = root / "a.jsonl"
    path.write_bytes(text(numbered(0, 3)))
    assert tail.watch.wake.wait(5)
    assert tail.hears(*numbered(0, 3))
    append(path, text(numbered(3, 3)))
    assert tail.hears(*numbered(0, 6))
    path.rename(root / "a.jsonl.1")
    path.write_bytes(text(numbered(6, 3)))
    assert tail.hears(*numbered(0, 9))
    assert tail.tailer.found_by_sweep == 0


def test_our_own_reading_wakes_nobody(root: Path, tail: Watched) -> None:
    """Opening and closing files makes events, too; they are not asked for."""
    (root / "a.jsonl").write_bytes(text(numbered(0, 3)))
    assert tail.hears(*numbered(0, 3))
    (root / "mark").touch()
    eventually(lambda: any(path == "mark" for _, path in tail.watch.take()[0]))
    (root / "a.jsonl").read_bytes()
    (root / "another mark").touch()
    eventually(lambda: any(path == "another mark" for _, path in tail.watch._dirty))
    assert {path for _, path in tail.watch.take()[0]} == {"another mark"}


def test_directories_made_and_filled_at_once_are_read(root: Path, tail: Watched) -> None:
    """41: with files on every level. What appears before its directory is watched is found with the directory."""
    written = []
    for n in range(100):
        deep = root / "runs" / str(n) / "a" / "b"
        deep.mkdir(parents=True)
        for level in (deep, deep.parent, deep.parent.parent):
            lines = numbered(0, 1, f"{n}{level.name}")
            (level / "x.jsonl").write_bytes(text(lines))
            written += lines
    deadline = time.monotonic() + 3
    while len(tail.hear()) < len(written) and time.monotonic() < deadline:
        tail.watch.wake.wait(0.05)
    by_events = len(tail.lines)
    tail.pump()
    assert tail.has_exactly(*written)
    assert by_events > len(written) * 0.9


def test_a_filled_directory_moved_into_the_tree_is_read(root: Path, tail: Watched, tmp_path: Path) -> None:
    """42: watchfiles has no event for any of its files."""
    filled = tmp_path / "filled" / "deep"
    filled.mkdir(parents=True)
    (filled / "a.jsonl").write_bytes(text(numbered(0, 3)))
    (tmp_path / "filled").rename(root / "filled")
    assert tail.hears(*numbered(0, 3))
    append(root / "filled" / "deep" / "a.jsonl", text(numbered(3, 3)))
    assert tail.hears(*numbered(0, 6))


def test_directories_renamed_just_after_they_were_made_are_read_at_the_latest_by_the_sweep(root: Path, tail: Watched) -> None:
    """43: watchdog stays blind for some of them, for ever."""
    written = []
    for n in range(200):
        temporary = root / f".tmp{n}"
        temporary.mkdir()
        (temporary / "a.jsonl").write_bytes(b"first%d\n" % n)
        temporary.rename(root / f"d{n}")
        written.append(b"first%d" % n)
    for n in range(200):
        append(root / f"d{n}" / "a.jsonl", b"later%d\n" % n)
        written.append(b"later%d" % n)
    tail.hear()
    tail.pump()
    assert tail.has_exactly(*written)


def test_a_root_that_is_missing_at_first_is_watched_when_it_appears(tmp_path: Path) -> None:
    """47: watchdog raises for it."""
    root = tmp_path / "later"
    tail = Watched(root)
    assert not tail.watch.is_working
    assert tail.watch.problem is None
    root.mkdir()
    assert tail.watch.refresh()
    (root / "a.jsonl").write_bytes(text(numbered(0, 3)))
    assert tail.hears(*numbered(0, 3))
    assert tail.watch.is_working
    tail.watch.close()


@pytest.mark.parametrize("how", ["removed", "renamed", "removed twice"])
def test_a_root_that_was_replaced_is_watched_anew(root: Path, tail: Watched, tmp_path: Path, how: str) -> None:
    """48: watchdog's thread is alive and hears nothing any more, or tells paths that are no longer."""
    for _ in range(2 if how == "removed twice" else 1):
        if how == "renamed":
            root.rename(tmp_path / "old")
        else:
            shutil.rmtree(root)
        root.mkdir()

    def write_and_hear() -> list[bytes]:
        tail.watch.refresh()
        append(root / "a.jsonl", b"line\n")
        return tail.hear()

    assert eventually(write_and_hear)


def test_a_root_that_went_away_and_came_back_is_watched(root: Path, tail: Watched) -> None:
    """48: with a look between."""
    shutil.rmtree(root)
    eventually(tail.watch.refresh)
    root.mkdir()
    eventually(tail.watch.refresh)
    (root / "a.jsonl").write_bytes(text(numbered(0, 3)))
    assert tail.hears(*numbered(0, 3))


def test_a_file_moved_out_of_the_tree_delays_others_by_no_more_than_watchdogs_half_second(root: Path, tail: Watched, tmp_path: Path) -> None:
    """49: it waits for the other half of the move; the events behind it come all the same."""
    for name in ("a.jsonl", "b.jsonl"):
        (root / name).write_bytes(text(numbered(0, 1, name)))
    assert tail.hears(*numbered(0, 1, "a.jsonl"), *numbered(0, 1, "b.jsonl"))
    (root / "a.jsonl").rename(tmp_path / "out.jsonl")
    append(root / "b.jsonl", text(numbered(1, 1, "b.jsonl")))
    assert tail.hears(*numbered(0, 1, "a.jsonl"), *numbered(0, 2, "b.jsonl"))


def test_an_append_between_the_first_look_and_the_watch_is_found(root: Path) -> None:
    """52: the watch comes first, then the look at everything."""
    (root / "a.jsonl").write_bytes(text(numbered(0, 3)))
    tail = Watched(root)
    append(root / "a.jsonl", text(numbered(3, 3)))
    assert tail.hears(*numbered(0, 6))
    tail.watch.close()


def test_notes_are_bounded_by_the_number_of_files(root: Path, tail: Watched) -> None:
    """40: however many events come while nobody takes them."""
    paths = [root / f"{n}.jsonl" for n in range(20)]
    for n in range(100):
        for path in paths:
            append(path, text(numbered(n, 1, path.name)))
    (root / "mark").touch()
    eventually(lambda: any(path == "mark" for _, path in tail.watch._dirty))
    assert len(tail.watch._dirty) <= 21
    assert tail.hears(*[line for path in paths for line in numbered(0, 100, path.name)])


def test_no_note_is_lost_or_mixed_up_between_two_threads(root: Path) -> None:
    """40: one thread leaves notes while the other takes them."""
    watch = Watch((Root(root, is_log_dir=True),))
    count = 20_000
    taken: set[str] = set()

    def leave() -> None:
        for n in range(count):
            watch.note(watch._roots[0], f"{root}/{n}.jsonl", is_directory=False)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=leave)
    thread.start()
    while thread.is_alive():
        taken.update(path for _, path in watch.take()[0])
    thread.join()
    sys.setswitchinterval(before)
    taken.update(path for _, path in watch.take()[0])
    assert len(taken) == count
    watch.close()


def test_watchdog_still_tells_of_an_overflow_in_the_words_that_we_listen_for(root: Path, tail: Watched) -> None:
    """38: it tells nobody else. The watch group itself is asked, so that a new wording fails here."""
    emitter = next(iter(tail.watch._observer.emitters))
    eventually(lambda: emitter._inotify is not None)
    emitter._inotify.on_queue_overflow()
    eventually(lambda: tail.watch._lost)
    tail.hear()
    assert tail.lost == 1
    assert tail.watch.take() == ({}, False)
    (root / "a.jsonl").write_bytes(text(numbered(0, 3)))
    assert tail.hears(*numbered(0, 3))


def test_watchdogs_messages_reach_nobody_else(tail: Watched, capfd: pytest.CaptureFixture[str]) -> None:
    """54: its warnings carry its whole table of watches."""
    logging.getLogger("watchdog.observers.inotify").warning("Missing watch")
    assert capfd.readouterr().err == ""


BLIND = """
import sys
from pathlib import Path
from agentwatch.sources.tree import Root
from agentwatch.sources.watch import Watch
root = Path(sys.argv[1])
Path("/proc/sys/user/max_inotify_watches").write_text(sys.argv[2])
Path("/proc/sys/user/max_inotify_instances").write_text(sys.argv[3])
watch = Watch((Root(root, is_log_dir=True),))
watch.refresh()
for _ in range(2):
    watch.check_limit(61)
print(watch.is_working, watch.problem)
watch.close()
"""


def namespaces() -> str | None:
    """Why there are none; None where there are."""
    if shutil.which("unshare") is None:
        return "there is no `unshare` here"
    found = subprocess.run(["unshare", "-Ur", "sh", "-c", "echo 100 > /proc/sys/user/max_inotify_watches"], capture_output=True, text=True, check=False)
    return None if found.returncode == 0 else f"no user namespace: {found.stderr.strip()}"


needs_namespaces = [pytest.mark.root, pytest.mark.skipif(namespaces() is not None, reason=str(namespaces()))]


@pytest.mark.parametrize(
    ("watches", "instances", "said"),
    [
        pytest.param(100, 10, "True None", id="enough", marks=needs_namespaces),
        pytest.param(40, 10, "False 21 directories cannot be watched: raise fs.inotify.max_user_watches", id="44: watches", marks=needs_namespaces),
        pytest.param(100, 0, "False inotify instance limit reached", id="45: instances", marks=needs_namespaces),
        pytest.param(0, 10, "False inotify watch limit reached", id="44: none at all", marks=needs_namespaces),
    ],
)
def test_a_limit_of_the_kernel_is_told_with_its_name(root: Path, watches: int, instances: int, said: str) -> None:
    """44 and 45: watchdog is silent about 21 of 60 directories."""
    for n in range(60):
        (root / f"d{n}").mkdir()
    command = ["unshare", "-Ur", sys.executable, "-W", "error", "-c", BLIND, str(root), str(watches), str(instances)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    assert found.stdout.startswith(said), found
    assert found.stderr == ""


SIGNALLED = """
import signal, time
from agentwatch.sources.watch import Watch
wake = Watch(()).wake
signal.signal(signal.SIGALRM, lambda *_: wake.set())
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
end = time.monotonic() + 1.0
while time.monotonic() < end:
    wake.wait(0.001)
    wake.is_set()
    wake.clear()
signal.setitimer(signal.ITIMER_REAL, 0)
"""
"""Thousands of signals: they come at every point of what the daemon does with its wake-up."""


def test_a_signal_may_come_while_its_thread_waits() -> None:
    """A handler that wakes the thread it interrupts does not hang it: SIGTERM ends a daemon at whatever moment it comes."""
    subprocess.run([sys.executable, "-c", SIGNALLED], check=True, timeout=20)
