"""The commands. Parses, calls an app, prints what went wrong; everything else stands elsewhere."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from agentwatch import __version__
from agentwatch.errors import AgentwatchError, UsageError

app = typer.Typer(
    name="agentwatch",
    help="Watches the logs of coding agents that run unattended, and says which one loops, hangs or burns money, and why.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

LogDir = Annotated[Path | None, typer.Option("--log-dir", metavar="DIR", help="The log directory. [default: .cache/agent-work-logs]")]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="A settings file, trusted like the user's own.")]


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"agentwatch {__version__}")
        raise typer.Exit


@app.command()
def run(
    log_dir: LogDir = None,
    config: Config = None,
    once: Annotated[bool, typer.Option("--once", help="Read all there is, write alerts, exit. Time is the log's own.")] = False,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="With --once: where the clock ends (ISO 8601). [default: the newest event]")] = None,
) -> None:
    """Watch, in the foreground, until Ctrl-C or SIGTERM. Alerts go to `agent-alerts.jsonl` in the log directory."""
    from agentwatch.apps import daemon

    end = _time(until)
    if end is not None and not once:
        raise UsageError("`--until` says where the clock of a single pass ends", hint="add `--once`")
    if once:
        fresh = daemon.once(_load(log_dir, config), os.environ, _home(), end, _say)
        _say(f"{fresh} new alerts in {_load(log_dir, config).settings.logs.dir / 'agent-alerts.jsonl'}")
        return
    raise typer.Exit(daemon.Daemon(lambda: _load(log_dir, config), os.environ, _home(), _say).run())


def main() -> None:
    """The entry point: what a user did wrong is told in two lines, not in a traceback."""
    try:
        app()
    except AgentwatchError as error:
        _say(f"error: {error}")
        if error.hint:
            _say(f"\nhint: {error.hint}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


def _load(log_dir: Path | None, config: Path | None):  # type: ignore[no-untyped-def]  # noqa: ANN202  # its class costs 30 ms to import
    from agentwatch.settings import load

    return load(cwd=Path.cwd(), environ=os.environ, home=_home(), flags={"logs.dir": log_dir}, config=config)


def _home() -> Path | None:
    """A service may have none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"`--until {text}` is no time", hint="give it as in 2026-02-09T08:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
