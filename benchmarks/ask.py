"""`agentwatch ask` over a directory of many and large logs, against a server on loopback that answers at once."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import corpus, history
from tests.ask.server import Reply, Server

QUESTIONS = (
    "why does the last session fail?",
    "which attempts have trouble with the network?",
    "what happened?",
    "where does git_push_failed come from?",
    "attempt-17",
)
LOGS = 300


def fill(directory: Path, megabytes: float) -> None:
    """A stream of so many megabytes, a tenth of it in each of two programs' logs, and 300 small logs beside."""
    corpus.write(directory / "agent-work-stream.jsonl", megabytes=megabytes)
    history.write_rows(directory / "agent-metrics.jsonl", sessions=5000, days=30)
    for name in ("api.log", "worker.log"):
        with (directory / name).open("w") as out:
            while out.tell() < megabytes * 1e5:
                out.writelines(
                    f"2026-02-09T08:{n // 60 % 60:02}:{n % 60:02}Z {'ERROR connect ECONNREFUSED 127.0.0.1:5432' if n % 97 == 0 else 'INFO request'} {n}\n"
                    for n in range(10_000)
                )
    for number in range(LOGS):
        (directory / f"small-{number}.log").write_text(f"2026-02-09T07:00:00Z ERROR start {number} failed\n" * 20)


def asked(directory: Path, environ: dict[str, str], rounds: int) -> str:
    """What a question takes beside the model, what loading takes, and the whole of it from the shell."""
    own, loading, whole = [], [], []
    with Server(Reply("All is well.")) as server:
        for number in range(rounds):
            question = QUESTIONS[number % len(QUESTIONS)]
            began = time.perf_counter()
            command = [sys.executable, "-m", "agentwatch", "ask", "--json", "--budget", "1000000000", "--log-dir", str(directory), question]
            done = subprocess.run(command, env={**os.environ, **environ, **server.environ}, stdout=subprocess.PIPE, check=True)
            whole.append(1000 * (time.perf_counter() - began))
            answer = json.loads(done.stdout)
            assert answer["by"] == "model", answer["why"]
            own.append(answer["took_ms"]["reading"] + answer["took_ms"]["account"])
            loading.append(answer["took_ms"]["loading"])
    return "; ".join(
        f"{name} {statistics.median(ms):.0f} ms ({min(ms):.0f} to {max(ms):.0f})"
        for name, ms in (("beside the model", own), ("loading", loading), ("in all", whole))
    )
