"""The commands. Parses, calls an app, prints what came of it or what went wrong; everything else stands elsewhere."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from typer.exceptions import TyperException

from agentwatch import __version__
from agentwatch.cli import ask as ask_
from agentwatch.cli import backtest as backtest_
from agentwatch.cli import exec as exec_
from agentwatch.cli import issues as issues_
from agentwatch.cli import mcp as mcp_
from agentwatch.cli import notify as notify_
from agentwatch.cli import raw as raw_
from agentwatch.cli import reports, watching
from agentwatch.cli.common import as_json as json_text
from agentwatch.cli.common import imports, load, report, say, say_as
from agentwatch.cli.hooks import hooks_app
from agentwatch.cli.log import log_app
from agentwatch.cli.options import AsJson, Config, LogDir, LogFormat, LogFormatOption, examples, home, moment, path, since
from agentwatch.cli.rules import rules_app
from agentwatch.cli.runs import runs_app
from agentwatch.cli.service import service_app
from agentwatch.errors import AgentwatchError, UsageError
from agentwatch.voice import Level

ORDER = (
    *("run", "notify", "tail", "alerts", "issues", "ask", "raw", "status", "doctor", "summary", "report", "replay", "backtest"),
    *("runs", "rules", "exec", "log", "hooks", "mcp", "rotate", "service", "demo"),
)
"""Of the commands in the help: what is used first stands first."""


commands = typer.Typer()
"""What is registered here becomes a command of the program when it is called."""

commands.command("exec", context_settings=exec_.SETTINGS, epilog=exec_.EPILOG)(exec_.execute)
commands.command("backtest", epilog=backtest_.EPILOG)(backtest_.backtest)
commands.command("notify", epilog=notify_.EPILOG)(notify_.notify)
commands.command("summary", epilog=reports.EPILOG)(reports.summary)
commands.command("rotate", epilog=reports.ROTATE_EPILOG)(reports.rotate)
commands.command("issues", epilog=issues_.EPILOG)(issues_.issues)
commands.command("raw", epilog=raw_.EPILOG)(raw_.raw)
commands.command("ask", epilog=ask_.EPILOG)(ask_.ask)
commands.command("mcp", epilog=mcp_.EPILOG)(mcp_.mcp)
commands.command("tail", epilog=watching.TAIL_EPILOG)(watching.tail)
commands.command("replay", epilog=watching.REPLAY_EPILOG)(watching.replay)
for group in (reports.report_app, rules_app, runs_app, log_app, hooks_app, service_app):
    commands.add_typer(group)


class _Commands(typer.core.TyperGroup):
    """Each command is built when it is asked for: the options of all together take as long as the rest of a start."""

    def __init__(self, **told: Any) -> None:
        super().__init__(**told)
        self.commands = dict.fromkeys(ORDER)  # type: ignore[assignment]  # their names, which a misspelt one is compared with

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.commands and self.commands[cmd_name] is None:
            self.commands[cmd_name] = _built(cmd_name)
        return super().get_command(ctx, cmd_name)


def _built(name: str) -> Any:
    for command in commands.registered_commands:
        if command.callback is not None and name == (command.name or command.callback.__name__):
            return typer.main.get_command_from_info(command, pretty_exceptions_short=True, rich_markup_mode=None)
    group = next(one for one in commands.registered_groups if one.typer_instance is not None and one.typer_instance.info.name == name)
    return typer.main.get_group_from_info(group, pretty_exceptions_short=True, suggest_commands=True, rich_markup_mode=None)


app = typer.Typer(
    name="agentwatch",
    cls=_Commands,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=examples(
        "agentwatch demo              see it work, on recorded sessions",
        "agentwatch run               watch the agents of this machine",
        "agentwatch doctor            what would be watched, and what is wrong",
        "agentwatch COMMAND --help    more of each",
    ),
)


@app.callback(invoke_without_command=True)
def _top(context: typer.Context, *, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Watches the logs of coding agents that run unattended, and says which one loops, hangs or burns money, and why."""
    if version:
        print(f"agentwatch {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit(2)
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UsageError("the working directory was deleted", hint="change to one that exists") from None


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


@commands.command(
    epilog=examples(
        "agentwatch doctor",
        "agentwatch doctor --online --send-test",
        "agentwatch doctor --bundle bundle.tar.gz      for whoever helps you",
        "agentwatch doctor --json | jq '.checks[] | select(.state != \"ok\")'",
    )
)
def doctor(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    send_test: Annotated[bool, typer.Option("--send-test", help="Send a test message to everybody who is to be notified.")] = False,
    online: Annotated[bool, typer.Option("--online", help="See whether Telegram, the web address and the language model can be reached.")] = False,
    bundle: Annotated[Path | None, typer.Option("--bundle", parser=path, metavar="FILE", help="Write a redacted support bundle (tar.gz), too.")] = None,
    as_json: AsJson = False,
) -> int:
    """What is wrong, and how to mend it.

    Settings and where each value comes from, what would be watched, services, alerts, limits, permissions, disk, clock. Changes nothing. Exits 1 when something is broken, 2 when the settings cannot be used.
    """
    from agentwatch.apps.doctor import examine, page
    from agentwatch.ui.page import show

    found = examine(lambda: load(log_dir, config), log_dir, os.environ, home())
    if send_test:
        import asyncio

        from agentwatch.apps.sendtest import send_test as send

        found.checks += asyncio.run(send(load(log_dir, config), os.environ))
    if online and found.settings:
        from agentwatch.apps.reach import reach

        found.checks += reach(load(log_dir, config), os.environ)
    if bundle is not None:
        from agentwatch.apps.bundle import save

        names = save(bundle, found, Path(found.places[0].path), os.environ, home())
        say(f"{bundle}: {', '.join(names)}; look through it before you hand it on")
    if as_json:
        print(json_text(found))
    else:
        show(page(found), sys.stdout)
    return found.exit_code


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


@commands.command(epilog=examples("agentwatch demo", "agentwatch demo --speed 30 --keep"))
def demo(
    *,
    speed: Annotated[float, typer.Option("--speed", min=1, max=120, metavar="FACTOR", help="How much faster than it happened.")] = 60,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the scratch directory, to look at logs and alerts.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="No colours, no wrapping.")] = False,
) -> int:
    """See it work, on recorded sessions.

    They are played into a scratch directory, and a daemon watches them. Takes 25 seconds at the usual speed. Nothing outside the scratch directory is read or written.
    """
    from agentwatch.apps.demo import play
    from agentwatch.ui.page import show

    return play(speed, keep=keep, show=lambda blocks: show(blocks, sys.stdout, plain=plain))


def main() -> None:
    """The entry point: what a user did wrong is told in two lines, not in a traceback."""
    # Where one is closed, the next file that is opened would get its number, and what a child says would go into the alert log.
    sys.stdin = sys.stdin or Path(os.devnull).open()  # noqa: SIM115  # for as long as the process lives
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal in another encoding is no reason to fail
    try:
        code = app(prog_name="agentwatch", standalone_mode=False)
        sys.stdout.flush()
    except AgentwatchError as error:
        code = _refuse(str(error), error.hint, error.exit_code)
    except TyperException as error:
        code = _refuse_usage(error)
    except (BrokenPipeError, SystemExit) as error:
        # typer makes a SystemExit of a closed pipe, with the code of a failure.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        _forget_output()
        code = 0
    except OSError as error:
        what = f"`{error.filename}`: " if error.filename else ""
        code = _refuse(f"{what}{error.strerror or error}", None, 1)
    except KeyboardInterrupt:
        code = 130
    try:
        sys.stdout.flush()
    except OSError:
        _forget_output()
    sys.exit(code)


def _forget_output() -> None:
    """What could not be written goes nowhere: the interpreter would try once more at its end, and fail with words and a code of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # type: ignore[union-attr]  # as `main` has set it


def _refuse(message: str, hint: str | None, code: int) -> int:
    report(f"error: {message}", Level.ERROR)
    if hint:
        say("")
        report(f"hint: {hint}", Level.ERROR)
    return code


def _refuse_usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "agentwatch"
    return _refuse(error.format_message(), f"see `{command} --help`", error.exit_code)
