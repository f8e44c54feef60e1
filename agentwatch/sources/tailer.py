"""Which file continues which stream, and whose turn it is. The one owner of all cursors.

A *stream* is a sequence of bytes that is read once: its cursor says how far. A *file* is an inode that we know. Normally one
carries the other; rotation, truncation, copies and deletion are what parts them, and content is what joins them again
(tailing.md, section 3.2). The rules stand in `docs/design.md` and are run against random programs in `tests/torture`.
"""

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from agentwatch.model import Cursor, Fault
from agentwatch.sources.archive import Archive
from agentwatch.sources.identity import continues, end_of, is_beginning, line_start, marker, second_line, second_of, shared
from agentwatch.sources.lines import Found, OpenFile, Turn, head, read_turn
from agentwatch.sources.tree import Root, Seen, list_dir, look, shown, walk

LINGER_S = 60.0
"""How long a deleted file is kept open after its last growth: a writer may still hold it (tailing.md, case 15). Also how long
the end of a line, or of an archive, is waited for before it is told that there is none."""

FORGET_S = 86_400
MOST_STREAMS = 50_000
SUSPECT_S = 1.0
"""A network file system may show an old size for a moment: a shrunken file with the same first line is looked at twice (case 33)."""

RETRY_S = 1.0
"""A file whose read failed is left alone for so long: mtail spun at 100 % of a core on such a one (tailing.md, section 2)."""

NUMBERED = re.compile(r"\.(\d{1,4})(?:\.gz)?$")
"""The end of the name that a rotated file has where they are counted: `x.jsonl.1`, `x.jsonl.2.gz`."""


class File:
    """An inode, where it stands in the tree, and what it carries.

    `compared` is how many bytes are known to be those of the stream that it is a copy of; `told` the last fault it gave rise to.
    """

    __slots__ = (
        "compared", "copy_of", "directory", "handle", "is_archive", "is_queued", "is_rotated", "key", "lost_at", "mtime_ns",
        "path", "root", "scanned", "scope", "size", "source", "stream", "suspect_at", "told",
    )  # fmt: skip

    root: Root
    path: str | None
    directory: str
    source: str
    scope: str
    is_rotated: bool

    def __init__(self, root: Root, seen: Seen) -> None:
        self.place(root, seen)
        self.is_archive = seen.is_archive
        self.key = (seen.stat.st_dev, seen.stat.st_ino)
        self.size = -1
        self.mtime_ns = 0
        self.stream: Stream | None = None
        self.copy_of: Stream | None = None
        self.handle: OpenFile | Archive | None = None
        self.scanned = 0
        self.compared = 0
        self.is_queued = False
        self.lost_at = 0.0
        self.suspect_at: float | None = None
        self.told: tuple[int, str] | None = None

    def place(self, root: Root, seen: Seen) -> None:
        """It stands there now."""
        self.root = root
        self.path = seen.path
        self.directory = seen.path.rpartition("/")[0]
        self.source = seen.source
        self.scope = seen.scope
        self.is_rotated = seen.is_rotated


class Stream:
    """A cursor, the file that carries it now, and those that repeat it.

    `end` is how far it is known to reach; `is_partial` says that what stands behind the cursor is no whole line.
    """

    __slots__ = ("copies", "cursor", "directory", "end", "file", "is_partial", "scope")

    def __init__(self, cursor: Cursor, directory: str) -> None:
        self.cursor = cursor
        self.directory = directory
        self.file: File | None = None
        self.copies: dict[File, None] = {}
        self.end = cursor.offset if cursor.path.endswith(".gz") else max(cursor.offset, cursor.size)
        self.is_partial = False
        self.scope = ""


class Likeness(NamedTuple):
    """The first `common` bytes of two files are the same; whether mine and theirs go on behind them."""

    common: int
    mine: bool
    theirs: bool


class Work(NamedTuple):
    """A turn to be dealt with: which stream it belongs to, and what was read."""

    file: File
    stream: Stream
    turn: Turn


class Tailer:
    """Finds files, follows them through whatever happens to them, and deals out turns fairly.

    Owned by one thread. `clock` gives monotonic seconds, `wall` seconds since the epoch; `tell` takes faults. Nothing here raises
    for what a log directory may contain: an unreadable file or directory is a fault, and looked at again.
    """

    def __init__(
        self,
        roots: Iterable[Root],
        cursors: Iterable[Cursor],
        *,
        max_line_bytes: int,
        most_open: int,
        history_s: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
        tell: Callable[[Fault], None],
    ) -> None:
        self.roots = tuple(roots)
        self._max_line_bytes = max_line_bytes
        self._most_open = most_open
        self._history_s = history_s
        self._clock = clock
        self._wall = wall
        self._tell = tell
        self._by_path: dict[str, File] = {}
        self._by_key: dict[tuple[int, int], File] = {}
        self._streams: dict[Stream, None] = {}
        self._by_head: dict[str, list[Stream]] = {}
        self._by_source: dict[str, list[Stream]] = {}
        self._by_hint: dict[str, Stream] = {}
        self._orphans: dict[Stream, int] = {}
        self._queues: OrderedDict[tuple[Root, str], list[File]] = OrderedDict()
        self._opened: OrderedDict[File, None] = OrderedDict()
        self._unknown: dict[File, None] = {}
        self._lost: dict[File, None] = {}
        self._searched: set[File] = set()
        self._suspects: dict[File, None] = {}
        self._unreadable: dict[File, None] = {}
        self._retry: dict[File, float] = {}
        self._unfinished: dict[File, tuple[float, str, str]] = {}
        self._refused: set[str] = set()
        self._sweeps = 0
        self.found_by_sweep = 0
        self.directories = 0
        for cursor in cursors:
            stream = self._by_hint[cursor.path] = self._add(Stream(cursor, cursor.path.rpartition("/")[0]))
            self._orphans[stream] = 0

    # -- what is there --------------------------------------------------------------------------------------------------------

    def sweep(self) -> Iterator[None]:
        """Look at everything, a directory at a time: what this finds needs no event. To be run to its end now and then."""
        count = 0
        for root in self.roots:
            present: set[str] = set()
            for relative_dir, found in walk(root):
                directory = os.path.join(root.path, relative_dir) if relative_dir else os.fspath(root.path)  # noqa: PTH118
                if isinstance(found, OSError):
                    self._refuse(directory, found, missing_is_fine=not relative_dir)
                    yield
                    continue
                count += 1
                self._refused.discard(directory)
                for seen in found:
                    present.add(seen.path)
                    self._examine(root, seen, by_sweep=True)
                yield
            prefix = f"{root.path}/"
            gone = [file for path, file in self._by_path.items() if path not in present and path.startswith(prefix) and not _exists(path, file.key)]
            for file in gone:
                self._lose(file)
            yield
        self.directories = count
        self._after_sweep()

    def hint(self, root: Root, relative_path: str) -> None:
        """Something may have happened to this path."""
        seen = look(root, relative_path)
        if seen is not None:
            self._examine(root, seen, by_sweep=False)
            return
        file = self._by_path.get(f"{root.path}/{relative_path}")
        if file is not None:
            self._lose(file)

    def hint_directory(self, root: Root, relative_path: str) -> None:
        """Something happened to a directory: files in it, and below it, may have had no events of their own."""
        for _, found in walk(root, relative_path):
            for seen in found if not isinstance(found, OSError) else ():
                self._examine(root, seen, by_sweep=False)

    def settle(self) -> None:
        """After a batch of hints: decide what the files are that appeared or changed."""
        if self._retry:
            now = self._clock()
            for file in [one for one, at in self._retry.items() if at <= now]:
                del self._retry[file]
                self._changed(file)
        if self._unknown or self._suspects or self._lost:
            self._settle()

    def _examine(self, root: Root, seen: Seen, *, by_sweep: bool) -> None:
        key = (seen.stat.st_dev, seen.stat.st_ino)
        file = self._by_path.get(seen.path)
        if file is not None and file.key != key:
            self._lose(file)
            file = None
        if file is None:
            file = self._by_key.get(key)
            if file is not None and file.is_archive != seen.is_archive:
                self._forget(file)  # the inode of a deleted file, used again
                file = None
            if file is None:
                file = self._meet(root, seen)
            elif file.path is None or not _exists(file.path, key):
                self._move(file, root, seen)
            else:
                return  # a hard link: one stream
        size, mtime_ns = seen.stat.st_size, seen.stat.st_mtime_ns
        if (size, mtime_ns) == (file.size, file.mtime_ns):
            return
        if by_sweep and file.size >= 0:
            self.found_by_sweep += 1
        file.size, file.mtime_ns = size, mtime_ns
        if file.is_archive:
            self._close(file)  # what was unpacked of it may stand there no longer
        self._changed(file)

    def _meet(self, root: Root, seen: Seen) -> File:
        file = File(root, seen)
        self._by_path[seen.path] = file
        self._by_key[file.key] = file
        stream = self._by_hint.pop(shown(seen.path), None)
        if stream is None or stream.file is not None:
            return file
        cursor, stat = stream.cursor, seen.stat
        if (cursor.device, cursor.inode, cursor.size, cursor.mtime_ns) == (*file.key, stat.st_size, stat.st_mtime_ns):
            self._bind(file, stream)
            if seen.is_archive or cursor.offset == stat.st_size:
                file.size, file.mtime_ns = stat.st_size, stat.st_mtime_ns  # nothing happened since: needs no look inside
        return file

    def _move(self, file: File, root: Root, seen: Seen) -> None:
        was_queued = file.is_queued
        self._dequeue(file)
        if file.path is not None and self._by_path.get(file.path) is file:
            del self._by_path[file.path]
        file.place(root, seen)
        self._lost.pop(file, None)
        self._searched.discard(file)
        self._by_path[seen.path] = file
        if file.stream is not None and file.handle is None and (seen.stat.st_size, seen.stat.st_mtime_ns) != (file.size, file.mtime_ns):
            self._part(file)  # nothing held its inode: this may be another file, anywhere
        if file.stream is not None:
            file.stream.cursor.path = shown(seen.path)
            file.stream.directory = shown(file.directory)
            file.stream.scope = file.scope
        if file in self._unreadable:  # because it had no longer the name under which it was seen
            del self._unreadable[file]
            was_queued = True
        if was_queued:
            self._changed(file)

    def _changed(self, file: File) -> None:
        if file.stream is None:
            self._unknown[file] = None
        else:
            self._queue(file)

    def _lose(self, file: File) -> None:
        """Its path names it no longer. What is open is read to its end; what is not may turn up under another name."""
        if file.path is not None and self._by_path.get(file.path) is file:
            del self._by_path[file.path]
        file.path = None
        file.lost_at = self._clock()
        self._lost[file] = None
        if file.stream is None:
            return
        if file.handle is not None:
            self._queue(file)
        elif not file.is_archive:
            file.stream.end = max(file.stream.end, file.size)

    def _settle(self) -> None:
        """Join files and streams. Renamed siblings are found first, so that nothing is taken for new that has only moved."""
        siblings = [file for file in self._unknown if file.source in self._by_source]
        for root, directory in {(file.root, file.directory) for file in (*self._lost, *siblings) if file not in self._searched}:
            self._rescan(root, directory)
        self._searched.update(self._lost)
        now = self._clock()
        for file in [one for one in self._suspects if now - (one.suspect_at or 0.0) >= SUSPECT_S]:
            del self._suspects[file]
            self._queue(file)
        for file in list(self._lost):
            if not file.is_queued and file not in self._suspects and file not in self._unknown:
                self._drain(file, now)
        while self._unknown:
            pending = sorted(self._unknown, key=_age)
            self._unknown.clear()
            # A copy of a stream's beginning must not be taken for new before the file is known that carries the stream on.
            unsure = [file for file in pending if file.stream is None and not self._identify(file, is_last=False)]
            for file in unsure:
                if file.stream is None:
                    self._identify(file, is_last=True)

    def _drain(self, file: File, now: float) -> None:
        """A file without a name: read what its writer still appends, and let it go when nothing has come for a while."""
        stream = file.stream
        if not isinstance(file.handle, OpenFile) or stream is None:
            self._forget(file)
            return
        size = os.fstat(file.handle.fd).st_size
        if size != file.size:
            file.size, file.lost_at, stream.end = size, now, max(stream.end, size)
            self._queue(file)
        elif now - file.lost_at > LINGER_S:
            self._forget(file)

    def _rescan(self, root: Root, directory: str) -> None:
        relative_dir = directory[len(os.fspath(root.path)) + 1 :]
        try:
            files, _ = list_dir(root, relative_dir)
        except OSError:
            return
        for seen in files:
            self._examine(root, seen, by_sweep=False)

    def _refuse(self, directory: str, error: OSError, *, missing_is_fine: bool) -> None:
        if directory in self._refused or (missing_is_fine and isinstance(error, FileNotFoundError)):
            return
        self._refused.add(directory)
        self._tell(Fault(directory, 0, "unreadable_directory", error.strerror or str(error)))

    # -- which file is which stream -------------------------------------------------------------------------------------------

    def _identify(self, file: File, *, is_last: bool) -> bool:
        """Bind a file by its content: to the stream it continues, as a copy to the stream it repeats, or as a new stream.

        False where that has to wait until the others were looked at; not if it `is_last`.
        """
        handle = self._open(file)
        if handle is None:
            if file.path is not None:
                self._unreadable[file] = None
            return True
        is_sure = True
        try:
            is_sure = self._match(file, handle, is_last=is_last)
        except OSError as error:
            self._tell_once(file, 0, "unreadable", error.strerror or str(error))
            self._unreadable[file] = None
        if isinstance(handle, Archive) and handle.damage is not None and file.stream is None:
            self._unfinished[file] = (self._clock(), "damaged_archive", handle.damage)
        if file.stream is None or (file.path is not None and len(self._opened) > self._most_open):
            self._close(file)
        return is_sure

    def _match(self, file: File, handle: OpenFile | Archive, *, is_last: bool) -> bool:
        self._repeat(file, None)
        found = head(handle)
        if found is None:
            return True
        orphans = []
        for stream in sorted(self._candidates(file, found), key=lambda one: _likeness(one, file)):
            likeness = self._compare(file, handle, stream.file) if stream.file is not None else None
            # Asked after the comparison: the owner may have been truncated while it was read.
            if stream.file is not None and not self._carries(stream.file, stream.cursor):
                self._part(stream.file)
            if stream.file is None:
                if stream.cursor.offset > 0 and continues(handle, stream.cursor):
                    self._carry_on(file, stream)
                    return True
                orphans.append(stream)
            elif likeness is None or not likeness.mine:
                self._repeat(file, stream)
                return True
            elif not likeness.theirs:
                self._take_over(file, stream)
                return True
            elif (start := line_start(handle, likeness.common)) > second_line(handle):
                self._carry_on(file, self._new(file, found, start, marker(handle, start)))
                return True
        if orphans and not is_last:
            return False
        unread = next((stream for stream in orphans if stream.cursor.offset == 0), None)  # any file with its first line continues it
        for stream in orphans:
            if file.is_rotated and stream.cursor.offset > 0 and is_beginning(handle, stream.cursor):
                self._repeat(file, stream)
                return True
        stream = unread or self._new(file, found, 0, "")
        if not file.root.is_log_dir and file.mtime_ns / 1e9 < self._wall() - self._history_s:
            self._bind(file, stream)
            self._pass_over(file, handle, stream.cursor)
        else:
            self._carry_on(file, stream)
        return True

    def _candidates(self, file: File, head_digest: str) -> list[Stream]:
        directory = shown(file.directory)
        return [
            stream for stream in self._by_head.get(head_digest, ()) if stream.directory == directory or (stream.cursor.device, stream.cursor.inode) == file.key
        ]

    def _carries(self, owner: File, cursor: Cursor) -> bool:
        """Whether a stream's file still has what was read from it. Assumed where it cannot be opened: reading it will tell."""
        handle = self._open(owner)
        return handle is None or owner.suspect_at is not None or (continues(handle, cursor) and head(handle) == cursor.head)

    def _compare(self, file: File, handle: OpenFile | Archive, owner: File) -> Likeness | None:
        """With the owner of a stream, as both are now; None where that cannot be opened."""
        other = self._open(owner)
        if other is None:
            return None
        if file.compared and marker(handle, file.compared) != marker(other, file.compared):
            file.compared = 0  # what was compared stands there no longer
        while True:
            common = file.compared = shared(handle, other, file.compared)
            mine, theirs = handle.pread(1, common), other.pread(1, common)
            if not mine or mine != theirs:
                return Likeness(common, bool(mine), bool(theirs))

    def _carry_on(self, file: File, stream: Stream) -> None:
        self._bind(file, stream)
        self._queue(file)

    def _take_over(self, file: File, stream: Stream) -> None:
        """`file` has all that the stream's file has, and more: what that was is a copy from now on."""
        owner = stream.file
        if owner is not None:
            self._dequeue(owner)
            owner.stream, owner.scanned = None, 0
            self._repeat(owner, stream)
        self._carry_on(file, stream)

    def _repeat(self, file: File, stream: Stream | None) -> None:
        """`file` is a copy of `stream`, or of none."""
        if file.copy_of is not None:
            file.copy_of.copies.pop(file, None)
        file.copy_of = stream
        if stream is not None:
            stream.copies[file] = None

    def _pass_over(self, file: File, handle: OpenFile | Archive, cursor: Cursor) -> None:
        """Begin behind what is there: history that nobody wants to be alerted about."""
        cursor.offset = line_start(handle, end_of(handle) if file.is_archive else file.size)
        cursor.marker = marker(handle, cursor.offset)
        cursor.size, cursor.mtime_ns = file.size, file.mtime_ns

    def _bind(self, file: File, stream: Stream) -> None:
        file.stream, file.scanned, file.suspect_at = stream, 0, None
        stream.file, stream.directory, stream.scope = file, shown(file.directory), file.scope
        stream.cursor.path = shown(file.path or "")
        stream.cursor.device, stream.cursor.inode = file.key
        stream.cursor.seen_s = int(self._wall())
        self._orphans.pop(stream, None)

    def _new(self, file: File, head_digest: str, offset: int, marker_digest: str) -> Stream:
        return self._add(Stream(Cursor(file.source, shown(file.path or ""), head_digest, offset, marker_digest), shown(file.directory)))

    def _add(self, stream: Stream) -> Stream:
        self._streams[stream] = None
        self._by_head.setdefault(stream.cursor.head, []).append(stream)
        self._by_source.setdefault(stream.cursor.source, []).append(stream)
        return stream

    def _drop(self, stream: Stream) -> None:
        del self._streams[stream]
        self._orphans.pop(stream, None)
        for index, key in ((self._by_head, stream.cursor.head), (self._by_source, stream.cursor.source)):
            index[key].remove(stream)
            if not index[key]:
                del index[key]

    def _release(self, file: File) -> None:
        """Part a file from its stream. A copy of it may carry the stream on."""
        stream = file.stream
        if stream is None:
            return
        file.stream, file.scanned = None, 0
        self._unfinished.pop(file, None)
        stream.file = None
        stream.cursor.seen_s = int(self._wall())
        self._orphans[stream] = self._sweeps
        for copy in list(stream.copies):
            self._repeat(copy, None)
            self._unknown[copy] = None

    def _replaced(self, file: File) -> None:
        """The file no longer has what was read from it: truncated, refilled, or its inode used again."""
        self._dequeue(file)
        stream = file.stream
        if stream is None:
            return
        if self._may_lag(file, stream.cursor):
            self._suspects[file] = None
            return
        self._part(file)
        if file.path is not None:
            self._rescan(file.root, file.directory)
        self._settle()

    def _part(self, file: File) -> None:
        self._dequeue(file)
        self._suspects.pop(file, None)
        self._release(file)
        file.compared = 0
        self._unknown[file] = None

    def _may_lag(self, file: File, cursor: Cursor) -> bool:
        if not isinstance(file.handle, OpenFile):
            return False
        now = self._clock()
        if file.suspect_at is not None:
            return now - file.suspect_at < SUSPECT_S
        if not 0 < os.fstat(file.handle.fd).st_size < cursor.offset or head(file.handle) != cursor.head:
            return False
        file.suspect_at = now
        return True

    def _forget(self, file: File) -> None:
        self._close(file)
        self._dequeue(file)
        self._repeat(file, None)
        for noted in (self._lost, self._unknown, self._unreadable, self._suspects, self._retry, self._unfinished):
            noted.pop(file, None)
        self._searched.discard(file)
        if self._by_key.get(file.key) is file:
            del self._by_key[file.key]
        if file.path is not None and self._by_path.get(file.path) is file:
            del self._by_path[file.path]
        self._release(file)

    def _after_sweep(self) -> None:
        """What only a look at everything can tell: what is gone for good, and what never ends."""
        self._sweeps += 1
        self._by_hint.clear()
        for file in self._unreadable:
            self._changed(file)
        self._unreadable.clear()
        self._settle()
        now = self._clock()
        for file, (since, kind, detail) in list(self._unfinished.items()):
            if now - since > LINGER_S:
                del self._unfinished[file]
                self._tell_once(file, file.stream.cursor.offset if file.stream is not None else 0, kind, detail)
        wall = int(self._wall())
        for stream, sweep in list(self._orphans.items()):
            if stream.end > stream.cursor.offset and self._sweeps - sweep >= 2:
                self._tell_gap(stream)
            if stream.copies:
                stream.cursor.seen_s = wall
            if wall - stream.cursor.seen_s > FORGET_S:
                self._drop(stream)
        while len(self._streams) > MOST_STREAMS and self._orphans:
            self._drop(next(iter(self._orphans)))

    def _tell_gap(self, stream: Stream) -> None:
        cursor, missing = stream.cursor, stream.end - stream.cursor.offset
        if stream.is_partial:
            self._tell(Fault(cursor.source, cursor.offset, "incomplete_line", f"{missing} bytes without a newline, and gone"))
        else:
            self._tell(Fault(cursor.source, cursor.offset, "gap", f"{missing} bytes were gone before they could be read"))
        stream.end = cursor.size = cursor.offset

    def _tell_once(self, file: File, offset: int, kind: str, detail: str) -> None:
        if file.told != (offset, kind):
            file.told = (offset, kind)
            self._tell(Fault(file.source, offset, kind, detail))

    # -- whose turn it is -----------------------------------------------------------------------------------------------------

    def turn(self) -> Work | None:
        """The next read that brought something, to be given back to `advance` when it has been dealt with; None: all is read.

        Sources take turns; within a source the oldest file comes first.
        """
        for _ in range(len(self._queues) * 2):
            if not self._queues:
                return None
            key = next(iter(self._queues))
            self._queues.move_to_end(key)
            file = self._queues[key][0]
            if file.handle is None and not self._make_room():
                continue
            work = self._read(file)
            if work is not None:
                return work
        return None

    def advance(self, work: Work) -> None:
        """The lines of a turn have been dealt with: move the cursor behind them."""
        file, turn = work.file, work.turn
        cursor = work.stream.cursor
        if not cursor.second:
            cursor.second = second_of(turn.lines, is_start=turn.offset == 0)
        cursor.offset, cursor.marker, cursor.skipping = turn.end, turn.marker, turn.skipping
        work.stream.is_partial = False
        if not file.is_archive:
            cursor.size, cursor.mtime_ns = file.size, file.mtime_ns
            work.stream.end = max(turn.end, file.size)
        if not turn.more:
            self._dequeue(file)

    @property
    def is_behind(self) -> bool:
        """Whether any file may have bytes that were not read."""
        return bool(self._queues)

    def behind(self) -> frozenset[str]:
        """The sources of such files."""
        return frozenset(source for _, source in self._queues)

    def cursors(self) -> list[Cursor]:
        """Every stream's cursor, the live objects themselves."""
        return [stream.cursor for stream in self._streams]

    def files(self) -> Iterator[File]:
        """The files that carry a stream."""
        return (stream.file for stream in self._streams if stream.file is not None)

    def close(self) -> None:
        """Close what is open. The cursors stay as they are."""
        for file in list(self._opened):
            self._close(file)

    def _read(self, file: File) -> Work | None:
        handle, stream = self._open(file), file.stream
        if handle is None or stream is None:
            self._dequeue(file)
            if stream is not None and file.path is not None:
                self._unreadable[file] = None
            return None
        try:
            turn, file.scanned = read_turn(handle, stream.cursor, file.scanned, self._max_line_bytes)
        except OSError as error:
            self._tell_once(file, stream.cursor.offset, "unreadable", error.strerror or str(error))
            self._dequeue(file)
            self._close(file)
            self._retry[file] = self._clock() + RETRY_S
            return None
        self._unfinished.pop(file, None)
        if turn.found is Found.REPLACED:
            self._replaced(file)
            return None
        file.suspect_at = None
        self._suspects.pop(file, None)
        if turn.found is Found.LINES:
            file.told = None
            return Work(file, stream, turn)
        self._at_end(file, handle, stream, is_partial=turn.found is Found.PARTIAL)
        return None

    def _at_end(self, file: File, handle: OpenFile | Archive, stream: Stream, *, is_partial: bool) -> None:
        self._dequeue(file)
        stream.cursor.size, stream.cursor.mtime_ns = file.size, file.mtime_ns
        stream.is_partial = is_partial
        if is_partial:
            self._unfinished[file] = (self._clock(), "incomplete_line", "its end has not come for a minute")
        else:
            stream.end = stream.cursor.offset
        if isinstance(handle, Archive):
            if handle.damage is not None:
                self._unfinished[file] = (self._clock(), "damaged_archive", handle.damage)
            self._close(file)

    def _queue(self, file: File) -> None:
        if file.is_queued:
            return
        file.is_queued = True
        key = (file.root, file.source)
        waiting = self._queues.setdefault(key, [])
        waiting.append(file)
        waiting.sort(key=_age)

    def _dequeue(self, file: File) -> None:
        if not file.is_queued:
            return
        file.is_queued = False
        key = (file.root, file.source)
        self._queues[key].remove(file)
        if not self._queues[key]:
            del self._queues[key]

    def _open(self, file: File) -> OpenFile | Archive | None:
        if file.handle is not None:
            if file in self._opened:
                self._opened.move_to_end(file)
            return file.handle
        if file.path is None:
            return None
        try:
            if file.is_archive:
                file.handle = Archive(Path(file.path))
                stat = os.fstat(file.handle.fileno())
            else:
                fd = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
                file.handle = OpenFile(fd)
                stat = os.fstat(fd)
            if not S_ISREG(stat.st_mode) or (stat.st_dev, stat.st_ino) != file.key:  # another has its name by now
                self._close(file)
                return None
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._tell_once(file, 0, "unreadable", error.strerror or str(error))
            return None
        self._opened[file] = None
        return file.handle

    def _make_room(self) -> bool:
        """Keep few files open: close what was idle longest, with a name before without, and then what waits behind an older sibling.

        False where every one that is open has unread bytes and its turn.
        """
        while len(self._opened) >= self._most_open:
            if (idle := next((file for file in self._opened if not file.is_queued and file.path is not None), None)) is not None:
                self._close(idle)
            elif (nameless := next((file for file in self._opened if not file.is_queued and file not in self._suspects), None)) is not None:
                self._forget(nameless)
            elif (
                later := next((file for file in self._opened if file.path is not None and self._queues[file.root, file.source][0] is not file), None)
            ) is not None:
                self._close(later)
            else:
                return False
        return True

    def _close(self, file: File) -> None:
        if file.handle is None:
            return
        if isinstance(file.handle, Archive):
            file.handle.close()
        else:
            os.close(file.handle.fd)
        file.handle = None
        self._opened.pop(file, None)


def _exists(path: str, key: tuple[int, int]) -> bool:
    try:
        stat = os.lstat(path)
    except OSError:
        return False
    return (stat.st_dev, stat.st_ino) == key


def _age(file: File) -> tuple[bool, int, int, str]:
    """Older generations first: what was rotated or lost its name before the file that has the plain name.

    Of two with the same time, which is as fine as a tick of the kernel's clock (4 ms), the higher number is the older.
    """
    path = file.path or ""
    number = NUMBERED.search(path)
    return (file.path is not None and not file.is_rotated, file.mtime_ns, -int(number[1]) if number else 0, path)


def _likeness(stream: Stream, file: File) -> tuple[bool, bool, int]:
    """Which stream a file most likely continues: one that no file carries, of its own name, and of those the longest."""
    return (stream.file is not None, stream.cursor.source != file.source, -stream.cursor.offset)
