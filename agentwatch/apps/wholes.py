"""Documents, folders and databases beside the lines: where they are looked for, when, and in which order they are read."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agentwatch.apps import setup
from agentwatch.apps.pipeline import Pipeline, Sink
from agentwatch.formats.registry import CONTAINERS
from agentwatch.model import Cursor, Fault
from agentwatch.settings import Loaded
from agentwatch.sources import databases, documents
from agentwatch.sources.databases import Databases
from agentwatch.sources.documents import Documents
from agentwatch.sources.tree import Root

SWEEP_S, LONGEST_SWEEP_S = 1.0, 30.0
SWEEP_SHARE = 60
"""As for logs: at most 1/60 of the time goes into looking at files that nothing happened to."""


def is_line(cursor: Cursor) -> bool:
    """Whether a cursor is of a log of lines."""
    return cursor.format not in CONTAINERS


class Wholes:
    """What is no log of lines. Owned by the thread of the loop."""

    def __init__(self, loaded: Loaded, environ: Mapping[str, str], home: Path | None, cursors: list[Cursor], tell: Callable[[Fault], None]) -> None:
        found = setup.containers(loaded, environ, home)
        self._history_s = loaded.settings.logs.history_s
        of_kind = {kind: [cursor for cursor in cursors if (CONTAINERS[cursor.format or ""].kind == "database") == kind] for kind in (False, True)}
        self._documents = Documents(
            [
                documents.Wanted(row.name, root, shape, row.files)
                for root, row in found
                if row.kind != "database" and (shape := row.log_shape if root.is_log_dir else row.shape) is not None
            ],
            of_kind[False],
            history_s=self._history_s,
            clock=time.monotonic,
            wall=time.time,
            tell=tell,
        )
        self._databases = Databases(
            [databases.Wanted(row.name, root, row.shape) for root, row in found if row.kind == "database" and row.shape is not None],
            of_kind[True],
            clock=time.monotonic,
            wall=time.time,
            tell=tell,
        )
        self._sweep: Iterator[None] | None = None
        self._sweep_cost = 0.0
        self._next_sweep = 0.0

    @property
    def roots(self) -> tuple[Root, ...]:
        """The directories whose events are hints. Databases are looked at every second: their owners keep much else beside them."""
        return self._documents.roots

    @property
    def places(self) -> tuple[Root, ...]:
        """All that is looked at, the folders of databases included."""
        return (*self._documents.roots, *self._databases.roots)

    def found(self) -> Iterator[tuple[Root, str, str]]:
        """What there is by the last look: the place, the format and the path of each."""
        return ((wanted.root, wanted.format, path) for one in (self._documents, self._databases) for wanted, path in one.found())

    def look_at_everything(self) -> None:
        """Once, to the end."""
        started = time.monotonic()
        for _ in self._documents.sweep():
            pass
        self._databases.find()
        self._databases.look()
        self._swept(time.monotonic() - started)

    def look_at_databases(self) -> None:
        """To be called every second: costs two `stat` each."""
        self._databases.look()

    def hint(self, root: Root, relative_path: str, *, is_directory: bool) -> None:
        """Something may have happened to this path."""
        self._documents.hint(f"{root.path}/{relative_path}", is_directory=is_directory)

    def sweep_soon(self) -> None:
        """Events were lost."""
        self._next_sweep = 0.0

    def sweep(self, budget_s: float) -> None:
        """Look at everything now and then, a little at a time."""
        started = time.monotonic()
        if self._sweep is None:
            if started < self._next_sweep:
                return
            self._databases.find()
            self._sweep, self._sweep_cost = self._documents.sweep(), 0.0
        for _ in self._sweep:
            if time.monotonic() - started > budget_s:
                self._sweep_cost += time.monotonic() - started
                return
        self._sweep = None
        self._swept(self._sweep_cost + time.monotonic() - started)

    def turn(self, pipeline: Pipeline, log: Sink) -> int | None:
        """Read what waits longest, one of each kind; how many alerts were new. None where nothing waits that can be read now."""
        since = datetime.now(UTC) - timedelta(seconds=self._history_s)
        document, database = self._documents.turn(), self._databases.turn()
        fresh = 0
        if document is not None:
            understood, new = pipeline.process_whole(document, since, log)
            self._documents.advance(document, understood)
            fresh += new
        if database is not None:
            try:
                rows, new = pipeline.process_whole(database, since, log)
            except databases.REFUSED as error:
                self._databases.failed(database, error)
            else:
                self._databases.advance(database, rows)
                fresh += new
        return None if document is None and database is None else fresh

    @property
    def is_behind(self) -> bool:
        """Whether anything waits that can be read now."""
        return self._documents.is_behind or self._databases.is_behind

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do now."""
        return self._sweep is not None or self.is_behind

    @property
    def next_at(self) -> float:
        """When there is something to do next, by the monotonic clock."""
        waits = [wait for wait in (self._documents.wait_s(), self._databases.wait_s()) if wait is not None]
        return min(self._next_sweep, *(time.monotonic() + wait for wait in waits)) if waits else self._next_sweep

    def behind(self) -> frozenset[str]:
        """The sources of what waits."""
        return self._documents.behind() | self._databases.behind()

    def cursors(self) -> list[Cursor]:
        """All that is remembered."""
        return [*self._documents.cursors(), *self._databases.cursors()]

    def unfinished(self) -> Iterator[Fault]:
        """What a single pass leaves unread: a document that was no whole one, which a daemon would look at again."""
        for document in self._documents.documents():
            if document.broken_since is not None:
                yield Fault(document.cursor.source, document.cursor.offset, "unfinished_document", "it is no whole JSON and was not read")

    def _swept(self, cost: float) -> None:
        self._next_sweep = time.monotonic() + min(max(SWEEP_SHARE * cost, SWEEP_S), LONGEST_SWEEP_S)
