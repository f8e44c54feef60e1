"""What the tests of the notifier share: lines of the alert log, a Bot API on loopback, a place to run the program in."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from botapi import TOKEN, BotApi

ROOT = Path(__file__).parents[2]


def alert_line(number, *, at_s=None, kind="error_loop", severity="high", status="open", episode=None, **more):
    """A line as the daemon writes it."""
    at = datetime.fromtimestamp(time.time() if at_s is None else at_s, UTC)
    line = {
        "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "alert_id": f"id-{number}",
        "type": kind,
        "severity": severity,
        "status": status,
        "attempt_id": f"attempt-{number}",
        "executor": "codex",
        "recommendation": "trigger_ai_autofix",
        "summary": f"attempt-{number} is in an error loop: git_push_failed, 4 times in 10 min",
        "episode_id": episode or f"id-{number}",
        "evidence": [{"source": "agent-work-stream.jsonl", "offset": 17, "timestamp": at.isoformat(), "text": "error: failed to push some refs"}],
    }
    return {**line, **more}


@pytest.fixture
def api():
    server = BotApi()
    yield server
    server.close()


class Place:
    """A scratch home with a log directory, and the notifier as a process."""

    def __init__(self, base, api):
        self.base = base
        self.logs = base / ".cache" / "agent-work-logs"
        self.logs.mkdir(parents=True)
        self.state = self.logs / ".agentwatch"
        self.path = self.logs / "agent-alerts.jsonl"
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(base),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "AGENTWATCH_TELEGRAM_TOKEN": TOKEN,
            "AGENTWATCH_TELEGRAM_CHATS": "7",
            "AGENTWATCH_TELEGRAM_BASE_URL": api.url,
        }
        self.processes = []

    def write(self, *lines):
        with self.path.open("ab") as file:
            file.write(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))

    def start(self, *arguments, **environ):
        command = [sys.executable, "-m", "agentwatch", *(arguments or ("notify",))]
        with (self.base / "stderr.txt").open("ab") as stderr:
            process = subprocess.Popen(command, cwd=self.base, env={**self.environ, **environ}, stdin=subprocess.DEVNULL, stderr=stderr, text=True)
        self.processes.append(process)
        return process

    def run(self, *arguments, **environ):
        command = [sys.executable, "-m", "agentwatch", *arguments]
        return subprocess.run(command, cwd=self.base, env={**self.environ, **environ}, capture_output=True, text=True, timeout=60, check=False)

    @property
    def stderr(self):
        return (self.base / "stderr.txt").read_text()

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.wait(20)


@pytest.fixture
def place(tmp_path, api):
    made = Place(tmp_path, api)
    yield made
    made.end()


@pytest.fixture
def line():
    return alert_line
