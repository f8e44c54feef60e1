"""`summary --rebuild`: each session once in the store, whatever happens to the process."""

import json
import resource
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

COUNT = 6000
ALONE = {"AGENTWATCH_SOURCES": "none"}


@pytest.fixture
def full(place, make_session):
    """So many sessions that their lines are written in several steps; some were started twice."""
    begun = datetime.now(UTC) - timedelta(hours=5)
    for number in range(COUNT):
        place.write(*make_session(f"a{number % (COUNT - 50)}", begun + timedelta(seconds=number)))
    return place


def start(place, **options):
    command = [sys.executable, "-m", "agentwatch", "summary", "--rebuild"]
    return subprocess.Popen(command, cwd=place.base, env={**place.environ, **ALONE}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)


def lines(place):
    return place.metrics.read_bytes().splitlines(keepends=True) if place.metrics.exists() else []


def test_killed_again_and_again_it_stores_each_session_once(full):
    """What stands there already is recognised, half a line is made whole, and nothing is left behind."""
    for most in (1, 1 << 20, 2 << 20):
        process = start(full)
        while process.poll() is None and (not full.metrics.exists() or full.metrics.stat().st_size < most):
            time.sleep(0.0005)
        process.kill()
        process.communicate()
        assert list((full.logs / ".agentwatch").iterdir()) == []
    assert full.run("summary", "--rebuild", **ALONE).returncode == 0
    stored = lines(full)
    assert all(line.endswith(b"}\n") for line in stored)
    assert (len(stored), max(Counter(stored).values())) == (COUNT, 1)
    assert "0 sessions stored" in full.run("summary", "--rebuild", **ALONE).stderr
    assert lines(full) == stored


def test_a_full_disk_is_an_error_and_leaves_whole_lines(full):
    """Which place has no room; once there is some, the rest is stored."""

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_500_000, resource.RLIM_INFINITY))

    full.store(*({"timestamp": f"2026-01-0{day}T00:00:00Z", "attempt_id": "x" * 400_000, "metrics": {}} for day in range(1, 5)))
    before = lines(full)
    process = start(full, preexec_fn=little)
    _, told = process.communicate()
    assert process.returncode == 1
    assert told.splitlines()[0] == f"error: `{full.metrics}`: File too large"
    stored = lines(full)
    assert 0 < len(stored) - len(before) < COUNT
    assert all(line.endswith(b"}\n") for line in stored)
    assert full.run("summary", "--rebuild", **ALONE).returncode == 0
    assert len(lines(full)) == COUNT + len(before)
    assert max(Counter(lines(full)).values()) == 1


def test_no_room_for_the_sessions_in_between_is_an_error(full):
    """They are put together beside the state: the store has nothing of them."""

    def none() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    process = start(full, preexec_fn=none)
    _, told = process.communicate()
    assert process.returncode == 1
    assert told.splitlines()[0] == f"error: `{full.logs / '.agentwatch'}`: File too large"
    assert lines(full) == []
    assert json.loads(full.run("summary", "--json", **ALONE).stdout)["sessions"]["total"] == COUNT


@pytest.mark.parametrize("how", ["renamed", "packed", "compacted and moved away"])
def test_what_was_rotated_is_not_stored_again(place, make_session, how):
    """Nor by a single pass over all there is."""
    begun = datetime.now(UTC) - timedelta(days=3)
    for number in range(20):
        place.write(*make_session(f"a{number}", begun))
    assert "20 sessions stored" in place.run("summary", "--rebuild", **ALONE).stderr
    old = place.logs / "archive" / "agent-metrics-2026-01.jsonl"
    old.parent.mkdir()
    place.metrics.rename(old)
    if how == "packed":
        subprocess.run(["gzip", old], check=True)
    if how == "compacted and moved away":
        pytest.importorskip("duckdb")
        assert place.run("report", "--compact", **ALONE).returncode == 0
        old.unlink()
    place.write(*make_session("new", begun))
    assert "1 session stored" in place.run("summary", "--rebuild", **ALONE).stderr
    place.metrics.unlink()
    assert place.run("run", "--once", **ALONE).returncode == 0
    assert [json.loads(line)["attempt_id"] for line in lines(place)] == ["new"]


@pytest.mark.parametrize("how", ["one log", "two logs", "compacted between"])
def test_a_session_that_was_taken_up_again_the_next_day_counts_once(place, make_session, how):
    """Its watcher had forgotten it, and stored two pieces; a rebuild and a compaction do not put their sum beside them."""
    begun = datetime.now(UTC) - timedelta(days=3)
    start, *_, end = make_session("a", begun)
    spent = {"event_type": "usage", "data": {"usage": {"input": 5, "output": 1}}}
    place.write(start, {**start, **spent})
    if how == "two logs":
        place.stream.rename(place.logs / "agent-work-stream-20260101T000000.jsonl")
    later = (begun + timedelta(hours=20)).isoformat()
    place.write({**start, **spent, "timestamp": later}, {**end, "timestamp": later})
    assert place.run("run", "--once", **ALONE).returncode == 0
    before = json.loads(place.run("summary", "--json", **ALONE).stdout)
    assert (before["sessions"]["total"], before["tokens"]["total"]) == (1, 12)
    if how == "compacted between":
        pytest.importorskip("duckdb")
        first, rest = place.metrics.read_bytes().split(b"\n", 1)
        (place.logs / "agent-metrics-20260101T000000.jsonl").write_bytes(first + b"\n")
        place.metrics.write_bytes(rest)
        assert place.run("report", "--compact", **ALONE).returncode == 0
    for _ in range(2):
        place.run("summary", "--rebuild", **ALONE)
        after = json.loads(place.run("summary", "--json", **ALONE).stdout)
        assert (after["sessions"]["total"], after["tokens"]["total"]) == (1, 12)


def test_metrics_that_were_moved_away_by_hand_are_not_stored_again(place, make_session):
    """Into `archive`, under the name that they had; neither by a rebuild nor by a single pass."""
    place.write(*make_session("old", datetime.now(UTC) - timedelta(days=3)))
    assert "1 session stored" in place.run("summary", "--rebuild", **ALONE).stderr
    archive = place.logs / "archive"
    archive.mkdir()
    place.metrics.rename(archive / place.metrics.name)
    assert "0 sessions stored" in place.run("summary", "--rebuild", **ALONE).stderr
    assert place.run("run", "--once", **ALONE).returncode == 0
    assert lines(place) == []
