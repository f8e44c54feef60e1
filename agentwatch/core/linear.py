"""Regular expressions that are searched for in time linear in the text, whatever they and the text are. The one place that loads RE2.

Its syntax is Python's without look-around and backreferences (https://github.com/google/re2/wiki/Syntax). `^` and `$` match at every line.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

PATTERN_BYTES = 8 << 20
"""What one pattern may take when it is compiled: a repetition of repetitions that would take more is refused."""

SET_BYTES = 64 << 20
"""What the automaton of many patterns may take; it grows as far as texts lead it, and is begun afresh when it is full."""


class PatternError(ValueError):
    """What is no pattern, and why: `missing ): (abc`."""


class Found(NamedTuple):
    """Where a pattern was found, in bytes, and its named groups, those that took no part left out."""

    start: int
    end: int
    groups: dict[str, str]


class Pattern:
    """A compiled pattern. Raises PatternError for what is none, and ImportError where google-re2 is not installed."""

    def __init__(self, text: str) -> None:
        import re2  # type: ignore[import-untyped]  # noqa: PLC0415  # 6 ms, for those who search

        options = re2.Options()
        options.log_errors = False
        options.max_mem = PATTERN_BYTES
        try:
            re2.compile(text, options)
            self._compiled: Any = re2.compile(f"(?m:{text})", options)
        except re2.error as error:
            said = error.args[0] if error.args else "it is no pattern"
            raise PatternError(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)) from None
        except UnicodeEncodeError:
            raise PatternError("it is no valid text") from None

    def search(self, text: bytes, start: int = 0) -> Found | None:
        """Where it matches first in UTF-8 text, from the byte `start` on."""
        found = self._compiled.search(text, start)
        if found is None:
            return None
        groups = {name: value.decode("utf-8", "replace") for name, value in found.groupdict().items() if value is not None}
        start, end = found.span()
        return Found(start, end, groups)

    @property
    def groups(self) -> frozenset[str]:
        """The names of its groups."""
        return frozenset(self._compiled.groupindex)


class Patterns:
    """Many patterns, looked for in one pass. Each must be one that `Pattern` takes."""

    def __init__(self, texts: Iterable[str]) -> None:
        import re2  # noqa: PLC0415  # as above

        options = re2.Options()
        options.log_errors = False
        options.max_mem = SET_BYTES
        self._set = re2.Set.SearchSet(options)
        self._size = 0
        for text in texts:
            self._set.Add(f"(?m:{text})")
            self._size += 1
        if self._size:
            self._set.Compile()

    def matching(self, text: bytes) -> list[int]:
        """The numbers of those that match anywhere in UTF-8 text, in no order."""
        return self._set.Match(text) if self._size else []


class LinePattern:
    """A pattern that is searched for in many lines at once: no match goes on behind the end of its line, and nothing is told of groups.

    Raises as `Pattern` does.
    """

    def __init__(self, text: str, *, ignore_case: bool = False) -> None:
        import re2  # noqa: PLC0415  # as above

        options = re2.Options()
        options.log_errors = False
        options.max_mem = PATTERN_BYTES
        options.never_nl = options.never_capture = True
        options.case_sensitive = not ignore_case
        Pattern(text)  # says what is wrong in the words of the pattern as it was given
        self._compiled: Any = re2.compile(f"(?m:{text})", options)

    def span(self, text: bytes, start: int = 0) -> tuple[int, int] | None:
        """Where it matches first in UTF-8 text, from the byte `start` on."""
        found = self._compiled.search(text, start)
        return found.span() if found is not None else None
