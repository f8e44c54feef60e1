"""A session that costs more than it should."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from agentwatch.core.alerts import Finding, Reporter, Spot, milliseconds, span
from agentwatch.core.detectors.base import Handler
from agentwatch.core.limits import Limits
from agentwatch.core.state import MOST_KEYS, Lane, Ledger, Session
from agentwatch.model import EPOCH, MOST_MS, MOST_USD, Alert, Detail, Event

MINUTE = timedelta(minutes=1)
GROWTH = 2
"""Each doubling of what was told is told again: 25, 50, 100 dollars (detection.md, section 5, default tiers)."""

BUDGET_USD = 25.0
"""Where a log tells the cost of each step. The 99th percentile of real Claude Code sessions is 24.10 USD; more than 1 USD costs 40 % of
them (detection.md, section 4)."""

RATE_USD, RATE_MINUTES = 20.0, 10
"""Two dollars a minute over ten minutes: the busiest ten of 1,481 real sessions cost 1.45 a minute (section 5)."""


USUAL_SESSIONS, USUAL_TIMES, USUAL_LEAST_USD = 20, 2, 5.0
"""From 20 finished sessions of an executor on, twice their 95th percentile is the first limit, and 5 USD at least (section 5)."""

MOST_SUMS = 4096
DAY_MS = 86_400_000


class CostAnomaly:
    """Money, told while it is spent where steps carry costs, else at the session's end.

    Where only the end tells a cost: more than `cost_usd` in one session (1 USD: contract, section 5); also wherever the user has set that.
    Else more than 25 USD, or, where the ledger knows what this executor's sessions usually cost, than twice that; and each doubling; and more than 20 USD within ten
    minutes. Budgets of a day (UTC), of a project's day and of a sub-agent hold where the user has set them; each doubling is told again.

    `session_end` gives the cost of the whole session; it replaces what was added up from steps.
    """

    def __init__(self, limits: Limits, reporter: Reporter, ledger: Ledger) -> None:
        self._limit = limits.cost_usd
        self._budget = limits.cost_usd if limits.cost_is_explicit else max(limits.cost_usd, BUDGET_USD)
        self._learns = not limits.cost_is_explicit
        self._least = min(self._budget, USUAL_LEAST_USD) if self._learns else self._budget
        self._per_day, self._per_project_day, self._per_subagent = limits.usd_per_day, limits.usd_per_project_day, limits.usd_per_subagent
        self._has_budgets = any(budget is not None for budget in (self._per_day, self._per_project_day, self._per_subagent))
        self._ledger = ledger
        self._reporter = reporter
        self.handlers: dict[str, Handler] = {"session_end": self.end}

    def spent(self, session: Session, event: Event, place: int, cost: float, out: list[Alert]) -> None:
        """A step has cost `cost` USD; `session.cost_usd` has grown to what it is."""
        at = event.timestamp
        session.has_steps = True
        minute = int((at - EPOCH) / MINUTE)
        spending = session.spending
        if spending is None:
            spending = session.spending = {}
        spending[minute] = min(spending.get(minute, 0.0) + cost, MOST_USD)
        if len(spending) > RATE_MINUTES:
            for old in [one for one in spending if not minute - RATE_MINUTES < one <= minute]:
                del spending[old]
        if session.cost_usd > RATE_USD:
            self._rate(session, spending, minute, at, place, out)
        if session.cost_usd > self._least:
            self._told(session, at, place, self._limit_of(session), None, out)
        if self._has_budgets:
            self._budgets(session, event, place, cost, out)

    def _rate(self, session: Session, spending: dict[int, float], minute: int, at: datetime, place: int, out: list[Alert]) -> None:
        usd = sum(cost for one, cost in spending.items() if minute - RATE_MINUTES < one <= minute)
        episode = session.episodes.get("cost_anomaly:rate") if session.episodes else None
        if usd <= RATE_USD or (episode is not None and at - episode.last_at <= RATE_MINUTES * MINUTE):
            if episode is not None and usd > RATE_USD:
                episode.last_at = at
            return
        finding = Finding(
            type="cost_anomaly",
            key="rate",
            at=at,
            spots=[Spot(at, place, f"${usd:.2f} in {RATE_MINUTES} minutes with this line")],
            summary=f"{session.attempt_id} spends ${usd:.2f} in {RATE_MINUTES} min, ${session.cost_usd:.2f} so far; the limit is ${RATE_USD:.2f}",
            detail={"cost_usd": round(usd, 6), "threshold_usd": RATE_USD, "duration_ms": milliseconds(RATE_MINUTES * MINUTE)},
        )
        self._reporter.open(session, finding, 1, out)

    def _told(self, session: Session, at: datetime, place: int, limit: float, duration_ms: float | None, out: list[Alert]) -> None:
        if session.cost_usd <= limit:
            return
        cents = math.ceil(min(session.cost_usd, MOST_USD) * 100)
        episode = session.episodes.get("cost_anomaly:session") if session.episodes else None
        if episode is None:
            episode = self._reporter.open(session, self._finding(session, at, place, limit, duration_ms), cents, out)
            episode.next_count = cents * GROWTH
        elif cents >= episode.next_count:
            episode.count = cents
            self._reporter.escalate(session, episode, self._finding(session, at, place, limit, duration_ms), out)
            episode.next_count = cents * GROWTH

    def is_high(self, session: Session, event: Event) -> bool:
        """Whether a `session_end` leaves the session above its limit, or tells of more than its steps did."""
        cost = event.data.cost_usd or 0.0
        return max(session.cost_usd, cost) > self._limit_of(session) or (self._has_budgets and cost > session.cost_usd)

    def _limit_of(self, session: Session) -> float:
        if not session.has_steps:
            return self._limit
        return self._ledger.usual.get((session.context.executor or "").upper(), self._budget) if self._learns else self._budget

    def _budgets(self, session: Session, event: Event, place: int, cost: float, out: list[Alert]) -> None:
        day = event.timestamp.astimezone(UTC).date().isoformat()
        project = session.context.project_id
        if self._per_day is not None:
            self._shared(session, event, place, day, f"all attempts have spent {{}} on {day}", cost, self._per_day, out)
        if self._per_project_day is not None and project:
            self._shared(session, event, place, f"{day}{project}", f"{project} has cost {{}} on {day}", cost, self._per_project_day, out)
        if self._per_subagent is not None and event.lane is not None:
            self._subagent(session, event, place, cost, self._per_subagent, out)

    def _shared(self, session: Session, event: Event, place: int, key: str, what: str, cost: float, budget: float, out: list[Alert]) -> None:
        """Add to a sum over attempts. The order in which logs are read decides whose step crosses a budget, and not what the alert's id is."""
        ledger = self._ledger
        if key not in ledger.usd and len(ledger.usd) >= MOST_SUMS:
            oldest = next(iter(ledger.usd))
            del ledger.usd[oldest]
            ledger.told.pop(oldest, None)
        usd = ledger.usd[key] = min(ledger.usd.get(key, 0.0) + cost, MOST_USD)
        before = ledger.told.get(key, 0)
        told = _steps_over(usd, budget)
        if told <= before:
            return
        ledger.told[key] = told
        finding = Finding(
            type="cost_anomaly",
            key=f"budget:{key}",
            at=event.timestamp,
            spots=[Spot(event.timestamp, place, f"${usd:.2f} with this line")],
            summary=f"{what.format(f'${usd:.2f}')}; the budget is ${budget:.2f} a day",
            detail={"cost_usd": round(usd, 6), "threshold_usd": budget, "duration_ms": DAY_MS},
            is_shared=True,
        )
        self._reporter.shared(session, finding, told - 1 if before else 0, out)

    def _subagent(self, session: Session, event: Event, place: int, cost: float, budget: float, out: list[Alert]) -> None:
        lane = event.lane or ""
        sums = session.lanes_usd
        if sums is None:
            sums = session.lanes_usd = {}
        if lane not in sums and len(sums) >= MOST_KEYS:
            del sums[next(iter(sums))]
        before, usd = sums.get(lane, 0.0), min(sums.get(lane, 0.0) + cost, MOST_USD)
        sums[lane] = usd
        if before <= budget < usd:
            finding = Finding(
                type="cost_anomaly",
                key=f"lane:{lane}",
                at=event.timestamp,
                spots=[Spot(event.timestamp, place, f"${usd:.2f} with this line")],
                summary=f"the sub-agent {lane} of {session.attempt_id} has cost ${usd:.2f}; the budget is ${budget:.2f}",
                detail={"cost_usd": round(usd, 6), "threshold_usd": budget, "duration_ms": milliseconds(event.timestamp - session.started)},
            )
            self._reporter.open(session, finding, 1, out)

    def end(self, session: Session, _lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        by_steps, session.cost_usd = session.cost_usd, max(session.cost_usd, min(detail.cost_usd or 0.0, MOST_USD))
        if self._has_budgets and session.cost_usd > by_steps:
            self._budgets(session, event, place, session.cost_usd - by_steps, out)
        self._told(session, event.timestamp, place, self._limit_of(session), detail.duration_ms, out)

    def _finding(self, session: Session, at: datetime, place: int, limit: float, duration_ms: float | None) -> Finding:
        lasted = timedelta(milliseconds=max(0.0, min(duration_ms, MOST_MS))) if duration_ms is not None else at - session.started
        known = " at least (some steps have no known price)" if session.unpriced else ""
        return Finding(
            type="cost_anomaly",
            key="session",
            at=at,
            spots=[Spot(at, place, f"${session.cost_usd:.2f} with this line")],
            summary=f"{session.attempt_id} has cost ${session.cost_usd:.2f}{known} in {span(lasted)}; the limit is ${limit:.2f} a session",
            detail={"cost_usd": round(session.cost_usd, 6), "threshold_usd": limit, "duration_ms": milliseconds(lasted)},
        )


def usual_usd(costs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The first limit of each executor that has history enough, from pairs of executor and what a finished session of it cost."""
    by_executor: dict[str, list[float]] = {}
    for executor, usd in costs:
        by_executor.setdefault(executor.upper(), []).append(usd)
    return {
        executor: max(USUAL_LEAST_USD, USUAL_TIMES * sorted(spent)[math.ceil(0.95 * len(spent)) - 1])
        for executor, spent in by_executor.items()
        if len(spent) >= USUAL_SESSIONS
    }


def _steps_over(usd: float, budget: float) -> int:
    """How many of a budget, twice, four times it … `usd` is above."""
    steps = 0
    while usd > budget:
        budget *= GROWTH
        steps += 1
    return steps
