"""Issues: counted by run, told once, exact wherever a snapshot was taken."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.core.engine import Engine
from agentwatch.core.issues import MOST_OF_A_RULE, MOST_OF_A_RUN, MOST_RUNS, OTHERS
from agentwatch.core.limits import Limits
from agentwatch.core.rules import Rule, Rules
from agentwatch.core.snapshot import Snapshot
from agentwatch.formats import canonical, plain_text, winston
from agentwatch.model import Severity

START = datetime(2026, 2, 9, 10, tzinfo=UTC)
REFUSED = Rule(
    id="refused",
    title="Connection refused",
    patterns=(r"ECONNREFUSED (?P<host>\S+)|connection refused",),
    severity=Severity.HIGH,
    category="network",
    recommendation="Start it.",
    where=("program", "agent", "tool"),
)
SLOW = Rule(
    id="slow", title="Slow", patterns=("too slow",), severity=Severity.LOW, category="pace", recommendation="Wait.", level="any", threshold=2, window_s=60
)


class Bench:
    """An engine with rules; programs' lines are fed by source."""

    def __init__(self, *rules, limits=None, snapshot=None):
        self.limits = limits or Limits()
        self.rules = Rules(rules or (REFUSED, SLOW))
        self.out, self.faults, self.offsets, self.decoders = [], [], {}, {}
        self.engine = self._engine(snapshot)

    def _engine(self, snapshot):
        engine = Engine(self.limits, lambda *_: None, snapshot, self.faults.append)
        engine.issues.rules = self.rules
        return engine

    def restart(self):
        """Everything that is remembered goes through its encoding."""
        self.engine = self._engine(msgspec.json.decode(msgspec.json.encode(self.engine.snapshot()), type=Snapshot))

    def feed(self, source, *texts, module=plain_text):
        decoder = self.decoders.setdefault(source, module.Decoder(source) if module is not canonical else canonical.Decoder())
        parts = source.split("/")
        scope = "/".join(parts[:2]) if parts[0] == "runs" else ""
        for text in texts:
            line = text.encode() + b"\n"
            offset = self.offsets.get(source, 0)
            self.offsets[source] = offset + len(line)
            decoder.read([line], offset, lambda items, decoder=decoder: self.engine.feed(source, scope, items, decoder, self.out), pytest.fail)
        assert self.faults == []
        return self

    @property
    def told(self):
        return [alert for alert in self.out if alert.type == "rule_match"]

    @property
    def issues(self):
        return self.engine.issues.all()


def at(second, text, level="ERROR"):
    return f"{(START + timedelta(seconds=second)).isoformat()} {level} {text}"


LOG = "runs/r1/worker.log"


def test_what_says_the_same_is_one_issue():
    """Numbers and addresses apart; first and last seen, sources and samples are kept."""
    bench = (
        Bench().feed(LOG, *(at(n, f"connect ECONNREFUSED 10.0.0.{n}:5432") for n in range(7))).feed("runs/r1/api.log", at(9, "connect ECONNREFUSED 10.0.0.9:1"))
    )
    (issue,) = bench.issues
    assert (issue.run_id, issue.rule_id, issue.occurrences, issue.message) == ("r1", "refused", 8, "connect ECONNREFUSED <ip>")
    assert (issue.first_seen, issue.last_seen) == (START, START + timedelta(seconds=9))
    assert issue.sources == (LOG, "runs/r1/api.log")
    assert [sample.text[-6:] for sample in issue.samples] == ["0:5432", "1:5432", "5:5432", "6:5432", ".0.9:1"]
    assert len(issue.fingerprint) == 64


def test_it_is_told_once_when_there_are_three():
    """With its rule, its fingerprint and its own recommendation; and with evidence."""
    bench = Bench().feed(LOG, *(at(n, "connection refused") for n in range(2)))
    assert bench.told == []
    bench.feed(LOG, *(at(n, "connection refused") for n in range(2, 50)))
    (alert,) = bench.told
    assert (alert.type, alert.severity, alert.attempt_id, alert.recommendation) == ("rule_match", "high", "worker", "Start it.")
    assert alert.summary == f"Connection refused, 3 times in 2 s in {LOG}: connection refused"
    assert [one.source for one in alert.evidence] == [LOG] * 3
    told = {name: alert.detail[name] for name in ("rule_id", "occurrences", "run_id", "window_ms", "category")}
    assert told == {"rule_id": "refused", "occurrences": 3, "run_id": "r1", "window_ms": 2000, "category": "network"}
    (issue,) = bench.issues
    assert (alert.detail["issue_fingerprint"], issue.status, issue.occurrences) == (issue.fingerprint, "notified", 50)


def test_each_run_is_told_by_itself():
    """And has a count of its own; the alerts' ids differ."""
    bench = Bench()
    for run in ("r1", "r2"):
        bench.feed(f"runs/{run}/worker.log", *(at(n, "connection refused") for n in range(4)))
    bench.feed("worker.log", *(at(n, "connection refused") for n in range(4)))
    assert [(one.run_id, one.occurrences) for one in bench.issues] == [("r1", 4), ("r2", 4), (None, 4)]
    assert len({alert.alert_id for alert in bench.told}) == 3


def test_the_settings_and_the_rule_say_how_many_are_too_many():
    """A rule's own number counts, within its window."""
    bench = Bench(limits=Limits(issue_threshold=5)).feed(LOG, *(at(n, "connection refused") for n in range(4)))
    assert bench.told == []
    bench.feed(LOG, at(4, "connection refused"))
    assert len(bench.told) == 1
    bench.feed(LOG, *(at(100 * n, "too slow", "INFO") for n in range(1, 5)))
    assert len(bench.told) == 1, "never two within a minute"
    bench.feed(LOG, at(410, "too slow", "INFO"))
    assert [alert.detail["rule_id"] for alert in bench.told] == ["refused", "slow"]


def test_a_record_counts_once_for_a_rule_whatever_its_trace_repeats():
    """The trace of a failure may say what the failure is, but it is no second one."""
    trace = ["\tat a.b(C.java:1)", "Caused by: java.net.ConnectException: connection refused", "\t... 3 more"]
    bench = Bench()
    for n in range(2):
        bench.feed(LOG, at(n, "task failed"), *trace)
        bench.feed(LOG, at(n, "connection refused"), *trace)
    assert [(one.message, one.occurrences) for one in bench.issues] == [
        ("Caused by: java.net.ConnectException: connection refused", 2),
        ("connection refused", 2),
    ]


def test_what_a_healthy_program_says_of_errors_is_no_issue():
    """A rule for errors looks at errors alone."""
    bench = Bench().feed(LOG, *(at(n, "retry helped after connection refused", "INFO") for n in range(9)))
    assert bench.issues == []


def test_a_talkative_program_is_no_agent_that_goes_round_in_circles():
    """Many records are no monologue."""
    bench = Bench().feed(LOG, *(at(n, "same as ever", "INFO") for n in range(50)))
    assert bench.out == []


def test_the_stack_of_a_json_record_is_looked_at():
    """Winston and pino put it into a field, with the cause below."""
    record = '{"level":"error","message":"request failed","timestamp":"2026-02-09T10:00:00Z","err":{"cause":{"message":"connect ECONNREFUSED 10.0.0.1:5"}}}'
    (issue,) = Bench().feed("runs/r1/app.jsonl", record, module=winston).issues
    assert issue.samples[0].text == "message: connect ECONNREFUSED 10.0.0.1:5"


def event(second, kind, **data):
    fields = {"timestamp": (START + timedelta(seconds=second)).isoformat(), "attempt_id": "a-1", "event_type": kind, "data": data}
    return msgspec.json.encode(fields).decode()


def test_an_agents_errors_count_and_what_it_reads_does_not():
    """A file that speaks of refused connections is no refused connection."""
    bench = Bench()
    bench.feed("s.jsonl", event(0, "tool_call", tool_name="Read", tool_call_id="1"), module=canonical)
    bench.feed("s.jsonl", event(1, "tool_result", tool_call_id="1", is_error=False, result="connection refused"), module=canonical)
    bench.feed("s.jsonl", event(2, "agent_output", output="I see: connection refused"), module=canonical)
    assert bench.issues == []
    bench.feed("s.jsonl", event(3, "error", error_message="API Error: connection refused"), module=canonical)
    assert [(one.run_id, one.occurrences, one.severity) for one in bench.issues] == [(None, 1, "high")]


def test_a_failed_tool_is_never_of_high_severity_and_counts_once_if_told_twice():
    """An agent sees what its tools say; many logs tell a failure as an error right after."""
    bench = Bench()
    bench.feed("s.jsonl", event(0, "tool_call", tool_name="Bash", tool_call_id="1"), module=canonical)
    bench.feed("s.jsonl", event(1, "tool_result", tool_call_id="1", is_error=True, result="curl: connection refused"), module=canonical)
    bench.feed("s.jsonl", event(2, "error", error_message="curl: connection refused"), module=canonical)
    assert [(one.occurrences, one.severity) for one in bench.issues] == [(1, "medium")]
    bench.feed("s.jsonl", event(60, "error", error_message="curl: connection refused"), module=canonical)
    assert [(one.occurrences, one.severity) for one in bench.issues] == [(2, "high")]


def test_outside_of_runs_an_issue_that_comes_back_after_a_day_is_told_again():
    """Nothing else would ever end it; in a run it is told once."""
    day = 25 * 3600
    for source, times in (("worker.log", 2), (LOG, 1)):
        bench = Bench().feed(source, *(at(n, "connection refused") for n in (*range(5), *range(day, day + 5))))
        assert (len(bench.told), bench.issues[0].occurrences) == (times, 10)
        assert len({alert.alert_id for alert in bench.told}) == times


def test_outside_of_runs_what_happens_now_and_then_is_no_issue_to_be_told():
    """Three times in two days among all that is logged; in a run, which is over by then, it would be."""
    for source, times in (("worker.log", 0), (LOG, 1)):
        bench = Bench().feed(source, *(at(20 * 3600 * n, "connection refused") for n in range(3)))
        assert (len(bench.told), bench.issues[0].occurrences) == (times, 3)


def test_the_same_alert_whichever_log_is_read_first():
    """Its id rests on run and fingerprint alone."""
    one = Bench().feed("runs/r1/a.log", at(0, "connection refused")).feed("runs/r1/b.log", at(1, "connection refused"), at(2, "connection refused"))
    other = Bench().feed("runs/r1/b.log", at(1, "connection refused"), at(2, "connection refused")).feed("runs/r1/a.log", at(0, "connection refused"))
    assert one.told[0].alert_id == other.told[0].alert_id


def test_a_type_that_is_switched_off_is_counted_and_not_told():
    """Settings change no state."""
    bench = Bench(limits=Limits(off=frozenset({"rule_match"}))).feed(LOG, *(at(n, "connection refused") for n in range(5)))
    assert (bench.told, bench.issues[0].occurrences) == ([], 5)


def test_a_hostile_log_cannot_make_us_grow():
    """Of one rule, of one run, and of runs so many are remembered; the rest of a rule is counted together."""
    words = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}x" for n in range(MOST_OF_A_RULE + 20)]
    bench = Bench().feed(LOG, *(at(n, f"{word} connection refused") for n, word in enumerate(words)))
    assert len(bench.issues) == MOST_OF_A_RULE + 1
    assert [(one.message, one.occurrences) for one in bench.issues][-1] == (OTHERS, 20)
    rules = [Rule(id=f"r{n}", title="t", patterns=(f"rule{n}x",), severity=Severity.LOW, category="c", recommendation="r") for n in range(MOST_OF_A_RUN // 10)]
    bench = Bench(*rules).feed(LOG, *(at(0, f"{word} rule{n}x") for n in range(len(rules)) for word in words[:20]))
    assert len(bench.issues) <= MOST_OF_A_RUN + len(rules)
    bench = Bench()
    for n in range(MOST_RUNS + 5):
        bench.feed(f"runs/r{n}/a.log", at(n, "connection refused"))
    assert len(bench.issues) == MOST_RUNS


def test_a_fingerprint_is_made_of_what_the_rule_says():
    """Of the message, of named groups, or of the rule alone."""
    lines = [at(0, "db: ECONNREFUSED a"), at(1, "cache: ECONNREFUSED a"), at(2, "cache: ECONNREFUSED b")]
    for recipe, count in (("message", 3), (("host",), 2), ("rule", 1)):
        bench = Bench(msgspec.structs.replace(REFUSED, fingerprint=recipe)).feed(LOG, *lines)
        assert len(bench.issues) == count, recipe


def test_texts_are_safe_and_hold_no_secret():
    """They come from a log, and leave the machine."""
    bench = Bench().feed(LOG, at(0, "connection refused \x1b[2J\u202e password=hunter2secret9 " + "x" * 5000))
    (issue,) = bench.issues
    text = issue.samples[0].text
    assert len(text) <= 500
    assert "hunter2" not in msgspec.json.encode(issue).decode()
    assert text.isprintable()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["runs/r1/a.log", "runs/r1/b.log", "runs/r2/a.log", "c.log"]), st.integers(0, 5)), max_size=40), st.data())
def test_a_restart_anywhere_changes_nothing(steps, data):
    """Counts, alerts and their ids are the same as without one."""
    says = ["connection refused", "ECONNREFUSED 10.0.0.1", "fine", "too slow", "\tat x", "task failed\n\tat y\nconnection refused"]
    calm, shaken = Bench(), Bench()
    for second, (source, what) in enumerate(steps):
        lines = says[what].split("\n")
        for bench in (calm, shaken):
            bench.feed(source, at(second, lines[0]) if not lines[0].startswith("\t") else lines[0] if source in bench.offsets else at(second, "x"), *lines[1:])
        if data.draw(st.booleans()):
            shaken.restart()
    assert shaken.issues == calm.issues
    assert shaken.out == calm.out


LIMIT = Rule(
    id="limit", title="Limit", patterns=("(?i)limit|quota",), severity=Severity.MEDIUM, category="p", recommendation="Wait.", where=("program", "agent", "tool")
)


def agents_errors(bench, message, number=9):
    """An agent that ran into the same error again and again."""
    return bench.feed("s.jsonl", *(event(n, "error", error_message=message) for n in range(number)), module=canonical)


def test_what_a_detector_has_told_of_an_agent_is_counted_and_not_told_again():
    """One message for one trouble: the account's limit is known already."""
    bench = agents_errors(Bench(LIMIT), "You've hit your usage limit")
    assert [alert.type for alert in bench.out if alert.type != "error_loop"] == ["limit_reached"]
    assert [(issue.occurrences, issue.status) for issue in bench.issues] == [(9, "notified")]


@pytest.mark.parametrize("threshold", [None, 6])
def test_an_agents_loop_is_told_once_and_as_a_loop(threshold):
    """The same error again and again is one incident: neither its third occurrence nor any later one is told as an issue beside it."""
    bench = agents_errors(Bench(msgspec.structs.replace(REFUSED, threshold=threshold)), "connection refused")
    assert [alert.type for alert in bench.out] == ["error_loop"]
    assert [(issue.occurrences, issue.status) for issue in bench.issues] == [(9, "notified")]


def test_what_agents_meet_now_and_then_is_told_when_a_loop_would_have_been():
    """Five times within a day, in no loop; where loops are not told at all the third time is enough, as it is of programs."""
    spread = [event(3600 * n, "error", error_message="connection refused") for n in range(5)]
    assert len(Bench().feed("s.jsonl", *spread[:4], module=canonical).told) == 0
    assert len(Bench().feed("s.jsonl", *spread, module=canonical).told) == 1
    assert len(Bench(limits=Limits(off=frozenset({"error_loop"}))).feed("s.jsonl", *spread[:3], module=canonical).told) == 1


def test_what_agents_met_before_does_not_hide_what_a_program_meets_now():
    """Agents are waited for longer than programs, and of one issue only as many occurrences count as are asked for: those within the window are enough."""
    bench = Bench(msgspec.structs.replace(REFUSED, window_s=60))
    bench.feed("s.jsonl", *(event(3600 * n, "error", error_message="connection refused") for n in range(4)), module=canonical)
    assert bench.told == []
    bench.feed("worker.log", *(at(4 * 3600 + n, "connection refused") for n in range(3)))
    assert len(bench.told) == 1


def test_what_a_detector_did_not_tell_is_told():
    """It says less than the rule, is switched off, or is of another error."""
    severe = msgspec.structs.replace(LIMIT, severity=Severity.HIGH, threshold=3)
    assert len(agents_errors(Bench(severe), "You've hit your usage limit", 3).told) == 1
    at_once = msgspec.structs.replace(LIMIT, threshold=3)
    assert len(agents_errors(Bench(at_once, limits=Limits(off=frozenset({"limit_reached"}))), "You've hit your usage limit", 3).told) == 1
    refused = msgspec.structs.replace(REFUSED, threshold=3)
    bench = agents_errors(agents_errors(Bench(refused), "You've hit your usage limit", 3), "connection refused", 3)
    assert len(bench.told) == 1
