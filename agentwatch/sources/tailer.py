"""Finds files, follows them through whatever happens to them, and reads them in turns: the way into `sources`."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from agentwatch.model import Cursor, Fault
from agentwatch.sources.adoption import Adoption
from agentwatch.sources.archive import Archive
from agentwatch.sources.identity import second_of
from agentwatch.sources.lines import Found, OpenFile, Turn, head, read_turn
from agentwatch.sources.streams import Device, File, Stream, Streams
from agentwatch.sources.tree import Place, Root, Seen, list_dir, look, walk
from agentwatch.sources.turns import Turns

LINGER_S = 60.0
"""How long a deleted file is kept open after its last growth: a writer may still hold it (tailing.md, case 15). Also how long
the end of a line, or of an archive, is waited for before it is told that there is none."""

SUSPECT_S = 1.0
"""A network file system may show an old size for a moment: a shrunken file with the same first line is looked at twice (case 33)."""

RETRY_S = 1.0
"""A file whose read failed is left alone for so long: mtail spun at 100 % of a core on such a one (tailing.md, section 2)."""


class Work(NamedTuple):
    """A turn to be dealt with: which stream it belongs to, and what was read."""

    file: File
    stream: Stream
    turn: Turn


class Tailer:
    """Deals out what is new in the files below `roots`, from where `cursors` stand.

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
        self._clock = clock
        self._tell = tell
        self._streams = Streams(cursors, wall, tell)
        self._turns = Turns(most_open, self._forget, self._tell_once)
        self._adoption = Adoption(self._streams, self._turns, part=self._part, wall=wall, history_s=history_s)
        self._by_path: dict[str, File] = {}
        self._devices: dict[int, Device] = {}
        self._unknown: dict[File, None] = {}
        self._lost: dict[File, float] = {}
        self._searched: set[File] = set()
        self._suspects: dict[File, None] = {}
        self._unreadable: dict[File, None] = {}
        self._retry: dict[File, float] = {}
        self._unfinished: dict[File, tuple[float, str, str]] = {}
        self._refused: set[str] = set()
        self._sweep = 0
        self.found_by_sweep = 0
        self.directories = 0

    # -- what is there --------------------------------------------------------------------------------------------------------

    def sweep(self) -> Iterator[None]:
        """Look at everything, a directory at a time: what this finds needs no event. To be run to its end now and then."""
        self._sweep += 1
        count = 0
        for root in self.roots:
            for relative_dir, found in walk(root):
                directory = os.path.join(root.path, relative_dir) if relative_dir else os.fspath(root.path)  # noqa: PTH118
                if isinstance(found, OSError):
                    self._refuse(directory, found, missing_is_fine=not relative_dir)
                    yield
                    continue
                count += 1
                self._refused.discard(directory)
                for seen in found:
                    self._examine(seen, by_sweep=True)
                yield
            self._lose_what_was_not_met(root)
            yield
        self.directories = count
        self._after_sweep()

    def hint(self, root: Root, relative_path: str) -> None:
        """Something may have happened to this path."""
        seen = look(root, relative_path)
        if seen is not None:
            self._examine(seen, by_sweep=False)
            return
        file = self._by_path.get(f"{root.path}/{relative_path}")
        if file is not None:
            self._lose(file)

    def hint_directory(self, root: Root, relative_path: str) -> None:
        """Something happened to a directory: files in it, and below it, may have had no events of their own."""
        for _, found in walk(root, relative_path):
            for seen in found if not isinstance(found, OSError) else ():
                self._examine(seen, by_sweep=False)

    def settle(self) -> None:
        """After a batch of hints: decide what the files are that appeared or changed."""
        if self._retry:
            now = self._clock()
            for file in [one for one, at in self._retry.items() if at <= now]:
                del self._retry[file]
                self._changed(file)
        if self._unknown or self._suspects or self._lost:
            self._settle()

    def _examine(self, seen: Seen, *, by_sweep: bool) -> None:
        stat = seen.stat
        key = (stat.st_dev, stat.st_ino)
        file = self._by_path.get(seen.path)
        if file is not None and file.key != key:
            self._lose(file)
            file = None
        if file is None:
            device = self._devices.get(stat.st_dev)
            if device is None:
                device = self._devices[stat.st_dev] = Device(stat.st_dev, {})
            file = device.files.get(stat.st_ino)
            if file is not None and file.is_archive != seen.is_archive:
                self._forget(file)  # the inode of a deleted file, used again
                file = None
            if file is None:
                file = self._meet(device, seen)
            elif file.path is None or not _exists(file.path, key):
                self._move(file, seen)
            else:
                return  # a hard link: one stream
        if by_sweep:
            file.swept = self._sweep
        size, mtime_ns = stat.st_size, stat.st_mtime_ns
        if (size, mtime_ns) == (file.size, file.mtime_ns):
            return
        if by_sweep and file.size >= 0:
            self.found_by_sweep += 1
        file.size, file.mtime_ns = size, mtime_ns
        if file.is_archive:
            self._turns.close(file)  # what was unpacked of it may stand there no longer
        self._changed(file)

    def _meet(self, device: Device, seen: Seen) -> File:
        file = File(device, seen)
        self._by_path[seen.path] = file
        device.files[file.inode] = file
        stream = self._streams.remembered(seen.path)
        if stream is None:
            return file
        cursor, stat = stream.cursor, seen.stat
        if (cursor.device, cursor.inode, cursor.size, cursor.mtime_ns) == (*file.key, stat.st_size, stat.st_mtime_ns):
            self._streams.bind(file, stream)
            if seen.is_archive or cursor.offset == stat.st_size:
                file.size, file.mtime_ns = stat.st_size, stat.st_mtime_ns  # nothing happened since: needs no look inside
        return file

    def _move(self, file: File, seen: Seen) -> None:
        # Its turn may have come while it had no name, or another than the one under which it was seen.
        is_due = file.is_queued or file in self._lost or file in self._unreadable
        self._turns.dequeue(file)
        if file.path is not None and self._by_path.get(file.path) is file:
            del self._by_path[file.path]
        file.stand(seen)
        self._lost.pop(file, None)
        self._searched.discard(file)
        self._by_path[seen.path] = file
        if file.stream is not None and file.handle is None and (seen.stat.st_size, seen.stat.st_mtime_ns) != (file.size, file.mtime_ns):
            self._part(file)  # nothing held its inode: this may be another file, anywhere
        if file.stream is not None:
            file.stream.cursor.path = file.shown
        self._unreadable.pop(file, None)
        if is_due:
            self._changed(file)

    def _changed(self, file: File) -> None:
        if file.stream is None:
            self._unknown[file] = None
        else:
            self._turns.queue(file)

    def _lose_what_was_not_met(self, root: Root) -> None:
        unmet = [file for file in self._by_path.values() if file.swept != self._sweep and file.place.root == root]
        for file in unmet:
            if file.path is not None and not _exists(file.path, file.key):
                self._lose(file)

    def _lose(self, file: File) -> None:
        """Its path names it no longer. What is open is read to its end; what is not may turn up under another name."""
        if file.path is not None and self._by_path.get(file.path) is file:
            del self._by_path[file.path]
        file.path = None
        self._lost[file] = self._clock()
        if file.stream is None:
            return
        if file.handle is not None:
            self._turns.queue(file)
        elif not file.is_archive:
            file.stream.end = max(file.stream.end, file.size)

    def _settle(self) -> None:
        """Join files and streams. Renamed siblings are found first, so that nothing is taken for new that has only moved."""
        siblings = [file for file in self._unknown if self._streams.has_source(file.source)]
        for place in {file.place for file in (*self._lost, *siblings) if file not in self._searched}:
            self._rescan(place)
        self._searched.update(self._lost)
        now = self._clock()
        for file in [one for one in self._suspects if now - (one.suspect_at or 0.0) >= SUSPECT_S]:
            del self._suspects[file]
            self._turns.queue(file)
        for file in list(self._lost):
            if not file.is_queued and file not in self._suspects and file not in self._unknown:
                self._drain(file, now)
        while self._unknown:
            pending = sorted(self._unknown, key=File.age)
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
            self._lost[file] = now
            file.size, stream.end = size, max(stream.end, size)
            self._turns.queue(file)
        elif now - self._lost[file] > LINGER_S:
            self._forget(file)

    def _rescan(self, place: Place) -> None:
        relative_dir = place.directory[len(os.fspath(place.root.path)) + 1 :]
        try:
            files, _ = list_dir(place.root, relative_dir)
        except OSError:
            return
        for seen in files:
            self._examine(seen, by_sweep=False)

    def _identify(self, file: File, *, is_last: bool) -> bool:
        """Find out by its content what a file is. False where that has to wait until the others were looked at; not if it `is_last`."""
        handle = self._turns.open(file)
        if handle is None:
            if file.path is not None:
                self._unreadable[file] = None
            return True
        is_sure = True
        try:
            is_sure = self._adoption.match(file, handle, is_last=is_last)
        except OSError as error:
            self._tell_once(file, 0, "unreadable", error.strerror or str(error))
            self._unreadable[file] = None
        if isinstance(handle, Archive) and handle.damage is not None and file.stream is None:
            self._unfinished[file] = (self._clock(), "damaged_archive", handle.damage)
        if file.stream is None or (file.path is not None and self._turns.is_crowded):
            self._turns.close(file)
        return is_sure

    def _part(self, file: File) -> None:
        """It no longer has what was read from it: truncated, refilled, or its inode used again."""
        self._turns.dequeue(file)
        self._suspects.pop(file, None)
        self._release(file)
        file.compared = 0
        self._unknown[file] = None

    def _release(self, file: File) -> None:
        if file.stream is not None:
            self._unfinished.pop(file, None)
            self._unknown.update(dict.fromkeys(self._streams.release(file)))

    def _forget(self, file: File) -> None:
        self._turns.close(file)
        self._turns.dequeue(file)
        self._streams.repeat(file, None)
        for noted in (self._lost, self._unknown, self._unreadable, self._suspects, self._retry, self._unfinished):
            noted.pop(file, None)
        self._searched.discard(file)
        if file.device.files.get(file.inode) is file:
            del file.device.files[file.inode]
        if file.path is not None and self._by_path.get(file.path) is file:
            del self._by_path[file.path]
        self._release(file)

    def _after_sweep(self) -> None:
        """What only a look at everything can tell: what is gone for good, and what never ends."""
        self._streams.count_sweep()
        for file in self._unreadable:
            self._changed(file)
        self._unreadable.clear()
        self._settle()
        now = self._clock()
        for file, (since, kind, detail) in list(self._unfinished.items()):
            if now - since > LINGER_S:
                del self._unfinished[file]
                self._tell_once(file, file.stream.cursor.offset if file.stream is not None else 0, kind, detail)
        self._streams.forget_old()

    def _refuse(self, directory: str, error: OSError, *, missing_is_fine: bool) -> None:
        if directory in self._refused or (missing_is_fine and isinstance(error, FileNotFoundError)):
            return
        self._refused.add(directory)
        self._tell(Fault(directory, 0, "unreadable_directory", error.strerror or str(error)))

    def _tell_once(self, file: File, offset: int, kind: str, detail: str) -> None:
        if file.told != (offset, kind):
            file.told = (offset, kind)
            self._tell(Fault(file.source, offset, kind, detail))

    # -- what is read ---------------------------------------------------------------------------------------------------------

    def turn(self) -> Work | None:
        """The next read that brought something, to be given back to `advance` when it has been dealt with; None: all is read.

        Sources take turns; within a source the oldest file comes first.
        """
        for _ in range(len(self._turns) * 2):
            file = self._turns.next()
            work = self._read(file) if file is not None else None
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
            self._turns.dequeue(file)

    @property
    def is_behind(self) -> bool:
        """Whether any file may have bytes that were not read."""
        return len(self._turns) > 0

    def behind(self) -> frozenset[str]:
        """The sources of such files."""
        return self._turns.sources

    def cursors(self) -> list[Cursor]:
        """Every stream's cursor, the live objects themselves."""
        return [stream.cursor for stream in self._streams]

    def files(self) -> Iterator[File]:
        """The files that carry a stream."""
        return (stream.file for stream in self._streams if stream.file is not None)

    def close(self) -> None:
        """Close what is open. The cursors stay as they are."""
        self._turns.close_all()

    def _read(self, file: File) -> Work | None:
        handle, stream = self._turns.open(file), file.stream
        if handle is None or stream is None:
            self._turns.dequeue(file)
            if stream is not None and file.path is not None:
                self._unreadable[file] = None
            return None
        try:
            turn, file.scanned = read_turn(handle, stream.cursor, file.scanned, self._max_line_bytes)
        except OSError as error:
            self._tell_once(file, stream.cursor.offset, "unreadable", error.strerror or str(error))
            self._turns.dequeue(file)
            self._turns.close(file)
            self._retry[file] = self._clock() + RETRY_S
            return None
        self._unfinished.pop(file, None)
        if turn.found is Found.REPLACED:
            self._replaced(file, handle, stream.cursor)
            return None
        file.suspect_at = None
        self._suspects.pop(file, None)
        if turn.found is Found.LINES:
            file.told = None
            return Work(file, stream, turn)
        self._at_end(file, handle, stream, is_partial=turn.found is Found.PARTIAL)
        return None

    def _replaced(self, file: File, handle: OpenFile | Archive, cursor: Cursor) -> None:
        self._turns.dequeue(file)
        if self._may_lag(file, handle, cursor):
            self._suspects[file] = None
            return
        self._part(file)
        if file.path is not None:
            self._rescan(file.place)
        self._settle()

    def _may_lag(self, file: File, handle: OpenFile | Archive, cursor: Cursor) -> bool:
        if not isinstance(handle, OpenFile):
            return False
        now = self._clock()
        if file.suspect_at is not None:
            return now - file.suspect_at < SUSPECT_S
        if not 0 < os.fstat(handle.fd).st_size < cursor.offset or head(handle) != cursor.head:
            return False
        file.suspect_at = now
        return True

    def _at_end(self, file: File, handle: OpenFile | Archive, stream: Stream, *, is_partial: bool) -> None:
        self._turns.dequeue(file)
        stream.cursor.size, stream.cursor.mtime_ns = file.size, file.mtime_ns
        stream.is_partial = is_partial
        if is_partial:
            self._unfinished[file] = (self._clock(), "incomplete_line", "its end has not come for a minute")
        else:
            stream.end = stream.cursor.offset
        if isinstance(handle, Archive):
            if handle.damage is not None:
                self._unfinished[file] = (self._clock(), "damaged_archive", handle.damage)
            self._turns.close(file)


def _exists(path: str, key: tuple[int, int]) -> bool:
    try:
        stat = os.lstat(path)
    except OSError:
        return False
    return (stat.st_dev, stat.st_ino) == key
