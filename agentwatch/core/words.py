"""What an event says, in the words of a person. Pure; the texts are the log's own: whoever shows them makes them harmless (`core/text.py`)."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import msgspec

from agentwatch.core.lazy import lazy
from agentwatch.core.signatures import result_text
from agentwatch.model import Data, Detail, Event, Usage, decoded

LONGEST_RAW = 256 << 10
"""JSON text longer than this (a picture, a whole file) is not decoded to be shown: only its beginning is, as it stands."""

SAYS_ITSELF = frozenset({"tool_call", "tool_result", "usage", "progress", "turn_start"})
"""Types of event whose `data` says all there is to show, whether it is a `Detail` or not."""

ACTIONS = frozenset(
    {"session_start", "session_end", "user_message", "agent_output", "agent_thinking", "tool_call", "error", "followup_sent", "status_change", "compaction"}
)
"""Types of event that are something an attempt did: its last action is one of them. A result is one where it failed."""


class Said(NamedTuple):
    """What an event says: who or what speaks, in a word or two, and the whole text, which may be empty or have many lines."""

    title: str
    text: str
    is_bad: bool = False

    @property
    def line(self) -> str:
        """Title and text, as in `Bash: npm test`."""
        return f"{self.title}: {self.text}" if self.text else self.title


def whole(event: Event, line: bytes, detail: Callable[[bytes], Detail]) -> Data:
    """All that an event says. `detail` is what its format's decoder tells of the line beyond the event's own data."""
    data = event.data
    return data if isinstance(data, Detail) or event.event_type in SAYS_ITSELF else detail(line)


def said(event: Event, line: bytes, data: Data) -> Said:
    """Put an event into words, from all that it says: its `whole` data."""
    tell = _TOLD.get(event.event_type)
    return tell(data, line) if tell is not None else Said(str(event.event_type).replace("_", " ")[:40], "")


def thought(line: bytes) -> str:
    """The thoughts that a line holds, under whichever of the names that agents give them; empty where they are withheld or encrypted."""
    if len(line) > LONGEST_RAW:
        return ""
    return "\n".join(_thoughts(decoded(msgspec.Raw(line)), 0))


def action(tool_name: str | None, params: msgspec.Raw) -> Said:
    """What a call does: the tool, and of its parameters the one that says most."""
    name = tool_name or "unknown tool"
    if name.startswith("mcp__"):
        name = name.removeprefix("mcp__").replace("__", ".")
    if len(params) > LONGEST_RAW:
        return Said(name, f"{_start(params)}…")
    return Said(name, _about(_unpacked(decoded(params))))


# ----------------------------------------------------------------------------------------------------------- parameters

_COMMANDS = ("command", "cmd", "script", "sql")
_PATHS = ("file_path", "filePath", "path", "notebook_path", "absolute_path", "target_file", "relative_path", "filename", "file", "dir_path")
_SOUGHT = ("pattern", "query", "search_term", "regex", "q", "queries")
_TOLD_OF = (
    "url",
    "uri",
    "subject",
    "description",
    "title",
    "task",
    "prompt",
    "question",
    "skill",
    "name",
    "message",
    "thought",
    "text",
    "plan",
    "chars",
    "code",
)
_PATCHES = ("input", "patchText", "patch", "diff")
_LISTS = ("todos", "plan", "todo_list", "items")
_SELDOM = frozenset({"action", "questions", *_PATCHES, *_LISTS})
_STEP_NAMES = ("activeForm", "content", "step", "text", "title")
_IN_PATCH = lazy(r"^\*\*\* (Add|Update|Delete) File: (.{1,400})$", re.MULTILINE)
_SHELL_FLAGS = frozenset({"-c", "-lc", "-ic", "-l"})
_IS_DONE = frozenset({"completed", "done"})
_IS_ON = frozenset({"in_progress", "in-progress", "doing"})
_MOST_PAIRS = 4


def _about(value: object) -> str:
    """The parameter that says most of what a call does."""
    if isinstance(value, str):
        return _patched(value) or value
    if not isinstance(value, dict):
        return "" if value is None else result_text(value)
    if not _SELDOM.isdisjoint(value) and (about := _of_parts(value)) is not None:
        return about
    path, sought = _first(value, _PATHS), _first(value, _SOUGHT)
    command = next(filter(None, map(value.get, _COMMANDS)), None)
    if command:
        # An editor's command is a verb, and its path says on what.
        return f"{_text(command)} {path}".rstrip() if path and isinstance(command, str) and " " not in command else _command(command)
    if sought:
        return f"{sought} in {path}" if path else sought
    if path:
        first, last = value.get("offset") or value.get("start_line"), value.get("limit")
        return f"{path}:{first}" if isinstance(first, int) else f"{path} ({last} lines)" if isinstance(last, int) else path
    return _first(value, _TOLD_OF) or ", ".join(f"{key}={_text(item)}" for key, item in list(value.items())[:_MOST_PAIRS])


def _of_parts(value: dict[str, object]) -> str | None:
    """What a call does whose parameters are a patch, a list of things to do, questions, or stand one level deeper; None where they are not."""
    if isinstance(value.get("action"), dict):  # Codex's web search
        return _about(value["action"])
    for key in _PATCHES:
        if isinstance(patch := value.get(key), str) and (files := _patched(patch)):
            return files
    for key in _LISTS:
        if isinstance(listed := value.get(key), list) and (steps := _steps(listed)):
            return steps
    if (questions := value.get("questions")) and isinstance(questions, list) and isinstance(questions[0], dict):
        return str(questions[0].get("question") or "")
    return None


def parameters(params: msgspec.Raw) -> str:
    """All parameters of a call, each with its name, texts as they are; empty where `action` has told all there is."""
    if len(params) > LONGEST_RAW:
        return ""
    value = _unpacked(decoded(params))
    if not isinstance(value, dict):
        return ""
    about = _about(value)
    told = [f"{key}:{chr(10) if chr(10) in text else ' '}{text}" for key, item in value.items() if (text := _text(item)) != about]
    return "\n".join(told)


def _unpacked(value: object) -> object:
    """Some agents write parameters as a text of JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _command(command: object) -> str:
    if not isinstance(command, list):
        return _text(command)
    words = [str(word) for word in command]
    return words[-1] if len(words) > 2 and words[1] in _SHELL_FLAGS else " ".join(words)


def _patched(patch: str) -> str:
    """The files of a patch in Codex's form, `src/x.py, 2 more`; empty where it is none."""
    files = [found[2] if found[1] == "Update" else f"{found[1].lower()} {found[2]}" for found in _IN_PATCH.finditer(patch[:LONGEST_RAW])]
    return f"{files[0]}, {len(files) - 1} more" if len(files) > 1 else "".join(files)


def _steps(steps: list[object]) -> str:
    """A list of things to do: how many are done, and which one is being done."""
    known = [step for step in steps if isinstance(step, dict) and "status" in step]
    if not known:
        return ""
    done = sum(step["status"] in _IS_DONE for step in known)
    now = next((_first(step, _STEP_NAMES) for step in known if step["status"] in _IS_ON), "")
    return f"{done} of {len(known)} done{f', now: {now}' if now else ''}"


def _first(value: dict[str, object], keys: tuple[str, ...]) -> str:
    """The first of these that is there, as text."""
    for key in keys:
        if key in value and (item := value[key]) not in (None, "", [], {}):
            return _text(item)
    return ""


def _text(value: object) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else result_text(value)


def _start(raw: msgspec.Raw) -> str:
    return bytes(raw)[:400].decode("utf-8", "replace")


def text_of(raw: msgspec.Raw) -> str:
    """The text of a JSON value: a string, the texts of its blocks, or the JSON itself; empty for none."""
    if len(raw) > LONGEST_RAW:
        return f"{_start(raw)}…"
    return result_text(decoded(raw))


# --------------------------------------------------------------------------------------------------------------- events


def money(usd: float) -> str:
    """An amount as a person reads it: `$0.042`, `$3.10`, `$1,204`."""
    return f"${usd:,.0f}" if usd >= 1000 else f"${usd:.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.3f}"


def count(number: int) -> str:
    """A number in at most five characters: `980`, `12.3k`, `4.1M`."""
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= size:
            shown = number / size
            return f"{shown:.0f}{unit}" if shown >= 99.95 else f"{shown:.1f}{unit}"
    return str(number)


def tokens(usage: Usage) -> str:
    """Tokens by kind, those that are none left out."""
    kinds = (("in", usage.input), ("out", usage.output), ("from the cache", usage.cache_read), ("into the cache", usage.cache_write))
    return ", ".join(f"{count(number)} {kind}" for kind, number in kinds if number)


def _started(data: Data, _line: bytes) -> Said:
    detail = _as_detail(data)
    return Said("starts" if detail.prompt_type in (None, "initial") else f"starts ({detail.prompt_type})", text_of(detail.prompt))


def _ended(data: Data, _line: bytes) -> Said:
    detail = _as_detail(data)
    status = detail.completion_status or (detail.outcome.status if detail.outcome else None) or ""
    return Said("ends", status, status not in SUCCEEDED)


SUCCEEDED = frozenset({"success", "completed", ""})
"""How a session may end that went well; some do not say."""


def _asked(data: Data, _line: bytes) -> Said:
    detail = _as_detail(data)
    return Said("user", text_of(detail.output) or text_of(detail.prompt))


def _followed(data: Data, _line: bytes) -> Said:
    detail = _as_detail(data)
    return Said(f"follow-up ({detail.followup_reason})" if detail.followup_reason else "follow-up", text_of(detail.prompt))


def _spoke(data: Data, _line: bytes) -> Said:
    return Said("says", text_of(_as_detail(data).output))


def _thought(_data: Data, line: bytes) -> Said:
    return Said("thinks", thought(line))


def _called(data: Data, _line: bytes) -> Said:
    return action(data.tool_name, data.tool_params)


def _returned(data: Data, _line: bytes) -> Said:
    is_verdict = data.is_error is None and data.result in _VERDICTS
    is_bad = bool(data.is_error) or data.result == _FAILED
    text = "" if is_verdict else text_of(data.result)
    code = f" (exit code {data.exit_code})" if data.exit_code else ""
    return Said(f"{data.tool_name or 'tool'} {'failed' if is_bad else 'returned'}{code}", (data.error_message or text) if is_bad else text, is_bad)


def _erred(data: Data, _line: bytes) -> Said:
    detail = _as_detail(data)
    return Said(f"error ({detail.error_category})" if detail.error_category else "error", data.error_message or data.error_fingerprint or "", is_bad=True)


def _changed(data: Data, _line: bytes) -> Said:
    detail = _as_detail(data)
    return Said("status", " ".join(filter(None, (detail.new_status, f"({detail.reason})" if detail.reason else ""))))


def _handed_over(data: Data, _line: bytes) -> Said:
    detail = _as_detail(data)
    return Said("interrupted" if detail.interrupted else "hands over", detail.reason or "")


def _used(data: Data, _line: bytes) -> Said:
    spent = [tokens(data.usage) if data.usage else "", money(data.cost_usd) if data.cost_usd else ""]
    return Said("usage", ", ".join(filter(None, spent)))


def _as_detail(data: Data) -> Detail:
    return data if isinstance(data, Detail) else Detail()


_FAILED = msgspec.Raw(b'"error"')
_VERDICTS = (msgspec.Raw(b'"success"'), _FAILED)

_TOLD: dict[str, Callable[[Data, bytes], Said]] = {
    "session_start": _started,
    "session_end": _ended,
    "user_message": _asked,
    "followup_sent": _followed,
    "turn_start": lambda _data, _line: Said("turn begins", ""),
    "turn_end": _handed_over,
    "agent_output": _spoke,
    "agent_thinking": _thought,
    "tool_call": _called,
    "tool_result": _returned,
    "error": _erred,
    "status_change": _changed,
    "compaction": lambda _data, _line: Said("context compacted", ""),
    "usage": _used,
    "progress": lambda _data, _line: Said("works on", ""),
}

# ------------------------------------------------------------------------------------------------------------- thoughts

_THOUGHT_TYPES = frozenset({"thinking", "reasoning", "agent_reasoning", "agent_reasoning_raw_content", "think", "assistant.reasoning"})
_THOUGHT_NAMES = ("thinking", "reasoningText", "reasoning_text", "thought", "thoughts", "reasoning", "agent_thinking")
_THOUGHT_TEXTS = ("thinking", "text", "think", "summary", "thought", "content", "reasoning", "args", "data")
_DEEPEST = 8


def _thoughts(value: object, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for item in value:
            yield from _thoughts(item, depth + 1)
    elif isinstance(value, dict):
        if value.get("thought") is True:
            yield _thought_text(value.get("text"))
        elif {value.get("type"), value.get("say"), value.get("action")} & _THOUGHT_TYPES if _names_are_texts(value) else False:
            yield next((found for key in _THOUGHT_TEXTS if (found := _thought_text(value.get(key)))), "")
        else:
            named = [found for key in _THOUGHT_NAMES if (found := _thought_text(value.get(key)))]
            yield from named[:1] or (text for item in value.values() if isinstance(item, dict | list) for text in _thoughts(item, depth + 1))


def _names_are_texts(value: dict[str, object]) -> bool:
    return all(isinstance(value.get(key), str | None) for key in ("type", "say", "action"))


def _thought_text(value: object) -> str:
    """The text of a thought: itself, those of its parts, or a heading with a description."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return "\n".join(filter(None, map(_thought_text, value)))
    if isinstance(value, dict):
        heading = ": ".join(str(value[key]) for key in ("subject", "description") if value.get(key))
        return heading or next((found for key in ("thinking", "text", "thought") if (found := _thought_text(value.get(key)))), "")
    return ""
