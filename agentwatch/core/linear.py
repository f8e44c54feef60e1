"""Regular expressions that are searched for in time linear in the text, whatever they and the text are. The one place that loads RE2.

Its syntax is Python's without look-around and backreferences (https://github.com/google/re2/wiki/Syntax). `^` and `$` match at every line.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

PATTERN_BYTES = 8 << 20
"""What one pattern may take when it is compiled: a repetition of repetitions that would take more is refused."""

SET_BYTES = 16 << 20
"""What the automaton of many patterns may take; it grows as far as texts lead it, and is begun afresh when it is full."""

_COUNTED = re.compile(r"(?<!\\)\{(\d+),\d*\}")
_BRACE_IN_CLASS = re.compile(r"\[[^\]]*\{\d")

LINES = "(?m)"


class PatternError(ValueError):
    """What is no pattern, and why: `missing ): (abc`."""


def load() -> Any:
    """RE2 itself. Raises ImportError where google-re2 is not installed; so does everything here."""
    import re2  # type: ignore[import-untyped]  # noqa: PLC0415  # 6 ms and 2 MiB, for those who search

    return re2


def _options(re2: Any, most_bytes: int) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = most_bytes
    return options


class Found(NamedTuple):
    """Where a pattern was found, in bytes, and its named groups, those that took no part left out."""

    start: int
    end: int
    groups: dict[str, str]


class Pattern:
    """A compiled pattern; `groups` are the names of its groups, in their order. Raises PatternError for what is none."""

    def __init__(self, text: str) -> None:
        re2 = load()
        options = _options(re2, PATTERN_BYTES)
        try:
            self._compiled: Any = re2.compile(LINES + text, options)
        except re2.error as error:
            said = error.args[0] if error.args else b"it is no pattern"
            raise PatternError(said.decode("utf-8", "replace").replace(LINES, "", 1)) from None
        except UnicodeEncodeError:
            raise PatternError("it is no valid text") from None
        self.groups: list[str] = sorted(self._compiled.groupindex, key=self._compiled.groupindex.get)

    def search(self, text: bytes, start: int = 0) -> Found | None:
        """Where it matches first in UTF-8 text, from the byte `start` on."""
        found = self._compiled.search(text, start)
        if found is None:
            return None
        groups = {name: value.decode("utf-8", "replace") for name in self.groups if (value := found.group(name)) is not None}
        start, end = found.span()
        return Found(start, end, groups)


class Patterns:
    """Many patterns, looked for in one pass. Each must be one that `Pattern` takes.

    What is found here may be there: a repetition that is counted is taken to have no end, since an automaton that counts for many patterns at
    once has a state for each combination of their counts (a line of 4 kB that was made for it took 40 ms, and takes 3 so).
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._sets = list(_sets([LINES + _uncounted(text) for text in texts], 0))

    def matching(self, text: bytes) -> list[int]:
        """The numbers of those that may match anywhere in UTF-8 text, in no order; of all others it is certain that they do not."""
        return [first + number for first, one in self._sets for number in one.Match(text) or ()]


def _sets(texts: list[str], first: int) -> Iterator[tuple[int, Any]]:
    """As few automata as hold all patterns, each with the number of its first one: some four thousand fit into one."""
    if not texts:
        return
    re2 = load()
    made = re2.Set.SearchSet(_options(re2, SET_BYTES))
    for text in texts:
        made.Add(text)
    try:
        made.Compile()
    except re2.error:
        if len(texts) == 1:
            raise
        middle = len(texts) // 2
        yield from _sets(texts[:middle], first)
        yield from _sets(texts[middle:], first + middle)
    else:
        yield first, made


def _uncounted(text: str) -> str:
    """A pattern that matches wherever this one does."""
    if _BRACE_IN_CLASS.search(text):
        return text
    return _COUNTED.sub(lambda found: "*" if found[1] == "0" else "+", text)


class Sought:
    """A pattern of which only matters whether it stands in a text: half of what it costs to know where."""

    def __init__(self, text: str) -> None:
        re2 = load()
        self._set: Any = re2.Set.SearchSet(_options(re2, SET_BYTES))
        self._set.Add(LINES + text)
        self._set.Compile()

    def __call__(self, text: str) -> bool:
        return bool(self._set.Match(text.encode(errors="replace")))


class LinePattern:
    """A pattern that is searched for in many lines at once: no match goes on behind the end of its line, and nothing is told of groups.

    Raises as `Pattern` does.
    """

    def __init__(self, text: str, *, ignore_case: bool = False) -> None:
        re2 = load()
        options = _options(re2, PATTERN_BYTES)
        options.never_nl = options.never_capture = True
        options.case_sensitive = not ignore_case
        Pattern(text)  # says what is wrong in the words of the pattern as it was given
        self._compiled: Any = re2.compile(LINES + text, options)

    def span(self, text: bytes, start: int = 0) -> tuple[int, int] | None:
        """Where it matches first in UTF-8 text, from the byte `start` on."""
        found = self._compiled.search(text, start)
        return found.span() if found is not None else None
