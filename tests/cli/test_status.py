"""`agentwatch status` against real daemons and real damage."""

import json
import re
import signal
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from agentwatch.apps.daemon import Pace


def status(place, **environ):
    done = place.run("status", "--json", **environ)
    return done.returncode, orjson.loads(done.stdout)


def settled(place, until):
    """The first status for which `until` holds; the daemon saves twice a second."""
    for _ in range(60):
        code, found = status(place)
        if until(found):
            return code, found
    raise AssertionError(found)


def test_before_anything_happened_it_says_so_and_exits_1(place):
    """No directory, no daemon, no state: an answer, not an error; and nothing is made."""
    code, found = status(place)
    assert code == 1
    assert (found["running"], found["pid"], found["files"], found["alerts"], found["faults"]) == (False, None, [], {}, [])
    assert not place.logs.exists()


def test_a_running_daemon_is_described(place, errors, daemon):
    """All keys of the contract, with what is true of this daemon."""
    begun = datetime.now(UTC) - timedelta(minutes=4)
    place.write("no json\n", *(errors(minute, begun=begun) for minute in range(4)), '{"half":')
    code, found = settled(place, lambda found: found["events_total"] == 4 and found["files"])
    assert code == 0
    assert (found["running"], found["pid"], found["attempts_live"], found["alerts"]) == (True, daemon.pid, 1, {"error_loop": 1})
    size = place.stream.stat().st_size
    assert found["files"] == [{"path": str(place.stream), "format": "canonical", "size": size, "offset": size - 8, "lag_bytes": 8}]
    fault = found["faults"][0]
    assert (fault["path"], fault["kind"], fault["count"]) == ("agent-work-stream.jsonl", "not_json", 1)
    assert place.stream.read_bytes()[fault["offset"] :].startswith(b"no json")
    assert set(found["inotify"]) == {"ok", "detail"}
    assert found["started_at"].endswith("Z")


def test_a_burst_shows_in_the_pace_for_a_minute():
    """Who looks ten seconds after a burst sees that there was one, and when it ended; later that all is quiet."""
    pace = Pace(0.0, 1000)
    begun = datetime(2026, 2, 9, tzinfo=UTC)
    seen = {}
    for second in range(1, 200):
        pace.count(second, 1000 + min(second, 10) * 60, begun + timedelta(seconds=second))
        seen[second] = pace.per_s(second)
    assert (seen[1], seen[10], seen[20], seen[60]) == (60, 60, 30, 10)
    assert seen[65] == 5
    assert set(map(seen.get, range(70, 200))) == {0}
    assert pace.last_event_at == begun + timedelta(seconds=10)


def test_the_pace_is_shown_with_the_time_of_the_last_event(place, errors, daemon):
    """Not only while events come; before the first there is none to speak of."""
    assert status(place)[1]["last_event_at"] is None
    before = datetime.now(UTC)
    place.write(errors(1, begun=before))
    _, found = settled(place, lambda found: found["events_total"] == 1 and found["last_event_at"])
    assert found["events_per_s"] > 0
    assert before <= datetime.fromisoformat(found["last_event_at"]) <= datetime.now(UTC)
    assert re.search(r"events 1 \(1 a second|events 1 \(\d+ a minute, the last [\d.]+ m?s ago\)", place.run("status").stdout)


def test_looking_does_not_get_in_the_daemon_s_way(place, daemon):
    """Asking does not take the lock from a daemon, nor end it."""
    for _ in range(5):
        assert status(place)[0] == 0
    assert daemon.poll() is None


def test_after_a_kill_what_was_known_is_shown(place, errors, daemon):
    """A daemon that is gone leaves its figures, and the exit code says that it is gone."""
    place.write(*map(errors, range(4)))
    settled(place, lambda found: found["events_total"] == 4)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    place.write(errors(5))
    code, found = status(place)
    assert (code, found["running"], found["pid"], found["events_total"]) == (1, False, None, 4)
    assert found["files"][0]["lag_bytes"] == len(place.stream.read_bytes().splitlines(keepends=True)[-1])
    assert "not running" in place.run("status").stdout


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"00\n{}"], ids=["empty", "rubbish", "wrong sum"])
def test_a_damaged_checkpoint_is_told_and_left_where_it_is(place, damage):
    """Who looks changes nothing: the daemon decides what becomes of it."""
    state = place.logs / ".agentwatch"
    state.mkdir(parents=True, mode=0o700)
    (state / "checkpoint.json").write_bytes(damage)
    code, found = status(place)
    assert (code, found["files"]) == (1, [])
    assert "checksum" in found["problem"]
    assert "state unknown" in place.run("status").stdout
    assert [path.name for path in state.iterdir()] == ["checkpoint.json"]


def test_names_cannot_move_the_cursor(place, daemon):
    """A log called like an escape sequence is shown harmlessly."""
    place.logs.mkdir(parents=True, exist_ok=True)
    (place.logs / "evil\x1b[2J.jsonl").write_text('{"a": 1}\n')
    settled(place, lambda found: found["files"])
    shown = place.run("status").stdout
    assert "evil" in shown
    assert "\x1b" not in shown


def claude(kind, n):
    return (
        json.dumps({"type": kind, "sessionId": "s1", "uuid": f"u{n}", "timestamp": "2026-11-22T10:00:00Z", "message": {"role": "user", "content": "hi"}}) + "\n"
    )


@pytest.mark.parametrize(("new", "strange"), [(3, False), (40, True)], ids=["a new kind", "a new format"])
def test_lines_of_unknown_kinds_are_counted_and_many_of_them_are_told(place, daemon, new, strange):
    """A few are no fault; a twentieth of all says that the agent writes another format now, and the daemon says so once."""
    (place.logs / "session.jsonl").write_text("".join(claude("user", n) for n in range(200)) + "".join(claude("hologram", n) for n in range(new)))
    _, found = settled(place, lambda found: found["unknown"])
    assert found["unknown"] == {"claude-code": {"hologram": new}}
    assert found["faults"] == []
    assert ("claude-code" in found["strange"]) is strange
    shown = place.run("status").stdout
    assert "hologram" in shown
    assert ("may write a new format" in shown) is strange
    daemon.terminate()
    assert ("may write a new format" in daemon.communicate(timeout=20)[1]) is strange
