"""What a console knows of attempts: states, order, paces, ends."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from agentwatch.core.board import MOST_ENDED, MOST_LINE_BYTES, PACES, Attempt, Board, urgency
from agentwatch.core.engine import Engine
from agentwatch.core.limits import Limits
from agentwatch.formats.canonical import Decoder

START = datetime(2026, 2, 9, 8, tzinfo=UTC)


class Watched:
    """A board and its engine, fed with lines of the canonical stream."""

    def __init__(self):
        self.engine, self.heard = Engine(Limits(), lambda _model, usage, _at: usage.total / 1000), []
        self.board = Board(self.engine)
        self._reader = Decoder()

    def write(self, second, event_type, attempt_id="a-1", **data):
        line = orjson.dumps(
            {
                "timestamp": (START + timedelta(seconds=second)).isoformat(),
                "attempt_id": attempt_id,
                "event_type": event_type,
                "model": "m",
                "session_id": data.pop("session", None),
                "data": data,
            }
        )
        out = []
        self._reader.read(
            [line],
            0,
            lambda items: self.engine.feed("s", "", self.board.hear("s", "", items, self._reader, self.heard.append), self._reader, out),
            lambda *_: None,
        )

    def stands(self, second):
        return {one.attempt.attempt_id: one for one in self.board.standings(START + timedelta(seconds=second))}


@pytest.fixture
def watched():
    return Watched()


def test_an_attempt_works_until_something_else_is_waited_for(watched):
    """Working, waiting for a tool, waiting for its user, stuck: each by what the log says and how long ago."""
    watched.write(0, "session_start", prompt="Fix it")
    assert watched.stands(1)["a-1"].state == "working"
    watched.write(2, "tool_call", tool_name="Bash", tool_params={"command": "make"}, tool_call_id="c")
    one = watched.stands(3)["a-1"]
    assert (one.state, one.waiting_for) == ("tool", "tool Bash")
    watched.write(4, "tool_result", tool_call_id="c", result="ok", is_error=False)
    assert watched.stands(4 + 480)["a-1"].state == "working"
    assert watched.stands(4 + 481)["a-1"].state == "stuck"
    watched.write(10, "turn_end", reason="done")
    assert watched.stands(3600)["a-1"].state == "user"


def test_an_attempt_that_ended_is_shown_for_a_while_with_what_it_spent(watched):
    """The engine forgets it at once; the board knows how it ended, and what by."""
    watched.write(0, "session_start", prompt="Fix it")
    watched.write(1, "agent_output", output="x", usage={"input": 500})
    watched.write(2, "session_end", completion_status="failed")
    one = watched.stands(3)["a-1"]
    assert (one.state, one.session.tokens, one.cost_usd) == ("failed", 500, 0.5)
    assert watched.stands(2 + 901) == {}


def test_what_is_over_leaves_nothing_behind(watched):
    """Whoever only prints lines for weeks does not grow by an attempt each time."""
    watched.write(0, "session_start", "a-1")
    watched.write(1, "session_end", "a-1", completion_status="success")
    watched.write(2, "session_start", "a-2")
    watched.board.forget(START + timedelta(seconds=10))
    assert {attempt_id for _, attempt_id in watched.board.attempts} == {"a-1", "a-2"}
    watched.board.forget(START + timedelta(hours=1))
    assert {attempt_id for _, attempt_id in watched.board.attempts} == {"a-2"}


def test_an_attempt_that_begins_again_lives_again(watched):
    """An end is one of a start only."""
    watched.write(0, "session_start")
    watched.write(1, "session_end", completion_status="success", cost_usd=3.0, total_tokens=12_345)
    one = watched.stands(2)["a-1"]
    assert (one.state, one.cost_usd, one.session.tokens) == ("done", 3.0, 12_345)


@pytest.mark.parametrize(("told", "shown"), [(1e30, 2**53), (-5, 0), (None, 0)])
def test_tokens_of_an_end_that_nobody_can_have_spent(watched, told, shown):
    """They are cut, as those of steps are."""
    watched.write(0, "session_start")
    watched.write(1, "session_end", total_tokens=told)
    assert watched.stands(2)["a-1"].session.tokens == shown
    watched.write(3, "session_start")
    assert watched.stands(4)["a-1"].state == "working"


def test_the_last_action_is_something_that_was_done_or_went_wrong(watched):
    """A result that is fine, a turn mark or tokens say nothing of what an attempt is at."""
    watched.write(0, "tool_call", tool_name="Bash", tool_params={"command": "make"}, tool_call_id="c")
    watched.write(1, "tool_result", tool_call_id="c", result="ok", is_error=False)
    watched.write(2, "usage", usage={"input": 1})
    assert watched.stands(3)["a-1"].attempt.action.said().line == "Bash: make"
    watched.write(4, "tool_result", tool_name="Bash", result="error", result_data="no rule to make target")
    one = watched.stands(5)["a-1"]
    assert (one.attempt.action.said().line, one.session.errors, one.attempt.events) == ("Bash failed: no rule to make target", 1, 4)


def test_what_needs_attention_stands_first(watched):
    """Stuck before who waits for you, before who works, before what is over; an alert brings forward what still lives."""
    watched.write(0, "tool_call", "stuck", tool_name="Bash", tool_params={"command": "x"}, tool_call_id="c")
    watched.write(600, "tool_call", "works", tool_name="Bash", tool_params={"command": "x"}, tool_call_id="c")
    watched.write(600, "turn_end", "waits")
    watched.write(600, "session_start", "done")
    watched.write(601, "session_end", "done", completion_status="success")
    watched.write(602, "session_start", "alarmed")
    alarms = {"alarmed": 3, "done": 3}
    found = sorted(watched.stands(610).values(), key=lambda one: urgency(one, alarms.get(one.attempt.attempt_id, 0)))
    assert [one.attempt.attempt_id for one in found] == ["stuck", "alarmed", "waits", "works", "done"]


def test_rows_of_working_attempts_do_not_change_places_with_each_event(watched):
    """Order is by when they began, not by who spoke last."""
    for second, name in ((0, "b"), (1, "a"), (2, "c")):
        watched.write(second, "session_start", name)
    before = sorted(watched.stands(3).values(), key=lambda one: urgency(one, 0))
    watched.write(4, "agent_thinking", "c")
    after = sorted(watched.stands(5).values(), key=lambda one: urgency(one, 0))
    assert [one.attempt.attempt_id for one in before] == [one.attempt.attempt_id for one in after] == ["b", "a", "c"]


def test_a_pace_moves_to_the_left_as_time_goes_by():
    """Twelve counts of ten seconds; silence is told as zeros."""
    attempt = Attempt("a", "")
    slot = int(START.timestamp()) // 10
    for number in (slot, slot, slot + 1, slot):  # the last one is late
        attempt.count(number)
    assert attempt.pace(START + timedelta(seconds=10))[-2:] == (2, 2)
    assert attempt.pace(START + timedelta(seconds=30))[-4:] == (2, 2, 0, 0)
    assert attempt.pace(START + timedelta(hours=1)) == (0,) * PACES


def test_of_a_long_line_only_its_words_are_kept(watched):
    """5,000 events of 8 MiB each would be 40 GB."""
    watched.write(0, "agent_output", output="x" * 100_000)
    [heard] = watched.heard
    assert heard.line == b""
    assert len(heard.said().text) == MOST_LINE_BYTES + 1


def test_attempts_that_ended_are_bounded(watched):
    """A thousand an hour for a month leave no more than the newest thousand."""
    for number in range(MOST_ENDED + 50):
        watched.write(0, "session_start", f"a-{number}")
        watched.write(0, "session_end", f"a-{number}", completion_status="success")
    assert len(watched.board.attempts) == MOST_ENDED


def test_what_the_engine_knows_from_before_is_on_the_board_at_once(watched):
    """Begun from a checkpoint: attempts with what they are at, without a line of their past."""
    watched.write(0, "tool_call", tool_name="Bash", tool_params={"command": "make"}, tool_call_id="c")
    later = Board(watched.engine)
    [one] = later.standings(START + timedelta(seconds=5))
    assert (one.state, one.attempt.action.said().line) == ("tool", "Bash: make")


def test_a_session_that_is_recorded_is_heard_once(watched):
    """Its own transcript says the same again: neither a row nor an event comes of it."""
    watched.write(0, "status_change", "record", new_status="recorded", session="session-1")
    watched.write(1, "tool_call", "session-1", tool_name="Bash", tool_params={"command": "make"})
    assert set(watched.stands(2)) == {"record"}
    assert [heard.event.attempt_id for heard in watched.heard] == ["record"]
