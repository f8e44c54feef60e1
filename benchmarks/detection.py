"""`python -m benchmarks.detection --sessions DIR`: alerts on labelled sessions, beside the rules that everyone tries first.

DIR holds `labels.tsv`, `evaluate.py` and `score.py` of the labelled sessions. One run scores both, so that the table of docs/detection.md
can be made again: agentwatch as it is, and the naive rules (10 calls of one tool in 60 s, 4 equal errors in 10 min, 5 min of silence, 1 USD).
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parents[1]
CALLS, CALLS_WITHIN = 10, timedelta(seconds=60)
ERRORS, ERRORS_WITHIN = 4, timedelta(minutes=10)
SILENCE = timedelta(minutes=5)
USD = 1.0


def naive(path: Path, tail_s: float) -> Iterator[dict[str, object]]:
    """What the naive rules say of one session, whose last line is followed by `tail_s` seconds of silence."""
    calls: dict[str, deque[datetime]] = defaultdict(lambda: deque(maxlen=CALLS))
    errors: dict[str, deque[datetime]] = defaultdict(lambda: deque(maxlen=ERRORS))
    last, spent, attempt = None, 0.0, ""
    for line in path.read_bytes().splitlines():
        event = json.loads(line)
        data, attempt = event["data"], event["attempt_id"]
        at = datetime.fromisoformat(event["timestamp"])
        if last is not None and at - last > SILENCE:
            yield _alert(attempt, "stuck_agent", last + SILENCE)
        last = at if last is None else max(last, at)
        if event["event_type"] == "tool_call" and _is_full(calls[data.get("tool_name", "")], at, CALLS_WITHIN):
            yield _alert(attempt, "tool_loop", at)
        failed = event["event_type"] == "error" or data.get("is_error")
        message = str(data.get("error_fingerprint") or data.get("error_message") or data.get("result") or "")
        if failed and _is_full(errors[message], at, ERRORS_WITHIN):
            yield _alert(attempt, "error_loop", at)
        before, spent = spent, spent + (data.get("cost_usd") or 0.0)
        if before <= USD < spent:
            yield _alert(attempt, "cost_anomaly", at)
    if last is not None and tail_s > SILENCE.total_seconds():
        yield _alert(attempt, "stuck_agent", last + SILENCE)


def _is_full(times: deque[datetime], at: datetime, within: timedelta) -> bool:
    times.append(at)
    return len(times) == times.maxlen and times[-1] - times[0] <= within


def _alert(attempt: str, kind: str, at: datetime) -> dict[str, object]:
    return {"detector": "naive", "attempt_id": attempt, "type": kind, "timestamp": at.isoformat()}


def main() -> None:
    """Print what `score.py` says of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=Path, required=True)
    sessions = parser.parse_args().sessions.resolve()
    labels = sessions / "labels.tsv"
    with tempfile.TemporaryDirectory() as scratch:
        program, kept, others = (Path(scratch, name) for name in ("agentwatch", "agentwatch.jsonl", "naive.jsonl"))
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m agentwatch "$@"\n')
        program.chmod(0o755)
        evaluate = [sys.executable, str(sessions / "evaluate.py"), "--aw", str(program), "--labels", str(labels), "--keep", str(kept)]
        subprocess.run(evaluate, check=True, stdout=subprocess.DEVNULL)
        with labels.open() as file:
            tails = {row["file"]: float(row["tail_s"]) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
        others.write_text("".join(json.dumps(alert) + "\n" for name, tail_s in tails.items() for alert in naive(sessions / name, tail_s)))
        subprocess.run([sys.executable, str(sessions / "score.py"), str(kept), str(others), "--labels", str(labels), "--root", str(sessions)], check=True)


if __name__ == "__main__":
    main()
