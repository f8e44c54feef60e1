"""Rules: what in a log's text is worth counting, and which rule a text is a case of. Pure: where rules come from is nobody's business here."""

from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from agentwatch.core.linear import Found, Pattern, PatternError, Patterns
from agentwatch.model import Severity

LOOKED_AT = 8192
"""Characters of a text that rules look at: of a longer one the first and the last half of so many. A record of a program is never longer."""

Where = Literal["program", "agent", "tool"]
Field = Literal["message", "trace"]
Slot = Literal["output", "error", "trace", "agent", "tool"]
"""What a text is: a program's record that tells no failure, or one that does, what belongs to it (a stack trace), an agent's error, a tool's failed result."""

_Text = Annotated[str, Meta(min_length=1, max_length=2000)]
_Texts = Annotated[tuple[_Text, ...], Meta(max_length=64)]
_SEVERITIES = tuple(Severity)


class Examples(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Texts in which a rule must, and must not, be found."""

    match: _Texts = ()
    no_match: _Texts = ()


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule, as its file has it; docs/rules.md says what each key means."""

    id: Annotated[str, Meta(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
    title: Annotated[str, Meta(min_length=1, max_length=100)]
    patterns: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=32)]
    severity: Severity
    category: Annotated[str, Meta(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", max_length=32)]
    recommendation: Annotated[str, Meta(min_length=1, max_length=300)]
    unless: _Texts = ()
    where: Annotated[tuple[Where, ...], Meta(min_length=1)] = ("program",)
    level: Literal["error", "any"] = "error"
    fields: Annotated[tuple[Field, ...], Meta(min_length=1)] = ("message", "trace")
    formats: _Texts = ()
    threshold: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    window_s: Annotated[float, Meta(gt=0, le=1_000_000_000)] | None = None
    fingerprint: Literal["message", "rule"] | Annotated[tuple[_Text, ...], Meta(min_length=1)] = "message"
    general: bool = False
    examples: Examples = Examples()

    def is_for(self, slot: Slot) -> bool:
        """Whether it looks at such texts."""
        if slot in ("agent", "tool"):
            return slot in self.where
        field = "trace" if slot == "trace" else "message"
        return "program" in self.where and field in self.fields and (slot != "output" or self.level == "any")


class RuleError(ValueError):
    """What is wrong with a rule, said of one of its keys: `` `patterns`: missing ): (abc ``."""


class Match(NamedTuple):
    """A text that is a case of a rule: the line of it that was found, and what the pattern's named groups hold."""

    rule: Rule
    line: str
    groups: dict[str, str]


class _Compiled(NamedTuple):
    """A rule with its patterns compiled."""

    rule: Rule
    patterns: tuple[Pattern, ...]
    unless: tuple[Pattern, ...]

    def search(self, text: bytes) -> Found | None:
        """Where it is found first, unless an exception stands on the same line."""
        for pattern in self.patterns:
            if (found := pattern.search(text)) is not None:
                start, end = _line(text, found)
                if not any(exception.search(text[start:end]) for exception in self.unless):
                    return found
        return None


def check(rule: Rule) -> None:
    """Raise RuleError for a rule that cannot work, or that its own examples show to be wrong."""
    compiled = _compiled(rule)
    _refuse_useless(rule, compiled.patterns)
    for text in rule.examples.match:
        if compiled.search(_bytes(text)) is None:
            raise RuleError(f"`examples.match`: it is not found in {_quoted(text)}")
    for text in rule.examples.no_match:
        if compiled.search(_bytes(text)) is not None:
            raise RuleError(f"`examples.no_match`: it is found in {_quoted(text)}")


class Rules:
    """Rules that work together: a text is a case of one of them at most, the one that says most of it. Each must have passed `check`.

    Patterns are compiled for the first text of a kind, so that what is never met costs nothing. There are two automata, of the rules that look
    at every record and of all: one for each kind of text would take as much memory again for each.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: (rule.general, -_SEVERITIES.index(rule.severity))))
        self._automata: dict[bool, _Automaton] = {}
        self._compiled: dict[str, _Compiled] = {}

    def find(self, slot: Slot, format_name: str, text: str) -> Match | None:
        """The rule that the text is a case of; None for most texts. `format_name` is that of the log."""
        is_output = slot == "output"
        automaton = self._automata.get(is_output)
        if automaton is None:
            automaton = self._automata[is_output] = _automaton([rule for rule in self.rules if not is_output or rule.is_for("output")])
        if len(text) > LOOKED_AT:
            text = f"{text[: LOOKED_AT // 2]}\n{text[-LOOKED_AT // 2 :]}"
        data = text.encode(errors="replace")
        numbers = automaton.patterns.matching(data)
        if not numbers:
            return None
        for number in sorted({automaton.owners[number] for number in numbers}):
            rule = automaton.rules[number]
            if rule.is_for(slot) and (not rule.formats or format_name in rule.formats):
                compiled = self._compiled.get(rule.id)
                if compiled is None:
                    compiled = self._compiled[rule.id] = _compiled(rule)
                if (found := compiled.search(data)) is not None:
                    start, end = _line(data, found)
                    return Match(rule, data[start:end].decode("utf-8", "replace"), found.groups)
        return None


class _Automaton(NamedTuple):
    """What looks for the patterns of many rules at once; of each pattern, whose it is."""

    rules: list[Rule]
    owners: list[int]
    patterns: Patterns


def _automaton(rules: list[Rule]) -> _Automaton:
    return _Automaton(
        rules, [number for number, rule in enumerate(rules) for _ in rule.patterns], Patterns(pattern for rule in rules for pattern in rule.patterns)
    )


def _compiled(rule: Rule) -> _Compiled:
    return _Compiled(rule, tuple(_pattern(text, "patterns") for text in rule.patterns), tuple(_pattern(text, "unless") for text in rule.unless))


def _refuse_useless(rule: Rule, patterns: tuple[Pattern, ...]) -> None:
    if any(pattern.search(b"") is not None for pattern in patterns):
        raise RuleError("`patterns`: one of them matches an empty text, and so every text")
    if rule.severity is Severity.HIGH and rule.level != "error" and "program" in rule.where:
        raise RuleError('`severity`: what is found at any level cannot be high, or a healthy program would wake somebody; set `level = "error"`')
    if isinstance(rule.fingerprint, tuple) and (unknown := set(rule.fingerprint).difference(*(pattern.groups for pattern in patterns))):
        raise RuleError(f"`fingerprint`: no pattern has a group `{min(unknown)}`, as in (?P<{min(unknown)}>…)")


def _pattern(text: str, key: str) -> Pattern:
    try:
        return Pattern(text)
    except PatternError as error:
        raise RuleError(f"`{key}`: not a regular expression: {error}") from None


def _line(text: bytes, found: Found) -> tuple[int, int]:
    """The line that a match begins on, as a span."""
    start = text.rfind(b"\n", 0, found.start) + 1
    end = text.find(b"\n", max(found.start, start))
    return start, len(text) if end < 0 else end


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")
