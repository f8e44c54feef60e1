"""What an event does to its session: who owes the next one, which calls are open, what was spent, and which detector must look.

The types of event that fill a log are handled here whole, with a cheap test in front of every detector; the seldom ones are handed
to each detector that wants to see them.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from hashlib import blake2b
from sys import byteorder
from typing import Protocol
from zlib import crc32

import msgspec

from agentwatch.core.alerts import Reporter
from agentwatch.core.detectors import DETECTORS
from agentwatch.core.detectors.base import Detector, Handler
from agentwatch.core.detectors.call_loop import CHANGE, STEPS, CallLoop, call_key, edits, result_shape, writes
from agentwatch.core.detectors.context_exhaustion import ContextExhaustion
from agentwatch.core.detectors.cost_anomaly import CostAnomaly
from agentwatch.core.detectors.error_loop import ErrorLoop
from agentwatch.core.detectors.excessive_restarts import ExcessiveRestarts
from agentwatch.core.detectors.failing import Failing
from agentwatch.core.detectors.monologue import LONG_LINE, Monologue
from agentwatch.core.detectors.stuck_agent import NEEDS_NO_ANSWER
from agentwatch.core.detectors.tool_loop import ToolLoop
from agentwatch.core.issues import Issues
from agentwatch.core.limits import Limits
from agentwatch.core.signatures import result_text
from agentwatch.core.spending import count
from agentwatch.core.state import EMPTY_BYTES, LONGEST_CALL_ID, MOST_LINE_BYTES, MOST_OPEN_CALLS, MOST_PARAMS_BYTES, Lane, Ledger, Session, checksum
from agentwatch.model import MOST_TOKENS, MOST_USD, PROGRAM, Alert, Context, Data, Detail, Event, Usage, decoded

Price = Callable[[str, Usage, datetime], float | None]
"""USD of one step of a model at a time; None where the model's price is not known."""

Step = Callable[[Session, Lane, Event, int, bytes, list[Alert]], None]
"""Gets the attempt, its lane, the event, the offset of the event's line, that line, and the list that new alerts are added to."""

SUCCEEDED, FAILED = msgspec.Raw(b'"success"'), msgspec.Raw(b'"error"')
ASKS_LEAVE = "permission"
"""The reason of a turn's end that asks the user's leave: what was called goes on when it is given."""

TITLE = 80
LONGEST_TOOL = 256
RING_BYTES = STEPS * len(CHANGE)


class Reader(Protocol):
    """What only the format of a line can tell of it, asked seldom: `model.Format` says what each gives."""

    @property
    def name(self) -> str: ...

    def context(self, line: bytes) -> Context: ...

    def detail(self, line: bytes) -> Detail: ...

    def usage(self, line: bytes) -> Usage | None: ...


class Steps:
    """`table` has a step for each type of event that changes anything. `reader` is that of the lines being fed, set by the engine."""

    reader: Reader

    def __init__(self, limits: Limits, reporter: Reporter, price: Price, ledger: Ledger, issues: Issues) -> None:
        self._price = price
        self._issues = issues
        self._tool_loop = ToolLoop(limits, reporter)
        self._counts_names = limits.tool_loop_is_explicit
        self._call_loop = CallLoop(limits, reporter)
        self._monologue = Monologue(limits, reporter)
        self._failing = Failing(limits, reporter)
        self._error_loop = ErrorLoop(limits, reporter, self._failing)
        self._cost = CostAnomaly(limits, reporter, ledger)
        self._context = ContextExhaustion(limits, reporter)
        self._restarts = ExcessiveRestarts(limits, reporter)
        # A session that failed speaks before its loops end: it is what they have led to.
        detectors: tuple[Detector, ...] = (
            self._restarts,
            *(make(limits, reporter) for make in DETECTORS),
            self._error_loop,
            self._context,
            self._cost,
        )
        own: dict[str, Handler] = {
            "session_start": _asked,
            "user_message": self._user_spoke,
            "followup_sent": self._user_spoke,
            "turn_start": _began,
            "turn_end": self._handed_over,
        }
        seldom = {kind: [handler] for kind, handler in own.items()}
        for detector in detectors:
            for kind, handler in detector.handlers.items():
                seldom.setdefault(kind, []).append(handler)
        seldom["error"].append(self._broke)
        self.table: dict[str, Step] = {kind: self._seldom(handlers) for kind, handlers in seldom.items()}
        self._ends = self.table["session_end"]
        self._failures = limits.failed_session_threshold
        self.table |= {
            "tool_call": self._called,
            "tool_result": self._returned,
            "agent_output": self._spoke,
            "usage": self._used,
            "progress": self._went_on,
            "session_end": self._finished,
        }

    def _seldom(self, handlers: Iterable[Handler]) -> Step:
        """The step of a type of event that comes seldom enough to be decoded whole."""
        handlers = tuple(handlers)

        def step(session: Session, lane: Lane, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
            detail = self.detail(event, line)
            for handler in handlers:
                handler(session, lane, event, detail, place, out)

        return step

    def detail(self, event: Event, line: bytes) -> Detail:
        """All that the event says."""
        return event.data if isinstance(event.data, Detail) else self.reader.detail(line)

    def spend(self, session: Session, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
        """The event carries tokens or USD. At a session's end they are its sum: told by its own handler."""
        if event.event_type != "session_end":
            self._spend(session, event, event.data.usage, place, line, out)

    def _used(self, session: Session, lane: Lane, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
        """A `usage` event tells its tokens in its format's own words where it has no `data.usage`."""
        data = event.data
        if data.usage is None and data.cost_usd is None:
            self._spend(session, event, self.reader.usage(line), place, line, out)
        if isinstance(data, Detail):
            self._context.filled(session, lane, event, data, place, out)

    def _spend(self, session: Session, event: Event, usage: Usage | None, place: int, line: bytes, out: list[Alert]) -> None:
        cost = event.data.cost_usd
        day = count(session, event.timestamp, usage)
        if usage is not None:
            session.tokens = min(session.tokens + usage.total, MOST_TOKENS)
            if event.data.model is not None and event.lane is None:
                session.context.model = event.data.model
            if cost is None:
                model = event.data.model or self.reader.context(line).model or session.context.model
                cost = self._price(model, usage, event.timestamp) if model else None
                session.unpriced = session.unpriced or (cost is None and usage.total > 0)
        if cost is not None and cost > 0:
            session.cost_usd = min(session.cost_usd + cost, MOST_USD)
            day.usd = min(day.usd + cost, MOST_USD)
            self._cost.spent(session, event, place, cost, out)

    def _called(self, session: Session, lane: Lane, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
        lane.owes = "model"
        session.tool_calls += 1
        if lane.was_answered:
            lane.was_answered = False
            lane.turn += 1
        lane.said = None
        if lane.talk is not None:
            self._monologue.over(session, lane, event, place, out)
        if len(line) > MOST_LINE_BYTES:
            event = _shortened(event)
        data = event.data
        if len(data.tool_params) > EMPTY_BYTES:
            session.rich = session.shows_params = True
        if self._counts_names or not session.shows_params:
            self._tool_loop.call(session, lane, event, place, out)
        if lane.is_open or lane.open_calls is not None:
            _keep_open(lane, lane.call, data.tool_call_id)
        lane.call = event
        lane.call_place = place
        lane.call_key = call_key(data) if session.shows_params else 0
        lane.is_open = data.tool_call_id is not None

    def _returned(self, session: Session, lane: Lane, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
        lane.owes = "model"
        lane.was_answered = True
        data = event.data
        if len(line) > MOST_LINE_BYTES:
            data.tool_call_id = _short_id(data.tool_call_id)
        call = lane.call
        if lane.is_open and call is not None and call.data.tool_call_id == data.tool_call_id:
            lane.is_open = False
        elif lane.open_calls is not None and data.tool_call_id is not None:
            call = lane.open_calls.pop(data.tool_call_id, None)
        elif data.tool_call_id is not None or lane.is_open or call is None or (data.tool_name is not None and data.tool_name != call.data.tool_name):
            call = None  # a call that nobody saw; without ids, that of another tool
        if call is not None and data.tool_name is None:
            data.tool_name = call.data.tool_name
        if data.is_error is None:
            self._older_form(data, line)
        if lane.failures is not None:
            self._failing.answered(session, lane, event, place, out)
        if data.is_error:
            detail = self.detail(event, line)
            detail.tool_name, detail.result, detail.error_message = data.tool_name, data.result, data.error_message
            self._error_loop.result(session, lane, call, event, detail, place, out)
            self._issues.result(session, event, detail, place, out)
        elif call is not None:
            if lane.failures is not None:
                self._failing.succeeded(session, lane, call, event, place, out)
            if session.restarts is not None:
                self._restarts.worked(session, call.data, event, place, out)
        if session.shows_params and call is not None:
            self._stepped(session, lane, call, event, place, out)

    def _stepped(self, session: Session, lane: Lane, call: Event, event: Event, place: int, out: list[Alert]) -> None:
        """A call has brought its result. What follows the cheap test is for what the lane has done lately."""
        key = lane.call_key if call is lane.call else call_key(call.data)
        shape = result_shape(call.data, event.data)
        step, recent = key.to_bytes(4, byteorder), lane.recent
        if lane.loops is not None or step in recent or (shape and shape == lane.step_shape):
            self._call_loop.step(session, lane, call, event, key, shape, place, out)
        step = recent + step
        # What a shell command has changed matters only where something is done again.
        if not event.data.is_error and (edits(call.data) or (lane.loops is not None and writes(call.data))):
            self._call_loop.changed(session, lane, key, event, place, out)
            step += CHANGE
        lane.recent = step[-RING_BYTES:]
        lane.step_at = call.timestamp
        lane.step_place = lane.call_place
        lane.step_turn = call.data.msg_id or lane.turn
        lane.step_shape = shape

    def _spoke(self, session: Session, lane: Lane, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
        reason = event.data.stop_reason
        if reason is None:
            lane.owes = "text"
        elif reason == PROGRAM:
            lane.owes = "user"
            self._issues.output(session, event, self.detail(event, line), place, out)
            return
        else:
            session.rich = True
            lane.owes = "model" if reason == "tool_use" else "text"
        if lane.was_answered:
            lane.was_answered = False
            lane.turn += 1
        if lane.failures is not None:
            self._failing.spoke(session, lane, event, place, out)
        if session.rich:
            if lane.said is not None or len(line) > LONG_LINE:
                self._monologue.spoke(session, lane, event, self.detail(event, line), place, out)
            else:
                lane.said = event.data.msg_id or ""

    def _broke(self, session: Session, _lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        self._issues.error(session, event, detail, place, out)

    def _went_on(self, session: Session, _lane: Lane, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
        """An agent's sign of life says nothing; of a program it is more of the record before it."""
        if event.data.stop_reason == PROGRAM:
            self._issues.trace(session, event, self.detail(event, line), place, out)

    def _user_spoke(self, session: Session, lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        _asked(session, lane, event, detail, place, out)
        self._call_loop.reset(session, lane, event, place, out)
        self._failing.reset(session, lane, event, place, out)
        if lane.talk is not None:
            self._monologue.over(session, lane, event, place, out)

    def _handed_over(self, session: Session, lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        session.rich = session.rich or detail.reason != PROGRAM
        if detail.reason == ASKS_LEAVE:
            lane.owes = "leave"
        else:
            lane.owes = "user"
            lane.is_open, lane.open_calls = False, None
        if lane.talk is not None:
            self._monologue.over(session, lane, event, place, out)

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


def _asked(session: Session, lane: Lane, event: Event, detail: Detail, _place: int, _out: list[Alert]) -> None:
    asks_nothing = NEEDS_NO_ANSWER(detail.output)
    if lane is session.main and not asks_nothing:
        _count_prompt(session, event, detail)
    lane.owes = "user" if detail.interrupted or asks_nothing else "model"
    for other in (session.main, *(session.lanes or {}).values()) if lane is session.main else (lane,):  # nobody waits for a sub-agent of before
        other.is_open, other.open_calls = False, None
    if session.context.task_title is None and lane is session.main and not asks_nothing:
        session.context.task_title = _title(detail.prompt or detail.output)


def _count_prompt(session: Session, event: Event, detail: Detail) -> None:
    """Of the first prompt a checksum; what comes after it is a follow-up. A start may be followed by the message that it was started with."""
    if not session.prompt:
        session.prompt = crc32(detail.prompt or detail.output)
    if event.event_type == "session_start":
        session.retries += detail.prompt_type in ("followup", "retry")
    elif event.event_type == "followup_sent" or session.was_asked:
        session.followups += 1
    else:
        session.was_asked = True


def _title(prompt: msgspec.Raw) -> str | None:
    """What a session is about where nobody named it: the beginning of its first prompt, on one line."""
    words = result_text(decoded(prompt))[: 4 * TITLE].split() if prompt else []
    title = " ".join(words)
    return (title if len(title) <= TITLE else title[: TITLE - 1] + "…") or None


def _began(_session: Session, lane: Lane, _event: Event, _detail: Detail, _place: int, _out: list[Alert]) -> None:
    lane.owes = "model"


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


def _short_id(name: str | None) -> str | None:
    """An id of a sensible length; of others a digest."""
    if name is None or len(name) <= LONGEST_CALL_ID:
        return name
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _shortened(event: Event) -> Event:
    """What is kept of a call on a long line: nothing of the line's own bytes."""
    data = event.data
    params = data.tool_params
    kept = params.copy() if len(params) <= MOST_PARAMS_BYTES else checksum(params)
    name = data.tool_name[:LONGEST_TOOL] if data.tool_name else None
    short = Data(tool_name=name, tool_call_id=_short_id(data.tool_call_id), tool_params=kept, msg_id=_short_id(data.msg_id))
    return Event(event.timestamp, event.attempt_id, event.event_type, short, event.lane)
