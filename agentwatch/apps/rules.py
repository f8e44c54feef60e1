"""The rules in force for a command: found, chosen by the settings, and read again when their files change."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from agentwatch import rulebook
from agentwatch.core import linear
from agentwatch.core.rules import Match, Rules, Slot
from agentwatch.errors import SettingsError
from agentwatch.rulebook import Book, Refused, Shelf
from agentwatch.settings import Loaded

NOT_INSTALLED = "rules are not looked for: google-re2 cannot be loaded"


def shelf(loaded: Loaded, environ: Mapping[str, str], home: Path | None) -> Shelf:
    """The directories that rules are taken from."""
    named = named_directory(loaded, home)
    return Shelf(rulebook.directories(environ, home, [named] if named else []))


def named_directory(loaded: Loaded, home: Path | None) -> Path | None:
    """What `rules.dir` names. Raises SettingsError where it is below a home directory that is not there."""
    named = loaded.settings.rules.dir
    if not named.startswith("~/"):
        return Path(named) if named else None
    if home is None:
        raise SettingsError(f"`rules.dir` from {loaded.origins['rules.dir']}: there is no home directory", hint="name an absolute path")
    return home / named[2:]


def problems(loaded: Loaded, environ: Mapping[str, str], home: Path | None) -> Iterator[tuple[str, str]]:
    """What is wrong with the rules that would be in force, each with its remedy."""
    named = named_directory(loaded, home)
    if named is not None and not named.is_dir():
        what = "is no directory" if named.exists() else "is not there"
        yield f"`{named}`, which `rules.dir` names, {what}", f"make it, or mend `rules.dir` ({loaded.origins['rules.dir']})"
    try:
        linear.load()
    except ImportError as error:
        yield f"{NOT_INSTALLED}: {error}", "install agentwatch anew"
        return
    for one in shelf(loaded, environ, home).read().refused:
        yield f"refused: {one}", "mend the file, or take it away; `agentwatch rules list` reads it again"


class Keeper:
    """Keeps the rules as their files have them, and looks for them in texts. `tell` hears of each file that is refused, `report` of everything in words.

    They are read when a text is looked at first: where no program logs here and nothing fails, they cost neither time nor memory.
    """

    def __init__(self, loaded: Loaded, environ: Mapping[str, str], home: Path | None, tell: Callable[[Refused], None], report: Callable[[str], None]) -> None:
        self._shelf = shelf(loaded, environ, home)
        self._off = frozenset(loaded.settings.rules.off)
        self._where = loaded.origins["rules.off"]
        self._tell = tell
        self._report = report
        self._rules: Rules | None = None

    def find(self, slot: Slot, format_name: str, text: str) -> Match | None:
        """As `Rules.find`, by the rules as they were read last."""
        if self._rules is None:
            self._rules = self._read()
        return self._rules.find(slot, format_name, text)

    def refresh(self) -> None:
        """Read the files again where any has changed. Who has rules of their own hears at once what is wrong with them."""
        if self._rules is None and not self._shelf.has_own:
            return
        if self._shelf.changed():
            is_first = self._rules is None
            self._rules = self._read()
            if not is_first:
                self._report(f"rules read again: {len(self._rules.rules)}")

    def _read(self) -> Rules:
        try:
            linear.load()
        except ImportError as error:
            self._report(f"{NOT_INSTALLED}: {error}")
            return Rules(())
        book = self._shelf.read()
        for one in book.refused:
            self._tell(one)
            self._report(f"rules refused: {one}")
        for name in sorted(self._off - {"all", "none", *(one.rule.id for one in book.rules), *(one.rule.category for one in book.rules)}):
            self._report(f"`rules.off` from {self._where}: there is no rule and no category `{name}`")
        return chosen(book, self._off)


def chosen(book: Book, off: frozenset[str]) -> Rules:
    """The rules that are not switched off by id or category."""
    return Rules(one.rule for one in book.rules if not one.is_off(off))
