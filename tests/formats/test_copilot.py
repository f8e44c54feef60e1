"""GitHub Copilot CLI's sessions: each line's events, whatever the line."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from agentwatch.formats import copilot, places, registry
from agentwatch.formats.copilot import Decoder
from agentwatch.formats.shared import REMEMBERED
from tests.formats.harness import (
    CORPUS,
    corpus,
    decoded,
    differences,
    line,
    lines_of,
    of_type,
    types,
    usages,
)


def said(kind, agent=None, /, **data):
    more = {"agentId": agent} if agent else {}
    return line({"type": kind, "data": data, "id": "e", "timestamp": "2026-09-01T10:00:00.000Z", "parentId": None} | more)


START = said("session.start", sessionId="s1", copilotVersion="1.0.102", context={"cwd": "/srv/app", "branch": "main"}, selectedModel="gpt-5")
PROMPT = said("user.message", content="Fix it")


def called(call_id, name="bash", agent=None):
    return said("tool.execution_start", agent, toolCallId=call_id, toolName=name, arguments={"command": "ls"})


def told(*lines, decoder=None):
    return decoded([START, *lines], decoder or Decoder())[2:]


def test_the_memory_does_not_grow_with_the_file():
    """It is written with every checkpoint: of calls, requests, models and sub-agents only the last few are kept."""
    decoder = Decoder()
    record = {"inputTokens": 1, "outputTokens": 1}
    lines = [PROMPT, *(called(f"t{n}", agent=f"a{n}") for n in range(500))]
    lines += [said("assistant.message", messageId=f"m{n}", model=f"gpt-{n}", content="x", outputTokens=1) for n in range(500)]
    lines += [said("session.usage_record", usage=record | {"apiCallId": f"c{n}"}) for n in range(500)]
    told(*lines, decoder=decoder)
    memory = decoder.memory
    assert {len(kept) for kept in (memory.calls, memory.billed, memory.told, memory.lately, memory.turns)} == {REMEMBERED}
    assert len(msgspec.json.encode(memory)) < 32_000


def test_absurd_numbers_of_tokens_do_not_break_the_checkpoint():
    """A sum that no 64 bits hold could not be saved."""
    decoder = Decoder()
    lines = [said("assistant.message", content="x", model="m", outputTokens=tokens) for tokens in (2**63, 2**63, 2**63, -5)]
    assert len(usages(told(*lines, decoder=decoder))) == 3
    assert msgspec.json.decode(msgspec.json.encode(decoder.memory), type=copilot.Memory) == decoder.memory


@pytest.mark.parametrize(
    ("data", "is_error", "reason", "exit_code", "result"),
    [
        pytest.param({"success": True, "result": {"content": "a\n<shellId: 7 completed with exit code 0>"}}, False, None, 0, "a", id="a command"),
        pytest.param({"success": True, "result": {"content": "a\n<shellId: 7 completed with exit code 2>"}}, True, None, 2, "a", id="a command failed"),
        pytest.param({"success": True, "result": {"content": "a\n<exited with exit code 127>"}}, True, None, 127, "a", id="the older words"),
        pytest.param({"success": True, "result": {"content": "<exited with exit code 1>"}}, True, None, 1, "", id="no output"),
        pytest.param({"success": True, "result": {"content": "a"}, "shellExecution": {"exitCode": 1}}, True, None, 1, "a", id="a field of its own"),
        pytest.param(
            {"success": True, "result": {"content": "<exited with exit code 1> was said"}}, False, None, None, "<exited with exit code 1> was said", id="quoted"
        ),
        pytest.param({"success": False, "error": {"message": "no such path", "code": "failure"}}, True, None, None, "no such path", id="a tool failed"),
        pytest.param({"success": False, "error": {"message": "no", "code": "denied"}}, False, "refused", None, "no", id="not allowed"),
        pytest.param({"success": False, "error": {"message": "no", "code": "rejected"}}, False, "refused", None, "no", id="a person said no"),
        pytest.param({"success": False, "error": "odd"}, True, None, None, "odd", id="an error that is a text"),
        pytest.param({"success": False}, True, None, None, "", id="no error"),
    ],
)
def test_only_an_agents_own_failure_is_an_error(data, is_error, reason, exit_code, result):
    """A command that fails is a success to Copilot; what was not allowed to run says nothing about the agent."""
    _, _, end = told(PROMPT, called("t1"), said("tool.execution_complete", toolCallId="t1", **data))
    assert (end["data"]["is_error"], end["data"].get("reason"), end["data"].get("exit_code"), end["data"]["result"]) == (is_error, reason, exit_code, result)
    assert end["data"]["tool_name"] == "bash"


def test_the_number_of_the_shell_does_not_make_two_results_differ():
    """It is another one in each call: with it no loop would be seen."""
    ends = [said("tool.execution_complete", toolCallId="t1", success=True, result={"content": f"a\n<shellId: {n} completed with exit code 1>"}) for n in (1, 2)]
    first, second = (event["data"]["result"] for event in told(*ends))
    assert first == second


def test_the_loop_comes_round_with_each_call_and_the_turn_ends_with_the_last_word():
    """`assistant.turn_end` is written for each step; only the one after a step without calls hands over."""
    step = [said("assistant.turn_start", turnId="0"), called("t1"), said("assistant.turn_end", turnId="0")]
    last = [said("assistant.turn_start", turnId="1"), said("assistant.message", content="Done", toolRequests=[]), said("assistant.turn_end", turnId="1")]
    assert types(told(PROMPT, *step, *last)) == ["user_message", "turn_start", "tool_call", "progress", "turn_start", "agent_output", "turn_end"]


def test_a_sub_agents_steps_do_not_end_its_parents_turn():
    """They stand in the same file, in a lane of their own."""
    inner = [said("assistant.turn_start", "t1", turnId="0"), said("assistant.turn_end", "t1", turnId="0")]
    events = told(PROMPT, said("assistant.turn_start"), called("t1", "task"), *inner, said("assistant.turn_end"))
    assert [(event["event_type"], event.get("lane")) for event in events[3:]] == [("turn_start", "t1"), ("turn_end", "t1"), ("progress", None)]


def test_an_open_question_is_the_users_turn():
    """Whoever of the sub-agents asked: the session waits for a person."""
    ask, answer = said("permission.requested", "t1", requestId="p"), said("permission.completed", "t1", requestId="p", result={"kind": "approved"})
    assert [(event["event_type"], event.get("lane")) for event in told(PROMPT, ask, answer)[1:]] == [("turn_end", None), ("turn_start", None)]


def test_nobody_waits_for_an_answer_before_a_prompt():
    """A session that was opened and left alone is no stuck one."""
    assert types(decoded([START, said("session.resume", eventCount=1)], Decoder())) == ["session_start", "turn_end"] * 2


def test_tokens_that_are_told_a_request_are_not_told_again():
    """Where there are records, those of the messages and of the shutdown say the same again."""
    record = said("session.usage_record", usage={"model": "m", "inputTokens": 10, "outputTokens": 4, "cacheReadTokens": 6, "apiCallId": "c1"})
    message = said("assistant.message", content="x", outputTokens=4)
    metrics = {"m": {"usage": {"inputTokens": 10, "outputTokens": 4, "cacheReadTokens": 6, "cacheWriteTokens": 0}}}
    events = told(PROMPT, record, record, message, said("session.shutdown", shutdownType="routine", modelMetrics=metrics))
    assert usages(events) == [{"input": 4, "output": 4, "cache_read": 6, "cache_write": 0, "reasoning": 0}]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param([], "success", id="a user left"),
        pytest.param([said("session.error", errorType="query", message="500")], "failed", id="after an error"),
        pytest.param(
            [said("session.error", errorType="query", message="500"), said("assistant.message", content="x")], "success", id="after an error that was overcome"
        ),
    ],
)
def test_a_session_that_ends_with_an_error_has_failed(lines, status):
    """Copilot calls the shutdown routine all the same."""
    end = of_type(told(PROMPT, *lines, said("session.shutdown", shutdownType="routine")), "session_end")
    assert [data["completion_status"] for data in end] == [status]


def test_what_is_put_in_by_others_is_no_prompt():
    """Skills and the autopilot speak in the user's name: the agent owes an answer, and the title stays the user's."""
    lines = [said("user.message", content="x", source="skill-pdf"), said("user.message", content="x", isAutopilotContinuation=True), PROMPT]
    assert types(told(*lines)) == ["turn_start", "turn_start", "user_message"]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param(b"// a comment\n", ["not_json"], id="a comment"),
        pytest.param(b"[1]\n", ["not_json"], id="a list"),
        pytest.param(b'{"type":"abort","da\n', ["not_json"], id="half a line"),
        pytest.param(b"\r\n", [], id="an empty line"),
        pytest.param(b"{}\n", ["no_type"], id="an empty object"),
        pytest.param(b'{"type":"new \\u001b[31m"}\n', ["unknown_type:new???31m"], id="a type from the future"),
        pytest.param(b'{"type":"new","ephemeral":true}\n', [], id="what never stands in a file"),
        pytest.param(b'{"type":"abort"}\n', ["no_session"], id="nobody's"),
        pytest.param(b'{"type":"hook.start","data":{"input":{}}}\n', [], id="a hook"),
    ],
)
def test_a_line_that_is_nothing_is_a_fault_and_nothing_more(text, faults):
    """It is counted under a short kind that is safe to print, and the next line is read as ever."""
    events = decoded([text, START], Decoder())
    assert [event["fault"] for event in events if "fault" in event] == faults
    assert events[-1]["event_type"] == "turn_end"


def test_a_session_without_any_time_is_a_fault():
    """Nothing that it says could be judged."""
    start = line({"type": "session.start", "data": {"sessionId": "s1"}, "id": "e", "timestamp": "[trimmed]", "parentId": None})
    assert types(decoded([start], Decoder())) == ["no_time"]


def test_the_context_is_what_the_lines_so_far_said():
    """Directory, branch and model stand at the start, and where they change."""
    decoder = Decoder()
    decoded([START, said("session.context_changed", cwd="/srv/lib", branch="fix"), said("session.model_change", newModel="gpt-5-mini")], decoder)
    context = decoder.context(b"whatever")
    assert (context.session_id, context.project_id, context.branch, context.model, context.executor) == ("s1", "/srv/lib", "fix", "gpt-5-mini", "COPILOT")
    assert Decoder().context(b"") == msgspec.convert({}, type(context))


@pytest.mark.parametrize(
    ("environ", "folders"),
    [
        ({}, ["/home/ann/.copilot/session-state", "/home/ann/.copilot/history-session-state"]),
        ({"COPILOT_HOME": "/c"}, ["/c/session-state", "/c/history-session-state"]),
    ],
)
def test_sessions_are_looked_for_where_the_agent_puts_them(environ, folders):
    """The agent's own variable replaces the usual folder."""
    assert [str(place) for place in places.copilot(environ, Path("/home/ann"))] == folders


# The whole corpus, where it is there: counted apart from this program.

# (half and number of the file, column): ours, and why it is not the reference's.
EXPLAINED = {
    ("open/01", "ref_tool_errors"): (3, "2 commands with an exit code that is not 0"),
    ("gen/01", "ref_tool_errors"): (4, "4 commands with an exit code that is not 0"),
    ("gen/02", "ref_tool_errors"): (0, "4 calls that were not allowed to run"),
}


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real sessions is not beside the project")
def test_every_real_file_is_recognised_and_counted_as_it_was_by_hand():
    """Calls, failures, errors and tokens equal the references, but where a difference has a reason."""
    differing, faults, files = {}, Counter(), 0
    for name, row, path in corpus("copilot-cli"):
        lines = lines_of(path)
        assert registry.recognise(str(path), lines[:20]) == copilot.NAME, name
        events = decoded(lines, Decoder())
        faults.update(event["fault"] for event in events if "fault" in event)
        differing |= {(name, column): count for column, count in differences(row, events).items()}
        files += 1
    assert files == 14
    assert differing == {key: count for key, (count, _) in EXPLAINED.items()}
    assert not faults
