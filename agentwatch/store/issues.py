"""Issues of all runs, in one SQLite file that the daemon writes, and that whoever wants to look may read at the same time.

The daemon writes what it has counted, never what has been added: what a crash makes it write again changes nothing. What a person has said
of an issue (`mark`) stands beside that, and stays.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from agentwatch.core.ranking import rank
from agentwatch.errors import StorageError
from agentwatch.model import Issue, Standing

NAME = "issues.db"
VERSION = 1
MOST_RUNS = 200
"""Of so many runs the issues are remembered: enough to say what is flaky."""

BUSY_S = 5.0
NO_RUN = ""
_BESIDE = ("-wal", "-shm")

_SCHEMA = f"""
CREATE TABLE run (id TEXT PRIMARY KEY, began REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE issue (
    run TEXT NOT NULL, fingerprint TEXT NOT NULL, occurrences INTEGER NOT NULL, body BLOB NOT NULL,
    marked TEXT, marked_at INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (run, fingerprint)
) WITHOUT ROWID;
CREATE INDEX issue_fingerprint ON issue (fingerprint, run);
PRAGMA user_version = {VERSION};
"""

_WRITE = """
INSERT INTO issue (run, fingerprint, occurrences, body) VALUES (?, ?, ?, ?)
ON CONFLICT (run, fingerprint) DO UPDATE SET occurrences = excluded.occurrences, body = excluded.body
WHERE occurrences != excluded.occurrences OR body != excluded.body
"""

_SEEN = """
SELECT fingerprint, count(*) FROM issue JOIN run ON run.id = issue.run
WHERE run.id NOT IN ('', ?1) AND (run.began, run.id) < ((SELECT began FROM run WHERE id = ?1), ?1)
AND fingerprint IN (SELECT fingerprint FROM issue WHERE run = ?1) GROUP BY fingerprint
"""

_EARLIER = "SELECT count(*) FROM run WHERE id NOT IN ('', ?1) AND (began, id) < ((SELECT began FROM run WHERE id = ?1), ?1)"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Issue).decode

Known = tuple[Iterable[Issue], Mapping[str, datetime]]
"""Issues, and when each run began."""


class IssueStore:
    """The issues in the file at `path`. One that is `read_only` changes nothing, and finds nothing where there is no file yet. `busy_s` is how
    long it waits while another process writes.

    Every method raises StorageError where the file cannot be used.
    """

    def __init__(self, path: Path, *, read_only: bool = False, busy_s: float = BUSY_S) -> None:
        self._path = path
        self._busy_s = busy_s
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._is_new = False

    def issues(self, run_id: str | None) -> list[Issue]:
        """The issues of a run, or of the log directory itself, the one to look at first standing first. Empty for a run that is not known."""
        run = run_id or NO_RUN
        rows = self._ask("SELECT body, occurrences, marked, marked_at FROM issue WHERE run = ?", (run,))
        seen = dict(self._ask(_SEEN, (run,))) if run else {}
        earlier = next((count for (count,) in self._ask(_EARLIER, (run,))), 0) if run else 0
        found = []
        for body, occurrences, marked, marked_at in rows:
            issue = _decode(body)
            issue.status = _status(issue.status, occurrences, marked, marked_at)
            issue.seen_in_runs, issue.earlier_runs = seen.get(issue.fingerprint, 0), earlier
            rank(issue)
            if marked == "resolved" and issue.status != "resolved":
                issue.why = f"came back after it was resolved; {issue.why}"
            found.append(issue)
        return sorted(found, key=lambda issue: (-issue.rank, issue.first_seen, issue.fingerprint))

    def runs(self) -> dict[str | None, int]:
        """How many issues each run has that is known, the log directory itself (None) among them."""
        counted = self._ask("SELECT run.id, count(issue.fingerprint) FROM run LEFT JOIN issue ON issue.run = run.id GROUP BY run.id ORDER BY run.began", ())
        return {run or None: count for run, count in counted}

    def mark(self, run_id: str | None, fingerprint: str, status: Standing) -> bool:
        """Say where an issue stands; whether there is such an issue. `open` takes back what was said before."""
        said = None if status == "open" else status
        connection = self._open()
        if connection is None:
            return False
        with self._translated(), connection:
            done = connection.execute(
                "UPDATE issue SET marked = ?, marked_at = occurrences WHERE run = ? AND fingerprint = ?", (said, run_id or NO_RUN, fingerprint)
            )
        return done.rowcount > 0

    def write(self, changed: Iterable[Issue], runs: Mapping[str, datetime], everything: Callable[[], Known] | None = None) -> None:
        """Put down what was counted so far, and when each of these runs began; the run "" is the log directory itself.

        Where the file had to be made, it is `everything` that is put down, not only what has `changed` and the runs that are new.
        """
        connection = self._open()
        if connection is None:
            return
        issues, runs = everything() if self._is_new and everything is not None else (changed, runs)
        with self._translated(), connection:
            connection.executemany(
                "INSERT INTO run (id, began) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET began = min(began, excluded.began) WHERE excluded.began < began",
                [(run, at.timestamp()) for run, at in runs.items()],
            )
            connection.executemany(_WRITE, [(issue.run_id or NO_RUN, issue.fingerprint, issue.occurrences, _encode(issue)) for issue in issues])
            if runs:
                old = connection.execute("SELECT id FROM run WHERE id != '' ORDER BY began DESC, id DESC LIMIT -1 OFFSET ?", (MOST_RUNS,)).fetchall()
                connection.executemany("DELETE FROM issue WHERE run = ?", old)
                connection.executemany("DELETE FROM run WHERE id = ?", old)
        self._is_new = False

    def change_count(self) -> int:
        """A number that has grown if anything was changed since it was asked for last, by this process or another."""
        connection = self._open()
        if connection is None:
            return 0
        ((version,),) = self._ask("PRAGMA data_version", ())
        return int(version) + connection.total_changes

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _ask(self, query: str, values: tuple[object, ...]) -> list[Any]:
        connection = self._open()
        if connection is None:
            return []
        with self._translated():
            return connection.execute(query, values).fetchall()

    def _open(self) -> sqlite3.Connection | None:
        """The connection; None for one who only reads and finds no file. A file that was taken away or replaced is not written any more."""
        try:
            inode = self._path.stat().st_ino
        except OSError:
            inode = 0
        if self._connection is not None and inode == self._inode:
            return self._connection
        was_open = self._connection is not None
        self.close()
        if not inode and self._read_only:
            return None
        if not inode and was_open:  # not into a tree that is just being deleted
            raise StorageError(f"`{self._path}` was taken away", hint="the next write makes it again")
        with self._translated():
            self._connection = self._reader() if self._read_only else self._writer()
            self._inode = inode or self._path.stat().st_ino
        return self._connection

    def _reader(self) -> sqlite3.Connection | None:
        """None where the file is just being made."""
        connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=self._busy_s, isolation_level=None)
        if _version(connection):
            return _of_our_version(connection)
        connection.close()
        return None

    def _writer(self) -> sqlite3.Connection:
        if not self._path.exists():
            for ending in _BESIDE:  # what stands in the log of a file that was taken away would come back
                self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
        connection = sqlite3.connect(self._path, timeout=self._busy_s)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if not _version(connection):
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT")
            self._is_new = True
        return _of_our_version(connection)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self.close()
            if not self._read_only and isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                self._set_aside()
            raise StorageError(f"`{self._path}`: {error}", hint="the daemon makes it again where it is taken away") from error

    def _set_aside(self) -> None:
        """It is damaged: what was counted is known elsewhere, and is written to a new one."""
        for ending in ("", *_BESIDE):
            path = self._path.with_name(self._path.name + ending)
            with suppress(OSError):
                path.replace(path.with_name(f"{path.name}.bad"))


def _version(connection: sqlite3.Connection) -> int:
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    return int(version)


def _of_our_version(connection: sqlite3.Connection) -> sqlite3.Connection:
    version = _version(connection)
    if version not in (0, VERSION):
        connection.close()
        raise sqlite3.DatabaseError(f"it is of another agentwatch: version {version}, this one has {VERSION}")
    return connection


def _status(said: Standing, occurrences: int, marked: str | None, marked_at: int) -> Standing:
    """What a person said counts, until something that was mended comes again."""
    if marked == "acknowledged":
        return "acknowledged"
    if marked == "resolved" and occurrences <= marked_at:
        return "resolved"
    return said
