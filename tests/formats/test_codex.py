"""Codex's rollouts: each line's events, whatever the generation."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.formats import codex, places
from agentwatch.formats.codex import Decoder, Tokens, grown
from agentwatch.formats.shared import REMEMBERED
from agentwatch.model import Context, Usage
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

AT = "2026-06-01T10:00:00.000Z"


def entry(kind, payload, at=AT, **fields):
    return line({"timestamp": at, **fields, "type": kind, "payload": payload})


def message(kind, **payload):
    return entry("event_msg", {"type": kind, **payload})


def item(kind, **payload):
    return entry("response_item", {"type": kind, **payload})


def header(thread="t1", at=AT, **payload):
    return entry("session_meta", {"id": thread, **payload}, at)


def call(call_id="c1", name="exec_command", arguments='{"cmd":"make"}'):
    return item("function_call", name=name, arguments=arguments, call_id=call_id)


def output(text, call_id="c1"):
    return item("function_call_output", call_id=call_id, output=text)


def total(tokens, cached=0, out=0, **fields):
    return message("token_count", info={"total_token_usage": {"input_tokens": tokens, "cached_input_tokens": cached, "output_tokens": out}}, **fields)


def record(response, tokens, **fields):
    return entry("token_usage_record", {"response_id": response, "usage": {"input_tokens": tokens}, **fields})


def said(*lines):
    """Say what follows the header and its two events."""
    return decoded([header(), *lines], Decoder())[2:]


def test_the_memory_does_not_grow_with_the_file():
    """It is written with every checkpoint: of the calls and verdicts only the last are kept."""
    decoder = Decoder()
    decoded([header(), *(one for n in range(500) for one in (call(f"c{n}"), message("exec_command_end", call_id=f"c{n}", exit_code=1)))], decoder)
    assert len(decoder.memory.calls) == len(decoder.memory.verdicts) == REMEMBERED


@pytest.mark.parametrize(
    ("text", "is_error", "exit_code", "reason"),
    [
        pytest.param('{"output":"x\\n","metadata":{"exit_code":1,"duration_seconds":0.0}}', True, 1, None, id="JSON, failed"),
        pytest.param('{"output":"' + "x" * 999 + '","metadata":{"exit_code":0,"duration_seconds":0.0}}', False, 0, None, id="long JSON"),
        pytest.param('{"output":"Exit code: 1"}', False, None, None, id="JSON without a code"),
        pytest.param("Exit code: 2\nWall time: 1.5 seconds\nOutput:\nx", True, 2, None, id="text, failed"),
        pytest.param("Exit code: -1\nWall time: 1 seconds\nOutput:\nx", True, -1, None, id="killed by a signal"),
        pytest.param("Exit code: 0\nWall time: 1 seconds\nOutput:\nExit code: 1\n", False, 0, None, id="a printed code is no code"),
        pytest.param("Chunk ID: 0a1b2c\nWall time: 1.0000 seconds\nProcess exited with code 1\nOutput:\nx", True, 1, None, id="chunk, failed"),
        pytest.param("Chunk ID: 0a1b2c\nWall time: 1.0000 seconds\nProcess running with session ID 5\nOutput:\n", False, None, None, id="still running"),
        pytest.param("Wall time: 1.0000 seconds\nProcess exited with code 0\nOutput:\nx", False, 0, None, id="no chunk"),
        pytest.param([{"type": "input_text", "text": "Exit code: 3\nWall time: 1 seconds\nOutput:\nx"}], True, 3, None, id="a list of blocks"),
        pytest.param("apply_patch verification failed: no such lines", True, None, None, id="a patch that does not fit"),
        pytest.param("failed in sandbox MacosSeatbelt with execution error: x", True, None, None, id="the sandbox"),
        pytest.param("exec_command failed: CreateProcess", True, None, None, id="no process"),
        pytest.param("error: unknown", True, None, None, id="an error"),
        pytest.param("aborted by user after 3.2s", False, None, "interrupted", id="a person stopped it"),
        pytest.param("exec command rejected by user", False, None, "refused", id="a person said no"),
        pytest.param("Plan updated", False, None, None, id="bare text"),
        pytest.param({"type": "input_text", "text": "Exit code: 1\n"}, False, None, None, id="another shape"),
        pytest.param(None, False, None, None, id="nothing"),
    ],
)
def test_how_a_call_went_is_read_from_the_text_of_its_result(text, is_error, exit_code, reason):
    """No release writes it beside the text for every tool; a process that goes on has not failed."""
    (result,) = of_type(said(call(), output(text)), "tool_result")
    assert (result["is_error"], result.get("exit_code"), result.get("reason")) == (is_error, exit_code, reason)
    assert result["tool_name"] == "exec_command"
    if is_error:
        assert result["error_message"].startswith(("x", "apply_patch", "failed in", "exec_command failed", "error"))


@pytest.mark.parametrize(
    ("verdict", "is_error", "reason"),
    [
        pytest.param(message("item_completed", item={"type": "CommandExecution", "id": "c1", "status": "failed", "exit_code": 4}), True, None, id="a command"),
        pytest.param(message("item_completed", item={"type": "FileChange", "id": "c1", "status": "declined"}), False, "refused", id="a patch refused"),
        pytest.param(message("item_completed", item={"type": "McpToolCall", "id": "c1", "result": {"isError": True}}), True, None, id="a server's error"),
        pytest.param(message("mcp_tool_call_end", call_id="c1", result={"Err": "gone"}), True, None, id="a server that is gone"),
        pytest.param(message("mcp_tool_call_end", call_id="c1", result={"Ok": {"isError": False}}), False, None, id="a server's answer"),
        pytest.param(message("patch_apply_end", call_id="c1", success=False), True, None, id="a patch"),
        pytest.param(message("exec_command_end", call_id="another", exit_code=1), False, None, id="another call"),
    ],
)
def test_a_verdict_that_comes_before_the_output_counts_where_the_text_says_nothing(verdict, is_error, reason):
    """Paginated files have one for each call; the older ones for some tools."""
    (result,) = of_type(said(call(), verdict, output("done")), "tool_result")
    assert (result["is_error"], result.get("reason")) == (is_error, reason)


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        pytest.param('{"cmd":"ls","timeout_ms":5}', {"cmd": "ls", "timeout_ms": 5}, id="an object in a string"),
        pytest.param("{not json", "{not json", id="what the model wrote is no JSON"),
        pytest.param({"query": "x"}, {"query": "x"}, id="an object"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="none"),
    ],
)
def test_a_calls_parameters_are_the_object_that_stands_in_the_string(arguments, params):
    """Time-outs are looked up in it."""
    assert said(call(arguments=arguments))[0]["data"].get("tool_params") == params


def test_the_total_is_cumulative_and_may_be_told_twice():
    """0.44 to 0.106 wrote each total twice; a total that shrinks is a new counter's."""
    told = said(total(1000, 400, 50), total(1000, 400, 50), message("token_count", info=None), total(1500, 700, 60), total(300, 0, 5))
    assert [Usage(**usage) for usage in usages(told)] == [Usage(600, 50, 400), Usage(200, 10, 300), Usage(300, 5)]


def test_a_request_that_has_a_record_of_its_own_is_not_counted_again():
    """From 0.155 on each request is told twice: by its record, and by the next total."""
    told = said(record("r1", 100), total(100), total(100), record("r2", 50), record("r2", 50), total(150), total(160), record("r3", 9, thread_id="t0"))
    assert [usage["input"] for usage in usages(told)] == [100, 50, 10]


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 5), max_size=8))
def test_a_counter_that_only_grows_is_added_up_to_itself(steps):
    """Whatever the kinds of tokens, none is lost or counted twice."""
    totals = [Tokens()]
    for fresh, *rest in steps:
        step = (fresh + rest[0] + rest[1], *rest)
        totals.append(Tokens(*map(sum, zip(msgspec.structs.astuple(totals[-1]), step, strict=True))))
    assert sum(grown(*pair).total for pair in pairwise(totals)) == totals[-1].input_tokens + totals[-1].output_tokens


@pytest.mark.parametrize(
    ("info", "category"),
    [
        ("usage_limit_exceeded", "rate_limit"),
        ({"response_too_many_failed_attempts": {"http_status_code": 429}}, "rate_limit"),
        ({"response_too_many_failed_attempts": {"http_status_code": 503}}, "api"),
        ({"http_connection_failed": {"http_status_code": 401}}, "api"),
        ("internal_server_error", "api"),
        ("context_window_exceeded", "context_window_exceeded"),
        (None, "api"),
        ([7], "api"),
        ({"odd": 7}, "api"),
    ],
)
def test_a_turn_that_failed_says_why(info, category):
    """Only a limit that was hit is a rate limit."""
    told = said(message("task_started"), message("task_complete", error={"message": "no", "codex_error_info": info}))
    assert types(told) == ["turn_start", "error", "turn_end"]
    assert (told[1]["data"]["error_category"], told[2]["data"]["reason"]) == (category, "failed")


def test_a_failure_that_is_written_twice_is_one():
    """Some releases write it in a line of its own and at the turn's end."""
    error = {"message": "no", "codex_error_info": "usage_limit_exceeded"}
    assert types(said(message("task_started"), message("error", **error), message("task_complete", error=error))) == ["turn_start", "error", "turn_end"]


def test_what_a_person_tried_in_vain_beside_a_turn_does_not_end_it():
    """The agent goes on."""
    told = said(message("task_started"), message("error", message="no", codex_error_info="thread_rollback_failed"), message("task_complete"))
    assert types(told) == ["turn_start", "error", "turn_end"]
    assert told[-1]["data"]["reason"] == "complete"


def test_a_limit_is_told_when_it_is_reached():
    """Every total repeats the state of the limits; a share that is used up is no limit that was hit."""
    reached = {"rate_limit_reached_type": "rate_limit_reached", "primary": {"used_percent": 100.0, "resets_at": 1780311600}, "secondary": None}
    free = {"rate_limit_reached_type": None, "primary": {"used_percent": 100.0}}
    told = of_type(said(*(total(0, rate_limits=limits) for limits in (free, reached, reached, free, reached))), "error")
    assert [error["error_category"] for error in told] == ["rate_limit"] * 2
    assert told[0]["error_message"] == "usage limit reached: rate_limit_reached; resets at 2026-06-01T11:00:00+00:00"


def test_the_agents_words_end_no_turn_whose_end_is_written():
    """After a comment the model owes what comes next; old releases mark no turns, and a final answer is one."""
    text = [{"type": "output_text", "text": "x"}]
    reply, comment, answer = (item("message", role="assistant", content=text, **phase) for phase in ({}, {"phase": "commentary"}, {"phase": "final_answer"}))
    told = of_type(said(reply, message("task_started"), reply, comment, answer, message("task_complete"), reply), "agent_output")
    assert [data.get("stop_reason") for data in told] == [None, "tool_use", "tool_use", None, None]


def test_a_person_who_interrupts_has_the_turn():
    """The agent is not waited for."""
    told = said(message("task_started"), message("turn_aborted", reason="interrupted"))
    assert told[1]["data"] == {"reason": "interrupted", "interrupted": True}


def test_a_thread_without_a_prompt_owes_nothing():
    """Up to 0.44 the file was begun when the program was, and many a person left without a word."""
    assert [(event["event_type"], event["data"].get("reason")) for event in decoded([header()], Decoder())] == [
        ("session_start", None),
        ("turn_end", "no_prompt"),
    ]


def test_a_thread_starts_once_however_often_its_header_is_written():
    """Desktop sessions wrote it up to 30 times in one file."""
    assert types(decoded([header(), header(), message("task_started"), header("t2", "2026-06-01T11:00:00Z")], Decoder())) == [
        "session_start",
        "turn_end",
        "turn_start",
    ]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param([header(forked_from_id="t0")], id="a fork that says so"),
        pytest.param([header(), header("t0")], id="a second header at once"),
    ],
)
def test_what_a_fork_copied_is_not_told_again(head):
    """Copies are written without a pause and carry the time of the copy; the total goes on from theirs."""
    copied = [message("user_message", message="old"), call(), output("Exit code: 1\n"), total(1000)]
    own = entry("event_msg", {"type": "user_message", "message": "new"}, "2026-06-01T10:00:09.000Z")
    told = decoded([*head, *copied, own, total(1100)], Decoder())
    assert types(told) == ["session_start", "turn_end", "user_message", "usage"]
    assert usages(told)[0]["input"] == 100


def test_a_sub_agents_history_ends_where_its_header_says():
    """Paginated files number their lines."""
    lines = [
        header(subagent_history_start_ordinal=2, parent_thread_id="t0"),
        entry("event_msg", {"type": "user_message", "message": "old"}, ordinal=1),
        entry("event_msg", {"type": "user_message", "message": "new"}, ordinal=2),
        entry("event_msg", {"type": "user_message", "message": "newer"}, ordinal=3),
    ]
    assert [data["output"] for data in of_type(decoded(lines, Decoder()), "user_message")] == ["new", "newer"]


def test_the_context_comes_from_the_header_and_the_newest_turn():
    """No other line says who it speaks of."""
    decoder = Decoder()
    assert decoder.context(b"") == Context()
    spawned = {"subagent": {"thread_spawn": {"parent_thread_id": "t0", "depth": 1}}}
    decoded([header(cwd="/srv/app", git={"branch": "main"}, source=spawned), entry("turn_context", {"model": "gpt-5.4", "cwd": "/srv/app/web"})], decoder)
    assert decoder.context(b"") == Context(session_id="t1", project_id="/srv/app/web", executor="CODEX", model="gpt-5.4", branch="main", parent_id="t0")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param(b"[1]\n", ["not_json"], id="a list"),
        pytest.param(b'{"type":"event_msg","pay\n', ["not_json"], id="half a line"),
        pytest.param(b'{"type":"event_msg","n":' + b"[" * 100_000 + b"\n", ["not_json"], id="a well without a bottom"),
        pytest.param(b"\r\n", [], id="an empty line"),
        pytest.param(b"{}\n", ["no_type"], id="an empty object"),
        pytest.param(message("user_message", message="x"), ["no_session"], id="nobody's"),
        pytest.param(line({"type": "hologram", "payload": {}}), ["unknown_type:hologram"], id="a type from the future"),
        pytest.param(message("new \x1b[31m\nthing"), ["unknown_type:event_msg.new???31m?thing"], id="a payload from the future"),
        pytest.param(line({"record_type": "state"}), [], id="a mark of old releases"),
    ],
)
def test_a_line_that_is_nothing_is_a_fault_and_nothing_more(text, faults):
    """It is counted under a short kind that is safe to print, and the next line is read as ever."""
    told = decoded([text, header()], Decoder())
    assert [fault["fault"] for fault in told if "fault" in fault] == faults
    assert told[-2]["event_type"] == "session_start"


def test_fields_of_unexpected_types_do_not_lose_the_line():
    """Shapes change with the releases: what fits is read, what does not is as if it were not there."""
    odd = item("function_call_output", call_id="c1", output="Exit code: 1\nWall time: 0 seconds\nOutput:\nx", content=7, name=[], status={})
    assert of_type(said(call(), odd), "tool_result")[0]["exit_code"] == 1
    assert usages(said(total(7, cached="many")))[0]["input"] == 7


def test_half_an_emoji_is_read():
    """A text cut between two UTF-16 units leaves a lone surrogate, which strict decoders refuse."""
    told = said(message("user_message", message="cut here: @").replace(b"@", rb"\ud83d"))
    assert told[0]["data"]["output"] == "cut here: ?"


@pytest.mark.parametrize(
    ("lines", "is_ours"),
    [
        ([header()], True),
        ([message("task_started")], True),
        ([b"\n", line({"id": "x", "timestamp": AT, "instructions": None})], True),
        ([line({"type": "session", "version": 3, "id": "x", "timestamp": AT})], False),
        ([line({"type": "message", "role": "user", "content": []})], False),
        ([line({"type": "session_meta", "payload": {}})], False),
        ([line({"type": "thread.started", "thread_id": "x"})], False),
        ([line({"timestamp": AT, "attempt_id": "a", "event_type": "error", "data": {}})], False),
        ([], False),
    ],
)
def test_a_rollout_is_known_by_its_first_line(lines, is_ours):
    """The header, or any line in the envelope of one whose header was cut off."""
    assert codex.recognise("x.jsonl", lines) is is_ours


@pytest.mark.parametrize(
    ("environ", "folder"),
    [({}, "/home/ann/.codex"), ({"CODEX_HOME": "/srv/codex"}, "/srv/codex"), ({"CODEX_HOME": ""}, "/home/ann/.codex")],
)
def test_rollouts_are_looked_for_where_the_agent_puts_them(environ, folder):
    """Those of today, and the archived ones."""
    assert [str(place) for place in places.codex(environ, Path("/home/ann"))] == [f"{folder}/sessions", f"{folder}/archived_sessions"]


# The whole corpus, where it is there: counted apart from this program.

# (file, column): ours. Two searches for a tool and an image are calls here; the fixture's last total is zero, which the reference took for all.
EXPLAINED = {
    ("open/08", "ref_tool_calls"): 8,
    ("open/08", "ref_tok_in"): 16341,
    ("open/08", "ref_tok_out"): 81,
    ("open/08", "ref_tok_cache_read"): 3584,
}
without_corpus = pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real sessions is not beside the project")


@without_corpus
def test_every_real_file_is_recognised_and_counted_as_it_was_by_hand():
    """Calls, failures, tokens, API failures, compactions and prompts equal the references, but where a difference has a reason."""
    differing, faults, files = {}, Counter(), 0
    for number, row, path in corpus("codex"):
        lines = lines_of(path)
        assert codex.recognise(str(path), lines[:20]), path
        told = decoded(lines, Decoder())
        differing |= {(number, column): count for column, count in differences(row, told).items()}
        if "ref_compactions" in row:
            assert (len(of_type(told, "compaction")), len(of_type(told, "user_message"))) == (int(row["ref_compactions"]), int(row["ref_user_lines"])), path
        faults.update(event["fault"] for event in told if "fault" in event)
        files += 1
    assert files >= 8
    assert differing == EXPLAINED
    assert faults == {}
