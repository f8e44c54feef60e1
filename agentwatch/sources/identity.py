"""Whether two files have the same content, as far as their being one stream depends on it. Knows bytes, no names."""

import os

from agentwatch.model import Cursor
from agentwatch.sources.lines import CHUNK_BYTES, HEAD_BYTES, MARKER_BYTES, Bytes, digest


def continues(file: Bytes, cursor: Cursor) -> bool:
    """Whether the bytes before the cursor are those that were read."""
    return marker(file, cursor.offset) == cursor.marker


def marker(file: Bytes, offset: int) -> str:
    """What is kept of the bytes before an offset. That of a file which is shorter equals none that was kept."""
    before = min(MARKER_BYTES, offset)
    return digest(file.pread(before, offset - before))


def second_of(lines: list[bytes], *, is_start: bool) -> str:
    """The digest of a stream's second line, of its first lines or of those that followed the very first; empty where it is not among them."""
    return digest(b"".join(lines[is_start : is_start + 1])[:HEAD_BYTES])


def early_second(file: Bytes) -> str:
    """As `second`, but empty also where the first line is longer than `HEAD_BYTES`: the first may be a hole of a terabyte."""
    return second(file) if b"\n" in file.pread(HEAD_BYTES, 0) else ""


def second(file: Bytes) -> str:
    """The digest of a file's second line, as `second_of` gives it; empty as long as that is not whole."""
    line = file.pread(HEAD_BYTES, second_line(file))
    newline = line.find(b"\n") + 1
    return digest(line[: newline or HEAD_BYTES]) if newline or len(line) == HEAD_BYTES else ""


def is_beginning(file: Bytes, cursor: Cursor) -> bool:
    """Whether a file with the same first line is shorter than what was read, and has the same second line, if it has one.

    So is a copy that was left behind, or made just before the last lines were written and the original was emptied.
    """
    if file.pread(1, cursor.offset - 1):
        return False
    return second(file) in ("", cursor.second)


def shared(one: Bytes, other: Bytes, start: int) -> int:
    """How many bytes the two have in common, known to be at least `start`."""
    while True:
        mine, theirs = one.pread(CHUNK_BYTES, start), other.pread(CHUNK_BYTES, start)
        if mine == theirs and len(mine) == CHUNK_BYTES:
            start += CHUNK_BYTES
            continue
        return start + len(os.path.commonprefix([mine, theirs]))  # noqa: RUF071  # bytes of logs, not paths


def line_start(file: Bytes, position: int) -> int:
    """The first byte of the line that `position` stands in."""
    while position > 0:
        start = max(0, position - CHUNK_BYTES)
        newline = file.pread(position - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        position = start
    return 0


def second_line(file: Bytes) -> int:
    """The first byte behind the first line; the end where it is the only one."""
    position, size = 0, HEAD_BYTES  # asked of each file: few have a longer first line
    while chunk := file.pread(size, position):
        newline = chunk.find(b"\n")
        if newline >= 0:
            return position + newline + 1
        position, size = position + len(chunk), CHUNK_BYTES
    return position


def end_of(file: Bytes) -> int:
    """How many bytes there are."""
    position = 0
    while chunk := file.pread(CHUNK_BYTES, position):
        position += len(chunk)
    return position
