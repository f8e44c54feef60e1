"""What `codex exec --json` prints: each line's events, though no line has a time."""

import json
from datetime import UTC, datetime

import pytest

from agentwatch.formats import codex_exec
from agentwatch.formats.codex_exec import Decoder, Memory
from agentwatch.model import Context
from tests.formats.harness import decoded, line, of_type, types, usages

THREAD = "01a200d9-637d-7bb0-8824-05e7c0ebfa83"
STARTED = line({"type": "thread.started", "thread_id": THREAD})


def item(kind, step="completed", **fields):
    return line({"type": f"item.{step}", "item": {"id": "item_1", "type": kind, **fields}})


def completed(tokens):
    return line({"type": "turn.completed", "usage": {"input_tokens": tokens, "cached_input_tokens": 0, "output_tokens": 0}})


def failed(message):
    return line({"type": "turn.failed", "error": {"message": message}})


def error(message):
    return line({"type": "error", "message": message})


def said(*lines):
    """Say what follows the thread's start."""
    return decoded([STARTED, *lines], Decoder())[1:]


def test_the_time_is_that_of_the_threads_id_or_the_readers():
    """A plain file tells when its thread began; who reads the stream as it is printed knows better."""
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    (told,) = decoded([STARTED], Decoder())
    assert (told["timestamp"], told["inferred"]) == ("2026-11-22T01:22:56.509000+00:00", True)
    assert decoded([STARTED], Decoder(Memory(time=now)))[0]["timestamp"] == now.isoformat()


@pytest.mark.parametrize(
    ("lines", "faults"),
    [
        pytest.param([item("agent_message", text="x")], ["no_session"], id="nobody's"),
        pytest.param([line({"type": "thread.started", "thread_id": "x"})], ["no_time"], id="an id without a time"),
        pytest.param([STARTED, line({"type": "turn.paused"})], ["unknown_type:turn.paused"], id="a type from the future"),
        pytest.param([STARTED, item("hologram")], ["unknown_type:item.completed.hologram"], id="an item from the future"),
        pytest.param([STARTED, b"warning: no config\n"], ["not_json"], id="what is printed beside it"),
        pytest.param([b"{}\n"], ["no_type"], id="an empty object"),
    ],
)
def test_a_line_that_is_nothing_is_a_fault_and_nothing_more(lines, faults):
    """It is counted under a short kind that is safe to print."""
    assert [fault["fault"] for fault in decoded(lines, Decoder()) if "fault" in fault] == faults


@pytest.mark.parametrize(
    ("fields", "tool", "params", "is_error"),
    [
        (("command_execution", {"command": "ls", "exit_code": 2, "status": "failed", "aggregated_output": "no"}), "exec_command", {"command": "ls"}, True),
        (("command_execution", {"command": "ls", "exit_code": None, "status": "declined"}), "exec_command", {"command": "ls"}, False),
        (("file_change", {"changes": [{"path": "a", "kind": "add"}], "status": "completed"}), "apply_patch", [{"path": "a", "kind": "add"}], False),
        (("mcp_tool_call", {"tool": "fetch", "arguments": {"u": 1}, "status": "failed", "error": {"message": "gone"}}), "fetch", {"u": 1}, True),
        (("web_search", {"query": "x"}), "web_search", "x", False),
    ],
)
def test_a_call_that_is_printed_when_it_is_done_is_a_call_and_its_result(fields, tool, params, is_error):
    """Only commands and servers' tools are printed when they start as well."""
    kind, members = fields
    called, result = said(item(kind, **members))
    assert (called["data"]["tool_name"], called["data"]["tool_params"]) == (tool, params)
    assert (result["data"]["is_error"], result["data"]["tool_call_id"]) == (is_error, "item_1")
    assert said(item(kind, "started", **members), item(kind, "updated", **members), item(kind, **members))[0] == {**called}


def test_the_total_at_a_turns_end_is_the_threads():
    """What it has grown by is the turn's."""
    assert [usage["input"] for usage in usages(said(completed(100), completed(150)))] == [100, 50]


def test_a_failure_that_is_printed_twice_is_one():
    """The last words before a turn fails are printed again; attempts to go on are told as such."""
    told = said(
        line({"type": "turn.started"}), error("Reconnecting... 1/5"), error("last status: 429 Too Many Requests"), failed("last status: 429 Too Many Requests")
    )
    assert types(told) == ["turn_start", "error", "error", "turn_end"]
    assert [(data["error_category"], data.get("retry")) for data in of_type(told, "error")] == [("api", True), ("rate_limit", False)]


def test_tries_to_go_on_are_the_same_error():
    """Whichever they are: 0.169 prints their number, and in brackets what failed."""
    busy = "We are currently experiencing high demand (or not)."
    told = said(line({"type": "turn.started"}), error(f"Reconnecting... 1/5 ({busy})"), error(f"Reconnecting... 2/5 ({busy})"), error(busy), failed(busy))
    assert [data["error_message"] for data in of_type(told, "error")] == [busy, busy, busy]
    assert of_type(said(error("Reconnecting... 1/5")), "error")[0]["error_message"] == "Reconnecting..."


def test_a_warning_is_no_error():
    """Items of the type `error` are told to a person and stop nothing."""
    assert types(said(item("error", message="Model metadata not found"))) == ["progress"]


def test_the_context_is_the_thread():
    """The stream names neither directory nor model."""
    decoder = Decoder()
    assert decoder.context(STARTED) == Context()
    decoded([STARTED], decoder)
    assert decoder.context(STARTED) == Context(session_id=THREAD, executor="CODEX")


def test_a_stream_is_known_by_the_start_of_its_thread():
    """What a shell printed may come before; nobody else's line is one."""
    assert codex_exec.recognise("x.log", [b"$ codex exec --json\n", STARTED])
    assert not codex_exec.recognise("x.log", [line({"type": "turn.started"}), json.dumps({"type": "session_meta"}).encode()])
