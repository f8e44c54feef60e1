"""A session that costs more than it should."""

import math
from datetime import datetime, timedelta

from agentwatch.core.alerts import Finding, Reporter, Spot, milliseconds, span
from agentwatch.core.detectors.base import Handler
from agentwatch.core.limits import Limits
from agentwatch.core.state import Lane, Session
from agentwatch.model import Alert, Detail, Event

MOST_USD = 1e12
"""What is counted of a nonsensical cost: a checkpoint has no larger integers."""

MOST_MS = 1e14
GROWTH = 2
"""Each doubling of what was told is told again: 25, 50, 100 dollars (detection.md, section 5, default tiers)."""


class CostAnomaly:
    """More than `cost_usd` in one session (1 USD: contract, section 5), told while it is spent where steps carry costs.

    `session_end` gives the cost of the whole session; it replaces what was added up from steps.
    """

    def __init__(self, limits: Limits, reporter: Reporter) -> None:
        self._limit = limits.cost_usd
        self._reporter = reporter
        self.handlers: dict[str, Handler] = {"session_end": self.end}

    def spent(self, session: Session, at: datetime, place: int, out: list[Alert], duration_ms: float | None = None) -> None:
        """`session.cost_usd` has grown to what it is with the line at `place`."""
        if session.cost_usd <= self._limit:
            return
        cents = math.ceil(min(session.cost_usd, MOST_USD) * 100)
        episode = session.episodes.get("cost_anomaly:session") if session.episodes else None
        if episode is None:
            episode = self._reporter.open(session, self._finding(session, at, place, duration_ms), cents, out)
            episode.next_count = cents * GROWTH
        elif cents >= episode.next_count:
            episode.count = cents
            self._reporter.escalate(session, episode, self._finding(session, at, place, duration_ms), out)
            episode.next_count = cents * GROWTH

    def is_high(self, session: Session, event: Event) -> bool:
        """Whether a `session_end` leaves the session above its limit."""
        return max(session.cost_usd, event.data.cost_usd or 0.0) > self._limit

    def end(self, session: Session, _lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        session.cost_usd = max(session.cost_usd, min(detail.cost_usd or 0.0, MOST_USD))
        self.spent(session, event.timestamp, place, out, detail.duration_ms)

    def _finding(self, session: Session, at: datetime, place: int, duration_ms: float | None) -> Finding:
        lasted = timedelta(milliseconds=max(0.0, min(duration_ms, MOST_MS))) if duration_ms is not None else at - session.started
        known = " at least (some steps have no known price)" if session.unpriced else ""
        return Finding(
            type="cost_anomaly",
            key="session",
            at=at,
            spots=[Spot(at, place, f"${session.cost_usd:.2f} with this line")],
            summary=f"{session.attempt_id} has cost ${session.cost_usd:.2f}{known} in {span(lasted)}; the limit is ${self._limit:.2f} a session",
            detail={"cost_usd": round(session.cost_usd, 6), "threshold_usd": self._limit, "duration_ms": milliseconds(lasted)},
        )
