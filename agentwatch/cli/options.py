"""What several commands take on the command line, and how it is understood."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agentwatch.core import times
from agentwatch.errors import UsageError


def path(text: str) -> Path:
    """What `text` names. An empty one is refused: it is a variable that was not set, and would mean the working directory."""
    if not text:
        raise typer.BadParameter("it is empty")
    return Path(text)


class LogFormat(StrEnum):
    """How a service says what it does."""

    TEXT = "text"
    JSON = "json"


LogDir = Annotated[Path | None, typer.Option("--log-dir", parser=path, metavar="DIR", help="The log directory. [default: .cache/agent-work-logs]")]
Config = Annotated[Path | None, typer.Option("--config", parser=path, metavar="FILE", help="A settings file that is trusted. [env: AGENTWATCH_CONFIG]")]
LogFormatOption = Annotated[LogFormat, typer.Option("--log-format", help="How messages are written to stderr; the journal gets their levels in either.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def home() -> Path | None:
    """The user's home directory; None where there is none, as for some services."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def moment(option: str, text: str | None) -> datetime | None:
    """The time that `text` names; UTC where it names no zone. Raises UsageError."""
    try:
        return None if text is None else times.moment(text)
    except ValueError:
        raise UsageError(f"`{option} {text}` is no time", hint="give it as in 2026-02-09T08:00:00Z") from None


def since(option: str, text: str | None, now: datetime) -> datetime | None:
    """As `moment`, or so long before `now`: `90s`, `30m`, `2h`, `7d`, `1w`. Raises UsageError."""
    try:
        return None if text is None else times.since(text, now)
    except ValueError:
        raise UsageError(f"`{option} {text}` is no time", hint="give it as in 30m, 2h, 7d or 2026-02-09T08:00:00Z") from None


def examples(*lines: str) -> str:
    """The end of a command's help page."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
