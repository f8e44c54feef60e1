"""A session as the decisions of an agent."""

from datetime import UTC, datetime, timedelta

import orjson

from agentwatch.core.board import Heard
from agentwatch.core.story import Alarm, Told, story
from agentwatch.formats.canonical import Decoder
from agentwatch.model import Context

START = datetime(2026, 2, 9, 8, tzinfo=UTC)
DECODER = Decoder()


def told(second, event_type, *, tokens=0, usd=0.0, lane=None, place=0, **data):
    line = orjson.dumps(
        {"timestamp": (START + timedelta(seconds=second)).isoformat(), "attempt_id": "a-1", "event_type": event_type, "data": data}
        | ({"lane": lane} if lane else {})
    )
    found = []
    DECODER.read([line], 0, found.extend, lambda *_: None)
    return Told(Heard(found[0][0], "", "log", place, line, DECODER.detail), tokens, usd)


def lines(told_events, alarms=()):
    return [(step.kind, step.title, step.text) for step in story("a-1", Context(), told_events, alarms, is_priced=True).steps]


def test_a_session_is_what_was_asked_thought_done_and_what_came_back():
    """The types of event become kinds of step, each in words."""
    session = [
        told(0, "session_start", prompt="Fix it"),
        told(1, "agent_thinking", thinking="Where?"),
        told(2, "tool_call", tool_name="Bash", tool_params={"command": "make"}),
        told(3, "tool_result", tool_name="Bash", result="no", is_error=True, error_message="no"),
        told(4, "agent_output", output="It fails"),
        told(5, "session_end", completion_status="failed"),
    ]
    assert lines(session) == [
        ("asked", "starts", "Fix it"),
        ("thinks", "thinks", "Where?"),
        ("calls", "Bash", "make"),
        ("returned", "Bash failed", "no"),
        ("says", "says", "It fails"),
        ("other", "ends", "failed"),
    ]


def test_time_and_money_are_told_as_they_stood_at_each_step():
    """What is no step of its own counts with the one before it."""
    found = story(
        "a-1",
        Context(),
        [told(0, "session_start"), told(10, "agent_output", output="x", tokens=100, usd=0.1), told(11, "usage", tokens=50, usd=0.05), told(75, "turn_end")],
        (),
        is_priced=True,
    )
    assert [(step.elapsed.seconds, step.tokens, round(step.usd, 2)) for step in found.steps] == [(0, 0, 0.0), (10, 150, 0.15), (75, 150, 0.15)]
    assert found.took == timedelta(seconds=75)


def test_an_alert_stands_behind_all_that_had_happened_when_it_arose():
    """Also where nothing happens behind it any more."""
    session = [told(0, "session_start"), told(1, "error", error_message="a"), told(2, "error", error_message="b"), told(9, "agent_output", output="on")]
    alarms = [
        Alarm(START + timedelta(seconds=2), "error_loop (high)", "twice", ("line 1", "line 2")),
        Alarm(START + timedelta(hours=1), "stuck_agent (medium)", "silent", ()),
    ]
    assert [kind for kind, *_ in lines(session, alarms)] == ["asked", "error", "error", "alert", "says", "alert"]
    assert lines(session, alarms)[3] == ("alert", "error_loop (high)", "twice\n  line 1\n  line 2")


def test_sub_agents_are_told_where_they_did_something_whatever_file_they_wrote():
    """Events come file by file; only time brings them together."""
    session = [told(0, "session_start"), told(5, "agent_output", output="done"), told(2, "tool_call", tool_name="Grep", lane="sub")]
    steps = story("a-1", Context(), session, (), is_priced=True).steps
    assert [(step.lane, step.kind) for step in steps] == [("", "asked"), ("sub", "calls"), ("", "says")]


def test_errors_and_alerts_are_counted_apart():
    """A failed result is an error, an alert about it is none."""
    found = story(
        "a-1",
        Context(),
        [told(0, "error", error_message="x"), told(1, "tool_result", result="error")],
        [Alarm(START, "error_loop", "x", ()), Alarm(START, "error_loop is over", "x", (), is_over=True)],
        is_priced=True,
    )
    assert (found.errors, found.alerts) == (2, 1)


def test_two_thoughts_of_one_line_are_told_once():
    """Each event of a line would find all of its thoughts."""
    session = [
        told(0, "agent_thinking", thinking="a", place=7),
        told(0, "agent_thinking", thinking="a", place=7),
        told(0, "agent_thinking", thinking="b", place=9),
    ]
    assert [text for _, _, text in lines(session)] == ["a", "b"]


def test_a_session_without_events_is_an_empty_story():
    """Nothing is raised for it."""
    found = story("a-1", Context(), (), (), is_priced=True)
    assert (found.steps, found.took) == ((), timedelta())
