"""Finished days as Parquet, a partition each, in a directory or in object storage, through DuckDB. The one file that imports it.

A partition has columns to ask questions of, and in `row` the whole line, so that reports say what they would say of the line.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agentwatch.errors import StorageError

BATCH_ROWS = 10_000
FILES = "day=*/*.parquet"

_COLUMNS = {
    "ended_at": "(json->>'timestamp')::TIMESTAMPTZ",
    "started_at": "(json->>'started_at')::TIMESTAMPTZ",
    **{
        name: f"json->>'{name}'"
        for name in ("attempt_id", "session_id", "task_id", "task_title", "project_id", "executor", "model", "branch", "run_id", "format")
    },
    "status": "coalesce(json->>'completion_status', json->'outcome'->>'status')",
    "duration_ms": "(json->'metrics'->>'duration_ms')::DOUBLE",
    "cost_usd": "(json->'metrics'->>'cost_usd')::DOUBLE",
    "total_tokens": "(json->'metrics'->>'total_tokens')::BIGINT",
    "errors": "(json->'metrics'->>'errors')::BIGINT",
    "tool_calls": "(json->'metrics'->>'tool_calls')::BIGINT",
    "row": "json::VARCHAR",
}


def write(location: str, lines: Iterable[bytes]) -> int:
    """Store the lines of sessions, each a line of JSON whose `timestamp` is in UTC, by the day of it; a day that is there already is replaced.

    How many there were; of none, nothing is made. Raises StorageError.
    """
    columns = ", ".join(f"{expression} AS {name}" for name, expression in _COLUMNS.items())
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        number = 0
        for line in lines:
            file.write(line)
            number += 1
        file.flush()
        if not number:
            return 0
        if "://" not in location:
            Path(location).mkdir(parents=True, exist_ok=True)
        query = (
            f"COPY (SELECT (json->>'timestamp')[:10] AS day, {columns} FROM read_ndjson_objects(?) ORDER BY ended_at) TO '{_quoted(location)}' "  # noqa: S608  # ours
            "(FORMAT parquet, COMPRESSION zstd, PARTITION_BY (day), OVERWRITE_OR_IGNORE, FILENAME_PATTERN 'sessions')"
        )
        _run(location, query, [file.name])
    return number


def read(location: str, first_day: str) -> Iterator[bytes]:
    """The lines of the days from this one (YYYY-MM-DD) on, batches of whole lines, the oldest first. Raises StorageError."""
    found = _run(
        location,
        "SELECT row FROM read_parquet(?, hive_partitioning = true, hive_types = {'day': VARCHAR}) WHERE day >= ? ORDER BY day, ended_at",
        [f"{location}/{FILES}", first_day],
    )
    while batch := found.fetchmany(BATCH_ROWS):
        yield "".join(f"{line}\n" for (line,) in batch).encode()


def _run(location: str, query: str, values: list[str]) -> Any:
    try:
        import duckdb  # noqa: PLC0415  # an extra
    except ImportError:
        raise StorageError("DuckDB is not installed, which Parquet is written and read with", hint="install `agentwatch[history]`") from None
    try:
        connection = duckdb.connect()
        if "://" in location:  # who it is to a store of objects is told by the environment, as AWS has it
            connection.execute("CREATE SECRET (TYPE s3, PROVIDER credential_chain)")
        return connection.execute(query, values)
    except duckdb.Error as error:
        raise StorageError(f"`{location}`: {str(error).splitlines()[0]}", hint="see docs/reports.md, Parquet") from error


def _quoted(text: str) -> str:
    return text.replace("'", "''")
