"""Tells systemd how we are, when it asks. The protocol of sd_notify(3) in its plain form."""

import os
import time
from collections.abc import Mapping

PATIENCE_S = 1.0
"""So long a manager that does not read may hold us up; then the message is lost. It must not be what the logs wait for."""


class Notifier:
    """Sends to `$NOTIFY_SOCKET`, or nowhere. `watchdog_s` is half of the interval that systemd wants signs of life in; None: it wants none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s: float | None = None
        if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()) and environ.get("WATCHDOG_USEC", "").isdecimal():
            self.watchdog_s = int(environ["WATCHDOG_USEC"]) / 2e6

    def reloading(self) -> None:
        """The settings are read again from now on, until the next READY."""
        self.send(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def send(self, **state: str | int) -> None:
        """One datagram, e.g. `send(READY=1, STATUS="watching")`. A manager that does not listen is no error."""
        if not self._address:
            return
        import socket  # noqa: PLC0415  # 2 ms, for those whom a manager started

        message = "\n".join(f"{name}={value}" for name, value in state.items()).encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.settimeout(PATIENCE_S)
            try:
                out.sendto(message, self._address)
            except OSError:
                return
