"""The same tool call again and again."""

import re
from datetime import timedelta
from zlib import crc32

from agentwatch.core.alerts import Finding, Reporter, Spot, milliseconds, span
from agentwatch.core.detectors.base import Handler, bounded
from agentwatch.core.limits import Limits
from agentwatch.core.signatures import call_signature, normalise_result, result_text
from agentwatch.core.state import Lane, Repeat, Session, Window
from agentwatch.model import Alert, Data, Detail, Event, Status, decoded

POLL_TOOLS = frozenset({"BashOutput", "TaskOutput", "AgentOutput", "write_stdin", "read_bash", "read_output", "wait", "wait_agent", "process", "task_list"})
"""Tools whose purpose is to be asked again (detection.md, section 5)."""

NEAR_BYTES = 64
MAY_DIFFER = re.compile(rb'"(?:description|explanation|justification|thought|timeout|yield_time|max_output_tokens|task_progress|security_risk)').search
"""Calls that say the same differ in such a field at most; without one they are equal byte for byte or not at all. Comparing signatures
of all calls near each other in length took 13 % of the whole program's time."""

POLL_REPEATS, POLLED_FOR = 8, timedelta(seconds=20)
SLOW_POLL, SLOW_REPEATS, SLOWLY_POLLED_FOR = timedelta(seconds=15), 20, timedelta(minutes=20)
"""Equal polls in a row that are a loop: healthy sessions reach 7, the poll storms ran 192 to 283. Polls of 15 s and more wait by
themselves: Codex waits 34 times 30 s for a healthy build (detection.md, section 5)."""


class ToolLoop:
    """Two rules, chosen by what the log says.

    Where only names are logged: `threshold` calls of one tool within `window` (10 in 60 s: contract, section 5).

    Where calls carry their parameters: the same call `repeats` times in a row, with nothing else between and nothing new
    coming back. Of 2,083 real sessions none had exactly three equal pairs in a row, and all with four or more were true
    loops (detection.md, section 4). Results are compared from the second call on, once the call is known to repeat.
    """

    def __init__(self, limits: Limits, reporter: Reporter) -> None:
        self._threshold = limits.tool_loop_threshold
        self._window = limits.tool_loop_window
        self._repeats = limits.tool_loop_repeats
        self._reporter = reporter
        self.handlers: dict[str, Handler] = {"user_message": self.user, "followup_sent": self.user}

    def call(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        """A call that may be the one before it again; both carry their parameters."""
        before, data, repeat = lane.call, event.data, lane.repeat
        if before is None or before.data.tool_name != data.tool_name or not _same_call(before.data, data):
            if repeat is not None and repeat.same:
                self._over(session, repeat, event, place, out)
            lane.repeat = None
        elif repeat is not None:
            if data.msg_id is None or data.msg_id != repeat.message:
                repeat.message = data.msg_id
                repeat.count += 1
        elif data.msg_id is None or data.msg_id != before.data.msg_id:
            params = data.tool_params
            lane.repeat = Repeat(data.tool_name or "unknown", crc32(params), _polls(data), before.timestamp, lane.call_place, count=2, message=data.msg_id)

    def name(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        """A call of which only the tool's name is known."""
        name = event.data.tool_name or "unknown"
        if lane.tools is None:
            lane.tools = {}
        window = lane.tools.get(name)
        if window is None:
            window = bounded(lane.tools, name)
        if window.push(event.timestamp, place, self._threshold) and window.within(self._window):
            self._names(session, window, name, event, out)

    def _names(self, session: Session, window: Window, name: str, event: Event, out: list[Alert]) -> None:
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
            )

        self._reporter.count(session, "tool_loop", name, event.timestamp, crossed=True, size=self._threshold, describe=describe, out=out)

    def result(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        """What a call brought, after it was made at least twice."""
        repeat = lane.repeat
        if repeat is None or (event.data.tool_name is not None and event.data.tool_name != repeat.tool_name):  # late, of a call before these
            return
        if event.data.is_error:  # the same failing call is an error loop
            if repeat.same:
                self._over(session, repeat, event, place, out)
            lane.repeat = None
            if not lane.is_open:
                lane.call = None
            return
        said = decoded(event.data.result)
        text = normalise_result(result_text(said))
        # What is no valid text is compared as it stands: two such results are not equal for being unreadable.
        result = crc32(text.encode("utf-8", "surrogatepass") if said is not None else event.data.result)
        if repeat.same and result != repeat.result:
            self._over(session, repeat, event, place, out)
            repeat.result, repeat.same, repeat.count = result, 1, 1
            repeat.first_at, repeat.first_place = event.timestamp, place
            return
        repeat.same += 1
        repeat.result = result
        # The first call's result was not looked at; parallel calls have been made before the first result comes back.
        told = min(repeat.same + 1, repeat.count)
        crossed = told >= self._repeats and (not repeat.polls or _in_vain(told, event.timestamp - repeat.first_at))

        def describe(count: int, status: Status) -> Finding:
            again, began = "repeats", repeat.first_at
            if status is Status.ESCALATED and session.episodes:
                again, began = "is still repeating", session.episodes[f"tool_loop:{_key(repeat, event.lane)}"].opened_at
            lasted = span(event.timestamp - began)
            summary = f"{session.attempt_id} {again} the same {repeat.tool_name} call: {count} times in {lasted}, and nothing new came back: {text[:120]}"
            return self._repeated(repeat, event, place, count, summary)

        self._reporter.count(session, "tool_loop", _key(repeat, event.lane), event.timestamp, crossed=crossed, size=told, describe=describe, out=out)

    def user(self, session: Session, lane: Lane, event: Event, _detail: Detail, place: int, out: list[Alert]) -> None:
        """A person spoke: whatever went round in circles before has ended."""
        if lane.repeat is not None and lane.repeat.same:
            self._over(session, lane.repeat, event, place, out)
        lane.repeat = lane.call = None

    def _over(self, session: Session, repeat: Repeat, event: Event, place: int, out: list[Alert]) -> None:
        text = f"{session.attempt_id} stopped repeating {repeat.tool_name} after {repeat.count} calls in {span(event.timestamp - repeat.first_at)}"
        self._reporter.recover(session, self._repeated(repeat, event, place, repeat.count, text), out)

    def _repeated(self, repeat: Repeat, event: Event, place: int, count: int, summary: str) -> Finding:
        return Finding(
            type="tool_loop",
            key=_key(repeat, event.lane),
            at=event.timestamp,
            spots=[Spot(repeat.first_at, repeat.first_place, f"{repeat.tool_name}, the first of these calls"), Spot(event.timestamp, place, "the latest line")],
            summary=summary,
            detail={"tool_name": repeat.tool_name, "occurrences": count, "window_ms": milliseconds(event.timestamp - repeat.first_at)},
        )


def _key(repeat: Repeat, lane: str | None) -> str:
    """What an episode is known by. Two lanes that go round in the same circle are two incidents."""
    return f"{lane or ''}:{repeat.tool_name}:{repeat.params:08x}"


def may_be_same(one: Data, other: Data) -> bool:
    """Whether two calls of one tool may say the same. The costly comparison is made only where lengths are near each other."""
    if one.tool_params == other.tool_params:
        return True
    near = abs(len(one.tool_params) - len(other.tool_params)) <= NEAR_BYTES
    return near and bool(MAY_DIFFER(one.tool_params) or MAY_DIFFER(other.tool_params))


def _same_call(one: Data, other: Data) -> bool:
    if one.tool_params == other.tool_params:
        return True
    name = one.tool_name or "unknown"
    return may_be_same(one, other) and call_signature(name, decoded(one.tool_params)) == call_signature(name, decoded(other.tool_params))


def _in_vain(polls: int, lasted: timedelta) -> bool:
    """Whether so many equal polls in that time are too many."""
    if lasted < (polls - 1) * SLOW_POLL:
        return polls >= POLL_REPEATS and lasted >= POLLED_FOR
    return polls >= SLOW_REPEATS and lasted >= SLOWLY_POLLED_FOR


def _polls(call: Data) -> bool:
    return call.tool_name in POLL_TOOLS or any(word in bytes(call.tool_params) for word in (b"sleep ", b"--watch", b"--follow"))
