"""What rules cost, how soon an issue can be seen, and what they find in logs in which nothing is wrong.

`python -m benchmarks.rules DIR…` looks for all rules in the logs below these directories, as a daemon would read them, and prints what it found: those who
know that nothing was wrong there learn what would have been told for nothing. Text without times is read as if each line had one.
"""

import gzip
import json
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_ISREG

from agentwatch.core.engine import Engine
from agentwatch.core.limits import Limits
from agentwatch.core.rules import Rules
from agentwatch.formats.registry import FORMATS, recognise
from agentwatch.model import NO_MEMORY, Issue
from agentwatch.rulebook import Shelf, shipped

WORDS = [
    "GET",
    "POST",
    "PUT",
    "user",
    "session",
    "cache",
    "worker",
    "queue",
    "task",
    "payment",
    "order",
    "shipment",
    "invoice",
    "query",
    "render",
    "template",
    "upload",
    "download",
    "retry",
    "token",
    "page",
    "index",
    "search",
    "filter",
]
STAMP = b"2026-01-01 00:00:00 "
MOST_LINE_BYTES = 8 << 20


def write_log(path: Path, megabytes: float) -> None:
    """A program's log: 80 % INFO, 1 % ERROR, none of which is a case of a rule."""
    dice = random.Random(7)
    at = datetime(2026, 2, 9, tzinfo=UTC)
    left = megabytes * 1e6
    with path.open("w") as out:
        while left > 0:
            at += timedelta(milliseconds=dice.randint(1, 400))
            level = dice.choices(["INFO", "DEBUG", "WARN", "ERROR"], [80, 15, 4, 1])[0]
            words = " ".join(dice.choices(WORDS, k=dice.randint(4, 14)))
            detail = f"id={dice.randrange(10**6)} took {dice.random() * 100:.2f} ms from 10.0.{dice.randrange(255)}.{dice.randrange(255)}"
            left -= out.write(f"{at.isoformat(timespec='milliseconds')} [{level}] {dice.choice(WORDS)}.service: {words} {detail}\n")


def issue_latencies(directory: Path, rounds: int) -> list[float]:
    """Seconds from the write of a failure to its issue being counted in the store, for one who looks there."""
    log = (directory / "runs" / "r1").joinpath("worker.log")
    log.parent.mkdir(parents=True)
    out = log.open("ab", buffering=0)
    found = []
    for number in range(rounds):
        time.sleep(0.02)
        out.write(f"{datetime.now(UTC).isoformat()} ERROR connect ECONNREFUSED 10.0.0.{number % 250}:5432\n".encode())
        written = time.perf_counter()
        while count_in(directory) <= number:
            if time.perf_counter() - written > 10:
                raise SystemExit(f"no issue for line {number} within 10 s")
            time.sleep(0.0005)
        found.append(time.perf_counter() - written)
    return found


def count_in(directory: Path) -> int:
    try:
        connection = sqlite3.connect(f"file:{directory}/.agentwatch/issues.db?mode=ro", uri=True)
    except sqlite3.Error:
        return 0
    try:
        return connection.execute("SELECT coalesce(sum(occurrences), 0) FROM issue").fetchone()[0]
    except sqlite3.Error:
        return 0
    finally:
        connection.close()


def texts(place: Path) -> Iterator[Path]:
    for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if S_ISREG(path.lstat().st_mode) and path.suffix not in (".db", ".xz", ".zip", ".png"):
            yield path


def lines_of(path: Path) -> list[bytes]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [] if b"\0" in data[:4096] else [line for line in data.splitlines(keepends=True) if len(line) <= MOST_LINE_BYTES]


def precision(rules: Rules, places: list[Path]) -> tuple[int, Counter[str], list[Issue]]:
    """How many bytes were read in which format, and what was found in them; each file is a run of its own."""
    read, by_format = 0, Counter[str]()
    found = []
    for path in (path for place in places for path in texts(place)):
        lines = lines_of(path)
        name = recognise(str(path), lines[:50])
        if name is None or (name == "plain-text" and not any(line[:4].strip(b'[(<"').isdigit() for line in lines[:50])):
            if lines and lines[0].lstrip()[:1] in (b"{", b"["):
                continue  # JSON of no format that is known
            name, lines = "plain-text", [STAMP + line for line in lines]
        engine = Engine(Limits(), lambda *_: None)
        engine.issues.rules = rules
        decoder = FORMATS[name].decoder(path.name, NO_MEMORY)
        decoder.read(lines, 0, lambda items, decoder=decoder, engine=engine, path=path: engine.feed(str(path), "", items, decoder, []), lambda *_: None)
        size = sum(map(len, lines))
        read += size
        by_format[name] += size
        found += engine.issues.all()
    return read, by_format, found


def main() -> int:
    places = [Path(one) for one in sys.argv[1:]]
    if not places:
        raise SystemExit("usage: python -m benchmarks.rules DIR…")
    rules = Rules(one.rule for one in Shelf([shipped()]).read().rules)
    began = time.perf_counter()
    read, by_format, found = precision(rules, places)
    print(f"{read / 1e6:.1f} MB in {time.perf_counter() - began:.1f} s: {', '.join(f'{name} {size / 1e6:.1f}' for name, size in by_format.most_common())}")
    print(f"issues: {dict(Counter(str(one.severity) for one in found))}, told: {dict(Counter(str(one.severity) for one in found if one.status == 'notified'))}")
    for (rule, severity), count in Counter((one.rule_id, str(one.severity)) for one in found).most_common():
        print(f"{count:5}  {severity:6}  {rule}")
    for one in found:
        print(json.dumps([str(one.severity), one.rule_id, one.sources[0], one.occurrences, one.samples[0].text]))
    return int(any(one.severity == "high" for one in found))


if __name__ == "__main__":
    sys.exit(main())
