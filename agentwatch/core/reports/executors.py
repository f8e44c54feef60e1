"""Who does the work how well, and whether a difference is more than noise."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from agentwatch.core.metrics import Row
from agentwatch.core.reports.history import UNKNOWN, History, costs_of, grouped, mean, occurrences, success_rate, wins
from agentwatch.core.reports.noise import Difference, Interval, means_differ, quantile, share, shares_differ

COMMON = 3


class Failure(msgspec.Struct):
    """An error and how often it came."""

    fingerprint: str
    occurrences: int


class Against(msgspec.Struct):
    """How one differs from the first that it is compared with, by 95 % confidence."""

    name: str
    success_rate: Difference
    first_shot_rate: Difference
    duration_ms: Difference
    cost_usd: Difference
    tokens: Difference
    verdict: str


class Performance(msgspec.Struct, kw_only=True):
    """Sessions of one executor, model or variant. Rates are of the sessions that said how they ended; `success` is where the rate lies with 95 % confidence."""

    sessions: int
    told: int
    success_rate: float | None
    success: Interval | None
    first_shot_rate: float | None
    duration_ms_mean: float | None
    duration_ms_median: float | None
    cost_usd_total: float
    cost_usd_mean: float | None
    cost_usd_per_success: float | None
    tokens_mean: float | None
    errors_mean: float | None
    common_failures: list[Failure]
    against: Against | None = None


class ByExecutor(Performance, kw_only=True):
    executor: str


class ByVariant(Performance, kw_only=True):
    variant: str


def executors(history: History, names: Iterable[str] = ()) -> list[ByExecutor]:
    """All executors, the one with most sessions first; or those named, in their order, each compared with the first.

    A name fits whether it is written in capitals or not. One that nobody has comes with no sessions.
    """
    groups = grouped(history.rows, lambda row: row.executor or UNKNOWN)
    failures = _failures(history)
    if not names:
        return [ByExecutor(**_figures(rows, failures), executor=name) for name, rows in groups.items()]
    chosen = [(name, [row for known, rows in groups.items() if known.lower() == name.lower() for row in rows]) for name in names]
    return [ByExecutor(**_figures(rows, failures, _first(chosen, index)), executor=name) for index, (name, rows) in enumerate(chosen)]


def variants(history: History, names: Iterable[str] = ()) -> list[ByVariant]:
    """As `executors`, for prompts: a variant is a tag, an executor's variant, or a prompt (by its `prompt_id`) that several sessions began with."""
    failures = _failures(history)
    if names:
        chosen = [(name, [row for row in history.rows if name in variants_of(row)]) for name in names]
        return [ByVariant(**_figures(rows, failures, _first(chosen, index)), variant=name) for index, (name, rows) in enumerate(chosen)]
    found: dict[str, list[Row]] = {}
    for row in history.rows:
        for name in variants_of(row):
            found.setdefault(name, []).append(row)
    several = sorted(((name, rows) for name, rows in found.items() if len(rows) > 1), key=lambda one: -len(one[1]))
    return [ByVariant(**_figures(rows, failures), variant=name) for name, rows in several]


def variants_of(row: Row) -> list[str]:
    """The names by which a session's prompt can be chosen."""
    tags = row.tags if isinstance(row.tags, list) else [row.tags] if row.tags else []
    return [*tags, *(name for name in (row.executor_variant, row.prompt_id) if name)]


def _first(chosen: list[tuple[str, list[Row]]], index: int) -> tuple[str, list[Row]] | None:
    return chosen[0] if index else None


def _failures(history: History) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for one in occurrences(history.rows, history.errors):
        found.setdefault(one.attempt_id, []).append((one.cluster, one.count))
    return found


def _figures(rows: list[Row], failures: dict[str, list[tuple[str, int]]], first: tuple[str, list[Row]] | None = None) -> dict[str, Any]:
    hits, told = wins(rows)
    first_shots, judged = _first_shots(rows)
    lasted = sorted(_durations(rows))
    common: Counter[str] = Counter()
    for attempt_id in dict.fromkeys(row.attempt_id for row in rows):
        for cluster, count in failures.get(attempt_id, ()):
            common[cluster] += count
    costs = costs_of(rows)
    return {
        "sessions": len(rows),
        "told": told,
        "success_rate": success_rate(rows),
        "success": share(hits, told),
        "first_shot_rate": first_shots / judged if judged else None,
        "duration_ms_mean": mean(lasted),
        "duration_ms_median": quantile(lasted, 0.5),
        "cost_usd_total": sum(costs),
        "cost_usd_mean": mean(costs),
        "cost_usd_per_success": sum(costs) / hits if hits and costs else None,
        "tokens_mean": mean(_tokens(rows)),
        "errors_mean": mean(row.metrics.errors for row in rows),
        "common_failures": [Failure(*one) for one in common.most_common(COMMON)],
        "against": _against(first, rows) if first is not None else None,
    }


def _first_shots(rows: list[Row]) -> tuple[int, int]:
    judged = [row.first_shot for row in rows if row.first_shot is not None]
    return sum(judged), len(judged)


def _durations(rows: list[Row]) -> list[float]:
    return [row.metrics.duration_ms for row in rows if row.metrics.duration_ms is not None]


def _tokens(rows: list[Row]) -> list[float]:
    return [float(row.tokens) for row in rows if row.tokens]


_MEASURES: tuple[tuple[str, str, str, Callable[[list[Row]], list[float]]], ...] = (
    ("duration_ms", "slower", "faster", _durations),
    ("cost_usd", "dearer", "cheaper", costs_of),
    ("tokens", "takes more tokens", "takes fewer tokens", _tokens),
)


def _against(first: tuple[str, list[Row]], rows: list[Row]) -> Against:
    name, others = first
    success, first_shot = shares_differ(*wins(others), *wins(rows)), shares_differ(*_first_shots(others), *_first_shots(rows))
    means = {field: means_differ(values(others), values(rows)) for field, _, _, values in _MEASURES}
    said = [
        word
        for difference, more, less in (
            (success, "succeeds more often", "succeeds less often"),
            *((means[field], more, less) for field, more, less, _ in _MEASURES),
        )
        if (word := _word(difference, more, less))
    ]
    verdict = f"{', '.join(said)} than {name}; all else may be noise" if said else f"no difference from {name} that could not be noise"
    return Against(name, success, first_shot, means["duration_ms"], means["cost_usd"], means["tokens"], verdict)


def _word(difference: Difference, more: str, less: str) -> str | None:
    if difference.is_noise or difference.value is None:
        return None
    return more if difference.value > 0 else less
