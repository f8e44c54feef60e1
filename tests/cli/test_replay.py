"""`agentwatch replay`: a session is found wherever its agent wrote it, and told step by step."""

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

CORPUS = Path(__file__).parents[3] / "shared" / "data" / "formats" / "open"
SECRET = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0bXaB3d"  # invented

SESSION = (
    (0, "session_start", {"prompt": "Fix the login redirect"}),
    (2, "agent_thinking", {"thinking": "Where is it?", "usage": {"input": 1000, "output": 50}, "cost_usd": 0.01}),
    (4, "tool_call", {"tool_name": "Bash", "tool_params": {"command": "git push", "timeout": 5}, "tool_call_id": "c1"}),
    (6, "tool_result", {"tool_call_id": "c1", "is_error": True, "exit_code": 1, "result": "error: protected", "error_message": "error: protected"}),
    *((8 + second, "error", {"error_message": "error: protected", "error_fingerprint": "git_push_failed"}) for second in range(6)),
    (20, "agent_output", {"output": f"I <b>cannot</b> push & stop \x1b[2J\u202e {SECRET}", "usage": {"output": 10}, "cost_usd": 0.02}),
    (21, "session_end", {"completion_status": "failed"}),
)


def line(at, event_type, data, attempt_id="attempt-17"):
    begun = datetime(2026, 2, 9, 8, tzinfo=UTC)
    return {
        "timestamp": (begun + timedelta(seconds=at)).isoformat(),
        "attempt_id": attempt_id,
        "event_type": event_type,
        "task_title": "Fix the login redirect",
        "executor": "CODEX",
        "model": "gpt-5-codex",
        "data": data,
    }


@pytest.fixture
def session(place):
    place.write(*(line(*step) for step in SESSION), line(-3600, "session_start", {"prompt": "Another"}, "attempt-18"))


def test_a_session_is_printed_step_by_step_with_its_alert_where_it_arose(place, session):
    """What was asked, thought and done, what came back, and what it had cost by then."""
    done = place.run("replay", "attempt-17")
    assert (done.returncode, done.stderr) == (0, "")
    steps = [text for text in done.stdout.splitlines() if text[:4].strip().isdigit()]
    assert [text.split(maxsplit=3)[2] for text in steps][:13] == [">", "~", "*", "x", "x", "x", "x", "x", "x", "!", "x", '"', "x"]
    assert "error_loop (high)" in steps[9]
    assert steps[1].endswith("thinks   1.1k tokens $0.010")
    assert re.search(r"CODEX   gpt-5-codex   8 errors   \d alerts?   took 0:21, 1.1k tokens, \$0.030$", done.stdout.splitlines()[0])
    assert "agent-work-stream.jsonl at byte" in done.stdout


def test_secrets_and_controls_stand_in_no_form_of_it(place, session):
    """On a screen, in a pipe, in a file that is sent to others."""
    page = place.base / "session.html"
    done = [place.run("replay", "attempt-17"), place.run("replay", "attempt-17", "--json"), place.run("replay", "attempt-17", "--export", str(page))]
    for text in (done[0].stdout, done[1].stdout, page.read_text()):
        assert SECRET not in text
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[REDACTED:github]" in text


def test_the_exported_page_needs_no_script_and_no_network_and_runs_nothing_of_a_log(place, session):
    """What a log holds is text in it, whatever it looks like."""
    page = place.base / "session.html"
    done = place.run("replay", "attempt-17", "--export", str(page))
    assert done.returncode == 0
    steps = int(done.stderr.removesuffix(f" steps in {page}\n"))
    text = page.read_text()
    assert "I &lt;b&gt;cannot&lt;/b&gt; push &amp; stop" in text
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("<li ") == text.count("</li>") == steps > 12
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text


def test_its_events_and_alerts_are_told_to_programs_in_the_order_of_time(place, session):
    """As `tail --json` tells them."""
    lines = [orjson.loads(text) for text in place.run("replay", "attempt-17", "--json").stdout.splitlines()]
    assert {one["kind"] for one in lines} == {"event", "alert"}
    assert [one["timestamp"] for one in lines] == sorted(one["timestamp"] for one in lines)
    assert lines[1]["data"]["thinking"] == "Where is it?"


def test_the_beginning_of_an_id_is_enough_where_only_one_begins_so(place, session):
    """An id that is the beginning of another is meant itself."""
    assert place.run("replay", "attempt-18").stdout.startswith("attempt-18 ")
    place.write(line(0, "session_start", {}, "attempt-171"))
    assert place.run("replay", "attempt-17").stdout.startswith("attempt-17 ")
    done = place.run("replay", "attempt-1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: `attempt-1` is the beginning of 3 attempts" in done.stderr
    assert "hint: they are attempt-17, attempt-171, attempt-18" in done.stderr


def test_latest_is_the_attempt_that_did_something_last(place, session):
    """By the times in the log, not by the order of lines."""
    assert place.run("replay", "latest").stdout.startswith("attempt-17 ")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        pytest.param("atempt-17", "error: there is no attempt `atempt-17`", "hint: the nearest are attempt-17", id="misspelt"),
        pytest.param("zzzz", "error: there is no attempt `zzzz`", "hint: `agentwatch tail` shows those that live", id="nothing like it"),
    ],
)
def test_an_attempt_that_is_not_there_is_told_with_those_that_are_like_it(place, session, name, message, hint):
    """The answer is no: exit code 1."""
    done = place.run("replay", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert hint in done.stderr


def test_without_any_log_latest_says_so(place):
    """No traceback for an empty home."""
    done = place.run("replay", "latest")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "error: no log holds an attempt")


def test_a_file_that_cannot_be_written_is_told(place, session):
    """With what to do about it."""
    done = place.run("replay", "attempt-17", "--export", "nowhere/x.html")
    assert done.returncode == 1
    assert "error: cannot write `nowhere/x.html`: No such file or directory" in done.stderr


def test_long_texts_are_cut_and_whole_where_that_is_asked_for(place):
    """How much was left out is told, and how to see it."""
    place.write(line(0, "tool_result", {"tool_name": "Bash", "result": "\n".join(f"line {number}" for number in range(100)), "is_error": False}))
    short = place.run("replay", "attempt-17").stdout
    assert "line 11\n" in short
    assert "line 12\n" not in short
    assert "characters more (--full)" in short
    assert "line 99\n" in place.run("replay", "attempt-17", "--full").stdout


def test_an_attempt_of_a_rotated_and_compressed_log_is_found(place, session):
    """However old: the whole session is told, wherever its parts lie."""
    import gzip

    place.stream.with_name("agent-work-stream.jsonl.1.gz").write_bytes(gzip.compress(place.stream.read_bytes()))
    place.stream.write_bytes(orjson.dumps(line(0, "session_start", {}, "other")) + b"\n")
    assert " took 0:21" in place.run("replay", "attempt-17").stdout


NATIVE = {
    "claude-code": (".claude/projects/x", "*15-context*.jsonl", "93db84f8", "Bash failed (exit code 1)"),
    "codex": (".codex/sessions/2026/01/01", "*01-session*.jsonl", "019d7ecc", "shell_command"),
    "copilot-cli": (".copilot/session-state", "*01-agentv*.jsonl", "", ""),
    "opencode-db": (".local/share/opencode", "*.db", "", ""),
    "gemini-cli": (".gemini/tmp/x/chats", "*04-session*.json", "914f3c63", ""),
}


@pytest.mark.parametrize("name", NATIVE)
def test_a_session_of_an_agent_is_told_from_its_own_transcript(place, name):
    """Prompt, calls, results and money of a real session, without any log of ours."""
    folder, pattern, attempt, holds = NATIVE[name]
    sources = sorted((CORPUS / name).glob(pattern))
    if not sources:
        pytest.skip("the corpus of real transcripts is not here")
    target = place.base / folder
    target.mkdir(parents=True)
    named = {"codex": "rollout-2026-01-01T00-00-00-x.jsonl", "gemini-cli": "session-2026-x.json", "opencode-db": "opencode.db"}
    shutil.copyfile(sources[0], target / named.get(name, sources[0].name))
    if name == "copilot-cli":
        (target / "s").mkdir()
        shutil.move(target / sources[0].name, target / "s" / "events.jsonl")
    done = place.run("replay", attempt or "latest")
    assert (done.returncode, done.stderr) == (0, "")
    steps = [text for text in done.stdout.splitlines() if text[:4].strip().isdigit()]
    assert len(steps) > 2
    assert any(text.split()[2] == ">" for text in steps)
    assert any(text.split()[2] == "*" for text in steps)
    assert holds in done.stdout
