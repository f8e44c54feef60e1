"""Cline's and Roo Code's tasks. Made by hand in the shapes of their published types: no open recordings were found."""

import json
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.formats.documents import Origin
from tests.formats.harness import JSON_VALUES, of_type, types
from tests.formats.wholes import LONG_AGO, alike, faults, rewritten, told

ORIGIN = Origin("tasks/1770624000000/ui_messages.json", datetime(2026, 2, 9, tzinfo=UTC), LONG_AGO)
NOW = 1_770_624_000_000


def shown(number, kind, text="", **fields):
    kind_of, _, name = kind.partition(":")
    said = text if isinstance(text, str) else json.dumps(text)
    return {"ts": NOW + number * 1000, "type": kind_of, kind_of: name, "text": said, **fields}


REQUEST = {"request": "...", "tokensIn": 100, "tokensOut": 20, "cacheWrites": 5, "cacheReads": 50, "cost": 0.25}
TASK = [
    shown(0, "say:text", "Mend it"),
    shown(1, "say:api_req_started", REQUEST),
    shown(2, "say:reasoning", "hm"),
    shown(3, "say:text", "I look."),
    shown(4, "ask:tool", {"tool": "readFile", "path": "a.py"}),
    shown(5, "say:api_req_started", REQUEST),
    shown(6, "ask:command", "make"),
    shown(7, "ask:command_output", ""),
    shown(8, "say:command_output", "no rule to make target"),
    shown(9, "say:api_req_started", {**REQUEST, "cost": 0.5}),
    shown(10, "say:completion_result", "Done."),
    shown(10, "ask:completion_result", ""),
    shown(11, "say:user_feedback", "Not yet"),
]


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, len(TASK)), max_size=6).map(sorted), is_partial=st.booleans())
def test_a_task_that_grew_gives_the_events_of_one_reading(cuts, is_partial):
    """What is partial is told when it is whole, and a request's cost when it is filled in."""
    states = []
    for cut in cuts:
        state = TASK[:cut]
        if state and is_partial:
            last = state[-1]
            state = [*state[:-1], {**last, "text": "{}"} if last.get("say") == "api_req_started" else {**last, "text": last["text"][:2], "partial": True}]
        states.append(state)
    events = rewritten("cline", [json.dumps(state).encode() for state in (*states, TASK)], ORIGIN)
    assert alike(events) == alike(told("cline", json.dumps(TASK).encode(), origin=ORIGIN)[0])


def test_what_goes_wrong_is_an_error():
    """By the agent's own words; a request that the user broke off is none."""
    broken = {"cancelReason": "streaming_failed", "streamingFailedMessage": "overloaded"}
    task = [
        TASK[0],
        shown(1, "say:api_req_started", broken),
        shown(2, "say:diff_error", "no such text"),
        shown(3, "ask:api_req_failed", "401"),
        shown(4, "say:api_req_retry_delayed", "429"),
        shown(5, "say:api_req_started", {"cancelReason": "user_cancelled"}),
    ]
    events, _, _ = told("cline", json.dumps(task).encode(), origin=ORIGIN)
    assert [data["error_message"] for data in of_type(events, "error")] == ["overloaded", "no such text", "401", "429"]
    assert types(events)[-1] == "turn_end"


def test_kinds_that_nobody_knows_are_named():
    """A question of a new kind is one all the same: the user's turn."""
    events, _, _ = told("cline", json.dumps([TASK[0], shown(1, "say:something_new"), shown(2, "ask:something_new")]).encode(), origin=ORIGIN)
    assert faults(events) == ["unknown_type:something_new"]
    assert types(events)[-1] == "turn_end"


@settings(max_examples=150, deadline=None)
@given(
    value=st.lists(
        JSON_VALUES | st.dictionaries(st.sampled_from(["ts", "type", "say", "ask", "text", "partial"]), JSON_VALUES | st.sampled_from(["say", "ask", "tool"]))
    ),
)
def test_nothing_that_a_task_may_hold_raises(value):
    """Wrong types everywhere."""
    told("cline", json.dumps(value).encode(), origin=ORIGIN)
    told("cline", json.dumps({"a": value}).encode(), origin=ORIGIN)
