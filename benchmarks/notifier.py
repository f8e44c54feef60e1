"""The notifier's figures, with the Bot API of the tests on loopback in place of Telegram."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psutil

sys.path.append(str(Path(__file__).parents[1] / "tests" / "notify"))

from botapi import TOKEN, BotApi

PAUSE_S = 1.1
"""A chat is sent one message a second: faster, and one measures that."""


def alert(number: int) -> bytes:
    line = {"timestamp": datetime.now(UTC).isoformat(), "alert_id": f"{number:016x}", "type": "error_loop", "severity": "high", "attempt_id": f"a-{number}"}
    return orjson.dumps(
        {**line, "status": "open", "recommendation": "trigger_ai_autofix", "summary": "it loops", "evidence": []}, option=orjson.OPT_APPEND_NEWLINE
    )


@contextmanager
def notifier(address: str) -> Iterator[tuple[psutil.Process, Path]]:
    with tempfile.TemporaryDirectory(prefix="agentwatch-bench-") as folder:
        path = Path(folder, "agent-alerts.jsonl")
        path.touch()
        environ = {
            **os.environ,
            "AGENTWATCH_TELEGRAM_TOKEN": TOKEN,
            "AGENTWATCH_TELEGRAM_CHATS": "7",
            "AGENTWATCH_TELEGRAM_BASE_URL": address,
            "AGENTWATCH_NOTIFY_STORM_PER_MIN": "1000",
        }
        process = subprocess.Popen([sys.executable, "-m", "agentwatch", "notify", "--log-dir", folder], env=environ, stderr=subprocess.DEVNULL)
        try:
            yield psutil.Process(process.pid), path
        finally:
            process.terminate()
            process.wait(20)


def to_request(scale: float) -> list[float]:
    """Seconds from the line in the file to the request at the API, one alert at a time."""
    api = BotApi()
    latencies = []
    with notifier(api.url) as (_, path), path.open("ab", buffering=0) as out:
        for number in range(max(20, int(100 * scale))):
            out.write(alert(number))
            written = time.time()
            api.wait(lambda expected=number + 1: len(api.requests) >= expected)
            if number:  # the first waits for the start
                latencies.append(api.requests[-1][0] - written)
            time.sleep(PAUSE_S)
    api.close()
    return latencies


def without_network(scale: float) -> str:
    """CPU and memory while alerts wait for a network that is not there, and with nothing to do at all."""
    seconds = max(20.0, 120 * scale)
    api = BotApi()
    with notifier(api.url) as (process, path), path.open("ab", buffering=0) as out:
        out.write(alert(0))
        api.wait(lambda: api.messages)
        idle = _share(process, seconds)
        api.close()
        out.write(b"".join(map(alert, range(1, 500))))
        time.sleep(10)
        waiting = _share(process, seconds)
        return f"idle {100 * idle:.2f} % of a core, waiting for the network {100 * waiting:.2f} %, RSS {process.memory_info().rss / 1e6:.0f} MB"


def _share(process: psutil.Process, seconds: float) -> float:
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / seconds
