"""pi's session files: lines become events. The facts, traps and omissions stand in `README.md` beside this file."""

import re
from collections.abc import Callable, Iterator

import msgspec

from agentwatch.core.signatures import result_text
from agentwatch.formats.lenient import REFUSED, fit, kind_of
from agentwatch.formats.shared import Fact, Faults, Native, entries
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Time, Usage, decoded

NAME = "pi"

SILENT = frozenset(
    {
        "branch_summary",
        "custom",
        "custom_message",
        "label",
        "message/bashExecution",
        "message/branchSummary",
        "message/compactionSummary",
        "message/custom",
        "message/hookMessage",
        "model_change",
        "session",
        "session_info",
        "thinking_level_change",
    },
)
"""Types of lines, and roles of messages, that are known and say nothing about what the agent does."""

_EXIT_CODE = re.compile(r"Command exited with code (\d{1,9})\s*\Z")
_ABORTED = re.compile(r"(?:Command|Operation) aborted\s*\Z")
_STATUS_CHARACTERS = 80
"""A command's status is the end of its output: no more than this is searched for it."""


class _Cost(msgspec.Struct, gc=False):
    total: float | None = None


class _Usage(msgspec.Struct, gc=False, rename="camel"):
    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cost: _Cost | None = None


class _Block(msgspec.Struct, gc=False):
    """One content block of a message, whatever its type."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    arguments: msgspec.Raw = NOTHING
    text: msgspec.Raw = NOTHING


class _Message(msgspec.Struct, gc=False, rename="camel"):
    """A message of any role. A result's content is left as it is; whoever wants its text decodes it."""

    role: str = ""
    content: msgspec.Raw = NOTHING
    model: str | None = None
    usage: _Usage | None = None
    stop_reason: str | None = None
    error_message: str | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    is_error: bool | None = None


class _Entry(msgspec.Struct, gc=False, rename="camel"):
    """A line, as far as anything here asks. `branched_from` is what version 1 called `parent_session`."""

    type: str = ""
    id: str | None = None
    timestamp: Time | None = None
    cwd: str | None = None
    model_id: str | None = None
    parent_session: str | None = None
    branched_from: str | None = None
    message: _Message | None = None


class _Mark(msgspec.Struct, gc=False):
    """What a session file begins with."""

    type: str
    id: str
    timestamp: Time
    cwd: str


class Memory(msgspec.Struct):
    """What stands on a file's first line only, and what later lines need of earlier ones.

    `copied_until` is set in a fork: what is older was copied from its parent.
    """

    session_id: str | None = None
    cwd: str | None = None
    model: str | None = None
    time: Time | None = None
    copied_until: Time | None = None
    has_started: bool = False


class Decoder(Native):
    """Decodes one file. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory

    def context(self, line: bytes) -> Context:
        """Who the file speaks of; its lines do not say."""
        memory = self.memory
        return Context(session_id=memory.session_id, project_id=memory.cwd, executor="PI", model=memory.model)

    def _items(self, lines: list[bytes], offset: int, fault: Faults) -> Iterator[Item]:
        memory = self.memory
        for place, line, entry in entries(lines, offset, _decode, _Entry, fault):
            _remember(entry, memory)
            if problem := _problem(entry, memory):
                fault(place, *problem)
            elif memory.session_id is not None and memory.time is not None:
                for event_type, data in _facts(entry, memory):
                    yield Event(memory.time, memory.session_id, event_type, data, None, entry.timestamp is None), place, line


def recognise(_path: str, lines: list[bytes]) -> bool:
    """Whether a file begins with the header of a session. OpenClaw writes the same one."""
    for line in lines:
        if line.strip():
            try:
                return _decode_mark(line.removeprefix(b"\xef\xbb\xbf")).type == "session"
            except REFUSED:
                return False
    return False


def decoder(_source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a session."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None))


def _remember(entry: _Entry, memory: Memory) -> None:
    memory.time = entry.timestamp or memory.time
    memory.model = entry.model_id or memory.model
    if entry.type == "session":
        memory.session_id, memory.cwd = entry.id, entry.cwd
        memory.copied_until = entry.timestamp if entry.parent_session or entry.branched_from else None


def _kind(entry: _Entry) -> str:
    return f"message/{entry.message.role}" if entry.type == "message" and entry.message else entry.type


def _problem(entry: _Entry, memory: Memory) -> tuple[str, str] | None:
    """Name the fault that the line is, if it is one: kind and detail."""
    kind = _kind(entry)
    if kind not in _FACTS:
        if kind in SILENT:
            return None
        return (kind_of(kind), "") if kind else ("no_type", "no `type` that is a text")
    if memory.session_id is None:
        return "no_session", f"`{kind}` before any line of type `session`"
    if memory.time is None:
        return "no_time", f"`{kind}` without `timestamp`, and none before it"
    return None


def _facts(entry: _Entry, memory: Memory) -> list[Fact]:
    tell = _FACTS.get(_kind(entry))
    if tell is None or (memory.copied_until is not None and entry.timestamp is not None and entry.timestamp < memory.copied_until):
        return []
    facts = tell(entry.message or _Message(), memory)
    if memory.has_started or not facts:
        return facts
    memory.has_started = True
    if isinstance(facts[0][1], Detail) and facts[0][0] == "user_message":
        return [("session_start", Detail(prompt=facts[0][1].output, prompt_type="initial")), *facts[1:]]
    return [("session_start", Detail(prompt_type="initial")), *facts]


def _user(message: _Message, memory: Memory) -> list[Fact]:
    texts = [block.text for block in _blocks(message.content) if block.type == "text"]
    return [("user_message", Detail(output=texts[0] if texts else NOTHING))]


def _assistant(message: _Message, memory: Memory) -> list[Fact]:
    memory.model = message.model or memory.model
    facts: list[Fact] = []
    for block in _blocks(message.content):
        if block.type == "text":
            facts.append(("agent_output", Detail(output=block.text)))
        elif block.type == "thinking":
            facts.append(("agent_thinking", Data()))
        elif block.type == "toolCall":
            facts.append(("tool_call", Data(tool_name=block.name, tool_call_id=block.id, tool_params=block.arguments)))
    calls = any(kind == "tool_call" for kind, _ in facts)
    if message.stop_reason == "error":
        facts.append(("error", Detail(error_message=message.error_message, error_category="api")))
    _spend(message, facts)
    if message.stop_reason in _OVER or not calls:
        facts.append(_turn_end(message.stop_reason))
    return facts


def _spend(message: _Message, facts: list[Fact]) -> None:
    """The first event of a line carries what it cost."""
    said = message.usage
    if said is None:
        return
    usage = Usage(_count(said.input), _count(said.output), _count(said.cache_read), _count(said.cache_write))
    if not usage.total:
        return
    if not facts:
        facts.append(("usage", Data()))
    data = facts[0][1]
    data.usage, data.model = usage, message.model
    if said.cost is not None and said.cost.total is not None:
        data.cost_usd = max(0.0, said.cost.total)


def _turn_end(reason: str | None) -> Fact:
    if reason == "aborted":
        return "turn_end", Detail(reason="interrupted", interrupted=True)
    return "turn_end", Detail(reason="api_error" if reason == "error" else reason)


def _result(message: _Message, memory: Memory) -> list[Fact]:
    data = Detail(tool_name=message.tool_name, tool_call_id=message.tool_call_id, result=message.content, is_error=bool(message.is_error))
    if message.is_error:
        text = data.error_message = result_text(decoded(message.content)).strip()
        status = text[-_STATUS_CHARACTERS:]
        if exit_code := _EXIT_CODE.search(status):
            data.exit_code = int(exit_code[1])
        elif _ABORTED.search(status):
            data.is_error, data.reason = False, "interrupted"
    return [("tool_result", data)]


def _compaction(_message: _Message, _memory: Memory) -> list[Fact]:
    return [("compaction", Data())]


_OVER = frozenset({"aborted", "error"})
_FACTS: dict[str, Callable[[_Message, Memory], list[Fact]]] = {
    "message/user": _user,
    "message/assistant": _assistant,
    "message/toolResult": _result,
    "compaction": _compaction,
}


def _count(tokens: int | None) -> int:
    return max(0, tokens or 0)


def _blocks(content: msgspec.Raw) -> list[_Block]:
    """The blocks of a content; one that is a string is a block of text."""
    if not content:
        return []
    try:
        return _decode_blocks(content)
    except REFUSED:
        pass
    if bytes(content).startswith(b'"'):
        return [_Block(type="text", text=content)]
    return fit(b'{"content":%b}' % bytes(content), _Content).content


class _Content(msgspec.Struct, gc=False):
    content: list[_Block] = []


_decode = msgspec.json.Decoder(_Entry).decode
_decode_mark = msgspec.json.Decoder(_Mark).decode
_decode_blocks = msgspec.json.Decoder(list[_Block]).decode
