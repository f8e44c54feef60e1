"""The figures of a week for messages, made in a process of their own: what they are made of is large, the notifier stays small and answers meanwhile."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from agentwatch.apps.actions import without_secrets
from agentwatch.core.text import safe
from agentwatch.errors import AgentwatchError
from agentwatch.settings import Loaded

DAYS = 7.0
TITLE = "The last 7 days"
NOTHING = "No sessions are known: no daemon has told of any here. `agentwatch summary --rebuild` stores those of the logs."


class Asked(NamedTuple):
    """For which week. `directory` is where the report is saved; None for the figures alone, of what is stored, without reading a log."""

    loaded: Loaded
    home: Path | None
    until: datetime | None = None
    directory: Path | None = None


class Week(msgspec.Struct, frozen=True):
    """What a message says, and the page that was saved."""

    lines: list[str]
    page: str | None = None


class WeekError(Exception):
    """There are no figures, and why."""


def home_of(environ: Mapping[str, str]) -> Path | None:
    """The user's home directory; None where there is none."""
    return Path(environ["HOME"]) if environ.get("HOME") else None


async def figures(asked: Asked, environ: Mapping[str, str], timeout_s: float) -> Week:
    """The figures that were asked for. Raises WeekError. Cancelled or too late, what makes them is ended."""
    # -P: a folder `agentwatch` in the working directory is not this program.
    command = [sys.executable, "-P", "-m", "agentwatch.apps.week"]
    pipe = asyncio.subprocess.PIPE
    try:
        child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=without_secrets(environ), start_new_session=True)
    except OSError as error:
        raise WeekError(f"no process can be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(timeout_s):
            out, told = await child.communicate(msgspec.json.encode(asked, enc_hook=str))  # a Path is its text
    except TimeoutError:
        raise WeekError(f"it takes longer than {timeout_s:g} s") from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, 9)
            await child.wait()
    if child.returncode != 0:
        lines = told.decode("utf-8", "replace").strip().splitlines()
        raise WeekError(safe(lines[-1]) if lines else f"its process ended with {child.returncode}")
    return msgspec.json.decode(out, type=Week)


def make(asked: Asked, environ: Mapping[str, str]) -> Week:
    """What `figures` gives, in this process. Raises AgentwatchError."""
    from agentwatch.apps.reports import Scope, Source, save_weekly
    from agentwatch.ui.brief import brief

    is_saved = asked.directory is not None
    scope = Scope.of(asked.loaded, environ, DAYS)
    source = Source(asked.loaded, environ, asked.home, scope, asked.until, lambda _done, _total: None, is_compared=True, reads_logs=is_saved)
    summary = source.summary()
    lines = list(brief(summary))
    if next(iter(source.known.rows), None) is None:
        lines[0] = NOTHING
    page = save_weekly(source.weekly(), asked.directory)[1] if asked.directory is not None else None
    return Week(lines, str(page) if page else None)


def main() -> None:
    """The child: asked by what stands on its standard input."""
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked, dec_hook=lambda kind, text: kind(text))
    try:
        sys.stdout.buffer.write(msgspec.json.encode(make(asked, os.environ)))
    except AgentwatchError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
