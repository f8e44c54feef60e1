"""Goose's database: the elements of its messages become events, and what its ledger says was spent. Facts, traps and omissions stand in `README.md` beside this file."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from math import isfinite
from typing import Any, NamedTuple

import msgspec

from agentwatch.formats.documents import Ask, Origin, Question, Speaker, Told, as_bytes, as_int, as_text, at_s, element
from agentwatch.formats.lenient import REFUSED, kind_of
from agentwatch.formats.shared import NO_USAGE, Fact, Faults, Feed, growth, is_empty, remember, text
from agentwatch.model import MOST_TOKENS, NOTHING, Context, Data, Detail, Usage

NAME = "goose"

MOST_ROWS = 200
"""Messages, and entries of the ledger, that are read in one turn."""

LIVE_SESSIONS = 64
"""So many sessions are remembered, those that were busy last."""

SILENT = frozenset({"image", "systemNotification", "conversationCompacted"})
"""Elements that say nothing here."""

_REFUSAL = "The user has declined to run this tool"
_REFUSED = "refused"
_RESULT = b'"toolResponse"'
_CONTINUED = ("Your context was compacted", "The previous message contains a summary that was prepared because")
"""How Goose tells its model to go on from a summary; only the model sees it."""

_AGAIN_S = 1
"""Up to 1.37 what was asked last is put behind the summary once more, with the summary's time."""

_LATE_S = 2
"""What a user wrote and is in the table only so long afterwards was put there again, with all that stands round it."""

_CARRIED = "carried_forward"


class _Metadata(msgspec.Struct, gc=False, rename="camel"):
    user_visible: bool = True


class _Config(msgspec.Struct, gc=False):
    model_name: str | None = None


class _Called(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: msgspec.Raw = NOTHING


class _Call(msgspec.Struct, gc=False):
    """`value` is absent where the model's words were no call: the result says why."""

    value: _Called | None = None


class _Structured(msgspec.Struct, gc=False):
    exit_code: int | None = None


class _Returned(msgspec.Struct, gc=False, rename="camel"):
    content: msgspec.Raw = NOTHING
    is_error: bool | None = None
    structured_content: _Structured | None = None


class _Result(msgspec.Struct, gc=False):
    """`value` is a `_Returned`, or its `content` alone in older versions."""

    status: str | None = None
    value: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


class _Element(msgspec.Struct, gc=False, rename="camel"):
    type: str = ""
    id: str | None = None
    text: msgspec.Raw = NOTHING
    tool_call: _Call | None = None
    tool_result: _Result | None = None


class Session(msgspec.Struct, omit_defaults=True):
    """What was told of a session.

    `row` is its last message, `newest` the time of the newest one in seconds since the epoch, `told` the elements of that time. While it
    `repeats`, its messages may have been told before; what was `rewritten` at a time has that as the time of its rows. `calls` has the names of
    the tools that were called and have not returned, `called` is the time of the last call. `prompt` is the digest of what was asked last,
    `compacted` the time of the last summary. `usage` and `cost` are the totals that were told.
    """

    context: Context
    newest: int
    row: int = 0
    told: dict[str, int] = {}
    repeats: bool = False
    rewritten: int = 0
    calls: dict[str, str] = {}
    called: int = 0
    prompt: str = ""
    compacted: int = 0
    usage: Usage | None = None
    cost: float = 0


class Memory(msgspec.Struct):
    """How far a database was read: its last message and the last entry of its ledger. What is older than `forgotten` was told, where no session here knows better."""

    row: int = 0
    entry: int = 0
    forgotten: int = 0
    is_begun: bool = False
    sessions: dict[str, Session] = {}


class _Row(NamedTuple):
    """A message. `created` is its time, `written` that of its row."""

    id: int
    session: str
    role: str
    created: int
    written: int
    content: bytes
    metadata: bytes


class _About(NamedTuple):
    """A session's own row. `usage` and `cost` are its totals; an older version has no column for some of them."""

    context: Context
    created: int
    updated: int
    usage: Usage
    cost: float | None


class Decoder(Speaker):
    """Decodes one database. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None, origin: Origin) -> None:
        self.memory = memory or Memory()
        self.speaker = Context()
        self._since = int(origin.since.timestamp())

    @property
    def place(self) -> int:
        return self.memory.row

    def read(self, ask: Ask, feed: Feed, fault: Faults) -> int:
        """Ask for new messages and for what was spent; see `documents.Whole`.

        The kinds of fault: `not_json`, `no_time`, `no_type` and `unknown_type:<type>`. The place of an event is the row of its message, that
        of a `usage` event the row of its entry in the ledger.
        """
        tables = _tables(ask)
        if "messages" not in tables:  # a database that is being made
            return 0
        self._find_place(ask, has_ledger="usage_ledger" in tables)
        memory = self.memory
        sessions, rows, there, *entries = ask(self._questions(tables))
        known = {as_text(row[0]): _about(row) for row in sessions}
        held = {as_int(row[0]) for row in there}
        for session in memory.sessions.values():
            session.repeats |= session.row not in held and session.row > 0
        told = [one for entry in entries[0] for one in self._spent(entry, known)] if entries else []
        messages = [_row(values) for values in rows]
        for row in messages:
            memory.row = row.id
            told += self._opened(row.session, known)
            told += self._message(memory.sessions[row.session], row, fault)
        if not entries:
            told += self._grown(known)
        self._forget()
        feed(self.items(told))
        return len(messages) + len(entries[0] if entries else ())

    def _find_place(self, ask: Ask, *, has_ledger: bool) -> None:
        """Where to go on: behind history at first, and from the start where another database lies in the place. Numbers of rows are never given again."""
        [[(last,)]] = ask([(_LAST, ())])
        if as_int(last) < self.memory.row:
            self.memory = Memory()
        memory = self.memory
        if memory.is_begun:
            return
        [[(memory.row,)]] = ask([(_HISTORY, (self._since,))])
        if has_ledger:
            [[(memory.entry,)]] = ask([(_SPENT_BEFORE, (self._since,))])
        memory.forgotten, memory.is_begun = self._since, True

    def _questions(self, tables: dict[str, set[str]]) -> list[Question]:
        memory = self.memory
        columns = ", ".join(name if name in tables["sessions"] else "NULL" for name in _COLUMNS)
        metadata = "metadata_json" if "metadata_json" in tables["messages"] else "NULL"
        after, entries_after = (memory.row, MOST_ROWS), (memory.entry, MOST_ROWS)
        known = msgspec.json.encode(list(memory.sessions)).decode()
        rows = msgspec.json.encode([session.row for session in memory.sessions.values()]).decode()
        about = f"SELECT id, {_CREATED}, {_UPDATED}, {columns} FROM sessions WHERE id IN"  # noqa: S608  # names from this file alone
        messages = (f"SELECT {_MESSAGE}, {metadata} FROM messages WHERE rowid > ? ORDER BY rowid LIMIT ?", after)  # noqa: S608
        there = (_THERE, (rows,))
        if "usage_ledger" not in tables:
            return [(f"{about} ({_WRITING} UNION {_KNOWN})", (*after, known)), messages, there]
        return [(f"{about} ({_WRITING} UNION {_PAYING})", (*after, *entries_after)), messages, there, (_ENTRIES, entries_after)]

    def _opened(self, name: str, known: dict[str, _About]) -> list[Told]:
        """A session begins with the first that is read of it, unless it began before anything that is remembered."""
        memory = self.memory
        about = known.get(name)
        session = memory.sessions.pop(name, None)
        if session is not None:
            memory.sessions[name] = session
            if about is not None:
                session.context = about.context
            return []
        at = at_s(about.created) if about is not None else None
        if about is None or at is None or about.created <= memory.forgotten:
            context, usage = (about.context, about.usage) if about is not None else (Context(session_id=name, executor="GOOSE"), None)
            memory.sessions[name] = Session(context, memory.forgotten, repeats=True, usage=usage, cost=(about.cost or 0) if about is not None else 0)
            return []
        # A copy of a session has its messages with their times: what is older than the session happened in the other.
        memory.sessions[name] = Session(about.context, about.created - 1, repeats=True)
        return [Told(at, name, about.context, ("session_start", Detail(prompt_type="initial")), 0, b"")]

    def _message(self, session: Session, row: _Row, fault: Faults) -> list[Told]:
        session.row = row.id
        if row.created <= 0 or at_s(row.created) is None:
            fault(row.id, "no_time", "a message without the time of its creation")
            return []
        if session.repeats and row.created < session.newest:
            return []
        try:
            elements = _decode_list(row.content)
        except REFUSED:
            fault(row.id, "not_json", "a message's content is no JSON list")
            return []
        if row.role == "user" and row.written - row.created > _LATE_S and not any(_RESULT in bytes(raw) for raw in elements):
            session.rewritten = row.written
        is_shown = element(row.metadata, _decode_metadata, _Metadata)[1].user_visible
        told: list[Told] = []
        for raw in elements:
            line, said = element(raw, _decode_element, _Element)
            key = _digest(row.role, said.type, said.id or line)
            if session.repeats and row.created == session.newest and key in session.told:
                continue
            if row.created > session.newest:
                session.newest, session.told, session.repeats = row.created, {}, False
            if row.created == session.newest:
                remember(session.told, key, 1)
            facts = _facts(row, said, session, fault) if is_shown else _unseen(row, said, session)
            told += [Told(at, row.session, session.context, fact, row.id, line) for fact in facts if (at := at_s(_when(row, fact, session)))]
        if is_shown and told and told[-1].fact[0] == "agent_output":
            told.append(told[-1]._replace(fact=("turn_end", Detail(reason="answered"))))
        return told

    def _spent(self, entry: tuple[Any, ...], known: dict[str, _About]) -> list[Told]:
        """What one request cost. What an older version counted without a ledger is carried into it once: it was told, or is history."""
        self.memory.entry, name = as_int(entry[0]), as_text(entry[1])
        at, model, source = at_s(as_int(entry[2])), as_text(entry[3]) or None, as_text(entry[8])
        if at is None or source == _CARRIED:
            return []
        started = self._opened(name, known)
        usage, cost = _usage(*entry[4:8]), _usd(entry[9])
        line = msgspec.json.encode({"model": model, "input_tokens": as_int(entry[4]), "output_tokens": as_int(entry[5]), "cost": cost})
        fact: Fact = ("usage", Data(usage=usage, cost_usd=cost, model=model))
        return [*started, Told(at, name, self.memory.sessions[name].context, fact, self.memory.entry, line)]

    def _grown(self, known: dict[str, _About]) -> Iterator[Told]:
        """What the totals of sessions have grown by, in versions without a ledger."""
        for name, session in self.memory.sessions.items():
            about = known.get(name)
            at = at_s(about.updated) if about is not None else None
            if about is None or at is None:
                continue
            before, cost = session.usage or NO_USAGE, None if about.cost is None else max(0.0, about.cost - session.cost)
            grown = growth(before, about.usage)
            session.usage, session.cost = about.usage, about.cost or 0
            if grown.total or cost:
                fact: Fact = ("usage", Data(usage=grown, cost_usd=cost, model=about.context.model))
                yield Told(at, name, about.context, fact, session.row, b"")

    def _forget(self) -> None:
        memory = self.memory
        while len(memory.sessions) > LIVE_SESSIONS:
            oldest = memory.sessions.pop(next(iter(memory.sessions)))
            memory.forgotten = max(memory.forgotten, oldest.newest)


def decoder(memory: msgspec.Raw, origin: Origin) -> Decoder:
    """Continue a database."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None), origin)


def _tables(ask: Ask) -> dict[str, set[str]]:
    """The columns of the tables that are read: they became more with each version of the schema."""
    names = ("sessions", "messages", "usage_ledger")
    found = ask([("SELECT name FROM pragma_table_info(?)", (name,)) for name in names])
    return {name: {as_text(row[0]) for row in rows} for name, rows in zip(names, found, strict=True) if rows}


def _facts(row: _Row, said: _Element, session: Session, fault: Faults) -> Iterable[Fact]:
    """What an element says that the user sees, too."""
    teller = _TOLD.get((row.role, said.type))
    if teller is not None:
        return teller(said, session, row)
    if said.type not in SILENT:
        fault(row.id, *((kind_of(said.type), "") if said.type else ("no_type", "an element without a type")))
    return ()


def _unseen(row: _Row, said: _Element, session: Session) -> Iterable[Fact]:
    """Of what only the model sees, that its context was summarised. All else is told by what the user sees."""
    if row.role == "assistant" and text(said.text).startswith(_CONTINUED):
        session.compacted = row.created
        yield "compaction", Data()


def _when(row: _Row, fact: Fact, session: Session) -> int:
    """When it happened. The rows of a call and of its result are written together, and either may have the other's time: a result is there when it is written."""
    match fact[0]:
        case "tool_call":
            session.called = row.created
            return row.created
        case "tool_result":
            return max(row.created, session.called, row.written if row.written > session.rewritten + 1 else 0)
    return row.created


def _asked(said: _Element, session: Session, row: _Row) -> Iterable[Fact]:
    if is_empty(said.text):
        return
    prompt = _digest(bytes(said.text))
    is_repeated = prompt == session.prompt and 0 <= row.created - session.compacted <= _AGAIN_S
    session.prompt = prompt
    if not is_repeated:
        yield "user_message", Detail(output=said.text)


def _answered(said: _Element, _session: Session, _row: _Row) -> Iterable[Fact]:
    if not is_empty(said.text):
        yield "agent_output", Detail(output=said.text)


def _thought(_said: _Element, _session: Session, _row: _Row) -> Iterable[Fact]:
    yield "agent_thinking", Data()


def _asks(_said: _Element, _session: Session, _row: _Row) -> Iterable[Fact]:
    yield "turn_end", Detail(reason="question")


def _replied(_said: _Element, _session: Session, _row: _Row) -> Iterable[Fact]:
    yield "turn_start", Data()


def _called(said: _Element, session: Session, _row: _Row) -> Iterable[Fact]:
    called = (said.tool_call or _Call()).value or _Called()
    if said.id and called.name:
        remember(session.calls, said.id, called.name)
    yield "tool_call", Data(tool_name=called.name, tool_call_id=said.id, tool_params=called.arguments)


def _returned(said: _Element, session: Session, _row: _Row) -> Iterable[Fact]:
    result = said.tool_result or _Result()
    name = session.calls.pop(said.id or "", None)
    if result.status == "error":
        yield "tool_result", Data(tool_name=name, tool_call_id=said.id, result=result.error, is_error=True, error_message=text(result.error))
        return
    is_list = bytes(result.value).lstrip().startswith(b"[")
    returned = _Returned(result.value) if is_list else element(result.value, _decode_returned, _Returned)[1]
    exit_code = returned.structured_content.exit_code if returned.structured_content else None
    detail = Detail(tool_name=name, tool_call_id=said.id, result=returned.content, exit_code=exit_code)
    detail.is_error = bool(returned.is_error or exit_code)
    if detail.is_error:
        detail.error_message = text(returned.content)
        if detail.error_message.startswith(_REFUSAL):
            detail.is_error, detail.reason = False, _REFUSED
    yield "tool_result", detail


def _row(values: tuple[Any, ...]) -> _Row:
    row, session, role, created, written, content, metadata = values
    return _Row(as_int(row), as_text(session), as_text(role), as_int(created), as_int(written), as_bytes(content), as_bytes(metadata))


def _about(values: tuple[Any, ...]) -> _About:
    name, created, updated, directory, parent, config, read, output, cached, written, cost = values
    context = Context(session_id=as_text(name), project_id=as_text(directory) or None, executor="GOOSE", parent_id=as_text(parent) or None)
    context.model = element(as_bytes(config), _decode_config, _Config)[1].model_name
    return _About(context, as_int(created), as_int(updated), _usage(read, output, cached, written), _usd(cost))


def _usage(read: object, output: object, cached: object, written: object) -> Usage:
    """Goose's input includes what came from and went into the cache, whoever the provider is."""
    total, of_cache, into_cache = _tokens(read), _tokens(cached), _tokens(written)
    return Usage(max(0, total - of_cache - into_cache), _tokens(output), of_cache, into_cache)


def _tokens(value: object) -> int:
    return max(0, min(as_int(value), MOST_TOKENS))


def _usd(value: object) -> float | None:
    """None where it is not known: no price, or no number."""
    return float(value) if isinstance(value, int | float) and isfinite(value) and value >= 0 else None


def _digest(*parts: str | bytes) -> str:
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode(errors="replace"))
        digest.update(b"\0")
    return digest.hexdigest()


_TOLD: dict[tuple[str, str], Callable[[_Element, Session, _Row], Iterable[Fact]]] = {
    ("user", "text"): _asked,
    ("user", "toolResponse"): _returned,
    ("assistant", "text"): _answered,
    ("assistant", "thinking"): _thought,
    ("assistant", "redactedThinking"): _thought,
    ("assistant", "reasoning"): _thought,
    ("assistant", "toolRequest"): _called,
    ("assistant", "frontendToolRequest"): _called,
    ("assistant", "toolConfirmationRequest"): _asks,
    ("assistant", "actionRequired"): _asks,
    ("user", "actionRequired"): _replied,
}
_COLUMNS = (
    "working_dir",
    "parent_session_id",
    "model_config_json",
    "accumulated_input_tokens",
    "accumulated_output_tokens",
    "accumulated_cache_read_tokens",
    "accumulated_cache_write_tokens",
    "accumulated_cost",
)
_SECONDS = "iif(created_timestamp > 10000000000, created_timestamp / 1000, created_timestamp)"
"""A few writers have given milliseconds."""

# `rowid` is what Goose's `id` is by another name. A column that only is called `id` may hold texts, behind which there is no number to go on from.
_CREATED, _UPDATED = ("CAST(strftime('%s', created_at) AS INTEGER)", "CAST(strftime('%s', updated_at) AS INTEGER)")
_MESSAGE = f"rowid, session_id, role, {_SECONDS}, CAST(strftime('%s', timestamp) AS INTEGER), content_json"
_WRITING = "SELECT session_id FROM (SELECT session_id FROM messages WHERE rowid > ? ORDER BY rowid LIMIT ?)"
_PAYING = "SELECT session_id FROM (SELECT session_id FROM usage_ledger WHERE rowid > ? ORDER BY rowid LIMIT ?)"
_KNOWN = "SELECT value FROM json_each(?)"
_THERE = "SELECT rowid FROM messages WHERE rowid IN (SELECT value FROM json_each(?))"
_LAST = """
    SELECT max(coalesce((SELECT max(CAST(seq AS INTEGER)) FROM sqlite_sequence WHERE name = 'messages'), 0), coalesce((SELECT max(rowid) FROM messages), 0))"""
_HISTORY = f"SELECT coalesce(max(rowid), 0) FROM messages WHERE {_SECONDS} < ?"  # noqa: S608  # names from this file alone
_SPENT_BEFORE = "SELECT coalesce(max(rowid), 0) FROM usage_ledger WHERE created_timestamp < ?"
_ENTRIES = """
    SELECT rowid, session_id, created_timestamp, model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_source, cost FROM usage_ledger
    WHERE rowid > ? ORDER BY rowid LIMIT ?"""

_decode_config = msgspec.json.Decoder(_Config).decode
_decode_element = msgspec.json.Decoder(_Element).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_metadata = msgspec.json.Decoder(_Metadata).decode
_decode_returned = msgspec.json.Decoder(_Returned).decode
