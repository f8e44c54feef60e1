"""`agentwatch log`: one event a call, whatever shell calls it."""

import json
import subprocess

import pytest

COMMANDS = ("start", "event", "tool", "error", "followup", "status", "end", "hook")


def events(place):
    return [json.loads(line) for line in place.stream.read_bytes().splitlines()]


def log(place, *arguments, **environ):
    done = place.run("log", *arguments, **environ)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def piped(place, text, *arguments):
    return subprocess.run(place.command("log", *arguments), cwd=place.base, env=place.environ, input=text, capture_output=True, check=False)


def test_a_session_of_a_shell_is_one_session(place):
    """`start` prints the id that the other calls take; what the session is about stands on every event."""
    attempt = log(place, "start", "--task", "T-1", "--executor", "codex", "--prompt", "Fix it")
    call = log(place, "tool", "--attempt", attempt, "Bash", "--params", '{"command": "make"}')
    log(place, "tool", "--attempt", attempt, "Bash", "--call", call, "--exit-code", "2", "--result", "boom")
    log(place, "error", "--attempt", attempt, "fatal: repository not found", "--category", "git")
    log(place, "event", "--attempt", attempt, "usage", "--data", '{"usage": {"input": 5}, "cost_usd": 0.5}')
    log(place, "followup", "--attempt", attempt, "again", "--reason", "ci")
    log(place, "status", "--attempt", attempt, "review", "--old", "running")
    log(place, "end", "--attempt", attempt, "failed", "--outcome", '{"pr_number": 7}')
    found = events(place)
    assert [event["event_type"] for event in found] == [
        "session_start", "tool_call", "tool_result", "error", "usage", "followup_sent", "status_change", "session_end",
    ]  # fmt: skip
    assert {(event["attempt_id"], event["task_id"], event["executor"]) for event in found} == {(attempt, "T-1", "codex")}
    assert found[1]["data"]["tool_call_id"] == found[2]["data"]["tool_call_id"] == call
    assert (found[2]["data"]["is_error"], found[-1]["data"]["cost_usd"]) == (True, 0.5)
    (metrics,) = [json.loads(line) for line in (place.logs / "agent-metrics.jsonl").read_bytes().splitlines()]
    assert (metrics["metrics"]["errors"], metrics["outcome"]) == (1, {"status": "failed", "pr_number": 7})
    assert place.run("run", "--once").stderr.startswith("0 new alerts")


def test_a_call_and_its_result_can_be_logged_at_once(place):
    """A script that knows the result first need not log the call before."""
    log(place, "tool", "--attempt", "a", "Bash", "--params", '{"command": "ls"}', "--result", "ok")
    call, result = events(place)
    assert (call["event_type"], result["event_type"], result["data"]["is_error"]) == ("tool_call", "tool_result", False)
    assert call["data"]["tool_call_id"] == result["data"]["tool_call_id"]


def test_texts_are_read_from_standard_input(place):
    """Bytes of any kind, without the last newline."""
    assert piped(place, b"first\nsecond \xff\n", "error", "--attempt", "a", "-").returncode == 0
    assert piped(place, b"thought\n", "event", "--attempt", "a", "agent_thinking", "--text", "-").returncode == 0
    assert piped(place, b'{"output": "x"}', "event", "--attempt", "a", "agent_output", "--data", "-").returncode == 0
    error, thought, output = events(place)
    assert error["data"]["error_message"] == "first\nsecond \ufffd"
    assert (thought["data"], output["data"]) == ({"thinking": "thought"}, {"output": "x"})


def test_an_event_names_its_run(place):
    """By the environment or by the option."""
    log(place, "status", "--attempt", "a", "x", AGENTWATCH_RUN="r-1")
    log(place, "status", "--attempt", "a", "x", "--run", "r-2", AGENTWATCH_RUN="r-1")
    assert [event["run_id"] for event in events(place)] == ["r-1", "r-2"]


def test_it_writes_where_the_daemon_reads(place):
    """By the same settings, files included."""
    (place.base / "agentwatch.toml").write_text('[logs]\ndir = "elsewhere"\n')
    log(place, "status", "--attempt", "a", "x")
    assert (place.base / "elsewhere/agent-work-stream.jsonl").exists()
    (place.base / "agentwatch.toml").write_text('[logs]\ndir = "nowhere"\nlogging_enabled = false\n')
    assert log(place, "start").startswith("attempt-")
    assert not (place.base / "nowhere").exists()


WRONG = {
    "no attempt": (["status", "x"], "error: Missing option '--attempt'.", "hint: see `agentwatch log status --help`"),
    "empty attempt": (["status", "x", "--attempt", ""], "error: `--attempt` is empty", "hint: give the id that `agentwatch log start` printed"),
    "data": (["event", "usage", "--attempt", "a", "--data", "{x}"], "error: --data is no JSON: ", "hint: put it in single quotes"),
    "data of another kind": (["event", "usage", "--attempt", "a", "--data", "[]"], "error: --data is no JSON object: a list", "hint: give it as in"),
    "end": (["end", "done", "--attempt", "a"], "error: `done` is no way to end", "hint: it is one of success, failed, timeout, interrupted"),
    "hook": (["hook", "vim"], "error: `vim` has no hooks that are understood", "hint: it is `claude-code`"),
}


@pytest.mark.parametrize(("arguments", "message", "hint"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_call_writes_nothing(place, arguments, message, hint):
    """It is told with its remedy, with exit code 2."""
    done = place.run("log", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert f"\n\n{hint}" in done.stderr
    assert not place.logs.exists()


def test_what_could_not_be_written_is_exit_code_1(place):
    """And a line on stderr."""
    place.logs.mkdir(parents=True)
    place.stream.symlink_to("/dev/full")
    done = place.run("log", "status", "--attempt", "a", "x")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_terminal_of_80_columns(place, command):
    """Every command has a page, with examples."""
    done = place.run("log", *command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Examples:" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
