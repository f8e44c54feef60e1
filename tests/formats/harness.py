"""What the tests of the native formats do alike: decode, restart between lines, break lines, count, find the corpus."""

import csv
import json
from pathlib import Path

import msgspec
from hypothesis import strategies as st

from agentwatch.model import Data, Detail, Usage

CORPUS = Path(__file__).parents[2].parent / "shared" / "data" / "formats"
GOLDEN = Path(__file__).parent / "golden"

TEXTS = st.text('aé\n"\\\0\x1b<[😀', max_size=8)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def decoded(lines, decoder, offset=0):
    """Say what a decoder makes of `lines`, as plain values in the order of the lines: events and faults."""
    told = []

    def feed(items):
        for event, at, line in items:
            said = whole(event.data, line, decoder)
            data = {name: plain(getattr(said, name)) for name in said.__struct_fields__ if getattr(said, name) not in (None, msgspec.Raw(b""))}
            marks = {"lane": event.lane} if event.lane else {}
            marks |= {"inferred": True} if event.inferred else {}
            told.append(
                {"offset": at, "event_type": event.event_type, "attempt_id": event.attempt_id, "timestamp": event.timestamp.isoformat(), **marks, "data": data}
            )
            assert line in lines

    decoder.read(lines, offset, feed, lambda at, kind, detail: told.append({"offset": at, "fault": kind, "detail": detail}))
    return told


def whole(data, line, decoder):
    """All that an event says: what its data leaves out, its format says of the line."""
    if isinstance(data, Detail):
        return data
    detail = decoder.detail(line)
    for name in Data.__struct_fields__:
        setattr(detail, name, getattr(data, name))
    return detail


def plain(value):
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value).decode(errors="replace"))
    said = msgspec.to_builtins(value)
    if isinstance(value, Usage) and not value.cache_write_1h:  # one agent's only
        del said["cache_write_1h"]
    return said


def types(told):
    return [event.get("event_type") or event["fault"] for event in told]


def of_type(told, kind):
    return [event["data"] for event in told if event.get("event_type") == kind]


def usages(told):
    return [event["data"]["usage"] for event in told if "usage" in event.get("data", {})]


def line(value):
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


@st.composite
def broken_lines(draw, lines):
    """Break a real line: one to three parts of it replaced or renamed, or some of its bytes."""
    text = draw(st.sampled_from(lines))
    if draw(st.booleans()):
        torn = bytearray(text)
        at = draw(st.integers(0, len(torn)))
        torn[at : at + draw(st.integers(0, 40))] = draw(st.binary(max_size=10))
        return bytes(torn).replace(b"\n", b" ") + b"\n"
    value = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        places = list(members(value))
        parent, key = places[draw(st.integers(0, len(places) - 1))]
        if draw(st.booleans()):
            parent[key] = draw(JSON_VALUES)
        elif isinstance(parent, dict):
            parent[f"{key}2"] = parent.pop(key)
    return json.dumps(value).encode() + b"\n"


def members(value):
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key
        yield from members(inner)


def corpus(*folders):
    """Yield the rows of the corpus' index for an agent's JSON lines, each with the path of its file."""
    for index in (CORPUS / "INDEX.tsv", CORPUS / "gen" / "GEN_INDEX.tsv"):
        if index.exists():
            with index.open() as rows:
                for row in csv.DictReader(rows, delimiter="\t"):
                    half, _, rest = row["file"].partition("/")
                    path = CORPUS / row["file"]
                    if rest.partition("/")[0] in folders and path.suffix == ".jsonl" and path.exists():
                        yield f"{half}/{path.name[:2]}", row, path


def counts(told):
    """Count what the index has references of. Its input includes what came from the cache."""
    spent = usages(told)
    return {
        "ref_tool_calls": len(of_type(told, "tool_call")),
        "ref_tool_errors": sum(data.get("is_error", False) for data in of_type(told, "tool_result")),
        "ref_api_errors": len(of_type(told, "error")),
        "ref_tok_in": sum(usage["input"] + usage["cache_read"] + usage["cache_write"] for usage in spent),
        "ref_tok_out": sum(usage["output"] for usage in spent),
        "ref_tok_cache_read": sum(usage["cache_read"] for usage in spent),
    }


def differences(row, told):
    """Name the columns in which the index has another count than we: ours."""
    return {column: count for column, count in counts(told).items() if row.get(column) and str(count) != row[column]}
