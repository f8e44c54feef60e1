"""pi's session files: each line's events, whatever the line."""

from collections import Counter
from pathlib import Path

import pytest

from agentwatch.formats import pi, places
from agentwatch.formats.pi import Decoder
from agentwatch.model import Context, Usage
from tests.formats.harness import (
    CORPUS,
    corpus,
    decoded,
    line,
    lines_of,
    of_type,
    types,
    usages,
)
from tests.formats.harness import counts as counted

AT = "2026-03-01T10:00:00.000Z"
HEADER = line({"type": "session", "version": 3, "id": "s1", "timestamp": AT, "cwd": "/srv/app"})


def message(role, **fields):
    return line({"type": "message", "id": "m", "parentId": None, "timestamp": "2026-03-01T10:00:05.000Z", "message": {"role": role, **fields}})


def answer(*content, **fields):
    return message("assistant", content=list(content), model="claude-sonnet-4-5", **fields)


def result(text, *, is_error=True):
    return message("toolResult", toolCallId="c1", toolName="bash", content=[{"type": "text", "text": text}], isError=is_error)


def test_what_a_message_cost_is_counted_once_and_in_the_files_own_usd():
    """`input` excludes the cache, and the first event of the line carries it."""
    usage = {"input": 3, "output": 20, "cacheRead": 100, "cacheWrite": 50, "cost": {"total": 0.25}}
    told = decoded([HEADER, answer({"type": "text", "text": "a"}, {"type": "toolCall", "id": "c1", "name": "bash", "arguments": {}}, usage=usage)], Decoder())
    assert [Usage(**one) for one in usages(told)] == [Usage(3, 20, 100, 50)]
    assert [event["data"].get("cost_usd") for event in told] == [None, 0.25, None]


@pytest.mark.parametrize(
    ("text", "is_error", "reason", "exit_code"),
    [
        pytest.param("cc: error\n\n\nCommand exited with code 2", True, None, 2, id="a command failed"),
        pytest.param("Command exited with code 127 is what it said", True, None, None, id="the words stand elsewhere"),
        pytest.param("Command timed out after 5 seconds", True, None, None, id="it took too long"),
        pytest.param("partial output\n\n\nCommand aborted", False, "interrupted", None, id="a person stopped it"),
        pytest.param("", True, None, None, id="nothing said"),
    ],
)
def test_only_an_agents_own_failure_is_an_error(text, is_error, reason, exit_code):
    """The end of the output is the command's status."""
    (told,) = of_type(decoded([HEADER, result(text)], Decoder()), "tool_result")
    assert (told["is_error"], told.get("reason"), told.get("exit_code")) == (is_error, reason, exit_code)


@pytest.mark.parametrize(
    ("stop", "reason", "kinds"),
    [
        ("stop", "stop", ["agent_output", "turn_end"]),
        ("length", "length", ["agent_output", "turn_end"]),
        ("aborted", "interrupted", ["agent_output", "turn_end"]),
        ("error", "api_error", ["agent_output", "error", "turn_end"]),
    ],
)
def test_a_message_that_calls_nothing_ends_the_turn(stop, reason, kinds):
    """Whatever made it stop; the retries of an API error begin anew."""
    told = decoded([HEADER, answer({"type": "text", "text": "a"}, stopReason=stop, errorMessage="529 overloaded")], Decoder())
    assert types(told)[1:] == kinds
    assert told[-1]["data"]["reason"] == reason


def test_what_a_fork_copied_happened_in_its_parent():
    """A fork begins with its parent's lines, ids and times; they are older than its header."""
    header = line({"type": "session", "version": 3, "id": "s2", "timestamp": "2026-03-01T10:00:03Z", "cwd": "/", "parentSession": "/x/2026_s1.jsonl"})
    old = answer({"type": "text", "text": "old"}, usage={"input": 5}).replace(b":05.000Z", b":01.000Z")
    told = decoded([header, old, answer({"type": "text", "text": "new"}, usage={"input": 7})], Decoder())
    assert [event["data"]["output"] for event in told if event["event_type"] == "agent_output"] == ["new"]
    assert [usage["input"] for usage in usages(told)] == [7]


def test_an_opened_session_waits_for_its_first_prompt():
    """Nobody owes anything while nothing was asked."""
    lines = [HEADER, line({"type": "model_change", "timestamp": AT, "modelId": "gpt-5.1"})]
    decoder = Decoder()
    assert decoded(lines, decoder) == []
    assert decoder.context(lines[-1]) == Context(session_id="s1", project_id="/srv/app", executor="PI", model="gpt-5.1")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param(b"// a comment\n", ["not_json"], id="a comment"),
        pytest.param(b"[1]\n", ["not_json"], id="a list"),
        pytest.param(b'{"type":"message","mess\n', ["not_json"], id="half a line"),
        pytest.param(b'{"type":"user","n":' + b"[" * 100_000 + b"\n", ["not_json"], id="a well without a bottom"),
        pytest.param(b"\r\n", [], id="an empty line"),
        pytest.param(b"{}\n", ["no_type"], id="an empty object"),
        pytest.param(b'{"type":"new \\u001b[31m\\nthing"}\n', ["unknown_type:new???31m?thing"], id="a type from the future"),
        pytest.param(message("hologram"), ["unknown_type:message/hologram"], id="a role from the future"),
        pytest.param(b'{"type":"%b"}\n' % (b"x" * 999), ["unknown_type:" + "x" * 40], id="a long type"),
        pytest.param(b'\xef\xbb\xbf{"type":"label"}\r\n', [], id="BOM and CRLF"),
    ],
)
def test_a_line_that_is_nothing_is_a_fault_and_nothing_more(text, faults):
    """It is counted under a short kind that is safe to print, and the next line is read as ever."""
    told = decoded([HEADER, text, message("user", content="Go")], Decoder())
    assert [fault["fault"] for fault in told if "fault" in fault] == faults
    assert told[-1]["event_type"] == "session_start"


def test_lines_before_any_header_are_nobodys():
    """A file that lost its first line has no session to speak of."""
    assert types(decoded([message("user", content="Go")], Decoder())) == ["no_session"]


def test_fields_of_unexpected_types_do_not_lose_the_line():
    """Shapes change with the releases: what fits is read, what does not is as if it were not there."""
    odd = answer("?", {"type": "toolCall", "id": 7, "name": "bash", "arguments": "x"}, usage={"input": "many", "output": 5, "cost": "much"}, stopReason=[])
    told = decoded([HEADER, odd], Decoder())
    assert types(told) == ["session_start", "tool_call"]
    assert usages(told)[0]["output"] == 5
    half = message("user", content="cut here: @").replace(b"@", rb"\ud83d")
    assert decoded([HEADER, half], Decoder())[0]["data"]["prompt"] == "cut here: ?"


@pytest.mark.parametrize(
    ("lines", "is_ours"),
    [
        ([HEADER], True),
        ([b"\n", b"\xef\xbb\xbf" + HEADER], True),
        ([message("user", content="x"), HEADER], False),
        ([b'{"type":"session","id":"x"}\n'], False),
        ([b'{"type":"session.start","id":"x","timestamp":"2026-03-01T10:00:00Z","cwd":"/"}\n'], False),
        ([b"no JSON\n"], False),
        ([], False),
    ],
)
def test_a_session_is_known_by_its_header(lines, is_ours):
    """It is the first line of every version."""
    assert pi.recognise("x.jsonl", lines) is is_ours


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, "/home/ann/.pi/agent/sessions"),
        ({"PI_CODING_AGENT_DIR": "~/p"}, "/home/ann/p/sessions"),
        ({"PI_CODING_AGENT_DIR": "/p", "PI_CODING_AGENT_SESSION_DIR": "/s"}, "/s"),
        ({"PI_CODING_AGENT_DIR": ""}, "/home/ann/.pi/agent/sessions"),
    ],
)
def test_sessions_are_looked_for_where_the_agent_puts_them(environ, place):
    """The agent's own variables replace the usual folder."""
    assert [str(one) for one in places.pi(environ, Path("/home/ann"))] == [place]


# What differs from the references of the index, and why: the file's number, the column, ours.
EXPLAINED = {
    ("open/01", "ref_tool_errors"): 17,  # two commands were stopped by a person
    ("open/01", "ref_api_errors"): 1,  # 21 answers were stopped by a person
}


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real sessions is not beside the project")
def test_every_real_file_is_recognised_and_counted_as_it_was_by_hand():
    """Calls, failures, API failures, tokens and USD equal the references, but where a difference has a reason."""
    differing, faults = {}, Counter()
    for number, row, path in corpus("pi"):
        lines = lines_of(path)
        assert pi.recognise(row["file"], lines[:20]), row["file"]
        told = decoded(lines, Decoder())
        faults.update(event["fault"] for event in told if "fault" in event)
        ours = counted(told) | {"ref_tok_in": sum(usage["input"] for usage in usages(told))}
        differing |= {(number, column): count for column, count in ours.items() if row.get(column) and row[column] != str(count)}
        if row.get("ref_cost_usd"):
            assert sum(event["data"].get("cost_usd", 0) for event in told if "data" in event) == pytest.approx(float(row["ref_cost_usd"]))
    assert differing == EXPLAINED
    assert not faults
