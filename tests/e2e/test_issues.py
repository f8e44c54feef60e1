"""Rules and issues of a real daemon: counts that are exact whatever is killed, one alert each, and the callback that hears of it."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agentwatch.store.issues import IssueStore
from tests.sources.harness import eventually

ROOT = Path(__file__).parents[2]
SEED = 11
RULE = """
[[rule]]
id = "mine"
title = "Mine"
patterns = ['{pattern}']
severity = "medium"
category = "own"
recommendation = "Look."
"""


class Place:
    def __init__(self, base):
        self.base = base
        self.logs = base / "logs"
        self.run = self.logs / "runs" / "r1"
        self.run.mkdir(parents=True)
        self.rules = base / "config" / "agentwatch" / "rules"
        self.rules.mkdir(parents=True)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(base),
            "PYTHONPATH": str(ROOT),
            "AGENTWATCH_SOURCES": "none",
            "XDG_CONFIG_HOME": str(base / "config"),
        }
        self.processes = []

    def command(self, *arguments):
        return [sys.executable, "-m", "agentwatch", *arguments, "--log-dir", str(self.logs)]

    def start(self):
        messages = (self.base / "messages").open("ab")
        process = subprocess.Popen(self.command("run"), env=self.environ, cwd=self.base, stderr=messages)
        messages.close()
        self.processes.append(process)
        return process

    def call(self, *arguments):
        return subprocess.run(self.command(*arguments), env=self.environ, cwd=self.base, capture_output=True, text=True, timeout=60, check=False)

    @property
    def messages(self):
        return (self.base / "messages").read_text()

    def append(self, *lines, source="worker.log", run="r1"):
        path = self.logs / "runs" / run / source
        path.parent.mkdir(exist_ok=True)
        with path.open("ab", buffering=0) as file:
            file.write("".join(f"{line}\n" for line in lines).encode())

    def issues(self, run="r1"):
        store = IssueStore(self.logs / ".agentwatch" / "issues.db", read_only=True)
        try:
            return store.issues(run)
        finally:
            store.close()

    def counts(self, run="r1"):
        return {issue.message: issue.occurrences for issue in self.issues(run)}

    def alerts(self):
        path = self.logs / "agent-alerts.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def told(self):
        return [alert for alert in self.alerts() if alert["type"] == "rule_match"]


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    for process in place.processes:
        if process.poll() is None:
            process.kill()
            process.wait(20)


NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)


def refused(number, host="db"):
    return f"{(NOW + timedelta(milliseconds=100 * number)).isoformat()} ERROR {host}: connect ECONNREFUSED 10.0.0.{number % 250}:5432"


def fine(number):
    return f"{(NOW + timedelta(milliseconds=100 * number)).isoformat()} INFO all is well {number}"


def test_counts_are_exact_and_alerts_are_told_once_over_many_kills(place):
    """A daemon that is killed again and again while four logs grow: every line counts once, and every issue is told once."""
    dice = random.Random(SEED)
    print(f"seed {SEED}")
    hosts = ["db", "cache", "queue"]
    expected = Counter()
    process = place.start()
    for number in range(600):
        host = dice.choice(hosts)
        trace = ["\tat a.b(C.java:1)", "Caused by: java.net.ConnectException: Connection refused"] if dice.random() < 0.3 else []
        place.append(fine(number), refused(number, host), *trace, source=f"{dice.choice(['api', 'worker', 'main', 'cron'])}.log")
        expected[f"{host}: connect ECONNREFUSED <ip>"] += 1
        if dice.random() < 0.03:
            time.sleep(dice.random() * 0.8)
            process.kill()
            process.wait(20)
            process = place.start()
    eventually(lambda: process.poll() is not None or place.counts() == expected, 60, "all counted")
    assert place.counts() == expected, place.messages
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert place.counts() == expected
    told = place.told()
    assert Counter(alert["issue_fingerprint"] for alert in told) == Counter(issue.fingerprint for issue in place.issues())
    assert len({alert["alert_id"] for alert in told}) == len(hosts)


def test_a_single_pass_tells_the_same_alerts_as_a_daemon(place, tmp_path):
    """And counts the same, from nothing."""
    for number in range(20):
        place.append(refused(number), source=f"{'ab'[number % 2]}.log")
        place.append(refused(number, "cache"), run="r2")
    process = place.start()
    eventually(lambda: len(place.told()) == 2 and sum(place.counts().values()) == 20)
    process.terminate()
    process.wait(30)
    daemon_told = {alert["alert_id"]: alert["issue_fingerprint"] for alert in place.told()}
    counts = place.counts(), place.counts("r2")
    other = Place(tmp_path / "other")
    for path in place.run.parent.rglob("*.log"):
        target = other.logs / path.relative_to(place.logs)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    done = other.call("run", "--once")
    assert done.returncode == 0, done.stderr
    assert {alert["alert_id"]: alert["issue_fingerprint"] for alert in other.told()} == daemon_told
    assert (other.counts(), other.counts("r2")) == counts


def test_the_callback_of_a_run_hears_of_an_issue_once(place):
    """From a line in a log over daemon and notifier to a real server; the card says which rule it was."""
    posts = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            posts.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        callback = place.run / "callback"
        callback.write_text(f"http://127.0.0.1:{server.server_address[1]}/of-the-run\n")
        callback.chmod(0o600)
        address = f"http://127.0.0.1:{server.server_address[1]}"
        place.environ |= {"AGENTWATCH_WEBHOOK_ALLOW_PRIVATE": "true", "AGENTWATCH_WEBHOOK_URL": f"{address}/all"}
        notifier = subprocess.Popen(place.command("notify"), env=place.environ, cwd=place.base, stderr=subprocess.DEVNULL)
        place.processes.append(notifier)
        place.start()
        now = datetime.now(UTC)
        place.append(*(f"{(now + timedelta(milliseconds=n)).isoformat()} ERROR connect ECONNREFUSED 10.0.0.{n}:5432" for n in range(12)))
        eventually(lambda: len(posts) == 2, 30, "two posts")
        time.sleep(1.0)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
    assert sorted(path for path, _ in posts) == ["/all", "/of-the-run"]
    for _, post in posts:
        assert {"connection-refused", "r1"} <= set(texts(post))


def texts(value):
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(one)


def test_rules_are_read_again_when_they_change_and_a_mistake_is_told(place):
    """A rule that is added while the daemon runs finds what comes then; one that is broken keeps what it was, and is told."""
    process = place.start()
    place.append(fine(0))
    eventually(lambda: "watching" in place.messages)
    path = place.rules / "own.toml"
    path.write_text(RULE.format(pattern="kaputt"))
    time.sleep(2.5)  # files are looked at once a second
    place.append(f"{NOW.isoformat()} ERROR all kaputt")
    eventually(lambda: place.counts() == {"all kaputt": 1})
    path.write_text(RULE.format(pattern="(kaputt"))
    eventually(lambda: "rules refused" in place.messages)
    assert "line 2, rule `mine`: `patterns`: not a regular expression: missing ): (kaputt; its rules stay as they were" in place.messages
    place.append(f"{NOW.isoformat()} ERROR all kaputt")
    eventually(lambda: place.counts() == {"all kaputt": 2})
    process.terminate()
    assert process.wait(30) == 0
    done = place.call("rules", "list")
    assert done.returncode == 2
    assert "own.toml`: line 2, rule `mine`" in done.stderr


def test_a_store_that_is_taken_away_or_damaged_is_made_again_by_a_running_daemon(place):
    """What was counted stands in the checkpoint."""
    place.start()
    place.append(*(refused(n) for n in range(5)))
    eventually(lambda: sum(place.counts().values()) == 5)
    store = place.logs / ".agentwatch" / "issues.db"
    store.unlink()
    place.append(refused(5))
    eventually(lambda: store.exists() and sum(place.counts().values()) == 6)
    for path in store.parent.glob("issues.db*"):
        path.unlink()
    store.write_bytes(b"this is no database" * 500)
    place.append(refused(6))

    def mended():
        try:
            return sum(place.counts().values()) == 7
        except Exception:  # noqa: BLE001  # as long as it is damaged
            return False

    eventually(mended)
    assert len(place.told()) == 1


def test_a_mark_of_a_person_stays_while_the_daemon_counts_on(place):
    """Acknowledged is acknowledged; the daemon does not wait for who writes it."""
    place.start()
    place.append(*(refused(n) for n in range(5)))
    (issue,) = eventually(lambda: len(place.told()) == 1 and place.issues())
    assert issue.status == "notified"
    done = place.call("issues", "--run", "r1", "--ack", issue.fingerprint[:8])
    assert (done.returncode, done.stderr) == (0, f"acknowledged {issue.fingerprint[:12]}: Connection refused\n")
    place.append(refused(6))
    eventually(lambda: place.issues()[0].occurrences == 6)
    assert place.issues()[0].status == "acknowledged"


def test_a_database_that_somebody_holds_keeps_no_alert_waiting(place):
    """Counts come to the store when it is free again."""
    place.start()
    place.append(refused(0))
    eventually(lambda: sum(place.counts().values()) == 1)
    holder = sqlite3.connect(place.logs / ".agentwatch" / "issues.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    place.append(*(refused(n) for n in range(1, 5)))
    eventually(lambda: len(place.told()) == 1, 5)
    assert time.monotonic() - began < 5
    assert sum(place.counts().values()) == 1
    holder.execute("ROLLBACK")
    holder.close()
    eventually(lambda: sum(place.counts().values()) == 5, 5)


def test_a_new_issue_stands_above_one_that_every_run_had(place):
    """Three runs refuse connections; the third does something new."""
    for number, run in enumerate(("r1", "r2", "r3")):
        place.append(*(refused(1000 * number + n) for n in range(9)), run=run)
    place.append(f"{(NOW + timedelta(seconds=250)).isoformat()} ERROR worker: KeyError: 'user_id'", run="r3")
    assert place.call("run", "--once").returncode == 0
    (place.logs / "runs" / "latest").symlink_to("r3")
    done = place.call("issues", "--run", "latest")
    rows = done.stdout.splitlines()
    assert "KeyError or IndexError" in rows[0]
    assert "new: in none of 2 earlier runs" in rows[3]
    assert "flaky or known: in 2 of 2 earlier runs" in rows[7]
