"""An account's limit: usage, rate or quota."""

from datetime import UTC, datetime

from agentwatch.core.alerts import Finding, Reporter, Spot, span
from agentwatch.core.detectors.base import Handler
from agentwatch.core.limits import Limits
from agentwatch.core.quotas import limit_kind, resets_at
from agentwatch.core.state import MOST_KEYS, Lane, Limited, Session
from agentwatch.model import Alert, Detail, Event, Status

RATE_ERRORS = 3
"""A rate limit that a retry cures is no news: it is told when the agent gives up (`retry` is false), or at the third in a row of one lane with no answer
between where the log shows answers. Sub-agents that start together are rejected together: one error of each is no retry that failed."""

AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
WORKS = frozenset({"tool_call", "tool_result", "agent_output", "agent_thinking"})
"""What an agent that is kept from working cannot do."""


class LimitReached:
    """An `error` that says that an account has used up what it may: told at once, a rate limit when retries do not help.

    Over when the agent works again, or at the time at which the error said that the limit is reset.
    """

    def __init__(self, _limits: Limits, reporter: Reporter) -> None:
        self._reporter = reporter
        self.handlers: dict[str, Handler] = {"error": self.error}

    def error(self, session: Session, _lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        message = detail.error_message or ""
        kind = limit_kind(message, detail.error_category, detail.error_fingerprint)
        if kind is None:
            return
        at = event.timestamp
        limited = session.limited
        if limited is not None and limited.kind != kind:
            if limited.told and kind == "rate":  # what is used up rejects retries in many words
                return
            self._over(session, limited, at, place, f"{session.attempt_id} has run into another limit than its {limited.kind} limit: {kind}", out)
            limited = None
        if limited is None:
            limited = session.limited = Limited(kind, 0, at, place)
        limited.count += 1
        in_a_row = _one_more(limited.by_lane, event.lane or "")
        limited.until = resets_at(message, at) or limited.until
        session.horizon = AT_ONCE  # the next event of any lane, however old, may say that it works
        if limited.told or (kind == "rate" and detail.retry is not False and (in_a_row < RATE_ERRORS or not session.rich)):
            return
        limited.told = True

        def describe(_count: int, _status: Status) -> Finding:
            return self._finding(session, limited, at, place, f"{session.attempt_id} has run into a {kind} limit{again}. {message}", message)

        again = f", resets at {limited.until:%Y-%m-%d %H:%M} UTC" if limited.until is not None else ""
        self._reporter.count(session, "limit_reached", kind, at, crossed=True, size=limited.count, describe=describe, out=out)

    def look(self, session: Session, until: datetime, out: list[Alert]) -> datetime | None:
        """Time has passed: the limit may have been reset. When it will be, where that is known and still to come."""
        limited = session.limited
        if limited is None or limited.until is None or until <= limited.until:
            return limited.until if limited is not None else None
        if limited.until > session.last:
            session.excused, session.excused_at = limited.until - session.last, session.last
        self._over(session, limited, max(limited.until, limited.first_at), session.place, f"the limit of {session.attempt_id} has been reset by now", out)
        return None

    def resumed(self, session: Session, event: Event, place: int, out: list[Alert]) -> None:
        """The next event has come: one that only a working agent makes ends the limit."""
        limited = session.limited
        if limited is not None and event.event_type in WORKS and event.timestamp >= limited.first_at:
            lasted = span(event.timestamp - limited.first_at)
            self._over(session, limited, event.timestamp, place, f"{session.attempt_id} works again after {lasted} at its {limited.kind} limit", out)

    def _over(self, session: Session, limited: Limited, at: datetime, place: int, summary: str, out: list[Alert]) -> None:
        session.limited = None
        if limited.told:
            self._reporter.recover(session, self._finding(session, limited, at, place, summary, summary), out)

    def _finding(self, session: Session, limited: Limited, at: datetime, place: int, summary: str, text: str) -> Finding:
        first = Spot(limited.first_at, limited.first_place, "the first of these errors" if limited.count > 1 or text == summary else text)
        more = [Spot(at, place, text)] if (at, place) != (limited.first_at, limited.first_place) else []
        return Finding(
            type="limit_reached",
            key=limited.kind,
            at=at,
            spots=[first, *more],
            summary=summary,
            detail={
                "limit_kind": limited.kind,
                "fleet": f"{limited.kind} limit of {session.context.executor or 'an agent'}",
                **({"resets_at": limited.until.isoformat()} if limited.until is not None else {}),
            },
        )


def _one_more(by_lane: dict[str, int], lane: str) -> int:
    """How many errors of the lane there are with this one."""
    if lane not in by_lane and len(by_lane) >= MOST_KEYS:
        del by_lane[next(iter(by_lane))]
    by_lane[lane] = by_lane.get(lane, 0) + 1
    return by_lane[lane]
