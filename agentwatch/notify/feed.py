"""New lines of the alert log, from a cursor that survives. Knows nothing of what stands on them.

The log is appended to, rotated, copied and truncated by others. Where it is no longer the file that the cursor speaks of, all that is
there, rotated siblings first, is handed out again: whoever keeps the ids knows what was seen before.
"""

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, cast

import msgspec

READ_BYTES = 1 << 20
MOST_LINE_BYTES = 8 << 20
MARKER_BYTES = 4096
"""More than a line of ours has: with its id in it no other line looks the same."""


class FeedCursor(msgspec.Struct, frozen=True):
    """How far the log was read: its inode, the offset behind what was read, a digest of the bytes before that.

    `is_skipping`: a line that is too long to be an alert goes on there.
    """

    inode: int = 0
    offset: int = 0
    marker: str = ""
    is_skipping: bool = False


class Batch(msgspec.Struct, frozen=True):
    """Whole lines, and the cursor behind them, to be remembered together. None there: it stays where it is."""

    lines: list[bytes]
    cursor: FeedCursor | None


class Feed:
    """Reads one log. `siblings` names its rotated files, the oldest first; those in `.gz` are unpacked."""

    def __init__(self, path: Path, siblings: Callable[[], list[Path]], cursor: FeedCursor | None) -> None:
        self._path = path
        self._siblings = siblings
        self._cursor = cursor
        self._fd = -1
        self._seen: tuple[int, int, int] | None = None

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def batches(self) -> Iterator[Batch]:
        """What is new, in pieces of about a megabyte. Costs one `stat` where nothing is. Raises OSError where the log cannot be read."""
        look = self._look()
        if look is None or look == self._seen:
            return
        if self._fd >= 0 and os.fstat(self._fd).st_ino != look[0]:
            # Rotated: what came into the old file since the last read stands there alone until the siblings are looked at.
            yield from self._rest()
            self.close()
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        siblings = None
        if not self._continues():
            siblings = self._siblings()
            for path in siblings:
                with suppress(FileNotFoundError):
                    yield from _whole(path)
            self._cursor = FeedCursor(os.fstat(self._fd).st_ino, 0, self._marker(0))
        yield from self._rest()
        if siblings is not None and siblings != self._siblings():
            # Copied and truncated while the older ones were read: what was in it is in none of them.
            self._cursor = None
            return
        self._seen = look

    def _look(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.lstat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    def _continues(self) -> bool:
        """Whether the open file is the one that the cursor speaks of, and still has what was read of it.

        Where nothing was read there is nothing to know it by: it may have been filled, copied and emptied since.
        """
        if self._cursor is None or self._cursor.offset == 0:
            return False
        stat = os.fstat(self._fd)
        cursor = self._cursor
        return stat.st_ino == cursor.inode and stat.st_size >= cursor.offset and self._marker(cursor.offset) == cursor.marker

    def _marker(self, offset: int) -> str:
        start = max(0, offset - MARKER_BYTES)
        return blake2b(os.pread(self._fd, offset - start, start), digest_size=8).hexdigest()

    def _rest(self) -> Iterator[Batch]:
        """From the cursor to the last newline that is there now: one who writes all the time must not be read all the time."""
        size, until = READ_BYTES, os.fstat(self._fd).st_size
        while self._cursor is not None:
            cursor = self._cursor
            data = os.pread(self._fd, max(0, min(size, until - cursor.offset)), cursor.offset)
            end = data.rfind(b"\n") + 1
            is_skipping = False
            if end == 0:
                if len(data) < size:
                    return
                if size < MOST_LINE_BYTES:
                    size *= 2
                    continue
                end, is_skipping = len(data), True
            lines = [] if is_skipping else data[:end].split(b"\n")[:-1]
            self._cursor = FeedCursor(cursor.inode, cursor.offset + end, self._marker(cursor.offset + end), is_skipping)
            yield Batch(lines[1:] if cursor.is_skipping else lines, self._cursor)
            size = READ_BYTES


def _whole(path: Path) -> Iterator[Batch]:
    """All lines of a rotated file, up to damage where there is some."""
    with open(path, "rb", opener=_opened) as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            return
        lines = cast("BinaryIO", gzip.GzipFile(fileobj=file)) if path.suffix == ".gz" else file
        with suppress(EOFError, gzip.BadGzipFile, zlib.error):
            batch: list[bytes] = []
            size = 0
            while found := lines.readline(MOST_LINE_BYTES):
                batch.append(found)
                size += len(found)
                if size >= READ_BYTES:
                    yield Batch(batch, None)
                    batch, size = [], 0
        yield Batch(batch, None)


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
