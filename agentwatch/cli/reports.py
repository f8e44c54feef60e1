"""`agentwatch summary`, `report …` and `rotate`: parses, asks an app, prints."""

import gc
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentwatch.cli.common import as_json as json_text
from agentwatch.cli.common import commands, load, say
from agentwatch.cli.options import AsJson, Config, LogDir, examples, home, moment
from agentwatch.errors import UsageError

if TYPE_CHECKING:
    from agentwatch.apps.reports import Report, Source
    from agentwatch.settings import Loaded

Days = Annotated[float, typer.Option("--days", min=0.01, max=36_500, metavar="DAYS", help="How many days.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Where the days end (ISO 8601). [default: now]")]
Run = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only the sessions of this run; `latest` is the newest. [env: AGENTWATCH_RUN]")]
Executor = Annotated[str | None, typer.Option("--executor", metavar="NAME", help="Only the sessions of this executor.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV, for spreadsheets.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML file that needs no network and no script.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Compare these, each with the first.", show_default=False)]


class By(StrEnum):
    DAY = "day"
    MODEL = "model"
    EXECUTOR = "executor"
    PROJECT = "project"


report_app = typer.Typer(
    name="report",
    help="Offline analyses of what agents did.",
    no_args_is_help=True,
    invoke_without_command=True,
    rich_markup_mode=None,
    epilog=examples(
        "agentwatch report executors CODEX CLAUDE --days 30",
        "agentwatch report errors --html errors.html",
        "agentwatch report cost --by model --json | jq '.[0]'",
    ),
)
commands.add_typer(report_app)


@commands.command(epilog=examples("agentwatch summary", "agentwatch summary --days 30 --json | jq .cost_usd.total", "agentwatch summary --rebuild"))
def summary(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    days: Days = 7,
    until: Until = None,
    run: Run = None,
    executor: Executor = None,
    html: Html = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="First store the sessions of all logs and archives anew. Uses all cores.")] = False,
    as_json: AsJson = False,
) -> None:
    """The last seven days: work, cost, errors.

    Against the seven days before. Reads what the daemon stored of finished sessions; where there was no daemon, the logs. Times are UTC.
    """
    gc.disable()  # looking for garbage among 17,000 sessions that all stay takes a third of the time
    loaded = load(log_dir, config)
    if rebuild:
        from agentwatch.apps.history import rebuild as make
        from agentwatch.ui.progress import Progress

        with Progress("reading logs") as progress:
            written = make(loaded, os.environ, home(), progress, say)
        say(f"{written:,} {'session' if written == 1 else 'sessions'} stored")
    from agentwatch.apps.reports import Scope, as_html, save, summary_report, summed
    from agentwatch.ui.progress import Progress

    scope = Scope.of(loaded, os.environ, days, run, executor)
    with Progress("reading logs") as progress:
        found = summed(loaded, os.environ, home(), scope, moment("--until", until), progress)
    if html is not None:
        save(html, as_html(summary_report(found, scope)))
    if as_json:
        print(json_text(found))
    elif html is None:
        _show(summary_report(found, scope))


@commands.command(epilog=examples("agentwatch rotate --dry-run", "agentwatch rotate"))
def rotate(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> int:
    """Rotate and clear what the logger and the daemon write.

    Renames the stream when it is large or of yesterday, compresses what is quiet and was read, deletes archives, session copies and runs that are older than the settings say. Transcripts of agents and logs of other programs are never touched. The daemon does the same once an hour.
    """
    from agentwatch.apps.rotate import page
    from agentwatch.apps.rotate import rotate as act
    from agentwatch.ui.page import show

    actions = list(act(load(log_dir, config).settings, datetime.now(UTC), dry_run=dry_run))
    if as_json:
        print(json_text(actions))
    else:
        show(page(actions, dry_run=dry_run), sys.stdout)
    return 0


@report_app.callback()
def _top(
    context: typer.Context,
    *,
    log_dir: LogDir = None,
    config: Config = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="Store finished days as Parquet, for DuckDB and for longer periods. Needs the extra `history`.")
    ] = False,
) -> None:
    command = context.invoked_subcommand
    if command is not None and (compact or log_dir or config):
        raise UsageError("what stands before the name of a report is for `--compact` alone", hint=f"put it behind: `agentwatch report {command} …`")
    if compact:
        from agentwatch.apps.history import compact as store

        number, location = store(load(log_dir, config), datetime.now(UTC), say)
        say(f"{number:,} {'session' if number == 1 else 'sessions'} of finished days in {location}")
    elif command is None:
        raise UsageError("no report was named", hint="see `agentwatch report --help`")


@report_app.command(epilog=examples("agentwatch report errors --days 30", "agentwatch report errors --executor codex --csv > errors.csv"))
def errors(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    days: Days = 7,
    until: Until = None,
    run: Run = None,
    executor: Executor = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    html: Html = None,
) -> None:
    """Errors by what they have in common: how often, in which tasks, since when, and who has more than their share."""
    _tell(_source(load(log_dir, config), days, until, run, executor).errors(), as_json=as_json, as_csv=as_csv, html=html)


@report_app.command(epilog=examples("agentwatch report executors", "agentwatch report executors CODEX CLAUDE --days 30"))
def executors(
    names: Names = None,
    *,
    log_dir: LogDir = None,
    config: Config = None,
    days: Days = 7,
    until: Until = None,
    run: Run = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    html: Html = None,
) -> None:
    """Executors side by side: success, first shots, duration, cost, tokens, and whether a difference is more than noise."""
    _tell(_source(load(log_dir, config), days, until, run, None).executors(names or ()), as_json=as_json, as_csv=as_csv, html=html)


@report_app.command(epilog=examples("agentwatch report prompts", "agentwatch report prompts plan-first no-plan --days 30"))
def prompts(
    names: Names = None,
    *,
    log_dir: LogDir = None,
    config: Config = None,
    days: Days = 7,
    until: Until = None,
    run: Run = None,
    executor: Executor = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    html: Html = None,
) -> None:
    """Prompts side by side, as for executors. A name is a tag, an executor's variant, or a prompt's id."""
    _tell(_source(load(log_dir, config), days, until, run, executor).prompts(names or ()), as_json=as_json, as_csv=as_csv, html=html)


@report_app.command(epilog=examples("agentwatch report tasks --failed-only", "agentwatch report tasks --json | jq '.[] | select(.attempts > 2)'"))
def tasks(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    failed_only: Annotated[bool, typer.Option("--failed-only", help="Only those whose last session did not succeed.")] = False,
    days: Days = 7,
    until: Until = None,
    run: Run = None,
    executor: Executor = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    html: Html = None,
) -> None:
    """Tasks: how often they were tried, why they failed, and what to plan better."""
    _tell(_source(load(log_dir, config), days, until, run, executor).tasks(failed_only=failed_only), as_json=as_json, as_csv=as_csv, html=html)


@report_app.command(epilog=examples("agentwatch report backlog --top 5"))
def backlog(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    top: Annotated[int, typer.Option("--top", min=1, max=10_000, metavar="N", help="How many.")] = 10,
    days: Days = 7,
    until: Until = None,
    run: Run = None,
    executor: Executor = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    html: Html = None,
) -> None:
    """The tasks that deserve a look first: unsolved, tried often, costly."""
    _tell(_source(load(log_dir, config), days, until, run, executor).backlog(top), as_json=as_json, as_csv=as_csv, html=html)


@report_app.command(epilog=examples("agentwatch report sessions --days 1", "agentwatch report sessions --json | jq '.[] | select(.cost_usd > 5)'"))
def sessions(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    days: Days = 7,
    until: Until = None,
    run: Run = None,
    executor: Executor = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    html: Html = None,
) -> None:
    """Sessions one by one, the newest last."""
    _tell(_source(load(log_dir, config), days, until, run, executor).sessions(), as_json=as_json, as_csv=as_csv, html=html)


@report_app.command(epilog=examples("agentwatch report cost --by model", "agentwatch report cost --days 30 --html cost.html"))
def cost(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    by: Annotated[By, typer.Option("--by", help="What it is told by.")] = By.DAY,
    days: Days = 7,
    until: Until = None,
    run: Run = None,
    executor: Executor = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    html: Html = None,
) -> None:
    """What was spent, and what would have been cheaper."""
    _tell(_source(load(log_dir, config), days, until, run, executor).cost(by.value), as_json=as_json, as_csv=as_csv, html=html)


@report_app.command(epilog=examples("agentwatch report weekly", "agentwatch report weekly --output ~/reports"))
def weekly(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    days: Days = 7,
    until: Until = None,
    run: Run = None,
    executor: Executor = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="DIR", help="Where it is saved. [default: .cache/reports]")] = None,
    as_json: AsJson = False,
    html: Html = None,
) -> None:
    """All of it for a week, saved as weekly-YYYY-MM-DD.json and .html."""
    from agentwatch.apps.reports import as_html, save, save_weekly, weekly_dir

    found = _source(load(log_dir, config), days, until, run, executor, is_compared=True).weekly()
    if html is not None:
        save(html, as_html(found.report))
    else:
        for path in save_weekly(found, output or weekly_dir(Path.cwd())):
            say(f"saved {path}")
    if as_json:
        print(json_text(found.found))


def _source(loaded: "Loaded", days: float, until: str | None, run: str | None, executor: str | None, *, is_compared: bool = False) -> "Source":
    from agentwatch.apps.reports import Scope, Source
    from agentwatch.ui.progress import Progress

    end = moment("--until", until)
    with Progress("reading logs") as progress:
        return Source(loaded, os.environ, home(), Scope.of(loaded, os.environ, days, run, executor), end, progress, is_compared=is_compared)


def _tell(report: "Report", *, as_json: bool, as_csv: bool, html: Path | None) -> None:
    from agentwatch.apps.reports import as_csv as csv_of
    from agentwatch.apps.reports import as_html, save

    if as_json and as_csv:
        raise UsageError("`--json` and `--csv` say two things", hint="give one of them")
    if html is not None:
        save(html, as_html(report))
    if as_json:
        print(json_text(list(report.found)))
    elif as_csv:
        print(csv_of(report.found), end="")
    elif html is None:
        _show(report)


def _show(report: "Report") -> None:
    from agentwatch.ui.page import show

    show(report.page(), sys.stdout)
