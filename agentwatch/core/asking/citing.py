"""Citations in an answer: found as it streams by, checked, and marked where there is no such line. Knows no files."""

from collections.abc import Callable, Collection
from typing import Literal

import msgspec

from agentwatch.core.lazy import lazy
from agentwatch.core.text import visible

LONGEST = 300
"""Characters of the end of a text that may still become a citation."""

_CITED = lazy(r"(?P<open>\[)?(?P<source>[\w./@+=~-]{1,200}):(?P<place>@?[0-9]{1,15})(?:[-\u2013](?P<last>@?[0-9]{1,15}))?(?(open)(?=[\],;\s]))")
_UNFINISHED = lazy(r"(?:\[[^\[\]\n]*|\S+)\Z")

State = Literal["shown", "exists", "unknown"]


class Citation(msgspec.Struct, frozen=True):
    """A place that the answer names. `shown`: the model was sent that line; `exists`: the log has it, but the model has not seen it; `unknown`: there is no such line."""

    source: str
    place: str
    state: State


MARKS: dict[State, str] = {"shown": "", "exists": " (not shown to the model)", "unknown": " (no such line)"}


class Citations:
    """Takes an answer piece by piece and gives it back, harmless, with its citations marked.

    `shown` are the places that were sent, as `label:place`. `label_of` knows the logs by any of their names, and `exists` asks a log for a line.
    """

    def __init__(self, shown: Collection[str], label_of: Callable[[str], str | None], exists: Callable[[str, str], bool]) -> None:
        self._shown = frozenset(shown)
        self._label_of = label_of
        self._exists = exists
        self._held = ""
        self._found: dict[Citation, None] = {}

    @property
    def found(self) -> tuple[Citation, ...]:
        """Each once, in the order of the answer."""
        return tuple(self._found)

    def feed(self, piece: str) -> str:
        """What of the answer can be shown by now: a citation is held back until it is whole."""
        text = self._held + piece
        unfinished = _UNFINISHED.search(text, max(0, len(text) - LONGEST))
        cut = unfinished.start() if unfinished else len(text)
        self._held = text[cut:]
        return self._marked(text[:cut])

    def end(self) -> str:
        """What was held back."""
        text, self._held = self._held, ""
        return self._marked(text)

    def _marked(self, text: str) -> str:
        shown = visible(text, newlines=True)
        out: list[str] = []
        done = 0
        for found in _CITED.finditer(shown):
            mark = self._mark(found["source"], found["place"], found["last"], in_brackets=found["open"] is not None)
            out += shown[done : found.end()], mark
            done = found.end()
        return "".join([*out, shown[done:]])

    def _mark(self, source: str, place: str, last: str | None, *, in_brackets: bool) -> str:
        label = self._label_of(source)
        # Times, ports and lines of source files look the same: outside of brackets only the name of a log makes it a citation.
        if label is None and not (in_brackets and not source.isdigit()):
            return ""
        worst = ""
        for one in dict.fromkeys((place, last or place)):
            citation = Citation(label or source, one, self._state(label, one))
            self._found[citation] = None
            worst = MARKS[citation.state] or worst
        return worst

    def _state(self, label: str | None, place: str) -> State:
        if label is None:
            return "unknown"
        return "shown" if f"{label}:{place}" in self._shown else "exists" if self._exists(label, place) else "unknown"
