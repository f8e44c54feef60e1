"""OpenHands' conversations: a folder with one JSON file an event, and a document with the state. Facts, traps and omissions stand in `README.md` beside this file."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import msgspec

from agentwatch.formats.documents import Files, Origin, Speaker, parsed
from agentwatch.formats.lenient import kind_of
from agentwatch.formats.shared import NO_USAGE, Fact, Faults, Feed, growth, is_empty, plus, remember, text
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Time, Usage

NAME = "openhands"
STATE = "openhands-state"

SILENT = frozenset(
    {
        "CondensationRequest",
        "CondensationSummaryEvent",
        "ConversationStateUpdateEvent",
        "TokenEvent",
        "LLMCompletionLogEvent",
        "HookExecutionEvent",
        "StreamingDeltaEvent",
    }
)
SILENT_BEFORE = frozenset({"recall", "change_agent_state", "null", "condensation_request", "task_tracking"})
"""Kinds that say nothing here, and what did before version 1."""

_FINISH = "finish"
_OURS = frozenset({"awaiting_user_input", "awaiting_user_confirmation", "finished", "paused", "stopped", "rejected", "error", "rate_limited"})
"""States of the agent before version 1 in which it is the user's turn."""


class _Content(msgspec.Struct, gc=False):
    content: msgspec.Raw = NOTHING


class _Observation(msgspec.Struct, gc=False):
    content: msgspec.Raw = NOTHING
    is_error: bool | None = None
    exit_code: int | None = None


class _Class(msgspec.Struct, gc=False):
    kind: str | None = None
    retryable: bool | None = None


class _Metadata(msgspec.Struct, gc=False):
    exit_code: int | None = None


class _Extras(msgspec.Struct, gc=False):
    metadata: _Metadata | None = None
    exit_code: int | None = None
    agent_state: str | None = None
    error_id: str | None = None


class _Cached(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Spent(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None


class _Response(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    usage: _Spent | None = None


class _CallMetadata(msgspec.Struct, gc=False):
    function_name: str | None = None
    model_response: _Response | None = None


class _Arguments(msgspec.Struct, gc=False):
    content: msgspec.Raw = NOTHING
    wait_for_response: bool | None = None


class _Event(msgspec.Struct, gc=False):
    """An event of either version. `kind` is version 1's; before, `action` or `observation` names the kind."""

    kind: str = ""
    timestamp: str | None = None
    source: str | None = None
    llm_message: _Content | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    action: msgspec.Raw = NOTHING
    observation: msgspec.Raw = NOTHING
    llm_response_id: str | None = None
    error: msgspec.Raw = NOTHING
    code: str | None = None
    detail: str | None = None
    classification: _Class | None = None
    id: msgspec.Raw = NOTHING
    message: msgspec.Raw = NOTHING
    args: msgspec.Raw = NOTHING
    content: msgspec.Raw = NOTHING
    cause: msgspec.Raw = NOTHING
    extras: _Extras | None = None
    tool_call_metadata: _CallMetadata | None = None


class Memory(msgspec.Struct):
    """What later events of a conversation need of earlier ones: `paid` has the answers of the model whose tokens were told."""

    next: int = 0
    time: Time | None = None
    is_begun: bool = False
    model: str | None = None
    paid: dict[str, int] = {}


class Decoder(Speaker):
    """Decodes one conversation's folder. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None, origin: Origin) -> None:
        self.memory = memory or Memory()
        self._attempt = conversation(origin.source)
        self.speaker = Context(session_id=self._attempt, executor="OPENHANDS", model=self.memory.model)

    @property
    def place(self) -> int:
        return self.memory.next

    def read(self, files: Files, feed: Feed, fault: Faults) -> int:
        """Tell the events of new files, each by its number, up to the first that is not whole. See `documents.Whole`."""
        told: list[Item] = []
        understood = 0
        for number, file in files:
            event = parsed(file, _decode, _Event)
            if event is None:
                break
            understood += 1
            self.memory.next = number + 1
            told += self._items(number, file, event, fault)
        feed(told)
        return understood

    def _items(self, number: int, file: bytes, event: _Event, fault: Faults) -> Iterator[Item]:
        memory = self.memory
        at = _local(event.timestamp)
        memory.time = at or memory.time
        facts = self._facts(event, number, fault)
        self.speaker.model = memory.model
        if memory.time is None:
            fault(number, "no_time", "an event without `timestamp`, and none before it")
            return
        if not memory.is_begun:
            memory.is_begun = True
            yield Event(memory.time, self._attempt, "session_start", Detail(prompt_type="initial")), number, file
        for event_type, data in facts:
            yield Event(memory.time, self._attempt, event_type, data, None, at is None), number, file

    def _facts(self, event: _Event, number: int, fault: Faults) -> list[Fact]:
        if event.kind:
            teller = _KINDS.get(event.kind)
            if teller is None and event.kind not in SILENT:
                fault(number, kind_of(event.kind), "")
            return list(teller(event)) if teller else []
        action, observation = text(event.action), text(event.observation)
        if action:
            return list(_acted(action, event, self.memory)) if action not in SILENT_BEFORE else []
        if observation:
            return list(_observed(observation, event)) if observation not in SILENT_BEFORE else []
        fault(number, "no_type", "neither `kind` nor `action` nor `observation`")
        return []


class _Accumulated(msgspec.Struct, gc=False):
    """Totals. `prompt_tokens` include what came from the cache and went into it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Metrics(msgspec.Struct, gc=False):
    model_name: str | None = None
    accumulated_cost: float | None = None
    accumulated_token_usage: _Accumulated | None = None


class _Stats(msgspec.Struct, gc=False):
    usage_to_metrics: dict[str, _Metrics] | None = None


class _Workspace(msgspec.Struct, gc=False):
    working_dir: str | None = None


class _State(msgspec.Struct, gc=False):
    id: str | None = None
    stats: _Stats | None = None
    workspace: _Workspace | None = None
    execution_status: str | None = None


class Told(msgspec.Struct, omit_defaults=True):
    """Of one model's use."""

    usage: Usage = NO_USAGE
    cost: float = 0


class StateMemory(msgspec.Struct):
    """What was told of a conversation's totals."""

    told: dict[str, Told] = {}
    status: str | None = None


class StateDecoder(Speaker):
    """Decodes a conversation's state: its tokens and USD stand there and nowhere else, without times. They are those of when it was written."""

    name = STATE

    def __init__(self, memory: StateMemory | None, origin: Origin) -> None:
        self.memory = memory or StateMemory()
        self.speaker = Context()
        self._attempt = conversation(origin.source)
        self._written = origin.written

    @property
    def place(self) -> int:
        return len(self.memory.told)

    def read(self, document: bytes, feed: Feed, fault: Faults) -> int | None:
        """Tell what the totals have grown by, and that the agent waits for its user. See `documents.Whole`."""
        state = parsed(document, _decode_state, _State)
        if state is None:
            return None
        if not state.id:
            fault(0, "unrecognised", "no state of a conversation: `id` is missing")
            return 0
        project = state.workspace.working_dir if state.workspace else None
        self.speaker = Context(session_id=self._attempt, executor="OPENHANDS", project_id=project)
        facts = list(self._facts(state))
        feed((Event(self._written, self._attempt, event_type, data, None, True), 0, document) for event_type, data in facts)
        return len(facts)

    def _facts(self, state: _State) -> Iterable[Fact]:
        memory = self.memory
        for name, metrics in ((state.stats.usage_to_metrics if state.stats else None) or {}).items():
            told = memory.told.get(name) or Told()
            spent = growth(told.usage, _total(metrics.accumulated_token_usage or _Accumulated()))
            cost = max(0.0, (metrics.accumulated_cost or 0.0) - told.cost)
            if spent.total or cost:
                remember(memory.told, name, Told(plus(told.usage, spent), told.cost + cost))
                yield "usage", Data(usage=spent, cost_usd=cost, model=(metrics.model_name or "").rpartition("/")[2] or None)
        before, memory.status = memory.status, state.execution_status
        if state.execution_status == "waiting_for_confirmation" != before:
            yield "turn_end", Detail(reason="permission")


def decoder(memory: msgspec.Raw, origin: Origin) -> Decoder:
    """Continue a conversation."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None), origin)


def state_decoder(memory: msgspec.Raw, origin: Origin) -> StateDecoder:
    """Continue a conversation's state."""
    return StateDecoder(msgspec.json.decode(memory, type=StateMemory | None), origin)


def conversation(source: str) -> str:
    """Whose folder or state it is: the name of the directory that it lies in."""
    return source.rpartition("/")[0].rpartition("/")[2]


def _local(stamp: str | None) -> datetime | None:
    """Times are of the clock on the wall where the agent runs, without a zone: that is here."""
    try:
        return datetime.fromisoformat(stamp).astimezone() if stamp else None
    except (ValueError, OverflowError, OSError):
        return None


# Version 1


def _message(event: _Event) -> Iterable[Fact]:
    said = event.llm_message.content if event.llm_message else NOTHING
    if event.source == "user":
        yield "user_message", Detail(output=said)
    elif event.source == "agent":
        yield "agent_output", Detail(output=said)
        yield "turn_end", Detail(reason="answered")


def _action(event: _Event) -> Iterable[Fact]:
    yield "tool_call", Data(tool_name=event.tool_name, tool_call_id=event.tool_call_id, tool_params=event.action, msg_id=event.llm_response_id)


def _observation(event: _Event) -> Iterable[Fact]:
    """A command that failed is no error for OpenHands; one that is still running has the code -1."""
    said = parsed(bytes(event.observation), _decode_observation, _Observation) or _Observation()
    exit_code = said.exit_code if said.exit_code != -1 else None
    if said.is_error or exit_code:
        yield "tool_result", _failed(event, said.content, exit_code)
    else:
        yield "tool_result", Data(tool_name=event.tool_name, tool_call_id=event.tool_call_id, result=said.content, is_error=False, exit_code=exit_code)
    if event.tool_name == _FINISH:
        yield "turn_end", Detail(reason="finished")


def _failed(event: _Event, said: msgspec.Raw, exit_code: int | None = None) -> Detail:
    return Detail(tool_name=event.tool_name, tool_call_id=event.tool_call_id, result=said, is_error=True, exit_code=exit_code, error_message=text(said))


def _agent_error(event: _Event) -> Iterable[Fact]:
    yield "tool_result", _failed(event, event.error)


def _rejected(event: _Event) -> Iterable[Fact]:
    yield "tool_result", Detail(tool_name=event.tool_name, tool_call_id=event.tool_call_id, is_error=False, reason="refused")
    yield "turn_end", Detail(reason="refused")


def _conversation_error(event: _Event) -> Iterable[Fact]:
    kind = event.classification or _Class()
    yield "error", Detail(error_message=event.detail or event.code, error_category=kind.kind or event.code)
    yield "turn_end", Detail(reason="error")


def _paused(_event: _Event) -> Iterable[Fact]:
    yield "turn_end", Detail(reason="paused", interrupted=True)


def _condensed(_event: _Event) -> Iterable[Fact]:
    yield "compaction", Data()


def _prompted(_event: _Event) -> Iterable[Fact]:
    return ()


_KINDS: dict[str, Callable[[_Event], Iterable[Fact]]] = {
    "SystemPromptEvent": _prompted,
    "MessageEvent": _message,
    "ActionEvent": _action,
    "ObservationEvent": _observation,
    "AgentErrorEvent": _agent_error,
    "UserRejectObservation": _rejected,
    "ConversationErrorEvent": _conversation_error,
    "PauseEvent": _paused,
    "InterruptEvent": _paused,
    "Condensation": _condensed,
}


# Before version 1


def _acted(action: str, event: _Event, memory: Memory) -> Iterable[Fact]:
    yield from _paid(event, memory)
    arguments = parsed(bytes(event.args), _decode_arguments, _Arguments) or _Arguments()
    said = event.message if not is_empty(event.message) else arguments.content
    match action:
        case "message" if event.source == "user":
            yield "user_message", Detail(output=said)
        case "message" | "finish" | "reject":
            yield "agent_output", Detail(output=said)
            if action != "message" or arguments.wait_for_response:
                yield "turn_end", Detail(reason="finished" if action == _FINISH else "answered")
        case "system":
            return
        case "think":
            yield "agent_thinking", Data()
        case "condensation":
            yield "compaction", Data()
        case _ if event.source == "agent":
            yield "tool_call", Data(tool_name=action, tool_call_id=_number(event.id), tool_params=event.args)


def _paid(event: _Event, memory: Memory) -> Iterable[Fact]:
    """Parallel calls repeat the answer that they came with."""
    response = event.tool_call_metadata.model_response if event.tool_call_metadata else None
    if response is None:
        return
    memory.model = response.model or memory.model
    if response.usage is None or response.id is None or response.id in memory.paid:
        return
    remember(memory.paid, response.id, 1)
    cached = (response.usage.prompt_tokens_details.cached_tokens if response.usage.prompt_tokens_details else None) or 0
    usage = Usage(max(0, (response.usage.prompt_tokens or 0) - cached), response.usage.completion_tokens or 0, cached)
    yield "usage", Data(usage=usage, model=response.model, msg_id=response.id)


def _observed(observation: str, event: _Event) -> Iterable[Fact]:
    extras = event.extras or _Extras()
    if observation == "agent_state_changed":
        if extras.agent_state in _OURS:
            yield "turn_end", Detail(reason=extras.agent_state)
        return
    call = _number(event.cause)
    exit_code = extras.metadata.exit_code if extras.metadata else extras.exit_code
    exit_code = exit_code if exit_code != -1 else None
    if observation == "error" and call is None:
        yield "error", Detail(error_message=text(event.content) or text(event.message), error_category=extras.error_id)
    elif observation == "error" or exit_code:
        yield "tool_result", Detail(tool_call_id=call, result=event.content, is_error=True, exit_code=exit_code, error_message=text(event.content))
    elif observation == "user_rejected":
        yield "tool_result", Detail(tool_call_id=call, result=event.content, is_error=False, reason="refused")
    elif call is not None:
        yield "tool_result", Data(tool_call_id=call, result=event.content, is_error=False, exit_code=exit_code)


def _number(raw: msgspec.Raw) -> str | None:
    return bytes(raw).decode(errors="replace") if raw and raw != _NULL else None


def _total(said: _Accumulated) -> Usage:
    read, write = said.cache_read_tokens or 0, said.cache_write_tokens or 0
    return Usage(max(0, (said.prompt_tokens or 0) - read - write), said.completion_tokens or 0, read, write, said.reasoning_tokens or 0)


_NULL = msgspec.Raw(b"null")
_decode = msgspec.json.Decoder(_Event).decode
_decode_observation = msgspec.json.Decoder(_Observation).decode
_decode_arguments = msgspec.json.Decoder(_Arguments).decode
_decode_state = msgspec.json.Decoder(_State).decode
