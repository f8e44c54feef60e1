"""All that is known of past sessions: from the store, from what the daemon remembers, and from logs where those do not reach."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agentwatch.apps.alerts import moment, read
from agentwatch.apps.holder import STATE_DIR, holder_of
from agentwatch.core.metrics import ErrorKind, ErrorSummary, Row, sessions
from agentwatch.core.reports.history import AlertMark, History, LostError, Period, cluster_of
from agentwatch.core.reports.summary import Summary, Summing, summarise
from agentwatch.core.snapshot import Snapshot, live_rows
from agentwatch.formats import PROGRAMS
from agentwatch.store import history as store
from agentwatch.store.parts import Kept, Parts

if TYPE_CHECKING:
    from agentwatch.apps.scan import Progress
    from agentwatch.checkpoint import Checkpoint
    from agentwatch.settings import Loaded
    from agentwatch.store.metrics_log import MetricsLog

MANIFEST = "history.json"
_NO_BLOCK = store.Block("", b"")

APART = timedelta.min
"""Pieces of a session are joined where they are read, never in the store: a piece may go on, and its newer row replaces no sum."""


class Covered(msgspec.Struct):
    """The logs that a rebuild has read: inode and size by path."""

    files: dict[str, tuple[int, int]] = {}


class _Gathered(NamedTuple):
    """What `collect` is made of: the lines of the store, and the sessions that are known from elsewhere; `running` are those of them that go on."""

    log_dir: Path
    since: datetime
    lines: store.Lines
    beside: list[Row]
    running: frozenset[tuple[str, str]]
    problems: list[str]


def collect(loaded: "Loaded", environ: Mapping[str, str], home: Path | None, since: datetime, progress: "Progress", *, reads_logs: bool = True) -> History:
    """The sessions that ended since then, with what goes on now.

    Where a daemon watches, the store and its checkpoint say all. Where it does not run, what was written since is read on from there;
    where there never was one, the logs are read; without `reads_logs` neither, which is quick. Nothing is written.
    """
    with _gathered(loaded, environ, home, since, progress, reads_logs=reads_logs) as gathered:
        return _history(gathered)


def summary(loaded: "Loaded", environ: Mapping[str, str], home: Path | None, period: Period, progress: "Progress") -> Summary:
    """`summarise` of what `collect` finds, without a month's sessions in memory."""
    with _gathered(loaded, environ, home, period.before.start, progress, reads_logs=True) as gathered:
        return _summed(gathered, period) or summarise(_history(gathered), period)


@contextmanager
def _gathered(
    loaded: "Loaded", environ: Mapping[str, str], home: Path | None, since: datetime, progress: "Progress", *, reads_logs: bool
) -> Iterator[_Gathered]:
    log_dir = Path(os.path.realpath(loaded.settings.logs.dir))
    state = log_dir / STATE_DIR
    problems: list[str] = []
    rows: list[Row] = []
    running: frozenset[tuple[str, str]] = frozenset()
    with store.lines(log_dir, since, problems.append, loaded.settings.report.history) as lines:
        saved = _saved(state, problems)
        if saved is not None:
            is_watched = holder_of(state) is not None
            if not (is_watched or reads_logs):
                problems.append("no daemon runs: what was logged since it ended is not in these figures")
            snapshot = saved.engine if is_watched or not reads_logs else _caught_up(loaded, environ, home, saved, progress)
            live = [row for row in live_rows(snapshot) if row.format not in PROGRAMS]
            rows += (row for row in snapshot.rows if row.format not in PROGRAMS)
            rows += live
            running = frozenset((row.scope, row.attempt_id) for row in live)
        elif reads_logs:
            found, unread = _scanned(loaded, environ, home, state, since, progress)
            rows += found
            problems += unread
        yield _Gathered(log_dir, since, lines, rows, running, problems)


def _history(gathered: _Gathered) -> History:
    return _all_told(gathered) or _with_errors_apart(gathered)


def _all_told(gathered: _Gathered) -> History | None:
    """The sessions that ended since then, of which no more than some are in memory; None where a row does not tell its errors, or there is none."""
    from agentwatch.store.spill import Ended

    problems = list(gathered.problems)
    tells: set[bool] = set()

    def recent() -> Iterator[list[Row]]:
        for rows in store.joined(gathered.lines, gathered.beside, problems.append):
            tells.update(map(_tells_errors, rows))
            if False in tells:
                return
            yield [row for row in rows if row.timestamp >= gathered.since]

    known = Ended(recent())
    return History(known, [], _alerts(gathered.log_dir, gathered.since), gathered.running, problems) if tells == {True} else None


def _with_errors_apart(gathered: _Gathered) -> History:
    """With the logger's copies of errors, which need all sessions in memory."""
    problems = list(gathered.problems)
    known = sessions([*(row for rows in store.understood(gathered.lines, problems.append) for row in rows), *gathered.beside])
    lost = list(_errors_apart(gathered.log_dir, known, gathered.since, problems))
    return History(known, lost, _alerts(gathered.log_dir, gathered.since), gathered.running, problems)


def _summed(gathered: _Gathered, period: Period) -> Summary | None:
    """The summary, where every row tells its errors; the logger's copies of errors need the rows in memory."""
    parts = Parts(gathered.log_dir / STATE_DIR)
    known: list[Kept | None] = []

    def attempts() -> Iterator[str]:
        yield from (row.attempt_id for row in gathered.beside)
        for block in gathered.lines:
            kept = parts.get(block.lines)
            known.append(kept)
            yield from store.attempts(block) if kept is None else kept.names()

    several = store.repeated(map(hash, attempts()))
    summing = Summing(period, gathered.running)
    apart: list[Row] = []

    def unread() -> Iterator[tuple[store.Block, bool]]:
        """The blocks whose lines must be read, and whether each of them is to be remembered."""
        for number, (block, kept) in enumerate(zip(gathered.lines, known, strict=False)):
            is_sound = kept is not None and several.isdisjoint(map(hash, kept.attempts))
            if kept is not None and is_sound and (kept.part is None or summing.take(kept.part)):
                apart.extend(kept.apart)
            else:
                yield block, not is_sound and number < len(known) - 1  # the last block still grows

    problems = list(gathered.problems)
    blocks, again = tee(unread())
    read = store.understood((block for block, _ in blocks), problems.append)
    is_any = any(known)  # of a block without sessions nothing is remembered
    for rows, (block, is_new) in chain(zip(read, again, strict=True), [(gathered.beside, (_NO_BLOCK, False))]):
        alone = [row for row in rows if hash(row.attempt_id) not in several]
        if not all(map(_tells_errors, alone)):
            return None
        rest = [row for row in rows if hash(row.attempt_id) in several]
        if is_new and len(rows) == len(block.lines.splitlines()):  # a line that was not understood is told each time
            parts.put(block.lines, Kept.of(alone, rest))
        summing.add(alone)
        apart += rest
        is_any = is_any or bool(rows)
    joined = sessions(apart)
    if not (is_any and all(map(_tells_errors, joined))):
        return None
    summing.add(joined)
    parts.save()
    return summing.told((), _alerts(gathered.log_dir, gathered.since), problems)


def _saved(state: Path, problems: list[str]) -> "Checkpoint | None":
    if not state.is_dir():
        return None
    from agentwatch import checkpoint

    saved, problem = checkpoint.read(state)
    if problem is not None:
        problems.append(f"the daemon's checkpoint is not used: {problem}")
    return saved


def rebuild(loaded: "Loaded", environ: Mapping[str, str], home: Path | None, progress: "Progress", report: Callable[[str], None]) -> int:
    """Read all logs and archives and store their sessions; how many lines were written. What is in the store already is not written again.

    Raises OSError where the store cannot be written, and StorageError where the state directory cannot be made.
    """
    from agentwatch.apps import scan, setup
    from agentwatch.store.spill import Packed, Spill

    log_dir = Path(os.path.realpath(loaded.settings.logs.dir))
    state = setup.state_dir(log_dir)
    seen = scan.files(loaded, environ, home, None, report)
    with Spill(state) as spill:
        last = 0
        for place, found in scan.scan(loaded, seen, progress):
            spill.add(found.packed, place)
            last = max(last, place)
            for problem in found.problems:
                report(problem)
        wholes = Packed()
        wholes.add(scan.scan_wholes(loaded, environ, home))
        spill.add(wholes, last + 1)
        metrics = metrics_log(loaded, report)
        written = metrics.write_lines(spill.joined(setup.limits(loaded).longest_remembered))
        metrics.sync()
    covered = Covered({one.path: (one.stat.st_ino, one.stat.st_size) for one in seen})
    temporary = state / f"{MANIFEST}.new"
    temporary.write_bytes(msgspec.json.encode(covered))
    temporary.replace(state / MANIFEST)
    return written


def metrics_log(loaded: "Loaded", report: Callable[[str], None]) -> "MetricsLog":
    """The store, for one who writes to it and remembers nothing: what stands in it, in rotated files and in Parquet is not written again."""
    from agentwatch.logger import append
    from agentwatch.store.metrics_log import NAME, MetricsLog

    log_dir = Path(os.path.realpath(loaded.settings.logs.dir))
    return MetricsLog(log_dir / NAME, None, append, lambda: store.rotated(log_dir, report, loaded.settings.report.history))


def compact(loaded: "Loaded", now: datetime, report: Callable[[str], None]) -> tuple[int, str]:
    """Store the sessions of all finished days (UTC) as Parquet; how many, and where. Raises StorageError, and OSError where it cannot be noted.

    No file of the store is touched. What is in Parquet already stays in it, whether its file is still there or not.
    """
    from tempfile import gettempdir

    from agentwatch.store import parquet
    from agentwatch.store.spill import Packed, Spill

    log_dir = Path(os.path.realpath(loaded.settings.logs.dir))
    wanted = loaded.settings.report.history.rstrip("/") or os.fspath(log_dir / "history")
    location = wanted if parquet.is_remote(wanted) else os.fspath(Path(wanted).expanduser().absolute())
    done = store.compacted(log_dir)
    paths = [path for path in store.files(log_dir, store.METRICS) if path != log_dir / f"{store.METRICS}.jsonl"]
    states = {path.name: state for path in paths if (state := store.state_of(path)) is not None}
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with store.lines(log_dir, None, report, location, needs_parquet=True) as lines, Spill(Path(gettempdir())) as spill:
        for place, rows in enumerate(store.understood(lines, report)):
            packed = Packed()
            packed.add(rows)
            spill.add(packed, place)
        number = parquet.write(location, spill.joined(APART, midnight))
    if number:
        store.note_compacted(log_dir, store.Compacted(location, {**done.files, **states}))
    return number, location


def _caught_up(loaded: "Loaded", environ: Mapping[str, str], home: Path | None, saved: "Checkpoint", progress: "Progress") -> Snapshot:
    """The state of a daemon that is not running, after what was written since it ended."""
    from agentwatch.apps import scan, setup
    from agentwatch.apps.daemon import look_ahead
    from agentwatch.apps.pipeline import Pipeline
    from agentwatch.apps.wholes import Wholes, is_line
    from agentwatch.pricing import Prices

    pipeline = Pipeline(saved, setup.limits(loaded), Prices(), lambda _: None)
    tailer = setup.tailer(loaded, environ, home, [cursor for cursor in saved.cursors if is_line(cursor)], pipeline.fault)
    try:
        for _ in tailer.sweep():
            pass
        look_ahead(pipeline, tailer)
        total, done = sum(max(0, file.size - file.stream.cursor.offset) for file in tailer.files() if file.stream is not None), 0
        while tailer.is_behind:
            work = tailer.turn()
            if work is not None:
                done += work.turn.end - work.turn.offset
                pipeline.process(work, tailer, scan.Nowhere())
                progress(done, max(total, done))
            tailer.settle()
        wholes = Wholes(loaded, environ, home, [cursor for cursor in saved.cursors if not is_line(cursor)], pipeline.fault)
        wholes.look_at_everything()
        while wholes.turn(pipeline, scan.Nowhere()) is not None:
            pass
    finally:
        tailer.close()
    pipeline.engine.tick(datetime.now(UTC), [])
    return pipeline.engine.snapshot()


def _scanned(
    loaded: "Loaded", environ: Mapping[str, str], home: Path | None, state: Path, since: datetime, progress: "Progress"
) -> tuple[list[Row], list[str]]:
    """What stands in logs that no rebuild has read as they are now. All files of a changed source are read: a session may lie in several."""
    from agentwatch.apps import scan

    problems: list[str] = []
    seen = scan.files(loaded, environ, home, since, problems.append)
    try:
        covered = msgspec.json.decode((state / MANIFEST).read_bytes(), type=Covered).files
    except (OSError, msgspec.MsgspecError):
        covered = {}
    changed = {(one.place.scope, one.source) for one in seen if covered.get(one.path) != (one.stat.st_ino, one.stat.st_size)}
    rows, unread = scan.scan_rows(loaded, [one for one in seen if (one.place.scope, one.source) in changed], progress)
    return [*rows, *scan.scan_wholes(loaded, environ, home)], [*problems, *unread]


def _alerts(log_dir: Path, since: datetime) -> list[AlertMark]:
    found = []
    for alert in read(log_dir, since=since):
        at = moment(alert)
        if at is not None:
            found.append(AlertMark(at, str(alert["type"]), str(alert.get("attempt_id", "")), str(alert.get("status", "open"))))
    return found


def _errors_apart(log_dir: Path, rows: list[Row], since: datetime, problems: list[str]) -> Iterator[LostError]:
    """The logger's copies of errors, for sessions whose rows do not tell theirs: into those rows, and what belongs to no row by itself.

    Where every row tells its errors the copies say nothing new, and stay closed.
    """
    told: dict[str, list[Row]] = {}
    for row in rows:
        told.setdefault(row.attempt_id, []).append(row)
    for error in store.errors(log_dir, since, problems.append):
        candidates = told.get(error.attempt_id)
        cluster = cluster_of(error.fingerprint, error.message, error.category)
        if candidates is None:
            who = (error.message, error.category, error.task_id, error.task_title, error.executor, error.model, error.run_id)
            yield LostError(error.attempt_id, cluster, error.timestamp, *who)
            continue
        row = next((row for row in candidates if error.timestamp is None or error.timestamp <= row.timestamp), candidates[-1])
        if not _tells_errors(row):
            _note(row, error, cluster)


def _tells_errors(row: Row) -> bool:
    """Whether its row says all of its errors: that of a watcher, or of a logger that says when the session began."""
    return row.started_at is not None


def _note(row: Row, error: store.ErrorLine, cluster: str) -> None:
    summary = row.error_summary = row.error_summary or ErrorSummary()
    known = next((kind for kind in summary.kinds if kind.cluster == cluster), None)
    if known is None:
        summary.kinds.append(ErrorKind(cluster, 1, error.message, error.category, error.timestamp, error.timestamp))
    else:
        known.count += 1
        known.last_seen = error.timestamp or known.last_seen
    summary.total_errors = row.metrics.errors = max(row.metrics.errors, sum(kind.count for kind in summary.kinds))
