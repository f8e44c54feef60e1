"""A session that failed and had many errors."""

from agentwatch.core.alerts import Finding, Reporter, Spot, span
from agentwatch.core.detectors.base import Handler
from agentwatch.core.detectors.excessive_restarts import succeeded
from agentwatch.core.limits import Limits
from agentwatch.core.signatures import is_transient
from agentwatch.core.state import Lane, Session
from agentwatch.model import Alert, Detail, Event

TRANSIENT_SHARE = 0.8
"""From this share of transient errors on, another provider or a pause helps more than a look at the code (detection.md, section 5)."""

MOST_FINGERPRINTS = 20


class FailedSession:
    """`session_end` with `failed` and at least `threshold` errors (4, the ancestor's number), told as one of two types.

    Where the log shows what its calls do and the session is in an error loop that was told, this is the last line of that loop's episode: one
    incident, one message. On logs of names alone it stands by itself, as the ancestor's rules have it.
    """

    def __init__(self, limits: Limits, reporter: Reporter) -> None:
        self._threshold = limits.failed_session_threshold
        self._off = limits.off
        self._reporter = reporter
        self.handlers: dict[str, Handler] = {"session_end": self.end}

    def end(self, session: Session, _lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        failed = detail.completion_status == "failed" or (detail.outcome is not None and detail.outcome.status == "failed")
        if not failed or succeeded(detail) or session.errors < self._threshold:
            return
        by_count = sorted((session.kinds_of_error or {}).items(), key=lambda item: -item[1].count)
        passing = sum(kind.count for name, kind in by_count if is_transient(kind.category, name, kind.sample))
        transient = passing >= TRANSIENT_SHARE * session.errors
        kind = "failed_session_transient_errors" if transient else "failed_session_high_errors"
        if kind in self._off:  # a loop that was told still has to end
            return
        common = f", most often {by_count[0][0]} ({by_count[0][1].count})" if by_count else ""
        finding = Finding(
            type=kind,
            key="session",
            at=event.timestamp,
            spots=[Spot(event.timestamp, place, "session_end: failed")],
            summary=f"{session.attempt_id} failed after {span(event.timestamp - session.started)} with {session.errors} {'transient ' if transient else ''}errors{common}",
            detail={"error_count": session.errors, "error_fingerprints": [name for name, _ in by_count[:MOST_FINGERPRINTS]]},
        )
        loop = next((one for name, one in (session.episodes or {}).items() if name.startswith("error_loop:") and not one.recovered), None)
        if loop is not None and session.shows_params and "error_loop" not in self._off:
            self._reporter.follow(session, loop, finding, out)
        else:
            self._reporter.open(session, finding, session.errors, out)
