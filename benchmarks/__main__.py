"""`make bench`: the figures of docs/performance.md, measured on this machine.

`python -m benchmarks` runs all at a tenth of their size, `--full` at the sizes that the project promises, or name some:
`python -m benchmarks catch_up latency`. Ratios are of CPU time in one run, against a loop that only reads lines and calls
`orjson.loads`, run before and after: on a noisy machine look at those.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks import ask as questions
from benchmarks import console, corpus, history, notifier, rules, search, transcripts

BARE = "import orjson, sys\nfor line in open(sys.argv[1], 'rb', buffering=1 << 20): orjson.loads(line)"
QUIET = {"AGENTWATCH_SOURCES": "none", "AGENT_STUCK_THRESHOLD_MS": "86400000"}
"""Of the log directory alone, and without alerts about silence."""

DATA = Path(__file__).parent / "data"


def cpu_and_peak(command: list[str], **options: object) -> tuple[float, float]:
    """CPU seconds (user and system) of a process that succeeded, and the most memory it held, in MB."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def made(name: str, write: Callable[[Path], None]) -> Path:
    """A corpus, written once and kept."""
    DATA.mkdir(exist_ok=True)
    path = DATA / name
    if not path.exists():
        write(path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return path


@contextmanager
def log_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="agentwatch-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def once(source: Path, name: str, *arguments: str) -> tuple[float, float]:
    with log_dir() as directory:
        os.link(source, directory / name) if source.stat().st_dev == directory.stat().st_dev else shutil.copy(source, directory / name)
        return cpu_and_peak([sys.executable, "-m", "agentwatch", "run", "--once", "--log-dir", str(directory), *arguments], env={**os.environ, **QUIET})


def ratio(source: Path, name: str, rounds: int) -> str:
    """Median over rounds of (CPU of `run --once`) / (mean CPU of the bare loop before and after)."""
    ratios, peaks, speeds = [], [], []
    megabytes = source.stat().st_size / 1e6
    for _ in range(rounds):
        before, _ = cpu_and_peak([sys.executable, "-c", BARE, str(source)])
        ours, peak = once(source, name)
        after, _ = cpu_and_peak([sys.executable, "-c", BARE, str(source)])
        ratios.append(2 * ours / (before + after))
        peaks.append(peak)
        speeds.append(megabytes / ours)
    return f"{statistics.median(ratios):.2f} x bare orjson (best {min(ratios):.2f}), {statistics.median(speeds):.0f} MB per CPU second, peak RSS {max(peaks):.0f} MB, {megabytes:.0f} MB read"


def catch_up(scale: float) -> str:
    """Backlog of a canonical stream, 200 attempts live at once."""
    size = 1000 * scale
    return ratio(made(f"canonical-{size:.0f}.jsonl", lambda path: corpus.write(path, megabytes=size)), "agent-work-stream.jsonl", 3)


def catch_up_transcripts(scale: float) -> str:
    """Backlog of a Claude Code transcript."""
    size = 500 * scale
    return ratio(made(f"claude-{size:.0f}.jsonl", lambda path: transcripts.write(path, megabytes=size)), "session.jsonl", 3)


def flat(scale: float) -> str:
    """CPU per event: one attempt, 200 live, and many in sequence."""
    size = 400 * scale
    shapes = {"1 attempt": (1, 10**9), "200 live": (200, 30), "one after another": (1, 27)}
    rows = []
    for name, (live, events) in shapes.items():
        source = made(
            f"flat-{live}-{events}-{size:.0f}.jsonl",
            lambda path, live=live, events=events: corpus.write(path, megabytes=size, live=live, events_per_attempt=events),
        )
        rows.append(f"{name}: {ratio(source, 'agent-work-stream.jsonl', 1)}")
    return "; ".join(rows)


@contextmanager
def daemon(directory: Path, environ: Mapping[str, str] = os.environ) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        [sys.executable, "-m", "agentwatch", "run", "--log-dir", str(directory)], env={**environ, **QUIET}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    if "watching" not in process.stderr.readline():
        raise SystemExit("the daemon did not start")
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


def error(attempt: str) -> bytes:
    return (
        json.dumps(
            {
                "timestamp": datetime.now(UTC).isoformat(),
                "attempt_id": attempt,
                "event_type": "error",
                "data": {"error_fingerprint": "x", "error_message": "boom"},
            }
        ).encode()
        + b"\n"
    )


def quantiles(latencies: list[float]) -> str:
    ordered = sorted(latencies)
    p50, p95, p99 = (1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95, 0.99))
    return f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms ({len(ordered)} alerts)"


def alert_latencies(directory: Path, rounds: int, *, background: Callable[[], None] = lambda: None) -> list[float]:
    """Seconds from the write of an attempt's fourth error to its alert standing in the file."""
    alerts = directory / "agent-alerts.jsonl"
    probe = (directory / "probe.jsonl").open("ab", buffering=0)
    found: list[float] = []
    for number in range(rounds):
        background()
        attempt = f"probe-{number}"
        for _ in range(3):
            probe.write(error(attempt))
        time.sleep(0.02)
        probe.write(error(attempt))
        written = time.perf_counter()
        wanted = f'"attempt_id":"{attempt}"'.encode()
        while not (alerts.exists() and wanted in alerts.read_bytes()[-4000:]):
            if time.perf_counter() - written > 10:
                raise SystemExit(f"no alert for {attempt} within 10 s")
            time.sleep(0.0003)
        found.append(time.perf_counter() - written)
    return found


def latency(scale: float) -> str:
    """Append to alert on disk: 500 watched files, 1,000 lines a second beside."""
    with log_dir() as directory:
        files = [(directory / f"agent-{number}.jsonl").open("ab", buffering=0) for number in range(500)]
        filler = b'{"timestamp":"%s","attempt_id":"busy-%d","event_type":"agent_output","data":{"output":"working"}}\n'
        position = 0

        def write_some() -> None:
            nonlocal position
            stamp = datetime.now(UTC).isoformat().encode()
            for _ in range(25):
                files[position % 500].write(filler % (stamp, position % 500))
                position += 1

        with daemon(directory):
            return quantiles(alert_latencies(directory, int(1000 * scale), background=write_some))


def behind(scale: float) -> str:
    """A live file's latency while another is 300 MB behind."""
    size = 300 * scale
    source = made(f"canonical-{size:.0f}.jsonl", lambda path: corpus.write(path, megabytes=size))
    with log_dir() as directory, daemon(directory):
        alert_latencies(directory, 3)
        shutil.copy(source, directory / "backlog.log")
        (directory / "backlog.log").rename(directory / "backlog.jsonl")
        end = time.monotonic() + 4 * scale + 0.5
        found: list[float] = []
        number = 0
        probe = (directory / "live.jsonl").open("ab", buffering=0)
        alerts = directory / "agent-alerts.jsonl"
        while time.monotonic() < end:
            number += 1
            probe.write(error(f"live-{number}") * 4)
            written = time.perf_counter()
            wanted = f'"attempt_id":"live-{number}"'.encode()
            while wanted not in alerts.read_bytes()[-40000:]:
                time.sleep(0.0003)
            found.append(time.perf_counter() - written)
        return quantiles(found)


def idle(scale: float) -> str:
    """10,000 files in 500 directories that nobody writes to."""
    with log_dir() as directory:
        for number in range(int(10_000 * scale)):
            folder = directory / "runs" / f"r{number % max(1, int(500 * scale))}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"agent-{number}.jsonl").write_bytes(error(f"a{number}"))
        with daemon(directory) as process:
            time.sleep(5)
            before, began = sum(process.cpu_times()[:2]), time.monotonic()
            time.sleep(60 * max(scale, 0.5))
            share = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
            return f"{100 * share:.2f} % of a core, RSS {process.memory_info().rss / 1e6:.0f} MB"


def many_live(scale: float) -> str:
    """100,000 attempts live at once, and after they have ended."""
    count = int(100_000 * scale)
    with log_dir() as directory, daemon(directory) as process:
        empty = process.memory_info().rss / 1e6
        with (directory / "agent-work-stream.jsonl").open("wb") as out:
            stamp = datetime.now(UTC).isoformat()
            for event, data in (
                ("session_start", '{"prompt_type":"initial"}'),
                ("tool_call", '{"tool_name":"Bash","tool_call_id":"c","tool_params":{"command":"make test"}}'),
                ("tool_result", '{"tool_call_id":"c","is_error":false,"result":"ok"}'),
                ("agent_output", '{"output":"working on it"}'),
            ):
                for number in range(count):
                    out.write(
                        b'{"timestamp":"%b","attempt_id":"attempt-%d","executor":"CODEX","model":"gpt-5","task_id":"task-%d","event_type":"%b","data":%b}\n'
                        % (stamp.encode(), number, number, event.encode(), data.encode())
                    )
            out.flush()
            live = settled(process, directory, 4 * count)
            for number in range(count):
                out.write(
                    b'{"timestamp":"%b","attempt_id":"attempt-%d","event_type":"session_end","data":{"completion_status":"success"}}\n'
                    % (stamp.encode(), number)
                )
        ended = settled(process, directory, 5 * count)
        return f"{empty:.0f} MB empty, {live:.0f} MB with {count} live attempts, {ended:.0f} MB when they have ended"


def settled(process: psutil.Process, directory: Path, events: int) -> float:
    """RSS in MB once the checkpoint has counted so many events."""
    end = time.monotonic() + 120
    wanted = f'"events":{events}'.encode()
    while wanted not in (directory / ".agentwatch" / "checkpoint.json").read_bytes():
        if time.monotonic() > end:
            raise SystemExit(f"{events} events were not counted within two minutes")
        time.sleep(0.2)
    return process.memory_info().rss / 1e6


@contextmanager
def bytecode() -> Iterator[dict[str, str]]:
    """An environment in which Python keeps what it has compiled, as every installation does."""
    with log_dir() as directory:
        yield {**{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}, "PYTHONPYCACHEPREFIX": str(directory)}


def start(scale: float) -> str:
    """From exec to watching, and `--help`, without backlog, and with the bytecode that every installation has."""
    watching, helping = [], []
    with bytecode() as compiled:
        for _ in range(1 + max(5, int(100 * scale))):  # the first compiles
            with log_dir() as directory:
                began = time.perf_counter()
                with daemon(directory, compiled):
                    watching.append(time.perf_counter() - began)
            began = time.perf_counter()
            subprocess.run([sys.executable, "-m", "agentwatch", "--help"], check=True, stdout=subprocess.DEVNULL, env=compiled)
            helping.append(time.perf_counter() - began)
    watching, helping = watching[1:], helping[1:]
    return f"watching after {1000 * statistics.median(watching):.0f} ms (best {1000 * min(watching):.0f}), --help {1000 * statistics.median(helping):.0f} ms (best {1000 * min(helping):.0f})"


def tail(scale: float) -> str:
    """The live console, its lines as JSON and for people, and next to none of them, beside 5,000 events a second of 200 attempts."""
    shown = []
    for arguments in ((), ("--json",), ("--plain",), ("--json", "--type", "error")):
        with log_dir() as directory:
            shown.append(f"{' '.join(arguments) or 'console'}: {console.watched(directory, {**os.environ, **QUIET}, max(60 * scale, 10), *arguments)}")
    return "; ".join(shown)


def notify(scale: float) -> str:
    """From an alert in the file to the request at Telegram's API, and what the notifier costs while nothing can be sent."""
    return f"{quantiles(notifier.to_request(scale))}; {notifier.without_network(scale)}"


def ask(scale: float) -> str:
    """A question over 1 GB of logs: all but the model's own time and loading, loading alone (libraries, vocabulary), and the whole process."""
    with log_dir() as directory:
        questions.fill(directory, 1000 * scale)
        return questions.asked(directory, QUIET, 10)


def summary(scale: float) -> str:
    """30 days and 17,000 sessions from the store, start-up included, while a daemon watches; beside what `--help` takes."""
    found: dict[str, list[float]] = {"summary": [], "--help": []}
    with log_dir() as directory, bytecode() as compiled:
        history.write_rows(directory / "agent-metrics.jsonl", sessions=int(17_000 * scale), days=30)
        with daemon(directory, {**os.environ, "AGENTWATCH_RETENTION_AUTOMATIC": "false"}):
            for number in range(1 + max(5, int(20 * scale))):  # the first compiles
                for name, arguments in (("--help", ()), ("summary", ("--days", "30", "--log-dir", str(directory)))):
                    began = time.perf_counter()
                    cpu_and_peak([sys.executable, "-m", "agentwatch", name, *arguments], env={**compiled, **QUIET})
                    if number:
                        found[name].append(1000 * (time.perf_counter() - began))
    return "; ".join(f"{name} {statistics.median(took):.0f} ms (best {min(took):.0f})" for name, took in found.items())


def rebuild(scale: float) -> str:
    """`summary --rebuild` of a canonical stream with all cores, beside DuckDB's `read_json` grouping the same by attempt."""
    size = 1000 * scale
    source = made(f"canonical-{size:.0f}.jsonl", lambda path: corpus.write(path, megabytes=size))
    duck = [sys.executable, "-c", history.DUCKDB, str(source)]
    ours, theirs, peaks = [], [], []
    for _ in range(3):
        with log_dir() as directory:
            shutil.copy(source, directory / "agent-work-stream.jsonl")
            began = time.perf_counter()
            _, peak = cpu_and_peak([sys.executable, "-m", "agentwatch", "summary", "--rebuild", "--log-dir", str(directory)], env={**os.environ, **QUIET})
            ours.append(time.perf_counter() - began)
            peaks.append(peak)
        if history.has_duckdb():
            began = time.perf_counter()
            cpu_and_peak(duck)
            theirs.append(time.perf_counter() - began)
    beside = f"DuckDB {statistics.median(theirs):.1f} s" if theirs else "DuckDB is not installed"
    return f"{statistics.median(ours):.1f} s wall, {size / statistics.median(ours):.0f} MB/s, peak RSS {max(peaks):.0f} MB; {beside}"


def issues(scale: float) -> str:
    """From a failure written to a program's log to its issue in the store; and a program's log with all rules, beside the same without any."""
    with log_dir() as directory, daemon(directory):
        seen = quantiles(rules.issue_latencies(directory, int(1000 * scale)))
    source = made(f"program-{100 * scale:.0f}.log", lambda path: rules.write_log(path, 100 * scale))
    ratios = []
    for _ in range(3):
        with_rules, _ = once(source, "worker.log")
        os.environ["AGENTWATCH_RULES_OFF"] = "all"
        without, _ = once(source, "worker.log")
        del os.environ["AGENTWATCH_RULES_OFF"]
        ratios.append(with_rules / without)
    return f"{seen.replace('alerts', 'issues')}; {statistics.median(ratios):.2f} x without rules (best {min(ratios):.2f})"


def raw(scale: float) -> str:
    """`raw --grep` beside `grep` and `rg`."""
    size = 1000 * scale
    return search.compared(made(f"plain-{size:.0f}.log", lambda path: search.write(path, size)))


BENCHMARKS: dict[str, Callable[[float], str]] = {
    one.__name__: one
    for one in (catch_up, catch_up_transcripts, flat, latency, behind, idle, many_live, start, tail, notify, issues, ask, summary, rebuild, raw)
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--full", action="store_true", help="the sizes that the project promises its figures for")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark `{unknown[0]}`; known are {', '.join(BENCHMARKS)}")
    for name in options.names or BENCHMARKS:
        print(f"{name:22} {BENCHMARKS[name](1.0 if options.full else 0.1)}", flush=True)


if __name__ == "__main__":
    main()
