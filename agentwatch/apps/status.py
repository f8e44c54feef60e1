"""`agentwatch status`: how the daemon of a log directory is doing. Only looks; nothing is made, moved or waited for."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from agentwatch import checkpoint
from agentwatch.apps.holder import STATE_DIR, holder_of
from agentwatch.checkpoint import STATUS, Status
from agentwatch.core.alerts import span
from agentwatch.formats.registry import CONTAINERS
from agentwatch.model import Cursor
from agentwatch.ui.page import Block, Table, Word, para

MOST_FILES, MOST_FAULTS = 20, 20


class WatchedFile(msgspec.Struct, omit_defaults=True):
    """A file that is read, and how far. `lag_bytes` may count the half line that its writer has not ended yet.

    Of a document that is rewritten whole, a folder or a database, `offset` is the size that it had when it was read last, and `elements`
    how far it was read then: so many elements or files, or up to the row of that id.
    """

    path: str
    format: str | None
    size: int
    offset: int
    lag_bytes: int
    elements: int | None = None


class CountedFault(msgspec.Struct):
    """What went wrong without stopping the daemon: how often, and where the first stood."""

    path: str
    offset: int
    kind: str
    count: int
    detail: str


class Inotify(msgspec.Struct):
    """Whether the kernel tells of changes. Where it does not they are found by sweeps, a second to half a minute later."""

    ok: bool
    detail: str


class Health(msgspec.Struct, kw_only=True):
    """As `status --json` has it (contract, section 6). `unknown` counts lines of unknown kinds by format and kind; `strange` says for which formats they are too many. `problem` says why the saved state cannot be shown, if it cannot.

    `events_per_s` is the mean of the last minute; `last_event_at` is None where the running daemon has seen no event yet.
    """

    running: bool
    pid: int | None
    started_at: datetime | None
    files: list[WatchedFile]
    attempts_live: int
    events_total: int
    events_per_s: float
    last_event_at: datetime | None
    alerts: dict[str, int]
    faults: list[CountedFault]
    unknown: dict[str, dict[str, int]]
    strange: dict[str, str]
    inotify: Inotify
    saved_at: datetime | None
    problem: str | None
    log_dir: str


def look(log_dir: Path) -> Health:
    """What is known of the daemon that watches `log_dir`, whether it runs or not. Raises StorageError where this user may not look."""
    log_dir = Path(os.path.realpath(log_dir))
    state = log_dir / STATE_DIR
    pid = holder_of(state)
    saved, problem = checkpoint.read(state)
    if problem is not None:
        problem = f"the checkpoint is not shown ({problem})"
    written_at = _mtime(state / checkpoint.NAME)
    live = _live(state, pid)
    saved = saved or checkpoint.Checkpoint()
    attempts = sum(len(scope.sessions) for scope in saved.engine.scopes.values())
    return Health(
        running=pid is not None,
        pid=pid,
        started_at=live.started_at if live else None,
        files=[file for cursor in saved.cursors if (file := _file(cursor)) is not None],
        attempts_live=live.attempts_live if live else attempts,
        events_total=saved.events,
        events_per_s=live.events_per_s if live else 0.0,
        last_event_at=live.last_event_at if live else None,
        alerts=saved.alerts_by_type,
        faults=[CountedFault(one.fault.path, one.fault.offset, one.fault.kind, one.count, one.fault.detail) for one in saved.faults],
        unknown={name: reading.unknown for name, reading in saved.formats.items() if reading.unknown},
        strange={name: said for name, reading in saved.formats.items() if (said := reading.problem())},
        inotify=Inotify(live.inotify_ok, live.inotify_detail) if live else Inotify(ok=False, detail="no daemon says so"),
        saved_at=datetime.fromtimestamp(written_at, UTC) if written_at is not None else None,
        problem=problem,
        log_dir=str(log_dir),
    )


def page(health: Health) -> Iterable[Block]:
    """`health` for people, the important first."""
    if health.running:
        since = f", since {span(datetime.now(UTC) - health.started_at)}" if health.started_at else ""
        yield para(Word("running", "good"), f"  pid {health.pid or 'unknown'}{since}, watches {health.log_dir}")
    else:
        yield para(Word("not running", "bad"), f"  nothing watches {health.log_dir}; start it with `agentwatch run`")
        if health.saved_at:
            yield para(Word(f"what was known {span(datetime.now(UTC) - health.saved_at)} ago:", "dim"))
    if health.problem:
        yield para(Word("state unknown", "bad"), f"  {health.problem}; `agentwatch doctor` says what to do")
    yield para(f"attempts live {health.attempts_live:,}   events {health.events_total:,}{_pace(health)}   files {len(health.files):,}")
    if health.running:
        how = Word("works", "good") if health.inotify.ok else Word(f"does not work: {health.inotify.detail}; changes are found by sweeps", "warn")
        yield para("inotify ", how)
    yield from _alerts(health.alerts)
    yield from _files(health)
    yield from _unknown(health)
    yield from _faults(health.faults)


def _pace(health: Health) -> str:
    """How much of the last minute was busy, and when it was over."""
    if health.last_event_at is None:
        return ""
    rate = f"{health.events_per_s:,.0f} a second" if health.events_per_s >= 1 else f"{60 * health.events_per_s:,.0f} a minute"
    ago = span(max(datetime.now(UTC) - health.last_event_at, timedelta()))
    return f" ({rate if health.events_per_s else 'none in the last minute'}, the last {ago} ago)"


def _alerts(alerts: dict[str, int]) -> Iterable[Block]:
    if not alerts:
        yield para("no alerts")
        return
    yield para()
    yield Table(("alert", ">count"), [(Word(kind), Word(f"{count:,}")) for kind, count in sorted(alerts.items(), key=lambda one: -one[1])])


def _files(health: Health) -> Iterable[Block]:
    if not health.files:
        return
    files = sorted(health.files, key=lambda file: (file.lag_bytes, file.size), reverse=True)
    home, log_dir = str(Path.home()), f"{health.log_dir}/"
    rows = [
        (
            Word(f"{file.lag_bytes:,}", "warn" if file.lag_bytes else ""),
            Word(f"{file.size:,}"),
            Word(file.format or "unknown", "" if file.format else "warn"),
            Word(file.path.removeprefix(log_dir).replace(f"{home}/", "~/", 1) + ("" if file.elements is None else f", read to {file.elements:,}")),
        )
        for file in files[:MOST_FILES]
    ]
    yield para()
    yield Table((">unread bytes", ">size", "format", "file"), rows)
    if len(files) > MOST_FILES:
        yield para(Word(f"and {len(files) - MOST_FILES:,} more files: `agentwatch status --json` has them all", "dim"), indent=2)


def _unknown(health: Health) -> Iterable[Block]:
    """Lines of kinds that nobody knows. A few are no fault: agents add kinds with every release."""
    if health.unknown:
        rows = [(name, kind, count) for name, kinds in health.unknown.items() for kind, count in kinds.items()]
        rows.sort(key=lambda row: -row[2])
        yield para()
        yield Table((">lines", "of an unknown kind", "format"), [(Word(f"{count:,}"), Word(kind), Word(name)) for name, kind, count in rows[:MOST_FAULTS]])
    for name, said in health.strange.items():
        yield para(Word(name, "bad"), f"  {said}")


def _faults(faults: list[CountedFault]) -> Iterable[Block]:
    if not faults:
        return
    worst = sorted(faults, key=lambda fault: -fault.count)
    yield para()
    yield Table(
        (">count", "fault", "first at"),
        [(Word(f"{fault.count:,}"), Word(fault.kind, "warn"), Word(f"{fault.path}, byte {fault.offset} {fault.detail}")) for fault in worst[:MOST_FAULTS]],
    )
    if len(worst) > MOST_FAULTS:
        yield para(Word(f"and {len(worst) - MOST_FAULTS:,} more kinds of faults: `agentwatch status --json` has them all", "dim"), indent=2)


def _live(state: Path, holder: int | None) -> Status | None:
    """What the running process says of itself; None where what lies there is another's."""
    try:
        status = msgspec.json.decode((state / STATUS).read_bytes(), type=Status)
    except (OSError, msgspec.MsgspecError):
        return None
    return status if holder == status.pid else None


def _file(cursor: Cursor) -> WatchedFile | None:
    """None for what is not there any more, and for archives: they are read once, and their size says nothing of what is left."""
    if cursor.path.endswith(".gz"):
        return None
    try:
        stat = Path(cursor.path).stat(follow_symlinks=False)
    except OSError:
        return None
    if stat.st_ino != cursor.inode:
        return None
    elements, offset = (cursor.offset, cursor.size) if cursor.format in CONTAINERS else (None, cursor.offset)
    return WatchedFile(cursor.path, cursor.format, stat.st_size, offset, max(0, stat.st_size - offset), elements)


def _mtime(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
