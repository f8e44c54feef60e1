"""What must stand in the alert file, worked out from what was written. Knows the contract, and nothing of the program.

Every error here has a fingerprint of its own, and all of an attempt lie within minutes: so an alert opens at the fourth error of
a kind, is told again when it has grown fourfold (16, 64, ...), and once more when its session ends.
"""

from collections import Counter
from typing import NamedTuple

THRESHOLD = 4
GROWTH = 4


class Told(NamedTuple):
    """What is compared of an alert."""

    attempt: str
    type: str
    status: str


class Oracle:
    """Is told each line that is written, in the order in which its attempt had them. `lines` and `alerts` are what must be found."""

    def __init__(self) -> None:
        self.lines = 0
        self.alerts: Counter[Told] = Counter()
        self._live: dict[str, Counter[str]] = {}
        self._ended: set[str] = set()

    def error(self, attempt: str, fingerprint: str) -> None:
        """An `error` event. One that comes after its session's end is an echo of it."""
        self.lines += 1
        errors = self._session(attempt, revives=False)
        if errors is None:
            return
        errors[fingerprint] += 1
        count = errors[fingerprint]
        if count == THRESHOLD:
            self.alerts[Told(attempt, "error_loop", "open")] += 1
        elif count > THRESHOLD and _is_power_of_growth(count):
            self.alerts[Told(attempt, "error_loop", "escalated")] += 1

    def start(self, attempt: str) -> None:
        """A `session_start`, also of an attempt that had ended."""
        self.lines += 1
        self._session(attempt, revives=True)

    def sign_of_life(self, attempt: str) -> None:
        """Any other event of an attempt that has not ended."""
        self.lines += 1
        self._session(attempt, revives=False)

    def has_ended(self, attempt: str) -> bool:
        return attempt in self._ended and attempt not in self._live

    def end(self, attempt: str, status: str) -> None:
        """A `session_end`: its loops are over, and if it failed with many errors, that is told too."""
        self.lines += 1
        errors = self._session(attempt, revives=False)
        if errors is None:
            return
        loops = sum(count >= THRESHOLD for count in errors.values())
        if loops:
            self.alerts[Told(attempt, "error_loop", "recovered")] += loops
        if status == "failed" and errors.total() >= THRESHOLD:
            self.alerts[Told(attempt, "failed_session_high_errors", "open")] += 1
        del self._live[attempt]
        self._ended.add(attempt)

    def _session(self, attempt: str, *, revives: bool) -> Counter[str] | None:
        if attempt not in self._live:
            if self.has_ended(attempt) and not revives:
                return None
            self._live[attempt] = Counter()
        return self._live[attempt]


def _is_power_of_growth(count: int) -> bool:
    while count % GROWTH == 0:
        count //= GROWTH
    return count == 1
