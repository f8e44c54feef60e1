"""What every detector is made of."""

from collections.abc import Callable, Mapping
from typing import Protocol

from agentwatch.core.state import MOST_KEYS, Lane, Session, Window
from agentwatch.model import Alert, Detail, Event

Handler = Callable[[Session, Lane, Event, Detail, int, list[Alert]], None]
"""Gets the attempt, its lane, the event, all that the event says, the offset of its line, and the list that new alerts are added to."""


class Detector(Protocol):
    """A judgement over the events of one attempt. All that it remembers stands in `Session` and `Lane`, never in itself."""

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """Which of the seldom event types it wants to see, and what sees them. What fills a log is given to it by `core/steps.py`."""


def bounded(windows: dict[str, Window], key: str) -> Window:
    """A new window for `key`, in place of the oldest where a lane has too many: a hostile log cannot make us grow."""
    if len(windows) >= MOST_KEYS:
        del windows[next(iter(windows))]
    window = windows[key] = Window()
    return window
