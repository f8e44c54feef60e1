"""Where the agents keep their logs: the folders of each, existing or not, by its own environment variables.

They stand apart from the decoders because a daemon needs all of them at its start, and of the decoders only those whose files it meets.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

Places = Callable[[Mapping[str, str], Path], list[Path]]
"""The folders of an agent by the environment and the user's home."""

VARIABLES = (
    "AMP_DATA_DIR",
    "CLAUDE_CONFIG_DIR",
    "CODEX_HOME",
    "COPILOT_HOME",
    "GEMINI_CLI_HOME",
    "GOOSE_PATH_ROOT",
    "KIMI_CODE_HOME",
    "OPENHANDS_CONVERSATIONS_DIR",
    "PI_CODING_AGENT_DIR",
    "PI_CODING_AGENT_SESSION_DIR",
    "QWEN_HOME",
    "QWEN_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
)
"""All of these variables: what a service, which has no shell's environment, must be given."""

CLINE_EXTENSIONS = {"saoudrizwan.claude-dev": "CLINE", "rooveterinaryinc.roo-cline": "ROO"}
"""The editor's extensions that write what Cline does, each with the executor that it is."""

_CLINE_EDITORS = ("Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf")


def nowhere(_environ: Mapping[str, str], _home: Path) -> list[Path]:
    """None of its own: it lies in the log directory, or is printed."""
    return []


def amp(environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folder with the threads."""
    named, data = environ.get("AMP_DATA_DIR", ""), environ.get("XDG_DATA_HOME", "")
    return [(Path(named) if named else (Path(data) if data else home / ".local" / "share") / "amp") / "threads"]


def claude_code(environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folders with transcripts. `CLAUDE_CONFIG_DIR` (a comma-separated list) replaces the usual two."""
    if named := [name.strip() for name in environ.get("CLAUDE_CONFIG_DIR", "").split(",") if name.strip()]:
        roots = [home / name[2:] if name.startswith("~/") else Path(name) for name in named]
    else:
        config = environ.get("XDG_CONFIG_HOME")
        roots = [home / ".claude", (Path(config) if config else home / ".config") / "claude"]
    return [root / "projects" for root in dict.fromkeys(roots)]


def cline(environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folders with the tasks: of each extension in each editor, and of those that serve an editor elsewhere."""
    config = environ.get("XDG_CONFIG_HOME", "")
    bases = [(Path(config) if config else home / ".config") / editor for editor in _CLINE_EDITORS]
    bases += [home / server / "data" for server in (".vscode-server", ".cursor-server")]
    return [base / "User" / "globalStorage" / extension / "tasks" for base in bases for extension in CLINE_EXTENSIONS]


def codex(environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folders with rollouts: those of `CODEX_HOME`, usually `~/.codex`."""
    named = environ.get("CODEX_HOME")
    root = Path(named) if named else home / ".codex"
    return [root / "sessions", root / "archived_sessions"]


def copilot(environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folders with sessions. `COPILOT_HOME` replaces `~/.copilot`."""
    named = environ.get("COPILOT_HOME", "").strip()
    root = Path(named) if named else home / ".copilot"
    return [root / "session-state", root / "history-session-state"]


def droid(_environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folder with the sessions. The agent knows no variable for it."""
    return [home / ".factory" / "sessions"]


def gemini(environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folder with the projects' sessions. `GEMINI_CLI_HOME` replaces the home, not `.gemini`."""
    named = environ.get("GEMINI_CLI_HOME", "").strip()
    return [(Path(named) if named else home) / ".gemini" / "tmp"]


def goose(environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folder with the database. `GOOSE_PATH_ROOT` replaces all of Goose's folders; a relative one counts for nothing."""
    root = Path(environ.get("GOOSE_PATH_ROOT", ""))
    if root.is_absolute():
        return [root / "data" / "sessions"]
    data = environ.get("XDG_DATA_HOME", "")
    return [(Path(data) if data else home / ".local" / "share") / "goose" / "sessions"]


def kimi(environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folder with the sessions; `KIMI_CODE_HOME` names the one it is in."""
    named = environ.get("KIMI_CODE_HOME")
    return [(Path(named) if named else home / ".kimi-code") / "sessions"]


def opencode(environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folder with the databases."""
    named = environ.get("XDG_DATA_HOME", "")
    return [(Path(named) if named else home / ".local" / "share") / "opencode"]


def openhands(environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folders with the conversations: of version 1, and of the server before it."""
    named = environ.get("OPENHANDS_CONVERSATIONS_DIR", "")
    return [Path(named) if named else home / ".openhands" / "conversations", home / ".openhands" / "sessions"]


def pi(environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folder with the sessions. `PI_CODING_AGENT_SESSION_DIR` names it, `PI_CODING_AGENT_DIR` the one it is in."""
    if sessions := environ.get("PI_CODING_AGENT_SESSION_DIR"):
        return [_expanded(sessions, home)]
    agent = environ.get("PI_CODING_AGENT_DIR")
    return [(_expanded(agent, home) if agent else home / ".pi" / "agent") / "sessions"]


def qwen(environ: Mapping[str, str], home: Path) -> list[Path]:
    """List the folder with the projects' chats. `QWEN_RUNTIME_DIR`, else `QWEN_HOME`, replaces `~/.qwen`."""
    named = environ.get("QWEN_RUNTIME_DIR", "").strip() or environ.get("QWEN_HOME", "").strip()
    root = home / named.removeprefix("~").lstrip("/") if named.startswith("~") else Path(named)
    return [(root if named else home / ".qwen") / "projects"]


def _expanded(path: str, home: Path) -> Path:
    return home if path == "~" else home / path[2:] if path.startswith("~/") else Path(path)
