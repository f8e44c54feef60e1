"""`agentwatch run`: the loop of the daemon, and the single pass of `--once`."""

import errno
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import msgspec

from agentwatch import checkpoint
from agentwatch.alert_log import NAME as ALERTS
from agentwatch.alert_log import AlertLog
from agentwatch.apps import foresight, setup
from agentwatch.apps.pipeline import Pipeline, Sink
from agentwatch.apps.publish import DAEMON_BUSY_S, publish
from agentwatch.apps.rules import Keeper
from agentwatch.apps.wholes import Wholes, is_line
from agentwatch.core.detectors.cost_anomaly import usual_usd
from agentwatch.errors import StorageError
from agentwatch.logger import append
from agentwatch.model import Alert, Fault
from agentwatch.pricing import Prices
from agentwatch.sdnotify import Notifier
from agentwatch.settings import Loaded, Settings
from agentwatch.sources.tailer import Tailer
from agentwatch.sources.tree import is_there, walk
from agentwatch.sources.watch import Watch
from agentwatch.store.issues import NAME as ISSUES
from agentwatch.store.issues import IssueStore
from agentwatch.store.metrics_log import NAME as METRICS
from agentwatch.store.metrics_log import MetricsLog
from agentwatch.voice import Level, Report

TURNS_S = 0.02
"""How long a backlog is read before hints, time and signals are looked at again."""

SLICE_S = 0.005
CHECKPOINT_S = 0.5
CHECKPOINT_SHARE, LONGEST_CHECKPOINT_S = 20, 10.0
"""A checkpoint is made every half second where something moved, and seldom enough to cost no more than 1/20 of the time; but one that took long because a disk
or the whole process stood still does not put off the next one for minutes."""

SWEEP_S, LONGEST_SWEEP_S = 1.0, 30.0
SWEEP_SHARE = 60
"""A sweep of 10,000 files takes 0.15 to 0.35 s: at most 1/60 of the time goes into looking at files that nothing happened to."""

DRAIN_S = 5.0
JUMP_S = 5.0

RATE_S = 60
"""What is told of events a second is the mean of so long: after a burst it goes down by and by, and is 0 when all was quiet for so long."""

STATUS_S = 5.0
"""How often that is told anew while nothing moves."""

ROWS_AT_ONCE = 1000
"""Finished sessions that a single pass keeps before they are written."""

UNHELD_TICKS = 3
"""So many seconds the state directory must be missing before it is made again: not into a tree that is just being deleted."""

USUAL_WITHIN = timedelta(days=90)
"""Sessions of this time say what an executor's sessions usually cost."""

ROTATE_S = 3600.0
"""How often the daemon looks whether there is anything to rotate or to clear."""

WITH_RESTART = ("logs.dir", "logs.enabled")
"""Settings that hold from the start of the process to its end."""


class Stopped(Exception):  # noqa: N818  # not an error: the way out of a wait
    """Asked to stop while the disk is full."""


def once(loaded: Loaded, environ: Mapping[str, str], home: Path | None, until: datetime | None, report: Report) -> int:
    """Read all there is, write the alerts it gives rise to, and return how many of them are new.

    Starts from nothing whatever an earlier run remembered, so that the same logs give the same alerts; those that stand in the
    file are not written again. Its clock is the log's own time, which ends at the newest event or at `until`.
    """
    from agentwatch.apps.history import metrics_log

    log_dir = Path(os.path.realpath(loaded.settings.logs.dir))
    setup.check(loaded, environ, home)
    state = setup.state_dir(log_dir)
    held = setup.lock(state)
    pipeline = Pipeline(None, setup.limits(loaded), Prices(), report)
    pipeline.engine.issues.rules = Keeper(loaded, environ, home, pipeline.refused, report)
    log = AlertLog(log_dir / ALERTS, None, _patience(report, lambda _error: time.sleep(1.0)))
    metrics = metrics_log(loaded, report)
    try:
        fresh = read_everything(loaded, environ, home, until, pipeline, log, lambda: pipeline.store(metrics, everything=True))
        log.sync()
        store = IssueStore(state / ISSUES)
        publish(pipeline.engine.issues, store, everything=True)
        store.close()
    finally:
        log.close()
        os.close(held)
    for one in pipeline.faults:
        report(f"{one.fault.path} at byte {one.fault.offset}: {one.fault.kind} ({one.count}) {one.fault.detail}".rstrip(), Level.WARNING)
    return fresh


def read_everything(
    loaded: Loaded, environ: Mapping[str, str], home: Path | None, until: datetime | None, pipeline: Pipeline, log: Sink, store: Callable[[], None]
) -> int:
    """Put all that the logs hold through `pipeline`, from their beginnings, and end its clock; how many alerts `log` found new.

    `store` is called now and then, and at the end, to take the sessions that are over.
    """
    tailer = setup.tailer(loaded, environ, home, [], pipeline.fault)
    wholes = Wholes(loaded, environ, home, [], pipeline.fault)
    fresh = 0
    try:
        for _ in range(2):  # what one sweep finds twice gone is gone; a second look settles what was moving
            for _ in tailer.sweep():
                pass
            look_ahead(pipeline, tailer)
            while tailer.is_behind:
                work = tailer.turn()
                if work is not None:
                    fresh += pipeline.process(work, tailer, log)
                    if len(pipeline.engine.rows) >= ROWS_AT_ONCE:
                        store()
                tailer.settle()
            wholes.look_at_everything()
            while (told := wholes.turn(pipeline, log)) is not None:
                fresh += told
        alerts: list[Alert] = []
        pipeline.engine.finish(until, alerts)
        fresh += pipeline.write(alerts, log)
        store()
        for fault in (*_half_lines(tailer, loaded.settings.logs.max_line_bytes), *wholes.unfinished()):
            pipeline.fault(fault)
    finally:
        tailer.close()
    return fresh


def look_ahead(pipeline: Pipeline, tailer: Tailer) -> None:
    """See which sessions are recorded before any of them is judged."""
    for session_id, recording in foresight.recordings(tailer):
        pipeline.engine.foresee(session_id, recording)


def _half_lines(tailer: Tailer, max_line_bytes: int) -> Iterator[Fault]:
    """What a single pass leaves unread: a last line without a newline, which a daemon would wait for."""
    offsets = {file.path: file.stream.cursor.offset for file in tailer.files() if file.stream is not None}
    for root in tailer.roots:
        for _, found in walk(root):
            for seen in found if not isinstance(found, OSError) else ():
                offset = offsets.get(seen.path, 0)
                if not seen.is_archive and seen.stat.st_size > offset and _is_half_line(seen.path, offset, max_line_bytes):
                    yield Fault(seen.source, offset, "incomplete_line", f"the last {seen.stat.st_size - offset} bytes have no newline and were not read")


def _is_half_line(path: str, offset: int, max_line_bytes: int) -> bool:
    """Not so where whole lines have come since, nor for a copy, whose lines were read elsewhere, nor for blanks and holes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False  # told already
    try:
        data = os.pread(fd, max_line_bytes, offset)
    finally:
        os.close(fd)
    return b"\n" not in data and bool(data.strip(b"\0\t\r "))


def _patience(report: Report, pause: Callable[[OSError], None]) -> Callable[[OSError | None], None]:
    """What an alert log calls while it cannot be written: waits, and tells once why, and when it is over."""
    told: str | None = None

    def wait(error: OSError | None) -> None:
        nonlocal told
        if error is None:
            told = None
            report("alerts can be written again")
            return
        if error.strerror != told:
            told = error.strerror
            report(f"cannot write alerts: {told}; waiting", Level.ERROR)
        pause(error)

    return wait


def _watched(log_dir: Path, folders: set[Path]) -> str:
    """What is watched, in one line: agents have some thirty folders in which they may keep their logs, of which a machine has two or three."""
    there = sum(map(is_there, folders))
    if not folders:
        return f"watching {log_dir}"
    found = f"{there} {'folder' if there == 1 else 'folders'} of agents" if there else "the folders of agents, of which none is there yet"
    return f"watching {log_dir} and {found}; `agentwatch doctor` lists them"


class Daemon:
    """Watches until it is told to stop. One thread does all the work; watchdog's only leaves notes."""

    def __init__(self, load: Callable[[], Loaded], environ: Mapping[str, str], home: Path | None, report: Report) -> None:
        self._load = load
        self._environ = environ
        self._home = home
        self._report = report
        self._systemd = Notifier(environ)
        self._stopping = False
        self._reloading = False
        self._watch: Watch | None = None
        self._held = -1
        self._unheld_ticks = 0

    def run(self, on_reload: Callable[[], None] = lambda: None) -> int:
        """Until SIGTERM or SIGINT; the exit code. A second signal ends at once: all is safe on disk.

        SIGHUP reads the settings again, calls `on_reload`, and goes on from the checkpoint.
        """
        loaded = self._load()
        if not loaded.settings.logs.enabled:
            said = f"switched off by `logs.enabled` from {loaded.origins['logs.enabled']}"
            self._report(said, Level.WARNING)
            self._systemd.send(READY=1, STATUS=said)  # lest a manager takes the end for a failed start
            return 0
        setup.check(loaded, self._environ, self._home)
        log_dir = Path(os.path.realpath(loaded.settings.logs.dir))
        state = setup.state_dir(log_dir)
        self._held = setup.lock(state)
        received: list[int] = []

        def stop(number: int, _frame: FrameType | None) -> None:
            if received:
                os._exit(128 + number)
            received.append(number)
            self._stopping = True
            self._wake()

        def reload(_number: int, _frame: FrameType | None) -> None:
            self._reloading = True
            self._wake()

        before = {number: signal.signal(number, handler) for number, handler in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, reload))}
        try:
            self._session(loaded, log_dir, state)
            while not self._stopping:
                self._reloading = False  # before the files are read: who changes them now and asks again is heard again
                loaded = self._reloaded(loaded)
                on_reload()
                self._session(loaded, log_dir, state)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._held)
        return 130 if received and received[0] == signal.SIGINT else 0

    def _wake(self) -> None:
        if self._watch is not None:
            self._watch.wake.set()

    def _reloaded(self, loaded: Loaded) -> Loaded:
        """The settings as they are now; those before where the new ones cannot be used."""
        try:
            fresh = self._load()
            setup.check(fresh, self._environ, self._home)
        except Exception as error:  # noqa: BLE001  # a mistake in a settings file must not end the watch
            self._report(f"settings stay as they were: {error}", Level.ERROR)
            return loaded
        fresh, said = setup.taken(fresh, loaded, WITH_RESTART)
        self._report(said)
        return fresh

    def _rotated(self, log_dir: Path) -> Iterator[bytes]:
        from agentwatch.store.history import rotated

        return rotated(log_dir, self._report)

    def _session(self, loaded: Loaded, log_dir: Path, state: Path) -> None:
        """With one set of settings, until it is time to stop or to read them again."""
        saved, problem = checkpoint.load(state)
        if problem is not None:
            self._report(
                f"the checkpoint is not used ({problem}) and set aside as `{checkpoint.NAME}.bad`: reading all logs again; alerts that stand in the file are not written twice",
                Level.WARNING,
            )
        pipeline = Pipeline(saved, setup.limits(loaded), Prices(), self._report)
        log = AlertLog(log_dir / ALERTS, saved.alerts if saved else None, _patience(self._report, self._wait_for_disk(pipeline)))
        metrics = MetricsLog(log_dir / METRICS, saved.metrics if saved else None, append, lambda: self._rotated(log_dir))
        store = IssueStore(state / ISSUES, busy_s=DAEMON_BUSY_S)
        keeper = Keeper(loaded, self._environ, self._home, pipeline.refused, self._report)
        pipeline.engine.issues.rules = keeper
        cursors = saved.cursors if saved else []
        tailer = setup.tailer(loaded, self._environ, self._home, [cursor for cursor in cursors if is_line(cursor)], pipeline.fault)
        wholes = Wholes(loaded, self._environ, self._home, [cursor for cursor in cursors if not is_line(cursor)], pipeline.fault)
        paths = {root.path for root in tailer.roots}
        watch = self._watch = Watch((*tailer.roots, *(root for root in wholes.roots if root.path not in paths)))
        housekeeping = Housekeeping(loaded.settings, self._report)
        loop = _Loop(pipeline, tailer, wholes, log, metrics, store, keeper, watch, state, self._systemd, self._keep_hold, housekeeping)
        try:
            loop.start()
            self._systemd.send(READY=1, STATUS=f"watching {log_dir}")
            self._report(_watched(log_dir, {root.path for root in (*tailer.roots, *wholes.places)} - {log_dir}))
            while not (self._stopping or self._reloading):
                loop.step()
            if self._stopping:
                self._systemd.send(STOPPING=1)
            else:
                self._systemd.reloading()
            loop.drain()
        except Stopped:
            self._report("stopped while the disk was full: nothing is lost, what was not written is made again at the next start", Level.WARNING)
        finally:
            watch.close()
            tailer.close()
            log.close()
            store.close()

    def _keep_hold(self, state: Path) -> None:
        """Somebody deleted the state directory, or put another log directory in the place of ours: take it anew, lest two daemons write there.

        Raises AlreadyRunningError where another was quicker, and StorageError where it cannot be made now.
        """
        if setup.holds(self._held, state) or not state.parent.is_dir():
            self._unheld_ticks = 0
            return
        self._unheld_ticks += 1
        if self._unheld_ticks < UNHELD_TICKS:
            return
        fresh = setup.lock(setup.state_dir(state.parent))
        os.close(self._held)
        self._held = fresh
        self._report(f"`{state}` was gone or replaced: taken anew", Level.WARNING)

    def _wait_for_disk(self, pipeline: Pipeline) -> Callable[[OSError], None]:
        """Nothing may pass an alert that cannot be written: cursors stand still, the logs keep what is to come."""

        def wait(error: OSError) -> None:
            pipeline.fault(Fault(ALERTS, 0, "directory_gone" if error.errno == errno.ENOENT else "disk_full", error.strerror or str(error)))
            self._systemd.send(WATCHDOG=1)
            if self._stopping or (self._watch is not None and self._pause(self._watch)):
                raise Stopped

        return wait

    def _pause(self, watch: Watch) -> bool:
        """A second, or until asked to stop; whether that was so."""
        end = time.monotonic() + 1.0
        while not self._stopping and (left := end - time.monotonic()) > 0:
            watch.wake.wait(left)
            watch.wake.clear()
        return self._stopping


class Housekeeping:
    """Rotation once an hour, and what sessions usually cost, in a thread of its own: compressing 500 MB takes a quarter of a minute, most of it without the interpreter."""

    def __init__(self, settings: Settings, report: Report) -> None:
        self._settings = settings
        self._report = report
        self._thread: threading.Thread | None = None
        self._next_s = 0.0
        self._usual: dict[str, float] | None = None

    def learnt(self) -> dict[str, float] | None:
        """What sessions usually cost, once each time that it was looked up."""
        usual, self._usual = self._usual, None
        return usual

    def begin(self, now: float) -> None:
        """Start where it is time; `now` is monotonic, in seconds."""
        if now < self._next_s or (self._thread is not None and self._thread.is_alive()):
            return
        self._next_s = now + ROTATE_S
        # Nothing waits for it at the end: what it leaves half made, the next pass clears.
        self._thread = threading.Thread(target=self._run, name="agentwatch-rotate", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        from agentwatch.apps.rotate import rotate
        from agentwatch.store import history

        try:
            for action in rotate(self._settings, datetime.now(UTC)) if self._settings.retention.automatic else ():
                if action.what != "left":
                    self._report(f"rotation: {action.what} {action.path}: {action.why}")
            since, location = datetime.now(UTC) - USUAL_WITHIN, self._settings.report.history
            with history.lines(self._settings.logs.dir, since, lambda _problem: None, location) as lines:
                found = (row for rows in history.joined(lines, (), lambda _problem: None) for row in rows)
                self._usual = usual_usd((row.executor, row.metrics.cost_usd) for row in found if row.executor and row.metrics.cost_usd)
        except Exception as error:  # noqa: BLE001  # the watch goes on without it
            self._report(f"rotation failed: {error}", Level.ERROR)


class Pace:
    """Events a second, and when one came last. Not what the lines say: `now` is monotonic, in seconds, `at` the time of day."""

    def __init__(self, now: float, events: int) -> None:
        self._counts = deque([(now, events)])
        self.last_event_at: datetime | None = None

    def count(self, now: float, events: int, at: datetime) -> None:
        """There have been so many `events` by now. To be called about once a second."""
        if events != self._counts[-1][1]:
            self.last_event_at = at
        self._counts.append((now, events))
        while self._counts[1][0] <= now - RATE_S:
            self._counts.popleft()

    def per_s(self, now: float) -> float:
        """The mean of the last minute, or of the time since the start where that is shorter."""
        since, events = self._counts[0]
        return round((self._counts[-1][1] - events) / max(now - since, 1.0), 2)


class _Loop:
    """The steps of the daemon, each short: hints, a slice of the sweep, turns, time, checkpoint, sleep."""

    def __init__(
        self,
        pipeline: Pipeline,
        tailer: Tailer,
        wholes: Wholes,
        log: AlertLog,
        metrics: MetricsLog,
        store: IssueStore,
        keeper: Keeper,
        watch: Watch,
        state: Path,
        systemd: Notifier,
        keep_hold: Callable[[Path], None],
        housekeeping: Housekeeping,
    ) -> None:
        self._pipeline = pipeline
        self._tailer = tailer
        self._wholes = wholes
        self._log = log
        self._metrics = metrics
        self._store = store
        self._keeper = keeper
        self._watch = watch
        self._state = state
        self._systemd = systemd
        self._keep_hold = keep_hold
        self._housekeeping = housekeeping
        now = time.monotonic()
        self._started_at = datetime.now(UTC)
        self._sweep: Iterator[None] | None = None
        self._sweep_cost = 0.0
        self._next_sweep = now
        self._next_tick = now
        self._next_checkpoint = now
        self._next_sign = now
        self._clock_offset = time.time() - now
        self._pace = Pace(now, pipeline.events)
        self._told_rate = 0.0
        self._next_status = now
        self._has_caught_up = False
        self._publishes = True

    def start(self) -> None:
        """Watch first, then look at everything: what comes between the two is seen by one of them."""
        self._watch.refresh()
        started = time.monotonic()
        for _ in self._tailer.sweep():
            pass
        look_ahead(self._pipeline, self._tailer)
        self._swept(time.monotonic() - started)
        self._wholes.look_at_everything()
        self._save()

    def step(self) -> None:
        """One round; sleeps at its end if there is nothing to do."""
        self._take_hints()
        self._advance_sweep(SLICE_S)
        self._wholes.sweep(SLICE_S)
        self._read(TURNS_S)
        now = time.monotonic()
        if now >= self._next_tick:
            self._tick(now)
        if self._pipeline.has_moved and now >= self._next_checkpoint:
            self._save()
        if self._tailer.is_behind or self._sweep is not None or self._wholes.is_busy:
            return
        deadline = min(self._next_tick, self._next_sweep, self._wholes.next_at, *([self._next_checkpoint] if self._pipeline.has_moved else []))
        if (left := deadline - time.monotonic()) > 0:
            self._watch.wake.wait(left)

    def drain(self) -> None:
        """Read what is there, within a budget, and leave everything in order."""
        end = time.monotonic() + DRAIN_S
        self._take_hints()
        while (self._tailer.is_behind or self._wholes.is_behind) and time.monotonic() < end:
            self._read(TURNS_S)
        self._pipeline.store(self._metrics, everything=True)
        self._publish()
        self._save()

    def _take_hints(self) -> None:
        hints, lost = self._watch.take()
        if lost:
            self._pipeline.fault(Fault("inotify", 0, "queue_overflow", "events were lost; the sweep looks at everything now"))
            self._sweep = self._tailer.sweep()
            self._sweep_cost = 0.0
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

    def _advance_sweep(self, budget: float) -> None:
        started = time.monotonic()
        if self._sweep is None:
            if started < self._next_sweep:
                return
            self._sweep = self._tailer.sweep()
            self._sweep_cost = 0.0
        for _ in self._sweep:
            if time.monotonic() - started > budget:
                self._sweep_cost += time.monotonic() - started
                return
        self._sweep = None
        self._swept(self._sweep_cost + time.monotonic() - started)

    def _swept(self, cost: float) -> None:
        self._next_sweep = time.monotonic() + min(max(SWEEP_SHARE * cost, SWEEP_S), LONGEST_SWEEP_S)
        before = self._watch.problem
        self._watch.check_limit(self._tailer.directories)
        if self._watch.problem != before:
            self._pipeline.has_moved = True

    def _read(self, budget: float) -> None:
        end = time.monotonic() + budget
        while True:
            work = self._tailer.turn() if self._tailer.is_behind else None
            if work is not None:
                self._pipeline.process(work, self._tailer, self._log)
            if self._wholes.turn(self._pipeline, self._log) is None and work is None:
                break
            if time.monotonic() > end or self._watch.wake.is_set():
                return
        self._log.sync()
        if self._publishes:
            self._publish()

    def _publish(self, *, everything: bool = False) -> None:
        """What cannot be stored now is stored at a tick."""
        try:
            publish(self._pipeline.engine.issues, self._store, everything=everything)
        except StorageError as error:
            self._pipeline.fault(Fault(ISSUES, 0, "not_saved", str(error)))
            self._publishes = False
        else:
            self._publishes = True

    def _tick(self, now: float) -> None:
        self._next_tick = now + 1.0
        try:
            self._keep_hold(self._state)
        except StorageError as error:
            self._pipeline.fault(Fault(checkpoint.NAME, 0, "not_saved", str(error)))
        if now >= self._next_status and self._told_rate != self._rate(now):
            self._try_status(now)
        if self._watch.refresh():
            # A folder has appeared: what stands in it by now no event will tell, and the next sweep may be half a minute away.
            self._pipeline.has_moved = True
            self._next_sweep = now
        self._tailer.settle()
        self._wholes.look_at_databases()
        jump = time.time() - now - self._clock_offset
        if abs(jump) > JUMP_S:
            self._pipeline.engine.shift(timedelta(seconds=jump))
            self._clock_offset += jump
        alerts: list[Alert] = []
        wall = datetime.fromtimestamp(time.time(), UTC)
        if self._pipeline.engine.tick(wall, alerts, self._tailer.behind() | self._wholes.behind(), self._pipeline.skews):
            self._next_tick = now
        if self._pipeline.write(alerts, self._log):
            self._log.sync()
        self._pipeline.store(self._metrics)
        if self._has_caught_up and not (self._pipeline.engine.rows or self._wholes.is_busy):
            self._metrics.caught_up()
        self._keeper.refresh()
        is_first = not self._has_caught_up and not self._tailer.is_behind
        if is_first:
            self._has_caught_up = True
            self._log.forget_old()
        self._publish(everything=is_first)
        if self._has_caught_up:
            self._housekeeping.begin(now)
            if (usual := self._housekeeping.learnt()) is not None:
                self._pipeline.engine.learn(usual)
        if now >= self._next_sign:
            self._next_sign = now + min(STATUS_S, self._systemd.watchdog_s or STATUS_S)
            # From here and from no thread of its own: a loop that hangs must be missed.
            self._systemd.send(WATCHDOG=1, STATUS=self._in_words())

    def _in_words(self) -> str:
        alerts = sum(self._pipeline.alerts_by_type.values())
        return f"attempts live: {self._pipeline.engine.attempts_live:,}; events: {self._pipeline.events:,}; alerts: {alerts:,}"

    def _rate(self, now: float) -> float:
        self._pace.count(now, self._pipeline.events, datetime.now(UTC))
        return self._pace.per_s(now)

    def _try_status(self, now: float) -> None:
        try:
            self._write_status(now)
        except OSError as error:
            self._pipeline.fault(Fault(checkpoint.STATUS, 0, "not_saved", error.strerror or str(error)))

    def _save(self) -> None:
        started = time.monotonic()
        try:
            self._pipeline.save(self._state, (self._tailer, self._wholes), self._log, self._metrics)
            self._write_status(started)
        except OSError as error:
            self._pipeline.fault(Fault(checkpoint.NAME, 0, "not_saved", error.strerror or str(error)))
        cost = time.monotonic() - started
        self._next_checkpoint = time.monotonic() + min(max(CHECKPOINT_S, CHECKPOINT_SHARE * cost), LONGEST_CHECKPOINT_S)

    def _write_status(self, now: float) -> None:
        self._told_rate = self._rate(now)
        self._next_status = now + STATUS_S
        status = checkpoint.Status(
            pid=os.getpid(),
            started_at=self._started_at,
            events_per_s=self._told_rate,
            last_event_at=self._pace.last_event_at,
            inotify_ok=self._watch.is_working,
            inotify_detail=self._watch.problem or "",
            found_by_sweep=self._tailer.found_by_sweep,
            attempts_live=self._pipeline.engine.attempts_live,
        )
        temporary = self._state / f"{checkpoint.STATUS}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(status))
        temporary.replace(self._state / checkpoint.STATUS)
