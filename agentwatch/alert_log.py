"""`agent-alerts.jsonl`: each alert once, whatever happens to the process.

Alerts are made again after a crash, from the last checkpoint on, with the same ids. Those that stand in the file already are
found by reading it from the length that the checkpoint knew to its end, and are not written twice.
"""

import errno
import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, cast

import orjson

from agentwatch.core.times import stamp
from agentwatch.errors import StorageError
from agentwatch.model import Alert, AlertPosition

NAME = "agent-alerts.jsonl"
ARCHIVE = "archive"
ROTATED = (f"{NAME}?*", "agent-alerts-*.jsonl*")
MOST_PENDING = 20_000
READ_BYTES = 1 << 20
MARKER_BYTES = 256
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
"""What passes: it is waited for. So is a log directory that is gone, see `_write`."""

REFUSED = {
    errno.ELOOP: ("is a symbolic link, and alerts are not written through one", "remove it; to have alerts elsewhere choose the directory with `--log-dir`"),
    errno.EISDIR: ("is a directory", "move it away: alerts are written to a file of this name"),
    errno.ENXIO: ("is no regular file", "move it away: alerts are written to a file of this name"),
}
"""Whoever may write to a shared log directory could lead the daemon, by a link, to any file that the daemon's user may write."""


class AlertLog:
    """Owned by one process. `wait` is called, with what went wrong, between two tries to write to a full disk; it may raise to give up.
    It is called with None when a try has succeeded after that.

    Raises StorageError where the file cannot be opened: at the start, and after somebody put something else in its place.
    """

    def __init__(self, path: Path, position: AlertPosition | None, wait: Callable[[OSError | None], None]) -> None:
        self._path = path
        self._wait = wait
        self._is_waiting = False
        self._dirty = False
        try:
            self._fd = self._open()
            self._cut_torn_line()
            self._seen = dict.fromkeys(position.pending if position else ())
            self._seen.update(dict.fromkeys(self._ids_behind(position)))
        except OSError as error:
            raise StorageError(f"`{path}` cannot be written: {error.strerror}", hint="see what `agentwatch doctor` says of it") from error

    def append(self, alerts: Iterable[Alert]) -> int:
        """Write those that do not stand in the file yet, in order; how many those were. Blocks as long as the disk is full."""
        fresh = []
        for alert in alerts:
            if self._seen and alert.alert_id in self._seen:
                del self._seen[alert.alert_id]
            else:
                fresh.append(alert)
        if fresh:
            self._write(b"".join(map(as_line, fresh)))
        return len(fresh)

    def sync(self) -> None:
        """What was appended survives a power cut from here on."""
        while self._dirty:
            try:
                os.fdatasync(self._fd)
                self._dirty = False
            except OSError as error:
                self._try_later(error)
        self._goes_on()

    def position(self) -> AlertPosition:
        """To be saved with the cursors, after `sync`."""
        stat = os.fstat(self._fd)
        return AlertPosition(stat.st_size, stat.st_ino, list(self._seen), self._marker(stat.st_size))

    def forget_old(self) -> None:
        """Everything has been read again after a start: of the ids that nothing came for keep the newest, in case a clock is behind."""
        for identity in list(self._seen)[: max(0, len(self._seen) - MOST_PENDING)]:
            del self._seen[identity]

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> int:
        what, remedy = REFUSED[errno.ENXIO]
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            what, remedy = REFUSED[error.errno]
        else:
            if S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
        raise StorageError(f"`{self._path}` {what}", hint=remedy)

    def _cut_torn_line(self) -> None:
        """A write that was cut off in its middle leaves half a line: it is made again."""
        size = os.fstat(self._fd).st_size
        end = size
        while end > 0:
            start = max(0, end - READ_BYTES)
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end != size:
            os.ftruncate(self._fd, end)
            os.fsync(self._fd)

    def _marker(self, size: int) -> str:
        from hashlib import blake2b  # noqa: PLC0415  # 5 ms, for who writes

        start = max(0, size - MARKER_BYTES)
        return blake2b(os.pread(self._fd, size - start, start), digest_size=8).hexdigest()

    def _ids_behind(self, position: AlertPosition | None) -> list[str]:
        """Ids of the lines written after the checkpoint; of all lines, rotated files too, where the checkpoint does not know this file."""
        stat = os.fstat(self._fd)
        if position is not None and position.inode == stat.st_ino and position.size <= stat.st_size and position.marker == self._marker(position.size):
            return list(_ids(os.dup(self._fd), position.size))
        found: list[str] = []
        for path in rotated(self._path.parent):
            # One that is gone by now, or that this user may not read, is no reason not to start.
            with suppress(OSError):
                found.extend(_ids(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), 0, is_compressed=path.suffix == ".gz"))
        return [*found, *_ids(os.dup(self._fd), 0)]

    def _write(self, data: bytes) -> None:
        while not self._is_in_place():
            pass
        start = os.fstat(self._fd).st_size
        written = 0
        while written < len(data):
            try:
                written += os.write(self._fd, data[written:])
            except OSError as error:
                if error.errno not in FULL:
                    raise
                if written and self._is_taken_back(start):
                    written = 0
                self._try_later(error)
        self._dirty = True
        self._goes_on()

    def _try_later(self, error: OSError) -> None:
        self._is_waiting = True
        self._wait(error)

    def _goes_on(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._wait(None)

    def _is_taken_back(self, size: int) -> bool:
        """Half a batch should not stand there while we wait: a reader would see a torn line. Where it must, the rest follows it."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            if error.errno not in FULL:
                raise
            return False
        return True

    def _is_in_place(self) -> bool:
        """Whether we write to the file of that name. If not, somebody rotated or deleted it: go on in a new one, as soon as there can be one."""
        try:
            if os.path.samestat(self._path.lstat(), os.fstat(self._fd)):
                return True
        except FileNotFoundError:
            pass
        try:
            fd = self._open()
        except OSError as error:
            if error.errno not in (*FULL, errno.ENOENT):
                raise StorageError(f"`{self._path}` cannot be written: {error.strerror}", hint="see what `agentwatch doctor` says of it") from error
            self._try_later(error)
            return False
        self.sync()
        os.close(self._fd)
        self._fd = fd
        return True


def rotated(directory: Path) -> list[Path]:
    """What the alert log in `directory` was rotated to, the oldest first: `agent-alerts.jsonl.1`, `agent-alerts-20260209.jsonl`, any of them `.gz`.

    Beside it or in `archive/`. Links and whatever else is no regular file are left out.
    """
    found = []
    archive = directory / ARCHIVE
    places = [directory] if archive.is_symlink() else [directory, archive]
    for path in {path for place in places for pattern in ROTATED for path in place.glob(pattern)}:
        with suppress(OSError):
            stat = path.lstat()
            if S_ISREG(stat.st_mode):
                found.append((stat.st_mtime_ns, path))
    return [path for _, path in sorted(found)]


def as_line(alert: Alert) -> bytes:
    """The alert as contract section 3 has it: type-specific fields beside the common ones, unknown ones left out."""
    line = {
        "timestamp": stamp(alert.timestamp),
        "alert_id": alert.alert_id,
        "type": alert.type,
        "severity": alert.severity,
        "status": alert.status,
        "attempt_id": alert.attempt_id,
        **alert.detail,
        "recommendation": alert.recommendation,
        "summary": alert.summary,
        "episode_id": alert.episode_id,
        "evidence": [{"source": one.source, "offset": one.offset, "timestamp": stamp(one.timestamp), "text": one.text} for one in alert.evidence],
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _ids(fd: int, start: int, *, is_compressed: bool = False) -> Iterator[str]:
    """The alert ids in a file from the byte `start` on. Closes `fd`. What is no alert of ours is passed over, as is all behind damage."""
    with open(fd, "rb", buffering=READ_BYTES) as file:
        file.seek(start)
        lines = cast("BinaryIO", gzip.GzipFile(fileobj=file)) if is_compressed else file
        try:
            while line := lines.readline(READ_BYTES):
                with suppress(orjson.JSONDecodeError, KeyError, TypeError):
                    yield str(orjson.loads(line)["alert_id"])
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return
