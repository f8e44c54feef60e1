"""What was spent, by what, and what would have been cheaper."""

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from agentwatch.core.metrics import Row, Tokens, days_of
from agentwatch.core.reports.history import NO_SUCCESS, UNKNOWN, History, Period, costs_of, grouped, success_rate, task_of, wins
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
    groups = grouped(history.rows, _KEYS[by])
    found = [Spending(name, len(rows), _tokens(rows), sum(costs_of(rows)), sum(map(_is_unpriced, rows))) for name, rows in groups.items()]
    return sorted(found, key=lambda one: (-one.cost_usd, -one.tokens.total, one.key))


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


def _tokens(rows: Iterable[Row]) -> TokenSums:
    sums = TokenSums()
    for row in rows:
        _add(sums, row.metrics.tokens, row.tokens)
    return sums


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
    total = sum(costs_of(history.rows))
    found = [one for rule in (_cache, _retries, _loops, _failures, _dear_model) for one in rule(history.rows)]
    worth = [one for one in found if one.saves_usd is None or one.saves_usd >= max(LEAST_USD, LEAST_SHARE * total)]
    return sorted(worth, key=lambda one: -(one.saves_usd or 0.0))


def _cache(rows: list[Row]) -> Iterable[Recommendation]:
    """Input that came from no cache, where the agent caches at all."""
    for name, members in grouped(rows, _KEYS["executor"]).items():
        tokens = _tokens(members)
        asked = tokens.input + tokens.cache_read + tokens.cache_write
        cached = tokens.cache_read / asked if asked else 1.0
        if tokens.cache_read and asked >= CACHE_TOKENS and cached < LOW_CACHE_SHARE:
            yield Recommendation(
                "cache_misses",
                f"{name} reads only {cached:.0%} of its input from the cache: what stands first in the prompt should not change between requests"
                " (times, lists of files, tools that come and go), and pauses should be shorter than the cache lives",
                None,
            )


def _retries(rows: list[Row]) -> Iterable[Recommendation]:
    """Sessions of a task that failed with the same error as one before."""
    wasted, count = 0.0, 0
    for members in grouped(rows, task_of).values():
        seen: set[str] = set()
        for row in members:
            if row.status not in NO_SUCCESS:
                continue
            names = {kind.cluster for kind in row.error_summary.kinds} if row.error_summary is not None else set()
            if names & seen:
                wasted += row.metrics.cost_usd or 0.0
                count += 1
            seen |= names
    if count:
        yield Recommendation(
            "retries_of_the_same_failure",
            f"{count} sessions failed with an error that an earlier session of the task had failed with: look before the retry",
            wasted,
        )


def _loops(rows: list[Row]) -> Iterable[Recommendation]:
    looped = [row.loops.cost_usd for row in rows if row.loops is not None and row.loops.cost_usd]
    if looped:
        yield Recommendation(
            "loops", f"{len(looped)} sessions went on paying inside loops: end them when the alert comes (`agentwatch exec --on-alert stop`)", sum(looped)
        )


def _failures(rows: list[Row]) -> Iterable[Recommendation]:
    failed = [row for row in rows if row.status in NO_SUCCESS]
    cost, total = sum(costs_of(failed)), sum(costs_of(rows))
    if total and cost > total / 4 and len(failed) >= LEAST_SESSIONS:
        yield Recommendation(
            "failures", f"{cost / total:.0%} of the money went into sessions that did not succeed: see `agentwatch report tasks --failed-only`", None
        )


def _dear_model(rows: list[Row]) -> Iterable[Recommendation]:
    """A model that costs far more a session than another, where it does not succeed more often on tasks of the same kind: first attempts with few errors."""
    easy = [row for row in rows if row.status is not None and row.metrics.errors <= 1 and row.metrics.cost_usd is not None]
    groups = {name: members for name, members in grouped(easy, _KEYS["model"]).items() if name != UNKNOWN and len(members) >= LEAST_SESSIONS}
    means = {name: sum(costs_of(members)) / len(members) for name, members in groups.items()}
    if len(groups) < 2:
        return
    cheap, dear = min(means, key=lambda name: means[name]), max(means, key=lambda name: means[name])
    difference = shares_differ(*wins(groups[cheap]), *wins(groups[dear]))
    if means[cheap] > 0 and means[dear] >= DEAR * means[cheap] and (difference.is_noise or (difference.value or 0) <= 0):
        saves = (means[dear] - means[cheap]) * len(groups[dear])
        rates = f"{success_rate(groups[dear]):.0%} against {success_rate(groups[cheap]):.0%} success"
        text = f"sessions with no more than one error cost ${means[dear]:.2f} with {dear} and ${means[cheap]:.2f} with {cheap}, at {rates}: try the cheaper one on easy tasks"
        yield Recommendation("dear_model_on_easy_tasks", text, saves)
