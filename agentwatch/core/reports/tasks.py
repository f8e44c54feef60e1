"""Tasks: what was tried, why it failed, and what to plan better."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

import msgspec

from agentwatch.core.categories import category_of
from agentwatch.core.metrics import Row
from agentwatch.core.reports.history import NO_SUCCESS, History, Occurrences, mean, occurrences, ranked, size_of, task_of
from agentwatch.model import Time

FAR_MORE = 3
"""So many times the median of all tasks is far more than usual."""

LEAST_TASKS = 5
"""Of fewer tasks there is no usual."""


class Advice(msgspec.Struct):
    """What would have helped, and what it rests on."""

    kind: str
    text: str


class Task(msgspec.Struct, kw_only=True):
    """All sessions of one task. `status` is that of the last one that told one; `causes` are its errors by category."""

    task_id: str
    task_title: str | None
    size: str
    attempts: int
    succeeded: int
    failed: int
    status: str | None
    executors: list[str]
    duration_ms_total: float
    duration_ms_mean: float | None
    cost_usd_total: float
    tokens_total: int
    errors: int
    causes: dict[str, int]
    advice: list[Advice]
    last_seen: Time


ADVICE = {
    "dependency": ("missing_dependency", "install or pin what is missing before the agent starts, and say in the task how: {sample}"),
    "filesystem": ("environment_setup", "name the paths that the task is about, and prepare what should be there: {sample}"),
    "permission": ("environment_setup", "give the agent's user the rights that it needs, or tell it to leave this alone: {sample}"),
    "auth": ("environment_setup", "renew or provide the credentials before the next attempt: {sample}"),
    "resource": ("environment_setup", "give the sandbox more of what ran out: {sample}"),
    "network": ("flaky_service", "retry later or elsewhere instead of starting anew: {sample}"),
    "rate_limit": ("flaky_service", "start fewer sessions at once, or wait for the limit: {sample}"),
    "git": ("branch_state", "update or free the branch before the agent starts: {sample}"),
    "test": ("unclear_acceptance", "say in the task which tests must pass, and which were failing before: {sample}"),
    "build": ("unclear_acceptance", "give the command that builds, and make sure that it passes before the agent starts: {sample}"),
    "syntax": ("unclear_acceptance", "ask for a check of the syntax after each edit: {sample}"),
}
"""By the category of a task's commonest errors (`core/categories.py`): the kind of advice, and its text."""

SAMPLE = 100


@dataclass(slots=True)
class _Tried:
    """What the sessions of one task come to, added in the order of their ends. `samples` has an error of each category."""

    task_id: str
    last_seen: datetime
    title: str | None = None
    attempts: int = 0
    succeeded: int = 0
    failed: int = 0
    status: str | None = None
    executors: list[str] = field(default_factory=list)
    lasted_ms: list[float] = field(default_factory=list)
    cost_usd: float = 0.0
    tokens: int = 0
    has_looped: bool = False
    causes: Counter[str] | None = None
    samples: dict[str, str] | None = None

    def add(self, row: Row) -> None:
        status, executor, metrics = row.status, row.executor, row.metrics
        self.last_seen = row.timestamp
        self.title = row.task_title or self.title
        self.attempts += 1
        self.succeeded += status == "success"
        self.failed += status in NO_SUCCESS
        self.status = status if status is not None else self.status
        if executor and executor not in self.executors:
            self.executors.append(executor)
        if metrics.duration_ms is not None:
            self.lasted_ms.append(metrics.duration_ms)
        self.cost_usd += metrics.cost_usd or 0.0
        self.tokens += row.tokens
        self.has_looped |= row.loops is not None
        for one in occurrences([row]):
            self.err(one)

    def err(self, one: Occurrences) -> None:
        """An error, of a session or of which no session is known."""
        if self.causes is None or self.samples is None:
            self.causes, self.samples = Counter(), {}
        text = one.message or one.cluster
        category = one.category or category_of(text)
        self.causes[category] += one.count
        self.samples.setdefault(category, text if len(text) <= SAMPLE else text[: SAMPLE - 1] + "…")

    @property
    def is_unsolved(self) -> bool:
        """Whether it failed, and its last word is no success."""
        return bool(self.failed) and self.status != "success"

    @property
    def tokens_mean(self) -> float:
        return self.tokens / self.attempts


class _Usual:
    """What a task usually takes; None of too few tasks."""

    def __init__(self, found: Iterable[_Tried]) -> None:
        tokens: list[float] = []
        lasted_ms: list[float] = []
        for one in found:
            if one.tokens:
                tokens.append(one.tokens_mean)
            if took_ms := mean(one.lasted_ms):
                lasted_ms.append(took_ms)
        self.tokens = median(tokens) if len(tokens) >= LEAST_TASKS else None
        self.lasted_ms = median(lasted_ms) if len(lasted_ms) >= LEAST_TASKS else None


def tasks(history: History, *, failed_only: bool = False) -> list[Task]:
    """Every task, those that were tried most first; `failed_only`: those whose last word is no success."""
    found = _tried(history)
    chosen = [one for one in found if one.is_unsolved or not failed_only]
    chosen.sort(key=lambda one: (-one.attempts, -one.cost_usd, one.task_id))
    usual = _Usual(found)
    return [_task(one, usual) for one in chosen]


def backlog(history: History, top: int) -> list[Task]:
    """The `top` tasks that deserve a look first: the unsolved ones, those that were tried most and cost most before the others."""
    found = _tried(history)
    first = sorted(found, key=lambda one: (one.status == "success", -one.failed, -one.cost_usd, one.task_id))[:top]
    usual = _Usual(found)
    return [_task(one, usual) for one in first]


def _tried(history: History) -> list[_Tried]:
    found: dict[str, _Tried] = {}
    for row in history.rows:
        name = task_of(row)
        known = found.get(name)
        if known is None:
            known = found[name] = _Tried(name, row.timestamp)
        known.add(row)
    for error in occurrences((), history.errors):
        if error.task in found:
            found[error.task].err(error)
    return list(found.values())


def _task(one: _Tried, usual: _Usual) -> Task:
    causes = one.causes or Counter()
    return Task(
        task_id=one.task_id,
        task_title=one.title,
        size=size_of(one.title),
        attempts=one.attempts,
        succeeded=one.succeeded,
        failed=one.failed,
        status=one.status,
        executors=one.executors,
        duration_ms_total=sum(one.lasted_ms),
        duration_ms_mean=mean(one.lasted_ms),
        cost_usd_total=one.cost_usd,
        tokens_total=one.tokens,
        errors=causes.total(),
        causes=ranked(causes),
        advice=[*_against_errors(causes, one.samples or {}), *(_scope(one, usual) if one.is_unsolved else ())] or list(_for_want_of_better(one)),
        last_seen=one.last_seen,
    )


def _against_errors(causes: Counter[str], samples: dict[str, str]) -> Iterable[Advice]:
    kinds = set()
    for category, _ in causes.most_common(2):
        kind, text = ADVICE.get(category, (None, ""))
        if kind is not None and kind not in kinds:
            kinds.add(kind)
            yield Advice(kind, text.format(sample=samples[category]))


def _scope(one: _Tried, usual: _Usual) -> Iterable[Advice]:
    """What failed although far more was spent on it than on others was too large, or not understood."""
    took_ms = mean(one.lasted_ms)
    if usual.tokens is not None and one.tokens_mean > FAR_MORE * usual.tokens:
        yield Advice("scope_too_large", f"split it: an attempt took {one.tokens_mean / usual.tokens:.0f} times the tokens of the usual task, and failed")
    elif usual.lasted_ms is not None and took_ms and took_ms > FAR_MORE * usual.lasted_ms:
        yield Advice("scope_too_large", f"split it: an attempt took {took_ms / usual.lasted_ms:.0f} times as long as the usual task, and failed")
    if one.has_looped:
        yield Advice("fresh_approach", "an attempt went in circles: start the next one afresh, with what was learned in its prompt")


def _for_want_of_better(one: _Tried) -> Iterable[Advice]:
    if one.is_unsolved and one.failed == one.attempts > 1:
        yield Advice("look_at_it", f"it failed {one.failed} times and no error says why: read a transcript before the next attempt")
