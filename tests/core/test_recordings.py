"""An agent's session that an attempt records is judged once, whoever of the two is read first."""

import json

import msgspec
import pytest

from agentwatch.core.recordings import MOST_RECORDINGS, MOST_SESSIONS, Recording, Recordings
from agentwatch.model import RECORDED
from tests.core.test_engine import END, START, Watched, items_of, timedelta

SESSION = "0ccf1a04"


def line(at_s, kind, /, attempt="a1", session=None, **data):
    more = {"session_id": session} if session else {}
    at = (START + timedelta(seconds=at_s)).isoformat()
    return json.dumps({"timestamp": at, "attempt_id": attempt, "event_type": kind, "data": data, **more}).encode() + b"\n"


def errors(begin_s, attempt, session=None):
    """One error loop."""
    return [line(begin_s + n, "error", attempt, session, error_message="boom", error_fingerprint="boom") for n in range(4)]


def recorded(begin_s, end_s=None, attempt="a1"):
    """An attempt that records the session, and what goes wrong in it."""
    lines = [line(begin_s, "session_start", attempt), line(begin_s + 1, "status_change", attempt, SESSION, new_status=RECORDED)]
    lines += errors(begin_s + 2, attempt, SESSION)
    return lines if end_s is None else [*lines, line(end_s, "session_end", attempt, SESSION, completion_status="success")]


def opened(*parts, scope="runs/r1"):
    """Feed what recorders wrote (in a run), and what stands in transcripts, part by part; the attempts with a loop of errors, in their order."""
    watched = Watched()
    for part in parts:
        is_transcript = json.loads(part[0])["attempt_id"] == SESSION
        watched.feed(items_of(part), scope="" if is_transcript else scope)
        watched.restart()
    watched.engine.finish(END, watched.out)
    watched.ids()
    return [alert.attempt_id for alert in watched.out if (alert.type, alert.status) == ("error_loop", "open")]


def test_a_session_that_is_recorded_is_not_judged_beside_its_record():
    """Whether the transcript is read after the record, or was begun before the record told whose session it is."""
    record, transcript = recorded(0, 100), errors(3, SESSION)
    assert opened(record, transcript) == ["a1"]
    assert opened(record[:1], transcript[:2], record[1:], transcript[2:]) == ["a1"]


def test_what_the_session_does_before_and_after_its_recording_is_judged():
    """A person began it, it was resumed under a recorder, and then by a person again: four loops, one of which the record tells."""
    transcript = [*errors(0, SESSION), *errors(1002, SESSION), *errors(5000, SESSION)]
    assert opened(recorded(1000, 1100), transcript) == ["a1", SESSION, SESSION]


def test_a_person_who_takes_over_a_moment_before_the_recording_is_judged_until_then():
    """No silence lies between that would make anybody look."""
    assert opened(recorded(100, 1100), [*errors(0, SESSION), *errors(102, SESSION)]) == ["a1", SESSION]


def test_a_session_may_be_recorded_more_than_once():
    """And one attempt may record several: a script that runs the agent twice."""
    again = recorded(2000, 2100, "a2")
    assert opened(recorded(0, 100), again, [*errors(3, SESSION), *errors(2003, SESSION)]) == ["a1", "a2"]
    other = [line(10, "status_change", "a1", "another", new_status=RECORDED)]
    first = recorded(0, 100)
    assert opened([*first[:-1], *other, first[-1]], errors(3, SESSION)) == ["a1"]


def test_a_recorder_that_fell_silent_for_ever_records_nothing_more():
    """It was killed: days later somebody resumes the session."""
    watched = Watched()
    watched.feed(items_of(recorded(0)))
    watched.engine.tick(START + timedelta(days=1), watched.out)
    watched.feed(items_of(errors(90_000, SESSION)))
    assert [alert.attempt_id for alert in watched.out if alert.type == "error_loop"] == ["a1", SESSION]


def test_alerts_say_which_session_it_was():
    """Its id came after the attempt's first event."""
    watched = Watched()
    watched.feed(items_of(recorded(0)))
    assert watched.out[0].detail["session_id"] == SESSION


@pytest.mark.parametrize(
    "event",
    [
        line(1, "status_change", "a1", SESSION, new_status="running"),
        line(1, "status_change", "a1", None, new_status=RECORDED),
        line(1, "status_change", SESSION, SESSION, new_status=RECORDED),
        line(1, "usage", "a1", SESSION),
    ],
    ids=["another status", "no session", "its own", "no status"],
)
def test_nothing_else_keeps_a_session_from_being_judged(event):
    """Orchestrators name sessions too, of which their own events tell next to nothing."""
    assert SESSION in opened([line(0, "session_start", "a1"), event], errors(3, SESSION))


def test_only_the_last_recordings_are_remembered():
    """They are written with every checkpoint."""
    recordings = Recordings({}, lambda _: True)
    for number in range(2 * MOST_SESSIONS):
        recordings.begin(f"s{number}", Recording("", f"a{number}", START))
    for number in range(2 * MOST_RECORDINGS):
        recordings.begin("s", Recording("", f"a{number}", START))
    assert len(recordings.known) == MOST_SESSIONS
    assert len(recordings.known["s"]) == MOST_RECORDINGS
    assert recordings.cover(f"s{2 * MOST_SESSIONS - 1}", START)
    assert not recordings.cover("s0", START)
    assert msgspec.json.decode(msgspec.json.encode(recordings.known), type=dict[str, list[Recording]]) == recordings.known
