"""`agentwatch alerts`: those that there are."""

import os
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from agentwatch.cli.common import commands, load, report, say
from agentwatch.cli.options import Config, LogDir, examples, since


@commands.command(
    epilog=examples(
        "agentwatch alerts --since 2h",
        "agentwatch alerts --type error_loop --type stuck_agent",
        "agentwatch alerts --attempt attempt-17 --json | jq -r .summary",
    )
)
def alerts(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    after: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only those since then: 30m, 2h, 7d, or 2026-02-09T08:00:00Z.")] = None,
    types: Annotated[list[str] | None, typer.Option("--type", metavar="TYPE", help="Only those of this type. May be given more than once.")] = None,
    attempt: Annotated[str | None, typer.Option("--attempt", metavar="ID", help="Only those of this attempt. The beginning of its id is enough.")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Only those of this run; `latest` is the newest. [env: AGENTWATCH_RUN]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one alert a line, as the alert log has it.")] = False,
) -> None:
    """List the alerts, the newest last.

    Those in the log directory, rotated files included. Times are UTC, as in the logs.
    """
    from agentwatch.apps.alerts import as_json as as_line
    from agentwatch.apps.alerts import page, read
    from agentwatch.store.runs import resolve
    from agentwatch.ui.page import show

    directory = load(log_dir, config).settings.logs.dir
    run_id = resolve(directory, run, os.environ)
    found = read(directory, since=since("--since", after, datetime.now(UTC)), types=types or (), attempt=attempt, run=run_id, tell=report)
    if not found:
        of_run = f" of run {run_id}" if run_id else ""
        say(f"no such alerts{of_run} in {directory}" if after or types or attempt else f"no alerts{of_run} in {directory}")
    for alert in found:
        if as_json:
            print(as_line(alert))
        else:
            show(page(alert), sys.stdout)
