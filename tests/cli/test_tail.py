"""`agentwatch tail` as lines: what comes when, what passes the filters, and that nothing but reading happens."""

import io
import json
import os
import select
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.apps import tail as app
from agentwatch.apps.feed import Filters
from agentwatch.apps.follow import Follower
from agentwatch.core.board import Heard
from agentwatch.formats.registry import FORMATS, recognise
from agentwatch.model import NO_MEMORY, Context
from agentwatch.settings import load
from tests.formats.harness import CORPUS

PATIENCE_S = 20.0


class Tail:
    """`agentwatch tail` with its output in a pipe."""

    def __init__(self, place, *arguments):
        self.process = subprocess.Popen(
            place.command("tail", *arguments), cwd=place.base, env=place.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._rest = b""

    def line(self):
        """The next line; a failure where none comes."""
        end = time.monotonic() + PATIENCE_S
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no line came; stderr: {self._stderr()}"
            piece = os.read(self.process.stdout.fileno(), 65536)
            assert piece, f"it ended: {self._stderr()}"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def json(self):
        return orjson.loads(self.line())

    def _stderr(self):
        self.process.kill()
        return self.process.stderr.read().decode()

    def is_up(self):
        """It has read what there was: it says so where no daemon runs."""
        assert b"no daemon runs" in self.process.stderr.readline()
        return self


@pytest.fixture
def tail(place):
    started = []

    def start(*arguments):
        started.append(Tail(place, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def event(second, event_type="tool_call", attempt_id="a-1", **more):
    data = more.pop("data", {"tool_name": "Bash", "tool_params": {"command": "make"}})
    at = datetime.now(UTC) - timedelta(hours=1) + timedelta(seconds=second)
    return {"timestamp": at.isoformat(timespec="milliseconds"), "attempt_id": attempt_id, "event_type": event_type, "data": data, **more}


def tree(directory):
    """Every file below a directory with all that changes when somebody writes to it."""
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size, path.stat().st_ino) for path in sorted(directory.rglob("*"))}


def test_history_comes_first_in_the_order_of_time_and_then_what_happens(place, tail):
    """Events of two logs are merged; what is older than `--since` is left out, however it was written."""
    place.write(event(-7200, attempt_id="a-0"), event(0), event(20))
    (place.logs / "other.jsonl").write_bytes(orjson.dumps(event(10, attempt_id="a-2")) + b"\n")
    following = tail("--json", "--since", "2h")
    assert [following.json()["attempt_id"] for _ in range(3)] == ["a-1", "a-2", "a-1"]
    place.write(event(3600, attempt_id="a-3"))
    assert following.json()["attempt_id"] == "a-3"


def test_without_since_only_what_happens_from_now_on_is_told(place, tail):
    """As `tail -f` would, without the last lines."""
    place.write(event(0), event(1))
    following = tail("--json").is_up()
    place.write(event(2, attempt_id="new"))
    assert following.json()["attempt_id"] == "new"


def test_a_line_of_json_is_an_event_in_the_canonical_form(place, tail):
    """Whatever its format: a program needs to know one form only. Words, source and offset stand beside it."""
    place.write(event(0, task_id="T-1", executor="CODEX", model="gpt-5-codex", lane="sub"))
    line = tail("--json", "--since", "2h").json()
    at = datetime.fromisoformat(line.pop("timestamp"))
    assert at.tzinfo is not None
    assert line == {
        "kind": "event",
        "attempt_id": "a-1",
        "event_type": "tool_call",
        "lane": "sub",
        "task_id": "T-1",
        "executor": "CODEX",
        "model": "gpt-5-codex",
        "data": {"tool_name": "Bash", "tool_params": {"command": "make"}},
        "source": "agent-work-stream.jsonl",
        "offset": 0,
        "text": "Bash: make",
    }


def test_what_tail_prints_is_a_stream_that_agentwatch_reads(place, tail):
    """The lines can be written to a log, and judged there."""
    place.write(*(event(second, "error", data={"error_message": "boom", "error_fingerprint": "boom"}) for second in range(4)))
    following = tail("--json", "--since", "2h")
    lines = [following.line() for _ in range(4)]
    copied = place.base / "copied"
    copied.mkdir()
    (copied / "stream.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert "1 new alert" in place.run("run", "--once", "--log-dir", str(copied)).stderr


def test_without_a_daemon_alerts_are_judged_here_and_kept_nowhere(place, tail):
    """Each once, with the id that a daemon would give it, and in the order of time among the events."""
    following = tail("--json").is_up()
    place.write(*(event(3600 + second, "error", data={"error_message": "boom", "error_fingerprint": "boom"}) for second in range(4)))
    lines = [following.json() for _ in range(5)]
    alert = next(line for line in lines if line["kind"] == "alert")
    assert (alert["type"], len(alert["evidence"]), alert["status"]) == ("error_loop", 4, "open")
    assert not place.alerts.exists()
    place.run("run", "--once")
    assert orjson.loads(place.alerts.read_bytes())["alert_id"] == alert["alert_id"]


def test_with_a_daemon_its_alerts_are_told_as_they_are_written_once_each(place, daemon, tail, errors):
    """The log of alerts is followed; what our own engine thinks is not told a second time."""
    following = tail("--json", "--alerts")
    begun = datetime.now(UTC)
    time.sleep(2)  # until it follows: with a daemon nothing says so
    place.write(*(errors(0, begun=begun + timedelta(milliseconds=number)) for number in range(4)))
    alert = following.json()
    assert (alert["kind"], alert["type"]) == ("alert", "error_loop")
    place.write({**errors(0, "a-2", begun=begun), "event_type": "session_start", "data": {}})
    ready, _, _ = select.select([following.process.stdout], [], [], 2)
    assert not ready


def test_a_daemon_is_not_disturbed_and_nothing_is_written_anywhere(place, daemon, tail, errors):
    """No file of the log directory, the state or the home is made, moved or written by a look."""
    place.write(errors(0, begun=datetime.now(UTC)))
    for _ in range(100):
        if b'"events":1' in (place.logs / ".agentwatch" / "checkpoint.json").read_bytes():
            break
        time.sleep(0.1)
    time.sleep(1)
    daemon.send_signal(19)  # SIGSTOP: whatever is written now, the daemon does not write it
    try:
        before = tree(place.base)
        following = tail("--json", "--since", "2h")
        assert following.json()["attempt_id"] == "a-1"
        time.sleep(2.5)
        assert tree(place.base) == before
    finally:
        daemon.send_signal(18)
    assert place.run("status").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        pytest.param(["--attempt", "b"], ["b-1", "b-1"], id="the beginning of an attempt's id"),
        pytest.param(["--attempt", "b-1", "--attempt", "c-1"], ["b-1", "c-1", "b-1"], id="two attempts"),
        pytest.param(["--executor", "codex"], ["b-1", "b-1"], id="an executor, in any case"),
        pytest.param(["--type", "error"], ["b-1"], id="a type"),
        pytest.param(["--grep", "np[mx] test"], ["c-1"], id="a pattern"),
        pytest.param(["--run", "r1"], ["r-1"], id="a run"),
        pytest.param(["--run", "latest"], ["r-1"], id="the newest run"),
        pytest.param(["--type", "error", "--executor", "claude"], [], id="both must fit"),
    ],
)
def test_filters_let_through_what_was_asked_for(place, tail, arguments, shown):
    """History and what comes then; the last line is one that always passes."""
    place.write(
        event(0, attempt_id="a-1", executor="CLAUDE"),
        event(1, attempt_id="b-1", executor="CODEX"),
        event(2, attempt_id="c-1", data={"tool_name": "Bash", "tool_params": {"command": "npm test"}}),
        event(3, "error", attempt_id="b-1", executor="CODEX", data={"error_message": "boom"}),
    )
    run = place.logs / "runs" / "r1"
    run.mkdir(parents=True)
    (run / "stream.jsonl").write_bytes(orjson.dumps(event(4, attempt_id="r-1")) + b"\n")
    Path(place.logs / "runs" / "latest").symlink_to("r1")
    following = tail("--json", "--since", "2h", *arguments).is_up()
    last = event(10, "error", attempt_id="b-1", executor="CLAUDE CODEX", data={"error_message": "npm test"})
    found = [following.json()["attempt_id"] for _ in shown]
    assert found == shown
    assert last is not None
    ready, _, _ = select.select([following.process.stdout], [], [], 0.5)
    assert not ready


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        pytest.param(["--type", "tool_cal"], "`--type tool_cal` is no type of event or alert", "did you mean `tool_call`?", id="type"),
        pytest.param(["--grep", "("], "`--grep (` is not a regular expression: missing )", "put a backslash", id="pattern"),
        pytest.param(["--since", "soon"], "`--since soon` is no time", "give it as in 30m", id="time"),
    ],
)
def test_a_wrong_filter_is_told_with_its_remedy(place, arguments, message, hint):
    """Before anything is read."""
    done = place.run("tail", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert hint in done.stderr


def test_a_run_that_is_not_there_is_told_with_those_that_are(place):
    """It is no wrong usage; where the environment has named it, that is said."""
    done = place.run("tail", "--run", "none")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no run `none` in" in done.stderr
    assert "there are no runs yet" in done.stderr
    assert "(from AGENTWATCH_RUN)" in place.run("tail", AGENTWATCH_RUN="none").stderr


def test_plain_lines_are_one_an_event_and_secrets_and_controls_do_not_stand_in_them(place, tail):
    """For logs and pipes: a line that a log forged would be taken for another event."""
    secret = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0bXaB3d"
    place.write(event(0, "agent_output", data={"output": f"one\ntwo \x1b[2J\x1b]0;t\x07 \u202e {secret}"}))
    place.write(event(1, "error", attempt_id="x\n2026-02-09T08:00:00Z forged", data={"error_message": "boom"}))
    following = tail("--since", "2h")
    first, second = following.line(), following.line()
    assert first.endswith(r"a-1  says: one two \x1b[2J\x1b]0;t\x07 \u202e [REDACTED:github]")
    assert "x 2026-02-09T08:00:00Z forged  error: boom" in second


def test_secrets_do_not_stand_in_json_either_whatever_names_them(place, tail):
    """By their shape, and by the name of the field that they stand in."""
    secret = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0bXaB3d"
    place.write(
        event(
            0,
            data={"tool_name": "Bash", "tool_params": {"command": f"curl -H {secret}", "env": {"DB_PASSWORD": "hunter2hunter2", secret: 1}}},
            tags=["a", secret],
        )
    )
    line = tail("--json", "--since", "2h").line()
    assert secret not in line
    assert "hunter2" not in line


def test_long_names_of_fields_say_what_is_secret_and_are_not_kept():
    """A log may have another name of a quarter of a megabyte in each of its lines."""
    kept = app._may_name_secret.cache_info().currsize
    fields = app._tidy({f"{'x' * app.MOST_KEY}{number}_password": "hunter2hunter2" for number in range(9)})
    assert list(fields.values()) == ["[REDACTED]"]  # all are cut to the same name
    assert app._may_name_secret.cache_info().currsize == kept


@pytest.mark.parametrize("shown", [5, 20, 39])
@pytest.mark.parametrize("most", [app.MOST_LINE, app.MOST_TEXT, app.MOST_KEY])
def test_a_secret_that_is_cut_in_two_does_not_stand_there_by_half(most, shown):
    """Where a text is cut its secrets are known by what stands behind."""
    key, secret = "AKIAA1B2C3D4E5F6G7H8", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0bXaB3dE6gH"
    for title in ("", "says: "):
        text = "x " * most
        text = f"{text[: most - len(f'{title}{key} ') - shown]}{key} {secret} {'and more ' * 300}"
        data = {"output": {text: 1} if most == app.MOST_KEY else text}
        line = json.dumps({"timestamp": "2026-02-09T08:00:00Z", "attempt_id": "a-1", "event_type": "agent_output", "data": data}).encode() + b"\n"
        [heard] = heard_of("agent-work-stream.jsonl", [line])
        for told in (app.event_json(heard, Context()), app.event_line(heard)):
            assert secret[:5] not in told


def test_one_look_at_lines_in_any_script_finds_them_harmless(monkeypatch):
    """What people write outside of ASCII is not looked at text by text."""
    line = json.dumps(event(0, "agent_output", data={"output": "één\n日本語 👩 x"})).encode() + b"\n"
    [heard] = heard_of("agent-work-stream.jsonl", [line])
    monkeypatch.setattr(app, "_safe_fields", lambda _: pytest.fail("each text was looked at"))
    assert orjson.loads(app.event_json(heard, Context()))["data"]["output"] == "één\n日本語 👩 x"


def heard_of(path, lines):
    """Every event of these lines as `tail` hears it."""
    row = FORMATS.get(recognise(str(path), lines[:50]))
    decoder = row.decoder(str(path), NO_MEMORY) if row is not None else None
    found = []
    if decoder is not None:
        decoder.read(
            lines, 0, lambda items: found.extend(Heard(event, "", str(path), place, line, decoder.detail) for event, place, line in items), lambda *_: None
        )
    return found


def looked_at_one_by_one(heard, context):
    """The line of an event where no look at all of it is trusted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "harmless_json", lambda lines: [False] * len(lines))
        return app.event_json(heard, context)


PIECES = st.sampled_from(
    [
        *("word ", "\n", "\t", "\r\n", "\\", "\\t", '"', "\x1b[2J", "\u202e", "\x7f", "é日👩", "İ", ":", "=", "x" * 300, "word " * 500),
        *("passwor", "d=", "hunter2hunter2", "token", "ghp_", "sk-", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0bX", "AccountKey", "12345678"),
    ]
)
TEXTS = st.lists(PIECES, max_size=5).map("".join)
NAMES = TEXTS | st.sampled_from(["path", "command", "api_key", "AccountKey", "secret", "x" * 201])
VALUES = st.recursive(
    TEXTS | st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3) | st.just([1] * 101) | st.just([[[[[[[1]]]]]]]),
    max_leaves=4,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("tool_params", "result", "result_data", "output", "prompt"), VALUES)
    | dict.fromkeys(("tool_name", "error_message", "thinking", "reason", "completion_status"), TEXTS)
    | {"usage": st.fixed_dictionaries({"input": st.integers(0, 9)}), "outcome": st.fixed_dictionaries({"status": TEXTS}), "cost_usd": st.floats(0, 9)},
)


@settings(max_examples=300)
@given(st.sampled_from(["session_start", "session_end", "user_message", "agent_output", "agent_thinking", "tool_call", "tool_result", "error"]), FIELDS, TEXTS)
def test_one_look_at_an_event_shows_what_a_look_at_each_of_its_texts_would(event_type, data, task):
    """Most events have nothing to hide and are shown as they are: byte for byte what comes of looking at each text, bounding each list."""
    line = json.dumps({"timestamp": "2026-02-09T08:00:00Z", "attempt_id": "a-1", "event_type": event_type, "data": data}).encode() + b"\n"
    context = Context(task_title=task, executor="CODEX", tags=("x", task))
    for heard in heard_of("agent-work-stream.jsonl", [line]):
        assert app.event_json(heard, context) == looked_at_one_by_one(heard, context)


def test_an_event_is_shown_the_same_in_every_format():
    """Over real logs of each agent: one look at an event gives what a look at each of its texts gives."""
    if not CORPUS.is_dir():
        pytest.skip(f"`{CORPUS}` is not there")
    seen = 0
    for path in sorted((CORPUS / "open").rglob("*.jsonl")):
        for heard in heard_of(path, path.read_bytes()[:400_000].splitlines(keepends=True)):
            assert app.event_json(heard, Context()) == looked_at_one_by_one(heard, Context())
            seen += 1
    assert seen > 2000


def test_json_of_texts_in_any_script_is_what_the_log_says(place, tail):
    """Letters, signs and line breaks stay as they are; what could reorder them goes."""
    place.write(event(0, "agent_output", data={"output": "één\n日本語 👩 x"}), event(1, "agent_output", data={"output": "a\u202eb\r\nc"}))
    following = tail("--json", "--since", "2h")
    assert [orjson.loads(following.line())["data"]["output"] for _ in range(2)] == ["één\n日本語 👩 x", "ab\nc"]


def test_alerts_stand_among_the_plain_lines_with_what_they_rest_on(place, tail):
    """One line that names it, and below it, indented, the lines of the log."""
    following = tail("--plain").is_up()
    place.write(*(event(3600 + second, "error", data={"error_message": "boom", "error_fingerprint": "boom"}) for second in range(4)))
    lines = [following.line() for _ in range(9)]
    first = next(number for number, line in enumerate(lines) if "ALERT high error_loop: a-1 is in an error loop" in line)
    assert sum(line.startswith("    ") and "agent-work-stream.jsonl at byte" in line for line in lines[first:]) == 4


def test_a_rotated_stream_is_followed(place, tail):
    """Renamed and begun anew while it is watched."""
    place.write(event(0))
    following = tail("--json").is_up()
    place.write(event(1, attempt_id="before"))
    assert following.json()["attempt_id"] == "before"
    place.stream.rename(f"{place.stream}.1")
    place.write(event(2, attempt_id="after"))
    assert following.json()["attempt_id"] == "after"


def test_a_rotated_alert_log_is_followed(place, daemon, tail):
    """What was written to the old file before it was put away is told, and then what stands in the new one."""

    def alert(number):
        at = datetime.now(UTC).isoformat()
        return orjson.dumps({"timestamp": at, "alert_id": f"{number:016x}", "type": "tool_loop", "attempt_id": "a", "summary": str(number)}) + b"\n"

    daemon.terminate()
    daemon.wait()
    place.alerts.write_bytes(alert(0))
    following = tail("--json").is_up()
    with place.alerts.open("ab") as log:
        log.write(alert(1))
        place.alerts.rename(f"{place.alerts}.1")
        log.write(alert(2))
    place.alerts.write_bytes(alert(3))
    assert [following.json()["summary"] for _ in range(3)] == ["1", "2", "3"]


class Counted(io.FileIO):
    """One end of a pipe that knows how often something was written to it."""

    writes = 0

    def write(self, data):
        self.writes += 1
        return super().write(data)


@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
def test_what_is_written_in_small_pieces_is_shown_in_few(place, as_json):
    """Ten times a second at most, none of it lost: nobody reads faster, and each look costs more than the lines that it finds."""
    place.write(event(0))  # so that the log is watched from the start
    loaded = load(cwd=place.base, environ={}, home=place.base, flags={}, config=None)
    ours, theirs = os.pipe()
    raw = Counted(theirs, "wb")
    out = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    ready = threading.Event()
    arguments = {"since": None, "as_json": as_json, "out": out, "report": lambda _said: ready.set()}
    thread = threading.Thread(target=app.stream, args=(loaded, {}, place.base, Filters()), kwargs=arguments)
    thread.start()
    try:
        assert ready.wait(PATIENCE_S)
        began = time.monotonic()
        for number in range(100):
            place.write(event(number))
            time.sleep(0.005)
        with open(ours, "rb", closefd=False) as pipe:
            lines = [pipe.readline() for _ in range(100)]
        took = time.monotonic() - began
        assert [line.endswith(b"\n") for line in lines] == [True] * 100
        assert raw.writes <= took / (app.REST_MS / 1000) + 2
    finally:
        os.close(ours)
        thread.join(PATIENCE_S)
        out.detach()
        raw.close()
    assert not thread.is_alive()


def test_a_closed_pipe_ends_it_quietly(place, tail):
    """As `tail -f | head -1` does, though nothing more is written."""
    following = tail("--json").is_up()
    following.process.stdout.close()
    assert following.process.wait(PATIENCE_S) == 0


def test_an_empty_home_is_watched_without_a_word(place, tail):
    """No log directory, no agents: what comes then is told."""
    following = tail("--json").is_up()
    place.write(event(3600))
    assert following.json()["kind"] == "event"
    following.process.send_signal(2)
    assert following.process.wait(PATIENCE_S) == 130


def test_where_there_is_much_to_read_it_begins_where_the_daemons_checkpoint_stands(place, daemon):
    """How the attempts stand is known at once, with all that they have spent, and what comes then is told once."""
    begun = datetime.now(UTC)
    place.write(
        *(
            {**event(0, attempt_id=f"a-{number}"), "timestamp": begun.isoformat(), "data": {"tool_name": "Bash", "tool_call_id": "c", "usage": {"input": 1000}}}
            for number in range(3)
        )
    )
    end = time.monotonic() + PATIENCE_S
    while b'"events":3' not in (place.logs / ".agentwatch" / "checkpoint.json").read_bytes():
        assert time.monotonic() < end
        time.sleep(0.05)
    told = []
    loaded = load(cwd=place.base, environ={}, home=place.base, flags={}, config=None)
    follower = Follower(loaded, {}, place.base, history_s=3600, tell=lambda heard: told.append(heard.event.attempt_id), may_skip=True, most_cold_bytes=0)
    try:
        for _ in follower.catch_up():
            pass
        standings = {one.attempt.attempt_id: (one.state, one.session.tokens) for one in follower.board.standings(begun)}
        assert standings == {f"a-{number}": ("tool", 1000) for number in range(3)}
        assert told == []
        place.write({**event(0, attempt_id="a-1"), "timestamp": begun.isoformat()})
        while not told:
            assert time.monotonic() < end
            follower.wait(0.1)
            follower.step(0.1)
        assert told == ["a-1"]
    finally:
        follower.close()
