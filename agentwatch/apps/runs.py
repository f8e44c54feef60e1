"""`agentwatch runs`: makes, lists and clears the directories that hold the logs of one run each."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath

import msgspec

from agentwatch.apps.alerts import read, run_of
from agentwatch.apps.holder import STATE_DIR, holder_of
from agentwatch.apps.rotate import read_so_far
from agentwatch.core.alerts import span
from agentwatch.core.runs import CALLBACK, RUNS
from agentwatch.errors import AgentwatchError, UnknownNameError, UsageError
from agentwatch.settings import WEB_ADDRESS, Loaded, Settings
from agentwatch.sources.tree import is_output, source_of
from agentwatch.store import runs
from agentwatch.store.issues import NAME as ISSUES
from agentwatch.store.issues import IssueStore
from agentwatch.store.rotation import Action, expire_runs
from agentwatch.ui.page import Block, Table, Word, para


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run as `runs list --json` has it. `sources` are its logs without their endings, `alerts` the incidents that began in it.

    `expires_at` is when it may be cleared if nothing more is written; None for the latest, which stays.
    """

    run_id: str
    is_latest: bool
    begun_at: datetime
    written_at: datetime
    age_ms: int
    expires_at: datetime | None
    bytes: int
    sources: tuple[str, ...]
    issues: int
    alerts: int
    has_callback: bool


def new(loaded: Loaded, now: datetime, *, name: str | None = None, callback: str | None = None) -> str:
    """Make a run, which is the latest from now on; its id. Raises UsageError for a name or an address that cannot be used, and StorageError."""
    if callback is not None:
        callback = callback.strip()
        if len(callback) > runs.LONGEST_ADDRESS or not re.fullmatch(WEB_ADDRESS, callback) or not callback.isprintable():
            raise UsageError(
                f"`--callback {callback[:100]}` is no address that alerts can be posted to", hint="give it as in https://example.org/hooks/7, without a user"
            )
    return runs.new(loaded.settings.logs.dir, now, name=name, callback=callback)


def listing(settings: Settings, now: datetime) -> list[RunRow]:
    """All runs, the one that began last standing last. Raises StorageError where the directories or the alerts cannot be read."""
    log_dir = settings.logs.dir
    latest = runs.latest(log_dir)
    alerts = Counter(run_of(alert) for alert in read(log_dir) if alert.get("status", "open") == "open")
    issues = issue_counts(log_dir)
    found = filter(None, (runs.look(log_dir, run_id) for run_id in runs.ids(log_dir)))
    ttl = timedelta(hours=settings.runs.ttl_h)
    return [
        RunRow(
            run_id=run.run_id,
            is_latest=run.run_id == latest,
            begun_at=run.begun_at,
            written_at=run.written_at,
            age_ms=max(0, int((now - run.begun_at).total_seconds() * 1000)),
            expires_at=_later(run.written_at, ttl) if run.run_id != latest else None,
            bytes=run.bytes,
            sources=sources(run),
            issues=issues.get(run.run_id, 0),
            alerts=alerts[run.run_id],
            has_callback=os.path.lexists(run.path / CALLBACK),
        )
        for run in sorted(found, key=lambda one: (one.begun_at, one.run_id == latest, one.run_id))
    ]


def issue_counts(log_dir: Path) -> dict[str | None, int]:
    """How many issues each run has; none where no daemon has counted any, or where that cannot be read."""
    store = IssueStore(log_dir / STATE_DIR / ISSUES, read_only=True)
    try:
        return store.runs()
    except AgentwatchError:
        return {}
    finally:
        store.close()


def sources(run: runs.Run) -> tuple[str, ...]:
    """The sources of a run: its logs by their names without endings, rotated ones with those that they come from."""
    found = set()
    for file in run.files:
        folder, _, name = file.rpartition("/")
        named = None if is_output(name) else source_of(name)
        if named is not None:
            found.add(str(PurePosixPath(folder) / PurePosixPath(named[0]).stem))
    return tuple(sorted(found))


def clear(loaded: Loaded, run: str, environ: Mapping[str, str], now: datetime, *, force: bool = False) -> Action:
    """Remove one run. Raises UnknownNameError where it is not there and, without `force`, AgentwatchError where it is in use or not read yet."""
    log_dir = loaded.settings.logs.dir
    run_id = runs.find(log_dir, run, environ)
    found = runs.look(log_dir, run_id) if run_id is not None else None
    if found is None:
        raise UnknownNameError(f"there is no run `{run}` in {log_dir}", hint="see `agentwatch runs list`")
    if not force and (reason := _reason_to_wait(log_dir, found, now)) is not None:
        raise AgentwatchError(f"run `{run_id}` is not cleared: {reason}", hint="wait until that is over, or add `--force`")
    if not runs.remove(log_dir, found):
        raise AgentwatchError(f"run `{run_id}` is not cleared: another agentwatch reads it", hint="try again when that has answered")
    return Action("deleted", f"{RUNS}/{run_id}", "asked for", found.bytes)


def clear_expired(loaded: Loaded, now: datetime) -> Iterator[Action]:
    """Remove the runs that are older than the settings say, as the daemon does once an hour; what stays, and why, is told too."""
    log_dir = loaded.settings.logs.dir
    state = log_dir / STATE_DIR
    yield from expire_runs(log_dir, timedelta(hours=loaded.settings.runs.ttl_h), read_so_far(state), now)


def clear_all(loaded: Loaded, environ: Mapping[str, str], now: datetime, *, force: bool = False) -> Iterator[Action]:
    """Remove every run that can be; what stays, and why, is told too."""
    for run_id in sorted(runs.ids(loaded.settings.logs.dir)):
        try:
            yield clear(loaded, run_id, environ, now, force=force)
        except (AgentwatchError, OSError) as error:
            yield Action("left", f"{RUNS}/{run_id}", str(error).rpartition("is not cleared: ")[2])


def _reason_to_wait(log_dir: Path, run: runs.Run, now: datetime) -> str | None:
    if (use := runs.use_of(run, now)) is not None:
        return use
    state = log_dir / STATE_DIR
    read = read_so_far(state) if holder_of(state) is not None else None
    log = runs.unread(run, read) if read is not None else None
    return f"the daemon has not read all of `{log}`" if log is not None else None


def _later(at: datetime, by: timedelta) -> datetime | None:
    try:
        return at + by
    except OverflowError:
        return None


def page(rows: Iterable[RunRow], now: datetime) -> Iterable[Block]:
    """The runs, for people."""
    found = [
        (
            Word(row.run_id, "title" if row.is_latest else ""),
            Word("latest" if row.is_latest else "", "good"),
            Word(span(timedelta(milliseconds=row.age_ms))),
            Word(f"{span(max(now - row.written_at, timedelta()))} ago"),
            Word(f"{row.bytes / 1e6:,.1f} MB"),
            Word(f"{row.issues:,}", "warn" if row.issues else "dim"),
            Word(f"{row.alerts:,}", "bad" if row.alerts else "dim"),
            Word(", ".join(row.sources)),
        )
        for row in rows
    ]
    if not found:
        yield para("no runs; make one with `agentwatch runs new`")
        return
    yield Table(("run", "", ">age", ">written", ">size", ">issues", ">alerts", "sources"), found, indent=0)


def cleared(actions: Iterable[Action]) -> Iterable[Block]:
    """What was removed and what stays, for people."""
    for one in actions:
        size = f"  {one.bytes / 1e6:,.1f} MB" if one.bytes else ""
        yield para(
            Word(one.what, "warn" if one.what == "deleted" else "dim"), f"  {one.path}{size}", Word("" if one.why == "asked for" else f"  {one.why}", "dim")
        )
