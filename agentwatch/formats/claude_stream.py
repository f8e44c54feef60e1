"""What `claude -p --output-format stream-json` prints: lines become events. The facts stand in `README.md` beside this file."""

from collections.abc import Iterator

import msgspec

from agentwatch.formats import claude_code
from agentwatch.formats.claude_code import Entry, Message, facts_of
from agentwatch.formats.lenient import REFUSED, kind_of
from agentwatch.formats.shared import Fact, Faults, Native, entries, text
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Time, Usage

NAME = "claude-stream"

SILENT = frozenset(
    {"stream_event", "rate_limit_event", "control_request", "control_response", "control_cancel_request", "keep_alive", "tool_progress", "auth_status"}
)
"""Kinds of line that are known and say nothing that another line does not say."""

# The lines of a message are printed before it has ended, with the output of its first moment: so did transcripts up to this version.
_LIKE = ".".join(map(str, claude_code.PLACEHOLDERS_UNTIL))


class _Spent(msgspec.Struct, gc=False):
    output_tokens: int | None = None


class _Line(msgspec.Struct, gc=False):
    type: str = ""
    subtype: str | None = None
    session_id: str | None = None
    parent_tool_use_id: str | None = None
    cwd: str | None = None
    model: str | None = None
    message: Message | None = None
    is_error: bool | None = None
    is_api_error_message: bool | None = None
    api_error_status: int | None = None
    error_status: int | None = None
    error: msgspec.Raw = NOTHING
    usage: _Spent | None = None
    result: msgspec.Raw = NOTHING
    timestamp: Time | None = None


class Memory(msgspec.Struct):
    """What a stream's later lines need of its earlier ones. Some lines have no time: who reads the stream as it is printed sets `time` before each read.

    `output` is the tokens of this turn that were told so far, those of sub-agents left out.
    """

    time: Time | None = None
    cwd: str | None = None
    model: str | None = None
    output: int = 0
    claude: claude_code.Memory = msgspec.field(default_factory=claude_code.Memory)


class Decoder(Native):
    """Decodes one stream. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory

    def context(self, line: bytes) -> Context:
        """Who the stream speaks of: its session, and what the first line said of it."""
        session = _decode_session(line)
        return Context(session_id=session, project_id=self.memory.cwd, executor="CLAUDE", model=self.memory.model)

    def _items(self, lines: list[bytes], offset: int, fault: Faults) -> Iterator[Item]:
        memory = self.memory
        for place, line, entry in entries(lines, offset, _decode, _Line, fault):
            if entry.timestamp is not None:
                memory.time = entry.timestamp
            facts = _facts(entry, memory)
            if facts is None:
                if entry.type not in SILENT:
                    fault(place, *((kind_of(entry.type), "") if entry.type else ("no_type", "no `type` that is a text")))
            elif entry.session_id is None:
                fault(place, "no_session", f"`{entry.type}` without `session_id`")
            elif memory.time is None:
                fault(place, "no_time", "no line has a time; `agentwatch exec` knows when it was printed")
            else:
                for kind, data in facts:
                    yield Event(memory.time, entry.session_id, kind, data, entry.parent_tool_use_id, entry.timestamp is None), place, line


def recognise(_path: str, lines: list[bytes]) -> bool:
    """Whether the first lines are such a stream: an object with `session_id` in snake case, which a transcript has not."""
    for line in lines:
        if b'"session_id"' not in line:
            continue
        try:
            entry = _decode(line)
        except REFUSED:
            continue
        if entry.type == "system" and entry.subtype == "init":
            return entry.model is not None
    return False


def decoder(_source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a stream."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None))


def _facts(entry: _Line, memory: Memory) -> list[Fact] | None:
    """What a line says; None for a kind that says nothing, or that nobody knows."""
    match entry.type:
        case "system":
            return _system(entry, memory)
        case "assistant" if entry.is_api_error_message:
            # The turn's `result` says it in the same words; as an answer it would end the failures that it is the last of.
            return []
        case "assistant" | "user":
            said = Entry(type=entry.type, session_id=entry.session_id, agent_id=entry.parent_tool_use_id, message=entry.message, version=_LIKE)
            facts = facts_of(said, entry.session_id or "", memory.claude)
            if entry.parent_tool_use_id is None:
                memory.output += sum(data.usage.output for _, data in facts if data.usage)
            return facts
        case "result":
            return _result(entry, memory)
        case _:
            return None


def _system(entry: _Line, memory: Memory) -> list[Fact]:
    match entry.subtype:
        case "init":
            memory.cwd, memory.model = entry.cwd, entry.model
            return facts_of(Entry(type="system", session_id=entry.session_id), entry.session_id or "", memory.claude)
        case "compact_boundary":
            return [("compaction", Detail())]
        case "api_retry":
            status = f"{entry.error_status} " if entry.error_status else ""
            return [("error", Detail(error_message=f"API error: {status}{text(entry.error)}", error_category="api", retry=True))]
        case _:
            return []


def _result(entry: _Line, memory: Memory) -> list[Fact]:
    """The end of a turn, the failure that it ended with, and what its answers were longer than they seemed."""
    facts: list[Fact] = []
    more = (entry.usage.output_tokens or 0 if entry.usage else 0) - memory.output
    if more > 0:
        facts.append(("usage", Data(usage=Usage(output=more), model=memory.model)))
    if entry.is_error or (entry.subtype or "").startswith("error"):
        category = "result" if entry.api_error_status is None else "api"
        facts.append(("error", Detail(error_message=text(entry.result) or entry.subtype, error_category=category, retry=False)))
    memory.output, memory.claude.turn_is_open = 0, False
    return [*facts, ("turn_end", Detail(reason=entry.subtype or "result"))]


class _Session(msgspec.Struct, gc=False):
    session_id: str | None = None


_decode = msgspec.json.Decoder(_Line).decode
_session = msgspec.json.Decoder(_Session).decode


def _decode_session(line: bytes) -> str | None:
    try:
        return _session(line).session_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
