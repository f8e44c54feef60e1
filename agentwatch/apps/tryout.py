"""`agentwatch rules`: the rules for people, and what a rule or a pattern would find in a log."""

import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from agentwatch.apps.alerts import SEVERITY
from agentwatch.apps.pipeline import RECOGNISE_LINES
from agentwatch.core.engine import Engine
from agentwatch.core.limits import Limits
from agentwatch.core.rules import Match, Rule, RuleError, Rules, Slot, check
from agentwatch.core.text import safe, visible
from agentwatch.errors import UsageError
from agentwatch.formats.registry import FORMATS, recognise
from agentwatch.model import NO_MEMORY, PROGRAM, Detail, Event, Issue, Item, Severity
from agentwatch.rulebook import Book, Sourced
from agentwatch.ui.page import Block, Table, Word, para


class Hit(NamedTuple):
    """A line in which a rule was found. `slot` says what the text is, as `core.rules.Slot` does."""

    line: int
    offset: int
    rule_id: str
    slot: Slot
    text: str
    groups: dict[str, str]


class Tried(NamedTuple):
    """What became of a log: the format that it was read in, its hits and, once it was read whole, the issues that they would be.

    Without `format_name` its lines have no times, or are nothing that is known: they were looked at as they stand.
    """

    format_name: str | None
    hits: Iterator[Hit]
    issues: Callable[[], list[Issue]]


SOME_TIME = datetime(2026, 1, 1, tzinfo=UTC)
"""Of lines that have none."""


def asked_for(name: str, book: Book) -> Rules:
    """The rules that a word on the command line means: a rule's id, a category, `all`, or a pattern, tried as a rule that looks at everything.

    Raises UsageError for a pattern that is none.
    """
    named = [one.rule for one in book.rules if name in ("all", one.rule.id, one.rule.category)]
    if named:
        return Rules(named)
    rule = Rule(
        id="pattern",
        title="Pattern",
        patterns=(name,),
        severity=Severity.LOW,
        category="pattern",
        recommendation="Make a rule of it: docs/rules.md.",
        where=("program", "agent", "tool"),
        level="any",
    )
    try:
        check(rule)
    except RuleError as error:
        raise UsageError(f"`{name}`: {str(error).partition(': ')[2]}", hint="its syntax is RE2's: Python's without look-around and backreferences") from None
    return Rules([rule])


def try_on(rules: Rules, path: Path, limits: Limits) -> Tried:
    """Look for rules in a log, `-` for what comes in on stdin, as a daemon would. Raises UsageError for what is no file, OSError."""
    lines = _lines(path)
    head = list(islice(lines, RECOGNISE_LINES))
    format_name = recognise(str(path), head)
    decoder = FORMATS[format_name or "plain-text"].decoder(path.name, NO_MEMORY)
    engine = Engine(limits, lambda *_: None)
    found: list[tuple[Slot, Match]] = []

    class Noting:
        def find(self, slot: Slot, name: str, text: str) -> Match | None:
            match = rules.find(slot, name, text)
            if match is not None:
                found.append((slot, match))
            return match

    engine.issues.rules = Noting()

    def feed(items: Iterable[Item]) -> None:
        engine.feed(path.name, "", items, decoder, [])

    def hits() -> Iterator[Hit]:
        offset = 0
        for number, line in enumerate(chain(head, lines), 1):
            if format_name is not None:
                decoder.read([line], offset, feed, lambda *_: None)
            elif line.strip():
                feed([_bare(line, offset)])
            for slot, match in found:
                yield Hit(number, offset, match.rule.id, slot, match.line, match.groups)
            found.clear()
            offset += len(line)

    return Tried(format_name, hits(), engine.issues.all)


def _bare(line: bytes, offset: int) -> Item:
    """A line that has no time, as a failure at some time: so that rules of any level look at it."""
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    return Event(SOME_TIME, "log", "error", Detail(error_message=text, stop_reason=PROGRAM)), offset, line


def _lines(path: Path) -> Iterator[bytes]:
    if str(path) == "-":
        yield from sys.stdin.buffer
        return
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    if not S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(f"`{path}` is no regular file", hint="give a log, or `-` for stdin")
    with os.fdopen(fd, "rb") as file:
        if path.suffix != ".gz":
            yield from file
            return
        try:
            yield from gzip.GzipFile(fileobj=file)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UsageError(f"`{path}` is damaged: {error}", hint="unpack what can be saved, and try that") from None


def hit_line(hit: Hit, path: Path) -> str:
    """A hit as one line, safe to print: where, which rule, what was said, and the named groups."""
    groups = "".join(f"  {name}={visible(value)[:100]}" for name, value in hit.groups.items())
    kind = "" if hit.slot == "error" else f" ({hit.slot})"
    return f"{visible(str(path))}:{hit.line}: {hit.rule_id}{kind}: {safe(hit.text)}{groups}"


def issue_line(issue: Issue) -> str:
    """An issue as one line: its fingerprint, how often, and what it is known by."""
    told = "told" if issue.status == "notified" else "not told: too few"
    return f"  {issue.fingerprint[:12]}  {issue.severity:6}  {issue.occurrences:,} x  {issue.rule_id}: {issue.message}  [{told}]"


def page(rules: Iterable[Sourced], off: frozenset[str]) -> Iterator[Block]:
    """Rules for people, by category."""
    found = list(rules)
    for category in dict.fromkeys(one.rule.category for one in found):
        yield para(Word(category, "title"))
        rows = [
            (
                Word(one.rule.id, "dim" if one.is_off(off) else ""),
                Word("off" if one.is_off(off) else one.rule.severity, SEVERITY.get(one.rule.severity, "")),
                Word(one.rule.level),
                Word(", ".join(one.rule.where)),
                Word(one.rule.title),
            )
            for one in found
            if one.rule.category == category
        ]
        yield Table(("rule", "severity", "level", "looks at", "title"), rows)
        yield para()
    files = dict.fromkeys(str(one.path.parent) for one in found)
    yield para(Word(f"{len(found)} rules from {', '.join(files)}", "dim"))
