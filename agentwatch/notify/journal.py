"""Lines that are appended for people and programs to read: what was done, what was given up."""

import os
from collections.abc import Mapping
from pathlib import Path

import orjson


def append(path: Path, entry: Mapping[str, object]) -> None:
    """Add a line, durable when this returns. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
        os.fsync(fd)
    finally:
        os.close(fd)
