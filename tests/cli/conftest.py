"""A directory to run the real program in, as a user would: a home of its own and no settings from outside."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parents[2]


class Place:
    """A scratch home, with the log directory `logs` in it as the working directory's."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.logs = base / ".cache" / "agent-work-logs"
        self.stream = self.logs / "agent-work-stream.jsonl"
        self.alerts = self.logs / "agent-alerts.jsonl"
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(base), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "COLUMNS": "80"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "agentwatch", *arguments]

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), cwd=self.base, env={**self.environ, **environ}, capture_output=True, text=True, timeout=60, check=False)

    def write(self, *lines: dict[str, object] | str) -> None:
        """Append to the stream: objects as lines, texts as they are."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with self.stream.open("ab") as file:
            file.writelines(line.encode() if isinstance(line, str) else orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)


def error(minute: int, attempt_id: str = "a-1", message: str = "boom", *, begun: datetime = datetime(2026, 2, 9, 8, tzinfo=UTC)) -> dict[str, object]:
    """A line of the stream; four of them in a row make an error loop. A daemon forgets attempts of long ago: give it `begun`."""
    return {
        "timestamp": (begun + timedelta(minutes=minute)).isoformat(),
        "attempt_id": attempt_id,
        "event_type": "error",
        "data": {"error_message": message, "error_fingerprint": "boom"},
    }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def errors():
    """Makes lines of the stream."""
    return error


@pytest.fixture
def daemon(place: Place) -> Iterator[subprocess.Popen[str]]:
    """A daemon that watches; it has said so."""
    process = subprocess.Popen(place.command("run"), cwd=place.base, env=place.environ, stderr=subprocess.PIPE, text=True)
    try:
        while not process.stderr.readline().startswith("watching "):
            assert process.poll() is None
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)
