"""`agentwatch demo`: all of it on recorded sessions."""

import sys
from typing import Annotated

import typer

from agentwatch.cli.common import commands
from agentwatch.cli.options import examples


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
