"""What `codex exec --json` prints: lines become events. The facts, traps and omissions stand in `README.md` beside this file."""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from agentwatch.formats.codex import NO_TOKENS, Tokens, grown
from agentwatch.formats.lenient import REFUSED, kind_of
from agentwatch.formats.shared import Fact, Faults, Native, entries, remember, text
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Time

NAME = "codex-exec"

SILENT = frozenset({"item.started.error", "item.updated.error", "item.started.agent_message", "item.updated.agent_message", "item.started.reasoning"})
"""Kinds of line that are known and say nothing that another line does not say."""

_TOOLS = {"command_execution": "exec_command", "file_change": "apply_patch", "web_search": "web_search", "mcp_tool_call": "mcp", "collab_tool_call": "collab"}
"""Items that are calls of a tool, and the tool's name where the item names none: the rollout's names."""

_LIMIT = re.compile(r".{0,400}?(?:usage limit|\b429\b)", re.DOTALL).match
_TRY = re.compile(r"Reconnecting\.\.\. \d+/\d+(?: \((?P<why>.+)\))?\s*", re.DOTALL).fullmatch
"""One of the tries to go on. Its number is no part of what failed: with it, five refusals by an overloaded model were five different errors."""

_TIME_ORDERED = 7
"""The version of the UUIDs that begin with the time: 48 bits, milliseconds since the epoch (RFC 9562, section 5.7)."""


class _Text(msgspec.Struct, gc=False):
    message: str | None = None


class _Thing(msgspec.Struct, gc=False):
    """An `item` of any type, as far as anything here asks."""

    id: str = ""
    type: str = ""
    text: msgspec.Raw = NOTHING
    command: msgspec.Raw = NOTHING
    aggregated_output: msgspec.Raw = NOTHING
    exit_code: int | None = None
    status: str | None = None
    changes: msgspec.Raw = NOTHING
    tool: str | None = None
    arguments: msgspec.Raw = NOTHING
    result: msgspec.Raw = NOTHING
    error: _Text | None = None
    query: msgspec.Raw = NOTHING


class _Line(msgspec.Struct, gc=False):
    type: str = ""
    thread_id: str | None = None
    message: str | None = None
    error: _Text | None = None
    usage: Tokens | None = None
    item: _Thing | None = None


class Memory(msgspec.Struct):
    """What a stream's later lines need of its earlier ones. No line has a time: who reads the stream as it is printed sets `time` before each read."""

    time: Time | None = None
    thread: str | None = None
    error: str | None = None
    total: Tokens = NO_TOKENS
    calls: dict[str, str] = {}


class Decoder(Native):
    """Decodes one stream. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory

    def context(self, line: bytes) -> Context:
        """The thread is all that the stream tells: neither directory nor model."""
        thread = self.memory.thread
        return Context() if thread is None else Context(session_id=thread, executor="CODEX")

    def _items(self, lines: list[bytes], offset: int, fault: Faults) -> Iterator[Item]:
        memory = self.memory
        for place, line, entry in entries(lines, offset, _decode, _Line, fault):
            facts = _facts(entry, memory)
            if facts is None:
                kind = _kind(entry)
                if kind not in SILENT:
                    fault(place, *((kind_of(kind), "") if kind else ("no_type", "no `type` that is a text")))
            elif memory.thread is None:
                fault(place, "no_session", f"`{entry.type}` before `thread.started`")
            elif memory.time is None:
                fault(place, "no_time", "the thread's id has no time in it")
            else:
                for event_type, data in facts:
                    yield Event(memory.time, memory.thread, event_type, data, None, inferred=True), place, line


def recognise(_path: str, lines: list[bytes]) -> bool:
    """Whether a thread starts in the first lines of a file; what a shell or Codex itself printed may come before."""
    return any(_starts(line) for line in lines)


def decoder(_source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a stream."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None))


def _starts(line: bytes) -> bool:
    try:
        entry = _decode(line)
    except REFUSED:
        return False
    return entry.type == "thread.started" and bool(entry.thread_id)


def _kind(entry: _Line) -> str:
    return f"{entry.type}.{entry.item.type}" if entry.item else entry.type


def _facts(entry: _Line, memory: Memory) -> list[Fact] | None:
    """The events of a line; None where it is of a kind that tells none."""
    match entry.type:
        case "thread.started" if entry.thread_id:
            memory.thread, memory.total = entry.thread_id, NO_TOKENS
            memory.time = memory.time or _time_of(entry.thread_id)
            return [("session_start", Detail(prompt_type="initial"))]
        case "turn.started":
            memory.error = None
            return [("turn_start", Data())]
        case "turn.completed":
            return [*_spent(entry.usage, memory), ("turn_end", Detail(reason="complete"))]
        case "turn.failed":
            message = entry.error.message if entry.error else None
            return [*_failure(message or "the turn failed", memory), ("turn_end", Detail(reason="failed"))]
        case "error":
            return _failure(entry.message or "an error without a message", memory)
        case "item.started" | "item.updated" | "item.completed" if entry.item:
            return _told(entry.item, memory, is_done=entry.type == "item.completed")
        case _:
            return None


def _failure(message: str, memory: Memory) -> list[Fact]:
    """What failed, once: the last words before a turn fails are printed again when it does."""
    if message == memory.error:
        return []
    memory.error = message
    category = "rate_limit" if _LIMIT(message) else "api"
    again = _TRY(message)
    if again:
        return [("error", Detail(error_message=again["why"] or "Reconnecting...", error_category=category, retry=True))]
    return [("error", Detail(error_message=message, error_category=category, retry=False))]


def _told(item: _Thing, memory: Memory, *, is_done: bool) -> list[Fact] | None:
    if item.type in _TOOLS:
        # Some calls are printed when they are done only.
        called = [] if item.id in memory.calls else _called(item, memory)
        return [*called, _result(item, memory)] if is_done else called or [("progress", Data())]
    if item.type == "todo_list":
        return [("progress", Data())]
    if not is_done:
        return None
    match item.type:
        case "agent_message":
            # The turn goes on until a line says that it is completed.
            return [("agent_output", Detail(output=item.text, stop_reason="tool_use"))]
        case "reasoning":
            return [("agent_thinking", Data())]
        case "error":
            return [("progress", Data())]
        case _:
            return None


def _called(item: _Thing, memory: Memory) -> list[Fact]:
    name = item.tool or _TOOLS[item.type]
    remember(memory.calls, item.id, name)
    params = item.arguments or item.changes or item.query
    if item.command:
        params = msgspec.Raw(b'{"command":%b}' % bytes(item.command))
    return [("tool_call", Data(tool_name=name, tool_call_id=item.id, tool_params=params))]


def _result(item: _Thing, memory: Memory) -> Fact:
    name = memory.calls.pop(item.id, None)
    output = item.aggregated_output or item.result
    refused = item.status == "declined"
    failed = not refused and (item.status == "failed" or bool(item.exit_code))
    if not failed and not refused:
        return "tool_result", Data(tool_name=name, tool_call_id=item.id, result=output, is_error=False, exit_code=item.exit_code)
    said = (item.error.message if item.error else None) or text(output).strip() or (f"exit code {item.exit_code}" if item.exit_code else item.status)
    data = Detail(tool_name=name, tool_call_id=item.id, result=output, is_error=failed, exit_code=item.exit_code, error_message=said)
    data.reason = "refused" if refused else None
    return "tool_result", data


def _spent(total: Tokens | None, memory: Memory) -> list[Fact]:
    """The thread's tokens so far are printed at the end of each turn."""
    if total is None:
        return []
    usage, memory.total = grown(memory.total, total), total
    return [("usage", Data(usage=usage))] if usage.total else []


def _time_of(thread_id: str) -> datetime | None:
    """When the thread was begun, which its id tells; None where it is another kind of id."""
    with suppress(ValueError, OverflowError, OSError):
        uuid = UUID(thread_id)
        if uuid.version == _TIME_ORDERED:
            return datetime.fromtimestamp((uuid.int >> 80) / 1000, UTC)
    return None


_decode = msgspec.json.Decoder(_Line).decode
