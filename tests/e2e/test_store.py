"""The session store of a real daemon: what it writes, and that kills cost nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEED = 6


class Place:
    def __init__(self, base):
        self.logs = base / "logs"
        self.logs.mkdir()
        self.stream, self.metrics = self.logs / "agent-work-stream.jsonl", self.logs / "agent-metrics.jsonl"
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(base), "PYTHONPATH": str(ROOT), "AGENTWATCH_SOURCES": "none"}

    def start(self):
        process = subprocess.Popen(
            [sys.executable, "-m", "agentwatch", "run", "--log-dir", str(self.logs)], env=self.environ, cwd=self.logs.parent, stderr=subprocess.PIPE, text=True
        )
        while not process.stderr.readline().startswith("watching "):
            assert process.poll() is None
        return process

    def append(self, *events):
        with self.stream.open("ab") as file:
            file.write(b"".join(json.dumps(event).encode() + b"\n" for event in events))

    def rows(self):
        """Those that are whole: one may be on its way."""
        written = self.metrics.read_bytes() if self.metrics.exists() else b""
        return [json.loads(line) for line in written[: written.rfind(b"\n") + 1].splitlines()]

    def wait_for(self, count, process):
        end = time.monotonic() + 60
        while len(self.rows()) < count:
            assert process.poll() is None
            assert time.monotonic() < end, f"{len(self.rows())} of {count} rows"
            time.sleep(0.05)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def stop(process):
    process.terminate()
    process.communicate(timeout=30)


def session(number, at, status="success"):
    fields = {"attempt_id": f"a{number}", "executor": "CODEX", "task_id": f"t{number}"}
    for second, (kind, data) in enumerate(
        [
            ("session_start", {"prompt": "x"}),
            ("usage", {"usage": {"input": number, "output": 1}, "cost_usd": 0.25}),
            ("tool_call", {"tool_name": "Bash", "tool_call_id": "c"}),
            ("tool_result", {"tool_call_id": "c", "is_error": False, "result": "ok"}),
            ("session_end", {"completion_status": status}),
        ]
    ):
        yield {"timestamp": (at + timedelta(seconds=second)).isoformat(), "event_type": kind, "data": data, **fields}


def test_a_session_that_ends_is_stored(place):
    """With what it came to; and `summary` reads it without the logs."""
    process = place.start()
    now = datetime.now(UTC) - timedelta(minutes=5)
    place.append(*session(7, now), *session(8, now, "failed"))
    place.wait_for(2, process)
    stop(process)
    first, second = place.rows()
    assert (first["attempt_id"], first["completion_status"], first["metrics"]["tokens"]["input"], first["metrics"]["cost_usd"]) == ("a7", "success", 7, 0.25)
    assert (second["attempt_id"], second["outcome"]["status"]) == ("a8", "failed")


def test_a_session_that_fell_quiet_is_stored(place):
    """An agent that tells no end: what is old when it is read is over."""
    process = place.start()
    old = datetime.now(UTC) - timedelta(hours=13)  # a log that is younger may be of a clock that is behind
    place.append(*list(session(1, old))[:-1])
    place.wait_for(1, process)
    stop(process)
    (row,) = place.rows()
    assert "completion_status" not in row
    assert row["metrics"]["tool_calls"] == 1


def test_the_logger_and_the_daemon_write_one_line_together(place):
    """The logger's, whose session it was; five at once, ended in the same moment."""
    process = place.start()
    program = "from agentwatch import AgentLogger\nimport sys\nwith AgentLogger(sys.argv[1], log_dir=sys.argv[2]) as log:\n    log.error('boom')"
    loggers = [subprocess.Popen([sys.executable, "-c", program, f"a{n}", str(place.logs)], env=place.environ) for n in range(5)]
    assert [logger.wait(60) for logger in loggers] == [0] * 5
    end = time.monotonic() + 30
    while time.monotonic() < end and '"rows":[]' not in (place.logs / ".agentwatch" / "checkpoint.json").read_text():
        time.sleep(0.1)
    time.sleep(2.5)  # a row waits a second for the logger's; a second line would come after that
    stop(process)
    assert Counter(row["attempt_id"] for row in place.rows()) == {f"a{n}": 1 for n in range(5)}


def test_kills_cost_no_row_and_double_none(place):
    """SIGKILL at random moments while sessions end: as many rows as sessions, each with its own sums."""
    rng = random.Random(SEED)
    count, kills = 0, 0
    now = datetime.now(UTC) - timedelta(minutes=20)
    process = place.start()
    while kills < 9:
        burst = rng.randrange(1, 60)
        place.append(*(event for number in range(count, count + burst) for event in session(number, now)))
        count += burst
        time.sleep(rng.random() * 1.6)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        process = place.start()
    place.wait_for(count, process)
    stop(process)
    found = Counter(row["attempt_id"] for row in place.rows())
    assert found == {f"a{number}": 1 for number in range(count)}, f"seed {SEED}"
    assert all(row["metrics"]["tokens"]["input"] == int(row["attempt_id"][1:]) for row in place.rows())


@pytest.mark.parametrize("knows", ["nothing", "what was before"])
@pytest.mark.parametrize("is_packed", [False, True], ids=["renamed", "packed"])
def test_what_stands_in_a_rotated_file_is_not_stored_again(place, knows, is_packed):
    """A month began after sessions were stored, and the daemon was killed before its next checkpoint; or that was lost altogether."""
    begun = datetime.now(UTC) - timedelta(minutes=10)
    place.append(*session(0, begun))
    process = place.start()
    place.wait_for(1, process)
    stop(process)
    checkpoint = place.logs / ".agentwatch" / "checkpoint.json"
    before = checkpoint.read_bytes()
    place.append(*(event for number in range(1, 5) for event in session(number, begun)))
    process = place.start()
    place.wait_for(5, process)
    process.kill()
    process.communicate()
    if knows == "nothing":
        checkpoint.unlink()
    else:
        checkpoint.write_bytes(before)
    old = place.logs / "archive" / "agent-metrics-2026-01.jsonl"
    old.parent.mkdir()
    place.metrics.rename(old)
    if is_packed:
        subprocess.run(["gzip", old], check=True)
    place.append(*session(5, begun))
    process = place.start()
    place.wait_for(1, process)
    stop(process)
    assert [row["attempt_id"] for row in place.rows()] == ["a5"]


def test_a_daemon_that_is_down_is_caught_up_with(place):
    """`summary` reads on from where the daemon ended, and writes nothing."""
    process = place.start()
    now = datetime.now(UTC) - timedelta(minutes=5)
    place.append(*session(1, now), *list(session(2, now))[:2])
    place.wait_for(1, process)
    stop(process)
    place.append(*list(session(2, now))[2:], *session(3, now))
    before = place.metrics.read_bytes(), (place.logs / ".agentwatch" / "checkpoint.json").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "agentwatch", "summary", "--json", "--log-dir", str(place.logs)], env=place.environ, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert (found["sessions"]["total"], found["sessions"]["success"], found["tokens"]["input"], found["cost_usd"]["total"]) == (3, 3, 6, 0.75)
    assert (place.metrics.read_bytes(), (place.logs / ".agentwatch" / "checkpoint.json").read_bytes()) == before


def test_sessions_that_go_on_are_counted_as_running(place):
    """While the daemon watches them."""
    process = place.start()
    now = datetime.now(UTC) - timedelta(seconds=20)
    place.append(*session(1, now), *list(session(2, now))[:4])
    place.wait_for(1, process)
    done = subprocess.run(
        [sys.executable, "-m", "agentwatch", "summary", "--json", "--log-dir", str(place.logs)], env=place.environ, capture_output=True, text=True, check=True
    )
    stop(process)
    found = json.loads(done.stdout)["sessions"]
    assert (found["total"], found["running"], found["success"]) == (2, 1, 1)


def test_logs_of_programs_are_no_sessions(place):
    """Their errors are told by alerts; nobody asks how a web server's session ended."""
    (place.logs / "server.log").write_text("2026-02-09 10:00:00 ERROR could not bind\n" * 3)
    process = place.start()
    place.append(*session(1, datetime.now(UTC) - timedelta(minutes=5)))
    place.wait_for(1, process)
    stop(process)
    assert [row["attempt_id"] for row in place.rows()] == ["a1"]
