"""The engine: the same events give the same alerts however they come in, and what is remembered follows the live attempts."""

import json
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.alert_log import as_line
from agentwatch.core.engine import Engine, Snapshot
from agentwatch.core.limits import Limits
from agentwatch.formats.canonical import Decoder

START = datetime(2026, 2, 9, 10, tzinfo=UTC)
END = START + timedelta(days=2)
READER = Decoder()


def line(at_s, kind, /, attempt="a1", lane=None, **data):
    at = START + timedelta(seconds=at_s)
    return (
        json.dumps({"timestamp": at.isoformat(), "attempt_id": attempt, "event_type": kind, "data": data} | ({"lane": lane} if lane else {})).encode() + b"\n"
    )


def items_of(lines):
    """Events, places and lines, as a decoder hands them over."""
    items = []
    READER.read(lines, 0, items.extend, lambda *fault: pytest.fail(str(fault)))
    return items


WAITING = Limits(waiting=timedelta(seconds=90))


class Watched:
    """An engine that no fault may happen to."""

    def __init__(self, limits=None):
        self.faults = []
        self.limits = limits or Limits()
        self.engine = Engine(self.limits, lambda *_: None, None, self.faults.append)
        self.out = []

    def feed(self, items, source="log", scope=""):
        self.engine.feed(source, scope, items, READER, self.out)

    def restart(self):
        """What a checkpoint does: everything through JSON and back."""
        body = msgspec.json.encode(self.engine.snapshot())
        self.engine = Engine(self.limits, lambda *_: None, msgspec.json.decode(body, type=Snapshot), self.faults.append)

    def ids(self):
        """Ids of each attempt in their order."""
        assert not self.faults
        found = defaultdict(list)
        for alert in self.out:
            assert as_line(alert)
            found[alert.attempt_id].append((alert.type, str(alert.status), alert.alert_id))
        for told in found.values():
            assert len(set(told)) == len(told)
        return found


def ids_of(items, until=END):
    watched = Watched(WAITING)
    watched.feed(items)
    watched.engine.finish(until, watched.out)
    return watched.ids()


BASH = {"tool_name": "Bash"}
SAYS = [
    ("tool_call", BASH | {"tool_call_id": "c1", "tool_params": {"command": "ls -l"}}),
    ("tool_result", {"tool_call_id": "c1", "result": "total 0"}),
    ("tool_result", {"tool_call_id": "c1", "result": "total 1"}),
    ("tool_result", {"tool_call_id": "c1", "result": "boom happened", "is_error": True}),
    ("tool_call", BASH | {"tool_call_id": "c2", "tool_params": {"command": "make", "timeout": 900_000}}),
    ("tool_call", {"tool_name": "AskUserQuestion", "tool_call_id": "c3", "tool_params": {"question": "Which?"}}),
    ("tool_call", BASH),
    ("tool_call", BASH),
    ("error", {"error_fingerprint": "oom", "error_message": "out of memory"}),
    ("error", {"error_message": "429 too many requests"}),
    ("usage", {"cost_usd": 0.4}),
    ("session_start", {"prompt_type": "retry"}),
    ("session_end", {"completion_status": "failed"}),
    ("session_end", {"completion_status": "success", "cost_usd": 3.0}),
    ("user_message", {"output": "go on"}),
    ("agent_output", {"output": "Done."}),
    ("turn_end", {}),
    ("error", {"error_message": "You've hit your usage limit. Try again in 2 hours 10 minutes.", "error_category": "rate_limit"}),
    ("error", {"error_message": "insufficient_quota", "retry": False}),
    ("error", {"error_message": "prompt is too long: 205000 tokens > 200000 maximum"}),
    ("compaction", {}),
    ("tool_call", BASH | {"tool_call_id": "c1", "tool_params": {"command": "git commit -m done"}}),
]
RUNS = [[0], [8], [6], [0, 1], [10], [11, 12], [14, 16], [17], [9, 17], [9, 5], [19, 20]]


@st.composite
def logs(draw, attempts=("a1", "a2", "a3"), steps=(0, 0.5, 1, 30, 299, 400, 2000, 40_000, 90_000)):
    """Lines in the order of their times, with runs of the same thing among them."""
    at, lines = 0.0, []
    for _ in range(draw(st.integers(1, 12))):
        says = draw(st.sampled_from(RUNS) | st.lists(st.integers(0, len(SAYS) - 1), min_size=1, max_size=3))
        step, attempt, lane = draw(st.sampled_from(steps)), draw(st.sampled_from(attempts)), draw(st.sampled_from([None, None, "s1"]))
        for _ in range(draw(st.sampled_from([1, 1, 4, 12]))):
            for number in says:
                if step < 1000 or not lines or number == says[0]:
                    at += step
                kind, data = SAYS[number]
                lines.append(line(at, kind, attempt, lane if kind.startswith(("tool", "error")) else None, **data))
            step = min(step, 30)
    return items_of(lines)


@given(items=logs(), data=st.data())
def test_any_chunks_give_the_same_alerts(items, data):
    """A turn of the reader may end anywhere."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=8)))
    watched = Watched(WAITING)
    for start, end in zip([0, *cuts], [*cuts, len(items)], strict=True):
        watched.feed(items[start:end])
    watched.engine.finish(END, watched.out)
    assert watched.ids() == ids_of(items)


@given(items=logs(), data=st.data())
def test_attempts_do_not_touch_each_other(items, data):
    """Whichever way their lines are mixed."""
    queues = defaultdict(list)
    for item in items:
        queues[item[0].attempt_id].append(item)
    expected = ids_of(items)
    mixed = []
    while queues:
        name = data.draw(st.sampled_from(sorted(queues)))
        mixed.append(queues[name].pop(0))
        if not queues[name]:
            del queues[name]
    assert ids_of(mixed) == expected


@given(items=logs(), data=st.data())
def test_a_restart_anywhere_gives_the_same_alerts(items, data):
    """All that the engine remembers goes through the checkpoint."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(items)), min_size=1, max_size=8)))
    watched = Watched(WAITING)
    for start, end in zip([0, *cuts], [*cuts, len(items)], strict=True):
        watched.feed(items[start:end])
        watched.restart()
    watched.engine.finish(END, watched.out)
    assert watched.ids() == ids_of(items)


@given(items=logs(), data=st.data())
def test_a_watch_and_a_later_reading_find_the_same_silences(items, data):
    """Ticks between the events, as the daemon makes them, change nothing but the moment of writing."""
    watched = Watched(WAITING)
    now = START
    for item in items:
        moments = data.draw(st.lists(st.floats(0, 1), max_size=3).map(sorted)) if item[0].timestamp > now else []
        for share in moments:
            watched.engine.tick(now + (item[0].timestamp - now) * share, watched.out)
        if data.draw(st.integers(0, 9)) == 0:
            watched.restart()
        watched.feed([item])
        now = item[0].timestamp
    until = now + timedelta(seconds=data.draw(st.sampled_from([1, 310, 500, 1000, 5000, 50_000, 90_000])))
    for second in range(1, 6):
        watched.engine.tick(now + (until - now) * second / 5, watched.out)
    watched.engine.tick(until + timedelta(seconds=2), watched.out)
    told = watched.ids()
    exactly_then = ids_of(items, until), ids_of(items, until + timedelta(seconds=2))
    assert told in exactly_then


def test_what_one_look_finds_is_told_in_the_order_of_its_times():
    """A watch has told of the silence before the limit was over; so does who reads it all later."""
    limited = {"error_message": "You've hit your usage limit. Try again in 2 hours 10 minutes.", "error_category": "rate_limit"}
    items = items_of([line(0, "error", **limited), line(0, "user_message", output="go on"), line(0, "turn_end"), line(40_000, "tool_call", **BASH)])
    watched = Watched(WAITING)
    watched.feed(items[:-1])
    watched.engine.tick(START + timedelta(hours=1), watched.out)
    watched.feed(items[-1:])
    told = [(alert.type, str(alert.status)) for alert in watched.out]
    assert told == [("limit_reached", "open"), ("waiting_for_user", "open"), ("limit_reached", "recovered"), ("waiting_for_user", "recovered")]
    at_once = Watched(WAITING)
    at_once.feed(items)
    assert [(alert.type, str(alert.status)) for alert in at_once.out] == told


def test_who_rested_and_was_asked_again_is_watched_again():
    """A look at an attempt that waits for its user must not be the last for half a day."""
    watched = Watched()
    watched.feed(items_of([line(0, "user_message", output="go"), line(1, "turn_end")]))
    watched.engine.tick(START + timedelta(seconds=400), watched.out)
    watched.feed(items_of([line(500, "user_message", output="go on")]))
    watched.engine.tick(START + timedelta(seconds=1000), watched.out)
    assert [alert.type for alert in watched.out] == ["stuck_agent"]


def test_a_short_wait_after_a_long_one_is_told_in_time():
    """A call of six hours was looked at, came back after seven minutes, and then the model said nothing."""
    watched = Watched()
    watched.feed(items_of([line(0, "tool_call", tool_name="Bash", tool_call_id="c1", tool_params={"command": "make", "timeout": 21_600_000})]))
    watched.engine.tick(START + timedelta(seconds=305), watched.out)
    watched.feed(items_of([line(310, "tool_result", tool_call_id="c1", result="ok"), line(420, "tool_call", **BASH, tool_call_id="c2")]))
    for second in range(430, 740, 10):
        watched.engine.tick(START + timedelta(seconds=second), watched.out)
    assert [alert.type for alert in watched.out] == ["stuck_agent"]


def test_attempts_of_sources_that_are_behind_are_not_judged_by_the_clock():
    """Their next line may stand in the file already."""
    watched = Watched()
    watched.feed(items_of([line(0, "user_message", output="go")]))
    watched.engine.tick(START + timedelta(hours=1), watched.out, frozenset({"log"}))
    assert watched.out == []
    watched.engine.tick(START + timedelta(hours=1, seconds=5), watched.out)
    assert [str(alert.status) for alert in watched.out] == ["open", "escalated"]


def test_a_late_line_with_an_older_stamp_does_not_tell_a_silence_twice():
    """Two writers race: what was told of a silence stays told."""
    watched = Watched()
    watched.feed(items_of([line(0, "user_message", output="go")]))
    watched.engine.tick(START + timedelta(seconds=400), watched.out)
    watched.feed([(event, 500, text) for event, _, text in items_of([line(-1, "error", error_message="x")])])
    watched.engine.finish(START + timedelta(seconds=400), watched.out)
    assert len(watched.out) == 1


CLOCKS = {
    "backwards by a second each": lambda n: -n,
    "backwards by a day each": lambda n: -86_400 * n,
    "a second, and back": lambda n: n + n % 2,
    "an hour and a half ahead, and back": lambda n: n + 5400 * (n % 2),
    "a day ahead, and back": lambda n: n + 86_400 * (n % 2),
    "a year ahead, and back": lambda n: n + 365 * 86_400 * (n % 2),
    "a year ahead, once": lambda n: n + 365 * 86_400 * (n == 50),
    "a year ahead, and on": lambda n: n + 365 * 86_400 * (n > 50),
    "a year back, and on": lambda n: n - 365 * 86_400 * (n > 50),
    "all at once": lambda _: 0,
}


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS.keys())
@pytest.mark.parametrize("kind", ["agent_output", "tool_call", "error"])
def test_no_clock_makes_a_storm(clock, kind):
    """A thousand events of one attempt with a clock that nobody set: a handful of alerts."""
    watched = Watched()
    watched.feed(items_of([line(clock(n), kind, tool_name="Bash", error_fingerprint="oom") for n in range(1000)]))
    watched.engine.finish(None, watched.out)
    assert not watched.faults
    assert len(watched.out) <= 12


EDGES = ["0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "9999-12-31T12:30:00Z", "9999-12-31T23:59:59-14:00"]


@pytest.mark.parametrize("stamp", EDGES)
@pytest.mark.parametrize("kind", ["turn_end", "error", "tool_call"])
def test_the_ends_of_the_calendar_stop_nobody(stamp, kind):
    """.NET writes year 1 for no time at all: nothing raises, here, in a checkpoint or in the alert log."""
    watched = Watched()
    data = {"tool_name": "Task", "tool_call_id": "c", "tool_params": {"prompt": "go"}, "error_fingerprint": "oom"}
    row = json.dumps({"timestamp": stamp, "attempt_id": "odd", "event_type": kind, "data": data}).encode()
    watched.feed(items_of([row] * 12))
    watched.feed(items_of([line(n, "error", error_fingerprint="oom") for n in range(4)]))
    watched.restart()
    watched.engine.tick(END, watched.out)
    watched.engine.finish(None, watched.out)
    assert [as_line(alert) for alert in watched.out]
    assert "error_loop" in [alert.type for alert in watched.out if alert.attempt_id == "a1"]


LATE = ["tool_result", "error", "usage", "agent_output", "tool_call", "agent_thinking", "turn_end", "status_change"]


@pytest.mark.parametrize("kind", LATE)
def test_a_late_line_does_not_bring_an_ended_attempt_back(kind):
    """Writers race at the end; nobody would ever end it again."""
    watched = Watched()
    watched.feed(items_of([line(0, "session_start"), line(1, "session_end", completion_status="success"), line(1, kind, tool_name="Bash")]))
    watched.engine.finish(END, watched.out)
    assert watched.out == []
    assert watched.engine.attempts_live == 0


def test_an_attempt_that_is_started_again_is_watched_again():
    """Its restarts are remembered over its end."""
    watched = Watched()
    watched.feed(
        items_of(
            [
                line(n * 10 + m, kind, prompt_type="retry", completion_status="failed")
                for n in range(3)
                for m, kind in enumerate(["session_start", "session_end"])
            ]
        )
    )
    watched.feed(items_of([line(40, "session_start", prompt_type="retry")]))
    watched.engine.finish(START + timedelta(seconds=400), watched.out)
    assert [(alert.type, str(alert.status)) for alert in watched.out] == [("excessive_restarts", "open"), ("stuck_agent", "open")]


def test_attempts_that_end_leave_a_bounded_trace():
    """A hundred thousand of them."""
    watched = Watched()
    for start in range(0, 20_000, 1000):
        rows = [
            line(n, kind, f"a{n}", tool_name="Bash", completion_status="success")
            for n in range(start, start + 1000)
            for kind in ("session_start", "session_end")
        ]
        watched.feed(items_of(rows))
        assert len(watched.engine.rows) == 1000
        watched.engine.rows.clear()  # they were stored
    assert watched.engine.attempts_live == 0
    assert len(msgspec.json.encode(watched.engine.snapshot())) < 200_000
    assert not watched.engine._wheel


def test_idle_attempts_are_forgotten_by_the_clock():
    """Half a day after their last line."""
    watched = Watched()
    watched.feed(items_of([line(n, "turn_end", f"a{n}") for n in range(100)]))
    for hour in range(14):
        watched.engine.tick(START + timedelta(hours=hour), watched.out)
    assert watched.engine.attempts_live == 0
    assert not watched.engine._wheel


def test_idle_attempts_are_forgotten_in_a_backlog():
    """No clock ticks there: the log's own time tells. What they owed is told before."""
    watched = Watched()
    for n in range(9000):
        watched.feed(items_of([line(n * 60, "user_message", f"a{n}", output="go")]))
    assert watched.engine.attempts_live < 6000
    silent = {alert.attempt_id for alert in watched.out if alert.type == "stuck_agent" and alert.status == "open"}
    assert len(silent) == 9000 - watched.engine.attempts_live


def test_one_attempt_keeps_a_bounded_state_whatever_its_log_says():
    """Names, fingerprints, calls and lanes without end."""
    watched = Watched()
    for n in range(3000):
        name = f"tool{n}"
        watched.feed(
            items_of(
                [
                    line(n, "tool_call", tool_name=name, tool_call_id=name),
                    line(n, "error", lane=name, error_fingerprint=name),
                    line(n, "tool_call", tool_name=name),
                ]
            )
        )
    assert len(msgspec.json.encode(watched.engine.snapshot())) < 100_000


def test_numbers_without_sense_leave_a_checkpoint_that_can_be_read():
    """Costs and tokens beyond all bounds."""
    watched = Watched()
    rows = [line(n, "usage", cost_usd=1.7e308, usage={"input": 2**63 - 1}) for n in range(4)]
    watched.feed(items_of(rows))
    watched.restart()
    watched.feed(items_of([line(9, "session_end", completion_status="success", cost_usd=1e308, duration_ms=1e300)]))
    assert watched.engine.attempts_live == 0
    assert {alert.type for alert in watched.out} == {"cost_anomaly"}


def test_evidence_names_the_file_that_the_line_stands_in():
    """An attempt may be told in two files."""
    watched = Watched()
    watched.feed(items_of([line(0, "session_start")]), source="one")
    watched.feed(items_of([line(1, "session_end", completion_status="success", cost_usd=2.0)]), source="two")
    assert [alert.evidence[0].source for alert in watched.out] == ["two"]


def test_a_run_is_a_space_of_its_own():
    """The same attempt id in two runs is two attempts."""
    watched = Watched()
    for n in range(8):
        watched.feed(items_of([line(n, "error", error_fingerprint="oom")]), scope=f"runs/{n % 2}")
    assert [alert.type for alert in watched.out] == ["error_loop", "error_loop"]


@given(raw=st.binary(max_size=40), nested=st.sampled_from([0, 100, 900, 980, 990]))
def test_parameters_of_any_bytes_leave_a_checkpoint_that_can_be_read(raw, nested):
    """They are kept as they stand, be they no text at all."""
    text = raw.replace(b"\n", b"").replace(b"\\", b"").replace(b'"', b"")
    watched = Watched()
    rows = [
        b'{"timestamp":"2026-02-09T10:00:00Z","attempt_id":"a","event_type":"tool_call","data":{"tool_name":"x","tool_params":' + params + b"}}\n"
        for params in (b'{"a":"' + text + b'"}', b"[" * nested + b'"abcdef"' + b"]" * nested)
    ]
    for row in rows:
        READER.read([row], 0, watched.feed, lambda *_: None)
        watched.restart()
    assert not watched.faults


PROMPTS = {
    "a start that names it": ([("session_start", {"prompt": "Add a parser\nfor dates"})], "Add a parser for dates"),
    "the first words of its user": ([("session_start", {}), ("user_message", {"output": "Fix it"}), ("user_message", {"output": "And that"})], "Fix it"),
    "blocks": ([("user_message", {"output": [{"type": "text", "text": "Look at this"}]})], "Look at this"),
    "a long one": ([("user_message", {"output": "word " * 100})], "word " * 15 + "word…"),
    "a command of the user's own": ([("user_message", {"output": "<bash-input>ls</bash-input>"})], None),
    "nothing": ([("session_start", {"prompt": ""})], None),
}


@pytest.mark.parametrize(("said", "title"), PROMPTS.values(), ids=PROMPTS.keys())
def test_an_attempt_without_a_title_is_named_by_its_first_prompt(said, title):
    """So that an alert says which of ten sessions it speaks of."""
    watched = Watched()
    watched.feed(items_of([line(n, kind, **data) for n, (kind, data) in enumerate(said)] + [line(9, "error", error_fingerprint="x") for _ in range(4)]))
    assert [alert.detail.get("task_title") for alert in watched.out] == [title]


def test_a_session_ends_even_where_a_detector_fails(monkeypatch):
    """Else it would stand in memory for ever, and be told to be stuck."""
    watched = Watched()
    monkeypatch.setattr("agentwatch.core.detectors.cost_anomaly.CostAnomaly.is_high", lambda *_: 1 / 0)
    watched.feed(items_of([line(0, "session_start"), line(1, "session_end", completion_status="success")]))
    assert watched.engine.attempts_live == 0
    assert [fault.kind for fault in watched.faults] == ["detector_failed:ZeroDivisionError"]


def test_a_call_on_a_huge_line_does_not_keep_the_line():
    """Parameters are views of their line; eight megabytes for each of a hundred thousand attempts would be too much."""
    watched = Watched()
    huge = line(0, "tool_call", tool_name="Bash", tool_call_id="c1", tool_params={"command": "ls"}, output="x" * 1_000_000)
    holders = sys.getrefcount(huge)
    watched.feed(items_of([huge]))
    assert sys.getrefcount(huge) == holders
    watched.feed(
        items_of(
            [
                line(n, "tool_result" if n % 2 else "tool_call", tool_name="Bash", tool_call_id="c1", tool_params={"command": "ls"}, result="")
                for n in range(1, 8)
            ]
        )
    )
    assert [alert.type for alert in watched.out] == ["tool_loop"]


HOSTILE = {
    "a time-out of 400 digits": [
        line(0, "user_message", output="hi"),
        line(1, "tool_call", tool_name="Bash", tool_call_id="x", tool_params={"command": "ls", "timeout": 10**400}),
    ],
    "costs below nothing": [line(n, "usage", cost_usd=-1.7e308) for n in range(3)],
    "braces in names": [
        line(
            n,
            "tool_result" if n % 2 else "tool_call",
            tool_name="{count}{",
            tool_call_id=f"c{n // 2}",
            tool_params={"a": "{}"},
            is_error=True,
            result="{0} {x} boom went here",
        )
        for n in range(20)
    ],
}


@pytest.mark.parametrize("lines", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_line_stops_nobody(lines):
    """No exception, no fault, and a checkpoint that can be read."""
    watched = Watched()
    watched.feed(items_of(lines))
    watched.engine.tick(END, watched.out)
    watched.restart()
    watched.ids()


def test_a_year_long_before_the_session_is_no_time():
    """Whatever its zone: it cannot be written in UTC."""
    watched = Watched()
    old = line(1, "error", error_fingerprint="f").replace(b"2026-02-09T10:00:01+00:00", b"0001-01-01T00:00:00+14:00")
    watched.feed(items_of([line(0, "agent_output"), *[old] * 4]))
    assert watched.out == []
    assert {fault.kind for fault in watched.faults} == {"no_time"}


def test_names_of_megabytes_do_not_stay():
    """Call ids, tools, titles; an attempt of such an id is not watched at all."""
    watched = Watched()
    for n in range(20):
        name = f"{n}" + "x" * 300_000
        call = line(n, "tool_call", tool_name=name, tool_call_id=name, tool_params={"a": n})
        watched.feed(
            items_of([call.replace(b'"attempt_id"', b'"task_title": "%b", "attempt_id"' % name.encode()), line(n, "error", lane=name, error_message=name)])
        )
        watched.feed(items_of([line(n, "tool_result", tool_call_id=name, result="ok")]))
    assert len(msgspec.json.encode(watched.engine.snapshot())) < 100_000
    (session,) = watched.engine.snapshot().scopes[""].sessions.values()
    assert not session.main.is_open
    watched.feed(items_of([line(0, "tool_call", attempt="y" * 5000)]))
    assert {fault.kind for fault in watched.faults} == {"long_id"}


def test_the_same_attempt_in_two_runs_is_two_incidents():
    """Else the second would be taken for the first, written already."""
    watched = Watched()
    lines = [line(n, "error", error_fingerprint="f") for n in range(4)]
    for scope in ("runs/r1", "runs/r2"):
        watched.feed(items_of(lines), source=f"{scope}/s.jsonl", scope=scope)
    assert len({alert.alert_id for alert in watched.out}) == 2


def test_a_sub_agents_file_read_late_does_not_end_the_watch():
    """Its lines are two hours older than those of its parent."""
    watched = Watched()
    watched.feed(
        items_of([line(7200, "user_message", output="go"), line(7201, "tool_call", tool_name="Bash", tool_call_id="c", tool_params={"command": "make"})])
    )
    watched.feed(items_of([line(60, "agent_output", lane="sub", output="hello")]), source="sub.jsonl")
    watched.engine.finish(START + timedelta(hours=4), watched.out)
    assert [alert.type for alert in watched.out] == ["stuck_agent", "stuck_agent"]


def test_a_loop_ends_with_its_session():
    """Told to be over, of whatever type."""
    watched = Watched()
    watched.feed(items_of([line(n, "tool_call", tool_name="Read") for n in range(10)] + [line(11, "session_end", completion_status="success")]))
    assert [(alert.type, str(alert.status)) for alert in watched.out] == [("tool_loop", "open"), ("tool_loop", "recovered")]


def test_an_agent_whose_clock_is_behind_is_judged_by_its_own():
    """Twenty minutes ago by its clock is now."""
    watched = Watched()
    skews = {"log": timedelta(minutes=20)}
    watched.feed(items_of([line(0, "user_message", output="go"), line(1, "tool_call", tool_name="Bash", tool_call_id="c", tool_params={"command": "make"})]))
    for minute in (20, 22, 24):
        watched.engine.tick(START + timedelta(minutes=minute), watched.out, skews=skews)
    assert watched.out == []
    for minute in (25, 26, 27):
        watched.engine.tick(START + timedelta(minutes=minute), watched.out, skews=skews)
    assert [alert.type for alert in watched.out] == ["stuck_agent"]
    assert watched.out[0].timestamp == START + timedelta(seconds=301)


def test_thousands_of_silent_agents_are_told_once_each_and_little_by_little():
    """Twenty thousand fall silent in the same second; between any two ticks logs are read."""
    watched = Watched()
    watched.feed(items_of([line(n / 20_000, "tool_call", f"a{n}", tool_name="Bash") for n in range(20_000)]))
    now, most, ticks = START + timedelta(minutes=6), 0, 0
    while more := watched.engine.tick(now, told := []):
        most, ticks = max(most, len(told)), ticks + 1
        watched.out += told
    watched.out += told
    assert not more
    assert most <= 500
    assert ticks >= 20_000 // 500 - 1
    assert len(watched.out) == len({alert.alert_id for alert in watched.out}) == 20_000
    assert not watched.engine.tick(now + timedelta(minutes=1), watched.out)
    assert len(watched.out) == 20_000
