"""`agentwatch hooks …`: settings for an agent's own hooks, to tell what its transcript leaves out. Prints them, and changes no file."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from agentwatch.cli.common import commands, load
from agentwatch.cli.options import Config, LogDir, examples
from agentwatch.errors import UsageError

hooks_app = typer.Typer(name="hooks", help="Print settings for the agents' own hooks.", rich_markup_mode=None)
commands.add_typer(hooks_app)

TIMEOUT_S = 10
"""After which Claude Code goes on without the hook. It takes 0.3 s."""


@hooks_app.callback()
def _only_a_group() -> None:
    """Without it a group of one command would be that command."""


@hooks_app.command("print", epilog=examples("agentwatch hooks print claude-code", "agentwatch hooks print claude-code | jq .hooks"))
def print_settings(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="claude-code.", show_default=False)],
    *,
    log_dir: LogDir = None,
    config: Config = None,
) -> int:
    """Print hooks for an agent's settings file.

    For Claude Code: add what is printed to ~/.claude/settings.json, or to .claude/settings.json of a project. Its hooks then log that a session waits for its user, which its transcript does not tell from a hang. They write to the log directory of this call.
    """
    if agent != "claude-code":
        raise UsageError(f"`{agent}` has no hooks that are understood", hint="it is `claude-code`")

    directory = load(log_dir, config).settings.logs.dir
    # This very program, since others of its name are about. An exit code of 2 would have Claude Code go on working instead of stopping.
    command = shlex.join([sys.executable, "-m", "agentwatch", "log", "hook", "claude-code", "--log-dir", str(Path(directory).absolute())])
    hook = {"type": "command", "command": f"{command} >/dev/null 2>&1 || true", "timeout": TIMEOUT_S}
    print(json.dumps({"hooks": {name: [{"hooks": [hook]}] for name in ("Notification", "Stop")}}, indent=2, ensure_ascii=False))
    return 0
