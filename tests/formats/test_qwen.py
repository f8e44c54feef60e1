"""Qwen Code's chats: each line's events, whatever the line."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from agentwatch.formats import claude_code, places, qwen, registry
from agentwatch.formats.qwen import SILENT, Decoder
from agentwatch.formats.shared import REMEMBERED
from tests.formats.harness import (
    CORPUS,
    corpus,
    counts,
    decoded,
    line,
    lines_of,
    of_type,
    types,
    usages,
)

ENVELOPE = {"uuid": "u1", "parentUuid": None, "sessionId": "s1", "timestamp": "2026-09-01T10:00:00.000Z", "cwd": "/srv/app", "gitBranch": "main"}


def said(kind, subtype=None, /, **fields):
    return line(ENVELOPE | {"type": kind} | ({"subtype": subtype} if subtype else {}) | fields)


def parts(*parts):
    return {"role": "user", "parts": list(parts)}


def assistant(*given, uuid="u1", spent=None, **fields):
    names = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount", "cachedContentTokenCount")
    usage = {"usageMetadata": dict(zip(names, spent, strict=True))} if spent else {}
    return said("assistant", uuid=uuid, model="qwen3", message=parts(*given), **usage, **fields)


def call(call_id="t1", name="run_shell_command"):
    return {"functionCall": {"id": call_id, "name": name, "args": {"command": "ls"}}}


def result(response, **fields):
    return said("tool_result", message=parts({"functionResponse": {"id": "t1", "name": "x", "response": response}}), toolCallResult={"callId": "t1"} | fields)


PROMPT = said("user", message=parts({"text": "Fix it"}))


def told(*lines, decoder=None):
    return decoded([PROMPT, *lines], decoder or Decoder())[1:]


def test_the_memory_does_not_grow_with_the_file():
    """It is written with every checkpoint: of calls, messages and sessions only the last few are kept."""
    decoder = Decoder()
    told(*(assistant(call(f"t{n}"), uuid=f"u{n}", spent=(1, 1, 0, 2, 0), sessionId=f"s{n}") for n in range(500)), decoder=decoder)
    memory = decoder.memory
    assert len(memory.calls) == len(memory.billed) == len(memory.sessions) == REMEMBERED
    assert len(msgspec.json.encode(memory)) < 16_000


@pytest.mark.parametrize(
    ("spent", "usage"),
    [
        pytest.param((1000, 20, 5, 1025, 500), (500, 25, 500, 5), id="thoughts beside the output"),
        pytest.param((1000, 20, 5, 1020, 500), (500, 20, 500, 5), id="thoughts in the output"),
        pytest.param((1000, 20, None, None, None), (1000, 20, 0, 0), id="no total"),
    ],
)
def test_thoughts_are_paid_as_output_once(spent, usage):
    """Some providers count them in, some beside: the total says."""
    (found,) = usages(told(assistant({"text": "x"}, spent=spent)))
    assert (found["input"], found["output"], found["cache_read"], found["reasoning"]) == usage


def test_a_message_that_is_written_again_is_paid_once():
    """Its second line has all its tokens."""
    lines = [assistant({"text": "x", "thought": True}, spent=(10, 2, 0, 12, 0)), assistant(call(), spent=(10, 5, 0, 15, 0))]
    assert [usage["output"] for usage in usages(told(*lines))] == [2, 3]


SHELL = {"type": "shell_result", "exitCode": 2, "outcome": "failed", "output": "no"}
TOLD = "Command: ls\nOutput: no\nError: (none)\nExit Code: 2\nSignal: (none)\nProcess Group PGID: 7"


@pytest.mark.parametrize(
    ("fields", "response", "is_error", "reason", "exit_code", "text"),
    [
        pytest.param({"status": "success", "resultDisplay": SHELL | {"exitCode": 0}}, {"output": "x"}, False, None, 0, None, id="a command"),
        pytest.param({"status": "error", "resultDisplay": SHELL}, {"error": TOLD}, True, None, 2, "no", id="a command failed"),
        pytest.param({"status": "success", "resultDisplay": "no"}, {"output": TOLD}, True, None, 2, "no", id="an older command failed"),
        pytest.param({"status": "error", "resultDisplay": SHELL | {"output": ""}}, {"error": TOLD}, True, None, 2, TOLD, id="no output"),
        pytest.param({"status": "error", "resultDisplay": SHELL | {"exitCode": "?"}}, {"error": "gone"}, True, None, None, "no", id="a code that is none"),
        pytest.param({"status": "error"}, {"error": "not found"}, True, None, None, "not found", id="a tool failed"),
        pytest.param({"status": "error", "errorType": "execution_denied"}, {"error": "denied"}, False, "refused", None, "denied", id="not allowed"),
        pytest.param({"status": "cancelled"}, {"error": "cancelled"}, False, "cancelled", None, "cancelled", id="a person said no"),
    ],
)
def test_only_an_agents_own_failure_is_an_error(fields, response, is_error, reason, exit_code, text):
    """What was not allowed, or cancelled, says nothing about the agent."""
    end = told(assistant(call()), result(response, **fields))[1]["data"]
    assert (end["is_error"], end.get("reason"), end.get("exit_code"), end.get("error_message")) == (is_error, reason, exit_code, text)
    assert end["tool_name"] == "run_shell_command"


@pytest.mark.parametrize(
    ("status", "ends"),
    [
        pytest.param(429, False, id="too many"),
        pytest.param(503, False, id="overloaded"),
        pytest.param(None, False, id="no answer"),
        pytest.param(401, True, id="a wrong key"),
    ],
)
def test_what_is_tried_again_leaves_the_turn_open(status, ends):
    """After any other failure of the API it is the user's."""
    event = {"event.name": "qwen-code.api_error", "error_message": "no", "error_type": "E"} | ({"status_code": status} if status else {})
    assert types(told(said("system", "ui_telemetry", systemPayload={"uiEvent": event}))) == (["error", "turn_end"] if ends else ["error"])


def test_what_telemetry_repeats_is_not_told_again():
    """Calls and answers stand on lines of their own."""
    repeated = [said("system", "ui_telemetry", systemPayload={"uiEvent": {"event.name": name}}) for name in ("qwen-code.tool_call", "qwen-code.api_response")]
    assert told(*repeated) == []


def test_what_others_put_in_is_no_prompt():
    """A notice waits for the next turn, unless it began one."""
    notice = parts({"text": "A task has ended."})
    assert told(said("user", "notification", message=notice)) == []
    assert types(told(said("user", "notification", message=notice, deliveredTurn=True))) == ["turn_start"]


def test_the_title_is_what_the_user_typed():
    """Hooks and files are put in behind it, and `displayText` is the text before that."""
    prompt = said("user", message=parts({"text": "Fix it\n<hook>"}), systemPayload={"displayText": "Fix it"})
    assert decoded([prompt], Decoder())[0]["data"]["prompt"] == "Fix it"
    assert decoded([PROMPT], Decoder())[0]["data"]["prompt"] == "Fix it"


def test_what_a_branch_copied_is_not_told_again():
    """It begins with its parent's lines, under its own id: they happened, and were paid, there."""
    copied = {"forkedFrom": {"sessionId": "s0", "messageUuid": "u1"}, "sessionId": "s2"}
    lines = [said("user", message=parts({"text": "Fix it"}), **copied), assistant(call(), spent=(10, 1, 0, 11, 0), **copied)]
    assert types(decoded(lines, Decoder())) == ["session_start", "turn_end"]


def test_a_sub_agents_file_speaks_of_a_lane_of_its_parents_session():
    """It starts no session: the parent did."""
    inner = {"agentId": "explore-1", "isSidechain": True}
    events = decoded([said("user", "agent_launch_prompt", message=parts({"text": "Look"}), **inner), assistant({"text": "x"}, **inner)], Decoder())
    assert [(event["event_type"], event["attempt_id"], event["lane"]) for event in events] == [
        ("user_message", "s1", "explore-1"),
        ("agent_output", "s1", "explore-1"),
        ("turn_end", "s1", "explore-1"),
    ]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param(b"// a comment\n", ["not_json"], id="a comment"),
        pytest.param(b"[1]\n", ["not_json"], id="a list"),
        pytest.param(b'{"type":"user","sessi\n', ["not_json"], id="half a line"),
        pytest.param(b"\r\n", [], id="an empty line"),
        pytest.param(b"{}\n", ["no_type"], id="an empty object"),
        pytest.param(b'{"type":"user"}\n', ["no_session"], id="nobody's"),
        pytest.param(b'{"type":"user","sessionId":"s"}\n', ["no_time"], id="no time yet"),
        pytest.param(b'{"type":"new \\u001b[31m"}\n', ["unknown_type:new???31m"], id="a type from the future"),
        pytest.param(b'{"type":"system","subtype":"new"}\n', ["unknown_type:system.new"], id="a subtype from the future"),
    ],
)
def test_a_line_that_is_nothing_is_a_fault_and_nothing_more(text, faults):
    """It is counted under a short kind that is safe to print, and the next line is read as ever."""
    events = decoded([text, PROMPT], Decoder())
    assert [event["fault"] for event in events if "fault" in event] == faults
    assert events[-1]["event_type"] == "session_start"


@pytest.mark.parametrize("subtype", sorted(SILENT))
def test_bookkeeping_says_nothing(subtype):
    """It is known, so it is no fault either."""
    assert told(said("system", subtype, systemPayload={})) == []


def test_the_context_of_a_line_says_who_it_speaks_of():
    """The model stands on assistant lines only, the parent session on a line of its own."""
    decoder = Decoder()
    told(said("system", "parent_session", systemPayload={"parentSessionId": "s0"}), decoder=decoder)
    context = decoder.context(assistant({"text": "x"}))
    assert (context.session_id, context.project_id, context.branch, context.model, context.executor) == ("s1", "/srv/app", "main", "qwen3", "QWEN")
    assert context.parent_id == "s0"
    assert Decoder().context(said("user", cwd=7)).project_id is None
    assert Decoder().context(b"nobody") == msgspec.convert({}, type(context))


def test_claude_codes_envelope_is_told_from_this_one():
    """It is the same; the bodies are not."""
    theirs = line(ENVELOPE | {"type": "user", "message": {"role": "user", "content": "x"}})
    ours = [PROMPT, said("system", "custom_title", systemPayload={"customTitle": "x"})]
    assert [qwen.recognise("x.jsonl", [one]) for one in (theirs, *ours)] == [False, True, True]
    assert [claude_code.recognise("x.jsonl", [one]) for one in ours] == [False, False]


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, "/home/ann/.qwen/projects"),
        ({"QWEN_HOME": "/q"}, "/q/projects"),
        ({"QWEN_HOME": "/q", "QWEN_RUNTIME_DIR": "~/run"}, "/home/ann/run/projects"),
    ],
)
def test_chats_are_looked_for_where_the_agent_puts_them(environ, place):
    """The agent's own variables replace the usual folder."""
    assert [str(one) for one in places.qwen(environ, Path("/home/ann"))] == [place]


# The whole corpus, where it is there. The index has no references for Qwen Code; the agent's own ledger of the same runs has.

COUNTED = {  # half and number of the file: calls, failures, API failures, input with what was cached, output, cached
    "gen/01": (6, 4, 0, 9100, 140, 3500),
    "gen/02": (1, 0, 5, 1000, 20, 500),
    "gen/03": (0, 0, 1, 0, 0, 0),
    "open/01": (1, 0, 0, 0, 0, 0),
    "open/02": (0, 0, 0, 0, 0, 0),
    "open/03": (1, 0, 0, 12, 4, 0),
    "open/04": (0, 0, 0, 0, 0, 0),
}
LEDGERS = ("gen/us",)


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real sessions is not beside the project")
def test_every_real_file_is_recognised_and_counted_as_its_ledger_has_it():
    """Calls, failures, errors and tokens; the ledgers themselves are nobody's session."""
    found, faults = {}, Counter()
    for name, _, path in corpus("qwen-code", "qwen-fixture"):
        lines = lines_of(path)
        if name in LEDGERS:
            assert registry.recognise(str(path), lines[:20]) is None, path
            continue
        assert registry.recognise(str(path), lines[:20]) == qwen.NAME, name
        events = decoded(lines, Decoder())
        faults.update(event["fault"] for event in events if "fault" in event)
        found[name] = tuple(counts(events).values())
        assert len(of_type(events, "session_start")) == 1
    assert found == COUNTED
    assert not faults
