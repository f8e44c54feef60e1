"""Finished days as Parquet: the same reports, from less."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentwatch.apps.history import compact
from agentwatch.core.metrics import sessions
from agentwatch.errors import StorageError
from agentwatch.settings import Loaded, Logs, Settings
from agentwatch.store import history

duckdb = pytest.importorskip("duckdb", reason="the extra `history` is not installed")

NOW = datetime(2026, 2, 10, 12, tzinfo=UTC)
OLD = "agent-metrics-20260201T000000.jsonl"


def row(attempt_id, days_ago, **fields):
    at = NOW - timedelta(days=days_ago)
    begun = at - timedelta(minutes=5)
    return {"timestamp": at.isoformat(), "attempt_id": attempt_id, "started_at": begun.isoformat(), "metrics": {"cost_usd": 1.5}, "format": "codex", **fields}


def write(path, *rows, days_ago=0.0):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    at = (NOW - timedelta(days=days_ago)).timestamp()
    os.utime(path, (at, at))
    return path


def compacted(directory):
    return compact(Loaded(Settings(logs=Logs(dir=directory)), {}, ()), NOW, pytest.fail)


def known(directory, since=None):
    problems = []
    with history.lines(directory, since, problems.append, "") as lines:
        found = sessions(row for rows in history.understood(lines, problems.append) for row in rows)
    return [(one.attempt_id, one.timestamp, one.metrics.cost_usd) for one in found], problems


@pytest.fixture
def logs(tmp_path):
    """Two sessions in a file that was rotated, one of yesterday and one of today in the current one."""
    write(tmp_path / OLD, row("a'b\n{", 12, task_title="[m] =x\u202e"), row("b", 11), days_ago=10)
    write(tmp_path / "agent-metrics.jsonl", row("c", 1), row("d", 0))
    return tmp_path


def test_finished_days_are_stored_and_today_is_not(logs):
    """A partition each, with columns that DuckDB can be asked by."""
    assert compacted(logs) == (3, str(logs / "history"))
    assert sorted(path.name for path in (logs / "history").iterdir()) == ["day=2026-01-29", "day=2026-01-30", "day=2026-02-09"]
    asked = duckdb.execute("SELECT count(*), sum(cost_usd), epoch(min(ended_at)) FROM read_parquet(?)", [f"{logs}/history/*/*.parquet"]).fetchone()
    assert asked == (3, 4.5, (NOW - timedelta(days=12)).timestamp())


def test_reports_read_the_same_whether_the_files_are_there_or_not(logs):
    """And of what is in Parquet the file stays closed: here it could not be read."""
    before = known(logs)
    compacted(logs)
    assert known(logs) == before
    old = logs / OLD
    state = old.stat()
    old.write_bytes(b"?" * state.st_size)
    os.utime(old, ns=(state.st_mtime_ns, state.st_mtime_ns))
    assert known(logs) == before
    old.unlink()
    assert known(logs) == before
    assert compacted(logs)[0] == 3
    assert known(logs) == before


def test_a_newer_line_of_a_session_replaces_the_one_in_parquet(logs):
    """Also where its day has been stored."""
    compacted(logs)
    write(logs / "agent-metrics.jsonl", row("b", 11, metrics={"cost_usd": 9.0}), row("d", 0))
    assert [cost for name, _, cost in known(logs)[0] if name == "b"] == [9.0]
    compacted(logs)
    (logs / "agent-metrics.jsonl").unlink()
    assert [cost for name, _, cost in known(logs)[0] if name == "b"] == [9.0]


def test_what_went_on_for_days_is_one_session(logs):
    """Its older line stays in the partition of a day of which nothing else is left: that of the later day counts."""
    went_on = {"started_at": (NOW - timedelta(days=13)).isoformat()}
    write(logs / OLD, row("x", 12, **went_on), days_ago=10)
    compacted(logs)
    write(logs / "agent-metrics.jsonl", {**row("x", 2, **went_on), "metrics": {"cost_usd": 7.0}})
    compacted(logs)
    (logs / OLD).unlink()
    (logs / "agent-metrics.jsonl").unlink()
    assert [cost for name, _, cost in known(logs)[0] if name == "x"] == [7.0]


def test_a_log_directory_of_any_name_is_found_again(tmp_path):
    """Brackets and stars are no patterns."""
    logs = tmp_path / "lo*gs [1]?'"
    logs.mkdir()
    write(logs / OLD, row("a", 12), days_ago=10)
    compacted(logs)
    (logs / OLD).unlink()
    assert [name for name, _, _ in known(logs)[0]] == ["a"]


def test_a_short_period_opens_no_parquet(logs):
    """What was last written before it is not needed."""
    compacted(logs)
    for path in (logs / "history").rglob("*.parquet"):
        path.write_bytes(b"rubbish")
    found, problems = known(logs, NOW - timedelta(days=2))
    assert ([name for name, _, _ in found], problems) == (["c", "d"], [])


def test_what_cannot_be_read_is_told_and_read_from_the_files(logs):
    """A damaged partition costs nothing as long as the files are there."""
    before, _ = known(logs)
    compacted(logs)
    for path in (logs / "history").rglob("*.parquet"):
        path.write_bytes(b"rubbish")
    found, [problem] = known(logs)
    assert found == before
    assert problem.startswith("what was compacted is not used")
    with pytest.raises(StorageError):
        compacted(logs)


def test_without_duckdb_the_remedy_is_told(logs):
    """Two lines, and what was there stays; a report does without as long as the files are there."""
    (logs / "shim").mkdir()
    (logs / "shim" / "duckdb.py").write_text("raise ImportError")
    environ = {**os.environ, "PYTHONPATH": f"{logs / 'shim'}:{Path(__file__).parents[2]}", "HOME": str(logs), "AGENTWATCH_SOURCES": "none"}

    def run(*arguments):
        command = [sys.executable, "-m", "agentwatch", *arguments, "--log-dir", str(logs)]
        return subprocess.run(command, cwd=logs, env=environ, capture_output=True, text=True, timeout=60, check=False)

    refused = run("report", "--compact")
    assert refused.returncode == 1
    assert "hint: install `agentwatch[history]`" in refused.stderr
    compacted(logs)
    said = json.loads(run("summary", "--days", "30", "--until", NOW.isoformat(), "--json").stdout)
    assert (said["sessions"]["total"], len(said["problems"])) == (3, 1)
    assert run("report").returncode == 2
    assert run("report", "--compact", "errors").returncode == 2
    assert "put it behind" in run("report", "--log-dir", "elsewhere", "errors").stderr


def test_without_sessions_nothing_is_made(tmp_path):
    """Neither a directory nor a note."""
    assert compacted(tmp_path)[0] == 0
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from agentwatch.store import parquet
def kill():
    while not any(path.name not in sys.argv[2:] for path in Path(sys.argv[1]).glob("day=2026-02-09/*")):
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=kill, daemon=True).start()
parquet.write(sys.argv[1], (b'{"timestamp":"2026-02-09T00:00:00Z","attempt_id":"%d","task_title":"%s","metrics":{}}\\n' % (n, os.urandom(600).hex().encode()) for n in range(40000)))
"""


@pytest.mark.parametrize("is_new", [True, False], ids=["a new day", "a day that is there"])
def test_a_kill_while_a_day_is_written_costs_nothing(logs, is_new):
    """What was compacted before can be read, and compacting again puts right what was left behind."""
    compacted(logs)
    (logs / OLD).unlink()
    before = known(logs)
    day = logs / "history" / "day=2026-02-09"
    if is_new:
        (day / "sessions0.parquet").unlink()
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run([sys.executable, "-c", KILLED, logs / "history", "sessions0.parquet" if not is_new else ""], env=environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in day.iterdir()] != ["sessions0.parquet"]
    assert known(logs) == before
    assert compacted(logs)[0] == 3
    assert known(logs) == before
    assert [path.name for path in day.iterdir()] == ["sessions0.parquet"]
