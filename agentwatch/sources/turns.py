"""Whose turn it is, and which files are open for it. Knows queues and descriptors; never reads."""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG

from agentwatch.sources.archive import Archive
from agentwatch.sources.lines import OpenFile
from agentwatch.sources.streams import File
from agentwatch.sources.tree import Root


class Turns:
    """Files that may have unread bytes wait here: sources take turns, and within a source the oldest file comes first.

    About `most_open` files stay open at once. `forget` is called with one that has no name any more and is closed to make room:
    nobody can open it again. `tell` takes a file, an offset, and the kind and the detail of what went wrong there.
    """

    def __init__(self, most_open: int, forget: Callable[[File], None], tell: Callable[[File, int, str, str], None]) -> None:
        self._most_open = most_open
        self._forget = forget
        self._tell = tell
        self._queues: OrderedDict[tuple[Root, str], list[File]] = OrderedDict()
        self._opened: OrderedDict[File, None] = OrderedDict()

    def __len__(self) -> int:
        """How many sources wait."""
        return len(self._queues)

    @property
    def sources(self) -> frozenset[str]:
        """Those that wait."""
        return frozenset(source for _, source in self._queues)

    @property
    def is_crowded(self) -> bool:
        """Whether more files are open than should be."""
        return len(self._opened) > self._most_open

    def queue(self, file: File) -> None:
        """It may have unread bytes."""
        if file.is_queued:
            return
        file.is_queued = True
        waiting = self._queues.setdefault((file.place.root, file.source), [])
        waiting.append(file)
        waiting.sort(key=File.age)

    def dequeue(self, file: File) -> None:
        """It has none that could be read now."""
        if not file.is_queued:
            return
        file.is_queued = False
        key = (file.place.root, file.source)
        self._queues[key].remove(file)
        if not self._queues[key]:
            del self._queues[key]
            if not self._queues:
                self._queues.clear()  # a dict that became empty by deletions has still room for 10,000

    def next(self) -> File | None:
        """The file whose turn it is, open or with room to be opened; it goes on waiting. None where it has to wait for a descriptor, or no one waits."""
        if not self._queues:
            return None
        key = next(iter(self._queues))
        self._queues.move_to_end(key)
        file = self._queues[key][0]
        return file if file.handle is not None or self._make_room() else None

    def open(self, file: File) -> OpenFile | Archive | None:
        """What it can be read by; None where it cannot be opened, or where its name belongs to another file by now."""
        if file.handle is not None:
            self._opened.move_to_end(file)
            return file.handle
        if file.path is None:
            return None
        try:
            if file.is_archive:
                file.handle = Archive(Path(file.path))
                fd = file.handle.fileno()
            else:
                fd = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
                file.handle = OpenFile(fd)
            self._opened[file] = None
            stat = os.fstat(fd)
        except OSError as error:
            self.close(file)
            if not isinstance(error, FileNotFoundError):
                self._tell(file, 0, "unreadable", error.strerror or str(error))
            return None
        if not S_ISREG(stat.st_mode) or (stat.st_dev, stat.st_ino) != file.key:
            self.close(file)
        return file.handle

    def close(self, file: File) -> None:
        """It may be opened again, as long as it has its name."""
        if file.handle is None:
            return
        if isinstance(file.handle, Archive):
            file.handle.close()
        else:
            os.close(file.handle.fd)
        file.handle = None
        del self._opened[file]

    def close_all(self) -> None:
        """Nothing stays open."""
        for file in list(self._opened):
            self.close(file)

    def _make_room(self) -> bool:
        """Keep few files open: close what was idle longest, with a name before without, and then what waits behind an older sibling.

        False where every one that is open has unread bytes and its turn.
        """
        while len(self._opened) >= self._most_open:
            if (idle := next((file for file in self._opened if not file.is_queued and file.path is not None), None)) is not None:
                self.close(idle)
            elif (nameless := next((file for file in self._opened if not file.is_queued and file.suspect_at is None), None)) is not None:
                self._forget(nameless)
            elif (
                later := next((file for file in self._opened if file.path is not None and self._queues[file.place.root, file.source][0] is not file), None)
            ) is not None:
                self.close(later)
            else:
                return False
        return True
