"""A terminal as a screen: lines out, keys in. The one file that imports curses; leaves the terminal as it was, whatever ends the process."""

import curses
import locale
import os
import signal
import sys
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import NoReturn, Self

from agentwatch.errors import UsageError
from agentwatch.ui.lines import Line
from agentwatch.ui.page import Style

STANDARD = "xterm-256color"
"""What a terminal is taken for whose own description is not on this machine, as after `ssh` from a newer one."""

ESCAPE_MS = 25
"""How long after ESC the rest of a key may come: over a slow line too, since what one key sends travels together."""

_KEYS = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_LEFT: "left",
    curses.KEY_RIGHT: "right",
    curses.KEY_PPAGE: "pgup",
    curses.KEY_NPAGE: "pgdn",
    curses.KEY_HOME: "home",
    curses.KEY_END: "end",
    curses.KEY_ENTER: "enter",
    curses.KEY_BACKSPACE: "backspace",
    curses.KEY_RESIZE: "resize",
    curses.KEY_BTAB: "backtab",
    "\n": "enter",
    "\r": "enter",
    "\t": "tab",
    "\x1b": "esc",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x02": "pgup",
    "\x06": "pgdn",
    "\x04": "pgdn",
    "\x15": "pgup",
    "\x0c": "redraw",
}

_COLOURS: dict[Style, int] = {"good": curses.COLOR_GREEN, "warn": curses.COLOR_YELLOW, "bad": curses.COLOR_RED}
"""The colours that every theme defines, on the terminal's own background: legible on dark and on light."""


def is_fit() -> bool:
    """Whether there is a terminal on both sides that can move its cursor."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb")


class Screen:
    """Draws lines, of which only what changed is sent, and reads keys. Use it in a `with`: the end of that restores the terminal.

    Ctrl-C is KeyboardInterrupt, and SIGTERM ends with exit code 0. A process that is killed cannot restore anything: a child that does nothing else waits for its end and does it then.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._colours = not environ.get("NO_COLOR")
        self._attributes: dict[Style, int] = {}
        self._guard: _Guard | None = None
        self._shown: list[Line | None] = []

    def __enter__(self) -> Self:
        # Whoever started this may have ignored the first: Ctrl-C must work on a screen.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _end)
        locale.setlocale(locale.LC_ALL, "")
        self._encoding = locale.nl_langinfo(locale.CODESET)
        fd = sys.__stdout__.fileno() if sys.__stdout__ is not None else 1
        try:
            curses.setupterm(fd=fd)
        except curses.error:
            os.environ["TERM"] = STANDARD
            try:
                curses.setupterm(fd=fd)
            except curses.error:
                raise UsageError("this terminal is unknown here", hint="add `--plain`") from None
        ends = b"".join(code for name in ("rmcup", "rmkx", "sgr0", "cnorm") if (code := curses.tigetstr(name)))
        self._guard = _Guard.over(fd, ends)
        self._window = curses.initscr()
        try:
            curses.noecho()
            curses.cbreak()
            curses.set_escdelay(ESCAPE_MS)
            self._window.keypad(True)
            with suppress(curses.error):
                curses.curs_set(0)
            self._attributes = {"title": curses.A_BOLD, "dim": curses.A_DIM, "bar": curses.A_REVERSE, "bad": curses.A_BOLD}
            if self._colours and curses.has_colors():
                curses.start_color()
                curses.use_default_colors()
                for number, (style, colour) in enumerate(_COLOURS.items(), 1):
                    curses.init_pair(number, colour, -1)
                    self._attributes[style] = self._attributes.get(style, 0) | curses.color_pair(number)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(curses.error):
            curses.curs_set(1)
        with suppress(curses.error):
            self._window.keypad(False)
            curses.nocbreak()
            curses.echo()
            curses.endwin()
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None

    @property
    def is_plain(self) -> bool:
        """Whether only ASCII can be shown."""
        return self._encoding.upper().replace("-", "") != "UTF8"

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        height, width = self._window.getmaxyx()
        return width, height

    def draw(self, lines: Sequence[Line]) -> None:
        """Show lines from the top; the rest of the screen is blank. Only those are written that are others than before."""
        _, height = self.size
        shown: list[Line | None] = [*lines[:height], *[()] * (height - len(lines))]
        if len(self._shown) != height:
            self._window.erase()
            self._shown = [None] * height
        for y, line in enumerate(shown):
            if line is not None and self._shown[y] != line and self._put(y, line) and y + 1 < height:
                self._shown[y + 1] = None
        self._shown = shown
        self._window.refresh()

    def _put(self, y: int, line: Line) -> bool:
        """Write a line; whether it has run into the next, as where the system takes a character for wider than we do."""
        # The last column of the last line cannot be written without scrolling, which is an error after it was written.
        with suppress(curses.error):
            self._window.move(y, 0)
            self._window.clrtoeol()
            for text, style in line:
                self._window.addstr(text.encode(self._encoding, "replace").decode(self._encoding), self._attributes.get(style, 0))
        return self._window.getyx()[0] != y

    def redraw(self) -> None:
        """Something else has written to the terminal, or its size is another: draw all of it next time."""
        curses.update_lines_cols()
        self._window.clear()
        self._shown = []

    def key(self, wait_s: float) -> str | None:
        """The next key: its name, or the character that it types. None if none comes in time. A new size of the terminal is the key `resize`."""
        self._window.timeout(max(0, round(wait_s * 1000)))
        try:
            key = self._window.get_wch()
        except curses.error:
            return None
        if key in _KEYS:
            return _KEYS[key]
        return key if isinstance(key, str) and key.isprintable() else None


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


class _Guard:
    """A process that restores the terminal `fd` when this one ends without a word."""

    def __init__(self, pid: int, pipe: int) -> None:
        self._pid = pid
        self._pipe = pipe

    @classmethod
    def over(cls, fd: int, ends: bytes) -> Self | None:
        """Begin; None where `fd` is no terminal after all. To be called before there are threads. `ends` is what ends all that was begun on the screen."""
        try:
            saved = termios.tcgetattr(fd)
        except termios.error:
            return None
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            _stand_guard(fd, saved, ends, reader, writer)
        os.close(reader)
        return cls(pid, writer)

    def dismiss(self) -> None:
        """All was restored already."""
        with suppress(OSError):
            os.write(self._pipe, b".")
        os.close(self._pipe)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _stand_guard(fd: int, saved: "list[int | list[bytes | int]]", ends: bytes, reader: int, writer: int) -> NoReturn:
    """All that the guard does. It must outlive whatever ends the process that it guards."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTOU, signal.SIGTTIN):
            signal.signal(number, signal.SIG_IGN)
        os.close(writer)
        if os.read(reader, 1) != b".":
            termios.tcsetattr(fd, termios.TCSANOW, saved)
            os.write(fd, ends)
    finally:
        os._exit(0)
