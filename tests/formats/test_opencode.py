"""OpenCode's database: each message and each part is told once, whenever the daemon looks and whatever becomes of the rows."""

import json
import random
import shutil
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.formats import opencode
from agentwatch.formats.documents import Origin
from tests.formats.harness import CORPUS, JSON_VALUES, of_type, types, usages
from tests.formats.wholes import LONG_AGO, Watched, alike, faults

ORIGIN = Origin("opencode/opencode.db", datetime(2026, 2, 9, tzinfo=UTC), LONG_AGO)
SCHEMA = """
CREATE TABLE session (id TEXT PRIMARY KEY, parent_id TEXT, directory TEXT NOT NULL, time_created INTEGER NOT NULL, time_updated INTEGER NOT NULL);
CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT NOT NULL, time_created INTEGER NOT NULL, time_updated INTEGER NOT NULL, data TEXT NOT NULL);
CREATE TABLE part (id TEXT PRIMARY KEY, message_id TEXT NOT NULL, session_id TEXT NOT NULL, time_created INTEGER NOT NULL, time_updated INTEGER NOT NULL, data TEXT NOT NULL);
"""
NOW = 1_770_624_000_000
LATER = NOW + 3_600_000


class Database(Watched):
    """Sessions, messages and parts of OpenCode."""

    def __init__(self, path=None):
        super().__init__(opencode.NAME, ORIGIN, path or ":memory:")
        if path is None:
            self.connection.executescript(SCHEMA)
        self.clock = NOW

    def session(self, name="ses_1", parent=None):
        self.connection.execute("INSERT OR IGNORE INTO session VALUES (?, ?, '/project', ?, ?)", (name, parent, self.clock, self.clock))
        return self

    def message(self, name, session="ses_1", **data):
        self.clock += 1000
        self.session(session)
        self.put("message", name, (session,), data)
        return self

    def part(self, name, message, session="ses_1", **data):
        self.clock += 1000
        self.put("part", name, (message, session), data)
        return self

    def put(self, table, name, columns, data, at=None):
        at = at or self.clock
        marks = ",".join("?" * (len(columns) + 4))
        self.connection.execute(
            f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET data = excluded.data, time_updated = excluded.time_updated",  # noqa: S608
            (name, *columns, at, at, json.dumps(data)),
        )

    @property
    def types(self):
        return types(self.events)


def assistant(database, name="msg_2", *, completed=None, finish="stop", **fields):
    time = {"created": NOW} | ({"completed": completed} if completed else {})
    database.message(name, role="assistant", modelID="m", time=time, **({"finish": finish} if completed else {}), **fields)
    return database


def tool(status, **fields):
    return {
        "type": "tool",
        "tool": "bash",
        "callID": "c",
        "state": {"status": status, "input": {"command": "ls"}, "time": {"start": LATER, "end": LATER + 1}, **fields},
    }


@pytest.fixture
def database():
    return Database().message("msg_1", role="user", time={"created": NOW}).part("prt_1", "msg_1", type="text", text="Mend it")


def test_a_tool_is_told_when_it_is_called_and_when_it_is_over(database):
    """Its row is rewritten five times; while it is pending its parameters are not complete."""
    assistant(database)
    for status in ("pending", "running", "running", "completed", "completed"):
        database.part("prt_2", "msg_2", **tool(status, output="fine", metadata={"exit": 0})).look()
    assert database.types == ["session_start", "user_message", "tool_call", "tool_result"]


def test_a_tool_that_was_seen_only_when_it_was_over_is_told_alike(database):
    """How often the daemon looks makes no difference."""
    assistant(database).part("prt_2", "msg_2", **tool("completed", output="fine", metadata={"exit": 0})).look()
    assert database.types == ["session_start", "user_message", "tool_call", "tool_result"]


def test_a_prompt_may_come_behind_its_message(database):
    """OpenCode 1.18 writes the text up to seconds later."""
    late = Database().message("msg_1", role="user", time={"created": NOW}).look()
    assert late.types == ["session_start"]
    late.part("prt_1", "msg_1", type="text", text="Mend it").look()
    assert of_type(late.events, "user_message") == [{"output": "Mend it"}]


@pytest.mark.parametrize(
    ("state", "is_error", "exit_code"),
    [
        pytest.param({"status": "completed", "output": "x", "metadata": {"exit": 0}}, False, 0, id="a command"),
        pytest.param({"status": "completed", "output": "no such file", "metadata": {"exit": 2}}, True, 2, id="a command that failed"),
        pytest.param({"status": "completed", "output": "x"}, False, None, id="no command"),
        pytest.param({"status": "error", "error": "File not found: x"}, True, None, id="a tool that failed"),
        pytest.param({"status": "error", "error": "The user rejected permission to use this specific tool call."}, False, None, id="a refusal"),
        pytest.param(
            {"status": "error", "error": "Error: The user rejected permission to use this specific tool call."}, False, None, id="a refusal before 1.2"
        ),
    ],
)
def test_the_end_of_a_tool(database, state, is_error, exit_code):
    """Only what the agent did wrong is its error; and a command that failed is no success."""
    assistant(database).part("prt_2", "msg_2", **tool(**state)).look()
    [result] = of_type(database.events, "tool_result")
    assert (result["is_error"], result.get("exit_code")) == (is_error, exit_code)


def test_who_is_asked_has_the_turn(database):
    """While its question waits, and after a refusal."""
    asked = {**tool("running"), "tool": "question"}
    assistant(database).part("prt_2", "msg_2", **asked).look()
    assert database.types[-2:] == ["tool_call", "turn_end"]


def test_tokens_and_usd_are_told_when_a_message_is_over_and_only_what_they_grow_by(database):
    """As increments, whatever is written again."""
    tokens = {"input": 10, "output": 5, "reasoning": 2, "cache": {"read": 100, "write": 1}}
    assistant(database).look()
    assistant(database, completed=LATER + 5, finish="tool-calls", cost=0.25, tokens=tokens).look().look()
    assistant(database, completed=LATER + 5, finish="tool-calls", cost=0.5, tokens={**tokens, "output": 6}).look()
    assert usages(database.events) == [
        {"input": 10, "output": 7, "cache_read": 100, "cache_write": 1, "reasoning": 2},
        {"input": 0, "output": 1, "cache_read": 0, "cache_write": 0, "reasoning": 0},
    ]
    assert [data["cost_usd"] for data in of_type(database.events, "usage")] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        pytest.param({"finish": "stop"}, ["turn_end"], id="answered"),
        pytest.param({"finish": "tool-calls"}, [], id="goes on"),
        pytest.param({"finish": "stop", "summary": True}, ["compaction"], id="a summary"),
        pytest.param({"error": {"name": "MessageAbortedError", "data": {"message": "Aborted"}}}, ["turn_end"], id="aborted"),
        pytest.param({"error": {"name": "APIError", "data": {"message": "overloaded", "statusCode": 529}}}, ["error", "turn_end"], id="failed"),
    ],
)
def test_the_end_of_a_message(database, fields, end):
    """Whose turn it is afterwards."""
    assistant(database, completed=LATER + 5, **fields).look().look()
    assert [kind for kind in database.types[2:] if kind != "usage"] == end


def test_a_retry_is_an_error_that_may_pass(database):
    """OpenCode waits and asks the model again."""
    failure = {"name": "APIError", "data": {"message": "Rate limit", "statusCode": 429, "isRetryable": True}}
    assistant(database).part("prt_2", "msg_2", type="retry", attempt=1, error=failure, time={"created": LATER}).look().look()
    assert of_type(database.events, "error") == [{"error_message": "Rate limit (429)", "error_category": "api", "retry": True}]


def test_sessions_are_told_apart_and_know_their_parents(database):
    """A sub-agent has a session of its own."""
    database.session("ses_2", parent="ses_1").message("msg_9", "ses_2", role="user", time={"created": NOW}).part(
        "prt_9", "msg_9", "ses_2", type="text", text="x"
    ).look()
    assert {event["attempt_id"] for event in database.events} == {"ses_1", "ses_2"}
    decoder = opencode.Decoder(None, ORIGIN)
    parents = {}
    decoder.read(database.ask, lambda items: parents.update({event.attempt_id: decoder.context(b"").parent_id for event, _, _ in items}), lambda *_: None)
    assert parents == {"ses_1": None, "ses_2": "ses_1"}


def test_history_is_not_read_at_the_first_look(database):
    """What was written before the time that the settings name is passed over; the session goes on behind it."""
    since = Origin("x", ORIGIN.written, datetime.fromtimestamp(NOW / 1000 + 60, UTC))
    database.look(since)
    database.clock = NOW + 120_000
    assistant(database, "msg_2", completed=LATER + 5).look(since)
    assert database.types == ["turn_end"]


def test_rows_that_were_taken_back_do_not_hide_those_that_get_their_numbers(database):
    """A revert deletes the newest messages, and SQLite gives their row ids again."""
    for n in range(2, 9):
        assistant(database, f"msg_{n}", completed=LATER + n)
    database.look()
    before = len(database.events)
    database.connection.execute("DELETE FROM message WHERE id >= 'msg_6'")
    for n in range(20, 23):
        assistant(database, f"msg_{n}", completed=LATER + n)
    database.look()
    assert types(database.events[before:]) == ["turn_end"] * 3


def test_a_table_that_was_packed_is_read_on(database):
    """VACUUM gives new numbers to all rows."""
    for n in range(2, 9):
        assistant(database, f"msg_{n}", completed=LATER + n)
    database.connection.execute("DELETE FROM message WHERE id = 'msg_3'")
    database.look()
    before = len(database.events)
    database.connection.execute("VACUUM")
    assistant(database, "msg_9", completed=LATER + 9)
    database.look()
    assert types(database.events[before:]) == ["turn_end"]


def test_a_long_history_is_read_in_turns(database):
    """No look takes more rows than it may, and none is missed."""
    for n in range(2, 1002):
        assistant(database, f"msg_{n:05}", completed=LATER + n)
    database.look()
    assert database.types.count("turn_end") == 1000


def test_what_is_remembered_is_bounded(database):
    """It is saved with every checkpoint."""
    for n in range(400):
        for m in range(6):
            assistant(database.session(f"ses_{n}"), f"msg_{n}_{m}", completed=LATER + n)
            database.connection.execute("UPDATE message SET session_id = ? WHERE id = ?", (f"ses_{n}", f"msg_{n}_{m}"))
    database.look()
    assert len(database.memory) < 60_000


@settings(max_examples=60, deadline=None)
@given(
    info=JSON_VALUES | st.dictionaries(st.sampled_from(["role", "time", "tokens", "cost", "error", "finish", "summary"]), JSON_VALUES),
    part=JSON_VALUES,
    text=st.binary(),
)
def test_nothing_that_a_row_may_hold_raises(info, part, text):
    """Wrong types, no JSON at all."""
    database = Database().message("msg_1", role="assistant", time={"created": NOW, "completed": NOW})
    database.put("message", "msg_2", ("ses_1",), info)
    database.put("part", "prt_1", ("msg_1", "ses_1"), part)
    database.put("part", "prt_2", ("msg_1", "ses_1"), {"type": "tool", "state": part})
    database.connection.execute("INSERT INTO message VALUES ('msg_3', 'ses_1', 1, 1, ?)", (text,))
    database.look()


@pytest.mark.parametrize("value", ["abc", b"\xff", 1.5, -1, 2**62], ids=repr)
def test_a_column_may_hold_anything(value):
    """SQLite's types are advice."""
    database = Database()
    for table, marks in (("session", "?,?,?,?,?"), ("message", "?,?,?,?,?"), ("part", "?,?,?,?,?,?")):
        database.connection.execute(f"INSERT INTO {table} VALUES ({marks})", [value] * marks.count("?"))  # noqa: S608
    database.look()


REAL = CORPUS / "gen" / "opencode" / "01-opencode.db"
OLDER = CORPUS / "open" / "opencode-db" / "01-git-ai-opencode.db"
ROWS = CORPUS / "gen" / "opencode" / "01-event-table.jsonl"


@pytest.mark.skipif(not REAL.exists(), reason="the corpus of transcripts is not here")
def test_a_database_that_the_program_wrote(tmp_path):
    """Four sessions of 1.18.33: six commands of which four fail in the loop, one refused elsewhere; tokens and USD as its own totals say."""
    shutil.copy(REAL, tmp_path / "a.db")
    database = Database(tmp_path / "a.db").look()
    assert faults(database.events) == []
    totals = database.connection.execute("SELECT id, cost, tokens_input, tokens_output, tokens_cache_read FROM session").fetchall()
    for session, cost, *tokens in totals:
        events = [event for event in database.events if event["attempt_id"] == session]
        assert sum(data.get("cost_usd", 0) for data in of_type(events, "usage")) == pytest.approx(cost)
        assert [sum(usage[kind] for usage in usages(events)) for kind in ("input", "output", "cache_read")] == tokens
    loop = [event for event in database.events if event["attempt_id"].startswith("ses_dff26d2a9")]
    assert len(of_type(loop, "tool_call")) == 6
    assert [data["exit_code"] for data in of_type(loop, "tool_result")] == [0, 1, 1, 1, 1, 0]


@pytest.mark.skipif(not OLDER.exists(), reason="the corpus of transcripts is not here")
def test_a_database_of_an_older_version(tmp_path):
    """Without the table of events, and without a reason why a message ended."""
    shutil.copy(OLDER, tmp_path / "a.db")
    database = Database(tmp_path / "a.db").look()
    assert database.types == ["session_start", "user_message", "agent_output", "tool_call", "tool_result", "agent_output", "usage", "turn_end"]


@pytest.mark.skipif(not ROWS.exists(), reason="the corpus of transcripts is not here")
@pytest.mark.parametrize("seed", range(6))
def test_what_the_program_wrote_step_by_step_is_told_alike_whenever_one_looks(seed):
    """The 163 changes that OpenCode made, one after the other, with looks between at random."""
    rng = random.Random(seed)
    changes = [json.loads(line) for line in ROWS.read_text().splitlines()]
    at_once, now_and_then = Database(), Database()
    for number, change in enumerate(changes):
        data = json.loads(change["data"]) if isinstance(change["data"], str) else change["data"]
        for database in (at_once, now_and_then):
            apply(database, change["type"], data, NOW + number * 1000)
        if rng.random() < 0.3:
            now_and_then.look()
    assert alike(now_and_then.look().events) == alike(at_once.look().events)
    assert len(of_type(at_once.events, "tool_call")) >= 7


def apply(database, kind, data, at):
    if kind.startswith("session.created"):
        database.connection.execute(
            "INSERT INTO session VALUES (?, ?, ?, ?, ?)", (data["info"]["id"], data["info"].get("parentID"), data["info"]["directory"], at, at)
        )
    elif kind.startswith("message.updated"):
        database.put("message", data["info"]["id"], (data["info"]["sessionID"],), data["info"], at)
    elif kind.startswith("message.part.updated"):
        database.put("part", data["part"]["id"], (data["part"]["messageID"], data["part"]["sessionID"]), data["part"], at)
