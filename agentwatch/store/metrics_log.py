"""`agent-metrics.jsonl`, written beside others: one line a finished session, each once, whatever happens to the process.

The logger writes lines of its own here (contract, section 1). A row that a crash made us make again has the same bytes as the one
that stands behind the length which the checkpoint knew, and is not written twice. Until all those have been made again, checkpoints go on to
know that length: the next crash may come before. Nor is one written twice that another of ours wrote meanwhile, a rebuild beside the daemon.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from hashlib import blake2b
from pathlib import Path

import msgspec

from agentwatch.core.metrics import SAME_END, Count, Row, line_of
from agentwatch.model import FilePosition, Time

NAME = "agent-metrics.jsonl"
MARKER_BYTES = 256
BATCH_BYTES = 1 << 20
"""Of many lines so much is appended at once."""

_row = msgspec.json.Decoder(Row).decode


class _Metrics(msgspec.Struct, gc=False):
    errors: Count = 0


class _Told(msgspec.Struct, gc=False):
    """What is asked of a line of another writer."""

    attempt_id: str
    timestamp: Time
    metrics: _Metrics


_decode = msgspec.json.Decoder(_Told).decode


class MetricsLog:
    """Owned by one process. `append` writes one or more whole lines at once, as the logger does: it raises OSError.

    `older` gives the lines that stand elsewhere, in rotated files. It is asked where `position` does not say how far this file was written: those are not written again, either.
    Nothing is held open: rotation, deletion and a new directory are met at the next line.
    """

    def __init__(self, path: Path, position: FilePosition | None, append: Callable[[Path, bytes], None], older: Callable[[], Iterable[bytes]] = tuple) -> None:
        self._path = path
        self._append = append
        self._told: dict[str, tuple[datetime, int]] = {}
        self._inode, self._read_to = 0, 0
        self._torn = b""
        self._dirty = False
        self._has_caught_up = False
        self._known = FilePosition()
        if position is not None and self._is_at(position):
            self._known = position
            self._inode, self._read_to = position.inode, position.size
            older = tuple
        self._said: set[int] = set()
        self._again = set(map(_digest, self._look()))
        # After this file: one that is rotated meanwhile was read, or stands among the older ones.
        self._again.update(_digest(self._noted(line)) for line in older())

    def write(self, rows: Iterable[Row]) -> int:
        """Append those that do not stand in the file yet; how many those were. Raises OSError, and then none counts as written.

        What the logger has told already is not told again, unless we know more: errors that are no `error` events, what loops and silences cost.
        """
        self._look_again()
        return self._append_all([line for row in rows if self._is_new(line := line_of(row)) and not self._is_told(row)])

    def write_lines(self, lines: Iterable[bytes]) -> int:
        """As `write`, of rows that are lines already, however many: where it raises OSError, part of them is written."""
        written = 0
        batch: list[bytes] = []
        batched = 0
        for line in lines:
            batch.append(line)
            batched += len(line)
            if batched >= BATCH_BYTES:
                written += self._write_batch(batch)
                batch, batched = [], 0
        return written + self._write_batch(batch)

    def _write_batch(self, lines: list[bytes]) -> int:
        self._look_again()
        return self._append_all([line for line in lines if self._is_new(line) and not (self._told and self._is_told(_row(line)))])

    def _append_all(self, lines: list[bytes]) -> int:
        if lines:
            if self._path.is_symlink():  # whoever may write to the directory could lead us to any file
                raise OSError(errno.ELOOP, "it is a symbolic link", os.fspath(self._path))
            if self._torn and any(line.startswith(self._torn) for line in lines):
                self._take_back(self._torn, self._read_to)
            data, start = b"".join(lines), self._size()
            try:
                self._append(self._path, data)
            except OSError as error:
                self._take_back(data, start)
                raise OSError(error.errno, error.strerror, os.fspath(self._path)) from error
            self._dirty = True
            self._pass_over(len(data))
        self._again -= self._said
        self._said.clear()
        return len(lines)

    def _pass_over(self, written: int) -> None:
        """What we have just written need not be looked at, where nobody else wrote beside."""
        with suppress(OSError):
            stat = self._path.stat()
            if stat.st_size == self._read_to + written and self._inode in (0, stat.st_ino):
                self._inode, self._read_to = stat.st_ino, stat.st_size

    def sync(self) -> None:
        """What was appended survives a power cut from here on. Raises OSError."""
        if self._dirty:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
            self._dirty = False

    def position(self) -> FilePosition:
        """To be saved with the cursors, after `sync`. Everything is unknown where there is no file."""
        if self._again and not self._has_caught_up:
            return self._known
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                return FilePosition(stat.st_size, stat.st_ino, _marker(file.fileno(), stat.st_size))
        except OSError:
            return FilePosition()

    def caught_up(self) -> None:
        """Everything has been read again after a start, and written: what was not made again yet need not be known to the next life."""
        self._has_caught_up = True

    def _is_at(self, position: FilePosition) -> bool:
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                return (stat.st_ino, True) == (position.inode, position.size <= stat.st_size) and position.marker == _marker(file.fileno(), position.size)
        except OSError:
            return False

    def _look(self) -> Iterator[bytes]:
        """The whole lines that came since the last look, ours among them; what others told is remembered, and what was written of a last line."""
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._read_to:
                    self._inode, self._read_to = stat.st_ino, 0
                file.seek(self._read_to)
                self._torn = b""
                for line in file:
                    if not line.endswith(b"\n"):
                        self._torn = line if len(line) <= BATCH_BYTES else b""
                        return
                    self._read_to += len(line)
                    yield self._noted(line)
        except OSError:
            self._inode, self._read_to, self._torn = 0, 0, b""

    def _look_again(self) -> None:
        self._said.clear()
        self._again.update(map(_digest, self._look()))

    def _noted(self, line: bytes) -> bytes:
        if b'"format":' not in line:
            with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                told = _decode(line)
                known = self._told.get(told.attempt_id)
                if known is None or known[0] <= told.timestamp:
                    self._told[told.attempt_id] = told.timestamp, told.metrics.errors
        return line

    def _is_new(self, line: bytes) -> bool:
        """Whether it does not stand in the file yet; where it does, that has been said as soon as what is new beside it is written."""
        if not self._again or (digest := _digest(line)) not in self._again:
            return True
        self._said.add(digest)
        return False

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def _take_back(self, data: bytes, start: int) -> None:
        """Cut off what was written of `data` before the disk was full or a process was killed, if nobody has written since: who writes holds the lock, shared.

        Else the next writer closes the torn line.
        """
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return
        with os.fdopen(fd, "rb", buffering=0) as file, suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.seek(start)
            written = file.read(len(data) + 1)
            if written and data.startswith(written.removeprefix(b"\n")):  # nothing is there where the file is another by now
                os.ftruncate(fd, start)

    def _is_told(self, row: Row) -> bool:
        told = self._told.get(row.attempt_id)
        if told is None:
            return False
        at, errors = told
        return abs(at - row.timestamp) <= SAME_END and row.loops is None and not row.stuck_ms and row.metrics.errors == errors


def _digest(line: bytes) -> int:
    return int.from_bytes(blake2b(line, digest_size=8).digest(), "little")


def _marker(fd: int, size: int) -> str:
    start = max(0, size - MARKER_BYTES)
    return blake2b(os.pread(fd, size - start, start), digest_size=8).hexdigest()
