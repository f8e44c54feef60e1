"""Plain lines of text, as programs have always logged. The facts stand in `README.md` beside this file."""

import re

import msgspec

from agentwatch.formats.lenient import BLANK
from agentwatch.formats.program import Log, Memory

NAME = "plain-text"

_JSON = (b"{", b"[{")
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Bytes that no text has: all control characters but white space and the one that colours begin with."""


class Decoder(Log):
    """Decodes one log. A line that is a JSON object is read as a record of Winston's kind."""

    name = NAME


def recognise(path: str, lines: list[bytes]) -> bool:
    """Whether a file that is called a log holds text, and no line of JSON among its first ones. Asked last, when nobody else knew it."""
    if ".log" not in path.rpartition("/")[2]:
        return False
    said = [line.strip(BLANK).removeprefix(b"\xef\xbb\xbf") for line in lines]
    return any(said) and not any(line.startswith(_JSON) or _NO_TEXT.search(line) for line in said)


def decoder(source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a log."""
    return Decoder(source, msgspec.json.decode(memory, type=Memory | None))
