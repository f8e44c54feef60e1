"""A log as blocks of whole lines, for those who search all of it. Plain or compressed; knows no pattern and no format.

Holds nothing open between two blocks of a plain file: a search may have thousands of files under way.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from agentwatch.sources.archive import Archive

LONGEST_LINE = 8 << 20
"""Bytes. A longer line is given out in pieces."""

COUNT_BYTES = 1 << 20


class Block(NamedTuple):
    """Lines from `offset` on. The last one of a file may have no end, nor the pieces of a line that is too long."""

    offset: int
    data: bytes


class Log:
    """One file, read once from its beginning. `damage` says why it ended too soon, if it did. Raises OSError where it cannot be opened."""

    def __init__(self, path: Path, *, is_archive: bool) -> None:
        self._path = path
        self._archive = Archive(path) if is_archive else None
        self._inode, self._end = -1, 0
        self._counted_to = self._counted = 0
        self.damage: str | None = None

    def blocks(self, size: int) -> Iterator[Block]:
        """Whole lines, about `size` bytes at a time. Raises OSError."""
        offset, start = 0, 0
        kept = b""
        while piece := self._read(max(size, len(kept)), offset):  # a long line is not copied for each block of it
            start = piece.offset - len(kept)
            if piece.offset != offset:  # a hole: nothing stands in it
                start, kept = piece.offset, b""
            offset = piece.offset + len(piece.data)
            data = kept + piece.data
            end = data.rfind(b"\n") + 1
            if not end and len(data) >= LONGEST_LINE:
                end = len(data)
            if end:
                yield Block(start, data[:end])
            kept = data[end:]
        if kept:
            yield Block(offset - len(kept), kept)
        if self._archive is not None:
            self.damage = self._archive.damage

    def line_at(self, offset: int, block: Block) -> int:
        """The number, from 1, of the line that begins at `offset` in `block`, which was given out last. To be asked in rising order."""
        if self._counted_to < block.offset:
            self._count_up_to(block.offset)
        self._counted += block.data.count(b"\n", self._counted_to - block.offset, offset - block.offset)
        self._counted_to = offset
        return self._counted + 1

    def passed(self, block: Block) -> None:
        """The block is done with. An archive is not unpacked a second time for the numbers of its lines."""
        if self._archive is not None:
            self.line_at(block.offset + len(block.data), block)

    def close(self) -> None:
        """Let go of an archive."""
        if self._archive is not None:
            self._archive.close()

    def _read(self, size: int, offset: int) -> Block | None:
        if self._archive is not None:
            data = self._archive.pread(size, offset)
            return Block(offset, data) if data else None
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            stat = os.fstat(fd)
            if not S_ISREG(stat.st_mode) or self._inode not in (-1, stat.st_ino):
                self.damage = "another file has taken its place"
                return None
            if self._inode == -1:  # what is appended from now on is not waited for
                self._inode, self._end = stat.st_ino, stat.st_size
            with suppress(OSError):  # behind the last data, or a file system that knows no holes
                offset = max(offset, os.lseek(fd, offset, os.SEEK_DATA))
            data = os.pread(fd, min(size, max(0, self._end - offset)), offset)
            return Block(offset, data) if data else None
        finally:
            os.close(fd)

    def _count_up_to(self, end: int) -> None:
        """Counted only where a line was found: most files of a search have none. They are in the page cache by then."""
        while self._counted_to < end and (piece := self._read(min(COUNT_BYTES, end - self._counted_to), self._counted_to)) is not None:
            self._counted += piece.data.count(b"\n")
            self._counted_to = min(end, piece.offset + len(piece.data))
        self._counted_to = end
