"""Who does the work how well, and whether a difference is more than noise."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agentwatch.core.metrics import Row
from agentwatch.core.reports.history import UNKNOWN, History, mean, occurrences, spelt
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


@dataclass(slots=True)
class _Sums:
    """What sessions come to: their figures, and nothing else of them. `hits` of `told` succeeded, `first_shots` of `judged` at once; the arrays have what is known, session by session, durations of those that are over."""

    sessions: int = 0
    hits: int = 0
    told: int = 0
    first_shots: int = 0
    judged: int = 0
    errors: int = 0
    duration_ms: "array[float]" = field(default_factory=lambda: array("d"))
    cost_usd: "array[float]" = field(default_factory=lambda: array("d"))
    tokens: "array[float]" = field(default_factory=lambda: array("d"))
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row, *, is_over: bool) -> None:
        status, metrics, tokens = row.status, row.metrics, row.tokens
        self.sessions += 1
        if status is not None:
            self.told += 1
            self.hits += status == "success"
        if row.first_shot is not None:
            self.judged += 1
            self.first_shots += row.first_shot
        self.errors += metrics.errors
        if is_over and metrics.duration_ms is not None:
            self.duration_ms.append(metrics.duration_ms)
        if metrics.cost_usd is not None:
            self.cost_usd.append(metrics.cost_usd)
        if tokens:
            self.tokens.append(tokens)
        for one in occurrences([row]):
            self.failures[one.cluster] += one.count


def executors(history: History, names: Iterable[str] = ()) -> list[ByExecutor]:
    """All executors, the one with most sessions first; or those named, in their order, each compared with the first.

    A name fits whether it is written in capitals or not. One that nobody has comes with no sessions.
    """
    written: Counter[str] = Counter()

    def name_of(row: Row) -> list[str]:
        name = row.executor or UNKNOWN
        written[name] += 1
        return [name.upper()]

    found = _summed(history, name_of)
    if names:
        chosen = [(name, found.get(name.upper(), _Sums())) for name in names]
        return [ByExecutor(**_figures(sums, _first(chosen, index)), executor=name) for index, (name, sums) in enumerate(chosen)]
    known = [(name, found[name.upper()]) for name in set(spelt(written).values())]
    return [ByExecutor(**_figures(sums), executor=name) for name, sums in sorted(known, key=lambda one: (-one[1].sessions, one[0]))]


def variants(history: History, names: Iterable[str] = ()) -> list[ByVariant]:
    """As `executors`, for prompts: a variant is a tag, an executor's variant, or a prompt (by its `prompt_id`) that several sessions began with."""
    if names:
        wanted = frozenset(names)
        found = _summed(history, lambda row: wanted.intersection(variants_of(row)))
        chosen = [(name, found.get(name, _Sums())) for name in names]
        return [ByVariant(**_figures(sums, _first(chosen, index)), variant=name) for index, (name, sums) in enumerate(chosen)]
    counts = Counter(name for row in history.rows for name in variants_of(row))
    found = _summed(history, lambda row: [name for name in variants_of(row) if counts[name] > 1])
    return [ByVariant(**_figures(sums), variant=name) for name, sums in sorted(found.items(), key=lambda one: -one[1].sessions)]


def variants_of(row: Row) -> list[str]:
    """The names by which a session's prompt can be chosen, each once."""
    tags = row.tags if isinstance(row.tags, list) else [row.tags] if row.tags else []
    return list(dict.fromkeys([*tags, *(name for name in (row.executor_variant, row.prompt_id) if name)]))


def _summed(history: History, names_of: Callable[[Row], Iterable[str]]) -> dict[str, _Sums]:
    """The sums of the sessions that have a name, by that name."""
    found: dict[str, _Sums] = {}
    for row in history.rows:
        is_over = (row.scope, row.attempt_id) not in history.running
        for name in names_of(row):
            sums = found.get(name)
            if sums is None:
                sums = found[name] = _Sums()
            sums.add(row, is_over=is_over)
    return found


def _first(chosen: list[tuple[str, _Sums]], index: int) -> tuple[str, _Sums] | None:
    return chosen[0] if index else None


def _figures(sums: _Sums, first: tuple[str, _Sums] | None = None) -> dict[str, Any]:
    cost_usd = sum(sums.cost_usd)
    return {
        "sessions": sums.sessions,
        "told": sums.told,
        "success_rate": sums.hits / sums.told if sums.told else None,
        "success": share(sums.hits, sums.told),
        "first_shot_rate": sums.first_shots / sums.judged if sums.judged else None,
        "duration_ms_mean": mean(sums.duration_ms),
        "duration_ms_median": quantile(sorted(sums.duration_ms), 0.5),
        "cost_usd_total": cost_usd,
        "cost_usd_mean": mean(sums.cost_usd),
        "cost_usd_per_success": cost_usd / sums.hits if sums.hits and sums.cost_usd else None,
        "tokens_mean": mean(sums.tokens),
        "errors_mean": sums.errors / sums.sessions if sums.sessions else None,
        "common_failures": [Failure(*one) for one in sums.failures.most_common(COMMON)],
        "against": _against(*first, sums) if first is not None else None,
    }


_MEASURES = (
    ("duration_ms", "slower", "faster"),
    ("cost_usd", "dearer", "cheaper"),
    ("tokens", "takes more tokens", "takes fewer tokens"),
)


def _against(name: str, others: _Sums, sums: _Sums) -> Against:
    success = shares_differ(others.hits, others.told, sums.hits, sums.told)
    first_shot = shares_differ(others.first_shots, others.judged, sums.first_shots, sums.judged)
    means = {measure: means_differ(getattr(others, measure), getattr(sums, measure)) for measure, _, _ in _MEASURES}
    said = [
        word
        for difference, more, less in (
            (success, "succeeds more often", "succeeds less often"),
            *((means[measure], more, less) for measure, more, less in _MEASURES),
        )
        if (word := _word(difference, more, less))
    ]
    if sums.sessions and others.sessions:
        verdict = f"{', '.join(said)} than {name}; all else may be noise" if said else f"no difference from {name} that could not be noise"
    else:
        verdict = f"{name} has no sessions in this time" if sums.sessions else "no sessions in this time"
    return Against(name, success, first_shot, means["duration_ms"], means["cost_usd"], means["tokens"], verdict)


def _word(difference: Difference, more: str, less: str) -> str | None:
    if difference.is_noise or difference.value is None:
        return None
    return more if difference.value > 0 else less
