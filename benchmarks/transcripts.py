"""Seeded Claude Code transcripts to measure with: the line types and line lengths of real ones, one session after another.

`python benchmarks/transcripts.py OUT --megabytes 1000` writes a corpus whose lines have p50 850 B, p90 9 kB and p99 51 kB.
"""

import argparse
import bisect
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

TOOLS = ("Bash", "Read", "Edit", "Grep", "Write", "Glob", "WebFetch", "TodoWrite")
WORDS = ("refactor", "the", "module", "parser", "returns", "None", "when", "input", "is", "empty", 'a "quoted" word', "path/to", "né", "then\n")
START = datetime(2026, 2, 9, 8, 0, tzinfo=UTC)

# Percentiles of the line lengths of 1 GB of real transcripts (229,855 lines).
LENGTHS = ((0.0, 250), (0.5, 850), (0.9, 9_000), (0.99, 51_000), (0.9999, 250_000), (1.0, 1_190_000))


def session(rng: random.Random, number: int, messages: int) -> Iterator[bytes]:
    """Write the lines of one session: a prompt, then messages of thinking, text and calls with their results, and the turn's end."""
    sid = _uuid(rng)
    now = START + timedelta(hours=number)
    text = _Text(rng)

    def line(kind: str, **fields: object) -> bytes:
        nonlocal now
        now += timedelta(milliseconds=rng.randrange(4000))
        stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = {
            "parentUuid": _uuid(rng),
            "isSidechain": False,
            "userType": "external",
            "cwd": "/srv/app",
            "sessionId": sid,
            "version": "2.1.81",
            "gitBranch": "main",
        }
        return json.dumps({**head, "type": kind, **fields, "uuid": _uuid(rng), "timestamp": stamp}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    yield (
        json.dumps({"type": "file-history-snapshot", "messageId": _uuid(rng), "snapshot": {"trackedFileBackups": {}}, "isSnapshotUpdate": False}).encode()
        + b"\n"
    )
    yield line("user", message={"role": "user", "content": text(400)})
    for step in range(messages):
        name, call = rng.choice(TOOLS), f"toolu_{number}_{step}"
        last = step == messages - 1
        blocks: list[dict[str, object]] = [{"type": "thinking", "thinking": text(), "signature": "Ab3+" * 90}] if rng.random() < 0.3 else []
        if last or rng.random() < 0.4:
            blocks.append({"type": "text", "text": text()})
        if not last:
            blocks.append(
                {"type": "tool_use", "id": call, "name": name, "input": {"file_path": f"/srv/app/src/file_{rng.randrange(400)}.py", "old_string": text()}}
            )
        usage = {
            "input_tokens": 3,
            "cache_creation_input_tokens": rng.randrange(3000),
            "cache_read_input_tokens": 20_000 + 900 * step,
            "output_tokens": rng.randrange(20, 900),
            "service_tier": "standard",
        }
        message = {
            "model": "claude-sonnet-4-5-20250929",
            "id": f"msg_{number}_{step}",
            "type": "message",
            "role": "assistant",
            "stop_sequence": None,
            "usage": usage,
        }
        for block in blocks:
            yield line(
                "assistant", message={**message, "content": [block], "stop_reason": "end_turn" if last else "tool_use"}, requestId=f"req_{number}_{step}"
            )
        if last:
            break
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            yield line("progress", data={"type": "bash_progress", "output": text(300), "elapsedTimeSeconds": 3}, toolUseID=call)
        output = text(copies=2)
        failed = rng.random() < 0.045
        result = {"type": "tool_result", "tool_use_id": call, "content": f"Exit code 1\n{output}" if failed else output, "is_error": failed}
        yield line("user", message={"role": "user", "content": [result]}, toolUseResult={"stdout": output, "stderr": "", "interrupted": False})
    yield line("system", subtype="turn_duration", durationMs=48_884, isMeta=False)


def write(path: Path, *, megabytes: float, seed: int = 1) -> None:
    """Write about `megabytes` (10**6 bytes) of transcripts of 10 to 200 messages each to `path`."""
    rng = random.Random(seed)
    left = int(megabytes * 10**6)
    number = 0
    with path.open("wb", buffering=1 << 20) as out:
        while True:
            for line in session(rng, number, rng.randrange(10, 200)):
                out.write(line)
                left -= len(line)
                if left <= 0:
                    return
            number += 1


class _Text:
    """Texts of realistic length, cut from one long one: making each of words would take longer than what is measured."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.pool = " ".join(rng.choices(WORDS, k=20_000))

    def __call__(self, length: int | None = None, copies: int = 1) -> str:
        if length is None:
            # The envelope takes some 500 bytes, and escapes lengthen the text.
            length = max(10, int((_quantile(self.rng.random()) - 500) / copies / 1.12))
        start = self.rng.randrange(1000)
        return (self.pool[start:] * (1 + length // (len(self.pool) - start)))[:length]


def _quantile(share: float) -> int:
    index = min(bisect.bisect_right(LENGTHS, (share, float("inf"))), len(LENGTHS) - 1)
    (low, short), (high, long) = LENGTHS[index - 1], LENGTHS[index]
    return int(short * (long / short) ** ((share - low) / (high - low)))


def _uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    write(options.out, megabytes=options.megabytes, seed=options.seed)
