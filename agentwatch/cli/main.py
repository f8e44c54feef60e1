"""The commands. Parses, calls an app, prints what came of it or what went wrong; everything else stands elsewhere."""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from typer.exceptions import TyperException

from agentwatch import __version__
from agentwatch.cli.common import commands, report, say
from agentwatch.cli.options import examples
from agentwatch.errors import AgentwatchError, UsageError
from agentwatch.voice import Level

MODULES = {
    "run": "daemon",
    "notify": "notify",
    "tail": "watching",
    "alerts": "alerts",
    "issues": "issues",
    "ask": "ask",
    "raw": "raw",
    "status": "daemon",
    "doctor": "doctor",
    "summary": "reports",
    "report": "reports",
    "replay": "watching",
    "backtest": "backtest",
    "runs": "runs",
    "rules": "rules",
    "exec": "exec",
    "log": "log",
    "hooks": "hooks",
    "mcp": "mcp",
    "rotate": "reports",
    "service": "service",
    "demo": "demo",
}
"""Where each command stands, in the order of the help: what is used first stands first."""


class _Commands(typer.core.TyperGroup):
    """Each command is imported and built when it is asked for: all together take as long as the rest of a start."""

    def __init__(self, **told: Any) -> None:
        super().__init__(**told)
        self.commands = dict.fromkeys(MODULES)  # type: ignore[assignment]  # their names, which a misspelt one is compared with

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.commands and self.commands[cmd_name] is None:
            self.commands[cmd_name] = _built(cmd_name)
        return super().get_command(ctx, cmd_name)


def _built(name: str) -> Any:
    import_module(f"agentwatch.cli.{MODULES[name]}")
    for command in commands.registered_commands:
        if command.callback is not None and name == (command.name or command.callback.__name__):
            return typer.main.get_command_from_info(command, pretty_exceptions_short=True, rich_markup_mode=None)
    group = next(one for one in commands.registered_groups if one.typer_instance is not None and one.typer_instance.info.name == name)
    return typer.main.get_group_from_info(group, pretty_exceptions_short=True, suggest_commands=True, rich_markup_mode=None)


app = typer.Typer(
    name="agentwatch",
    cls=_Commands,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=examples(
        "agentwatch demo              see it work, on recorded sessions",
        "agentwatch run               watch the agents of this machine",
        "agentwatch doctor            what would be watched, and what is wrong",
        "agentwatch COMMAND --help    more of each",
    ),
)


@app.callback(invoke_without_command=True)
def _top(context: typer.Context, *, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Watches the logs of coding agents that run unattended, and says which one loops, hangs or burns money, and why."""
    if version:
        print(f"agentwatch {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit(2)
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UsageError("the working directory was deleted", hint="change to one that exists") from None


def main() -> None:
    """The entry point: what a user did wrong is told in two lines, not in a traceback."""
    # Where one is closed, the next file that is opened would get its number, and what a child says would go into the alert log.
    sys.stdin = sys.stdin or Path(os.devnull).open()  # noqa: SIM115  # for as long as the process lives
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal in another encoding is no reason to fail
    try:
        code = app(prog_name="agentwatch", standalone_mode=False)
        sys.stdout.flush()
    except AgentwatchError as error:
        code = _refuse(str(error), error.hint, error.exit_code)
    except TyperException as error:
        code = _refuse_usage(error)
    except (BrokenPipeError, SystemExit) as error:
        # typer makes a SystemExit of a closed pipe, with the code of a failure.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        _forget_output()
        code = 0
    except OSError as error:
        what = f"`{error.filename}`: " if error.filename else ""
        code = _refuse(f"{what}{error.strerror or error}", None, 1)
    except KeyboardInterrupt:
        code = 130
    try:
        sys.stdout.flush()
    except OSError:
        _forget_output()
    sys.exit(code)


def _forget_output() -> None:
    """What could not be written goes nowhere: the interpreter would try once more at its end, and fail with words and a code of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # type: ignore[union-attr]  # as `main` has set it


def _refuse(message: str, hint: str | None, code: int) -> int:
    report(f"error: {message}", Level.ERROR)
    if hint:
        say("")
        report(f"hint: {hint}", Level.ERROR)
    return code


def _refuse_usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "agentwatch"
    return _refuse(error.format_message(), f"see `{command} --help`", error.exit_code)
