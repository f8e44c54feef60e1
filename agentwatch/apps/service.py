"""`agentwatch service`: units of systemd written, started, described and taken away. Whom they are for, the two service managers know by two names."""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from agentwatch.apps import channels
from agentwatch.apps.reports import weekly_dir
from agentwatch.core.alerts import span
from agentwatch.core.text import safe
from agentwatch.core.units import bare, command_line, filled_in, instance_of, path_of, word
from agentwatch.errors import StorageError, UsageError
from agentwatch.formats.places import VARIABLES
from agentwatch.settings import CONFIG_NAME, SECRET_NAMES, WEEKDAYS, Loaded
from agentwatch.ui.page import Block, Word, para

Manager = Literal["user", "system"]

WATCHER, FURTHER, NOTIFIER = "agentwatch.service", "agentwatch@.service", "agentwatch-notify.service"
ROTATE, WEEKLY = "agentwatch-rotate", "agentwatch-weekly-report"
SERVICES = (WATCHER, NOTIFIER, f"{ROTATE}.service", f"{WEEKLY}.service")
TIMERS = (f"{ROTATE}.timer", f"{WEEKLY}.timer")
UNITS = (*SERVICES, *TIMERS, FURTHER)

SECRETS = tuple(name for name in SECRET_NAMES if name.startswith("AGENTWATCH_"))
"""Those that the notifier needs: it asks no language model."""

SYSTEM_UNITS = Path("/etc/systemd/system")
SYSTEM_CREDENTIALS = Path("/etc/agentwatch/credentials")
BOOTED = Path("/run/systemd/system")
"""Is there where systemd is process 1, as sd_booted(3) has it."""

HINT_WITHOUT = "docs/service.md has a plist for launchd and a recipe for supervisor; `agentwatch run` needs neither"
PATIENCE_S = 360
"""A start waits for READY, which the units give 300 s."""

GRADUAL_VERSION = 254
"""Of systemd: from here on the pause before a restart can grow."""

GRADUAL = "RestartSec=2\nRestartSteps=6\nRestartMaxDelaySec=300"
STEADY = "RestartSec=10"

_PROPERTIES = ("Id", "LoadState", "UnitFileState", "ActiveState", "SubState", "Result", "ExecMainStatus", "MainPID", "NRestarts", "MemoryCurrent", "StatusText")
_NUMBER = re.compile(r"\d{1,18}")


class Place(NamedTuple):
    """Whose service manager it is, and where it looks for units. `owner` runs the services; None: whoever the manager belongs to."""

    manager: Manager
    units: Path
    credentials: Path
    owner: pwd.struct_passwd | None = None


class Wanted(NamedTuple):
    """What is to be installed. `config` is a settings file given by name; `directory` is where it is run, and its `.env` and settings file are looked for."""

    log_dir: Path
    directory: Path
    config: Path | None
    has_notifier: bool
    is_further: bool


class Plan(NamedTuple):
    """What installing comes to, before anything is changed. `secrets` are files for their owner alone; `remarks` are for people.

    `obsolete` are units of an earlier installation that would do a second time what one of these does.
    """

    units: dict[Path, str]
    obsolete: list[str]
    secrets: dict[Path, str]
    directories: list[Path]
    enabled: list[str]
    remarks: list[str]


class UnitState(msgspec.Struct, kw_only=True):
    """How a unit does, as `service status --json` has it. `state` is running, waiting (a timer), starting, reloading, stopped or failed."""

    unit: str
    manager: str
    state: str
    is_enabled: bool
    pid: int | None = None
    since: datetime | None = None
    restarts: int = 0
    memory_bytes: int | None = None
    says: str = ""
    problem: str = ""
    log_dir: str | None = None


def place_of(manager: Manager, environ: Mapping[str, str], home: Path | None, owner: str | None = None) -> Place:
    """Where units of this manager belong. Raises UsageError for a user who does not exist, or where nobody is named whose agents are watched."""
    if manager == "system":
        named = owner or environ.get("SUDO_USER")
        try:
            user = pwd.getpwnam(named) if named else None
        except KeyError:
            raise UsageError(f"there is no user `{named}`", hint="`--as NAME` names the user whose agents are watched") from None
        return Place("system", SYSTEM_UNITS, SYSTEM_CREDENTIALS, user)
    if owner is not None:
        raise UsageError("`--as` is for `--system`: the units of a user run as that user", hint="leave it out, or add `--system`")
    if home is None:
        raise UsageError("this user has no home directory, and so no units", hint="use `--system --as NAME`")
    config = Path(environ.get("XDG_CONFIG_HOME", ""))
    config = config if config.is_absolute() else home / ".config"
    return Place("user", config / "systemd" / "user", config / "agentwatch" / "credentials")


# ------------------------------------------------------------------------------------------------------------------- install


def plan(place: Place, wanted: Wanted, loaded: Loaded, environ: Mapping[str, str], *, version: int, has_namespaces: bool) -> Plan:
    """The units for these settings. `version` is systemd's; `has_namespaces` whether the manager can make a service namespaces of its own.

    Raises UsageError for what cannot be installed, SettingsError where a notifier would have nobody to notify.
    """
    if place.manager == "system" and place.owner is None:
        raise UsageError("whose agents are to be watched?", hint="name the user with `--as NAME`")
    log_dir, reports = Path(os.path.realpath(wanted.log_dir)), weekly_dir(wanted.directory)
    for path in (log_dir, wanted.directory, reports):
        _check_path(path)
    if any(log_dir.is_relative_to(path) for path in ("/tmp", "/var/tmp", "/dev", "/proc", "/sys")):  # noqa: S108  # refused, not used
        raise UsageError(f"`{log_dir}` does not last: a service keeps its alerts for months", hint="choose another directory with `--log-dir DIR`")
    settings = loaded.settings
    remarks: list[str] = []
    secrets: dict[Path, str] = {}
    credentials: list[str] = []
    names = [FURTHER] if wanted.is_further else [WATCHER]
    if not wanted.is_further:
        if not settings.retention.automatic:
            names += [f"{ROTATE}.service", f"{ROTATE}.timer"]
        if wanted.has_notifier:
            # A token that an earlier call has put away counts, too.
            channels.ways_out(loaded, {"CREDENTIALS_DIRECTORY": str(place.credentials), **environ})
            names.append(NOTIFIER)
            secrets, credentials = _secrets(place, environ)
        elif (place.units / NOTIFIER).is_file():
            remarks.append("the notifier stays as it was installed; with `--notify` it is written anew")
        elif settings.report.weekly:
            names += [f"{WEEKLY}.service", f"{WEEKLY}.timer"]
    timed = [] if wanted.is_further else [name for kind in (ROTATE, WEEKLY) for name in (f"{kind}.timer", f"{kind}.service")]
    obsolete = [name for name in timed if name not in names and (place.units / name).is_file()]
    environment = _environment(loaded, environ)
    if environment:
        remarks.append(f"from the environment of this call, and the services' from now on: {', '.join(environment)}")
    is_confined = not (wanted.has_notifier and settings.actions.commands)
    if not is_confined:
        remarks.append("the notifier is not confined: it runs the commands of `[actions]`, which need what they need")
    if place.manager == "user" and not has_namespaces:
        remarks.append("this machine lets no user have namespaces: the services are confined by system calls alone, and could write where this user can")
    config = wanted.config or (Path(environ[CONFIG_NAME]) if environ.get(CONFIG_NAME) else None)
    values = {
        "PROGRAM": command_line([sys.executable, "-P", "-m", "agentwatch"]),
        "OPTIONS": command_line(["--config", str(wanted.directory / config)]) if config else "",
        "LOG_DIR": word(str(log_dir), is_command=True),
        "REPORTS": word(str(reports), is_command=True),
        "DIRECTORY": bare(str(wanted.directory)),
        "USER": f"User={place.owner.pw_name}" if place.owner else "",
        "ENVIRONMENT": "\n".join(f"Environment={word(f'{name}={value}')}" for name, value in {"PYTHONFAULTHANDLER": "1", **environment}.items()),
        "CREDENTIALS": "\n".join(credentials),
        "TARGET": "multi-user.target" if place.manager == "system" else "default.target",
        "BACKOFF": GRADUAL if version >= GRADUAL_VERSION else STEADY,
        "WHEN": f"{WEEKDAYS[settings.report.day][:3].capitalize()} *-*-* {settings.report.hour:02}:00:00",
    }
    values["ALONE"] = "PrivateNetwork=yes\nIPAddressDeny=any" if place.manager == "system" else ""
    isolates = place.manager == "system" or has_namespaces
    units = {}
    for name in names:
        writable = (
            "%f" if name == FURTHER else " ".join(word(str(path)) for path in ((log_dir, reports) if name in (NOTIFIER, f"{WEEKLY}.service") else (log_dir,)))
        )
        values["WRITABLE"] = f"ReadWritePaths={writable}" if isolates else ""
        units[place.units / name] = filled_in(template(name), _fragments(place.manager, isolates=isolates, is_confined=is_confined), values)
    enabled = [
        f"agentwatch@{instance_of(str(log_dir))}.service" if name == FURTHER else name
        for name in names
        if name not in (f"{ROTATE}.service", f"{WEEKLY}.service")
    ]
    directories = [log_dir] if wanted.is_further else [log_dir, reports]
    return Plan(units, obsolete, secrets, directories, enabled, remarks)


def template(name: str) -> str:
    """A unit as it is shipped: in the package, or beside it in a source checkout."""
    package = Path(__file__).parents[1]
    folder = next(path for path in (package / "systemd", package.parent / "systemd") if (path / WATCHER).is_file())
    return (folder / name).read_text("utf-8")


def _fragments(manager: Manager, *, isolates: bool, is_confined: bool) -> dict[str, str]:
    names = ["hardening.conf", *(["namespaces.conf"] if isolates else []), *(["system.conf"] if manager == "system" else [])]
    hardening = "\n".join(template(name) for name in names)
    return {"HARDENING": hardening, "CONFINED": template("confined.conf") if is_confined else "# Not confined: it runs the commands of [actions]."}


def _check_path(path: Path) -> None:
    try:
        bare(str(path))
    except (ValueError, UnicodeError):
        raise UsageError(
            f"{str(path)!r}: a unit file cannot name it", hint="choose a path without control characters, odd bytes and a space at its end"
        ) from None


def _environment(loaded: Loaded, environ: Mapping[str, str]) -> dict[str, str]:
    """What of this environment the services need to do as this call would: settings, and where the agents keep their logs. No secrets."""
    settings = {origin.removeprefix("environment ") for path, origin in loaded.origins.items() if origin.startswith("environment ") and path != "logs.dir"}
    return {name: environ[name] for name in sorted(settings | {*VARIABLES}) if environ.get(name)}


def _secrets(place: Place, environ: Mapping[str, str]) -> tuple[dict[Path, str], list[str]]:
    """Files for the secrets that are known here, and how the notifier gets them: from files of their own, never from its environment."""
    files, lines = {}, []
    for name in SECRETS:
        identity = name.lower().replace("_", "-")
        path = place.credentials / identity
        if value := environ.get(name, "").strip():
            files[path] = f"{value}\n"
        elif named := environ.get(f"{name}_FILE"):
            path = Path(os.path.realpath(named))
        elif not path.is_file():
            continue
        _check_path(path)
        lines.append(f"LoadCredential={identity}:{bare(str(path))}")
    return files, lines


def install(place: Place, made: Plan) -> None:
    """Write what `made` says, and have it started, now and at each start of the machine. What is there already is written anew.

    Raises StorageError where a file cannot be written or a unit does not start; then the files stay, to be looked at.
    """
    for directory in made.directories:
        _make_directory(directory, place.owner)
    _take_away(place, made.obsolete)
    for path, text in made.secrets.items():
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        _write(path, text, 0o600)
    for path, text in made.units.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, text, 0o644)
    _systemctl(place.manager, "daemon-reload")
    _systemctl(place.manager, "enable", *made.enabled)
    for unit in made.enabled:
        done = _systemctl(place.manager, "restart", unit, may_fail=True)
        if done.returncode != 0:
            raise StorageError(f"`{unit}` does not start: {_last_words(place.manager, unit)}", hint=f"see `{_journal(place.manager, unit)}`")


def _make_directory(path: Path, owner: pwd.struct_passwd | None) -> None:
    """With its parents; what is new belongs to those who will write there."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(0o700)
        if owner is not None:
            os.chown(one, owner.pw_uid, owner.pw_gid)


def _write(path: Path, text: str, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        os.fchmod(fd, mode)
        file.write(text)
    temporary.replace(path)


# ----------------------------------------------------------------------------------------------------------------- uninstall


def installed(place: Place) -> list[str]:
    """The units that are there, further log directories by their instances."""
    found = [name for name in UNITS if name != FURTHER and (place.units / name).is_file()]
    if (place.units / FURTHER).is_file():
        links = {link.name for link in place.units.glob("*.wants/agentwatch@*.service")}
        found += sorted(links)
    return found


def uninstall(place: Place) -> list[Path]:
    """Stop the services and take away all that `install` made, but for logs, alerts and reports; the files that are gone now."""
    names = installed(place)
    gone = _take_away(place, names)
    for path in (place.units / FURTHER, *(place.credentials / name.lower().replace("_", "-") for name in SECRETS)):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            gone.append(path)
    for directory in (place.credentials, place.credentials.parent, *([place.units, place.units.parent] if place.manager == "user" else [])):
        with contextlib.suppress(OSError):
            directory.rmdir()
    if gone:
        _systemctl(place.manager, "daemon-reload", may_fail=True)
        _systemctl(place.manager, "reset-failed", *names, may_fail=True)
    return gone


def _take_away(place: Place, names: Sequence[str]) -> list[Path]:
    """Stop these units, for good; their files, which are gone now."""
    if not names:
        return []
    # Timers first: a service that one of them starts would be missed.
    _systemctl(place.manager, "disable", "--now", *sorted(names, key=lambda name: not name.endswith(".timer")))
    for timer in {*names} & {*TIMERS}:
        _systemctl(place.manager, "clean", "--what=state", timer, may_fail=True)
    gone = [place.units / name for name in names if (place.units / name).is_file()]
    for path in gone:
        path.unlink()
    return gone


# -------------------------------------------------------------------------------------------------------------------- status


def places(environ: Mapping[str, str], home: Path | None) -> list[Place]:
    """Where units of ours are installed: of this user's manager, of the system's."""
    if not BOOTED.is_dir() or shutil.which("systemctl") is None:
        return []
    found = [place_of("system", environ, home), *([place_of("user", environ, home)] if home is not None else [])]
    return [place for place in found if installed(place)]


def states(place: Place) -> list[UnitState]:
    """How each installed unit does; empty where none is. Raises StorageError where the manager cannot be asked."""
    names = [name for name in installed(place) if name.removesuffix(".service") not in (ROTATE, WEEKLY)]
    if names:
        _require_answer(place.manager)
    return [_state(place, name) for name in names]


def _state(place: Place, name: str) -> UnitState:
    shown = _systemctl(place.manager, "show", "--timestamp=unix", f"--property={','.join(_PROPERTIES)},ActiveEnterTimestamp", name).stdout
    said = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    entered = _number(said.get("ActiveEnterTimestamp", "").removeprefix("@"))
    active, sub = said.get("ActiveState", ""), said.get("SubState", "")
    state = {"active": "waiting" if sub == "waiting" else "running", "activating": "starting", "reloading": "reloading", "failed": "failed"}.get(
        active, "stopped"
    )
    return UnitState(
        unit=name,
        manager=place.manager,
        state=state,
        is_enabled=said.get("UnitFileState", "") in ("enabled", "enabled-runtime"),
        pid=_number(said.get("MainPID", "")) or None,
        since=datetime.fromtimestamp(entered, UTC) if entered and active in ("active", "reloading") else None,
        restarts=_number(said.get("NRestarts", "")) or 0,
        memory_bytes=_number(said.get("MemoryCurrent", "")),
        says=safe(said.get("StatusText", "")),
        problem=_problem(state, said),
        log_dir=path_of(name.removeprefix("agentwatch@").removesuffix(".service")) if name.startswith("agentwatch@") else None,
    )


_RESULTS = {
    "watchdog": "its main loop hung: the watchdog ended it",
    "signal": "a signal ended it",
    "core-dump": "a signal ended it",
    "timeout": "it did not start or stop in time",
    "oom-kill": "it needed more memory than it may have",
    "protocol": "it ended before it was ready",
    "start-limit-hit": "it was started too often in a short time",
}
_EXIT_CODES = {"2": "its settings cannot be used", "217": "its user does not exist", "226": "its directories are not there", "243": "a credential is not there"}


def _problem(state: str, said: Mapping[str, str]) -> str:
    if said.get("LoadState") not in ("loaded", None):
        return f"systemd cannot load it: {said['LoadState']}"
    result = said.get("Result", "success")
    if result == "success" or state in ("running", "reloading", "waiting"):
        return ""
    status = said.get("ExecMainStatus", "")
    return _RESULTS.get(result) or _EXIT_CODES.get(status) or f"it ended with {status}"


def page(found: Sequence[UnitState]) -> Iterator[Block]:
    """The states in words."""
    for one in found:
        style = {"running": "good", "waiting": "good", "failed": "bad"}.get(one.state, "warn")
        yield para(Word(one.unit, "title"), "  ", Word(one.state, style), *_details(one))  # type: ignore[arg-type]  # a style by a name from the table
        if one.says and one.state in ("running", "starting", "reloading"):
            yield para(f"says: {one.says}", indent=2)
        if one.problem:
            yield para(Word(one.problem, "bad"), indent=2)
            yield para(f"-> see `{_journal(one.manager, one.unit)}`, then `systemctl {_flag(one.manager)}restart {one.unit}`", indent=2)
        if not one.is_enabled:
            yield para(Word("not started with the machine", "warn"), f"  -> `systemctl {_flag(one.manager)}enable {one.unit}`", indent=2)


def _details(one: UnitState) -> Iterator[str]:
    if one.log_dir:
        yield f"  watches {one.log_dir}"
    if one.since:
        yield f"  for {span(datetime.now(UTC) - one.since)}"
    if one.pid:
        yield f", pid {one.pid}"
    if one.memory_bytes:
        yield f", {one.memory_bytes / 1e6:.0f} MB"
    if one.restarts:
        yield f", started again {one.restarts} {'time' if one.restarts == 1 else 'times'}"


def lingers(user: str) -> bool:
    """Whether the services of this user run without anybody being logged in."""
    return Path("/var/lib/systemd/linger", user).exists()


# ------------------------------------------------------------------------------------------------------------------- systemd


def require(manager: Manager) -> None:
    """Raises StorageError where this manager is not there to be told anything."""
    if manager == "system" and os.geteuid() != 0 and BOOTED.is_dir():
        raise StorageError("the system's units are root's", hint="call it with sudo, or without `--system`")
    _require_answer(manager)


def _require_answer(manager: Manager) -> None:
    if not BOOTED.is_dir() or shutil.which("systemctl") is None:
        raise StorageError("systemd does not run here", hint=HINT_WITHOUT)
    done = _systemctl(manager, "show", "--property=Version", may_fail=True)
    if done.returncode != 0:
        raise StorageError(f"systemd cannot be asked: {_words(done)}", hint="log in as this user, not with su; or use `--system --as NAME`")


def version() -> int:
    """Of systemd; 0 where there is none."""
    if shutil.which("systemctl") is None:
        return 0
    shown = _run(["systemctl", "--version"]).stdout.split()
    return (_number(shown[1]) or 0) if len(shown) > 1 else 0


def has_namespaces() -> bool:
    """Whether the user's manager can confine a service by namespaces: some machines let no user have any."""
    properties = ("PrivateUsers=yes", "ProtectSystem=strict", "ProtectHome=read-only", "PrivateTmp=yes")
    command = ["systemd-run", "--user", "--wait", "--quiet", "--collect", *(part for one in properties for part in ("-p", one)), "/bin/true"]
    return shutil.which("systemd-run") is not None and _run(command).returncode == 0


def _systemctl(manager: str, *arguments: str, may_fail: bool = False) -> "subprocess.CompletedProcess[str]":
    done = _run(["systemctl", f"--{manager}", "--no-pager", *arguments])
    if done.returncode != 0 and not may_fail:
        raise StorageError(f"`systemctl {_flag(manager)}{' '.join(arguments)}`: {_words(done)}", hint="see docs/service.md")
    return done


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, check=False, env=environ, stdin=subprocess.DEVNULL)  # noqa: S603  # words, no shell
    except subprocess.TimeoutExpired:
        raise StorageError(f"`{' '.join(command)}` takes longer than {PATIENCE_S} s", hint="see `systemctl list-jobs`") from None


def _words(done: "subprocess.CompletedProcess[str]") -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return safe(lines[0]) if lines else f"exit code {done.returncode}"


def _last_words(manager: Manager, unit: str) -> str:
    """What it said last, the errors of the program itself before what systemd says of it."""
    options = ["--user"] if manager == "user" else []
    said = _run(
        ["journalctl", *options, "--unit" if manager == "system" else "--user-unit", unit, "--lines=20", "--output=cat", "--no-pager", "--quiet"]
    ).stdout
    lines = [line for line in said.splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("error: ")]
    return safe((own or lines or ["it says nothing"])[-1].removeprefix("error: "))


def _journal(manager: str, unit: str) -> str:
    return f"journalctl {_flag(manager)}-u {unit} -n 50"


def _flag(manager: str) -> str:
    return "--user " if manager == "user" else ""


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def shown(files: Iterable[tuple[Path, str]]) -> str:
    """The files one after another, each under its path."""
    return "\n".join(f"# {path}\n{text}" for path, text in files)
