"""One file's bytes in, whole lines with their offsets out. Knows file descriptors, but no names, no directories and no formats.

Every read begins with the bytes just before the cursor: if they are not what was read before, the file is no longer the one
that the cursor speaks of, whatever its name, inode and size say (tailing.md, section 3.2).
"""

import io
import os
from enum import Enum
from errno import ENXIO
from hashlib import blake2b
from typing import NamedTuple, Protocol

from agentwatch.model import Cursor

MARKER_BYTES = 256
HEAD_BYTES = 64 << 10
"""How much of a long first line identifies a file."""

TURN_BYTES = 128 << 10
"""One file's share before the next one's turn: live files' median stays below 1 ms beside a 300 MB backlog (tailing.md, section 3.6)."""


CHUNK_BYTES = 1 << 20

MOST_NULS = 1 << 30
"""So many NULs are looked through for what follows them; holes of sparse files count nothing. More of them are waited at."""


class Found(Enum):
    """What a look at a file at its cursor found. `PARTIAL`: the beginning of a line, and nothing else."""

    LINES = "lines"
    PARTIAL = "partial"
    END = "end"
    REPLACED = "replaced"


class Fault(NamedTuple):
    """Bytes that are no readable line."""

    offset: int
    kind: str
    detail: str


class Turn(NamedTuple):
    """One read of a file: whole lines from `offset` on, `end` the offset behind the last of them.

    `more` says that the file may have further bytes right now. `skipping` and `marker` are the cursor's next state.
    """

    found: Found
    lines: list[bytes]
    offset: int
    end: int
    marker: str
    skipping: bool
    more: bool
    faults: list[Fault]


class Bytes(Protocol):
    """Anything that can be read at an offset: an open file, or an archive that is unpacked on the way."""

    def pread(self, size: int, offset: int) -> bytes:
        """Fewer than `size` bytes only at the end."""

    def data_from(self, offset: int) -> int:
        """The first place from `offset` on that is not in a hole of a sparse file; the end where there is none."""


class OpenFile:
    """A descriptor, read by `pread`."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self.fd, size, offset)

    def data_from(self, offset: int) -> int:
        try:
            return os.lseek(self.fd, offset, os.SEEK_DATA)
        except OSError as error:
            return max(offset, os.fstat(self.fd).st_size) if error.errno == ENXIO else offset


def digest(data: bytes) -> str:
    """14 hex digits; empty for no bytes. With 16, each of the three that are kept of a stream would take 16 bytes more."""
    return blake2b(data, digest_size=7).hexdigest() if data else ""


def head(file: Bytes) -> str | None:
    """The digest of a file's first complete line, which identifies it; None as long as there is none.

    NULs before it are passed over: a writer without O_APPEND leaves them after a copytruncate. Of a line longer than
    `HEAD_BYTES` the first `HEAD_BYTES` decide.
    """
    start = _text_from(file, 0)
    return None if start is None else _head_of(file.pread(HEAD_BYTES, start))


def read_turn(file: Bytes, cursor: Cursor, scanned: int, max_line_bytes: int, turn_bytes: int = TURN_BYTES) -> tuple[Turn, int]:
    """The next whole lines behind `cursor`, at most about `turn_bytes` of them, or one longer line; the cursor is not moved.

    `scanned` is how many bytes behind the cursor are known to hold no newline; the second value is what to give next time, so
    that a long line that arrives in small pieces is searched once. Memory is bounded by `max_line_bytes`; what is longer is
    skipped as it comes, and told once as a fault at its first byte. A run of NULs where a line should begin is passed over in a
    turn of its own, as soon as there is a line behind it: so a line's offset does not depend on how the file was read.
    """
    before = min(MARKER_BYTES, cursor.offset)
    data = file.pread(before + turn_bytes, cursor.offset - before)
    if digest(data[:before]) != cursor.marker:
        return Turn(Found.REPLACED, [], cursor.offset, cursor.offset, cursor.marker, cursor.skipping, False, []), 0
    body = data[before:] if before else data
    if cursor.offset == 0 and not _starts_with_head(file, body, cursor.head):
        return Turn(Found.REPLACED, [], 0, 0, "", False, False, []), 0
    if not body:
        return _nothing(cursor, Found.END), 0
    full = len(body) == turn_bytes
    if cursor.skipping:
        return _skip(cursor, data, before, body, full), 0
    if body[0] == 0:
        return _hole(file, cursor, turn_bytes), 0
    cut = body.rfind(b"\n") + 1
    if cut:
        return _lines(cursor, data, before, body, cut, full, max_line_bytes), 0
    if not full:
        return _nothing(cursor, Found.PARTIAL), _settled(body)
    return _long(file, cursor, scanned, max_line_bytes)


def _text_from(file: Bytes, position: int) -> int | None:
    """The first byte from `position` on that is not NUL; None where only NULs are left."""
    limit = MOST_NULS
    while limit > 0 and (chunk := file.pread(CHUNK_BYTES, position := file.data_from(position))):
        text = chunk.lstrip(b"\0")
        if text:
            return position + len(chunk) - len(text)
        position += len(chunk)
        limit -= len(chunk)
    return None


def _head_of(text: bytes) -> str | None:
    newline = text.find(b"\n", 0, HEAD_BYTES)
    if newline >= 0:
        return digest(text[: newline + 1])
    return digest(text[:HEAD_BYTES]) if len(text) >= HEAD_BYTES else None


def _starts_with_head(file: Bytes, body: bytes, expected: str) -> bool:
    found = _head_of(body) if body and body[0] else None
    return (found or head(file)) == expected


def _lines(cursor: Cursor, data: bytes, before: int, body: bytes, cut: int, full: bool, max_line_bytes: int) -> Turn:
    if b"\0" in body and (hole := body.find(b"\n\0", 0, cut)) >= 0:
        cut = hole + 1
    lines = io.BytesIO(body[:cut] if cut < len(body) else body).readlines()
    faults = []
    if max_line_bytes < len(body):
        offset = cursor.offset
        for index, line in enumerate(lines):
            if len(line) > max_line_bytes:
                faults.append(_too_long(offset, max_line_bytes))
                lines[index] = b"\n".rjust(len(line))  # blank, and as long: the offsets of its followers rest on it
            offset += len(line)
    return Turn(Found.LINES, lines, cursor.offset, cursor.offset + cut, _marker(data, before + cut), False, full or cut < len(body), faults)


def _marker(data: bytes, end: int) -> str:
    return digest(data[max(0, end - MARKER_BYTES) : end])


def _too_long(offset: int, max_line_bytes: int) -> Fault:
    return Fault(offset, "line_too_long", f"more than {max_line_bytes} bytes, skipped")


def _nothing(cursor: Cursor, found: Found) -> Turn:
    return Turn(found, [], cursor.offset, cursor.offset, cursor.marker, cursor.skipping, False, [])


def _moved(file: Bytes, cursor: Cursor, end: int, *, skipping: bool, fault: Fault) -> Turn:
    """The cursor passes bytes that are no line."""
    start = max(0, end - MARKER_BYTES)
    return Turn(Found.LINES, [], cursor.offset, end, digest(file.pread(end - start, start)), skipping, True, [fault])


def _skip(cursor: Cursor, data: bytes, before: int, body: bytes, full: bool) -> Turn:
    """Inside a line that was too long: pass over it up to its newline."""
    newline = body.find(b"\n") + 1
    cut = newline or len(body)
    return Turn(Found.LINES, [], cursor.offset, cursor.offset + cut, _marker(data, before + cut), not newline, cut < len(body) or full, [])


def _hole(file: Bytes, cursor: Cursor, turn_bytes: int) -> Turn:
    """NULs where a line should begin: a preallocated file that waits to be filled, or a hole before a line."""
    start = _text_from(file, cursor.offset)
    if start is None:
        return _nothing(cursor, Found.END)
    text = file.pread(turn_bytes, start)
    if b"\n" not in text and len(text) < turn_bytes:
        return _nothing(cursor, Found.PARTIAL)
    return _moved(file, cursor, start, skipping=False, fault=Fault(cursor.offset, "nul_hole", f"{start - cursor.offset} NUL bytes passed over"))


def _long(file: Bytes, cursor: Cursor, scanned: int, max_line_bytes: int) -> tuple[Turn, int]:
    """A line longer than a turn: look for its end behind what was searched already, and take it whole when it is there."""
    while scanned <= max_line_bytes:
        chunk = file.pread(TURN_BYTES, cursor.offset + scanned)
        newline = chunk.find(b"\n")
        if newline >= 0:
            length = scanned + newline + 1
            if length > max_line_bytes:
                break
            return _take(file, cursor, length), 0
        scanned += _settled(chunk)
        behind = _text_from(file, cursor.offset + scanned)
        if behind is None:
            return _nothing(cursor, Found.PARTIAL), scanned
        scanned = behind - cursor.offset
    end = cursor.offset + min(scanned, max_line_bytes)
    return _moved(file, cursor, end, skipping=True, fault=_too_long(cursor.offset, max_line_bytes)), 0


def _take(file: Bytes, cursor: Cursor, length: int) -> Turn:
    before = min(MARKER_BYTES, cursor.offset)
    data = file.pread(before + length, cursor.offset - before)
    if len(data) < before + length or digest(data[:before]) != cursor.marker:  # truncated since: the next look will tell
        return _nothing(cursor, Found.PARTIAL)
    return Turn(Found.LINES, [data[before:]], cursor.offset, cursor.offset + length, _marker(data, before + length), False, True, [])


def _settled(data: bytes) -> int:
    """How much of `data` needs no second look for a newline: all but the NULs at its end, which a preallocated file may yet fill."""
    return len(data.rstrip(b"\0"))
