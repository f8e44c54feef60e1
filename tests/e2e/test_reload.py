"""SIGHUP: settings that are changed while the daemon and the notifier run, and what a manager is told of it."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parents[2]


class Service:
    """A service as systemd would start it: its signs of life go to a socket of ours."""

    def __init__(self, base, *arguments, **environ):
        self.base = base
        self.logs = base / "logs"
        self.settings = base / "settings.toml"
        self.settings.touch()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(base / "notify"))
        self._socket.settimeout(20)
        given = {"PATH": os.environ["PATH"], "HOME": str(base), "PYTHONPATH": str(ROOT), "AGENTWATCH_SOURCES": "none", "NOTIFY_SOCKET": str(base / "notify")}
        command = [sys.executable, "-m", "agentwatch", *arguments, "--log-dir", str(self.logs), "--config", str(self.settings)]
        with (base / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(command, cwd=base, env={**given, **environ}, stderr=stderr)

    @property
    def said(self):
        return (self.base / "stderr").read_text()

    def sign(self, wanted):
        """The next message of the protocol that has `wanted` in it."""
        while True:
            message = self._socket.recv(4096).decode()
            if wanted in message.splitlines():
                return dict(line.split("=", 1) for line in message.splitlines())

    def reload(self, toml=""):
        self.settings.write_text(toml)
        self.process.send_signal(signal.SIGHUP)

    def errors(self, count, attempt):
        """Equal errors of one attempt, a second apart, the last one now."""
        self.logs.mkdir(exist_ok=True)
        now = datetime.now(UTC)
        data = {"error_message": "boom", "error_fingerprint": "boom"}
        with (self.logs / "agent-work-stream.jsonl").open("ab") as stream:
            for number in range(count):
                at = (now - timedelta(seconds=count - number)).isoformat()
                stream.write(orjson.dumps({"timestamp": at, "attempt_id": attempt, "event_type": "error", "data": data}) + b"\n")

    def is_silent_for(self, seconds):
        """Whether nothing comes any more, but for what is on its way."""
        self._socket.settimeout(seconds)
        try:
            for _ in range(5):
                self._socket.recv(4096)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(20)
        return False

    def fill(self):
        """Nobody can tell us anything any more."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, suppress(BlockingIOError):
            other.setblocking(False)
            while True:
                other.sendto(b"", str(self.base / "notify"))

    def end(self):
        self.process.terminate()
        return self.process.wait(20)

    def close(self):
        self.process.kill()
        self.process.wait()
        self._socket.close()


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(*arguments, **environ):
        started.append(Service(tmp_path, *arguments, **environ))
        return started[-1]

    yield begin
    for service in started:
        service.close()


@pytest.fixture
def daemon(start):
    def begin(*arguments, **environ):
        service = start("run", *arguments, **environ)
        service.sign("READY=1")
        return service

    return begin


def until(condition):
    end = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def alerts(service):
    path = service.logs / "agent-alerts.jsonl"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_a_threshold_holds_from_the_reload_on(daemon):
    """Two errors are no loop by default, and one when somebody says so; the daemon is the same process, and what was counted still counts."""
    service = daemon()
    service.errors(1, "a-1")
    until(lambda: b'"a-1"' in (service.logs / ".agentwatch" / "checkpoint.json").read_bytes())
    service.reload("[error_loop]\nthreshold = 2\n")
    service.sign("RELOADING=1")
    service.sign("READY=1")
    assert "changed: `error_loop.threshold`" in service.said
    service.errors(1, "a-1")
    assert until(lambda: alerts(service))[0]["occurrences"] == 2
    assert service.end() == 0


def test_a_manager_is_told_when_the_reload_began(daemon):
    """`RELOADING=1` with the monotonic time, as sd_notify(3) wants it, then `READY=1`."""
    service = daemon()
    before = time.monotonic_ns() // 1000
    service.reload()
    told = service.sign("RELOADING=1")
    assert before <= int(told["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert "watching" in service.sign("READY=1")["STATUS"]


@pytest.mark.parametrize("toml", ["rubbish", "[error_loop]\nthreshold = 'many'", "[alerts]\noff = 'error_lop'", "[logs]\nsources = 'nothing'"])
def test_settings_that_cannot_be_used_change_nothing(daemon, toml):
    """A mistake in the file does not end the watch: it is told, and the old ones hold."""
    service = daemon(AGENTWATCH_SOURCES="")
    service.reload(toml)
    service.sign("RELOADING=1")
    service.sign("READY=1")
    assert "settings stay as they were: " in service.said
    service.errors(4, "a-1")
    until(lambda: alerts(service))
    assert service.process.poll() is None


def test_what_needs_a_restart_is_said_and_the_rest_holds(daemon):
    """The log directory stays the one whose lock is held."""
    service = daemon(AGENTWATCH_ERROR_LOOP_WINDOW_S="300")
    service.reload("[logs]\nenabled = false\n[error_loop]\nthreshold = 2\n")
    service.sign("RELOADING=1")
    service.sign("READY=1")
    assert "changed: `error_loop.threshold`; with a restart only: `logs.enabled`" in service.said
    service.errors(2, "a-1")
    until(lambda: alerts(service))


def test_many_reloads_in_a_row_lose_nothing(daemon):
    """However often and quickly it is asked, each alert comes once, and the last settings hold."""
    service = daemon()
    for number in range(20):
        service.errors(4, f"a-{number}")
        service.reload(f"[cost]\nusd_per_session = {number + 1}\n")
        time.sleep(0.02)
    found = until(lambda: service.is_silent_for(0.1) and len(alerts(service)) >= 20 and alerts(service))
    assert sorted(alert["attempt_id"] for alert in found) == sorted(f"a-{number}" for number in range(20))
    assert service.end() == 0
    assert len(alerts(service)) == 20


def test_a_switched_off_daemon_ends_well_under_a_manager(start):
    """It says READY first: an end before that would be a failed start, tried again for ever."""
    service = start("run", AGENT_WORK_ANALYZER_ENABLED="false")
    assert "switched off" in service.sign("READY=1")["STATUS"]
    assert service.process.wait(20) == 0


def test_the_signs_of_life_come_from_the_loop(daemon):
    """A daemon that is stopped in its tracks sends none: that is what the watchdog is for."""
    service = daemon(WATCHDOG_USEC="2000000")
    service.sign("WATCHDOG=1")
    service.process.send_signal(signal.SIGSTOP)
    assert service.is_silent_for(3)
    service.process.send_signal(signal.SIGCONT)
    service.sign("WATCHDOG=1")


def test_a_manager_that_does_not_listen_stops_nothing(daemon):
    """Its queue is full: the watch goes on without it."""
    service = daemon(WATCHDOG_USEC="1000000")
    service.fill()
    service.errors(4, "a-1")
    until(lambda: alerts(service))


def test_messages_are_objects_for_programs(daemon):
    """`--log-format json`: every line on stderr is one, with its time and level."""
    service = daemon("--log-format", "json")
    service.reload("rubbish")
    service.sign("RELOADING=1")
    service.sign("READY=1")
    said = [orjson.loads(line) for line in service.said.splitlines()]
    assert {line["level"] for line in said} == {"info", "error"}
    assert all(datetime.fromisoformat(line["timestamp"]).tzinfo and line["message"] for line in said)


def test_the_end_by_an_error_is_an_object_too(tmp_path):
    """What a program reads does not end in prose."""
    command = [sys.executable, "-m", "agentwatch", "run", "--log-format", "json", "--config", str(tmp_path / "none.toml")]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert [orjson.loads(line)["level"] for line in done.stderr.splitlines()] == ["error", "error"]


def test_the_journal_is_told_levels(tmp_path):
    """Where stderr is the journal's, each line begins with its level, as sd-daemon(3) has it; nowhere else."""
    journal = tmp_path / "journal"
    journal.touch()
    stat = journal.stat()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
    command = [sys.executable, "-m", "agentwatch", "run", "--config", str(tmp_path / "none.toml")]
    with journal.open("wb") as stderr:
        subprocess.run(command, cwd=tmp_path, env=environ, stderr=stderr, timeout=60, check=False)
    lines = journal.read_text().splitlines()
    assert lines
    assert all(line.startswith("<3>") for line in lines)
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert "<3>" not in done.stderr
