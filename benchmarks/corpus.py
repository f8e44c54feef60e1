"""Seeded logs to measure with: canonical streams of any size and shape, written once and reused.

`python benchmarks/corpus.py OUT --megabytes 1000 --live 200` writes the corpus that `docs/performance.md` speaks of.
"""

import argparse
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

TOOLS = ("Bash", "Read", "Edit", "Grep", "Write", "Glob", "WebFetch", "TodoWrite")
EXECUTORS = (("CODEX", "gpt-5-codex"), ("CLAUDE", "claude-sonnet-4-5"), ("COPILOT", "gpt-5"))
ERRORS = ("git_push_failed", "test_failed", "type_error", "rate_limited", "file_not_found")
WORDS = ("refactor", "the", "module", "parser", "returns", "None", "when", "input", "is", "empty", "fix", "tests", "then", "push")
START = datetime(2026, 2, 9, 8, 0, tzinfo=UTC)


def attempt_events(rng: random.Random, number: int, events: int) -> Iterator[tuple[str, str]]:
    """The events of one attempt in order: (event type, JSON of `data`). About 30 of them is what an orchestrator's task has."""
    yield "session_start", '{"prompt":"%s","prompt_type":"initial"}' % _text(rng, 12)
    errors = rng.random() < 0.02
    for step in range(max(0, (events - 2) // 3)):
        tool = rng.choice(TOOLS)
        yield "agent_output", '{"output":"%s","stream_type":"stdout"}' % _text(rng, rng.randrange(4, 30))
        yield (
            "tool_call",
            '{"tool_name":"%s","tool_params":{"path":"/srv/app/src/file_%d.py","query":"%s"},"tool_call_id":"call_%d_%d"}'
            % (tool, rng.randrange(400), _text(rng, 3), number, step),
        )
        if errors or rng.random() < 0.03:
            yield (
                "error",
                '{"error_message":"%s","error_fingerprint":"%s","error_category":"tool"}'
                % (_text(rng, 8), ERRORS[number % 5] if errors else rng.choice(ERRORS)),
            )
        else:
            yield (
                "tool_result",
                '{"tool_name":"%s","tool_call_id":"call_%d_%d","is_error":false,"result":"%s"}' % (tool, number, step, _text(rng, rng.randrange(4, 30))),
            )
    cost = rng.lognormvariate(-1.2, 0.9)
    status = "success" if rng.random() < 0.9 else "failed"
    yield (
        "session_end",
        '{"completion_status":"%s","duration_ms":%d,"total_tokens":%d,"cost_usd":%.4f}' % (status, rng.randrange(10**6), rng.randrange(10**6), cost),
    )


def lines(seed: int, live: int, events_per_attempt: int, step_ms: int = 30, clock: Callable[[], datetime] | None = None) -> Iterator[bytes]:
    """An endless canonical stream: `live` attempts interleaved at random, each replaced by a new one as it ends; with `clock` its times are those of now."""
    rng = random.Random(seed)
    now, number = START, 0
    running: list[tuple[str, Iterator[tuple[str, str]]]] = []
    while True:
        now = clock() if clock is not None else now + timedelta(milliseconds=rng.randrange(2 * step_ms))
        if len(running) < live:
            executor, model = rng.choice(EXECUTORS)
            head = '"attempt_id":"ve-%05x-%s","session_id":"s-%08x","executor":"%s","model":"%s","task_id":"task-%d","event_type":"' % (
                number,
                rng.choice(WORDS),
                rng.randrange(2**32),
                executor,
                model,
                number // 2,
            )
            running.append((head, attempt_events(rng, number, events_per_attempt)))
            number += 1
            index = len(running) - 1
        else:
            index = rng.randrange(live)
        head, events = running[index]
        event = next(events, None)
        if event is None:
            running[index] = running[-1]
            running.pop()
            continue
        stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        yield b'{"timestamp":"%b",%b%b","data":%b}\n' % (stamp.encode(), head.encode(), event[0].encode(), event[1].encode())


def write(path: Path, *, megabytes: float, live: int = 200, events_per_attempt: int = 30, seed: int = 1) -> None:
    """Write about `megabytes` (10**6 bytes) of such a stream to `path`."""
    left = int(megabytes * 10**6)
    with path.open("wb", buffering=1 << 20) as out:
        for line in lines(seed, live, events_per_attempt):
            out.write(line)
            left -= len(line)
            if left <= 0:
                return


def _text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--live", type=int, default=200)
    parser.add_argument("--events-per-attempt", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    write(options.out, megabytes=options.megabytes, live=options.live, events_per_attempt=options.events_per_attempt, seed=options.seed)
