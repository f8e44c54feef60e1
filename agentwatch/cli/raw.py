"""`agentwatch raw`: lines of the logs as they stand there."""

import os
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from agentwatch.cli.common import commands, load, say
from agentwatch.cli.options import Config, LogDir, examples, since


@commands.command(
    epilog=examples(
        "agentwatch raw --grep ECONNREFUSED -C 3",
        "agentwatch raw --run latest --source worker --grep 'time(d )?out'",
        "agentwatch raw --run latest -n 50    the newest lines of all its logs",
        "agentwatch raw --grep deadlock --json | jq -r .source | sort | uniq -c",
    )
)
def raw(
    *,
    grep: Annotated[str | None, typer.Option("--grep", metavar="REGEX", help="Only lines that match this regular expression (RE2). [default: all]")] = None,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="Take a and A for the same letter.")] = False,
    sources: Annotated[
        list[str] | None,
        typer.Option("--source", metavar="NAME", help="Only this log: its name without the ending; `*` stands for anything. May be given more than once."),
    ] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Only this run; `latest` is the newest. [env: AGENTWATCH_RUN]")] = None,
    after: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only what happened since then: 30m, 2h, 2026-02-09T08:00:00Z.")] = None,
    context: Annotated[int, typer.Option("--context", "-C", min=0, max=1000, metavar="N", help="So many lines round each, too.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, max=1_000_000, metavar="N", help="Only the newest N.")] = None,
    log_dir: LogDir = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line of a log a line.")] = False,
) -> int:
    """Lines of the logs as they stand there.

    Of the log directory and all runs, or of one; of rotated and compressed files, too; in the order of their times. Nothing is redacted: this is for the eyes of whoever may read the logs. What could move a cursor is shown as its code. Exits 1 when no line matches.
    """
    from agentwatch.apps.raw import Query, newest, printed, search
    from agentwatch.apps.raw import as_json as as_line
    from agentwatch.store.runs import find

    directory = load(log_dir, config).settings.logs.dir
    query = Query(grep, ignore_case, tuple(sources or ()), find(directory, run, os.environ), since("--since", after, datetime.now(UTC)), context)
    found = search(directory, query, say)
    if limit is not None:
        found = iter(newest(found, limit)[0])
    is_void = True
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in (None, "dumb")
    for line in map(as_line, found) if as_json else printed(found, colour=colour):
        is_void = False
        sys.stdout.write(f"{line}\n")
    return 1 if is_void else 0
