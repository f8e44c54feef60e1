"""Which file carries which stream. The one owner of all cursors; opens nothing.

A *stream* is a sequence of bytes that is read once: its cursor says how far. A *file* is an inode that we know. Normally one
carries the other; rotation, truncation, copies and deletion are what parts them, and content is what joins them again
(`adoption`). There is one of each for every log ever seen in the tree: what they hold, memory has to hold 10,000 times.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from agentwatch.model import Cursor, Fault
from agentwatch.sources.archive import Archive
from agentwatch.sources.lines import OpenFile
from agentwatch.sources.tree import Place, Seen, shown

FORGET_S = 86_400
MOST_STREAMS = 50_000

NUMBERED = re.compile(r"\.(\d{1,4})(?:\.gz)?$")
"""The end of the name that a rotated file has where they are counted: `x.jsonl.1`, `x.jsonl.2.gz`."""


class Device(NamedTuple):
    """A file system, and the files on it by their inodes."""

    number: int
    files: "dict[int, File]"


class File:
    """An inode, where it stands in the tree, and what it carries. `path` is None when it has lost its name.

    `compared` is how many bytes are known to be those of the stream that it is a copy of; `told` the last fault it gave rise to;
    `swept` the number of the sweep that has met it last.
    """

    __slots__ = (
        "compared", "copy_of", "device", "handle", "inode", "is_archive", "is_queued", "is_rotated", "mtime_ns", "path", "place",
        "scanned", "size", "source", "stream", "suspect_at", "swept", "told",
    )  # fmt: skip

    place: Place
    path: str | None
    source: str
    is_rotated: bool

    def __init__(self, device: Device, seen: Seen) -> None:
        self.stand(seen)
        self.is_archive = seen.is_archive
        self.device = device
        self.inode = seen.stat.st_ino
        self.size = -1
        self.mtime_ns = 0
        self.stream: Stream | None = None
        self.copy_of: Stream | None = None
        self.handle: OpenFile | Archive | None = None
        self.scanned = 0
        self.compared = 0
        self.swept = 0
        self.is_queued = False
        self.suspect_at: float | None = None
        self.told: tuple[int, str] | None = None

    def stand(self, seen: Seen) -> None:
        """It stands there now."""
        self.place = seen.place
        self.path = seen.path
        self.source = seen.source
        self.is_rotated = seen.is_rotated

    @property
    def key(self) -> tuple[int, int]:
        """Device and inode: it, as long as it exists."""
        return self.device.number, self.inode

    @property
    def shown(self) -> str:
        """Its path as text. Without a name it is that of its directory, and ends with a slash."""
        return shown(self.path or f"{self.place.directory}/")

    def age(self) -> tuple[bool, int, int, str]:
        """Orders files by when they were written: what was rotated or lost its name comes before the file that has the plain name.

        Of two with the same time, which is as fine as a tick of the kernel's clock (4 ms), the higher number is the older.
        """
        path = self.path or ""
        number = NUMBERED.search(path)
        return (self.path is not None and not self.is_rotated, self.mtime_ns, -int(number[1]) if number else 0, path)


class Stream:
    """A cursor, and the file that carries it now.

    `end` is how far it is known to reach; `is_partial` says that what stands behind the cursor is no whole line.
    """

    __slots__ = ("cursor", "end", "file", "is_partial")

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.file: File | None = None
        self.end = cursor.offset if cursor.path.endswith(".gz") else max(cursor.offset, cursor.size)
        self.is_partial = False

    @property
    def scope(self) -> str:
        """The space of attempt ids that its lines belong to."""
        return self.file.place.scope if self.file is not None else ""


class Streams:
    """All streams, found by what is known of a file, and forgotten a day after the last file that had their content."""

    def __init__(self, cursors: Iterable[Cursor], wall: Callable[[], float], tell: Callable[[Fault], None]) -> None:
        self._wall = wall
        self._tell = tell
        self._by_head: dict[str, tuple[Stream, ...]] = {}  # a tuple of one takes 40 bytes less than a list
        self._sources: Counter[str] = Counter()
        self._copies: dict[Stream, dict[File, None]] = {}
        self._orphans: dict[Stream, int] = {}
        self._by_path: dict[str, Stream] = {}
        self._sweeps = 0
        now = int(wall())
        for cursor in cursors:
            cursor.seen_s = cursor.seen_s or now
            if cursor.format is not None:
                cursor.format = sys.intern(cursor.format)
            stream = self._by_path[cursor.path] = self._add(Stream(cursor))
            self._orphans[stream] = 0

    def __iter__(self) -> Iterator[Stream]:
        for alike in self._by_head.values():
            yield from alike

    def remembered(self, path: str) -> Stream | None:
        """The stream that a file of this path carried when the cursors were saved; each is told once, and only until the first sweep has ended."""
        stream = self._by_path.pop(shown(path), None)
        return stream if stream is not None and stream.file is None else None

    def candidates(self, file: File, head: str, second: str) -> list[Stream]:
        """Those that a file with this first line may continue or repeat, the likeliest first.

        That is one which no file carries, of its own name, and of those the longest. None has another `second` line, where both are
        known: each one costs a comparison of files, and a program may begin all its logs with the same line.
        """
        directory = shown(file.place.directory)
        found = [
            stream
            for stream in self._by_head.get(head, ())
            if (not second or stream.cursor.second in (second, ""))
            and (stream.cursor.path.rpartition("/")[0] == directory or (stream.cursor.device, stream.cursor.inode) == file.key)
        ]
        return sorted(found, key=lambda stream: (stream.file is not None, stream.cursor.source != file.source, -stream.cursor.offset))

    def has_source(self, source: str) -> bool:
        """Whether there is a stream of this name already."""
        return source in self._sources

    def begin(self, file: File, head: str, second: str, offset: int, marker: str) -> Stream:
        """A new stream, to be bound to `file`."""
        return self._add(Stream(Cursor(file.source, file.shown, head, offset, marker, second=second)))

    def bind(self, file: File, stream: Stream) -> None:
        """`file` carries `stream` from now on."""
        file.stream, file.scanned, file.suspect_at = stream, 0, None
        stream.file = file
        cursor = stream.cursor
        if file.source == cursor.source:
            file.source = cursor.source  # after a restart: one string instead of two
        cursor.path, cursor.device, cursor.inode = file.shown, *file.key
        cursor.seen_s = 0
        self._orphans.pop(stream, None)

    def release(self, file: File) -> list[File]:
        """Part `file` from its stream. Given back are the copies of that: one of them may carry it on."""
        stream = file.stream
        if stream is None:
            return []
        file.stream, file.scanned = None, 0
        stream.file = None
        stream.cursor.seen_s = int(self._wall())
        self._orphans[stream] = self._sweeps
        copies = list(self._copies.get(stream, ()))
        for copy in copies:
            self.repeat(copy, None)
        return copies

    def take_over(self, file: File, owner: File, stream: Stream) -> None:
        """`file` has all that the stream's `owner` has, and more: what that was is a copy from now on."""
        owner.stream, owner.scanned = None, 0
        self.repeat(owner, stream)
        self.bind(file, stream)

    def repeat(self, file: File, stream: Stream | None) -> None:
        """`file` is a copy of `stream`, or of none."""
        if file.copy_of is not None:
            copies = self._copies[file.copy_of]
            del copies[file]
            if not copies:
                del self._copies[file.copy_of]
        file.copy_of = stream
        if stream is not None:
            self._copies.setdefault(stream, {})[file] = None

    def count_sweep(self) -> None:
        """All files were looked at, once more."""
        self._sweeps += 1
        self._by_path.clear()

    def forget_old(self) -> None:
        """Tell of streams that two sweeps found without a file and with bytes that nobody read; drop those that are gone for long."""
        now = int(self._wall())
        for stream, sweep in list(self._orphans.items()):
            if stream.end > stream.cursor.offset and self._sweeps - sweep >= 2:
                self._tell_gap(stream)
            if stream in self._copies:
                stream.cursor.seen_s = now
            if now - stream.cursor.seen_s > FORGET_S:
                self._drop(stream)
        for _ in range(sum(map(len, self._by_head.values())) - MOST_STREAMS):
            if self._orphans:
                self._drop(next(iter(self._orphans)))

    def _tell_gap(self, stream: Stream) -> None:
        cursor, missing = stream.cursor, stream.end - stream.cursor.offset
        if stream.is_partial:
            self._tell(Fault(cursor.source, cursor.offset, "incomplete_line", f"{missing} bytes without a newline, and gone"))
        else:
            self._tell(Fault(cursor.source, cursor.offset, "gap", f"{missing} bytes were gone before they could be read"))
        stream.end = cursor.size = cursor.offset

    def _add(self, stream: Stream) -> Stream:
        head = stream.cursor.head
        self._by_head[head] = (*self._by_head.get(head, ()), stream)
        self._sources[stream.cursor.source] += 1
        return stream

    def _drop(self, stream: Stream) -> None:
        del self._orphans[stream]
        head, source = stream.cursor.head, stream.cursor.source
        self._by_head[head] = tuple(one for one in self._by_head[head] if one is not stream)
        if not self._by_head[head]:
            del self._by_head[head]
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
