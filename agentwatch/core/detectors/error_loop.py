"""The same error again and again."""

from datetime import datetime

from agentwatch.core.alerts import Finding, Reporter, Spot, milliseconds, span
from agentwatch.core.detectors.base import Handler, bounded
from agentwatch.core.limits import Limits
from agentwatch.core.signatures import fingerprint, is_transient
from agentwatch.core.state import Lane, Session, Window
from agentwatch.model import Alert, Event, Status


class ErrorLoop:
    """`threshold` errors of one fingerprint within `window` (4 in 10 min: contract, section 5).

    An error is an `error` event or a tool result that failed. A log's own fingerprint is taken as it is; where it has none, one
    is made from the text. A failed result that the log also tells as an `error` right after counts once.
    """

    def __init__(self, limits: Limits, reporter: Reporter) -> None:
        self._threshold = limits.error_loop_threshold
        self._window = limits.error_loop_window
        self._reporter = reporter
        self.handlers: dict[str, Handler] = {"error": self.error, "tool_result": self.result, "session_end": self.end}

    def error(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        message = event.data.error_message or ""
        if lane.last_failure is not None:
            told = message and message[:200] == lane.last_failure
            lane.last_failure = None
            if told:
                return
        key = event.data.error_fingerprint or (fingerprint(message) if message else "")
        transient = is_transient(event.data.error_category, event.data.error_fingerprint, message)
        self._count(session, lane, event.timestamp, place, key or event.data.error_category or "unknown", message, transient=transient, out=out)

    def result(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        if not event.data.is_error:
            return
        message = event.data.error_message or ""
        if not message:
            return
        lane.last_failure = message[:200]
        key = event.data.error_fingerprint or f"{event.data.tool_name or 'tool'}: {fingerprint(message)}"
        self._count(session, lane, event.timestamp, place, key, message, transient=is_transient(message), out=out)

    def end(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        """A session that ends tells that its loops have ended with it."""
        for name, episode in (session.episodes or {}).items():
            kind, _, key = name.partition(":")
            if kind != "error_loop" or episode.recovered:
                continue
            text = f"{key} occurred {episode.count} times in {span(event.timestamp - episode.opened_at)}; the session has ended"
            finding = Finding(
                type="error_loop",
                key=key,
                at=event.timestamp,
                spots=[Spot(event.timestamp, place, "session_end")],
                summary=f"Error loop over: {text}",
                detail={"error_fingerprint": key, "occurrences": episode.count, "window_ms": milliseconds(self._window), "sample_message": ""},
            )
            self._reporter.recover(session, finding, out)

    def _count(self, session: Session, lane: Lane, at: datetime, place: int, key: str, message: str, *, transient: bool, out: list[Alert]) -> None:
        session.errors += 1
        session.transient_errors += transient
        if session.fingerprints is None:
            session.fingerprints = {}
        if key in session.fingerprints or len(session.fingerprints) < 64:
            session.fingerprints[key] = session.fingerprints.get(key, 0) + 1
        if lane.errors is None:
            lane.errors = {}
        window = lane.errors.get(key)
        if window is None:
            window = bounded(lane.errors, key)
        crossed = window.push(at, place, self._threshold) and window.within(self._window)

        def describe(count: int, status: Status) -> Finding:
            return self._finding(session, window, key, message, count, status)

        self._reporter.count(session, "error_loop", key, at, crossed=crossed, size=self._threshold, describe=describe, out=out)

    def _finding(self, session: Session, window: Window, key: str, message: str, count: int, status: Status) -> Finding:
        began = min(window.times)
        if status is Status.ESCALATED and session.episodes:
            began = session.episodes[f"error_loop:{key}"].opened_at
        how = "is still in an error loop" if status is Status.ESCALATED else "is in an error loop"
        return Finding(
            type="error_loop",
            key=key,
            at=window.times[-1],
            spots=[Spot(at, place, message or key) for at, place in zip(window.times, window.places, strict=True)],
            summary=f"{session.attempt_id} {how}: {key}, {count} times in {span(window.times[-1] - began)}. {message}",
            detail={"error_fingerprint": key, "occurrences": count, "window_ms": milliseconds(self._window), "sample_message": message},
        )
