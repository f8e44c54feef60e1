"""Gemini CLI's session logs and its `--output-format stream-json`: lines become events. Facts, traps and omissions stand in `README.md` beside this file."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec

from agentwatch.formats.lenient import REFUSED, kind_of
from agentwatch.formats.shared import NO_USAGE, Fact, Faults, Native, entries, growth, is_empty, plus, remember, text
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Time, Usage

NAME = "gemini-cli"

FINAL = frozenset({"success", "error", "cancelled"})
"""The states in which a call has come to its end: the only ones that were ever seen in a file."""

_PARENT = re.compile(r"(?:^|/)chats/([^/]+)/[^/]+$")
"""A sub-agent's file stands in a folder that is called by its parent's id."""

_SHELL = "run_shell_command"
_CONTEXT = ("<session_context>", "This is the Gemini CLI. We are setting up the context")
_WORKSPACE = re.compile(r"(?:Workspace Directories:\*\*\n +- |working in the directory: )([^\n]+)")
_CANCELLED = "Request cancelled."
_API_ERROR = "[API Error"
_EXIT_CODE = re.compile(rb'\\nExit Code: (-?\d{1,9})(?:\\n(?:Signal|Background PIDs|Process Group PGID): [^\\"]{0,80})*(?:\\n</untrusted_context>)?"')
"""The end of what the model is told of a command, as JSON. Code 0 is left out; what a person is shown has none at all."""
_LONGEST_ENDING = 400


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: msgspec.Raw = NOTHING
    function_response: "_Response | None" = None


class _Response(msgspec.Struct, gc=False):
    response: "_Outcome | None" = None


class _Outcome(msgspec.Struct, gc=False):
    output: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


_Content = list[_Part] | str | None


class _Call(msgspec.Struct, gc=False, rename="camel"):
    """A tool call with its result: written when it is over."""

    id: str | None = None
    name: str | None = None
    args: msgspec.Raw = NOTHING
    status: str | None = None
    result: msgspec.Raw = NOTHING
    result_display: msgspec.Raw = NOTHING
    timestamp: Time | None = None


class _Tokens(msgspec.Struct, gc=False):
    """Of one message. `input` includes `cached`, `output` does not include `thoughts`; `tool` is what a tool of the API's own added."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    thoughts: int | None = None
    tool: int | None = None


class _Failure(msgspec.Struct, gc=False):
    type: str | None = None
    message: str | None = None


class _Totals(msgspec.Struct, gc=False):
    """Of one model in a headless run. `total_tokens` is input, output and thoughts."""

    total_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached: int | None = None


class _Stats(_Totals, gc=False):
    models: dict[str, _Totals] | None = None
    duration_ms: float | None = None


class _Set(msgspec.Struct, gc=False, rename="camel"):
    """A change of the session's own fields. `messages` replaces all that were written before."""

    session_id: str | None = None
    messages: list[msgspec.Raw] | None = None
    directories: list[str] | None = None
    last_updated: Time | None = None


class _Entry(msgspec.Struct, gc=False, rename={"session": "sessionId", "project_hash": "projectHash", "display_content": "displayContent",
                                              "tool_calls": "toolCalls", "set": "$set", "rewind_to": "$rewindTo"}):  # fmt: skip
    """A line of either container, as far as anything here asks."""

    type: str = ""
    id: str | None = None
    timestamp: Time | None = None
    content: _Content = None
    display_content: _Content = None
    thoughts: list[msgspec.Raw] | None = None
    tokens: _Tokens | None = None
    model: str | None = None
    tool_calls: list[_Call] | None = None
    set: _Set | None = None
    rewind_to: str | None = None
    session: str | None = None
    project_hash: str | None = None
    start_time: Time | None = msgspec.field(name="startTime", default=None)
    directories: list[str] | None = None
    session_id: str | None = None
    role: str | None = None
    tool_name: str | None = None
    tool_id: str | None = None
    parameters: msgspec.Raw = NOTHING
    status: str | None = None
    output: msgspec.Raw = NOTHING
    error: _Failure | None = None
    severity: str | None = None
    message: str | None = None
    stats: _Stats | None = None


class _Mark(msgspec.Struct, gc=False, rename={"session": "sessionId", "project_hash": "projectHash", "set": "$set"}):
    """What tells a session's first line, or a stream's. The older documents have their `messages` in the same object."""

    type: str = ""
    session: str | None = None
    project_hash: str | None = None
    messages: msgspec.Raw = NOTHING
    set: dict[str, msgspec.Raw] | None = None
    session_id: str | None = None
    model: str | None = None
    timestamp: str | None = None


class Told(msgspec.Struct):
    """What was already told of one message, which is written again whenever it grows."""

    usage: Usage = NO_USAGE
    has_text: bool = False
    thoughts: int = 0
    calls: int = 0
    results: int = 0


class Memory(msgspec.Struct):
    """What one file's later lines need of its earlier ones. `count`: messages in the conversation, as far as is known. `calls` are a stream's."""

    context: Context = msgspec.field(default_factory=Context)
    time: Time | None = None
    turn_is_open: bool = False
    count: int = 0
    messages: dict[str, Told] = {}
    calls: dict[str, str] = {}


_Timed = tuple[datetime | None, Fact]
"""A fact, and its time where that is not the line's."""


class Decoder(Native):
    """Decodes one file. Continue it in another process by giving `memory` to a new one. Only its `source` says whose sub-agent writes it."""

    name = NAME

    def __init__(self, memory: Memory | None = None, source: str = "") -> None:
        self.memory = Memory() if memory is None else memory
        parent = _PARENT.search(source)
        self._parent = parent[1] if parent else None

    def context(self, _line: bytes) -> Context:
        """Who the file speaks of, as its lines so far say. There is no branch; the directory stands in what the model was told at the start."""
        return msgspec.structs.replace(self.memory.context, parent_id=self._parent)

    def _items(self, lines: list[bytes], offset: int, fault: Faults) -> Iterator[Item]:
        memory = self.memory
        for place, line, entry in entries(lines, offset, _decode, _Entry, fault):
            said_at = _time(entry)
            memory.time = said_at or memory.time
            tell = _teller(entry)
            if tell is None:
                fault(place, *((kind_of(entry.type), "") if entry.type else ("no_type", "neither a message nor a change of the session")))
                continue
            facts = tell(entry, memory)
            time, session = memory.time, memory.context.session_id
            if session is None:
                fault(place, "no_session", "a line before the one that names the session")
            elif time is None:
                fault(place, "no_time", "a line without `timestamp`, and none before it")
            else:
                for at, (event_type, data) in facts:
                    yield Event(at or time, session, event_type, data, None, at is None and said_at is None), place, line


def recognise(_path: str, lines: list[bytes]) -> bool:
    """Whether one of a file's first complete lines is what a session or a stream begins with."""
    for line in lines:
        try:
            mark = _decode_mark(line)
        except REFUSED:
            continue
        if mark.session and mark.project_hash and not mark.messages:
            return True
        if mark.type == "init" and mark.session_id and mark.model and mark.timestamp:
            return True
    return False


def decoder(source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a session."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None), source)


def _time(entry: _Entry) -> datetime | None:
    return entry.timestamp or entry.start_time or (entry.set.last_updated if entry.set else None)


def _teller(entry: _Entry) -> "Callable[[_Entry, Memory], list[_Timed]] | None":
    if entry.set is not None:
        return _changed
    if entry.rewind_to is not None:
        return _rewound
    if entry.id is not None:
        return _MESSAGES.get(entry.type)
    if entry.session is not None and entry.project_hash is not None:
        return _began
    return _STREAM.get(entry.type)


def _now(*facts: Fact) -> list[_Timed]:
    return [(None, fact) for fact in facts]


def _handed_over(memory: Memory, reason: str, *, interrupted: bool | None = None) -> list[_Timed]:
    """End the turn, unless that was said."""
    if not memory.turn_is_open:
        return []
    memory.turn_is_open = False
    return _now(("turn_end", Detail(reason=reason, interrupted=interrupted)))


# A session's log


def _began(entry: _Entry, memory: Memory) -> list[_Timed]:
    """The prompt comes on a line of its own: until then nobody owes anything."""
    memory.context = Context(session_id=entry.session, executor="GEMINI", project_id=next(iter(entry.directories or []), None))
    memory.messages.clear()
    memory.turn_is_open, memory.count = False, 0
    return _now(("session_start", Detail(prompt_type="initial")), ("turn_end", Detail(reason="initial")))


def _changed(entry: _Entry, memory: Memory) -> list[_Timed]:
    """A list of messages holds what was said before, or a summary of it. Where it is shorter than that was, it is a summary."""
    change = entry.set or _Set()
    context = memory.context
    context.session_id, context.executor = change.session_id or context.session_id, "GEMINI"
    context.project_id = next(iter(change.directories or []), context.project_id)
    if change.messages is None:
        return []
    before, memory.count = memory.count, len(change.messages)
    if context.project_id is None and change.messages:
        _locate(_first_text(change.messages[0]), memory)
    return _now(("compaction", Data())) if memory.count < before else []


def _first_text(message: msgspec.Raw) -> str:
    try:
        return text(_prompt(_decode(message)))
    except REFUSED:
        return ""


def _locate(said: str, memory: Memory) -> None:
    found = _WORKSPACE.search(said)
    if found:
        memory.context.project_id = found[1].strip()


def _rewound(_entry: _Entry, memory: Memory) -> list[_Timed]:
    memory.count = 0
    return _handed_over(memory, "rewind", interrupted=True)


def _prompt(entry: _Entry) -> msgspec.Raw:
    """What the user typed: the first text of what is shown, before the files that were put in."""
    for content in (entry.display_content, entry.content):
        if isinstance(content, str):
            return msgspec.Raw(msgspec.json.encode(content))
        for part in content or []:
            if not is_empty(part.text):
                return part.text
    return NOTHING


def _is_first(entry: _Entry, memory: Memory) -> bool:
    """Whether the message was not told before."""
    message = entry.id or ""
    if message in memory.messages:
        return False
    remember(memory.messages, message, Told())
    memory.count += 1
    return True


def _user(entry: _Entry, memory: Memory) -> list[_Timed]:
    if not _is_first(entry, memory):
        return []
    if isinstance(entry.content, list) and any(part.function_response for part in entry.content):
        memory.turn_is_open = True
        return _now(("progress", Data()))
    prompt = _prompt(entry)
    said = text(prompt)
    if said.startswith(_CONTEXT):
        _locate(said, memory)
        return []
    memory.turn_is_open = True
    return _now(("user_message", Detail(output=prompt)))


def _gemini(entry: _Entry, memory: Memory) -> list[_Timed]:
    _is_first(entry, memory)
    told = memory.messages[entry.id or ""]
    memory.context.model = entry.model or memory.context.model
    calls = entry.tool_calls or []
    facts = _now(*_said(entry, told, has_calls=bool(calls)))
    for call in calls[told.calls :]:
        facts.append((None, ("tool_call", Data(tool_name=call.name, tool_call_id=call.id, tool_params=call.args, msg_id=entry.id))))
    told.calls = max(told.calls, len(calls))
    for call in calls[told.results :]:
        if call.status not in FINAL:
            break
        facts.append((call.timestamp, ("tool_result", _result(call))))
        told.results += 1
    if facts:
        memory.turn_is_open = True
    spent = growth(told.usage, _usage(entry.tokens)) if entry.tokens else NO_USAGE
    if spent.total:
        told.usage = plus(told.usage, spent)
        if not facts:
            facts = _now(("usage", Data(msg_id=entry.id)))
        data = facts[0][1][1]
        data.usage, data.model = spent, entry.model
    if told.has_text and not calls:
        # Calls are written when they are over: a message that goes on to call looks like the last word until then.
        facts += _handed_over(memory, "answered")
    return facts


def _said(entry: _Entry, told: Told, *, has_calls: bool) -> list[Fact]:
    facts: list[Fact] = []
    thoughts = len(entry.thoughts or [])
    if thoughts > told.thoughts:
        told.thoughts = thoughts
        facts.append(("agent_thinking", Data(msg_id=entry.id)))
    said = _prompt(entry)
    if not told.has_text and not is_empty(said):
        told.has_text = True
        facts.append(("agent_output", Detail(output=said, stop_reason="tool_use" if has_calls else None, msg_id=entry.id)))
    return facts


def _result(call: _Call) -> Data:
    """What a person is shown is the result: the model's copy has the number of the process in it, another one in each call."""
    shown = call.result_display if bytes(call.result_display).startswith(b'"') else call.result
    exit_code = _exit_code(call) if call.name == _SHELL else None
    if call.status == "success" and not exit_code:
        return Data(tool_name=call.name, tool_call_id=call.id, result=shown, is_error=False, exit_code=exit_code)
    message = text(shown) if shown is call.result_display else ""
    data = Detail(tool_name=call.name, tool_call_id=call.id, result=shown, is_error=True, exit_code=exit_code, error_message=message or _told(call.result))
    if call.status == "cancelled":
        data.is_error, data.reason = False, "cancelled"
    return data


def _exit_code(call: _Call) -> int | None:
    said = bytes(call.result)
    found = _EXIT_CODE.search(said, max(0, len(said) - _LONGEST_ENDING))
    return int(found[1]) if found else None


def _told(result: msgspec.Raw) -> str:
    """The error or the output that the model was given."""
    try:
        parts = _decode_parts(result)
    except REFUSED:
        return ""
    outcomes = [part.function_response.response for part in parts if part.function_response and part.function_response.response]
    return "\n".join(filter(None, (text(outcome.error) or text(outcome.output) for outcome in outcomes)))


def _usage(said: _Tokens) -> Usage:
    cached, thoughts = said.cached or 0, said.thoughts or 0
    return Usage(max(0, (said.input or 0) + (said.tool or 0) - cached), (said.output or 0) + thoughts, cached, 0, thoughts)


def _notice(entry: _Entry, memory: Memory) -> list[_Timed]:
    if _is_first(entry, memory) and text(_prompt(entry)).startswith(_CANCELLED):
        return _handed_over(memory, "cancelled", interrupted=True)
    return []


def _error(entry: _Entry, memory: Memory) -> list[_Timed]:
    if not _is_first(entry, memory):
        return []
    message = text(_prompt(entry))
    category = "api" if message.startswith(_API_ERROR) else None
    return [*_now(("error", Detail(error_message=message, error_category=category, retry=False))), *_handed_over(memory, "error")]


# A stream


def _init(entry: _Entry, memory: Memory) -> list[_Timed]:
    memory.context = Context(session_id=entry.session_id, executor="GEMINI", model=entry.model)
    memory.calls.clear()
    return _now(("session_start", Detail(prompt_type="initial")))


def _message(entry: _Entry, _memory: Memory) -> list[_Timed]:
    detail = Detail(output=_prompt(entry))
    return _now(("user_message", detail) if entry.role == "user" else ("agent_output", detail))


def _tool_use(entry: _Entry, memory: Memory) -> list[_Timed]:
    if entry.tool_id and entry.tool_name:
        remember(memory.calls, entry.tool_id, entry.tool_name)
    return _now(("tool_call", Data(tool_name=entry.tool_name, tool_call_id=entry.tool_id, tool_params=entry.parameters)))


def _tool_result(entry: _Entry, memory: Memory) -> list[_Timed]:
    call = entry.tool_id
    name = memory.calls.pop(call, None) if call else None
    if entry.status != "error":
        return _now(("tool_result", Data(tool_name=name, tool_call_id=call, result=entry.output, is_error=False)))
    failure = entry.error or _Failure()
    message = failure.message or text(entry.output)
    detail = Detail(tool_name=name, tool_call_id=call, result=entry.output, is_error=True, error_message=message, error_category=failure.type)
    return _now(("tool_result", detail))


def _stream_error(entry: _Entry, _memory: Memory) -> list[_Timed]:
    if entry.severity == "warning":
        return _now(("progress", Data()))
    return _now(("error", Detail(error_message=entry.message)))


def _run_over(entry: _Entry, memory: Memory) -> list[_Timed]:
    """The tokens of the whole run stand here and nowhere else."""
    stats = entry.stats or _Stats()
    facts: list[_Timed] = []
    for model, totals in (stats.models or {memory.context.model or "": stats}).items():
        usage = _sum(totals)
        if usage.total:
            facts += _now(("usage", Data(usage=usage, model=model or None)))
    if entry.error:
        facts += _now(("error", Detail(error_message=entry.error.message, error_category=entry.error.type, retry=False)))
    status = "success" if entry.status == "success" else "failed"
    return [*facts, *_now(("session_end", Detail(completion_status=status, duration_ms=stats.duration_ms)))]


def _sum(said: _Totals) -> Usage:
    read, output, cached = max(0, said.input_tokens or 0), max(0, said.output_tokens or 0), max(0, said.cached or 0)
    thoughts = max(0, (said.total_tokens or 0) - read - output)
    return Usage(max(0, read - cached), output + thoughts, cached, 0, thoughts)


_MESSAGES: dict[str, Callable[[_Entry, Memory], list[_Timed]]] = {
    "user": _user,
    "gemini": _gemini,
    "info": _notice,
    "warning": _notice,
    "error": _error,
}
_STREAM: dict[str, Callable[[_Entry, Memory], list[_Timed]]] = {
    "init": _init,
    "message": _message,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "error": _stream_error,
    "result": _run_over,
}

_decode = msgspec.json.Decoder(_Entry).decode
_decode_mark = msgspec.json.Decoder(_Mark).decode
_decode_parts = msgspec.json.Decoder(list[_Part]).decode
