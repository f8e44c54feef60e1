"""A real systemd: what keeps the daemon running for a year. `make systemd`; needs root and systemd-nspawn, and changes nothing on this machine."""

import json
import select
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botapi import TOKEN
from machine import HOME, UID, USER

pytestmark = pytest.mark.systemd

WORK = HOME / "work"
LOGS = WORK / ".cache" / "agent-work-logs"
IMPATIENT = "[Service]\nWatchdogSec=3\nRestartSec=1\n"


class Service:
    """The services of one manager, as the user's or the system's."""

    def __init__(self, machine, manager):
        self.machine = machine
        self.manager = manager
        self.as_user = manager == "user"
        self.environ = {"AGENTWATCH_SOURCES": "none"}

    def agentwatch(self, *words, check=True):
        return self.machine.run("agentwatch", *words, check=check, as_user=self.as_user, environ=self.environ, cwd=WORK)

    def install(self, *options):
        return self.agentwatch("service", "install", *([] if self.as_user else ["--system", "--as", USER]), *options)

    def status(self):
        said = self.agentwatch("service", "status", "--json", *([] if self.as_user else ["--system"]), check=False)
        return {one["unit"]: one for one in json.loads(said.splitlines()[-1])} if said.startswith("[") else {}

    def systemctl(self, *words, check=True):
        return self.machine.run("systemctl", f"--{self.manager}", *words, as_user=self.as_user, check=check)

    def make_impatient(self, unit="agentwatch.service"):
        """So that a test need not wait a minute for the watchdog."""
        units = HOME / ".config/systemd/user" if self.as_user else "/etc/systemd/system"
        self.machine.run("sh", "-c", f"mkdir -p {units}/{unit}.d && printf '{IMPATIENT}' > {units}/{unit}.d/test.conf", as_user=self.as_user)
        self.systemctl("daemon-reload")
        self.systemctl("restart", unit)

    def errors(self, attempt):
        """An error loop."""
        begun = datetime.now(UTC) - timedelta(seconds=8)
        lines = [
            {
                "timestamp": (begun + timedelta(seconds=2 * number)).isoformat(),
                "attempt_id": attempt,
                "event_type": "error",
                "data": {"error_message": "boom", "error_fingerprint": "boom"},
            }
            for number in range(4)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        self.machine.run("sh", "-c", f"cat >> {LOGS}/agent-work-stream.jsonl <<'END'\n{text}END", as_user=True)

    def alerts(self):
        path = self.machine.path(LOGS / "agent-alerts.jsonl")
        return [json.loads(line)["attempt_id"] for line in path.read_text().splitlines()] if path.exists() else []

    def pid(self, unit="agentwatch.service"):
        return self.status()[unit]["pid"]

    def wait_for_another(self, pid, unit="agentwatch.service"):
        return self.machine.until(
            lambda: (found := self.status().get(unit)) and found["state"] == "running" and found["pid"] not in (None, pid) and found["pid"]
        )


@pytest.fixture(params=["user", "system"])
def service(booted, request):
    booted.run("rm", "-rf", WORK)
    booted.run("mkdir", "-p", WORK, as_user=True)
    made = Service(booted, request.param)
    yield made
    booted.run("rm", "-rf", HOME / ".config/systemd/user/agentwatch.service.d", "/etc/systemd/system/agentwatch.service.d")
    made.agentwatch("service", "uninstall", *([] if made.as_user else ["--system"]))


@pytest.fixture
def telegram(booted):
    """A Bot API in the machine's network, and what it was sent."""
    command = booted.command(sys.executable, str(Path(__file__).with_name("bot_server.py")), namespaces="-n")
    process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def line():
        ready, _, _ = select.select([process.stdout], [], [], 60)
        assert ready, "nothing was sent"
        return json.loads(process.stdout.readline())

    yield line
    process.kill()
    process.communicate()


def test_it_starts_and_says_how_it_does(service):
    """Installed is running: READY has come, the status is in words, and an alert comes of a log."""
    said = service.install()
    assert "runs, and starts with the machine: agentwatch.service" in said
    service.errors("a-1")
    service.machine.until(lambda: service.alerts() == ["a-1"])
    told = service.machine.until(lambda: (one := service.status()["agentwatch.service"])["says"].endswith("alerts: 1") and one)
    assert (told["state"], told["is_enabled"], told["restarts"]) == ("running", True, 0)
    words = service.agentwatch("service", "status", *([] if service.as_user else ["--system"]))
    assert "agentwatch.service  running  for" in words


def test_a_killed_daemon_comes_back_and_no_alert_is_lost_or_told_twice(service):
    """SIGKILL, five times, in the middle of the work."""
    service.install()
    service.make_impatient()
    for number in range(5):
        pid = service.pid()
        service.errors(f"a-{number}")
        service.machine.run("kill", "-9", pid)
        service.wait_for_another(pid)
    service.machine.until(lambda: len(service.alerts()) >= 5)
    assert sorted(service.alerts()) == [f"a-{number}" for number in range(5)]
    assert service.status()["agentwatch.service"]["restarts"] == 5


def test_a_loop_that_hangs_is_ended_by_the_watchdog_and_begins_anew(service):
    """Stopped in its tracks it sends no sign of life; what was written meanwhile is read by the next."""
    service.install()
    service.make_impatient()
    pid = service.pid()
    service.machine.run("kill", "-STOP", pid)
    service.errors("a-1")
    service.wait_for_another(pid)
    service.machine.until(lambda: service.alerts() == ["a-1"])
    journal = service.machine.run(
        "journalctl", "--no-pager", "--output=cat", f"_PID={pid}", "+", "UNIT=agentwatch.service", "+", "USER_UNIT=agentwatch.service"
    )
    assert "Watchdog timeout" in journal
    assert "Fatal Python error: Aborted" in journal  # and where it hung


def test_a_reload_takes_the_settings_and_keeps_the_process(service):
    """Reloaded by systemctl: another threshold, the same pid; a mistake in the file is told and changes nothing."""
    service.install()
    pid = service.pid()
    settings = HOME / ".config" / "agentwatch" / "agentwatch.toml"
    service.machine.run("sh", "-c", f"mkdir -p {settings.parent} && printf '[error_loop]\\nthreshold = 9\\n' > {settings}", as_user=True)
    service.systemctl("reload", "agentwatch.service")
    service.machine.until(lambda: "changed: `error_loop.threshold`" in service.machine.run("journalctl", "--no-pager", "--output=cat", f"_PID={pid}"))
    service.errors("a-1")
    service.machine.run("sh", "-c", f"echo rubbish > {settings}", as_user=True)
    service.systemctl("reload", "agentwatch.service")
    service.machine.until(lambda: "settings stay as they were" in service.machine.run("journalctl", "--no-pager", "--output=cat", "-p", "err", f"_PID={pid}"))
    service.machine.until(lambda: service.status()["agentwatch.service"]["state"] == "running")
    service.machine.run("rm", settings)
    assert service.pid() == pid
    assert service.alerts() == []


def test_a_stop_is_quick_and_loses_no_alert(service):
    """While lines are being written: what stands in the log when it is stopped is told before it ends, or after the next start."""
    service.install()
    for number in range(20):
        service.errors(f"a-{number:02}")
    started = time.monotonic()
    service.systemctl("stop", "agentwatch.service")
    assert time.monotonic() - started < 10
    assert service.status()["agentwatch.service"]["state"] == "stopped"
    service.errors("a-20")
    service.systemctl("start", "agentwatch.service")
    service.machine.until(lambda: len(service.alerts()) >= 21)
    assert sorted(service.alerts()) == [f"a-{number:02}" for number in range(21)]


def test_it_can_write_to_the_log_directory_and_nowhere_else_and_has_no_network(service):
    """Seen from inside: the home can be read, only the logs can be written, and there is no way out."""
    service.install()
    pid = service.pid()
    inside = ["nsenter", "-t", str(pid), "-m", "--"]
    for path in (HOME, WORK, "/etc", "/usr", "/var/lib"):
        assert "Read-only file system" in service.machine.run(*inside, "touch", f"{path}/x", check=False), path
    service.machine.run(*inside, "touch", LOGS / "x")
    assert service.machine.run(*inside, "cat", HOME / ".profile")
    assert "RestrictAddressFamilies=AF_UNIX\n" in service.systemctl("show", "--property=RestrictAddressFamilies", "agentwatch.service")
    if service.manager == "system":
        links = service.machine.run("cat", f"/proc/{pid}/net/dev").splitlines()[2:]
        assert [link.split(":")[0].strip() for link in links] == ["lo"]
    for line in ("NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"):
        assert line in service.machine.path(f"/proc/{pid}/status").read_text()


def test_the_notifier_tells_a_phone_and_its_token_is_a_credential(service, telegram):
    """The token is in a file for one user, handed over by systemd, and in no unit, no environment and no message."""
    service.environ |= {
        "AGENTWATCH_TELEGRAM_TOKEN": TOKEN,
        "AGENTWATCH_TELEGRAM_CHATS": "7",
        "AGENTWATCH_TELEGRAM_BASE_URL": telegram()["url"],
    }
    said = service.install("--notify")
    service.environ = {"AGENTWATCH_SOURCES": "none"}
    service.errors("a-1")
    assert "a-1" in telegram()["text"]
    pid = service.pid("agentwatch-notify.service")
    stored = service.machine.run("grep", "-rl", TOKEN, "/etc", HOME, check=False).split()
    shown = service.systemctl("show", "agentwatch-notify.service") + service.systemctl("cat", "agentwatch-notify.service")
    environ = service.machine.path(f"/proc/{pid}/environ").read_text()
    journal = service.machine.run("journalctl", "--no-pager")
    assert TOKEN not in said + shown + environ + journal
    assert [Path(one).name for one in stored] == ["agentwatch-telegram-token"]
    assert service.machine.run("stat", "-c", "%a", stored[0]).strip() == "600"
    service.machine.run("kill", "-9", pid)
    service.errors("a-2")
    service.wait_for_another(pid, "agentwatch-notify.service")
    assert "a-2" in telegram()["text"]


def test_uninstalling_leaves_no_trace_and_no_data_is_lost(service, telegram):
    """Files, links, secrets and stamps of timers are gone; logs and alerts are there."""

    def files():
        """But for empty folders that systemd makes for itself."""
        kinds = ["(", "-not", "-type", "d", "-o", "-name", "*agentwatch*", ")", "-not", "-path", f"{WORK}/*"]
        return service.machine.run("find", HOME, "/etc", "/var/lib/systemd", *kinds).splitlines()

    before = files()
    service.environ |= {
        "AGENTWATCH_TELEGRAM_TOKEN": TOKEN,
        "AGENTWATCH_TELEGRAM_CHATS": "7",
        "AGENTWATCH_TELEGRAM_BASE_URL": telegram()["url"],
    }
    service.environ["AGENTWATCH_RETENTION_AUTOMATIC"] = "false"
    service.install()
    service.install("--notify")
    service.install("--add", "--log-dir", f"{WORK}/further logs")
    assert len(service.status()) == 4  # the weekly report is the notifier's now
    service.errors("a-1")
    service.machine.until(service.alerts)
    service.agentwatch("service", "uninstall", *([] if service.as_user else ["--system"]))
    assert files() == before
    assert service.alerts() == ["a-1"]
    assert "agentwatch" not in service.systemctl("list-units", "--all", "--no-legend", "agentwatch*")


def test_a_further_log_directory_has_an_instance_of_its_own(service):
    """With blanks and signs in its name; it tells what stands there, and the agents' own logs are the first service's."""
    service.install()
    further = WORK / "further logs: 50%-$x"
    service.install("--add", "--log-dir", further)
    (name,) = (name for name in service.status() if name.startswith("agentwatch@"))
    assert service.status()[name]["log_dir"] == str(further)
    stream = service.machine.path(further / "agent-work-stream.jsonl")
    service.errors("a-1")
    service.machine.run("cp", LOGS / "agent-work-stream.jsonl", further / "agent-work-stream.jsonl", as_user=True)
    service.machine.until(lambda: stream.with_name("agent-alerts.jsonl").exists() and "a-1" in stream.with_name("agent-alerts.jsonl").read_text())
    assert len(service.status()) == 3


def test_what_timers_start_works_as_confined_as_the_rest(service):
    """Rotation and the weekly report, run once each."""
    service.environ["AGENTWATCH_RETENTION_AUTOMATIC"] = "false"
    service.install()
    assert {"agentwatch-rotate.timer", "agentwatch-weekly-report.timer"} < service.status().keys()
    service.systemctl("start", "agentwatch-rotate.service", "agentwatch-weekly-report.service")
    reports = service.machine.path(WORK / ".cache" / "reports")
    assert len(list(reports.glob("weekly-*.html"))) == 1


def test_settings_that_cannot_be_used_are_told_and_not_tried_for_ever(service):
    """Exit code 2 ends it: `service status` says why, and how to go on."""
    service.install()
    settings = HOME / ".config" / "agentwatch" / "agentwatch.toml"
    service.machine.run("sh", "-c", f"mkdir -p {settings.parent} && printf '[cost]\\nusd = 1\\n' > {settings}", as_user=True)
    service.systemctl("restart", "agentwatch.service", check=False)
    service.machine.run("rm", settings)
    found = service.status()["agentwatch.service"]
    assert (found["state"], found["problem"], found["restarts"]) == ("failed", "its settings cannot be used", 0)
    report = json.loads(service.agentwatch("doctor", "--json", check=False).splitlines()[-1])
    (check,) = (check for check in report["checks"] if check["name"] == "service" and check["state"] == "broken")
    assert "`agentwatch.service` has failed: its settings cannot be used" in check["found"]
    words = service.agentwatch("service", "status", *([] if service.as_user else ["--system"]), check=False)
    assert "its settings cannot be used" in words
    assert "restart agentwatch.service" in words


def test_it_starts_with_the_machine_though_nobody_logs_in(booted):
    """A user who lingers has a manager from the start; without that, install says how to have it."""
    booted.run("mkdir", "-p", WORK, as_user=True)
    service = Service(booted, "user")
    assert "loginctl enable-linger" not in service.install()
    booted.run("systemctl", "restart", f"user@{UID}.service")
    booted.until(lambda: service.status().get("agentwatch.service", {}).get("state") == "running")
    service.agentwatch("service", "uninstall")
