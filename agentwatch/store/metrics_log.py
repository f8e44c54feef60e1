"""`agent-metrics.jsonl`, written beside others: one line a finished session, each once, whatever happens to the process.

The logger writes lines of its own here (contract, section 1). A row that a crash made us make again has the same bytes as the one
that stands behind the length which the checkpoint knew, and is not written twice. Until all those have been made again, checkpoints go on to
know that length: the next crash may come before.
"""

import errno
import os
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path

import msgspec

from agentwatch.core.metrics import SAME_END, Metrics, Row
from agentwatch.model import FilePosition, Time

NAME = "agent-metrics.jsonl"
MARKER_BYTES = 256
_encode = msgspec.json.Encoder().encode


class _Told(msgspec.Struct, gc=False):
    """What is asked of a line of another writer."""

    attempt_id: str
    timestamp: Time
    metrics: Metrics


_decode = msgspec.json.Decoder(_Told).decode


class MetricsLog:
    """Owned by one process. `append` writes one or more whole lines at once, as the logger does: it raises OSError.

    Nothing is held open: rotation, deletion and a new directory are met at the next line.
    """

    def __init__(self, path: Path, position: FilePosition | None, append: Callable[[Path, bytes], None]) -> None:
        self._path = path
        self._append = append
        self._told: dict[str, _Told] = {}
        self._inode, self._read_to = 0, 0
        self._dirty = False
        self._has_caught_up = False
        self._known = FilePosition()
        if position is not None and self._is_at(position):
            self._known = position
            self._inode, self._read_to = position.inode, position.size
        self._again = {_digest(line) for line in self._look()}

    def write(self, rows: Iterable[Row]) -> int:
        """Append those that do not stand in the file yet; how many those were. Raises OSError, and then none counts as written.

        What the logger has told already is not told again, unless we know more: errors that are no `error` events, what loops and silences cost.
        """
        self._look()
        lines = []
        for row in rows:
            line = _encode(row) + b"\n"
            if self._again and (digest := _digest(line)) in self._again:
                self._again.discard(digest)
            elif not self._is_told(row):
                lines.append(line)
        if lines:
            if self._path.is_symlink():  # whoever may write to the directory could lead us to any file
                raise OSError(errno.ELOOP, "it is a symbolic link", os.fspath(self._path))
            self._append(self._path, b"".join(lines))
            self._dirty = True
        return len(lines)

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

    def _look(self) -> list[bytes]:
        """The whole lines that came since the last look, ours among them; what others told is remembered."""
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._read_to:
                    self._inode, self._read_to = stat.st_ino, 0
                file.seek(self._read_to)
                data = file.read()
        except OSError:
            return []
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        for line in lines:
            self._read_to += len(line)
            if b'"format":' in line:
                continue
            try:
                told = _decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
            self._told[told.attempt_id] = told
        return lines

    def _is_told(self, row: Row) -> bool:
        told = self._told.get(row.attempt_id)
        if told is None or abs(told.timestamp - row.timestamp) > SAME_END:
            return False
        return row.loops is None and not row.stuck_ms and row.metrics.errors == told.metrics.errors


def _digest(line: bytes) -> bytes:
    return blake2b(line, digest_size=8).digest()


def _marker(fd: int, size: int) -> str:
    start = max(0, size - MARKER_BYTES)
    return blake2b(os.pread(fd, size - start, start), digest_size=8).hexdigest()
