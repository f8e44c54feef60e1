"""Tasks: what was tried, why it failed, and what to plan better."""

from collections import Counter
from collections.abc import Iterable
from statistics import median

import msgspec

from agentwatch.core.categories import category_of
from agentwatch.core.metrics import Row
from agentwatch.core.reports.history import NO_SUCCESS, History, Occurrences, costs_of, mean, occurrences, ranked, size_of, task_of
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


def tasks(history: History, *, failed_only: bool = False) -> list[Task]:
    """Every task, those that were tried most first; `failed_only`: those whose last word is no success."""
    found: dict[str, list[Row]] = {}
    for row in history.rows:
        found.setdefault(task_of(row), []).append(row)
    errors: dict[str, list[Occurrences]] = {}
    for one in occurrences(history.rows, history.errors):
        errors.setdefault(one.task, []).append(one)
    made = [_task(name, rows, errors.get(name, [])) for name, rows in found.items()]
    _scope(made, found)
    chosen = [task for task in made if not failed_only or (task.failed and task.status != "success")]
    return sorted(chosen, key=lambda task: (-task.attempts, -task.cost_usd_total, task.task_id))


def backlog(history: History, top: int) -> list[Task]:
    """The `top` tasks that deserve a look first: the unsolved ones, those that were tried most and cost most before the others."""
    return sorted(tasks(history), key=lambda task: (task.status == "success", -task.failed, -task.cost_usd_total, task.task_id))[:top]


def _task(name: str, rows: list[Row], errors: list[Occurrences]) -> Task:
    told = [row.status for row in rows if row.status is not None]
    lasted = [row.metrics.duration_ms for row in rows if row.metrics.duration_ms is not None]
    causes: Counter[str] = Counter()
    for one in errors:
        causes[one.category or category_of(one.message or one.cluster)] += one.count
    title = next((row.task_title for row in reversed(rows) if row.task_title), None)
    return Task(
        task_id=name,
        task_title=title,
        size=size_of(title),
        attempts=len(rows),
        succeeded=told.count("success"),
        failed=sum(status in NO_SUCCESS for status in told),
        status=told[-1] if told else None,
        executors=list(dict.fromkeys(row.executor for row in rows if row.executor)),
        duration_ms_total=sum(lasted),
        duration_ms_mean=mean(lasted),
        cost_usd_total=sum(costs_of(rows)),
        tokens_total=sum(row.tokens for row in rows),
        errors=sum(one.count for one in errors),
        causes=ranked(causes),
        advice=list(_advice(causes, errors)),
        last_seen=rows[-1].timestamp,
    )


def _advice(causes: Counter[str], errors: list[Occurrences]) -> Iterable[Advice]:
    kinds = set()
    for category, _ in causes.most_common(2):
        kind, text = ADVICE.get(category, (None, ""))
        if kind is not None and kind not in kinds:
            kinds.add(kind)
            sample = next((one.message or one.cluster for one in errors if (one.category or category_of(one.message or one.cluster)) == category), category)
            yield Advice(kind, text.format(sample=sample if len(sample) <= SAMPLE else sample[: SAMPLE - 1] + "…"))


def _scope(made: list[Task], rows: dict[str, list[Row]]) -> None:
    """What failed although far more was spent on it than on others was too large, or not understood."""
    tokens = [task.tokens_total / task.attempts for task in made if task.tokens_total]
    lasted = [task.duration_ms_mean for task in made if task.duration_ms_mean]
    for task in made:
        if not task.failed or task.status == "success":
            continue
        if len(tokens) >= LEAST_TASKS and task.tokens_total / task.attempts > FAR_MORE * median(tokens):
            text = f"split it: an attempt took {task.tokens_total / task.attempts / median(tokens):.0f} times the tokens of the usual task, and failed"
            task.advice.append(Advice("scope_too_large", text))
        elif task.duration_ms_mean and len(lasted) >= LEAST_TASKS and task.duration_ms_mean > FAR_MORE * median(lasted):
            text = f"split it: an attempt took {task.duration_ms_mean / median(lasted):.0f} times as long as the usual task, and failed"
            task.advice.append(Advice("scope_too_large", text))
        if any(row.loops is not None for row in rows[task.task_id]):
            task.advice.append(Advice("fresh_approach", "an attempt went in circles: start the next one afresh, with what was learned in its prompt"))
        if not task.advice and task.failed == task.attempts > 1:
            task.advice.append(Advice("look_at_it", f"it failed {task.failed} times and no error says why: read a transcript before the next attempt"))
