"""Every figure of the reports, counted again from the raw events by other means."""

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from statistics import fmean, median

import msgspec
import pytest

SEED, EVENTS, DAYS = 20261122, 100_000, 7
KINDS = ("input", "output", "cache_read", "cache_write")


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """The log, what the program says of it, and what plain loops over its events say."""
    from tests.reports import conftest

    place = conftest.Place(tmp_path_factory.mktemp("independent"))
    now = datetime.now(UTC)
    events = conftest.big_log(SEED, EVENTS, now)
    place.write(*events)
    span = ["--days", str(DAYS), "--until", now.isoformat()]
    found = {"summary": place.json("summary", *span, AGENTWATCH_SOURCES="none")}
    for name, arguments in {
        "errors": ["errors"],
        "executors": ["executors"],
        "sessions": ["sessions"],
        "days": ["cost", "--by", "day"],
        "models": ["cost", "--by", "model"],
        "tasks": ["tasks"],
        "codex": ["sessions", "--executor", "codex"],
    }.items():
        found[name] = place.json("report", *arguments, *span, AGENTWATCH_SOURCES="none")
    return found, by_hand(events), place


def by_hand(events):
    """Sessions as dicts, by no code of the program."""
    sessions = {}
    for event in events:
        at = datetime.fromisoformat(event["timestamp"])
        one = sessions.setdefault(
            event["attempt_id"], {"start": at, "errors": [], "tokens": Counter(), "steps": 0.0, "status": None, "lasted": None, "days": Counter(), **event}
        )
        one["end"] = at
        data = event["data"]
        if "usage" in data:
            one["tokens"].update({kind: data["usage"][kind] for kind in KINDS})
            one["steps"] += data["cost_usd"]
            one["days"][at.date().isoformat()] += data["cost_usd"]
        if event["event_type"] == "error":
            one["errors"].append((data["error_fingerprint"], at))
        if event["event_type"] == "session_end":
            one["status"], one["lasted"] = data["completion_status"], data["duration_ms"]
    for one in sessions.values():
        if one["lasted"] is None:
            one["lasted"] = round((one["end"] - one["start"]).total_seconds() * 1000)
    return list(sessions.values())


def within(sessions, summary):
    start, end = (datetime.fromisoformat(summary["period"][name]) for name in ("start", "end"))
    return [one for one in sessions if start <= one["end"] < end]


def test_the_log_has_what_it_takes(counted):
    """Enough of everything, or the comparisons below would compare nothing with nothing."""
    found, sessions, _ = counted
    mine = within(sessions, found["summary"])
    assert len(mine) > 500
    assert {one["status"] for one in mine} == {"success", "failed", "timeout", "interrupted", None}
    assert any(len(one["days"]) > 1 for one in mine)


def test_the_figures_of_the_summary(counted):
    """Sessions, success, durations, cost, tokens, errors."""
    found, sessions, _ = counted
    summary = found["summary"]
    mine = within(sessions, summary)
    status = Counter(one["status"] for one in mine)
    told = len(mine) - status[None]
    assert {name: summary["sessions"][name] for name in ("total", "success", "failed", "timeout", "interrupted", "unknown")} == {
        "total": len(mine), "success": status["success"], "failed": status["failed"], "timeout": status["timeout"], "interrupted": status["interrupted"], "unknown": status[None],
    }  # fmt: skip
    assert summary["sessions"]["success_rate"] == pytest.approx(status["success"] / told)
    lasted = sorted(one["lasted"] for one in mine)
    assert summary["duration_ms"]["mean"] == pytest.approx(fmean(lasted))
    assert summary["duration_ms"]["median"] == pytest.approx(median(lasted))
    place = 0.95 * (len(lasted) - 1)
    assert lasted[int(place)] <= summary["duration_ms"]["p95"] <= lasted[int(place) + 1]
    assert summary["cost_usd"]["total"] == pytest.approx(sum(one["steps"] for one in mine), abs=1e-3)
    assert summary["cost_usd"]["mean"] == pytest.approx(fmean(one["steps"] for one in mine), abs=1e-5)
    for kind in KINDS:
        assert summary["tokens"][kind] == sum(one["tokens"][kind] for one in mine)
    assert summary["tokens"]["total"] == sum(one["tokens"].total() for one in mine)
    assert summary["errors"]["total"] == sum(len(one["errors"]) for one in mine)


@pytest.mark.parametrize("key", ["executor", "model"])
def test_the_groups_of_the_summary(counted, key):
    """Each executor and each model."""
    found, sessions, _ = counted
    groups = defaultdict(list)
    for one in within(sessions, found["summary"]):
        groups[one[key]].append(one)
    told = {one[key]: one for one in found["summary"][f"by_{key}"]}
    assert set(told) == set(groups)
    for name, members in groups.items():
        assert told[name]["sessions"] == len(members)
        assert told[name]["duration_ms_mean"] == pytest.approx(fmean(one["lasted"] for one in members))
        assert told[name]["cost_usd_total"] == pytest.approx(sum(one["steps"] for one in members), abs=1e-3)
        known = [one for one in members if one["status"]]
        assert told[name]["success_rate"] == pytest.approx(sum(one["status"] == "success" for one in known) / len(known))


def test_the_period_before(counted):
    """The same figures of the seven days before."""
    found, sessions, _ = counted
    start = datetime.fromisoformat(found["summary"]["period"]["start"])
    mine = [one for one in sessions if start - timedelta(days=DAYS) <= one["end"] < start]
    before = found["summary"]["before"]
    assert before["sessions"]["total"] == len(mine)
    assert before["cost_usd"]["total"] == pytest.approx(sum(one["steps"] for one in mine), abs=1e-3)
    assert before["errors"]["total"] == sum(len(one["errors"]) for one in mine)


def test_the_clusters_of_errors(counted):
    """How many, in how many attempts and tasks, from when to when, with whom."""
    found, sessions, _ = counted
    mine = within(sessions, found["summary"])
    expected = defaultdict(list)
    for one in mine:
        for name, at in one["errors"]:
            expected[name].append((at, one))
    assert [one["fingerprint"] for one in found["errors"]] == sorted(expected, key=lambda name: -len(expected[name]))
    for cluster in found["errors"]:
        members = expected[cluster["fingerprint"]]
        assert cluster["occurrences"] == len(members)
        assert cluster["attempts"] == len({one["attempt_id"] for _, one in members})
        assert cluster["tasks"] == len({one["task_id"] for _, one in members})
        assert datetime.fromisoformat(cluster["first_seen"]) == min(at for at, _ in members)
        assert datetime.fromisoformat(cluster["last_seen"]) == max(at for at, _ in members)
        assert cluster["by_executor"] == dict(Counter(one["executor"] for _, one in members))
        assert cluster["by_size"] == dict(Counter(one["task_title"][1] for _, one in members))
    assert [one["fingerprint"] for one in found["summary"]["top_errors"]] == [one["fingerprint"] for one in found["errors"]]


def test_the_executors(counted):
    """First shots, cost of a success, tokens, commonest failures."""
    found, sessions, _ = counted
    mine = within(sessions, found["summary"])
    for told in found["executors"]:
        members = [one for one in mine if one["executor"] == told["executor"]]
        wins = sum(one["status"] == "success" for one in members)
        assert told["first_shot_rate"] == pytest.approx(wins / sum(one["status"] is not None for one in members))
        assert told["cost_usd_per_success"] == pytest.approx(sum(one["steps"] for one in members) / wins, abs=1e-4)
        assert told["tokens_mean"] == pytest.approx(fmean(one["tokens"].total() for one in members))
        common = Counter(name for one in members for name, _ in one["errors"])
        assert {one["fingerprint"]: one["occurrences"] for one in told["common_failures"]} == dict(common.most_common(3))


def test_the_sessions(counted):
    """Each of them, with its own figures."""
    found, sessions, _ = counted
    mine = {one["attempt_id"]: one for one in within(sessions, found["summary"])}
    assert {one["attempt_id"] for one in found["sessions"]} == set(mine)
    for told in found["sessions"]:
        one = mine[told["attempt_id"]]
        assert (told["status"], told["errors"], told["tokens"]["total"]) == (one["status"], len(one["errors"]), one["tokens"].total())
        assert told["cost_usd"] == pytest.approx(one["steps"], abs=1e-6)
        assert datetime.fromisoformat(told["started_at"]) == one["start"]
        assert datetime.fromisoformat(told["ended_at"]) == one["end"]
    assert {one["attempt_id"] for one in found["codex"]} == {name for name, one in mine.items() if one["executor"] == "CODEX"}


def test_the_money(counted):
    """By day, when it was spent, also where a session went on over midnight; by model."""
    found, sessions, _ = counted
    mine = within(sessions, found["summary"])
    first = found["summary"]["period"]["start"][:10]
    days = Counter()
    for one in mine:
        days.update({day: usd for day, usd in one["days"].items() if day >= first})
    told = {one["key"]: one["cost_usd"] for one in found["days"] if one["cost_usd"]}
    assert told == pytest.approx({day: usd for day, usd in days.items() if usd}, abs=1e-3)
    models = Counter()
    for one in mine:
        models[one["model"]] += one["steps"]
    assert {one["key"]: one["cost_usd"] for one in found["models"]} == pytest.approx(dict(models), abs=1e-3)
    assert sum(one["sessions"] for one in found["days"]) == len(mine)


def test_the_tasks(counted):
    """Attempts, failures and cost of each."""
    found, sessions, _ = counted
    expected = defaultdict(list)
    for one in within(sessions, found["summary"]):
        expected[one["task_id"]].append(one)
    assert {one["task_id"] for one in found["tasks"]} == set(expected)
    for told in found["tasks"]:
        members = expected[told["task_id"]]
        assert told["attempts"] == len(members)
        assert told["failed"] == sum(one["status"] in ("failed", "timeout", "interrupted") for one in members)
        assert told["cost_usd_total"] == pytest.approx(sum(one["steps"] for one in members), abs=1e-5)
        assert told["errors"] == sum(len(one["errors"]) for one in members)


def test_a_rebuild_in_many_pieces_finds_the_same(counted, monkeypatch):
    """The stream cut into pieces of 300 kB, read by two processes: sessions that lie across a cut are joined."""
    from agentwatch.apps import scan
    from agentwatch.core.metrics import sessions as joined
    from agentwatch.settings import load

    _, sessions, place = counted
    monkeypatch.setattr(scan, "PIECE_BYTES", 300_000)
    loaded = load(cwd=place.base, environ={"AGENTWATCH_SOURCES": "none"}, home=place.base)
    seen = scan.files(loaded, {}, place.base, None, pytest.fail)
    pieces, _ = scan.scan_rows(loaded, seen, lambda *_: None)
    assert len(pieces) > len(sessions)
    rows = {row.attempt_id: row for row in joined(pieces)}
    assert set(rows) == {one["attempt_id"] for one in sessions}
    for one in sessions:
        row = rows[one["attempt_id"]]
        assert (row.status, row.metrics.errors, row.tokens) == (one["status"], len(one["errors"]), one["tokens"].total())
        assert row.metrics.cost_usd == pytest.approx(one["steps"], abs=1e-5)
        assert (row.begun, row.timestamp) == (one["start"], one["end"])


def test_the_reports_are_the_same_where_sessions_are_not_in_memory(counted, monkeypatch):
    """Each of them, of all sessions and of those of one executor, to the last digit."""
    from agentwatch.apps.reports import Scope, Source
    from agentwatch.settings import load
    from agentwatch.store import spill

    found, sessions, place = counted
    environ = {"AGENTWATCH_SOURCES": "none"}
    loaded = load(cwd=place.base, environ=environ, home=place.base)
    until = datetime.fromisoformat(found["summary"]["period"]["end"])

    def told(executor):
        source = Source(loaded, environ, place.base, Scope(DAYS, executor=executor), until, lambda *_: None, is_compared=True)
        reports = (
            *(source.errors(), source.executors(), source.executors(["codex", "Claude", "none"]), source.prompts(), source.prompts(["a", "b"])),
            *(source.tasks(failed_only=False), source.backlog(5), source.sessions(), source.cost("day"), source.cost("project"), source.weekly().report),
        )
        return msgspec.to_builtins([source.weekly().found, *((report.found, report.blocks) for report in reports)], enc_hook=repr)

    in_memory = [told(executor) for executor in (None, "codex")]
    monkeypatch.setattr(spill, "MOST_KEPT", 50)
    assert len(sessions) > 1000
    assert [told(executor) for executor in (None, "codex")] == in_memory


def test_the_store_says_the_same_as_the_logs(counted):
    """After a rebuild, with the stream gone."""
    found, _, place = counted
    assert place.run("summary", "--rebuild", AGENTWATCH_SOURCES="none").returncode == 0
    place.stream.rename(place.stream.with_suffix(".away"))
    try:
        again = place.json("summary", "--days", str(DAYS), "--until", found["summary"]["period"]["end"], AGENTWATCH_SOURCES="none")
    finally:
        place.stream.with_suffix(".away").rename(place.stream)
    for name in ("sessions", "tokens", "errors", "duration_ms"):
        assert again[name] == found["summary"][name]
    assert again["cost_usd"]["total"] == pytest.approx(found["summary"]["cost_usd"]["total"])
    lines = [json.loads(line) for line in place.metrics.read_bytes().splitlines()]
    assert len(lines) == len({line["attempt_id"] for line in lines})
