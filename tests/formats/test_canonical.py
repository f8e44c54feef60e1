"""The canonical stream: three writers' schemas, and whatever else stands between their lines."""

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentwatch.formats import canonical
from agentwatch.formats.canonical import Decoder
from agentwatch.model import Context, Data, Detail, Usage

AT = "2026-02-09T10:00:00Z"


def read(lines, offset=0):
    """Say what a decoder makes of `lines`, in their order: events as plain values, and faults."""
    told = []

    def feed(items):
        for event, place, line in items:
            assert line in lines
            said = event.data if isinstance(event.data, Detail) else Decoder().detail(line)
            assert all(getattr(said, name) == getattr(event.data, name) for name in Data.__struct_fields__)
            data = {name: plain(value) for name in Detail.__struct_fields__ if (value := getattr(said, name)) not in (None, msgspec.Raw(b""))}
            marks = {"lane": event.lane} if event.lane else {}
            told.append(
                {
                    "offset": place,
                    "event_type": event.event_type,
                    "attempt_id": event.attempt_id,
                    "timestamp": event.timestamp.isoformat(),
                    **marks,
                    "data": data,
                }
            )

    Decoder().read(lines, offset, feed, lambda place, kind, detail: told.append({"offset": place, "fault": kind, "detail": detail}))
    return told


def plain(value):
    return json.loads(bytes(value).decode(errors="replace")) if isinstance(value, msgspec.Raw) else msgspec.to_builtins(value)


def row(data=None, **fields):
    return json.dumps({"timestamp": AT, "attempt_id": "a1", "event_type": "error", "data": data or {}} | fields).encode() + b"\n"


def only(told):
    (one,) = told
    return one


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b"event_type attempt_id\n", b'{"level":"error","message":"x"}\n', b'["event_type","attempt_id"]\n'])
def test_other_files_are_not(line):
    """An object with an attempt and a type it must be."""
    assert not canonical.recognise("x.jsonl", [line])


TIMES = {
    "no fraction": (AT, AT),
    "1 digit": ("2026-02-09T10:00:00.5Z", "2026-02-09T10:00:00.500000Z"),
    "milliseconds": ("2026-02-09T10:00:00.123Z", "2026-02-09T10:00:00.123000Z"),
    "microseconds": ("2026-02-09T10:00:00.123456Z", "2026-02-09T10:00:00.123456Z"),
    "7 digits of .NET": ("2026-02-09T10:00:00.1234560Z", "2026-02-09T10:00:00.123456Z"),
    "an offset": ("2026-02-09T12:00:00+02:00", AT),
    "an offset before UTC": ("2026-02-09T04:30:00.000-05:30", AT),
    "a small z": ("2026-02-09t10:00:00z", AT),
    "a space": ("2026-02-09 10:00:00Z", AT),
    "no zone": ("2026-02-09T10:00:00", AT),
    "no seconds": ("2026-02-09T10:00Z", AT),
    "white space round it": (" 2026-02-09T10:00:00Z ", AT),
}


@pytest.mark.parametrize(("text", "expected"), TIMES.values(), ids=TIMES.keys())
def test_a_time_is_read_in_all_its_spellings(text, expected):
    """ISO 8601 with any offset; none means UTC."""
    assert datetime.fromisoformat(only(read([row(timestamp=text)]))["timestamp"]) == datetime.fromisoformat(expected)


@pytest.mark.parametrize("zone", ["Z", "+02:00", ""])
@given(fraction=st.text("0123456789", min_size=1, max_size=7))
def test_what_stands_round_a_line_does_not_change_its_time(zone, fraction):
    """PowerShell writes seven digits, and a mark before the first line of a file: that line must not be of another microsecond."""
    line = row(timestamp=f"2026-02-09T10:00:00.{fraction}{zone}")
    assert only(read([b"\xef\xbb\xbf" + line]))["timestamp"] == only(read([line]))["timestamp"]


@given(at=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), minutes=st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001  # hypothesis wants naive bounds
def test_a_time_means_the_same_moment_in_every_zone(at, minutes):
    """Of any offset."""
    moment = at.replace(tzinfo=UTC)
    shifted = (at + timedelta(minutes=minutes)).isoformat() + f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    assert datetime.fromisoformat(only(read([row(timestamp=shifted)]))["timestamp"]) == moment


NO_EVENTS = {
    "no JSON": (b"hello\n", "not_json"),
    "half a line": (b'{"timestamp": "2026\n', "not_json"),
    "two objects": (row()[:-1] + row(), "not_json"),
    "NaN": (row({"cost_usd": float("nan")}), "not_json"),
    "a list": (b"[1]\n", "not_an_object"),
    "a string": (b'"x"\n', "not_an_object"),
    "null": (b"null\n", "not_an_object"),
    "no timestamp": (b'{"attempt_id":"a","event_type":"error","data":{}}\n', "missing_field"),
    "no time": (row(timestamp="yesterday"), "missing_field"),
    "second 60": (row(timestamp="2026-02-09T10:00:60Z"), "missing_field"),
    "a day that is not": (row(timestamp="2026-02-30T10:00:00Z"), "missing_field"),
    "a number for a time": (row(timestamp=1_770_000_000), "missing_field"),
    "no attempt": (row(attempt_id=None), "missing_field"),
    "a list for an attempt": (row(attempt_id=[1]), "missing_field"),
    "no type": (row(event_type=None), "missing_field"),
    "no data": (json.dumps({"timestamp": AT, "attempt_id": "a", "event_type": "error"}).encode() + b"\n", "missing_field"),
    "null for data": (row().replace(b'"data": {}', b'"data": null'), "missing_field"),
    "text for data": (row().replace(b'"data": {}', b'"data": "x"'), "missing_field"),
    "endless nesting": (b"[" * 100_000 + b"]" * 100_000 + b"\n", "not_json"),
    "a number without end": (row({"exit_code": 1})[:-4] + b"9" * 5000 + b"}}\n", "not_json"),
}


@pytest.mark.parametrize(("line", "kind"), NO_EVENTS.values(), ids=NO_EVENTS.keys())
def test_a_line_that_is_no_event_is_a_fault_with_its_place(line, kind):
    """And those before and behind are read as if it were not there."""
    before, behind = row(), row({"error_message": "x"})
    told = read([before, line, behind], 1000)
    assert [one.get("fault") for one in told] == [None, kind, None]
    assert [one["offset"] for one in told] == [1000, 1000 + len(before), 1000 + len(before) + len(line)]


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"   \n", b"\0\0\0\0\n", b"\xef\xbb\xbf\r\n", b"\t\n"])
def test_an_empty_line_is_nothing(line):
    """Blank lines and the zeros that a crash leaves are neither events nor faults."""
    assert [one["offset"] for one in read([row(), line, row()])] == [0, len(row()) + len(line)]


@pytest.mark.parametrize("around", [(b"\xef\xbb\xbf", b""), (b"\0" * 5000, b""), (b"", b"\0" * 10), (b"\0\0\xef\xbb\xbf  ", b" \r"), (b"", b"\r")])
def test_what_stands_round_an_object_does_not_hide_it(around):
    """A mark of byte order, the zeros of a hole, carriage returns."""
    line = around[0] + row()[:-1] + around[1] + b"\n"
    assert only(read([line]))["event_type"] == "error"


FIELDS = {
    "a number as text": ({"duration_ms": "3377"}, {"duration_ms": 3377.0}),
    "an integer as text": ({"exit_code": "1"}, {"exit_code": 1}),
    "truth as text": ({"is_error": "true"}, {"is_error": True}),
    "truth as a number": ({"is_error": 1}, {"is_error": True}),
    "a number for text": ({"error_message": 404}, {"error_message": "404"}),
    "an object for text": ({"error_message": {"code": 1}}, {"error_message": '{"code":1}'}),
    "a list for a number": ({"exit_code": [1]}, {}),
    "words for a number": ({"cost_usd": "much", "exit_code": 1.0}, {"exit_code": 1}),
    "not a number as text": ({"cost_usd": "NaN", "duration_ms": "inf", "exit_code": "x"}, {}),
    "text for usage": ({"usage": "12", "exit_code": 0}, {"exit_code": 0}),
    "nulls": (dict.fromkeys(Detail.__struct_fields__), {"tool_params": None, "result": None, "result_data": None, "output": None, "prompt": None}),
    "text for an outcome": ({"outcome": "completed"}, {}),
    "unknown fields": ({"anything": {"at": ["all"]}, "exit_code": 0}, {"exit_code": 0}),
    "any JSON for parameters": ({"tool_params": [1, {"a": None}], "exit_code": "0"}, {"tool_params": [1, {"a": None}], "exit_code": 0}),
}


@pytest.mark.parametrize(("data", "expected"), FIELDS.values(), ids=FIELDS.keys())
def test_a_field_of_another_type_is_read_where_that_makes_sense(data, expected):
    """Else it counts as absent; the event stands."""
    assert only(read([row(data)]))["data"] == expected


def test_an_attempt_may_be_a_number():
    """It is told as text."""
    assert only(read([row(attempt_id=7)]))["attempt_id"] == "7"


def test_a_type_that_nobody_knows_is_an_event():
    """A newer writer's: it shows that the attempt lives."""
    assert only(read([row(event_type="heartbeat")]))["event_type"] == "heartbeat"


def test_of_a_key_that_stands_twice_the_last_counts():
    """As with every JSON reader of the writers' languages."""
    line = row()[:-2] + b',"attempt_id":"a2"}\n'
    assert only(read([line]))["attempt_id"] == "a2"


TEXTS = {
    "half a UTF-8 sequence": (b"caf\xc3", "caf\ufffd"),
    "Latin-1": (b"caf\xe9!", "caf\ufffd!"),
    "half a pair of surrogates": (rb"cut \ud83d", "cut \ufffd"),
    "the other half": (rb"\ude00 cut", "\ufffd cut"),
    "a whole pair": (rb"\ud83d\ude00", "\U0001f600"),
    "a pair beside a half": (rb"\ud83d\ude00\ud83d", "\U0001f600\ufffd"),
    "a path that looks like one": (rb"C:\\ud83d", "C:\\ud83d"),
    "a path before a half": (rb"C:\\\ud83d", "C:\\\ufffd"),
    "a zero": (rb"a\u0000b", "a\0b"),
}


@pytest.mark.parametrize(("text", "expected"), TEXTS.values(), ids=TEXTS.keys())
def test_text_that_was_cut_in_a_character_is_text(text, expected):
    """Writers cut long texts by bytes or by UTF-16 units; the error is one all the same, and what is kept encodes to UTF-8."""
    line = row({"error_message": "@"}).replace(b"@", text)
    message = only(read([line]))["data"]["error_message"]
    assert message == expected
    assert message.encode()


@pytest.mark.parametrize("field", ["output", "tool_params", "unknown"])
def test_what_nobody_reads_may_be_anything(field):
    """Text that is no text, in a field that is not looked at, costs nothing."""
    assert only(read([row({field: "@"}).replace(b"@", b"\xff\xfe")]))["event_type"] == "error"


@pytest.mark.parametrize("depth", [100, 250, 255, 300, 900, 990, 1000, 1020, 2000])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["strict", "lenient"])
def test_nesting_ends_in_an_event_or_a_fault(depth, start):
    """At any depth."""
    line = start + row({"tool_params": "@"}).replace(b'"@"', b"[" * depth + b"]" * depth)
    assert {"event_type", "fault"} & set(only(read([line])))


USAGES = {
    "Codex": ({"input_tokens": 1000, "cached_input_tokens": 400, "output_tokens": 50, "reasoning_output_tokens": 20}, Usage(600, 50, 400, 0, 20)),
    "Claude": ({"input_tokens": 10, "cache_read_input_tokens": 400, "cache_creation_input_tokens": 30, "output_tokens": 50}, Usage(10, 50, 400, 30)),
    "completions": ({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105}, Usage(100, 5)),
    "more cached than input": ({"input_tokens": 10, "cached_input_tokens": 40}, Usage(0, 0, 40)),
    "negative": ({"input_tokens": -5, "output_tokens": 7}, Usage(0, 7)),
    "text": ({"input_tokens": "many"}, None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize(("data", "expected"), USAGES.values(), ids=USAGES.keys())
def test_tokens_are_read_in_the_words_of_each_sdk(data, expected):
    """Codex counts cached tokens as input, Claude does not."""
    assert Decoder().usage(row(data, event_type="usage")) == expected


def test_who_a_line_speaks_of():
    """Fields of an unexpected type count as absent, numbers as text."""
    who = {"session_id": "s", "task_id": "T", "task_title": "t", "project_id": "p", "executor": "codex", "model": "m", "branch": "b", "run_id": "r"}
    assert Decoder().context(row(**who)) == Context(**who)
    assert Decoder().context(row(task_id=7, model=["m"], branch=None)) == Context(task_id="7")
    assert Decoder().context(b"no JSON\n") == Context()
    assert Decoder().context(b"\xff" + row()) == Context()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
VALID = st.builds(
    lambda at, kind, data, extra: {"timestamp": at.isoformat() + "Z", "attempt_id": "a1", "event_type": kind, "data": data, **extra},
    st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001  # hypothesis wants naive bounds
    st.sampled_from(["session_start", "tool_call", "tool_result", "error", "agent_output", "usage"]),
    st.fixed_dictionaries(
        {},
        optional={
            "tool_name": st.none() | st.text(),
            "tool_call_id": st.text(),
            "tool_params": PLAIN,
            "result": PLAIN,
            "is_error": st.none() | st.booleans(),
            "exit_code": st.integers(-(2**31), 2**31),
            "error_message": st.text(),
            "cost_usd": st.floats(0, 1e6),
            "output": st.text(),
            "something": PLAIN,
        },
    ),
    st.fixed_dictionaries({}, optional={"executor": st.text(), "lane": st.text(min_size=1), "something": PLAIN}),
)


@given(rows=st.lists(VALID, max_size=6), ascii_only=st.booleans(), mark=st.booleans(), bad=st.lists(st.integers(0, 6), max_size=3))
def test_valid_lines_say_what_a_slow_reader_finds_in_them(rows, ascii_only, mark, bad):
    """`json.loads` and nothing else, with bad lines anywhere between."""
    lines = [json.dumps(one, ensure_ascii=ascii_only).encode() + b"\n" for one in rows]
    for at in sorted(bad, reverse=True):
        lines.insert(at, b"bad\n")
    if mark and lines:
        lines[0] = b"\xef\xbb\xbf" + lines[0]
    expected, place = [], 0
    for line in lines:
        if line.removeprefix(b"\xef\xbb\xbf") != b"bad\n":
            found = json.loads(line.decode("utf-8-sig"))
            data = {name: value for name, value in found["data"].items() if name in Detail.__struct_fields__}
            expected.append((place, found["event_type"], datetime.fromisoformat(found["timestamp"]), found.get("lane"), data))
        place += len(line)
    told = [one for one in read(lines) if "fault" not in one]
    assert len(read(lines)) == len(lines)
    assert [one["offset"] for one in told] == [one[0] for one in expected]
    for one, (_, kind, at, lane, data) in zip(told, expected, strict=True):
        assert (one["event_type"], datetime.fromisoformat(one["timestamp"]), one.get("lane")) == (kind, at, lane)
        unsaid = {name for name, value in data.items() if value is None}
        assert {name: value for name, value in one["data"].items() if value is not None} == {name: value for name, value in data.items() if name not in unsaid}


@given(line=st.binary(max_size=200), cut=st.integers(0, 200), value=st.binary(max_size=8))
@example(line=b"", cut=0, value=b"")
def test_no_bytes_raise(line, cut, value):
    """Any bytes, and any damage to a good line: each line is an event, a fault, or nothing."""
    good = row({"error_message": "boom", "tool_params": {"a": [1, 2]}, "usage": {"input": 3}}, lane="s1")
    damaged = good[:cut] + value + good[cut + len(value) :]
    lines = [one.replace(b"\n", b"") + b"\n" for one in (line, damaged)]
    told = read([lines[0], good, lines[1], good])
    assert sum(one["offset"] in (len(lines[0]), len(lines[0]) + len(good) + len(lines[1])) for one in told) == 2
    for one in lines:
        Decoder().context(one)
        Decoder().usage(one)
        canonical.recognise("x", [one])
