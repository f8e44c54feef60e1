"""`agentwatch exec`: runs an agent on a console of its own, passes everything through unchanged, and ends a runaway.

Owns the process, its signals and the way it is ended. What of it is recorded is the recorder's business, in a thread of its own: a
slow disk, a full one, or a mistake in what judges the events costs the agent nothing.
"""

import fcntl
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from agentwatch.apps.console import MOST_AFTER, QUIET_S, Flow, Terminal, at_once, outlet, suspends
from agentwatch.apps.record import Ending, Recorder

NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""Exit codes of POSIX shells for a command that cannot be run."""

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
STAGES = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
KEYBOARD, OUT, ERR = 0, 1, 2

_INTERRUPTS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
_OURS = (*FORWARDED, signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD, signal.SIGWINCH)


class Patience(NamedTuple):
    """How long the program may say nothing (None: for ever), and how long it has to react to each signal that ends it. Seconds."""

    idle_s: float | None
    grace_s: float


class Runner:
    """One run of one command. Use it once, in the main thread.

    `say` prints a line for people. With a terminal on both sides the program gets one of its own; else pipes, its standard input
    being ours. It leads a session and a process group of its own: signals that we get go to that group.
    """

    def __init__(self, command: Sequence[str], recorder: Recorder, patience: Patience, say: Callable[[str], None]) -> None:
        self._command = list(command)
        self._recorder = recorder
        self._patience = patience
        self._say = say
        self._terminal = Terminal(KEYBOARD)
        self._has_terminal = os.isatty(KEYBOARD) and os.isatty(OUT)
        self._master: int | None = None
        self._flows: list[Flow] = []
        self._keys: Flow | None = None
        self._pid = 0
        self._status: int | None = None
        self._last_output = time.monotonic()
        self._stages: list[signal.Signals] = []
        self._next_stage = 0.0
        self._signalled: int | None = None
        self._wants_to_stop = self._abandoned = False
        self._notes: list[str] = []
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Run the command to its end; the exit code for ours: its own, 128 and the signal that killed it, 127 or 126 if it cannot be run.

        A runaway that was stopped and says 0 is not done: 1.
        """
        before = {number: signal.getsignal(number) for number in _OURS}
        wakeup = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        try:
            self._listen(before)
            code = self._supervised()
        finally:
            self._terminal.give_back()
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._wake)
            os.close(self._waker)
        self._relay()
        return code

    def wake(self) -> None:
        """Make the loop look again; from any thread."""
        with suppress(OSError):
            os.write(self._waker, b"\0")

    @property
    def _outputs(self) -> list[Flow]:
        return [flow for flow in self._flows if flow is not self._keys]

    def _supervised(self) -> int:
        try:
            self._start()
        except OSError as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            message = _refusal(self._command[0], error)
            self._notes.append(message)
            self._recorder.begin(self.wake)
            self._recorder.end(Ending("failed", code, error=message))
            return code
        self._recorder.begin(self.wake)
        try:
            self._watch()
        finally:
            for flow in self._flows:
                flow.close()
            if self._master is not None:
                os.close(self._master)
            self._terminal.give_back()
            code = self._code()
            self._recorder.end(self._ending(code))
        return 1 if self._recorder.stop and code == 0 else code

    def _listen(self, before: Mapping[signal.Signals, object]) -> None:
        for number in _OURS:
            # What was ignored when we were started (nohup) is to be ignored, by the program as well.
            if before[number] is not signal.SIG_IGN or number == signal.SIGCHLD:
                signal.signal(number, self._forward if number in FORWARDED else self._note)

    def _start(self) -> None:
        ends: list[int] = []
        try:
            if self._has_terminal:
                master, slave = os.openpty()
                termios.tcsetattr(slave, termios.TCSANOW, self._terminal.modes)  # type: ignore[arg-type]  # as tcgetattr gave them
                self._terminal.lend_size(master)
                self._master = master
                ends.append(slave)
                child_out, child_in = slave, slave
                self._flows.append(self._flow(os.dup(master), OUT, "stdout"))
                child_err = slave if os.isatty(ERR) else self._outlet(ERR, "stderr", ends)
            else:
                child_in = KEYBOARD
                child_out = self._outlet(OUT, "stdout", ends)
                child_err = child_out if os.isatty(OUT) and os.isatty(ERR) else self._outlet(ERR, "stderr", ends)
            process = subprocess.Popen(  # noqa: S603  # what the user asks us to run
                self._command,
                stdin=child_in,
                stdout=child_out,
                stderr=child_err,
                start_new_session=True,
                preexec_fn=_take_terminal if self._has_terminal else None,  # noqa: PLW1509  # no thread runs yet
            )
        finally:
            for fd in ends:
                os.close(fd)
        self._pid = process.pid
        process.returncode = 0  # waited for below, where stops are seen too
        if self._master is not None:
            os.set_blocking(self._master, False)
            self._keys = Flow(os.dup(KEYBOARD), self._master, self._typed)
            self._flows.append(self._keys)
            self._terminal.take()
        if self._signalled is not None:  # while it was being started
            self._send(signal.Signals(self._signalled))

    def _outlet(self, fd: int, stream: str, ends: list[int]) -> int:
        ours, theirs = outlet(fd)
        ends.append(theirs)
        self._flows.append(self._flow(ours, fd, stream))
        return theirs

    def _flow(self, source: int, target: int, stream: str) -> Flow:
        os.set_blocking(source, False)
        return Flow(source, target, lambda data: self._recorder.saw(stream, data), at_once(target))

    def _watch(self) -> None:
        ended_at = 0.0
        while not self._abandoned:
            now = time.monotonic()
            if self._status is not None:
                ended_at = ended_at or now
                if self._is_over(now, max(ended_at, self._last_output)):
                    return
            self._turn(self._wait_ms(now))

    def _turn(self, wait_ms: int) -> None:
        """Wait for something to happen, and do what it asks for."""
        wanted = {self._wake: select.POLLIN}
        for flow in self._flows:
            if flow is not self._keys or (self._terminal.is_taken and self._status is None):
                flow.want(wanted)
        poll = select.poll()
        for fd, mask in wanted.items():
            poll.register(fd, mask)
        ready = dict(poll.poll(wait_ms))
        if self._wake in ready:
            self._woken()
        for flow in self._flows:
            if flow.move(ready) and flow is not self._keys:
                self._last_output = time.monotonic()
        now = time.monotonic()
        self._recorder.turn(now)
        self._judge(now)

    def _wait_ms(self, now: float) -> int:
        wait_s = self._recorder.wait_s(now)
        if self._status is not None:
            wait_s = min(wait_s, QUIET_S / 2)
        if self._recorder.stop:
            wait_s = min(wait_s, self._next_stage - now, QUIET_S if self._status is not None else wait_s)
        elif self._patience.idle_s is not None:
            wait_s = min(wait_s, self._last_output + self._patience.idle_s - now)
        return max(0, round(wait_s * 1000) + 1)

    def _is_over(self, now: float, since: float) -> bool:
        """Whether nothing is left to pass on, and nobody to end."""
        if self._recorder.stop and self._stages and _members(self._pid):
            return False
        if any(flow.pending for flow in self._outputs):
            return False
        return now - since > QUIET_S or all(not flow.is_open or (flow.left or 0) < 0 for flow in self._outputs)

    # ------------------------------------------------------------------------------------------------------------- signals

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        """In the handler itself, which runs even while a write to a slow reader waits."""
        if number in _INTERRUPTS:
            self._signalled = number
            # Its own end is all that is left to interrupt.
            self._abandoned = self._abandoned or self._status is not None
        if self._status is None:
            self._send(signal.Signals(number))

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTSTP:
            self._wants_to_stop = True

    def _woken(self) -> None:
        with suppress(BlockingIOError):
            seen = os.read(self._wake, 4096)
            if signal.SIGCONT in seen:
                self._resume()
            if signal.SIGWINCH in seen:
                self._resize()
        self._relay()
        self._reap()
        if self._wants_to_stop:
            self._wants_to_stop = False
            self._send(signal.SIGSTOP)
            self._suspend(signal.SIGSTOP)

    def _reap(self) -> None:
        while self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
            if not pid:
                return
            if not os.WIFSTOPPED(status):
                self._status = status
                for flow in self._flows:
                    flow.left = MOST_AFTER
            elif self._terminal.is_taken and not self._recorder.stop:
                self._suspend(signal.SIGTSTP)

    def _typed(self, keys: bytes) -> None:
        if self._master is not None and suspends(self._master, keys, self._pid):
            self._send(signal.SIGSTOP)  # noticed when the program has stopped

    def _suspend(self, how: signal.Signals) -> None:
        """The program has stopped: so do we, that the shell gets its terminal back; go on when it continues us.

        The terminal's own key stops all processes of a job, and none that no shell could continue.
        """
        self._terminal.give_back()
        if how is signal.SIGTSTP:
            handler = signal.signal(how, signal.SIG_DFL)
            os.kill(0, how)
            signal.signal(how, handler)
        else:
            os.kill(os.getpid(), how)
        self._resume()

    def _resume(self) -> None:
        self._last_output = time.monotonic()  # that time was no silence
        if self._master is not None:
            self._terminal.take()
        self._resize()
        self._send(signal.SIGCONT)

    def _resize(self) -> None:
        for flow in self._outputs:
            Terminal(flow.target).lend_size(flow.source)

    def _send(self, number: signal.Signals) -> None:
        """To the program's group, and to the one that its terminal talks to."""
        groups = {self._pid} if self._pid else set()
        if self._master is not None:
            with suppress(OSError):
                groups.add(os.tcgetpgrp(self._master))
        for group in groups - {0, os.getpgrp()}:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)

    # ------------------------------------------------------------------------------------------------------------- the end

    def _judge(self, now: float) -> None:
        idle_s = self._patience.idle_s
        if any(flow.pending for flow in self._outputs):
            self._last_output = now  # whoever reads it is slow: that is no silence
        if idle_s is not None and self._status is None and not self._recorder.stop and now - self._last_output > idle_s:
            self._recorder.ask_to_stop(f"it has said nothing for {idle_s:g} s (`--max-idle`)", "timeout")
        if not self._recorder.stop:
            return
        if not self._next_stage:
            self._stages = list(STAGES)
        if not self._stages or now < self._next_stage:
            return
        stage = self._stages.pop(0)
        self._notes.append(f"{stage.name} to `{self._command[0]}`: {self._recorder.stop.reason}" if stage is STAGES[0] else f"it goes on: {stage.name}")
        self._relay()
        self._send(stage)
        self._send(signal.SIGCONT)
        self._next_stage = now + self._patience.grace_s
        if stage is signal.SIGKILL:
            for pid in _members(self._pid):  # the jobs of a shell have groups of their own
                with suppress(OSError):
                    os.kill(pid, stage)

    def _relay(self) -> None:
        """Say what there is to say: at once, unless the terminal is the program's to draw on."""
        if not self._terminal.is_taken:
            notes, self._notes = [*self._notes, *self._recorder.news()], []
            for note in notes:
                self._say(note)

    def _code(self) -> int:
        if self._status is None:
            return 128 + (self._signalled or signal.SIGHUP)
        return 128 + os.WTERMSIG(self._status) if os.WIFSIGNALED(self._status) else os.WEXITSTATUS(self._status)

    def _ending(self, code: int) -> Ending:
        stop = self._recorder.stop
        if stop:
            return Ending(stop.completion_status, code, reason=stop.reason)
        if code == 0:
            return Ending("success", code)
        # A program that ends in order when it is interrupted says so by its code.
        number = code - 128 if code - 128 in _INTERRUPTS else self._signalled
        return Ending("failed", code) if number is None else Ending("interrupted", code, reason=signal.Signals(number).name)


def _members(session: int) -> list[int]:
    """The processes of a session that live: a zombie whom nobody waits for is none."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(entry.name)
            state, _parent, _group, its_session, *_ = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if int(its_session) == session and state not in (b"Z", b"X"):
                found.append(pid)
    return found


def _take_terminal() -> None:
    """In the new process: its standard input is what its terminal shall be."""
    fcntl.ioctl(KEYBOARD, termios.TIOCSCTTY, 0)


def _refusal(name: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"error: `{name}`: {'no such file' if '/' in name else 'command not found'}"
    return f"error: `{name}` cannot be run: {error.strerror}"
