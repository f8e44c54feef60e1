"""Factory Droid's session files: lines become events. The facts, traps and omissions stand in `README.md` beside this file."""

from collections.abc import Callable, Iterator

import msgspec

from agentwatch.core.signatures import result_text
from agentwatch.formats.lenient import BLANK, REFUSED, kind_of
from agentwatch.formats.shared import Fact, Faults, Native, entries
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Time, decoded

NAME = "droid"

SILENT = frozenset({"session_settings", "session_start", "todo_state"})
"""Types of lines that are known and say nothing about what the agent does."""

_REMINDER, _REMINDER_END = "<system-reminder>", "</system-reminder>"


class _Block(msgspec.Struct, gc=False):
    """One content block of a message, whatever its type."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = NOTHING
    text: msgspec.Raw = NOTHING
    tool_use_id: str | None = None
    content: msgspec.Raw = NOTHING
    is_error: bool | None = None


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: list[_Block] | None = None


class _Entry(msgspec.Struct, gc=False, rename="camel"):
    """A line, as far as anything here asks."""

    type: str = ""
    id: str | None = None
    timestamp: Time | None = None
    cwd: str | None = None
    calling_session_id: str | None = None
    reason: str | None = None
    message: _Message | None = None


class _Mark(msgspec.Struct, gc=False):
    """What a session file begins with. The stream of `droid exec` has no such line, and Copilot calls it `session.start`."""

    type: str
    id: str
    cwd: str | None = None
    title: str | None = None
    owner: str | None = None
    attempt_id: msgspec.Raw = NOTHING


class Memory(msgspec.Struct):
    """What stands on a file's first line only, and the newest time."""

    session_id: str | None = None
    parent_id: str | None = None
    cwd: str | None = None
    time: Time | None = None
    has_started: bool = False
    turn_is_open: bool = False


class Decoder(Native):
    """Decodes one file. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory

    def context(self, line: bytes) -> Context:
        """Who the file speaks of; its lines do not say, and none names the model."""
        memory = self.memory
        return Context(session_id=memory.session_id, project_id=memory.cwd, executor="DROID", parent_id=memory.parent_id)

    def usage(self, _line: bytes) -> None:
        """Nothing to say: tokens stand in another file, which is rewritten."""

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
    """Whether a file begins with the header of a session."""
    for line in lines:
        if line.strip(BLANK):
            try:
                mark = _decode_mark(line.removeprefix(b"\xef\xbb\xbf"))
            except REFUSED:
                return False
            return mark.type == "session_start" and not mark.attempt_id and any((mark.cwd, mark.title, mark.owner))
    return False


def decoder(_source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a session."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None))


def _remember(entry: _Entry, memory: Memory) -> None:
    memory.time = entry.timestamp or memory.time
    if entry.type == "session_start":
        memory.session_id, memory.cwd, memory.parent_id = entry.id, entry.cwd, entry.calling_session_id


def _problem(entry: _Entry, memory: Memory) -> tuple[str, str] | None:
    """Name the fault that the line is, if it is one: kind and detail."""
    kind = entry.type
    if kind not in _FACTS:
        if kind in SILENT:
            return None
        return (kind_of(kind), "") if kind else ("no_type", "no `type` that is a text")
    if memory.session_id is None:
        return "no_session", f"`{kind}` before any `session_start`"
    if memory.time is None:
        return "no_time", f"`{kind}` without `timestamp`, and none before it"
    return None


def _facts(entry: _Entry, memory: Memory) -> list[Fact]:
    tell = _FACTS.get(entry.type)
    facts = tell(entry, memory) if tell else []
    if memory.has_started or not facts:
        return facts
    memory.has_started = True
    event_type, data = facts[0]
    if event_type == "user_message" and isinstance(data, Detail):
        return [("session_start", Detail(prompt=data.output, prompt_type="initial")), *facts[1:]]
    return [("session_start", Detail(prompt_type="initial")), *facts]


def _message(entry: _Entry, memory: Memory) -> list[Fact]:
    message = entry.message or _Message()
    blocks = message.content or []
    facts = _assistant(blocks) if message.role == "assistant" else _user(blocks)
    if facts:
        memory.turn_is_open = facts[-1][0] != "turn_end"
    return facts


def _outcome(entry: _Entry, memory: Memory) -> list[Fact]:
    """The turn's own last line, which older versions do not write."""
    if not memory.turn_is_open:
        return []
    memory.turn_is_open = False
    return [("turn_end", Detail(reason=entry.reason))]


def _assistant(blocks: list[_Block]) -> list[Fact]:
    """A message that says something and calls nothing is the answer: in most files nothing else tells that a turn is over."""
    facts: list[Fact] = []
    for block in blocks:
        if block.type == "text":
            facts.append(("agent_output", Detail(output=block.text)))
        elif block.type == "tool_use":
            facts.append(("tool_call", Data(tool_name=block.name, tool_call_id=block.id, tool_params=block.input)))
        elif block.type in _THOUGHTS:
            facts.append(("agent_thinking", Data()))
    kinds = {kind for kind, _ in facts}
    if "agent_output" in kinds and "tool_call" not in kinds:
        facts.append(("turn_end", Detail(reason="answer")))
    return facts


def _user(blocks: list[_Block]) -> list[Fact]:
    facts = [_result(block) for block in blocks if block.type == "tool_result"]
    # What was typed comes first; the files that it names follow in blocks of their own.
    prompts = (_without_reminders(block.text) for block in blocks if block.type == "text")
    prompt = next(filter(None, prompts), None)
    if prompt:
        facts.append(("user_message", Detail(output=prompt)))
    return facts


def _result(block: _Block) -> Fact:
    data = Detail(tool_call_id=block.tool_use_id, result=block.content, is_error=bool(block.is_error))
    if data.is_error:
        data.error_message = result_text(decoded(block.content)).strip()
    return "tool_result", data


def _without_reminders(text: msgspec.Raw) -> msgspec.Raw:
    """What a person wrote in a text that may begin with what the agent put there; empty if nothing."""
    said = decoded(text) if bytes(text).startswith(b'"<system-reminder>') else None
    if not isinstance(said, str):
        return text
    while said.startswith(_REMINDER):
        said = said.partition(_REMINDER_END)[2].lstrip()
    return msgspec.Raw(msgspec.json.encode(said)) if said else NOTHING


def _compaction(_entry: _Entry, _memory: Memory) -> list[Fact]:
    return [("compaction", Data())]


_THOUGHTS = frozenset({"thinking", "redacted_thinking"})
_FACTS: dict[str, Callable[[_Entry, Memory], list[Fact]]] = {"message": _message, "agent_turn_outcome": _outcome, "compaction_state": _compaction}

_decode = msgspec.json.Decoder(_Entry).decode
_decode_mark = msgspec.json.Decoder(_Mark).decode
