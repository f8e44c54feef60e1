"""A summary that is added up line by line tells what one of all sessions in memory tells."""

import gzip
import json
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch import settings
from agentwatch.apps import history
from agentwatch.core.metrics import ErrorKind, ErrorSummary, Metrics, Row
from agentwatch.core.reports.cost import spending
from agentwatch.core.reports.errors import clusters
from agentwatch.core.reports.executors import executors, variants
from agentwatch.core.reports.history import History, last_days
from agentwatch.core.reports.summary import summarise
from agentwatch.model import MOST_TOKENS
from agentwatch.store import history as store
from agentwatch.store import parts

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
    """A log directory with a state directory, so that blocks are remembered; they are small, so that there are some."""
    directory = tmp_path_factory.mktemp("summing")
    (directory / ".agentwatch").mkdir(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "BLOCK_BYTES", 1 << 10)
        yield directory


def plain(value):
    """The figures, without the differences that the order of additions makes. Lists in their order, as they are printed."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def asked(directory: Path):
    environ = {"AGENTWATCH_SOURCES": "none"}
    return settings.load(cwd=directory, environ=environ, home=directory, flags={"logs.dir": directory}), environ, directory


def both(directory: Path, period=PERIOD):
    """The summary block by block, and of all sessions at once, as they are printed."""
    known = history.collect(*asked(directory), period.before.start, lambda *_: None)
    return plain(msgspec.to_builtins(summary(directory, period))), plain(msgspec.to_builtins(summarise(known, period)))


def summary(directory: Path, period=PERIOD):
    return history.summary(*asked(directory), period, lambda *_: None)


@given(st.lists(lines(), max_size=40), st.lists(lines(("old",)), max_size=2), st.integers(0, 40), st.integers(0, 40), st.sampled_from((0.5, 2, 30)))
def test_it_is_the_same_summary(place, written, old, rotated, seen, days):
    """Whatever was replaced, continued, told twice, logged beside, rotated, of another clock or damaged, and where a line does not tell its errors.

    And whatever was remembered when less was written, of this period or another.
    """
    written = written + old
    (place / ".agentwatch" / parts.NAME).unlink(missing_ok=True)
    (place / "archive").mkdir(exist_ok=True)
    (place / "archive" / "agent-metrics-2026-01.jsonl.gz").write_bytes(gzip.compress(b"".join(line + b"\n" for line in written[:rotated])))
    (place / "agent-errors.jsonl").write_text(
        "".join(json.dumps({"timestamp": NOW.isoformat(), "attempt_id": one, "event_type": "error", "data": {"error_message": "boom"}}) + "\n" for one in "az")
    )
    (place / "agent-work-stream.jsonl").write_text(
        "".join(
            json.dumps({"timestamp": NOW.isoformat(), "attempt_id": one, "event_type": "session_end", "data": {"completion_status": "success"}}) + "\n"
            for one in "ab"
        )
    )
    for lines in (written[rotated:][:seen], written[rotated:]):
        (place / "agent-metrics.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        for period in (last_days(days, NOW, is_now=True), PERIOD):
            one, other = both(place, period)
            assert one == other


def test_sessions_that_are_alone_are_not_kept_in_memory(tmp_path, monkeypatch):
    """A month has 17,000: each is counted and let go, and only what has several lines is put together."""
    rows = [Row(timestamp=NOW, attempt_id=name, started_at=NOW, metrics=Metrics()) for name in ("a", "b", "c", "a")]
    (tmp_path / "agent-metrics.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    joined = []
    monkeypatch.setattr(history, "sessions", lambda rows: joined.append([row.attempt_id for row in rows]) or list(rows)[-1:])
    found = summary(tmp_path)
    assert joined == [["a", "a"]]
    assert found.sessions.total == 3


def test_the_attempts_of_a_block_are_those_of_its_rows():
    """A line that the quick look cannot read is read as the rows are."""
    blocks = [store.Block("x", b'{"attempt_id":"a"}\n{"attempt_id":"b","timestamp":"2026-02-09T12:00:00Z","metrics":{}}\n'), store.Block("y", b"not JSON\n")]
    assert [store.attempts(block) for block in blocks] == [["a", "b"], []]


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


@pytest.fixture
def month(tmp_path, monkeypatch):
    """A store of several blocks, of which a first summary has been made."""
    monkeypatch.setattr(store, "BLOCK_BYTES", 1 << 10)
    (tmp_path / ".agentwatch").mkdir(0o700)
    for number in range(33):
        at = NOW - timedelta(minutes=number)
        errors = ErrorSummary(1, kinds=[ErrorKind("x", 1, "boom", first_seen=at, last_seen=at)])
        add(tmp_path, [Row(timestamp=at, attempt_id=f"ve-{number}", started_at=at, metrics=Metrics(errors=1), error_summary=errors)])
    assert summary(tmp_path).sessions.total == 33
    return tmp_path


def add(directory: Path, rows):
    with (directory / "agent-metrics.jsonl").open("ab") as file:
        file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)


def blocks(directory: Path) -> int:
    with store.lines(directory, None, pytest.fail, "") as lines:
        return len(list(lines))


@pytest.fixture
def decoded(monkeypatch):
    """The blocks that were decoded line by line."""
    found: list[int] = []
    understood = store.understood

    def noted(blocks, tell):
        blocks = list(blocks)
        found.append(len(blocks))
        return understood(blocks, tell)

    monkeypatch.setattr(store, "understood", noted)
    return found


def test_what_was_added_up_once_is_not_decoded_again(month, decoded):
    """But for the last block, which grows."""
    assert summary(month).sessions.total == 33
    assert decoded == [1]
    add(month, [Row(timestamp=NOW, attempt_id="new", started_at=NOW, metrics=Metrics())])
    assert summary(month).sessions.total == 34
    assert decoded == [1, 1]


def test_a_session_that_goes_on_takes_its_place_again(month, decoded):
    """Its block is decoded once, and remembered without it."""
    add(month, [Row(timestamp=NOW, attempt_id="ve-1", started_at=NOW - timedelta(minutes=1), format="canonical", metrics=Metrics(errors=5))])
    for _ in range(2):
        one, other = both(month)
        assert one == other
    assert one["sessions"]["total"] == 33
    assert one["errors"]["total"] == 32 + 5
    assert [number for number in decoded if number < blocks(month)] == [2, 1]  # the others are those of all sessions at once


def test_a_boundary_within_a_block_is_kept(month):
    """A period that ends, begins or has its middle between the sessions of one block counts each on its side."""
    for minutes in range(0, 40, 3):
        period = last_days(10 / 1440, NOW - timedelta(minutes=minutes), is_now=False)
        one, other = both(month, period)
        assert one == other


@pytest.mark.parametrize("damage", [b"", b"x", b"\0" * 5000, None], ids=["empty", "short", "zeros", "a byte"])
def test_a_damaged_memory_is_none(month, damage, decoded):
    """It is made again."""
    kept = month / ".agentwatch" / parts.NAME
    sound = kept.read_bytes()
    kept.write_bytes(sound[:200] + bytes([sound[200] ^ 1]) + sound[201:] if damage is None else damage)
    assert summary(month).sessions.total == 33
    assert decoded == [blocks(month)]
    assert kept.read_bytes() == sound


def test_what_another_version_remembered_is_not_believed(month, decoded, monkeypatch):
    """It may have counted otherwise."""
    monkeypatch.setattr(parts, "_MADE_BY", b"another".ljust(32))
    assert summary(month).sessions.total == 33
    assert decoded == [blocks(month)]


@pytest.mark.parametrize("state", ["open to all", "a link", "none"])
def test_nothing_is_believed_or_left_where_others_write(month, state, decoded, tmp_path_factory):
    """Whoever can write to the state directory could tell any figures; who has none gets none made."""
    own = month / ".agentwatch"
    if state == "open to all":
        own.chmod(0o777)
    else:
        elsewhere = tmp_path_factory.mktemp("elsewhere") / "state"
        own.rename(elsewhere)
        if state == "a link":
            own.symlink_to(elsewhere)
    (own / parts.NAME).unlink(missing_ok=True)
    for _ in range(2):
        assert summary(month).sessions.total == 33
    assert decoded == 2 * [blocks(month)]
    assert not (own / parts.NAME).exists()


@pytest.mark.parametrize(
    ("before", "after"), [(b'{"attempt_id":"a"}\n', b""), (b"", b'{"timestamp":"2026-02')], ids=["at the beginning", "torn at the end of what was rotated"]
)
def test_a_line_that_is_no_session_is_told_each_time(month, before, after):
    """A block that has one is not remembered."""
    (month / "archive").mkdir()
    rotated = month / "archive" / "agent-metrics-2026-01.jsonl"
    rotated.write_bytes(before + (month / "agent-metrics.jsonl").read_bytes() + after)
    (month / "agent-metrics.jsonl").write_bytes(msgspec.json.encode(Row(timestamp=NOW, attempt_id="new", started_at=NOW, metrics=Metrics())) + b"\n")
    told = [summary(month).problems for _ in range(2)]
    assert told[0] == told[1] == ["`agent-metrics-2026-01.jsonl`: 1 line is no session, and not counted"]


def test_no_more_is_remembered_than_is_promised(month, monkeypatch):
    """The parts that were used last stay."""
    monkeypatch.setattr(parts, "MOST_BYTES", 2000)
    add(month, [Row(timestamp=NOW, attempt_id=f"new-{number}", started_at=NOW, metrics=Metrics()) for number in range(9)])
    assert summary(month).sessions.total == 42
    kept = parts.Parts(month / ".agentwatch")._kept
    assert 1000 < sum(map(len, kept.values())) <= 2000
    assert summary(month).sessions.total == 42


FAR_EAST = timezone(timedelta(hours=14))
"""It is tomorrow there, for most of the day."""


@pytest.mark.parametrize("attempts", [33, 20], ids=["alone", "some twice"])
@pytest.mark.parametrize(
    ("first_seen", "last_seen", "tokens"),
    [
        (NOW.isoformat(), NOW.astimezone(FAR_EAST).isoformat(), 1),
        ("0001-01-01T00:00:00+02:00", NOW.isoformat(), 1),
        (NOW.isoformat(), "9999-12-31T23:59:59-02:00", 1),
        (NOW.isoformat(), NOW.isoformat(), MOST_TOKENS),
    ],
    ids=["another clock", "before the calendar", "behind the calendar", "sums beyond a row"],
)
def test_what_no_memory_can_hold_is_told_each_time(tmp_path, monkeypatch, attempts, first_seen, last_seen, tokens):
    """Times of errors that are not in UTC, or not in its calendar, and sums that are more than a row's: the figures are those of all sessions at once, and errors stand at their day in UTC."""
    monkeypatch.setattr(store, "BLOCK_BYTES", 1 << 10)
    (tmp_path / ".agentwatch").mkdir(0o700)
    kind = {"cluster": "x", "count": 1, "first_seen": first_seen, "last_seen": last_seen}
    with (tmp_path / "agent-metrics.jsonl").open("w") as file:
        for number in range(33):
            at = (NOW - timedelta(minutes=number)).isoformat()
            line = {"timestamp": at, "started_at": at, "attempt_id": f"ve-{number % attempts}", "format": "canonical"}
            line["metrics"] = {"errors": 1, "tokens": {"input": tokens}}
            file.write(json.dumps(line | {"error_summary": {"total_errors": 1, "kinds": [kind]}}) + "\n")
    for _ in range(3):
        one, other = both(tmp_path)
        assert one == other
        assert one["sessions"]["total"] == attempts
        assert one["top_errors"][0]["trend"] == ({} if last_seen.startswith("9999") else {"2026-02-09": 33})


def test_a_session_that_goes_on_has_no_duration_yet():
    """However a report groups sessions, its durations are of those that are over; all else counts, of those that go on as far as it has come."""

    def row(name, minutes):
        return Row(
            timestamp=NOW - timedelta(minutes=1),
            attempt_id=name,
            executor="CODEX",
            model="gpt-5",
            tags=["plan-first"],
            metrics=Metrics(duration_ms=minutes * 60_000, total_tokens=10),
        )

    history = History([row("over", 4), row("runs", 90)], running=frozenset({("", "runs")}))
    summary = summarise(history, PERIOD)
    four = 4 * 60_000
    assert (summary.duration_ms.mean, summary.by_executor[0].duration_ms_mean, summary.by_model[0].duration_ms_mean) == (four, four, four)
    for found in (executors(history), executors(history, ["codex", "codex"]), variants(history), variants(history, ["plan-first"])):
        assert {(one.sessions, one.tokens_mean, one.duration_ms_mean, one.duration_ms_median) for one in found} == {(2, 10, four, four)}


def test_an_executor_is_one_however_it_is_written():
    """An agent's own log says CODEX, an orchestrator's codex: every report counts them together, under the name that is met most often."""
    errors = ErrorSummary(1, [], [], [ErrorKind(cluster="boom", count=1, first_seen=NOW, last_seen=NOW)])
    history = History(
        [
            Row(timestamp=NOW - timedelta(minutes=1), attempt_id=f"a-{number}", executor=name, metrics=Metrics(errors=1), error_summary=errors)
            for number, name in enumerate(("codex", "CODEX", "Codex", "CODEX"))
        ]
    )
    summary = summarise(history, PERIOD)
    assert [(one.executor, one.sessions) for one in summary.by_executor] == [("CODEX", 4)]
    assert [(one.executor, one.sessions) for one in executors(history)] == [("CODEX", 4)]
    assert [(one.executor, one.sessions) for one in executors(history, ["codex"])] == [("codex", 4)]
    assert [(one.key, one.sessions) for one in spending(history, "executor", PERIOD)] == [("CODEX", 4)]
    assert [one.by_executor for one in (*clusters(history, PERIOD), *summary.top_errors)] == [{"CODEX": 4}] * 2


def test_who_has_no_sessions_is_compared_with_nobody():
    """A name that is misspelt is told, not found to be the same as another."""
    history = History([Row(timestamp=NOW - timedelta(minutes=1), attempt_id="a", executor="CODEX", metrics=Metrics())])
    assert executors(history, ["CODEX", "CLAUD"])[1].against.verdict == "no sessions in this time"
    assert executors(history, ["CLAUD", "CODEX"])[1].against.verdict == "CLAUD has no sessions in this time"
