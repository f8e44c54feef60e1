"""The canonical stream: one event a line, as contract.md section 2 has it and as three writers of the ancestor wrote it."""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import accumulate
from math import isfinite
from typing import cast

import msgspec
import orjson

from agentwatch.model import Context, Detail, Event, Item, Kind, Time, Usage

NAME = "canonical"

Feed = Callable[[Iterable[Item]], None]
Faults = Callable[[int, str, str], None]


class _Said(msgspec.Struct, gc=False):
    data: Detail


_decode = msgspec.json.Decoder(Event).decode
_decode_detail = msgspec.json.Decoder(_Said).decode
_decode_context = msgspec.json.Decoder(Context).decode

REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the strict decoder raises for a line that it does not take."""


class Decoder:
    """Decodes a file of canonical events. Remembers nothing: each line stands for itself."""

    name = NAME
    memory = None

    def read(self, lines: list[bytes], offset: int, feed: Feed, fault: Faults) -> None:
        """The strict decoder takes whole runs of lines at C speed; a line it refuses is looked at alone, and the run goes on."""
        places, texts = accumulate(map(len, lines), initial=offset), iter(lines)
        decoded = map(_decode, iter(lines))
        while True:
            try:
                feed(zip(decoded, places, texts))  # noqa: B905  # the decoder raises before the others move, so that they stay in step
            except REFUSED:
                place, line = next(places), next(texts)
                event = _lenient(line, place, fault)
                if event is not None:
                    feed([(event, place, line)])
            else:
                return

    def context(self, line: bytes) -> Context:
        """Who the line speaks of; a field of an unexpected type counts as absent."""
        try:
            return _decode_context(line)
        except REFUSED:
            pass
        raw = _object(line)
        return Context(**{name: str(raw[name]) for name in Context.__struct_fields__ if isinstance(raw.get(name), str | int)})

    def detail(self, line: bytes) -> Detail:
        """The whole of the line's `data`."""
        try:
            return _decode_detail(line).data
        except REFUSED:
            data = _object(line).get("data")
            return _detail(data) if isinstance(data, dict) else Detail()

    def usage(self, line: bytes) -> Usage | None:
        """Tokens of a `usage` line whose `data` is the usage object of an SDK itself: Claude's, Codex's or the completions API's names."""
        data = _object(line).get("data")
        if not isinstance(data, dict):
            return None
        found = {ours: sum(_tokens(data.get(theirs)) for theirs in names) for ours, names in SDK_NAMES.items()}
        # Codex counts cached tokens as part of the input, Claude does not (formats.md, section 10).
        found["input"] -= min(found["input"], _tokens(data.get("cached_input_tokens")))
        return Usage(**found) if any(found.values()) else None


SDK_NAMES = {
    "input": ("input_tokens", "prompt_tokens"),
    "output": ("output_tokens", "completion_tokens"),
    "cache_read": ("cache_read_input_tokens", "cached_input_tokens"),
    "cache_write": ("cache_creation_input_tokens",),
    "reasoning": ("reasoning_output_tokens",),
}


def recognise(path: str, lines: list[bytes]) -> bool:
    """Whether one of a file's first lines is an event of this stream."""
    return any(b'"event_type"' in line and "attempt_id" in _object(line) for line in lines)


_DECODER = Decoder()


def decoder(_source: str, _memory: msgspec.Raw) -> Decoder:
    """Continue a stream: one for all of them, since it remembers nothing."""
    return _DECODER


def _object(line: bytes) -> dict[str, object]:
    """The line's JSON object; empty where it is none."""
    try:
        raw = _loads(_bare(line))
    except orjson.JSONDecodeError:
        return {}
    return raw if isinstance(raw, dict) else {}


def _bare(line: bytes) -> bytes:
    """Without what may stand round an object: NULs of a hole, the BOM that PowerShell puts at a file's start, white space."""
    return line.strip(b"\0\r\n\t ").removeprefix(b"\xef\xbb\xbf")


def _loads(text: bytes) -> object:
    """JSON with what other writers make of text that was cut: half a UTF-8 sequence, half an escaped pair of surrogates."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        mended = _SURROGATES.sub(_without_lone, text.decode("utf-8", "replace").encode())
        if mended == text:
            raise
        return orjson.loads(mended)


_SURROGATES = re.compile(rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})")


def _without_lone(found: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if found[1] else found[0]


def _tokens(value: object) -> int:
    return max(0, int(value)) if isinstance(value, int | float) else 0


def _lenient(line: bytes, place: int, fault: Faults) -> Event | None:
    """The event of a line that the strict decoder refused, if it is one after all."""
    text = _bare(line)
    if not text:
        return None
    try:
        raw = _loads(text)
    except orjson.JSONDecodeError as error:
        fault(place, "not_json", str(error))
        return None
    if not isinstance(raw, dict):
        fault(place, "not_an_object", type(raw).__name__)
        return None
    attempt_id, event_type, data, lane = raw.get("attempt_id"), raw.get("event_type"), raw.get("data"), raw.get("lane")
    at = _time(raw.get("timestamp"))
    if isinstance(attempt_id, int):
        attempt_id = str(attempt_id)
    if not isinstance(attempt_id, str) or not attempt_id:
        fault(place, "missing_field", "attempt_id")
    elif not isinstance(event_type, str):
        fault(place, "missing_field", "event_type")
    elif not isinstance(data, dict):
        fault(place, "missing_field", "data")
    elif at is None:
        fault(place, "missing_field", "timestamp")
    else:  # a type that we do not know is an event too: a sign of life
        return Event(at, attempt_id, cast("Kind", event_type), _detail(data), lane=lane if isinstance(lane, str) else None)
    return None


def _time(value: object) -> datetime | None:
    """The time that the strict decoder would read, to its rounding of a seventh digit; and what it does not take: no zone (read as UTC), no seconds."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    for spelling in (text, f"{text}Z"):
        with suppress(msgspec.ValidationError):
            return msgspec.convert(spelling, Time)
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _detail(raw: dict[str, object]) -> Detail:
    """Field by field: one of an unexpected type is read as text or number where that makes sense, else it counts as absent."""
    kept: dict[str, object] = {}
    for field in msgspec.structs.fields(Detail):
        value = raw.get(field.name)
        if value is None:
            continue
        try:
            if field.type is msgspec.Raw:
                kept[field.name] = msgspec.Raw(orjson.dumps(value))
                continue
            if field.type == str | None and not isinstance(value, str):
                value = orjson.dumps(value).decode()
            found = msgspec.convert(value, field.type, strict=False)
        except (msgspec.ValidationError, orjson.JSONEncodeError):  # not of its type, or nested deeper than 254 levels
            continue
        if not isinstance(found, float) or isfinite(found):  # "NaN" is a number to the converter
            kept[field.name] = found
    return Detail(**kept)  # type: ignore[arg-type]  # each value was converted to its field's type
