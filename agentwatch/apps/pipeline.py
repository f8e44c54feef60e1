"""The data's way through the program, from a turn of the tailer to lines in the alert log and a checkpoint."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import msgspec

from agentwatch import checkpoint
from agentwatch.alert_log import AlertLog
from agentwatch.checkpoint import Checkpoint, FaultCount, Reading
from agentwatch.core.engine import Engine
from agentwatch.core.limits import Limits
from agentwatch.core.steps import Price, Reader
from agentwatch.core.text import safe
from agentwatch.formats import PROGRAMS
from agentwatch.formats.documents import Origin
from agentwatch.formats.registry import CONTAINERS, FORMATS, recognise
from agentwatch.model import Alert, Cursor, Fault, Format, Item
from agentwatch.rulebook import Refused
from agentwatch.sources import databases, documents
from agentwatch.sources.streams import Stream
from agentwatch.sources.tailer import Tailer, Work
from agentwatch.store.metrics_log import NAME as METRICS
from agentwatch.store.metrics_log import MetricsLog

MOST_FAULTS = 1000
RECOGNISE_LINES = 50
"""How many lines of a turn are asked for their format. A file that does not say is asked again at its next turn."""

UNKNOWN = "unknown_type:"
"""What a decoder calls a line of a kind that it does not know: counted by kind, and no fault."""

MOST_KINDS = 100
LEAST_SKEW_S, MOST_SKEW_S = 60, 12 * 3600
WINDOW = 2000

MOST_WAITING = 20_000
"""Finished sessions that wait for a disk that takes nothing: the oldest of more are given up, and told."""


class Carrier(Protocol):
    """What has cursors that are saved: the tailer, the documents, the databases."""

    def cursors(self) -> list[Cursor]: ...


class Sink(Protocol):
    """Where alerts go: the alert log, or the memory of who only looks."""

    def append(self, alerts: list[Alert], /) -> int: ...


Hear = Callable[[str, str, Iterable[Item], Reader], Iterable[Item]]
"""Is given a source, a scope, the events that are on their way to the engine, and what can tell more of their lines; gives them on."""


class Pipeline:
    """Owns what is counted. Everything that must survive a crash leaves through `save`. Whoever wants to see the events themselves may `hear` them."""

    def __init__(self, saved: Checkpoint | None, limits: Limits, price: Price, report: Callable[[str], None], hear: Hear | None = None) -> None:
        saved = saved or Checkpoint()
        self._report = report
        self._hear = hear
        self._formats = saved.formats
        self._events_before = saved.events
        self.alerts_by_type = saved.alerts_by_type
        self._faults = {(one.fault.path, one.fault.kind): one for one in saved.faults}
        self.engine = Engine(limits, price, saved.engine, self.fault)
        self.skews = {cursor.source: timedelta(seconds=cursor.skew_s) for cursor in saved.cursors if cursor.skew_s}
        self._decoders: dict[Stream, Format] = {}
        self._moved: dict[Stream, None] = {}
        self._settled_rows = 0
        self.has_moved = False

    def fault(self, fault: Fault) -> None:
        """Count what went wrong; the first of its kind in a file is kept."""
        kind = safe(fault.kind, 80)
        known = self._faults.get((fault.path, kind))
        if known is not None:
            known.count += 1
        elif len(self._faults) < MOST_FAULTS:
            self._faults[fault.path, kind] = FaultCount(Fault(fault.path, fault.offset, kind, safe(fault.detail, 200)))
        self.has_moved = True

    def refused(self, one: Refused) -> None:
        """Count a file of rules that cannot be used."""
        self.fault(Fault(str(one.path), 0, "bad_rules", one.reason))

    @property
    def events(self) -> int:
        """Events judged since the state was begun."""
        return self._events_before + self.engine.events

    @property
    def faults(self) -> Iterable[FaultCount]:
        return self._faults.values()

    def process(self, work: Work, tailer: Tailer, log: Sink) -> int:
        """Judge the lines of a turn, write what they give rise to, and move the cursor; how many alerts were new."""
        stream, turn = work.stream, work.turn
        cursor = stream.cursor
        for offset, kind, detail in turn.faults:
            self.fault(Fault(cursor.source, offset, kind, detail))
        alerts: list[Alert] = []
        events = self.engine.events
        if turn.lines:
            decoder = self._decoder(stream, turn.lines)
            if decoder is None:
                self._unrecognised(cursor.source, turn.lines, turn.offset)
            else:
                self._read(decoder, stream, turn.lines, turn.offset, alerts)
            if not turn.more and self.engine.events != events:
                self._compare_clocks(cursor)
        tailer.advance(work)
        self._moved[stream] = None
        self.has_moved = True
        return self.write(alerts, log)

    def process_whole(self, reading: documents.Reading | databases.Reading, since: datetime, log: Sink) -> tuple[int | None, int]:
        """Judge what is new in a document, a folder or a database, and write what that gives rise to.

        Told is how much of it was understood, as `documents.Whole.read` has it, and how many alerts were new. What was told is
        remembered in the cursor at once. Raises what a database raises that cannot be asked now; what it said before counts.
        """
        document = reading.document
        cursor = document.cursor
        row = CONTAINERS[document.wanted.format]
        decoder = row.decoder(cursor.memory, Origin(cursor.source, datetime.fromtimestamp(reading.stat[2] / 1e9, UTC), since))
        alerts: list[Alert] = []
        unknown: Counter[str] = Counter()
        understood = None

        def feed(items: Iterable[Item]) -> None:
            if reading.is_history:
                deque(items, maxlen=0)
            else:
                self._judge(cursor.source, document.scope, items, decoder, alerts)

        try:
            understood = decoder.read(reading.said, feed, self._faults_of(cursor.source, unknown))
        finally:
            cursor.memory = msgspec.Raw(msgspec.json.encode(decoder.memory))
            if row.kind != "folder":
                cursor.offset = decoder.place
            self.has_moved = True
            fresh = self.write(alerts, log)
        self._understood(decoder.name, understood or 0, unknown)
        return understood, fresh

    def _compare_clocks(self, cursor: Cursor) -> None:
        """How far the newest line's time is behind the moment at which it was written: an agent in a container may have another clock.

        More than the time after which a silent attempt is forgotten is no skew: those are logs of another day, copied here.
        """
        try:
            written_s = Path(cursor.path).stat().st_mtime
        except OSError:
            return
        skew_s = int((datetime.fromtimestamp(written_s, UTC) - self.engine.newest).total_seconds())
        cursor.skew_s = skew_s if LEAST_SKEW_S <= skew_s <= MOST_SKEW_S else 0
        if cursor.skew_s:
            self.skews[cursor.source] = timedelta(seconds=cursor.skew_s)
        else:
            self.skews.pop(cursor.source, None)

    def write(self, alerts: list[Alert], log: Sink) -> int:
        """Append alerts; how many of them were new. All are counted: what a crash made us make again, it made us forget before."""
        if not alerts:
            return 0
        self.has_moved = True
        for alert in alerts:
            self.alerts_by_type[alert.type] = self.alerts_by_type.get(alert.type, 0) + 1
        return log.append(alerts)

    def store(self, metrics: MetricsLog, *, everything: bool = False) -> None:
        """Write the sessions that had ended when this was called last, or all that have; to be called about once a second.

        They leave the state only when they stand in the file: a checkpoint without them is saved after `MetricsLog.sync`.
        """
        rows = self.engine.rows
        due = len(rows) if everything else self._settled_rows
        if due:
            try:
                metrics.write(row for row in rows[:due] if row.format not in PROGRAMS)
            except OSError as error:
                self.fault(Fault(METRICS, 0, "not_saved", error.strerror or str(error)))
                due = max(0, len(rows) - MOST_WAITING)
            del rows[:due]
            self.has_moved = True
        self._settled_rows = len(rows)

    def save(self, state: Path, carriers: Iterable[Carrier], log: AlertLog, metrics: MetricsLog) -> None:
        """Alerts and finished sessions durable first, then cursors and state together. Raises OSError where the disk says no; the old checkpoint stays."""
        for stream in self._moved:
            decoder = self._decoders.get(stream)
            if decoder is not None and decoder.memory is not None:
                stream.cursor.memory = msgspec.Raw(msgspec.json.encode(decoder.memory))
        self._moved.clear()
        log.sync()
        metrics.sync()
        checkpoint.save(
            state,
            Checkpoint(
                alerts=log.position(),
                metrics=metrics.position(),
                cursors=[cursor for carrier in carriers for cursor in carrier.cursors()],
                engine=self.engine.snapshot(),
                events=self.events,
                alerts_by_type=self.alerts_by_type,
                faults=list(self._faults.values()),
                formats=self._formats,
            ),
        )
        self.has_moved = False

    def _decoder(self, stream: Stream, lines: list[bytes]) -> Format | None:
        decoder = self._decoders.get(stream)
        if decoder is not None:
            return decoder
        cursor = stream.cursor
        if cursor.format is None:
            cursor.format = recognise(cursor.path, lines[:RECOGNISE_LINES])
        row = FORMATS.get(cursor.format) if cursor.format is not None else None
        if row is None:
            return None
        decoder = self._decoders[stream] = row.decoder(cursor.source, cursor.memory)
        return decoder

    def _read(self, decoder: Format, stream: Stream, lines: list[bytes], offset: int, alerts: list[Alert]) -> None:
        source, scope = stream.cursor.source, stream.scope
        unknown: Counter[str] = Counter()

        def feed(items: Iterable[Item]) -> None:
            self._judge(source, scope, items, decoder, alerts)

        decoder.read(lines, offset, feed, self._faults_of(source, unknown))
        self._understood(decoder.name, len(lines), unknown)

    def _judge(self, source: str, scope: str, items: Iterable[Item], reader: Reader, alerts: list[Alert]) -> None:
        self.engine.feed(source, scope, items if self._hear is None else self._hear(source, scope, items, reader), reader, alerts)

    def _faults_of(self, source: str, unknown: Counter[str]) -> Callable[[int, str, str], None]:
        """What a decoder tells its faults to: kinds that it does not know are counted in `unknown`."""

        def fault(place: int, kind: str, detail: str) -> None:
            if kind.startswith(UNKNOWN):
                unknown[kind.removeprefix(UNKNOWN)] += 1
            else:
                self.fault(Fault(source, place, kind, detail))

        return fault

    def _understood(self, name: str, lines: int, unknown: Counter[str]) -> None:
        """Notice a version of an agent that writes what this one of ours does not know."""
        reading = self._formats.get(name)
        if reading is None:
            reading = self._formats[name] = Reading()
        if reading.recent >= WINDOW:
            reading.recent //= 2
            reading.recent_unknown //= 2
        reading.recent += lines
        if not unknown:
            return
        reading.recent_unknown += unknown.total()
        for kind, count in unknown.items():
            shown = safe(kind, 80)
            if shown in reading.unknown or len(reading.unknown) < MOST_KINDS:
                reading.unknown[shown] = reading.unknown.get(shown, 0) + count
        if not reading.is_told and (said := reading.problem()):
            reading.is_told = True
            self._report(f"{name}: {said}")

    def _unrecognised(self, source: str, lines: list[bytes], offset: int) -> None:
        for line in lines:
            if line.strip():
                self.fault(Fault(source, offset, "unrecognised"))
            offset += len(line)
