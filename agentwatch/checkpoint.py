"""All cursors and all that detectors remember, in one file, replaced atomically.

Saved together they cannot disagree: what is read again after a crash meets the state that it met before, and gives the same
alerts. An old checkpoint is always safe, a lost one costs a second reading (tailing.md, section 0).
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import msgspec

from agentwatch.core.snapshot import Snapshot
from agentwatch.model import NO_MEMORY, AlertPosition, Cursor, Fault, FilePosition

NAME = "checkpoint.json"
STATUS = "status.json"
VERSION = 2
SUM_BYTES = 16
BATCH = 200
STRANGE_FROM, STRANGE_SHARE = 100, 0.05
"""So many lines say something, and of the real files that were read no more than 0.5 % are unknown (formats/README.md)."""


class FaultCount(msgspec.Struct):
    """Faults of one kind in one file: how many, and the first."""

    fault: Fault
    count: int = 1


class Reading(msgspec.Struct):
    """How well one format is understood: lines of kinds that nobody knows, by kind, and how many of the `recent` lines they were."""

    unknown: dict[str, int] = {}
    recent: int = 0
    recent_unknown: int = 0
    is_told: bool = False

    def problem(self) -> str | None:
        """What to say where so many are unknown that the agent must write another format now; None as long as it is well."""
        if self.recent < STRANGE_FROM or self.recent_unknown < STRANGE_SHARE * self.recent:
            return None
        return (
            f"{self.recent_unknown / self.recent:.0%} of the last {self.recent:,} lines are of kinds that this agentwatch does not know:"
            " the agent may write a new format, and alerts about it may be missing; look for a newer agentwatch"
        )


class Status(msgspec.Struct, kw_only=True):
    """What only the running process knows; the rest of `agentwatch status` comes from the checkpoint and the files.

    `events_per_s` is the mean of the last minute. `last_event_at` is when an event came last, not what its line says; None: none since the start.
    """

    pid: int
    started_at: datetime
    events_per_s: float
    inotify_ok: bool
    inotify_detail: str
    found_by_sweep: int
    attempts_live: int
    last_event_at: datetime | None = None


class Place(msgspec.Struct, frozen=True):
    """The directory that a checkpoint was saved in. It may be moved (then its inode is the same) or mounted anew (then its path is)."""

    path: str = ""
    device: int = 0
    inode: int = 0


class Checkpoint(msgspec.Struct, kw_only=True):
    """Everything that must survive. `events` and `alerts` count since the state was begun; `place` is set by `save`."""

    version: int = VERSION
    place: Place = Place()
    alerts: AlertPosition = AlertPosition()
    metrics: FilePosition = FilePosition()
    cursors: list[Cursor] = []
    engine: Snapshot = msgspec.field(default_factory=Snapshot)
    events: int = 0
    alerts_by_type: dict[str, int] = {}
    faults: list[FaultCount] = []
    formats: dict[str, Reading] = {}


class _Version(msgspec.Struct):
    """What can be read of a checkpoint of any version."""

    version: int = VERSION


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Checkpoint).decode


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `directory`; durable when this returns. Raises OSError and leaves the old one where the disk says no."""
    checkpoint.place = _place(directory)
    path, temporary = directory / NAME, directory / f"{NAME}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        summed = blake2b(digest_size=SUM_BYTES)
        _write(fd, bytes(2 * SUM_BYTES) + b"\n")
        for part in _parts(checkpoint):
            summed.update(part)
            _write(fd, part)
        os.pwrite(fd, summed.hexdigest().encode(), 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)


def load(directory: Path) -> tuple[Checkpoint | None, str | None]:
    """The checkpoint, and why it cannot be used if it cannot: that one is set aside as `.bad`. Never a reason not to start."""
    checkpoint, problem = read(directory)
    if problem is not None:
        path = directory / NAME
        with contextlib.suppress(OSError):
            path.replace(path.with_name(f"{NAME}.bad"))
    return checkpoint, problem


def read(directory: Path) -> tuple[Checkpoint | None, str | None]:
    """As `load`, for one who only looks: nothing is moved. Both are None where there is none yet.

    One that was copied here with its directory is of no use: the logs beside it are other files, and would be judged on top of what is
    remembered of the originals.
    """
    try:
        data = (directory / NAME).read_bytes()
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, f"it cannot be opened: {error.strerror}"
    found, _, body = data.partition(b"\n")
    if found != _sum(body):
        return None, "it is damaged: its checksum is wrong"
    try:
        version = msgspec.json.decode(body, type=_Version).version
        if version != VERSION:
            return None, f"it is of {'a newer' if version > VERSION else 'an older'} agentwatch: version {version}, this one has {VERSION}"
        checkpoint = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return None, f"it cannot be read: {error}"
    saved, here = checkpoint.place, _place(directory)
    if saved.path not in ("", here.path) and (saved.device, saved.inode) != (here.device, here.inode):
        return None, f"it was copied from `{saved.path}`"
    for cursor in checkpoint.cursors:
        cursor.memory = NO_MEMORY if cursor.memory == NO_MEMORY else cursor.memory.copy()
    return checkpoint, None


def _write(fd: int, part: bytes) -> None:
    view = memoryview(part)
    while view:
        view = view[os.write(fd, view) :]


def _parts(checkpoint: Checkpoint) -> Iterator[bytes]:
    """Its JSON, piece by piece: after one piece of 11 MB (10,000 files) the process stays larger by as much."""
    rest = msgspec.structs.replace(checkpoint, cursors=[], engine=msgspec.structs.replace(checkpoint.engine, scopes={}, rows=[]))
    before, _, after = _encode(rest).partition(b'[],"engine":{"scopes":{}')
    between, _, after = after.partition(b'"rows":[]')
    yield before + b"["
    for start in range(0, len(checkpoint.cursors), BATCH):
        yield (b"," if start else b"") + _encode(checkpoint.cursors[start : start + BATCH])[1:-1]
    yield b'],"engine":{"scopes":{'
    for number, (name, scope) in enumerate(checkpoint.engine.scopes.items()):
        yield (b"," if number else b"") + _encode(name) + b':{"sessions":{'
        sessions = iter(scope.sessions.items())
        comma = b""
        while batch := dict(islice(sessions, BATCH)):
            yield comma + _encode(batch)[1:-1]
            comma = b","
        yield b'},"ended":' + _encode(scope.ended) + b',"ended_before":' + _encode(scope.ended_before) + b"}"
    yield b"}" + between + b'"rows":['
    for start in range(0, len(checkpoint.engine.rows), BATCH):
        yield (b"," if start else b"") + _encode(checkpoint.engine.rows[start : start + BATCH])[1:-1]
    yield b"]" + after


def _place(directory: Path) -> Place:
    stat = directory.stat()
    path = os.fspath(directory.absolute()).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Place(path, stat.st_dev, stat.st_ino)


def _sum(body: bytes) -> bytes:
    return blake2b(body, digest_size=SUM_BYTES).hexdigest().encode()
