"""Claude Code's session transcripts: lines become events. The facts, traps and omissions stand in `README.md` beside this file."""

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import cast

import msgspec

from agentwatch.formats.lenient import REFUSED, fit, mended, salvaged
from agentwatch.formats.shared import NO_USAGE, REMEMBERED, Fact, Faults, Native, growth, remember
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Time, Usage

NAME = "claude-code"

SILENT = frozenset(
    {
        "agent-name",
        "ai-title",
        "api-request-blob",
        "api-request-shape",
        "atis-latch",
        "attachment",
        "bridge-session",
        "cost-state",
        "custom-title",
        "file-history-delta",
        "file-history-snapshot",
        "frame-link",
        "last-prompt",
        "mode",
        "permission-mode",
        "pr-link",
        "queue-operation",
        "summary",
        "tools-used",
    },
)
"""Line types that are known and say nothing about what the agent does."""

PLACEHOLDER_OUTPUT = 8
PLACEHOLDERS_UNTIL = (2, 1, 58)
CHARACTERS_PER_TOKEN = 4
"""Up to 2.1.58 a message's last line often has `stop_reason` null and at most 8 output tokens: a number from the start of the
stream. From 2.1.59 on that is so for 0 to 4 % of the messages (633 session files)."""

_TURN_OVER = frozenset({"end_turn", "refusal", "stop_sequence"})
_INTERRUPTED = "[Request interrupted by user"
_SHOWN = ("image", "document")
_LOCAL = ("<command-name>", "<local-command-", "<bash-")
_REFUSED = ("The user doesn't want to", _INTERRUPTED)
_SIBLING = ("Sibling tool call errored", "Cancelled: parallel tool call")
_EXIT_CODE = re.compile(r"Exit code (\d{1,9})\b")
_UNCLEAN = re.compile(r"[^A-Za-z0-9_.-]")
_HARNESS = re.compile(r"</?tool_use_error>")


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: "_CacheCreation | None" = None
    output_tokens_details: "_OutputDetails | None" = None


class _CacheCreation(msgspec.Struct, gc=False):
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class _Block(msgspec.Struct, gc=False):
    """One content block of a message, whatever its type."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = NOTHING
    text: msgspec.Raw = NOTHING
    thinking: msgspec.Raw = NOTHING
    tool_use_id: str | None = None
    content: msgspec.Raw = NOTHING
    is_error: bool | None = None


class Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    content: list[_Block] | str | None = None
    usage: _Usage | None = None


class Entry(msgspec.Struct, gc=False, rename="camel"):
    """A line, as far as anything here asks."""

    type: str = ""
    subtype: str | None = None
    session_id: str | None = None
    timestamp: Time | None = None
    version: str | None = None
    is_sidechain: bool | None = None
    agent_id: str | None = None
    is_meta: bool | None = None
    is_compact_summary: bool | None = None
    is_visible_in_transcript_only: bool | None = None
    is_api_error_message: bool | None = None
    request_id: str | None = None
    request_session_id: str | None = None
    error: msgspec.Raw = NOTHING
    message: Message | None = None


class _ApiError(msgspec.Struct, gc=False):
    formatted: str | None = None
    message: str | None = None
    cause: "_Cause | None" = None


class _Cause(msgspec.Struct, gc=False):
    code: str | None = None


class _WhoMessage(msgspec.Struct, gc=False):
    model: str | None = None


class _Who(msgspec.Struct, gc=False, rename="camel"):
    session_id: str | None = None
    cwd: str | None = None
    git_branch: str | None = None
    message: _WhoMessage | None = None


class _Mark(msgspec.Struct, gc=False, rename="camel"):
    """What tells a transcript of Claude Code from its imitators."""

    type: str = ""
    session_id: str | None = None
    uuid: str | None = None
    leaf_uuid: str | None = None
    message_id: str | None = None
    subtype: str | None = None
    user_type: str | None = None
    message: dict[str, msgspec.Raw] | None = None
    snapshot: msgspec.Raw = NOTHING
    system_payload: msgspec.Raw = NOTHING
    event_type: msgspec.Raw = msgspec.field(name="event_type", default=NOTHING)
    attempt_id: msgspec.Raw = msgspec.field(name="attempt_id", default=NOTHING)


class Billed(msgspec.Struct, gc=False, frozen=True):
    """What was already told of one message: its tokens, and the length of its text so far."""

    usage: Usage
    characters: int


class Memory(msgspec.Struct):
    """What one file's later lines need of its earlier ones. Dictionaries are in the order of insertion; the oldest entry leaves."""

    time: Time | None = None
    turn_is_open: bool = False
    sessions: dict[str, None] = {}
    calls: dict[str, str] = {}
    billed: dict[str, Billed] = {}


class Decoder(Native):
    """Decodes one file. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory

    def context(self, line: bytes) -> Context:
        """Who the line speaks of. Only assistant lines name the model; bookkeeping lines have neither branch nor directory."""
        try:
            who = _decode_who(line)
        except REFUSED:
            who = fit(mended(line), _Who)
        if who.session_id is None:
            return Context()
        return Context(
            session_id=who.session_id,
            project_id=who.cwd,
            executor="CLAUDE",
            model=_model(who.message) if who.message else None,
            branch=who.git_branch,
        )

    def _items(self, lines: list[bytes], offset: int, fault: Faults) -> Iterator[Item]:
        memory = self.memory
        entry: Entry | None
        reason = ""
        for line in lines:
            try:
                entry = _decode(line)
            except REFUSED as error:
                entry, reason = salvaged(line, Entry), str(error)
            if entry is None:
                if line.strip():
                    fault(offset, "not_json", reason)
            else:
                if entry.timestamp is not None:
                    memory.time = entry.timestamp
                time, session = memory.time, entry.session_id
                if problem := _problem(entry, time):
                    fault(offset, *problem)
                if session is not None and time is not None:
                    for event_type, data in facts_of(entry, session, memory):
                        yield Event(time, session, event_type, data, _lane(entry), entry.timestamp is None), offset, line
            offset += len(line)


def recognise(_path: str, lines: list[bytes]) -> bool:
    """Whether the first complete lines of a file are Claude Code's. There is no header: any known line may come first."""
    for line in lines:
        try:
            mark = _decode_mark(line)
        except REFUSED:
            continue
        if _is_foreign(mark):
            return False
        if _is_ours(mark):
            return True
    return False


def decoder(_source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a transcript."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None))


def _problem(entry: Entry, time: datetime | None) -> tuple[str, str] | None:
    """Name the fault that the line is, if it is one: kind and detail."""
    if entry.type not in _FACTS:
        if entry.type in SILENT:
            return None
        return (f"unknown_type:{_UNCLEAN.sub('?', entry.type[:40])}", "") if entry.type else ("no_type", "no `type` that is a text")
    if entry.session_id is None:
        return "no_session", f"`{entry.type}` without `sessionId`"
    if time is None:
        return "no_time", f"`{entry.type}` without `timestamp`, and none before it"
    return None


def facts_of(entry: Entry, session: str, memory: Memory) -> list[Fact]:
    tell = _FACTS.get(entry.type)
    facts = tell(entry, memory) if tell else []
    if session in memory.sessions or _lane(entry):
        return facts
    remember(memory.sessions, session, None)
    # A prompt on the first line of a session is what the session starts with.
    if facts and facts[0][0] == "user_message":
        return [("session_start", Detail(prompt=cast("Detail", facts[0][1]).output, prompt_type="initial")), *facts[1:]]
    return [("session_start", Detail(prompt_type="initial")), *facts]


def _lane(entry: Entry) -> str | None:
    return entry.agent_id or ("sidechain" if entry.is_sidechain else None)


def _assistant(entry: Entry, memory: Memory) -> list[Fact]:
    message = entry.message or Message()
    blocks = _blocks(message.content)
    if entry.is_api_error_message:
        return [
            ("error", Detail(error_message=_joined(blocks), error_category=_text(entry.error) or "api", msg_id=message.id, retry=False)),
            *_turn_end(memory, "api_error"),
        ]
    facts = [tell(block, message, memory) for block in blocks if (tell := _SAYS.get(block.type))]
    if facts:
        memory.turn_is_open = True
    spent = _spent(entry, message, blocks, memory)
    if not facts:
        return [("usage", Data(msg_id=message.id, usage=spent, model=_model(message)))] if spent else [("progress", Data())]
    if spent:
        facts[0][1].usage, facts[0][1].model = spent, _model(message)
    if message.stop_reason in _TURN_OVER and facts[-1][0] == "agent_output":
        facts += _turn_end(memory, message.stop_reason)
    return facts


def _model(message: Message | _WhoMessage) -> str | None:
    return None if message.model == "<synthetic>" else message.model


def _output(block: _Block, message: Message, _memory: Memory) -> Fact:
    return "agent_output", Detail(output=block.text, stop_reason=message.stop_reason, msg_id=message.id)


def _thinking(_block: _Block, message: Message, _memory: Memory) -> Fact:
    return "agent_thinking", Data(msg_id=message.id)


def _call(block: _Block, message: Message, memory: Memory) -> Fact:
    if block.id and block.name:
        remember(memory.calls, block.id, block.name)
    return "tool_call", Data(tool_name=block.name, tool_call_id=block.id, tool_params=block.input, msg_id=message.id)


def _user(entry: Entry, memory: Memory) -> list[Fact]:
    facts = []
    prompt, is_prompt = NOTHING, False
    for block in _blocks(entry.message.content if entry.message else None):
        if block.type == "tool_result":
            facts.append(_result(block, memory))
            memory.turn_is_open = True
        elif block.type == "text":
            # An editor puts what it shows into blocks before the one that was typed.
            prompt, is_prompt = block.text, True
        elif block.type in _SHOWN:
            is_prompt = True
    if not is_prompt or entry.is_meta or entry.is_compact_summary or entry.is_visible_in_transcript_only:
        return facts
    text = _text(prompt)
    if text.startswith(_INTERRUPTED):
        return facts + _turn_end(memory, "interrupted", interrupted=True)
    if text.startswith(_LOCAL):
        return facts
    memory.turn_is_open = True
    return [*facts, ("user_message", Detail(output=prompt))]


def _result(block: _Block, memory: Memory) -> Fact:
    call = block.tool_use_id
    data = Detail(tool_name=memory.calls.pop(call, None) if call else None, tool_call_id=call, result=block.content, is_error=False)
    if block.is_error:
        message = data.error_message = _HARNESS.sub("", _text(block.content)).strip()
        exit_code = _EXIT_CODE.match(message)
        data.exit_code = int(exit_code[1]) if exit_code else None
        data.reason = "refused" if message.startswith(_REFUSED) else "sibling" if message.startswith(_SIBLING) else None
        data.is_error = data.reason is None
    return "tool_result", data


def _system(entry: Entry, memory: Memory) -> list[Fact]:
    match entry.subtype:
        case "api_error":
            return [("error", Detail(error_message=_api_error(entry.error), error_category="api", retry=True))]
        case "compact_boundary":
            return [("compaction", Data())]
        case "turn_duration" | "stop_hook_summary":
            return _turn_end(memory, entry.subtype)
        case _:
            return []


def _progress(_entry: Entry, _memory: Memory) -> list[Fact]:
    return [("progress", Data())]


def _turn_end(memory: Memory, reason: str | None, *, interrupted: bool | None = None) -> list[Fact]:
    """End the turn, unless that was said: transcripts say it up to three times."""
    if not memory.turn_is_open:
        return []
    memory.turn_is_open = False
    return [("turn_end", Detail(reason=reason, interrupted=interrupted))]


def _spent(entry: Entry, message: Message, blocks: list[_Block], memory: Memory) -> Usage | None:
    """Find what this line adds to the bill: a message's usage stands on each of its lines, and the last one is right."""
    said, key = message.usage, message.id or entry.request_id
    # A fork copies its parent's lines under its own id; this names the session that paid (2.1.330).
    if said is None or key is None or entry.request_session_id not in (None, entry.session_id):
        return None
    known = memory.billed.get(key)
    output, characters = said.output_tokens or 0, known.characters if known else 0
    if message.stop_reason is None and output <= PLACEHOLDER_OUTPUT and _has_placeholders(entry.version):
        for block in blocks:
            characters += len(block.text) + len(block.thinking) + len(block.input)
        output = max(output, characters // CHARACTERS_PER_TOKEN)
    written, details = said.cache_creation, said.output_tokens_details
    now = Usage(
        said.input_tokens or 0,
        output,
        said.cache_read_input_tokens or 0,
        said.cache_creation_input_tokens or 0,
        details.thinking_tokens or 0 if details else 0,
        written.ephemeral_1h_input_tokens or 0 if written else 0,
    )
    before = known.usage if known else NO_USAGE
    if now == before:
        return None
    added = growth(before, now)
    if added == NO_USAGE:
        return None
    total = Usage(
        before.input + added.input,
        before.output + added.output,
        before.cache_read + added.cache_read,
        before.cache_write + added.cache_write,
        before.reasoning + added.reasoning,
        before.cache_write_1h + added.cache_write_1h,
    )
    remember(memory.billed, key, Billed(total, characters))
    return added


_SAYS: dict[str, Callable[[_Block, Message, Memory], Fact]] = {
    "text": _output,
    "thinking": _thinking,
    "redacted_thinking": _thinking,
    "tool_use": _call,
}
_FACTS: dict[str, Callable[[Entry, Memory], list[Fact]]] = {
    "assistant": _assistant,
    "user": _user,
    "system": _system,
    "progress": _progress,
    # A request to the model: each retry is one, so a file that ends here has a process that was alive here.
    "api-request": _progress,
}


def _is_foreign(mark: _Mark) -> bool:
    """Tell the canonical stream by its two fields; Qwen Code, whose envelope is the same, by `parts` and `systemPayload`."""
    return bool((mark.event_type and mark.attempt_id) or mark.system_payload or (mark.message and "parts" in mark.message))


def _is_ours(mark: _Mark) -> bool:
    if mark.type in ("user", "assistant"):
        return bool(mark.session_id and mark.uuid and mark.message and "content" in mark.message)
    if mark.type == "system":
        return bool(mark.session_id and mark.uuid and mark.subtype and mark.user_type)
    if mark.type == "summary":
        return bool(mark.leaf_uuid)
    if mark.type == "file-history-snapshot":
        return bool(mark.message_id and mark.snapshot)
    return bool(mark.session_id) and (mark.type in SILENT or mark.type in _FACTS)


def _blocks(content: list[_Block] | str | None) -> list[_Block]:
    if isinstance(content, str):
        return [_Block(type="text", text=msgspec.Raw(msgspec.json.encode(content)))] if content else []
    return content or []


def _joined(blocks: list[_Block]) -> str:
    return "\n".join(filter(None, (_text(block.text) for block in blocks)))


def _text(raw: msgspec.Raw) -> str:
    """Read the text of a JSON value: a string, or the strings of a list of content blocks; empty for anything else."""
    with suppress(*REFUSED):
        return _decode_text(raw)
    return _joined(_blocks(fit(mended(b'{"content":' + bytes(raw) + b"}"), Message).content)) if raw else ""


def _api_error(raw: msgspec.Raw) -> str:
    """Read a retry notice: what is meant for people, else the API's own words, else the name of the network's failure."""
    error = fit(raw, _ApiError)
    return error.formatted or error.message or (error.cause.code if error.cause else None) or _text(raw) or "API error"


@functools.lru_cache(maxsize=REMEMBERED)
def _has_placeholders(version: str | None) -> bool:
    numbers = re.match(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})", version or "")
    return numbers is not None and tuple(map(int, numbers.groups())) <= PLACEHOLDERS_UNTIL


_decode = msgspec.json.Decoder(Entry).decode
_decode_who = msgspec.json.Decoder(_Who).decode
_decode_mark = msgspec.json.Decoder(_Mark).decode
_decode_text = msgspec.json.Decoder(str).decode
