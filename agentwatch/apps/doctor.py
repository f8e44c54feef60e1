"""`agentwatch doctor`: what is configured, what would be watched, what is wrong and how to mend it. Changes nothing."""

import os
import platform
import pwd
import resource
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Literal

import msgspec

from agentwatch import __version__, checkpoint
from agentwatch.alert_log import NAME as ALERTS
from agentwatch.apps import alerts, channels, rules, service, setup
from agentwatch.apps.holder import STATE_DIR, holder_of
from agentwatch.apps.posts import DEAD_LETTERS
from agentwatch.apps.status import Health, look
from agentwatch.apps.wholes import Wholes
from agentwatch.core.alerts import span
from agentwatch.errors import AgentwatchError, SettingsError, StorageError
from agentwatch.formats.registry import recognise
from agentwatch.settings import KEYS, Loaded, Settings, secret
from agentwatch.sources.tree import Root, Seen, is_there, shown, walk
from agentwatch.sources.watch import Watch
from agentwatch.ui.page import Block, Style, Table, Word, para

LEAST_FREE_BYTES, LITTLE_FREE_BYTES = 50_000_000, 1_000_000_000
LEAST_FREE_FILES = 1_000
LEAST_OPEN_FILES = 256
MOST_AHEAD_S = 120.0
"""A file of so far in the future was not written by a clock that agrees with ours."""

NOTIFIER_LOCK = "notify.lock"
RECOGNISE_BYTES = 1 << 16
MOST_RECOGNISED = 200
"""Of the log directory's files so many, the newest, are looked into for their format."""

WATCH_LIMITS = ("/proc/sys/fs/inotify/max_user_watches", "/proc/sys/user/max_inotify_watches")
"""The user's limit, and that of the user's namespace: the smaller counts."""

REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "virtiofs", "drvfs", "ceph", "lustre", "afs"})
"""File systems that tell nothing of what another machine writes."""

State = Literal["ok", "warning", "broken"]


class Value(msgspec.Struct):
    """A setting that is in force, and where it comes from."""

    key: str
    value: object
    origin: str


class Place(msgspec.Struct):
    """A directory that is read: its logs, documents and databases, the newest of each format, and how much of it cannot be read."""

    path: str
    exists: bool
    files: int = 0
    directories: int = 0
    unreadable: int = 0
    newest: dict[str, str] = {}


class Check(msgspec.Struct):
    """Something that was looked at. What is no `ok` has a remedy."""

    name: str
    state: State
    found: str
    remedy: str = ""


class Report(msgspec.Struct, kw_only=True):
    """As `doctor --json` has it. `settings` is empty where the settings cannot be used: `checks` then says why."""

    settings: list[Value]
    settings_files: list[str]
    places: list[Place]
    checks: list[Check]

    @property
    def exit_code(self) -> int:
        """2 for settings that cannot be used, 1 for anything else that is broken."""
        broken = {check.name for check in self.checks if check.state == "broken"}
        return 2 if "settings" in broken else int(bool(broken))


def examine(load: Callable[[], Loaded], log_dir: Path | None, environ: Mapping[str, str], home: Path | None) -> Report:
    """Look at everything. Where the settings cannot be used, the defaults (and `log_dir`) stand in for them, so that the rest is told."""
    checks: list[Check] = []
    try:
        loaded = load()
        setup.check(loaded, environ, home)
        roots = setup.roots(loaded, environ, home)
        checks.append(Check("settings", "ok", f"{sum(loaded.explicit(path) for path in KEYS)} of {len(KEYS)} are not the default"))
        values = [Value(path, _value(loaded.settings, path), loaded.origins[path]) for path in KEYS]
    except SettingsError as error:
        checks.append(Check("settings", "broken", str(error), error.hint or ""))
        defaults = Settings()
        if log_dir is not None:
            defaults = defaults.with_value("logs.dir", log_dir)
        loaded = Loaded(defaults, {}, ())
        roots, values = setup.roots(msgspec.structs.replace(loaded, origins=dict.fromkeys(KEYS, "default")), environ, home), []
    log_dir = roots[0].path
    places = [_place(root, _known_formats(log_dir)) for root in roots]
    places += _wholes(loaded, environ, home, {place.path: place for place in places})
    checks.append(Check("python", "ok", f"agentwatch {__version__} on Python {platform.python_version()}, {platform.system()} {platform.release()}"))
    checks += _daemon(log_dir)
    checks += _rules(loaded, environ, home)
    checks += _services(environ, home)
    checks += _alerts(log_dir)
    checks += _permissions(log_dir, places)
    checks += _space(log_dir)
    checks.append(_clock(log_dir, places))
    checks += _limits(sum(place.directories for place in places), roots)
    checks += _programs(environ)
    checks.append(_notifications(loaded, environ))
    checks += _notifier(loaded, log_dir)
    return Report(settings=values, settings_files=[str(path) for path in loaded.files], places=places, checks=checks)


def page(report: Report) -> Iterable[Block]:
    """`report` for people: what is wrong comes last, where the eye is."""
    if report.settings:
        yield para(Word("Settings", "title"), f"  from {', '.join(report.settings_files) or 'no file'}")
        yield Table(("setting", "value", "from"), [(Word(one.key), Word(_shown(one.value)), _origin(one.origin)) for one in report.settings])
        yield para()
    yield para(Word("Watched", "title"), "  what `agentwatch run` would read here")
    yield Table((">files", ">directories", "directory"), [_place_row(place) for place in report.places])
    for place in report.places:
        for name, path in place.newest.items():
            yield para(Word(f"newest {name}: ", "dim"), path, indent=4)
    yield para()
    yield para(Word("Checks", "title"))
    for check in sorted(report.checks, key=lambda one: _ORDER[one.state]):
        yield para(Word(f"{check.state:7}", _STYLES[check.state]), f"  {check.name}: {check.found}", indent=2)
        if check.state != "ok":
            yield para(Word(f"-> {check.remedy}"), indent=11)


_ORDER: dict[State, int] = {"ok": 0, "warning": 1, "broken": 2}
_STYLES: dict[State, Style] = {"ok": "good", "warning": "warn", "broken": "bad"}


def _place_row(place: Place) -> tuple[Word, ...]:
    if not place.exists:
        return Word("-"), Word("-"), Word(f"{place.path} (not there yet: watched as soon as it is)", "dim")
    return Word(f"{place.files:,}"), Word(f"{place.directories:,}"), Word(place.path)


def _origin(origin: str) -> Word:
    return Word(origin, "dim" if origin == "default" else "title")


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _value(settings: Settings, path: str) -> object:
    value = settings.value(path)
    return str(value) if isinstance(value, Path) else value


def _known_formats(log_dir: Path) -> dict[str, str | None]:
    """The formats that the daemon has recognised, by path."""
    saved, _ = checkpoint.read(log_dir / STATE_DIR)
    return {cursor.path: cursor.format for cursor in saved.cursors} if saved else {}


def _place(root: Root, known: Mapping[str, str | None]) -> Place:
    place = Place(shown(str(root.path)), is_there(root.path))
    files: list[Seen] = []
    for _, found in walk(root) if place.exists else ():
        place.directories += 1
        if isinstance(found, OSError):
            place.unreadable += 1
        else:
            files += found
    place.files = len(files)
    place.unreadable += sum(not os.access(file.path, os.R_OK) for file in files)
    files.sort(key=lambda file: file.stat.st_mtime_ns, reverse=True)
    for file in files if root.format else islice(files, MOST_RECOGNISED):
        name = root.format or known.get(file.path) or _recognised(file)
        place.newest.setdefault(name, shown(file.path))
        if root.format:
            break
    return place


def _wholes(loaded: Loaded, environ: Mapping[str, str], home: Path | None, known: Mapping[str, Place]) -> list[Place]:
    """The places of documents, folders and databases. What lies in a known place is added to that; of the many that an agent may have those that are there, else the first."""
    wholes = Wholes(loaded, environ, home, [], lambda _fault: None)
    wholes.look_at_everything()
    places: dict[str, Place] = {}
    formats: dict[str, list[Place]] = {}
    for root in wholes.places:
        path = shown(str(root.path))
        place = known.get(path) or places.setdefault(path, Place(path, is_there(root.path)))
        formats.setdefault(root.format or "", []).append(place)
    newest: dict[tuple[str, str], int] = {}
    for root, name, path in wholes.found():
        place = known.get(shown(str(root.path))) or places[shown(str(root.path))]
        place.files += 1
        place.unreadable += not os.access(path, os.R_OK)
        with suppress(OSError):
            changed = os.stat(path).st_mtime_ns  # noqa: PTH116  # a text as the search gave it
            if changed > newest.get((place.path, name), -1):
                newest[place.path, name], place.newest[name] = changed, shown(path)
    kept = [place for of_format in formats.values() for place in ([one for one in of_format if one.exists] or of_format[:1])]
    return [place for place in places.values() if place in kept]


def _recognised(file: Seen) -> str:
    if file.is_archive:
        return "archive"
    if not file.stat.st_size:
        return "empty file"
    try:
        with open(file.path, "rb") as opened:  # noqa: PTH123  # a text as the walk gave it
            lines = opened.read(RECOGNISE_BYTES).splitlines(keepends=True)
    except OSError:
        return "unreadable file"
    return recognise(file.path, lines) or "unknown format"


def _daemon(log_dir: Path) -> Iterator[Check]:
    try:
        health = look(log_dir)
    except StorageError as error:
        yield Check("daemon", "broken", str(error), error.hint or "")
        return
    yield Check("daemon", "ok", f"runs, pid {health.pid}" if health.running else "does not run here: `agentwatch run` starts it")
    yield _checkpoint(health, log_dir / STATE_DIR / checkpoint.NAME)


def _checkpoint(health: Health, path: Path) -> Check:
    if health.problem is not None:
        remedy = f"nothing needs doing: the next start moves `{path}` aside and reads all logs again; alerts that stand in the file are not written twice"
        return Check("checkpoint", "warning", health.problem, remedy)
    if health.saved_at is None:
        return Check("checkpoint", "ok", "none yet: the first start reads from the beginning")
    return Check("checkpoint", "ok", f"of {health.saved_at:%Y-%m-%d %H:%M:%S}Z, {health.events_total:,} events, {len(health.files):,} files")


def _rules(loaded: Loaded, environ: Mapping[str, str], home: Path | None) -> Iterator[Check]:
    """Of the user's own, for which the daemon says it once."""
    if not loaded.origins:
        return  # the settings cannot be used
    try:
        found = [Check("rules", "broken", what, remedy) for what, remedy in rules.problems(loaded, environ, home)]
    except SettingsError as error:
        found = [Check("rules", "broken", str(error), error.hint or "")]
    yield from found or [Check("rules", "ok", "all files of rules can be used")]


def _services(environ: Mapping[str, str], home: Path | None) -> Iterator[Check]:
    """What systemd says of units of ours. Nothing where there is no systemd."""
    found = service.places(environ, home)
    if not found and service.BOOTED.is_dir():
        yield Check("service", "ok", "not installed: `agentwatch service install` keeps it running")
    for place in found:
        try:
            states = service.states(place)
        except StorageError as error:
            yield Check("service", "warning", str(error), error.hint or "")
            continue
        flag = "--user " if place.manager == "user" else ""
        for one in states:
            if one.state == "failed":
                remedy = f"see `journalctl {flag}-u {one.unit}`, then `systemctl {flag}restart {one.unit}`"
                yield Check("service", "broken", f"`{one.unit}` has failed: {one.problem}", remedy)
            elif one.state == "stopped":
                yield Check("service", "warning", f"`{one.unit}` does not run", f"run `systemctl {flag}start {one.unit}`")
            else:
                again = f", started again {one.restarts} times" if one.restarts else ""
                yield Check("service", "ok", f"`{one.unit}` is {one.state}{again}")
        name = pwd.getpwuid(os.geteuid()).pw_name
        if place.manager == "user" and not service.lingers(name):
            yield Check("service", "warning", "ends when you log out", "run `loginctl enable-linger`")


def _alerts(log_dir: Path) -> Iterator[Check]:
    """Of the last day, and the last one of all."""
    try:
        found = alerts.read(log_dir)
    except AgentwatchError as error:
        yield Check("alerts", "broken", str(error), error.hint or "see `agentwatch alerts`")
        return
    if not found:
        yield Check("alerts", "ok", "none so far")
        return
    now = datetime.now(UTC)
    at = alerts.moment(found[-1]) or now
    lately = sum((alerts.moment(one) or now) > now - timedelta(days=1) for one in found)
    about = f"{found[-1]['type']} of {shown(str(found[-1].get('attempt_id', '?')))}"
    yield Check("alerts", "ok", f"{lately:,} in the last day, {len(found):,} in all; the last {span(max(now - at, timedelta()))} ago: {about}")


def _clock(log_dir: Path, places: list[Place]) -> Check:
    """By what was written in the future: the only thing that a machine can know of its clock without asking another."""
    now = datetime.now(UTC).timestamp()
    ahead = 0.0
    for path in (*(path for place in places for path in place.newest.values()), str(log_dir / STATE_DIR / checkpoint.NAME)):
        with suppress(OSError, ValueError):
            ahead = max(ahead, Path(path).stat().st_mtime - now)
    if ahead > MOST_AHEAD_S:
        remedy = "set the clock (`timedatectl set-ntp true`), or that of the machine that writes the logs"
        return Check("clock", "warning", f"the newest log was written {ahead:,.0f} s from now", remedy)
    return Check("clock", "ok", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z, and no log is of the future")


def _notifier(loaded: Loaded, log_dir: Path) -> Iterator[Check]:
    """Whether anybody carries the alerts out, and what could not be."""
    state = log_dir / STATE_DIR
    try:
        pid = holder_of(state, NOTIFIER_LOCK)
    except StorageError:
        return  # told with the permissions
    settings = loaded.settings
    if pid is not None:
        yield Check("notifier", "ok", f"runs, pid {pid}")
    elif loaded.origins and (settings.telegram.chats or settings.telegram.routes or settings.webhook.url or settings.actions.commands):
        yield Check(
            "notifier",
            "warning",
            "does not run: alerts wait",
            "start it with `agentwatch notify`, or have `agentwatch service install --notify` keep it running",
        )
    with suppress(OSError):
        given_up = (state / DEAD_LETTERS).read_bytes().count(b"\n")
        if given_up:
            yield Check("notifier", "warning", f"{given_up:,} messages were given up", f"see `{state / DEAD_LETTERS}`, and delete it when that is dealt with")


def _notifications(loaded: Loaded, environ: Mapping[str, str]) -> Check:
    """Who would be told, without asking whether they can be reached: that is what `--send-test` does."""
    try:
        chats = [target.name for target in channels.telegram_targets(loaded)] if loaded.origins else []
        token, signing, services = (secret(name, environ) for name in (channels.TOKEN, channels.WEBHOOK_SECRET, channels.APPRISE_URLS))
    except SettingsError as error:
        return Check("notifications", "broken", str(error), error.hint or "")
    if chats and token is None:
        return Check("notifications", "broken", f"{len(chats)} chats, but no bot to write to them", f"set {channels.TOKEN}, or {channels.TOKEN}_FILE")
    if token is not None and not chats:
        return Check("notifications", "warning", "a bot, but no chat to write to", "run `agentwatch notify` and write to the bot: it shows the chat's id")
    address = loaded.settings.webhook.url
    named = [*chats, *([f"a web address, {'signed' if signing else 'not signed'}"] if address else []), *(["apprise"] if services else [])]
    commands = len(loaded.settings.actions.commands)
    found = ", ".join([*named, *([f"{commands} commands"] if commands else [])])
    return Check("notifications", "ok", f"to {found}; `agentwatch doctor --send-test` tries them" if found else "to nobody: see docs/notifications.md")


def _permissions(log_dir: Path, places: list[Place]) -> Iterator[Check]:
    base = next(path for path in (log_dir, *log_dir.parents) if path.exists())
    if not base.is_dir():
        return  # told with the settings
    if os.access(base, os.W_OK | os.X_OK):
        yield Check("log directory", "ok", f"`{log_dir}` {'can be written' if base == log_dir else 'is made at the first start'}")
    else:
        yield Check("log directory", "broken", f"`{base}` cannot be written by this user", "mend its permissions, or choose another with `--log-dir DIR`")
    for name, path in (("alert log", log_dir / ALERTS), ("state directory", log_dir / STATE_DIR)):
        if path.exists() and not os.access(path, os.W_OK):
            yield Check(
                name,
                "broken",
                f"`{path}` cannot be written by this user",
                f"give it to the user who runs the daemon: `chown {os.geteuid()} {quote(str(path))}`",
            )
    state = log_dir / STATE_DIR
    for name, path in (("alert log", log_dir / ALERTS), ("state directory", state / "lock"), ("state directory", state / checkpoint.NAME)):
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            yield Check(name, "broken", f"`{path}` is {'a symbolic link' if path.is_symlink() else 'no regular file'}", "move it away: the daemon makes it")
    if state.is_symlink() or (state.exists() and not state.is_dir()):
        what = "a symbolic link" if state.is_symlink() else "no directory"
        yield Check("state directory", "broken", f"`{state}` is {what}", "move it away: the daemon makes it")
    elif log_dir.is_dir():
        try:
            setup.state_dir(log_dir) if state.exists() else setup.check_closed(log_dir, log_dir.stat())
        except StorageError as error:
            yield Check("state directory" if state.exists() else "log directory", "broken", str(error), error.hint or "")
    yield from _readable_by_others(log_dir)
    for place in places:
        if place.unreadable:
            what = "a file or directory" if place.unreadable == 1 else f"{place.unreadable:,} files or directories"
            yield Check("logs", "warning", f"{what} in `{place.path}` cannot be read", "give this user the right to read what is there")


def _readable_by_others(log_dir: Path) -> Iterator[Check]:
    """Logs hold what agents read and wrote: more than is meant for everybody."""
    found = [path for path in (log_dir, log_dir / ALERTS, log_dir / "agent-work-stream.jsonl") if path.exists() and path.stat().st_mode & 0o007]
    if found and log_dir.is_dir() and log_dir.stat().st_mode & 0o005:
        names = " ".join(quote(str(path)) for path in found)
        yield Check("privacy", "warning", f"other users of this machine may read {', '.join(f'`{path}`' for path in found)}", f"run `chmod o-rwx {names}`")


def _space(log_dir: Path) -> Iterator[Check]:
    base = next(path for path in (log_dir, *log_dir.parents) if path.exists())
    free = shutil.disk_usage(base).free
    found = f"{free / 1e9:,.1f} GB free under `{base}`"
    stat = os.statvfs(base)
    if stat.f_files and stat.f_favail < LEAST_FREE_FILES:  # some file systems count no files
        yield Check("disk", "broken", f"room for {stat.f_favail:,} more files under `{base}`", "delete some: `df -i` shows where they are")
    if free >= LITTLE_FREE_BYTES:
        yield Check("disk", "ok", found)
        return
    remedy = "make room: while the disk is full alerts wait, and nothing is lost as long as the logs are kept"
    yield Check("disk", "broken" if free < LEAST_FREE_BYTES else "warning", found, remedy)


def _limits(directories: int, roots: tuple[Root, ...]) -> Iterator[Check]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft:,} may be open, {setup.most_open_files():,} of them logs"
    yield Check("open files", "ok", found) if soft >= LEAST_OPEN_FILES else Check("open files", "warning", found, "raise it with `ulimit -n 1024`")
    yield _inotify(directories)
    mounts = _mounts()
    for root in roots:
        kind = next((kind for place, kind in mounts if root.path.is_relative_to(place)), "")
        if kind in REMOTE:
            found = f"`{root.path}` lies on {kind}, which tells nothing of what other machines write"
            yield Check(
                "file system",
                "warning",
                found,
                "changes are found by sweeps, a second to half a minute later; run agentwatch where the agents run to be faster",
            )


def _inotify(directories: int) -> Check:
    allowed = min((number for path in WATCH_LIMITS if (number := _number(path)) is not None), default=None)
    if allowed is not None and directories >= allowed:
        return Check(
            "inotify",
            "warning",
            f"{directories:,} directories, but only {allowed:,} watches are allowed",
            f"run `sysctl fs.inotify.max_user_watches={directories * 4}` as root",
        )
    with tempfile.TemporaryDirectory() as scratch:
        watch = Watch((Root(Path(os.path.realpath(scratch)), is_log_dir=False),))
        watch.refresh()
        watch.close()
    if watch.problem is not None:
        instances = _number("/proc/sys/fs/inotify/max_user_instances") or 128
        remedy = f"run `sysctl fs.inotify.max_user_instances={instances * 4}` as root, or end what uses them up; until then changes are found by sweeps"
        return Check("inotify", "warning", f"cannot be used: {watch.problem}", remedy)
    return Check("inotify", "ok", f"works; {directories:,} of {allowed:,} watches needed" if allowed is not None else "works")


def _programs(environ: Mapping[str, str]) -> Iterator[Check]:
    """Other programs are called `agentwatch` too: two are in package registries."""
    ours = Path(sysconfig.get_path("scripts"), "agentwatch")
    remedy = f"call this one as `{ours if ours.exists() else f'{sys.executable} -m agentwatch'}`, or put its directory first on PATH"
    for entry in environ.get("PATH", "").split(os.pathsep):
        program = Path(entry or ".", "agentwatch")
        if not (program.is_file() and os.access(program, os.X_OK)):
            continue
        if ours.exists() and program.samefile(ours):
            yield Check("program", "ok", f"`agentwatch` on PATH is this one, `{ours}`")
        else:
            yield Check("program", "warning", f"`agentwatch` on PATH is another program, `{program}`", remedy)
        return
    yield Check("program", "ok", f"no `agentwatch` is on PATH; `{sys.executable} -m agentwatch` is this one")


def _mounts() -> list[tuple[Path, str]]:
    """Mount points and their file systems, the deepest first."""
    try:
        rows = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8", "surrogateescape").splitlines()]
    except OSError:
        return []
    return sorted(((Path(row[1].replace("\\040", " ")), row[2]) for row in rows), key=lambda one: -len(one[0].parts))


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text("ascii"))
    except (OSError, ValueError):
        return None
