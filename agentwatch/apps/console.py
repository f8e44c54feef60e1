"""The console of a program that is run for somebody: its terminal, its streams, its size. Knows nothing of what flows through."""

import fcntl
import os
import select
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

CHUNK = 65_536
ROOM = 4096
"""POLLOUT on a pipe promises room for `PIPE_BUF` bytes, and no more: a longer write could hold us up."""

QUIET_S = 0.1
MOST_AFTER = 1 << 20
"""After the program's end what is in the kernel's buffers is passed on: until a stream ends, or is quiet for this long, or has told
more than any buffer holds. Children that the program left behind may keep a stream open, and talking, for ever."""

_NO_SIZE = bytes(8)


@dataclass(slots=True)
class Flow:
    """Bytes on their way from one descriptor to another, at most `CHUNK` of them: who reads slowly slows down who writes.

    `source` is ours and does not block. `saw` is told each piece that was read; no more than `left` bytes will be (None: no limit). Where nobody reads `target` any more, `source` is
    closed, so that the program learns it as it would have without us.
    """

    source: int
    target: int
    saw: Callable[[bytes], None]
    most: int = CHUNK
    pending: memoryview = field(default=memoryview(b""))
    is_open: bool = True
    left: int | None = None
    _room: select.poll = field(init=False)

    def __post_init__(self) -> None:
        self._room = select.poll()
        self._room.register(self.target, select.POLLOUT)

    def want(self, wanted: dict[int, int]) -> None:
        """Add what to wait for."""
        if self.pending:
            wanted[self.target] = wanted.get(self.target, 0) | select.POLLOUT
        elif self.is_open and (self.left is None or self.left > 0):
            wanted[self.source] = wanted.get(self.source, 0) | select.POLLIN

    def move(self, ready: dict[int, int]) -> bool:
        """Read or write once, if that is possible at once; whether anything was read."""
        if self.pending:
            if ready.get(self.target):
                self._write()
            return False
        if not self.is_open or not ready.get(self.source):
            return False
        try:
            data = os.read(self.source, CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last process that had the terminal is gone
            data = b""
        if not data:
            self.close()
            return False
        if self.left is not None:
            self.left -= len(data)
        self.saw(data)
        self.pending = memoryview(data)
        if self._room.poll(0):
            self._write()
        return True

    def close(self) -> None:
        self.pending = memoryview(b"")
        if self.is_open:
            self.is_open = False
            os.close(self.source)

    def _write(self) -> None:
        """As much as there is room for: a turn of the loop for each 4 kB would take four times as long."""
        try:
            while self.pending:
                self.pending = self.pending[os.write(self.target, self.pending[: self.most]) :]
                if not self._room.poll(0):
                    return
        except BlockingIOError:
            return
        except OSError:  # EPIPE, or the terminal is gone, or the disk is full
            self.close()


class Terminal:
    """The terminal that we were started on, whose keys go to the program while it is taken."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._modes: list[object] | None = None

    @property
    def is_taken(self) -> bool:
        return self._modes is not None

    @property
    def modes(self) -> list[object]:
        """As the user has set them."""
        return self._modes or termios.tcgetattr(self._fd)

    def take(self) -> None:
        """Let every key through as it is. Not while we are in the background: the terminal is somebody else's then."""
        with suppress(termios.error, OSError):
            if self._modes is None and self._is_ours():
                modes = termios.tcgetattr(self._fd)
                tty.setraw(self._fd, termios.TCSANOW)
                self._modes = modes

    def give_back(self) -> None:
        """As it was. A terminal that is gone needs nothing."""
        modes, self._modes = self._modes, None
        with suppress(termios.error, OSError):
            if modes is not None:
                termios.tcsetattr(self._fd, termios.TCSANOW, modes)  # type: ignore[arg-type]  # it came from tcgetattr

    def lend_size(self, master: int) -> None:
        """Make the program's terminal as large as ours; the kernel tells the program, if that is new."""
        with suppress(OSError):
            size = fcntl.ioctl(self._fd, termios.TIOCGWINSZ, _NO_SIZE)
            fcntl.ioctl(master, termios.TIOCSWINSZ, size)

    def _is_ours(self) -> bool:
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # nobody's: there is no job control on it
            return True


def suspends(master: int, keys: bytes, leader: int) -> bool:
    """Whether `keys` have asked the program to stop, and the kernel did not: it stops nobody whose parent is in another session.

    A program that takes the key or the signal itself decides itself, and so does a shell with jobs of its own.
    """
    try:
        modes = termios.tcgetattr(master)
        asked = bool(modes[3] & termios.ISIG) and modes[6][termios.VSUSP] in keys
        return asked and os.tcgetpgrp(master) == leader and _stops_by_default(leader)
    except (termios.error, OSError):
        return False


def _stops_by_default(pid: int) -> bool:
    from signal import SIGTSTP

    with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123  # pathlib is not loaded for this
        masks = dict(line.split(b":", 1) for line in file if line.startswith((b"SigIgn", b"SigCgt")))
    return not any(int(mask, 16) >> (SIGTSTP - 1) & 1 for mask in masks.values())


def outlet(fd: int) -> tuple[int, int]:
    """Our end and the program's end of what goes to `fd`: a pipe, or a terminal that changes nothing where `fd` is one."""
    if not os.isatty(fd):
        return os.pipe()
    master, slave = os.openpty()
    modes = termios.tcgetattr(slave)
    modes[1] &= ~termios.OPOST  # the real one does that
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    Terminal(fd).lend_size(master)
    return master, slave


def at_once(fd: int) -> int:
    """How many bytes a write to `fd` takes without waiting once POLLOUT says so."""
    from stat import S_ISREG

    return CHUNK if S_ISREG(os.fstat(fd).st_mode) else ROOM
