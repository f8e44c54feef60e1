"""`agentwatch rules …`: which rules there are, and what they would find."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentwatch.cli.common import as_json as json_text
from agentwatch.cli.common import commands, load, say
from agentwatch.cli.options import Config, LogDir, examples, home, path

if TYPE_CHECKING:
    from agentwatch.rulebook import Book
    from agentwatch.settings import Loaded

rules_app = typer.Typer(name="rules", help="The rules that logs are looked through for, and what they would find.", rich_markup_mode=None, no_args_is_help=True)
commands.add_typer(rules_app)

LIST_EPILOG = examples("agentwatch rules list", "agentwatch rules list --category database", "agentwatch rules list --json | jq -r .id")
TEST_EPILOG = examples(
    "agentwatch rules test 'ECONNREFUSED|refused' worker.log",
    "agentwatch rules test connection-refused worker.log",
    "agentwatch rules test all runs/latest/main-app.jsonl --json",
    "journalctl -o short-iso | agentwatch rules test database -",
)

MOST_SHOWN = 200
"""Lines that are shown to people; programs are given all."""


@rules_app.command("list", epilog=LIST_EPILOG)
def list_rules(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    category: Annotated[str | None, typer.Option("--category", metavar="NAME", help="Only those of this category.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one rule a line, with the file that it stands in.")] = False,
) -> int:
    """List the rules: those that are shipped and your own.

    Files of rules that cannot be used are told with place and reason, and the exit code is 2. Rules that are switched off are marked.
    """
    from agentwatch.apps.tryout import page
    from agentwatch.errors import UnknownNameError
    from agentwatch.ui.page import show

    loaded = load(log_dir, config)
    book = _book(loaded)
    off = frozenset(loaded.settings.rules.off)
    rules = [one for one in book.rules if category in (None, one.rule.category)]
    if category is not None and not rules:
        known = sorted({one.rule.category for one in book.rules})
        raise UnknownNameError(f"there is no category `{category}`", hint=f"there are {', '.join(known)}")
    if as_json:
        import msgspec

        for one in rules:
            print(json_text({**msgspec.to_builtins(one.rule), "file": str(one.path), "is_off": one.is_off(off)}))
    else:
        show(page(rules, off), sys.stdout)
    return 2 if book.refused else 0


@rules_app.command("test", epilog=TEST_EPILOG)
def try_rules(
    wanted: Annotated[str, typer.Argument(metavar="PATTERN", help="A regular expression (RE2), a rule's id, a category, or `all`.", show_default=False)],
    file: Annotated[Path, typer.Argument(metavar="FILE", parser=path, help="A log, also of an agent, also .gz; `-` for stdin.", show_default=False)],
    *,
    log_dir: LogDir = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a line each match, then a line each issue.")] = False,
) -> int:
    """Show what a pattern or a rule finds in a log, with its named groups, and which issues that would be.

    The log is read as the daemon reads it. Exits 1 where nothing is found.
    """
    from agentwatch.apps import setup
    from agentwatch.apps.tryout import asked_for, hit_line, issue_line, try_on

    loaded = load(log_dir, config)
    tried = try_on(asked_for(wanted, _book(loaded)), file, setup.limits(loaded))
    if tried.format_name is None:
        say("its lines have no times, or are of no known format: looked at as they stand; a daemon would pass over them")
    count = 0
    for hit in tried.hits:
        count += 1
        if as_json:
            print(json_text({"type": "match", **hit._asdict()}))
        elif count <= MOST_SHOWN:
            print(hit_line(hit, file))
    if count > MOST_SHOWN and not as_json:
        print(f"… and {count - MOST_SHOWN:,} more")
    found = tried.issues()
    if not as_json:
        say(f"{count:,} {'match' if count == 1 else 'matches'}, {len(found):,} {'issue' if len(found) == 1 else 'issues'}")
    for issue in found:
        if as_json:
            import msgspec

            print(json_text({"type": "issue", **msgspec.to_builtins(issue)}))
        else:
            print(issue_line(issue))
    return 0 if count else 1


def _book(loaded: "Loaded") -> "Book":
    """All rules; what was refused is told."""
    from agentwatch.apps.rules import shelf

    book = shelf(loaded, os.environ, home()).read()
    for one in book.refused:
        say(f"error: {one}\n\nhint: see docs/rules.md; try a pattern with `agentwatch rules test PATTERN FILE`")
    return book
