"""Sessions by the hundred thousand, put together on disk: lines in a file without a name, and some 30 bytes of each in memory."""

import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Self
from weakref import finalize

import msgspec

from agentwatch.core.metrics import Row, line_of, sessions

MOST_KEPT = 20_000
"""More sessions than so many, 70 MB, are not kept in memory."""

_decode = msgspec.json.Decoder(Row).decode
_decode_lines = msgspec.json.Decoder(Row).decode_lines


@dataclass(slots=True)
class Packed:
    """Rows as lines of the store: a quarter of their size, and cheap to hand to another process.

    Of each line is told whose it is (a digest of scope and attempt), its end (seconds since the epoch) and its length in bytes.
    """

    lines: bytearray = field(default_factory=bytearray)
    owners: "array[int]" = field(default_factory=lambda: array("q"))
    ends: "array[float]" = field(default_factory=lambda: array("d"))
    sizes: "array[int]" = field(default_factory=lambda: array("L"))

    def add(self, rows: Iterable[Row]) -> None:
        """After those that it has."""
        for row in rows:
            line = line_of(row)
            self.lines += line
            self.owners.append(_owner(row))
            self.ends.append(row.timestamp.timestamp())
            self.sizes.append(len(line))

    def rows(self) -> list[Row]:
        """What was added."""
        return _decode_lines(self.lines)


class Spill:
    """Owned by one process. What it has written is gone with it, however it ends. Every method raises OSError where the disk is full."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  # as long as this
        self._owners = array("q")
        self._ends = array("d")
        self._starts = array("Q", [0])
        self._places = array("L")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def add(self, packed: Packed, place: int) -> None:
        """Rows in the order in which they were written; before those of a greater place, whichever are added first."""
        try:
            self._file.write(packed.lines)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(self._directory)) from error
        self._owners += packed.owners
        self._ends += packed.ends
        self._places.extend(place for _ in packed.sizes)
        start = self._starts[-1]
        for size in packed.sizes:
            start += size
            self._starts.append(start)

    def joined(self, within: timedelta, until: datetime | None = None) -> Iterator[bytes]:
        """The lines of `metrics.sessions` of all rows, those of sessions that ended before `until`. Nothing is to be added any more."""
        counts = self._join(within)
        last_s = until.timestamp() if until is not None else float("inf")
        for index in self._by_end():
            if self._ends[index] >= last_s:
                return
            if counts[index]:
                yield self._line(index)

    def rows(self) -> Iterator[Row]:
        """What was added, in the order of the ends."""
        return (_decode(self._line(index)) for index in self._by_end())

    def _by_end(self) -> "array[int]":
        return array("Q", sorted(range(len(self._ends)), key=self._ends.__getitem__))

    def _join(self, within: timedelta) -> bytearray:
        """Put the rows of each attempt together that has several; which lines count after that."""
        counts = bytearray(b"\1") * len(self._owners)
        several = {one for one, other in pairwise(sorted(self._owners)) if one == other}
        shared = [index for index, owner in enumerate(self._owners) if owner in several]
        shared.sort(key=lambda index: (self._owners[index], self._places[index]))
        for _, members in groupby(shared, self._owners.__getitem__):
            same = list(members)
            rows = [_decode(self._line(index)) for index in same]
            read, made = {id(row) for row in rows}, sessions(rows, within)
            sums, whole = Packed(), {id(row) for row in made}
            sums.add(row for row in made if id(row) not in read)
            self.add(sums, 0)
            # What was not changed keeps its bytes, by which a store knows it.
            for index, row in zip(same, rows, strict=True):
                counts[index] = id(row) in whole
            counts += b"\1" * len(sums.sizes)
        return counts

    def _line(self, index: int) -> bytes:
        start = self._starts[index]
        return os.pread(self._file.fileno(), self._starts[index + 1] - start, start)


class Ended:
    """Sessions in the order of their ends, to be gone through as often as is needed.

    Few of them are kept in memory, many where temporary files are: raises OSError where there is no room.
    """

    def __init__(self, batches: Iterable[list[Row]]) -> None:
        self._kept: list[Row] = []
        self._spill: Spill | None = None
        for number, rows in enumerate(batches):
            self._kept += rows
            if self._spill is not None or len(self._kept) > MOST_KEPT:
                self._unload(number)
        self._kept.sort(key=attrgetter("timestamp"))

    def __iter__(self) -> Iterator[Row]:
        yield from self._kept if self._spill is None else self._spill.rows()  # keeps `self`, and so the file, as long as somebody reads

    def _unload(self, number: int) -> None:
        if self._spill is None:
            self._spill = Spill(Path(tempfile.gettempdir()))
            finalize(self, self._spill.close)
        packed = Packed()
        packed.add(self._kept)
        self._spill.add(packed, number)
        self._kept = []


def _owner(row: Row) -> int:
    """Equal for rows of one attempt; for others nearly never, which costs no more than a look."""
    return int.from_bytes(blake2b(f"{row.scope}\0{row.attempt_id}".encode(), digest_size=8).digest(), "little", signed=True)
