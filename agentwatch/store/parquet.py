"""Finished days as Parquet, a partition each, in a directory or in object storage, through DuckDB. The one file that imports it.

A partition has columns to ask questions of, and in `row` the whole line, so that reports say what they would say of the line.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from agentwatch.core.text import safe
from agentwatch.errors import StorageError

BATCH_ROWS = 10_000
FILE, FILES = "sessions0.parquet", "day=*/sessions*.parquet"
PART = f"{FILE}.part"
"""What a day is written to before it is there: a process that is killed leaves it behind, and nobody reads it."""

PATIENCE = ("SET http_timeout = 15", "SET http_retries = 1")
"""A report that waits for a store of objects waits for half a minute, not for two: it can do without."""

LONGEST_REASON = 400
HINT = "see docs/reports.md, Parquet"

REMOTE = "s3://"
_KEYS = {"KEY_ID": "AWS_ACCESS_KEY_ID", "SECRET": "AWS_SECRET_ACCESS_KEY", "SESSION_TOKEN": "AWS_SESSION_TOKEN"}

UNTOLD = "Secret Validation Failure"
NO_CREDENTIALS = "no credentials were found: neither `AWS_ACCESS_KEY_ID` nor a profile or a role"

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


class _Ended(msgspec.Struct):
    timestamp: str


_ended = msgspec.json.Decoder(_Ended).decode


def write(location: str, lines: Iterable[bytes]) -> int:
    """Store the lines of sessions, each a line of JSON whose `timestamp` is in UTC, in the order of these, by the day; a day that is there already is replaced.

    How many there were; of none, nothing is made. No more than a day is in memory. Raises StorageError.
    """
    columns = ", ".join(f"{expression} AS {name}" for name, expression in _COLUMNS.items())
    number = 0
    with _connected(location) as connection:
        connection.execute("SET threads = 1")  # a second one takes 340 MB more, and no less time
        for day, members in groupby(lines, lambda line: _ended(line).timestamp[:10]):
            directory = f"{location}/day={day}"
            if not is_remote(location):
                Path(directory).mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
                for line in members:
                    file.write(line)
                    number += 1
                file.flush()
                target = f"{directory}/{FILE if is_remote(location) else PART}"  # a store of objects has an object as a whole or not at all
                query = (
                    f"COPY (SELECT {columns} FROM read_ndjson_objects(?)) TO {_quoted(target)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {BATCH_ROWS})"  # noqa: S608  # ours
                )
                connection.execute(query, [file.name])
            if not is_remote(location):
                Path(target).replace(f"{directory}/{FILE}")
    return number


def read(location: str, first_day: str) -> Iterator[bytes]:
    """The lines of the days from this one (YYYY-MM-DD) on, batches of whole lines, the oldest day first. Raises StorageError, also between two batches."""
    # Sorting would have all of it in memory; files come by their names, and rows as they were written.
    query = "SELECT row FROM read_parquet(?, hive_partitioning = true, hive_types = {'day': VARCHAR}) WHERE day >= ?"
    with _connected(location) as connection:
        if is_remote(location):
            for setting in PATIENCE:
                connection.execute(setting)
        found = connection.execute(query, [f"{escape(location)}/{FILES}", first_day])
        while batch := found.fetchmany(BATCH_ROWS):
            yield "".join(f"{line}\n" for (line,) in batch).encode()


@contextmanager
def _connected(location: str) -> Iterator[Any]:
    """DuckDB, which may go to this place. What it refuses inside is a StorageError."""
    try:
        import duckdb  # noqa: PLC0415  # an extra
    except ImportError:
        raise StorageError("DuckDB is not installed, which Parquet is written and read with", hint="install `agentwatch[history]`") from None
    if is_remote(location) and not location.startswith(REMOTE):
        raise StorageError(f"`{location}` is neither a directory nor {REMOTE}BUCKET/PATH", hint=HINT)
    try:
        with duckdb.connect() as connection:
            if is_remote(location):
                connection.execute(secret(os.environ))
            yield connection
    except duckdb.Error as error:
        told = " ".join(str(error).partition("\nLINE ")[0].split())
        raise StorageError(f"`{location}`: {safe(NO_CREDENTIALS if told.startswith(UNTOLD) else told, LONGEST_REASON)}", hint=HINT) from error


def is_remote(location: str) -> bool:
    """Whether it is no directory."""
    return "://" in location


def secret(environ: Mapping[str, str]) -> str:
    """The statement that tells DuckDB who we are to a store of objects, and where it is: by the variables that AWS has for that.

    Keys of the environment are told as they are; a profile or a role is found by DuckDB's extension `aws`. A store with an address of
    its own has its buckets below it, not before it: not every such name can be resolved.
    """
    told = {"REGION": environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")}
    if environ.get("AWS_ACCESS_KEY_ID"):
        told |= {name: environ.get(variable) for name, variable in _KEYS.items()}
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        scheme, _, rest = endpoint.rpartition("://")
        told |= {"ENDPOINT": rest.rstrip("/"), "URL_STYLE": "path", "USE_SSL": "false" if scheme == "http" else "true"}
    provider = "config" if "KEY_ID" in told else "credential_chain"
    return f"CREATE SECRET (TYPE s3, PROVIDER {provider}{''.join(f', {name} {_quoted(value)}' for name, value in told.items() if value)})"


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
