"""The screenshot of docs/console.md: `python -m tests.e2e.screenshot 110 32` plays the demo, and prints what `agentwatch tail` shows of it."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.test_console import ROOT, Terminal

SECONDS = 16.0
"""Into the demo: some are stuck by then, some are done, and alerts have come."""


def main(width: int, height: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        environ = {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": str(ROOT), "TMPDIR": home}
        demo = subprocess.Popen([sys.executable, "-m", "agentwatch", "demo", "--plain"], cwd=home, env=environ, stdout=subprocess.DEVNULL)
        try:
            began = time.monotonic()
            while not (scratch := next(Path(home).glob("agentwatch-demo-*/.cache/agent-work-logs/.agentwatch/lock"), None)):
                time.sleep(0.1)
            terminal = Terminal(scratch.parents[3])
            try:
                terminal.resize(width, height)
                terminal.run("tail")
                time.sleep(SECONDS - (time.monotonic() - began))
                print("\n".join(line.rstrip() for line in terminal.screen().splitlines()))  # it is what is asked for
            finally:
                terminal.close()
        finally:
            demo.terminate()
            demo.wait(30)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
