"""Goose's database: what is deleted and put there again is told once, and what was spent is told from the ledger or, before there was one, from the totals."""

import json
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.formats import goose, places
from agentwatch.formats.documents import Origin
from tests.formats.harness import JSON_VALUES, of_type, types, usages
from tests.formats.wholes import LONG_AGO, Watched, alike, faults, told

ORIGIN = Origin("sessions/sessions.db", datetime(2026, 2, 9, tzinfo=UTC), LONG_AGO)
NOW = 1_770_624_000

MESSAGES = """
CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL, role TEXT NOT NULL, content_json TEXT NOT NULL,
    created_timestamp INTEGER NOT NULL, timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP, tokens INTEGER);
CREATE TABLE sessions (id TEXT PRIMARY KEY, working_dir TEXT NOT NULL, created_at TIMESTAMP, updated_at TIMESTAMP,
    accumulated_total_tokens INTEGER, accumulated_input_tokens INTEGER, accumulated_output_tokens INTEGER);
"""
"""The first version of the schema, as far as it is read."""

SINCE_13 = """
ALTER TABLE messages ADD COLUMN metadata_json TEXT;
ALTER TABLE sessions ADD COLUMN model_config_json TEXT;
ALTER TABLE sessions ADD COLUMN accumulated_cost REAL;
"""
SINCE_15 = """
ALTER TABLE sessions ADD COLUMN accumulated_cache_read_tokens INTEGER;
ALTER TABLE sessions ADD COLUMN accumulated_cache_write_tokens INTEGER;
ALTER TABLE sessions ADD COLUMN parent_session_id TEXT;
CREATE TABLE usage_ledger (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL, created_timestamp INTEGER NOT NULL, model TEXT,
    input_tokens INTEGER, output_tokens INTEGER, total_tokens INTEGER, cache_read_tokens INTEGER, cache_write_tokens INTEGER, cost REAL, cost_source TEXT);
"""
SCHEMAS = {1: MESSAGES, 13: MESSAGES + SINCE_13, 15: MESSAGES + SINCE_13 + SINCE_15}

SUMMARY = ("user", [{"type": "text", "text": "They talked."}], False)
CONTINUED = ("assistant", [{"type": "text", "text": "Your context was compacted. The previous message contains a summary of the conversation so far."}], False)


class Database(Watched):
    """Each message is written a second after the last."""

    def __init__(self, version=15):
        super().__init__(goose.NAME, ORIGIN)
        self.version = version
        self.connection.executescript(SCHEMAS[version])
        self.clock = NOW

    def session(self, name="s", parent=None):
        known = self.connection.execute("SELECT 1 FROM sessions WHERE id = ?", (name,)).fetchone()
        if not known:
            at = "datetime(?, 'unixepoch')"
            self.connection.execute(
                f"INSERT INTO sessions (id, working_dir, created_at, updated_at) VALUES (?, '/project', {at}, {at})",  # noqa: S608
                (name, self.clock, self.clock),
            )
        if parent:
            self.connection.execute("UPDATE sessions SET parent_session_id = ? WHERE id = ?", (parent, name))
        return self

    def message(self, role, *elements, session="s", is_shown=True, created=None, written=None):
        self.clock += 1
        self.session(session)
        created = self.clock if created is None else created
        self.connection.execute(
            "INSERT INTO messages (session_id, role, content_json, created_timestamp, timestamp) VALUES (?, ?, ?, ?, datetime(?, 'unixepoch'))",
            (session, role, json.dumps(elements), created, self.clock if written is None else written),
        )
        if self.version > 1:
            metadata = json.dumps({"userVisible": is_shown, "agentVisible": True})
            self.connection.execute("UPDATE messages SET metadata_json = ? WHERE id = (SELECT max(id) FROM messages)", (metadata,))
        return self

    def asked(self, text="Mend it", **how):
        return self.message("user", {"type": "text", "text": text}, **how)

    def answered(self, text="Done.", **how):
        return self.message("assistant", {"type": "text", "text": text}, **how)

    def called(self, name="c1", **how):
        call = {"status": "success", "value": {"name": "shell", "arguments": {"command": "make"}}}
        return self.message("assistant", {"type": "toolRequest", "id": name, "toolCall": call}, **how)

    def returned(self, result, name="c1", **how):
        return self.message("user", {"type": "toolResponse", "id": name, "toolResult": result}, **how)

    def replaced(self, *more):
        """The conversation deleted and put there again in one transaction, with `more` behind it: how a summary is made."""
        self.clock += 1
        self.session()
        columns = "session_id, role, content_json, created_timestamp, metadata_json"
        rows = self.connection.execute(f"SELECT {columns} FROM messages ORDER BY id").fetchall()  # noqa: S608
        rows += [("s", role, json.dumps(elements), self.clock, json.dumps({"userVisible": is_shown})) for role, elements, is_shown in more]
        self.connection.execute("DELETE FROM messages WHERE session_id = 's'")
        self.connection.executemany(
            f"INSERT INTO messages ({columns}, timestamp) VALUES (?, ?, ?, ?, ?, datetime({self.clock}, 'unixepoch'))",  # noqa: S608
            rows,
        )
        return self

    def spent(self, read, output, cached=None, cost=None, source="estimated", session="s"):
        self.connection.execute(
            "INSERT INTO usage_ledger (session_id, created_timestamp, model, input_tokens, output_tokens, cache_read_tokens, cost, cost_source)"
            " VALUES (?, ?, 'm', ?, ?, ?, ?, ?)",
            (session, self.clock, read, output, cached, cost, source),
        )
        return self

    def total(self, read, output, cost=None):
        self.connection.execute(
            "UPDATE sessions SET accumulated_input_tokens = ?, accumulated_output_tokens = ?, updated_at = datetime(?, 'unixepoch')", (read, output, self.clock)
        )
        if self.version > 1:
            self.connection.execute("UPDATE sessions SET accumulated_cost = ?", (cost,))
        return self

    @property
    def types(self):
        return types(self.events)


def fine(text="fine", **fields):
    return {"status": "success", "value": {"content": [{"type": "text", "text": text}], **fields}}


@pytest.mark.parametrize(
    ("result", "is_error", "exit_code", "reason"),
    [
        pytest.param(fine(isError=False, structuredContent={"stdout": "x", "exit_code": 0}), False, 0, None, id="a command"),
        pytest.param(fine(isError=True, structuredContent={"exit_code": 2}), True, 2, None, id="a command that failed"),
        pytest.param(fine(isError=True), True, None, None, id="a tool that failed"),
        pytest.param(fine(), False, None, None, id="no word of an error"),
        pytest.param({"status": "success", "value": [{"type": "text", "text": "fine"}]}, False, None, None, id="before there was one"),
        pytest.param({"status": "error", "error": "-32600: Tool 'x' was not advertised"}, True, None, None, id="a call that was none"),
        pytest.param(fine("The user has declined to run this tool. DO NOT", isError=True), False, None, "refused", id="a refusal"),
        pytest.param({}, False, None, None, id="nothing"),
    ],
)
def test_the_end_of_a_tool(result, is_error, exit_code, reason):
    """Only what the agent did wrong is its error."""
    database = Database().asked().called().returned(result).look()
    [data] = of_type(database.events, "tool_result")
    assert (data["tool_name"], data["is_error"], data.get("exit_code"), data.get("reason")) == ("shell", is_error, exit_code, reason)
    assert bool(data.get("error_message")) == (is_error or reason is not None)


def test_an_answer_hands_the_turn_over_and_a_call_does_not():
    """Nor do the words that go with it."""
    call = {"type": "toolRequest", "id": "c1", "toolCall": {"status": "success", "value": {"name": "shell", "arguments": {}}}}
    database = Database().asked().message("assistant", {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Let me see."}, call)
    database.returned(fine()).answered().look()
    assert database.types == ["session_start", "user_message", "agent_thinking", "agent_output", "tool_call", "tool_result", "agent_output", "turn_end"]


def test_what_only_the_model_sees_is_not_told():
    """Goose writes the time of day below each prompt, as if the user had."""
    database = Database().asked().asked("<turn-context>", is_shown=False).answered("Go on.", is_shown=False).look()
    assert database.types == ["session_start", "user_message"]


def test_a_question_hands_the_turn_over_and_its_answer_takes_it_back():
    """By Goose's own types; such a row was never seen."""
    ask = {"type": "actionRequired", "data": {"actionType": "elicitation", "id": "1", "message": "Which one?"}}
    reply = {"type": "actionRequired", "data": {"actionType": "elicitationResponse", "id": "1"}}
    database = Database().asked().message("assistant", ask).message("user", reply).look()
    assert database.types[2:] == ["turn_end", "turn_start"]


def test_a_result_is_there_when_it_is_written():
    """Call and result are written together at the end. 1.52 gives both the time of the call; 1.37 gives the result that, and the call the time of its end."""
    newer = Database().asked(written=NOW + 1).called(created=NOW + 2, written=NOW + 300).returned(fine(), created=NOW + 2, written=NOW + 300).look()
    older = Database(13).asked(written=NOW + 1).called(created=NOW + 300, written=NOW + 300).returned(fine(), created=NOW + 2, written=NOW + 300).look()
    for database, called in ((newer, 2), (older, 300)):
        times = [datetime.fromisoformat(event["timestamp"]).timestamp() - NOW for event in database.events[-2:]]
        assert (database.types[-2:], times) == (["tool_call", "tool_result"], [called, 300])


def test_a_summary_is_told_and_what_it_is_of_is_not_told_again():
    """The rows have new numbers and the time at which they were put there again."""
    database = Database().asked().called().returned(fine()).answered().asked("Go on").look()
    before = len(database.events)
    database.replaced(SUMMARY, CONTINUED).look().answered("Went on.").look()
    assert types(database.events[before:]) == ["compaction", "agent_output", "turn_end"]


def test_what_was_asked_last_is_not_asked_again_behind_a_summary():
    """Up to 1.37 it stands there once more, with another time; asked later it is a prompt like any."""
    again = ("user", [{"type": "text", "text": "Go on"}], True)
    database = Database(13).asked("Go on").look().replaced(SUMMARY, CONTINUED, again).look().answered().asked("Go on").look()
    assert database.types == ["session_start", "user_message", "compaction", "agent_output", "turn_end", "user_message"]


def test_a_conversation_that_was_cut_back_goes_on():
    """A user who changes an earlier prompt takes all behind it back."""
    database = Database().asked().answered().asked("Wrong").answered().look()
    before = len(database.events)
    database.connection.execute("DELETE FROM messages WHERE id > 2")
    database.asked("Right").answered().look()
    assert types(database.events[before:]) == ["user_message", "agent_output", "turn_end"]


@pytest.mark.parametrize("seed", range(20))
def test_a_conversation_is_told_alike_whenever_one_looks(seed):
    """Summaries between, calls of the same second, looks at random: but for the numbers of the rows, which change."""
    rng = random.Random(seed)
    at_once, now_and_then = Database(), Database()
    for number in range(60):
        step = rng.choice(["asked", "call", "call", "answered", "replaced"])
        hurry = step != "replaced" and rng.random() < 0.4  # the second of the message before
        for database in (at_once, now_and_then):
            database.clock -= hurry
            if step == "call":
                database.called(f"c{number}").returned(fine(f"{number}"), f"c{number}")
            elif step == "replaced":
                database.replaced(SUMMARY, CONTINUED)
            else:
                getattr(database, step)(f"{step} {number}")
        if rng.random() < 0.5:
            now_and_then.look()
    without_rows = [[{**event, "offset": 0} for event in one.look().events if event["event_type"] != "tool_result"] for one in (at_once, now_and_then)]
    assert alike(without_rows[0]) == alike(without_rows[1])
    results = [sorted(data["tool_call_id"] for data in of_type(one.events, "tool_result")) for one in (at_once, now_and_then)]
    assert results[0] == results[1] == sorted({*results[0]})


def test_a_copy_of_a_session_does_not_tell_what_happened_in_the_other():
    """Its messages have the times of the first; what is added to it is its own."""
    database = Database().asked().called().returned(fine()).answered().look()
    before = len(database.events)
    database.clock += 3600
    for row in database.connection.execute("SELECT role, content_json, created_timestamp FROM messages").fetchall():
        database.message(row[0], *json.loads(row[1]), session="copy", created=row[2])
    database.asked("Another way", session="copy").look()
    assert types(database.events[before:]) == ["session_start", "user_message"]


def test_each_entry_of_the_ledger_is_a_usage():
    """The input includes the cache; a price that is not known is none; what was carried over was counted before there was a ledger."""
    database = Database().asked().spent(1000, 50, source="carried_forward").spent(100, 20, 30, 0.25).answered().look().look()
    database.asked("More").spent(10, 1).answered().look()
    assert usages(database.events) == [
        {"input": 70, "output": 20, "cache_read": 30, "cache_write": 0, "reasoning": 0},
        {"input": 10, "output": 1, "cache_read": 0, "cache_write": 0, "reasoning": 0},
    ]
    assert [(data["model"], data.get("cost_usd")) for data in of_type(database.events, "usage")] == [("m", 0.25), ("m", None)]


@pytest.mark.parametrize("version", [1, 13])
def test_without_a_ledger_it_is_what_the_totals_have_grown_by(version):
    """Once each, whatever is written again, and after a restart; the first version knows no USD."""
    database = Database(version).asked().look().total(100, 20, 0.5).look().look().answered().look().total(250, 30, 0.75).look()
    assert [(usage["input"], usage["output"]) for usage in usages(database.events)] == [(100, 20), (150, 10)]
    assert [data.get("cost_usd") for data in of_type(database.events, "usage")] == ([None, None] if version == 1 else [0.5, 0.25])


def test_a_total_that_is_not_known_any_more_is_no_cost():
    """Nor does the next one count what was told."""
    database = Database(13).asked().total(100, 20, 0.5).look().total(200, 40, None).look().total(300, 60, None).look()
    assert [data.get("cost_usd") for data in of_type(database.events, "usage")] == [0.5, None, None]


def test_a_database_that_gets_its_ledger_while_it_is_read_tells_everything_once():
    """An update of Goose: what the totals said is carried into the ledger."""
    database = Database(13).asked().total(100, 20, 0.5).look()
    database.connection.executescript(SINCE_15)
    database.asked("More").spent(100, 20, cost=0.5, source="carried_forward").spent(10, 2, cost=0.1).total(110, 22, 0.6).look()
    assert [(usage["input"], usage["output"]) for usage in usages(database.events)] == [(100, 20), (10, 2)]


def test_sessions_are_told_apart_and_know_their_parents():
    """A sub-agent has a session of its own."""
    database = Database().asked().session("sub", parent="s").asked(session="sub")
    decoder, parents = goose.Decoder(None, ORIGIN), {}
    decoder.read(database.ask, lambda items: parents.update({event.attempt_id: decoder.context(b"").parent_id for event, _, _ in items}), lambda *_: None)
    assert parents == {"s": None, "sub": "s"}


def test_the_model_is_the_sessions():
    """A ledger's entry names its own."""
    database = Database(13).asked()
    database.connection.execute("""UPDATE sessions SET model_config_json = '{"model_name": "gpt-4o", "temperature": null}'""")
    database.total(1, 1).look()
    assert [data["model"] for data in of_type(database.events, "usage")] == ["gpt-4o"]


def test_history_is_not_read_at_the_first_look():
    """What was written before the time that the settings name is passed over, and so is what of it is put there again; the session goes on behind it."""
    database = Database().asked().spent(100, 20).answered()
    database.clock += 3600
    since = Origin("x", ORIGIN.written, datetime.fromtimestamp(database.clock, UTC))
    database.look(since).asked("More").spent(1, 1).look(since).replaced(SUMMARY, CONTINUED).look(since)
    assert database.types == ["usage", "user_message", "compaction"]


def test_totals_of_before_the_first_look_are_history():
    """A session that is resumed is not charged for what it was before."""
    database = Database(13).asked().total(100, 20, 0.5)
    database.clock += 3600
    since = Origin("x", ORIGIN.written, datetime.fromtimestamp(database.clock, UTC))
    database.look(since).asked("More").look(since).total(150, 20, 0.75).look(since)
    assert [(usage["input"], usage["output"]) for usage in usages(database.events)] == [(50, 0)]


def test_another_database_in_the_place_is_read_from_its_start():
    """Whoever deletes `sessions.db` gets a new one, whose numbers begin again."""
    first, second = Database().asked().answered().asked("More").look(), Database().asked().answered()
    second.memory = first.memory
    assert second.look().types == ["session_start", "user_message", "agent_output", "turn_end"]


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, "/home/ann/.local/share/goose/sessions"),
        ({"XDG_DATA_HOME": "/d"}, "/d/goose/sessions"),
        ({"XDG_DATA_HOME": "/d", "GOOSE_PATH_ROOT": "/g"}, "/g/data/sessions"),
        ({"GOOSE_PATH_ROOT": "g"}, "/home/ann/.local/share/goose/sessions"),
    ],
)
def test_the_database_is_looked_for_where_the_agent_puts_it(environ, place):
    """Its own variable replaces the usual folder, if it is absolute."""
    assert [str(one) for one in places.goose(environ, Path("/home/ann"))] == [place]


def test_milliseconds_are_a_time_too():
    """A few writers have given them."""
    database = Database().asked(created=(NOW + 5) * 1000).look()
    assert database.events[-1]["timestamp"] == datetime.fromtimestamp(NOW + 5, UTC).isoformat()


def test_a_database_that_is_being_made_is_looked_at_again():
    """Without a table there is nothing to ask."""
    database = Database()
    database.connection.executescript("DROP TABLE messages; DROP TABLE sessions")
    assert database.look().events == []


def test_a_long_history_is_read_in_turns():
    """No look takes more rows than it may, and none is missed."""
    database = Database().asked()
    for number in range(1000):
        database.spent(1, 1).answered(f"{number}")
    database.look()
    assert (database.types.count("turn_end"), database.types.count("usage")) == (1000, 1000)


def test_what_is_remembered_is_bounded():
    """It is saved with every checkpoint; a session that was forgotten goes on without a second start."""
    database = Database()
    for number in range(400):
        database.asked(session=f"s{number}").called(f"c{number}", session=f"s{number}")
    database.look()
    assert len(database.memory) < 40_000
    database.asked("More", session="s0").look()
    assert (database.types.count("session_start"), database.types[-1]) == (400, "user_message")


@settings(max_examples=80, deadline=None)
@given(
    elements=JSON_VALUES | st.lists(JSON_VALUES),
    member=JSON_VALUES,
    kind=st.sampled_from(["toolRequest", "toolResponse", "text", "actionRequired", "x"]),
    text=st.binary(),
)
def test_nothing_that_a_row_may_hold_raises(elements, member, kind, text):
    """Wrong types, no JSON at all."""
    database = Database().asked()
    for role in ("user", "assistant", "x"):
        database.message(role, {"type": kind, "id": member, "text": member, "toolCall": member, "toolResult": {"status": "success", "value": member}})
        database.connection.execute(
            "INSERT INTO messages (session_id, role, content_json, created_timestamp, metadata_json) VALUES ('s', ?, ?, ?, ?)",
            (role, json.dumps(elements), NOW + 100, json.dumps(member)),
        )
        database.connection.execute("INSERT INTO messages (session_id, role, content_json, created_timestamp) VALUES ('s', ?, ?, ?)", (role, text, NOW + 100))
    database.look()


def test_what_is_wrong_with_a_row_is_said():
    """By its number."""
    database = Database().asked().look().asked(created=0).message("user", {"type": "hologram"}).message("assistant", {}).look()
    database.connection.execute("INSERT INTO messages (session_id, role, content_json, created_timestamp) VALUES ('s', 'user', 'x', ?)", (NOW,))
    assert faults(database.look().events) == ["no_time", "unknown_type:hologram", "no_type", "not_json"]


@pytest.mark.parametrize("value", ["abc", b"\xff", 1.5, -1, 2**62, float("inf"), None], ids=repr)
def test_a_column_may_hold_anything(value):
    """SQLite's types are advice."""
    database = Database().asked().spent(1, 1).answered()
    for table in ("sessions", "messages", "usage_ledger"):
        database.connection.executescript(f"CREATE TABLE x AS SELECT * FROM {table}; DROP TABLE {table}; ALTER TABLE x RENAME TO {table}")  # noqa: S608
    for table in ("sessions", "messages", "usage_ledger"):
        columns = [row[1] for row in database.connection.execute(f"PRAGMA table_info({table})")]
        database.connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(columns))})", [value] * len(columns))  # noqa: S608
        for column in columns:
            database.connection.execute(f"INSERT INTO {table} SELECT * FROM {table} LIMIT 1")  # noqa: S608
            database.connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = (SELECT max(rowid) FROM {table})", (value,))  # noqa: S608
    decoder = goose.Decoder(None, ORIGIN)
    decoder.read(database.ask, lambda items: [decoder.context(line) for _, _, line in items], lambda *_: None)


@pytest.mark.parametrize("value", ["abc", b"\xff", 1.5, float("inf"), 7, None], ids=repr)
@pytest.mark.parametrize("number", ["id", "seq"])
def test_what_numbers_rows_may_hold_anything(number, value):
    """A version to come may number its rows otherwise, and whoever runs commands may write into a database: each row is told once, and reading it ends."""
    database = Database().asked().spent(1, 1).answered()
    tables = ["messages", "usage_ledger"] if number == "id" else ["sqlite_sequence"]
    for table in ("messages", "usage_ledger") if number == "id" else ():
        database.connection.executescript(f"CREATE TABLE x AS SELECT * FROM {table}; DROP TABLE {table}; ALTER TABLE x RENAME TO {table}")  # noqa: S608
    for table in tables:
        database.connection.execute(f"UPDATE {table} SET {number} = ?", (value,))  # noqa: S608
    for _ in range(5):
        events, database.memory, _ = told(goose.NAME, database.ask, database.memory, ORIGIN)
        database.events += events
    assert sorted(database.types) == ["agent_output", "session_start", "turn_end", "usage", "user_message"]


def test_numbers_that_nobody_keeps_count_of_are_gone_on_from():
    """Without the table of the last numbers' rows the last row's own counts."""
    database = Database().asked().look()
    database.connection.execute("DELETE FROM sqlite_sequence")
    for _ in range(3):
        events, database.memory, rows = told(goose.NAME, database.ask, database.memory, ORIGIN)
        assert (events, rows) == ([], 0)
