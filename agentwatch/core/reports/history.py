"""What every report works on: the sessions of a period, the errors in them, and how they are chosen."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from math import fsum

import msgspec

from agentwatch.core.metrics import Row
from agentwatch.core.signatures import error_cluster
from agentwatch.model import Time

AHEAD = timedelta(hours=1)
"""Clocks differ: what is stamped so little after now belongs to now, what is stamped later is told and left out."""

UNKNOWN = "unknown"
NO_SUCCESS = ("failed", "timeout", "interrupted")
_SIZE = re.compile(r"\[(xs|s|m|l|xl|xxl)\]", re.IGNORECASE)
COMPLEXITY = {"xs": "low", "s": "low", "m": "medium", "l": "high", "xl": "high", "xxl": "high"}


class Period(msgspec.Struct, frozen=True):
    """From `start` (included) to `end`, `days` long."""

    start: Time
    end: Time
    days: float

    @property
    def limit(self) -> datetime:
        """What is stamped so or later is not in it."""
        return self.end

    def holds(self, at: datetime) -> bool:
        return self.start <= at < self.limit

    @property
    def before(self) -> "Period":
        """The period of the same length that ends where this one begins."""
        return Period(_back(self.start, self.days), self.start, self.days)


class UpToNow(Period, frozen=True):
    """A period that ends now."""

    @property
    def limit(self) -> datetime:
        """What is stamped so or later comes of a clock that is wrong."""
        return self.end + AHEAD


def last_days(days: float, end: datetime, *, is_now: bool) -> Period:
    """The `days` up to `end`."""
    return (UpToNow if is_now else Period)(_back(end, days), end, days)


def _back(at: datetime, days: float) -> datetime:
    try:
        return max(at - timedelta(days=days), datetime(1970, 1, 1, tzinfo=at.tzinfo))
    except OverflowError:
        return datetime(1970, 1, 1, tzinfo=at.tzinfo)


class LostError(msgspec.Struct, gc=False, frozen=True):
    """An error of which only the logger's copy is known. Without a time it belongs to every period."""

    attempt_id: str
    cluster: str
    at: Time | None = None
    message: str = ""
    category: str | None = None
    task_id: str | None = None
    task_title: str | None = None
    executor: str | None = None
    model: str | None = None
    run_id: str | None = None


class Chosen:
    """Those of `rows` that fit, each time they are gone through."""

    def __init__(self, rows: Iterable[Row], fits: Callable[[Row], bool]) -> None:
        self._rows, self._fits = rows, fits

    def __iter__(self) -> Iterator[Row]:
        return filter(self._fits, self._rows)


class History(msgspec.Struct, frozen=True):
    """The sessions, ordered by their ends, what is known of errors besides, and the alerts as (when, type, status, episode, attempt). `running` are the sessions that go on, by scope and attempt.

    The sessions can be gone through again and again, and need not be in memory: who keeps one keeps all of it.
    """

    rows: Iterable[Row]
    errors: list[LostError] = []
    alerts: list["AlertMark"] = []
    running: frozenset[tuple[str, str]] = frozenset()
    problems: list[str] = []

    def of(self, period: Period) -> "History":
        """What lies in a period: a session by its end, an error and an alert by its time."""
        return msgspec.structs.replace(
            self,
            rows=Chosen(self.rows, lambda row: period.holds(row.timestamp)),
            errors=[error for error in self.errors if error.at is None or period.holds(error.at)],
            alerts=[alert for alert in self.alerts if period.holds(alert.at)],
        )

    def only(self, *, run: str | None = None, executor: str | None = None) -> "History":
        """The sessions of a run and of an executor, whose name may be written in capitals or not."""
        if run is None and executor is None:
            return self

        def fits(one: Row | LostError) -> bool:
            return (run is None or one.run_id == run) and (executor is None or (one.executor or UNKNOWN).lower() == executor.lower())

        rows = Chosen(self.rows, fits)
        attempts = {row.attempt_id for row in rows}
        return msgspec.structs.replace(
            self, rows=rows, errors=[error for error in self.errors if fits(error)], alerts=[alert for alert in self.alerts if alert.attempt_id in attempts]
        )


class AlertMark(msgspec.Struct, gc=False, frozen=True):
    """What reports need of an alert."""

    at: Time
    type: str
    attempt_id: str
    status: str = "open"


Who = tuple[str, str, str]
"""Executor, model, size of the task."""


class Occurrences(msgspec.Struct, gc=False):
    """Errors of one cluster in one session, which `ended` then; None where nothing is known of it but the error."""

    cluster: str
    count: int
    attempt_id: str
    task: str
    who: Who
    message: str = ""
    category: str | None = None
    first: Time | None = None
    last: Time | None = None
    duration_ms: float | None = None
    ended: Time | None = None


def occurrences(rows: Iterable[Row], lost: Iterable[LostError] = ()) -> Iterable[Occurrences]:
    """All errors, by session and cluster. Where a session tells no more than names, each counts once."""
    for row in rows:
        summary = row.error_summary
        if summary is None or not summary.total_errors:
            continue
        attempt_id, task, lasted_ms = row.attempt_id, task_of(row), row.metrics.duration_ms
        who = (row.executor or UNKNOWN, row.model or UNKNOWN, size_of(row.task_title))
        for kind in summary.kinds:
            yield Occurrences(
                *(kind.cluster, kind.count, attempt_id, task, who, kind.sample_message, kind.error_category, kind.first_seen, kind.last_seen),
                *(lasted_ms, row.timestamp),
            )
        if not summary.kinds:
            category = next(iter(summary.error_categories), None)
            for name in summary.error_fingerprints:
                yield Occurrences(name, 1, attempt_id, task, who, "", category, row.timestamp, row.timestamp, lasted_ms, row.timestamp)
    for error in lost:
        task = error.task_id or error.task_title or error.attempt_id
        who = (error.executor or UNKNOWN, error.model or UNKNOWN, size_of(error.task_title))
        yield Occurrences(error.cluster, 1, error.attempt_id, task, who, error.message, error.category, error.at, error.at)


def cluster_of(fingerprint: str | None, message: str, category: str | None) -> str:
    """The name under which an error is counted: the log's own, or one made of the message."""
    return fingerprint or (error_cluster(message) if message else category or UNKNOWN)


def task_of(row: Row) -> str:
    """What a session was about: its task, or itself where it has none."""
    return row.task_id or row.task_title or row.attempt_id


@lru_cache(maxsize=4096)  # attempts at a task share its title
def size_of(title: str | None) -> str:
    """The size that a title names as in `[m] API retry`."""
    found = _SIZE.search(title) if title and "[" in title else None
    return found[1].lower() if found else UNKNOWN


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Some at a time."""
    each = iter(rows)
    while batch := list(islice(each, 1000)):
        yield batch


def spelt(counts: Mapping[str, int]) -> dict[str, str]:
    """Each executor as it is written most often: capitals make no other one, as in settings and filters."""
    chosen: dict[str, str] = {}
    for name in ranked(counts):
        chosen.setdefault(name.upper(), name)
    return {name: chosen[name.upper()] for name in counts}


def mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return fsum(known) / len(known) if known else None


def ranked(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent first."""
    return dict(sorted(counts.items(), key=lambda one: -one[1]))
