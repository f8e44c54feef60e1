"""`agent-alerts.jsonl`: each alert once, whatever happens to the process.

Alerts are made again after a crash, from the last checkpoint on, with the same ids. Those that stand in the file already are
found by reading it from the length that the checkpoint knew to its end, and are not written twice.
"""

import errno
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import orjson

from agentwatch.model import Alert, AlertPosition

NAME = "agent-alerts.jsonl"
MOST_PENDING = 20_000
READ_BYTES = 1 << 20
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})


class AlertLog:
    """Owned by one process. `wait` is called, with what went wrong, between two tries to write to a full disk; it may raise to give up."""

    def __init__(self, path: Path, position: AlertPosition | None, wait: Callable[[OSError], None]) -> None:
        self._path = path
        self._wait = wait
        self._dirty = False
        self._fd = self._open()
        self._cut_torn_line()
        self._seen = dict.fromkeys(position.pending if position else ())
        self._seen.update(dict.fromkeys(self._ids_behind(position)))

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
                self._wait(error)

    def position(self) -> AlertPosition:
        """To be saved with the cursors, after `sync`."""
        stat = os.fstat(self._fd)
        return AlertPosition(stat.st_size, stat.st_ino, list(self._seen))

    def forget_old(self) -> None:
        """Everything has been read again after a start: of the ids that nothing came for keep the newest, in case a clock is behind."""
        for identity in list(self._seen)[: max(0, len(self._seen) - MOST_PENDING)]:
            del self._seen[identity]

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

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

    def _ids_behind(self, position: AlertPosition | None) -> list[str]:
        """Ids of the lines written after the checkpoint; of all lines, rotated files too, where the checkpoint does not know this file."""
        stat = os.fstat(self._fd)
        if position is not None and position.inode == stat.st_ino and position.size <= stat.st_size:
            return list(_ids(self._fd, position.size))
        found: list[str] = []
        for path in sorted(self._path.parent.glob(f"{NAME}?*")):
            if path.suffix == ".gz" or not path.is_file():
                continue
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found.extend(_ids(fd, 0))
            finally:
                os.close(fd)
        return [*found, *_ids(self._fd, 0)]

    def _write(self, data: bytes) -> None:
        self._reopen_if_moved()
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
                self._wait(error)
        self._dirty = True

    def _is_taken_back(self, size: int) -> bool:
        """Half a batch should not stand there while we wait: a reader would see a torn line. Where it must, the rest follows it."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            if error.errno not in FULL:
                raise
            return False
        return True

    def _reopen_if_moved(self) -> None:
        """Somebody rotated or deleted the file: go on in a new one under its name."""
        try:
            stat = self._path.lstat()
            if stat.st_ino == os.fstat(self._fd).st_ino:
                return
        except FileNotFoundError:
            pass
        fd = self._open()
        self.sync()
        os.close(self._fd)
        self._fd = fd


def as_line(alert: Alert) -> bytes:
    """The alert as contract section 3 has it: type-specific fields beside the common ones, unknown ones left out."""
    line = {
        "timestamp": _iso(alert.timestamp),
        "alert_id": alert.alert_id,
        "type": alert.type,
        "severity": alert.severity,
        "status": alert.status,
        "attempt_id": alert.attempt_id,
        **alert.detail,
        "recommendation": alert.recommendation,
        "summary": alert.summary,
        "episode_id": alert.episode_id,
        "evidence": [{"source": one.source, "offset": one.offset, "timestamp": _iso(one.timestamp), "text": one.text} for one in alert.evidence],
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ids(fd: int, start: int) -> list[str]:
    found = []
    with open(os.dup(fd), "rb", buffering=READ_BYTES) as file:  # noqa: PTH123  # a descriptor, not a path
        file.seek(start)
        for line in file:
            try:
                identity = orjson.loads(line)["alert_id"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                continue  # somebody else's line in our file: none of our ids
            found.append(str(identity))
    return found
