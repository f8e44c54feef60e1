"""Which file continues which stream, and whose turn it is. The one owner of all cursors.

A *stream* is a sequence of bytes that is read once: its cursor says how far. A *file* is an inode that we know. Normally one
carries the other; rotation, truncation, copies and deletion are what parts them, and content is what joins them again
(tailing.md, section 3.2). The rules stand in `docs/design.md` and are run against random programs in `tests/torture`.
"""

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from agentwatch.model import Cursor, Fault
from agentwatch.sources.archive import Archive
from agentwatch.sources.lines import HEAD_BYTES, MARKER_BYTES, Bytes, Found, OpenFile, Turn, digest, head, read_turn
from agentwatch.sources.tree import Root, Seen, list_dir, look, shown, walk

LINGER_S = 60.0
"""How long a deleted file is kept open after its last growth: a writer may still hold it (tailing.md, case 15)."""

FORGET_S = 86_400
MOST_STREAMS = 50_000
SUSPECT_S = 1.0
"""A network file system may show an old size for a moment: a shrunken file with the same first line is looked at twice (case 33)."""

COMPARE_BYTES = 1 << 20


RETRY_S = 1.0
"""A file whose read failed is left alone for so long: mtail spun at 100 % of a core on such a one (tailing.md, section 2)."""


class File:
    """An inode, where it stands in the tree, and what it carries."""

    __slots__ = (
        "compared", "copy_of", "directory", "handle", "is_archive", "is_queued", "is_rotated", "key", "lost_at", "mtime_ns",
        "path", "root", "scanned", "scope", "size", "source", "stream", "suspect_at",
    )  # fmt: skip

    def __init__(self, root: Root, seen: Seen) -> None:
        self.root = root
        self.path: str | None = seen.path
        self.directory = seen.path.rpartition("/")[0]
        self.source = seen.source
        self.scope = seen.scope
        self.is_rotated = seen.is_rotated
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
        self.lost_at: float | None = None
        self.suspect_at: float | None = None


class Stream:
    """A cursor, and the file that carries it now. `end` is how far the stream is known to reach."""

    __slots__ = ("cursor", "directory", "end", "file", "scope")

    def __init__(self, cursor: Cursor, directory: str) -> None:
        self.cursor = cursor
        self.directory = directory
        self.file: File | None = None
        self.end = cursor.offset
        self.scope = ""


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
        self._queues: dict[tuple[Root, str], list[File]] = {}
        self._turns: deque[tuple[Root, str]] = deque()
        self._opened: OrderedDict[File, None] = OrderedDict()
        self._unknown: dict[File, None] = {}
        self._lost: dict[File, None] = {}
        self._searched: set[File] = set()
        self._suspects: dict[File, None] = {}
        self._unreadable: dict[File, None] = {}
        self._retry: dict[File, float] = {}
        self._refused: set[str] = set()
        self._sweeps = 0
        self.found_by_sweep = 0
        self.directories = 0
        for cursor in cursors:
            stream = self._add(Stream(cursor, cursor.path.rpartition("/")[0]))
            self._by_hint[cursor.path] = stream
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
            if file is not None:
                if file.path is not None and file.path != seen.path and _exists(file.path, key):
                    return  # a hard link: one stream
                self._move(file, root, seen)
            else:
                file = self._meet(root, seen)
        if (seen.stat.st_size, seen.stat.st_mtime_ns) == (file.size, file.mtime_ns):
            return
        if by_sweep and file.size >= 0:
            self.found_by_sweep += 1
        file.size, file.mtime_ns = seen.stat.st_size, seen.stat.st_mtime_ns
        self._changed(file)

    def _meet(self, root: Root, seen: Seen) -> File:
        file = File(root, seen)
        self._by_path[seen.path] = file
        self._by_key[file.key] = file
        stream = self._by_hint.get(shown(seen.path))
        if stream is None or stream.file is not None:
            return file
        cursor, stat = stream.cursor, seen.stat
        if (cursor.device, cursor.inode, cursor.size, cursor.mtime_ns) == (*file.key, stat.st_size, stat.st_mtime_ns):
            self._bind(file, stream)
            if not seen.is_archive and cursor.offset == stat.st_size:
                file.size, file.mtime_ns = stat.st_size, stat.st_mtime_ns  # nothing happened since: needs no look inside
        return file

    def _move(self, file: File, root: Root, seen: Seen) -> None:
        if file.path is not None:
            self._by_path.pop(file.path, None)
        file.root, file.path, file.directory = root, seen.path, seen.path.rpartition("/")[0]
        file.is_rotated = seen.is_rotated
        file.lost_at = None
        self._lost.pop(file, None)
        self._by_path[seen.path] = file
        if file.stream is not None:
            file.stream.cursor.path = shown(seen.path)
            file.stream.directory = shown(file.directory)

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
        if file.handle is not None and file.stream is not None:
            self._queue(file)

    def _settle(self) -> None:
        """Join files and streams. Renamed siblings are found first, so that nothing is taken for new that has only moved."""
        siblings = {file for file in self._unknown if any(stream.file is not file for stream in self._by_source.get(file.source, ()))}
        for root, directory in {(file.root, file.directory) for file in (*self._lost, *siblings) if file not in self._searched}:
            self._rescan(root, directory)
        self._searched.update(self._lost)
        now = self._clock()
        for file in list(self._lost):
            self._drain(file, now)
        for file in [one for one in self._suspects if now - (one.suspect_at or now) >= SUSPECT_S]:
            del self._suspects[file]
            self._queue(file)
        pending = sorted(self._unknown, key=_age)
        self._unknown.clear()
        for file in pending:
            if file.path is not None and file.stream is None:
                self._identify(file)

    def _drain(self, file: File, now: float) -> None:
        """A file without a name: read what its writer still appends, and let it go when nothing has come for a while."""
        if file.is_queued:
            return
        if not isinstance(file.handle, OpenFile) or file.stream is None:
            self._forget(file)
            return
        size = os.fstat(file.handle.fd).st_size
        if size != file.size:
            file.size, file.lost_at = size, now
            self._queue(file)
        elif now - (file.lost_at or now) > LINGER_S:
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

    def _identify(self, file: File) -> None:
        """Bind a file by its content: to the stream it continues, as a copy to the stream it repeats, or as a new stream."""
        handle = self._open(file)
        if handle is None:
            self._unreadable[file] = None
            return
        try:
            self._match(file, handle)
        except OSError as error:
            self._tell(Fault(file.source, 0, "unreadable", str(error)))
            self._unreadable[file] = None
        if file.stream is None:
            self._close(file)

    def _match(self, file: File, handle: OpenFile | Archive) -> None:
        found = head(handle)
        if found is None:
            return
        file.copy_of = None
        candidates = [
            stream
            for stream in self._by_head.get(found.digest, ())
            if stream.directory == shown(file.directory) or (stream.cursor.device, stream.cursor.inode) == file.key
        ]
        for stream in sorted(candidates, key=lambda one: (one.file is not None, one.cursor.source != file.source)):
            if stream.file is None:
                if _continues(file, handle, stream.cursor):
                    self._bind(file, stream)
                    self._queue(file)
                    return
                continue
            start = 0 if stream.file is file else self._compare(file, handle, stream)
            if start is None:
                file.copy_of = stream
                return
            if start:
                marker = handle.pread(min(MARKER_BYTES, start), max(0, start - MARKER_BYTES))
                self._bind(file, self._new(file, found.digest, start, digest(marker)))
                self._queue(file)
                return
        stream = self._new(file, found.digest, 0, "")
        self._bind(file, stream)
        if not file.root.is_log_dir and file.mtime_ns / 1e9 < self._wall() - self._history_s:
            _to_end(handle, stream.cursor, file.size)
        else:
            self._queue(file)

    def _compare(self, file: File, handle: OpenFile | Archive, stream: Stream) -> int | None:
        """Against a stream that another file carries: None where `file` is a copy of it so far, else where its own lines begin.

        The bytes before the cursor decide where they can; a file that is shorter is compared whole, from where it was the last
        time. Lines that both have were read with the other file. 0: they share nothing but the first line.
        """
        cursor = stream.cursor
        if isinstance(handle, Archive) or (cursor.offset > HEAD_BYTES and _continues(file, handle, cursor)):
            return None
        other = self._open(stream.file) if stream.file is not None else None
        if other is None:
            return None
        shared = _shared(handle, other, file.compared)
        file.compared = max(0, shared - MARKER_BYTES)
        mine, theirs = handle.pread(1, shared), other.pread(1, shared)
        if not mine:
            return None
        if not theirs and shared <= cursor.offset and not other.pread(1, max(0, shared - 1)):
            return 0
        lines = _line_start(handle, shared)
        first = _line_start(handle, 0, forward=True)
        return lines if lines > first else 0

    def _bind(self, file: File, stream: Stream) -> None:
        file.stream, file.copy_of, file.scanned = stream, None, 0
        stream.file, stream.directory, stream.scope = file, shown(file.directory), file.scope
        stream.cursor.path = shown(file.path or "")
        stream.cursor.device, stream.cursor.inode = file.key
        stream.cursor.seen_s = int(self._wall())
        self._orphans.pop(stream, None)

    def _new(self, file: File, head_digest: str, offset: int, marker: str) -> Stream:
        return self._add(Stream(Cursor(file.source, shown(file.path or ""), head_digest, offset, marker), shown(file.directory)))

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
        if self._by_hint.get(stream.cursor.path) is stream:
            del self._by_hint[stream.cursor.path]

    def _release(self, file: File) -> None:
        """Part a file from its stream. A copy of it may carry the stream on."""
        stream = file.stream
        if stream is None:
            return
        file.stream, file.scanned, file.compared = None, 0, 0
        stream.file = None
        self._orphans[stream] = self._sweeps
        for other in self._by_path.values():
            if other.copy_of is stream:
                other.copy_of, other.compared = None, 0
                self._unknown[other] = None

    def _replaced(self, file: File) -> None:
        """The file no longer has what was read from it: truncated, refilled, or its inode used again."""
        self._dequeue(file)
        stream = file.stream
        if stream is None:
            return
        if self._may_lag(file, stream.cursor):
            file.suspect_at = self._clock()
            self._suspects[file] = None
            return
        file.suspect_at = None
        self._release(file)
        self._close(file)
        self._rescan(file.root, file.directory)
        if file.path is not None:
            self._unknown[file] = None
        self._settle()

    def _may_lag(self, file: File, cursor: Cursor) -> bool:
        if file.suspect_at is not None or not isinstance(file.handle, OpenFile):
            return False
        size = os.fstat(file.handle.fd).st_size
        if not 0 < size < cursor.offset:
            return False
        found = head(file.handle)
        return found is not None and found.digest == cursor.head

    def _forget(self, file: File) -> None:
        self._close(file)
        self._dequeue(file)
        self._lost.pop(file, None)
        self._searched.discard(file)
        self._unknown.pop(file, None)
        self._unreadable.pop(file, None)
        self._suspects.pop(file, None)
        if self._by_key.get(file.key) is file:
            del self._by_key[file.key]
        self._release(file)

    def _after_sweep(self) -> None:
        """What only a look at everything can tell: what is gone for good."""
        self._sweeps += 1
        self._unknown.update(self._unreadable)
        self._unreadable.clear()
        self._settle()
        now = int(self._wall())
        for stream, since in list(self._orphans.items()):
            if stream.end > stream.cursor.offset and self._sweeps - since >= 2:
                self._tell(Fault(stream.cursor.source, stream.cursor.offset, "gap", f"{stream.end - stream.cursor.offset} bytes were gone before they could be read"))
                stream.end = stream.cursor.offset
            if now - stream.cursor.seen_s > FORGET_S:
                self._drop(stream)
        while len(self._streams) > MOST_STREAMS and self._orphans:
            self._drop(next(iter(self._orphans)))

    # -- whose turn it is -----------------------------------------------------------------------------------------------------

    def turn(self) -> Work | None:
        """The next read that brought something, to be given back to `advance` when it has been dealt with; None: all is read.

        Sources take turns; within a source the oldest file comes first.
        """
        for _ in range(len(self._turns) * 2):
            if not self._turns:
                return None
            key = self._turns[0]
            self._turns.rotate(-1)
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
        cursor.offset, cursor.marker, cursor.skipping = turn.end, turn.marker, turn.skipping
        cursor.size, cursor.mtime_ns = file.size, file.mtime_ns
        work.stream.end = max(turn.end, file.size if not file.is_archive else 0)
        if not turn.more:
            self._dequeue(file)

    @property
    def is_behind(self) -> bool:
        """Whether any file may have bytes that were not read."""
        return bool(self._turns)

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
            self._tell(Fault(file.source, stream.cursor.offset, "unreadable", str(error)))
            self._dequeue(file)
            self._close(file)
            self._retry[file] = self._clock() + RETRY_S
            return None
        if turn.found is Found.REPLACED:
            self._replaced(file)
            return None
        file.suspect_at = None
        if turn.found is Found.END:
            self._dequeue(file)
            stream.cursor.size, stream.cursor.mtime_ns = file.size, file.mtime_ns
            if file.is_archive:
                self._close(file)
            return None
        return Work(file, stream, turn)

    def _queue(self, file: File) -> None:
        if file.is_queued:
            return
        file.is_queued = True
        key = (file.root, file.source)
        waiting = self._queues.get(key)
        if waiting is None:
            self._queues[key] = [file]
            self._turns.append(key)
            return
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
            self._turns.remove(key)

    def _open(self, file: File) -> OpenFile | Archive | None:
        if file.handle is not None:
            if file in self._opened:
                self._opened.move_to_end(file)
            return file.handle
        if file.path is None:
            return None
        self._make_room()
        try:
            if file.is_archive:
                file.handle = Archive(Path(file.path))
            else:
                fd = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
                stat = os.fstat(fd)
                if not S_ISREG(stat.st_mode) or (stat.st_dev, stat.st_ino) != file.key:
                    os.close(fd)
                    return None
                file.handle = OpenFile(fd)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._tell(Fault(file.source, 0, "unreadable", error.strerror or str(error)))
            return None
        self._opened[file] = None
        return file.handle

    def _make_room(self) -> bool:
        """Keep few files open: close the one that was idle longest. False where each that is open has unread bytes or no name."""
        if len(self._opened) < self._most_open:
            return True
        idle = next((file for file in self._opened if not file.is_queued and file.path is not None), None)
        if idle is None:
            return False
        self._close(idle)
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


def _age(file: File) -> tuple[bool, int, bool, str]:
    """Older generations first: what was rotated or lost its name before the file that has the plain name."""
    return (file.path is not None and not file.is_rotated, file.mtime_ns, file.is_archive, file.path or "")


def _continues(file: File, handle: OpenFile | Archive, cursor: Cursor) -> bool:
    """Whether the bytes before the cursor are those that were read."""
    before = min(MARKER_BYTES, cursor.offset)
    if not isinstance(handle, Archive) and file.size < cursor.offset:
        return False
    return digest(handle.pread(before, cursor.offset - before)) == cursor.marker


def _shared(one: Bytes, other: Bytes, start: int) -> int:
    """How many bytes the two have in common, known to be at least `start`."""
    while True:
        mine, theirs = one.pread(COMPARE_BYTES, start), other.pread(COMPARE_BYTES, start)
        if mine == theirs and len(mine) == COMPARE_BYTES:
            start += COMPARE_BYTES
            continue
        return start + len(os.path.commonprefix([mine, theirs]))  # noqa: RUF071  # bytes of logs, not paths


def _line_start(handle: Bytes, position: int, *, forward: bool = False) -> int:
    """The first byte of the line that `position` stands in; `forward`: of the next line instead."""
    if forward:
        while chunk := handle.pread(COMPARE_BYTES, position):
            newline = chunk.find(b"\n")
            if newline >= 0:
                return position + newline + 1
            position += len(chunk)
        return position
    while position > 0:
        start = max(0, position - COMPARE_BYTES)
        newline = handle.pread(position - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        position = start
    return 0


def _to_end(handle: Bytes, cursor: Cursor, size: int) -> None:
    """Begin behind what is there: history that nobody wants to be alerted about."""
    cursor.offset = _line_start(handle, size)
    before = min(MARKER_BYTES, cursor.offset)
    cursor.marker = digest(handle.pread(before, cursor.offset - before))
