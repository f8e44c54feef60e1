"""Agents' sessions that somebody else tells of, who runs the agent: their own transcripts are not judged beside that.

Both say the same: every loop would be told twice, and every dollar counted twice.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from agentwatch.model import Time

MOST_SESSIONS, MOST_RECORDINGS = 4096, 16
"""So many sessions are remembered, those that were recorded last, each with its last recordings: a session may be resumed."""

LATE = timedelta(seconds=60)
"""What a transcript says so long after the end of a recording was recorded: an agent tidies up when it has said its last."""


class Recording(msgspec.Struct, gc=False, omit_defaults=True):
    """An attempt that tells of a session, since when, and until when; None while it goes on."""

    scope: str
    attempt_id: str
    since: Time
    until: Time | None = None


Known = dict[str, list[Recording]]
"""Recordings by the session that they are of."""


class Recordings:
    """`known` is what must survive a restart. `is_live` says whether a recording's attempt goes on."""

    def __init__(self, known: Known, is_live: Callable[[Recording], bool]) -> None:
        self.known = known
        self._is_live = is_live

    def begin(self, session_id: str, recording: Recording) -> None:
        """The attempt tells what the session does. What was known of this recording before is known better now."""
        same = (recording.scope, recording.attempt_id, recording.since)
        of_session = [one for one in self.known.pop(session_id, []) if (one.scope, one.attempt_id, one.since) != same]
        self.known[session_id] = [*of_session[1 - MOST_RECORDINGS :], recording]
        if len(self.known) > MOST_SESSIONS:
            del self.known[next(iter(self.known))]

    def end(self, session_id: str | None, scope: str, attempt_id: str, at: datetime) -> None:
        """The attempt is over, which told of this session last: so are all that it told of."""
        if session_id not in self.known:
            return
        for recording in (one for of_session in self.known.values() for one in of_session):
            if recording.until is None and (recording.scope, recording.attempt_id) == (scope, attempt_id):
                recording.until = at

    def cover(self, session_id: str, at: datetime) -> bool:
        """Whether what the session did at this time is told by an attempt. One that fell silent without an end tells nothing more."""
        return session_id in self.known and any(
            one.since <= at and (at <= one.until + LATE if one.until is not None else self._is_live(one)) for one in self.known[session_id]
        )

    def horizon(self, session_id: str, soonest: datetime, latest: datetime) -> datetime:
        """The first time after `soonest` and before `latest` at which a recording begins, else `latest`."""
        if session_id not in self.known:
            return latest
        return min((one.since for one in self.known[session_id] if soonest < one.since < latest), default=latest)
