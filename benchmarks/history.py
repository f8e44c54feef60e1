"""A store of finished sessions to measure reports with, and DuckDB's way to the same figures."""

import importlib.util
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.corpus import ERRORS, EXECUTORS

DUCKDB = """
import duckdb, sys
print(len(duckdb.sql(f'''
    select attempt_id, any_value(executor), any_value(model), any_value(task_id), min(timestamp), max(timestamp), count(*),
           count(*) filter (where event_type = 'tool_call'), count(*) filter (where event_type = 'error'),
           histogram(data->>'error_fingerprint') filter (where event_type = 'error'),
           max(data->>'completion_status'), max(cast(data->>'cost_usd' as double)), max(cast(data->>'total_tokens' as bigint)), max(cast(data->>'duration_ms' as double))
    from read_json('{sys.argv[1]}', format = 'newline_delimited', ignore_errors = true, maximum_object_size = 67108864,
        columns = {{timestamp: 'timestamp', attempt_id: 'varchar', event_type: 'varchar', executor: 'varchar', model: 'varchar', task_id: 'varchar', data: 'json'}})
    group by attempt_id''').fetchall()))
"""


def has_duckdb() -> bool:
    return importlib.util.find_spec("duckdb") is not None


def write_rows(path: Path, *, sessions: int, days: float, seed: int = 1) -> None:
    """So many finished sessions in the days up to now, as the daemon stores them."""
    rng = random.Random(seed)
    now = datetime.now(UTC)
    rows = []
    for number in range(sessions):
        end = now - timedelta(days=days) * rng.random()
        lasted_ms = round(rng.lognormvariate(12.5, 1))
        executor, model = rng.choice(EXECUTORS)
        status = "success" if rng.random() < 0.9 else "failed"
        kinds = [
            {
                "cluster": name,
                "count": rng.randrange(1, 5),
                "sample_message": f"error: {name}",
                "error_category": "git",
                "first_seen": end.isoformat(),
                "last_seen": end.isoformat(),
            }
            for name in rng.sample(ERRORS, rng.choice((0, 0, 1, 2)))
        ]
        tokens = {
            name: rng.randrange(most)
            for name, most in (("input", 50_000), ("output", 20_000), ("cache_read", 900_000), ("cache_write", 40_000), ("reasoning", 1))
        }
        errors = sum(kind["count"] for kind in kinds)
        rows.append({
            "timestamp": end.isoformat(), "attempt_id": f"ve-{number:05x}", "started_at": (end - timedelta(milliseconds=lasted_ms)).isoformat(),
            "session_id": f"s-{number:x}", "task_id": f"task-{number // 2}", "task_title": "[m] refactor the parser", "executor": executor, "model": model, "branch": "ve/x",
            "format": "canonical", "source": "agent-work-stream.jsonl", "completion_status": status, "outcome": {"status": "completed" if status == "success" else status},
            "metrics": {
                "duration_ms": lasted_ms, "total_tokens": sum(tokens.values()), "cost_usd": round(rng.lognormvariate(-1, 1), 4), "errors": errors,
                "tool_calls": rng.randrange(100), "tokens": tokens,
            },
            "error_summary": {"total_errors": errors, "error_categories": [], "error_fingerprints": [kind["cluster"] for kind in kinds], "kinds": kinds},
            "prompt_id": "aabbccdd", "first_shot": status == "success",
        })  # fmt: skip
    rows.sort(key=lambda row: row["timestamp"])
    path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
