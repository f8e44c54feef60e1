"""The table of formats. A format joins with one file and one row."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from agentwatch.formats import canonical, claude_code
from agentwatch.model import Format


class Row(NamedTuple):
    """`recognise` decides by a file's first lines, `places` names the folders of the agent itself, `decoder` reads a file's lines.

    A decoder that remembers earlier lines is given what it remembered before a restart.
    """

    name: str
    recognise: Callable[[str, list[bytes]], bool]
    places: Callable[[Mapping[str, str], Path], list[Path]]
    decoder: Callable[[msgspec.Raw], Format]


def _claude_code(memory: msgspec.Raw) -> Format:
    return claude_code.Decoder(msgspec.json.decode(memory, type=claude_code.Memory | None))


FORMATS: dict[str, Row] = {
    row.name: row
    for row in (
        Row(canonical.NAME, canonical.recognise, canonical.places, lambda _memory: canonical.Decoder()),
        Row(claude_code.NAME, claude_code.recognise, claude_code.places, _claude_code),
    )
}


def recognise(path: str, lines: list[bytes]) -> str | None:
    """The name of the format that the first lines of the file at `path` are in; None as long as they do not say."""
    return next((row.name for row in FORMATS.values() if row.recognise(path, lines)), None)
