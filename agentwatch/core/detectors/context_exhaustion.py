"""A context window that is full."""

import re

from agentwatch.core.alerts import Finding, Reporter, Spot
from agentwatch.core.detectors.base import Handler
from agentwatch.core.lazy import lazy
from agentwatch.core.limits import Limits
from agentwatch.core.state import Lane, Session
from agentwatch.model import Alert, Detail, Event

_NUMBER = r"([0-9][0-9,_]{2,11})"
_TOO_LONG = (
    lazy(_NUMBER + r" tokens > " + _NUMBER + r" maximum"),  # Anthropic
    lazy(r"resulted in " + _NUMBER + r" tokens.{0,80}?maximum context length (?:is|of) " + _NUMBER, re.DOTALL),
    lazy(r"input token count \(?" + _NUMBER + r"\)? exceeds the maximum number of tokens allowed \(?" + _NUMBER),  # Google
    lazy(r"requested " + _NUMBER + r" tokens.{0,80}?maximum (?:of|is|context length is) " + _NUMBER, re.DOTALL),
)
_MAXIMUM_FIRST = lazy(r"maximum context length is " + _NUMBER + r" tokens.{0,80}?(?:resulted in|requested(?: about)?) " + _NUMBER, re.DOTALL)  # OpenAI
READ = 2048

FULL_STEPS = 3
"""Codex compacts at 90 % of a window of which its log tells 95 %: at 94.7 % of what the log has. A healthy step ends above that, and so does the
one that makes the summary; the next is of an agent that does not compact."""


class ContextExhaustion:
    """More than `context_share` (0.95) of a window whose size the log tells, for `FULL_STEPS` in a row, or an answer that the prompt no longer fits.

    Agents compact by themselves at 80 to 95 %: one that gets above this share and goes on has nothing left for its answer. What a compaction
    makes of it ends the incident. Where the log does not tell the window nothing is told, since one model has several.
    """

    def __init__(self, limits: Limits, reporter: Reporter) -> None:
        self._share = limits.context_share
        self._reporter = reporter
        self.handlers: dict[str, Handler] = {"error": self.error, "compaction": self.compacted}

    def filled(self, session: Session, lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        """A step has told how full the window is."""
        used, window = detail.context_used, detail.context_window
        if used and window:
            if used >= self._share * window:
                lane.full_steps += 1
                if lane.full_steps >= FULL_STEPS:
                    self._told(session, event, used, window, place, out)
            else:
                self.compacted(session, lane, event, detail, place, out)

    def error(self, session: Session, _lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        message = detail.error_message
        if message and "token" in message and (sizes := _sizes(message[:READ].lower())) is not None and sizes[0] > sizes[1] > 0:
            self._told(session, event, *sizes, place, out)

    def compacted(self, session: Session, lane: Lane, event: Event, _detail: Detail, place: int, out: list[Alert]) -> None:
        """There is room again."""
        lane.full_steps = 0
        key = event.lane or "context"
        if session.episodes and f"context_exhaustion:{key}" in session.episodes:
            text = f"the context of {session.attempt_id} has room again"
            self._reporter.recover(session, Finding("context_exhaustion", key, event.timestamp, [Spot(event.timestamp, place, text)], text, {}), out)

    def _told(self, session: Session, event: Event, used: int, window: int, place: int, out: list[Alert]) -> None:
        key = event.lane or "context"
        episode = session.episodes.get(f"context_exhaustion:{key}") if session.episodes else None
        if episode is not None and not episode.recovered:
            return
        text = f"{used:,} of {window:,} tokens of context"
        finding = Finding(
            type="context_exhaustion",
            key=key,
            at=event.timestamp,
            spots=[Spot(event.timestamp, place, text)],
            summary=f"{session.attempt_id} has used {text} ({used / window:.0%})",
            detail={"context_used": used, "context_window": window},
        )
        self._reporter.open(session, finding, 1, out)


def _sizes(text: str) -> tuple[int, int] | None:
    """Tokens that were to be read and that may be, where an error tells both."""
    for pattern in _TOO_LONG:
        if found := pattern.search(text):
            return _tokens(found[1]), _tokens(found[2])
    found = _MAXIMUM_FIRST.search(text)
    return (_tokens(found[2]), _tokens(found[1])) if found else None


def _tokens(text: str) -> int:
    return int(text.replace(",", "").replace("_", ""))
