"""The notifier without Telegram's own limits: a thousand alerts would take it seventeen minutes."""

import asyncio
import os
import sys
from pathlib import Path

from agentwatch.apps.notify import Notifier
from agentwatch.notify.courier import Rates
from agentwatch.settings import load

AT_ONCE = (1_000_000, 1e-9)


def say(text, level=None):
    print(text, file=sys.stderr, flush=True)


async def main():
    loaded = load(cwd=Path.cwd(), environ=os.environ, home=None)
    return await Notifier(loaded, os.environ, say, rates=Rates(AT_ONCE, AT_ONCE, AT_ONCE)).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
