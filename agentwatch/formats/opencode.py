"""OpenCode's database and its exported sessions: messages and their parts become events. Facts, traps and omissions stand in `README.md` beside this file."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from agentwatch.formats.documents import Ask, Elements, Origin, Speaker, Told, as_bytes, as_int, as_text, at_ms, changing, element, parsed
from agentwatch.formats.lenient import REFUSED, kind_of
from agentwatch.formats.shared import NO_USAGE, Fact, Faults, Feed, growth, is_empty, plus, text
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Usage

NAME = "opencode"
EXPORT = "opencode-export"

MOST_ROWS = 200
"""Messages read in one turn, with all their parts."""

LIVE_MESSAGES, LIVE_SESSIONS = 4, 64
"""Of each session the last messages may still change; and so many sessions are remembered, those that were busy last."""

SLACK_MS = 60_000
"""A row may be committed so long after the time that it carries."""

SILENT = frozenset({"step-start", "step-finish", "patch", "file", "agent", "subtask", "snapshot", "compaction"})
"""Parts that say nothing here. A step's tokens are those of its message, a compaction is told by the summary that it makes."""

_REFUSALS = ("The user rejected permission", "The user dismissed this question", "Tool execution aborted")
_PREFIX = "Error: "
"""Of each error before 1.2."""

_REFUSED = "refused"
_ASKS = "question"
"""The tool that asks the user: it returns when that has answered."""

_CALLED, _DONE = 1, 2


class _Time(msgspec.Struct, gc=False):
    created: float | None = None
    completed: float | None = None
    start: float | None = None
    end: float | None = None


class _Cache(msgspec.Struct, gc=False):
    read: int | None = None
    write: int | None = None


class _Tokens(msgspec.Struct, gc=False):
    """Of one message. Neither `input` nor `output` includes what stands beside it."""

    input: int | None = None
    output: int | None = None
    reasoning: int | None = None
    cache: _Cache | None = None


class _Reason(msgspec.Struct, gc=False, rename="camel"):
    message: str | None = None
    status_code: int | None = None
    is_retryable: bool | None = None


class _Failure(msgspec.Struct, gc=False):
    name: str | None = None
    data: _Reason | None = None


class _Path(msgspec.Struct, gc=False):
    cwd: str | None = None


class _Info(msgspec.Struct, gc=False, rename={"model_id": "modelID"}):
    """A message without its parts. `summary` is true of one that replaces what was said before; of a user's it is an object."""

    id: str | None = None
    role: str = ""
    time: _Time | None = None
    model_id: str | None = None
    path: _Path | None = None
    finish: str | None = None
    summary: msgspec.Raw = NOTHING
    cost: float | None = None
    tokens: _Tokens | None = None
    error: _Failure | None = None


class _Metadata(msgspec.Struct, gc=False):
    exit: int | None = None


class _State(msgspec.Struct, gc=False):
    status: str | None = None
    input: msgspec.Raw = NOTHING
    output: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING
    metadata: _Metadata | None = None
    time: _Time | None = None


class _Part(msgspec.Struct, gc=False, rename={"call_id": "callID"}):
    id: str | None = None
    type: str = ""
    text: msgspec.Raw = NOTHING
    synthetic: bool | None = None
    time: _Time | None = None
    tool: str | None = None
    call_id: str | None = None
    state: _State | None = None
    error: _Failure | None = None


class _Session(msgspec.Struct, gc=False, rename={"parent_id": "parentID"}):
    id: str | None = None
    directory: str | None = None
    parent_id: str | None = None
    time: _Time | None = None


class Message(msgspec.Struct, omit_defaults=True):
    """What was told of one message. `parts` has those that were told, by id; `row` is where it stands."""

    role: str = ""
    row: int = 0
    created: float = 0
    model: str | None = None
    usage: Usage = NO_USAGE
    cost: float = 0
    is_done: bool = False
    has_prompt: bool = False
    parts: dict[str, int] = {}


class Session(msgspec.Struct, omit_defaults=True):
    """A session, and its last messages by their ids."""

    context: Context
    messages: dict[str, Message] = {}


class Memory(msgspec.Struct):
    """How far a database was read: the newest message's row, its id and time, the newest `time_updated` of all, and what may still change."""

    row: int = 0
    id: str = ""
    created: int = 0
    seen: int = 0
    is_begun: bool = False
    sessions: dict[str, Session] = {}


class ExportMemory(Elements):
    """What was told of an exported session."""

    messages: dict[str, Message] = msgspec.field(default_factory=dict)
    is_begun: bool = False


class _Row(NamedTuple):
    row: int
    id: str
    session: str
    created: int
    updated: int
    data: bytes


class Decoder(Speaker):
    """Decodes one database. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None, origin: Origin) -> None:
        self.memory = memory or Memory()
        self.speaker = Context()
        self._since_ms = int(origin.since.timestamp() * 1000)

    @property
    def place(self) -> int:
        return self.memory.row

    def read(self, ask: Ask, feed: Feed, fault: Faults) -> int:
        """Ask for new messages, and for what became of those that were not over; see `documents.Whole`.

        The kinds of fault: `not_json`, `no_time` and `unknown_type:<type>`. The place of an event is the row of its message.
        """
        memory = self.memory
        self._find_place(ask)
        live = {name: session for session in memory.sessions.values() for name in session.messages}
        after = (memory.row, MOST_ROWS)
        of_live = (msgspec.json.encode(list(live)).decode(), memory.seen - SLACK_MS)
        sessions, messages, parts, old_messages, old_parts = ask(
            [(_SESSIONS, after), (_NEW_MESSAGES, after), (_NEW_PARTS, after), (_OLD_MESSAGES, of_live), (_OLD_PARTS, of_live)]
        )
        known = {as_text(row[0]): (as_text(row[1]), as_text(row[2]) or None, as_int(row[3]), row[4]) for row in sessions}
        told: list[Told] = []
        of_message: dict[str, list[tuple[str, bytes]]] = {}
        for part, message, updated, data in (*parts, *old_parts):
            memory.seen = max(memory.seen, as_int(updated))
            of_message.setdefault(as_text(message), []).append((as_text(part), as_bytes(data)))
        for row in (_row(one) for one in old_messages):
            memory.seen = max(memory.seen, row.updated)
            session = live[row.id]
            told += self._message(session, row, of_message.pop(row.id, []), fault)
        for row in (_row(one) for one in messages):
            memory.seen = max(memory.seen, row.updated)
            memory.row, memory.id, memory.created = row.row, row.id, row.created
            told += self._opened(row, known, fault)
            told += self._message(memory.sessions[row.session], row, of_message.pop(row.id, []), fault)
        for name, changed in of_message.items():  # parts that changed without their message
            if name in live:
                told += self._parts(live[name], name, live[name].messages[name], changed, fault)
        self._forget()
        feed(self.items(told))
        return len(messages)

    def _find_place(self, ask: Ask) -> None:
        """Where to go on: rows are numbered anew when their table is packed, and the numbers of deleted ones are given again."""
        memory = self.memory
        if not memory.is_begun:
            [[(row,)]] = ask([("SELECT coalesce(max(rowid), 0) FROM message WHERE time_created < ?", (self._since_ms,))])
            memory.row, memory.is_begun = row, True
            memory.created = self._since_ms
        elif memory.id:
            same, moved, older = ask(
                [
                    ("SELECT id FROM message WHERE rowid = ?", (memory.row,)),
                    ("SELECT rowid FROM message WHERE id = ?", (memory.id,)),
                    ("SELECT coalesce(max(rowid), 0) FROM message WHERE rowid <= ? AND time_created <= ?", (memory.row, memory.created)),
                ]
            )
            if not same or as_text(same[0][0]) != memory.id:
                memory.row = moved[0][0] if moved else older[0][0]

    def _opened(self, row: _Row, known: dict[str, tuple[str, str | None, int, int]], fault: Faults) -> list[Told]:
        """A session's first message begins it."""
        memory = self.memory
        session = memory.sessions.pop(row.session, None)
        directory, parent, created, first = known.get(row.session, ("", None, row.created, 0))
        is_new = session is None and first == row.row
        if session is None:
            session = Session(Context(session_id=row.session, project_id=directory or None, executor="OPENCODE", parent_id=parent))
        memory.sessions[row.session] = session
        at = at_ms(created)
        if not is_new or at is None:
            return []
        return [Told(at, row.session, session.context, ("session_start", Detail(prompt_type="initial")), row.row, row.data)]

    def _message(self, session: Session, row: _Row, parts: list[tuple[str, bytes]], fault: Faults) -> list[Told]:
        try:
            info = _decode_info(row.data)
        except REFUSED:
            _, info = element(row.data, _decode_info, _Info)
            if not info.role:
                fault(row.row, "not_json", "a message's data is no JSON object")
                return []
        state = session.messages.get(row.id)
        if state is None:
            state = session.messages[row.id] = Message(created=row.created)
        state.row = row.row
        session.context.model = info.model_id or session.context.model
        facts = _tell(info, [(name, *element(data, _decode_part, _Part)) for name, data in parts], state, row.data, fault)
        return [Told(at, session.context.session_id or "", session.context, fact, state.row, line) for at, fact, line in facts]

    def _parts(self, session: Session, name: str, state: Message, parts: list[tuple[str, bytes]], fault: Faults) -> list[Told]:
        facts = _tell_parts([(part, *element(data, _decode_part, _Part)) for part, data in parts], state, fault)
        return [Told(at, session.context.session_id or "", session.context, fact, state.row, line) for at, fact, line in facts]

    def _forget(self) -> None:
        sessions = self.memory.sessions
        for session in sessions.values():
            while len(session.messages) > LIVE_MESSAGES:
                del session.messages[next(iter(session.messages))]
        while len(sessions) > LIVE_SESSIONS:
            del sessions[next(iter(sessions))]


class _Export(msgspec.Struct, gc=False):
    info: _Session | None = None
    messages: list[msgspec.Raw] = []


class _Exported(msgspec.Struct, gc=False):
    info: _Info | None = None
    parts: list[msgspec.Raw] = []


class ExportDecoder(Speaker):
    """Decodes what `opencode export` writes: one session with all its messages."""

    name = EXPORT

    def __init__(self, memory: ExportMemory | None, _origin: Origin) -> None:
        self.memory = memory or ExportMemory()
        self.speaker = Context()

    @property
    def place(self) -> int:
        return self.memory.count

    def read(self, document: bytes, feed: Feed, fault: Faults) -> int | None:
        """Tell what is new of a document; the place of an event is the index of its message."""
        export = parsed(document, _decode_export, _Export)
        if export is None:
            return None
        if export.info is None or not export.info.id:
            fault(0, "unrecognised", "no exported session: `info.id` is missing")
            return 0
        info, before = export.info, self.memory.count
        session = info.id or ""
        self.speaker = Context(session_id=session, project_id=info.directory, executor="OPENCODE", parent_id=info.parent_id)
        feed(self._items(info, session, export.messages, fault))
        return max(0, self.memory.count - before)

    def _items(self, session: _Session, name: str, messages: list[msgspec.Raw], fault: Faults) -> Iterator[Item]:
        memory = self.memory
        created = at_ms(session.time.created if session.time else None)
        if created is not None and not memory.is_begun:
            memory.is_begun = True
            yield Event(created, name, "session_start", Detail(prompt_type="initial")), 0, b""
        for index, (line, said), state in changing(memory, memory.messages, Message, [_exported(raw) for raw in messages], _identify):
            info = said.info or _Info()
            state.created = (info.time.created if info.time else None) or state.created
            self.speaker.model = info.model_id or self.speaker.model
            parts: list[tuple[str, bytes, _Part]] = []
            for part in said.parts:
                text, decoded = element(part, _decode_part, _Part)
                parts.append((decoded.id or f"{index}/{len(parts)}", text, decoded))
            for at, fact, _ in sorted(_tell(info, parts, state, line, fault, index), key=lambda one: one[0]):
                yield Event(at, name, *fact), index, line


def decoder(memory: msgspec.Raw, origin: Origin) -> Decoder:
    """Continue a database."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None), origin)


def export_decoder(memory: msgspec.Raw, origin: Origin) -> ExportDecoder:
    """Continue an exported session."""
    return ExportDecoder(msgspec.json.decode(memory, type=ExportMemory | None), origin)


def _exported(raw: msgspec.Raw) -> tuple[bytes, _Exported]:
    return element(raw, _decode_exported, _Exported)


def _identify(index: int, said: tuple[bytes, _Exported]) -> tuple[str, float]:
    info = said[1].info
    return (info.id if info and info.id else str(index)), (info.time.created if info and info.time else None) or 0.0


_Fact = tuple[datetime, Fact, bytes]


def _tell(info: _Info, parts: list[tuple[str, bytes, _Part]], state: Message, line: bytes, fault: Faults, place: int | None = None) -> list[_Fact]:
    """What is new of a message and its parts."""
    state.role = info.role or state.role
    state.model = info.model_id or state.model
    if place is not None:
        state.row = place
    completed = at_ms(info.time.completed if info.time else None)
    if completed is None and info.error is not None:
        completed = at_ms(state.created)
    if info.role not in ("user", "assistant"):
        fault(state.row, *((kind_of(info.role), "") if info.role else ("no_type", "a message without a role")))
        return []
    facts = _tell_parts(parts, state, fault, is_over=completed is not None)
    if info.role == "assistant" and completed is not None:
        facts += [(completed, fact, line) for fact in _completed(info, parts, state)]
    return facts


def _completed(info: _Info, parts: list[tuple[str, bytes, _Part]], state: Message) -> Iterable[Fact]:
    """A message of the model's is over: it is paid for, and maybe the turn is over too."""
    spent = growth(state.usage, _usage(info.tokens))
    cost = max(0.0, (info.cost or 0.0) - state.cost)
    if spent.total or cost:
        state.usage, state.cost = plus(state.usage, spent), state.cost + cost
        yield "usage", Data(usage=spent, cost_usd=cost, model=info.model_id)
    if state.is_done:
        return
    state.is_done = True
    failure = info.error
    if failure is not None:
        is_aborted = failure.name == "MessageAbortedError"
        if not is_aborted:
            yield "error", _error(failure)
        yield "turn_end", Detail(reason="aborted" if is_aborted else "error", interrupted=True if is_aborted else None)
    elif info.summary == _TRUE:
        yield "compaction", Data()
    elif info.finish is None:  # before 1.0
        if parts and parts[-1][2].type == "text":
            yield "turn_end", Detail(reason="answered")
    elif info.finish != "tool-calls":
        yield "turn_end", Detail(reason=info.finish)


def _tell_parts(parts: list[tuple[str, bytes, _Part]], state: Message, fault: Faults, *, is_over: bool = False) -> list[_Fact]:
    at = at_ms(state.created)
    if at is None:
        fault(state.row, "no_time", "a message without the time of its creation")
        return []
    facts: list[_Fact] = []
    for name, line, part in parts:
        teller = _PARTS_TOLD.get(part.type)
        if teller is not None:
            for said_at, fact in teller(name, part, state, is_over):
                at = said_at or at  # text has no time in older versions: it comes behind what stands before it
                facts.append((at, fact, line))
        elif part.type not in SILENT:
            fault(state.row, *((kind_of(part.type), "") if part.type else ("not_json", "a part without a type")))
    return facts


_Timed = Iterable[tuple[datetime | None, Fact]]


def _said(name: str, part: _Part, state: Message, is_over: bool) -> _Timed:
    end = part.time.end if part.time else None
    if name in state.parts or part.synthetic or is_empty(part.text):
        return
    if state.role == "user":
        state.parts[name] = _DONE
        if not state.has_prompt:
            state.has_prompt = True
            yield None, ("user_message", Detail(output=part.text))
    elif end is not None or is_over:
        state.parts[name] = _DONE
        yield at_ms(end), ("agent_output", Detail(output=part.text))


def _thought(name: str, part: _Part, state: Message, is_over: bool) -> _Timed:
    end = part.time.end if part.time else None
    if name not in state.parts and (end is not None or is_over):
        state.parts[name] = _DONE
        yield at_ms(end), ("agent_thinking", Data())


def _tool(name: str, part: _Part, state: Message, _is_over: bool) -> _Timed:
    said = part.state or _State()
    told = state.parts.get(name, 0)
    if said.status in (None, "pending"):  # its parameters are still being written
        return
    time = said.time or _Time()
    if told < _CALLED:
        yield at_ms(time.start), ("tool_call", Data(tool_name=part.tool, tool_call_id=part.call_id, tool_params=said.input))
        if part.tool == _ASKS:
            yield at_ms(time.start), ("turn_end", Detail(reason=_ASKS))
    is_over = said.status in ("completed", "error")
    state.parts[name] = max(told, _DONE if is_over else _CALLED)
    if is_over and told < _DONE:
        result = _result(part, said)
        yield at_ms(time.end), ("tool_result", result)
        if isinstance(result, Detail) and result.reason == _REFUSED:  # OpenCode stops there
            yield at_ms(time.end), ("turn_end", Detail(reason=_REFUSED))


def _result(part: _Part, said: _State) -> Data:
    """A command that failed is a completed call for OpenCode."""
    exit_code = said.metadata.exit if said.metadata else None
    if said.status == "completed" and not exit_code:
        return Data(tool_name=part.tool, tool_call_id=part.call_id, result=said.output, is_error=False, exit_code=exit_code)
    shown = said.error if said.status == "error" else said.output
    message = text(shown)
    detail = Detail(tool_name=part.tool, tool_call_id=part.call_id, result=shown, is_error=True, exit_code=exit_code, error_message=message)
    if said.status == "error" and message.removeprefix(_PREFIX).startswith(_REFUSALS):
        detail.is_error, detail.reason = False, _REFUSED
    return detail


def _retried(name: str, part: _Part, state: Message, _is_over: bool) -> _Timed:
    if name not in state.parts:
        state.parts[name] = _DONE
        detail = _error(part.error or _Failure())
        detail.retry = True
        yield at_ms(part.time.created if part.time else None), ("error", detail)


def _error(failure: _Failure) -> Detail:
    reason = failure.data or _Reason()
    status = f" ({reason.status_code})" if reason.status_code else ""
    return Detail(
        error_message=f"{reason.message or failure.name or 'unknown error'}{status}", error_category="api" if failure.name == "APIError" else failure.name
    )


def _usage(said: _Tokens | None) -> Usage:
    if said is None:
        return NO_USAGE
    cache, thoughts = said.cache or _Cache(), said.reasoning or 0
    return Usage(said.input or 0, (said.output or 0) + thoughts, cache.read or 0, cache.write or 0, thoughts)


def _row(values: tuple[Any, ...]) -> _Row:
    row, name, session, created, updated, data = values
    return _Row(row, as_text(name), as_text(session), as_int(created), as_int(updated), as_bytes(data))


_PARTS_TOLD: dict[str, Callable[[str, _Part, Message, bool], _Timed]] = {
    "text": _said,
    "reasoning": _thought,
    "tool": _tool,
    "retry": _retried,
}
_SESSIONS = """
    SELECT id, directory, parent_id, time_created, (SELECT min(rowid) FROM message WHERE session_id = session.id) FROM session
    WHERE id IN (SELECT session_id FROM message WHERE rowid > ? ORDER BY rowid LIMIT ?)"""
_NEW_MESSAGES = "SELECT rowid, id, session_id, time_created, time_updated, data FROM message WHERE rowid > ? ORDER BY rowid LIMIT ?"
_NEW_PARTS = """
    SELECT id, message_id, time_updated, data FROM part
    WHERE message_id IN (SELECT id FROM message WHERE rowid > ? ORDER BY rowid LIMIT ?) ORDER BY message_id, id"""
_OLD_MESSAGES = """
    SELECT rowid, id, session_id, time_created, time_updated, data FROM message
    WHERE id IN (SELECT value FROM json_each(?)) AND time_updated >= ?"""
_OLD_PARTS = """
    SELECT id, message_id, time_updated, data FROM part
    WHERE message_id IN (SELECT value FROM json_each(?)) AND time_updated >= ? ORDER BY message_id, id"""
_TRUE = msgspec.Raw(b"true")

_decode_info = msgspec.json.Decoder(_Info).decode
_decode_part = msgspec.json.Decoder(_Part).decode
_decode_export = msgspec.json.Decoder(_Export).decode
_decode_exported = msgspec.json.Decoder(_Exported).decode
