"""Which message goes out next, and what its outcome means: from the outbox to jobs and back. No network and no clock.

Order in a chat: what may have been lost on its way, then new messages, then edits. A message that certainly did not arrive is sent again as
it is; one that may have arrived is sent again with a mark.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import NamedTuple

from agentwatch.core.cards import Digest, Line, Notes, card, fitting, fleet, notice, together
from agentwatch.core.notices import DIGEST, MINUTE_S, OUTAGE, Bucket, Gate, Limits, Member, Target, Wait, backoff, cause, decide, is_muted, quiet_until, topic
from agentwatch.core.taps import Keyboard, keyboard
from agentwatch.model import Alert, Severity, Status
from agentwatch.notify.channel import Blocked, Delivered, Gone, Job, Moved, NotSent, Outcome, Refused, Unsure
from agentwatch.notify.outbox import PAGE, TEXT, Card, Outbox, Standing, State

BLOCKED_S = 300.0
FOREVER_S = 3600.0
"""With nothing to do the next look is so far away; whatever comes wakes the courier."""

MOST_LISTED, MOST_ACTIONS = 40, 5

TRIES_IN_A_ROW, MOST_OVERTAKEN, DOUBTED_S = 3, 3, 3600.0
"""A message that nobody answers for lets another pass after so many tries. It is given up when it still fails after so many others
have arrived right behind it, and after so long: by then it is the message and not the network."""

UNSHOWN = "⚠️ an alert that cannot be shown: `agentwatch alerts` has it"


class Rates(NamedTuple):
    """How many messages at once, and one every so many seconds after that: to all, to one chat, to one group.

    Telegram's own limits, which are not promised: about 30 a second, one a second in a chat, 20 a minute in a group.
    """

    all: tuple[int, float] = (20, 0.04)
    chat: tuple[int, float] = (3, 1.0)
    group: tuple[int, float] = (8, 5.0)


class Courier:
    """Serves the targets of one channel, one message at a time. `chance` gives numbers between 0 and 1 for the jitter.

    `action_of` names the command that somebody could have run for an alert, None where there is none. `tell` is told what a person should know,
    `bury` what is given up for good.
    """

    def __init__(
        self,
        outbox: Outbox,
        targets: Iterable[Target],
        limits: Limits,
        *,
        zone: tzinfo | None,
        chance: Callable[[], float],
        tell: Callable[[str], None],
        action_of: Callable[[int, Alert], str | None] = lambda _seq, _alert: None,
        bury: Callable[[Job, str], None] = lambda _job, _reason: None,
        rates: Rates = Rates(),  # noqa: B008  # a constant
    ) -> None:
        self._outbox = outbox
        self._limits = limits
        self._zone = zone
        self._chance = chance
        self._tell = tell
        self._action_of = action_of
        self._bury = bury
        buckets: dict[int, list[Bucket]] = {}
        # The topics of a group share what the group is allowed.
        self._lanes = [_Lane(target, buckets.setdefault(target.chat, _buckets(target.chat, rates))) for target in targets]
        self._bucket = Bucket(*rates.all)
        self._gate = Gate()
        self._failures = 0
        self._turn = 0

    @property
    def targets(self) -> list[Target]:
        return [lane.target for lane in self._lanes]

    def wake(self) -> None:
        """There may be something new for any of the targets."""
        for lane in self._lanes:
            lane.idle = False

    def next(self, now: float) -> Job | Wait:
        """What to send now, written down as on its way; or until when there is nothing. `now` is in seconds since the epoch."""
        closed = max(self._gate.opens_at(now), self._bucket.ready_at(now))
        if closed > now:
            return Wait(closed)
        earliest = now + FOREVER_S
        for step in range(len(self._lanes)):
            lane = self._lanes[(self._turn + step) % len(self._lanes)]
            found = self._look(lane, now)
            if isinstance(found, Job):
                self._turn += step + 1
                for bucket in (self._bucket, *lane.buckets):
                    bucket.take(now)
                return found
            earliest = min(earliest, found.until_s)
        return Wait(earliest)

    def settle(self, job: Job, outcome: Outcome, now: float) -> None:
        """Write down what came of it."""
        lane = next(lane for lane in self._lanes if lane.target.name == job.target.name)
        lane.idle = False
        if isinstance(outcome, NotSent | Unsure):
            self._failures += 1
            self._gate.close(now, outcome.wait_s if isinstance(outcome, NotSent) and outcome.wait_s is not None else backoff(self._failures, self._chance()))
            if self._failures in (1, 10, 100):
                self._tell(f"{job.target.name}: {outcome.reason}; trying again")
        elif self._failures:
            self._failures = 0
            self._tell(f"{job.target.name}: answers again")
        (self._settle_new if job.remote is None else self._settle_edit)(lane, job, outcome, now)

    def _settle_new(self, lane: "_Lane", job: Job, outcome: Outcome, now: float) -> None:
        match outcome:
            case Delivered(remote):
                self._outbox.sent(job.card, remote, job.version)
                lane.new.arrived(job.card)
            case Unsure(reason) if not lane.new.is_hopeless(job.card, now):
                self._outbox.unsure(job.card)
            case Refused(reason) | Unsure(reason):
                self._bury(job, reason)
                self._outbox.dead(job.card)
                self._outbox.count("refused")
                self._tell(f"{job.target.name}: given up: {reason}")
            case _:
                self._outbox.not_sent(job.card)
                self._keep_away(lane, outcome, now)

    def _settle_edit(self, lane: "_Lane", job: Job, outcome: Outcome, now: float) -> None:
        match outcome:
            case Delivered():
                self._outbox.shown(job.card, job.version)
                lane.edits.arrived(job.card)
            case Gone():
                self._outbox.not_sent(job.card)
            case Unsure(reason) if not lane.edits.is_hopeless(job.card, now):
                pass
            case Refused(reason) | Unsure(reason):
                self._outbox.shown(job.card, job.version)
                self._outbox.count("refused edits")
                self._tell(f"{job.target.name}: an edit is given up: {reason}")
            case _:
                self._keep_away(lane, outcome, now)

    def _keep_away(self, lane: "_Lane", outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Blocked):
            lane.gate.close(now, BLOCKED_S)
            self._outbox.count("blocked")
            self._tell(f"{lane.target.name}: {outcome.reason}; trying again in {BLOCKED_S / 60:.0f} min")
        elif isinstance(outcome, Moved):
            self._outbox.remember(f"moved:{lane.target.chat}", str(outcome.chat))
            self._tell(f"{lane.target.name}: the chat's id is {outcome.chat} now; it is used from here on, and belongs into the settings")

    def chat_of(self, target: Target) -> int:
        """The chat's id of today."""
        moved = self._outbox.value(f"moved:{target.chat}")
        return int(moved) if moved else target.chat

    # ------------------------------------------------------------------------------------------------------------ one target

    def _look(self, lane: "_Lane", now: float) -> Job | Wait:
        closed = max(lane.gate.opens_at(now), *(bucket.ready_at(now) for bucket in lane.buckets))
        if closed > now:
            return Wait(closed)
        if lane.idle and lane.look_at > now:
            return Wait(lane.look_at)
        found = self._new(lane, now)
        if isinstance(found, Wait) and lane.new.take_back():
            found = self._new(lane, now)
        if isinstance(found, Wait) and lane.target.can_edit and (changed := self._changed(lane)):
            return self._job(lane.target, changed, is_silent=True)
        if isinstance(found, Wait):
            lane.idle, lane.look_at = True, found.until_s
        return found

    def _changed(self, lane: "_Lane") -> Card | None:
        found = self._outbox.changed(lane.target.name, but=lane.edits.aside)
        return self._outbox.changed(lane.target.name) if found is None and lane.edits.take_back() else found

    def _new(self, lane: "_Lane", now: float) -> Job | Wait:
        target = lane.target
        unsent = self._outbox.unsent(target.name, but=lane.new.aside)
        oldest = self._outbox.oldest_waiting_s(target.name)
        if oldest is not None and oldest < now - self._limits.max_age_s:
            self._outbox.pass_over(target.name, now - self._limits.max_age_s)
        queue, old = self._outbox.queue(target.name, self._limits.storm_per_min + 2)
        if unsent is None and not queue.topics and not old:
            return Wait(now + FOREVER_S)
        # Without a zone it is naive, and the machine's own is asked again for the end: summer time may begin in between.
        local = datetime.fromtimestamp(now, self._zone)
        if quiet := quiet_until(target.quiet, local):
            return Wait(quiet.timestamp())
        if unsent is not None:
            return self._send(target, unsent, now)
        if not queue.topics:
            return self._send(target, self._outbox.make_digest(target.name, now), now)
        decision = decide(queue, self._outbox.messages_since(target.name, now - MINUTE_S), self._limits, now)
        if isinstance(decision, Wait):
            return decision
        make = self._outbox.make_digest if decision == DIGEST else self._outbox.make_single
        return self._send(target, make(target.name, now), now)

    def _send(self, target: Target, found: Card, now: float) -> Job:
        if found.state is State.SENDING and not found.is_repeat:
            # Its answer was lost with the process that waited for it.
            self._outbox.unsure(found.id)
            found = self._outbox.card(found.id)
        self._outbox.sending(found.id, now)
        return self._job(target, found)._replace(remote=None)

    def _job(self, target: Target, found: Card, *, is_silent: bool = False) -> Job:
        try:
            lines = self.lines(found)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001  # what one alert brings must not keep all behind it from being told
            self._tell(f"{target.name}: a message cannot be put together: {type(error).__name__}: {error}")
            lines = notice("\n".join([UNSHOWN, *self._outbox.alert_ids(found.id)[:MOST_LISTED]]), is_repeat=found.is_repeat)
        first, keys = self._outbox.alert(found.first) if found.first is not None else None, self._keys(target, found)
        is_silent = is_silent or (first is not None and first.severity is Severity.LOW)
        document = Path(found.notes[PAGE]) if found.notes.get(PAGE) else None
        return Job(target, found.id, found.version, lines, keys, found.remote, is_silent, document)

    def _keys(self, target: Target, found: Card) -> Keyboard:
        if not target.can_edit or found.last is None:
            return ()
        action = self._action_of(found.last, self._outbox.alert(found.last))
        return keyboard(found.id, found.menu, action, is_acked="ack" in found.notes, has_details=found.has_details)

    def lines(self, found: Card) -> list[Line]:
        """What a message says."""
        if found.first is not None and found.last is not None:
            actions = [f"▶ {name}: {said}" for name, said in self._outbox.actions_of(found.id, MOST_ACTIONS)]
            notes = Notes((*actions, *found.notes.values()), found.is_repeat, found.has_details)
            if (found.topic or "").startswith(OUTAGE) and (outage := together(self._outbox.alerts_of(found.id))).attempts > 1:
                return fleet(outage, self._outbox.alert(found.last), notes, self._zone)
            return card(self._outbox.alert(found.first), self._outbox.alert(found.last), notes, self._zone)
        if TEXT in found.notes:
            return notice(found.notes[TEXT], is_repeat=found.is_repeat)
        about = self._outbox.span_of(found.id)
        first_at, last_at = (datetime.fromtimestamp(at, UTC) for at in about) if about else (None, None)
        told = Digest(self._outbox.tallies(found.id), self._outbox.worst(found.id, MOST_LISTED), first_at, last_at, found.old, found.is_repeat)
        return fitting(told, self._zone, self._limits.max_age_s / 3600)


def _buckets(chat: int, rates: Rates) -> list[Bucket]:
    return [Bucket(*rates.chat), *([Bucket(*rates.group)] if chat < 0 else [])]


class _Doubts:
    """Messages of one chat that nobody answers for. `aside` is the one that lets others pass."""

    def __init__(self) -> None:
        self.aside: int | None = None
        self._since: dict[int, float] = {}
        self._failures: Counter[int] = Counter()
        self._overtaken: Counter[int] = Counter()

    def is_hopeless(self, card: int, now: float) -> bool:
        """It has failed once more; whether it is to be given up."""
        since = self._since.setdefault(card, now)
        self._failures[card] += 1
        if self._failures[card] % TRIES_IN_A_ROW:
            return False
        self.aside = card
        return self._overtaken[card] >= MOST_OVERTAKEN and now - since > DOUBTED_S

    def arrived(self, card: int) -> None:
        """It got through: whatever else fails, it is not the network."""
        for kept in (self._since, self._failures, self._overtaken):
            kept.pop(card, None)
        if self.aside not in (None, card):
            self._overtaken[self.aside] += 1
        self.aside = None

    def take_back(self) -> bool:
        """Nothing else is there to be sent: have the one aside tried again. Whether there was one."""
        was, self.aside = self.aside, None
        return was is not None


class _Lane:
    """A target, and when it may be sent something."""

    def __init__(self, target: Target, buckets: list[Bucket]) -> None:
        self.target = target
        self.buckets = buckets
        self.gate = Gate()
        self.new, self.edits = _Doubts(), _Doubts()
        self.idle = False
        self.look_at = 0.0


def enqueue(outbox: Outbox, seq: int, alert: Alert, targets: Iterable[Target], now: float) -> None:
    """Have those targets told of a new alert that want to be, and that did not mute it."""
    own = topic(alert)
    for target in targets:
        if not target.wants(alert):
            continue
        about = outbox.topic_of(target.name, own)
        standing = outbox.standing(target.name, about)
        if standing is Standing.UNKNOWN and alert.status is Status.RECOVERED:
            continue
        # An issue of a run is told once: what matches again only counts on in its message.
        if standing is Standing.MENTIONED and about.startswith("issue:") and alert.status is Status.OPEN:
            continue
        if standing is not Standing.MESSAGE and is_muted(alert, outbox.mutes(target.name, now), now):
            outbox.count("muted")
            continue
        if standing is Standing.UNKNOWN and (shared := cause(alert)):
            about = outbox.join(target.name, seq, Member(own, alert.attempt_id, alert.timestamp.timestamp()), shared, can_edit=target.can_edit)
        outbox.deliver(target.name, seq, about, alert, can_edit=target.can_edit)
