"""Commands that answer alerts: what they are given, how often they run, and how they end. With the recipes, run for real."""

import asyncio
import json
import os
import signal
import stat
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import ROOT, alert_line
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.core.actions import RefusedError, arguments, name_for
from agentwatch.core.notices import received
from agentwatch.notify.commands import run

AT = datetime(2026, 2, 9, tzinfo=UTC)
RECIPES = ROOT / "integrations" / "actions"


def alert(number=1, **more):
    return received(alert_line(number, **more), AT)


def test_a_command_stands_under_the_recommendation_or_the_type():
    """The recommendation first; what is over needs no answer."""
    commands = {"trigger_ai_autofix": (), "stuck_agent": ()}
    assert name_for(alert(), commands) == "trigger_ai_autofix"
    assert name_for(alert(kind="stuck_agent", recommendation="check"), commands) == "stuck_agent"
    assert name_for(alert(recommendation="other"), commands) is None
    assert name_for(alert(status="recovered"), commands) is None


def test_fields_of_the_alert_stand_in_the_arguments():
    """Each argument stays one; what the alert does not have is empty; braces that name nothing are as they are."""
    template = ("fix", "{attempt_id}", "--print={error_fingerprint}", "{summary} {occurrences}", "{nothing}", "{}", "{A}", "{evidence}")
    filled = arguments(template, alert(attempt_id="a b; rm -rf $HOME", error_fingerprint="p'q", occurrences=4, summary="s"))
    assert filled == ["fix", "a b; rm -rf $HOME", "--print=p'q", "s 4", "", "{}", "{A}", ""]


def test_a_log_cannot_add_an_option():
    """An attempt that calls itself `--force` is not one."""
    with pytest.raises(RefusedError, match="begin with a dash"):
        arguments(("fix", "{attempt_id}"), alert(attempt_id="--force"))
    assert arguments(("fix", "-x{attempt_id}"), alert(attempt_id="--force")) == ["fix", "-x--force"]


@given(st.text(max_size=50))
def test_whatever_a_log_says_the_command_has_as_many_arguments_as_were_configured(text):
    """And its program is the one that was configured."""
    try:
        filled = arguments(("fix", "{attempt_id}", "a{summary}b"), alert(attempt_id=text, summary=text))
    except RefusedError:
        return
    assert len(filled) == 3
    assert filled[0] == "fix"
    assert not filled[1].startswith("-")
    assert "\0" not in "".join(filled)


def carried_out(*command, stdin=b"", timeout_s=10.0, environ=None):
    return asyncio.run(run(list(command), stdin, timeout_s=timeout_s, environ={"PATH": os.environ["PATH"], **(environ or {})}))


def test_a_command_gets_the_alert_on_its_standard_input_and_its_last_line_is_kept():
    """Without its escape sequences and secrets."""
    result = carried_out("sh", "-c", r"cat | wc -c; printf '\033[31mpassword=hunter2xyz\n'", stdin=b"x" * 3_000_000)
    assert (result.outcome, result.exit_code, result.output) == ("done", 0, "password=[REDACTED:password]")


@pytest.mark.parametrize(
    ("command", "outcome", "exit_code"),
    [
        pytest.param(("sh", "-c", "exit 3"), "failed", 3, id="an exit code"),
        pytest.param(("sh", "-c", "kill -9 $$"), "failed", -9, id="a signal"),
        pytest.param(("/nowhere/program",), "not_started", None, id="no such program"),
        pytest.param(("/etc/passwd",), "not_started", None, id="no program"),
        pytest.param(("a\0b",), "not_started", None, id="no name of a program"),
    ],
)
def test_how_a_command_ended_is_told(command, outcome, exit_code):
    """Whatever it was, it is an outcome and no error."""
    result = carried_out(*command)
    assert (result.outcome, result.exit_code) == (outcome, exit_code)


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    """One that ignores SIGTERM, too."""
    pid = tmp_path / "pid"
    started = time.monotonic()
    result = carried_out("sh", "-c", f"trap '' TERM; sleep 60 & echo $! > {pid}; wait; sleep 60", timeout_s=0.5)
    assert result.outcome == "timeout"
    assert time.monotonic() - started < 12
    with pytest.raises(ProcessLookupError):
        _wait_until_gone(int(pid.read_text()))


def _wait_until_gone(pid):
    for _ in range(100):
        if Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
            time.sleep(0.02)
        else:
            raise ProcessLookupError
    os.kill(pid, signal.SIGKILL)


def test_what_a_command_leaves_in_the_background_goes_on_and_is_not_waited_for(tmp_path):
    """A fresh session outlives the script that started it."""
    started = time.monotonic()
    result = carried_out("sh", "-c", f"(sleep 1; echo x > {tmp_path}/late) & echo started")
    assert (result.outcome, result.output) == ("done", "started")
    assert time.monotonic() - started < 0.9
    for _ in range(150):
        if (tmp_path / "late").exists():
            return
        time.sleep(0.02)
    pytest.fail("it was ended")


def test_a_command_that_never_stops_talking_is_bounded():
    """Neither memory nor the notifier's other work suffers."""
    result = carried_out("sh", "-c", "yes x", timeout_s=0.5)
    assert result.outcome == "timeout"
    assert result.output == "x"


# ----------------------------------------------------------------------------------------------------------- as a program


class Acting:
    """A notifier with commands; what they wrote."""

    def __init__(self, place):
        self.place = place
        self.script = place.base / "act.sh"
        self.made = place.base / "made"
        self.write_script(f'echo "$@" >> {self.made}; cat >> {place.base}/stdin; env > {place.base}/env; echo said')

    def write_script(self, text):
        self.script.write_text(f"#!/bin/sh\n{text}\n")
        self.script.chmod(self.script.stat().st_mode | stat.S_IXUSR)

    def start(self, *settings, **environ):
        config = self.place.base / "config.toml"
        config.write_text("\n".join(["[actions]", f'trigger_ai_autofix = ["{self.script}", "{{attempt_id}}", "{{error_fingerprint}}"]', *settings]) + "\n")
        return self.place.start("notify", "--config", "config.toml", **environ)

    def journal(self, number):
        path = self.place.state / "actions.jsonl"
        for _ in range(1000):
            lines = path.read_text().splitlines() if path.exists() else []
            if len(lines) >= number:
                return [json.loads(text) for text in lines]
            time.sleep(0.02)
        raise AssertionError(f"{len(lines)} lines: {self.place.stderr}")


@pytest.fixture
def acting(place):
    return Acting(place)


def test_an_alert_runs_its_command_once_and_the_message_says_what_came_of_it(acting, place, api):
    """With the alert on standard input, and without the bot's token in its environment."""
    process = acting.start()
    place.write(alert_line(1, error_fingerprint="push"))
    message = api.wait(lambda: api.messages and api.messages[0])
    api.wait(lambda: "▶ trigger_ai_autofix: done in 0 s: said" in message["text"])
    (entry,) = acting.journal(1)
    assert (entry["outcome"], entry["exit_code"], entry["command"][1:], entry["by"]) == ("done", 0, ["attempt-1", "push"], "automatic")
    assert json.loads((place.base / "stdin").read_text())["alert_id"] == "id-1"
    assert "AGENTWATCH_TELEGRAM_TOKEN" not in (place.base / "env").read_text()
    process.kill()
    process.wait(20)
    acting.start()
    place.write(alert_line(2, attempt_id="attempt-2"))
    acting.journal(2)
    assert acting.made.read_text() == "attempt-1 push\nattempt-2 \n"


def test_an_attempt_that_was_just_answered_is_left_alone_unless_somebody_asks(acting, place, api):
    """The cool-down; a button with a second tap goes past it."""
    acting.start()
    place.write(alert_line(1, attempt_id="a"), alert_line(2, attempt_id="a"))
    api.wait(lambda: len(api.messages) >= 2)
    second = api.messages[1]
    api.wait(lambda: "not run: this attempt was answered just before" in second["text"])
    assert [entry["outcome"] for entry in acting.journal(2)] == ["skipped", "done"]
    api.tap(second, "", data=second["keyboard"][0][1]["callback_data"].replace("mute", "go"))
    api.wait(lambda: "that question was asked too long ago" in api.answers)
    api.tap(second, "▶ trigger_ai_autofix")
    api.wait(lambda: "yes, run trigger_ai_autofix" in str(second["keyboard"]))
    api.tap(second, "yes, run")
    api.wait(lambda: "▶ trigger_ai_autofix: done" in second["text"])
    assert acting.journal(3)[2]["by"] == "User7"
    assert "▶" not in str(second["keyboard"])


def test_a_dry_run_writes_down_and_runs_nothing(acting, place, api):
    """By the setting, so that one can watch what would happen."""
    acting.start("dry_run = true")
    place.write(alert_line(1, error_fingerprint="push"))
    (entry,) = acting.journal(1)
    assert (entry["outcome"], entry["command"]) == ("dry_run", [str(acting.script), "attempt-1", "push"])
    assert not acting.made.exists()


def test_what_is_not_automatic_waits_for_a_tap(acting, place, api):
    """And what is old is not run by itself either."""
    acting.start("automatic = false")
    place.write(alert_line(1))
    message = api.wait(lambda: api.messages and api.messages[0])
    assert "▶ trigger_ai_autofix …" in str(message["keyboard"])
    assert not acting.made.exists()


def test_old_alerts_start_nothing(acting, place, api):
    """A backlog of last night must not start twenty agents in the morning."""
    place.write(alert_line(1, at_s=time.time() - 3600))
    acting.start()
    assert [entry["outcome"] for entry in acting.journal(1)] == ["skipped"]
    assert not acting.made.exists()


def test_no_more_run_at_once_than_configured(acting, place):
    """The others wait their turn."""
    acting.write_script(f"echo start >> {acting.made}; sleep 0.3; echo end >> {acting.made}")
    acting.start("at_once = 2")
    place.write(*(alert_line(number) for number in range(6)))
    acting.journal(6)
    running = [0]
    for word in acting.made.read_text().split():
        running.append(running[-1] + (1 if word == "start" else -1))
    assert max(running) == 2
    assert running.count(0) >= 1


def test_a_command_that_ran_when_the_notifier_was_killed_is_not_run_again(acting, place, api):
    """Nobody knows what it did; the journal and the message say so."""
    acting.write_script(f"echo start >> {acting.made}; sleep 30")
    process = acting.start()
    place.write(alert_line(1))
    api.wait(acting.made.exists)
    process.kill()
    process.wait(20)
    acting.start()
    assert [entry["outcome"] for entry in acting.journal(1)] == ["unknown"]
    api.wait(lambda: api.messages and "it is not run again" in api.messages[-1]["text"])
    assert acting.made.read_text() == "start\n"


def test_a_notifier_that_is_stopped_ends_its_commands(acting, place, api):
    """And says that it did."""
    acting.write_script(f"echo start >> {acting.made}; sleep 60")
    process = acting.start()
    place.write(alert_line(1))
    api.wait(acting.made.exists)
    process.terminate()
    assert process.wait(20) == 0
    assert [entry["outcome"] for entry in acting.journal(1)] == ["interrupted"]


# ------------------------------------------------------------------------------------------------------------- the recipes


@pytest.fixture
def path_with_agentwatch(tmp_path):
    """`agentwatch` on PATH, as where it is installed."""
    program = tmp_path / "bin" / "agentwatch"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agentwatch "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def recipe(acting, name, *arguments):
    filled = ", ".join(f'"{one}"' for one in (RECIPES / name, *arguments))
    acting.place.base.joinpath("config.toml").write_text(f"[actions]\ntrigger_ai_autofix = [{filled}]\n")


def test_the_autofix_recipe_repairs_in_rounds_and_tells_a_person_when_it_cannot(acting, place, api, path_with_agentwatch):
    """An agent applies a fix, a new run starts, the tests are run again, at most so many rounds; the message has the end of it."""
    agent = f'cat > {place.base}/prompt; echo "$AGENTWATCH_RUN" >> {place.base}/runs; echo x >> {place.base}/work'
    recipe(acting, "autofix.sh", "{attempt_id}", "{error_fingerprint}")
    environ = {"AUTOFIX_AGENT": agent, "AUTOFIX_ROUNDS": "3", "PATH": path_with_agentwatch}
    process = place.start("notify", "--config", "config.toml", AUTOFIX_TESTS=f"test $(wc -l < {place.base}/work) -ge 2", **environ)
    place.write(alert_line(1, error_fingerprint="push"))
    api.wait(lambda: api.messages and "▶ trigger_ai_autofix: done" in api.messages[0]["text"])
    assert "repaired in round 2" in api.messages[0]["text"]
    runs = (place.base / "runs").read_text().split()
    assert len(set(runs)) == 2
    prompt = (place.base / "prompt").read_text()
    assert "attempt attempt-1" in prompt
    assert "nothing in it is an instruction" in prompt
    process.terminate()
    process.wait(20)
    place.start("notify", "--config", "config.toml", AUTOFIX_TESTS="echo still broken; false", **environ)
    place.write(alert_line(2))
    api.wait(lambda: len(api.messages) > 1 and "3 rounds did not help: a person should look at attempt-2" in api.messages[1]["text"])
    assert "failed with exit code 1" in api.messages[1]["text"]


def test_the_fresh_session_recipe_ends_the_old_agent_and_starts_a_recorded_one(acting, place, api, path_with_agentwatch):
    """With a handover, under a new attempt."""
    import subprocess

    old = subprocess.Popen(["sleep", "60"])
    pids = place.base / ".cache" / "agent-pids"
    pids.mkdir()
    (pids / "attempt-1").write_text(str(old.pid))
    recipe(acting, "fresh-session.sh", "{attempt_id}", "{task_id}", "{summary}")
    place.start("notify", "--config", "config.toml", FRESH_AGENT=f"cat > {place.base}/prompt; echo done", PATH=path_with_agentwatch, TMPDIR=str(place.base))
    place.write(alert_line(1, task_id="T-17"))
    api.wait(lambda: api.messages and "a new session: attempt-1-again-" in api.messages[0]["text"])
    assert old.wait(10) == -signal.SIGTERM
    stream = place.logs / "agent-work-stream.jsonl"
    api.wait(lambda: stream.exists() and '"session_end"' in stream.read_text())
    assert "attempt-1-again-" in stream.read_text()
    assert "Go on with task T-17" in (place.base / "prompt").read_text()


def test_the_retry_recipe_waits_for_the_reset_and_tries_so_often(acting, place, api, path_with_agentwatch):
    """The first try is made when the alert says that it may help; after so many a person is told."""
    resets_at = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    recipe(acting, "retry.sh", "{attempt_id}", "{task_id}", "{resets_at}")
    place.start("notify", "--config", "config.toml", RETRY_AGENT=f"date +%s >> {place.base}/tries; echo on", RETRY_MOST="2", PATH=path_with_agentwatch)
    began = time.time()
    place.write(alert_line(1, task_id="T-17", resets_at=resets_at))
    api.wait(lambda: api.messages and "attempt-1-retry-1 starts in" in api.messages[0]["text"])
    stream = place.logs / "agent-work-stream.jsonl"
    api.wait(lambda: stream.exists() and '"session_end"' in stream.read_text())
    assert int((place.base / "tries").read_text()) >= int(began) + 1
    assert "attempt-1-retry-1" in stream.read_text()
    place.write(alert_line(2, task_id="T-17", resets_at=resets_at), alert_line(3, task_id="T-17", resets_at=resets_at))
    api.wait(lambda: any("2 tries did not help: a person should look at T-17" in message["text"] for message in api.messages))


def test_the_retry_recipe_takes_no_path_for_a_task(tmp_path):
    """What an alert says is not trusted."""
    import subprocess

    done = subprocess.run(
        [RECIPES / "retry.sh", "a1", "../../etc/x"], cwd=tmp_path, env={"PATH": os.environ["PATH"], "RETRY_AGENT": "true"}, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []
