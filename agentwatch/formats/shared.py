"""What native formats do alike: a loop over lines, a bounded memory, a look at a text. Knows no format."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

import msgspec

from agentwatch.formats.lenient import BLANK, REFUSED, fit, mended
from agentwatch.model import MOST_TOKENS, Data, Detail, Item, Kind, Usage

Feed = Callable[[Iterable[Item]], None]
Faults = Callable[[int, str, str], None]

Fact = tuple[Kind, Data]
"""An event's type and data: what a line says, before who and when are added."""

REMEMBERED = 64
"""Open calls, messages and requests kept a file: they are written with every checkpoint. The lines of one message of Claude Code were
never more than 12 apart."""

_Shape = TypeVar("_Shape", bound=msgspec.Struct)
_Value = TypeVar("_Value")
_decode_text = msgspec.json.Decoder(str).decode


def entries(lines: list[bytes], offset: int, decode: Callable[[bytes], _Shape], shape: type[_Shape], fault: Faults) -> Iterator[tuple[int, bytes, _Shape]]:
    """Decode lines, the first of which stands at `offset`, one by one; each comes with its own offset.

    A line that `decode` refuses is fitted into `shape`. What is no JSON object then is the fault `not_json`; an empty line is none.
    """
    for line in lines:
        try:
            yield offset, line, decode(line)
        except REFUSED as error:
            mend = mended(line)
            if mend:
                yield offset, line, fit(mend, shape)
            elif line.strip(BLANK):
                fault(offset, "not_json", str(error))
        offset += len(line)


class Silent:
    """The part of a decoder that has told everything with its events."""

    def detail(self, _line: bytes) -> Detail:
        """Nothing is left to say: what is worth telling of an event came with it."""
        return Detail()

    def usage(self, _line: bytes) -> None:
        """Nothing is left to say: every `usage` event has its tokens in `data.usage`."""


class Native(Silent):
    """The frame of a decoder of lines: a subclass says which events they are, one after the other."""

    def read(self, lines: list[bytes], offset: int, feed: Feed, fault: Faults) -> None:
        """Hand the events of `lines` to `feed`, which must take all of them; see `model.Format`.

        The kinds of fault: `not_json`, `no_type`, `no_session`, `no_time` and `unknown_type:<kind>`.
        """
        feed(self._items(lines, offset, fault))

    def _items(self, lines: list[bytes], offset: int, fault: Faults) -> Iterator[Item]:
        raise NotImplementedError


def remember(memory: dict[str, _Value], key: str, value: _Value) -> None:
    """Keep the value; where there are too many, the oldest key leaves."""
    memory[key] = value
    if len(memory) > REMEMBERED:
        del memory[next(iter(memory))]


def plus(one: Usage, other: Usage) -> Usage:
    """Add tokens, kind by kind, up to `MOST_TOKENS`."""
    return Usage(
        min(one.input + other.input, MOST_TOKENS),
        min(one.output + other.output, MOST_TOKENS),
        min(one.cache_read + other.cache_read, MOST_TOKENS),
        min(one.cache_write + other.cache_write, MOST_TOKENS),
        min(one.reasoning + other.reasoning, MOST_TOKENS),
    )


def growth(before: Usage, now: Usage) -> Usage:
    """What a running total has grown by, kind by kind; a kind that shrank has not grown."""
    written = max(0, now.cache_write - before.cache_write)
    return Usage(
        max(0, now.input - before.input),
        max(0, now.output - before.output),
        max(0, now.cache_read - before.cache_read),
        written,
        max(0, now.reasoning - before.reasoning),
        min(written, max(0, now.cache_write_1h - before.cache_write_1h)),
    )


def is_empty(raw: msgspec.Raw) -> bool:
    """Whether a JSON value is absent or says nothing: null, an empty string, list or object."""
    return len(raw) <= len('""') or raw == _NULL


def text(raw: msgspec.Raw) -> str:
    """Read the text of a JSON value: a string, or the texts of a list of parts, one below the other; empty for anything else."""
    with suppress(*REFUSED):
        return _decode_text(raw)
    value: object = None
    with suppress(ValueError, RecursionError):
        value = json.loads(bytes(raw).decode(errors="replace"))
    found = value if isinstance(value, list) else [value]
    texts = (part.get("text") if isinstance(part, dict) else part for part in found)
    return "\n".join(part for part in texts if isinstance(part, str)).encode(errors="replace").decode()


NO_USAGE = Usage()
_NULL = msgspec.Raw(b"null")
