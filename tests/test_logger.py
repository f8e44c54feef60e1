"""The logger: whole lines whatever happens, and nothing that reaches the program that logs."""

import asyncio
import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import agentwatch
from agentwatch import AgentLogger, AsyncAgentLogger, logger
from agentwatch.formats.canonical import Decoder

ROOT = Path(__file__).parents[1]
PIPE_BUF = 4096


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """No setting from outside, and nothing told yet."""
    for name in (*logger._DIR_NAMES, *logger._ENABLED_NAMES, "AGENTWATCH_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(logger, "_told", set())


@pytest.fixture
def logs(tmp_path):
    return tmp_path / "logs"


def lines_of(path):
    """The objects of a file of lines, each of which must be whole."""
    raw = path.read_bytes()
    assert raw.endswith(b"\n")
    return [json.loads(line) for line in raw.split(b"\n")[:-1]]


def stream(logs):
    return lines_of(logs / "agent-work-stream.jsonl")


def kinds(logs):
    return [event["event_type"] for event in stream(logs)]


def everything(log):
    """One call of each method."""
    log.start("Fix the build", cwd="/src")
    log.output("looking", stop_reason="tool_use")
    log.thinking("hm")
    call = log.tool_call("Bash", {"command": "make"})
    log.tool_result("Bash", "boom", tool_call_id=call, exit_code=2)
    log.error("fatal: could not read from remote repository: Connection refused")
    log.followup("again", reason="ci")
    log.usage(input=10, output=5, cache_read=100, reasoning=3, cost_usd=0.25)
    log.status_change("review", "running", reason="pull request")
    log.end("failed")


def faults_and_alerts(logs, **environ):
    """Let the daemon read the directory once; what it did not understand, and its alerts."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(logs.parent), "PYTHONPATH": str(ROOT), "AGENTWATCH_SOURCES": "none", **environ}
    command = [sys.executable, "-m", "agentwatch", "run", "--once", "--log-dir", str(logs)]
    done = subprocess.run(command, env=environ, cwd=logs.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    alerts = logs / "agent-alerts.jsonl"
    return [line for line in done.stderr.splitlines() if "new alert" not in line], lines_of(alerts) if alerts.exists() and alerts.stat().st_size else []


def test_every_method_writes_its_event(logs):
    """One line each, in order, with the fields of the contract."""
    log = AgentLogger("a-1", log_dir=logs, task_id="T-1", executor="codex", model="gpt-5", branch=None)
    everything(log)
    events = stream(logs)
    assert [event["event_type"] for event in events] == [
        "session_start", "agent_output", "agent_thinking", "tool_call", "tool_result", "error", "followup_sent", "usage", "status_change", "session_end",
    ]  # fmt: skip
    assert all((event["attempt_id"], event["task_id"], event["executor"]) == ("a-1", "T-1", "codex") and "branch" not in event for event in events)
    assert all(event["elapsed_ms"] >= 0 for event in events)
    start, output, _, call, result, error, followup, usage, status, end = (event["data"] for event in events)
    assert start == {"prompt": "Fix the build", "prompt_type": "initial", "cwd": "/src"}
    assert output == {"output": "looking", "stream_type": "stdout", "stop_reason": "tool_use"}
    assert (call["tool_name"], call["tool_params"], call["tool_call_id"]) == ("Bash", {"command": "make"}, result["tool_call_id"])
    assert (result["is_error"], result["exit_code"], result["result"]) == (True, 2, "boom")
    assert error["error_fingerprint"].startswith("fatal-could-not-read-from-remote-repository")
    assert error["error_category"] == "network"
    assert followup == {"prompt": "again", "followup_reason": "ci"}
    assert usage == {"usage": {"input": 10, "output": 5, "cache_read": 100, "cache_write": 0, "reasoning": 3}, "cost_usd": 0.25}
    assert status == {"old_status": "running", "new_status": "review", "reason": "pull request"}
    assert (end["completion_status"], end["total_tokens"], end["cost_usd"]) == ("failed", 115, 0.25)


def test_the_daemon_understands_every_line(logs):
    """What is written is what the strict decoder reads, without a fault."""
    everything(AgentLogger("a-1", log_dir=logs))
    read, faults = [], []
    Decoder().read((logs / "agent-work-stream.jsonl").read_bytes().splitlines(keepends=True), 0, read.extend, lambda *fault: faults.append(fault))
    assert faults == []
    assert [event.event_type for event, _, _ in read] == kinds(logs)
    assert read[4][0].data.exit_code == 2
    assert read[7][0].data.usage.total == 115
    assert faults_and_alerts(logs) == ([], [])


def test_the_daemon_raises_the_alert_that_the_log_is_about(logs):
    """Four errors that differ in nothing but a time are one loop, with the fields of the logger."""
    with AgentLogger("a-1", log_dir=logs, task_id="T-1", executor="codex").start("x") as log:
        for second in range(4):
            log.error(f"12:00:0{second} push failed: branch is protected")  # noqa: G004  # no logger of that kind
        log.end("success")
    faults, (alert, *_) = faults_and_alerts(logs)
    assert faults == []
    assert (alert["type"], alert["task_id"], alert["executor"]) == ("error_loop", "T-1", "codex")


def test_copies_and_metrics_stand_where_the_contract_says(logs):
    """The transcript has every event, the errors file the errors, the metrics one line a session."""
    everything(AgentLogger("a-1", log_dir=logs, task_id="T-1"))
    assert lines_of(logs / "agent-sessions" / "a-1.jsonl") == stream(logs)
    assert lines_of(logs / "agent-errors.jsonl") == [event for event in stream(logs) if event["event_type"] == "error"]
    (metrics,) = lines_of(logs / "agent-metrics.jsonl")
    assert (metrics["attempt_id"], metrics["task_id"], metrics["outcome"]) == ("a-1", "T-1", {"status": "failed"})
    assert {name: metrics["metrics"][name] for name in ("total_tokens", "cost_usd", "errors", "tool_calls")} == {
        "total_tokens": 115, "cost_usd": 0.25, "errors": 1, "tool_calls": 1,
    }  # fmt: skip
    assert metrics["error_summary"]["error_categories"] == ["network"]


def test_nobody_else_may_read_them(logs):
    """Files are 0600 and directories 0700, whatever the umask lets through."""
    before = os.umask(0)
    try:
        everything(AgentLogger("a-1", log_dir=logs))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in logs.rglob("*.jsonl")} == {0o600}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (logs, logs / "agent-sessions")] == [0o700, 0o700]


@pytest.mark.parametrize("name", logger._ENABLED_NAMES)
def test_switched_off_means_that_nothing_is_made(logs, monkeypatch, name):
    """No file and no directory; ids are handed out all the same."""
    monkeypatch.setenv(name, "False")
    log = AgentLogger("a-1", log_dir=logs)
    everything(log)
    assert log.tool_call("Bash").startswith("call_")
    assert (logs.exists(), log.lost) == (False, 0)


def test_the_directory_is_that_of_the_environment_or_the_usual_one(tmp_path, monkeypatch):
    """As it is when the logger is made: a program may change its directory later."""
    monkeypatch.chdir(tmp_path)
    log = AgentLogger("a-1")
    monkeypatch.chdir("/")
    log.output("x")
    assert (tmp_path / ".cache/agent-work-logs/agent-work-stream.jsonl").exists()
    monkeypatch.setenv("AGENT_WORK_LOG_DIR", str(tmp_path / "named"))
    AgentLogger("a-1").output("x")
    assert (tmp_path / "named/agent-work-stream.jsonl").exists()


def test_events_name_the_run(logs, monkeypatch):
    """AGENTWATCH_RUN, whose `latest` is what `runs/latest` leads to; a run that is given wins."""
    (logs / "runs/r-2").mkdir(parents=True)
    (logs / "runs/latest").symlink_to("r-2")
    monkeypatch.setenv("AGENTWATCH_RUN", "r-1")
    AgentLogger("a", log_dir=logs).output("x")
    AgentLogger("b", log_dir=logs, run_id="latest").output("x")
    monkeypatch.setenv("AGENTWATCH_RUN", "latest")
    AgentLogger("c", log_dir=logs).output("x")
    AgentLogger("d", log_dir=logs, run_id="r-3").output("x")
    named = {event["attempt_id"]: event["run_id"] for event in (*stream(logs), *stream(logs / "runs/r-2"))}
    assert named == {"a": "r-1", "b": "r-2", "c": "r-2", "d": "r-3"}


def test_events_go_into_the_runs_directory_where_there_is_one(logs):
    """What was made by `agentwatch runs new`. A name alone makes no directory, and the run's copy of a session is where all are."""
    (logs / "runs/r-1").mkdir(parents=True)
    (logs / "elsewhere").mkdir()
    (logs / "runs/link").symlink_to(logs / "elsewhere")
    for run_id in ("r-1", "r-2", "link", "../elsewhere", ".", "", "a\nb", "x" * 300, "\ud800", 7):
        AgentLogger(f"of {run_id!r}", log_dir=logs, run_id=run_id).end()
    assert {event["attempt_id"] for event in stream(logs / "runs/r-1")} == {"of 'r-1'"}
    assert len({event["attempt_id"] for event in stream(logs)}) == 9
    assert sorted(path.name for path in (logs / "runs").iterdir()) == ["link", "r-1"]
    assert list((logs / "elsewhere").iterdir()) == []
    rows = [json.loads(line) for line in (logs / "agent-metrics.jsonl").read_bytes().splitlines()]
    assert [row.get("scope") for row in rows] == ["runs/r-1", *[None] * 9]


def test_a_run_that_is_removed_takes_no_more_events(logs):
    """They go to the stream of all: a logger brings no run back."""
    run = logs / "runs/r-1"
    run.mkdir(parents=True)
    log = AgentLogger("a", log_dir=logs, run_id="r-1").start()
    shutil.rmtree(run)
    log.output("x")
    assert [event["event_type"] for event in stream(logs)] == ["agent_output"]
    assert not run.exists()


# ----------------------------------------------------------------------------------------------------------------- sessions

ENDINGS = {
    "done": (None, "success"),
    "exit": (SystemExit(0), "success"),
    "exit with a code": (SystemExit(3), "failed"),
    "exception": (ValueError("no such thing"), "failed"),
    "time-out": (TimeoutError("too slow"), "timeout"),
    "Ctrl-C": (KeyboardInterrupt(), "interrupted"),
    "cancelled": (asyncio.CancelledError(), "interrupted"),
}


@pytest.mark.parametrize(("error", "status"), ENDINGS.values(), ids=ENDINGS.keys())
def test_a_block_ends_its_session(logs, error, status):
    """By what it ended with; the exception passes through."""

    def work():
        with AgentLogger("a-1", log_dir=logs):
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    events = stream(logs)
    assert (events[0]["event_type"], events[-1]["event_type"]) == ("session_start", "session_end")
    assert events[-1]["data"]["completion_status"] == status
    assert len(lines_of(logs / "agent-metrics.jsonl")) == 1


def test_an_exception_is_logged_with_its_stack(logs):
    """As an error of its own, before the end."""
    with pytest.raises(ZeroDivisionError), AgentLogger("a-1", log_dir=logs):
        1 / 0  # noqa: B018
    (error,) = (event["data"] for event in stream(logs) if event["event_type"] == "error")
    assert error["error_message"] == "ZeroDivisionError: division by zero"
    assert error["stack_trace"].startswith("Traceback")


def test_a_session_starts_and_ends_once(logs):
    """Whoever calls how often, and from how many threads."""
    log = AgentLogger("a-1", log_dir=logs)
    with log:
        threads = [threading.Thread(target=lambda: (log.start(), log.output("x"), log.end())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (kinds(logs).count("session_start"), kinds(logs).count("session_end")) == (1, 1)


def test_another_process_can_go_on_with_an_attempt(logs):
    """What the session is about is read from its last start, and its sums from its file."""
    AgentLogger("a-1", log_dir=logs, task_id="T-1", model="old").start("x")
    AgentLogger("a-1", log_dir=logs, task_id="T-1", model="new").start("y", prompt_type="retry")
    AgentLogger.join("a-1", log_dir=logs).error("boom")
    AgentLogger.join("a-1", log_dir=logs, model="other").end("failed")
    assert [(event["event_type"], event["task_id"], event["model"]) for event in stream(logs)[2:]] == [("error", "T-1", "new"), ("session_end", "T-1", "other")]
    assert lines_of(logs / "agent-metrics.jsonl")[0]["metrics"]["errors"] == 1


def test_the_sums_are_those_of_the_last_start(logs):
    """An attempt that is tried again is not charged with its first try."""
    for _ in range(2):
        with AgentLogger("a-1", log_dir=logs) as log:
            log.usage(input=1, cost_usd=0.5)
            log.error("boom")
    assert [(one["metrics"]["total_tokens"], one["metrics"]["errors"]) for one in lines_of(logs / "agent-metrics.jsonl")] == [(1, 1), (1, 1)]


CATEGORIES = {
    "Operation timed out after 30s": "network",
    "connect ECONNREFUSED 127.0.0.1:5432": "network",
    "HTTP 429 Too Many Requests": "rate_limit",
    "Authentication failed: invalid token": "auth",
    "error: failed to push some refs to origin": "git",
    "ModuleNotFoundError: No module named 'requests'": "dependency",
    "bash: ./run.sh: Permission denied": "permission",
    "OSError: [Errno 28] No space left on device": "resource",
    "cat: x: No such file or directory": "filesystem",
    "AssertionError: 1 != 2": "test",
    "SyntaxError: invalid syntax": "syntax",
    "src/a.ts(3,1): error TS2304: Cannot find name 'x'": "build",
    "something else": "runtime",
    "": "runtime",
}


@pytest.mark.parametrize(("message", "category"), CATEGORIES.items())
def test_an_error_has_a_category(message, category):
    """By the words of its message."""
    assert logger.category_of(message) == category


def test_a_given_fingerprint_and_category_stay(logs):
    """The orchestrator knows better."""
    AgentLogger("a-1", log_dir=logs).error("boom", fingerprint="mine", category="git", retry=True)
    data = stream(logs)[-1]["data"]
    assert data == {"error_message": "boom", "error_fingerprint": "mine", "error_category": "git", "retry": True}


ODD_IDS = ("../../escape", "a/b", "", ".hidden", "x" * 300, "ä-ö", "nul\0", "e\ud800", "..")


@pytest.mark.parametrize("attempt_id", ODD_IDS)
def test_an_odd_attempt_id_leads_out_of_no_directory(tmp_path, logs, attempt_id):
    """Its file lies in `agent-sessions`, under a name that no other id has; the events have the id as it is, as far as JSON can."""
    log = AgentLogger(attempt_id, log_dir=logs)
    log.output("x")
    assert log.lost == 0
    assert [path.parent for path in tmp_path.rglob("*.jsonl")].count(logs / "agent-sessions") == 1
    assert {path.parent for path in tmp_path.rglob("*.jsonl")} == {logs, logs / "agent-sessions"}


def test_odd_ids_that_look_alike_have_files_of_their_own(logs):
    """The name is no identity."""
    for attempt_id in ("a/b", "a_b", "a\\b"):
        AgentLogger(attempt_id, log_dir=logs).output("x")
    assert len(list((logs / "agent-sessions").iterdir())) == 3


# ------------------------------------------------------------------------------------------------------------------- values


class Hostile:
    def __str__(self):
        raise RuntimeError("no")


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


LOOP: dict[str, object] = {}
LOOP["self"] = LOOP
VALUES = {
    "object": object(),
    "hostile": Hostile(),
    "bytes": b"\xff\x00",
    "set": {1},
    "path": Path("x"),
    "exception": ValueError("x"),
    "NaN": float("nan"),
    "infinity": -float("inf"),
    "half a pair": "\ud800",
    "controls": "\0\r\n\x1b\u2028",
    "loop": LOOP,
    "deep": nested(5000),
    "keys": {(1, 2): 3, None: 4, b"k": 5, "\udfff": 6},
    "huge number": 10**5000,
    "BOM": "\ufeff",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_a_value_that_json_cannot_hold_is_written_all_the_same(logs, value):
    """The line stands, and every reader takes it."""
    log = AgentLogger("a-1", log_dir=logs, tags=value)
    log.tool_call("Bash", value, extra={"in": value})
    log.output(value)
    assert log.lost == 0
    assert kinds(logs) == ["session_start", "tool_call", "agent_output"]
    for line in (logs / "agent-work-stream.jsonl").read_bytes().splitlines():
        msgspec.json.decode(line)
    assert faults_and_alerts(logs) == ([], [])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(st.characters(categories=["Cs", "Cc"])) | st.binary(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_value_gives_one_line_of_json(value):
    """Which the strict decoder takes."""
    line = logger._line({"data": {"value": value}})
    assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
    msgspec.json.decode(line)


LENGTHS = (PIPE_BUF - 300, PIPE_BUF, PIPE_BUF + 1, 1 << 20, logger.LONGEST_LINE, 40 << 20)


@pytest.mark.parametrize("length", LENGTHS)
def test_no_line_is_longer_than_the_daemon_reads(logs, length):
    """A text that does not fit is cut and says so; up to there it is whole."""
    AgentLogger("a-1", log_dir=logs).output("x" * length)
    lines = (logs / "agent-work-stream.jsonl").read_bytes().splitlines(keepends=True)
    assert max(map(len, lines)) <= logger.LONGEST_LINE
    output = stream(logs)[-1]["data"]["output"]
    assert output == "x" * length if length < logger.LONGEST_LINE - 1000 else output.endswith("characters cut]")


def test_data_that_is_long_in_number_is_cut_too(logs):
    """A million small entries, and a tree of them."""
    log = AgentLogger("a-1", log_dir=logs)
    log.tool_call("Bash", {"files": ["some/path"] * 1_000_000})
    log.tool_call("Bash", [[["path"] * 100] * 100] * 100)
    assert kinds(logs)[1:] == ["tool_call", "tool_call"]
    assert log.lost == 0


# ------------------------------------------------------------------------------------------------------------- many at once


def log_many(directory, number, lines, length):
    log = AgentLogger.join(f"a-{number % 4}", log_dir=directory)
    for line in range(lines):
        log.output(f"{number}:{line}:" + "x" * (length if line % 10 == 0 else 10))
    os._exit(log.lost)


@pytest.mark.parametrize(("lines", "length"), [pytest.param(2000, 10, id="2,000 short lines"), pytest.param(200, 3 * PIPE_BUF, id="long lines between")])
def test_32_processes_at_once_lose_and_tear_nothing(logs, lines, length):
    """All lines whole, none lost, in the stream and in transcripts that eight processes share each."""
    processes = [get_context("fork").Process(target=log_many, args=(logs, number, lines, length)) for number in range(32)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 32
    expected = Counter((str(number), str(line)) for number in range(32) for line in range(lines))
    said = [tuple(event["data"]["output"].split(":")[:2]) for event in stream(logs)]
    assert Counter(said) == expected
    assert Counter(tuple(event["data"]["output"].split(":")[:2]) for path in (logs / "agent-sessions").iterdir() for event in lines_of(path)) == expected
    for number in ("0", "31"):  # each process's own lines stand in its order
        assert [int(line) for who, line in said if who == number] == list(range(lines))


def test_threads_share_one_logger(logs):
    """Without a lock to forget."""
    log = AgentLogger("a-1", log_dir=logs).start("x")

    def work(number):
        for line in range(200):
            log.output(f"{number}:{line}:" + "y" * 5000)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({event["data"].get("output") for event in stream(logs)}) == 8 * 200 + 1


def test_a_forked_child_logs_on_and_does_not_end_the_session(logs):
    """Even if the fork came while other threads were writing, and the child leaves the block."""
    with AgentLogger("a-1", log_dir=logs) as log:
        stop = threading.Event()
        busy = threading.Thread(target=lambda: [log.output("busy") for _ in iter(stop.is_set, True)])
        busy.start()
        for number in range(10):
            process = get_context("fork").Process(target=in_a_child, args=(log, number))
            process.start()
            process.join(20)
            assert process.exitcode == 0
        stop.set()
        busy.join()
    assert sorted(text for event in stream(logs) if (text := event["data"].get("output", "")).startswith("child")) == [
        f"child {number}" for number in range(10)
    ]
    assert kinds(logs).count("session_end") == 1


def in_a_child(log, number):
    with log:
        log.output(f"child {number}")


def test_a_killed_writer_leaves_a_torn_last_line_at_most(logs):
    """And whoever writes next closes it first, so that it costs nothing but itself."""
    program = "import sys; from agentwatch import AgentLogger\nlog = AgentLogger('k', log_dir=sys.argv[1]).start()\nprint(flush=True)\nwhile True: log.output('x' * 3_000_000)"
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", program, str(logs)], cwd=ROOT, stdout=subprocess.PIPE)
        process.stdout.readline()
        while (logs / "agent-work-stream.jsonl").stat().st_size < 3_000_000:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        AgentLogger.join("after", log_dir=logs).output("mended")
        for path in (logs / "agent-work-stream.jsonl", logs / "agent-sessions" / "k.jsonl"):
            *lines, last = path.read_bytes().split(b"\n")
            torn = [number for number, line in enumerate(lines) if not line.endswith(b"}")]
            assert len(torn) <= 1
            assert path.parent != logs or (last == b"" and json.loads(lines[-1])["data"]["output"] == "mended")
            path.unlink()


def test_a_torn_line_is_closed_before_the_next_one(logs):
    """What a full disk or a power cut left."""
    logs.mkdir()
    (logs / "agent-work-stream.jsonl").write_bytes(b'{"half": ')
    AgentLogger.join("a-1", log_dir=logs).output("whole")
    torn, whole, end = (logs / "agent-work-stream.jsonl").read_bytes().split(b"\n")
    assert (torn, json.loads(whole)["data"]["output"], end) == (b'{"half": ', "whole", b"")


# ---------------------------------------------------------------------------------------------------------------- trouble


def trouble(logs):
    """What a program that logs sees on stderr."""
    program = (
        "import sys; from agentwatch import AgentLogger\n"
        "for number in range(3):\n"
        "    with AgentLogger('a', log_dir=sys.argv[1]) as log:\n"
        "        log.output('x'); log.error('y')\n"
        "print(log.lost)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(logs)], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout), done.stderr.splitlines()


def test_a_full_disk_is_counted_and_told_once(tmp_path):
    """`/dev/full` says what a full disk says; the other files are written."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "agent-work-stream.jsonl").symlink_to("/dev/full")
    lost, said = trouble(logs)
    assert lost == 4
    assert said == [f"`{logs}/agent-work-stream.jsonl` cannot be written: No space left on device; events are lost, and counted in `lost`"]
    assert len(lines_of(logs / "agent-sessions" / "a.jsonl")) == 12


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_disk_that_fills_up_and_empties_leaves_whole_lines(tmp_path):
    """What does not fit is lost and counted; when there is room again, logging goes on behind a newline."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    try:
        logs = mount / "logs"
        filler = mount / "filler"
        filler.write_bytes(b"x" * 100_000)
        log = AgentLogger("a-1", log_dir=logs)
        for _ in range(100):
            log.output("y" * 5000)
        assert log.lost > 0
        filler.unlink()
        before = log.lost
        log.output("room")
        assert log.lost == before
        lines = (logs / "agent-work-stream.jsonl").read_bytes().split(b"\n")
        assert lines[-1] == b""
        assert json.loads(lines[-2])["data"]["output"] == "room"
        assert sum(not line.endswith(b"}") for line in lines[:-1]) <= 1
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_line_that_was_written_in_part_is_completed_or_closed(tmp_path):
    """A file size limit cuts a write short as a full disk does."""
    logs = tmp_path / "logs"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = AgentLogger("a-1", log_dir=logs).start("x")
    size = (logs / "agent-work-stream.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        log.output("cut short " * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.lost > 0
    log.output("whole")
    start, torn, whole, end = (logs / "agent-work-stream.jsonl").read_bytes().split(b"\n")
    assert (len(torn), end) == (100, b"")
    assert [json.loads(line)["event_type"] for line in (start, whole)] == ["session_start", "agent_output"]


def test_the_rest_of_a_short_write_follows_it(monkeypatch, tmp_path):
    """If nobody came between; else the line is written anew."""
    real, path = os.write, tmp_path / "x.jsonl"
    monkeypatch.setattr(os, "write", lambda file, line: real(file, line[:3]))
    logger.append(path, b'{"a": 1}\n')
    assert path.read_bytes() == b'{"a": 1}\n'

    def write_between(file, line):
        monkeypatch.setattr(os, "write", real)
        written = real(file, line[:3])
        with path.open("ab") as other:
            other.write(b"other\n")
        return written

    monkeypatch.setattr(os, "write", write_between)
    logger.append(path, b'{"b": 2}\n')
    assert path.read_bytes() == b'{"a": 1}\n{"bother\n\n{"b": 2}\n'


def test_a_directory_that_vanishes_is_made_again(logs):
    """Somebody cleaned up while the program went on."""
    log = AgentLogger("a-1", log_dir=logs)
    log.output("x")
    subprocess.run(["rm", "-r", str(logs)], check=True)
    log.output("y")
    assert [event["data"]["output"] for event in stream(logs)] == ["y"]
    assert log.lost == 0


IN_THE_WAY = {
    "file in the directory's place": lambda logs: logs.write_text(""),
    "directory in the stream's place": lambda logs: (logs / "agent-work-stream.jsonl").mkdir(parents=True),
}


@pytest.mark.parametrize("make", IN_THE_WAY.values(), ids=IN_THE_WAY.keys())
def test_what_is_in_the_way_costs_lines_and_nothing_else(logs, make):
    """They are lost and counted."""
    make(logs)
    log = AgentLogger("a-1", log_dir=logs)
    log.output("x")
    log.end()
    assert log.lost > 0


def test_a_fifo_holds_nobody_up(logs):
    """Whether somebody reads it or not, and how slowly."""
    logs.mkdir()
    os.mkfifo(logs / "agent-work-stream.jsonl")
    reader = os.open(logs / "agent-work-stream.jsonl", os.O_RDONLY | os.O_NONBLOCK)
    log = AgentLogger("a-1", log_dir=logs)
    for _ in range(20):
        log.output("x" * 10_000)
    os.close(reader)
    assert 0 < log.lost < 20
    assert len(lines_of(logs / "agent-sessions" / "a-1.jsonl")) == 21


def test_rotation_is_met_at_the_next_line(logs):
    """A renamed file is written to no more."""
    log = AgentLogger("a-1", log_dir=logs)
    log.output("x")
    (logs / "agent-work-stream.jsonl").rename(logs / "agent-work-stream.jsonl.1")
    log.output("y")
    assert kinds(logs) == ["agent_output"]


def test_no_file_is_kept_open(logs):
    """A program of many attempts needs no more descriptors."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for number in range(50):
        AgentLogger(f"a-{number}", log_dir=logs).output("x")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_no_descriptor_left_is_counted(logs):
    """EMFILE is a disk's no like any other."""
    log = AgentLogger("a-1", log_dir=logs).start("x")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        log.output("x")
        log.error("y")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert log.lost > 0


# ---------------------------------------------------------------------------------------------------- the async form


def test_the_async_form_keeps_the_order_and_ends_the_session(logs):
    """Awaited from one task, lines stand in the order of the calls; from many, none is lost."""

    async def work():
        async with AsyncAgentLogger("a-1", log_dir=logs, task_id="T-1") as log:
            await log.start("x")
            call = await log.tool_call("Bash", {"command": "ls"})
            await log.tool_result("Bash", "ok", tool_call_id=call)
            await asyncio.gather(*(log.output(str(number)) for number in range(100)))
            await log.usage(input=1)
            assert log.lost == 0
        await log.output("after")

    asyncio.run(work())
    assert kinds(logs) == ["session_start", "tool_call", "tool_result", *["agent_output"] * 100, "usage", "session_end", "agent_output"]
    assert [event["data"]["output"] for event in stream(logs)[3:103]] == [str(number) for number in range(100)]


def test_a_cancelled_task_is_an_interrupted_session(logs):
    """The end is written although the task is going away."""

    async def work():
        async with AsyncAgentLogger("a-1", log_dir=logs) as log:
            await log.output("x")
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(work())
    assert stream(logs)[-1]["data"]["completion_status"] == "interrupted"


# ------------------------------------------------------------------------------------------------------ what it costs


def test_the_package_hands_out_the_logger_and_nothing_else():
    """By the name that the documentation uses; a misspelt one is an AttributeError."""
    assert agentwatch.AgentLogger is logger.AgentLogger
    with pytest.raises(AttributeError, match="no attribute `AgentLoger`"):
        agentwatch.AgentLoger  # noqa: B018


@pytest.mark.parametrize(
    ("program", "excluded"),
    [
        pytest.param("import agentwatch", {"agentwatch.logger", "json"}, id="import agentwatch"),
        pytest.param(
            "from agentwatch import AgentLogger; AgentLogger('a').output('x')",
            {"msgspec", "orjson", "asyncio", "logging", "agentwatch.core.signatures", "concurrent.futures", "typer", "subprocess"},
            id="the logger, until something fails",
        ),
    ],
)
def test_little_is_loaded(tmp_path, program, excluded):
    """15 to 30 ms for the logger; its limit is 60."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(done.stdout.split()) & excluded == set()


DOCUMENT = (ROOT / "docs" / "logger.md").read_text("utf-8")


def test_the_examples_of_its_page_run(tmp_path):
    """Python and shell, each in a process of its own; the daemon understands all that they write."""
    examples = re.findall(r"^```(python|sh) test\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in examples] == ["python", "python", "sh", "python"]
    program = tmp_path / "agentwatch"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agentwatch "$@"\n')
    program.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "AGENT_WORK_LOG_DIR": str(tmp_path / "logs")}
    for language, text in examples:
        command = [sys.executable, "-c", text] if language == "python" else ["sh", "-euc", text]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert kinds(tmp_path / "logs").count("session_end") == 3
    assert faults_and_alerts(tmp_path / "logs") == ([], [])
