"""The seven-day report: what was done, what it cost, and what went wrong, against the period before."""

from collections import Counter
from datetime import UTC, date, timedelta

import msgspec

from agentwatch.core.metrics import Row, Tokens
from agentwatch.core.reports.errors import Cluster, clusters
from agentwatch.core.reports.history import NO_SUCCESS, UNKNOWN, History, Period, UpToNow, mean, ranked
from agentwatch.core.reports.noise import quantile

TOP_ERRORS = 10
MOST_DAYS = 400


class Sessions(msgspec.Struct):
    """How many, and how they ended. `unknown` ended without saying how; `success_rate` is of those that said it."""

    total: int = 0
    success: int = 0
    failed: int = 0
    timeout: int = 0
    interrupted: int = 0
    unknown: int = 0
    running: int = 0
    success_rate: float | None = None


class Duration(msgspec.Struct):
    """Milliseconds, of the sessions that are over."""

    mean: float | None = None
    median: float | None = None
    p95: float | None = None


class Cost(msgspec.Struct):
    """USD. `known` sessions have a known cost, which `mean` is of; `at_least` says that others spent tokens of no known price."""

    total: float = 0.0
    mean: float | None = None
    known: int = 0
    at_least: bool = False


class TokenSums(msgspec.Struct):
    """By kind; `total` may be more than their sum, where only the sum was told."""

    total: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


class Errors(msgspec.Struct):
    """Errors, and in how many sessions."""

    total: int = 0
    sessions: int = 0


class Group(msgspec.Struct):
    """The sessions of one executor or model."""

    sessions: int
    success_rate: float | None
    duration_ms_mean: float | None
    cost_usd_total: float
    tokens_total: int


class ByExecutor(Group, kw_only=True):
    executor: str


class ByModel(Group, kw_only=True):
    model: str


class Waste(msgspec.Struct):
    """What agents spent going round in circles (tokens, USD, time from the first to the last repetition), and how long they were silent when told as stuck."""

    loop_sessions: int = 0
    loop_tokens: int = 0
    loop_cost_usd: float = 0.0
    loop_ms: int = 0
    stuck_sessions: int = 0
    stuck_ms: int = 0


class DayFigures(msgspec.Struct):
    """One day, UTC. Sessions and errors stand at the day of the session's end, money and tokens at the day on which they were spent."""

    day: str
    sessions: int = 0
    success: int = 0
    failed: int = 0
    errors: int = 0
    tokens: int = 0
    cost_usd: float = 0.0


class Figures(msgspec.Struct, kw_only=True):
    """The figures that two periods are compared by."""

    sessions: Sessions
    duration_ms: Duration
    cost_usd: Cost
    tokens: TokenSums
    errors: Errors
    waste: Waste


class Summary(Figures, kw_only=True):
    """As `summary --json` has it (contract, section 6). `alerts` counts lines, `incidents` the episodes that they tell of."""

    period: Period
    by_executor: list[ByExecutor]
    by_model: list[ByModel]
    top_errors: list[Cluster]
    alerts: dict[str, int]
    incidents: dict[str, int]
    daily: list[DayFigures]
    before: Figures | None
    in_the_future: int
    problems: list[str]


class _Tally:
    """What sessions come to. `day_tokens` and `day_usd` are of those that spent all of it on the day of their end."""

    __slots__ = ("costs", "day_tokens", "day_usd", "errors", "lasted", "status", "tokens")

    def __init__(self) -> None:
        self.status: dict[str | None, int] = {}
        self.lasted: list[float] = []
        self.costs: list[float] = []
        self.tokens = self.errors = self.day_tokens = 0
        self.day_usd = 0.0

    def take(self, other: "_Tally") -> None:
        for status, count in other.status.items():
            self.status[status] = self.status.get(status, 0) + count
        self.lasted += other.lasted
        self.costs += other.costs
        self.tokens += other.tokens

    @property
    def sessions(self) -> int:
        return sum(self.status.values())

    @property
    def success_rate(self) -> float | None:
        """The share of successes among the sessions that said how they ended; None where none did."""
        told = self.sessions - self.status.get(None, 0)
        return self.status.get("success", 0) / told if told else None

    def group(self) -> tuple[int, float | None, float | None, float, int]:
        return self.sessions, self.success_rate, mean(self.lasted), sum(self.costs), self.tokens


_Key = tuple[str, str, bool, int]
"""Executor, model, whether it is running, the day (UTC) of its end: what one pass over the sessions of a month tells apart."""


def summarise(history: History, period: Period) -> Summary:
    """The figures of `period`; those of the period before are None where nothing is known of it."""
    now, then = history.of(period), history.of(period.before)
    figures, tallies = _figures(now)
    return Summary(
        **{name: getattr(figures, name) for name in Figures.__struct_fields__},
        period=period,
        by_executor=[ByExecutor(*tally.group(), executor=name) for name, tally in _by_size(tallies, 0)],
        by_model=[ByModel(*tally.group(), model=name) for name, tally in _by_size(tallies, 1)],
        top_errors=clusters(now, period)[:TOP_ERRORS],
        alerts=ranked(Counter(alert.type for alert in now.alerts)),
        incidents=ranked(Counter(alert.type for alert in now.alerts if alert.status == "open")),
        daily=_daily(tallies, now, period),
        before=_figures(then)[0] if then.rows else None,
        in_the_future=sum(map(period.is_future, (row.timestamp for row in history.rows))) if isinstance(period, UpToNow) else 0,
        problems=history.problems,
    )


def _daily(tallies: dict[_Key, _Tally], history: History, period: Period) -> list[DayFigures]:
    """Every day of the period, the empty ones too, at most the last 400."""
    first = max(period.start, period.end - timedelta(days=MOST_DAYS)).astimezone(UTC).toordinal()
    last = period.end.astimezone(UTC).toordinal()
    days = {number: DayFigures(date.fromordinal(number).isoformat()) for number in range(first, last + 1)}
    for key, tally in tallies.items():
        own = days.get(key[3])
        if own is not None:
            own.sessions += tally.sessions
            own.success += tally.status.get("success", 0)
            own.failed += sum(tally.status.get(name, 0) for name in NO_SUCCESS)
            own.errors += tally.errors
            own.tokens += tally.day_tokens
            own.cost_usd += tally.day_usd
    by_name = {figures.day: figures for figures in days.values()}
    for row in history.rows:
        for spent in row.days:
            figures = by_name.get(spent.day)
            if figures is not None:
                figures.tokens += spent.tokens.total
                figures.cost_usd += spent.cost_usd
    return list(days.values())


def _by_size(tallies: dict[_Key, _Tally], part: int) -> list[tuple[str, _Tally]]:
    """By one part of the key, the largest first."""
    found: dict[str, _Tally] = {}
    for key, tally in tallies.items():
        found.setdefault(str(key[part]), _Tally()).take(tally)
    return sorted(found.items(), key=lambda one: (-one[1].sessions, one[0]))


def _figures(history: History) -> tuple[Figures, dict[_Key, _Tally]]:
    """The figures of all, and what they are made of."""
    tallies: dict[_Key, _Tally] = {}
    sums, waste, errors = Tokens(), Waste(), Errors(total=len(history.errors))
    at_least = False
    for row in history.rows:
        metrics, tokens = row.metrics, row.tokens
        cost_usd = metrics.cost_usd
        is_running = bool(history.running) and (row.scope, row.attempt_id) in history.running
        key = (row.executor or UNKNOWN, row.model or UNKNOWN, is_running, row.timestamp.toordinal())
        tally = tallies.get(key)
        if tally is None:
            tally = tallies[key] = _Tally()
        status = row.status
        tally.status[status] = tally.status.get(status, 0) + 1
        tally.tokens += tokens
        if not row.days:
            tally.day_tokens += tokens
            tally.day_usd += cost_usd or 0.0
        if metrics.duration_ms is not None:
            tally.lasted.append(metrics.duration_ms)
        if cost_usd is not None:
            tally.costs.append(cost_usd)
        elif tokens:
            at_least = True
        sums.add(metrics.tokens)
        if metrics.errors:
            tally.errors += metrics.errors
            errors.total += metrics.errors
            errors.sessions += 1
        if row.unpriced:
            at_least = True
        if row.loops is not None or row.stuck_ms:
            _waste(waste, row)
    everyone, over = _Tally(), _Tally()
    for key, tally in tallies.items():
        everyone.take(tally)
        if not key[2]:
            over.take(tally)
    known = everyone.status.get
    lasted = sorted(over.lasted)
    figures = Figures(
        sessions=Sessions(
            total=everyone.sessions,
            **{name: known(name, 0) for name in ("success", *NO_SUCCESS)},
            unknown=over.status.get(None, 0),
            running=everyone.sessions - over.sessions,
            success_rate=everyone.success_rate,
        ),
        duration_ms=Duration(mean(lasted), quantile(lasted, 0.5), quantile(lasted, 0.95)),
        cost_usd=Cost(sum(everyone.costs), mean(everyone.costs), len(everyone.costs), at_least),
        tokens=TokenSums(everyone.tokens, sums.input, sums.output, sums.cache_read, sums.cache_write, sums.reasoning),
        errors=errors,
        waste=waste,
    )
    return figures, tallies


def _waste(waste: Waste, row: Row) -> None:
    if row.loops is not None:
        waste.loop_sessions += 1
        waste.loop_tokens += row.loops.tokens
        waste.loop_cost_usd += row.loops.cost_usd
        waste.loop_ms += row.loops.duration_ms
    waste.stuck_sessions += row.stuck_ms > 0
    waste.stuck_ms += row.stuck_ms
