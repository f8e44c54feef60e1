"""The same tool again and again, where only names are logged."""

from agentwatch.core.alerts import Finding, Reporter, Spot, milliseconds, span
from agentwatch.core.detectors.base import bounded
from agentwatch.core.limits import Limits
from agentwatch.core.state import Lane, Session, Window
from agentwatch.model import Alert, Event, Status


class ToolLoop:
    """`threshold` calls of one tool within `window` (10 in 60 s: contract, section 5).

    The rule of logs that carry no parameters, and of all logs where a user sets its numbers: 48 % of healthy sessions read ten files
    in a minute (detection.md, section 4). Where calls say what they do, `CallLoop` judges them.
    """

    def __init__(self, limits: Limits, reporter: Reporter) -> None:
        self._threshold = limits.tool_loop_threshold
        self._window = limits.tool_loop_window
        self._reporter = reporter

    def call(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        """A call of which only the tool's name counts."""
        name = event.data.tool_name or "unknown"
        if lane.tools is None:
            lane.tools = {}
        window = lane.tools.get(name)
        if window is None:
            window = bounded(lane.tools, name)
        if window.push(event.timestamp, place, self._threshold) and window.within(self._window):
            self._told(session, window, name, event, out)

    def _told(self, session: Session, window: Window, name: str, event: Event, out: list[Alert]) -> None:
        def describe(count: int, status: Status) -> Finding:
            spots = [Spot(at, place, name) for at, place in zip(window.times, window.places, strict=True)]
            again = "is still calling" if status is Status.ESCALATED else "called"
            return Finding(
                type="tool_loop",
                key=name,
                at=event.timestamp,
                spots=spots,
                summary=f"{session.attempt_id} {again} {name}, {count} times so far, the last {len(spots)} in {span(max(window.times) - min(window.times))}",
                detail={"tool_name": name, "occurrences": count, "window_ms": milliseconds(self._window)},
                rule="names",
            )

        self._reporter.count(session, "tool_loop", name, event.timestamp, crossed=True, size=self._threshold, describe=describe, out=out)
