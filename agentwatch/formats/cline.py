"""Cline's and Roo Code's tasks: what a task's window showed, one JSON list, rewritten at every change. Facts, traps and omissions stand in `README.md` beside this file."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from agentwatch.formats.documents import Elements, Origin, Speaker, at_ms, changing, element, listed, parsed
from agentwatch.formats.lenient import kind_of
from agentwatch.formats.places import CLINE_EXTENSIONS
from agentwatch.formats.shared import NO_USAGE, Fact, Faults, Feed, growth, is_empty, plus, text
from agentwatch.model import NOTHING, Context, Data, Detail, Event, Item, Usage

NAME = "cline"

"""Names of the extensions, and of the executors that they are."""

SILENT = frozenset(
    {
        "api_req_finished", "api_req_retried", "api_req_deleted", "browser_action_launch", "browser_action", "browser_action_result", "checkpoint_saved",
        "checkpoint_created", "clineignore_error", "rooignore_error", "codebase_search_result", "image", "mcp_notification", "mcp_server_request_started",
        "shell_integration_warning", "shell_integration_warning_with_suggestion", "load_mcp_documentation", "info", "subtask_result", "tool_error_notice",
        "deleted_api_reqs", "task_progress", "hook_status", "hook_output_stream", "too_many_tools_warning", "user_edit_todos", "generate_explanation", "sliding_window_truncation",
    }
)  # fmt: skip
"""What is shown and says nothing here."""

FAILURES = frozenset(
    {"error", "diff_error", "condense_context_error", "mistake_limit_reached", "api_req_failed", "api_req_retry_delayed", "tool_error", "error_retry"}
)
"""What the agent itself shows as going wrong."""

PASSING = frozenset({"api_req_retry_delayed", "error_retry"})
TOOLS = {"tool": "tool", "command": "execute_command", "use_mcp_server": "use_mcp_tool", "browser_action_launch": "browser_action"}


class _Shown(msgspec.Struct, gc=False):
    """An element: something said, or asked of the user. `partial` as long as it grows."""

    ts: float | None = None
    type: str = ""
    ask: str | None = None
    say: str | None = None
    text: msgspec.Raw = NOTHING
    partial: bool | None = None


class _Request(msgspec.Struct, gc=False, rename="camel"):
    """A request to the model. What it cost is filled in when it is over."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    cache_writes: int | None = None
    cache_reads: int | None = None
    cost: float | None = None
    cancel_reason: str | None = None
    streaming_failed_message: str | None = None


class _Tool(msgspec.Struct, gc=False, rename="camel"):
    tool: str | None = None
    tool_name: str | None = None


class Told(msgspec.Struct, omit_defaults=True):
    """What was told of one element."""

    is_told: bool = False
    is_over: bool = False
    usage: Usage = NO_USAGE
    cost: float = 0


class Memory(Elements):
    """What was told of one task."""

    told: dict[str, Told] = msgspec.field(default_factory=dict)
    is_begun: bool = False


class Decoder(Speaker):
    """Decodes one task. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None, origin: Origin) -> None:
        self.memory = memory or Memory()
        self._attempt = origin.source.rpartition("/")[0].rpartition("/")[2]
        executor = next((executor for extension, executor in CLINE_EXTENSIONS.items() if extension in origin.source), "CLINE")
        self.speaker = Context(session_id=self._attempt, executor=executor)

    @property
    def place(self) -> int:
        return self.memory.count

    def read(self, document: bytes, feed: Feed, fault: Faults) -> int | None:
        """Tell what is new; the place of an event is the index of its element. See `documents.Whole`."""
        shown = listed(document)
        if shown is None:
            return None
        before = self.memory.count
        feed(self._items(shown, fault))
        return max(0, self.memory.count - before)

    def _items(self, elements: list[msgspec.Raw], fault: Faults) -> Iterator[Item]:
        memory = self.memory
        shown = [element(raw, _decode, _Shown) for raw in elements]
        for index, (line, one), told in changing(memory, memory.told, Told, shown, _identify):
            at = at_ms(one.ts)
            kind = one.ask if one.type == "ask" else one.say
            if at is None or not kind:
                fault(index, "no_time" if kind else "no_type", "an element of a task without `ts`, `say` or `ask`")
                continue
            if one.partial:
                continue
            facts = list(_request(one, told) if kind == "api_req_started" else self._facts(kind, one, told, index, fault))
            for event_type, data in facts:
                yield Event(at, self._attempt, event_type, data), index, line

    def _facts(self, kind: str, one: _Shown, told: Told, index: int, fault: Faults) -> Iterable[Fact]:
        """What an element says that does not change any more, and that it waits for its user."""
        if told.is_told:
            return
        told.is_told = True
        if not self.memory.is_begun and kind in ("task", "text"):  # the prompt, whatever it is called
            self.memory.is_begun = True
            yield "session_start", Detail(prompt_type="initial")
            yield "user_message", Detail(output=one.text)
            return
        teller = _TELLERS.get(kind)
        if kind in FAILURES:
            yield "error", Detail(error_message=text(one.text) or kind, error_category=kind, retry=True if kind in PASSING else None)
        elif kind in TOOLS:
            yield "tool_call", Data(tool_name=_tool_name(kind, one.text), tool_params=one.text)
        elif teller is not None:
            yield from teller(one)
        elif kind not in SILENT and one.type != "ask":
            fault(index, kind_of(kind), "")
        if one.type == "ask" and kind != "command_output":
            yield "turn_end", Detail(reason=kind)


def decoder(memory: msgspec.Raw, origin: Origin) -> Decoder:
    """Continue a task."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None), origin)


def _identify(index: int, shown: tuple[bytes, _Shown]) -> tuple[str, float]:
    """Two elements may have the same time; a question and what is said at once are told apart."""
    one = shown[1]
    return (f"{one.ts:.0f}{one.type}{one.say or one.ask}" if one.ts is not None else str(index)), one.ts or 0.0


def _request(one: _Shown, told: Told) -> Iterable[Fact]:
    """The model was asked; what that cost, when it is known; and why it did not end, where that is so."""
    if not told.is_told:
        told.is_told = True
        yield "turn_start", Data()
    said = parsed(text(one.text).encode(errors="replace"), _decode_request, _Request) or _Request()
    usage = Usage(said.tokens_in or 0, said.tokens_out or 0, said.cache_reads or 0, said.cache_writes or 0)
    spent, cost = growth(told.usage, usage), max(0.0, (said.cost or 0.0) - told.cost)
    if spent.total or cost:
        told.usage, told.cost = plus(told.usage, spent), told.cost + cost
        yield "usage", Data(usage=spent, cost_usd=cost)
    if said.cancel_reason is not None and not told.is_over:
        told.is_over = True
        if said.cancel_reason == "user_cancelled":
            yield "turn_end", Detail(reason=said.cancel_reason, interrupted=True)
        else:
            yield "error", Detail(error_message=said.streaming_failed_message or said.cancel_reason, error_category="api")


def _tool_name(kind: str, said: msgspec.Raw) -> str:
    tool = parsed(text(said).encode(errors="replace"), _decode_tool, _Tool) or _Tool()
    return tool.tool or tool.tool_name or TOOLS[kind]


def _spoke(one: _Shown) -> Iterable[Fact]:
    if not is_empty(one.text):
        yield "agent_output", Detail(output=one.text)


def _asked_for(one: _Shown) -> Iterable[Fact]:
    yield "user_message", Detail(output=one.text)


def _thought(_one: _Shown) -> Iterable[Fact]:
    yield "agent_thinking", Data()


def _went_on(_one: _Shown) -> Iterable[Fact]:
    yield "progress", Data()


def _condensed(_one: _Shown) -> Iterable[Fact]:
    yield "compaction", Data()


def _completed(one: _Shown) -> Iterable[Fact]:
    """Said first, and then asked whether it will do."""
    yield from _spoke(one)
    if one.type == "say":
        yield "turn_end", Detail(reason="completion_result")


_TELLERS: dict[str, Callable[[_Shown], Iterable[Fact]]] = {
    "text": _spoke,
    "followup": _spoke,
    "plan_mode_respond": _spoke,
    "reasoning": _thought,
    "user_feedback": _asked_for,
    "user_feedback_diff": _asked_for,
    "command_output": _went_on,
    "mcp_server_response": _went_on,
    "condense_context": _condensed,
    "summarize_task": _condensed,
    "completion_result": _completed,
}
_decode = msgspec.json.Decoder(_Shown).decode
_decode_request = msgspec.json.Decoder(_Request).decode
_decode_tool = msgspec.json.Decoder(_Tool).decode
