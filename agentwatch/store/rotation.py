"""Rotation and retention of what the logger and the daemon write: rename and create, compress what is quiet and read, delete what is old.

Never touches what others write (transcripts of agents, logs of programs), never shortens a file in place, never deletes what the
daemon has not read, and nothing without a line about it.
"""

import gzip
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from agentwatch.core.runs import RUNS
from agentwatch.model import Time
from agentwatch.store import runs
from agentwatch.store.history import ARCHIVE
from agentwatch.store.runs import Read

STREAM, ERRORS, METRICS = "agent-work-stream", "agent-errors", "agent-metrics"
SESSIONS = "agent-sessions"
QUIET = timedelta(hours=1)
"""Who still has a renamed file open may write to it: it is compressed when nobody has for so long."""

LEAST_DAILY_BYTES = 10_000_000
"""A smaller stream of yesterday is not worth a file of its own."""

PART = ".part"
FIRST_LINE_BYTES = 64 << 10


class Rules(NamedTuple):
    """How much is kept."""

    stream_bytes: int
    daily: bool
    errors: timedelta
    archives: timedelta
    sessions: int
    runs: timedelta


class Action(msgspec.Struct, frozen=True):
    """What was done, or would be, to which file (relative to the log directory), and why. `left` says why something was not done."""

    what: Literal["renamed", "compressed", "deleted", "left"]
    path: str
    why: str
    bytes: int = 0


class _Stamped(msgspec.Struct):
    timestamp: Time


_decode = msgspec.json.Decoder(_Stamped).decode


class Rotation:
    """One pass over a log directory. `read` says what the daemon has read; with `dry_run` nothing is changed, and everything is told."""

    def __init__(self, log_dir: Path, rules: Rules, read: Read, now: datetime, *, dry_run: bool) -> None:
        self._dir = log_dir
        self._archive = log_dir / ARCHIVE
        self._rules = rules
        self._read = read
        self._now = now
        self._dry_run = dry_run

    def run(self) -> Iterator[Action]:
        """Do it, and say what was done, step by step. A file that cannot be dealt with is told as `left`."""
        self._forget_parts()
        for step in (
            self._rotate_stream,
            self._rotate_errors,
            self._rotate_metrics,
            self._compress,
            self._expire_archives,
            self._expire_sessions,
            self._expire_runs,
        ):
            try:
                yield from step()
            except OSError as error:
                path = str(error.filename or self._dir)
                yield Action("left", path.removeprefix(f"{self._dir}/"), error.strerror or str(error))

    def _forget_parts(self) -> None:
        """What a pass that was killed left half made."""
        if not self._dry_run and self._archive.is_dir():
            for path in self._archive.glob(f"*{PART}"):
                path.unlink(missing_ok=True)

    def _rotate_stream(self) -> Iterator[Action]:
        path = self._dir / f"{STREAM}.jsonl"
        size = _size(path)
        if size >= self._rules.stream_bytes:
            yield self._rename(path, size, f"it has {size / 1e6:,.0f} MB")
        elif self._rules.daily and size >= LEAST_DAILY_BYTES and (begun := _first_time(path)) is not None and begun.date() < self._now.date():
            yield self._rename(path, size, f"it began on {begun:%Y-%m-%d}")

    def _rotate_errors(self) -> Iterator[Action]:
        path = self._dir / f"{ERRORS}.jsonl"
        if (begun := _first_time(path)) is not None and _month(begun) < _month(self._now):
            yield self._rename(path, _size(path), f"it began in {begun:%Y-%m}")

    def _rotate_metrics(self) -> Iterator[Action]:
        path = self._dir / f"{METRICS}.jsonl"
        if (begun := _first_time(path)) is not None and _month(begun) < _month(self._now):
            yield self._rename(path, _size(path), f"it began in {begun:%Y-%m}")

    def _rename(self, path: Path, size: int, why: str) -> Action:
        """A new name for the old file, and an empty one in its place, as if the writer had made it."""
        stamp = f"{self._now:%Y%m%dT%H%M%S}"
        target = path.with_name(f"{path.stem}-{stamp}.jsonl")
        if target.exists():
            return Action("left", path.name, f"`{target.name}` is there already")
        if not self._dry_run:
            mode = path.stat().st_mode & 0o777
            path.rename(target)
            with suppress(FileExistsError):  # a writer was quicker
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
        return Action("renamed", path.name, f"{why}: now {target.name}", size)

    def _compress(self) -> Iterator[Action]:
        """What was renamed, is quiet and has been read goes into the archive."""
        for stem in (STREAM, ERRORS, METRICS):
            for path in sorted({*self._dir.glob(f"{stem}-2*.jsonl"), *self._dir.glob(f"{stem}.jsonl.[0-9]*"), *self._dir.glob(f"{stem}.jsonl-2*")}):
                if path.suffix == ".gz" or path.is_symlink() or not path.is_file():
                    continue
                stat = path.stat()
                if self._now - datetime.fromtimestamp(stat.st_mtime, UTC) < QUIET:
                    yield Action("left", path.name, "written within the last hour: somebody may still have it open", stat.st_size)
                elif stem == STREAM and not self._is_read(stat):
                    yield Action("left", path.name, "the daemon has not read all of it", stat.st_size)
                else:
                    yield self._pack(path, stat)

    def _pack(self, path: Path, stat: os.stat_result) -> Action:
        target = self._archive / f"{path.name}.gz"
        if target.exists():
            if not _holds(target, path):
                return Action("left", path.name, f"another `{ARCHIVE}/{target.name}` is there already", stat.st_size)
            if not self._dry_run:
                path.unlink()  # a pass was killed before it came to that
            return Action("compressed", path.name, f"it stands in {ARCHIVE}/{target.name}", stat.st_size)
        if self._dry_run:
            return Action("compressed", path.name, f"now {ARCHIVE}/{target.name}", stat.st_size)
        self._archive.mkdir(0o700, exist_ok=True)
        part = target.with_name(f"{target.name}{PART}")
        with path.open("rb") as source, part.open("xb") as packed:
            with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=int(stat.st_mtime), filename=path.name) as out:
                shutil.copyfileobj(source, out, 1 << 20)
            packed.flush()
            os.fsync(packed.fileno())
            after = os.fstat(source.fileno())
        if (after.st_size, after.st_mtime_ns) != (stat.st_size, stat.st_mtime_ns):
            part.unlink()
            return Action("left", path.name, "it was written to while it was compressed", after.st_size)
        os.utime(part, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
        part.rename(target)
        path.unlink()
        return Action("compressed", path.name, f"now {ARCHIVE}/{target.name}", stat.st_size)

    def _expire_archives(self) -> Iterator[Action]:
        for path in sorted(self._archive.glob("*")) if self._archive.is_dir() else ():
            if path.is_symlink() or not path.is_file() or path.name.startswith(f"{METRICS}"):
                continue
            age = self._age(path)
            limit = self._rules.errors if path.name.startswith(ERRORS) else self._rules.archives
            if age > limit:
                yield self._delete(path, f"{age.days} days old; {limit.days} are kept")

    def _expire_sessions(self) -> Iterator[Action]:
        """The logger's copies, one file an attempt: their events are in the stream."""
        directory = self._dir / SESSIONS
        found = [(path.stat().st_mtime, path) for path in directory.glob("*.jsonl") if path.is_file() and not path.is_symlink()] if directory.is_dir() else []
        for _, path in sorted(found, reverse=True)[self._rules.sessions :]:
            if self._age(path) >= QUIET:
                yield self._delete(path, f"the {self._rules.sessions} newest are kept")

    def _expire_runs(self) -> Iterator[Action]:
        yield from expire_runs(self._dir, self._rules.runs, self._read, self._now, dry_run=self._dry_run)

    def _delete(self, path: Path, why: str) -> Action:
        size = path.stat().st_size
        if not self._dry_run:
            path.unlink()
        return Action("deleted", str(path.relative_to(self._dir)), why, size)

    def _is_read(self, stat: os.stat_result) -> bool:
        return stat.st_size == 0 or self._read.get((stat.st_dev, stat.st_ino), -1) >= stat.st_size

    def _age(self, path: Path) -> timedelta:
        return self._now - datetime.fromtimestamp(path.lstat().st_mtime, UTC)


def expire_runs(log_dir: Path, kept: timedelta, read: Read | None, now: datetime, *, dry_run: bool = False) -> Iterator[Action]:
    """Delete the runs in which nothing was written for so long, that nobody uses, and of which everything was read; the latest stays.

    `read` is None where nobody reads. Raises StorageError where `runs` cannot be looked at.
    """
    latest = runs.latest(log_dir)
    for run_id in sorted(runs.ids(log_dir)):
        run = runs.look(log_dir, run_id) if run_id != latest else None
        if run is not None and now - run.written_at > kept:
            yield _expire_run(log_dir, run, kept, read, now, dry_run=dry_run)


def _expire_run(log_dir: Path, run: runs.Run, kept: timedelta, read: Read | None, now: datetime, *, dry_run: bool) -> Action:
    name = f"{RUNS}/{run.run_id}"
    if (use := runs.use_of(run, now)) is not None:
        return Action("left", name, use)
    if read is not None and (log := runs.unread(run, read)) is not None:
        return Action("left", name, f"the daemon has not read all of `{log}`")
    try:
        if not dry_run and not runs.remove(log_dir, run):
            return Action("left", name, "somebody asks about it")
    except OSError as error:
        return Action("left", name, error.strerror or str(error))
    hours = (now - run.written_at).total_seconds() / 3600
    return Action("deleted", name, f"nothing was written to it for {hours:,.0f} hours; a run is kept for {kept.total_seconds() / 3600:g}", run.bytes)


def _holds(archive: Path, path: Path) -> bool:
    """Whether the archive is all of the file."""
    try:
        with gzip.open(archive, "rb") as packed, path.open("rb") as plain:
            while piece := plain.read(1 << 20):
                if packed.read(len(piece)) != piece:
                    return False
            return not packed.read(1)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() and not path.is_symlink() else 0
    except OSError:
        return 0


def _month(at: datetime) -> tuple[int, int]:
    return at.year, at.month


def _first_time(path: Path) -> datetime | None:
    """When the first line of a file was written, as it says itself; None of an empty file and of one that does not say."""
    if not _size(path):
        return None
    with path.open("rb") as file:
        line = file.readline(FIRST_LINE_BYTES)
    try:
        return _decode(line.removeprefix(b"\xef\xbb\xbf").lstrip(b"\0")).timestamp.astimezone(UTC)
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError):
        return None
