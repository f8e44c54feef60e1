"""What a courier hands to a channel, and what may come of it."""

from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from agentwatch.core.cards import Line
from agentwatch.core.notices import Target
from agentwatch.core.taps import Keyboard


class Job(NamedTuple):
    """A message to be sent, or, where `remote` names one, to be edited. A channel that can sends the document with it."""

    target: Target
    card: int
    version: int
    lines: list[Line]
    keyboard: Keyboard = ()
    remote: str | None = None
    is_silent: bool = False
    document: Path | None = None


class Delivered(msgspec.Struct, frozen=True):
    """It stands in the chat; `remote` is how it is edited, None where it cannot be."""

    remote: str | None = None


class NotSent(msgspec.Struct, frozen=True):
    """It certainly did not arrive. `wait_s` is how long the other side asked us to wait."""

    reason: str
    wait_s: float | None = None


class Unsure(msgspec.Struct, frozen=True):
    """It may have arrived: the answer is missing."""

    reason: str


class Refused(msgspec.Struct, frozen=True):
    """It did not arrive and never will."""

    reason: str


class Blocked(msgspec.Struct, frozen=True):
    """Nothing arrives there until somebody does something about it."""

    reason: str


class Moved(msgspec.Struct, frozen=True):
    """The chat has another id now."""

    chat: int


class Gone(msgspec.Struct, frozen=True):
    """The message that was to be edited is not there any more."""


Outcome = Delivered | NotSent | Unsure | Refused | Blocked | Moved | Gone


class Channel(Protocol):
    """One way out. Never raises for what the other side or the network does."""

    async def deliver(self, job: Job) -> Outcome:
        """Try once."""

    async def close(self) -> None:
        """Let go of connections."""
