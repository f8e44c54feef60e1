"""`agentwatch run --with-notify`: the notifier as a child, whose death stops nothing."""

import json
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from agentwatch.apps.supervise import Supervised


def children(process):
    return [one for one in psutil.Process(process.pid).children() if "notify" in one.cmdline()]


def until(condition, timeout=30.0):
    end = time.time() + timeout
    while not (found := condition()):
        assert time.time() < end
        time.sleep(0.05)
    return found


def errors(place, attempt):
    """Four equal errors: an error loop."""
    stream = place.logs / "agent-work-stream.jsonl"
    begun = datetime.now(UTC) - timedelta(seconds=8)
    with stream.open("a") as file:
        for number in range(4):
            at = (begun + timedelta(seconds=2 * number)).isoformat()
            data = {"error_message": "boom", "error_fingerprint": "boom"}
            file.write(json.dumps({"timestamp": at, "attempt_id": attempt, "event_type": "error", "data": data}) + "\n")


@pytest.fixture
def both(place):
    place.environ["AGENTWATCH_SOURCES"] = "none"
    process = place.start("run", "--with-notify")
    until(lambda: "notifying about" in place.stderr and "watching" in place.stderr)
    return process


def test_an_error_in_a_log_arrives_in_the_chat_and_goes_on_to_when_the_notifier_dies(place, api, both):
    """From the line of an agent's log to the phone, with one command; the child is started again."""
    errors(place, "attempt-1")
    api.wait(lambda: api.messages and "attempt-1" in api.messages[0]["text"])
    (child,) = children(both)
    child.kill()
    errors(place, "attempt-2")
    until(lambda: place.path.read_text().count("attempt-2"))
    api.wait(lambda: "attempt-2" in api.messages[-1]["text"])
    assert "the notifier ended with -9; started again in" in place.stderr
    both.terminate()
    assert both.wait(20) == 0
    assert not psutil.pid_exists(child.pid)


def test_a_machine_that_has_no_room_for_another_process_is_asked_again(monkeypatch):
    """One moment of too many processes must not be the end of all messages."""
    reports, tries = [], []

    def start(command, **_):
        tries.append(command)
        if len(tries) == 1:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return popen(["/bin/cat"], stdin=subprocess.PIPE)

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    with Supervised({}, {}, lambda text, _level=None: reports.append(text)):
        until(lambda: len(tries) == 2)
    assert reports[0].startswith("the notifier ended with Resource temporarily unavailable; started again in 1 s")


def test_a_daemon_that_is_killed_leaves_no_notifier_behind(place, both):
    """It ends with its standard input."""
    (child,) = until(lambda: children(both))
    both.send_signal(signal.SIGKILL)
    both.wait(20)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_notifier_that_cannot_start_leaves_the_daemon_at_work(place):
    """A missing token is told, again and again with longer pauses, and alerts are written."""
    place.environ.update(AGENTWATCH_SOURCES="none", AGENTWATCH_TELEGRAM_TOKEN="")
    process = place.start("run", "--with-notify")
    until(lambda: "the notifier ended with 2" in place.stderr)
    errors(place, "attempt-1")
    until(lambda: place.path.exists() and "attempt-1" in place.path.read_text())
    process.terminate()
    assert process.wait(20) == 0
