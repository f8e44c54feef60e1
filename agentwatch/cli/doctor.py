"""`agentwatch doctor`: what is wrong, and how to mend it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from agentwatch.cli.common import as_json as json_text
from agentwatch.cli.common import commands, load, say
from agentwatch.cli.options import AsJson, Config, LogDir, examples, home, path


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
