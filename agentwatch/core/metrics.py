"""What a session came to, as one line of `agent-metrics.jsonl` has it. Pure: a session's state in, a row out.

The fields are those of the logger's lines (contract, section 1), so that one reader understands both; what only a watcher knows
stands beside them. A row's texts are safe to show.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Annotated

import msgspec
from msgspec import Meta

from agentwatch.core.alerts import milliseconds
from agentwatch.core.runs import run_of
from agentwatch.core.signatures import error_cluster
from agentwatch.core.state import Session, Spent
from agentwatch.core.text import safe, safe_each
from agentwatch.model import MOST_MS, MOST_TOKENS, MOST_USD, Detail, Time

QUIET = timedelta(minutes=30)
"""A session without an end is over for the metrics after so long a silence; if it goes on, a newer row replaces this one."""

SAME_END = timedelta(seconds=10)
"""The logger writes its line right after the event that ends the session."""

Count = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]
Usd = Annotated[float, Meta(ge=0, le=MOST_USD)]
Ms = Annotated[float, Meta(ge=0, le=MOST_MS)]
WholeMs = Annotated[int, Meta(ge=0, le=int(MOST_MS))]
"""What a row can hold: a figure beyond counts as absent where it is read, and as the nearest where a session's row is made."""

_encode = msgspec.json.Encoder().encode

SAMPLE = 200
MOST_TAGS, LONGEST_TAG = 16, 64
SUCCESS = frozenset({"success", "completed"})
"""The two vocabularies of success (contract, section 3)."""


class Tokens(msgspec.Struct, gc=False):
    """By kind. `input` are those that came from no cache, `reasoning` is a part of `output`."""

    input: Count = 0
    output: Count = 0
    cache_read: Count = 0
    cache_write: Count = 0
    reasoning: Count = 0

    @property
    def total(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_write

    def add(self, other: "Tokens | Spent") -> None:
        self.input += other.input
        self.output += other.output
        self.cache_read += other.cache_read
        self.cache_write += other.cache_write
        self.reasoning += other.reasoning


class Metrics(msgspec.Struct, gc=False):
    """`cost_usd` is None where nobody knows it, which is not 0. `total_tokens` may be known where the kinds are not."""

    duration_ms: Ms | None = None
    total_tokens: Count | None = None
    cost_usd: Usd | None = None
    errors: Count = 0
    tool_calls: Count = 0
    tokens: Tokens = msgspec.field(default_factory=Tokens)


class Outcome(msgspec.Struct, gc=False, omit_defaults=True):
    """The ancestor's way to say how a session ended."""

    status: str | None = None


class ErrorKind(msgspec.Struct, gc=False, omit_defaults=True):
    """Errors of a session that are alike. `cluster` is the name that a log gave them, or one that blanks what varies between sessions."""

    cluster: str
    count: Count
    sample_message: str = ""
    error_category: str | None = None
    first_seen: Time | None = None
    last_seen: Time | None = None


class ErrorSummary(msgspec.Struct, gc=False):
    """The errors of a session. `kinds` counts no more than 64 of them, `total_errors` all."""

    total_errors: Count = 0
    error_categories: list[str] = []
    error_fingerprints: list[str] = []
    kinds: list[ErrorKind] = []


class Loops(msgspec.Struct, gc=False, omit_defaults=True):
    """What a session spent from the first to the last repetition of its loops; each token and each moment counts once."""

    tokens: Count = 0
    cost_usd: Usd = 0.0
    duration_ms: WholeMs = 0


class Day(msgspec.Struct, gc=False, omit_defaults=True):
    """What was spent on one day, UTC."""

    day: str
    tokens: Tokens
    cost_usd: Usd = 0.0


class Row(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    """One session. `timestamp` is its end: the newest event. `scope` is the space of attempt ids that it belongs to (`runs/<id>`, or none).

    `format` says that a watcher wrote the row and from which log; the logger's rows have none. `completion_status` is None as long as
    nobody told how it ended. `unpriced` says that some of its tokens have no known price, so that the cost is at least this.
    `days` is there where it spent on other days than that of its end. `first_shot`: it succeeded, was no retry, and nobody had to send a second message.
    """

    timestamp: Time
    attempt_id: str
    started_at: Time | None = None
    session_id: str | None = None
    task_id: str | None = None
    task_title: str | None = None
    project_id: str | None = None
    executor: str | None = None
    executor_variant: str | None = None
    model: str | None = None
    branch: str | None = None
    run_id: str | None = None
    parent_id: str | None = None
    tags: list[str] | str | None = None
    scope: str = ""
    format: str | None = None
    source: str | None = None
    completion_status: str | None = None
    outcome: Outcome | None = None
    metrics: Metrics
    error_summary: ErrorSummary | None = None
    prompt_id: str | None = None
    followups: Count = 0
    retries: Count = 0
    first_shot: bool | None = None
    unpriced: bool = False
    loops: Loops | None = None
    stuck_ms: WholeMs = 0
    alerts: dict[str, int] = {}
    days: list[Day] = []

    @property
    def status(self) -> str | None:
        """success, failed, timeout, interrupted or whatever else was told; None where nothing was."""
        told = self.completion_status
        if told in SUCCESS:
            return "success"
        outcome = self.outcome.status if self.outcome is not None else None
        return "success" if outcome in SUCCESS else told or outcome

    @property
    def begun(self) -> datetime:
        """When it started, as far as that is known."""
        if self.started_at is not None:
            return self.started_at
        try:
            return self.timestamp - timedelta(milliseconds=max(0.0, self.metrics.duration_ms or 0.0))
        except OverflowError:
            return self.timestamp

    @property
    def tokens(self) -> int:
        """All of them, whether their kinds are known or not."""
        told = self.metrics.total_tokens
        return told or self.metrics.tokens.total


def row_of(session: Session, detail: Detail | None = None) -> Row:
    """The session as it is now; `detail` is what its `session_end` told, None as long as there was none."""
    context = session.context
    title = safe_each([context.task_title])[0] if context.task_title else None
    row = Row(
        timestamp=session.last,
        attempt_id=session.attempt_id,
        started_at=min(session.started, session.last),
        session_id=context.session_id,
        task_id=context.task_id,
        task_title=title,
        project_id=context.project_id,
        executor=context.executor,
        executor_variant=context.executor_variant,
        model=context.model,
        branch=context.branch,
        run_id=context.run_id or run_of(session.scope),
        parent_id=context.parent_id,
        tags=tags(context.tags) or None,
        scope=session.scope,
        format=session.format or None,
        source=_label(session.source),
        metrics=Metrics(errors=session.errors, tool_calls=session.tool_calls),
        prompt_id=f"{session.prompt:08x}" if session.prompt else None,
        followups=session.followups,
        retries=session.retries,
        unpriced=session.unpriced,
        stuck_ms=session.stuck_ms,
    )
    _spend(row, session)
    row.error_summary = _errors(session) if session.errors else ErrorSummary()
    if session.episodes:
        row.alerts = _alerts(session)
    if session.looped is not None:
        looped = session.looped
        row.loops = Loops(looped.tokens, round(looped.usd, 6), milliseconds(looped.time))
    if detail is not None:
        _finish(row, detail)
    if row.metrics.duration_ms is None:
        row.metrics.duration_ms = milliseconds(row.timestamp - row.begun)
    return row


def line_of(row: Row) -> bytes:
    """The row as a line of the store, which knows it by its bytes: the same ones whether it was read before, from a checkpoint or a log, or not."""
    lasted_ms = row.metrics.duration_ms
    if isinstance(lasted_ms, float) and lasted_ms.is_integer():
        row.metrics.duration_ms = int(lasted_ms)
    return _encode(row) + b"\n"


def tags(told: object) -> list[str]:
    """A log's tags: a list, or one text with commas."""
    names = told.split(",") if isinstance(told, str) else told if isinstance(told, list | tuple) else []
    return [safe(name.strip(), LONGEST_TAG) for name in names[:MOST_TAGS] if isinstance(name, str) and name.strip()]


@lru_cache(maxsize=512)
def _label(text: str) -> str:
    """A text that comes again and again, made safe once."""
    return safe(text, SAMPLE)


def _spend(row: Row, session: Session) -> None:
    """What the steps told: day by day, where it was not all on the day of the session's end."""
    metrics = row.metrics
    if session.spent:
        for spent in session.spent:
            metrics.tokens.add(spent)
        _bound(metrics.tokens)
    metrics.total_tokens = max(0, session.tokens) or None
    if session.cost_usd > 0 or (session.tokens and not session.unpriced):
        metrics.cost_usd = round(session.cost_usd, 6)
    if session.spent and (len(session.spent) > 1 or session.spent[0].day != session.last.astimezone(UTC).toordinal()):
        for spent in session.spent:
            tokens = Tokens()
            tokens.add(spent)
            _bound(tokens)
            row.days.append(Day(date.fromordinal(spent.day).isoformat(), tokens, round(spent.usd, 6)))


def _bound(tokens: Tokens) -> None:
    """Steps may tell less than nothing, and sums of sums more than a row can hold."""
    for name in Tokens.__struct_fields__:
        setattr(tokens, name, min(max(getattr(tokens, name), 0), MOST_TOKENS))


def _finish(row: Row, detail: Detail) -> None:
    """What the end told replaces what was added up from steps."""
    metrics = row.metrics
    row.completion_status = _label(detail.completion_status) if detail.completion_status else None
    if detail.outcome is not None and detail.outcome.status:
        row.outcome = Outcome(_label(detail.outcome.status))
    elif row.completion_status is not None:
        row.outcome = Outcome("completed" if row.completion_status in SUCCESS else row.completion_status)
    if detail.duration_ms is not None and detail.duration_ms >= 0:
        metrics.duration_ms = round(min(detail.duration_ms, MOST_MS))
    if detail.total_tokens is not None and detail.total_tokens > 0:
        metrics.total_tokens = int(min(detail.total_tokens, MOST_TOKENS))
    if detail.cost_usd is not None and (detail.cost_usd > 0 or metrics.cost_usd is None):
        metrics.cost_usd = min(max(0.0, detail.cost_usd), MOST_USD)
    if row.status is not None:
        row.first_shot = row.status == "success" and not row.retries and not row.followups


def _errors(session: Session) -> ErrorSummary:
    kinds = session.kinds_of_error or {}
    found: dict[str, ErrorKind] = {}
    for name, kind in kinds.items():
        cluster = _label(name) if kind.is_named or not kind.sample else error_cluster(kind.sample)
        known = found.get(cluster)
        if known is None:
            category = _label(kind.category) if kind.category else None
            found[cluster] = ErrorKind(cluster, kind.count, safe(kind.sample, SAMPLE), category, kind.first_at, kind.last_at)
            continue
        known.count += kind.count
        known.first_seen = min(known_times(known.first_seen, kind.first_at), default=None)
        known.last_seen = max(known_times(known.last_seen, kind.last_at), default=None)
    categories = dict.fromkeys(kind.error_category for kind in found.values() if kind.error_category)
    return ErrorSummary(session.errors, list(categories), [_label(name) for name in kinds], list(found.values()))


def known_times(*times: datetime | None) -> Iterable[datetime]:
    """Those that are known."""
    return [at for at in times if at is not None]


def _alerts(session: Session) -> dict[str, int]:
    counted: dict[str, int] = {}
    for name in session.episodes or ():
        kind = name.partition(":")[0]
        counted[kind] = counted.get(kind, 0) + 1
    return counted


def sessions(rows: Iterable[Row], within: timedelta = timedelta.max) -> list[Row]:
    """One row a session, in the order of their ends, of rows in the order in which they were written.

    A newer row of a session replaces the older one, unless it was made before: of a session that went on meanwhile. Where the logger and a
    watcher told of the same end, the watcher's stays, which says more. What went on after its watcher had forgotten it, or was read in two
    pieces, is joined: its sums add up. What began more than `within` after the end of the piece before stays apart.
    """
    found: dict[tuple[str, str], Row] = {}
    again: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        who = row.scope, row.attempt_id
        first = found.setdefault(who, row)
        if first is not row:
            _place(again.setdefault(who, [first]), row)
    ordered = list(found.values())
    if again:
        ordered = [row for who, first in found.items() for row in (_joined(again[who], within) if who in again else (first,))]
    ordered.sort(key=attrgetter("timestamp"))
    return ordered


def _place(known: list[Row], row: Row) -> None:
    """Among the rows of its attempt, in place of the one that it replaces."""
    index = next((index for index, one in enumerate(known) if _is_same(one, row)), None)
    if index is None:
        known.append(row)
    elif (row.format is not None or known[index].format is None) and not _is_older(row, known[index]):
        known[index] = row
        known[index + 1 :] = [one for one in known[index + 1 :] if one.format is None or not _is_same(row, one)]


def _is_same(one: Row, other: Row) -> bool:
    if one.started_at is not None and other.started_at is not None:
        return one.started_at == other.started_at or _holds(one, other) or _holds(other, one)
    return abs(one.timestamp - other.timestamp) <= SAME_END


def _holds(whole: Row, piece: Row) -> bool:
    """Whether one is a sum with the other in it: a rebuild reads at once what a watcher saw in pieces."""
    if whole.format is None or piece.format is None:
        return False
    return whole.begun < piece.begun < whole.timestamp and piece.timestamp <= whole.timestamp


def _is_older(row: Row, known: Row) -> bool:
    """Whether it tells less of the same session: a rebuild may write what it read before the daemon wrote the end."""
    if _holds(known, row):
        return True
    return row.format is not None and known.format is not None and row.status is None and (row.timestamp, False) < (known.timestamp, known.status is not None)


def _joined(rows: list[Row], within: timedelta) -> Iterable[Row]:
    """The sessions of one attempt. One that nobody ended goes on in the next."""
    rows.sort(key=lambda row: row.begun)
    last = rows[0]
    for row in rows[1:]:
        if last.status is None and last.format is not None and row.format is not None and row.begun - last.timestamp <= within:
            last = _sum(last, row)
        else:
            yield last
            last = row
    yield last


def _sum(first: Row, second: Row) -> Row:
    """Two pieces of one session, the later of which says how it ended."""
    one, two = first.metrics, second.metrics
    tokens = Tokens()
    tokens.add(one.tokens)
    tokens.add(two.tokens)
    costs = [cost for cost in (one.cost_usd, two.cost_usd) if cost is not None]
    end = max(first.timestamp, second.timestamp)
    return msgspec.structs.replace(
        second,
        timestamp=end,
        started_at=first.begun,
        task_title=first.task_title or second.task_title,
        model=second.model or first.model,
        prompt_id=first.prompt_id or second.prompt_id,
        metrics=Metrics(
            duration_ms=milliseconds(end - first.begun),
            total_tokens=first.tokens + second.tokens or None,
            cost_usd=sum(costs) if costs else None,
            errors=one.errors + two.errors,
            tool_calls=one.tool_calls + two.tool_calls,
            tokens=tokens,
        ),
        error_summary=_sum_errors(first.error_summary or ErrorSummary(), second.error_summary or ErrorSummary()),
        followups=first.followups + second.followups,
        retries=first.retries + second.retries,
        first_shot=second.first_shot and not first.followups and not first.retries,
        unpriced=first.unpriced or second.unpriced,
        loops=_sum_loops(first.loops, second.loops),
        stuck_ms=first.stuck_ms + second.stuck_ms,
        alerts={kind: first.alerts.get(kind, 0) + second.alerts.get(kind, 0) for kind in {**first.alerts, **second.alerts}},
        days=_sum_days([*days_of(first), *days_of(second)], end),
    )


def _sum_errors(one: ErrorSummary, two: ErrorSummary) -> ErrorSummary:
    kinds = {kind.cluster: msgspec.structs.replace(kind) for kind in one.kinds}
    for kind in two.kinds:
        known = kinds.setdefault(kind.cluster, kind)
        if known is not kind:
            known.count += kind.count
            known.last_seen = max(known_times(known.last_seen, kind.last_seen), default=None)
    return ErrorSummary(
        one.total_errors + two.total_errors,
        list(dict.fromkeys([*one.error_categories, *two.error_categories])),
        list(dict.fromkeys([*one.error_fingerprints, *two.error_fingerprints])),
        list(kinds.values()),
    )


def _sum_loops(one: Loops | None, two: Loops | None) -> Loops | None:
    if one is None or two is None:
        return one or two
    return Loops(one.tokens + two.tokens, one.cost_usd + two.cost_usd, one.duration_ms + two.duration_ms)


def _sum_days(days: list[Day], end: datetime) -> list[Day]:
    found: dict[str, Day] = {}
    for day in days:
        known = found.setdefault(day.day, Day(day.day, Tokens()))
        known.tokens.add(day.tokens)
        known.cost_usd += day.cost_usd
    return [] if list(found) == [utc_day(end)] else list(found.values())


def days_of(row: Row) -> list[Day]:
    """What the session spent, day by day; all of it on the day of its end where the log told it only then."""
    if row.days:
        return row.days
    return [Day(utc_day(row.timestamp), row.metrics.tokens, row.metrics.cost_usd or 0.0)]


def utc_day(at: datetime) -> str:
    """The day, UTC, as ISO 8601 has it."""
    return at.astimezone(UTC).date().isoformat()
