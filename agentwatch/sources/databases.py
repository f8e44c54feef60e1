"""Looks whether SQLite databases changed, and lets a decoder ask them. Reads only: no lock that their owner could meet, no file of our own.

What a decoder has told it knows by the rows' ids and its own memory (`cursor.memory`).
"""

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple
from urllib.parse import quote

from agentwatch.model import Cursor, Fault
from agentwatch.sources.tree import Root, shown

BUSY_MS = 50
"""How long to wait for a lock: in WAL mode readers wait for nobody but one who recovers the log after a crash."""

RETRY_S = 1.0
BROKEN_S = 60.0
"""How long a database may refuse to be read before that is told."""

RACY_S = 0.05
"""What was written so shortly before it was read may change once more without another time: the kernel's clock ticks every 4 ms."""

MOST_STEPS = 50_000_000
"""Of SQLite's machine, a second or two, for the questions of one look: a look through a million rows takes a tenth of that, and a view may go on for ever."""

MOST_BYTES = 64 << 20
"""The longest value that is read, as the largest document is."""

_STEPS_AT_ONCE = 1_000_000

FORGET_S = 86_400

_READ_VERSION_AT, _WAL_MODE = 19, 2

_Stat = tuple[int, ...]
NOTHING: _Stat = ()


class Moved(Exception):  # noqa: N818  # not an error: its owner wrote while we read, or is about to
    """What was read may be of no one state: to be asked again."""


class Wanted(NamedTuple):
    """Databases of one format: the files directly in `root` whose name has the `shape`."""

    format: str
    root: Root
    shape: re.Pattern[str]


class Database:
    """A database, and what is remembered of it. `stat` is of the file and its write-ahead log when it was read last.

    The file's change counter says no more: with a write-ahead log it need not change.
    """

    __slots__ = ("broken_since", "cursor", "not_before", "path", "stat", "told", "wanted")

    scope = ""

    def __init__(self, wanted: Wanted, path: str, cursor: Cursor) -> None:
        self.wanted = wanted
        self.path = path
        self.cursor = cursor
        self.stat: _Stat = NOTHING
        self.not_before = 0.0
        self.broken_since: float | None = None
        self.told: str | None = None


class Reading(NamedTuple):
    """A database that changed, to be given back to `advance`. `said` asks it; `stat` is from before."""

    document: Database
    said: Callable[[Sequence[tuple[str, tuple[object, ...]]]], list[list[tuple[Any, ...]]]]
    stat: _Stat
    is_history: bool = False


class Databases:
    """Deals out databases that changed. Owned by one thread; `clock` gives monotonic seconds, `wall` seconds since the epoch, `tell` takes faults."""

    def __init__(
        self, wanted: Iterable[Wanted], cursors: Iterable[Cursor], *, clock: Callable[[], float], wall: Callable[[], float], tell: Callable[[Fault], None]
    ) -> None:
        self._wanted = tuple(wanted)
        self._clock = clock
        self._wall = wall
        self._tell = tell
        self._remembered = {(cursor.path, cursor.format): cursor for cursor in cursors}
        self._databases: dict[str, Database] = {}
        self._queue: dict[Database, None] = {}
        now = int(wall())
        for cursor in self._remembered.values():
            cursor.seen_s = cursor.seen_s or now

    @property
    def roots(self) -> tuple[Root, ...]:
        """The directories in which they lie."""
        return tuple(wanted.root for wanted in self._wanted)

    def found(self) -> Iterator[tuple[Wanted, str]]:
        """What there is by the last look, with its path."""
        return ((database.wanted, path) for path, database in self._databases.items())

    def find(self) -> None:
        """Look which databases there are. To be called now and then."""
        for wanted in self._wanted:
            try:
                names = os.listdir(wanted.root.path)  # noqa: PTH208  # names alone, twice as fast
            except OSError:
                continue
            for name in names:
                path = f"{wanted.root.path}/{name}"
                if wanted.shape.fullmatch(name) and path not in self._databases:
                    self._meet(wanted, name, path)
        now = int(self._wall())
        for key in [key for key, cursor in self._remembered.items() if now - cursor.seen_s > FORGET_S]:
            del self._remembered[key]

    def look(self) -> None:
        """Look which of them changed: two `stat` each."""
        for path, database in list(self._databases.items()):
            stat = _stat(path)
            if stat == NOTHING:
                del self._databases[path]
                self._queue.pop(database, None)
                database.cursor.seen_s = int(self._wall())
                self._remembered[database.cursor.path, database.cursor.format] = database.cursor
            elif stat != database.stat:
                self._queue[database] = None

    @property
    def is_behind(self) -> bool:
        """Whether any waits whose time has come."""
        return self._next() is not None

    def behind(self) -> frozenset[str]:
        """The sources of those that wait."""
        return frozenset(database.cursor.source for database in self._queue)

    def wait_s(self) -> float | None:
        """How long until the next that waits may be asked; None where none waits."""
        if not self._queue:
            return None
        return max(0.0, min(database.not_before for database in self._queue) - self._clock())

    def turn(self) -> Reading | None:
        """The next database that changed, to be asked; None where there is none."""
        database = self._next()
        if database is None:
            return None
        del self._queue[database]
        stat = _stat(database.path)
        return Reading(database, _Asked(database.path), stat) if stat else None

    def advance(self, reading: Reading, rows: int | None) -> None:
        """It was asked; there were so many new `rows`, and may be more as long as there were any. None: it has to be asked again."""
        database = reading.document
        if rows is None:
            database.not_before = self._clock() + RETRY_S
            self._queue[database] = None
            return
        database.broken_since = database.told = None
        if rows:
            self._queue[database] = None
            return
        if self._wall() - max(reading.stat[2::3]) / 1e9 < RACY_S:
            return  # the next look finds it changed
        cursor = database.cursor
        database.stat = reading.stat
        cursor.inode, cursor.size, cursor.mtime_ns = reading.stat[:3]

    def failed(self, reading: Reading, error: Exception) -> None:
        """It could not be asked: `error` is what it raised. To be asked again; a fault if it stays so."""
        if isinstance(error, Moved):
            self.advance(reading, None)
        else:
            is_endless = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
            self._refused(reading.document, str(error), BROKEN_S if is_endless else RETRY_S)

    def cursors(self) -> list[Cursor]:
        """What is remembered of every database, those included that are gone."""
        return [*(database.cursor for database in self._databases.values()), *self._remembered.values()]

    def _meet(self, wanted: Wanted, name: str, path: str) -> None:
        text = shown(path)
        cursor = self._remembered.pop((text, wanted.format), None)
        if cursor is None:
            cursor = Cursor(shown(f"{wanted.root.path.name}/{name}"), text, "", 0, format=wanted.format)
        cursor.seen_s = 0
        self._databases[path] = Database(wanted, path, cursor)

    def _next(self) -> Database | None:
        now = self._clock()
        return next((database for database in self._queue if database.not_before <= now), None)

    def _refused(self, database: Database, reason: str, wait_s: float) -> None:
        now = self._clock()
        if database.broken_since is None:
            database.broken_since = now
        elif now - database.broken_since > BROKEN_S and database.told != reason:
            database.told = reason
            self._tell(Fault(database.cursor.source, 0, "unreadable_database", reason))
        database.not_before = now + wait_s
        self._queue[database] = None


class _Asked:
    """Asks a database, and leaves no trace of it.

    While its owner has a write-ahead log it is read like by anybody: in WAL mode a reader keeps no writer waiting. Without one, opening
    it would make a log (and leave it there), and without WAL mode a reader's lock would make a writer wait: then it is read as if it
    could not change, and what was read counts only if it has not.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, questions: Sequence[tuple[str, tuple[object, ...]]]) -> list[list[tuple[Any, ...]]]:
        before = _stat(self._path)
        if len(before) > 3 and before[4] > 0 and _reads_log(self._path):
            return self._ask("mode=ro", questions)
        if Path(f"{self._path}-journal").exists():
            raise Moved
        try:
            answers = self._ask("mode=ro&immutable=1", questions)
        except sqlite3.DatabaseError:
            if _stat(self._path) != before:
                raise Moved from None
            raise
        if _stat(self._path) != before or Path(f"{self._path}-journal").exists():
            raise Moved
        return answers

    def _ask(self, how: str, questions: Sequence[tuple[str, tuple[object, ...]]]) -> list[list[tuple[Any, ...]]]:
        with closing(sqlite3.connect(f"file:{quote(self._path)}?{how}", uri=True, isolation_level=None, timeout=BUSY_MS / 1000)) as connection:
            connection.text_factory = bytes
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
            steps = iter(range(MOST_STEPS // _STEPS_AT_ONCE))
            connection.set_progress_handler(lambda: next(steps, None) is None, _STEPS_AT_ONCE)
            connection.execute("BEGIN")
            return [connection.execute(sql, parameters).fetchall() for sql, parameters in questions]


def _stat(path: str) -> _Stat:
    """Inode, size and time of the file, and of its write-ahead log if there is one; nothing where there is no file."""
    try:
        stat = os.stat(path)  # noqa: PTH116  # a few hundred thousand a day
    except OSError:
        return NOTHING
    if not S_ISREG(stat.st_mode):
        return NOTHING
    found = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    try:
        log = os.stat(f"{path}-wal")  # noqa: PTH116
    except OSError:
        return found
    return (*found, log.st_ino, log.st_size, log.st_mtime_ns)


def _reads_log(path: str) -> bool:
    """Whether the database is in WAL mode."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.pread(fd, 1, _READ_VERSION_AT) == bytes([_WAL_MODE])
    finally:
        os.close(fd)


REFUSED = (Moved, sqlite3.Error, OSError)
"""What asking a database raises."""
