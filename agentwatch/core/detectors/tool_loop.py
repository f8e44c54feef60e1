"""The same tool call again and again."""

from zlib import crc32

import msgspec

from agentwatch.core.alerts import Finding, Reporter, Spot, milliseconds, span
from agentwatch.core.detectors.base import Handler, bounded
from agentwatch.core.limits import Limits
from agentwatch.core.signatures import call_signature, normalise_result, result_text
from agentwatch.core.state import EMPTY_BYTES, Lane, Repeat, Session, Window
from agentwatch.model import Alert, Event, Status, decoded

POLL_TOOLS = frozenset({"BashOutput", "TaskOutput", "AgentOutput", "write_stdin", "read_bash", "read_output", "wait", "wait_agent", "process", "task_list"})
"""Tools whose purpose is to be asked again (detection.md, section 5)."""

MOST_PARAMS_BYTES = 4096
NEAR_BYTES = 64
"""Calls that say the same differ in a description or a time-out at most."""

POLL_REPEATS = 8
"""Equal polls in a row that are a loop: healthy sessions reach 7, the poll storms ran 192 to 283 (detection.md, section 4)."""


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
        self.handlers: dict[str, Handler] = {"tool_call": self.call, "tool_result": self.result, "user_message": self.user, "followup_sent": self.user}

    def call(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        data = event.data
        name = data.tool_name or "unknown"
        params = data.tool_params
        if len(params) > EMPTY_BYTES:
            repeat = lane.repeat
            if repeat is not None and repeat.tool_name == name and _same_call(repeat, params):
                repeat.count += 1
                return
            if repeat is not None and repeat.same:
                self._over(session, repeat, event, place, out)
            lane.repeat = Repeat(name, _kept(params), event.timestamp, place)
            return
        if session.rich:
            return
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
        repeat = lane.repeat
        if repeat is None or repeat.count < 2:
            return
        if event.data.is_error:  # the same failing call is an error loop
            lane.repeat = None
            return
        text = normalise_result(result_text(decoded(event.data.result)))
        result = crc32(text.encode("utf-8", "surrogatepass"))
        if repeat.same and result != repeat.result:
            self._over(session, repeat, event, place, out)
            repeat.same = 0
            repeat.count = 1
            repeat.first_at, repeat.first_place = event.timestamp, place
            return
        repeat.same += 1
        repeat.result = result
        needed = max(POLL_REPEATS, self._repeats) if _polls(repeat) else self._repeats
        told = repeat.same + 1

        def describe(count: int, status: Status) -> Finding:
            again = "is still repeating" if status is Status.ESCALATED else "repeats"
            return self._repeated(
                session,
                repeat,
                event,
                place,
                count,
                f"{session.attempt_id} {again} the same {repeat.tool_name} call: {count} times in {span(event.timestamp - repeat.first_at)}, and nothing new came back: {text[:120]}",
            )

        self._reporter.count(session, "tool_loop", _key(repeat), event.timestamp, crossed=told >= needed, size=told, describe=describe, out=out)

    def user(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        """A person spoke: whatever went round in circles before has ended."""
        if lane.repeat is not None and lane.repeat.same:
            self._over(session, lane.repeat, event, place, out)
        lane.repeat = None

    def _over(self, session: Session, repeat: Repeat, event: Event, place: int, out: list[Alert]) -> None:
        text = f"{session.attempt_id} stopped repeating {repeat.tool_name} after {repeat.count} calls in {span(event.timestamp - repeat.first_at)}"
        self._reporter.recover(session, self._repeated(session, repeat, event, place, repeat.count, text), out)

    def _repeated(self, session: Session, repeat: Repeat, event: Event, place: int, count: int, summary: str) -> Finding:
        return Finding(
            type="tool_loop",
            key=_key(repeat),
            at=event.timestamp,
            spots=[Spot(repeat.first_at, repeat.first_place, f"{repeat.tool_name}, the first of these calls"), Spot(event.timestamp, place, "the latest line")],
            summary=summary,
            detail={"tool_name": repeat.tool_name, "occurrences": count, "window_ms": milliseconds(event.timestamp - repeat.first_at)},
        )


def _key(repeat: Repeat) -> str:
    return f"{repeat.tool_name}:{crc32(repeat.params):08x}"


def _kept(params: msgspec.Raw) -> msgspec.Raw:
    """What is remembered of parameters: themselves, or their length and checksum where they are long."""
    return params if len(params) <= MOST_PARAMS_BYTES else msgspec.Raw(b'"%d:%08x"' % (len(params), crc32(params)))


def _same_call(repeat: Repeat, params: msgspec.Raw) -> bool:
    """Whether two calls of one tool say the same. The costly comparison is made only where lengths are near each other."""
    params = _kept(params)
    if params == repeat.params:
        return True
    if abs(len(params) - len(repeat.params)) > NEAR_BYTES:
        return False
    return call_signature(repeat.tool_name, decoded(params)) == call_signature(repeat.tool_name, decoded(repeat.params))


def _polls(repeat: Repeat) -> bool:
    return repeat.tool_name in POLL_TOOLS or any(word in bytes(repeat.params) for word in (b"sleep ", b"--watch", b"--follow"))
