"""Kimi Code's wire files: each line's events, whatever the line."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from agentwatch.formats import kimi, places
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

SOURCE = "sessions/wd_app_1/session_1/agents/main/wire.jsonl"
FORMAT = SimpleNamespace(Decoder=partial(kimi.Decoder, SOURCE), Memory=kimi.Memory, recognise=kimi.recognise)
HEADER = line({"type": "metadata", "protocol_version": "1.4", "created_at": 1772359200000})


def entry(kind, **fields):
    return line({"type": kind, "time": 1772359201000, **fields})


def step(kind, **fields):
    return entry("context.append_loop_event", event={"type": kind, **fields})


def prompt(text="Fix it"):
    return entry("turn.prompt", input=[{"type": "text", "text": text}])


@pytest.mark.parametrize(
    ("source", "session", "lane"),
    [
        (SOURCE, "session_1", None),
        ("sessions/wd_app_1/session_1/agents/agent-0/wire.jsonl", "session_1", "agent-0"),
        ("session_2/agents/main/wire.jsonl", "session_2", None),
        ("copies/wire.jsonl", "copies/wire", None),
    ],
)
def test_the_path_names_the_session_and_the_sub_agent(source, session, lane):
    """No line does."""
    told = decoded([HEADER, prompt(), step("content.part", part={"type": "text", "text": "a"})], kimi.Decoder(source))
    assert {(event["attempt_id"], event.get("lane")) for event in told} == {(session, lane)}
    assert types(told)[0] == ("user_message" if lane else "session_start")


def test_tokens_are_those_of_the_requests():
    """The end of a step repeats them; a compaction's request has no step."""
    used = {"inputOther": 10, "output": 5, "inputCacheRead": 100, "inputCacheCreation": 20}
    told = decoded(
        [HEADER, prompt(), step("step.end", usage=used, finishReason="tool_use"), entry("usage.record", usage=used, model="a/kimi-k2")], FORMAT.Decoder()
    )
    assert [Usage(**usage) for usage in usages(told)] == [Usage(10, 5, 100, 20)]
    assert told[-1]["data"]["model"] == "kimi-k2"


@pytest.mark.parametrize(
    ("output", "exit_code"),
    [
        ("cat: no such file\nCommand failed with exit code: 1.", 1),
        ("File not found", None),
        ([{"type": "text", "text": "x\nCommand failed with exit code: 127."}], 127),
    ],
)
def test_a_failed_command_tells_its_exit_code(output, exit_code):
    """In the last line of its output."""
    (told,) = of_type(decoded([HEADER, step("tool.result", toolCallId="c1", result={"output": output, "isError": True})], FORMAT.Decoder()), "tool_result")
    assert (told["is_error"], told.get("exit_code")) == (True, exit_code)


@pytest.mark.parametrize("ends", [["step"], ["step", "ended", "completed"], ["cancel", "aborted", "step"], ["ended"]])
def test_a_turn_ends_once(ends):
    """Protocols differ in how many lines say so."""
    lines = {
        "step": step("step.end", finishReason="end_turn"),
        "ended": entry("turn.ended"),
        "completed": entry("prompt.completed"),
        "cancel": entry("turn.cancel"),
        "aborted": entry("prompt.aborted"),
    }
    told = decoded([HEADER, prompt(), *(lines[end] for end in ends), entry("llm.request")], FORMAT.Decoder())
    assert types(told).count("turn_end") == 1


def test_a_thought_that_no_call_follows_waits_for_a_permission():
    """The question is not written, but the rest of the answer would be, at once."""
    thought = step("content.part", part={"type": "think", "think": "hm"})
    assert types(decoded([HEADER, prompt(), thought, step("tool.call", toolCallId="c1", name="Bash", args={})], FORMAT.Decoder())) == [
        "session_start",
        "agent_thinking",
        "turn_end",
        "tool_call",
    ]


def test_whoever_is_asked_for_a_permission_has_the_turn():
    """Until the answer has come, silence is the user's."""
    told = decoded([HEADER, prompt(), entry("interaction.request"), entry("interaction.resolved")], FORMAT.Decoder())
    assert [(event["event_type"], event["data"].get("reason")) for event in told[1:]] == [("turn_end", "permission"), ("turn_start", None)]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param(b"[1]\n", ["not_json"], id="a list"),
        pytest.param(b"\r\n", [], id="an empty line"),
        pytest.param(b"{}\n", ["no_type"], id="an empty object"),
        pytest.param(entry("hologram"), ["unknown_type:hologram"], id="a type from the future"),
        pytest.param(step("hologram"), ["unknown_type:loop_event/hologram"], id="a step from the future"),
        pytest.param(entry("token_counting.measured"), [], id="one of a family that says nothing"),
        pytest.param(b'{"type":"turn.ended","time":1e300}\n', [], id="a time that is none"),
    ],
)
def test_a_line_that_is_nothing_is_a_fault_and_nothing_more(text, faults):
    """It is counted under a short kind that is safe to print, and the next line is read as ever."""
    told = decoded([HEADER, text, prompt()], FORMAT.Decoder())
    assert [fault["fault"] for fault in told if "fault" in fault] == faults
    assert told[-1]["event_type"] == "session_start"


@pytest.mark.parametrize(
    ("lines", "is_ours"),
    [([HEADER], True), ([b"\xef\xbb\xbf" + HEADER], True), ([prompt(), HEADER], False), ([b'{"type":"metadata"}\n'], False), ([], False)],
)
def test_a_file_is_known_by_its_header(lines, is_ours):
    """The protocol's version stands on the first line."""
    assert kimi.recognise("wire.jsonl", lines) is is_ours


@pytest.mark.parametrize(("environ", "place"), [({}, "/home/ann/.kimi-code/sessions"), ({"KIMI_CODE_HOME": "/k"}, "/k/sessions")])
def test_sessions_are_looked_for_where_the_agent_puts_them(environ, place):
    """The agent's own variable replaces the usual folder."""
    assert [str(one) for one in places.kimi(environ, Path("/home/ann"))] == [place]


def test_the_context_comes_from_the_first_lines():
    """Directory and model stand on a line of their own."""
    decoder = FORMAT.Decoder()
    decoded([HEADER, entry("config.update", cwd="/srv/app", modelAlias="moonshot-ai/kimi-k2")], decoder)
    assert decoder.context(HEADER) == Context(session_id="session_1", project_id="/srv/app", executor="KIMI", model="kimi-k2")


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real sessions is not beside the project")
def test_every_real_file_is_recognised_and_has_no_fault():
    """The index has no references for this agent: these were counted off the file, by its types of lines."""
    for _, row, path in corpus("kimi"):
        lines = lines_of(path)
        assert kimi.recognise(row["file"], lines[:20]), row["file"]
        told = decoded(lines, FORMAT.Decoder())
        assert not [event for event in told if "fault" in event]
        kinds = types(told)
        assert (kinds.count("tool_call"), kinds.count("tool_result"), kinds.count("usage"), kinds.count("compaction")) == (19, 19, 23, 1)
        assert sum(data["is_error"] for data in of_type(told, "tool_result")) == 1
