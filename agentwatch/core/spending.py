"""What a session spends, by kind and day, and how much of it inside loops. Adds up in constant time and space per event."""

from datetime import UTC, datetime, timedelta

from agentwatch.core.state import Looped, Session, Spent
from agentwatch.model import MOST_TOKENS, Usage

METER_MINUTES = 16
"""Minutes with spending that are remembered: a loop's first repetitions lie that far back when it is told, in nearly all cases."""

MOST_DAYS = 64
MINUTE_S = 60
NO_TIME = timedelta(0)


def count(session: Session, at: datetime, usage: Usage | None) -> Spent:
    """A step is about to be added to the session's sums; the sums of its day, which the caller adds the step's USD to."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    day = at.toordinal()
    minute = (day * 24 + at.hour) * 60 + at.minute
    meter = session.meter
    if meter is None:
        meter = session.meter = []
    if not meter or minute > meter[-1][0]:
        meter.append((minute, session.tokens, session.cost_usd))
        if len(meter) > METER_MINUTES:
            del meter[0]
    spent = _of_day(session, day)
    if usage is not None:
        spent.input = min(spent.input + usage.input, MOST_TOKENS)
        spent.output = min(spent.output + usage.output, MOST_TOKENS)
        spent.cache_read = min(spent.cache_read + usage.cache_read, MOST_TOKENS)
        spent.cache_write = min(spent.cache_write + usage.cache_write, MOST_TOKENS)
        spent.reasoning = min(spent.reasoning + usage.reasoning, MOST_TOKENS)
    return spent


def _of_day(session: Session, day: int) -> Spent:
    days = session.spent
    if days is None:
        days = session.spent = []
    if days and days[-1].day == day:
        return days[-1]
    for spent in days:
        if spent.day == day:
            return spent
    if len(days) >= MOST_DAYS:  # a log whose clock jumps about
        return days[-1]
    days.append(Spent(day))
    return days[-1]


def loop_went_on(session: Session, since: datetime, until: datetime) -> None:
    """A loop has repeated from `since` to `until`, the newest event. What another loop's time covers already is not counted again."""
    tokens_from, usd_from = _sums_at(session, since)
    looped = session.looped
    if looped is None:
        looped = session.looped = Looped(since, tokens_from, usd_from)
    looped.tokens += max(0, session.tokens - max(tokens_from, looped.tokens_to))
    looped.usd += max(0.0, session.cost_usd - max(usd_from, looped.usd_to))
    looped.time += max(NO_TIME, until - max(since, looped.to))
    looped.to, looped.tokens_to, looped.usd_to = max(until, looped.to), session.tokens, session.cost_usd


def _sums_at(session: Session, at: datetime) -> tuple[int, float]:
    """Tokens and USD that were spent before `at`: exact at full minutes, between them as if spent evenly."""
    meter = session.meter
    if not meter:
        return session.tokens, session.cost_usd
    at = at.astimezone(UTC)
    minute = (at.toordinal() * 24 + at.hour) * 60 + at.minute
    following = (minute + 1, session.tokens, session.cost_usd)
    for entry in reversed(meter):
        if entry[0] <= minute:
            share = at.second / MINUTE_S if entry[0] == minute else 1.0
            return entry[1] + round((following[1] - entry[1]) * share), entry[2] + (following[2] - entry[2]) * share
        following = entry
    return following[1:]
