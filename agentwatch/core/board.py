"""What a console knows of each attempt beside what it is judged by: its last action, its pace, how it ended. Knows no screen and no clock."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from agentwatch.core.engine import Engine
from agentwatch.core.state import Session
from agentwatch.core.steps import Reader
from agentwatch.core.words import ACTIONS, SUCCEEDED, Said, said, whole
from agentwatch.model import EPOCH, MOST_TOKENS, MOST_USD, Context, Data, Detail, Event, Item

PACE_S, PACES = 10, 12
"""The pace of an attempt is told as so many counts of events, each of so many seconds."""

MOST_LINE_BYTES = 16 << 10
"""What is kept of a longer line is its words, and of them no more than this: a screen has no room for more."""

MOST_ENDED = 1000
LINGER = timedelta(minutes=15)
"""How long an attempt that ended is still shown."""

STALE = timedelta(hours=1)
"""Who has waited for its user for longer does not want attention more than those that work."""

State = Literal["stuck", "limit", "user", "tool", "working", "failed", "done"]
"""What an attempt does. `limit`, `user` and `tool`: it waits for them (the reset of an account's limit); `stuck`: it is silent for longer than it may be."""


@dataclass(slots=True, eq=False)
class Heard:
    """An event with all that is needed to put it into words later: most are never shown."""

    event: Event
    scope: str
    source: str
    place: int
    line: bytes
    detail: Callable[[bytes], Detail]
    words: Said | None = None

    def data(self) -> Data:
        """All that the event says."""
        return whole(self.event, self.line, self.detail)

    def said(self, data: Data | None = None) -> Said:
        """The event in words. Who has its `data` gives it, so that the line need not be decoded again."""
        if self.words is None:
            self.words = said(self.event, self.line, self.data() if data is None else data)
        return self.words

    def settle(self) -> None:
        """Let go of the line: only its words stay, and no more of them than a screen has room for."""
        title, text, is_bad = self.said()
        self.words = Said(title, text if len(text) <= MOST_LINE_BYTES else text[:MOST_LINE_BYTES] + "…", is_bad)
        old = self.event
        self.line, self.event = b"", Event(old.timestamp, old.attempt_id, old.event_type, Data(tool_name=old.data.tool_name), old.lane, old.inferred)


@dataclass(slots=True, eq=False)
class Attempt:
    """What was heard of one attempt. `counts` are its events by `PACE_S` seconds, the newest last, which is that of `slot`.

    `ended` says how it ended, None as long as it lives; what it had spent by then stands in `session`, which nobody changes any more.
    """

    attempt_id: str
    scope: str
    events: int = 0
    action: Heard | None = None
    slot: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * PACES)
    ended: str | None = None
    session: Session | None = None

    def count(self, slot: int) -> None:
        """One more event in that slot of time; what comes later than its neighbours counts with them."""
        self.events += 1
        if slot > self.slot:
            moved = min(slot - self.slot, PACES)
            self.counts[:moved] = []
            self.counts += [0] * moved
            self.slot = slot
        self.counts[-1] += 1

    def pace(self, now: datetime) -> tuple[int, ...]:
        """The counts as they stand now: what is silent moves to the left."""
        moved = min(max(_slot(now) - self.slot, 0), PACES)
        return (*self.counts[moved:], *(0,) * moved)


class Standing(NamedTuple):
    """How an attempt stands at a moment. `silent` is the time since its last event, `cost_usd` is None where nothing is known of it."""

    attempt: Attempt
    session: Session
    state: State
    waiting_for: str
    silent: timedelta
    limit: timedelta | None

    @property
    def context(self) -> Context:
        return self.session.context

    @property
    def cost_usd(self) -> float | None:
        """USD so far; None where the model has no known price."""
        return None if self.session.unpriced and not self.session.cost_usd else self.session.cost_usd


class Board:
    """Hears events on their way to an engine. Attempts that the engine forgets are forgotten here too, those that ended a while later.

    Of attempts that the engine knows from before, the newest call is the last action that is known.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.attempts: dict[tuple[str, str], Attempt] = {
            (scope, session.attempt_id): Attempt(session.attempt_id, scope, action=_newest_call(scope, session)) for scope, session in engine.sessions()
        }
        self.events = 0
        self._ended: dict[tuple[str, str], Attempt] = {}

    def hear(self, source: str, scope: str, items: Iterable[Item], reader: Reader, tell: Callable[[Heard], None]) -> Iterator[Item]:
        """Give events on, and hear of each once it was judged: by then the engine has made the older forms of an event the newer ones.

        A transcript of a session that is recorded says what its record says, and is not heard.
        What `tell` is given keeps a long line's words alone once `tell` has returned.
        """
        attempts, detail, engine = self.attempts, reader.detail, self._engine
        for item in items:
            event, place, line = item
            key = scope, event.attempt_id
            ending = engine.session(*key) if event.event_type == "session_end" else None
            yield item
            if engine.session(*key) is None and engine.is_told_elsewhere(event.attempt_id, event.timestamp):
                continue
            heard = Heard(event, scope, source, place, line, detail)
            self.events += 1
            attempt = attempts.get(key)
            if attempt is None:
                attempt = attempts[key] = Attempt(event.attempt_id, scope)
            attempt.count(_slot(event.timestamp))
            kind = event.event_type
            if kind in ACTIONS or kind == "error" or (kind == "tool_result" and event.data.is_error):
                attempt.action = heard
            if ending is not None:
                self._end(key, attempt, ending, heard)
            tell(heard)
            if len(line) > MOST_LINE_BYTES:
                heard.settle()

    def _end(self, key: tuple[str, str], attempt: Attempt, session: Session, heard: Heard) -> None:
        attempt.ended, attempt.session = heard.said().text, session
        # Where no step said what it spent, the end says it of the whole.
        detail = heard.event.data if isinstance(heard.event.data, Detail) else heard.detail(heard.line)
        session.cost_usd = session.cost_usd or min(max(0.0, detail.cost_usd or 0.0), MOST_USD)
        session.tokens = session.tokens or int(min(max(0, detail.total_tokens or 0), MOST_TOKENS))
        self._ended.pop(key, None)
        self._ended[key] = attempt
        if len(self._ended) > MOST_ENDED:
            oldest = next(iter(self._ended))
            if self._ended.pop(oldest).ended is not None:
                self.attempts.pop(oldest, None)

    def standings(self, now: datetime, skew: Callable[[str], timedelta] = lambda _source: timedelta()) -> list[Standing]:
        """Every attempt that lives or ended lately, in no order. `skew` says by how much the clock of a source's writer is behind."""
        found = []
        for key, attempt in self.attempts.items():
            session = self._engine.session(*key)
            if session is not None:
                attempt.ended = None
                limit, waiting_for = self._engine.waits(session)
                silent = max(now - skew(session.source) - session.last, timedelta())
                found.append(Standing(attempt, session, _state(session, silent, limit, waiting_for), waiting_for, silent, limit))
            elif (session := _lingering(attempt, now)) is not None:
                silent = max(now - session.last, timedelta())
                found.append(Standing(attempt, session, "done" if attempt.ended in SUCCEEDED else "failed", "nobody", silent, None))
        return found

    def forget(self, now: datetime) -> None:
        """Let go of what no standing comes of any more. To be called now and then."""
        over = [key for key, attempt in self.attempts.items() if self._engine.session(*key) is None and _lingering(attempt, now) is None]
        for key in over:
            del self.attempts[key]
            self._ended.pop(key, None)


def _lingering(attempt: Attempt, now: datetime) -> Session | None:
    """The session of an attempt that ended lately."""
    session = attempt.session if attempt.ended is not None else None
    return session if session is not None and now - session.last <= LINGER else None


def _newest_call(scope: str, session: Session) -> Heard | None:
    """From what the engine has kept of it: of a long line only a checksum of its parameters."""
    call = session.main.call
    if call is None:
        return None
    return Heard(call, scope, session.source, session.main.call_place, b"", lambda _line: Detail())


def _state(session: Session, silent: timedelta, limit: timedelta | None, waiting_for: str) -> State:
    if waiting_for == "limit":
        return "limit"
    if limit is None:
        return "user"
    if silent > limit and not session.is_erratic:
        return "stuck"
    return "working" if waiting_for == "model" else "tool"


_URGENCY: dict[State, int] = {"stuck": 0, "limit": 1, "user": 2, "tool": 3, "working": 3, "failed": 4, "done": 5}


def urgency(standing: Standing, alarm: int) -> tuple[int, int, float]:
    """Smaller for what needs attention sooner. `alarm`: 0 without an open alert, else 1 to 3 by its severity.

    First what is alarmed or stuck, then who waits for its user, then who works, then what failed and what is done. Of equals the one
    that waits for its user or ended last, and of those that work the one that began first: rows do not change places with each event.
    """
    rank = _URGENCY[standing.state]
    if standing.state == "user" and standing.silent > STALE:
        rank = 4
    if alarm > 1 and standing.attempt.ended is None:
        rank = min(rank, 1)
    is_busy = standing.state in ("tool", "working")
    return rank, -alarm, (standing.session.started - EPOCH).total_seconds() if is_busy else standing.silent.total_seconds()


def _slot(at: datetime) -> int:
    since = at - EPOCH
    return (since.days * 86_400 + since.seconds) // PACE_S
