"""What blocks of the store come to, remembered by what stands in them, so that a month is not added up line by line each time.

Nothing here is needed: a file that is damaged, of another version or of somebody else is as good as none, and what cannot be written is not.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from stat import S_ISDIR

import msgspec

from agentwatch import __version__
from agentwatch.core.metrics import Row
from agentwatch.core.reports.summary import Part, part_of

NAME = "summary-parts"
MOST_BYTES = 32 << 20
"""Some 2,000 blocks, half a gigabyte of the store; fewer where many attempts have several lines."""

_MADE_BY = sha256(f"2 {__version__}".encode()).digest()
"""Version of what a part has, and of the program: figures may be counted otherwise in another one."""


class Kept(msgspec.Struct, gc=False):
    """One block: `attempts` are added up in `part`, which is None where there are none. `apart` are the sessions whose attempts have lines elsewhere too."""

    attempts: list[str]
    part: Part | None
    apart: list[Row]

    @classmethod
    def of(cls, alone: Sequence[Row], apart: list[Row]) -> "Kept":
        """Of a block's sessions."""
        return cls([row.attempt_id for row in alone], part_of(alone) if alone else None, apart)

    def names(self) -> Iterator[str]:
        """The attempt of each session."""
        yield from self.attempts
        for row in self.apart:
            yield row.attempt_id


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Kept).decode
_decode_all = msgspec.msgpack.Decoder(dict[bytes, msgspec.Raw]).decode


class Parts:
    """The parts that are kept in a state directory, the one used last at the end."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._kept: dict[bytes, msgspec.Raw] = {}
        self._size = 0
        self._is_changed = False
        self._is_ours = _is_ours(state)
        with suppress(OSError, msgspec.MsgspecError):
            if not self._is_ours:
                return
            data = (state / NAME).read_bytes()
            if data[:64] == _MADE_BY + sha256(data[64:]).digest():
                self._kept = _decode_all(data[64:])
                self._size = sum(map(len, self._kept.values()))

    def get(self, lines: bytes) -> Kept | None:
        """What is known of a block; None where that is nothing."""
        digest = sha256(lines).digest()
        raw = self._kept.pop(digest, None)
        if raw is None:
            return None
        self._kept[digest] = raw
        return _decode(raw)

    def put(self, lines: bytes, kept: Kept) -> None:
        """Remember a block, in place of what was known of it; not one whose sums are beyond what a row can hold."""
        digest = sha256(lines).digest()
        self._forget(digest)
        try:
            raw = _encode(kept)
            _decode(raw)
        except (OverflowError, msgspec.ValidationError):
            return
        self._kept[digest] = msgspec.Raw(raw)
        self._size += len(raw)
        while self._size > MOST_BYTES:
            self._forget(next(iter(self._kept)))
        self._is_changed = True

    def _forget(self, digest: bytes) -> None:
        self._size -= len(self._kept.pop(digest, b""))

    def save(self) -> None:
        """Write what is new, where there is a directory of our own."""
        if not (self._is_changed and self._is_ours):
            return
        data = _encode(self._kept)
        temporary = self._state / f"{NAME}.new"
        with suppress(OSError):
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:  # noqa: PTH123  # a descriptor
                file.write(_MADE_BY + sha256(data).digest() + data)
            temporary.replace(self._state / NAME)


def _is_ours(state: Path) -> bool:
    """Whether nobody else can have written there: figures of others would be told as ours."""
    try:
        stat = state.lstat()
    except OSError:
        return False
    return S_ISDIR(stat.st_mode) and stat.st_uid == os.geteuid() and not stat.st_mode & 0o022
