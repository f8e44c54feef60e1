"""Factory Droid's session files: each line's events, whatever the line."""

from pathlib import Path

import pytest

from agentwatch.formats import droid, places
from agentwatch.formats.droid import Decoder
from agentwatch.model import Context
from tests.formats.harness import CORPUS, corpus, decoded, line, lines_of, of_type, types

HEADER = line({"type": "session_start", "id": "s1", "title": "t", "owner": "ann", "version": 2, "cwd": "/srv/app"})


def message(role, *content):
    return line({"type": "message", "id": "m", "timestamp": "2026-03-01T10:00:05.000Z", "message": {"role": role, "content": list(content)}})


def said(text):
    return {"type": "text", "text": text}


@pytest.mark.parametrize(
    ("texts", "prompt"),
    [
        (["Fix it"], "Fix it"),
        (["Fix @a.py", "Contents of a.py"], "Fix @a.py"),
        (["<system-reminder>x</system-reminder>\n\nFix it"], "Fix it"),
        (["<system-reminder>x</system-reminder>", "<system-reminder>y</system-reminder> Fix it"], "Fix it"),
        (["<system-reminder>not closed"], None),
        (["<system-reminder>x</system-reminder>\n"], None),
    ],
)
def test_a_prompt_is_what_a_person_typed(texts, prompt):
    """The agent puts reminders before it, and the files that it names behind it."""
    told = of_type(decoded([HEADER, message("user", *map(said, texts))], Decoder()), "session_start")
    assert [event["prompt"] for event in told] == ([prompt] if prompt else [])


@pytest.mark.parametrize("outcomes", [0, 1, 2])
def test_a_turn_ends_once(outcomes):
    """An answer without a call ends it; newer versions say so in a line of its own."""
    outcome = line({"type": "agent_turn_outcome", "turnId": "t1", "reason": "completed"})
    told = decoded([HEADER, message("user", said("Go")), message("assistant", said("Done.")), *[outcome] * outcomes], Decoder())
    assert types(told) == ["session_start", "agent_output", "turn_end"]


def test_a_sub_agents_session_names_its_parent():
    """It has a file, an id and a header of its own."""
    decoder = Decoder()
    header = line({"type": "session_start", "id": "child", "cwd": "/srv/app", "callingSessionId": "parent", "callingToolUseId": "c1"})
    decoded([header], decoder)
    assert decoder.context(header) == Context(session_id="child", project_id="/srv/app", executor="DROID", parent_id="parent")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param(b"[1]\n", ["not_json"], id="a list"),
        pytest.param(b'{"type":"message","mess\n', ["not_json"], id="half a line"),
        pytest.param(b"\r\n", [], id="an empty line"),
        pytest.param(b"{}\n", ["no_type"], id="an empty object"),
        pytest.param(b'{"type":"new \\u001b[31m"}\n', ["unknown_type:new???31m"], id="a type from the future"),
        pytest.param(b'\xef\xbb\xbf{"type":"todo_state"}\r\n', [], id="BOM and CRLF"),
        pytest.param(line({"type": "message", "message": {"role": "user", "content": [said("x")]}}), ["no_time"], id="no time yet"),
    ],
)
def test_a_line_that_is_nothing_is_a_fault_and_nothing_more(text, faults):
    """It is counted under a short kind that is safe to print, and the next line is read as ever."""
    told = decoded([HEADER, text, message("user", said("Go"))], Decoder())
    assert [fault["fault"] for fault in told if "fault" in fault] == faults
    assert told[-1]["event_type"] == "session_start"


@pytest.mark.parametrize(
    ("lines", "is_ours"),
    [
        ([HEADER], True),
        ([b"\n", b"\xef\xbb\xbf" + HEADER], True),
        ([message("user", said("x")), HEADER], False),
        ([b'{"type":"session_start","id":"x"}\n'], False),
        ([b'{"type":"session_start","id":"x","cwd":"/","attempt_id":"a"}\n'], False),
        ([b'{"type":"system","subtype":"init","session_id":"s"}\n'], False),
        ([], False),
    ],
)
def test_a_session_is_known_by_its_header(lines, is_ours):
    """The console stream of `droid exec` has none."""
    assert droid.recognise("x.jsonl", lines) is is_ours


def test_sessions_are_looked_for_where_the_agent_puts_them():
    """There is no variable for it."""
    assert places.droid({}, Path("/home/ann")) == [Path("/home/ann/.factory/sessions")]


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real sessions is not beside the project")
def test_every_real_file_is_recognised_and_has_no_fault():
    """The index has no references for this agent."""
    for _, row, path in corpus("droid"):
        lines = lines_of(path)
        assert droid.recognise(row["file"], lines[:20]), row["file"]
        told = decoded(lines, Decoder())
        assert not [event for event in told if "fault" in event]
        assert types(told).count("tool_call") == types(told).count("tool_result") == 5
