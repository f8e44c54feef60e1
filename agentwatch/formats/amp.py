"""Amp's threads: one JSON document each, rewritten at every change. Facts, traps and omissions stand in `README.md` beside this file."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from urllib.parse import unquote, urlsplit

import msgspec

from agentwatch.formats.documents import Elements, Origin, Speaker, at_ms, changing, element, parsed
from agentwatch.formats.lenient import kind_of
from agentwatch.formats.shared import NO_USAGE, Fact, Faults, Feed, growth, is_empty, plus
from agentwatch.formats.shared import text as text_of
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Time, Usage

NAME = "amp"

FINAL = {"done": False, "error": True, "cancelled": False, "rejected-by-user": False}
"""How a tool may come to its end, and whether that is its failure. Only `done` was seen in a file; the others are those of Amp's own types."""

_BRANCH = "refs/heads/"


class _Run(msgspec.Struct, gc=False):
    status: str | None = None
    result: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


class _Part(msgspec.Struct, gc=False, rename={"tool_use_id": "toolUseID"}):
    type: str = ""
    text: msgspec.Raw = NOTHING
    complete: bool | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = NOTHING
    tool_use_id: str | None = None
    run: _Run | None = None


class _State(msgspec.Struct, gc=False, rename="camel"):
    type: str | None = None
    stop_reason: str | None = None


class _Usage(msgspec.Struct, gc=False, rename="camel"):
    """Of one message. `input_tokens` excludes what went through the cache."""

    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    timestamp: Time | None = None


class _Meta(msgspec.Struct, gc=False, rename="camel"):
    sent_at: float | None = None


class _Message(msgspec.Struct, gc=False, rename="camel"):
    role: str = ""
    message_id: int | None = None
    content: list[_Part] = []
    state: _State | None = None
    usage: _Usage | None = None
    meta: _Meta | None = None


class _Repository(msgspec.Struct, gc=False):
    ref: str | None = None


class _Tree(msgspec.Struct, gc=False):
    uri: str | None = None
    repository: _Repository | None = None


class _Initial(msgspec.Struct, gc=False):
    trees: list[_Tree] | None = None


class _Environment(msgspec.Struct, gc=False):
    initial: _Initial | None = None


class _Thread(msgspec.Struct, gc=False):
    id: str | None = None
    created: float | None = None
    env: _Environment | None = None
    messages: list[msgspec.Raw] = []


class Told(msgspec.Struct, omit_defaults=True):
    """What was told of one message: of which of its parts, and whether it is over."""

    parts: list[int] = []
    usage: Usage = NO_USAGE
    is_over: bool = False


class Memory(Elements):
    """What was told of one thread. `time` is the last that any of its messages had."""

    thread: str = ""
    time: Time | None = None
    told: dict[str, Told] = msgspec.field(default_factory=dict)


class Decoder(Speaker):
    """Decodes one thread. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory or Memory()
        self.speaker = Context()

    @property
    def place(self) -> int:
        return self.memory.count

    def read(self, document: bytes, feed: Feed, fault: Faults) -> int | None:
        """Tell what is new; the place of an event is the index of its message. See `documents.Whole`."""
        thread = parsed(document, _decode, _Thread)
        if thread is None:
            return None
        if not thread.id:
            fault(0, "unrecognised", "no thread of Amp: `id` is missing")
            return 0
        if thread.id != self.memory.thread:
            self.memory = Memory(thread=thread.id)
        self.speaker = _context(thread)
        before = self.memory.count
        feed(self._items(thread, fault))
        return max(0, self.memory.count - before)

    def _items(self, thread: _Thread, fault: Faults) -> Iterator[Item]:
        memory, name = self.memory, thread.id or ""
        created = at_ms(thread.created)
        if memory.time is None and created is not None:
            memory.time = created
            yield Event(created, name, "session_start", Detail(prompt_type="initial")), 0, b""
        messages = [element(raw, _decode_message, _Message) for raw in thread.messages]
        for index, (line, message), told in changing(memory, memory.told, Told, messages, _identify):
            teller = _TELLERS.get(message.role)
            if teller is None:
                fault(index, *((kind_of(message.role), "") if message.role else ("no_type", "a message without a role")))
                continue
            said_at = _time(message)
            memory.time = said_at or memory.time
            if message.usage is not None and message.usage.model:
                self.speaker.model = message.usage.model
            facts = list(teller(message, told))
            if memory.time is None:
                fault(index, "no_time", "a message without a time, in a thread without one")
                continue
            for event_type, data in facts:
                yield Event(memory.time, name, event_type, data, None, said_at is None), index, line


def decoder(memory: msgspec.Raw, _origin: Origin) -> Decoder:
    """Continue a thread."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None))


def _identify(index: int, said: tuple[bytes, _Message]) -> tuple[str, float]:
    number = said[1].message_id
    return str(index if number is None else number), float(index if number is None else number)


def _context(thread: _Thread) -> Context:
    trees = (thread.env.initial.trees if thread.env and thread.env.initial else None) or []
    tree = trees[0] if trees else _Tree()
    ref = (tree.repository.ref if tree.repository else None) or ""
    return Context(
        session_id=thread.id,
        executor="AMP",
        project_id=unquote(urlsplit(tree.uri).path) or None if tree.uri else None,
        branch=ref.removeprefix(_BRANCH) or None,
    )


def _time(message: _Message) -> datetime | None:
    if message.usage is not None and message.usage.timestamp is not None:
        return message.usage.timestamp
    return at_ms(message.meta.sent_at) if message.meta else None


def _user(message: _Message, told: Told) -> Iterable[Fact]:
    for number, part in enumerate(message.content):
        if number in told.parts:
            continue
        if part.type == "tool_result":
            run = part.run or _Run()
            if run.status in FINAL:
                told.parts.append(number)
                yield "tool_result", _result(part, run)
        elif part.type == "text" and not is_empty(part.text):
            told.parts.append(number)
            if number == 0:  # files that were put in follow
                yield "user_message", Detail(output=part.text)


def _result(part: _Part, run: _Run) -> Data:
    """A command's exit code stands in its result."""
    exit_code = _exit_code(run.result)
    if not FINAL[run.status or ""] and not exit_code:
        reason = None if run.status == "done" else run.status
        if reason is None:
            return Data(tool_call_id=part.tool_use_id, result=run.result, is_error=False, exit_code=exit_code)
        return Detail(tool_call_id=part.tool_use_id, result=run.result, is_error=False, reason=reason)
    shown = run.error if not is_empty(run.error) else run.result
    return Detail(tool_call_id=part.tool_use_id, result=shown, is_error=True, exit_code=exit_code, error_message=_message(shown))


def _exit_code(result: msgspec.Raw) -> int | None:
    return element(result, _decode_outcome, _Outcome)[1].exit_code if result else None


def _message(shown: msgspec.Raw) -> str:
    outcome = element(shown, _decode_outcome, _Outcome)[1]
    return outcome.message or outcome.output or text_of(shown)


class _Outcome(msgspec.Struct, gc=False, rename="camel"):
    exit_code: int | None = None
    message: str | None = None
    output: str | None = None


def _assistant(message: _Message, told: Told) -> Iterable[Fact]:
    """A message grows while its `state` is no final one; what is told of it is whole."""
    state = message.state or _State()
    is_over = state.type in ("complete", "cancelled", "error")
    for number, part in enumerate(message.content):
        if number in told.parts or not (is_over or part.complete or number < len(message.content) - 1):
            continue
        told.parts.append(number)
        if part.type == "tool_use":
            yield "tool_call", Data(tool_name=part.name, tool_call_id=part.id, tool_params=part.input)
        elif part.type == "thinking":
            yield "agent_thinking", Data()
        elif part.type == "text" and not is_empty(part.text):
            yield "agent_output", Detail(output=part.text, stop_reason=state.stop_reason)
    spent = growth(told.usage, _usage(message.usage))
    if spent.total:
        told.usage = plus(told.usage, spent)
        yield "usage", Data(usage=spent, model=message.usage.model if message.usage else None)
    if is_over and not told.is_over:
        told.is_over = True
        if state.type == "cancelled":
            yield "turn_end", Detail(reason="cancelled", interrupted=True)
        elif state.stop_reason != "tool_use":
            yield "turn_end", Detail(reason=state.stop_reason or state.type)


def _usage(said: _Usage | None) -> Usage:
    if said is None:
        return NO_USAGE
    return Usage(said.input_tokens or 0, said.output_tokens or 0, said.cache_read_input_tokens or 0, said.cache_creation_input_tokens or 0)


def _info(_message: _Message, _told: Told) -> Iterable[Fact]:
    return ()


_TELLERS = {"user": _user, "assistant": _assistant, "info": _info}
_decode = msgspec.json.Decoder(_Thread).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_outcome = msgspec.json.Decoder(_Outcome).decode
