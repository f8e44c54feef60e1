"""`make screenshots`: the pictures in docs/images, taken of the real program while the demo plays. Needs tmux and Chromium.

A screen is what tmux shows, colours included, drawn as SVG by rich; a page is what Chromium makes of it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from benchmarks.history import write_rows
from tests.e2e.test_console import ROOT, Terminal

IMAGES = ROOT / "docs" / "images"
WIDTH = 120
SESSIONS = 400
LIVE_S, OVER_S = 16.0, 22.0
"""Into the demo: some are stuck by the first, some are done, and alerts have come; by the second all has been told."""

PLAIN_SVG = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""
"""rich's own loads a font from elsewhere."""


@contextmanager
def demo(home: Path) -> Iterator[Path]:
    """The demo, played in `home`; the directory that a user would stand in."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), "TMPDIR": str(home)}
    process = subprocess.Popen([sys.executable, "-m", "agentwatch", "demo", "--plain"], cwd=home, env=environ, stdout=subprocess.DEVNULL)
    try:
        while not (lock := next(home.glob("agentwatch-demo-*/.cache/agent-work-logs/.agentwatch/lock"), None)):
            time.sleep(0.1)
        yield lock.parents[3]
    finally:
        process.terminate()
        process.wait(30)


def as_svg(ansi: str, width: int, title: str) -> str:
    """A screen as a picture: `ansi` is what `tmux capture-pane -e` gives."""
    console = Console(record=True, width=width, file=open(os.devnull, "w"), force_terminal=True, color_system="truecolor")  # noqa: SIM115, PTH123  # for as long as the process lives
    for line in ansi.rstrip("\n").split("\n"):
        console.print(Text.from_ansi(line), no_wrap=True, crop=True, overflow="crop", soft_wrap=True)
    svg = console.export_svg(title=title, theme=DIMMED_MONOKAI, code_format=PLAIN_SVG, unique_id="t")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def take(terminal: Terminal, name: str) -> None:
    shown = terminal.screen(colours=True).replace(f"{sys.executable} -m agentwatch", "agentwatch")
    (IMAGES / f"{name}.svg").write_text(as_svg(shown, WIDTH, f"agentwatch {name}"), "utf-8")


@contextmanager
def screen(place: Path) -> Iterator[Terminal]:
    terminal = Terminal(place)
    terminal.resize(WIDTH, 34)
    try:
        yield terminal
    finally:
        terminal.close()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        after = Path(scratch, "after")
        with demo(Path(scratch)) as place, screen(place) as terminal:
            began = time.monotonic()
            terminal.run("tail")
            time.sleep(LIVE_S - (time.monotonic() - began))
            take(terminal, "tail")
            time.sleep(OVER_S - (time.monotonic() - began))
            shutil.copytree(place / ".cache", after / ".cache")
        with screen(after) as terminal:
            terminal.run("replay", "attempt-101-login")
            terminal.wait("step 1")
            terminal.type("a")
            time.sleep(1)
            take(terminal, "replay")
        week = Path(scratch, "week")
        (week / ".cache/agent-work-logs").mkdir(parents=True)
        write_rows(week / ".cache/agent-work-logs/agent-metrics.jsonl", sessions=SESSIONS, days=14)
        with screen(week) as terminal:
            terminal.resize(WIDTH, 48)
            terminal.type("clear", "Enter")
            terminal.run("summary")
            terminal.wait("By day", "Errors", "\nready>")
            take(terminal, "summary")
        page = week / "weekly.html"
        environ = os.environ | {"HOME": scratch, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-m", "agentwatch", "report", "weekly", "--html", page], cwd=week, env=environ, check=True)
        chromium = shutil.which("chromium") or "chromium-browser"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1300", f"--user-data-dir={scratch}/chromium"]
        subprocess.run([chromium, *options, f"--screenshot={IMAGES / 'weekly.png'}", page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
