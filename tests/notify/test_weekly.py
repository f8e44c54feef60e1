"""The weekly report of the notifier: once a week, over restarts, kills and downtime."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from botapi import CUT, LOST
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.apps import week
from agentwatch.apps.weekly import AGAIN_S, TOLD, WeeklyReport
from agentwatch.core.cards import REPEAT, as_text
from agentwatch.core.notices import Limits, Target
from agentwatch.core.weekly import last_due
from agentwatch.notify.courier import Courier
from agentwatch.notify.outbox import NAME, Outbox
from agentwatch.settings import load

SUNDAY_AT_NINE = datetime(2026, 2, 8, 9, tzinfo=UTC).timestamp()
HOUR_S, DAY_S = 3600.0, 86_400.0
CHAT, PART = Target(name="telegram:7", chat=7), Target(name="telegram:8", chat=8, projects=("shop",))


class Desk:
    """The report of a scratch directory, on a clock that is set by hand."""

    def __init__(self, place):
        self.place, self.told = place, []
        place.state.mkdir(exist_ok=True)
        self.start()

    def start(self):
        """As after a crash."""
        self.outbox, _ = Outbox.open(self.place.state / NAME)
        loaded = load(cwd=self.place.base, environ=self.place.environ, home=self.place.base)
        self.weekly = WeeklyReport(loaded, self.outbox, [CHAT, PART], self.place.base, self.place.environ, self.told.append, UTC)
        self.courier = Courier(self.outbox, [CHAT, PART], Limits(), zone=UTC, chance=lambda: 0.5, tell=self.told.append)

    def look(self, now):
        return asyncio.run(self.weekly.look(now))

    @property
    def reports(self):
        return sorted(path.name for path in (self.place.base / ".cache" / "reports").glob("*"))


@pytest.fixture
def desk(place, monkeypatch):
    monkeypatch.chdir(place.base)
    rows = [
        {"timestamp": f"2026-02-0{day}T10:00:00Z", "attempt_id": f"a{day}", "outcome": {"status": "success"}, "metrics": {"cost_usd": 2.0}} for day in (3, 5, 7)
    ]
    (place.logs / "agent-metrics.jsonl").write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    made = Desk(place)
    yield made
    made.outbox.close()


def test_the_report_is_made_at_its_hour_and_once(desk):
    """Not before, and not again in that week, whoever was killed."""
    assert not desk.look(SUNDAY_AT_NINE - 2 * DAY_S)
    assert not desk.look(SUNDAY_AT_NINE - 1)
    assert desk.look(SUNDAY_AT_NINE)
    assert desk.reports == ["weekly-2026-02-08.html", "weekly-2026-02-08.json"]
    desk.start()
    assert not desk.look(SUNDAY_AT_NINE + HOUR_S)
    assert not desk.look(SUNDAY_AT_NINE - HOUR_S)
    assert not desk.look(SUNDAY_AT_NINE + 6 * DAY_S)
    job = desk.courier.next(SUNDAY_AT_NINE)
    assert as_text(job.lines).splitlines() == ["📊 The last 7 days, up to 08 Feb 09:00", "Sessions: 3", "Success: 100.0 %", "Cost: $6.00"]
    assert (job.target, job.document) == (CHAT, desk.place.base / ".cache" / "reports" / "weekly-2026-02-08.html")
    assert desk.outbox.unsent(PART.name) is None


@pytest.mark.parametrize(("late_s", "is_made"), [pytest.param(23 * HOUR_S, True, id="23 h late"), pytest.param(25 * HOUR_S, False, id="25 h late")])
def test_a_report_that_was_missed_is_made_up_for_within_a_day(desk, late_s, is_made):
    """Its week still ends when it was due."""
    desk.outbox.remember(TOLD, "2026-02-01")
    assert desk.look(SUNDAY_AT_NINE + late_s) is is_made
    assert ("weekly-2026-02-08.json" in desk.reports) is is_made


def test_the_first_start_has_missed_no_report(desk):
    """Who starts the notifier on a Sunday noon asked for no report yet."""
    assert not desk.look(SUNDAY_AT_NINE + HOUR_S)
    assert desk.look(SUNDAY_AT_NINE + 7 * DAY_S)


def test_a_report_that_cannot_be_made_is_tried_again(desk):
    """And the reason is told."""
    desk.outbox.remember(TOLD, "2026-02-01")
    (desk.place.base / ".cache" / "reports").write_text("in the way")
    assert not desk.look(SUNDAY_AT_NINE)
    assert "the weekly report cannot be made" in desk.told[-1]
    (desk.place.base / ".cache" / "reports").unlink()
    assert not desk.look(SUNDAY_AT_NINE + AGAIN_S - 1)
    assert desk.look(SUNDAY_AT_NINE + AGAIN_S)


def test_what_takes_too_long_is_ended(desk):
    """No process is left behind."""
    asked = week.Asked(desk.weekly._loaded, desk.place.base)
    with pytest.raises(week.WeekError, match="longer than"):
        asyncio.run(week.figures(asked, desk.place.environ, 0.01))


@given(day=st.integers(0, 6), hour=st.integers(0, 23), local=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001  # local
def test_the_last_moment_is_of_its_day_and_hour_and_within_the_last_week(day, hour, local):
    """Whatever the time is."""
    moment = last_due(day, hour, local)
    assert (moment.isoweekday() % 7, moment.hour, moment.minute) == (day, hour, 0)
    assert timedelta(0) <= local - moment < timedelta(days=7)


@pytest.mark.parametrize("fault", ["", CUT, LOST])
def test_the_report_arrives_as_a_message_with_its_page_over_kills(place, api, fault):
    """Killed while it is made, restarted, answered or not: one message, or a second one that says so."""
    now = datetime.now(UTC)
    place.state.mkdir()
    outbox, _ = Outbox.open(place.state / NAME)
    outbox.remember(TOLD, "2000-01-01")
    outbox.close()
    due = {"AGENTWATCH_REPORT_DAY": str(now.isoweekday() % 7), "AGENTWATCH_REPORT_HOUR": str(now.hour)}
    api.faults.extend([fault] if fault else [])
    first = place.start(**due)
    time.sleep(0.7)
    first.kill()
    first.wait()
    place.start(**due)
    copies = 2 if fault == LOST else 1
    found = api.wait(lambda: len(api.messages) >= copies and api.messages)
    place.end()
    place.start(**due)
    time.sleep(1)
    assert len(found) == copies
    assert (REPEAT in found[-1]["text"]) == (fault != "")
    name, content = found[-1]["document"]
    assert name == f"weekly-{now:%Y-%m-%d}.html"
    assert content == (Path(place.base) / ".cache" / "reports" / name).read_bytes()
