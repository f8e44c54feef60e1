"""Times as lines have them, and as people write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.core.times import stamp


@pytest.mark.parametrize(
    ("at", "text"),
    [
        pytest.param(datetime(2026, 2, 9, 8, tzinfo=UTC), "2026-02-09T08:00:00.000Z", id="a whole second"),
        pytest.param(datetime(2026, 2, 9, 8, 0, 0, 123_999, tzinfo=UTC), "2026-02-09T08:00:00.123Z", id="cut, not rounded"),
        pytest.param(datetime(2026, 2, 9, 8, 0, 0, 7, tzinfo=UTC), "2026-02-09T08:00:00.000Z", id="less than a millisecond"),
        pytest.param(datetime(2026, 2, 9, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))), "2026-02-08T20:00:00.000Z", id="another zone"),
    ],
)
def test_a_stamp_is_utc_to_the_millisecond(at, text):
    """Whatever the log had: all lines can be compared as texts."""
    assert stamp(at) == text


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_has_the_stamp_that_the_standard_library_gives_it(at):
    """Of any year."""
    assert stamp(at) == at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
