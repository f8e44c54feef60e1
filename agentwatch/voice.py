"""How a service says what it does: with a level for the journal, as objects for programs. Writes nothing."""

import os
from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from agentwatch.core.times import stamp


class Level(IntEnum):
    """How bad it is, in the numbers of syslog(3)."""

    ERROR = 3
    WARNING = 4
    INFO = 6


class Report(Protocol):
    """Told in words what a service does, a line at a time."""

    def __call__(self, text: str, level: Level = Level.INFO, /) -> None: ...


def for_programs(text: str, level: Level, at: datetime) -> bytes:
    """One JSON object a line: `timestamp` (UTC), `level`, `message`."""
    import json  # noqa: PLC0415  # 2 ms, for those who want it

    said = {"timestamp": stamp(at), "level": level.name.lower(), "message": text}
    return json.dumps(said).encode() + b"\n"


def for_journal(lines: bytes, level: Level) -> bytes:
    """The lines as sd-daemon(3) has them: each with its level in front, which the journal takes off again."""
    return b"".join(b"<%d>%b\n" % (level, line) for line in lines.splitlines() if line)


def is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether `fd` leads straight into the journal: systemd says in `$JOURNAL_STREAM` which file that is."""
    named = environ.get("JOURNAL_STREAM", "")
    try:
        stat = os.fstat(fd)
    except OSError:
        return False
    return named == f"{stat.st_dev}:{stat.st_ino}"
