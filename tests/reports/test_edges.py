"""What the reports say where there is little to say, or where what there is is damaged."""

import csv
import gzip
import io
import json
import re
from datetime import UTC, datetime, timedelta

import pytest

REPORTS = (
    ("errors",),
    ("executors",),
    ("executors", "A", "B"),
    ("tasks",),
    ("tasks", "--failed-only"),
    ("backlog",),
    ("sessions",),
    ("cost",),
    ("cost", "--by", "model"),
    ("prompts",),
)
ALONE = {"AGENTWATCH_SOURCES": "none"}


@pytest.mark.parametrize("arguments", [("summary",), *(("report", *one) for one in REPORTS)], ids=" ".join)
def test_an_empty_directory_is_no_error(place, arguments):
    """Every report says in words that there is nothing, and makes nothing."""
    place.logs.rmdir()
    done = place.run(*arguments, **ALONE)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\bno\b", done.stdout)
    assert not place.logs.exists()


def test_the_json_of_nothing(place):
    """Zeros and nulls, no divisions by them."""
    found = place.json("summary", **ALONE)
    assert (found["sessions"]["total"], found["sessions"]["success_rate"]) == (0, None)
    assert (found["duration_ms"], found["cost_usd"]["total"], found["cost_usd"]["mean"]) == ({"mean": None, "median": None, "p95": None}, 0, None)
    assert (found["by_executor"], found["top_errors"], found["alerts"], found["before"]) == ([], [], {}, None)
    assert found["period"]["days"] == 7
    for report in REPORTS:
        assert [one for one in place.json("report", *report, **ALONE) if one.get("sessions")] == []


def test_one_session(place, make_session):
    """Its own figures are all figures."""
    place.write(*make_session("a1", datetime.now(UTC) - timedelta(hours=2), cost=0.25, executor="CODEX"))
    found = place.json("summary", **ALONE)
    assert (found["sessions"]["total"], found["sessions"]["success_rate"], found["cost_usd"]["total"]) == (1, 1.0, 0.25)
    assert found["duration_ms"] == {"mean": 300_000, "median": 300_000, "p95": 300_000}
    assert [one["executor"] for one in found["by_executor"]] == ["CODEX"]


def test_what_a_day_costs_is_told_with_the_days_that_it_is_of(place, make_session):
    """From the first day on which something was spent: the days before it, of which nothing is known, make no day cheaper."""
    for days in (3, 1):
        begun = datetime.now(UTC) - timedelta(days=days)
        place.write(*make_session(f"a-{days}", begun.replace(hour=12), cost=3.0))
    first = datetime.now(UTC) - timedelta(days=3)
    assert f"$6.00 in all, $2.00 a day since {first:%Y-%m-%d}" in place.run("report", "cost").stdout


def test_a_model_without_a_price_is_not_free(place):
    """Nor does it make those that have one uncertain."""
    ended = datetime.now(UTC) - timedelta(hours=1)
    row = {"timestamp": ended.isoformat(), "started_at": ended.isoformat()}
    place.store(
        {**row, "attempt_id": "a", "model": "own", "metrics": {"total_tokens": 500}},
        {**row, "attempt_id": "b", "model": "known", "metrics": {"total_tokens": 500, "cost_usd": 2.0}},
    )
    told = {one["model"]: (one["cost_usd_total"], one["cost_usd_at_least"]) for one in place.json("summary")["by_model"]}
    assert told == {"own": (0.0, True), "known": (2.0, False)}
    page = place.run("summary").stdout
    assert re.search(r"own .*≥ \$0\.00", page)
    assert re.search(r"known .* \$2\.00", page)
    assert not re.search(r"known .*≥", page)


def test_sessions_without_cost_are_not_free(place, make_session):
    """No cost is unknown: the mean is of those that have one, and the page says so."""
    begun = datetime.now(UTC) - timedelta(hours=2)
    place.write(*make_session("a1", begun), *make_session("a2", begun, cost=2.0))
    place.write(
        *make_session("a3", begun, usage=()),
        {"timestamp": begun.isoformat(), "attempt_id": "a4", "event_type": "usage", "data": {"usage": {"input": 5}}, "model": "nobody-knows"},
    )
    found = place.json("summary", **ALONE)["cost_usd"]
    assert found == {"total": 2.0, "mean": 2.0, "known": 1, "at_least": True}
    assert "≥ $2.00" in place.run("summary", **ALONE).stdout


def test_the_future_is_told_and_not_counted(place, make_session):
    """A clock that is a little ahead is no matter; one that is a day ahead is."""
    now = datetime.now(UTC)
    place.write(*make_session("a1", now + timedelta(minutes=10)), *make_session("a2", now + timedelta(days=1)), *make_session("a3", now - timedelta(hours=1)))
    found = place.json("summary", **ALONE)
    assert (found["sessions"]["total"], found["in_the_future"]) == (2, 1)
    assert "with an end in the future" in place.run("summary", **ALONE).stdout


def test_a_log_that_runs_backwards_has_no_negative_durations(place):
    """Skewed clocks of two writers."""
    now = datetime.now(UTC)
    place.write(
        {"timestamp": now.isoformat(), "attempt_id": "a", "event_type": "session_start", "data": {}},
        {"timestamp": (now - timedelta(minutes=30)).isoformat(), "attempt_id": "a", "event_type": "session_end", "data": {"completion_status": "success"}},
    )
    assert place.json("summary", **ALONE)["duration_ms"]["mean"] >= 0


def row(attempt_id, at, **fields):
    return {
        "timestamp": at.isoformat(),
        "attempt_id": attempt_id,
        "metrics": {"duration_ms": 1000, "cost_usd": 1.0},
        "outcome": {"status": "completed"},
        **fields,
    }


def test_a_damaged_archive_counts_as_far_as_it_can_be_read(place):
    """And says so, on every way out."""
    now = datetime.now(UTC)
    whole = b"".join(json.dumps(row(f"old{n}", now - timedelta(hours=n % 90))).encode() + b"\n" for n in range(5000))
    archive = place.logs / "archive"
    archive.mkdir()
    packed = gzip.compress(whole)
    (archive / "agent-metrics-20261001T000000.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (archive / "agent-metrics-20260901T000000.jsonl.gz").write_bytes(b"no gzip at all")
    place.store(row("new", now - timedelta(minutes=1)))
    found = place.json("summary", **ALONE)
    assert 1 < found["sessions"]["total"] < 5001
    assert sum("damaged" in problem for problem in found["problems"]) == 2
    assert place.run("report", "cost", **ALONE).stdout.count("damaged") == 2


def test_lines_that_are_no_sessions_are_told(place):
    """Rubbish, a line without a time, half a line at the end; what is sound counts."""
    now = datetime.now(UTC)
    place.store(
        row("good", now - timedelta(minutes=1)), {"attempt_id": "x"}, [1, 2], row("odd", now, task_id=7, metrics={"cost_usd": "much", "duration_ms": -5})
    )
    with place.metrics.open("ab") as file:
        file.write(b'{"timestamp": "2026')
    found = place.json("summary", **ALONE)
    assert found["sessions"]["total"] == 2
    assert found["problems"] == ["`agent-metrics.jsonl`: 3 lines are no sessions, and not counted"]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_a_time_that_no_calendar_has_is_no_session(place, at):
    """In UTC it would lie before the first year, or after the last."""
    now = datetime.now(UTC)
    place.store(row("good", now - timedelta(minutes=1)), {**row("odd", now), "timestamp": at})
    found = place.json("summary", **ALONE)
    assert (found["sessions"]["total"], found["problems"]) == (1, ["`agent-metrics.jsonl`: 1 line is no session, and not counted"])


def test_figures_beyond_all_reason_are_not_counted(place):
    """Two of them would be more than a float can hold, or a price below nothing: unknown is what they are."""
    at = datetime.now(UTC) - timedelta(minutes=1)
    huge, negative = {"cost_usd": 1e308, "duration_ms": 1e308, "total_tokens": 1e30}, {"cost_usd": -1e9, "duration_ms": -5, "errors": -3}
    place.store(
        row("a", at, metrics=huge), row("b", at, metrics=huge), row("c", at, metrics=negative), row("d", at, metrics={"cost_usd": 2.0, "duration_ms": 7})
    )
    found = place.json("summary", **ALONE)
    assert (found["sessions"]["total"], found["cost_usd"]["total"], found["duration_ms"]["mean"]) == (4, 2.0, 7)
    assert (found["tokens"]["total"], found["errors"]["total"]) == (0, 0)


def test_a_log_can_tell_more_than_can_be_counted(place, make_session):
    """The report has a figure all the same, and so has the store."""
    begun = datetime.now(UTC) - timedelta(hours=1)
    for name in ("a", "b"):
        *steps, end = make_session(name, begun, usage=[{"input": 2**62, "output": -(2**62), "cost": 1e308}])
        place.write(*steps, {**end, "data": {"completion_status": "success", "duration_ms": 1e308, "total_tokens": 1e30, "cost_usd": 1e308}})
    assert place.json("summary", **ALONE)["sessions"]["success"] == 2
    assert place.run("summary", "--rebuild", **ALONE).returncode == 0
    assert place.json("summary", **ALONE)["problems"] == []


def test_a_variant_that_is_a_tag_too_counts_once(place):
    """Who names its prompt twice has not begun two sessions."""
    ended = datetime.now(UTC) - timedelta(hours=1)
    fields = {"timestamp": ended.isoformat(), "started_at": ended.isoformat(), "metrics": {"cost_usd": 1.0}, "tags": ["plan-first", "plan-first"]}
    place.store(*({**fields, "attempt_id": name, "executor_variant": "plan-first"} for name in "ab"))
    (all_of_them,) = place.json("report", "prompts")
    (chosen,) = place.json("report", "prompts", "plan-first")
    assert all_of_them == chosen
    assert (chosen["variant"], chosen["sessions"], chosen["cost_usd_total"]) == ("plan-first", 2, 2.0)


def test_a_newer_line_of_a_session_replaces_the_older(place):
    """By the moment at which it began; what went on after it was forgotten adds to it."""
    now = datetime.now(UTC).replace(microsecond=0)

    def told(begun, ended, **fields):
        return row("a", now - timedelta(minutes=ended), started_at=(now - timedelta(minutes=begun)).isoformat(), format="codex", outcome=None, **fields)

    place.store(told(300, 200), told(300, 180), told(60, 50))
    found = place.json("summary", **ALONE)
    assert (found["sessions"]["total"], found["cost_usd"]["total"]) == (1, 2.0)
    assert place.json("report", "sessions", **ALONE)[0]["duration_ms"] == 250 * 60_000


def test_sessions_of_one_attempt_that_ended_are_two(place):
    """A retry has its own cost and its own outcome."""
    now = datetime.now(UTC)
    place.store(row("a", now - timedelta(minutes=30), outcome={"status": "failed"}), row("a", now - timedelta(minutes=5)))
    found = place.json("summary", **ALONE)["sessions"]
    assert (found["total"], found["success"], found["failed"]) == (2, 1, 1)


def test_texts_of_logs_stay_harmless(place, make_session):
    """Escape sequences, markup and secrets in a title reach neither the terminal nor the document."""
    title = "\x1b[2J<script>alert(1)</script> ghp_" + "a1B2" * 9
    place.write(*make_session("a\x1b]0;x\x07", datetime.now(UTC) - timedelta(hours=1), task_title=title, executor="\x1b[31mred"))
    for arguments in (("report", "sessions"), ("report", "tasks"), ("summary",)):
        assert "\x1b" not in place.run(*arguments, **ALONE).stdout
        assert place.run(*arguments, "--html", "out.html", **ALONE).returncode == 0
        page = (place.base / "out.html").read_text()
        assert "<script" not in page
        assert "\x1b" not in page
        assert "ghp_a1B2" not in page


def test_a_spreadsheet_runs_no_formulas(place, make_session):
    """A title that begins like one is text."""
    place.write(*make_session("a", datetime.now(UTC) - timedelta(hours=1), task_title="=HYPERLINK(evil)"))
    lines = place.run("report", "sessions", "--csv", **ALONE).stdout.splitlines()
    assert lines[0].startswith("attempt_id,session_id,")
    assert ",'=HYPERLINK(evil)," in lines[1]


def test_names_that_are_data_are_no_columns_of_a_spreadsheet(place, make_session):
    """Models are written in small letters: one cell has all of them, as it has all executors."""
    begun = datetime.now(UTC) - timedelta(hours=1)
    for number, model in enumerate(("gpt-5", "claude-opus-4-6")):
        place.write(*make_session(f"a{number}", begun, errors=["push_failed"], model=model, executor="CODEX"))
    found = next(csv.DictReader(io.StringIO(place.run("report", "errors", "--csv", **ALONE).stdout)))
    assert (found["by_model"], found["by_executor"]) == ("gpt-5 1; claude-opus-4-6 1", "CODEX 2")
    assert not any("." in name for name in found)


def test_a_page_says_what_was_chosen(place, make_session):
    """A summary of one executor must not be taken for that of all; asked for as page and as JSON, it is both."""
    place.write(*make_session("a", datetime.now(UTC) - timedelta(hours=1), executor="CODEX"))
    assert "UTC, executor codex" in place.run("summary", "--executor", "codex", **ALONE).stdout
    assert place.json("summary", "--executor", "codex", "--html", "out.html", **ALONE)["sessions"]["total"] == 1
    assert "UTC, executor codex" in (place.base / "out.html").read_text()
    assert place.json("report", "weekly", "--html", "week.html", **ALONE)["summary"]["sessions"]["total"] == 1
    assert not (place.base / ".cache" / "reports").exists()


def test_where_no_session_says_how_it_ended_there_are_no_others(place, make_session):
    """No heading without a bar below it, no rate of nobody, and one is not many."""
    place.write(*make_session("a", datetime.now(UTC) - timedelta(hours=1), status=None, executor="CODEX", errors=["push_failed"]))
    said = place.run("summary", **ALONE).stdout
    assert "1 in 1 attempt\n" in said
    assert "1 session ended without saying how\n" in said + "\n"
    assert place.run("report", "executors", **ALONE).stdout.count("EXECUTOR") == 1


def test_an_error_without_a_category_has_that_of_its_words(place):
    """Native transcripts name none; the report of tasks judges by the same words."""
    at = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    place.write(
        {"timestamp": at, "attempt_id": "a", "event_type": "error", "data": {"error_message": "cat: x.txt: No such file or directory"}},
        {"timestamp": at, "attempt_id": "a", "event_type": "session_end", "data": {"completion_status": "failed"}},
    )
    assert [one["category"] for one in place.json("report", "errors", **ALONE)] == ["filesystem"]


def test_a_name_without_an_end_makes_no_line_without_an_end(place):
    """Every line of a table is as long as its longest cell."""
    place.store(row("a" * 100_000, datetime.now(UTC) - timedelta(minutes=1), executor="e" * 100_000, model="m" * 100_000, task_title="t" * 100_000))
    for arguments in (("summary",), ("report", "sessions"), ("report", "cost", "--by", "model")):
        assert max(map(len, place.run(*arguments, **ALONE).stdout.splitlines())) < 2000, arguments


def test_what_ties_stands_in_one_order(place, make_session):
    """Asked twice, a report says the same."""
    begun = datetime.now(UTC) - timedelta(hours=1)
    for number in range(12):
        place.write(*make_session(f"a{number}", begun + timedelta(seconds=number), errors=[f"error_{number}"], executor="CODEX"))
    first, *others = (place.json("report", "executors", **ALONE, PYTHONHASHSEED=str(seed))[0]["common_failures"] for seed in range(1, 4))
    assert others == [first, first]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--days", "0"), "--days", id="no days"),
        pytest.param(("--until", "tomorrow"), "is no time", id="no time"),
        pytest.param(("--run", "latest"), "there is no run", id="no run"),
        pytest.param(("--json", "--csv"), "say two things", id="two ways out"),
        pytest.param(("--html", "/nowhere/at/all/x.html"), "cannot be written", id="no such directory"),
    ],
)
def test_wrong_usage_is_refused(place, arguments, said):
    """In two lines, without a traceback."""
    done = place.run("report", "sessions", *arguments, **ALONE)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_and_an_executor_can_be_chosen(place, make_session):
    """`latest` is the run that the link leads to."""
    begun = datetime.now(UTC) - timedelta(hours=1)
    place.write(
        *make_session("a", begun, run_id="r1", executor="CODEX"),
        *make_session("b", begun, run_id="r2", executor="CODEX"),
        *make_session("c", begun, executor="CLAUDE"),
    )
    (place.logs / "runs").mkdir()
    (place.logs / "runs" / "latest").symlink_to("r2")

    def attempts(*arguments):
        return [one["attempt_id"] for one in place.json("report", "sessions", *arguments, **ALONE)]

    assert attempts("--run", "r1") == ["a"]
    assert attempts("--run", "latest") == ["b"]
    assert attempts("--executor", "claude") == ["c"]
    assert attempts("--run", "r1", "--executor", "claude") == []
