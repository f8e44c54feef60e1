"""`agentwatch backtest`: what other settings would have told about one's own history. Writes nothing."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from agentwatch.apps import setup
from agentwatch.apps.daemon import read_everything
from agentwatch.apps.pipeline import Pipeline
from agentwatch.model import Alert, Severity, Status
from agentwatch.pricing import Prices
from agentwatch.settings import Loaded
from agentwatch.ui.page import Block, Table, Word, para

SAME_WITHIN = timedelta(minutes=30)
"""Two incidents of one type and attempt this close together are the same one, found sooner or later (detection.md, section 6.1)."""

SHOWN = 20


class Kept(msgspec.Struct, frozen=True):
    """An incident as one of the two settings told it."""

    timestamp: datetime
    type: str
    severity: Severity
    attempt_id: str
    summary: str


class Comparison(msgspec.Struct, frozen=True):
    """Incidents by type with the settings in force (`before`) and the others (`after`), and which of them only one of the two told.

    As `backtest --json` has it. `changed` are the settings that differ: `section.key` to both values.
    """

    changed: dict[str, tuple[str, str]]
    before: dict[str, int]
    after: dict[str, int]
    gone: list[Kept]
    new: list[Kept]


class _Memory:
    """Keeps the first line of each incident."""

    def __init__(self, since: datetime | None) -> None:
        self._since = since
        self.incidents: list[Kept] = []

    def append(self, alerts: list[Alert]) -> int:
        kept = [alert for alert in alerts if alert.status is Status.OPEN and (self._since is None or alert.timestamp >= self._since)]
        self.incidents += [Kept(alert.timestamp, alert.type, alert.severity, alert.attempt_id, alert.summary) for alert in kept]
        return len(kept)


def run(before: Loaded, after: Loaded, environ: Mapping[str, str], home: Path | None, since: datetime | None) -> Comparison:
    """Read all logs twice, once with each of two settings, and compare the incidents since then."""
    told = [_incidents(loaded, environ, home, since) for loaded in (before, after)]
    return compare(*told, changed=_changed(before, after))


def _incidents(loaded: Loaded, environ: Mapping[str, str], home: Path | None, since: datetime | None) -> list[Kept]:
    pipeline, memory = Pipeline(None, setup.limits(loaded), Prices(), lambda _text: None), _Memory(since)
    read_everything(loaded, environ, home, None, pipeline, memory, pipeline.engine.rows.clear)
    return sorted(memory.incidents, key=lambda one: one.timestamp)


def compare(before: list[Kept], after: list[Kept], *, changed: dict[str, tuple[str, str]]) -> Comparison:
    """Pair the incidents of two settings, each with one of the other: the same type and attempt, no further apart than `SAME_WITHIN`. Both are in order of time."""
    return Comparison(changed, _by_type(before), _by_type(after), _without(before, after), _without(after, before))


def _without(incidents: list[Kept], others: list[Kept]) -> list[Kept]:
    times: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for one in others:
        insort(times[one.type, one.attempt_id], one.timestamp)
    return [one for one in incidents if not _takes(one.timestamp, times.get((one.type, one.attempt_id), []))]


def _takes(at: datetime, times: list[datetime]) -> bool:
    """Whether one of the times is near enough; the first such is taken out, so that two incidents are never paired with the same one."""
    place = bisect_left(times, at - SAME_WITHIN)
    is_near = place < len(times) and times[place] <= at + SAME_WITHIN
    if is_near:
        del times[place]
    return is_near


def _by_type(incidents: Iterable[Kept]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in incidents:
        counts[one.type] = counts.get(one.type, 0) + 1
    return dict(sorted(counts.items()))


def _changed(before: Loaded, after: Loaded) -> dict[str, tuple[str, str]]:
    """What differs between the two. What is set to its default counts too: a number that is set holds on every log."""
    changed: dict[str, tuple[str, str]] = {}
    for path, origin in after.origins.items():
        section, _, name = path.partition(".")
        values = tuple(str(getattr(getattr(loaded.settings, section), name)) for loaded in (before, after))
        if values[0] != values[1] or origin != before.origins[path]:
            changed[path] = (values[0], values[1])
    for one in after.overrides:
        if one not in before.overrides:
            changed |= {f"{one.kind}.{one.pattern}.{path}": ("", str(value)) for path, value in one.values.items()}
    return changed


def page(found: Comparison) -> list[Block]:
    """The comparison for a person."""
    types = sorted({*found.before, *found.after})
    blocks: list[Block] = [para(Word("Changed", "title"))]
    blocks += [para(f"{path}: {was or 'not set'} -> {now}", indent=2) for path, (was, now) in found.changed.items()]
    if not setup.EXPLICIT.keys().isdisjoint(found.changed):
        blocks.append(para(Word("A number that is set holds on every log, in place of the finer rules of docs/detection.md.", "dim"), indent=2))
    if not types:
        return [*blocks, para("No incidents with either.")]
    rows = [
        (
            Word(kind),
            Word(str(found.before.get(kind, 0))),
            Word(str(found.after.get(kind, 0))),
            Word(str(sum(one.type == kind for one in found.gone))),
            Word(str(sum(one.type == kind for one in found.new))),
        )
        for kind in types
    ]
    blocks += [para(), para(Word("Incidents", "title")), Table(("type", ">now", ">then", ">gone", ">new"), rows)]
    for title, incidents in (("No longer told", found.gone), ("Told besides", found.new)):
        if incidents:
            blocks += [para(), para(Word(title, "title"))]
            blocks += [
                para(f"{one.timestamp.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z  {one.severity:6}  {one.type}: {one.summary}", indent=2) for one in incidents[:SHOWN]
            ]
            if len(incidents) > SHOWN:
                blocks.append(para(f"and {len(incidents) - SHOWN} more: see `--json`", indent=2))
    return blocks
