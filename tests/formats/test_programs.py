"""Programs' logs: Winston's JSON lines, Fluent Bit's files and plain text, whatever stands in them."""

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.core.engine import Engine
from agentwatch.core.limits import Limits
from agentwatch.formats import fluent_bit, plain_text, winston
from agentwatch.formats.program import LONGEST, MOST_TRACE_LINES, Memory, moment
from agentwatch.model import Alert, Context, Usage
from tests.formats.harness import CORPUS, decoded, line, lines_of, types

SOURCE = "runs/r1/worker.log"
MODULES = {"fluent-bit": fluent_bit, "winston": winston, "plain-text": plain_text}
FORMATS = {name: SimpleNamespace(Decoder=partial(module.Decoder, SOURCE), Memory=Memory, recognise=module.recognise) for name, module in MODULES.items()}
STAMP = "2026-02-09 10:00:00 "


def told_of(text, module=plain_text, source=SOURCE):
    """Say what a log makes of `text`: kind and words of each record, and the kinds of its faults."""
    lines = text.encode().splitlines(keepends=True) if isinstance(text, str) else text
    told = decoded(lines, module.Decoder(source))
    return [
        event["fault"] if "fault" in event else (event["event_type"], event["data"].get("error_message") or event["data"].get("output"))
        for event in told
        if event.get("event_type") not in ("turn_end", "progress")
    ]


@pytest.mark.parametrize(
    ("source", "attempt", "run"),
    [
        ("runs/r1/worker.log", "worker", "r1"),
        ("runs/r1/main-app.jsonl", "main-app", "r1"),
        ("runs/r1/api/worker.log", "api/worker", "r1"),
        ("worker.log", "worker", None),
        ("logs/worker.v2.log", "logs/worker.v2", None),
        ("runs/worker.log", "runs/worker", None),
    ],
)
def test_a_source_is_its_files_stem_within_its_run(source, attempt, run):
    """Contract, section 1."""
    decoder = plain_text.Decoder(source)
    (told, *_) = decoded([f"{STAMP}ERROR x\n".encode()], decoder)
    assert (told["attempt_id"], decoder.context(b"x")) == (attempt, Context(run_id=run))


TIMES = {
    "ISO": ("2026-02-09T10:00:00.5Z x", "10:00:00.500000+00:00"),
    "ISO with an offset": ("2026-02-09T12:00:00+02:00 x", "10:00:00+00:00"),
    "ISO with an offset without a colon": ("2026-02-09T12:00:00.000+0200 x", "10:00:00+00:00"),
    "python's logging": ("2026-02-09 10:00:00,123 - x", "10:00:00.123000+00:00"),
    "go's log": ("2026/02/09 10:00:00 x", "10:00:00+00:00"),
    "brackets": ("[2026-02-09 10:00:00] x", "10:00:00+00:00"),
    "UTC": ("2026-02-09 10:00:00.123 UTC [7] x", "10:00:00.123000+00:00"),
    "nanoseconds": ("2026-02-09T10:00:00.123456789Z x", "10:00:00.123456+00:00"),
    "logfmt": ('time="2026-02-09T10:00:00Z" level=info msg=x', "10:00:00+00:00"),
    "seconds since the epoch": ("1770631200.25 x", "10:00:00.250000+00:00"),
    "milliseconds since the epoch": ("1770631200250 x", "10:00:00.250000+00:00"),
    "a colour before it": ("\x1b[2m2026-02-09T10:00:00Z\x1b[0m x", "10:00:00+00:00"),
}


@pytest.mark.parametrize(("text", "expected_time"), TIMES.values(), ids=TIMES.keys())
def test_a_time_is_read_in_the_spellings_that_programs_have(text, expected_time):
    """Without a zone it is read as UTC: what the zone was is not in the log."""
    (event,) = decoded([text.encode() + b"\n"], plain_text.Decoder(SOURCE))
    assert event["timestamp"] == f"2026-02-09T{expected_time}"


@pytest.mark.parametrize("text", ["2026-02-30 10:00:00 x", "2026-13-01T00:00:00Z x", "Feb  9 10:00:00 host x", "no time at all", "12 x", "99999-01-01 x"])
def test_a_log_without_times_is_a_fault_and_no_event(text):
    """A guess would put an error into a window that it does not belong to."""
    assert told_of(text + "\n") == ["no_time"]


def test_a_line_without_a_time_has_that_of_the_line_before():
    """And says that it was inferred."""
    told = decoded([f"{STAMP}INFO x\n".encode(), b"Error: boom\n"], plain_text.Decoder(SOURCE))
    assert [(event["event_type"], event["timestamp"][11:19], event.get("inferred")) for event in told] == [
        ("agent_output", "10:00:00", None),
        ("error", "10:00:00", True),
        ("turn_end", "10:00:00", True),
    ]


LEVELS = {
    "python": ("app - ERROR - boom", "error", "boom"),
    "log4j": ("[main] ERROR com.example.A - boom", "error", "com.example.A - boom"),
    "spring": (" ERROR 123 --- [main] c.e.A : boom", "error", "123 --- [main] c.e.A : boom"),
    "brackets": ("[error] boom", "error", "boom"),
    "logfmt": ('level=fatal msg="boom"', "error", 'msg="boom"'),
    "colon": ("CRITICAL: boom", "error", "boom"),
    "coloured": ("\x1b[31mERROR\x1b[0m boom", "error", "boom"),
    "severe": ("SEVERE boom", "error", "boom"),
    "an exception without a level": ("TypeError: boom", "error", "TypeError: boom"),
    "a warning": ("WARN boom", "agent_output", "boom"),
    "info that speaks of errors": ("INFO got ERROR 5 from peer", "agent_output", "got ERROR 5 from peer"),
    "a lower-case word": ("no error here", "agent_output", "no error here"),
    "a longer word": ("ERRORS are counted", "agent_output", "ERRORS are counted"),
    "a count of none": ("error: 0", "agent_output", "error: 0"),
    "an answer": ("panic: false,", "agent_output", "panic: false,"),
    "a count of some": ("error: 10", "error", "error: 10"),
    "nothing": ("", "agent_output", ""),
}


@pytest.mark.parametrize(("text", "kind", "words"), LEVELS.values(), ids=LEVELS.keys())
def test_the_level_of_a_line_is_the_first_one_in_its_head(text, kind, words):
    """What is left is what it says."""
    ((told, said),) = told_of(f"{STAMP}{text}\n")
    assert (told, said or "") == (kind, words)


TRACE = 'Traceback (most recent call last):\n  File "a.py", line 1\n'
FRAME = 'Traceback (most recent call last):\n  File "a.py", line 1, in {}\n    x()\n'


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        pytest.param(f"ERROR x\n{TRACE}ValueError: v\n", ["x"], id="python, logged"),
        pytest.param(f"INFO x\n{TRACE}ValueError: v\n", ["ValueError: v"], id="python, not caught"),
        pytest.param(f"INFO x\n{TRACE}ValueError: v\n{TRACE}ValueError: v\n", ["ValueError: v"] * 2, id="python, crashing again and again"),
        pytest.param(f"INFO x\n{TRACE}KeyboardInterrupt\n", ["KeyboardInterrupt"], id="python, an exception without a text"),
        pytest.param(f"ERROR x\n{TRACE}A: a\n\nDuring handling of the above exception, another one\n\n{TRACE}B: b\n", ["x"], id="python, chained"),
        pytest.param("ERROR x\njava.io.IOException: y\n\tat a.b(C.java:1)\nCaused by: z.E: w\n\t... 3 more\n", ["x"], id="java, logged"),
        pytest.param(
            'INFO x\nException in thread "main" a.BException: y\n\tat a.b(C.java:1)\n', ['Exception in thread "main" a.BException: y'], id="java, not caught"
        ),
        pytest.param("INFO x\nTypeError: y\n    at f (a.js:1:2) {\n  code: 1\n}\n\nNode.js v20.1.0\n", ["TypeError: y"], id="node, not caught"),
        pytest.param("INFO x\npanic: y\n\ngoroutine 1 [running]:\nmain.main()\nexit status 2\n", ["panic: y"], id="go"),
        pytest.param("INFO x\nthread 'main' panicked at a.rs:1:2:\ny\nnote: run with RUST_BACKTRACE\n", ["thread 'main' panicked at a.rs:1:2:"], id="rust"),
        pytest.param("ERROR x\n  detail\nmore of it\n", ["x"], id="a message of several lines"),
        pytest.param(f"INFO x\n{FRAME.format('<module>')}ValueError: v\n", ["ValueError: v"], id="python, not caught by anybody"),
        pytest.param(
            f"INFO x\n{FRAME.format('f')}A: a\n\nDuring handling of the above exception, another one\n\n{FRAME.format('<module>')}B: b\n",
            ["B: b"],
            id="python, not caught, from one that was",
        ),
        pytest.param(f"INFO x\nException in thread T-1 (run):\n{FRAME.format('_bootstrap_inner')}ValueError: v\n", ["ValueError: v"], id="python, a thread"),
        pytest.param(f"INFO x\nProcess P-1:\n{FRAME.format('_bootstrap')}ValueError: v\n", ["ValueError: v"], id="python, a process"),
        pytest.param("WARN x\n/a/b.js:3\n    throw y\n    ^\n\nError: y\n    at f (b.js:3)\n\nNode.js v20.1.0\n", ["Error: y"], id="node, after a warning"),
        pytest.param("WARN x\nfatal: not a repository\n", ["fatal: not a repository"], id="a command's own words"),
    ],
)
def test_a_stack_trace_is_one_error(text, errors):
    """Told at the line that says what happened; the rest of the trace belongs to it."""
    assert [said for kind, said in told_of(STAMP + text) if kind == "error"] == errors


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING"])
@pytest.mark.parametrize(
    "trace",
    [
        pytest.param(f"{FRAME.format('f')}ValueError: v\n", id="python"),
        pytest.param(f"{FRAME.format('f')}A: a\n\nDuring handling of the above exception, another one\n\n{FRAME.format('g')}B: b\n", id="python, chained"),
        pytest.param("java.io.IOException: y\n\tat a.b(C.java:1)\nCaused by: z.EError: w\n\t... 3 more\n", id="java"),
    ],
)
def test_an_exception_that_was_caught_and_logged_is_no_failure(level, trace):
    """Whoever caught it has said how bad it is. Else every retry of a healthy program would page somebody."""
    assert [said for kind, said in told_of(f"{STAMP}{level} retrying\n{trace}{STAMP}INFO fine\n") if kind == "error"] == []


def test_a_warning_with_an_error_of_javascript_is_a_warning():
    """Its stack belongs to it."""
    assert [kind for kind, _ in told_of(f"{STAMP}warn x\n{STAMP}WARN y\nTypeError: z\n    at f (a.js:1)\n") if kind == "error"] == []


def trace_of(text, module=plain_text):
    """What is told to belong to failures, in order."""
    told = decoded(text.encode().splitlines(keepends=True), module.Decoder(SOURCE))
    return [event["data"]["output"] for event in told if event.get("event_type") == "progress"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"ERROR x\n{TRACE}ValueError: v\n", [*TRACE.replace("  ", "").splitlines(), "ValueError: v"], id="python, logged"),
        pytest.param("ERROR x\n\tat a.b(C.java:1)\nCaused by: z.E: w\n\n\t... 3 more\n", ["at a.b(C.java:1)", "Caused by: z.E: w", "... 3 more"], id="java"),
        pytest.param("ERROR x\n  \x1b[31mdetail\x1b[0m\nmore\n", ["detail", "more"], id="coloured lines of a message"),
        pytest.param("INFO x\n  detail\nmore\n", [], id="what belongs to no failure"),
        pytest.param(f"ERROR x\n  a\n{STAMP}INFO fine\n  b\n", ["a"], id="what belongs to the next record"),
    ],
)
def test_what_belongs_to_a_failure_is_told_line_by_line(text, expected):
    """Rules look at it: the cause often stands last. Nothing waits for the end of a trace."""
    assert trace_of(STAMP + text) == expected


def test_a_trace_that_never_ends_is_told_as_far_as_a_stack_can_be_deep():
    """What goes on for longer is some other output, in the middle of which a word may mean anything."""
    assert len(trace_of(f"{STAMP}ERROR x\n" + "\tat a.b(C.java:1)\n" * 10_000)) == MOST_TRACE_LINES


def test_a_restart_in_the_middle_of_a_trace_loses_nothing_of_it():
    """How much may still belong to the record is remembered."""
    decoder = plain_text.Decoder(SOURCE)
    decoded([f"{STAMP}ERROR x\n".encode(), b"  a\n"], decoder)
    again = plain_text.Decoder(SOURCE, msgspec.json.decode(msgspec.json.encode(decoder.memory), type=Memory))
    assert [event["data"]["output"] for event in decoded([b"  b\n"], again)] == ["b"]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"level": "error", "message": "m", "stack": "Error: m\n    at f"}, "stack: Error: m\n    at f"),
        ({"level": "error", "message": "m", "code": "E1", "err": {"cause": {"message": "the cause"}}}, "message: the cause\ncode: E1"),
        ({"level": "error", "message": "m", "errors": ["a a", {"x": "b b"}]}, "errors: a a\nx: b b"),
        ({"level": "error", "message": "m", "timestamp": "2026-02-09T10:00:00Z", "n": 1, "none": None, "empty": ""}, None),
        ({"level": "info", "message": "m", "code": "E1"}, None),
    ],
    ids=["a stack", "a cause below", "a list", "nothing more", "no failure"],
)
def test_all_that_a_json_record_of_a_failure_says_is_told(record, expected):
    """In whatever field: the message may only say that something failed."""
    text = json.dumps({"timestamp": "2026-02-09T10:00:00Z"} | record) + "\n"
    assert trace_of(text, winston) == ([expected] if expected else [])


def test_a_json_record_as_large_and_deep_as_it_likes_tells_no_more_than_a_record_may():
    """It is bounded, and what cannot be read again is left out."""
    deep: object = "x x"
    for _ in range(200):
        deep = {"a": [deep, "y y"]}
    (told,) = trace_of(json.dumps({"level": "error", "message": "m", "time": 1770631200, "deep": deep, "wide": ["z z"] * 100_000}) + "\n", winston)
    assert len(told) <= LONGEST


def test_a_programs_last_words_are_heard_at_once():
    """Nothing waits for what may follow: a crashed program writes nothing more."""
    assert told_of(f"{STAMP}INFO x\nTypeError: y\n")[-1] == ("error", "TypeError: y")


@pytest.mark.parametrize("levels", [("INFO",), ("INFO", "ERROR"), ("ERROR", "INFO")], ids="-".join)
def test_nobody_waits_for_a_program_that_has_nothing_to_log(levels):
    """It is not stuck, nor does it wait for its user, however long it is silent."""
    out: list[Alert] = []
    engine, decoder = Engine(Limits(waiting=timedelta(minutes=1)), lambda *_: None, None, pytest.fail), plain_text.Decoder(SOURCE)
    decoder.read([f"{STAMP}{level} x\n".encode() for level in levels], 0, lambda items: engine.feed(SOURCE, "runs/r1", items, decoder, out), pytest.fail)
    engine.finish(datetime(2026, 2, 10, tzinfo=UTC), out)
    assert out == []


def test_a_programs_silence_is_no_stall():
    """Nobody waits for an answer of a program."""
    told = decoded([f"{STAMP}INFO x\n".encode(), f"{STAMP}ERROR y\n".encode()], plain_text.Decoder(SOURCE))
    assert [(event["event_type"], event["data"].get("stop_reason") or event["data"].get("reason")) for event in told] == [
        ("agent_output", "log"),
        ("error", "log"),
        ("turn_end", "log"),
    ]


RECORDS = {
    "winston": ({"level": "error", "message": "boom"}, "error", "boom"),
    "syslog's names": ({"level": "crit", "message": "boom"}, "error", "boom"),
    "another case": ({"level": "ERROR", "message": "boom"}, "error", "boom"),
    "a stack alone": ({"level": "error", "stack": "Error: boom\n    at f"}, "error", "Error: boom"),
    "no message at all": ({"level": "error", "service": "a"}, "error", '{"timestamp": "2026-02-09T10:00:00Z", "level": "error", "service": "a"}'),
    "pino": ({"level": 50, "msg": "boom"}, "error", "boom"),
    "pino's error": ({"level": 60, "err": {"message": "boom", "stack": "Error: boom\n at f"}}, "error", "boom"),
    "pino's info": ({"level": 30, "msg": "fine"}, "agent_output", "fine"),
    "a number of syslog's": ({"level": 3, "message": "boom"}, "error", "boom"),
    "syslog's debug": ({"level": 7, "message": "fine"}, "agent_output", "fine"),
    "google's": ({"severity": "ERROR", "message": "boom"}, "error", "boom"),
    "logstash": ({"@message": "boom", "@fields": {"level": "error"}}, "error", "boom"),
    "an object for a message": ({"level": "info", "message": {"a": 1}}, "agent_output", '{"a": 1}'),
    "no level": ({"msg": "fine"}, "agent_output", "fine"),
    "a level that is none": ({"level": [1], "message": "fine"}, "agent_output", "fine"),
}


@pytest.mark.parametrize(("fields", "kind", "words"), RECORDS.values(), ids=RECORDS.keys())
def test_a_record_is_read_by_the_names_that_loggers_have(fields, kind, words):
    """Winston's, pino's, bunyan's, Logstash's, Google's."""
    assert told_of([line({"timestamp": "2026-02-09T10:00:00Z"} | fields)], winston) == [(kind, words)]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2026-02-09T10:00:00.000Z", 0),
        ("2026-02-09 10:00:01", 1),
        ("2026-02-09 10:00:01,500", 1.5),
        (1770631202, 2),
        (1770631202.5, 2.5),
        (1770631203000, 3),
        ("10:00", None),
        (True, None),
        ([1], None),
        (1e300, None),
        (None, None),
    ],
)
def test_a_records_time_may_be_a_text_or_a_number(value, seconds):
    """Seconds or milliseconds since the epoch; a text without a zone is UTC."""
    at = moment(msgspec.Raw(json.dumps(value).encode()))
    assert (at and at.timestamp()) == (None if seconds is None else 1770631200 + seconds)


@pytest.mark.parametrize("module", [winston, fluent_bit], ids=["winston", "fluent-bit"])
def test_a_crash_on_the_same_stream_is_read_as_text(module):
    """A program whose output was redirected writes both into one file."""
    first = line({"level": "info", "message": "up", "timestamp": "2026-02-09T10:00:00Z"})
    assert told_of([first, b"\n", b"TypeError: y\n", b"    at f (a.js:1:2)\n"], module) == [("agent_output", "up"), ("error", "TypeError: y")]


EVENT = {
    "timestamp": "2026-02-09T10:00:00Z",
    "attempt_id": "a1",
    "event_type": "session_start",
    "data": {"prompt": "Fix it", "usage": {"input": 1}},
    "executor": "CODEX",
}


@pytest.mark.parametrize("wrapped", [False, True], ids=["as it is", "shipped"])
def test_an_event_of_the_canonical_stream_is_that_event(wrapped):
    """A program's logger may carry them as metadata, and a shipper may have wrapped them."""
    text = line({"log": json.dumps(EVENT | {"level": "info"})}) if wrapped else line(EVENT | {"level": "info", "message": "x"})
    decoder, items, faults = fluent_bit.Decoder(SOURCE), [], []
    decoder.read([text], 7, items.extend, lambda *fault: faults.append(fault))
    ((event, offset, own),) = items
    assert (event.attempt_id, event.event_type, offset, faults) == ("a1", "session_start", 7, [])
    assert bytes(decoder.detail(own).prompt) == b'"Fix it"'
    assert decoder.context(own).executor == "CODEX"
    assert decoder.usage(own) is None
    assert event.data.usage == Usage(1)


def test_a_long_record_is_cut():
    """The line is still there for whoever wants all of it."""
    ((_, said),) = told_of(f"{STAMP}ERROR {'x' * 100_000}\n")
    assert len(said) == LONGEST


def test_a_default_line_may_have_any_tag():
    """It is split at the first place that looks like a time."""
    text = b'kube.var.log: a [b]: c.log: [1770631200.000000000, {"log":"x: [1.000000000, {}]"}]\n'
    assert fluent_bit.recognise("out", [text])
    assert told_of([text], fluent_bit) == [("agent_output", "x: [1.000000000, {}]")]


@pytest.mark.parametrize("name", MODULES)
@given(text=st.text("[]<>():=,.-/ \t\"'0129TZaeEX\x1b[m\\{}", max_size=200))
def test_any_text_of_the_signs_that_matter_is_survived(name, text):
    """Times, levels, brackets, in any order."""
    decoded([f"{STAMP}ERROR x\n".encode(), text.replace("\n", " ").encode() + b"\n"], FORMATS[name].Decoder())


@pytest.mark.parametrize("text", ["x " * 50_000, "a." * 50_000, "[" * 100_000, "A" * 100_000, '": [' * 30_000, "\x1b[" * 50_000, ": [1." * 30_000])
def test_a_hostile_line_takes_no_longer_than_it_is_long(text):
    """Every pattern is anchored and bounded: a quadratic one would take minutes here."""
    for name in MODULES:
        decoded([f"{STAMP}{text}\n".encode(), text.encode() + b"\n"], FORMATS[name].Decoder())


@pytest.mark.parametrize(
    ("path", "lines", "name"),
    [
        ("a.log", [line({"level": "info", "message": "x"})], "winston"),
        ("a.jsonl", [line({"foo": 1}), line({"level": 30, "msg": "x"})], "winston"),
        ("a.log", [b"> app@1.0.0 start\n", line({"level": "info", "message": "x"})], "winston"),
        ("a.jsonl", [line({"severity": "INFO", "message": "x"})], "winston"),
        ("a.log", [line({"date": 1770631200.5, "log": "x"})], "fluent-bit"),
        ("a.log", [b'app: [1770631200.000000000, {"log":"x"}]\n'], "fluent-bit"),
        ("a.log", [f"{STAMP}x\n".encode()], "plain-text"),
        ("a.log.1", [f"{STAMP}x\n".encode()], "plain-text"),
        ("a-20260209.log.gz", [f"{STAMP}x\n".encode()], "plain-text"),
        ("a.jsonl", [f"{STAMP}x\n".encode()], None),
        ("a.log", [b"\n"], None),
        ("a.log", [b"\x00\x01\x02\n"], None),
        ("a.log", [b"// a comment\n", line({"foo": 1})], None),
        ("a.jsonl", [line({"type": "session", "id": "x"})], None),
        ("a.log", [], None),
    ],
)
def test_a_log_is_known_by_its_lines(path, lines, name):
    """Text is the last guess, and only for what is called a log."""
    assert next((name for name, module in MODULES.items() if module.recognise(path, lines)), None) == name


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real sessions is not beside the project")
def test_what_winston_wrote_is_read():
    """Without `format.timestamp()` its lines have no time."""
    for path in sorted((CORPUS / "gen" / "winston").glob("*.log")):
        assert winston.recognise(str(path), lines_of(path)), path.name
        kinds = types(decoded(lines_of(path), winston.Decoder(SOURCE)))
        assert (kinds.count("error"), kinds.count("agent_output"), kinds.count("no_time")) == ((0, 0, 7) if path.stem == "default" else (3, 4, 0)), path.name
