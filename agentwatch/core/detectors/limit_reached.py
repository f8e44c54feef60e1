"""An account's limit: usage, rate or quota."""

from datetime import datetime, timedelta

from agentwatch.core.alerts import Finding, Reporter, Spot, span
from agentwatch.core.detectors.base import Handler
from agentwatch.core.limits import Limits
from agentwatch.core.quotas import limit_kind, resets_at
from agentwatch.core.state import Lane, Limited, Session
from agentwatch.model import Alert, Detail, Event, Status

RATE_ERRORS = 3
"""A rate limit that a retry cures is no news: it is told when the agent gives up (`retry` is false), or at the third in a row with no answer between
where the log shows answers."""

IN_A_ROW = timedelta(minutes=10)
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
        if limited is None or limited.kind != kind or at - session.last > IN_A_ROW:
            limited = session.limited = Limited(kind, 0, at, place)
        limited.count += 1
        limited.until = resets_at(message, at) or limited.until
        session.horizon = min(session.horizon, session.last)
        if limited.told or (kind == "rate" and detail.retry is not False and (limited.count < RATE_ERRORS or not session.rich)):
            return
        limited.told = True

        def describe(_count: int, _status: Status) -> Finding:
            return self._finding(session, limited, at, place, f"{session.attempt_id} has run into a {kind} limit{again}. {message}", message)

        again = f", resets at {limited.until:%Y-%m-%d %H:%M} UTC" if limited.until is not None else ""
        self._reporter.count(session, "limit_reached", kind, at, crossed=True, size=limited.count, describe=describe, out=out)

    def look(self, session: Session, until: datetime, out: list[Alert]) -> None:
        """Time has passed: the limit may have been reset."""
        limited = session.limited
        if limited is None or limited.until is None or until <= limited.until:
            return
        if limited.until > session.last:
            session.excused, session.excused_at = limited.until - session.last, session.last
        self._over(session, limited, max(limited.until, limited.first_at), session.place, f"the limit of {session.attempt_id} has been reset by now", out)

    def resumed(self, session: Session, event: Event, place: int, out: list[Alert]) -> None:
        """The next event has come: one that only a working agent makes ends the limit."""
        limited = session.limited
        if limited is not None and event.event_type in WORKS:
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
