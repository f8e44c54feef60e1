"""An attempt that is started again and again."""

import re

from agentwatch.core.alerts import Finding, Reporter, Spot, span
from agentwatch.core.detectors.base import Handler
from agentwatch.core.limits import Limits
from agentwatch.core.state import Lane, Session, Window
from agentwatch.model import Alert, Data, Detail, Event, Status

COMMITS = re.compile(rb"\bgit\b[^|;&]{0,80}\bcommit\b|\bgh pr create\b").search

SUCCESS = frozenset({"success", "completed"})
"""The two vocabularies of success (contract, section 3)."""


class ExcessiveRestarts:
    """`threshold` starts of kind `followup` or `retry` within `window`, with no success and no commit between.

    Three is the ancestor's number. It forgot them with each `session_end`; we keep them for an hour, since an orchestrator that
    retries ends each session before the next.
    """

    def __init__(self, limits: Limits, reporter: Reporter) -> None:
        self._threshold = limits.restarts_threshold
        self._window = limits.restarts_window
        self._reporter = reporter
        self.handlers: dict[str, Handler] = {"session_start": self.start, "session_end": self.end}

    def start(self, session: Session, _lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        if detail.prompt_type not in ("followup", "retry"):
            return
        if session.restarts is None:
            session.restarts = Window()
        window = session.restarts
        reason = detail.followup_reason or detail.prompt_type
        crossed = window.push(event.timestamp, place, self._threshold) and window.within(self._window)

        def describe(count: int, status: Status) -> Finding:
            again = "keeps being started again" if status is Status.ESCALATED else "was started again"
            return Finding(
                type="excessive_restarts",
                key="attempt",
                at=event.timestamp,
                spots=[Spot(at, where, f"session_start: {reason}") for at, where in zip(window.times, window.places, strict=True)],
                summary=f"{session.attempt_id} {again}: {count} times, the last {len(window.times)} in {span(max(window.times) - min(window.times))}; last reason: {reason}",
                detail={"restart_count": count, "last_reason": reason},
            )

        self._reporter.count(session, "excessive_restarts", "attempt", event.timestamp, crossed=crossed, size=self._threshold, describe=describe, out=out)

    def worked(self, session: Session, call: Data) -> None:
        """A call of a session that was started again has succeeded: a commit is progress."""
        if COMMITS(call.tool_params):
            session.restarts = None

    def end(self, session: Session, _lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        if succeeded(detail):
            session.restarts = None


def succeeded(detail: Detail) -> bool:
    """Whether a `session_end` tells success, in either vocabulary."""
    outcome = detail.outcome
    return detail.completion_status in SUCCESS or (outcome is not None and outcome.status in SUCCESS)
