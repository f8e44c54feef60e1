"""`agentwatch tail` beside a stream of 5,000 events a second: what it costs, and by how much it is behind."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks import corpus

EVENTS_PER_S = 5000
BATCH_S = 0.02
MARKER = b"ZQXJKVZQXJKV"
PATIENCE_S = 20.0
SETTLE_S = 3.0


def write(path: Path, seconds: float, written: list[int]) -> None:
    """Events of 200 attempts as they happen, for so long; `written` has their number at any time. The last one says the marker."""
    lines = corpus.lines(1, 200, 30)
    began = time.monotonic()
    with path.open("ab", buffering=0) as out:
        while (elapsed := time.monotonic() - began) < seconds:
            due = int(EVENTS_PER_S * elapsed) - written[0]
            out.write(b"".join(_now(next(lines)) for _ in range(due)))
            written[0] += due
            time.sleep(BATCH_S)
        out.write(_now(b'{"timestamp":"","attempt_id":"last","event_type":"error","data":{"error_message":"%b"}}\n' % MARKER))


def _now(line: bytes) -> bytes:
    return b'{"timestamp":"%b"%b' % (datetime.now(UTC).isoformat().encode(), line[line.index(b",") :])


def watched(directory: Path, environ: dict[str, str], seconds: float, *arguments: str) -> str:
    """CPU time of `tail`, as a share of the time in which the events were written, on a terminal of 200 x 60, or into a pipe where it has `arguments`, and how long after its writing the last event was shown."""
    stream = directory / "agent-work-stream.jsonl"
    stream.touch()
    ours, theirs = os.pipe() if arguments else pty.openpty()
    if not arguments:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
    command = [sys.executable, "-m", "agentwatch", "tail", "--log-dir", str(directory), *arguments]
    stdin = subprocess.DEVNULL if arguments else theirs
    process = subprocess.Popen(command, stdin=stdin, stdout=theirs, stderr=subprocess.DEVNULL, env={**environ, "TERM": "xterm-256color"})
    os.close(theirs)
    written = [0]
    writer = threading.Thread(target=write, args=(stream, seconds + SETTLE_S, written))
    try:
        _drain(ours, SETTLE_S)
        writer.start()
        _drain(ours, SETTLE_S)
        looked = psutil.Process(process.pid)
        before, events, since = sum(looked.cpu_times()[:2]), written[0], time.monotonic()
        shown = b""
        while writer.is_alive():
            shown = shown[-1000:] + _drain(ours, 0.05)  # the last event may be shown before its writer has ended
        ended = time.monotonic()
        took = ended - since
        rate = (written[0] - events) / took
        while MARKER not in shown:
            if time.monotonic() - ended > PATIENCE_S:
                raise SystemExit(f"the last event was not shown within {PATIENCE_S:.0f} s")
            shown = shown[-1000:] + _drain(ours, 0.02)
        lag = time.monotonic() - ended
        # All that these events cost, also what is behind when the last one is written: on a busy machine it only comes later.
        share = (sum(looked.cpu_times()[:2]) - before) / took
        return (
            f"{100 * share:.0f} % of a core at {rate:,.0f} events/s, the last one shown after {1000 * lag:.0f} ms, RSS {looked.memory_info().rss / 1e6:.0f} MB"
        )
    finally:
        process.terminate()
        process.wait(20)
        os.close(ours)


def _drain(fd: int, seconds: float) -> bytes:
    """What comes out within so long."""
    end, found = time.monotonic() + seconds, b""
    while (left := end - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            found += os.read(fd, 1 << 16)
    return found
