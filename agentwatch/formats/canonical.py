"""The canonical stream: one event a line, as contract.md section 2 has it and as three writers of the ancestor wrote it."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

import msgspec
import orjson

from agentwatch.model import Context, Data, Event, Item, Usage

NAME = "canonical"

Feed = Callable[[Iterable[Item]], None]
Faults = Callable[[int, str, str], None]

_decode = msgspec.json.Decoder(Event).decode
_decode_context = msgspec.json.Decoder(Context).decode


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
            except msgspec.MsgspecError:
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
        except msgspec.MsgspecError:
            pass
        raw = _object(line)
        return Context(**{name: str(raw[name]) for name in Context.__struct_fields__ if isinstance(raw.get(name), str | int)})

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


def places(environ: Mapping[str, str], home: Path) -> list[Path]:
    """None of its own: the stream lies in the log directory."""
    return []


def _object(line: bytes) -> dict[str, object]:
    """The line's JSON object; empty where it is none."""
    try:
        raw = orjson.loads(_bare(line))
    except orjson.JSONDecodeError:
        return {}
    return raw if isinstance(raw, dict) else {}


def _bare(line: bytes) -> bytes:
    """Without what may stand round an object: NULs of a hole, the BOM that PowerShell puts at a file's start, white space."""
    return line.strip(b"\0\r\n\t ").removeprefix(b"\xef\xbb\xbf")


def _tokens(value: object) -> int:
    return max(0, int(value)) if isinstance(value, int | float) else 0


def _lenient(line: bytes, place: int, fault: Faults) -> Event | None:
    """The event of a line that the strict decoder refused, if it is one after all."""
    text = _bare(line)
    if not text:
        return None
    try:
        raw = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fault(place, "not_json", str(error))
        return None
    if not isinstance(raw, dict):
        fault(place, "not_an_object", type(raw).__name__)
        return None
    attempt_id, event_type, data = raw.get("attempt_id"), raw.get("event_type"), raw.get("data")
    if isinstance(attempt_id, int):
        attempt_id = str(attempt_id)
    for name, found in (("attempt_id", isinstance(attempt_id, str) and attempt_id), ("event_type", isinstance(event_type, str)), ("data", isinstance(data, dict))):
        if not found:
            fault(place, "missing_field", name)
            return None
    at = _time(raw.get("timestamp"))
    if at is None:
        fault(place, "missing_field", "timestamp")
        return None
    lane = raw.get("lane")
    return Event(at, attempt_id, event_type, _data(data), lane=lane if isinstance(lane, str) else None)


def _time(value: object) -> datetime | None:
    """What the strict decoder does not take: no zone (read as UTC), no seconds."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value.strip())
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _data(raw: dict[str, object]) -> Data:
    """Field by field: one of an unexpected type is read as text or number where that makes sense, else it counts as absent."""
    kept: dict[str, object] = {}
    for field in msgspec.structs.fields(Data):
        value = raw.get(field.name)
        if value is None:
            continue
        if field.type is msgspec.Raw:
            kept[field.name] = msgspec.Raw(orjson.dumps(value))
            continue
        if field.type == str | None and not isinstance(value, str):
            value = orjson.dumps(value).decode()
        try:
            kept[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError:
            continue
    return Data(**kept)  # type: ignore[arg-type]  # each value was converted to its field's type
