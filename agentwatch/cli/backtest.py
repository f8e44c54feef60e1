"""`agentwatch backtest`."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from agentwatch.cli.common import as_json as json_text
from agentwatch.cli.common import commands
from agentwatch.cli.options import AsJson, Config, LogDir, examples, home
from agentwatch.errors import UsageError


@commands.command(
    epilog=examples(
        "agentwatch backtest --set stuck.threshold_ms=120000",
        "agentwatch backtest --days 30 --set tool_loop.repeats=3",
        "agentwatch backtest --with stricter.toml --json | jq .new",
    )
)
def backtest(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    days: Annotated[int, typer.Option("--days", min=1, max=3650, metavar="N", help="How far back.")] = 7,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another value of a setting. May be given more than once.")] = None,
    other: Annotated[Path | None, typer.Option("--with", metavar="FILE", help="A settings file to compare with, in place of that of `--config`.")] = None,
    as_json: AsJson = False,
) -> None:
    """What other settings would have told about your own history.

    Reads all logs twice, once with the settings in force and once with others, and says which incidents would be gone and which would be new. Writes nothing.
    """
    from agentwatch.apps.backtest import page, run
    from agentwatch.settings import KEYS, check_directory, load
    from agentwatch.ui.page import show

    if not changes and other is None:
        raise UsageError("nothing to compare with", hint="give another value with `--set KEY=VALUE`, or a file with `--with FILE`")
    values: dict[str, object] = {}
    for change in changes or ():
        key, equals, value = change.partition("=")
        if not equals or not value:
            raise UsageError(f"`--set {change}` sets nothing", hint="give it as in `--set stuck.threshold_ms=120000`")
        if key not in KEYS:
            raise UsageError(f"`--set {change}`: there is no setting `{key}`", hint="`agentwatch doctor` lists them all")
        values[key] = value
    common: dict[str, object] = {"logs.dir": log_dir, "logs.history_s": days * 86_400.0}
    before = load(cwd=Path.cwd(), environ=os.environ, home=home(), flags=common, config=config)
    check_directory(before)
    after = load(cwd=Path.cwd(), environ=os.environ, home=home(), flags=common | values, config=other or config)
    found = run(before, after, os.environ, home(), datetime.now(UTC) - timedelta(days=days))
    if as_json:
        print(json_text(found))
    else:
        show(page(found), sys.stdout)
