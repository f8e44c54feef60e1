"""`agentwatch rotate`, and what the daemon does by itself once an hour."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from agentwatch import checkpoint
from agentwatch.apps.holder import STATE_DIR
from agentwatch.settings import Settings
from agentwatch.store.rotation import Action, Rotation, Rules
from agentwatch.ui.page import Block, Style, Table, Word, para

STYLE: dict[str, Style] = {"deleted": "warn", "left": "dim"}


def rotate(settings: Settings, now: datetime, *, dry_run: bool = False) -> Iterator[Action]:
    """One pass, told step by step. Nothing where another process is at it already."""
    log_dir = Path(os.path.realpath(settings.logs.dir))
    state = log_dir / STATE_DIR
    if not log_dir.is_dir():
        return
    retention = settings.retention
    rules = Rules(
        stream_bytes=int(retention.stream_mb * 1e6),
        daily=retention.daily,
        errors=timedelta(days=retention.errors_days),
        archives=timedelta(days=retention.archive_days),
        sessions=retention.sessions,
        runs=timedelta(hours=settings.runs.ttl_h),
    )
    held = None if dry_run else _lock(log_dir)
    if held is None and not dry_run:
        yield Action("left", ".", "another process is rotating")
        return
    try:
        yield from Rotation(log_dir, rules, read_so_far(state) or {}, now, dry_run=dry_run).run()
    finally:
        if held is not None:
            os.close(held)


def _lock(log_dir: Path) -> int | None:
    """Hold the directory itself, which is there without a daemon too; None where another process has it."""
    fd = os.open(log_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def read_so_far(state: Path) -> dict[tuple[int, int], int] | None:
    """How far the daemon's checkpoint says that each file was read: it may have read more since, never less. None where there is no checkpoint."""
    saved, _ = checkpoint.read(state) if state.is_dir() else (None, None)
    return {(cursor.device, cursor.inode): cursor.offset for cursor in saved.cursors} if saved is not None else None


def page(actions: Iterable[Action], *, dry_run: bool) -> Iterable[Block]:
    """What was done, for people."""
    rows = [
        (Word(one.what, STYLE.get(one.what, "")), Word(one.path), Word(f"{one.bytes / 1e6:,.1f} MB" if one.bytes else ""), Word(one.why, "dim"))
        for one in actions
    ]
    if not rows:
        yield para("nothing to rotate")
        return
    if dry_run:
        yield para("this would be done:")
    yield Table(("", "file", ">size", ""), rows, indent=0)
