"""The tables of formats. A format joins with one file and one row.

A row says what is asked of a format before a file of it is met; its module is imported with the first file that may be one. All of them
together take as long as everything else that a daemon does before it watches.
"""

import re
from importlib import import_module
from types import ModuleType
from typing import Literal, NamedTuple, cast

import msgspec

from agentwatch.formats import places
from agentwatch.formats.documents import Origin, Whole
from agentwatch.formats.places import Places
from agentwatch.model import Format


class Row(NamedTuple):
    """A format of append-only lines. Its `module` has `recognise`, which decides by a file's first lines, and `decoder`."""

    name: str
    module: str
    places: Places = places.nowhere

    def recognise(self, path: str, lines: list[bytes]) -> bool:
        """Whether the first lines of the file at `path` are in this format."""
        return bool(_load(self.module).recognise(path, lines))

    def decoder(self, source: str, memory: msgspec.Raw) -> Format:
        """What reads a file's lines, given the source's name (`Cursor.source`) and what it remembered before a restart."""
        return cast("Format", _load(self.module).decoder(source, memory))


def _load(module: str) -> ModuleType:
    return import_module(f"agentwatch.formats.{module}")


FORMATS = {
    row.name: row
    for row in (
        Row("canonical", "canonical"),
        Row("claude-code", "claude_code", places.claude_code),
        Row("claude-stream", "claude_stream"),
        Row("codex", "codex", places.codex),
        Row("codex-exec", "codex_exec"),
        Row("copilot-cli", "copilot", places.copilot),
        Row("gemini-cli", "gemini", places.gemini),
        Row("qwen-code", "qwen", places.qwen),
        Row("pi", "pi", places.pi),
        Row("droid", "droid", places.droid),
        Row("kimi", "kimi", places.kimi),
        # Programs of any kind, the vaguest last: what an agent wrote is recognised before.
        Row("fluent-bit", "fluent_bit"),
        Row("winston", "winston"),
        Row("plain-text", "plain_text"),
    )
}


class Container(NamedTuple):
    """A format whose files are no append-only lines. `begin` names the function of its `module` that gives a decoder.

    `shape` is that of a relative path below one of the `places`, `log_shape` that of one below the log directory. Of a folder of numbered
    files it is the folder's, and `files` that of their names, with the number as the first group. A database lies in a place itself.
    """

    name: str
    kind: Literal["document", "folder", "database"]
    module: str
    places: Places = places.nowhere
    begin: str = "decoder"
    shape: re.Pattern[str] | None = None
    log_shape: re.Pattern[str] | None = None
    files: re.Pattern[str] | None = None

    def decoder(self, memory: msgspec.Raw, origin: Origin) -> Whole:
        """What reads the document, given what it remembered before."""
        return cast("Whole", getattr(_load(self.module), self.begin)(memory, origin))


CONTAINERS = {
    row.name: row
    for row in (
        Container("goose", "database", "goose", places.goose, shape=re.compile(r"sessions\.db")),
        Container("opencode", "database", "opencode", places.opencode, shape=re.compile(r"opencode(-[\w.]+)?\.db")),
        Container("opencode-export", "document", "opencode", begin="export_decoder", log_shape=re.compile(r"(?:.*[/-])?ses_\w+\.json")),
        Container("gemini-document", "document", "gemini_document", places.gemini, shape=re.compile(r".*/chats/(?:.+/)?session-[^/]+\.json")),
        Container("amp", "document", "amp", places.amp, shape=re.compile(r"T-[^/]+\.json")),
        Container("cline", "document", "cline", places.cline, shape=re.compile(r"[^/]+/ui_messages\.json")),
        Container("swe-agent", "document", "swe_agent", log_shape=re.compile(r".+\.traj(?:\.json)?")),
        Container(
            "openhands",
            "folder",
            "openhands",
            places.openhands,
            shape=re.compile(r"[^/]+/events"),
            files=re.compile(r"(?:event-)?(\d{1,9})(?:-[^/]*)?\.json"),
        ),
        Container("openhands-state", "document", "openhands", places.openhands, begin="state_decoder", shape=re.compile(r"[^/]+/base_state\.json")),
    )
}


def recognise(path: str, lines: list[bytes]) -> str | None:
    """The name of the format that the first lines of the file at `path` are in; None as long as they do not say."""
    return next((row.name for row in FORMATS.values() if row.recognise(path, lines)), None)
