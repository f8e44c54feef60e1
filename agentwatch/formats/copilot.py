"""GitHub Copilot CLI's `events.jsonl`: lines become events. The facts, traps and omissions stand in `README.md` beside this file."""

import re
from collections.abc import Callable, Iterator

import msgspec

from agentwatch.formats.lenient import REFUSED, fit, kind_of
from agentwatch.formats.shared import NO_USAGE, Fact, Faults, Native, entries, growth, is_empty, plus, remember, text
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Time, Usage

NAME = "copilot-cli"

SILENT = frozenset(
    {
        "external_tool.completed",
        "external_tool.requested",
        "factory.run_settled",
        "factory.run_started",
        "hook.end",
        "hook.start",
        "session.auto_mode_resolved",
        "session.autopilot_objective_changed",
        "session.binary_asset",
        "session.canvas.recorded",
        "session.canvas.removed",
        "session.context_cleared",
        "session.handoff",
        "session.info",
        "session.mode_changed",
        "session.permissions_changed",
        "session.plan_changed",
        "session.remote_steerable_changed",
        "session.schedule_cancelled",
        "session.schedule_created",
        "session.schedule_rearmed",
        "session.session_limits_changed",
        "session.truncation",
        "session.usage_checkpoint",
        "session.warning",
        "session.workspace_file_changed",
        "skill.invoked",
        "subagent.deselected",
        "subagent.selected",
        "system.message",
        "system.notification",
        "tool.user_requested",
        "tool_search.activated",
    },
)
"""Line types that are known and say nothing about what the agent does."""

REFUSALS = frozenset({"denied", "rejected"})
"""Error codes of calls that were not run, because a person, a rule or a hook said no: nobody's failure."""

_TRAILER = re.compile(rb'(?:\\n)?<(?:shellId: [^<>]{1,40} completed|exited) with exit code (-?\d{1,9})>"')
"""The end of a shell's output. The number of the shell is another one in each call: with it no two results would be the same."""
_LONGEST_TRAILER = 120


class _Place(msgspec.Struct, gc=False):
    """Where a session works."""

    cwd: str | None = None
    branch: str | None = None


class _Result(msgspec.Struct, gc=False):
    content: msgspec.Raw = NOTHING


class _Shell(msgspec.Struct, gc=False, rename="camel"):
    exit_code: int | None = None


class _Failure(msgspec.Struct, gc=False):
    """`error` of a call; elsewhere it is a plain text."""

    message: str | None = None
    code: str | None = None


class _Accounting(msgspec.Struct, gc=False, rename="camel"):
    source_session_id: str | None = None


class _Tokens(msgspec.Struct, gc=False, rename="camel"):
    """Tokens of a request, or of all requests of a model. `inputTokens` includes both kinds of cached ones, `outputTokens` the reasoning."""

    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    api_call_id: str | None = None
    accounting: _Accounting | None = None


class _Metrics(msgspec.Struct, gc=False):
    usage: _Tokens | None = None


class _Said(msgspec.Struct, gc=False, rename="camel"):
    """`data` of a line, whatever its type."""

    session_id: str | None = None
    detached_from_spawning_parent_session_id: str | None = None
    context: _Place | None = None
    cwd: str | None = None
    branch: str | None = None
    selected_model: str | None = None
    new_model: str | None = None
    model: str | None = None
    content: msgspec.Raw = NOTHING
    source: str | None = None
    is_autopilot_continuation: bool | None = None
    message_id: str | None = None
    tool_requests: msgspec.Raw = NOTHING
    reasoning_text: msgspec.Raw = NOTHING
    output_tokens: int | None = None
    parent_tool_call_id: str | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    arguments: msgspec.Raw = NOTHING
    success: bool | None = None
    result: _Result | None = None
    shell_execution: _Shell | None = None
    error: msgspec.Raw = NOTHING
    error_type: str | None = None
    message: msgspec.Raw = NOTHING
    reason: str | None = None
    usage: _Tokens | None = None
    compaction_tokens_used: _Tokens | None = None
    shutdown_type: str | None = None
    model_metrics: dict[str, msgspec.Raw] | None = None


class _Entry(msgspec.Struct, gc=False, rename="camel"):
    """A line, as far as anything here asks."""

    type: str = ""
    timestamp: Time | None = None
    agent_id: str | None = None
    ephemeral: bool | None = None
    data: _Said | None = None


class _Mark(msgspec.Struct, gc=False, rename="camel"):
    """What tells a line of Copilot's from others with a `type`."""

    type: str = ""
    id: str | None = None
    parent_id: str | msgspec.UnsetType | None = msgspec.UNSET
    data: dict[str, msgspec.Raw] | None = None


class Turn(msgspec.Struct):
    """Where the agent or a sub-agent stands. `has_called`: its loop ran a tool, so that it goes round again, unless the task `is_done`."""

    is_open: bool = False
    has_called: bool = False
    is_done: bool = False
    has_failed: bool = False


class Memory(msgspec.Struct):
    """What one file's later lines need of its earlier ones.

    `turns` are the sub-agents'. `has_records`: tokens are told a request. Where they are not, `told` are those of the whole file by
    model, and `lately` those since the process started that writes it.
    """

    context: Context = msgspec.field(default_factory=Context)
    time: Time | None = None
    turn: Turn = msgspec.field(default_factory=Turn)
    turns: dict[str, Turn] = {}
    has_records: bool = False
    calls: dict[str, str] = {}
    billed: dict[str, None] = {}
    told: dict[str, Usage] = {}
    lately: dict[str, Usage] = {}


class Decoder(Native):
    """Decodes one file. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory

    def context(self, _line: bytes) -> Context:
        """Who the file speaks of, as its lines so far say: only the start and a change name directory, branch and model."""
        return msgspec.structs.replace(self.memory.context)

    def _items(self, lines: list[bytes], offset: int, fault: Faults) -> Iterator[Item]:
        memory = self.memory
        for place, line, entry in entries(lines, offset, _decode, _Entry, fault):
            if entry.timestamp is not None:
                memory.time = entry.timestamp
            tell = _FACTS.get(entry.type)
            if tell is None:
                if problem := _unread(entry):
                    fault(place, *problem)
                continue
            said = entry.data or _Said()
            lane = _LANES.get(entry.type, _lane)(entry, said)
            facts = tell(said, memory, _turn(memory, lane))
            time, session = memory.time, memory.context.session_id
            if session is None:
                fault(place, "no_session", f"`{entry.type}` before any `session.start`")
            elif time is None:
                fault(place, "no_time", f"`{entry.type}` without `timestamp`, and none before it")
            else:
                for event_type, data in facts:
                    yield Event(time, session, event_type, data, lane, entry.timestamp is None), place, line


def recognise(_path: str, lines: list[bytes]) -> bool:
    """Whether one of a file's first complete lines is Copilot's: a known type, and `id`, `parentId` and `data` beside it."""
    for line in lines:
        try:
            mark = _decode_mark(line)
        except REFUSED:
            continue
        if mark.id is not None and mark.parent_id is not msgspec.UNSET and mark.data is not None and (mark.type in _FACTS or mark.type in SILENT):
            return True
    return False


def decoder(_source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a session."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None))


def _unread(entry: _Entry) -> tuple[str, str] | None:
    """Name the fault that a line is which tells nothing, if it is one: kind and detail. What is `ephemeral` never stands in a session's file."""
    if entry.type in SILENT or entry.ephemeral:
        return None
    return (kind_of(entry.type), "") if entry.type else ("no_type", "no `type` that is a text")


def _turn(memory: Memory, lane: str | None) -> Turn:
    if lane is None:
        return memory.turn
    turn = memory.turns.get(lane)
    if turn is None:
        turn = Turn()
        remember(memory.turns, lane, turn)
    return turn


def _lane(entry: _Entry, said: _Said) -> str | None:
    return entry.agent_id or said.parent_tool_call_id


def _lane_of_subagent(entry: _Entry, said: _Said) -> str | None:
    """A sub-agent is named after the call that started it."""
    return entry.agent_id or said.tool_call_id


def _lane_of_all(_entry: _Entry, _said: _Said) -> None:
    """A question to the user holds up the whole session, whoever asks."""


def _start(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    context = memory.context
    context.session_id, context.executor = said.session_id or context.session_id, "COPILOT"
    context.parent_id = said.detached_from_spawning_parent_session_id
    return _begun(said, memory, turn, "initial")


def _resume(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    memory.lately.clear()
    return _begun(said, memory, turn, "followup")


def _begun(said: _Said, memory: Memory, turn: Turn, prompt_type: str) -> list[Fact]:
    """The prompt comes on a line of its own: until then nobody owes anything."""
    _move(said, memory, turn)
    turn.is_open = turn.is_done = turn.has_failed = False
    return [("session_start", Detail(prompt_type=prompt_type)), ("turn_end", Detail(reason=prompt_type))]


def _move(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    """Note where the session works, and with which model."""
    context, place = memory.context, said.context or _Place(said.cwd, said.branch)
    context.project_id, context.branch = place.cwd or context.project_id, place.branch or context.branch
    context.model = said.new_model or said.selected_model or context.model
    return []


def _asked(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    turn.is_open, turn.is_done, turn.has_failed = True, False, False
    if said.is_autopilot_continuation or said.source not in (None, "user"):
        return [("turn_start", Detail())]
    return [("user_message", Detail(output=said.content))]


def _turn_start(_said: _Said, _memory: Memory, turn: Turn) -> list[Fact]:
    turn.is_open, turn.has_called = True, False
    return [("turn_start", Detail())]


def _turn_end(_said: _Said, _memory: Memory, turn: Turn) -> list[Fact]:
    """The agent's loop has come round: with the results of calls it goes on at once."""
    return [("progress", Data())] if turn.has_called and not turn.is_done else _handed_over(turn, "end_turn")


def _handed_over(turn: Turn, reason: str | None, *, interrupted: bool | None = None) -> list[Fact]:
    """End the turn, unless that was said."""
    if not turn.is_open:
        return []
    turn.is_open = False
    return [("turn_end", Detail(reason=reason, interrupted=interrupted))]


def _message(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    turn.is_open, turn.has_failed = True, False
    facts: list[Fact] = []
    if not is_empty(said.reasoning_text):
        facts.append(("agent_thinking", Data(msg_id=said.message_id)))
    if not is_empty(said.content):
        stop_reason = None if is_empty(said.tool_requests) else "tool_use"
        facts.append(("agent_output", Detail(output=said.content, stop_reason=stop_reason, msg_id=said.message_id)))
    usage = None
    if not memory.has_records and (said.output_tokens or 0) > 0:
        usage = Usage(output=said.output_tokens or 0)
        _tell(memory, said.model or memory.context.model or "", usage)
    if usage and not facts:
        facts.append(("usage", Data(msg_id=said.message_id)))
    if usage:
        facts[0][1].usage, facts[0][1].model = usage, said.model
    return facts or [("progress", Data())]


def _thought(_said: _Said, _memory: Memory, _turn: Turn) -> list[Fact]:
    return [("agent_thinking", Data())]


def _call(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    turn.is_open = turn.has_called = True
    if said.tool_call_id and said.tool_name:
        remember(memory.calls, said.tool_call_id, said.tool_name)
    return [("tool_call", Data(tool_name=said.tool_name, tool_call_id=said.tool_call_id, tool_params=said.arguments))]


def _return(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    turn.is_open = True
    call = said.tool_call_id
    content, exit_code = _output(said.result.content if said.result else NOTHING)
    if said.shell_execution and said.shell_execution.exit_code is not None:
        exit_code = said.shell_execution.exit_code
    name = memory.calls.pop(call, None) if call else None
    if said.success is not False and not exit_code:
        return [("tool_result", Data(tool_name=name, tool_call_id=call, result=content, is_error=False, exit_code=exit_code))]
    failure = fit(said.error, _Failure)
    message = failure.message or text(content) or text(said.error)
    reason = "refused" if failure.code in REFUSALS else None
    result = content or msgspec.Raw(msgspec.json.encode(message))
    detail = Detail(tool_name=name, tool_call_id=call, result=result, is_error=reason is None, exit_code=exit_code, error_message=message, reason=reason)
    return [("tool_result", detail)]


def _output(content: msgspec.Raw) -> tuple[msgspec.Raw, int | None]:
    """Take the exit code off the end of a shell's output."""
    said = bytes(content)
    if not said.endswith(b'>"'):
        return content, None
    for trailer in _TRAILER.finditer(said, max(0, len(said) - _LONGEST_TRAILER)):
        if trailer.end() == len(said):
            return msgspec.Raw(said[: trailer.start()] + b'"'), int(trailer[1])
    return content, None


def _ask(_said: _Said, _memory: Memory, turn: Turn) -> list[Fact]:
    turn.is_open = False
    return [("turn_end", Detail(reason="permission"))]


def _answered(_said: _Said, _memory: Memory, turn: Turn) -> list[Fact]:
    turn.is_open = True
    return [("turn_start", Detail())]


def _error(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    turn.has_failed = True
    return [("error", Detail(error_message=text(said.message), error_category=said.error_type, retry=False)), *_handed_over(turn, "error")]


def _abort(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    return _handed_over(turn, said.reason or "abort", interrupted=True)


def _task_complete(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    if said.success is False:
        return [("progress", Data())]
    turn.is_done = True
    return _handed_over(turn, "task_complete")


def _subagent_done(_said: _Said, _memory: Memory, _turn: Turn) -> list[Fact]:
    return [("turn_end", Detail(reason="subagent"))]


def _subagent_failed(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    return [("error", Detail(error_message=text(said.error), error_category="subagent")), *_subagent_done(said, memory, turn)]


def _progress(_said: _Said, _memory: Memory, _turn: Turn) -> list[Fact]:
    return [("progress", Data())]


def _compacted(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    spent = said.compaction_tokens_used
    usage = _usage(spent) if spent and not memory.has_records else None
    if said.success is False:
        return [("error", Detail(error_message=text(said.error) or "compaction failed", error_category="compaction"))]
    if usage is not None and spent is not None:
        _tell(memory, spent.model or memory.context.model or "", usage)
        return [("compaction", Data(usage=usage, model=spent.model))]
    return [("compaction", Data())]


def _record(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    """Tokens of one request (from about 1.0.8x on). A record that was copied from another session was paid there."""
    memory.has_records = True
    spent = said.usage or _Tokens()
    payer = spent.accounting.source_session_id if spent.accounting else None
    if payer not in (None, memory.context.session_id) or (spent.api_call_id or "") in memory.billed:
        return []
    if spent.api_call_id:
        remember(memory.billed, spent.api_call_id, None)
    return [("usage", Data(usage=_usage(spent), model=spent.model))]


def _shutdown(said: _Said, memory: Memory, turn: Turn) -> list[Fact]:
    facts: list[Fact] = []
    if not memory.has_records:
        for model, metrics in (said.model_metrics or {}).items():
            added = _rest(model, _usage(fit(metrics, _Metrics).usage or _Tokens()), memory)
            if added.total:
                facts.append(("usage", Data(usage=added, model=model)))
    failed = said.shutdown_type == "error" or turn.has_failed
    turn.is_open = False
    return [*facts, ("session_end", Detail(completion_status="failed" if failed else "success", reason=said.shutdown_type))]


def _rest(model: str, total: Usage, memory: Memory) -> Usage:
    """What a model's total at shutdown adds to what was told before: of the file, or of this process where the total is smaller than that."""
    told = memory.told.get(model, NO_USAGE)
    before = told if total.output >= told.output else memory.lately.get(model, NO_USAGE)
    added = growth(before, total)
    _tell(memory, model, added)
    return added


def _tell(memory: Memory, model: str, added: Usage) -> None:
    for totals in (memory.told, memory.lately):
        remember(totals, model, plus(totals.get(model, NO_USAGE), added))


def _usage(said: _Tokens) -> Usage:
    read, written = max(0, said.cache_read_tokens or 0), max(0, said.cache_write_tokens or 0)
    fresh, output = max(0, (said.input_tokens or 0) - read - written), max(0, said.output_tokens or 0)
    return Usage(fresh, output, read, written, max(0, said.reasoning_tokens or 0))


_FACTS: dict[str, Callable[[_Said, Memory, Turn], list[Fact]]] = {
    "abort": _abort,
    "assistant.message": _message,
    "assistant.reasoning": _thought,
    "assistant.turn_end": _turn_end,
    "assistant.turn_start": _turn_start,
    "permission.completed": _answered,
    "permission.requested": _ask,
    "session.compaction_complete": _compacted,
    "session.compaction_start": _progress,
    "session.context_changed": _move,
    "session.error": _error,
    "session.model_change": _move,
    "session.resume": _resume,
    "session.shutdown": _shutdown,
    "session.start": _start,
    "session.task_complete": _task_complete,
    "session.usage_record": _record,
    "subagent.completed": _subagent_done,
    "subagent.failed": _subagent_failed,
    "subagent.started": _progress,
    "tool.execution_complete": _return,
    "tool.execution_start": _call,
    "user.message": _asked,
}
_LANES: dict[str, Callable[[_Entry, _Said], str | None]] = {
    "permission.completed": _lane_of_all,
    "permission.requested": _lane_of_all,
    "session.shutdown": _lane_of_all,
    "subagent.completed": _lane_of_subagent,
    "subagent.failed": _lane_of_subagent,
    "subagent.started": _lane_of_subagent,
}

_decode = msgspec.json.Decoder(_Entry).decode
_decode_mark = msgspec.json.Decoder(_Mark).decode
