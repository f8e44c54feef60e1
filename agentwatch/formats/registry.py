"""The tables of formats. A format joins with one file and one row."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple, cast

import msgspec

from agentwatch.formats import (
    amp,
    canonical,
    claude_code,
    claude_stream,
    cline,
    codex,
    codex_exec,
    copilot,
    droid,
    fluent_bit,
    gemini,
    gemini_document,
    kimi,
    opencode,
    openhands,
    pi,
    plain_text,
    program,
    qwen,
    swe_agent,
    winston,
)
from agentwatch.formats.documents import Origin, Whole
from agentwatch.model import Format


class Row(NamedTuple):
    """`recognise` decides by a file's first lines, `places` names the folders of the agent itself, `decoder` reads a file's lines.

    A decoder is given the source's name (`Cursor.source`), and what it remembered before a restart.
    """

    name: str
    recognise: Callable[[str, list[bytes]], bool]
    places: Callable[[Mapping[str, str], Path], list[Path]]
    decoder: Callable[[str, msgspec.Raw], Format]


def _native(module: ModuleType) -> Row:
    """The row of a format whose decoder remembers, made of what its module defines."""
    memory_type = module.Memory | None
    return Row(
        module.NAME, module.recognise, module.places, lambda _source, memory: cast("Format", module.Decoder(msgspec.json.decode(memory, type=memory_type)))
    )


def _by_source(module: ModuleType, memory_type: type[msgspec.Struct]) -> Row:
    """The row of a format whose lines do not say whose they are: the source's name does."""
    saved = memory_type | None
    return Row(
        module.NAME,
        module.recognise,
        module.places,
        lambda source, memory: cast("Format", module.Decoder(source, msgspec.json.decode(memory, type=saved))),
    )


_CANONICAL = canonical.Decoder()
"""One for all files: it remembers nothing."""

FORMATS: dict[str, Row] = {
    row.name: row
    for row in (
        Row(canonical.NAME, canonical.recognise, canonical.places, lambda _source, _memory: _CANONICAL),
        _native(claude_code),
        _native(claude_stream),
        _native(codex),
        _native(codex_exec),
        _native(copilot),
        Row(
            gemini.NAME, gemini.recognise, gemini.places, lambda source, memory: gemini.Decoder(msgspec.json.decode(memory, type=gemini.Memory | None), source)
        ),
        _native(qwen),
        _native(pi),
        _native(droid),
        _by_source(kimi, kimi.Memory),
        # Programs of any kind, the vaguest last: what an agent wrote is recognised before.
        _by_source(fluent_bit, program.Memory),
        _by_source(winston, program.Memory),
        _by_source(plain_text, program.Memory),
    )
}


class Container(NamedTuple):
    """A format whose files are no append-only lines.

    `shape` is that of a relative path below one of the `places`, `log_shape` that of one below the log directory. Of a folder of numbered
    files it is the folder's, and `files` that of their names, with the number as the first group. A database lies in a place itself.
    """

    name: str
    kind: Literal["document", "folder", "database"]
    places: Callable[[Mapping[str, str], Path], list[Path]]
    decoder: Callable[[msgspec.Raw, Origin], Whole]
    shape: re.Pattern[str] | None = None
    log_shape: re.Pattern[str] | None = None
    files: re.Pattern[str] | None = None


def _nowhere(_environ: Mapping[str, str], _home: Path) -> list[Path]:
    """None of its own: such a document lies in the log directory."""
    return []


CONTAINERS: dict[str, Container] = {
    row.name: row
    for row in (
        Container(opencode.NAME, "database", opencode.places, opencode.decoder, shape=re.compile(r"opencode(-[\w.]+)?\.db")),
        Container(opencode.EXPORT, "document", _nowhere, opencode.export_decoder, log_shape=re.compile(r"(?:.*[/-])?ses_\w+\.json")),
        Container(gemini_document.NAME, "document", gemini_document.places, gemini_document.decoder, shape=re.compile(r".*/chats/(?:.+/)?session-[^/]+\.json")),
        Container(amp.NAME, "document", amp.places, amp.decoder, shape=re.compile(r"T-[^/]+\.json")),
        Container(cline.NAME, "document", cline.places, cline.decoder, shape=re.compile(r"[^/]+/ui_messages\.json")),
        Container(swe_agent.NAME, "document", _nowhere, swe_agent.decoder, log_shape=re.compile(r".+\.traj(?:\.json)?")),
        Container(
            openhands.NAME,
            "folder",
            openhands.places,
            openhands.decoder,
            shape=re.compile(r"[^/]+/events"),
            files=re.compile(r"(?:event-)?(\d{1,9})(?:-[^/]*)?\.json"),
        ),
        Container(openhands.STATE, "document", openhands.places, openhands.state_decoder, shape=re.compile(r"[^/]+/base_state\.json")),
    )
}


def recognise(path: str, lines: list[bytes]) -> str | None:
    """The name of the format that the first lines of the file at `path` are in; None as long as they do not say."""
    return next((row.name for row in FORMATS.values() if row.recognise(path, lines)), None)
