"""Trajectories of SWE-agent and of mini-swe-agent: one JSON document a run, rewritten after every step. Facts, traps and omissions stand in `README.md` beside this file."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from zlib import crc32

import msgspec

from agentwatch.formats.documents import Elements, Origin, Speaker, at_s, element, listed, parsed
from agentwatch.formats.lenient import kind_of
from agentwatch.formats.shared import NO_USAGE, Fact, Faults, Feed, growth, is_empty, plus, text
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Time, Usage

NAME = "swe-agent"

FAILED_EDIT = "Your proposed edit has introduced new syntax error"
"""What SWE-agent's tools say of an edit that they did not make. Its commands' exit codes are not recorded."""

_ENDING = re.compile(r"(\.traj)*(\.json)?$")
_BLOCK = re.compile(r"```(?:mswea_bash_command|bash)\s*\n(.*?)\n```", re.DOTALL)
_RETURNED = re.compile(r"\s*<returncode>(-?\d{1,9})</returncode>\s*(?:<output>\n?(.*?)(?:</output>)?\s*$)?", re.DOTALL)


class _Stats(msgspec.Struct, gc=False):
    instance_cost: float | None = None
    tokens_sent: int | None = None
    tokens_received: int | None = None


class _ModelConfig(msgspec.Struct, gc=False):
    model_name: str | None = None


class _Config(msgspec.Struct, gc=False):
    model: _ModelConfig | None = None


class _Info(msgspec.Struct, gc=False):
    exit_status: str | None = None
    model_stats: _Stats | None = None
    config: _Config | None = None


class _Document(msgspec.Struct, gc=False):
    info: _Info | None = None
    trajectory: list[msgspec.Raw] | None = None
    history: list[msgspec.Raw] | None = None
    messages: list[msgspec.Raw] | None = None


class _Step(msgspec.Struct, gc=False):
    action: str | None = None
    observation: msgspec.Raw = NOTHING
    thought: msgspec.Raw = NOTHING


class _Cached(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Thoughts(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Spent(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None
    completion_tokens_details: _Thoughts | None = None


class _Response(msgspec.Struct, gc=False):
    created: float | None = None
    model: str | None = None
    usage: _Spent | None = None


class _Action(msgspec.Struct, gc=False):
    command: str | None = None
    tool_call_id: str | None = None


class _Extra(msgspec.Struct, gc=False):
    actions: list[_Action] | None = None
    response: _Response | None = None
    cost: float | None = None
    timestamp: float | None = None
    returncode: int | None = None
    raw_output: msgspec.Raw = NOTHING
    exception_info: str | None = None
    interrupt_type: str | None = None
    exit_status: str | None = None


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: msgspec.Raw = NOTHING
    tool_call_id: str | None = None
    extra: _Extra | None = None


class Memory(Elements):
    """What was told of one run. `first` is the checksum of its beginning: another run may write to the same file. `calls`: open calls of the last message."""

    first: int = 0
    time: Time | None = None
    usage: Usage = NO_USAGE
    cost: float = 0
    calls: list[str] = msgspec.field(default_factory=list)
    is_asked: bool = False
    is_over: bool = False


class Decoder(Speaker):
    """Decodes one run. Continue it in another process by giving `memory` to a new one.

    Where the file has no times, an event's time is when the document was written in which it was found first.
    """

    name = NAME

    def __init__(self, memory: Memory | None, origin: Origin) -> None:
        self.memory = memory or Memory()
        self.speaker = Context()
        self._attempt = _ENDING.sub("", origin.source)
        self._written = origin.written

    @property
    def place(self) -> int:
        return self.memory.count

    def read(self, document: bytes, feed: Feed, fault: Faults) -> int | None:
        """Tell the steps that are new; the place of an event is the index of its step or message. See `documents.Whole`."""
        said = parsed(document, _decode, _Document)
        if said is None:
            messages = listed(document)  # mini-swe-agent before its version 1
            if messages is None:
                return None
            said = _Document(messages=messages)
        elements = said.messages if said.messages is not None else said.trajectory
        if elements is None:
            if said.history is None:
                fault(0, "unrecognised", "no trajectory: neither `trajectory` nor `messages`")
            return 0
        first = crc32(elements[0]) if elements else 0
        if len(elements) < self.memory.count or (self.memory.count and first != self.memory.first):
            self.memory = Memory()
        self.memory.first = first
        before = self.memory.count
        self.speaker = Context(session_id=self._attempt, executor="MINI-SWE-AGENT" if said.messages is not None else "SWE-AGENT", model=_model(said))
        feed(self._messages(said, elements, fault) if said.messages is not None else self._steps(said, elements, fault))
        return len(elements) - before

    def _steps(self, said: _Document, steps: list[msgspec.Raw], _fault: Faults) -> Iterator[Item]:
        memory = self.memory
        at = self._written
        if not memory.is_asked and steps:
            memory.is_asked = True
            yield self._event(at, ("session_start", Detail(prompt_type="initial"))), 0, b""
            yield self._event(at, ("user_message", Detail(output=_question(said.history or [])))), 0, b""
        while memory.count < len(steps):
            index = memory.count
            memory.count += 1
            line, step = element(steps[index], _decode_step, _Step)
            for fact in _stepped(index, step):
                yield self._event(at, fact), index, line
        for fact in self._ended(said.info or _Info()):
            yield self._event(at, fact), max(0, len(steps) - 1), b""

    def _messages(self, said: _Document, messages: list[msgspec.Raw], fault: Faults) -> Iterator[Item]:
        memory = self.memory
        while memory.count < len(messages):
            index = memory.count
            memory.count += 1
            line, message = element(messages[index], _decode_message, _Message)
            teller = _TELLERS.get(message.role)
            if teller is None:
                fault(index, *((kind_of(message.role), "") if message.role else ("no_type", "a message without a role")))
                continue
            at = _time(message)
            memory.time = at or memory.time
            response = message.extra.response if message.extra else None
            self.speaker.model = (response.model if response else None) or self.speaker.model
            for fact in teller(index, message, memory):
                yield self._event(memory.time or self._written, fact, is_inferred=at is None), index, line

    def _ended(self, info: _Info) -> Iterable[Fact]:
        memory, stats = self.memory, info.model_stats or _Stats()
        spent = growth(memory.usage, Usage(stats.tokens_sent or 0, stats.tokens_received or 0))
        cost = max(0.0, (stats.instance_cost or 0.0) - memory.cost)
        if spent.total or cost:
            memory.usage, memory.cost = plus(memory.usage, spent), memory.cost + cost
            yield "usage", Data(usage=spent, cost_usd=cost)
        if info.exit_status and not memory.is_over:
            memory.is_over = True
            yield _end(info.exit_status)

    def _event(self, at: datetime, fact: Fact, *, is_inferred: bool = True) -> Event:
        return Event(at, self._attempt, *fact, None, is_inferred)


def decoder(memory: msgspec.Raw, origin: Origin) -> Decoder:
    """Continue a run."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None), origin)


def _model(said: _Document) -> str | None:
    config = said.info.config if said.info else None
    return config.model.model_name if config and config.model else None


def _question(history: list[msgspec.Raw]) -> msgspec.Raw:
    """What the agent was asked: the first message of the user."""
    messages = (element(raw, _decode_message, _Message)[1] for raw in history)
    return next((message.content for message in messages if message.role == "user"), NOTHING)


def _stepped(index: int, step: _Step) -> Iterable[Fact]:
    if not is_empty(step.thought):
        yield "agent_output", Detail(output=step.thought, stop_reason="tool_use")
    action = (step.action or "").strip()
    if not action:
        return
    name = action.split(None, 1)[0]
    call = str(index)
    yield "tool_call", Data(tool_name=name, tool_call_id=call, tool_params=msgspec.Raw(msgspec.json.encode({"command": action})))
    said = text(step.observation)
    if said.startswith(FAILED_EDIT):
        yield "tool_result", Detail(tool_name=name, tool_call_id=call, result=step.observation, is_error=True, error_message=said)
    else:
        yield "tool_result", Data(tool_name=name, tool_call_id=call, result=step.observation, is_error=False)


def _end(status: str) -> Fact:
    return "session_end", Detail(completion_status="success" if status.lower().startswith("submitted") else "failed", reason=status)


def _time(message: _Message) -> datetime | None:
    extra = message.extra or _Extra()
    return at_s(extra.timestamp if extra.timestamp is not None else extra.response.created if extra.response else None)


def _system(_index: int, _message: _Message, _memory: Memory) -> Iterable[Fact]:
    return ()


def _user(_index: int, message: _Message, memory: Memory) -> Iterable[Fact]:
    extra = message.extra or _Extra()
    if not memory.is_asked:
        memory.is_asked = True
        yield "session_start", Detail(prompt_type="initial")
        yield "user_message", Detail(output=message.content)
    elif extra.interrupt_type is not None:
        yield from _spent(extra)
        yield "error", Detail(error_message=f"{extra.interrupt_type}: {text(message.content)}", error_category=extra.interrupt_type)
    elif memory.calls:
        yield from _returned(message, memory)


def _assistant(index: int, message: _Message, memory: Memory) -> Iterable[Fact]:
    extra = message.extra or _Extra()
    actions = extra.actions
    if actions is None:
        actions = [_Action(command) for command in _BLOCK.findall(text(message.content))]
    if not is_empty(message.content):
        yield "agent_output", Detail(output=message.content, stop_reason="tool_use" if actions else None)
    memory.calls = []
    for number, action in enumerate(actions):
        call = action.tool_call_id or f"{index}/{number}"
        memory.calls.append(call)
        yield "tool_call", Data(tool_name="bash", tool_call_id=call, tool_params=msgspec.Raw(msgspec.json.encode({"command": action.command})))
    yield from _spent(extra)


def _spent(extra: _Extra) -> Iterable[Fact]:
    response = extra.response
    said = response.usage if response else None
    if said is None:
        return
    cached = (said.prompt_tokens_details.cached_tokens if said.prompt_tokens_details else None) or 0
    thoughts = (said.completion_tokens_details.reasoning_tokens if said.completion_tokens_details else None) or 0
    usage = Usage(max(0, (said.prompt_tokens or 0) - cached), said.completion_tokens or 0, cached, 0, thoughts)
    yield "usage", Data(usage=usage, cost_usd=extra.cost, model=response.model if response else None)


def _returned(message: _Message, memory: Memory) -> Iterable[Fact]:
    """A result. Before version 1 it is a message of the user, with the exit code in its text."""
    extra = message.extra or _Extra()
    call = message.tool_call_id or (memory.calls[0] if memory.calls else None)
    memory.calls = [one for one in memory.calls if one != call]
    exit_code, result = extra.returncode, extra.raw_output
    if exit_code is None and (found := _RETURNED.match(text(message.content))):
        exit_code, result = int(found[1]), msgspec.Raw(msgspec.json.encode(found[2] or ""))
    if is_empty(result):
        result = message.content
    if not exit_code and not extra.exception_info:
        yield "tool_result", Data(tool_name="bash", tool_call_id=call, result=result, is_error=False, exit_code=exit_code)
    else:
        said = extra.exception_info or text(result)
        yield "tool_result", Detail(tool_name="bash", tool_call_id=call, result=result, is_error=True, exit_code=exit_code, error_message=said)


def _exit(_index: int, message: _Message, memory: Memory) -> Iterable[Fact]:
    if not memory.is_over:
        memory.is_over = True
        yield _end((message.extra.exit_status if message.extra else None) or text(message.content))


def _tool(_index: int, message: _Message, memory: Memory) -> Iterable[Fact]:
    yield from _returned(message, memory)


_TELLERS = {"system": _system, "user": _user, "assistant": _assistant, "tool": _tool, "exit": _exit}
_decode = msgspec.json.Decoder(_Document).decode
_decode_step = msgspec.json.Decoder(_Step).decode
_decode_message = msgspec.json.Decoder(_Message).decode
