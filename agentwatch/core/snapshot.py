"""All that the engine remembers, as it is saved. Only structs: who reads a checkpoint need not load what judges."""

from collections.abc import Iterator

import msgspec

from agentwatch.core.metrics import Row, row_of
from agentwatch.core.recordings import Known
from agentwatch.core.state import Ended, Ledger, RunIssues, Session


class Scope(msgspec.Struct):
    """A space of attempt ids: the log directory is one, and each run of it. `ended` are attempts that ended, in two generations."""

    sessions: dict[str, Session] = {}
    ended: dict[str, Ended] = {}
    ended_before: dict[str, Ended] = {}


class Snapshot(msgspec.Struct):
    """Saved with the cursors, so that the two cannot disagree. `rows` are of sessions that are over, and that nobody stored yet; `issues` are by scope."""

    scopes: dict[str, Scope] = {}
    recorded: Known = {}
    ledger: Ledger = msgspec.field(default_factory=Ledger)
    rows: list[Row] = []
    issues: dict[str, RunIssues] = {}


def live_rows(snapshot: Snapshot) -> Iterator[Row]:
    """The sessions that go on, as they are now: those that no row tells as they are."""
    return (row_of(session) for scope in snapshot.scopes.values() for session in scope.sessions.values() if session.noted_at != session.last)
