"""`agentwatch doctor --bundle FILE`: what somebody who helps needs to see, without what is nobody's business.

Everything in it passes `core/text.py`; the user's home, name and machine are replaced. No line of a log is in it but the texts that alerts quote.
"""

import getpass
import io
import os
import platform
import re
import socket
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

import msgspec

from agentwatch import __version__
from agentwatch.apps import alerts, doctor, service
from agentwatch.apps.doctor import Report, Value
from agentwatch.apps.status import look
from agentwatch.core.text import safe
from agentwatch.errors import AgentwatchError, StorageError
from agentwatch.settings import TRUSTED_ONLY
from agentwatch.ui.page import show

NEWEST_ALERTS = 50
MOST_FILES = 5_000
LONGEST_TEXT = 2_000

_CHAT = re.compile(r"telegram:-?\d+(?:/\d+)?")

README = """What is in here, and what is not
--------------------------------
versions.txt    of Python, agentwatch, the libraries that it stands on, kernel and systemd
doctor.json     settings with their origins, places that are watched, checks
doctor.txt      the same for people
status.json     how the daemon does
service.json    how the services do
alerts.jsonl    the newest alerts
files.txt       names, sizes, modes and times of what lies in the log directory

Texts are redacted as alerts are; names of chats, addresses and commands are left out; the user's home is `~`, the user and the machine are
`USER` and `MACHINE`. Look through it before you hand it on: an alert quotes the log, and no rule knows every secret.
"""


def save(path: Path, report: Report, log_dir: Path, environ: Mapping[str, str], home: Path | None) -> list[str]:
    """Write the bundle to `path`, a new file for this user alone; the names of what is in it. Raises StorageError where it cannot be written, or is there already."""
    anonymous = _anonymous(home)
    report = _without_addresses(report)
    parts = {
        "README.txt": README,
        "versions.txt": "\n".join(_versions()),
        "doctor.json": _json(report, anonymous),
        "doctor.txt": anonymous(_page(report)),
        "status.json": _json(_told(lambda: look(log_dir)), anonymous),
        "service.json": _json(_told(lambda: _services(environ, home)), anonymous),
        "alerts.jsonl": "\n".join(_json(alert, anonymous) for alert in _alerts(log_dir)),
        "files.txt": anonymous("\n".join(_files(log_dir))),
    }
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as bundle:
            for name, text in parts.items():
                data = text.encode("utf-8", "backslashreplace")
                member = tarfile.TarInfo(f"agentwatch-bundle/{name}")
                member.size, member.mtime, member.mode = len(data), int(datetime.now(UTC).timestamp()), 0o600
                bundle.addfile(member, io.BytesIO(data))
    except FileExistsError:
        raise StorageError(f"`{path}` is there already", hint="choose another name") from None
    except OSError as error:
        raise StorageError(f"`{path}` cannot be written: {error.strerror}", hint="choose another place") from error
    return list(parts)


def _anonymous(home: Path | None) -> Callable[[str], str]:
    """Puts stand-ins for who and where; longer names first, and only as whole words."""
    names = {}
    with suppress(KeyError, OSError):
        names[getpass.getuser()] = "USER"
    names[socket.gethostname()] = "MACHINE"
    known = sorted((name for name in names if len(name) > 1 and name not in ("root", "localhost")), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, known))})(?![\w-])") if known else None

    def replaced(text: str) -> str:
        text = _CHAT.sub("telegram:CHAT", text)
        if home is not None and len(home.parts) > 1:
            text = text.replace(str(home), "~")
        return pattern.sub(lambda found: names[found[0]], text) if pattern else text

    return replaced


def _without_addresses(report: Report) -> Report:
    """Whether something is set in the sections that say where data goes and what is run, not what."""

    def shown(one: Value) -> Value:
        is_private = any(f"{one.key}.".startswith(f"{reserved}.") for reserved in TRUSTED_ONLY) and isinstance(one.value, str | tuple | dict)
        return Value(one.key, ("set" if one.value else "not set") if is_private else one.value, one.origin)

    return msgspec.structs.replace(report, settings=[shown(one) for one in report.settings])


def _json(value: object, anonymous: Callable[[str], str]) -> str:
    """Every text in it redacted by itself: a secret is recognised by what stands around it."""
    return msgspec.json.encode(_redacted(msgspec.to_builtins(value), anonymous)).decode()


def _redacted(value: object, anonymous: Callable[[str], str]) -> object:
    match value:
        case str():
            return anonymous(safe(value, LONGEST_TEXT))
        case dict():
            return {anonymous(safe(str(key), 200)): _redacted(one, anonymous) for key, one in value.items()}
        case list() | tuple():
            return [_redacted(one, anonymous) for one in value]
    return value


def _told(ask: Callable[[], object]) -> object:
    """What cannot be asked is said in its place."""
    try:
        return ask()
    except (AgentwatchError, OSError) as error:
        return {"problem": str(error)}


def _page(report: Report) -> str:
    out = io.StringIO()
    show(doctor.page(report), out, plain=True)
    return "\n".join(safe(line, LONGEST_TEXT) for line in out.getvalue().splitlines())


def _services(environ: Mapping[str, str], home: Path | None) -> list[service.UnitState]:
    return [one for place in service.places(environ, home) for one in service.states(place)]


def _alerts(log_dir: Path) -> list[alerts.AlertLine]:
    with suppress(AgentwatchError):
        return alerts.read(log_dir)[-NEWEST_ALERTS:]
    return []


def _versions() -> Iterator[str]:
    yield f"agentwatch {__version__}"
    yield f"Python {platform.python_version()} ({platform.python_implementation()})"
    yield f"{platform.system()} {platform.release()} {platform.machine()}"
    yield f"systemd {service.version() or 'not there'}"
    yield from sorted(f"{one.metadata['Name']} {one.version}" for one in distributions() if one.metadata["Name"])


def _files(log_dir: Path) -> Iterator[str]:
    count = 0
    for folder, folders, names in os.walk(log_dir):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > MOST_FILES:
                yield "..."
                return
            path = Path(folder, name)
            with suppress(OSError):
                stat = path.lstat()
                at = datetime.fromtimestamp(stat.st_mtime, UTC)
                yield f"{stat.st_mode:o} {stat.st_size:>14,} {at:%Y-%m-%dT%H:%M:%SZ} {safe(str(path.relative_to(log_dir)), 300)}"
