"""The offline reports for people. Each page is a function of what its report found; where it is shown it does not know."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date
from itertools import islice

from agentwatch.core.reports.cost import Recommendation, Spending
from agentwatch.core.reports.errors import Cluster
from agentwatch.core.reports.executors import ByExecutor, ByVariant, Performance
from agentwatch.core.reports.history import UNKNOWN, AlertMark
from agentwatch.core.reports.listing import Session
from agentwatch.core.reports.noise import Difference
from agentwatch.core.reports.tasks import Task
from agentwatch.ui.charts import Bar, Bars, Chart, Columns, Heading, Mark, Span, Timeline, sparkline
from agentwatch.ui.figures import count, counted, duration, percent, usd
from agentwatch.ui.page import Block, Style, Table, Word, para

Blocks = Iterable[Block | Chart]

MOST_ROWS, MOST_SPANS, SAMPLE, MOST_DAYS = 30, 60, 140, 400
STATUS: dict[str | None, Style] = {"success": "good", "failed": "bad", "timeout": "bad", "interrupted": "warn", "running": ""}


def errors(clusters: Sequence[Cluster]) -> Blocks:
    """Clusters of errors, the most frequent first."""
    if not clusters:
        yield para("no errors in this time")
        return
    yield Bars("error", [Bar(one.fingerprint, one.occurrences, _spread(one), "bad") for one in clusters[:MOST_ROWS]])
    timeline = _by_day(clusters)
    if len(timeline) > 1:
        values = [float(value) for value in timeline.values()]
        yield Columns("errors", list(timeline), values, [count(value) for value in values], f"most {count(max(values))} a day", "bad")
    for one in clusters[:MOST_ROWS]:
        yield Heading(one.fingerprint)
        seen = f"{one.first_seen:%Y-%m-%d %H:%M} to {one.last_seen:%Y-%m-%d %H:%M}" if one.first_seen and one.last_seen else "at no known time"
        trend = f"  {sparkline(list(one.trend.values()))}" if len(one.trend) > 1 else ""
        grew = (
            f", {'more' if one.more_in_second_half > 0 else 'fewer'} of late"
            if abs(one.more_in_second_half) > one.occurrences / 2 and len(one.trend) > 1
            else ""
        )
        yield para(f"{_spread(one)}, {seen}{grew}{trend}", indent=2)
        if one.sample_message:
            yield para(Word(_cut(one.sample_message), "dim"), indent=2)
        who = [f"{name} {number}" for counts in (one.by_executor, one.by_size) for name, number in counts.items() if name != UNKNOWN]
        if who:
            yield para(Word(", ".join(who), "dim"), indent=2)
        for name, difference in one.typical_of.items():
            more = f"{100 * (difference.value or 0):+.0f} points of its sessions, {_range(difference)}"
            yield para(Word(f"more often with {name}: {more}", "warn"), indent=2)
    if len(clusters) > MOST_ROWS:
        yield para(Word(f"and {len(clusters) - MOST_ROWS} more: `--json` has them all", "dim"))


def _spread(cluster: Cluster) -> str:
    return f"{counted(cluster.occurrences, 'time')} in {counted(cluster.attempts, 'attempt')} of {counted(cluster.tasks, 'task')}"


def _by_day(clusters: Sequence[Cluster]) -> dict[str, int]:
    days: dict[str, int] = {}
    for one in clusters:
        for day, number in one.trend.items():
            days[day] = days.get(day, 0) + number
    return {day: days.get(day, 0) for day in _every_day(days)}


def executors(found: Sequence[ByExecutor]) -> Blocks:
    """Executors side by side."""
    return _performances("executor", [(one.executor, one) for one in found])


def variants(found: Sequence[ByVariant]) -> Blocks:
    """Prompts, tags and executors' variants side by side."""
    if not found:
        yield para("no two sessions share a tag, a variant or a prompt")
        return
    yield from _performances("variant", [(one.variant, one) for one in found])


def _performances(kind: str, found: Sequence[tuple[str, Performance]]) -> Blocks:
    if not any(one.sessions for _, one in found):
        yield para("no sessions in this time")
        return
    found = found[:MOST_ROWS]
    yield Bars(
        kind,
        [
            Bar(
                name,
                rate.value,
                f"{percent(rate.value)} success ({percent(rate.low)} to {percent(rate.high)}), {counted(one.told, 'session')}",
                "good",
                rate.low,
                rate.high,
            )
            for name, one in found
            if (rate := one.success) is not None
        ],
        full=1.0,
    )
    yield Table(
        (kind, ">sessions", ">first shot", ">duration", ">median", ">cost", ">a session", ">a success", ">tokens"),
        [
            (
                Word(name),
                Word(count(one.sessions)),
                Word(percent(one.first_shot_rate)),
                Word(duration(one.duration_ms_mean)),
                Word(duration(one.duration_ms_median)),
                Word(usd(one.cost_usd_total)),
                Word(usd(one.cost_usd_mean)),
                Word(usd(one.cost_usd_per_success)),
                Word(count(one.tokens_mean)),
            )
            for name, one in found
        ],
    )
    for name, one in found:
        if one.common_failures:
            failures = ", ".join(f"{failure.fingerprint} ({failure.occurrences})" for failure in one.common_failures)
            yield para(Word(f"{name} fails most with ", "dim"), failures, indent=2)
    for name, one in found:
        if one.against is not None:
            yield Heading(f"{name} against {one.against.name}")
            yield para(Word(f"{name}: {one.against.verdict}", "title"), indent=2)
            yield Table(
                ("", ">difference", "95 % confidence", ""),
                [
                    _difference("success", one.against.success_rate, lambda value: f"{100 * value:+.1f} points"),
                    _difference("first shot", one.against.first_shot_rate, lambda value: f"{100 * value:+.1f} points"),
                    _difference("duration", one.against.duration_ms, lambda value: f"{'-' if value < 0 else '+'}{duration(abs(value))}"),
                    _difference("cost", one.against.cost_usd, lambda value: f"{'-' if value < 0 else '+'}{usd(abs(value))}"),
                    _difference("tokens", one.against.tokens, lambda value: f"{'-' if value < 0 else '+'}{count(abs(value))}"),
                ],
            )


def _difference(name: str, found: Difference, said: Callable[[float], str]) -> tuple[Word, ...]:
    if found.value is None or found.low is None or found.high is None:
        return Word(name), Word(""), Word("too few to say", "dim"), Word("")
    return (
        Word(name),
        Word(said(found.value)),
        Word(f"{said(found.low)} to {said(found.high)}", "dim"),
        Word("may be noise", "dim") if found.is_noise else Word("real", "title"),
    )


def tasks(found: Sequence[Task]) -> Blocks:
    """Tasks with what went wrong in them and what to plan better."""
    if not found:
        yield para("no such tasks in this time")
        return
    for one in found[:MOST_ROWS]:
        yield para()
        yield para(Word(one.task_title or one.task_id, "title"), Word(f"  {one.task_id}" if one.task_title and one.task_title != one.task_id else "", "dim"))
        status = one.status or "no outcome told"
        yield para(
            Word(status, STATUS.get(one.status, "dim")),
            f"  {counted(one.attempts, 'attempt')}, {one.failed} failed, {duration(one.duration_ms_total)}, {usd(one.cost_usd_total)}, {', '.join(one.executors)}",
            indent=2,
        )
        if one.causes:
            yield para(Word("errors: " + ", ".join(f"{name} {number}" for name, number in one.causes.items()), "dim"), indent=2)
        for advice in one.advice:
            yield para(Word(f"-> {advice.kind.replace('_', ' ')}: ", "warn"), advice.text, indent=2)
    if len(found) > MOST_ROWS:
        yield para()
        yield para(Word(f"and {len(found) - MOST_ROWS} more: `--json` has them all", "dim"))


def spending(found: Sequence[Spending], by: str, advice: Sequence[Recommendation]) -> Blocks:
    """What was spent, and what would have been cheaper."""
    if not found:
        yield para("no sessions in this time")
        return
    total = sum(one.cost_usd for one in found)
    if by == "day":
        by_day = {one.key: one.cost_usd for one in found}
        days = _every_day(by_day)
        values = [by_day.get(day, 0.0) for day in days]
        what = f"{usd(total)} in all, {usd(sum(values) / len(days))} a day since {days[0]}"
        yield Columns("cost", days, values, [usd(value) for value in values], what)
    else:
        bars = [Bar(one.key, one.cost_usd, f"{usd(one.cost_usd)}{f'  {one.cost_usd / total:.0%}' if total else ''}") for one in found[:MOST_ROWS]]
        yield Bars(by, bars)
    yield Table(
        (by, ">sessions", ">cost", ">tokens", ">input", ">output", ">cache read", ">cache write"),
        [
            (
                Word(one.key),
                Word(count(one.sessions)),
                Word(("≥ " if one.unpriced else "") + usd(one.cost_usd)),
                *(Word(count(getattr(one.tokens, name))) for name in ("total", "input", "output", "cache_read", "cache_write")),
            )
            for one in (found[-MOST_ROWS:] if by == "day" else found[:MOST_ROWS])
        ],
    )
    if any(one.unpriced for one in found):
        yield para(Word("≥: some of its tokens have no known price", "dim"), indent=2)
    if advice:
        yield Heading("What would cost less")
        for one in advice:
            saves = f"  up to {usd(one.saves_usd)}" if one.saves_usd is not None else ""
            yield para(Word(f"-> {one.kind.replace('_', ' ')}{saves}: ", "warn"), one.text, indent=2)


def _every_day(days: Iterable[str]) -> list[str]:
    """From the first to the last, those on which nothing happened too, for an axis of time has no gaps; at most the last 400. What is no day is left out."""
    numbers = []
    for day in days:
        with suppress(ValueError):
            numbers.append(date.fromisoformat(day).toordinal())
    last = max(numbers, default=0)
    return [date.fromordinal(number).isoformat() for number in range(max(min(numbers), last + 1 - MOST_DAYS), last + 1)] if numbers else []


def sessions(found: Sequence[Session], alerts: Sequence[AlertMark] = ()) -> Blocks:
    """Sessions one by one, the newest last."""
    if not found:
        yield para("no sessions in this time")
        return
    marks: dict[str, list[Mark]] = {}
    for alert in alerts:
        marks.setdefault(alert.attempt_id, []).append(Mark(alert.at, alert.type, "warn"))
    newest = found[-MOST_SPANS:]
    yield Timeline([_span(one, marks.get(one.attempt_id, ())) for one in newest])
    yield Table(
        ("ended", "session", "executor", ">duration", ">cost", ">tokens", ">calls", ">errors", "status"),
        [
            (
                Word(f"{one.ended_at:%m-%d %H:%M}"),
                Word(_name(one)),
                Word(one.executor or ""),
                Word(duration(one.duration_ms)),
                Word(usd(one.cost_usd)),
                Word(count(one.tokens.total or None)),
                Word(count(one.tool_calls)),
                Word(count(one.errors), "bad" if one.errors else ""),
                Word(one.status or "", STATUS.get(one.status, "dim")),
            )
            for one in newest
        ],
    )
    if len(found) > MOST_SPANS:
        yield para(Word(f"and {len(found) - MOST_SPANS:,} older ones: `--json` and `--csv` have them all", "dim"))


def _span(one: Session, marks: Sequence[Mark]) -> Span:
    return Span(_name(one), one.started_at, max(one.ended_at, one.started_at), one.status or "", STATUS.get(one.status, "dim"), list(islice(marks, 20)))


def _name(one: Session) -> str:
    return one.task_title or one.task_id or one.attempt_id


def remarks(problems: Sequence[str]) -> Blocks:
    """What could not be read."""
    if problems:
        yield para()
    for problem in problems:
        yield para(Word(problem, "dim"))


def _range(difference: Difference) -> str:
    return f"95 % confidence: {100 * (difference.low or 0):+.0f} to {100 * (difference.high or 0):+.0f}"


def _cut(text: str) -> str:
    return text if len(text) <= SAMPLE else text[: SAMPLE - 1] + "…"
