"""Gemini CLI's session logs and its stream: each line's events, whatever the line."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from agentwatch.formats import gemini, places, registry
from agentwatch.formats.gemini import Decoder
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

AT = "2026-09-01T10:00:00.000Z"

START = line({"sessionId": "s1", "projectHash": "ab12", "startTime": AT, "lastUpdated": AT, "kind": "main"})
INIT = line({"type": "init", "timestamp": AT, "session_id": "s2", "model": "gemini-2.5-pro"})


def message(kind, content="", message_id="m1", /, **fields):
    return line({"id": message_id, "timestamp": AT, "type": kind, "content": content} | fields)


def change(**fields):
    return line({"$set": fields | {"lastUpdated": AT}})


def call(call_id="t1", told="Output: x\nProcess Group PGID: 7", shown="x", status="success", name="run_shell_command"):
    result = [{"functionResponse": {"id": call_id, "name": name, "response": {"output": told}}}]
    return {"id": call_id, "name": name, "args": {"command": "ls"}, "result": result, "status": status, "timestamp": AT, "resultDisplay": shown}


def tokens(read, wrote, cached=0, thoughts=0):
    return {"input": read, "output": wrote, "cached": cached, "thoughts": thoughts, "tool": 0, "total": read + wrote + thoughts}


def told(*lines, decoder=None):
    return decoded([START, *lines], decoder or Decoder())[2:]


def test_the_memory_does_not_grow_with_the_file():
    """It is written with every checkpoint: of messages and of a stream's calls only the last few are kept."""
    decoder = Decoder()
    lines = [message("gemini", "x", f"m{n}", tokens=tokens(1000, 10), toolCalls=[call(f"t{n}")]) for n in range(500)]
    lines += [line({"type": "tool_use", "timestamp": AT, "tool_name": "read_file", "tool_id": f"t{n}"}) for n in range(500)]
    told(*lines, decoder=decoder)
    assert len(decoder.memory.messages) == len(decoder.memory.calls) == REMEMBERED
    assert len(msgspec.json.encode(decoder.memory)) < 16_000


def test_a_message_that_grows_is_told_once():
    """It is written again when its tokens are known, when its calls are over, and when their results are shortened."""
    said = {"model": "gemini-2.5-pro", "thoughts": [{"subject": "a"}]}
    events = told(
        message("gemini", "Running", **said),
        message("gemini", "Running", **said, tokens=tokens(10, 2, 4, 1)),
        message("gemini", "Running", **said, tokens=tokens(10, 2, 4, 1), toolCalls=[call("t1")]),
        message("gemini", "Running", **said, tokens=tokens(10, 3, 4, 1), toolCalls=[call("t1", shown="(masked)"), call("t2")]),
    )
    assert types(events) == ["agent_thinking", "agent_output", "turn_end", "usage", "tool_call", "tool_result", "tool_call", "tool_result"]
    assert usages(events) == [
        {"input": 6, "output": 3, "cache_read": 4, "cache_write": 0, "reasoning": 1},
        {"input": 0, "output": 1, "cache_read": 0, "cache_write": 0, "reasoning": 0},
    ]


def test_a_call_that_is_not_over_has_no_result_yet():
    """So far only calls that were over were seen in files; their order is kept."""
    running, over = call("t1", status="executing"), call("t1")
    events = told(message("gemini", toolCalls=[running, call("t2")]), message("gemini", toolCalls=[over, call("t2")]))
    assert [(event["event_type"], event["data"]["tool_call_id"]) for event in events] == [
        ("tool_call", "t1"),
        ("tool_call", "t2"),
        ("tool_result", "t1"),
        ("tool_result", "t2"),
    ]


@pytest.mark.parametrize(
    ("made", "is_error", "reason", "exit_code", "text"),
    [
        pytest.param(call(), False, None, None, None, id="a command"),
        pytest.param(call(told="Output: no\nExit Code: 2\nProcess Group PGID: 7", shown="no"), True, None, 2, "no", id="a command failed"),
        pytest.param(
            call(told="<untrusted_context>\nOutput: no\nExit Code: 1\nSignal: 9\nProcess Group PGID: 7\n</untrusted_context>", shown="no"),
            True,
            None,
            1,
            "no",
            id="in 0.61.0",
        ),
        pytest.param(call(told="Output: (empty)\nExit Code: 1", shown=""), True, None, 1, "Output: (empty)\nExit Code: 1", id="no output"),
        pytest.param(call(told="Exit Code: 1\nwas said", shown="x"), False, None, None, None, id="quoted"),
        pytest.param(call(told="x\nExit Code: 1", shown="x", name="read_file"), False, None, None, None, id="a file that ends so"),
        pytest.param(call(status="error", told="not found", shown="Not found."), True, None, None, "Not found.", id="a tool failed"),
        pytest.param(call(status="error", told="not found", shown={"fileDiff": ""}), True, None, None, "not found", id="shown as a change"),
        pytest.param(
            call(status="cancelled", told="[Operation Cancelled]", shown=None), False, "cancelled", None, "[Operation Cancelled]", id="a person said no"
        ),
    ],
)
def test_only_an_agents_own_failure_is_an_error(made, is_error, reason, exit_code, text):
    """A command that fails is a success to Gemini; what a person cancelled says nothing about the agent."""
    end = told(message("gemini", toolCalls=[made]))[1]["data"]
    assert (end["is_error"], end.get("reason"), end.get("exit_code"), end.get("error_message")) == (is_error, reason, exit_code, text)


def test_the_process_group_does_not_make_two_results_differ():
    """It is another one in each call: with it no loop would be seen."""
    made = [message("gemini", "", f"m{pid}", toolCalls=[call(told=f"Output: no\nExit Code: 1\nProcess Group PGID: {pid}", shown="no")]) for pid in (1, 2)]
    first, second = of_type(told(*made), "tool_result")
    assert first == second


def test_what_the_model_is_told_about_the_project_is_no_prompt():
    """It names the directory: nothing else in the file does."""
    decoder = Decoder()
    context = [{"text": "<session_context>\nThis is the Gemini CLI.\n- **Workspace Directories:**\n  - /srv/app\n</session_context>"}]
    assert told(message("user", context), decoder=decoder) == []
    assert decoder.context(b"").project_id == "/srv/app"
    checkpoint = Decoder()
    assert told(change(messages=[{"id": "m", "type": "user", "content": context}]), decoder=checkpoint) == []
    assert checkpoint.context(b"").project_id == "/srv/app"


def test_a_result_that_is_handed_to_the_model_is_no_prompt():
    """Since 0.6x it is a message of type `user`."""
    response = [{"functionResponse": {"id": "t1", "name": "x", "response": {"output": "y"}}}]
    assert types(told(message("user", response))) == ["progress"]


def test_a_checkpoint_repeats_what_was_told():
    """It is written first in every session; only one that is shorter than what was said is a compaction."""
    messages = [{"id": f"m{n}", "type": "user", "content": "x"} for n in range(3)]
    said = [message("user", "x", f"m{n}") for n in range(3)]
    assert types(told(*said, change(messages=messages))) == ["user_message"] * 3
    assert types(told(*said, change(messages=messages[:1]))) == ["user_message"] * 3 + ["compaction"]
    assert types(told(*said, line({"$rewindTo": "m1"}), change(messages=messages[:1]))) == ["user_message"] * 3 + ["turn_end"]


def test_nobody_waits_for_an_answer_before_a_prompt_or_after_the_last_word():
    """A session that was opened and left alone is no stuck one."""
    assert types(decoded([START], Decoder())) == ["session_start", "turn_end"]
    assert types(told(message("user", "Hello", "m0"), message("gemini", "Hi"))) == ["user_message", "agent_output", "turn_end"]


def test_a_run_without_totals_by_model_is_of_the_model_it_began_with():
    """Older releases give the sum alone."""
    stats = {"total_tokens": 17, "input_tokens": 10, "output_tokens": 5, "cached": 4, "duration_ms": 3}
    _, spent, end = decoded([INIT, line({"type": "result", "timestamp": AT, "status": "success", "stats": stats})], Decoder())
    assert (spent["data"]["model"], spent["data"]["usage"]["input"], spent["data"]["usage"]["output"]) == ("gemini-2.5-pro", 6, 7)
    assert end["data"] == {"completion_status": "success", "duration_ms": 3.0}


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param(b"// a comment\n", ["not_json"], id="a comment"),
        pytest.param(b"[1]\n", ["not_json"], id="a list"),
        pytest.param(b'{"id":"m","ty\n', ["not_json"], id="half a line"),
        pytest.param(b"\r\n", [], id="an empty line"),
        pytest.param(b"{}\n", ["no_type"], id="an empty object"),
        pytest.param(b'{"id":"m","type":"new \\u001b[31m"}\n', ["unknown_type:new???31m"], id="a type from the future"),
        pytest.param(b'{"id":"m","type":"init"}\n', ["unknown_type:init"], id="a stream's type in a message"),
        pytest.param(b'{"id":"m","type":"user","content":"x"}\n', ["no_session"], id="nobody's"),
        pytest.param(b'{"$new":1}\n', ["no_type"], id="a change that is unknown"),
    ],
)
def test_a_line_that_is_nothing_is_a_fault_and_nothing_more(text, faults):
    """It is counted under a short kind that is safe to print, and the next line is read as ever."""
    events = decoded([text, START], Decoder())
    assert [event["fault"] for event in events if "fault" in event] == faults
    assert events[-1]["event_type"] == "turn_end"


def test_a_session_without_any_time_is_a_fault():
    """Nothing that it says could be judged."""
    assert types(decoded([line({"sessionId": "s1", "projectHash": "ab12"})], Decoder())) == ["no_time"]


def test_the_context_is_what_the_lines_so_far_said():
    """There is no branch; the model stands on its messages."""
    decoder = Decoder()
    told(message("gemini", "x", model="gemini-2.5-pro"), change(directories=["/srv/app", "/srv/lib"]), decoder=decoder)
    context = decoder.context(b"whatever")
    assert (context.session_id, context.project_id, context.branch, context.model, context.executor) == ("s1", "/srv/app", None, "gemini-2.5-pro", "GEMINI")
    assert Decoder().context(b"") == msgspec.convert({}, type(context))


@pytest.mark.parametrize(
    ("first", "is_ours"),
    [
        pytest.param(START, True, id="a session"),
        pytest.param(INIT, True, id="a stream"),
        pytest.param(b'{"sessionId":"s","projectHash":"a","messages":[]}\n', False, id="the documents of before 0.39"),
        pytest.param(b'{"type":"system","subtype":"init","session_id":"s"}\n', False, id="the stream of another agent"),
    ],
)
def test_a_file_is_known_by_its_first_line(first, is_ours):
    """Whatever its name: the older documents are another format."""
    assert gemini.recognise("x.jsonl", [first]) is is_ours


@pytest.mark.parametrize(
    ("source", "parent"),
    [("tmp/p/chats/0aa1-parent/0bb2-sub.jsonl", "0aa1-parent"), ("tmp/p/chats/session-2026-09-01T10-00-0aa1.jsonl", None), ("stream.jsonl", None)],
)
def test_a_sub_agents_parent_is_the_folder_that_it_stands_in(source, parent):
    """No line says whose it is."""
    decoder = registry.FORMATS[gemini.NAME].decoder(source, msgspec.Raw(b"null"))
    decoded([START], decoder)
    assert (decoder.context(b"").session_id, decoder.context(b"").parent_id) == ("s1", parent)


@pytest.mark.parametrize(("environ", "place"), [({}, "/home/ann/.gemini/tmp"), ({"GEMINI_CLI_HOME": "/g"}, "/g/.gemini/tmp")])
def test_sessions_are_looked_for_where_the_agent_puts_them(environ, place):
    """The agent's own variable replaces the home."""
    assert [str(one) for one in places.gemini(environ, Path("/home/ann"))] == [place]


# The whole corpus, where it is there: counted apart from this program.

# (half and number of the file, column): ours, and why it is not the reference's.
EXPLAINED = {
    ("gen/01", "ref_tool_errors"): (4, "4 commands with an exit code that is not 0"),
    ("gen/01", "ref_tok_out"): (175, "7 times 5 thoughts, which are paid as output"),
    ("gen/02", "ref_tok_out"): (25, "5 thoughts, which are paid as output"),
}


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real sessions is not beside the project")
def test_every_real_file_is_recognised_and_counted_as_it_was_by_hand():
    """Calls, failures, errors and tokens equal the references, but where a difference has a reason; the stream equals the log of its session."""
    differing, faults, files, totals = {}, Counter(), 0, []
    for name, row, path in corpus("gemini-cli", "gemini-stream-json"):
        lines = lines_of(path)
        assert registry.recognise(str(path), lines[:20]) == gemini.NAME, name
        events = decoded(lines, Decoder())
        faults.update(event["fault"] for event in events if "fault" in event)
        differing |= {(name, column): count for column, count in differences(row, events).items()}
        if name == "gen/01":
            totals.append([sum(spent[kind] for spent in usages(events)) for kind in ("input", "output", "cache_read", "reasoning")])
        files += 1
    assert files == 4
    assert differing == {key: count for key, (count, _) in EXPLAINED.items()}
    assert not faults
    assert totals == [[5600, 175, 3500, 35]] * 2
