"""The seven-day report: what was done, what it cost, and what went wrong, against the period before."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, timedelta
from math import fsum

import msgspec

from agentwatch.core.metrics import Row, Tokens
from agentwatch.core.reports.errors import Cluster, Gathering, middle_of
from agentwatch.core.reports.history import NO_SUCCESS, UNKNOWN, AlertMark, History, LostError, Period, UpToNow, batches, mean, ranked, spelt
from agentwatch.core.reports.noise import quantile
from agentwatch.model import Time

TOP_ERRORS = 10
MOST_DAYS = 400
USD_DIGITS = 6
"""As many as a session's row has: what stands behind them says in which order was added up."""


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
    """The sessions of one executor or model. `cost_usd_at_least` says that some spent tokens of no known price."""

    sessions: int
    success_rate: float | None
    duration_ms_mean: float | None
    cost_usd_total: float
    cost_usd_at_least: bool
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


class _Tally(msgspec.Struct, gc=False):
    """What sessions come to. `day_tokens` and `day_usd` are of those that spent all of it on the day of their end."""

    status: dict[str | None, int] = {}
    lasted: list[float] = []
    costs: list[float] = []
    tokens: int = 0
    errors: int = 0
    day_tokens: int = 0
    day_usd: float = 0.0
    at_least: bool = False

    def take(self, other: "_Tally") -> None:
        for status, count in other.status.items():
            self.status[status] = self.status.get(status, 0) + count
        self.lasted += other.lasted
        self.costs += other.costs
        self.tokens += other.tokens
        self.errors += other.errors
        self.day_tokens += other.day_tokens
        self.day_usd += other.day_usd
        self.at_least |= other.at_least

    @property
    def sessions(self) -> int:
        return sum(self.status.values())

    @property
    def success_rate(self) -> float | None:
        """The share of successes among the sessions that said how they ended; None where none did."""
        told = self.sessions - self.status.get(None, 0)
        return self.status.get("success", 0) / told if told else None

    def group(self) -> tuple[int, float | None, float | None, float, bool, int]:
        return self.sessions, self.success_rate, mean(self.lasted), fsum(self.costs), self.at_least, self.tokens


_Key = tuple[str, str, bool, int]
"""Executor, model, whether it is running, the day (UTC) of its end: what one pass over the sessions of a month tells apart."""


class Part(msgspec.Struct, gc=False):
    """What some sessions come to whatever the period. None of their attempts occurs elsewhere, and none is running; `first` and `last` are ends of sessions."""

    first: Time
    last: Time
    sums: "_Sums"
    errors: Gathering


def part_of(rows: Sequence[Row]) -> Part:
    """Of one session or more."""
    ends = [row.timestamp for row in rows]
    part = Part(min(ends), max(ends), _Sums(), Gathering())
    part.sums.add(rows, frozenset())
    part.errors.add(rows)
    return part


class Summing:
    """A summary of `period` that is added up session by session, in any order: no more of them need be in memory than are added at once."""

    def __init__(self, period: Period, running: frozenset[tuple[str, str]]) -> None:
        self._period = period
        self._running = running
        self._now, self._before = _Sums(), _Sums()
        self._errors = Gathering(middle_of(period))
        self._late = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Sessions of whatever time, each once."""
        start, limit, before = self._period.start, self._period.limit, self._period.before.start
        now: list[Row] = []
        then: list[Row] = []
        for row in rows:
            at = row.timestamp
            if start <= at < limit:
                now.append(row)
            elif before <= at < start:
                then.append(row)
            elif at >= limit:
                self._late += 1
        self._now.add(now, self._running)
        self._before.add(then, self._running)
        self._errors.add(now)

    def take(self, part: Part) -> bool:
        """Sessions that were added up before. False, and nothing taken, where a boundary of the period lies between them."""
        period = self._period
        if period.start <= part.first and part.last < period.limit and self._errors.take(part.errors):
            self._now.take(part.sums)
            return True
        if period.before.start <= part.first and part.last < period.start:
            self._before.take(part.sums)
            return True
        return part.last < period.before.start

    def told(self, errors: Sequence[LostError], alerts: Sequence[AlertMark], problems: list[str]) -> Summary:
        """The figures; those of the period before are None where nothing is known of it."""
        period = self._period
        lost = [error for error in errors if error.at is None or period.holds(error.at)]
        before = [error for error in errors if error.at is None or period.before.holds(error.at)]
        alerts = [alert for alert in alerts if period.holds(alert.at)]
        self._errors.add((), lost)
        figures = self._now.figures(len(lost))
        return Summary(
            **{name: getattr(figures, name) for name in Figures.__struct_fields__},
            period=period,
            by_executor=[ByExecutor(*tally.group(), executor=name) for name, tally in _by_size(self._now.tallies, 0)],
            by_model=[ByModel(*tally.group(), model=name) for name, tally in _by_size(self._now.tallies, 1)],
            top_errors=self._errors.clusters()[:TOP_ERRORS],
            alerts=ranked(Counter(alert.type for alert in alerts)),
            incidents=ranked(Counter(alert.type for alert in alerts if alert.status == "open")),
            daily=_daily(self._now, period),
            before=self._before.figures(len(before)) if self._before.tallies else None,
            in_the_future=self._late if isinstance(period, UpToNow) else 0,
            problems=problems,
        )


def summarise(history: History, period: Period) -> Summary:
    """The figures of `period`; those of the period before are None where nothing is known of it."""
    summing = Summing(period, history.running)
    for batch in batches(history.rows):
        summing.add(batch)
    return summing.told(history.errors, history.alerts, history.problems)


def _daily(sums: "_Sums", period: Period) -> list[DayFigures]:
    """Every day of the period, the empty ones too, at most the last 400."""
    first = max(period.start, period.end - timedelta(days=MOST_DAYS)).astimezone(UTC).toordinal()
    last = period.end.astimezone(UTC).toordinal()
    days = {number: DayFigures(date.fromordinal(number).isoformat()) for number in range(first, last + 1)}
    for key, tally in sums.tallies.items():
        own = days.get(key[3])
        if own is not None:
            own.sessions += tally.sessions
            own.success += tally.status.get("success", 0)
            own.failed += sum(tally.status.get(name, 0) for name in NO_SUCCESS)
            own.errors += tally.errors
            own.tokens += tally.day_tokens
            own.cost_usd += tally.day_usd
    for figures in days.values():
        spent = sums.spent.get(figures.day)
        if spent is not None:
            figures.tokens += spent[0]
            figures.cost_usd += spent[1]
        figures.cost_usd = round(figures.cost_usd, USD_DIGITS)
    return list(days.values())


def _by_size(tallies: dict[_Key, _Tally], part: int) -> list[tuple[str, _Tally]]:
    """By the executor (0) or the model (1), the largest first."""
    counts: Counter[str] = Counter()
    for key, tally in tallies.items():
        counts[str(key[part])] += tally.sessions
    names = spelt(counts) if part == 0 else {}
    found: dict[str, _Tally] = {}
    for key, tally in tallies.items():
        name = str(key[part])
        found.setdefault(names.get(name, name), _Tally()).take(tally)
    return sorted(found.items(), key=lambda one: (-one[1].sessions, one[0]))


class _Sums(msgspec.Struct, gc=False):
    """What the sessions of one period come to. `spent` is tokens and USD by day, of those that spent them on several."""

    tokens: Tokens = msgspec.field(default_factory=Tokens)
    waste: Waste = msgspec.field(default_factory=Waste)
    erred: int = 0
    tallies: dict[_Key, _Tally] = {}
    spent: dict[str, tuple[int, float]] = {}

    def add(self, rows: Iterable[Row], running: frozenset[tuple[str, str]]) -> None:
        tallies, kinds = self.tallies, self.tokens
        for row in rows:
            metrics = row.metrics
            cost_usd, lasted_ms = metrics.cost_usd, metrics.duration_ms
            tokens = metrics.total_tokens or metrics.tokens.total
            is_running = bool(running) and (row.scope, row.attempt_id) in running
            key = (row.executor or UNKNOWN, row.model or UNKNOWN, is_running, row.timestamp.toordinal())
            tally = tallies.get(key)
            if tally is None:
                tally = tallies[key] = _Tally()
            status = row.status
            tally.status[status] = tally.status.get(status, 0) + 1
            tally.tokens += tokens
            kinds.add(metrics.tokens)
            if lasted_ms is not None and not is_running:
                tally.lasted.append(lasted_ms)
            if cost_usd is not None:
                tally.costs.append(cost_usd)
            elif tokens:
                tally.at_least = True
            if metrics.errors:
                tally.errors += metrics.errors
                self.erred += 1
            if row.unpriced:
                tally.at_least = True
            for day in row.days:
                self._spend(day.day, day.tokens.total, day.cost_usd)
            if not row.days:
                tally.day_tokens += tokens
                tally.day_usd += cost_usd or 0.0
            if row.loops is not None or row.stuck_ms:
                _waste(self.waste, row)

    def take(self, other: "_Sums") -> None:
        """What other sessions come to."""
        self.tokens.add(other.tokens)
        for name in Waste.__struct_fields__:
            setattr(self.waste, name, getattr(self.waste, name) + getattr(other.waste, name))
        self.erred += other.erred
        for key, tally in other.tallies.items():
            own = self.tallies.get(key)
            if own is None:
                own = self.tallies[key] = _Tally()
            own.take(tally)
        for day, spent in other.spent.items():
            self._spend(day, *spent)

    def _spend(self, day: str, tokens: int, usd: float) -> None:
        before = self.spent.get(day, (0, 0.0))
        self.spent[day] = before[0] + tokens, before[1] + usd

    def figures(self, lost_errors: int) -> Figures:
        """The figures of all."""
        everyone, over = _Tally(), _Tally()
        for key, tally in self.tallies.items():
            everyone.take(tally)
            if not key[2]:
                over.take(tally)
        known, kinds = everyone.status.get, self.tokens
        lasted = sorted(over.lasted)
        return Figures(
            sessions=Sessions(
                total=everyone.sessions,
                **{name: known(name, 0) for name in ("success", *NO_SUCCESS)},
                unknown=over.status.get(None, 0),
                running=everyone.sessions - over.sessions,
                success_rate=everyone.success_rate,
            ),
            duration_ms=Duration(mean(lasted), quantile(lasted, 0.5), quantile(lasted, 0.95)),
            cost_usd=Cost(fsum(everyone.costs), mean(everyone.costs), len(everyone.costs), everyone.at_least),
            tokens=TokenSums(everyone.tokens, kinds.input, kinds.output, kinds.cache_read, kinds.cache_write, kinds.reasoning),
            errors=Errors(sum(tally.errors for tally in self.tallies.values()) + lost_errors, self.erred),
            waste=msgspec.structs.replace(self.waste, loop_cost_usd=round(self.waste.loop_cost_usd, USD_DIGITS)),
        )


def _waste(waste: Waste, row: Row) -> None:
    if row.loops is not None:
        waste.loop_sessions += 1
        waste.loop_tokens += row.loops.tokens
        waste.loop_cost_usd += row.loops.cost_usd
        waste.loop_ms += row.loops.duration_ms
    waste.stuck_sessions += row.stuck_ms > 0
    waste.stuck_ms += row.stuck_ms
