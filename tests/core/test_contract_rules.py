"""The seven rules of the contract, exact to the event and the millisecond, on logs that carry only names and fingerprints."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from agentwatch.alert_log import as_line
from agentwatch.core.engine import Engine
from agentwatch.core.limits import Limits
from agentwatch.formats.canonical import Decoder

START = datetime(2026, 2, 9, 10, tzinfo=UTC)
WHO = {"task_id": "T-1", "task_title": "Fix the build", "executor": "codex", "model": "gpt-5.4", "branch": "main", "session_id": "s1", "run_id": "r1"}
COMMON = {"timestamp", "alert_id", "type", "severity", "status", "attempt_id", "recommendation", "summary", "evidence", "episode_id", *WHO}


def line(at_s, kind, /, attempt="a1", **data):
    at = (START + timedelta(seconds=at_s)).isoformat().replace("+00:00", "Z")
    return json.dumps({"timestamp": at, "attempt_id": attempt, "event_type": kind, "data": data} | WHO).encode() + b"\n"


def alerts_of(lines, until_s=None, limits=None):
    """Say what stands in the alert log after `lines`, silence lasting `until_s` seconds from the start."""
    engine, decoder, out, faults = Engine(limits or Limits(), lambda *_: None), Decoder(), [], []
    decoder.read(lines, 0, lambda items: engine.feed("agent-work-stream.jsonl", "", items, decoder, out), lambda *fault: faults.append(fault))
    engine.finish(START + timedelta(seconds=until_s) if until_s is not None else None, out)
    assert not faults
    return [json.loads(as_line(alert)) for alert in out]


def types(alerts):
    return [alert["type"] for alert in alerts if alert["status"] == "open"]


def errors(*at_s, fingerprint="oom", message="out of memory", **data):
    return [line(at, "error", error_fingerprint=fingerprint, error_message=message, **data) for at in at_s]


def failed(at_s=100, **data):
    return line(at_s, "session_end", completion_status="failed", **data)


def restarts(*at_s, kind="retry"):
    return [line(at, "session_start", prompt_type=kind, followup_reason="error") for at in at_s]


CROSSED = {
    "4 equal errors": (errors(0, 1, 2, 3), ["error_loop"]),
    "4 errors in exactly 10 minutes": (errors(0, 200, 400, 600), ["error_loop"]),
    "errors with other events between": (
        [line(n, kind, error_fingerprint="x") for n in range(4) for kind in ("agent_output", "error", "tool_call")],
        ["error_loop"],
    ),
    "errors without a fingerprint and equal texts": ([line(n, "error", error_message="boom happened") for n in range(4)], ["error_loop"]),
    "failed results, older form": ([line(n, "tool_result", tool_name="Bash", result="error", result_data="boom happened") for n in range(4)], ["error_loop"]),
    "10 calls of a name": ([line(n, "tool_call", tool_name="Bash") for n in range(10)], ["tool_loop"]),
    "10 calls of a name in exactly 60 s": ([line(n * 60 / 9, "tool_call", tool_name="Bash") for n in range(10)], ["tool_loop"]),
    "calls with empty parameters are names": (
        [line(n, "tool_call", tool_name="Bash", tool_params=given) for n, given in enumerate(["", {}, None, "{}"] * 3)],
        ["tool_loop"],
    ),
    "turn marks do not make it parameters": (
        [line(0, "turn_start"), line(0, "turn_end"), *(line(n, "tool_call", tool_name="Bash") for n in range(10))],
        ["tool_loop"],
    ),
    "1.01 USD at the end": ([line(0, "session_end", completion_status="success", cost_usd=1.01)], ["cost_anomaly"]),
    "steps and an end that says more": ([line(0, "usage", cost_usd=5), line(1, "session_end", completion_status="success", cost_usd=26)], ["cost_anomaly"]),
    "3 restarts": (restarts(0, 60, 120), ["excessive_restarts"]),
    "restarts after failures": (
        [row for n in range(3) for row in (*restarts(n * 60), line(n * 60 + 1, "session_end", completion_status="failed"))],
        ["excessive_restarts"],
    ),
    "follow-ups": (restarts(0, 1, 2, kind="followup"), ["excessive_restarts"]),
    "failed with 4 different errors": ([*(errors(n, fingerprint=f"e{n}")[0] for n in range(4)), failed()], ["failed_session_high_errors"]),
    "failed by the outcome": (
        [*(errors(n, fingerprint=f"e{n}")[0] for n in range(4)), line(9, "session_end", outcome={"status": "failed"})],
        ["failed_session_high_errors"],
    ),
    "failed with transient errors": (
        [*(errors(n, fingerprint=f"e{n}", message="429 Too Many Requests")[0] for n in range(4)), failed()],
        ["failed_session_transient_errors"],
    ),
    "failed with 4 of 5 transient": (
        [*(errors(n, fingerprint=f"e{n}", message="429 Too Many Requests")[0] for n in range(4)), *errors(5), failed()],
        ["failed_session_transient_errors"],
    ),
    "failed with 3 of 4 transient": (
        [*(errors(n, fingerprint=f"e{n}", message="429 Too Many Requests")[0] for n in range(3)), *errors(5), failed()],
        ["failed_session_high_errors"],
    ),
}

NOT_CROSSED = {
    "3 equal errors": errors(0, 1, 2),
    "4 errors in 10 minutes and 1 s": errors(0, 200, 400, 601),
    "4 different errors": [*errors(0, 1), *errors(2, 3, fingerprint="disk")],
    "4 errors of different texts": [line(n, "error", error_message=f"no module named {name}") for n, name in enumerate(["json5", "yaml", "toml", "rich"])],
    "errors of two attempts": [*errors(0, 1), *(line(n, "error", attempt="a2", error_fingerprint="oom") for n in (2, 3))],
    "a failed result told again as an error": [
        row for n in range(3) for row in (line(n, "tool_result", is_error=True, error_message="boom happened"), line(n, "error", error_message="boom happened"))
    ],
    "what the user refused": [line(n, "tool_result", is_error=True, error_message="The user doesn't want to proceed with this tool use.") for n in range(5)],
    "9 calls of a name": [line(n, "tool_call", tool_name="Bash") for n in range(9)],
    "10 calls in 60.001 s": [line(n * 60.001 / 9, "tool_call", tool_name="Bash") for n in range(10)],
    "10 calls of two names": [line(n, "tool_call", tool_name=("Bash", "Read")[n % 2]) for n in range(18)],
    "exactly 1 USD at the end": [line(0, "session_end", completion_status="success", cost_usd=1.0)],
    "25 USD in steps": [line(n * 250, "agent_output", cost_usd=6.25) for n in range(4)],
    "2 restarts": restarts(0, 60),
    "a first start and 2 restarts": [line(0, "session_start", prompt_type="initial"), *restarts(1, 2)],
    "3 restarts in more than an hour": [row for at in (0, 60, 3601) for row in (*restarts(at), failed(at + 1))],
    "restarts with a success between": [*restarts(0, 60), line(61, "session_end", completion_status="success"), *restarts(70)],
    "restarts with a completed outcome between": [*restarts(0, 60), line(61, "session_end", outcome={"status": "completed"}), *restarts(70)],
    "failed with 3 errors": [*(errors(n, fingerprint=f"e{n}")[0] for n in range(3)), failed()],
    "success with many errors": [*(errors(n, fingerprint=f"e{n}")[0] for n in range(9)), line(9, "session_end", completion_status="success")],
    "interrupted with many errors": [*(errors(n, fingerprint=f"e{n}")[0] for n in range(9)), line(9, "session_end", completion_status="interrupted")],
}


@pytest.mark.parametrize(("lines", "expected"), CROSSED.values(), ids=CROSSED.keys())
def test_a_threshold_that_is_crossed_gives_one_alert(lines, expected):
    """Not two, and none of another type."""
    assert types(alerts_of(lines)) == expected


@pytest.mark.parametrize("lines", NOT_CROSSED.values(), ids=NOT_CROSSED.keys())
def test_a_threshold_that_is_not_crossed_gives_none(lines):
    """One short of the number, one moment too wide, another name."""
    assert alerts_of(lines) == []


SILENT = {
    "after a start": [line(0, "session_start", prompt="go")],
    "after a prompt": [line(0, "user_message", output="go")],
    "after a call": [line(0, "tool_call", tool_name="Bash")],
    "after a call with an id": [line(0, "tool_call", tool_name="Bash", tool_call_id="c1")],
    "after a result": [line(0, "tool_result", tool_name="Bash", result="success")],
    "after output": [line(0, "agent_output", output="thinking about it")],
    "after an error": [line(0, "error", error_message="boom")],
    "after an unknown event": [line(0, "heartbeat")],
}

AT_REST = {
    "after the end": [line(0, "tool_call", tool_name="Bash"), line(0, "session_end", completion_status="success")],
    "after an end that failed": [line(0, "session_end", completion_status="failed")],
    "after the end and a late result": [line(0, "session_end", completion_status="success"), line(0, "tool_result", tool_name="Bash", result="success")],
    "after the end and late usage": [line(0, "session_end", completion_status="success"), line(0, "usage", cost_usd=0.1)],
    "after a turn": [line(0, "agent_output", output="done"), line(0, "turn_end")],
    "after a last word": [line(0, "agent_output", output="done", stop_reason="end_turn")],
    "after an interrupt": [line(0, "user_message", output="stop", interrupted=True)],
    "while a person is asked": [line(0, "tool_call", tool_name="AskUserQuestion", tool_call_id="c1", tool_params={"question": "Which?"})],
    "while a plan is shown": [line(0, "tool_call", tool_name="ExitPlanMode", tool_call_id="c1", tool_params={"plan": "First this"})],
}


@pytest.mark.parametrize("lines", SILENT.values(), ids=SILENT.keys())
def test_silence_of_more_than_five_minutes_is_stuck(lines):
    """300,000 ms are not yet too long, one more is."""
    assert alerts_of(lines, until_s=300) == []
    assert types(alerts_of(lines, until_s=300.001)) == ["stuck_agent"]


@pytest.mark.parametrize("lines", AT_REST.values(), ids=AT_REST.keys())
def test_who_ended_or_waits_for_a_person_is_not_stuck(lines):
    """However long nothing comes."""
    assert alerts_of(lines, until_s=86_000) == []


TOOL_LIMITS = {
    "of no time-out": ("Read", {"path": "src/a.py"}, 300),
    "of a shell without a time-out": ("Bash", {"command": "make"}, 300),
    "that declares ten minutes": ("Bash", {"command": "make", "timeout": 600_000}, 780),
    "that declares a second": ("Bash", {"command": "make", "timeout": 1000}, 300),
    "that declares seconds": ("shell", {"command": "make", "timeout_s": 600}, 780),
    "of a sub-agent": ("Task", {"prompt": "look"}, 1800),
    "of a server": ("mcp__db__query", {"sql": "select 1"}, 780),
}


@pytest.mark.parametrize(("tool", "params", "limit_s"), TOOL_LIMITS.values(), ids=TOOL_LIMITS.keys())
def test_a_call_has_its_own_limit_where_the_log_shows_parameters(tool, params, limit_s):
    """What the call declares, else two minutes, and three minutes of grace."""
    lines = [line(0, "tool_call", tool_name=tool, tool_call_id="c1", tool_params=params)]
    assert alerts_of(lines, until_s=limit_s) == []
    (alert,) = alerts_of(lines, until_s=limit_s + 1)
    assert (alert["type"], alert["threshold_ms"], alert["waiting_for"]) == ("stuck_agent", limit_s * 1000, "sub-agent" if tool == "Task" else f"tool {tool}")


def test_the_newest_event_ends_the_clock_of_a_single_pass():
    """Also where it is the end of an attempt that leaves nothing behind."""
    alerts = alerts_of([line(0, "tool_call", tool_name="Bash"), line(400, "session_end", attempt="a2", completion_status="success")])
    assert [(alert["type"], alert["attempt_id"]) for alert in alerts] == [("stuck_agent", "a1")]


FIELDS = {
    "error_loop": (
        errors(0, 1, 2, 3),
        None,
        "trigger_ai_autofix",
        "high",
        {"error_fingerprint": "oom", "occurrences": 4, "window_ms": 600_000, "sample_message": "out of memory"},
    ),
    "tool_loop": (
        [line(n, "tool_call", tool_name="Bash") for n in range(10)],
        None,
        "fresh_session",
        "medium",
        {"tool_name": "Bash", "occurrences": 10, "window_ms": 60_000},
    ),
    "stuck_agent": (
        [line(0, "tool_call", tool_name="Bash")],
        301,
        "check_agent_health",
        "medium",
        {"idle_time_ms": 300_000, "threshold_ms": 300_000, "waiting_for": "model"},
    ),
    "cost_anomaly": (
        [line(0, "session_end", completion_status="success", cost_usd=2.5, duration_ms=90_000)],
        None,
        "review_prompt_efficiency",
        "low",
        {"cost_usd": 2.5, "threshold_usd": 1.0, "duration_ms": 90_000},
    ),
    "excessive_restarts": (restarts(0, 1, 2), None, "manual_review", "medium", {"restart_count": 3, "last_reason": "error"}),
    "failed_session_high_errors": (
        [*errors(0, 1), *errors(2, fingerprint="b"), *errors(3, fingerprint="c"), failed()],
        None,
        "analyze_root_cause",
        "high",
        {"error_count": 4, "error_fingerprints": ["oom", "b", "c"]},
    ),
    "failed_session_transient_errors": (
        [*(errors(n, fingerprint=f"e{n}", message="529 overloaded_error")[0] for n in range(4)), failed()],
        None,
        "switch_sdk_or_backoff_retry",
        "medium",
        {"error_count": 4, "error_fingerprints": ["e0", "e1", "e2", "e3"]},
    ),
}


@pytest.mark.parametrize(("kind", "case"), FIELDS.items(), ids=FIELDS.keys())
def test_an_alert_has_the_fields_of_the_contract(kind, case):
    """Those of every alert, those of its type, who it is about, and besides these only what was compared."""
    lines, until_s, recommendation, severity, detail = case
    (alert,) = alerts_of(lines, until_s)
    assert set(alert) - {"rule", "compared"} == COMMON | set(detail)
    assert {name: alert[name] for name in WHO} == WHO
    assert {name: alert[name] for name in detail} == detail
    assert (alert["type"], alert["recommendation"], alert["severity"], alert["status"], alert["attempt_id"]) == (kind, recommendation, severity, "open", "a1")
    assert alert["episode_id"] == alert["alert_id"]
    assert alert["summary"].isprintable()
    assert 20 < len(alert["summary"]) <= 500


@pytest.mark.parametrize(("kind", "case"), FIELDS.items(), ids=FIELDS.keys())
def test_the_evidence_names_lines_that_are_there(kind, case):
    """Each offset is the first byte of a line of the source, stamped as the evidence says."""
    lines, until_s, *_ = case
    text = b"".join(lines)
    (alert,) = alerts_of(lines, until_s)
    assert 1 <= len(alert["evidence"]) <= 5
    for one in alert["evidence"]:
        assert set(one) == {"source", "offset", "timestamp", "text"}
        assert one["source"] == "agent-work-stream.jsonl"
        row = json.loads(text[one["offset"] :].split(b"\n")[0])
        assert datetime.fromisoformat(row["timestamp"]) == datetime.fromisoformat(one["timestamp"])


def test_an_alert_has_the_time_of_its_evidence():
    """Of the event that crossed the threshold; for silence, of the moment at which it became too long."""
    assert alerts_of(errors(0, 1, 2, 3.5))[0]["timestamp"] == "2026-02-09T10:00:03.500Z"
    assert alerts_of([line(1, "tool_call", tool_name="Bash")], until_s=800)[0]["timestamp"] == "2026-02-09T10:05:01.000Z"


def test_free_text_is_cut_cleaned_and_redacted():
    """A log cannot write to the reader's terminal, nor a secret into the alerts, through any field."""
    secret = "sk-ant-" + "api03-" + "Zq7" * 30
    nasty = f"boom \x1b[31m\u202e {secret} " + "x" * 9000
    lines = [*(line(n, "error", attempt=f"a\x1b[2J{secret}", error_fingerprint=nasty, error_message=nasty) for n in range(4))]
    lines += [line(9, "session_end", attempt=f"a\x1b[2J{secret}", completion_status="failed")]
    alerts = alerts_of(lines)
    assert types(alerts) == ["error_loop", "failed_session_high_errors"]
    told = json.dumps(alerts, ensure_ascii=False)
    assert secret not in told
    assert "\x1b" not in json.loads(json.dumps(told))
    assert "\u202e" not in told
    assert "\\u001b" not in told
    for alert in alerts:
        for value in (*alert.values(), *(one["text"] for one in alert["evidence"]), *alert.get("error_fingerprints", [])):
            assert not isinstance(value, str) or len(value) <= 500


def test_thresholds_come_from_the_limits():
    """Each of them."""
    limits = Limits(
        error_loop_threshold=2,
        tool_loop_threshold=3,
        cost_usd=5.0,
        cost_is_explicit=True,
        restarts_threshold=2,
        failed_session_threshold=1,
        stuck=timedelta(seconds=60),
    )
    assert types(alerts_of(errors(0, 1), limits=limits)) == ["error_loop"]
    assert types(alerts_of([line(n, "tool_call", tool_name="Bash") for n in range(3)], limits=limits)) == ["tool_loop"]
    assert types(alerts_of([line(0, "usage", cost_usd=4.9), line(1, "usage", cost_usd=0.2)], limits=limits)) == ["cost_anomaly"]
    assert types(alerts_of(restarts(0, 1), limits=limits)) == ["excessive_restarts"]
    assert types(alerts_of([*errors(0), failed(1)], limits=limits)) == ["failed_session_high_errors"]
    assert types(alerts_of(SILENT["after a prompt"], until_s=61, limits=limits)) == ["stuck_agent"]
