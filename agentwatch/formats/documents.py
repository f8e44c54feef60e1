"""What formats do alike whose files are no append-only lines: documents that are rewritten whole, folders of numbered files, databases.

Each decoder remembers what it told, and tells what is new. What was told is known by content: how many elements there were, and
what was said of the last ones, which may still change.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from agentwatch.formats.lenient import REFUSED, fit
from agentwatch.formats.shared import Fact, Faults, Feed, Silent, remember
from agentwatch.model import Context, Detail, Event, Item, Usage

WINDOW = 16
"""So many elements at the end of a document may still change. Cline fills in a request's tokens behind what came of that request: up to
ten elements later in its own recordings."""

Question = tuple[str, tuple[object, ...]]
"""A statement of SQL and its parameters."""

Ask = Callable[[Sequence[Question]], list[list[tuple[Any, ...]]]]
"""The rows that each of some questions brings, all of the same state of the database."""

Files = list[tuple[int, bytes]]
"""Numbered files in the order of their numbers, each with its content."""


class Origin(NamedTuple):
    """Of which source a document or a database is, and when it was written last. What a database has of before `since` is history that nobody wants to be alerted about."""

    source: str
    written: datetime
    since: datetime


class Whole(Protocol):
    """How a document, a folder or a database becomes events. Compare `model.Format`, of which it differs in `read` alone."""

    @property
    def name(self) -> str: ...

    @property
    def memory(self) -> object: ...

    def read(self, said: Any, feed: Feed, fault: Faults) -> int | None:
        """Hand the events of what is new to `feed`. The place of an event is the index of its element, the number of its file or the id of its row.

        `said` is a document's bytes, a folder's new files, or a way to ask a database. Told is how many elements, files or rows there were
        that had to be looked at: of files those up to the first that is not whole yet, None for a document that is not. Nothing is
        raised for what they hold; what `said` raises when it is asked passes through, and what was told until then stays told.
        """

    @property
    def place(self) -> int:
        """How far it was read: the index behind the last element, or the id of the last row."""

    def context(self, line: bytes) -> Context: ...

    def detail(self, line: bytes) -> Detail: ...

    def usage(self, line: bytes) -> Usage | None: ...


class Told(NamedTuple):
    """A fact with its time, its place and the text that it was read from."""

    at: datetime
    session: str
    context: Context
    fact: Fact
    place: int
    line: bytes


class Speaker(Silent):
    """A decoder whose events all speak of one at a time. Subclasses set `speaker` to whom an event speaks of before they hand it out."""

    speaker: Context

    def context(self, _line: bytes) -> Context:
        return msgspec.structs.replace(self.speaker)

    def items(self, told: Iterable[Told]) -> Iterator[Item]:
        """Their events, in the order of their times."""
        for one in sorted(told, key=lambda one: one.at):
            self.speaker = one.context
            yield Event(one.at, one.session, *one.fact), one.place, one.line


_Shape = TypeVar("_Shape", bound=msgspec.Struct)
_Known = TypeVar("_Known", bound=msgspec.Struct)
_Any = TypeVar("_Any")


class Elements(msgspec.Struct):
    """Which elements of a document were told: there were `count`, the newest is of the time `newest`."""

    count: int = 0
    newest: float = 0.0


def changing(
    memory: Elements, told: dict[str, _Known], new: Callable[[], _Known], elements: Sequence[_Any], identify: Callable[[int, _Any], tuple[str, float]]
) -> Iterator[tuple[int, _Any, _Known]]:
    """Yield the elements that are new or may have changed, each with its index and with what is remembered of it in `told`.

    `identify` gives an element's key and its time, which tells what is new where a document became shorter: what is no newer than
    anything told before was told, too.
    """
    before = memory.count
    for index in range(max(0, min(before, len(elements)) - WINDOW), len(elements)):
        element = elements[index]
        key, time = identify(index, element)
        state = told.get(key)
        if state is None:
            if index < before and time <= memory.newest:
                continue
            state = new()
            remember(told, key, state)
            while len(told) > WINDOW:
                del told[next(iter(told))]
        memory.newest = max(memory.newest, time)
        yield index, element, state
    memory.count = len(elements)


def parsed(text: bytes, decode: Callable[[bytes], _Shape], shape: type[_Shape]) -> _Shape | None:
    """As much of a document's object as fits `shape`; None where it is not whole: empty, cut, half written."""
    try:
        return decode(text)
    except REFUSED:
        value = _loads(text)
    return fit(_dumps(value), shape) if isinstance(value, dict) else None


def listed(text: bytes) -> list[msgspec.Raw] | None:
    """The elements of a document that is a list; None where it is not whole."""
    try:
        return _decode_list(text)
    except REFUSED:
        value = _loads(text)
    return [msgspec.Raw(_dumps(element)) for element in value] if isinstance(value, list) else None


def element(raw: msgspec.Raw | bytes, decode: Callable[[bytes], _Shape], shape: type[_Shape]) -> tuple[bytes, _Shape]:
    """An element's own bytes, and as much of it as fits `shape`. What is kept of it keeps its own bytes alive, and not the document's."""
    line = bytes(raw)
    try:
        return line, decode(line)
    except REFUSED:
        return line, fit(line, shape)


def at_ms(milliseconds: float | None) -> datetime | None:
    """A time from milliseconds since the epoch; None where that is none."""
    return at_s(milliseconds / 1000) if milliseconds is not None else None


def at_s(seconds: float | None) -> datetime | None:
    """A time from seconds since the epoch; None where that is none."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None
    except (ValueError, OverflowError, OSError):
        return None


def as_int(value: object) -> int:
    """A database's column as a number, 0 where it is none: it may hold anything, whatever its table says."""
    return value if isinstance(value, int) else 0


def as_text(value: object) -> str:
    """A database's column as text, empty where there is none."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def as_bytes(value: object) -> bytes:
    """A database's column as it stands there, empty where it is no text."""
    return value if isinstance(value, bytes) else b""


def _loads(text: bytes) -> object:
    try:
        return json.loads(text.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None


def _dumps(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="replace")
    except (ValueError, RecursionError):  # NaN is no JSON; nested too deeply
        return b"null"


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
