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
    for entry in (DONE | {"is_error": True, "result": "Credit balance is too low"}, DONE | {"subtype": "error_max_turns", "result": None}):
        error, end = read(INIT, entry)[1:]
        assert (error.event_type, end.event_type) == ("error", "turn_end")
        assert error.data.error_message in ("Credit balance is too low", "error_max_turns")


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
