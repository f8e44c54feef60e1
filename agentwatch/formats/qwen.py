"""Qwen Code's chat recordings: lines become events. The facts, traps and omissions stand in `README.md` beside this file."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec

from agentwatch.formats.lenient import REFUSED, fit, kind_of, mended
from agentwatch.formats.shared import NO_USAGE, Fact, Faults, Native, entries, growth, is_empty, plus, remember, text
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Time, Usage

NAME = "qwen-code"

SILENT = frozenset(
    {
        "agent_bootstrap",
        "agent_retry",
        "agent_session_ready",
        "at_command",
        "attribution_snapshot",
        "background_task_completed",
        "branch_checkpoint",
        "custom_title",
        "file_history_snapshot",
        "goal_runtime",
        "goal_state",
        "goal_turn_end",
        "managed_session_commit_v1",
        "managed_session_event_v1",
        "managed_session_header_v1",
        "notification",
        "omni_recall",
        "session_approval_mode",
        "session_artifact_event",
        "session_artifact_snapshot",
        "session_execution_engine",
        "session_model",
        "session_notes",
        "session_source",
        "session_sources_snapshot",
        "slash_command",
        "user_text_elements",
    },
)
"""Subtypes of `system` that are known and say nothing about what the agent does."""

PROMPTS = frozenset({None, "agent_launch_prompt", "cron", "mid_turn_user_message", "realtime_message"})
"""Subtypes of `user` that ask the model. What other subtypes put in asks it only where the line says so (`deliveredTurn`)."""

RATE_LIMITED, SERVER_FAILED = 429, 500
"""Statuses that Qwen Code tries again after, the second with all above it. After any other the turn is over."""

REFUSALS = frozenset({"execution_denied"})
"""Error types of calls that were not run, because a person or a rule said no: nobody's failure."""

_EXIT_CODE = re.compile(r"^Exit Code: (-?\d{1,9})$", re.MULTILINE)
_SHELL = "run_shell_command"


class _Function(msgspec.Struct, gc=False):
    """`functionCall` or `functionResponse`."""

    id: str | None = None
    name: str | None = None
    args: msgspec.Raw = NOTHING
    response: "_Outcome | None" = None


class _Outcome(msgspec.Struct, gc=False):
    output: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: msgspec.Raw = NOTHING
    thought: bool | None = None
    function_call: _Function | None = None
    function_response: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Tokens(msgspec.Struct, gc=False, rename="camel"):
    """`promptTokenCount` includes the cached ones."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    total_token_count: int | None = None
    cached_content_token_count: int | None = None


class _Shown(msgspec.Struct, gc=False, rename="camel"):
    """What a person is shown of a command."""

    exit_code: int | None = None
    output: msgspec.Raw = NOTHING


class _Result(msgspec.Struct, gc=False, rename="camel"):
    call_id: str | None = None
    status: str | None = None
    result_display: msgspec.Raw = NOTHING
    error_type: str | None = None


class _Telemetry(msgspec.Struct, gc=False):
    name: str | None = msgspec.field(name="event.name", default=None)
    error_message: str | None = None
    error_type: str | None = None
    status_code: int | None = None


class _TurnError(msgspec.Struct, gc=False):
    message: str | None = None
    code: str | None = None


class _Payload(msgspec.Struct, gc=False, rename="camel"):
    display_text: msgspec.Raw = NOTHING
    ui_event: _Telemetry | None = None
    parent_session_id: str | None = None
    state: str | None = None
    error: _TurnError | None = None


class _Entry(msgspec.Struct, gc=False, rename="camel"):
    """A line, as far as anything here asks."""

    type: str = ""
    subtype: str | None = None
    uuid: str | None = None
    session_id: str | None = None
    timestamp: Time | None = None
    agent_id: str | None = None
    is_sidechain: bool | None = None
    forked_from: msgspec.Raw = NOTHING
    delivered_turn: bool | None = None
    model: str | None = None
    message: _Message | None = None
    usage_metadata: _Tokens | None = None
    tool_call_result: _Result | None = None
    system_payload: _Payload | None = None


class _Who(msgspec.Struct, gc=False, rename="camel"):
    session_id: str | None = None
    cwd: str | None = None
    git_branch: str | None = None
    model: str | None = None


class _Mark(msgspec.Struct, gc=False, rename="camel"):
    """What tells a line of Qwen Code's from one of Claude Code's, whose envelope is the same."""

    type: str = ""
    uuid: str | None = None
    session_id: str | None = None
    message: dict[str, msgspec.Raw] | None = None
    system_payload: msgspec.Raw = NOTHING


class Memory(msgspec.Struct):
    """What one file's later lines need of its earlier ones. Dictionaries are in the order of insertion; the oldest entry leaves."""

    time: Time | None = None
    turn_is_open: bool = False
    parent_id: str | None = None
    sessions: dict[str, None] = {}
    calls: dict[str, str] = {}
    billed: dict[str, Usage] = {}


class Decoder(Native):
    """Decodes one file. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory

    def context(self, line: bytes) -> Context:
        """Who the line speaks of. Only assistant lines name the model; the parent session has a line of its own."""
        try:
            who = _decode_who(line)
        except REFUSED:
            who = fit(mended(line), _Who)
        if who.session_id is None:
            return Context()
        return Context(
            session_id=who.session_id,
            project_id=who.cwd,
            executor="QWEN",
            model=who.model,
            branch=who.git_branch,
            parent_id=self.memory.parent_id,
        )

    def _items(self, lines: list[bytes], offset: int, fault: Faults) -> Iterator[Item]:
        memory = self.memory
        for place, line, entry in entries(lines, offset, _decode, _Entry, fault):
            if entry.timestamp is not None:
                memory.time = entry.timestamp
            time, session = memory.time, entry.session_id
            if problem := _problem(entry, time):
                fault(place, *problem)
            if session is not None and time is not None:
                for event_type, data in _facts(entry, session, memory):
                    yield Event(time, session, event_type, data, _lane(entry), entry.timestamp is None), place, line


def recognise(_path: str, lines: list[bytes]) -> bool:
    """Whether one of a file's first complete lines is Qwen Code's: a message of `parts`, or a `systemPayload`."""
    for line in lines:
        try:
            mark = _decode_mark(line)
        except REFUSED:
            continue
        if mark.uuid and mark.session_id and mark.type in _FACTS and (mark.system_payload or (mark.message and "parts" in mark.message)):
            return True
    return False


def decoder(_source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a session."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None))


def _problem(entry: _Entry, time: datetime | None) -> tuple[str, str] | None:
    """Name the fault that the line is, if it is one: kind and detail."""
    if entry.type not in _FACTS:
        return (kind_of(entry.type), "") if entry.type else ("no_type", "no `type` that is a text")
    if entry.type == "system" and entry.subtype not in _SYSTEM and entry.subtype not in SILENT:
        return kind_of(f"system.{entry.subtype}"), ""
    if entry.session_id is None:
        return "no_session", f"`{entry.type}` without `sessionId`"
    if time is None:
        return "no_time", f"`{entry.type}` without `timestamp`, and none before it"
    return None


def _facts(entry: _Entry, session: str, memory: Memory) -> list[Fact]:
    # A branch begins with a copy of its parent's lines, under its own id: they were told, and paid, there.
    tell = None if entry.forked_from else _FACTS.get(entry.type)
    facts = tell(entry, memory) if tell else []
    if session in memory.sessions or _lane(entry):
        return facts
    remember(memory.sessions, session, None)
    start = Detail(prompt_type="initial")
    # A prompt on the first line of a session is what the session starts with; until there is one nobody owes anything.
    if facts and facts[0][0] == "user_message" and isinstance(facts[0][1], Detail):
        start.prompt = facts[0][1].output
        return [("session_start", start), *facts[1:]]
    return [("session_start", start), *(facts or [("turn_end", Detail(reason="initial"))])]


def _lane(entry: _Entry) -> str | None:
    return entry.agent_id or ("sidechain" if entry.is_sidechain else None)


def _parts(entry: _Entry) -> list[_Part]:
    return (entry.message.parts if entry.message else None) or []


def _user(entry: _Entry, memory: Memory) -> list[Fact]:
    if entry.subtype not in PROMPTS:
        if not entry.delivered_turn:
            return []
        memory.turn_is_open = True
        return [("turn_start", Detail())]
    memory.turn_is_open = True
    # What was typed, before hooks and files were added to it.
    said = entry.system_payload.display_text if entry.system_payload else NOTHING
    if is_empty(said):
        said = next((part.text for part in _parts(entry) if not is_empty(part.text)), NOTHING)
    return [("user_message", Detail(output=said))]


def _assistant(entry: _Entry, memory: Memory) -> list[Fact]:
    parts = _parts(entry)
    stop_reason = "tool_use" if any(part.function_call for part in parts) else None
    facts: list[Fact] = []
    for part in parts:
        call = part.function_call
        if call is not None:
            if call.id and call.name:
                remember(memory.calls, call.id, call.name)
            facts.append(("tool_call", Data(tool_name=call.name, tool_call_id=call.id, tool_params=call.args, msg_id=entry.uuid)))
        elif part.thought:
            facts.append(("agent_thinking", Data(msg_id=entry.uuid)))
        elif not is_empty(part.text):
            facts.append(("agent_output", Detail(output=part.text, stop_reason=stop_reason, msg_id=entry.uuid)))
    has_answered = stop_reason is None and any(event_type == "agent_output" for event_type, _ in facts)
    if facts:
        memory.turn_is_open = True
    spent = _spent(entry, memory)
    if not facts:
        facts.append(("usage", Data(msg_id=entry.uuid)) if spent else ("progress", Data()))
    if spent:
        facts[0][1].usage, facts[0][1].model = spent, entry.model
    return facts + _handed_over(memory, "answered") if has_answered else facts


def _spent(entry: _Entry, memory: Memory) -> Usage | None:
    """What the line adds to the bill: a message that is written again has all its tokens again."""
    if entry.usage_metadata is None:
        return None
    key, now = entry.uuid or "", _usage(entry.usage_metadata)
    before = memory.billed.get(key, NO_USAGE)
    added = growth(before, now)
    if not added.total:
        return None
    remember(memory.billed, key, plus(before, added))
    return added


def _usage(said: _Tokens) -> Usage:
    """Providers differ in whether the output includes the thoughts: the total says."""
    prompt, output = said.prompt_token_count or 0, said.candidates_token_count or 0
    cached, thoughts = said.cached_content_token_count or 0, said.thoughts_token_count or 0
    if (said.total_token_count or 0) >= prompt + output + thoughts:
        output += thoughts
    return Usage(max(0, prompt - cached), output, cached, 0, thoughts)


def _result(entry: _Entry, memory: Memory) -> list[Fact]:
    memory.turn_is_open = True
    said = entry.tool_call_result or _Result()
    answer = next((part.function_response for part in _parts(entry) if part.function_response), None) or _Function()
    call = said.call_id or answer.id
    name = (memory.calls.pop(call, None) if call else None) or answer.name
    told = answer.response or _Outcome()
    told_text = told.output or told.error
    result, exit_code = _shown(said.result_display, told_text)
    if exit_code is None and name == _SHELL:
        found = _EXIT_CODE.search(text(told_text))
        exit_code = int(found[1]) if found else None
    if said.status not in {"error", "cancelled"} and not exit_code:
        return [("tool_result", Data(tool_name=name, tool_call_id=call, result=result, is_error=False, exit_code=exit_code))]
    message = text(result) or text(told_text)
    detail = Detail(tool_name=name, tool_call_id=call, result=result, is_error=True, exit_code=exit_code, error_message=message, error_category=said.error_type)
    if said.status == "cancelled" or said.error_type in REFUSALS:
        detail.is_error, detail.reason = False, "cancelled" if said.status == "cancelled" else "refused"
    return [("tool_result", detail)]


def _shown(display: msgspec.Raw, told: msgspec.Raw) -> tuple[msgspec.Raw, int | None]:
    """What a person is shown is the result, where it is text: what the model is told may name the process."""
    if bytes(display).startswith(b'"'):
        return display, None
    try:
        shown = _decode_shown(display)
    except REFUSED:
        shown = fit(display, _Shown)
    return (told if is_empty(shown.output) else shown.output), shown.exit_code


def _system(entry: _Entry, memory: Memory) -> list[Fact]:
    tell = _SYSTEM.get(entry.subtype or "")
    return tell(entry.system_payload or _Payload(), memory) if tell else []


def _telemetry(said: _Payload, memory: Memory) -> list[Fact]:
    """Everything else that telemetry says stands on other lines."""
    event = said.ui_event or _Telemetry()
    if event.name != "qwen-code.api_error":
        return []
    status = event.status_code or SERVER_FAILED
    retry = status == RATE_LIMITED or status >= SERVER_FAILED
    error = Detail(error_message=event.error_message, error_category=event.error_type, retry=retry)
    return [("error", error), *([] if retry else _handed_over(memory, "api_error"))]


def _turn_result(said: _Payload, memory: Memory) -> list[Fact]:
    if said.state == "error" and said.error:
        return [("error", Detail(error_message=said.error.message, error_category=said.error.code, retry=False)), *_handed_over(memory, "error")]
    return _handed_over(memory, said.state or "turn_result", interrupted=said.state == "cancelled" or None)


def _compaction(_said: _Payload, _memory: Memory) -> list[Fact]:
    return [("compaction", Data())]


def _rewind(_said: _Payload, memory: Memory) -> list[Fact]:
    return _handed_over(memory, "rewind", interrupted=True)


def _parent(said: _Payload, memory: Memory) -> list[Fact]:
    memory.parent_id = said.parent_session_id
    return []


def _handed_over(memory: Memory, reason: str, *, interrupted: bool | None = None) -> list[Fact]:
    """End the turn, unless that was said."""
    if not memory.turn_is_open:
        return []
    memory.turn_is_open = False
    return [("turn_end", Detail(reason=reason, interrupted=interrupted))]


_FACTS: dict[str, Callable[[_Entry, Memory], list[Fact]]] = {
    "assistant": _assistant,
    "system": _system,
    "tool_result": _result,
    "user": _user,
}
_SYSTEM: dict[str, Callable[[_Payload, Memory], list[Fact]]] = {
    "chat_compression": _compaction,
    "parent_session": _parent,
    "rewind": _rewind,
    "turn_result": _turn_result,
    "ui_telemetry": _telemetry,
}

_decode = msgspec.json.Decoder(_Entry).decode
_decode_who = msgspec.json.Decoder(_Who).decode
_decode_shown = msgspec.json.Decoder(_Shown).decode
_decode_mark = msgspec.json.Decoder(_Mark).decode
