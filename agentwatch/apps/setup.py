"""From settings to what the program works with: thresholds, the directories to read, the state directory."""

import contextlib
import fcntl
import os
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from shlex import quote
from stat import S_ISREG, S_ISVTX, S_IWOTH
from typing import Any

import msgspec

from agentwatch.apps.holder import STATE_DIR
from agentwatch.core.alerts import RECOMMENDATIONS
from agentwatch.core.limits import Limits, Override
from agentwatch.errors import AlreadyRunningError, SettingsError, StorageError
from agentwatch.formats.registry import CONTAINERS, FORMATS, Container
from agentwatch.model import Cursor, Fault
from agentwatch.settings import KEYS, Loaded
from agentwatch.sources.tailer import Tailer
from agentwatch.sources.tree import Root

MOST_OPEN = 512
LOCK_TRIES, LOCK_PAUSE_S = 5, 0.02
"""`agentwatch status` holds the lock for a moment, to see whether it is free: that is no other daemon."""


def _seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def _or_none(value: float) -> float | None:
    return value or None


_LIMITS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "error_loop.threshold": ("error_loop_threshold", int),
    "error_loop.window_s": ("error_loop_window", _seconds),
    "tool_loop.threshold": ("tool_loop_threshold", int),
    "tool_loop.window_s": ("tool_loop_window", _seconds),
    "tool_loop.repeats": ("tool_loop_repeats", int),
    "stuck.threshold_ms": ("stuck", lambda value: timedelta(milliseconds=value)),
    "cost.usd_per_session": ("cost_usd", float),
    "cost.usd_per_day": ("usd_per_day", _or_none),
    "cost.usd_per_project_day": ("usd_per_project_day", _or_none),
    "cost.usd_per_subagent": ("usd_per_subagent", _or_none),
    "waiting.after_s": ("waiting", lambda value: _seconds(value) if value else None),
    "context.share": ("context_share", float),
    "issues.threshold": ("issue_threshold", int),
    "restarts.threshold": ("restarts_threshold", int),
    "restarts.window_s": ("restarts_window", _seconds),
    "failed_session.threshold": ("failed_session_threshold", int),
    "alerts.cooldown_s": ("cooldown", _seconds),
    "alerts.off": ("off", frozenset),
}
"""Which field of `Limits` a setting is, and how it becomes its value."""

EXPLICIT = {
    "error_loop.threshold": "error_loop_is_explicit",
    "error_loop.window_s": "error_loop_is_explicit",
    "tool_loop.threshold": "tool_loop_is_explicit",
    "tool_loop.window_s": "tool_loop_is_explicit",
    "stuck.threshold_ms": "stuck_is_explicit",
    "cost.usd_per_session": "cost_is_explicit",
}
"""Settings that hold on every log once somebody has set them."""


def limits(loaded: Loaded) -> Limits:
    """The detectors' thresholds, with what holds for single executors and projects.

    Raises SettingsError for a type of alert that does not exist.
    """
    values = {path: loaded.settings.value(path) for path in _LIMITS}
    overrides = tuple(
        Override(**{one.kind: one.pattern}, limits=_fields(one.values, one.values, f"`{one.kind}.{one.pattern}.alerts.off` from {one.origin}"))
        for one in loaded.overrides
    )
    explicit = [path for path in EXPLICIT if loaded.explicit(path)]
    return Limits(**_fields(values, explicit, f"`alerts.off` from {loaded.origins['alerts.off']}"), overrides=overrides)


def _fields(values: Mapping[str, Any], explicit: Iterable[str], where: str) -> dict[str, Any]:
    unknown = sorted(set(values.get("alerts.off", ())).difference(RECOMMENDATIONS, ["none"]))
    if unknown:
        raise SettingsError(f"{where}: there is no type of alert `{unknown[0]}`", hint=f"known are {', '.join(RECOMMENDATIONS)}")
    fields = {_LIMITS[path][0]: _LIMITS[path][1](value) for path, value in values.items()}
    return fields | {EXPLICIT[path]: True for path in explicit if path in EXPLICIT}


def check(loaded: Loaded, environ: Mapping[str, str], home: Path | None) -> None:
    """Raises SettingsError for a format or a type of alert that does not exist: before anything is made, and before a reload takes it."""
    limits(loaded)
    roots(loaded, environ, home)


def taken(fresh: Loaded, before: Loaded, with_restart: Iterable[str]) -> tuple[Loaded, str]:
    """What of settings that were read again holds from now on, and what to say of it: those named `with_restart` stay as they were."""
    changed = [path for path in KEYS if fresh.settings.value(path) != before.settings.value(path)]
    kept = [path for path in changed if path in with_restart]
    settings = fresh.settings
    for path in kept:
        settings = settings.with_value(path, before.settings.value(path))
    names = [f"`{path}`" for path in changed if path not in kept]
    names += [f"`[{one.kind}.{one.pattern}]`" for one in (*fresh.overrides, *before.overrides) if one not in fresh.overrides or one not in before.overrides]
    said = f"settings read again, changed: {', '.join(dict.fromkeys(names)) or 'nothing'}"
    if kept:
        said += f"; with a restart only: {', '.join(f'`{path}`' for path in kept)}"
    origins = {**fresh.origins, **{path: before.origins[path] for path in kept}}
    return msgspec.structs.replace(fresh, settings=settings, origins=origins), said


def roots(loaded: Loaded, environ: Mapping[str, str], home: Path | None) -> tuple[Root, ...]:
    """The log directory, and the folders of the agents whose formats are watched.

    Raises SettingsError for a format that does not exist.
    """
    chosen = _chosen(loaded)
    found = [Root(_real(loaded.settings.logs.dir), is_log_dir=True)]
    if home is not None:
        for name, row in FORMATS.items():
            if "all" in chosen or name in chosen:
                found.extend(Root(_real(place), is_log_dir=False, format=name) for place in row.places(environ, home))
    return tuple(dict.fromkeys(found))


def containers(loaded: Loaded, environ: Mapping[str, str], home: Path | None) -> list[tuple[Root, Container]]:
    """Where documents and databases are looked for, each place with the format that they are in there.

    Raises SettingsError for a format that does not exist.
    """
    chosen = _chosen(loaded)
    log_dir = Root(_real(loaded.settings.logs.dir), is_log_dir=True)
    found = [(log_dir, row) for row in CONTAINERS.values() if row.log_shape is not None]
    if home is not None:
        for name, row in CONTAINERS.items():
            if "all" in chosen or name in chosen:
                found.extend((Root(_real(place), is_log_dir=False, format=name), row) for place in row.places(environ, home))
    return list(dict.fromkeys(found))


def tailer(loaded: Loaded, environ: Mapping[str, str], home: Path | None, cursors: list[Cursor], tell: Callable[[Fault], None]) -> Tailer:
    """What reads the logs of lines, from where `cursors` stand. Raises SettingsError for a format that does not exist."""
    return Tailer(
        roots(loaded, environ, home),
        cursors,
        max_line_bytes=loaded.settings.logs.max_line_bytes,
        most_open=most_open_files(),
        history_s=loaded.settings.logs.history_s,
        clock=time.monotonic,
        wall=time.time,
        tell=tell,
    )


def _chosen(loaded: Loaded) -> set[str]:
    chosen = set(loaded.settings.logs.sources)
    known = ("all", "none", *FORMATS, *CONTAINERS)
    unknown = sorted(chosen.difference(known))
    if unknown:
        raise SettingsError(f"`logs.sources` from {loaded.origins['logs.sources']}: there is no format `{unknown[0]}`", hint=f"known are {', '.join(known)}")
    return chosen


def state_dir(log_dir: Path) -> Path:
    """`.agentwatch` in the log directory, made if need be, both for their owner alone.

    Raises StorageError where it cannot be made, or where others may write to it or put theirs in its place: its content is trusted.
    """
    path = log_dir / STATE_DIR
    try:
        log_dir.mkdir(0o700, parents=True, exist_ok=True)
        path.mkdir(0o700, exist_ok=True)
        stat, above = path.stat(), log_dir.stat()
    except OSError as error:
        blocked = next((one for one in (path, log_dir, *log_dir.parents) if one.exists() and not one.is_dir()), None)
        what = f"`{blocked}` is no directory" if blocked else f"cannot make `{path}`: {error.strerror}"
        raise StorageError(what, hint="choose another directory with `--log-dir`") from error
    if path.is_symlink():
        raise StorageError(f"`{path}` is a symbolic link", hint="remove it: what the daemon remembers is not kept behind a link")
    if stat.st_mode & 0o022:
        raise StorageError(f"`{path}` can be written by others (mode {stat.st_mode & 0o777:o})", hint=f"run `chmod 700 {quote(str(path))}`")
    if stat.st_uid != os.geteuid():
        raise StorageError(f"`{path}` belongs to somebody else (user {stat.st_uid})", hint="run as that user, or choose another directory with `--log-dir`")
    check_closed(log_dir, above)
    return path


def check_closed(log_dir: Path, stat: os.stat_result) -> None:
    """Raises StorageError where everybody could put a state directory of theirs in the place of ours."""
    # In a sticky directory, as /tmp is one, nobody can rename what is another's.
    if stat.st_mode & S_IWOTH and not stat.st_mode & S_ISVTX:
        name = quote(str(log_dir))
        raise StorageError(f"`{log_dir}` can be written by everybody (mode {stat.st_mode & 0o777:o})", hint=f"run `chmod o-w {name}`, or `chmod +t {name}`")


def lock(state: Path, name: str = "lock", does: str = "watches") -> int:
    """Take the state directory for this process; the descriptor that holds it. The daemon and the notifier each have a lock of their own.

    Raises AlreadyRunningError where another has it, and StorageError where the lock cannot be made or opened.
    """
    path = state / name
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise StorageError(f"cannot open `{path}`: {error.strerror}", hint="see what `agentwatch doctor` says of it") from error
    if not S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise StorageError(f"`{path}` is no regular file", hint="move it away: the daemon makes it")
    for last in (*[False] * LOCK_TRIES, True):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if last:
                pid = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(fd)
                raise AlreadyRunningError(f"another agentwatch (pid {pid}) {does} `{state.parent}`", hint="see `agentwatch status`") from error
            time.sleep(LOCK_PAUSE_S)
    with contextlib.suppress(OSError):  # the lock is what counts; a full disk has no room for the number
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def holds(fd: int, state: Path, name: str = "lock") -> bool:
    """Whether the lock that `fd` holds is still the one of the state directory."""
    try:
        return os.path.samestat((state / name).lstat(), os.fstat(fd))
    except OSError:
        return False


def most_open_files() -> int:
    """How many logs may be open at once: half of what the process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(4, min(MOST_OPEN, soft // 2))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
