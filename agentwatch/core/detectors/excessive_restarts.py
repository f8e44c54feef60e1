"""An attempt that is started again and again."""

import re

from agentwatch.core.alerts import Finding, Reporter, Spot, span
from agentwatch.core.detectors.base import Handler
from agentwatch.core.limits import Limits
from agentwatch.core.state import Lane, Session, Window
from agentwatch.model import Alert, Data, Detail, Event, Status

COMMITS = re.compile(rb'\bgit(?:[\s",]{1,8}-{1,2}[^\s",]{1,200}(?:[\s",]{1,8}[^\s",-][^\s",]{0,200})??){0,8}[\s",]{1,8}commit(?![\w-])|\bgh pr create\b').search
"""In the JSON of a command, a text or a list: `git`, its own options with their values, and `commit`."""

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

    def worked(self, session: Session, call: Data, event: Event, place: int, out: list[Alert]) -> None:
        """A call of a session that was started again has succeeded: a commit is progress."""
        if COMMITS(call.tool_params):
            self._over(session, event, place, "it has made a commit", out)

    def end(self, session: Session, _lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        if succeeded(detail):
            self._over(session, event, place, "it has succeeded", out)

    def _over(self, session: Session, event: Event, place: int, why: str, out: list[Alert]) -> None:
        """What is started after this is no retry of what was before."""
        window, session.restarts = session.restarts, None
        finding = Finding(
            type="excessive_restarts",
            key="attempt",
            at=event.timestamp,
            spots=[Spot(event.timestamp, place, why)],
            summary=f"{session.attempt_id} is past its restarts: {why}",
            detail={"restart_count": len(window.times) if window is not None else 0, "last_reason": why},
        )
        self._reporter.recover(session, finding, out)


def succeeded(detail: Detail) -> bool:
    """Whether a `session_end` tells success, in either vocabulary."""
    outcome = detail.outcome
    return detail.completion_status in SUCCESS or (outcome is not None and outcome.status in SUCCESS)
