"""`agentwatch notify`: tells people about alerts."""

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from agentwatch.cli.common import as_json as json_text
from agentwatch.cli.common import commands, load, report, say, say_as
from agentwatch.cli.options import AsJson, Config, LogDir, LogFormat, LogFormatOption, examples
from agentwatch.errors import UsageError

if TYPE_CHECKING:
    from agentwatch.settings import Loaded


@commands.command(
    epilog=examples(
        "agentwatch notify --dry-run      what would be sent now",
        "agentwatch notify",
        "agentwatch run --with-notify     both, the notifier as a child",
        "agentwatch doctor --send-test    does it arrive?",
    )
)
def notify(
    *,
    log_dir: LogDir = None,
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent now; send, run and remember nothing.")] = False,
    as_json: AsJson = False,
    until_stdin_ends: Annotated[bool, typer.Option("--until-stdin-ends", hidden=True)] = False,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> int:
    """Tell people about alerts, until Ctrl-C or SIGTERM.

    Telegram, web addresses, commands and, with the extra `apprise`, other services. No alert is lost, whatever happens to the network or to the process: docs/notifications.md.
    SIGHUP reads the settings again.
    """
    say_as(log_format)
    if dry_run:
        _preview(load(log_dir, config), as_json=as_json)
        return 0
    if as_json:
        raise UsageError("`--json` says how `--dry-run` prints", hint="add `--dry-run`")
    import asyncio

    from agentwatch.apps.notify import serve

    return asyncio.run(serve(lambda: load(log_dir, config), os.environ, report, lifeline=0 if until_stdin_ends else None))


def _preview(loaded: "Loaded", *, as_json: bool) -> None:
    from agentwatch.apps.preview import page, preview
    from agentwatch.ui.page import show

    messages = list(preview(loaded, os.environ, time.time()))
    if not messages:
        say("nothing would be sent now")
    for message in messages if as_json else ():
        print(json_text(message))
    if not as_json:
        show(page(messages), sys.stdout)
