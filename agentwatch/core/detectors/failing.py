"""Work that fails again and again, where calls carry their parameters and results."""

from zlib import crc32

from agentwatch.core.alerts import Finding, Reporter, Spot, milliseconds, span
from agentwatch.core.detectors.call_loop import EDITORS, EDITS, call_key, in_vain, polls
from agentwatch.core.limits import Limits
from agentwatch.core.signatures import fingerprint, is_transient, operation, salient
from agentwatch.core.state import Failure, Failures, Lane, Session
from agentwatch.model import Alert, Detail, Event, Status, decoded

TURNS = 5
"""The same error of one operation so often without a success of it between: 4 would find 14 sessions of ordinary struggling (detection.md, section 5)."""

SAME_CALL = 3
"""The identical call failing identically so many turns in a row was never seen in a healthy session; twice in 15."""

EDITS_IN_A_ROW = 7
"""All real sessions in which so many edits in a row failed were loops, whatever the messages; of those with 5 or 6 only some."""

STORM = 5
"""Equal errors of the framework or the API with no tool result between; 3 or 4 would only be earlier (detection.md, section 6.5)."""

MOST_ERRORS = 16
LONGEST_NAME = 200
EDITING = "failing_edits"


class Failing:
    """Four rules over what fails in a lane. Calls made in parallel count once, by their turn; a success of the operation ends it."""

    def __init__(self, _limits: Limits, reporter: Reporter) -> None:
        self._reporter = reporter

    def failed(self, session: Session, lane: Lane, call: Event | None, event: Event, message: str, place: int, out: list[Alert]) -> str | None:
        """A failed result; the error's name. None for one without a word, which is no evidence: `grep` that finds nothing exits with 1."""
        said = salient(message)
        if said is None:
            return None
        failures = lane.failures
        if failures is None:
            failures = lane.failures = Failures()
        name = (event.data.tool_name or "tool")[:LONGEST_NAME]
        doing = operation(name, decoded(call.data.tool_params)) if call is not None else name
        turn = (call.data.msg_id if call is not None else None) or lane.turn
        key = f"{doing}: {fingerprint(said)}"
        failure = failures.by_error.get(key)
        if failure is None:
            if len(failures.by_error) >= MOST_ERRORS:
                oldest = next(iter(failures.by_error))
                del failures.by_error[oldest]
                self._over(session, event, oldest, "many other errors came", place, out)
            failure = failures.by_error[key] = Failure(doing, 1, turn, event.timestamp, place)
        elif failure.turn != turn:
            failure.count, failure.turn = failure.count + 1, turn
        elif name not in EDITS:
            return key
        if call is not None:
            self._in_a_row(failures, call_key(call.data), crc32(said.encode("utf-8", "surrogatepass")), turn)
        crossed = failure.count >= TURNS or failures.row >= SAME_CALL
        if call is not None and polls(call.data):  # `gh pr checks` fails as long as they run, `curl` until the server has started
            crossed = in_vain(failure.count, event.timestamp - failure.first_at)
        rule = "operation" if failure.count >= TURNS else "same_call"
        how = f"{doing} failed {{count}} times, no success of it between"
        self._tell(session, failure, event, key, rule, how, message, place, out, crossed=crossed)
        if name in EDITS or name in EDITORS:
            self._edit(session, failures, event, message, turn, place, out, is_told=crossed)
        return key

    def succeeded(self, session: Session, lane: Lane, call: Event, event: Event, place: int, out: list[Alert]) -> None:
        """A result that is none, while something fails in its lane."""
        failures = lane.failures
        if failures is None:
            return
        failures.row = 0
        name = call.data.tool_name or "tool"
        doing = operation(name, decoded(call.data.tool_params))
        for key in [key for key, failure in failures.by_error.items() if failure.operation == doing]:
            del failures.by_error[key]
            self._over(session, event, key, f"{doing} has succeeded", place, out)
        if failures.edits and (name in EDITS or name in EDITORS):
            failures.edits = 0
            self._over(session, event, EDITING, "an edit has succeeded", place, out)
        if not failures.by_error and not failures.edits and not failures.storm:
            lane.failures = None

    def broke(self, session: Session, lane: Lane, event: Event, detail: Detail, key: str, message: str, place: int, out: list[Alert]) -> None:
        """An error that is no tool's result. Transient ones are one storm whatever they say: each retry may fail in another way."""
        failures = lane.failures
        if failures is None:
            failures = lane.failures = Failures()
        transient = is_transient(detail.error_category, message)
        storm = failures.storm
        if storm is None or (storm.operation != key and not (transient and storm.transient)):
            if storm is not None:
                self._over(session, event, storm.operation, "another error came", place, out)
            storm = failures.storm = Failure(key, 0, 0, event.timestamp, place, transient)
        storm.count += 1
        how = "errors that should pass {count} times, nothing else between" if transient else "the same error {count} times, nothing else between"
        rule = "transient" if transient else "storm"
        self._tell(session, storm, event, storm.operation, rule, how, message, place, out, crossed=storm.count >= STORM)

    def spoke(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        """The model has answered: what was transient has passed. An answer may well be what the other errors are about."""
        storm = lane.failures.storm if lane.failures is not None else None
        if storm is not None and storm.transient:
            self.answered(session, lane, event, place, out)

    def answered(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        """Something worked: a storm of errors is over."""
        failures = lane.failures
        if failures is not None and failures.storm is not None:
            self._over(session, event, failures.storm.operation, "it got an answer", place, out)
            failures.storm = None

    def reset(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        """A person spoke."""
        failures, lane.failures = lane.failures, None
        if failures is None:
            return
        storm = [failures.storm.operation] if failures.storm is not None else []
        for key in [*failures.by_error, *storm, EDITING]:
            self._over(session, event, key, "its user spoke", place, out)

    def _in_a_row(self, failures: Failures, call: int, error: int, turn: str | int) -> None:
        if (failures.call, failures.error) != (call, error):
            failures.call, failures.error, failures.row, failures.turn = call, error, 1, turn
        elif failures.turn != turn:
            failures.row, failures.turn = failures.row + 1, turn

    def _edit(self, session: Session, failures: Failures, event: Event, message: str, turn: str | int, place: int, out: list[Alert], *, is_told: bool) -> None:
        if failures.edits and failures.edits_turn == turn:
            return
        if not failures.edits or failures.edits_at is None:
            failures.edits_at, failures.edits_place = event.timestamp, place
        failures.edits, failures.edits_turn = failures.edits + 1, turn
        if failures.edits >= EDITS_IN_A_ROW and not is_told:
            edits = Failure("edits", failures.edits, turn, failures.edits_at, failures.edits_place)
            self._tell(session, edits, event, EDITING, "failing_edits", "{count} edits in a row failed", message, place, out, crossed=True)

    def _tell(
        self,
        session: Session,
        failure: Failure,
        event: Event,
        key: str,
        rule: str,
        how: str,
        message: str,
        place: int,
        out: list[Alert],
        *,
        crossed: bool,
    ) -> None:
        def describe(count: int, status: Status) -> Finding:
            began = failure.first_at
            if status is Status.ESCALATED and session.episodes:
                began = session.episodes[f"error_loop:{_in_lane(event, key)}"].opened_at
            is_in = "is still in" if status is Status.ESCALATED else "is in"
            lasted = event.timestamp - began
            return Finding(
                type="error_loop",
                key=_in_lane(event, key),
                at=event.timestamp,
                spots=[Spot(failure.first_at, failure.first_place, "the first of these errors"), Spot(event.timestamp, place, message)],
                summary=f"{session.attempt_id} {is_in} an error loop: {how.replace('{count}', str(count))}, in {span(lasted)}. {message}",
                detail={"error_fingerprint": key, "occurrences": count, "window_ms": milliseconds(lasted), "sample_message": message}
                | ({"transient": True, "fleet": "transient"} if failure.transient else {}),
                rule=rule,
            )

        size = failure.count
        self._reporter.count(session, "error_loop", _in_lane(event, key), event.timestamp, crossed=crossed, size=size, describe=describe, out=out)

    def _over(self, session: Session, event: Event, key: str, why: str, place: int, out: list[Alert]) -> None:
        episode = session.episodes.get(f"error_loop:{_in_lane(event, key)}") if session.episodes else None
        if episode is None:
            return
        lasted = event.timestamp - episode.opened_at
        finding = Finding(
            type="error_loop",
            key=_in_lane(event, key),
            at=event.timestamp,
            spots=[Spot(event.timestamp, place, why)],
            summary=f"{session.attempt_id} is out of its error loop after {episode.count} errors in {span(lasted)}: {why}",
            detail={"error_fingerprint": key, "occurrences": episode.count, "window_ms": milliseconds(lasted), "sample_message": ""},
        )
        self._reporter.recover(session, finding, out)


def _in_lane(event: Event, key: str) -> str:
    return f"{event.lane}:{key}" if event.lane else key
