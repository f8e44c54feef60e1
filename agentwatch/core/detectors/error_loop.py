"""The same error again and again."""

from datetime import timedelta

from agentwatch.core.alerts import Finding, Reporter, Spot, milliseconds, span
from agentwatch.core.detectors.base import Handler, bounded
from agentwatch.core.detectors.failing import Failing
from agentwatch.core.limits import Limits
from agentwatch.core.signatures import fingerprint, is_own_failure, result_text
from agentwatch.core.state import MOST_KEYS, ErrorKind, Lane, Session, Window
from agentwatch.model import Alert, Detail, Event, Status, decoded

SAMPLE = 200
LONGEST_NAME = 200
RIGHT_AFTER = timedelta(seconds=5)
"""An `error` of the same text so soon after a failed result is that failure, told again."""


class ErrorLoop:
    """`threshold` errors of one fingerprint within `window` (4 in 10 min: contract, section 5).

    An error is an `error` event or a tool result that failed. A log's own fingerprint is taken as it is; where it has none, one
    is made from the text. Where calls show what they do and errors have no fingerprint of the log's own, `Failing` judges them. A failed result that the log also tells as an `error` right after counts once; a person's no, an interrupt
    and the error of a sibling call are nobody's failure.
    """

    def __init__(self, limits: Limits, reporter: Reporter, failing: Failing) -> None:
        self._threshold = limits.error_loop_threshold
        self._window = limits.error_loop_window
        self._is_explicit = limits.error_loop_is_explicit
        self._failing = failing
        self._reporter = reporter
        self.handlers: dict[str, Handler] = {"error": self.error, "session_end": self.end}

    def error(self, session: Session, lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        message = detail.error_message or ""
        if lane.last_failure is not None and lane.last_failure_at is not None:
            told = message[:SAMPLE] == lane.last_failure and abs(event.timestamp - lane.last_failure_at) <= RIGHT_AFTER
            lane.last_failure = lane.last_failure_at = None
            if told:
                return
        key = _short(detail.error_fingerprint or (fingerprint(message) if message else detail.error_category or "unknown"))
        self._note(session, event, key, detail, message)
        if self._by_names(session, detail):
            self._count(session, lane, event, place, key, message, out)
        else:
            self._failing.broke(session, lane, event, detail, key, message, place, out)

    def result(self, session: Session, lane: Lane, call: Event | None, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        """A tool result that failed."""
        message = detail.error_message or result_text(decoded(detail.result))
        if not message or not is_own_failure(message):
            return
        lane.last_failure, lane.last_failure_at = message[:SAMPLE], event.timestamp
        if self._by_names(session, detail):
            key = _short(detail.error_fingerprint or f"{detail.tool_name or 'tool'}: {fingerprint(message)}")
            self._note(session, event, key, detail, message)
            self._count(session, lane, event, place, key, message, out)
            return
        told = self._failing.failed(session, lane, call, event, message, place, out)
        if told is not None:
            self._note(session, event, _short(told), detail, message)

    def _by_names(self, session: Session, detail: Detail) -> bool:
        """Whether the rule of the settings decides: the log names its errors, shows names alone, or the user has set the rule's numbers."""
        return self._is_explicit or detail.error_fingerprint is not None or not session.shows_params

    def _note(self, session: Session, event: Event, key: str, detail: Detail, message: str) -> None:
        """Count what a failed session will be judged by."""
        session.errors += 1
        kinds = session.kinds_of_error
        if kinds is None:
            kinds = session.kinds_of_error = {}
        known = kinds.get(key)
        if known is not None:
            known.count += 1
            known.last_at = event.timestamp
        elif len(kinds) < MOST_KEYS:
            is_named = detail.error_fingerprint is not None
            kinds[key] = ErrorKind(1, detail.error_category, message[:SAMPLE], is_named, event.timestamp, event.timestamp)

    def end(self, session: Session, _lane: Lane, event: Event, _detail: Detail, place: int, out: list[Alert]) -> None:
        """A session that ends tells that its loops have ended with it."""
        for name, episode in (session.episodes or {}).items():
            kind, _, key = name.partition(":")
            if kind not in ("error_loop", "tool_loop") or episode.recovered:
                continue
            what = {"error_fingerprint": key, "sample_message": ""} if kind == "error_loop" else {"tool_name": key.split(":")[1] if ":" in key else key}
            lasted = event.timestamp - episode.opened_at
            finding = Finding(
                type=kind,
                key=key,
                at=event.timestamp,
                spots=[Spot(event.timestamp, place, "session_end")],
                summary=f"{session.attempt_id} has ended, and with it {key}: {episode.count} times in {span(lasted)}",
                detail={**what, "occurrences": episode.count, "window_ms": milliseconds(lasted)},
            )
            self._reporter.recover(session, finding, out)

    def _count(self, session: Session, lane: Lane, event: Event, place: int, key: str, message: str, out: list[Alert]) -> None:
        at = event.timestamp
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
            rule="names",
        )


def _short(key: str) -> str:
    return key if len(key) <= LONGEST_NAME else fingerprint(key)
