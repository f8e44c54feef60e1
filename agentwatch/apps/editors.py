"""What an editor is told, so that it starts `agentwatch mcp`: a piece of its own settings file, ready to be pasted."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

SERVER = "agentwatch"


class Editor(NamedTuple):
    """How one editor, or agent, takes a server. `places` are the files that it reads, that of the project first."""

    places: tuple[str, ...]
    write: Callable[[str, list[str]], str]


def _json(*path: str, **more: str) -> Callable[[str, list[str]], str]:
    def write(command: str, arguments: list[str]) -> str:
        value: object = {**more, "command": command, "args": arguments}
        for name in reversed((*path, SERVER)):
            value = {name: value}
        return json.dumps(value, indent=2)

    return write


def _toml(command: str, arguments: list[str]) -> str:
    return f"[mcp_servers.{SERVER}]\ncommand = {json.dumps(command)}\nargs = {json.dumps(arguments)}"


EDITORS: Mapping[str, Editor] = {
    "cursor": Editor((".cursor/mcp.json", "~/.cursor/mcp.json"), _json("mcpServers")),
    "windsurf": Editor(("~/.codeium/windsurf/mcp_config.json",), _json("mcpServers")),
    "vscode": Editor((".vscode/mcp.json",), _json("servers", type="stdio")),
    "claude-code": Editor((".mcp.json",), _json("mcpServers", type="stdio")),
    "codex": Editor(("~/.codex/config.toml",), _toml),
    "gemini": Editor((".gemini/settings.json", "~/.gemini/settings.json"), _json("mcpServers")),
}
"""JSON strings are TOML strings, too, as long as they hold paths."""


def config(editor: str, log_dir: Path, settings_file: Path | None) -> str:
    """The piece for an editor. All paths are absolute: editors start servers anywhere, and without a shell's PATH."""
    script = Path(sys.executable).with_name(SERVER)
    command = [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-m", SERVER]
    arguments = [*command[1:], "mcp", "--log-dir", os.path.abspath(log_dir)]  # noqa: PTH100  # links are kept
    if settings_file is not None:
        arguments += ["--config", os.path.abspath(settings_file)]  # noqa: PTH100
    return EDITORS[editor].write(command[0], arguments)
