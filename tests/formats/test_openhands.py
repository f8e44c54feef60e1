"""OpenHands' folders of events, of version 1 and before, and the state beside them."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.formats.documents import Origin
from tests.formats.harness import CORPUS, JSON_VALUES, of_type, types, usages
from tests.formats.wholes import LONG_AGO, NO_MEMORY, faults, told

ORIGIN = Origin("conversations/abc/events", datetime(2026, 2, 9, tzinfo=UTC), LONG_AGO)
STATE = Origin("conversations/abc/base_state.json", datetime(2026, 2, 9, tzinfo=UTC), LONG_AGO)
GENERATED = CORPUS / "gen" / "openhands-v1"
BEFORE = CORPUS / "open" / "openhands-v0" / "01-OpenHands-basic.json"


def told_of(*events):
    stamped = [{"timestamp": "2026-02-09T08:00:00.5", **event} for event in events]
    return told("openhands", [(number, json.dumps(event).encode()) for number, event in enumerate(stamped)], NO_MEMORY, ORIGIN)[0]


@pytest.mark.skipif(not BEFORE.exists(), reason="the corpus of transcripts is not here")
def test_a_trajectory_from_before_version_1():
    """An edit and the end; the model's answer is paid for once, though both events of a call repeat it."""
    events = [(event["id"], json.dumps(event).encode()) for event in json.loads(BEFORE.read_bytes())]
    found, _, _ = told("openhands", events, NO_MEMORY, ORIGIN)
    assert [kind for kind in types(found) if kind != "usage"] == ["session_start", "user_message", "tool_call", "tool_result", "agent_output", "turn_end"]
    assert len(usages(found)) == 2
    assert of_type(found, "tool_call")[0]["tool_call_id"] == of_type(found, "tool_result")[0]["tool_call_id"] == "3"


def test_times_are_those_of_the_clock_on_the_wall():
    """They have no zone: the agent runs here."""
    [event, *_] = told_of({"kind": "SystemPromptEvent"})
    assert datetime.fromisoformat(event["timestamp"]) == datetime(2026, 2, 9, 8, 0, 0, 500_000).astimezone()


def test_who_has_the_turn():
    """After an answer, the end, a refusal, a pause and an error it is the user's."""
    ends = [
        {"kind": "MessageEvent", "source": "agent", "llm_message": {"content": [{"type": "text", "text": "Done."}]}},
        {"kind": "ObservationEvent", "tool_name": "finish", "tool_call_id": "c", "observation": {"content": []}},
        {"kind": "UserRejectObservation", "tool_name": "terminal", "tool_call_id": "c"},
        {"kind": "PauseEvent"},
        {"kind": "ConversationErrorEvent", "code": "X", "detail": "it broke"},
    ]
    for end in ends:
        assert types(told_of(end))[-1] == "turn_end", end


def test_a_tool_that_the_model_called_wrongly_is_an_error():
    """And what a person refused is none."""
    wrong = {"kind": "AgentErrorEvent", "tool_name": "terminal", "tool_call_id": "c", "error": "no such argument"}
    refused = {"kind": "UserRejectObservation", "tool_name": "terminal", "tool_call_id": "c"}
    assert [data["is_error"] for data in of_type(told_of(wrong, refused), "tool_result")] == [True, False]


def test_a_half_file_ends_the_turn():
    """What stands behind it waits until it is whole."""
    good = json.dumps({"kind": "PauseEvent", "timestamp": "2026-02-09T08:00:00"}).encode()
    events, _, understood = told("openhands", [(0, good), (1, good[:20]), (2, good)], NO_MEMORY, ORIGIN)
    assert (types(events), understood) == (["session_start", "turn_end"], 1)


def test_kinds_that_nobody_knows_are_named():
    """In the words of either version."""
    assert faults(told_of({"kind": "NewEvent"}, {"id": 1})) == ["unknown_type:NewEvent", "no_type"]


KEYS = st.sampled_from(["kind", "timestamp", "source", "observation", "action", "llm_message", "args", "extras", "stats", "id", "cause", "tool_call_metadata"])


@settings(max_examples=200, deadline=None)
@given(value=st.dictionaries(KEYS, JSON_VALUES | st.sampled_from(["MessageEvent", "ObservationEvent", "run", "message", "error"])))
def test_nothing_that_an_event_may_hold_raises(value):
    """Nor a state."""
    text = json.dumps(value).encode()
    told("openhands", [(0, text)], NO_MEMORY, ORIGIN)
    told("openhands-state", text, NO_MEMORY, STATE)
