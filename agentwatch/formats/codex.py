"""Codex CLI's rollouts: lines become events. The facts, traps and omissions stand in `README.md` beside this file."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec

from agentwatch.formats.lenient import REFUSED, fit, kind_of
from agentwatch.formats.shared import Fact, Faults, Native, entries, is_empty, remember, text
from agentwatch.model import EPOCH, NOTHING, Context, Data, Detail, Event, Item, Time, Usage

NAME = "codex"

SILENT = frozenset(
    {
        "inter_agent_communication_metadata",
        "state",
        "world_state",
        *(
            f"event_msg.{kind}"
            for kind in (
                "agent_message",
                "agent_reasoning",
                "agent_reasoning_raw_content",
                "agent_reasoning_section_break",
                "background_event",
                "collab_agent_interaction_begin",
                "collab_agent_interaction_end",
                "collab_agent_spawn_begin",
                "collab_agent_spawn_end",
                "collab_close_begin",
                "collab_close_end",
                "collab_resume_begin",
                "collab_resume_end",
                "collab_waiting_begin",
                "collab_waiting_end",
                "context_compacted",
                "deprecation_notice",
                "dynamic_tool_call_request",
                "entered_review_mode",
                "exec_command_begin",
                "exited_review_mode",
                "guardian_assessment",
                "image_generation_begin",
                "image_generation_end",
                "item_started",
                "mcp_tool_call_begin",
                "patch_apply_begin",
                "plan_update",
                "session_configured",
                "thread_goal_updated",
                "thread_name_updated",
                "thread_rolled_back",
                "thread_settings_applied",
                "turn_diff",
                "undo_completed",
                "view_image_tool_call",
                "warning",
                "web_search_begin",
                "web_search_end",
            )
        ),
        *(f"response_item.{kind}" for kind in ("compaction", "compaction_summary", "ghost_snapshot", "other")),
    },
)
"""Kinds of line that are known and say nothing that another line does not say."""

COPIED_WITHIN = timedelta(seconds=1)
"""A history that is copied into a new file is written without a pause; what follows waits for a person or a model."""

_INJECTED = re.compile(rb'"(?:<environment_context>|<user_instructions>|<turn_aborted>|<permissions instructions>|# AGENTS\.md instructions)').match
_EXIT_CODE = re.compile(
    rb'(?:\[\{"type": ?"(?:input|output)_text", ?"text": ?)?"'
    rb"(?:Exit code: (-?\d{1,9})\\n|(?:Chunk ID: \w{1,16}\\n)?Wall time: [\d.]{1,16} seconds\\n(?:Process exited with code (-?\d{1,9})\\n)?)"
).match
_IN_JSON = re.compile(rb'"\{\\"output\\":').match
_JSON_EXIT_CODE = re.compile(rb'\\"metadata\\":\{\\"exit_code\\":(-?\d{1,9})[,}]').search
_JSON_TAIL = 160
_FAILED = re.compile(
    rb'"(?:failed in sandbox|apply_patch verification failed|execution error: |exec_command failed|write_stdin failed|error: |tool call error: '
    rb"|failed to parse function arguments|unsupported c(?:all|ustom tool call): )"
).match
_ABORTED = re.compile(rb'"aborted by user').match
_REFUSED = re.compile(rb'"(?:exec command|patch|command)? ?rejected by user').match
_MCP_FAILED = re.compile(rb'"isError": ?true|\{"Err":').search
_ENVELOPE = re.compile(r"(?:Exit code: |Chunk ID: |Wall time: )(?:.*\n){1,6}?Output:\n")
_LIMITS = ("usage_limit", "usage_not_included", "rate_limit", "workspace_")
_ENDS_NO_TURN = frozenset({"active_turn_not_steerable", "thread_rollback_failed"})
_TOO_MANY_REQUESTS = 429
FILLING = 0.5
"""From this part of the window on it is said how full the context is: before, nobody asks."""

_OF_THE_API = frozenset(
    {
        "http_connection_failed",
        "internal_server_error",
        "response_stream_connection_failed",
        "response_stream_disconnected",
        "response_too_many_failed_attempts",
        "server_overloaded",
    },
)


class Tokens(msgspec.Struct, gc=False, frozen=True):
    """Codex's own count. `input_tokens` includes what was read from and written to the cache, `output_tokens` the reasoning."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0


NO_TOKENS = Tokens()


class _Info(msgspec.Struct, gc=False):
    total_token_usage: Tokens | None = None
    last_token_usage: Tokens | None = None
    model_context_window: int | None = None


class _Window(msgspec.Struct, gc=False):
    used_percent: float | None = None
    resets_at: int | None = None


class _Limits(msgspec.Struct, gc=False):
    rate_limit_reached_type: str | None = None
    primary: _Window | None = None
    secondary: _Window | None = None


class _Block(msgspec.Struct, gc=False):
    text: msgspec.Raw = NOTHING


class _Git(msgspec.Struct, gc=False):
    branch: str | None = None


class _Done(msgspec.Struct, gc=False):
    """The `item` of an `item_completed`: what was done, and how it went."""

    type: str = ""
    id: str | None = None
    status: str | None = None
    exit_code: int | None = None
    content: list[_Block] | None = None
    result: msgspec.Raw = NOTHING


class _Payload(msgspec.Struct, gc=False):
    """A payload of any kind, as far as anything here asks."""

    type: str = ""
    role: str | None = None
    phase: str | None = None
    content: list[_Block] | None = None
    name: str | None = None
    call_id: str | None = None
    arguments: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
    action: msgspec.Raw = NOTHING
    output: msgspec.Raw = NOTHING
    info: _Info | None = None
    rate_limits: _Limits | None = None
    message: msgspec.Raw = NOTHING
    item: _Done | None = None
    status: str | None = None
    exit_code: int | None = None
    success: bool | None = None
    result: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING
    codex_error_info: msgspec.Raw = NOTHING
    reason: str | None = None
    duration_ms: float | None = None
    started_at: msgspec.Raw = NOTHING
    model: str | None = None
    cwd: str | None = None
    usage: Tokens | None = None
    response_id: str | None = None
    thread_id: str | None = None
    id: str | None = None
    git: _Git | None = None
    source: msgspec.Raw = NOTHING
    parent_thread_id: str | None = None
    forked_from_id: str | None = None
    subagent_history_start_ordinal: int | None = None


class _Line(_Payload, gc=False):
    """A line. Before September 2025 the payload was the line itself."""

    timestamp: Time | None = None
    ordinal: int | None = None
    record_type: str | None = None
    payload: _Payload | None = None


class _TurnError(msgspec.Struct, gc=False):
    message: str | None = None
    codex_error_info: msgspec.Raw = NOTHING


class _Spawn(msgspec.Struct, gc=False):
    parent_thread_id: str | None = None


class _Subagent(msgspec.Struct, gc=False):
    thread_spawn: _Spawn | None = None


class _Source(msgspec.Struct, gc=False):
    subagent: _Subagent | None = None


class _Mark(msgspec.Struct, gc=False):
    """What tells a rollout from other logs."""

    type: str | None = None
    id: str | None = None
    timestamp: str | None = None
    payload: dict[str, msgspec.Raw] | None = None
    instructions: msgspec.Raw = NOTHING


class Verdict(msgspec.Struct, gc=False, frozen=True):
    """How a call ended, as a line before its output tells."""

    is_error: bool
    exit_code: int | None = None
    reason: str | None = None


class Memory(msgspec.Struct):
    """What one file's later lines need of its earlier ones. Dictionaries are in the order of insertion; the oldest entry leaves.

    `thread` to `model` are what the header and the newest turn say. `born`: when the header was written. `is_copying`: the lines are
    another thread's history, and `own_from` the ordinal of the first that is not, where the header tells. `is_recorded`: the next
    change of `total` was told by a `token_usage_record`.
    """

    time: Time | None = None
    thread: str | None = None
    parent: str | None = None
    cwd: str | None = None
    branch: str | None = None
    model: str | None = None
    born: Time | None = None
    is_copying: bool = False
    own_from: int | None = None
    turns_are_marked: bool = False
    turn_is_open: bool = False
    turn_error: str | None = None
    total: Tokens = NO_TOKENS
    is_recorded: bool = False
    response: str | None = None
    limit: str | None = None
    calls: dict[str, str] = {}
    verdicts: dict[str, Verdict] = {}


class Decoder(Native):
    """Decodes one file. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory

    def context(self, line: bytes) -> Context:
        """Who the newest line that was read speaks of: only the header and the first lines of a turn say it."""
        memory = self.memory
        if memory.thread is None:
            return Context()
        return Context(
            session_id=memory.thread,
            project_id=memory.cwd,
            executor="CODEX",
            model=memory.model,
            branch=memory.branch,
            parent_id=memory.parent,
        )

    def _items(self, lines: list[bytes], offset: int, fault: Faults) -> Iterator[Item]:
        memory = self.memory
        for place, line, entry in entries(lines, offset, _decode, _Line, fault):
            before = memory.time
            if entry.timestamp is not None:
                memory.time = entry.timestamp
            payload = entry.payload
            if payload is None:
                kind, payload = _bare_kind(entry), entry
            else:
                kind = f"{entry.type}.{payload.type}" if payload.type else entry.type
            tell = _FACTS.get(kind)
            if tell is None:
                if kind not in SILENT:
                    fault(place, *((kind_of(kind), "") if kind else ("no_type", "no `type` that is a text")))
                continue
            is_copied = memory.is_copying and _is_copied(entry, payload, before, memory)
            facts = tell(entry, payload, memory)
            if memory.thread is None:
                fault(place, "no_session", f"`{kind}` before any header with an `id`")
            elif memory.time is None:
                fault(place, "no_time", f"`{kind}` without `timestamp`, and none before it")
            elif not is_copied:
                for event_type, data in facts:
                    yield Event(memory.time, memory.thread, event_type, data, None, entry.timestamp is None), place, line


def recognise(_path: str, lines: list[bytes]) -> bool:
    """Whether the first complete lines of a file are a rollout's. All but the first may have been cut off."""
    for line in lines:
        try:
            mark = _decode_mark(line)
        except REFUSED:
            continue
        if mark.type is None:
            return bool(mark.id and mark.timestamp and mark.instructions)
        if mark.type == "session_meta":
            return bool(mark.payload and "id" in mark.payload)
        return mark.type in _ENVELOPES and bool(mark.timestamp) and mark.payload is not None
    return False


def decoder(_source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a rollout."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None))


def _bare_kind(entry: _Line) -> str:
    """Name a line without payload: before September 2025 the line itself was what is in it now."""
    if entry.type:
        return f"response_item.{entry.type}"
    return "state" if entry.record_type else "header" if entry.id else ""


Facts = tuple[Fact, ...]
_Tell = Callable[[_Line, _Payload, Memory], Facts]


def _header(entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    """A file is its first header's. Resumed threads and desktop sessions write it again, forks and sub-agents copy their parent's."""
    if memory.thread is not None or not payload.id:
        is_near = memory.born is not None and entry.timestamp is not None and entry.timestamp - memory.born <= COPIED_WITHIN
        memory.is_copying |= is_near and payload.id != memory.thread
        return ()
    memory.thread, memory.born, memory.cwd = payload.id, entry.timestamp, payload.cwd
    memory.branch = payload.git.branch if payload.git else None
    spawn = fit(payload.source, _Source).subagent
    memory.parent = payload.parent_thread_id or (spawn.thread_spawn.parent_thread_id if spawn and spawn.thread_spawn else None)
    memory.own_from = payload.subagent_history_start_ordinal
    memory.is_copying = payload.forked_from_id is not None or memory.own_from is not None
    # A file may be begun before anything is asked: nobody is waited for.
    return (("session_start", Detail(prompt_type="initial")), ("turn_end", Detail(reason="no_prompt")))


def _is_copied(entry: _Line, payload: _Payload, before: datetime | None, memory: Memory) -> bool:
    """Whether the line is history that another thread's file holds too. The first that is not ends the copy."""
    if memory.own_from is not None and entry.ordinal is not None:
        is_own = entry.ordinal >= memory.own_from
    elif entry.timestamp is None or memory.born is None or entry.timestamp < memory.born:
        is_own = False
    else:
        is_own = entry.timestamp - max(before or memory.born, memory.born) > COPIED_WITHIN or _began(payload) >= memory.born.replace(microsecond=0)
    memory.is_copying = not is_own
    return memory.is_copying


def _began(payload: _Payload) -> datetime:
    """When the turn that the line opens began (0.118 and later); the epoch for any other line. A copied line's own time is that of the copy."""
    if payload.type in ("task_started", "turn_started"):
        with suppress(*REFUSED, ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(_decode_seconds(payload.started_at), UTC)
    return EPOCH


def _turn_context(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    memory.model = payload.model or memory.model
    memory.cwd = payload.cwd or memory.cwd
    return ()


def _compacted(_entry: _Line, _payload: _Payload, _memory: Memory) -> Facts:
    return (("compaction", Data()),)


def _progress(_entry: _Line, _payload: _Payload, _memory: Memory) -> Facts:
    return (("progress", Data()),)


# What was said.


def _message(entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    """The agent's words. A person's are told by an event of their own, but for the oldest files."""
    if payload.role == "assistant":
        memory.turn_is_open |= not memory.turns_are_marked
        goes_on = memory.turns_are_marked and memory.turn_is_open and payload.phase != "final_answer"
        return (("agent_output", Detail(output=_said(payload.content), stop_reason="tool_use" if goes_on else None)),)
    if payload is entry and payload.role == "user":
        return _asked(_said(payload.content), memory)
    return ()


def _thinking(_entry: _Line, _payload: _Payload, _memory: Memory) -> Facts:
    return (("agent_thinking", Data()),)


def _user_message(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    return _asked(payload.message, memory)


def _asked(prompt: msgspec.Raw, memory: Memory) -> Facts:
    if _INJECTED(prompt):
        return ()
    memory.turn_is_open = True
    return (("user_message", Detail(output=prompt)),)


def _said(content: list[_Block] | None) -> msgspec.Raw:
    """The text of a content as JSON: its only block's as it stands, else all joined."""
    texts = [block.text for block in content or () if block.text]
    if len(texts) == 1:
        return texts[0]
    return msgspec.Raw(msgspec.json.encode("\n".join(map(text, texts)))) if texts else NOTHING


# What was done.


def _function_call(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    return _called(payload.name, payload.call_id, _params(payload.arguments), memory)


def _custom_tool_call(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    return _called(payload.name, payload.call_id, payload.input, memory)


def _local_shell_call(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    return _called("local_shell", payload.call_id, payload.action, memory)


def _tool_search_call(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    return _called("tool_search", payload.call_id, payload.arguments, memory)


def _web_search_call(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    """The model's provider searches: the line is written when it is done, and there is no result to wait for."""
    return _called("web_search", None, payload.action, memory)


def _image_generation_call(_entry: _Line, _payload: _Payload, memory: Memory) -> Facts:
    """Made by the provider too."""
    return _called("image_generation", None, NOTHING, memory)


def _called(name: str | None, call_id: str | None, params: msgspec.Raw, memory: Memory) -> Facts:
    memory.turn_is_open = True
    if call_id and name:
        remember(memory.calls, call_id, name)
    return (("tool_call", Data(tool_name=name, tool_call_id=call_id, tool_params=params)),)


def _params(arguments: msgspec.Raw) -> msgspec.Raw:
    """The object that the model wrote as a string; the string itself where the model wrote no JSON."""
    try:
        return _decode_raw(_decode_text(arguments))
    except REFUSED:
        return NOTHING if is_empty(arguments) else arguments


def _output(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    call_id, output = payload.call_id, payload.output
    name = memory.calls.pop(call_id, None) if call_id else None
    verdict = memory.verdicts.pop(call_id, None) if memory.verdicts and call_id else None
    exit_code, is_error, reason = _exit_code(output), False, None
    if exit_code is not None:
        is_error = exit_code != 0
    elif verdict is not None:
        exit_code, is_error, reason = verdict.exit_code, verdict.is_error, verdict.reason
    else:
        reason = next((reason for reason, begins in _NOT_OWN.items() if begins(output)), None)
        is_error = _FAILED(output) is not None
    if not is_error and reason is None:
        return (("tool_result", Data(tool_name=name, tool_call_id=call_id, result=output, is_error=False, exit_code=exit_code)),)
    said = _without_envelope(text(output)).strip() or (f"exit code {exit_code}" if exit_code else reason or "failed")
    data = Detail(tool_name=name, tool_call_id=call_id, result=output, is_error=is_error, exit_code=exit_code, error_message=said, reason=reason)
    return (("tool_result", data),)


def _exit_code(output: msgspec.Raw) -> int | None:
    """The exit code in any of the three forms of text that have one. A process that still runs has none."""
    if found := _EXIT_CODE(output):
        code = found[1] or found[2]
        return int(code) if code else None
    found = _JSON_EXIT_CODE(output, len(output) - _JSON_TAIL) if _IN_JSON(output) else None
    return int(found[1]) if found else None


def _without_envelope(said: str) -> str:
    """What the tool printed, of what Codex made of it."""
    if said.startswith('{"output":'):
        with suppress(*REFUSED):
            return _decode_printed(said).output
    envelope = _ENVELOPE.match(said)
    return said[envelope.end() :] if envelope else said


def _ended(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    """`exec_command_end`, `patch_apply_end`, `mcp_tool_call_end`: written before the output, or some time after it where a command goes on."""
    failed = payload.success is False or _has_failed(payload.result)
    return _remember_verdict(payload.call_id, payload.status, payload.exit_code, memory, failed=failed)


def _item_completed(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    done = payload.item or _Done()
    if done.type == "UserMessage":
        return _asked(_last(done.content), memory)
    return _remember_verdict(done.id, done.status, done.exit_code, memory, failed=_has_failed(done.result))


def _remember_verdict(call_id: str | None, status: str | None, exit_code: int | None, memory: Memory, *, failed: bool) -> Facts:
    if call_id in memory.calls:
        reason = "refused" if status == "declined" else None
        remember(memory.verdicts, call_id, Verdict(reason is None and (failed or status == "failed" or bool(exit_code)), exit_code, reason))
    return ()


def _has_failed(result: msgspec.Raw) -> bool:
    """An MCP server's answer says so itself; Codex wraps it in `Ok` or `Err` in the older files."""
    return _MCP_FAILED(result) is not None


def _last(content: list[_Block] | None) -> msgspec.Raw:
    """The last text: an editor puts what it shows before what was typed."""
    return next((block.text for block in reversed(content or ()) if block.text), NOTHING)


# Turns, failures, tokens.


def _task_started(_entry: _Line, _payload: _Payload, memory: Memory) -> Facts:
    memory.turns_are_marked = memory.turn_is_open = True
    memory.turn_error = None
    return (("turn_start", Data()),)


def _task_complete(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    if is_empty(payload.error):
        return _turn_end("complete", payload, memory)
    told = _failure(fit(payload.error, _TurnError), memory)
    memory.turn_error = None
    return (*told, *_turn_end("failed", payload, memory))


def _turn_aborted(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    return _turn_end(payload.reason, payload, memory)


def _turn_end(reason: str | None, payload: _Payload, memory: Memory) -> Facts:
    """End the turn, unless a failure has."""
    if not memory.turn_is_open:
        return ()
    memory.turn_is_open = False
    memory.calls.clear()
    memory.verdicts.clear()
    return (("turn_end", Detail(reason=reason, interrupted=True if reason == "interrupted" else None, duration_ms=payload.duration_ms)),)


def _error(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    """A failure that ends the turn, whether or not the next line says so, or one of something that a person tried beside it."""
    told = _failure(_TurnError(text(payload.message), payload.codex_error_info), memory)
    return told if text(payload.codex_error_info) in _ENDS_NO_TURN else (*told, *_turn_end("failed", payload, memory))


def _stream_error(_entry: _Line, payload: _Payload, _memory: Memory) -> Facts:
    return (("error", Detail(error_message=text(payload.message), error_category="api", retry=True)),)


def _failure(error: _TurnError, memory: Memory) -> Facts:
    """The failure of a turn, once: it may stand in a line of its own and at the turn's end."""
    message = error.message or "the turn failed"
    if message == memory.turn_error:
        return ()
    memory.turn_error = message
    return (("error", Detail(error_message=message, error_category=_category(error.codex_error_info), retry=False)),)


def _category(info: msgspec.Raw) -> str:
    """`rate_limit` where a limit was hit, `api` where the API or the way to it failed, else Codex's own name."""
    name = text(info)
    if not name:
        status: dict[str, object] = {}
        with suppress(*REFUSED):
            name, status = next(iter(_decode_info(info).items()), ("", {}))
        if status and status.get("http_status_code") == _TOO_MANY_REQUESTS:
            return "rate_limit"
    if name.startswith(_LIMITS):
        return "rate_limit"
    return "api" if name in _OF_THE_API or not name else name


def _token_count(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    limits = payload.rate_limits
    if limits is None or limits.rate_limit_reached_type == memory.limit:
        return _counted(payload.info, memory)
    memory.limit = limits.rate_limit_reached_type
    return (*_counted(payload.info, memory), *_limit_reached(limits))


def _limit_reached(limits: _Limits) -> Facts:
    """A limit is told when it is reached, not in every line that repeats it."""
    if limits.rate_limit_reached_type is None:
        return ()
    window = max((window for window in (limits.primary, limits.secondary) if window), key=lambda window: window.used_percent or 0.0, default=None)
    resets = ""
    if window and window.resets_at:
        with suppress(ValueError, OverflowError, OSError):
            resets = f"; resets at {datetime.fromtimestamp(window.resets_at, UTC).isoformat()}"
    return (("error", Detail(error_message=f"usage limit reached: {limits.rate_limit_reached_type}{resets}", error_category="rate_limit", retry=False)),)


def _counted(info: _Info | None, memory: Memory) -> Facts:
    """What the total has grown by: it is cumulative, and repeated without need."""
    total = info.total_token_usage if info else None
    if total is None or total == memory.total:
        return ()
    before, memory.total = memory.total, total
    if memory.is_recorded:
        memory.is_recorded = False
        return ()
    return _with_context(_spent(grown(before, total), memory), info)


def _with_context(facts: Facts, info: _Info | None) -> Facts:
    """How full the context is, where it is filling up. What the last request read and wrote is what the next one reads."""
    last, window = (info.last_token_usage, info.model_context_window) if info else (None, None)
    if last is None or not window:
        return facts
    used = last.input_tokens + last.output_tokens
    if used < FILLING * window:
        return facts
    return tuple((kind, Detail(usage=data.usage, model=data.model, context_used=used, context_window=window)) for kind, data in facts)


def _recorded(_entry: _Line, payload: _Payload, memory: Memory) -> Facts:
    """One request's own count (0.155 and later); the next total has it too."""
    if payload.usage is None or payload.thread_id not in (None, memory.thread) or (payload.response_id and payload.response_id == memory.response):
        return ()
    memory.response, memory.is_recorded = payload.response_id, True
    return _spent(grown(NO_TOKENS, payload.usage), memory)


def _spent(usage: Usage, memory: Memory) -> Facts:
    return (("usage", Data(usage=usage, model=memory.model)),) if usage.total else ()


def grown(before: Tokens, now: Tokens) -> Usage:
    """What `now` adds to `before`, cached tokens out of the input. A total that shrinks is a new counter's, whose tokens are all new."""
    if now.input_tokens < before.input_tokens or now.output_tokens < before.output_tokens:
        before = NO_TOKENS
    cached = max(0, now.cached_input_tokens - before.cached_input_tokens)
    written = max(0, now.cache_write_input_tokens - before.cache_write_input_tokens)
    return Usage(
        input=max(0, now.input_tokens - before.input_tokens - cached - written),
        output=max(0, now.output_tokens - before.output_tokens),
        cache_read=cached,
        cache_write=written,
        reasoning=max(0, now.reasoning_output_tokens - before.reasoning_output_tokens),
    )


_NOT_OWN = {"interrupted": _ABORTED, "refused": _REFUSED}
_ENVELOPES = frozenset({"response_item", "event_msg", "turn_context", "compacted", "world_state", "token_usage_record", "inter_agent_communication"})
_FACTS: dict[str, _Tell] = {
    "header": _header,
    "session_meta": _header,
    "turn_context": _turn_context,
    "compacted": _compacted,
    "inter_agent_communication": _progress,
    "token_usage_record": _recorded,
    "response_item.agent_message": _progress,
    "response_item.custom_tool_call": _custom_tool_call,
    "response_item.custom_tool_call_output": _output,
    "response_item.function_call": _function_call,
    "response_item.function_call_output": _output,
    "response_item.image_generation_call": _image_generation_call,
    "response_item.local_shell_call": _local_shell_call,
    "response_item.message": _message,
    "response_item.reasoning": _thinking,
    "response_item.tool_search_call": _tool_search_call,
    "response_item.tool_search_output": _output,
    "response_item.web_search_call": _web_search_call,
    "event_msg.dynamic_tool_call_response": _ended,
    "event_msg.error": _error,
    "event_msg.exec_command_end": _ended,
    "event_msg.item_completed": _item_completed,
    "event_msg.mcp_tool_call_end": _ended,
    "event_msg.patch_apply_end": _ended,
    "event_msg.stream_error": _stream_error,
    "event_msg.sub_agent_activity": _progress,
    "event_msg.task_complete": _task_complete,
    "event_msg.task_started": _task_started,
    "event_msg.token_count": _token_count,
    "event_msg.turn_aborted": _turn_aborted,
    "event_msg.turn_complete": _task_complete,
    "event_msg.turn_started": _task_started,
    "event_msg.user_message": _user_message,
}


class _Printed(msgspec.Struct, gc=False):
    output: str


_decode = msgspec.json.Decoder(_Line).decode
_decode_mark = msgspec.json.Decoder(_Mark).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_seconds = msgspec.json.Decoder(float).decode
_decode_info = msgspec.json.Decoder(dict[str, dict[str, object]]).decode
_decode_printed = msgspec.json.Decoder(_Printed).decode
