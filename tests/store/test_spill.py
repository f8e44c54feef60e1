"""Sessions that are put together on disk are those that are put together in memory."""

import resource
import tracemalloc
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.core.metrics import Day, ErrorKind, ErrorSummary, Metrics, Outcome, Row, Tokens, sessions
from agentwatch.store import spill
from agentwatch.store.spill import Ended, Packed, Spill

AT = datetime(2026, 2, 9, 10, tzinfo=UTC)


@st.composite
def rows(draw):
    """Of few attempts in two scopes, so that some continue others, some replace them and some are of another session."""
    began = AT + timedelta(seconds=draw(st.integers(0, 4)))
    errors = draw(st.integers(0, 2))
    return Row(
        timestamp=began + timedelta(seconds=draw(st.integers(0, 4))),
        attempt_id=draw(st.sampled_from(("a", "b", "é", "c\n"))),
        started_at=began,
        scope=draw(st.sampled_from(("", "runs/r1"))),
        format="canonical",
        outcome=draw(st.sampled_from((None, Outcome("completed"), Outcome("failed")))),
        metrics=Metrics(errors=errors, cost_usd=draw(st.sampled_from((None, 0.25))), tokens=Tokens(input=draw(st.integers(0, 9)))),
        error_summary=ErrorSummary(errors, kinds=[ErrorKind("boom", errors, first_seen=began)] if errors else []),
        days=[Day("2026-02-09", Tokens(output=1))] if draw(st.booleans()) else [],
    )


def packed(rows):
    made = Packed()
    made.add(rows)
    return made


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("spill")


@given(st.lists(st.lists(rows(), max_size=6), max_size=6), st.randoms(use_true_random=False), st.booleans())
def test_it_is_what_memory_makes_of_them(directory, pieces, shuffle, is_alike):
    """To the byte, whichever piece of the logs was read first, and also where different attempts have one digest."""
    expected = sessions(row for piece in pieces for row in piece)
    places = list(range(len(pieces)))
    shuffle.shuffle(places)
    with pytest.MonkeyPatch.context() as patch, Spill(directory) as spilled:
        if is_alike:
            patch.setattr(spill, "_owner", lambda _row: 7)
        for place in places:
            spilled.add(packed(pieces[place]), place)
        found = list(spilled.joined(timedelta.max))
    assert sorted(found) == sorted(packed([row]).lines for row in expected)
    assert [line[:40] for line in found] == [packed([row]).lines[:40] for row in expected]


def many(count):
    metrics = Metrics(tokens=Tokens(input=1))
    return [Row(timestamp=AT + timedelta(seconds=number), attempt_id=f"a-{number:06}", format="canonical", metrics=metrics) for number in range(count)]


def test_what_ended_later_is_left_out(directory):
    """An end at that very moment is later."""
    with Spill(directory) as spilled:
        spilled.add(packed(reversed(many(5))), 0)
        assert [msgspec.json.decode(line)["attempt_id"][-1] for line in spilled.joined(timedelta.max, AT + timedelta(seconds=3))] == ["0", "1", "2"]


def test_of_each_session_some_bytes_are_in_memory(directory):
    """Also while those are put together that were read in two pieces, and while all are put in order."""
    count = 20_000
    pieces = [packed(many(count)), packed(many(count // 10))]
    tracemalloc.start()
    try:
        with Spill(directory) as spilled:
            for place, piece in enumerate(pieces):
                spilled.add(piece, place)
            assert sum(1 for _ in spilled.joined(timedelta.max)) == count
        assert tracemalloc.get_traced_memory()[1] < 200 * count
    finally:
        tracemalloc.stop()


@given(st.lists(st.lists(rows(), max_size=6), max_size=6), st.integers(0, 30))
def test_sessions_come_in_the_order_of_their_ends_wherever_they_are(pieces, most):
    """As often as they are asked for; of those that ended together the first that was told comes first."""
    expected = sorted((row for piece in pieces for row in piece), key=lambda row: row.timestamp)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "MOST_KEPT", most)
        ended = Ended(iter(pieces))
        assert [list(ended), list(ended)] == [expected, expected]


def test_what_a_year_s_reports_read_is_not_in_memory(monkeypatch):
    """Nor is it when they were read."""
    monkeypatch.setattr(spill, "MOST_KEPT", 1000)

    def many():
        for number in range(100):
            yield [Row(timestamp=AT + timedelta(seconds=one), attempt_id=f"{number}-{one}", task_title="x" * 1000, metrics=Metrics()) for one in range(500)]

    tracemalloc.start()
    try:
        assert sum(len(row.attempt_id) > 0 for row in Ended(many())) == 50_000
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_it_leaves_nothing_behind(directory):
    """A process that is killed cannot clean up: the file has no name."""
    with Spill(directory) as spilled:
        spilled.add(packed(many(5)), 0)
        assert list(directory.iterdir()) == []


def test_a_full_disk_is_told_with_the_place(directory):
    """Which disk it is that has no room."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Spill(directory) as spilled:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                spilled.add(packed(many(100)), 0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(directory)
