"""The seven-day report for people."""

from collections.abc import Iterable

from agentwatch.core.reports.history import UNKNOWN
from agentwatch.core.reports.summary import DayFigures, Summary
from agentwatch.ui.charts import Bar, Bars, Chart, Columns, Heading
from agentwatch.ui.figures import change, count, counted, duration, percent, points, usd
from agentwatch.ui.page import Block, Table, Word, para

MOST_ROWS, MOST_ERRORS, SAMPLE = 8, 5, 100


def page(summary: Summary) -> Iterable[Block | Chart]:
    """`summary`, the important first; what nobody spent or met is left out."""
    sessions = summary.sessions
    yield para()
    if not sessions.total:
        yield para("no sessions in this time" + (f", and {count(summary.errors.total)} errors that belong to none" if summary.errors.total else ""))
        if summary.errors.total:
            yield from _errors(summary)
        yield from _remarks(summary)
        return
    yield Table(("", ">now", "", "the days before"), list(_figures(summary)), indent=0)
    yield from _days(summary.daily)
    yield from _groups(summary)
    yield from _waste(summary)
    yield from _errors(summary)
    yield from _alerts(summary)
    yield from _remarks(summary)


def _figures(summary: Summary) -> Iterable[tuple[Word, ...]]:
    now, then = summary, summary.before
    told = now.sessions
    ended = ", ".join(f"{count(number)} {name}" for name in ("failed", "timeout", "interrupted", "running") if (number := getattr(told, name)))
    rows: list[tuple[str, str, Word, str]] = [
        ("sessions", count(told.total), change(told.total, then.sessions.total if then else None), count(then.sessions.total) if then else ""),
        (
            "success",
            percent(told.success_rate),
            points(told.success_rate, then.sessions.success_rate if then else None),
            percent(then.sessions.success_rate) if then else "",
        ),
        *((("", ended, Word(""), ""),) if ended else ()),
        *(
            (name, duration(value), change(value, before, more_is="bad"), duration(before) if then else "")
            for name, value, before in (
                ("mean duration", now.duration_ms.mean, then.duration_ms.mean if then else None),
                ("95th percentile", now.duration_ms.p95, then.duration_ms.p95 if then else None),
            )
        ),
        (
            "cost",
            ("≥ " if now.cost_usd.at_least else "") + usd(now.cost_usd.total if now.cost_usd.known else None),
            change(now.cost_usd.total, then.cost_usd.total if then else None, more_is="bad"),
            usd(then.cost_usd.total) if then else "",
        ),
        (
            "a session",
            usd(now.cost_usd.mean),
            change(now.cost_usd.mean, then.cost_usd.mean if then else None, more_is="bad"),
            usd(then.cost_usd.mean) if then else "",
        ),
        ("tokens", count(now.tokens.total), change(now.tokens.total, then.tokens.total if then else None), count(then.tokens.total) if then else ""),
        (
            "errors",
            count(now.errors.total),
            change(now.errors.total, then.errors.total if then else None, more_is="bad"),
            count(then.errors.total) if then else "",
        ),
    ]
    return ((Word(name, "dim"), Word(value), arrow, Word(before, "dim")) for name, value, arrow, before in rows)


def _days(days: list[DayFigures]) -> Iterable[Block | Chart]:
    if len(days) < 2:
        return
    labels = [day.day for day in days]
    yield Heading("By day")
    for title, values, said, style in (
        ("sessions", [float(day.sessions) for day in days], count, ""),
        ("failed", [float(day.failed) for day in days], count, "bad"),
        ("errors", [float(day.errors) for day in days], count, "bad"),
        ("cost", [day.cost_usd for day in days], usd, ""),
    ):
        if any(values):
            top = max(values)
            yield Columns(title, labels, values, [said(value) for value in values], f"most {said(top)} on {labels[values.index(top)]}", style)  # type: ignore[arg-type]  # one of the styles


def _groups(summary: Summary) -> Iterable[Block | Chart]:
    for title, groups in (("executor", [(one.executor, one) for one in summary.by_executor]), ("model", [(one.model, one) for one in summary.by_model])):
        if [name for name, _ in groups] == [UNKNOWN]:
            continue
        yield Heading(f"By {title}")
        yield Table(
            (title, ">sessions", ">success", ">mean duration", ">cost", ">tokens"),
            [
                (
                    Word(name),
                    Word(count(one.sessions)),
                    Word(percent(one.success_rate)),
                    Word(duration(one.duration_ms_mean)),
                    Word(("≥ " if one.cost_usd_at_least else "") + usd(one.cost_usd_total)),
                    Word(count(one.tokens_total)),
                )
                for name, one in groups[:MOST_ROWS]
            ],
        )
        if len(groups) > MOST_ROWS:
            yield para(Word(f"and {len(groups) - MOST_ROWS} more: `--json` has them all", "dim"), indent=2)


def _waste(summary: Summary) -> Iterable[Block | Chart]:
    waste = summary.waste
    if not waste.loop_sessions and not waste.stuck_sessions:
        return
    yield Heading("What it cost that agents looped or were stuck")
    if waste.loop_sessions:
        share = f", {percent(waste.loop_cost_usd / summary.cost_usd.total)} of all" if summary.cost_usd.total and waste.loop_cost_usd else ""
        money = (
            f"{usd(waste.loop_cost_usd)}{share} and {count(waste.loop_tokens)} tokens"
            if waste.loop_tokens
            else "what they spent there was not logged step by step"
        )
        yield para(Word("loops", "warn"), f"  {counted(waste.loop_sessions, 'session')}, {duration(waste.loop_ms)} inside loops: {money}", indent=2)
    if waste.stuck_sessions:
        yield para(Word("stuck", "warn"), f"  {counted(waste.stuck_sessions, 'session')}, {duration(waste.stuck_ms)} of silence before they went on", indent=2)


def _errors(summary: Summary) -> Iterable[Block | Chart]:
    if not summary.top_errors:
        return
    yield Heading("Errors")
    yield Bars(
        "error",
        [
            Bar(one.fingerprint, one.occurrences, f"{count(one.occurrences)} in {counted(one.attempts, 'attempt')}", "bad")
            for one in summary.top_errors[:MOST_ERRORS]
        ],
    )
    for one in summary.top_errors[:MOST_ERRORS]:
        if one.sample_message:
            sample = one.sample_message if len(one.sample_message) <= SAMPLE else one.sample_message[: SAMPLE - 1] + "…"
            yield para(Word(f"{one.fingerprint}: ", "dim"), sample, indent=2)


def _alerts(summary: Summary) -> Iterable[Block | Chart]:
    if summary.alerts:
        yield Heading("Alerts")
        top = summary.incidents or summary.alerts
        yield Bars(
            "alert", [Bar(name, number, f"{counted(number, 'incident')}, {counted(summary.alerts[name], 'line')}", "warn") for name, number in top.items()]
        )


def _remarks(summary: Summary) -> Iterable[Block | Chart]:
    remarks = list(summary.problems)
    if summary.in_the_future:
        remarks.insert(0, f"{counted(summary.in_the_future, 'session')} with an end in the future: not counted; a clock may be wrong")
    if summary.sessions.unknown:
        others = ": the success rate is of the others" if summary.sessions.success_rate is not None else ""
        remarks.append(f"{counted(summary.sessions.unknown, 'session')} ended without saying how{others}")
    if summary.cost_usd.at_least:
        remarks.append("some tokens have no known price: the cost is at least this; `agentwatch report cost --by model` says whose")
    if remarks:
        yield para()
    for remark in remarks:
        yield para(Word(remark, "dim"))
