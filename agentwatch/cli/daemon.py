"""`agentwatch run`, which watches, and `agentwatch status`, which looks how it does."""

import os
import sys
from typing import Annotated

import typer

from agentwatch.cli.common import as_json as json_text
from agentwatch.cli.common import commands, imports, load, report, say, say_as
from agentwatch.cli.options import AsJson, Config, LogDir, LogFormat, LogFormatOption, examples, home, moment
from agentwatch.errors import UsageError


@commands.command(
    epilog=examples(
        "agentwatch run",
        "agentwatch run --once --log-dir copied-logs",
        "agentwatch run --once --until 2026-02-09T12:00Z    judges silence as of noon",
    )
)
def run(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    once: Annotated[bool, typer.Option("--once", help="Read all there is, write alerts, exit. Time is the log's own.")] = False,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="With --once: where the clock ends (ISO 8601). [default: the newest event]")
    ] = None,
    with_notify: Annotated[bool, typer.Option("--with-notify", help="Start `agentwatch notify` too, and again when it ends.")] = False,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> int:
    """Watch until Ctrl-C or SIGTERM.

    In the foreground. Alerts go to agent-alerts.jsonl in the log directory, one JSON object a line, each once, whatever happens to the process.
    SIGHUP reads the settings again.
    """
    say_as(log_format)
    with imports():
        from agentwatch.apps import daemon
    end = moment("--until", until)
    if end is not None and not once:
        raise UsageError("`--until` says where the clock of a single pass ends", hint="add `--once`")
    if with_notify and once:
        raise UsageError("`--with-notify` is for a daemon", hint="leave out `--once`, or call `agentwatch notify` afterwards")
    if once:
        loaded = load(log_dir, config)
        fresh = daemon.once(loaded, os.environ, home(), end, report)
        say(f"{fresh} new {'alert' if fresh == 1 else 'alerts'} in {loaded.settings.logs.dir / 'agent-alerts.jsonl'}")
        return 0
    watching = daemon.Daemon(lambda: load(log_dir, config), os.environ, home(), report)
    if not with_notify:
        return watching.run()
    from agentwatch.apps.supervise import Supervised

    with Supervised({"--log-dir": log_dir, "--config": config, "--log-format": log_format}, os.environ, report) as notifier:
        return watching.run(on_reload=notifier.reload)


@commands.command(
    epilog=examples(
        "agentwatch status",
        "agentwatch status --json | jq '.files[] | select(.lag_bytes > 0)'",
        "agentwatch status >/dev/null || systemctl --user restart agentwatch",
    )
)
def status(*, log_dir: LogDir = None, config: Config = None, as_json: AsJson = False) -> int:
    """How the daemon is doing.

    Files and what of them is unread, attempts, events, alerts, faults, and whether inotify works. Exits 1 when no daemon runs for the log directory, and shows what is known all the same.
    """
    from agentwatch.apps.status import look, page
    from agentwatch.ui.page import show

    health = look(load(log_dir, config).settings.logs.dir)
    if as_json:
        print(json_text(health))
    else:
        show(page(health), sys.stdout)
    return 0 if health.running else 1
