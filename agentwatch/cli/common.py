"""What the commands share once their options are parsed: settings, JSON for programs, messages for people."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agentwatch import voice
from agentwatch.cli.options import LogFormat, home
from agentwatch.voice import Level

if TYPE_CHECKING:
    from agentwatch.settings import Loaded

commands = typer.Typer()
"""What is registered here becomes a command of the program when it is called."""


@contextmanager
def imports() -> Iterator[None]:
    """What is imported in here stays: it is never looked through for garbage, which costs a tenth to a quarter of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def load(log_dir: Path | None, config: Path | None, *, is_agents: bool = False) -> "Loaded":
    """The settings in force for a command that was given these options. Raises SettingsError.

    Where it `is_agents`, run for an agent's work, no log directory is worth a refusal.
    """
    from agentwatch import settings

    loaded = settings.load(cwd=Path.cwd(), environ=os.environ, home=home(), flags={"logs.dir": log_dir}, config=config)
    if not is_agents:
        settings.check_directory(loaded)
    return loaded


def as_json(value: object) -> str:
    """The JSON of a struct, on one line."""
    import msgspec

    return msgspec.json.encode(value).decode()


_log_format = LogFormat.TEXT


def say_as(log_format: LogFormat) -> None:
    """How `say` speaks from here on, and what becomes of errors: for the services, whose messages a program may read."""
    global _log_format  # noqa: PLW0603  # one stderr, one way to speak on it
    _log_format = log_format


def report(text: str, level: Level = Level.INFO, /) -> None:
    """`say` for what a service tells of logs: one line, whatever a file is called. Raises BrokenPipeError."""
    from agentwatch.core.text import clean

    say(clean(text), level)


def say(text: str, level: Level = Level.INFO, /) -> None:
    """A line on stderr, past the buffer: a daemon whose messages go to a full disk goes on, and keeps nothing of them for later.

    With its level where stderr is the journal. Raises BrokenPipeError.
    """
    if not text and _log_format is LogFormat.JSON:
        return
    fd = sys.stderr.fileno()
    as_json = _log_format is LogFormat.JSON
    line = voice.for_programs(text, level, datetime.now(UTC)) if as_json else f"{text}\n".encode(sys.stderr.encoding, "backslashreplace")
    try:
        os.write(fd, voice.for_journal(line, level) if voice.is_journal(fd, os.environ) else line)
    except BrokenPipeError:
        raise
    except OSError:
        return
