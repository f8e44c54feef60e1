"""What a run is called. A run is a directory of logs below `runs/`; its name is its id."""

import re
from datetime import UTC, datetime

RUNS, LATEST = "runs", "latest"
"""Where the directories stand in the log directory, and the link there that leads to the newest."""

CALLBACK = "callback"
"""Of a run's directory: the file that holds the address that its alerts are posted to."""

VARIABLE = "AGENTWATCH_RUN"
"""Of the environment: names the run that a program logs to and a command asks about."""

LONGEST_NAME = 64

_LONGEST_ID_BYTES = 255
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
_STAMP = re.compile(r"(20\d{6})T(\d{6})Z-.+")


def run_of(scope: str) -> str | None:
    """The id of the run that a scope of attempts is; None for the log directory itself."""
    return scope.rpartition("/")[2] or None


def is_run_id(text: str) -> bool:
    """Whether a run can be called so, be it by somebody else: a name that is no path, is not hidden, can be printed, and is not the link's."""
    return text.isprintable() and 0 < len(text.encode()) <= _LONGEST_ID_BYTES and "/" not in text and text[0] != "." and text != LATEST


def is_run_name(text: str) -> bool:
    """Whether it may be a part of an id."""
    return _NAME.fullmatch(text) is not None


def id_for(now: datetime, name: str) -> str:
    """`20260209T080000Z-nightly`: ids sort by when their runs began."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{name}"


def begun_at(run_id: str) -> datetime | None:
    """When a run began, as its id says; None of one that somebody else has named."""
    stamp = _STAMP.fullmatch(run_id)
    try:
        return datetime.strptime("".join(stamp.groups()), "%Y%m%d%H%M%S").replace(tzinfo=UTC) if stamp else None
    except ValueError:
        return None
