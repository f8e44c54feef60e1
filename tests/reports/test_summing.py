"""A summary that is added up line by line tells what one of all sessions in memory tells."""

import gzip
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch import settings
from agentwatch.apps import history
from agentwatch.core.metrics import Metrics, Row
from agentwatch.core.reports.history import last_days
from agentwatch.core.reports.summary import summarise
from agentwatch.store import history as store

NOW = datetime(2026, 2, 9, 12, tzinfo=UTC)
PERIOD = last_days(2, NOW, is_now=True)


@st.composite
def lines(draw, kinds=("watcher", "watcher", "watcher", "logger", "broken", "elsewhere", "no session")):
    """Lines of the store: of a watcher and of loggers new and old, of few attempts, so that some replace and some continue others."""
    end = NOW + timedelta(minutes=draw(st.integers(-6 * 1440, 120)))
    line = {"timestamp": end.isoformat(), "attempt_id": draw(st.sampled_from("abcdefghij")), "executor": draw(st.sampled_from(("CODEX", "CLAUDE", None)))}
    kind = draw(st.sampled_from(kinds))
    if kind == "no session":
        return b'{"attempt_id":"a"}'
    if kind != "old":
        line["started_at"] = (end - timedelta(minutes=draw(st.integers(0, 3)))).isoformat()
    if kind in ("watcher", "elsewhere"):
        line |= {"format": "canonical", "scope": draw(st.sampled_from(("", "runs/r1")))}
    if kind == "elsewhere":
        line["timestamp"] = end.astimezone().isoformat().replace("+00:00", "+02:00")
    errors = draw(st.integers(0, 3))
    line["metrics"] = {
        "duration_ms": draw(st.integers(0, 1000)),
        "errors": errors,
        "cost_usd": draw(st.sampled_from((None, 0.0, 0.25, 1.5))),
        "total_tokens": draw(st.integers(0, 99)),
    }
    if errors:
        kind = {"cluster": draw(st.sampled_from("xyz")), "count": errors, "last_seen": end.isoformat()}
        kind |= {"first_seen": line.get("started_at", end.isoformat()), "sample_message": draw(st.sampled_from(("", "boom", "bang")))}
        kind["error_category"] = draw(st.sampled_from((None, "network", "tool")))
        line["error_summary"] = {"total_errors": errors, "kinds": [kind]}
    line["completion_status"] = draw(st.sampled_from(("success", "failed", None)))
    if draw(st.booleans()):
        line["days"] = [{"day": f"{end:%Y-%m-%d}", "tokens": {"input": 7}, "cost_usd": 0.5}, {"day": "2026-02-08", "tokens": {"output": 2}}]
    told = json.dumps(line).encode()
    return told[:-9] if kind == "broken" else told


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("summing")


def plain(value):
    """The figures, without the differences that the order of additions makes. Lists in their order, as they are printed."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def both(directory: Path):
    """The summary line by line, and of all sessions at once."""
    loaded = settings.load(cwd=directory, environ={"AGENTWATCH_SOURCES": "none"}, home=directory, flags={"logs.dir": directory})
    asked = (loaded, {"AGENTWATCH_SOURCES": "none"}, directory)
    known = history.collect(*asked, PERIOD.before.start, lambda *_: None)
    return history.summary(*asked, PERIOD, lambda *_: None), summarise(known, PERIOD)


@given(st.lists(lines(), max_size=40), st.lists(lines(("old",)), max_size=2), st.integers(0, 40))
def test_it_is_the_same_summary(place, written, old, rotated):
    """Whatever was replaced, continued, told twice, logged beside, rotated, of another clock or damaged, and where a line does not tell its errors."""
    written = written + old
    (place / "archive").mkdir(exist_ok=True)
    (place / "archive" / "agent-metrics-2026-01.jsonl.gz").write_bytes(gzip.compress(b"".join(line + b"\n" for line in written[:rotated])))
    (place / "agent-metrics.jsonl").write_bytes(b"".join(line + b"\n" for line in written[rotated:]))
    (place / "agent-errors.jsonl").write_text(
        "".join(json.dumps({"timestamp": NOW.isoformat(), "attempt_id": one, "event_type": "error", "data": {"error_message": "boom"}}) + "\n" for one in "az")
    )
    (place / "agent-work-stream.jsonl").write_text(
        "".join(
            json.dumps({"timestamp": NOW.isoformat(), "attempt_id": one, "event_type": "session_end", "data": {"completion_status": "success"}}) + "\n"
            for one in "ab"
        )
    )
    one, other = both(place)
    assert plain(msgspec.to_builtins(one)) == plain(msgspec.to_builtins(other))


def test_sessions_that_are_alone_are_not_kept_in_memory(tmp_path, monkeypatch):
    """A month has 17,000: each is counted and let go, and only what has several lines is put together."""
    rows = [Row(timestamp=NOW, attempt_id=name, started_at=NOW, metrics=Metrics()) for name in ("a", "b", "c", "a")]
    (tmp_path / "agent-metrics.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    joined = []
    monkeypatch.setattr(history, "sessions", lambda rows: joined.append([row.attempt_id for row in rows]) or list(rows)[-1:])
    loaded = settings.load(cwd=tmp_path, environ={"AGENTWATCH_SOURCES": "none"}, home=tmp_path, flags={"logs.dir": tmp_path})
    found = history.summary(loaded, {"AGENTWATCH_SOURCES": "none"}, tmp_path, PERIOD, lambda *_: None)
    assert joined == [["a", "a"]]
    assert found.sessions.total == 3


def test_the_attempts_of_a_block_are_those_of_its_rows():
    """A line that the quick look cannot read is read as the rows are."""
    blocks = [store.Block("x", b'{"attempt_id":"a"}\n{"attempt_id":"b","timestamp":"2026-02-09T12:00:00Z","metrics":{}}\n'), store.Block("y", b"not JSON\n")]
    assert list(store.attempts(blocks)) == [["a", "b"], []]


def test_a_line_without_end_costs_no_more_than_lines(tmp_path, monkeypatch):
    """A crash may leave a hole of zeros behind: what has no line break in it is not copied again with each block."""
    monkeypatch.setattr(store, "BLOCK_BYTES", 1 << 10)
    took_s = []
    for name, content in (("lines", b"x" * 99 + b"\n"), ("hole", b"\0" * 100)):
        path = tmp_path / name
        path.write_bytes(content * 60_000)
        began = time.perf_counter()
        assert sum(map(len, store._blocks(path, pytest.fail))) == 6_000_000
        took_s.append(time.perf_counter() - began)
    assert took_s[1] < 20 * took_s[0]
