"""A log directory to report on, and a log of a hundred thousand events whose every figure can be counted by other means."""

import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"


class Place:
    """A scratch home with a log directory in it."""

    def __init__(self, base):
        self.base = base
        self.logs = base / ".cache" / "agent-work-logs"
        self.logs.mkdir(parents=True)
        self.stream = self.logs / "agent-work-stream.jsonl"
        self.metrics = self.logs / "agent-metrics.jsonl"
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(base), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "COLUMNS": "100"}

    def run(self, *arguments, **environ):
        command = [sys.executable, "-m", "agentwatch", *arguments]
        return subprocess.run(command, cwd=self.base, env={**self.environ, **environ}, capture_output=True, text=True, timeout=300, check=False)

    def json(self, *arguments, **environ):
        done = self.run(*arguments, "--json", **environ)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return json.loads(done.stdout)

    def write(self, *events):
        with self.stream.open("ab") as file:
            file.writelines(json.dumps(event).encode() + b"\n" for event in events)

    def store(self, *rows):
        with self.metrics.open("ab") as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def ago(**delta):
    return (datetime.now(UTC) - timedelta(**delta)).isoformat()


def session(attempt_id, begun, *, status="success", cost=None, usage=(), errors=(), minutes=5, **fields):
    """The events of one session of the canonical stream."""

    def event(minute, kind, **data):
        at = (begun + timedelta(minutes=minute)).isoformat()
        return {"timestamp": at, "attempt_id": attempt_id, "event_type": kind, "data": data, **fields}

    yield event(0, "session_start", prompt=f"do {attempt_id}", prompt_type="initial")
    for number, tokens in enumerate(usage):
        yield event(minutes * (number + 1) / (len(usage) + 1), "usage", usage=tokens, cost_usd=tokens.get("cost", 0.01))
    for name in errors:
        yield event(minutes / 2, "error", error_message=f"error: {name} went wrong", error_fingerprint=name, error_category="test")
    if status is not None:
        ended = {"completion_status": status, "duration_ms": minutes * 60_000, **({"cost_usd": cost} if cost is not None else {})}
        yield event(minutes, "session_end", **ended)


@pytest.fixture
def make_session():
    return session


@pytest.fixture
def make_ago():
    return ago


def big_log(seed, events, now):
    """About so many events over twenty days, of sessions that overlap: some fail, some are retried, some never end."""
    rng = random.Random(seed)
    lines = []
    number = 0
    while len(lines) < events:
        number += 1
        begun = now - timedelta(days=20 * rng.random(), hours=1)
        executor, model = rng.choice((("CODEX", "gpt-5-codex"), ("CLAUDE", "claude-sonnet-4-5"), ("COPILOT", "gpt-5")))
        steps = rng.randrange(5, 40)
        usage = [
            {
                "input": rng.randrange(900),
                "output": rng.randrange(500),
                "cache_read": rng.randrange(9000),
                "cache_write": rng.randrange(300),
                "reasoning": 0,
                "cost": rng.randrange(1, 90) / 1024,
            }
            for _ in range(steps)
        ]
        errors = [rng.choice(("push_failed", "test_failed", "type_error", "rate_limited")) for _ in range(rng.choice((0, 0, 1, 3)))]
        status = rng.choice(("success",) * 7 + ("failed", "failed", "timeout", "interrupted", None))
        lines += session(
            f"a{number}", begun, status=status, usage=usage, errors=errors, minutes=rng.randrange(1, 50),
            task_id=f"t{number // 2}", task_title=f"[{rng.choice('sml')}] task {number // 2}", executor=executor, model=model,
        )  # fmt: skip
    lines.sort(key=lambda event: event["timestamp"])
    return lines


@pytest.fixture
def make_big_log():
    return big_log
