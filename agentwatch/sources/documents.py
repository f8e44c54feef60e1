"""Finds documents that are rewritten whole, and folders of numbered files; says which of them changed, and reads them.

Unlike a log, a document has no place up to which it was read: its decoder knows by content what it has told (`cursor.memory`). Of a
folder, whose files are written once each, `cursor.offset` is the number of the next file.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

from agentwatch.model import Cursor, Fault
from agentwatch.sources.tree import OUTPUT_DIRS, Root, scope_of, shown

MOST_BYTES = 64 << 20
"""Of one document. The largest in the corpus has 0.9 MB; at 64 MiB a reading takes half a second, and as much memory as the document."""

MOST_FILES, MOST_FOLDER_BYTES = 200, 4 << 20
"""Files of a folder that are read in one turn."""

SHARE = 20
"""A document that is rewritten all the time is read in no more than 1/20 of the time: it grows with each time, and so does a reading."""

RETRY_S = 0.2
"""A half-written document is looked at again so much later, if nothing tells of its end before."""

BROKEN_S = 60.0
"""How long a document may be half written before that is told."""

RACY_S = 0.05
"""What was written so shortly before it was read may change once more without another time: the kernel's clock ticks every 4 ms."""

FORGET_S = 86_400

_Stat = tuple[int, int, int]


class Wanted(NamedTuple):
    """Documents of one format: the files below `root` whose relative path has the `shape`.

    Where files have numbers, `shape` is that of their folder, and `files` that of their names, with the number as its first group.
    """

    format: str
    root: Root
    shape: re.Pattern[str]
    files: re.Pattern[str] | None = None


class Document:
    """A file or a folder, and what is remembered of it. `stat` is inode, size and time as they were when it was read last."""

    __slots__ = ("broken_since", "cursor", "is_history", "not_before", "path", "scope", "stat", "swept", "told", "wanted")

    def __init__(self, wanted: Wanted, path: str, scope: str, cursor: Cursor) -> None:
        self.wanted = wanted
        self.path = path
        self.scope = scope
        self.cursor = cursor
        self.stat: _Stat = (cursor.inode, cursor.size, cursor.mtime_ns)
        self.is_history = False
        self.not_before = 0.0
        self.broken_since: float | None = None
        self.told: str | None = None
        self.swept = 0


class Reading(NamedTuple):
    """What a document says now, to be given back to `advance`: its bytes, or the new files of a folder. `stat` is from before it was read.

    `is_history`: it has not changed for long, and is read only to know what is in it.
    """

    document: Document
    said: bytes | list[tuple[int, bytes]]
    stat: _Stat
    started: float
    more: bool
    is_history: bool


class Documents:
    """Deals out documents that changed since they were read last, from what `cursors` remember of them.

    Owned by one thread; `clock` gives monotonic seconds, `wall` seconds since the epoch, `tell` takes faults. Of an agent's own folder
    what has not changed for `history_s` when it is met first is history.
    """

    def __init__(
        self,
        wanted: Iterable[Wanted],
        cursors: Iterable[Cursor],
        *,
        history_s: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
        tell: Callable[[Fault], None],
    ) -> None:
        self._wanted: dict[Root, list[Wanted]] = {}
        for one in wanted:
            self._wanted.setdefault(one.root, []).append(one)
        self._history_s = history_s
        self._clock = clock
        self._wall = wall
        self._tell = tell
        self._remembered = {(cursor.path, cursor.format): cursor for cursor in cursors}
        self._documents: dict[str, Document] = {}
        self._queue: dict[Document, None] = {}
        self._sweeps = 0
        now = int(wall())
        for cursor in self._remembered.values():
            cursor.seen_s = cursor.seen_s or now

    @property
    def roots(self) -> tuple[Root, ...]:
        """The directories that are searched."""
        return tuple(self._wanted)

    def found(self) -> Iterator[tuple[Wanted, str]]:
        """What there is by the last look, with its path."""
        return ((document.wanted, path) for path, document in self._documents.items())

    # -- what is there --------------------------------------------------------------------------------------------------------

    def sweep(self) -> Iterator[None]:
        """Look at everything, a directory at a time."""
        self._sweeps += 1
        for root in self._wanted:
            yield from self._walk(root, "")
        self._forget()

    def hint(self, path: str, *, is_directory: bool) -> None:
        """Something may have happened to this path."""
        for root in self._wanted:
            prefix = f"{root.path}/"
            if not path.startswith(prefix):
                continue
            relative = path[len(prefix) :]
            if is_directory:
                for _ in self._walk(root, relative):
                    pass
            else:
                self._hint_file(root, relative)

    def _hint_file(self, root: Root, relative: str) -> None:
        folder, _, name = relative.rpartition("/")
        for wanted in self._wanted[root]:
            is_part = wanted.files is not None and wanted.files.fullmatch(name) and wanted.shape.fullmatch(folder)
            if is_part or (wanted.files is None and wanted.shape.fullmatch(relative)):
                self._look(wanted, folder if is_part else relative)

    def _walk(self, root: Root, below: str) -> Iterator[None]:
        pending = [below]
        while pending:
            relative_dir = pending.pop()
            prefix = f"{relative_dir}/" if relative_dir else ""
            try:
                with os.scandir(f"{root.path}/{relative_dir}") as entries:
                    found = [(prefix + entry.name, entry.is_dir(follow_symlinks=False), entry) for entry in entries]
            except OSError:
                yield  # not there, or told by the sweep of the logs
                continue
            for relative, is_directory, entry in found:
                for wanted in self._wanted[root]:
                    if (wanted.files is not None) == is_directory and wanted.shape.fullmatch(relative):
                        self._look(wanted, relative, entry)
                if is_directory and not (root.is_log_dir and relative in OUTPUT_DIRS) and not self._is_folder(root, relative):
                    pending.append(relative)
            yield

    def _is_folder(self, root: Root, relative: str) -> bool:
        """Whether a directory is a folder of numbered files, and nothing else is in it."""
        return any(wanted.files is not None and wanted.shape.fullmatch(relative) for wanted in self._wanted[root])

    def _look(self, wanted: Wanted, relative: str, entry: "os.DirEntry[str] | None" = None) -> None:
        path = f"{wanted.root.path}/{relative}"
        try:
            stat = entry.stat(follow_symlinks=False) if entry is not None else os.lstat(path)
        except OSError:
            return
        if not (S_ISREG if wanted.files is None else S_ISDIR)(stat.st_mode):
            return
        document = self._documents.get(path)
        if document is None:
            document = self._documents[path] = self._meet(wanted, relative, path, stat)
        document.swept = self._sweeps
        if document.stat != _key(stat):
            self._queue[document] = None

    def _meet(self, wanted: Wanted, relative: str, path: str, stat: os.stat_result) -> Document:
        scope = scope_of(wanted.root, relative.rpartition("/")[0])
        text = shown(path)
        cursor = self._remembered.pop((text, wanted.format), None)
        is_new = cursor is None
        if cursor is None:
            source = relative if wanted.root.is_log_dir else f"{wanted.root.path.name}/{relative}"
            cursor = Cursor(shown(source), text, "", 0, format=wanted.format)
        cursor.seen_s = 0
        document = Document(wanted, path, scope, cursor)
        document.is_history = is_new and not wanted.root.is_log_dir and stat.st_mtime < self._wall() - self._history_s
        return document

    def _forget(self) -> None:
        """What is gone is remembered for a day: it may be put back."""
        now = int(self._wall())
        for path, document in list(self._documents.items()):
            if document.swept != self._sweeps and not os.path.lexists(path):
                del self._documents[path]
                self._queue.pop(document, None)
                document.cursor.seen_s = now
                self._remembered[document.cursor.path, document.cursor.format] = document.cursor
        for key in [key for key, cursor in self._remembered.items() if now - cursor.seen_s > FORGET_S]:
            del self._remembered[key]

    # -- what is read ---------------------------------------------------------------------------------------------------------

    @property
    def is_behind(self) -> bool:
        """Whether any document waits whose time has come."""
        return self._next() is not None

    def behind(self) -> frozenset[str]:
        """The sources of those that wait."""
        return frozenset(document.cursor.source for document in self._queue)

    def wait_s(self) -> float | None:
        """How long until the next that waits may be read; None where none waits."""
        if not self._queue:
            return None
        return max(0.0, min(document.not_before for document in self._queue) - self._clock())

    def turn(self) -> Reading | None:
        """The next document that changed, as it is now; None where there is none."""
        document = self._next()
        if document is None:
            return None
        del self._queue[document]
        started = self._clock()
        try:
            reading = self._read_folder(document, started) if document.wanted.files is not None else self._read_file(document, started)
        except FileNotFoundError:
            return None  # its writer is putting another in its place: the hint or the sweep that finds that comes
        except OSError as error:
            self._tell_once(document, "unreadable", error.strerror or str(error))
            self._put_off(document, BROKEN_S)
            return None
        return reading

    def advance(self, reading: Reading, understood: int | None) -> None:
        """It was dealt with: `understood` is how many of a folder's files were, or None for a document that is not whole yet."""
        document, cursor = reading.document, reading.document.cursor
        is_whole = understood is not None
        if not isinstance(reading.said, bytes) and understood is not None:
            is_whole = understood == len(reading.said)
            if understood:
                cursor.offset = reading.said[understood - 1][0] + 1
                document.broken_since = None
        now = self._clock()
        if not is_whole:
            self._half_written(document, reading, now)
            return
        document.broken_since = document.told = None
        document.is_history = reading.is_history and reading.more
        if reading.more:
            self._queue[document] = None
            return
        document.not_before = now + SHARE * (now - reading.started)
        if self._wall() - reading.stat[2] / 1e9 < RACY_S:
            self._put_off(document, max(RACY_S, SHARE * (now - reading.started)))
            return
        document.stat = (cursor.inode, cursor.size, cursor.mtime_ns) = reading.stat

    def cursors(self) -> list[Cursor]:
        """What is remembered of every document, those included that are gone."""
        return [*(document.cursor for document in self._documents.values()), *self._remembered.values()]

    def documents(self) -> Iterable[Document]:
        return self._documents.values()

    def _next(self) -> Document | None:
        now = self._clock()
        return next((document for document in self._queue if document.not_before <= now), None)

    def _put_off(self, document: Document, by_s: float) -> None:
        document.not_before = self._clock() + by_s
        self._queue[document] = None

    def _half_written(self, document: Document, reading: Reading, now: float) -> None:
        if document.broken_since is None:
            document.broken_since = now
        if now - document.broken_since < BROKEN_S:
            self._put_off(document, RETRY_S)
            return
        self._tell_once(document, "unfinished_document", "it has been no whole JSON for a minute")
        cursor = document.cursor
        if isinstance(reading.said, bytes):
            document.stat = (cursor.inode, cursor.size, cursor.mtime_ns) = reading.stat
        else:  # a file that nobody will end must not hide those behind it
            cursor.offset += 1
            document.broken_since = None
            self._queue[document] = None

    def _read_file(self, document: Document, started: float) -> Reading | None:
        fd = os.open(document.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            before = os.fstat(fd)
            if not S_ISREG(before.st_mode):
                return None
            if before.st_size > MOST_BYTES:
                self._tell_once(document, "too_large", f"{before.st_size} bytes: a document of more than {MOST_BYTES} is not read")
                document.stat = _key(before)
                return None
            said = _all(fd, before.st_size)
            if _key(os.fstat(fd)) != _key(before):
                self._put_off(document, RETRY_S)
                return None
        finally:
            os.close(fd)
        return Reading(document, said, _key(before), started, more=False, is_history=document.is_history)

    def _read_folder(self, document: Document, started: float) -> Reading:
        """Those of its files that come next."""
        shape = document.wanted.files
        stat = os.lstat(document.path)
        with os.scandir(document.path) as entries:
            numbered = sorted(
                (int(match[1]), entry.path)
                for entry in entries
                if shape is not None and (match := shape.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False)
            )
        waiting = [(number, path) for number, path in numbered if number >= document.cursor.offset]
        files: list[tuple[int, bytes]] = []
        room = MOST_FOLDER_BYTES
        for number, path in waiting[:MOST_FILES]:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                size = os.fstat(fd).st_size
                if files and size > room:
                    break
                files.append((number, _all(fd, min(size, MOST_BYTES))))
                room -= size
            finally:
                os.close(fd)
        return Reading(document, files, _key(stat), started, more=len(files) < len(waiting), is_history=document.is_history)

    def _tell_once(self, document: Document, kind: str, detail: str) -> None:
        if document.told != kind:
            document.told = kind
            self._tell(Fault(document.cursor.source, document.cursor.offset, kind, detail))


def _all(fd: int, size: int) -> bytes:
    """Up to `size` bytes, fewer where there are no more."""
    chunks = []
    while size > 0 and (chunk := os.read(fd, size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _key(stat: os.stat_result) -> _Stat:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
