"""What becomes of a session's events in its row."""

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from agentwatch.core.engine import Engine
from agentwatch.core.limits import Limits
from agentwatch.core.metrics import QUIET, Row, sessions
from agentwatch.core.snapshot import live_rows
from agentwatch.formats.canonical import Decoder

BEGUN = datetime(2026, 2, 9, 22, tzinfo=UTC)


def line(second, kind, /, attempt="a", **data):
    fields = data.pop("fields", {})
    at = (BEGUN + timedelta(seconds=second)).isoformat()
    return json.dumps({"timestamp": at, "attempt_id": attempt, "event_type": kind, "data": data, **fields}).encode() + b"\n"


class Watched:
    def __init__(self, snapshot=None):
        self.engine = Engine(Limits(), lambda *_: None, snapshot)
        self.decoder, self.out = Decoder(), []

    def feed(self, *lines):
        self.decoder.read(list(lines), 0, lambda items: self.engine.feed("log", "", items, self.decoder, self.out), pytest.fail)
        return self

    @property
    def rows(self):
        return self.engine.rows


def usage(second, /, cost=0.5, **tokens):
    return line(second, "usage", usage=tokens, cost_usd=cost)


def test_an_end_makes_a_row():
    """Everything that the session told, summed up; nothing of it stays in the engine."""
    watched = Watched().feed(
        line(
            0,
            "session_start",
            prompt="Fix it",
            prompt_type="initial",
            fields={"task_id": "t", "executor": "CODEX", "tags": ["x", "y"], "executor_variant": "fast"},
        ),
        usage(10, input=5, output=3, cache_read=100, cache_write=7, reasoning=2),
        line(20, "tool_call", tool_name="Bash", tool_call_id="1", tool_params={"command": "make"}),
        line(30, "tool_result", tool_call_id="1", is_error=False, result="ok"),
        line(40, "error", error_message="boom", error_fingerprint="boom", error_category="test"),
        usage(50, input=1, output=1),
        line(60, "session_end", completion_status="success", duration_ms=59_000, outcome={"status": "completed"}),
    )
    (row,) = watched.rows
    assert (row.task_id, row.executor, row.executor_variant, row.tags, row.task_title, row.format) == ("t", "CODEX", "fast", ["x", "y"], "Fix it", "canonical")
    tokens = row.metrics.tokens
    assert (tokens.input, tokens.output, tokens.cache_read, tokens.cache_write, tokens.reasoning, row.tokens) == (6, 4, 100, 7, 2, 117)
    assert (row.metrics.cost_usd, row.metrics.tool_calls, row.metrics.errors, row.metrics.duration_ms) == (1.0, 1, 1, 59_000)
    assert [(kind.cluster, kind.count, kind.error_category) for kind in row.error_summary.kinds] == [("boom", 1, "test")]
    assert (row.status, row.first_shot, row.started_at, row.timestamp) == ("success", True, BEGUN, BEGUN + timedelta(seconds=60))
    assert not list(live_rows(watched.engine.snapshot()))


def test_the_end_s_own_figures_replace_the_sums():
    """It tells those of the whole session."""
    watched = Watched().feed(usage(0, input=5), line(9, "session_end", completion_status="failed", cost_usd=3.0, total_tokens=999, duration_ms=1.7))
    (row,) = watched.rows
    assert (row.metrics.cost_usd, row.tokens, row.metrics.duration_ms, row.status) == (3.0, 999, 2, "failed")


@pytest.mark.parametrize(
    ("events", "first_shot"),
    [
        pytest.param([line(0, "session_start", prompt_type="retry", prompt="again")], False, id="a retry"),
        pytest.param([line(0, "session_start", prompt="x"), line(5, "followup_sent", prompt="go on")], False, id="a follow-up"),
        pytest.param([line(0, "session_start", prompt="x"), line(1, "user_message", output="x")], True, id="the prompt told twice"),
        pytest.param([line(0, "user_message", output="x"), line(1, "user_message", output="no, y")], False, id="a second message"),
    ],
)
def test_a_first_shot_is_one_prompt_and_one_success(events, first_shot):
    """Nobody had to say more."""
    assert Watched().feed(*events, line(9, "session_end", completion_status="success")).rows[0].first_shot is first_shot
    assert not Watched().feed(*events, line(9, "session_end", completion_status="failed")).rows[0].first_shot


def test_a_session_that_falls_quiet_makes_a_row_and_another_when_it_went_on():
    """Once each time; the second has the first in it, and began when the first began."""
    watched = Watched().feed(usage(0, input=5))
    for minutes in (10, 35, 50):
        watched.engine.tick(BEGUN + timedelta(minutes=minutes), watched.out)
    assert [row.tokens for row in watched.rows] == [5]
    watched.feed(usage(3600, input=6))
    assert [row.tokens for row in live_rows(watched.engine.snapshot())] == [11]
    watched.engine.tick(BEGUN + timedelta(hours=1) + QUIET + timedelta(minutes=6), watched.out)
    assert [(row.tokens, row.started_at, row.status) for row in watched.rows] == [(5, BEGUN, None), (11, BEGUN, None)]
    assert [row.tokens for row in sessions(watched.rows)] == [11]


def test_a_session_that_was_forgotten_and_goes_on_is_one_session():
    """Its watcher knew nothing of its first part any more: the sums add up, the end is the later one's."""
    late = 14 * 3600
    watched = Watched().feed(usage(0, input=5), line(5, "error", error_message="x", error_fingerprint="x"), usage(late, input=6))
    watched.feed(line(late + 1, "error", error_message="x", error_fingerprint="x"), line(late + 9, "session_end", completion_status="success"))
    assert len(watched.rows) == 2
    (row,) = sessions(watched.rows)
    assert (row.tokens, row.metrics.cost_usd, row.status, row.started_at) == (11, 1.0, "success", BEGUN)
    assert [(kind.cluster, kind.count) for kind in row.error_summary.kinds] == [("x", 2)]
    assert [(day.day, day.tokens.input) for day in row.days] == [("2026-02-09", 5), ("2026-02-10", 6)]


def test_money_stands_at_the_day_on_which_it_was_spent():
    """A session over midnight, UTC, whatever zone its log is written in."""
    watched = Watched().feed(usage(0, cost=1.0, input=1), usage(3 * 3600, cost=2.0, input=2), line(3 * 3600 + 1, "session_end", completion_status="success"))
    assert [(day.day, day.cost_usd) for day in watched.rows[0].days] == [("2026-02-09", 1.0), ("2026-02-10", 2.0)]


def test_money_that_was_all_spent_the_day_before_stands_there():
    """A session that ends after midnight without having spent anything since."""
    watched = Watched().feed(usage(0, cost=1.0, input=1), line(3 * 3600, "session_end", completion_status="success"))
    assert [(day.day, day.cost_usd) for day in watched.rows[0].days] == [("2026-02-09", 1.0)]


def test_what_a_loop_cost():
    """From its first repetition to its last; what was spent before and after is not its own."""
    watched = Watched()
    second = 0
    watched.feed(usage(second, cost=10.0, input=1000))
    second = 600
    for number in range(8):
        watched.feed(
            usage(second, cost=1.0, input=100),
            line(second + 1, "tool_call", tool_name="Bash", tool_call_id=f"c{number}", tool_params={"command": "make test"}),
            line(second + 2, "tool_result", tool_call_id=f"c{number}", is_error=False, result="the very same output, forty bytes and more"),
        )
        second += 60
    watched.feed(usage(second + 600, cost=20.0, input=2000), line(second + 700, "session_end", completion_status="success"))
    (row,) = watched.rows
    assert row.alerts["tool_loop"] == 1
    assert 6.0 <= row.loops.cost_usd <= 8.0
    assert 600 <= row.loops.tokens <= 800
    assert timedelta(minutes=6) <= timedelta(milliseconds=row.loops.duration_ms) <= timedelta(minutes=8)


def test_silence_that_ended_is_summed_up():
    """Only what was told as stuck."""
    call = line(0, "tool_call", tool_name="Bash", tool_call_id="1")
    watched = Watched().feed(call, line(1200, "tool_result", tool_call_id="1", result="ok"), line(1201, "session_end", completion_status="success"))
    assert watched.rows[0].stuck_ms == 1_200_000


def test_rows_that_nobody_took_survive_in_the_snapshot():
    """As the state does: what a crash loses was never saved."""
    import msgspec

    from agentwatch.core.snapshot import Snapshot

    watched = Watched().feed(
        line(0, "session_start"), line(1, "session_end", completion_status="success"), usage(2, input=1), line(3, "tool_call", attempt="b", tool_name="x")
    )
    saved = msgspec.json.decode(msgspec.json.encode(watched.engine.snapshot()), type=Snapshot)
    again = Watched(saved)
    assert again.rows == watched.rows
    again.feed(line(4, "session_end", attempt="b", completion_status="failed"))
    assert [(row.attempt_id, row.metrics.tool_calls) for row in again.rows[-1:]] == [("b", 1)]


def test_a_watcher_s_row_stays_where_the_logger_told_the_same_end():
    """It says more. An older row of the logger, of another session of the attempt, stays too."""
    ours = Row(timestamp=BEGUN, attempt_id="a", started_at=BEGUN - timedelta(minutes=1), format="canonical", metrics=_metrics(1.0))
    loggers = Row(timestamp=BEGUN + timedelta(seconds=1), attempt_id="a", metrics=_metrics(2.0))
    older = Row(timestamp=BEGUN - timedelta(hours=1), attempt_id="a", metrics=_metrics(4.0), completion_status="failed")
    for rows in ([older, ours, loggers], [older, loggers, ours]):
        assert [row.metrics.cost_usd for row in sessions(rows)] == [4.0, 1.0]


def _metrics(cost):
    from agentwatch.core.metrics import Metrics

    return Metrics(cost_usd=cost)


def test_a_hostile_log_keeps_a_row_small():
    """Names of a megabyte, numbers without end, thousands of days and kinds of errors."""
    huge = "x" * 1_000_000
    watched = Watched().feed(line(0, "session_start", fields={"task_title": huge, "executor": huge, "tags": [huge] * 100}))
    watched.feed(*(usage(86_400 * n, input=2**62, cost=1e300) for n in range(200)))
    watched.feed(*(line(86_400 * 199 + n, "error", error_message=f"boom {n} " + huge[:5000], error_fingerprint=f"f{n}") for n in range(500)))
    watched.feed(line(86_400 * 200, "session_end", completion_status=huge, duration_ms=1e308, total_tokens=1e300))
    import msgspec

    assert len(msgspec.json.encode(watched.rows[-1])) < 200_000


def test_what_was_read_earlier_and_written_later_replaces_nothing():
    """A rebuild may have read half of a session that has ended before it writes."""
    watched = Watched().feed(usage(0, input=5), usage(60, input=6))
    half = list(live_rows(watched.engine.snapshot()))
    watched.feed(usage(90, input=7))
    quiet = list(live_rows(watched.engine.snapshot()))
    watched.feed(line(90, "session_end", completion_status="success"))
    for stale in (half, quiet):
        (row,) = sessions([*watched.rows, *stale])
        assert (row.tokens, row.status) == (18, "success")
    assert [row.tokens for row in sessions([*quiet, *half])] == [18]


def test_pieces_that_are_further_apart_than_was_asked_stay_apart():
    """As their watcher has them, who had forgotten the first."""
    watched = Watched().feed(usage(0, input=5), usage(14 * 3600, input=6), line(14 * 3600 + 9, "session_end", completion_status="success"))
    assert [row.tokens for row in sessions(watched.rows, timedelta(hours=14))] == [11]
    assert [row.tokens for row in sessions(watched.rows, timedelta(hours=13))] == [5, 6]


def test_a_sum_stands_for_the_pieces_that_are_in_it():
    """In whichever order they were written."""
    watched = Watched().feed(usage(0, input=5), usage(14 * 3600, input=6), line(14 * 3600 + 9, "session_end", completion_status="success"))
    first, second = watched.rows
    (whole,) = sessions(watched.rows)
    for written in permutations((first, second, whole)):
        assert [row.tokens for row in sessions(written)] == [11]
