"""`agentwatch runs …`: one directory of logs for each run."""

import os
import shlex
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from agentwatch.cli.common import as_json as json_text
from agentwatch.cli.common import commands, load, say
from agentwatch.cli.options import AsJson, Config, LogDir, examples
from agentwatch.errors import UsageError

runs_app = typer.Typer(
    name="runs",
    help="Runs: a directory of logs for each.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples('eval "$(agentwatch runs new --export)"    what starts next logs there', "agentwatch runs list", "agentwatch alerts --run latest"),
)
commands.add_typer(runs_app)


@runs_app.command(
    epilog=examples(
        "agentwatch runs new --name nightly",
        'eval "$(agentwatch runs new --export)"',
        "agentwatch runs new --callback https://example.org/hooks/7",
    )
)
def new(
    *,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The end of its id. [default: six random digits]")] = None,
    callback: Annotated[str | None, typer.Option("--callback", metavar="URL", help="An address that the notifier posts the run's alerts to, too.")] = None,
    export: Annotated[bool, typer.Option("--export", help="Print `export AGENTWATCH_RUN=…`, for a shell's eval.")] = False,
    log_dir: LogDir = None,
    config: Config = None,
) -> None:
    """Begin a run.

    Makes runs/ID in the log directory, has runs/latest lead to it, and prints the id. Programs that are started with AGENTWATCH_RUN set to it log there; commands with --run look at it.
    """
    from agentwatch.apps.runs import new as make
    from agentwatch.core.runs import VARIABLE

    run_id = make(load(log_dir, config), datetime.now(UTC), name=name, callback=callback)
    print(f"export {VARIABLE}={shlex.quote(run_id)}" if export else run_id)


@runs_app.command("list", epilog=examples("agentwatch runs list", "agentwatch runs list --json | jq -r '.[] | select(.alerts > 0) | .run_id'"))
def list_(*, log_dir: LogDir = None, config: Config = None, as_json: AsJson = False) -> None:
    """List the runs, the newest last: age, size, issues, alerts, sources."""
    from agentwatch.apps.runs import listing, page
    from agentwatch.ui.page import show

    now = datetime.now(UTC)
    rows = listing(load(log_dir, config).settings, now)
    if as_json:
        print(json_text(rows))
    else:
        show(page(rows, now), sys.stdout)


@runs_app.command(
    epilog=examples("agentwatch runs clear                            those that are too old", "agentwatch runs clear latest", "agentwatch runs clear --all")
)
def clear(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Its id, or `latest`.", show_default=False)] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All runs.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also what is in use, or not read by the daemon yet.")] = False,
    log_dir: LogDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> int:
    """Remove the logs of runs.

    Without RUN those in which nothing was written for `runs.ttl_h` hours (24), as the daemon does once an hour; the latest stays then. A run that is being written or asked about stays. Alerts and figures of a run stay in any case.
    """
    from agentwatch.apps import runs
    from agentwatch.ui.page import show

    if force and not (run or everything):
        raise UsageError("`--force` is for runs that are named", hint="name a run, or add `--all`")
    if run is not None and (everything or not run):
        raise UsageError("`--all` and a run say two things" if everything else "the run's id is empty", hint="give one of them")
    loaded, now = load(log_dir, config), datetime.now(UTC)
    if run is not None:
        actions = [runs.clear(loaded, run, os.environ, now, force=force)]
    elif everything:
        actions = list(runs.clear_all(loaded, os.environ, now, force=force))
    else:
        actions = list(runs.clear_expired(loaded, now))
    if as_json:
        print(json_text(actions))
    elif actions:
        show(runs.cleared(actions), sys.stdout)
    else:
        say("no run to clear")
    return 1 if everything and any(one.what == "left" for one in actions) else 0
