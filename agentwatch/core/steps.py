"""What an event does to its session: who owes the next one, which calls are open, what was spent, and which detector must look.

The types of event that fill a log are handled here whole, with a cheap test in front of every detector; the seldom ones are handed
to each detector that wants to see them.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol

import msgspec

from agentwatch.core.alerts import Reporter
from agentwatch.core.detectors import DETECTORS
from agentwatch.core.detectors.base import Detector, Handler
from agentwatch.core.detectors.cost_anomaly import MOST_USD, CostAnomaly
from agentwatch.core.detectors.error_loop import ErrorLoop
from agentwatch.core.detectors.stuck_agent import NEEDS_NO_ANSWER
from agentwatch.core.detectors.tool_loop import ToolLoop, may_be_same
from agentwatch.core.limits import Limits
from agentwatch.core.signatures import result_text
from agentwatch.core.state import EMPTY_BYTES, MOST_LINE_BYTES, MOST_OPEN_CALLS, MOST_PARAMS_BYTES, Lane, Session, checksum
from agentwatch.model import Alert, Context, Data, Detail, Event, Usage, decoded

Price = Callable[[str, Usage, datetime], float | None]
"""USD of one step of a model at a time; None where the model's price is not known."""

Step = Callable[[Session, Lane, Event, int, bytes, list[Alert]], None]
"""Gets the attempt, its lane, the event, the offset of the event's line, that line, and the list that new alerts are added to."""

SUCCEEDED, FAILED = msgspec.Raw(b'"success"'), msgspec.Raw(b'"error"')
MOST_TOKENS = 2**53
TITLE = 80


class Reader(Protocol):
    """What only the format of a line can tell of it, asked seldom: `model.Format` says what each gives."""

    def context(self, line: bytes) -> Context: ...

    def detail(self, line: bytes) -> Detail: ...

    def usage(self, line: bytes) -> Usage | None: ...


class Steps:
    """`table` has a step for each type of event that changes anything. `reader` is that of the lines being fed, set by the engine."""

    reader: Reader

    def __init__(self, limits: Limits, reporter: Reporter, price: Price) -> None:
        self._price = price
        self._tool_loop = ToolLoop(limits, reporter)
        self._error_loop = ErrorLoop(limits, reporter)
        self._cost = CostAnomaly(limits, reporter)
        detectors: tuple[Detector, ...] = (self._error_loop, self._tool_loop, *(make(limits, reporter) for make in DETECTORS), self._cost)
        own: dict[str, Handler] = {
            "session_start": _asked,
            "user_message": _asked,
            "followup_sent": _asked,
            "turn_start": _began,
            "turn_end": _handed_over,
        }
        seldom = {kind: [handler] for kind, handler in own.items()}
        for detector in detectors:
            for kind, handler in detector.handlers.items():
                seldom.setdefault(kind, []).append(handler)
        self.table: dict[str, Step] = {kind: self._seldom(handlers) for kind, handlers in seldom.items()}
        self._ends = self.table["session_end"]
        self._failures = limits.failed_session_threshold
        self.table |= {
            "tool_call": self._called,
            "tool_result": self._returned,
            "agent_output": _spoke,
            "usage": self._used,
            "session_end": self._finished,
        }

    def _seldom(self, handlers: Iterable[Handler]) -> Step:
        """The step of a type of event that comes seldom enough to be decoded whole."""
        handlers = tuple(handlers)

        def step(session: Session, lane: Lane, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
            detail = self._detail(event, line)
            for handler in handlers:
                handler(session, lane, event, detail, place, out)

        return step

    def _detail(self, event: Event, line: bytes) -> Detail:
        return event.data if isinstance(event.data, Detail) else self.reader.detail(line)

    def spend(self, session: Session, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
        """The event carries tokens or USD. At a session's end they are its sum: told by its own handler."""
        if event.event_type != "session_end":
            self._spend(session, event, event.data.usage, place, line, out)

    def _used(self, session: Session, _lane: Lane, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
        """A `usage` event tells its tokens in its format's own words where it has no `data.usage`."""
        if event.data.usage is None and event.data.cost_usd is None:
            self._spend(session, event, self.reader.usage(line), place, line, out)

    def _spend(self, session: Session, event: Event, usage: Usage | None, place: int, line: bytes, out: list[Alert]) -> None:
        cost = event.data.cost_usd
        if usage is not None:
            session.tokens = min(session.tokens + usage.total, MOST_TOKENS)
            if event.data.model is not None and event.lane is None:
                session.context.model = event.data.model
            if cost is None:
                model = event.data.model or self.reader.context(line).model or session.context.model
                cost = self._price(model, usage, event.timestamp) if model else None
                session.unpriced = session.unpriced or (cost is None and usage.total > 0)
        if cost:
            session.cost_usd = min(session.cost_usd + cost, MOST_USD)
            self._cost.spent(session, event.timestamp, place, out)

    def _called(self, session: Session, lane: Lane, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
        lane.owes = "model"
        if len(line) > MOST_LINE_BYTES:
            event = _shortened(event)
        data = event.data
        call = lane.call
        if session.shows_params or len(data.tool_params) > EMPTY_BYTES:
            session.rich = session.shows_params = True
            if call is not None and (lane.repeat is not None or (call.data.tool_name == data.tool_name and may_be_same(call.data, data))):
                self._tool_loop.call(session, lane, event, place, out)
        else:
            self._tool_loop.name(session, lane, event, place, out)
        if lane.is_open or lane.open_calls is not None:
            _keep_open(lane, call, data.tool_call_id)
        lane.call = event
        lane.call_place = place
        lane.is_open = data.tool_call_id is not None

    def _returned(self, session: Session, lane: Lane, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
        lane.owes = "model"
        data = event.data
        call = lane.call
        if lane.is_open and call is not None and call.data.tool_call_id == data.tool_call_id:
            lane.is_open = False
        elif lane.open_calls is not None and data.tool_call_id is not None:
            call = lane.open_calls.pop(data.tool_call_id, None)
        else:
            call = None
        if call is not None and data.tool_name is None:
            data.tool_name = call.data.tool_name
        if data.is_error is None:
            self._older_form(data, line)
        if data.is_error:
            detail = self._detail(event, line)
            detail.tool_name, detail.result, detail.error_message = data.tool_name, data.result, data.error_message
            self._error_loop.result(session, lane, event, detail, place, out)
        if lane.repeat is not None:
            self._tool_loop.result(session, lane, event, place, out)

    def _finished(self, session: Session, lane: Lane, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
        """Most sessions end without anything to tell: no cost above the limit, no errors, no restarts, no open episode."""
        if session.episodes or session.restarts is not None or session.errors >= self._failures or self._cost.is_high(session, event):
            self._ends(session, lane, event, place, line, out)

    def _older_form(self, data: Data, line: bytes) -> None:
        """`result` as a verdict, with the text in `result_data` (formats.md, section 1); its `status` counts any "error" in the text, so it says nothing."""
        if data.result in (SUCCEEDED, FAILED):
            data.is_error = data.result == FAILED
            data.result = self.reader.detail(line).result_data
        else:
            data.is_error = bool(data.exit_code)
        if data.is_error and not data.error_message:
            said = decoded(data.result)
            data.error_message = said if isinstance(said, str) else None


def _spoke(session: Session, lane: Lane, event: Event, _place: int, _line: bytes, _out: list[Alert]) -> None:
    reason = event.data.stop_reason
    if reason is None:
        lane.owes = "text"
    else:
        session.rich = True
        lane.owes = "model" if reason == "tool_use" else "text"


def _asked(session: Session, lane: Lane, _event: Event, detail: Detail, _place: int, _out: list[Alert]) -> None:
    asks_nothing = NEEDS_NO_ANSWER(detail.output)
    lane.owes = "user" if detail.interrupted or asks_nothing else "model"
    lane.is_open, lane.open_calls = False, None
    if session.context.task_title is None and lane is session.main and not asks_nothing:
        session.context.task_title = _title(detail.prompt or detail.output)


def _title(prompt: msgspec.Raw) -> str | None:
    """What a session is about where nobody named it: the beginning of its first prompt, on one line."""
    words = result_text(decoded(prompt))[: 4 * TITLE].split() if prompt else []
    title = " ".join(words)
    return (title if len(title) <= TITLE else title[: TITLE - 1] + "…") or None


def _began(_session: Session, lane: Lane, _event: Event, _detail: Detail, _place: int, _out: list[Alert]) -> None:
    lane.owes = "model"


def _handed_over(session: Session, lane: Lane, _event: Event, _detail: Detail, _place: int, _out: list[Alert]) -> None:
    session.rich = True
    lane.owes = "user"
    lane.is_open, lane.open_calls = False, None


def _keep_open(lane: Lane, call: Event | None, new_id: str | None) -> None:
    """Calls are made in parallel: those before the newest one wait in `open_calls`. One that is logged twice waits once."""
    calls = lane.open_calls
    if calls is None:
        calls = lane.open_calls = {}
    if lane.is_open and call is not None and call.data.tool_call_id is not None:
        if len(calls) >= MOST_OPEN_CALLS - 1:
            del calls[next(iter(calls))]
        calls[call.data.tool_call_id] = call
    if new_id is not None:
        calls.pop(new_id, None)
    if not calls:
        lane.open_calls = None


def _shortened(event: Event) -> Event:
    """What is kept of a call on a long line: nothing of the line's own bytes."""
    data = event.data
    params = data.tool_params
    kept = params.copy() if len(params) <= MOST_PARAMS_BYTES else checksum(params)
    short = Data(tool_name=data.tool_name, tool_call_id=data.tool_call_id, tool_params=kept, msg_id=data.msg_id)
    return Event(event.timestamp, event.attempt_id, event.event_type, short, event.lane)
