"""Kimi Code's `wire.jsonl`: lines become events. The facts, traps and omissions stand in `README.md` beside this file."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import PurePosixPath

import msgspec

from agentwatch.core.signatures import result_text
from agentwatch.formats.lenient import BLANK, REFUSED, kind_of
from agentwatch.formats.shared import Fact, Faults, Native, entries
from agentwatch.model import EPOCH, NOTHING, Context, Data, Detail, Event, Item, Time, Usage, decoded

NAME = "kimi"

LOOP = "context.append_loop_event"
_FAMILIES = (
    "cron.",
    "file_history.",
    "full_compaction.",
    "goal.",
    "mcp.",
    "plan_mode.",
    "plugin.",
    "profile.",
    "runtime.",
    "swarm_mode.",
    "task.",
    "token_counting.",
    "tools.",
    "tower_mode.",
)
SILENT = frozenset(
    {
        "config.update",
        "context.append_message",
        "context.clear",
        "context.undo",
        "context.update_token_count",
        "forked",
        "interruptionReminder.recorded",
        "llm.tools_snapshot",
        "metadata",
        "permission.record_approval_result",
        "permission.set_mode",
        "plan.revision",
        "prompt.accepted",
        "prompt.steered",
    },
)
"""Types of lines that are known and say nothing about what the agent does, or repeat what another line says."""

_EXIT_CODE = re.compile(r"Command failed with exit code: (\d{1,9})\.?\s*\Z")
_STATUS_CHARACTERS = 80
_LATEST_MS = 2.5e14
"""The year 9892: what is later is no time."""


class _Usage(msgspec.Struct, gc=False, rename="camel"):
    input_other: int | None = None
    output: int | None = None
    input_cache_read: int | None = None
    input_cache_creation: int | None = None


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: msgspec.Raw = NOTHING


class _Result(msgspec.Struct, gc=False, rename="camel"):
    output: msgspec.Raw = NOTHING
    is_error: bool | None = None


class _Step(msgspec.Struct, gc=False, rename="camel"):
    """What the agent's loop did, of any type."""

    type: str = ""
    tool_call_id: str | None = None
    name: str | None = None
    args: msgspec.Raw = NOTHING
    part: _Block | None = None
    result: _Result | None = None
    finish_reason: str | None = None


class _Entry(msgspec.Struct, gc=False, rename="camel"):
    """A line, as far as anything here asks. `time` is in milliseconds since the epoch."""

    type: str = ""
    time: float | None = None
    created_at: float | None = msgspec.field(name="created_at", default=None)
    cwd: str | None = None
    model: str | None = None
    model_alias: str | None = None
    input: list[_Block] | None = None
    event: _Step | None = None
    usage: _Usage | None = None


class _Mark(msgspec.Struct, gc=False):
    """What a file begins with."""

    type: str
    protocol_version: str
    created_at: float


class Memory(msgspec.Struct):
    """What stands on few lines, and the newest time."""

    cwd: str | None = None
    model: str | None = None
    time: Time | None = None
    has_started: bool = False
    turn_is_open: bool = False


class Decoder(Native):
    """Decodes one file. Continue it in another process by giving `memory` to a new one.

    No line names its session: `source` does, as `…/<session>/agents/<agent>/wire.jsonl`.
    """

    name = NAME

    def __init__(self, source: str, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory
        self._session, self._lane = _of(source)

    def context(self, line: bytes) -> Context:
        """Who the file speaks of; its lines do not say."""
        memory = self.memory
        return Context(session_id=self._session, project_id=memory.cwd, executor="KIMI", model=memory.model)

    def _items(self, lines: list[bytes], offset: int, fault: Faults) -> Iterator[Item]:
        memory = self.memory
        for place, line, entry in entries(lines, offset, _decode, _Entry, fault):
            at = _remember(entry, memory)
            if problem := _problem(entry, memory):
                fault(place, *problem)
            elif memory.time is not None:
                for event_type, data in self._facts(entry):
                    yield Event(memory.time, self._session, event_type, data, self._lane, at is None), place, line

    def _facts(self, entry: _Entry) -> list[Fact]:
        tell = _FACTS.get(_kind(entry))
        facts = tell(entry) if tell else []
        memory = self.memory
        if len(facts) == 1 and facts[0][0] == "turn_end":
            if not memory.turn_is_open:
                return []  # protocols differ in how many lines say so
            memory.turn_is_open = False
        elif facts and facts[-1][0] not in _SIGNS:
            memory.turn_is_open = True
        if memory.has_started or not facts or self._lane is not None:
            return facts
        memory.has_started = True
        event_type, data = facts[0]
        if event_type == "user_message" and isinstance(data, Detail):
            return [("session_start", Detail(prompt=data.output, prompt_type="initial")), *facts[1:]]
        return [("session_start", Detail(prompt_type="initial")), *facts]


def recognise(_path: str, lines: list[bytes]) -> bool:
    """Whether a file begins with the protocol's header."""
    for line in lines:
        if line.strip(BLANK):
            try:
                return _decode_mark(line.removeprefix(b"\xef\xbb\xbf")).type == "metadata"
            except REFUSED:
                return False
    return False


def decoder(source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a session."""
    return Decoder(source, msgspec.json.decode(memory, type=Memory | None))


def _of(source: str) -> tuple[str, str | None]:
    """The session that a source belongs to, and the lane in it: None for the agent itself."""
    parts = PurePosixPath(source).parts
    if len(parts) >= 4 and parts[-3] == "agents":
        return parts[-4], None if parts[-2] == "main" else parts[-2]
    return str(PurePosixPath(source).with_suffix("")), None


def _remember(entry: _Entry, memory: Memory) -> datetime | None:
    """Keep what later lines need; the line's own time, if it has one."""
    at = _moment(entry.created_at if entry.time is None else entry.time)
    memory.time = at or memory.time
    memory.cwd = entry.cwd or memory.cwd
    memory.model = _bare(entry.model_alias) or memory.model
    return at


def _moment(milliseconds: float | None) -> datetime | None:
    if milliseconds is None or abs(milliseconds) > _LATEST_MS:
        return None
    return EPOCH + timedelta(milliseconds=milliseconds)


def _kind(entry: _Entry) -> str:
    return f"{LOOP}/{entry.event.type}" if entry.type == LOOP and entry.event else entry.type


def _problem(entry: _Entry, memory: Memory) -> tuple[str, str] | None:
    """Name the fault that the line is, if it is one: kind and detail."""
    kind = _kind(entry)
    if kind not in _FACTS:
        if kind in SILENT or kind.startswith(_FAMILIES):
            return None
        kind = kind.removeprefix("context.append_")
        return (kind_of(kind), "") if kind else ("no_type", "no `type` that is a text")
    return None if memory.time is not None else ("no_time", f"`{kind}` without `time`, and none before it")


def _prompt(entry: _Entry) -> list[Fact]:
    texts = [block.text for block in entry.input or [] if block.type == "text"]
    return [("user_message", Detail(output=texts[0] if texts else NOTHING))]


def _part(entry: _Entry) -> list[Fact]:
    part = entry.event.part if entry.event else None
    if part is not None and part.type == "text":
        return [("agent_output", Detail(output=part.text))]
    # An answer is written when it is whole: the call follows a thought within 25 ms, or a person is asked whether it may be made,
    # which no line says. 2 of 8 such questions of one session stood open for 16 and 40 minutes.
    return [("agent_thinking", Data()), ("turn_end", Detail(reason="permission"))]


def _call(entry: _Entry) -> list[Fact]:
    step = entry.event or _NO_STEP
    return [("tool_call", Data(tool_name=step.name, tool_call_id=step.tool_call_id, tool_params=step.args))]


def _result(entry: _Entry) -> list[Fact]:
    step = entry.event or _NO_STEP
    result = step.result or _Result()
    data = Detail(tool_call_id=step.tool_call_id, result=result.output, is_error=bool(result.is_error))
    if data.is_error:
        data.error_message = result_text(decoded(result.output)).strip()
        exit_code = _EXIT_CODE.search(data.error_message[-_STATUS_CHARACTERS:])
        data.exit_code = int(exit_code[1]) if exit_code else None
    return [("tool_result", data)]


def _step_end(entry: _Entry) -> list[Fact]:
    """A step that does not end for its tools ends the turn."""
    reason = entry.event.finish_reason if entry.event else None
    return [] if reason == "tool_use" else [("turn_end", Detail(reason=reason))]


def _ended(_entry: _Entry) -> list[Fact]:
    return [("turn_end", Detail(reason="completed"))]


def _interrupted(_entry: _Entry) -> list[Fact]:
    return [("turn_end", Detail(reason="interrupted", interrupted=True))]


def _asked(_entry: _Entry) -> list[Fact]:
    """Whoever is asked for a permission has the turn."""
    return [("turn_end", Detail(reason="permission"))]


def _answered(_entry: _Entry) -> list[Fact]:
    return [("turn_start", Detail())]


def _usage(entry: _Entry) -> list[Fact]:
    """One line a request, compactions included; the step's own end says the same again."""
    said = entry.usage or _Usage()
    usage = Usage(_count(said.input_other), _count(said.output), _count(said.input_cache_read), _count(said.input_cache_creation))
    return [("usage", Data(usage=usage, model=_bare(entry.model)))] if usage.total else []


def _progress(_entry: _Entry) -> list[Fact]:
    return [("progress", Data())]


def _compaction(_entry: _Entry) -> list[Fact]:
    return [("compaction", Data())]


def _bare(model: str | None) -> str | None:
    """A model's name without its provider's, which stands before it."""
    return model.rpartition("/")[2] if model else None


def _count(tokens: int | None) -> int:
    return max(0, tokens or 0)


_NO_STEP = _Step()
_SIGNS = frozenset({"compaction", "progress", "usage"})
_FACTS: dict[str, Callable[[_Entry], list[Fact]]] = {
    "turn.prompt": _prompt,
    "turn.steer": _prompt,
    "turn.cancel": _interrupted,
    "turn.ended": _ended,
    "turn.step.interrupted": _interrupted,
    "turn.step.retrying": _progress,
    "prompt.aborted": _interrupted,
    "prompt.completed": _ended,
    "interaction.request": _asked,
    "interaction.resolved": _answered,
    "llm.request": _progress,
    "usage.record": _usage,
    "context.apply_compaction": _compaction,
    f"{LOOP}/step.begin": _progress,
    f"{LOOP}/content.part": _part,
    f"{LOOP}/tool.call": _call,
    f"{LOOP}/tool.result": _result,
    f"{LOOP}/step.end": _step_end,
}

_decode = msgspec.json.Decoder(_Entry).decode
_decode_mark = msgspec.json.Decoder(_Mark).decode
