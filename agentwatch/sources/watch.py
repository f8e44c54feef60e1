"""Wake-ups from the file system. A hint to look, never a fact: what this misses, the sweep finds (tailing.md, section 0)."""

import contextlib
import logging
import os
import threading
import warnings
from pathlib import Path
from queue import Empty, SimpleQueue

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyObserver

from agentwatch.sources.tree import Root

# At 10,000 directories each of these warnings carries 1 MB of watchdog's watch table; on an undrained stderr its thread stops.
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.observers\.inotify$")

# What watchdog logs is for its developers; what matters to us is heard by `_OverflowListener`.
logging.getLogger("watchdog").addHandler(logging.NullHandler())
logging.getLogger("watchdog").propagate = False

EVENTS: list[type[FileSystemEvent]] = [FileModifiedEvent, FileCreatedEvent, FileMovedEvent, FileDeletedEvent, DirCreatedEvent, DirDeletedEvent, DirMovedEvent]
"""Without the events that our own reading makes (open, close)."""

OVERFLOW = "queue overflowed"
"""In the text that watchdog 7.1.0 logs when the kernel's queue was full: it is told nowhere else, so the version is pinned."""


class Wake:
    """As `threading.Event`, but may be set by a signal handler: an event's lock is not reentrant, and a signal that came while its thread held it hung the daemon.

    For one thread that waits; a wait that was not in vain clears it.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """End the wait, or the next one."""
        if self._calls.empty():  # whoever sets it after every note shall not fill the memory
            self._calls.put(None)

    def is_set(self) -> bool:
        return not self._calls.empty()

    def wait(self, timeout_s: float) -> bool:
        """Until it is set, and no longer than that; whether it was."""
        with contextlib.suppress(Empty):
            self._calls.get(timeout=timeout_s)
            return True
        return False

    def clear(self) -> None:
        """It is not set."""
        with contextlib.suppress(Empty):
            while True:
                self._calls.get_nowait()


class Watch:
    """Collects the paths that something happened to. `wake` is set whenever there is something to take."""

    def __init__(self, roots: tuple[Root, ...]) -> None:
        self._roots = roots
        self.wake = Wake()
        self._lock = threading.Lock()
        self._dirty: dict[tuple[Root, str], bool] = {}
        self._lost = False
        self._observer: InotifyObserver | None = None
        self._watched: dict[Root, tuple[ObservedWatch, tuple[int, int]]] = {}
        self._refused: str | None = None
        self._blind = 0
        self._was_blind: int | None = None
        self._listener = _OverflowListener(self)
        logging.getLogger("watchdog").addHandler(self._listener)

    @property
    def problem(self) -> str | None:
        """Why events do not come, or not from everywhere; with what to do about it."""
        if self._refused is None and self._blind and self._was_blind != 0:
            return f"{self._blind} directories cannot be watched: raise fs.inotify.max_user_watches; until then the sweep finds what happens there"
        return self._refused

    @property
    def is_working(self) -> bool:
        """Whether events come at all. Where they do not, the sweep finds everything, only later."""
        return self.problem is None and bool(self._watched)

    def take(self) -> tuple[dict[tuple[Root, str], bool], bool]:
        """What happened since the last call: paths relative to their roots, each with whether it is a directory; and whether events were lost."""
        self.wake.clear()
        with self._lock:
            dirty, self._dirty = self._dirty, {}
            lost, self._lost = self._lost, False
        return dirty, lost

    def refresh(self) -> bool:
        """Watch what is not watched yet, and anew what was replaced; True if that changed anything. To be called now and then."""
        changed = False
        for root in self._roots:
            identity = _identity(root.path)
            watched = self._watched.get(root)
            if watched is not None and (identity != watched[1] or not self._is_alive(watched[0])):
                self._unwatch(root)
                watched, changed = None, True
            if watched is None and identity is not None and self._schedule(root, identity):
                changed = True
        return changed

    def close(self) -> None:
        """End the threads."""
        logging.getLogger("watchdog").removeHandler(self._listener)
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=2)

    def note(self, root: Root, path: str | bytes, *, is_directory: bool) -> None:
        """Called by watchdog's thread. Nothing but a note: a slow handler would fill its queue (tailing.md, case 40)."""
        name = os.fsdecode(path)
        prefix = f"{root.path}/"
        if name.startswith(prefix):
            with self._lock:
                self._dirty[root, name[len(prefix) :]] = is_directory
        self.wake.set()

    def note_loss(self) -> None:
        """Events were thrown away: only a look at everything tells what happened."""
        self._lost = True
        self.wake.set()

    def check_limit(self, directories: int) -> None:
        """Notice directories without a watch: watchdog is silent when the kernel refuses one (tailing.md, section 0), so count them.

        One that comes or goes while they are counted is no problem: only what two counts in a row find is told.
        """
        blind = max(0, directories - _watches()) if self._watched else 0
        self._was_blind = blind if self._was_blind is None else self._blind
        self._blind = blind

    def _schedule(self, root: Root, identity: tuple[int, int]) -> bool:
        try:
            if self._observer is None:
                self._observer = InotifyObserver()
                self._observer.start()
            watch = self._observer.schedule(_Handler(self, root), os.fspath(root.path), recursive=True, event_filter=EVENTS)
        except OSError as error:
            self._refused = f"{error.strerror or error} (see fs.inotify.max_user_watches and fs.inotify.max_user_instances)"
            return False
        self._watched[root] = (watch, identity)
        self._refused = None
        return True

    def _is_alive(self, watch: ObservedWatch) -> bool:
        return self._observer is not None and any(emitter.watch == watch and emitter.is_alive() for emitter in self._observer.emitters)

    def _unwatch(self, root: Root) -> None:
        watch, _ = self._watched.pop(root)
        if self._observer is not None:
            self._observer.unschedule(watch)


class _Handler(FileSystemEventHandler):
    def __init__(self, watch: Watch, root: Root) -> None:
        self._watch = watch
        self._root = root

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._watch.note(self._root, event.src_path, is_directory=event.is_directory)
        if event.dest_path:
            self._watch.note(self._root, event.dest_path, is_directory=event.is_directory)


class _OverflowListener(logging.Handler):
    def __init__(self, watch: Watch) -> None:
        super().__init__(logging.WARNING)
        self._watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        if OVERFLOW in record.getMessage():
            self._watch.note_loss()


def _watches() -> int:
    """How many watches this process has, as the kernel counts them."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since
            if str(link.readlink()) == "anon_inode:inotify":
                count += Path("/proc/self/fdinfo", link.name).read_bytes().count(b"inotify wd:")
    return count


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = os.lstat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
