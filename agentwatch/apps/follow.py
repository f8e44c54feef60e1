"""Reads what the daemon reads, and judges it, in memory alone: nothing is written, locked or moved, and a daemon may run beside it or not."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from agentwatch import checkpoint
from agentwatch.apps import foresight, setup
from agentwatch.apps.holder import STATE_DIR
from agentwatch.apps.pipeline import Pipeline
from agentwatch.apps.rules import Keeper
from agentwatch.apps.wholes import Wholes, is_line
from agentwatch.checkpoint import Checkpoint
from agentwatch.core.board import Board, Heard
from agentwatch.core.engine import Engine
from agentwatch.core.steps import Reader
from agentwatch.model import Alert, Context, Item
from agentwatch.pricing import Prices
from agentwatch.settings import Loaded
from agentwatch.sources.watch import Watch

SLICE_S = 0.005
SWEEP_S, LONGEST_SWEEP_S = 2.0, 60.0
SWEEP_SHARE = 100
"""Half as many sweeps as the daemon makes: what no event tells of may come a little later on a screen."""

MOST_COLD_BYTES = 64 << 20
"""More than this is not read again only to know how the attempts stand, where a checkpoint of the daemon tells it: 64 MiB take a second or two."""

FORGET_S = 60.0
NO_SKEW = timedelta()
NOBODY = Context()


class Follower:
    """Events as they are written, heard by `board` and told to `tell` in the order of each log. Owned by one thread; close it at the end.

    Of the agents' own folders, files that nobody wrote to for `history_s` are passed over. `alerts` are those that its own engine has
    made since they were taken last; ids and texts are those that a daemon writes. Where there is much to read and it `may_skip`, reading
    begins where the daemon's last checkpoint stands, with what that knows of the attempts.
    """

    def __init__(
        self,
        loaded: Loaded,
        environ: Mapping[str, str],
        home: Path | None,
        *,
        history_s: float,
        tell: Callable[[Heard], None],
        may_skip: bool = False,
        most_cold_bytes: int = MOST_COLD_BYTES,
    ) -> None:
        logs = msgspec.structs.replace(loaded.settings.logs, history_s=history_s)
        self._loaded = msgspec.structs.replace(loaded, settings=msgspec.structs.replace(loaded.settings, logs=logs))
        self._environ, self._home = environ, home
        self._tell = tell
        self._most_cold_bytes = most_cold_bytes if may_skip else None
        self._sweep: Iterator[None] | None = None
        self._sweep_cost = 0.0
        self._next_sweep = self._next_tick = self._next_forgetting = 0.0
        self._begin(Checkpoint())
        paths = {root.path for root in self._tailer.roots}
        self._watch = Watch((*self._tailer.roots, *(root for root in self._wholes.roots if root.path not in paths)))

    def _begin(self, saved: Checkpoint) -> None:
        loaded, environ, home = self._loaded, self._environ, self._home
        self.alerts: list[Alert] = []
        self._pipeline = Pipeline(saved, setup.limits(loaded), Prices(), lambda _said: None, self._hear)
        self._pipeline.engine.issues.rules = Keeper(loaded, environ, home, self._pipeline.refused, lambda _said: None)
        self._tailer = setup.tailer(loaded, environ, home, [cursor for cursor in saved.cursors if is_line(cursor)], self._pipeline.fault)
        self._wholes = Wholes(loaded, environ, home, [cursor for cursor in saved.cursors if not is_line(cursor)], self._pipeline.fault)
        self.board = Board(self._pipeline.engine)
        for _ in self._tailer.sweep():
            pass
        for session_id, recording in foresight.recordings(self._tailer):
            self._pipeline.engine.foresee(session_id, recording)
        self._wholes.look_at_everything()

    @property
    def engine(self) -> Engine:
        return self._pipeline.engine

    @property
    def faults(self) -> int:
        """How many lines and files could not be read."""
        return sum(one.count for one in self._pipeline.faults)

    def context(self, heard: Heard) -> Context:
        """Who an event speaks of."""
        key = heard.scope, heard.event.attempt_id
        session = self._pipeline.engine.session(*key)
        if session is None:
            attempt = self.board.attempts.get(key)
            session = attempt.session if attempt is not None else None
        return session.context if session is not None else NOBODY

    def skew(self, source: str) -> timedelta:
        """By how much the clock of a source's writer is behind."""
        return self._pipeline.skews.get(source, NO_SKEW)

    def catch_up(self) -> Iterator[tuple[int, int]]:
        """Read all there is, a slice at a time; yields the bytes that are read by now, and those that there are."""
        self._watch.refresh()
        total = self._unread()
        if self._most_cold_bytes is not None and total > self._most_cold_bytes:
            saved, _ = checkpoint.read(Path(self._loaded.settings.logs.dir) / STATE_DIR)
            if saved is not None:
                self._tailer.close()
                self._begin(saved)
                total = self._unread()
        read = 0
        while self._tailer.is_behind or self._wholes.is_behind:
            end = time.monotonic() + 10 * SLICE_S
            while time.monotonic() < end:
                work = self._tailer.turn()
                if work is not None:
                    read += work.turn.end - work.turn.offset
                    self._pipeline.process(work, self._tailer, self)
                self._tailer.settle()
                if self._wholes.turn(self._pipeline, self) is None and work is None:
                    break
            yield min(read, total), total
        while self._tick(datetime.now(UTC)):
            yield total, total
        self._next_sweep = time.monotonic() + SWEEP_S

    def step(self, budget_s: float) -> None:
        """Read what is new, for no longer than `budget_s`."""
        end = time.monotonic() + budget_s
        self._take_hints()
        self._advance_sweep()
        self._wholes.sweep(SLICE_S)
        while True:
            work = self._tailer.turn() if self._tailer.is_behind else None
            if work is not None:
                self._pipeline.process(work, self._tailer, self)
            if (self._wholes.turn(self._pipeline, self) is None and work is None) or time.monotonic() > end:
                break
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + 1.0
            if self._watch.refresh():
                self._next_sweep = now
            self._tailer.settle()
            self._wholes.look_at_databases()
            if self._tick(datetime.now(UTC)):
                self._next_tick = now
            if now >= self._next_forgetting:
                self._next_forgetting = now + FORGET_S
                self.board.forget(datetime.now(UTC))

    def wait(self, longest_s: float) -> None:
        """Until there may be something to read, or for so long."""
        if not (self._tailer.is_behind or self._sweep is not None or self._wholes.is_busy):
            self._watch.wake.wait(longest_s)

    def append(self, alerts: list[Alert]) -> int:
        """What the pipeline does with alerts: here they are kept."""
        self.alerts += alerts
        return len(alerts)

    def take_alerts(self) -> list[Alert]:
        """Those made since the last call."""
        taken, self.alerts = self.alerts, []
        return taken

    def close(self) -> None:
        """End the threads and close the files."""
        self._watch.close()
        self._tailer.close()

    def _unread(self) -> int:
        return sum(max(file.size - file.stream.cursor.offset, 0) for file in self._tailer.files() if file.stream is not None)

    def _hear(self, source: str, scope: str, items: Iterable[Item], reader: Reader) -> Iterable[Item]:
        return self.board.hear(source, scope, items, reader, self._tell)

    def _tick(self, now: datetime) -> bool:
        """Time has passed; whether there is more to judge of that."""
        alerts: list[Alert] = []
        has_more = self._pipeline.engine.tick(now, alerts, self._tailer.behind() | self._wholes.behind(), self._pipeline.skews)
        self._pipeline.engine.rows.clear()  # the store is the daemon's
        self._pipeline.write(alerts, self)
        return has_more

    def _take_hints(self) -> None:
        hints, lost = self._watch.take()
        if lost:
            self._sweep = self._tailer.sweep()
            self._wholes.sweep_soon()
        for (root, path), is_directory in hints.items():
            self._wholes.hint(root, path, is_directory=is_directory)
            if root not in self._tailer.roots:
                continue
            if is_directory:
                self._tailer.hint_directory(root, path)
            else:
                self._tailer.hint(root, path)
        self._tailer.settle()

    def _advance_sweep(self) -> None:
        started = time.monotonic()
        if self._sweep is None:
            if started < self._next_sweep:
                return
            self._sweep, self._sweep_cost = self._tailer.sweep(), 0.0
        for _ in self._sweep:
            if time.monotonic() - started > SLICE_S:
                self._sweep_cost += time.monotonic() - started
                return
        self._sweep = None
        cost = self._sweep_cost + time.monotonic() - started
        self._next_sweep = time.monotonic() + min(max(SWEEP_SHARE * cost, SWEEP_S), LONGEST_SWEEP_S)
