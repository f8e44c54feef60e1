"""Errors of many sessions, by what they have in common."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

import msgspec

from agentwatch.core.categories import category_of
from agentwatch.core.metrics import Row, known_times
from agentwatch.core.reports.history import (
    COMPLEXITY,
    UNKNOWN,
    History,
    LostError,
    Occurrences,
    Period,
    Who,
    batches,
    mean,
    occurrences,
    ranked,
    size_of,
    spelt,
)
from agentwatch.core.reports.noise import Difference, shares_differ
from agentwatch.model import EPOCH, Time

NEVER = datetime.max.replace(tzinfo=UTC)
"""Stands for a time that is not known, which comes behind all others."""

LEAST_SESSIONS = 10
MORE_BY = 1.5
"""Who has an error in so many more of its sessions, and not by chance, is told. With many clusters some differ by chance: less is not worth a line."""


class Cluster(msgspec.Struct, kw_only=True):
    """Errors that are alike. `category` is the log's, else what the sample speaks of. `trend` is how many came by day (UTC, where the time is known); `more_in_second_half` compares the halves of the period."""

    fingerprint: str
    occurrences: int
    tasks: int
    attempts: int
    category: str | None
    sample_message: str
    first_seen: Time | None
    last_seen: Time | None
    duration_ms_mean: float | None
    by_executor: dict[str, int]
    by_model: dict[str, int]
    by_size: dict[str, int]
    by_complexity: dict[str, int]
    trend: dict[str, int]
    more_in_second_half: int
    typical_of: dict[str, Difference]


_Said = tuple[Time, Time, str]
"""When the session ended, when the error came, and what was said."""


class _Gathered(msgspec.Struct, gc=False):
    """What errors of one cluster have in common, in one pass. `last` is the latest of when sessions had it last, `least_last` the earliest of them.

    `more_attempts` are those of parts, which no other part and no session has.
    """

    count: int = 0
    early: int = 0
    late: int = 0
    tasks: set[str] = set()
    attempts: set[str] = set()
    more_attempts: int = 0
    ended: Time = NEVER
    said: _Said | None = None
    kind: _Said | None = None
    first: Time | None = None
    last: Time | None = None
    least_last: Time | None = None
    lasted: list[float] = []
    by_who: dict[Who, list[int]] = {}
    days: dict[int, int] = {}

    def add(self, one: Occurrences, middle: datetime) -> None:
        count = one.count
        self.count += count
        self.tasks.add(one.task)
        self.attempts.add(one.attempt_id)
        ended, first = one.ended or NEVER, one.first or NEVER
        self.ended = min(self.ended, ended)
        if one.message:
            self.said = _earlier(self.said, (ended, first, one.message))
        if one.category:
            self.kind = _earlier(self.kind, (ended, first, one.category))
        if one.duration_ms is not None:
            self.lasted.append(one.duration_ms)
        counts = self.by_who.get(one.who)
        if counts is None:
            self.by_who[one.who] = [count, 1]
        else:
            counts[0] += count
            counts[1] += 1
        if one.first is not None and (self.first is None or one.first < self.first):
            self.first = one.first
        if one.last is not None:
            if self.last is None or one.last > self.last:
                self.last = one.last
            if self.least_last is None or one.last < self.least_last:
                self.least_last = one.last
            day = one.last.toordinal()
            self.days[day] = self.days.get(day, 0) + count
            if one.last >= middle:
                self.late += count
            else:
                self.early += count

    def take(self, other: "_Gathered", *, is_early: bool) -> None:
        """As many `add`, of a part whose attempts are its own."""
        self.count += other.count
        if is_early:
            self.early += other.early + other.late
        else:
            self.late += other.early + other.late
        self.tasks |= other.tasks
        self.more_attempts += len(other.attempts)
        self.ended = min(self.ended, other.ended)
        self.said = _earlier(self.said, other.said)
        self.kind = _earlier(self.kind, other.kind)
        self.lasted += other.lasted
        for who, (errors, sessions) in other.by_who.items():
            counts = self.by_who.setdefault(who, [0, 0])
            counts[0] += errors
            counts[1] += sessions
        self.first = min(known_times(self.first, other.first), default=None)
        self.last = max(known_times(self.last, other.last), default=None)
        for day, count in other.days.items():
            self.days[day] = self.days.get(day, 0) + count

    def errors_by(self, part: int) -> dict[str, int]:
        """How many errors, by the executor (0), model (1) or task size (2)."""
        return self._by(part, 0)

    def sessions_by(self, part: int) -> dict[str, int]:
        """In how many sessions, by the same."""
        return self._by(part, 1)

    def _by(self, part: int, index: int) -> dict[str, int]:
        found: dict[str, int] = {}
        for who, counts in self.by_who.items():
            found[who[part]] = found.get(who[part], 0) + counts[index]
        return found


class Gathering(msgspec.Struct, gc=False):
    """The errors of a period, added up session by session, in any order. Of a cluster the message and category of the session that ended first stand for all.

    `middle` is that of the period; what is to be taken into others needs none.
    """

    middle: Time = EPOCH
    gathered: dict[str, _Gathered] = {}
    executors: dict[str, int] = {}
    sizes: dict[str, int] = {}

    def add(self, rows: Sequence[Row], lost: Iterable[LostError] = ()) -> None:
        """Sessions of the period, and errors of which no session is known."""
        for row in rows:
            _count(self.executors, row.executor or UNKNOWN)
            _count(self.sizes, size_of(row.task_title))
        found, middle = self.gathered, self.middle
        for one in occurrences(rows, lost):
            gathered = found.get(one.cluster)
            if gathered is None:
                gathered = found[one.cluster] = _Gathered()
            gathered.add(one, middle)

    def take(self, part: "Gathering") -> bool:
        """What was gathered of attempts that occur nowhere else. False, and nothing taken, where some of it lies before the middle of the period and some behind."""
        is_early = part.lies_before(self.middle)
        if is_early is None:
            return False
        for name, count in part.executors.items():
            _count(self.executors, name, count)
        for name, count in part.sizes.items():
            _count(self.sizes, name, count)
        for name, other in part.gathered.items():
            gathered = self.gathered.get(name)
            if gathered is None:
                gathered = self.gathered[name] = _Gathered()
            gathered.take(other, is_early=is_early)
        return True

    def lies_before(self, middle: datetime) -> bool | None:
        """Whether all errors came before then; None where some did."""
        found = list(self.gathered.values())
        if all(one.last is None or one.last < middle for one in found):
            return True
        return False if all(one.least_last is None or one.least_last >= middle for one in found) else None

    def clusters(self) -> list[Cluster]:
        """The most frequent first, of as frequent ones that which a session had first."""
        found = sorted(self.gathered.items(), key=lambda one: (-one[1].count, one[1].ended, one[0] if one[1].ended < NEVER else ""))
        names = spelt(self.executors)
        executors, sizes = Counter(_spelt_so(self.executors, names)), Counter(self.sizes)
        return [_cluster(name, gathered, executors, names, sizes) for name, gathered in found]


def clusters(history: History, period: Period) -> list[Cluster]:
    """The most frequent first.

    `typical_of` names the executors and task sizes that have these errors in a greater share of their sessions than the others, where
    that is more than noise. Sessions, not errors, are compared: errors come in bursts.
    """
    gathering = Gathering(middle_of(period))
    for batch in batches(history.rows):
        gathering.add(batch)
    gathering.add((), history.errors)
    return gathering.clusters()


def middle_of(period: Period) -> datetime:
    """What comes from then on is of its second half."""
    return period.start + (period.end - period.start) / 2


def _count(counts: dict[str, int], name: str, more: int = 1) -> None:
    counts[name] = counts.get(name, 0) + more


def _spelt_so(counts: dict[str, int], names: dict[str, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, count in counts.items():
        _count(found, names.get(name, name), count)
    return found


def _earlier(known: _Said | None, other: _Said | None) -> _Said | None:
    if known is None or other is None:
        return known or other
    return other if other[0] < NEVER and other < known else known


def _cluster(name: str, gathered: _Gathered, executors: Counter[str], names: dict[str, str], sizes: Counter[str]) -> Cluster:
    complexity: Counter[str] = Counter()
    by_size = gathered.errors_by(2)
    message = gathered.said[2] if gathered.said is not None else ""
    told = gathered.kind[2] if gathered.kind is not None else None
    for size, count in by_size.items():
        complexity[COMPLEXITY.get(size, UNKNOWN)] += count
    return Cluster(
        fingerprint=name,
        occurrences=gathered.count,
        tasks=len(gathered.tasks),
        attempts=len(gathered.attempts) + gathered.more_attempts,
        category=told or (category_of(message) if message else None),
        sample_message=message,
        first_seen=gathered.first,
        last_seen=gathered.last,
        duration_ms_mean=mean(gathered.lasted),
        by_executor=ranked(_spelt_so(gathered.errors_by(0), names)),
        by_model=ranked(gathered.errors_by(1)),
        by_size=ranked(by_size),
        by_complexity=ranked(complexity),
        trend={date.fromordinal(day).isoformat(): count for day, count in sorted(gathered.days.items())},
        more_in_second_half=gathered.late - gathered.early,
        typical_of=_typical(_spelt_so(gathered.sessions_by(0), names), executors) | _typical(gathered.sessions_by(2), sizes),
    )


def _typical(having: dict[str, int], everyone: Counter[str]) -> dict[str, Difference]:
    """Whose sessions have an error more often than those of the others."""
    found = {}
    for name, hits in having.items():
        own, rest = everyone[name], everyone.total() - everyone[name]
        if name == UNKNOWN or own < LEAST_SESSIONS or rest < LEAST_SESSIONS:
            continue
        elsewhere = min(sum(having.values()) - hits, rest)
        difference = shares_differ(elsewhere, rest, min(hits, own), own)
        if not difference.is_noise and hits / own >= MORE_BY * elsewhere / rest:
            found[name] = difference
    return found
