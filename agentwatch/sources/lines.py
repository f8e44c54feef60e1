"""One file's bytes in, whole lines with their offsets out. Knows file descriptors, but no names, no directories and no formats.

Every read begins with the bytes just before the cursor: if they are not what was read before, the file is no longer the one
that the cursor speaks of, whatever its name, inode and size say (tailing.md, section 3.2).
"""

import io
import os
from enum import Enum
from hashlib import blake2b
from typing import NamedTuple, Protocol

from agentwatch.model import Cursor

MARKER_BYTES = 256
HEAD_BYTES = 64 << 10
"""How much of a long first line identifies a file."""

TURN_BYTES = 256 << 10
"""One file's share before the next one's turn: live files' median stays below 1 ms beside a 300 MB backlog (tailing.md, section 3.6)."""


class Found(Enum):
    """What a look at a file at its cursor found."""

    LINES = "lines"
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

    def pread(self, size: int, offset: int) -> bytes: ...


class OpenFile:
    """A descriptor, read by `pread`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self.fd, size, offset)


def digest(data: bytes) -> str:
    """16 hex digits; empty for no bytes."""
    return blake2b(data, digest_size=8).hexdigest() if data else ""


class Head(NamedTuple):
    """The digest of a file's first complete line, and the offset at which that line starts (behind NULs)."""

    digest: str
    start: int


def head(file: Bytes) -> Head | None:
    """What identifies a file; None as long as its first line is not complete.

    NULs before it are passed over: a writer without O_APPEND leaves them after a copytruncate. Of a line longer than
    `HEAD_BYTES` the first `HEAD_BYTES` decide.
    """
    start = 0
    while True:
        data = file.pread(HEAD_BYTES, start)
        if not data:
            return None
        text = data.lstrip(b"\0")
        if text:
            start += len(data) - len(text)
            break
        start += len(data)
    text = file.pread(HEAD_BYTES, start)
    newline = text.find(b"\n")
    if newline >= 0:
        return Head(digest(text[: newline + 1]), start)
    return Head(digest(text), start) if len(text) == HEAD_BYTES else None


def read_turn(file: Bytes, cursor: Cursor, scanned: int, max_line_bytes: int, turn_bytes: int = TURN_BYTES) -> tuple[Turn, int]:
    """The next whole lines behind `cursor`, at most about `turn_bytes` of them, or one longer line; the cursor is not moved.

    `scanned` is how many bytes behind the cursor are known to hold no newline; the second value is what to give next time, so
    that a long line that arrives in small pieces is searched once. Memory is bounded by `max_line_bytes`; what is longer is
    skipped as it comes, and told once as a fault at its first byte.
    """
    before = min(MARKER_BYTES, cursor.offset)
    data = file.pread(before + turn_bytes, cursor.offset - before)
    if digest(data[:before]) != cursor.marker:
        return Turn(Found.REPLACED, [], cursor.offset, cursor.offset, cursor.marker, cursor.skipping, False, []), 0
    body = data[before:] if before else data
    full = len(body) == turn_bytes
    if cursor.offset == 0 and not _starts_with_head(file, body, cursor.head):
        return Turn(Found.REPLACED, [], 0, 0, "", False, False, []), 0
    if not body:
        return _nothing(cursor, more=False), 0
    if cursor.skipping:
        return _skip(cursor, data, before, body, full), 0
    cut = body.rfind(b"\n") + 1
    if cut:
        return _lines(cursor, data, before, body, cut, full, max_line_bytes), 0
    if body[0] == 0:
        return _hole(file, cursor, body, full)
    if not full:
        return _nothing(cursor, more=False), _searchable(body)
    return _long(file, cursor, max(scanned, 0), max_line_bytes)


def _starts_with_head(file: Bytes, body: bytes, expected: str) -> bool:
    text = body.lstrip(b"\0")
    newline = text.find(b"\n", 0, HEAD_BYTES)
    if newline >= 0:
        return digest(text[: newline + 1]) == expected
    found = head(file)
    return found is not None and found.digest == expected


def _lines(cursor: Cursor, data: bytes, before: int, body: bytes, cut: int, full: bool, max_line_bytes: int) -> Turn:
    end = cursor.offset + cut
    lines = io.BytesIO(body[:cut] if cut < len(body) else body).readlines()
    faults = []
    if max_line_bytes < len(body):
        offset = cursor.offset
        for index, line in enumerate(lines):
            if len(line) > max_line_bytes:
                faults.append(Fault(offset, "line_too_long", f"more than {max_line_bytes} bytes, skipped"))
                lines[index] = b"\n".rjust(len(line))  # blank, and as long: the offsets of its followers rest on it
            offset += len(line)
    if lines[0][0] == 0 and lines[0].strip(b"\0\r\n"):
        hole = len(lines[0]) - len(lines[0].lstrip(b"\0"))
        faults.append(Fault(cursor.offset, "nul_hole", f"{hole} NUL bytes before the line"))
    return Turn(Found.LINES, lines, cursor.offset, end, digest(data[max(0, before + cut - MARKER_BYTES) : before + cut]), False, full, faults)


def _nothing(cursor: Cursor, *, more: bool) -> Turn:
    return Turn(Found.END, [], cursor.offset, cursor.offset, cursor.marker, cursor.skipping, more, [])


def _moved(file: Bytes, cursor: Cursor, end: int, *, skipping: bool, more: bool, faults: list[Fault]) -> Turn:
    """The cursor passes bytes that are no line."""
    start = max(0, end - MARKER_BYTES)
    return Turn(Found.LINES, [], cursor.offset, end, digest(file.pread(end - start, start)), skipping, more, faults)


def _skip(cursor: Cursor, data: bytes, before: int, body: bytes, full: bool) -> Turn:
    """Inside a line that was too long: pass over it up to its newline."""
    newline = body.find(b"\n") + 1
    cut = newline or len(body)
    return Turn(
        Found.LINES, [], cursor.offset, cursor.offset + cut, digest(data[max(0, before + cut - MARKER_BYTES) : before + cut]), not newline, bool(newline) or full, []
    )


def _hole(file: Bytes, cursor: Cursor, body: bytes, full: bool) -> tuple[Turn, int]:
    """NULs without a newline: a preallocated file that waits to be filled, or a hole before a line that is still to come."""
    position = cursor.offset + len(body)
    if body.strip(b"\0") or not full:
        return _nothing(cursor, more=False), 0
    while chunk := file.pread(1 << 20, position):
        text = chunk.lstrip(b"\0")
        if text:
            end = position + len(chunk) - len(text)
            return _moved(file, cursor, end, skipping=False, more=True, faults=[Fault(cursor.offset, "nul_hole", f"{end - cursor.offset} NUL bytes passed over")]), 0
        position += len(chunk)
    return _nothing(cursor, more=False), 0


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
        useful = _searchable(chunk)
        scanned += useful
        if useful < len(chunk) or len(chunk) < TURN_BYTES:
            return _nothing(cursor, more=False), scanned
    fault = Fault(cursor.offset, "line_too_long", f"more than {max_line_bytes} bytes, skipped")
    return _moved(file, cursor, cursor.offset + min(scanned, max_line_bytes), skipping=True, more=True, faults=[fault]), 0


def _take(file: Bytes, cursor: Cursor, length: int) -> Turn:
    line = file.pread(length, cursor.offset)
    end = cursor.offset + length
    return Turn(Found.LINES, [line], cursor.offset, end, digest(line[-MARKER_BYTES:]), False, True, [])


def _searchable(data: bytes) -> int:
    """How much of `data` needs no second look for a newline: up to the first NUL, which a preallocated file may yet fill."""
    nul = data.find(b"\0")
    return len(data) if nul < 0 else nul
