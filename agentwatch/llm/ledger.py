"""What questions have cost, and whether the model is to be asked at all: one SQLite file for all processes that ask.

Tokens are reserved before a request goes out and settled when its answer is there; both are one transaction under the file's lock, so that
no number of processes can spend more than the budget together. A process that dies in between leaves its reservation standing: what became
of its request nobody knows, and counting too much is honest.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from agentwatch.core.asking.account import Breaker, Used
from agentwatch.errors import StorageError

NAME = "ask.db"
VERSION = 1
BUSY_S = 5.0

_SCHEMA = f"""
CREATE TABLE question (
    id INTEGER PRIMARY KEY, scope TEXT NOT NULL, at_s REAL NOT NULL, model TEXT NOT NULL, reserved INTEGER NOT NULL,
    prompt INTEGER, answer INTEGER, usd REAL
);
CREATE INDEX question_scope ON question (scope);
CREATE TABLE breaker (endpoint TEXT PRIMARY KEY, failures INTEGER NOT NULL, failed_s REAL NOT NULL, probed_s REAL NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""

_SPENT = "SELECT COALESCE(SUM(COALESCE(prompt + answer, reserved)), 0), SUM(usd), COALESCE(SUM(prompt + answer > 0 AND usd IS NULL), 0) FROM question WHERE scope = ?"


class Spent(NamedTuple):
    """By all questions of a scope: tokens, those reserved among them, and USD; None where no price is known. `unpriced` counts answers without one."""

    tokens: int
    usd: float | None
    unpriced: int


class Refused(NamedTuple):
    """Why nothing was reserved: the budget has too little `left` (tokens), or the model failed and is left alone for `wait_s`."""

    why: Literal["budget", "breaker"]
    left: int
    wait_s: float


class Ledger:
    """The file at `path`, which is made. Each method is one transaction. Raises StorageError where the file cannot be used.

    A file that is damaged is not replaced: what it knew was spent would be forgotten.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translated():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
            self._database = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
        try:
            with self._transaction() as database:
                _prepare(database)
        except BaseException:
            self._database.close()
            raise

    def spent(self, scope: str) -> Spent:
        """What was spent in a scope so far, and what is reserved."""
        with self._translated():
            return Spent(*self._database.execute(_SPENT, (scope,)).fetchone())

    def breaker(self, endpoint: str) -> Breaker:
        """What is known of a server."""
        with self._translated():
            return self._breaker(self._database, endpoint)

    def reserve(self, scope: str, endpoint: str, model: str, tokens: int, budget: int, now_s: float) -> int | Refused:
        """Take `tokens` of the scope's budget for one request that goes out now: its number, or why it may not go."""
        with self._transaction() as database:
            breaker = self._breaker(database, endpoint)
            left = budget - database.execute(_SPENT, (scope,)).fetchone()[0]
            if wait_s := breaker.wait_s(now_s):
                return Refused("breaker", left, wait_s)
            if tokens > left:
                return Refused("budget", left, 0.0)
            self._keep(database, endpoint, breaker.asked(now_s))
            done = database.execute("INSERT INTO question (scope, at_s, model, reserved) VALUES (?, ?, ?, ?)", (scope, now_s, model, tokens))
            return int(done.lastrowid or 0)

    def answered(self, question: int, endpoint: str, used: Used, usd: float | None) -> None:
        """A request came to this; its server is well."""
        with self._transaction() as database:
            database.execute("UPDATE question SET prompt = ?, answer = ?, usd = ? WHERE id = ?", (used.prompt, used.answer, usd, question))
            self._keep(database, endpoint, self._breaker(database, endpoint).succeeded())

    def failed(self, question: int, endpoint: str, now_s: float, *, is_free: bool) -> None:
        """A request got no whole answer. Where it was not `is_free`, nobody knows what it cost, and what was reserved stays."""
        with self._transaction() as database:
            if is_free:
                database.execute("UPDATE question SET prompt = 0, answer = 0, usd = 0 WHERE id = ?", (question,))
            self._keep(database, endpoint, self._breaker(database, endpoint).failed(now_s))

    def close(self) -> None:
        self._database.close()

    @staticmethod
    def _breaker(database: sqlite3.Connection, endpoint: str) -> Breaker:
        row: Any = database.execute("SELECT failures, failed_s, probed_s FROM breaker WHERE endpoint = ?", (endpoint,)).fetchone()
        return Breaker(*row) if row else Breaker()

    @staticmethod
    def _keep(database: sqlite3.Connection, endpoint: str, breaker: Breaker) -> None:
        database.execute("INSERT OR REPLACE INTO breaker VALUES (?, ?, ?, ?)", (endpoint, breaker.failures, breaker.failed_s, breaker.probed_s))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._translated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                if self._database.in_transaction:  # a full disk has taken it back already
                    self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            raise StorageError(f"`{self._path}`: {said}", hint="it has what questions have cost; where it is taken away, budgets begin anew") from error


def _prepare(database: sqlite3.Connection) -> None:
    ((version,),) = database.execute("PRAGMA user_version")
    if version == 0:
        for statement in _SCHEMA.split(";\n"):
            database.execute(statement)
    elif version != VERSION:
        raise sqlite3.DatabaseError(f"it is of another agentwatch: version {version}, this one has {VERSION}")
