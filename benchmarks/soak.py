"""`make soak`: the daemon and its notifier for an hour at 500 events a second, with rotations and a Telegram that fails.

What is written goes into a second file too, which nobody rotates; at the end that one is read by `run --once`, and both must tell of the same incidents.
Memory, open files and CPU are sampled and must be flat: the last quarter of the time no more than a tenth above the second.

`python -m benchmarks.soak --minutes 3` is a short form. The figures stand in docs/reliability.md.
"""

import argparse
import gzip
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks import corpus
from benchmarks.notifier import TOKEN, BotApi

LIVE = 50
EVENTS_PER_ATTEMPT = 180
"""500 events a second for an hour are 10,000 sessions."""

ROTATE_S, SAMPLE_S, SETTLE_S = 60.0, 10.0, 120.0
FAULTS = ("ok", "ok", "ok", "ok", "cut", "500", "502", "429")
MORE_AT_MOST = 1.10
"""What a figure of the last quarter may be, against the second quarter."""


class Sample(NamedTuple):
    """RSS in MB, open files, and the share of a core since the sample before."""

    rss_mb: float
    files: int
    cpu: float


class Watched:
    """A process and what it took so far."""

    def __init__(self, process: psutil.Process) -> None:
        self.process = process
        self.samples: list[Sample] = []
        self._cpu_s, self._at = sum(process.cpu_times()[:2]), time.monotonic()

    def sample(self) -> None:
        cpu_s, at = sum(self.process.cpu_times()[:2]), time.monotonic()
        share = (cpu_s - self._cpu_s) / (at - self._at)
        self._cpu_s, self._at = cpu_s, at
        self.samples.append(Sample(self.process.memory_info().rss / 1e6, self.process.num_fds(), share))

    def quarters(self) -> list[Sample]:
        """The median of each quarter of the time."""
        size = max(1, len(self.samples) // 4)
        parts = [self.samples[start : start + size] for start in range(0, 4 * size, size)]
        return [Sample(*(statistics.median(column) for column in zip(*part, strict=True))) for part in parts if part]


class Writer:
    """Appends to the stream as an orchestrator does, `per_s` lines a second, and rotates it: by rename and gzip, or by copy and truncate."""

    def __init__(self, log: Path, reference: Path, per_s: int) -> None:
        self.log, self.per_s = log, per_s
        self.written = 0
        self._lines = corpus.lines(1, LIVE, EVENTS_PER_ATTEMPT, clock=lambda: datetime.now(UTC))
        self._out = log.open("ab", buffering=0)
        self._reference = reference.open("ab", buffering=0)
        self.rotations = 0
        self._renamed: Path | None = None

    def write(self, count: int) -> None:
        for line in (next(self._lines) for _ in range(count)):
            self._out.write(line)
            self._reference.write(line)
        self.written += count

    def rotate(self) -> None:
        self.rotations += 1
        target = self.log.with_name(f"{self.log.name}.{self.rotations}")
        if self._renamed is not None:  # an hour is short for `delaycompress`: the one before
            packed = self._renamed.with_name(f"{self._renamed.name}.gz")
            with self._renamed.open("rb") as plain, gzip.open(packed, "wb", compresslevel=1) as out:
                shutil.copyfileobj(plain, out)
            self._renamed.unlink()
            self._renamed = None
        if self.rotations % 2:
            self.log.rename(target)
            self._renamed = target
            self._out.close()
            self._out = self.log.open("ab", buffering=0)
        else:
            shutil.copyfile(self.log, target)
            os.ftruncate(self._out.fileno(), 0)
        for old in sorted(self.log.parent.glob(f"{self.log.name}.*"), key=lambda path: path.stat().st_mtime)[:-5]:
            old.unlink()


@contextmanager
def watching(folder: Path, api: BotApi) -> Iterator[tuple[Watched, Watched]]:
    """The daemon and the notifier that it starts."""
    environ = {
        **os.environ,
        "AGENTWATCH_SOURCES": "none",
        "AGENTWATCH_TELEGRAM_TOKEN": TOKEN,
        "AGENTWATCH_TELEGRAM_CHATS": "7",
        "AGENTWATCH_TELEGRAM_BASE_URL": api.url,
    }
    command = [sys.executable, "-m", "agentwatch", "run", "--with-notify", "--log-dir", str(folder)]
    with (folder.parent / "daemon.txt").open("wb") as said:
        process = psutil.Popen(command, env=environ, stdout=said, stderr=said)
        try:
            while not (children := process.children()):
                time.sleep(0.1)
            time.sleep(5)
            yield Watched(process), Watched(children[0])
        finally:
            process.terminate()
            process.wait(60)


def incidents(alerts: Path) -> Counter[tuple[str, str]]:
    """How many episodes of each type each attempt had. Silences are left out: how long the machine made the writer wait is not in the log."""
    lines = map(json.loads, alerts.read_bytes().splitlines())
    return Counter((line["type"], line["attempt_id"]) for line in lines if line["status"] == "open" and line["type"] != "stuck_agent")


def status(folder: Path) -> dict:
    done = subprocess.run([sys.executable, "-m", "agentwatch", "status", "--json", "--log-dir", str(folder)], capture_output=True, check=False)
    return json.loads(done.stdout)


def soak(minutes: float, per_s: int) -> list[str]:
    """What was wrong; the figures are printed."""
    rng = random.Random(1)
    api = BotApi()
    api.choose = lambda: rng.choice(FAULTS)
    with tempfile.TemporaryDirectory(prefix="agentwatch-soak-") as scratch:
        folder, other = Path(scratch, "logs"), Path(scratch, "reference")
        folder.mkdir()
        other.mkdir()
        writer = Writer(folder / "agent-work-stream.jsonl", other / "agent-work-stream.jsonl", per_s)
        with watching(folder, api) as watched:
            began = time.monotonic()
            rotate_at, sample_at = began + ROTATE_S, began + SAMPLE_S
            while (now := time.monotonic()) < began + 60 * minutes:
                writer.write(max(0, int((now - began) * per_s) - writer.written))
                if now >= rotate_at:
                    rotate_at += ROTATE_S
                    writer.rotate()
                if now >= sample_at:
                    sample_at += SAMPLE_S
                    for one in watched:
                        one.sample()
                time.sleep(0.02)
            wrong = _settled(folder, api, writer)
        wrong += _compared(folder, other)
        wrong += [fault for name, one in zip(("daemon", "notifier"), watched, strict=True) for fault in _flat(name, one)]
        print(f"{writer.written} lines in {minutes:g} minutes, {writer.rotations} rotations, {len(api.requests)} requests at the Bot API")
        print((Path(scratch) / "daemon.txt").read_text("utf-8", "replace")[-2000:], file=sys.stderr)
    api.close()
    return wrong


def _settled(folder: Path, api: BotApi, writer: Writer) -> list[str]:
    """Whether everything was read, once, and everything told."""
    api.choose = lambda: "ok"
    deadline = time.monotonic() + SETTLE_S
    while (events := status(folder)["events_total"]) < writer.written and time.monotonic() < deadline:
        time.sleep(1)
    found = [] if events == writer.written else [f"{writer.written} lines were written, {events} read"]
    quiet = -1
    while quiet != len(api.requests) and time.monotonic() < deadline:
        quiet = len(api.requests)
        time.sleep(20)
    return found if quiet == len(api.requests) else [*found, "the notifier has not come to rest"]


def _compared(folder: Path, other: Path) -> list[str]:
    environ = {**os.environ, "AGENTWATCH_SOURCES": "none"}
    subprocess.run([sys.executable, "-m", "agentwatch", "run", "--once", "--log-dir", str(other)], env=environ, capture_output=True, check=True)
    ids = [json.loads(line)["alert_id"] for line in (folder / "agent-alerts.jsonl").read_bytes().splitlines()]
    told, wanted = incidents(folder / "agent-alerts.jsonl"), incidents(other / "agent-alerts.jsonl")
    print(f"{len(ids)} alerts, {told.total()} incidents; a later reading of the same lines finds {wanted.total()}")
    found = [f"told, and not in a later reading: {sorted(told - wanted)[:5]}"] if told - wanted else []
    found += [f"not told: {sorted(wanted - told)[:5]}"] if wanted - told else []
    return found + ([f"{len(ids) - len(set(ids))} alerts stand there twice"] if len(set(ids)) != len(ids) else [])


def _flat(name: str, watched: Watched) -> list[str]:
    quarters = watched.quarters()
    for title, column in zip(("RSS, MB", "open files", "CPU, % of a core"), range(3), strict=True):
        figures = [100 * quarter[column] if column == 2 else quarter[column] for quarter in quarters]
        print(f"{name}: {title}: {', '.join(f'{figure:.1f}' for figure in figures)}")
    early, late = quarters[1], quarters[-1]
    return [
        f"{name}: {title} went from {before:.3g} to {after:.3g}"
        for title, before, after in zip(("RSS", "open files", "CPU"), early, late, strict=True)
        if after > MORE_AT_MOST * before + (1 if title == "open files" else 0.01 if title == "CPU" else 1)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--per-s", type=int, default=500)
    options = parser.parse_args()
    wrong = soak(options.minutes, options.per_s)
    print("\n".join(wrong) if wrong else "nothing was lost, nothing told twice, nothing grows")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
