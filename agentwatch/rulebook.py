"""Rules from files: those that are shipped, and the user's own beside them. A file with a mistake is refused with place and reason; the others go on.

A rule runs nothing. Yet it may wake somebody, and what it recommends may name a command of the settings: so rules are taken from the
package, from the user's own directory and from where the trusted settings say, never from what merely lies in a directory of logs.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

import msgspec

from agentwatch.core.rules import Rule, RuleError, check

ENDING = ".toml"
MOST_BYTES, MOST_FILES, MOST_RULES = 1 << 20, 200, 2000
"""Of a file, of files in a directory, and of rules in all. A hundred rules take 40 kB."""

_BEGINS = re.compile(r"\s*\[\[\s*rule\s*\]\]")
_INDEX = re.compile(r" - at `\$\.?(.*)`$")


class Refused(NamedTuple):
    """A file that was refused, and why: `line 12, rule `oom`: `patterns`: not a regular expression: missing ): (a`."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"`{self.path}`: {self.reason}"


class Sourced(NamedTuple):
    """A rule and the file that it stands in."""

    rule: Rule
    path: Path

    def is_off(self, off: frozenset[str]) -> bool:
        """Whether it is switched off, by its id, by its category, or with `all`."""
        return not off.isdisjoint(("all", self.rule.id, self.rule.category))


class Book(NamedTuple):
    """All rules that are good, in the order of their files, and what was refused."""

    rules: tuple[Sourced, ...]
    refused: tuple[Refused, ...]


class Stamp(NamedTuple):
    """By what a file is known to be unchanged."""

    inode: int
    size: int
    mtime_ns: int


def shipped() -> Path:
    """The directory of the rules that come with agentwatch: in the package, or beside it in a checkout."""
    inside = Path(__file__).parent / "rules"
    return inside if inside.is_dir() else inside.parents[1] / "rules"


def directories(environ: Mapping[str, str], home: Path | None, named: Iterable[Path]) -> tuple[Path, ...]:
    """Where rules are looked for, the shipped ones first: what comes later replaces a shipped rule of the same id."""
    folder = Path(environ.get("XDG_CONFIG_HOME", ""))
    if not folder.is_absolute():  # the XDG specification has such a one ignored
        folder = home / ".config" if home is not None else folder
    own = [folder / "agentwatch" / "rules"] if folder.is_absolute() else []
    return tuple(dict.fromkeys((shipped(), *own, *named)))


class Shelf:
    """Directories of rule files that are read again when they change. Of a file that was good and is not any more, the rules stay as they were."""

    def __init__(self, places: Iterable[Path]) -> None:
        self._places = tuple(places)
        self._stamps: dict[Path, Stamp | None] | None = None
        self._good: dict[Path, tuple[Rule, ...]] = {}

    @property
    def has_own(self) -> bool:
        """Whether there is any file beside the shipped ones."""
        ours = shipped()
        return any(path.parent != ours for path in self._look())

    def changed(self) -> bool:
        """Whether any file came, went or was written since `read`. A stat a file."""
        return self._stamps is None or self._look() != self._stamps

    def read(self) -> Book:
        """All rules there are now."""
        before, self._stamps = self._stamps or {}, self._look()
        ours = shipped()
        refused: list[Refused] = []
        for path, stamp in self._stamps.items():
            if stamp is not None and path in self._good and before.get(path) == stamp:
                continue
            try:
                self._good[path] = read_file(path, is_ours=path.parent == ours)
            except RuleError as error:
                kept = "; its rules stay as they were" if path in self._good else ""
                refused.append(Refused(path, f"{error}{kept}"))
        for path in [path for path in self._good if path not in self._stamps]:
            del self._good[path]
        rules = self._together(refused)
        return Book(tuple(rules), tuple(refused))

    def _together(self, refused: list[Refused]) -> list[Sourced]:
        """One rule an id. The user's replaces a shipped one; of two of the user's that share an id the file that comes later is refused."""
        found: dict[str, Sourced] = {}
        built_in = shipped()
        for path in self._stamps or ():
            rules = self._good.get(path, ())
            twice = next((rule.id for rule in rules if rule.id in found and found[rule.id].path.parent != built_in), None)
            if twice is not None:
                refused.append(Refused(path, f"there is a rule `{twice}` in `{found[twice].path}` already"))
            elif len(found) + len(rules) > MOST_RULES:
                refused.append(Refused(path, f"with it there would be more than {MOST_RULES} rules"))
            else:
                found |= {rule.id: Sourced(rule, path) for rule in rules}
        return list(found.values())

    def _look(self) -> dict[Path, Stamp | None]:
        return {path: stamp for place in self._places for path, stamp in _files(place)}


def read_file(path: Path, *, is_ours: bool = False) -> tuple[Rule, ...]:
    """The rules in a file. Raises RuleError, which names line and rule, for anything that is wrong with it.

    Those that are shipped were checked before: compiling the patterns of all of them takes a fifth of a second.
    """
    text = _text(path)
    try:
        data = tomllib.loads(text)
    # Numbers of thousands of digits are a plain ValueError.
    except (ValueError, RecursionError) as error:
        raise RuleError(f"not TOML: {error}") from None
    tables = data.get("rule")
    if unknown := [name for name in data if name != "rule"]:
        raise RuleError(f"unknown key `{unknown[0]}`: a file holds tables `[[rule]]` alone")
    if not isinstance(tables, list):
        raise RuleError("there is no rule in it: each begins with a line `[[rule]]`")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if _BEGINS.match(line)]
    lines += [0] * (len(tables) - len(lines))
    rules: dict[str, Rule] = {}
    for line, table in zip(lines, tables, strict=False):
        rule = _rule(table, line, is_checked=is_ours)
        if rule.id in rules:
            raise RuleError(f"{_place(table, line)}: there is another rule of this id in the file")
        rules[rule.id] = rule
    return tuple(rules.values())


def _rule(table: Any, line: int, *, is_checked: bool) -> Rule:
    try:
        rule = msgspec.convert(table, Rule)
        if not is_checked:
            check(rule)
    except msgspec.ValidationError as error:
        raise RuleError(f"{_place(table, line)}: {_said(str(error))}") from None
    except RuleError as error:
        raise RuleError(f"{_place(table, line)}: {error}") from None
    return rule


def _place(table: Any, line: int) -> str:
    name = table.get("id") if isinstance(table, dict) else None
    called = f"rule `{name}`" if isinstance(name, str) and name else "a rule without an id"
    return f"line {line}, {called}" if line else called


def _said(reason: str) -> str:
    """What msgspec says of a value, with the key in front."""
    where = _INDEX.search(reason)
    said = reason[: where.start()] if where else reason
    said = said[0].lower() + said[1:]
    return f"`{where[1]}`: {said}" if where and where[1] else said


def _text(path: Path) -> str:
    try:
        # Without waiting for the writer of a FIFO; a link may lead to a file, as those who keep their settings elsewhere have it.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise RuleError(f"it cannot be opened: {error.strerror}") from None
    try:
        stat = os.fstat(fd)
        if not S_ISREG(stat.st_mode):
            raise RuleError("it is no regular file")
        if stat.st_size > MOST_BYTES:
            raise RuleError(f"it has {stat.st_size:,} bytes, and no file of rules has more than {MOST_BYTES:,}")
        data = os.pread(fd, MOST_BYTES, 0)
    except OSError as error:
        raise RuleError(f"it cannot be read: {error.strerror}") from None
    finally:
        os.close(fd)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RuleError(f"it is no UTF-8 text: byte {error.start}") from None


def _files(place: Path) -> Iterator[tuple[Path, Stamp | None]]:
    """The files of rules in a directory, in the order of their names, with what `stat` says; None where it says nothing. None of a directory that is not there."""
    try:
        names = sorted(name for name in os.listdir(place) if name.endswith(ENDING) and not name.startswith("."))  # noqa: PTH208  # each second
    except OSError:
        return
    for name in names[:MOST_FILES]:
        path = place / name
        try:
            stat = path.stat()
        except OSError:
            yield path, None
        else:
            yield path, Stamp(stat.st_ino, stat.st_size, stat.st_mtime_ns)
