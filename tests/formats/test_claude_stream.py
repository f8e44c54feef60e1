"""What `claude -p --output-format stream-json` prints."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.formats.claude_stream import Decoder, Memory, recognise

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
ABOUT = {"session_id": "s1", "uuid": "u1"}
INIT = {"type": "system", "subtype": "init", "cwd": "/w", "tools": ["Bash"], "model": "claude-sonnet-4-5", **ABOUT}
USAGE = {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 1}
MESSAGE = {"id": "msg_1", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": None, "usage": USAGE}
CALL = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "Exit code 2\nno such file here", "is_error": True}
DONE = {"type": "result", "subtype": "success", "is_error": False, "result": "done", "total_cost_usd": 0.5, "usage": USAGE, **ABOUT}
END = {"type": "result", "subtype": "success", "is_error": False, "result": "done", **ABOUT}
SAYS = {"type": "text", "text": "I will look."}


def says(*content, **more):
    return {"type": "assistant", "message": MESSAGE | {"content": list(content)}, "parent_tool_use_id": None, **ABOUT} | more


def hears(*content, **more):
    return {"type": "user", "message": {"role": "user", "content": list(content)}, "parent_tool_use_id": None, **ABOUT} | more


def read(*entries, time=AT):
    """Events and faults of a stream that is printed at `time`."""
    decoder, told = Decoder(Memory(time=time)), []
    lines = [entry if isinstance(entry, bytes) else json.dumps(entry).encode() + b"\n" for entry in entries]
    decoder.read(lines, 0, lambda items: told.extend(event for event, _, _ in items), lambda place, kind, detail: told.append(kind))
    return told


def test_a_run_becomes_events():
    """From its first line to its last; tokens count once, though each line of a message repeats them."""
    told = read(INIT, says(SAYS), says(CALL), hears(RESULT), DONE)
    assert [event.event_type for event in told] == ["session_start", "agent_output", "tool_call", "tool_result", "turn_end"]
    assert {event.attempt_id for event in told} == {"s1"}
    assert {event.timestamp for event in told} == {AT}
    assert all(event.inferred for event in told)
    start, output, call, result, _ = told
    assert output.data.usage.output == 20
    assert call.data.usage is None
    assert (result.data.tool_name, result.data.is_error, result.data.exit_code) == ("Bash", True, 2)
    assert start.data.prompt_type == "initial"


def test_who_it_is_stands_on_the_first_line():
    """And is known on all others."""
    decoder = Decoder(Memory(time=AT))
    decoder.read([json.dumps(INIT).encode()], 0, list, lambda *_: None)
    context = decoder.context(json.dumps(DONE).encode())
    assert (context.session_id, context.project_id, context.executor, context.model) == ("s1", "/w", "CLAUDE", "claude-sonnet-4-5")


def test_a_sub_agent_is_a_lane():
    """Known by the call that started it."""
    told = read(INIT, says(CALL, parent_tool_use_id="t9"))
    assert told[-1].lane == "t9"


def test_a_run_that_failed_says_why():
    """Whichever way it says that."""
    for entry in (END | {"is_error": True, "result": "Credit balance is too low"}, END | {"subtype": "error_max_turns", "result": None}):
        error, end = read(INIT, entry)[1:]
        assert (error.event_type, end.event_type) == ("error", "turn_end")
        assert error.data.error_message in ("Credit balance is too low", "error_max_turns")


def test_each_try_of_a_request_is_an_error_and_the_last_one_is_told_once():
    """In the words of 2.1.330: two tries, an answer that it made up itself, and a result that repeats it."""
    said = "API Error: 529 Overloaded. This is a server-side issue."
    tries = [{"type": "system", "subtype": "api_retry", "attempt": n, "max_retries": 2, "error_status": 529, "error": "overloaded", **ABOUT} for n in (1, 2)]
    made_up = says({"type": "text", "text": said}, is_api_error_message=True, error="server_error", api_error_status=529)
    told = read(INIT, *tries, made_up, END | {"is_error": True, "api_error_status": 529, "result": said})
    assert [event.event_type for event in told] == ["session_start", "error", "error", "error", "turn_end"]
    assert [event.data.error_message for event in told[1:4]] == ["API error: 529 overloaded", "API error: 529 overloaded", said]
    assert [event.data.retry for event in told[1:4]] == [True, True, False]
    assert {event.data.error_category for event in told[1:4]} == {"api"}


def test_a_connection_that_is_lost_has_no_status():
    """The try is told all the same."""
    (error,) = read({"type": "system", "subtype": "api_retry", "attempt": 1, "error_status": None, "error": "unknown", **ABOUT})
    assert error.data.error_message == "API error: unknown"


@pytest.mark.parametrize(
    ("printed", "result", "told"),
    [
        pytest.param(1, 60, [6, 54], id="less than it was"),
        pytest.param(1, 3, [6], id="an estimate that was too high"),
        pytest.param(60, 60, [60], id="all of it"),
    ],
)
def test_the_result_tells_what_the_answers_were_longer(printed, result, told):
    """Lines are printed while their message has hardly begun: what was told of it is estimated from its text, four characters a token."""
    message = {"message": MESSAGE | {"usage": USAGE | {"output_tokens": printed}, "content": [{"type": "text", "text": "x" * 22}]}}
    events = read(INIT, says(**message), END | {"usage": USAGE | {"output_tokens": result}})
    assert [event.data.usage.output for event in events if event.data.usage] == told
    assert sum(event.data.usage.input for event in events if event.data.usage) == 10


def test_each_turn_has_a_result_of_its_own():
    """With several prompts the first line is printed again and `usage` begins anew; what sub-agents said is no part of it."""
    usage = USAGE | {"output_tokens": 60}
    told = read(INIT, says(SAYS, parent_tool_use_id="t9"), END | {"usage": usage}, INIT, END | {"usage": usage})
    assert [event.event_type for event in told].count("session_start") == 1
    assert [event.data.usage.output for event in told if event.event_type == "usage"] == [60, 60]


def test_what_has_a_time_has_its_own():
    """Answers and results tell it; what comes between is inferred."""
    told = read(INIT, says(SAYS, timestamp="2026-11-22T10:00:01.5Z"), END)
    assert [(event.timestamp.second, event.inferred) for event in told] == [(0, True), (1, False), (1, True)]


ODD = {
    "no JSON": (b"{no\n", ["not_json"]),
    "an unknown kind": ({"type": "hologram", **ABOUT}, ["unknown_type:hologram"]),
    "no kind": ({**ABOUT}, ["no_type"]),
    "a known kind that says nothing": ({"type": "stream_event", **ABOUT}, []),
    "a compaction": ({"type": "system", "subtype": "compact_boundary", **ABOUT}, ["compaction"]),
    "no session": ({"type": "result"}, ["no_session"]),
}


@pytest.mark.parametrize(("entry", "expected"), ODD.values(), ids=ODD.keys())
def test_odd_lines(entry, expected):
    """Faults, or nothing."""
    assert [one if isinstance(one, str) else one.event_type for one in read(entry)] == expected


def test_without_a_time_there_are_no_events():
    """An invented one would put errors into windows that they do not belong to."""
    assert read(INIT, time=None) == ["no_time"]


def test_it_is_told_from_a_transcript():
    """By its first line."""
    assert recognise("", [json.dumps(INIT).encode()])
    assert not recognise("", [json.dumps({"type": "user", "sessionId": "s1"}).encode(), b"x", b'{"session_id":1}'])


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.sampled_from(["system", "assistant", "user", "result"]),
    st.dictionaries(st.sampled_from(["subtype", "message", "session_id", "result", "cwd", "model", "is_error"]), ANY),
)
def test_nothing_is_raised_for_values_of_any_type(kind, fields):
    """Logs are untrusted."""
    read({"type": kind, "session_id": "s1", **fields})
