"""All cursors and all that detectors remember, in one file, replaced atomically.

Saved together they cannot disagree: what is read again after a crash meets the state that it met before, and gives the same
alerts. An old checkpoint is always safe, a lost one costs a second reading (tailing.md, section 0).
"""

import contextlib
import os
from datetime import datetime
from hashlib import blake2b
from pathlib import Path

import msgspec

from agentwatch.core.engine import Snapshot
from agentwatch.model import AlertPosition, Cursor, Fault

NAME = "checkpoint.json"
STATUS = "status.json"
VERSION = 1


class FaultCount(msgspec.Struct):
    """Faults of one kind in one file: how many, and the first."""

    fault: Fault
    count: int = 1


class Status(msgspec.Struct, kw_only=True):
    """What only the running process knows; the rest of `agentwatch status` comes from the checkpoint and the files."""

    pid: int
    started_at: datetime
    events_per_s: float
    inotify_ok: bool
    inotify_detail: str
    found_by_sweep: int
    attempts_live: int


class Checkpoint(msgspec.Struct, kw_only=True):
    """Everything that must survive. `events` and `alerts` count since the state was begun."""

    version: int = VERSION
    alerts: AlertPosition = AlertPosition()
    cursors: list[Cursor] = []
    engine: Snapshot = msgspec.field(default_factory=Snapshot)
    events: int = 0
    alerts_by_type: dict[str, int] = {}
    faults: list[FaultCount] = []


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Checkpoint).decode


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `directory`; durable when this returns. Raises OSError and leaves the old one where the disk says no."""
    body = _encode(checkpoint)
    path, temporary = directory / NAME, directory / f"{NAME}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        for part in (_sum(body), b"\n", body):
            view = memoryview(part)
            while view:
                view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)


def load(directory: Path) -> tuple[Checkpoint | None, str | None]:
    """The checkpoint, and why it cannot be used if it cannot. A damaged one is set aside as `.bad`; never a reason not to start."""
    checkpoint, problem = read(directory)
    if problem is not None:
        path = directory / NAME
        with contextlib.suppress(OSError):
            path.replace(path.with_name(f"{NAME}.bad"))
    return checkpoint, problem


def read(directory: Path) -> tuple[Checkpoint | None, str | None]:
    """As `load`, for one who only looks: nothing is moved. Both are None where there is none yet."""
    try:
        data = (directory / NAME).read_bytes()
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, f"it cannot be read: {error.strerror}"
    found, _, body = data.partition(b"\n")
    if found != _sum(body):
        return None, "its checksum is wrong"
    try:
        checkpoint = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return None, f"it cannot be read: {error}"
    if checkpoint.version != VERSION:
        return None, f"it is of version {checkpoint.version}"
    for cursor in checkpoint.cursors:
        cursor.memory = cursor.memory.copy()
    return checkpoint, None


def _sum(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).hexdigest().encode()
