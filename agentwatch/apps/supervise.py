"""`agentwatch run --with-notify`: the notifier as a child of the daemon, started again when it ends. Its death is never the daemon's."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from agentwatch.core.notices import backoff
from agentwatch.voice import Level, Report

LONGEST_PAUSE_S = 300.0
WELL_S = 60.0
"""One that lived for so long was well: the next one starts at once."""

END_S = 8.0


class Supervised:
    """While this context lasts there is a notifier. It ends with its standard input, so that it survives no daemon that was killed."""

    def __init__(self, options: Mapping[str, object], environ: Mapping[str, str], report: Report) -> None:
        # -P: a folder `agentwatch` in the working directory is not this program.
        self._command = [sys.executable, "-P", "-m", "agentwatch", "notify", "--until-stdin-ends"]
        for option, value in options.items():
            self._command += [option, str(value)] if value is not None else []
        # Its signs of life would be taken for the daemon's.
        self._environ = {name: value for name, value in environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")}
        self._report = report
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, name="notifier", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            self._stopping.set()
            child = self._child
        if child is not None:
            child.terminate()
            try:
                child.wait(END_S)
            except subprocess.TimeoutExpired:
                child.kill()
        self._thread.join()

    def reload(self) -> None:
        """Have it read its settings again."""
        with self._lock:
            if self._child is not None:
                self._child.send_signal(signal.SIGHUP)

    def _supervise(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                if (child := self._start()) is None:
                    return
                code = str(child.wait())
                if child.stdin is not None:
                    child.stdin.close()
            except OSError as error:  # no process, or no file, more may be made
                code = error.strerror or str(error)
            if self._stopping.is_set():
                return
            failures = 1 if time.monotonic() - started > WELL_S else failures + 1
            pause_s = backoff(failures, random.random(), most_s=LONGEST_PAUSE_S)  # noqa: S311  # jitter
            self._report(f"the notifier ended with {code}; started again in {pause_s:.0f} s; alerts go on being written", Level.WARNING)
            self._stopping.wait(pause_s)

    def _start(self) -> subprocess.Popen[bytes] | None:
        """A new child; None where it is time to stop."""
        with self._lock:
            if self._stopping.is_set():
                return None
            # In a session of its own: Ctrl-C is for the daemon, which ends its child.
            self._child = subprocess.Popen(self._command, stdin=subprocess.PIPE, env=self._environ, start_new_session=True)  # noqa: S603  # ourselves
            return self._child
