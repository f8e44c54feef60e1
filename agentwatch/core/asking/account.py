"""Whether the model may be asked, and what an answer came to: budgets, failures, tokens. Knows no clock and no disk."""

from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

FAILURES = 3
PAUSE_S = 60.0
"""After so many failures in a row nobody asks for a minute; then one does, and the others wait for what becomes of it."""


class Used(NamedTuple):
    """Tokens of a question; `cached` ones are a part of `prompt`."""

    prompt: int
    answer: int
    cached: int


class End(NamedTuple):
    """How an answer ended: `stop`, `length` (cut off at its limit), or what else the server says. `used` is None where the server does not count."""

    reason: str
    used: Used | None


class Breaker(msgspec.Struct, frozen=True):
    """What is known of a server that is asked. Times are seconds since the epoch, of whichever process it was."""

    failures: int = 0
    failed_s: float = 0.0
    probed_s: float = 0.0

    def wait_s(self, now_s: float) -> float:
        """For how long nobody may ask; 0 where one may. A clock that was set back ends the wait, or it would last for as long as the clock was wrong."""
        since_s = now_s - max(self.failed_s, self.probed_s)
        if self.failures < FAILURES or not 0 <= since_s < PAUSE_S:
            return 0.0
        return PAUSE_S - since_s

    def asked(self, now_s: float) -> "Breaker":
        """Somebody asks now. After failures it is a probe, for which others wait no longer than they would for a failure: it may have been killed."""
        return msgspec.structs.replace(self, probed_s=now_s) if self.failures >= FAILURES else self

    def failed(self, now_s: float) -> "Breaker":
        return Breaker(self.failures + 1, now_s, self.probed_s)

    def succeeded(self) -> "Breaker":
        return Breaker()


def scope_of(run_id: str | None, now: datetime) -> str:
    """What one budget is for: a run, or where nothing is asked about a run a day (UTC).

    The log directory itself never ends: one budget for all its life would be spent for good after a handful of questions.
    """
    return f"run {run_id}" if run_id is not None else f"day {now.astimezone(UTC):%Y-%m-%d}"
