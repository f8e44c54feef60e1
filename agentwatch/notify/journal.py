"""Lines that are appended for people and programs to read: what was done, what was given up."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import orjson


def append(path: Path, entry: Mapping[str, object]) -> None:
    """Add a line, durable when this returns. Raises OSError; what a full disk took half of is not left behind."""
    line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(fd).st_size
        if (written := os.write(fd, line)) < len(line):
            os.ftruncate(fd, size)
            raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes could be written", str(path))
        os.fsync(fd)
    finally:
        os.close(fd)
