"""SQLite databases: every row is read once, and whoever writes them never notices."""

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agentwatch.model import Fault
from agentwatch.sources import databases
from agentwatch.sources.databases import BROKEN_S, REFUSED, Databases, Moved, Wanted
from agentwatch.sources.tree import Root
from tests.sources.harness import eventually


class Reader:
    """Reads rows by their ids, as a decoder would."""

    def __init__(self, base: Path) -> None:
        self.now, self.wall = 1000.0, 2_000_000_000.0
        self.rows: list[int] = []
        self.faults: list[Fault] = []
        self.asked = 0
        self.wanted = [Wanted("db", Root(base, is_log_dir=False), re.compile(r".*\.db"))]
        self.databases = Databases(self.wanted, [], clock=lambda: self.now, wall=lambda: self.wall, tell=self.faults.append)

    def look(self) -> "Reader":
        self.now += 1.1
        self.databases.find()
        self.databases.look()
        while self.databases.is_behind:
            reading = self.databases.turn()
            if reading is None:
                continue
            self.asked += 1
            try:
                [rows] = reading.said([("SELECT n FROM t WHERE n > ? ORDER BY n LIMIT 100", (self.rows[-1] if self.rows else 0,))])
            except REFUSED as error:
                self.databases.failed(reading, error)
            else:
                self.rows += [row[0] for row in rows]
                self.databases.advance(reading, len(rows))
        return self


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.db"


@pytest.fixture
def reader(tmp_path):
    return Reader(tmp_path)


def made(path: Path, mode: str, *numbers: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY)")
    insert(connection, *numbers)
    return connection


def insert(connection: sqlite3.Connection, *numbers: int) -> None:
    connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in numbers])


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_rows_are_read_once_as_they_come(reader, path, mode):
    """While the owner has it open, after it has closed it, and when it comes back."""
    with closing(made(path, mode, 1, 2)) as owner:
        reader.look()
        insert(owner, 3)
        reader.look().look()
    reader.look()
    with closing(made(path, mode, 4)):
        reader.look()
    assert reader.look().rows == [1, 2, 3, 4]


def test_a_database_that_nothing_happened_to_is_not_opened(reader, path):
    """Two `stat` are all that it costs."""
    with closing(made(path, "wal", 1)):
        asked = reader.look().look().asked
        for _ in range(10):
            reader.look()
        assert reader.asked == asked


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_nothing_is_left_beside_a_database_that_its_owner_has_closed(reader, path, mode):
    """Opening one in WAL mode would make a log and its index, and leave them there."""
    made(path, mode, 1).close()
    before = path.read_bytes()
    assert reader.look().rows == [1]
    assert os.listdir(path.parent) == ["a.db"]  # noqa: PTH208
    assert path.read_bytes() == before


def test_a_reader_may_only_read(reader, path):
    """Whatever it is asked."""
    with closing(made(path, "wal", 1)):
        for _ in range(2):
            reader.databases.find()
            reader.databases.look()
        reading = reader.databases.turn()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reading.said([("INSERT INTO t VALUES (9)", ())])


def test_what_changes_while_it_is_read_is_read_again(reader, path, monkeypatch):
    """Without a log there is no lock either: what was read counts only if nothing moved."""
    owner = made(path, "delete", 1)
    reader.databases.find()
    reader.databases.look()
    reading = reader.databases.turn()
    ask = reading.said._ask
    monkeypatch.setattr(reading.said, "_ask", lambda how, questions: (insert(owner, 2), ask(how, questions))[1])
    with pytest.raises(Moved):
        reading.said([("SELECT n FROM t", ())])
    reader.databases.failed(reading, Moved())
    assert reader.look().rows == [1, 2]
    owner.close()


def test_a_transaction_that_is_under_way_is_waited_for(reader, path):
    """A hot journal beside a database says that what is in it may be undone."""
    with closing(made(path, "delete", 1)) as owner:
        owner.execute("PRAGMA cache_size=1")
        owner.execute("BEGIN IMMEDIATE")
        insert(owner, *range(2, 5000))  # more than its cache: pages are written before the commit
        assert reader.look().rows == []
        owner.execute("ROLLBACK")
        assert reader.look().rows == [1]


def test_what_is_no_database_is_told_after_a_minute(reader, path):
    """It may be on its way; nothing is raised for it, ever."""
    path.write_bytes(b"this is no database at all" * 100)
    reader.look()
    assert reader.faults == []
    for _ in range(int(BROKEN_S) + 5):
        reader.look()
    assert [fault.kind for fault in reader.faults] == ["unreadable_database"]


def test_what_was_read_just_after_it_was_written_is_read_once_more(reader, path):
    """A second commit within one tick of the kernel's clock leaves time and size as they are."""
    with closing(made(path, "delete", 1)) as owner:
        stat = path.stat()
        reader.wall = stat.st_mtime
        reader.look()
        insert(owner, 2)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert path.stat().st_size == stat.st_size
        reader.wall += 5
        assert reader.look().rows == [1, 2]


def test_a_database_with_other_tables_is_told_after_a_minute(reader, path):
    """A version to come may have moved everything."""
    with closing(sqlite3.connect(path)) as owner:
        owner.execute("CREATE TABLE other (n)")
    for _ in range(int(BROKEN_S) + 5):
        reader.look()
    assert [(fault.kind, fault.detail) for fault in reader.faults] == [("unreadable_database", "no such table: t")]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r", "interrupted"),
        ("SELECT zeroblob(900000000) AS n", "string or blob too big"),
    ],
)
def test_a_database_that_would_take_all_time_or_memory_is_given_up(reader, path, what, reason, monkeypatch):
    """Whoever may write it may put a view in a table's place."""
    monkeypatch.setattr(databases, "MOST_STEPS", 2_000_000)
    with closing(sqlite3.connect(path)) as owner:
        owner.execute(f"CREATE VIEW t AS {what}")
    for _ in range(int(2 * BROKEN_S) + 5):
        reader.look()
    assert [(fault.kind, fault.detail) for fault in reader.faults] == [("unreadable_database", reason)]
    assert reason != "interrupted" or reader.asked == 3


WRITER = """
import sqlite3, sys
owner = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
owner.execute("PRAGMA journal_mode=" + sys.argv[2])
owner.execute("PRAGMA synchronous=OFF")
owner.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY)")
for n in range(1, int(sys.argv[3]) + 1):
    owner.execute("INSERT INTO t VALUES (?)", (n,))
    if n % 500 == 0:
        owner.execute("PRAGMA wal_checkpoint(TRUNCATE)")
owner.close()
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_writer_in_a_hurry_is_never_kept_waiting(reader, path, mode):
    """It waits 0 ms for locks: one that it met would end it with "database is locked"."""
    count = 5000 if mode == "wal" else 1000
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), mode, str(count)], stderr=subprocess.PIPE, text=True)
    while writer.poll() is None:
        reader.look()
    assert writer.communicate()[1] == ""
    eventually(lambda: len(reader.look().rows) >= count, what="all rows")
    assert reader.rows == list(range(1, count + 1))
