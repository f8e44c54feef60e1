"""What was spent, by what, and what would have been cheaper."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from agentwatch.core.metrics import Row, Tokens, days_of
from agentwatch.core.reports.history import NO_SUCCESS, UNKNOWN, History, Period, spelt, task_of
from agentwatch.core.reports.noise import shares_differ
from agentwatch.core.reports.summary import TokenSums

By = Literal["day", "model", "executor", "project"]

CACHE_TOKENS = 1_000_000
LOW_CACHE_SHARE = 0.5
"""Agents that cache read nine tenths of their input from the cache; with less than half something breaks the prefix."""

DEAR = 2.0
"""A model is dear that costs twice as much a session as another."""

LEAST_SESSIONS = 10
LEAST_SHARE, LEAST_USD = 0.02, 0.5
"""What would save less than both, a fiftieth of all and half a dollar, is not worth a line."""


class Spending(msgspec.Struct):
    """`unpriced` sessions spent tokens of no known price: the cost is at least this."""

    key: str
    sessions: int
    tokens: TokenSums
    cost_usd: float
    unpriced: int = 0


class Recommendation(msgspec.Struct):
    """What to do, the figures that say so, and what it could save at most, in USD of the period (None: not to be reckoned)."""

    kind: str
    text: str
    saves_usd: float | None


_KEYS: dict[str, Callable[[Row], str]] = {
    "model": lambda row: row.model or UNKNOWN,
    "executor": lambda row: row.executor or UNKNOWN,
    "project": lambda row: row.project_id or UNKNOWN,
}


def spending(history: History, by: By, period: Period) -> list[Spending]:
    """By day, in their order, or by what costs most first.

    A day has what was spent on it, where steps told it, else what sessions that ended on it spent; its sessions are those that ended on it.
    """
    if by == "day":
        return _by_day(history, period)
    found: dict[str, Spending] = {}
    written: Counter[str] = Counter()
    for row in history.rows:
        name = _KEYS[by](row)
        written[name] += 1
        key = name.upper() if by == "executor" else name
        spent = found.get(key)
        if spent is None:
            spent = found[key] = Spending(name, 0, TokenSums(), 0.0)
        spent.sessions += 1
        spent.unpriced += _is_unpriced(row)
        spent.cost_usd += row.metrics.cost_usd or 0.0
        _add(spent.tokens, row.metrics.tokens, row.tokens)
    if by == "executor":
        for name in spelt(written).values():
            found[name.upper()].key = name
    return sorted(found.values(), key=lambda one: (-one.cost_usd, -one.tokens.total, one.key))


def _by_day(history: History, period: Period) -> list[Spending]:
    days: dict[str, Spending] = {}
    first = period.start.date().isoformat()
    for row in history.rows:
        own = row.timestamp.date().isoformat()
        ended = days.setdefault(own, Spending(own, 0, TokenSums(), 0.0))
        ended.sessions += 1
        ended.unpriced += _is_unpriced(row)
        for spent in days_of(row):
            if spent.day < first:
                continue
            day = days.setdefault(spent.day, Spending(spent.day, 0, TokenSums(), 0.0))
            _add(day.tokens, spent.tokens, spent.tokens.total if row.days else row.tokens)
            day.cost_usd += spent.cost_usd
    return [days[name] for name in sorted(days)]


def _add(sums: TokenSums, tokens: Tokens, total: int) -> None:
    sums.total += total
    sums.input += tokens.input
    sums.output += tokens.output
    sums.cache_read += tokens.cache_read
    sums.cache_write += tokens.cache_write
    sums.reasoning += tokens.reasoning


def _is_unpriced(row: Row) -> bool:
    return row.unpriced or (row.metrics.cost_usd is None and row.tokens > 0)


def recommendations(history: History) -> list[Recommendation]:
    """What the figures speak for, the most money first. Nothing where they speak for nothing."""
    rules = (_Cache(), _Retries(), _Loops(), _Failures(), _DearModel())
    total_usd = 0.0
    for row in history.rows:
        total_usd += row.metrics.cost_usd or 0.0
        for rule in rules:
            rule.add(row)
    found = [one for rule in rules for one in rule.told(total_usd)]
    worth = [one for one in found if one.saves_usd is None or one.saves_usd >= max(LEAST_USD, LEAST_SHARE * total_usd)]
    return sorted(worth, key=lambda one: -(one.saves_usd or 0.0))


class _Cache:
    """Input that came from no cache, where the agent caches at all."""

    def __init__(self) -> None:
        self._tokens: dict[str, TokenSums] = {}

    def add(self, row: Row) -> None:
        _add(self._tokens.setdefault(row.executor or UNKNOWN, TokenSums()), row.metrics.tokens, row.tokens)

    def told(self, total_usd: float) -> Iterable[Recommendation]:
        for name, tokens in self._tokens.items():
            asked = tokens.input + tokens.cache_read + tokens.cache_write
            cached = tokens.cache_read / asked if asked else 1.0
            if tokens.cache_read and asked >= CACHE_TOKENS and cached < LOW_CACHE_SHARE:
                yield Recommendation(
                    "cache_misses",
                    f"{name} reads only {cached:.0%} of its input from the cache: what stands first in the prompt should not change between requests"
                    " (times, lists of files, tools that come and go), and pauses should be shorter than the cache lives",
                    None,
                )


class _Retries:
    """Sessions of a task that failed with the same error as one before."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}
        self._wasted_usd, self._count = 0.0, 0

    def add(self, row: Row) -> None:
        if row.status not in NO_SUCCESS or row.error_summary is None or not row.error_summary.kinds:
            return
        names = {kind.cluster for kind in row.error_summary.kinds}
        seen = self._seen.setdefault(task_of(row), set())
        if names & seen:
            self._wasted_usd += row.metrics.cost_usd or 0.0
            self._count += 1
        seen |= names

    def told(self, total_usd: float) -> Iterable[Recommendation]:
        if self._count:
            yield Recommendation(
                "retries_of_the_same_failure",
                f"{self._count} sessions failed with an error that an earlier session of the task had failed with: look before the retry",
                self._wasted_usd,
            )


class _Loops:
    """What was paid inside loops."""

    def __init__(self) -> None:
        self._count, self._usd = 0, 0.0

    def add(self, row: Row) -> None:
        if row.loops is not None and row.loops.cost_usd:
            self._count += 1
            self._usd += row.loops.cost_usd

    def told(self, total_usd: float) -> Iterable[Recommendation]:
        if self._count:
            yield Recommendation(
                "loops", f"{self._count} sessions went on paying inside loops: end them when the alert comes (`agentwatch exec --on-alert stop`)", self._usd
            )


class _Failures:
    """Money that went into what did not succeed."""

    def __init__(self) -> None:
        self._count, self._usd = 0, 0.0

    def add(self, row: Row) -> None:
        if row.status in NO_SUCCESS:
            self._count += 1
            self._usd += row.metrics.cost_usd or 0.0

    def told(self, total_usd: float) -> Iterable[Recommendation]:
        if total_usd and self._usd > total_usd / 4 and self._count >= LEAST_SESSIONS:
            yield Recommendation(
                "failures",
                f"{self._usd / total_usd:.0%} of the money went into sessions that did not succeed: see `agentwatch report tasks --failed-only`",
                None,
            )


class _Easy(msgspec.Struct):
    """Sessions of one model with no more than one error and a known end and cost."""

    sessions: int = 0
    success: int = 0
    usd: float = 0.0

    @property
    def mean_usd(self) -> float:
        return self.usd / self.sessions


class _DearModel:
    """A model that costs far more a session than another, where it does not succeed more often on tasks of the same kind: first attempts with few errors."""

    def __init__(self) -> None:
        self._models: dict[str, _Easy] = {}

    def add(self, row: Row) -> None:
        if row.model and row.status is not None and row.metrics.errors <= 1 and row.metrics.cost_usd is not None:
            easy = self._models.setdefault(row.model, _Easy())
            easy.sessions += 1
            easy.success += row.status == "success"
            easy.usd += row.metrics.cost_usd

    def told(self, total_usd: float) -> Iterable[Recommendation]:
        known = {name: easy for name, easy in self._models.items() if name != UNKNOWN and easy.sessions >= LEAST_SESSIONS}
        if len(known) < 2:
            return
        cheap, dear = min(known, key=lambda name: known[name].mean_usd), max(known, key=lambda name: known[name].mean_usd)
        one, other = known[cheap], known[dear]
        difference = shares_differ(one.success, one.sessions, other.success, other.sessions)
        if one.mean_usd > 0 and other.mean_usd >= DEAR * one.mean_usd and (difference.is_noise or (difference.value or 0) <= 0):
            saves = (other.mean_usd - one.mean_usd) * other.sessions
            rates = f"{other.success / other.sessions:.0%} against {one.success / one.sessions:.0%} success"
            text = f"sessions with no more than one error cost ${other.mean_usd:.2f} with {dear} and ${one.mean_usd:.2f} with {cheap}, at {rates}: try the cheaper one on easy tasks"
            yield Recommendation("dear_model_on_easy_tasks", text, saves)
