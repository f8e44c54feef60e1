"""`agentwatch tail` and `agentwatch replay`: what agents do, live, and what one of them did."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from agentwatch.cli.common import commands, imports, load, say
from agentwatch.cli.options import Config, LogDir, examples, home, since


@commands.command(
    epilog=examples(
        "agentwatch tail",
        "agentwatch tail --since 2h --executor codex",
        "agentwatch tail --json --alerts | jq -r .summary",
        "agentwatch tail --plain --type tool_call --grep 'rm -rf'",
    )
)
def tail(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    attempts: Annotated[list[str] | None, typer.Option("--attempt", metavar="ID", help="Only this attempt. The beginning of its id is enough.")] = None,
    executors: Annotated[list[str] | None, typer.Option("--executor", metavar="NAME", help="Only attempts of this executor: claude, codex, …")] = None,
    runs: Annotated[list[str] | None, typer.Option("--run", metavar="ID", help="Only this run; `latest` is the newest. [env: AGENTWATCH_RUN]")] = None,
    types: Annotated[list[str] | None, typer.Option("--type", metavar="TYPE", help="Only events or alerts of this type.")] = None,
    grep: Annotated[str | None, typer.Option("--grep", metavar="PATTERN", help="Only what matches this regular expression.")] = None,
    after: Annotated[str | None, typer.Option("--since", metavar="TIME", help="First what happened since then: 30m, 2h, 2026-02-09T08:00:00Z.")] = None,
    alerts: Annotated[bool, typer.Option("--alerts", help="Only alerts, no events.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines, as when the output is no terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Events and alerts as JSON, one a line, as they happen.")] = False,
) -> int:
    """What the agents do, live, and what is alarming.

    On a terminal a console: attempts on top, then alerts, then events; `?` lists its keys. Elsewhere, or with --plain or --json, lines until Ctrl-C.
    Only looks: it has its own place in the logs, writes nothing, and works with and without a daemon. --attempt, --executor, --run and --type may be given more than once.
    """
    from agentwatch.apps import feed

    loaded = load(log_dir, config)
    begin = since("--since", after, datetime.now(UTC))
    chosen = feed.filters(
        loaded.settings.logs.dir,
        attempts=attempts or (),
        executors=executors or (),
        runs=runs or (),
        types=types or (),
        grep=grep,
        alerts_only=alerts,
        environ=os.environ,
    )
    if not (plain or as_json):
        from agentwatch.ui.screen import is_fit

        if is_fit():
            with imports():
                from agentwatch.apps import live
            return live.run(loaded, os.environ, home(), chosen, since=begin)
    with imports():
        from agentwatch.apps.tail import stream
    stream(loaded, os.environ, home(), chosen, since=begin, as_json=as_json, out=sys.stdout, report=say)
    return 0


@commands.command(
    epilog=examples(
        "agentwatch replay latest",
        "agentwatch replay attempt-17 --plain | less",
        "agentwatch replay 0ccf1a04 --export session.html",
    )
)
def replay(
    attempt: Annotated[
        str, typer.Argument(metavar="ATTEMPT", help="An attempt's or a session's id, or its beginning; `latest` did something last.", show_default=False)
    ],
    *,
    log_dir: LogDir = None,
    config: Config = None,
    export: Annotated[Path | None, typer.Option("--export", metavar="FILE", help="Write it as one HTML file, to read anywhere.")] = None,
    full: Annotated[bool, typer.Option("--full", help="With --plain: long texts whole.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Print it all, as when the output is no terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Its events and alerts as JSON, one a line, as `tail --json` has them.")] = False,
) -> int:
    """Replay a session, step by step.

    What the agent was asked, thought and did, what came back, and what it had cost by then. On a terminal `?` lists the keys: steps, jumps to the next error or alert, play at speed. Elsewhere, or with --plain, all of it is printed. Alerts stand where they arose.
    Reads all formats, however old; writes nothing but what --export names.
    """
    from agentwatch.apps import replay as app
    from agentwatch.ui.page import show
    from agentwatch.ui.replay import plain as printed
    from agentwatch.ui.screen import is_fit

    found = app.find(load(log_dir, config), os.environ, home(), attempt)
    if export is not None:
        app.export(found.story, export)
        say(f"{len(found.story.steps)} steps in {export}")
    elif as_json:
        sys.stdout.writelines(app.as_json(found))
    elif plain or full or not is_fit():
        show(printed(found.story, whole=full), sys.stdout, plain=True)
    else:
        return app.show(found.story, os.environ)
    return 0
