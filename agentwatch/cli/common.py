"""What the commands share once their options are parsed: settings, JSON for programs, messages for people."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agentwatch.cli.options import home

if TYPE_CHECKING:
    from agentwatch.settings import Loaded


def load(log_dir: Path | None, config: Path | None) -> "Loaded":
    """The settings in force for a command that was given these options. Raises SettingsError."""
    from agentwatch import settings

    return settings.load(cwd=Path.cwd(), environ=os.environ, home=home(), flags={"logs.dir": log_dir}, config=config)


def as_json(value: object) -> str:
    """The JSON of a struct, on one line."""
    import msgspec

    return msgspec.json.encode(value).decode()


def say(text: str) -> None:
    """A line on stderr, past the buffer: a daemon whose messages go to a full disk goes on, and keeps nothing of them for later.

    Raises BrokenPipeError.
    """
    try:
        os.write(sys.stderr.fileno(), f"{text}\n".encode(sys.stderr.encoding, "backslashreplace"))
    except BrokenPipeError:
        raise
    except OSError:
        return
