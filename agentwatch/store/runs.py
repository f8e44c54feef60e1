"""The directories of runs: the one place that makes, finds and removes them, and moves `runs/latest`.

A log directory is written by many: everything here keeps to real directories below a real `runs/`, and follows no link but `latest`, of
which only the name that it holds is taken. A run is in use while a process has a file of it open to write, while one of ours reads it
(`asking`), or was written to within the last seconds: such a run is not removed.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_ISDIR
from typing import NamedTuple

from agentwatch.core.runs import CALLBACK, LATEST, LONGEST_NAME, RUNS, VARIABLE, begun_at, id_for, is_run_id, is_run_name
from agentwatch.errors import StorageError, UnknownNameError, UsageError

SETTLED = timedelta(seconds=10)
"""A program that opens its log for each line has no file open between two of them."""

MOST_TRIES = 1000
LONGEST_ADDRESS = 2048
"""Bytes of a callback's address."""

Read = Mapping[tuple[int, int], int]
"""How far the daemon has read each file, by device and inode."""

_LOG = re.compile(r".+\.(?:jsonl|ndjson|log)(?:[.-]\d[\d_T-]*)?")
_REST_BYTES = 8 << 20


class Run(NamedTuple):
    """What a look at a run's directory says. `files` are paths relative to it; `written_at` is the newest change of any of them."""

    run_id: str
    path: Path
    begun_at: datetime
    written_at: datetime
    bytes: int
    files: tuple[str, ...]


def new(log_dir: Path, now: datetime, *, name: str | None = None, callback: str | None = None) -> str:
    """Make a run's directory, for its owner alone, have `runs/latest` lead to it, and give its id. `callback` must have been judged.

    Raises UsageError for a name that cannot be part of an id, and StorageError where the directory or the link cannot be made.
    """
    if name is not None and not is_run_name(name):
        raise UsageError(
            f"`--name {name}` cannot be part of a run's id", hint=f"give up to {LONGEST_NAME} letters, digits, dots, dashes and underscores, the first no dot"
        )
    runs = log_dir / RUNS
    try:
        runs.mkdir(parents=True, exist_ok=True)
        _refuse_link(runs)
        run_id = _make(runs, id_for(now, name or os.urandom(3).hex()))
        if callback is not None:
            _write_callback(runs / run_id, callback)
        _lead(runs, run_id)
    except OSError as error:
        raise StorageError(f"cannot make a run in `{runs}`: {error.strerror or error}", hint="choose another directory with `--log-dir`") from error
    return run_id


def resolve(log_dir: Path, run: str | None, environ: Mapping[str, str]) -> str | None:
    """The id of the run that is meant: `latest` is the one that the link leads to, None the one that AGENTWATCH_RUN names, if any.

    A name that has no directory is one, too: of a run only alerts and figures may be left. Raises UnknownNameError where there is no latest.
    """
    named = run if run is not None else environ.get(VARIABLE)
    if named != LATEST:
        return named or None
    found = latest(log_dir)
    if found is None:
        raise UnknownNameError(f"there is no run in `{log_dir}`{_origin(run)}", hint="make one with `agentwatch runs new`, or name one by its id")
    return found


def find(log_dir: Path, run: str | None, environ: Mapping[str, str]) -> str | None:
    """As `resolve`, for those who need the run's logs: raises UsageError for what cannot be a directory's name, and UnknownNameError where there is none."""
    run_id = resolve(log_dir, run, environ)
    if run_id is None:
        return None
    if not is_run_id(run_id):
        raise UsageError(f"`{run_id}` cannot be a run's id{_origin(run)}", hint="see `agentwatch runs list`")
    if _is_directory(log_dir / RUNS / run_id):
        return run_id
    there = sorted(ids(log_dir))[-5:]
    raise UnknownNameError(
        f"there is no run `{run_id}` in {log_dir}{_origin(run)}", hint=f"the newest are {', '.join(there)}" if there else "there are no runs yet"
    )


def _origin(run: str | None) -> str:
    return f" (from {VARIABLE})" if run is None else ""


def latest(log_dir: Path) -> str | None:
    """The run that `runs/latest` names; of a link that leads elsewhere its last part. It may be gone."""
    try:
        name = (log_dir / RUNS / LATEST).readlink().name
    except OSError:
        return None
    return name if is_run_id(name) else None


def ids(log_dir: Path) -> list[str]:
    """The runs that have a directory, in no order. Raises StorageError where `runs` cannot be read."""
    runs = log_dir / RUNS
    try:
        with os.scandir(runs) as entries:
            return [entry.name for entry in entries if is_run_id(entry.name) and entry.is_dir(follow_symlinks=False)] if _is_directory(runs) else []
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot read `{runs}`: {error.strerror}", hint="ask as the user who runs the daemon") from error


def look(log_dir: Path, run_id: str) -> Run | None:
    """What there is of a run now; None where it has no directory. What cannot be looked at is left out."""
    path = log_dir / RUNS / run_id
    try:
        own = path.lstat()
    except OSError:
        return None
    if not S_ISDIR(own.st_mode):
        return None
    found = dict(_files(path))
    times = [own.st_mtime, *(stat.st_mtime for stat in found.values())]
    begun, written = (datetime.fromtimestamp(at, UTC) for at in (min(times), max(times)))
    found.pop(CALLBACK, None)
    return Run(run_id, path, begun_at(run_id) or begun, written, sum(stat.st_size for stat in found.values()), tuple(sorted(found)))


def use_of(run: Run, now: datetime) -> str | None:
    """In words, who or what uses a run; None where it seems to be nobody.

    Processes of other users, and those in containers, cannot be seen: they are noticed by what they write.
    """
    if (holder := _writer(run.path)) is not None:
        return f"held open by {holder}"
    if now - run.written_at < SETTLED:
        return "was written to just now"
    return None


def unread(run: Run, read: Read) -> str | None:
    """A log of the run of which the daemon has not read all; None if there is none. A last line without an end is not waited for."""
    for name, stat in _files(run.path):
        if _LOG.fullmatch(name.rpartition("/")[2]) is None or stat.st_size == 0:
            continue
        offset = read.get((stat.st_dev, stat.st_ino), -1)
        if offset < stat.st_size and (offset < 0 or _has_line(run.path / name, offset)):
            return name
    return None


def remove(log_dir: Path, run: Run) -> bool:
    """Delete a run's directory; False where one of ours reads it. `latest` then leads to the newest that is left. Raises OSError."""
    fd = _open(run.path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        was_latest = latest(log_dir) == run.run_id
        shutil.rmtree(run.path)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    if was_latest:
        left = [found for one in ids(log_dir) if (found := look(log_dir, one)) is not None]
        if left:
            _lead(log_dir / RUNS, max(left, key=lambda one: one.begun_at).run_id)
        else:
            (log_dir / RUNS / LATEST).unlink(missing_ok=True)
    return True


@contextmanager
def asking(log_dir: Path, run_id: str | None) -> Iterator[None]:
    """While this lasts the run is not removed. Nothing is held for None, nor where the run is gone."""
    fd = -1
    if run_id is not None:
        with suppress(OSError):
            fd = _open(log_dir / RUNS / run_id)
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    try:
        yield
    finally:
        if fd >= 0:
            os.close(fd)


def _make(runs: Path, wanted: str) -> str:
    """Of several runs of one name that begin within a second, the later ones get a number."""
    for number in range(1, MOST_TRIES):
        run_id = wanted if number == 1 else f"{wanted}-{number}"
        with suppress(FileExistsError):
            (runs / run_id).mkdir(mode=0o700)
            return run_id
    raise FileExistsError(0, "there are too many runs of this name", str(runs / wanted))


def _write_callback(directory: Path, address: str) -> None:
    fd = os.open(directory / CALLBACK, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123  # a descriptor
        file.write(f"{address}\n")


def _lead(runs: Path, run_id: str) -> None:
    """Replace the link at once: who looks finds the one before or the new one."""
    fresh = runs / f".{LATEST}.{os.getpid()}.{os.urandom(4).hex()}"
    fresh.symlink_to(run_id)
    try:
        fresh.replace(runs / LATEST)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _refuse_link(runs: Path) -> None:
    if not _is_directory(runs):
        raise StorageError(f"`{runs}` is a link or no directory", hint="move it away: runs are made in the log directory itself")


def _is_directory(path: Path) -> bool:
    try:
        return S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _open(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _files(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    """What stands below a directory and is none itself, by its path relative to it. Links are not followed."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        with suppress(OSError), os.scandir(directory / prefix) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{name}/")
                    else:
                        yield name, entry.stat(follow_symlinks=False)


def _has_line(path: Path, offset: int) -> bool:
    """Whether a whole line may stand behind `offset`. More than a line may have counts as one."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            rest = file.read(_REST_BYTES)
    except OSError:
        return False
    return b"\n" in rest or len(rest) == _REST_BYTES


def _writer(directory: Path) -> str | None:
    """A process that has a file below `directory` open to write; of this user, unless we are root."""
    below = f"{os.path.realpath(directory)}/"
    for pid in filter(str.isdigit, os.listdir("/proc")) if os.path.isdir("/proc") else ():  # noqa: PTH112, PTH208  # called for each process
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
                with suppress(OSError, ValueError):
                    if os.readlink(f"/proc/{pid}/fd/{fd}").startswith(below) and _is_writing(pid, fd):  # noqa: PTH115
                        return f"{Path(f'/proc/{pid}/comm').read_text('utf-8', 'replace').strip()} (pid {pid})"
    return None


def _is_writing(pid: str, fd: str) -> bool:
    info = Path(f"/proc/{pid}/fdinfo/{fd}").read_text("ascii", "replace")
    flags = next((line.split()[1] for line in info.splitlines() if line.startswith("flags:")), "0")
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
