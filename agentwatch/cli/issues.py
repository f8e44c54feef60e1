"""`agentwatch issues`: what rules found, counted by run; and what a person says of it."""

import os
import sys
from typing import Annotated

import typer

from agentwatch.cli.common import commands, load, say
from agentwatch.cli.options import Config, LogDir, examples

_Fingerprints = list[str] | None


@commands.command(
    epilog=examples(
        "agentwatch issues",
        "agentwatch issues --run latest --severity high",
        "agentwatch issues --ack 17f3e006 --resolve 4a53034770",
        "agentwatch issues --json | jq -r 'select(.seen_in_runs == 0) | .title'",
    )
)
def issues(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="RUN", help="Those of this run: an id, or `latest`. [env: AGENTWATCH_RUN; default: the log directory's own and the newest run's]"
        ),
    ] = None,
    severity: Annotated[str, typer.Option("--severity", metavar="LEAST", help="Only those at least so severe: low, medium or high.")] = "low",
    everything: Annotated[bool, typer.Option("--all", help="Those that are resolved, too.")] = False,
    ack: Annotated[
        _Fingerprints, typer.Option("--ack", metavar="FINGERPRINT", help="Somebody sees to it: it stands below the others. The beginning is enough.")
    ] = None,
    resolve: Annotated[_Fingerprints, typer.Option("--resolve", metavar="FINGERPRINT", help="It is mended: hidden until it comes again.")] = None,
    reopen: Annotated[_Fingerprints, typer.Option("--reopen", metavar="FINGERPRINT", help="Take back what was said of it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one issue a line, in the order in which they were seen first.")] = False,
) -> int:
    """List issues: what the rules found in the logs, the same counted as one, what to look at first standing first.

    What no earlier run had comes before what most of them have; each says why it stands where it does. With --ack, --resolve or --reopen they are marked, and not listed.
    """
    from agentwatch.apps import issues as issues_
    from agentwatch.errors import UsageError
    from agentwatch.model import Severity, Standing
    from agentwatch.ui.page import show

    if severity not in list(Severity):
        raise UsageError(f"`--severity {severity}` is no severity", hint="it is low, medium or high")
    directory = load(log_dir, config).settings.logs.dir
    runs = issues_.runs_meant(directory, run, os.environ)
    wishes: tuple[tuple[Standing, _Fingerprints], ...] = (("acknowledged", ack), ("resolved", resolve), ("open", reopen))
    if ack or resolve or reopen:
        for status, beginnings in wishes:
            for beginning in beginnings or ():
                issue = issues_.mark(directory, runs, beginning, status)
                say(f"{'reopened' if status == 'open' else status} {issue.fingerprint[: issues_.SHOWN]}: {issue.title}")
        return 0
    found = issues_.look(directory, issues_.Chosen(runs, Severity(severity), everything))
    if not found:
        say(f"no such issues in {directory}" if severity != "low" or run else f"no issues in {directory}")
    if as_json:
        for issue in sorted(found, key=lambda one: one.first_seen):
            print(issues_.as_json(issue))
    else:
        show(issues_.page(found), sys.stdout)
    return 0
