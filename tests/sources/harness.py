"""Runs a `Tailer` on real files with a clock of its own, and collects what it reads."""

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from agentwatch.model import Cursor, Fault
from agentwatch.sources.tailer import Tailer
from agentwatch.sources.tree import Root


class Tail:
    """A tailer whose lines, faults and restarts a test can look at. `seen` has each line once for each time that it was read."""

    def __init__(self, *roots: Path, is_log_dir: bool = True, max_line_bytes: int = 1 << 20, most_open: int = 64, history_s: float = 86_400.0) -> None:
        self.roots = tuple(Root(root, is_log_dir=is_log_dir) for root in roots)
        self.options = {"max_line_bytes": max_line_bytes, "most_open": most_open, "history_s": history_s}
        self.now = 1000.0
        self.wall = time.time()
        self.seen: list[tuple[str, bytes]] = []
        self.offsets: list[tuple[str, int]] = []
        self.faults: list[Fault] = []
        self.tailer = self._start([])

    def _start(self, cursors: list[Cursor]) -> Tailer:
        return Tailer(self.roots, cursors, clock=lambda: self.now, wall=lambda: self.wall, tell=self.faults.append, **self.options)

    def restart(self) -> "Tail":
        """As after a kill: nothing survives but the saved cursors."""
        saved = msgspec.json.decode(msgspec.json.encode(self.tailer.cursors()), type=list[Cursor])
        self.tailer.close()
        self.tailer = self._start(saved)
        return self

    def pump(self) -> "Tail":
        """Look at everything, and read all there is."""
        for _ in range(3):
            self.sweep()
            self.read()
        return self

    def sweep(self) -> None:
        for _ in self.tailer.sweep():
            pass

    def read(self, turns: int = 1_000_000) -> int:
        """Up to so many turns; how many there were."""
        done = 0
        idle = 0
        while self.tailer.is_behind and done < turns:
            work = self.tailer.turn()
            self.tailer.settle()
            if work is None:
                idle += 1
                assert idle < 1000, "files wait, but no turn reads any"
                continue
            idle = 0
            self._take(work)
            self.tailer.advance(work)
            done += 1
        return done

    def hint(self, path: Path) -> None:
        """The file system told of this path."""
        root = self.roots[0]
        self.tailer.hint(root, str(path.relative_to(root.path)))
        self.tailer.settle()

    def wait(self, seconds: float) -> "Tail":
        """Time passes."""
        self.now += seconds
        self.wall += seconds
        self.tailer.settle()
        return self.pump()

    def _take(self, work) -> None:
        cursor = work.stream.cursor
        offset = work.turn.offset
        for line in work.turn.lines:
            if line.strip():
                self.seen.append((cursor.source, line.rstrip(b"\r\n")))
                self.offsets.append((cursor.source, offset))
            offset += len(line)
        assert offset == work.turn.end or not work.turn.lines
        for place, kind, detail in work.turn.faults:
            self.faults.append(Fault(cursor.source, place, kind, detail))

    @property
    def lines(self) -> list[bytes]:
        """Every line read so far, in the order of reading."""
        return [line for _, line in self.seen]

    @property
    def kinds(self) -> list[str]:
        return [fault.kind for fault in self.faults]

    def has_exactly(self, *lines: bytes) -> bool:
        """Each once, whatever their order; says which are missing or too many where not."""
        wanted, got = Counter(lines), Counter(self.lines)
        assert got == wanted, f"missing {list((wanted - got).elements())[:5]}, too many {list((got - wanted).elements())[:5]}"
        return True


def numbered(start: int, count: int, name: str = "a") -> list[bytes]:
    """Lines that are all different, as long as a short event."""
    return [b'{"who":"%s","n":%06d,"pad":"%s"}' % (name.encode(), n, b"." * (n * 7 % 90)) for n in range(start, start + count)]


def text(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def eventually(condition: Callable[[], object], within_s: float = 20.0, what: str = "") -> object:
    """Wait for a condition, looking every 10 ms; what it gave. Fails with its last value when the time is over."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what or condition} ({found!r})"
        time.sleep(0.01)
    return found


def remove(directory: Path) -> None:
    """Remove a directory in which another process still makes and removes files of its own."""

    def is_gone() -> bool:
        shutil.rmtree(directory, ignore_errors=True)
        return not directory.exists()

    eventually(is_gone)
