"""`agentwatch mcp`: the tools for an editor's agent."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agentwatch.cli.common import commands, imports, load, say
from agentwatch.cli.options import Config, LogDir, examples, home
from agentwatch.errors import AgentwatchError


class Client(StrEnum):
    CURSOR = "cursor"
    WINDSURF = "windsurf"
    VSCODE = "vscode"
    CLAUDE_CODE = "claude-code"
    CODEX = "codex"
    GEMINI = "gemini"


@commands.command(
    epilog=examples(
        "agentwatch mcp --print-config cursor > .cursor/mcp.json",
        "agentwatch mcp --print-config codex >> ~/.codex/config.toml",
        "npx @modelcontextprotocol/inspector --cli agentwatch mcp --method tools/list",
    )
)
def mcp(
    *,
    print_config: Annotated[
        Client | None,
        typer.Option("--print-config", metavar="EDITOR", help="Print what this editor must be told: cursor, windsurf, vscode, claude-code, codex, gemini."),
    ] = None,
    log_dir: LogDir = None,
    config: Config = None,
) -> None:
    """Serve an editor's agent.

    Tools over the Model Context Protocol on standard input and output, until the input ends: log_query, log_issues, log_raw, log_alerts, log_sessions, log_status, log_clear. Works with and without a daemon. See docs/editors.md.
    """
    loaded = load(log_dir, config)
    if print_config is not None:
        from agentwatch.apps.editors import EDITORS
        from agentwatch.apps.editors import config as piece

        print(piece(print_config.value, loaded.settings.logs.dir, config))
        say(f"this stands in {' or '.join(EDITORS[print_config.value].places)}; see docs/editors.md")
        return
    if sys.stdin.isatty():
        say("this speaks a protocol that editors speak; `agentwatch mcp --print-config EDITOR` says how to have one start it; Ctrl-C ends it")
    try:
        with imports():  # 100,000 objects of the library
            from agentwatch.apps.mcp import serve
            from agentwatch.apps.tools import Tools
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("mcp", "mcp_types", "anyio"):
            raise
        raise AgentwatchError(f"the MCP library cannot be loaded: {error}", hint="install it with `pip install 'mcp>=2.3,<3'`") from error
    options = ("--config", os.fspath(Path(config).absolute())) if config is not None else ()
    serve(Tools(lambda: load(log_dir, config), os.environ, home(), options), say)
