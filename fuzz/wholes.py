"""Documents, folders and databases: whatever they hold, nothing is raised, no detector fails, and a second look tells nothing again.

`make fuzz` starts from the golden files, and from what broke it once (`fuzz/seeds`).
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import atheris

from fuzz.target import Judge, run, silent

with atheris.instrument_imports(include=["agentwatch"]):
    import msgspec

    from agentwatch.formats.documents import Origin, Question
    from agentwatch.formats.registry import CONTAINERS, Container
    from agentwatch.model import NO_MEMORY

ORIGIN = Origin("folder/any", datetime(2026, 2, 9, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC))
CREATED_MS = 1_770_624_000_000
SCHEMA = """
CREATE TABLE session (id, parent_id, directory, time_created, time_updated);
CREATE TABLE message (id, session_id, time_created, time_updated, data);
CREATE TABLE part (id, message_id, session_id, time_created, time_updated, data);
CREATE TABLE sessions (id, working_dir, created_at, updated_at, parent_session_id, model_config_json, accumulated_input_tokens);
CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id, role, content_json, created_timestamp, timestamp, metadata_json);
CREATE TABLE usage_ledger (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id, created_timestamp, model, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, cost, cost_source);
INSERT INTO sessions VALUES ('s', '/project', '2026-02-09 08:00:00', '2026-02-09 08:00:00', NULL, NULL, NULL);
INSERT INTO session VALUES ('s', NULL, '/project', 1770624000000, 1770624000000);
"""


def target(data: bytes) -> None:
    """The bytes are a document; each line of them is a file of a folder, and a row of a database."""
    lines = data.splitlines()
    with closing(_database(lines)) as connection:

        def ask(questions: Sequence[Question]) -> list[list[tuple[Any, ...]]]:
            return [connection.execute(sql, parameters).fetchall() for sql, parameters in questions]

        said = {"document": data, "folder": list(enumerate(lines)), "database": ask}
        for row in CONTAINERS.values():
            judge = Judge()
            memory = _read(row, said[row.kind], NO_MEMORY, judge)
            told = len(judge.events)
            if row.kind != "folder":  # its source hands a file over once
                _read(row, said[row.kind], memory, judge)
                assert len(judge.events) == told, (row.name, judge.events[told:])
            judge.finish()


def _read(row: Container, said: Any, memory: msgspec.Raw, judge: Judge) -> msgspec.Raw:
    decoder = row.decoder(memory, ORIGIN)
    while decoder.read(said, lambda items: judge.feed(items, decoder), silent) and row.kind == "database":
        pass
    return msgspec.Raw(msgspec.json.encode(decoder.memory))


def _database(lines: list[bytes]) -> sqlite3.Connection:
    """OpenCode's tables, where a line that names a message is a part of the last one; and Goose's, where each line is a message and an entry of the ledger."""
    connection = sqlite3.connect(":memory:")
    connection.text_factory = bytes
    connection.executescript(SCHEMA)
    message = ""
    for number, line in enumerate(lines):
        at_ms = CREATED_MS + number
        message_of_goose = ("assistant" if b"assistant" in line else "user", line, at_ms // 1000, line)
        connection.execute("INSERT INTO messages (session_id, role, content_json, created_timestamp, metadata_json) VALUES ('s', ?, ?, ?, ?)", message_of_goose)
        entry = (at_ms // 1000, line, line, number)
        connection.execute("INSERT INTO usage_ledger (session_id, created_timestamp, model, input_tokens, cost) VALUES ('s', ?, ?, ?, ?)", entry)
        if b"messageID" in line:
            connection.execute("INSERT INTO part VALUES (?, ?, 's', ?, ?, ?)", (f"p{number}", message, at_ms, at_ms, line))
        else:
            message = f"m{number}"
            connection.execute("INSERT INTO message VALUES (?, 's', ?, ?, ?)", (message, at_ms, at_ms, line))
    return connection


if __name__ == "__main__":
    run(target)
