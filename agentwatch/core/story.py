"""A session as the decisions of an agent: what it was asked, what it thought and did, what came back, what it had cost by then. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from agentwatch.core.board import Heard
from agentwatch.core.words import ACTIONS, Said, parameters
from agentwatch.model import Context

Kind = Literal["asked", "thinks", "says", "calls", "returned", "error", "alert", "other"]

KINDS: dict[str, Kind] = {
    "session_start": "asked",
    "user_message": "asked",
    "followup_sent": "asked",
    "agent_thinking": "thinks",
    "agent_output": "says",
    "tool_call": "calls",
    "tool_result": "returned",
    "error": "error",
}

SILENT = frozenset({"progress", "turn_start", "usage"})
"""Types of event that are no step of their own; what they cost counts with the step before."""


class Told(NamedTuple):
    """An event of the session as it was judged: `tokens` and `usd` are what it added to the bill, 0 for nothing that is known."""

    heard: Heard
    tokens: int
    usd: float


class Alarm(NamedTuple):
    """An alert of the session: `title` says what kind, `text` what happened, `evidence` on what that rests. `is_over`: it tells that an earlier one ended."""

    at: datetime
    title: str
    text: str
    evidence: tuple[str, ...]
    is_over: bool = False


class Step(NamedTuple):
    """One step. `elapsed` is the time since the session began; `tokens` and `usd` are what was spent by then, this step included.

    `text` says the most of it, `more` the other parameters of a call.
    """

    number: int
    at: datetime
    elapsed: timedelta
    kind: Kind
    lane: str
    title: str
    text: str
    is_bad: bool
    tokens: int
    usd: float
    place: str = ""
    more: str = ""


class Story(NamedTuple):
    """A whole session, oldest step first; `is_priced` is False where the price of its model is not known."""

    attempt_id: str
    context: Context
    source: str
    steps: tuple[Step, ...]
    is_priced: bool

    @property
    def took(self) -> timedelta:
        """From the first step to the last."""
        return self.steps[-1].elapsed if self.steps else timedelta()

    def count(self, kind: Kind) -> int:
        """How many steps are of a kind."""
        return sum(step.kind == kind for step in self.steps)

    @property
    def alerts(self) -> int:
        """How many alerts there were; that one is over is none."""
        return sum(step.is_bad and step.kind == "alert" for step in self.steps)

    @property
    def errors(self) -> int:
        """How many steps went wrong; alerts are not counted."""
        return sum(step.is_bad and step.kind != "alert" for step in self.steps)


def story(attempt_id: str, context: Context, told: Iterable[Told], alarms: Iterable[Alarm], *, is_priced: bool) -> Story:
    """Put events, in the order in which they were read, and alerts into the order in which they happened.

    Sub-agents have files of their own, so that only time brings their steps together; an alert stands behind all that had happened by then.
    """
    events = sorted(told, key=lambda one: one.heard.event.timestamp)
    waiting = sorted(alarms, key=lambda one: one.at)
    begun = min([one.heard.event.timestamp for one in events[:1]] + [one.at for one in waiting[:1]], default=None)
    steps: list[Step] = []
    tokens, usd = 0, 0.0
    thinking: tuple[str, int] | None = None

    def alarm(before: datetime | None) -> None:
        while waiting and begun is not None and (before is None or waiting[0].at < before):
            one = waiting.pop(0)
            text = "\n".join([one.text, *(f"  {line}" for line in one.evidence)])
            steps.append(Step(len(steps) + 1, one.at, one.at - begun, "alert", "", one.title, text, not one.is_over, tokens, usd))

    for event_told in events:
        heard = event_told.heard
        event = heard.event
        at = event.timestamp
        alarm(at)
        tokens, usd = tokens + event_told.tokens, usd + event_told.usd
        place = (heard.source, heard.place)
        is_repeated = event.event_type == "agent_thinking" and thinking == place  # one line with two thoughts is told once
        thinking = place if event.event_type == "agent_thinking" else None
        if event.event_type in SILENT or is_repeated or begun is None:
            if steps and steps[-1].kind != "alert":
                steps[-1] = steps[-1]._replace(tokens=tokens, usd=usd)
            continue
        said = heard.said()
        if event.event_type == "agent_output" and not said.text.strip():
            continue
        steps.append(
            Step(
                len(steps) + 1,
                at,
                at - begun,
                KINDS.get(event.event_type, "other"),
                event.lane or "",
                _title(said, heard),
                said.text,
                said.is_bad,
                tokens,
                usd,
                f"{heard.source} at byte {heard.place}",
                parameters(event.data.tool_params) if event.event_type == "tool_call" else "",
            )
        )
    alarm(None)
    return Story(attempt_id, context, events[0].heard.source if events else "", tuple(steps), is_priced)


def _title(said: Said, heard: Heard) -> str:
    return (
        said.title
        if said.text or heard.event.event_type not in ACTIONS - {"tool_call", "compaction", "session_start", "session_end"}
        else f"{said.title} (the log does not say what)"
    )
