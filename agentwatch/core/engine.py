"""Events in, alerts out. Knows no file, no clock and no thread: times come with the events and with `tick`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from operator import attrgetter

from agentwatch.core.alerts import Reporter
from agentwatch.core.detectors.limit_reached import LimitReached
from agentwatch.core.detectors.stuck_agent import StuckAgent
from agentwatch.core.issues import Issues
from agentwatch.core.limits import Limits
from agentwatch.core.metrics import QUIET, row_of, tags
from agentwatch.core.recordings import Recording, Recordings
from agentwatch.core.snapshot import Scope, Snapshot
from agentwatch.core.state import MOST_OPEN_CALLS, Ended, Lane, Ledger, Session
from agentwatch.core.steps import Price, Reader, Step, Steps
from agentwatch.model import EPOCH, RECORDED, Alert, Context, Detail, Event, Fault, Item

LONGEST_ID, LONGEST_NAME = 1024, 256
"""What is longer is no name: an attempt of such an id is not watched, other names are cut. A hostile log has lines of 8 MiB."""

RECORDED_BYTES = RECORDED.encode()

MOST_AT_ONCE = 500
"""Alerts of one tick: 70 µs each, so that reading waits for no more than 35 ms."""

LOOK_EVERY = timedelta(minutes=5)
"""No live attempt is left alone for longer, whatever silence is allowed it: it may be told meanwhile when its account's limit is reset."""

PURGE_EVERY = 4096
MOST_ENDED = 2048
STARTS = frozenset({"session_start", "user_message", "followup_sent", "turn_start"})
WORK = frozenset({"tool_call", "agent_output", "agent_thinking"})
LATE = timedelta(seconds=60)
"""What brings an ended attempt back: a start at once, work only when it can be no straggler. Nobody would ever end it again."""
BACKWARDS = timedelta(hours=1)
"""A step back of more than this is another clock, not two writers that raced: windows and silence start afresh."""

EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
NO_SKEW = timedelta(0)
NO_SKEWS: Mapping[str, timedelta] = {}


class Judge:
    """Every detector, with one set of thresholds. `own` has the steps that the engine takes itself."""

    def __init__(self, limits: Limits, price: Price, ledger: Ledger, issues: Issues, own: Mapping[str, Step]) -> None:
        reporter = Reporter(limits)
        self.limits = limits
        self.stuck = StuckAgent(limits, reporter)
        self.limit = LimitReached(limits, reporter)
        self.steps = Steps(limits, reporter, price, ledger, issues)
        self.step_of: Callable[[str], Step | None] = {**self.steps.table, **own}.get


class Engine:
    """Runs every detector over the events of all attempts. Within a scope an attempt is one attempt, whichever file its events stand in.

    `rows` are the sessions that ended or fell quiet; whoever has stored them takes them out. `issues` is given the rules.
    """

    def __init__(self, limits: Limits, price: Price, snapshot: Snapshot | None = None, tell: Callable[[Fault], None] = lambda _fault: None) -> None:
        self._tell = tell
        self._limits = limits
        self._price = price
        self._snapshot = snapshot or Snapshot()
        self._scopes = self._snapshot.scopes
        self.rows = self._snapshot.rows
        self.issues = Issues(limits, self._snapshot.issues)
        self._recordings = Recordings(self._snapshot.recorded, self._goes_on)
        self._scope, self._scope_name = Scope(), ""
        self._reader: Reader | None = None
        self._judges: list[Judge] = []
        self._step_of: list[Callable[[str], Step | None]] = []
        self._profiles: dict[tuple[int, ...], int] = {}
        self._profile(Context())
        self.events = 0
        self.newest = EPOCH
        self._newest_end = EPOCH
        self._fresh: dict[Session, Scope] = {}
        self._wheel: dict[int, dict[Session, Scope]] = {}
        for scope in self._scopes.values():
            for session in scope.sessions.values():
                _unshare(session)
                session.bucket = 0
                session.profile = self._profile(session.context)
                self._fresh[session] = scope

    @property
    def attempts_live(self) -> int:
        return sum(len(scope.sessions) for scope in self._scopes.values())

    def sessions(self) -> Iterator[tuple[str, Session]]:
        """Every live attempt with its scope: the objects themselves, to be looked at before anything else is fed."""
        return ((name, session) for name, scope in self._scopes.items() for session in scope.sessions.values())

    def session(self, scope_name: str, attempt_id: str) -> Session | None:
        """A live attempt."""
        scope = self._scopes.get(scope_name)
        return scope.sessions.get(attempt_id) if scope is not None else None

    def waits(self, session: Session) -> tuple[timedelta | None, str]:
        """How long a session may be silent from its last event on (None: for ever), and for what it waits, as `stuck_agent` says it."""
        return self._judges[session.profile].stuck.limit(session)

    def is_told_elsewhere(self, attempt_id: str, at: datetime) -> bool:
        """Whether what a session did at that time is told by an attempt that records it, and not judged beside that."""
        return self._recordings.cover(attempt_id, at)

    def snapshot(self) -> Snapshot:
        """The live state itself: to be encoded before anything else is fed."""
        return self._snapshot

    def learn(self, usual: dict[str, float]) -> None:
        """Where a session of an executor costs more than it should, as `usual_usd` has it."""
        self._snapshot.ledger.usual = usual

    def foresee(self, session_id: str, recording: Recording) -> None:
        """What is to be fed will say that this session is recorded."""
        self._recordings.begin(session_id, recording)

    def feed(self, source: str, scope_name: str, items: Iterable[Item], reader: Reader, out: list[Alert]) -> None:
        """Judge events in the order of their log and add what they give rise to to `out`; `newest` is the time of the last of them.

        What `items` raises passes through; the events before it have been judged, and counted in `events`.
        """
        scope = self._scopes.get(scope_name)
        if scope is None:
            scope = self._scopes[scope_name] = Scope()
        self._scope, self._scope_name, self._reader = scope, scope_name, reader
        find, judges, step_of = scope.sessions.get, self._judges, self._step_of
        for judge in judges:
            judge.steps.reader = reader
        count = 0
        now = self.newest
        try:
            for event, place, line in items:
                count += 1
                try:
                    session = find(event.attempt_id)
                    now = event.timestamp
                    if session is None:
                        session = self._open(scope, source, event, place, reader.context(line), out)
                        if session is None:
                            continue
                    elif now > session.horizon:
                        session = self._horizon(scope, session, event, place, reader.context(line), out)
                        if session is None:
                            continue
                    if now >= session.last:
                        session.last = now
                        session.place = place
                        session.source = source
                    elif session.last - now > BACKWARDS:
                        if not self._is_a_time(now, source, place):
                            continue
                        # The file of a sub-agent may be read hours after that of its parent.
                        if event.lane is None:
                            self._backwards(session, now)
                    data = event.data
                    if data.usage is not None or data.cost_usd is not None:
                        judges[session.profile].steps.spend(session, event, place, line, out)
                    step = step_of[session.profile](event.event_type)
                    if step is not None:
                        step(session, session.main if event.lane is None else _lane(session, event.lane), event, place, line, out)
                except Exception as error:  # noqa: BLE001  # a detector that fails on one event must not stop the others: counted and shown
                    self._tell(Fault(source, place, f"detector_failed:{type(error).__name__}", str(error)[:200]))
                self.newest = now
        finally:
            self.events += count

    def tick(self, now: datetime, out: list[Alert], behind: frozenset[str] = frozenset(), skews: Mapping[str, timedelta] = NO_SKEWS) -> bool:
        """Time has passed without events. Attempts of the sources in `behind` wait: their next line may be written already.

        Returns whether there is more to tell: a thousand agents that fall silent at once are told in several ticks, between which logs are
        read. `skews` says by how much the clock of a source's writer is behind: its silences are judged by its own.
        """
        for session, scope in self._fresh.items():
            self._file(scope, session, min(session.horizon, now + LOOK_EVERY))
        self._fresh.clear()
        due, full = _second(now), len(out) + MOST_AT_ONCE
        for bucket in sorted(bucket for bucket in self._wheel if bucket <= due):
            sessions = self._wheel[bucket]
            while sessions:
                if len(out) >= full:
                    return True
                session, scope = sessions.popitem()
                if session.source in behind:
                    self._file(scope, session, now + timedelta(seconds=1))
                else:
                    self._look(scope, session, now, out, skews.get(session.source, NO_SKEW))
            self._wheel.pop(bucket, None)
        return False

    def shift(self, by: timedelta) -> None:
        """The clock of this machine jumped: the time that it skipped is no silence of anybody."""
        for scope in self._scopes.values():
            for session in scope.sessions.values():
                excused = session.excused if session.excused_at == session.last else timedelta(0)
                session.excused, session.excused_at = excused + by, session.last

    def finish(self, until: datetime | None, out: list[Alert]) -> None:
        """All there is has been read: judge every silence up to `until`, else up to the newest event of all."""
        everyone = [(scope, session) for scope in self._scopes.values() for session in scope.sessions.values()]
        if until is None:
            until = max((self._newest_end, *(session.last for _, session in everyone)))
        for scope, session in everyone:
            self._look(scope, session, until, out)

    def _look(self, scope: Scope, session: Session, now: datetime, out: list[Alert], skew: timedelta = NO_SKEW) -> None:
        self._unfile(session)
        now -= skew
        if now - session.last >= QUIET:
            self._note(session)
        judge = self._judges[session.profile]
        looks = [now + min(judge.limits.soonest, LOOK_EVERY)]  # whatever it waits for now, what it waits for next may deserve less patience
        try:
            looks += _silences(judge, session, now, out)
        except Exception as error:  # noqa: BLE001  # as in `feed`: counted and shown, and the others are judged
            self._tell(Fault(session.source, session.place, f"detector_failed:{type(error).__name__}", str(error)[:200]))
        if self._is_forgotten(session, now):
            del scope.sessions[session.attempt_id]
        else:
            self._file(scope, session, min(looks) + skew)

    def _file(self, scope: Scope, session: Session, when: datetime) -> None:
        """Note when to look at the session again. Each stands in one bucket, or among the fresh ones that no tick has seen."""
        session.bucket = _second(when) + 1
        self._wheel.setdefault(session.bucket, {})[session] = scope

    def _unfile(self, session: Session) -> None:
        if not session.bucket:
            self._fresh.pop(session, None)
            return
        entries = self._wheel.get(session.bucket)
        if entries is not None:
            entries.pop(session, None)
            if not entries:
                del self._wheel[session.bucket]

    def _open(self, scope: Scope, source: str, event: Event, place: int, context: Context, out: list[Alert]) -> Session | None:
        """A new session for the event's attempt. None where the attempt has ended and the event is only an echo of that, or where it has no time."""
        attempt_id, at = event.attempt_id, event.timestamp
        if not self._is_a_time(at, source, place):
            return None
        if len(attempt_id) > LONGEST_ID:
            self._tell(Fault(source, place, "long_id", f"an attempt's id of {len(attempt_id)} characters"))
            return None
        ended = scope.ended.get(attempt_id) or scope.ended_before.get(attempt_id)
        if ended is not None and event.event_type not in STARTS and (event.event_type not in WORK or at - ended.at <= LATE):
            return None
        if self._recordings.cover(attempt_id, at):
            return None
        context = _bounded(context)
        profile = self._profile(context)
        horizon = self._recordings.horizon(attempt_id, at, at + self._judges[profile].limits.soonest)
        name = self._reader.name if self._reader is not None else ""
        session = Session(attempt_id, source, context, at, place, horizon, at, Lane(), scope=self._scope_name, profile=profile, format=name)
        if ended is not None:
            session.restarts, session.episodes = ended.restarts, ended.episodes
            scope.ended.pop(attempt_id, None)
            scope.ended_before.pop(attempt_id, None)
        scope.sessions[attempt_id] = session
        self._fresh[session] = scope
        self.issues.met(self._scope_name, at)
        if len(scope.sessions) % PURGE_EVERY == 0:
            self._purge(scope, at, out)
        return session

    def _profile(self, context: Context) -> int:
        """Which judge an attempt is given: that of the settings, or one with what was set for its executor or project."""
        matching = self._limits.matching(context) if self._limits.overrides else ()
        profile = self._profiles.get(matching)
        if profile is None:
            profile = self._profiles[matching] = len(self._judges)
            judge = Judge(
                self._limits.for_attempt(matching),
                self._price,
                self._snapshot.ledger,
                self.issues,
                {"session_end": self._ended, "status_change": self._changed},
            )
            if self._reader is not None:
                judge.steps.reader = self._reader
            self._judges.append(judge)
            self._step_of.append(judge.step_of)
        return profile

    def _is_forgotten(self, session: Session, now: datetime) -> bool:
        """Nobody waits for it any more: neither for its next event nor for the end of its account's limit."""
        until = session.limited.until if session.limited is not None else None
        silent = now - session.last - (session.excused if session.excused_at == session.last else NO_SKEW)
        return silent > self._judges[session.profile].limits.remembered and (until is None or now > until)

    def _purge(self, scope: Scope, now: datetime, out: list[Alert]) -> None:
        """In a backlog no clock ticks: forget by the log's own time what nothing will come of any more."""
        for session in [one for one in scope.sessions.values() if now - one.last > 2 * self._limits.forget_after]:
            self._look(scope, session, now, out)

    def _ended(self, session: Session, lane: Lane, event: Event, place: int, line: bytes, out: list[Alert]) -> None:
        try:
            self._judges[session.profile].steps.table["session_end"](session, lane, event, place, line, out)
        finally:
            self._end(self._scope, session)
            self.rows.append(row_of(session, self._judges[session.profile].steps.detail(event, line)))

    def _changed(self, session: Session, _lane: Lane, event: Event, _place: int, line: bytes, _out: list[Alert]) -> None:
        """The attempt may say that its events tell an agent's session: from now on that one is not judged, whatever was seen of it so far."""
        reader, detail = self._judges[session.profile].steps.reader, event.data
        if not isinstance(detail, Detail):
            if RECORDED_BYTES not in line:  # most say something else, and need no decoding
                return
            detail = reader.detail(line)
        if detail.new_status != RECORDED:
            return
        context = _bounded(reader.context(line))
        if context.session_id is None or context.session_id == session.attempt_id:
            return
        for name in Context.__struct_fields__:
            setattr(session.context, name, getattr(context, name) or getattr(session.context, name))
        self._recordings.begin(context.session_id, Recording(session.scope, session.attempt_id, session.started))
        for scope in self._scopes.values():
            if (other := scope.sessions.get(context.session_id)) is not None:
                self._drop(scope, other)

    def _goes_on(self, recording: Recording) -> bool:
        scope = self._scopes.get(recording.scope)
        return scope is not None and recording.attempt_id in scope.sessions

    def _drop(self, scope: Scope, session: Session) -> None:
        self._unfile(session)
        del scope.sessions[session.attempt_id]

    def _end(self, scope: Scope, session: Session) -> None:
        """Forget an attempt that ended, but for what its next start must know."""
        self._newest_end = max(self._newest_end, session.last)
        self._recordings.end(session.context.session_id, session.scope, session.attempt_id, session.last)
        self._unfile(session)
        del scope.sessions[session.attempt_id]
        if len(scope.ended) >= MOST_ENDED:  # two generations: taking single entries off a dict's front scans all that went before
            scope.ended, scope.ended_before = {}, scope.ended
        kept = {name: one for name, one in session.episodes.items() if name.startswith("excessive_restarts")} if session.episodes else None
        scope.ended[session.attempt_id] = Ended(session.last, session.restarts, kept or None)

    def _note(self, session: Session) -> None:
        """It fell quiet: nobody knows whether it will go on."""
        if session.noted_at != session.last:
            session.noted_at = session.last
            self.rows.append(row_of(session))

    def _horizon(self, scope: Scope, session: Session, event: Event, place: int, context: Context, out: list[Alert]) -> Session | None:
        """The attempt may have been silent for too long. None where the event has no time."""
        now = event.timestamp
        if not self._is_a_time(now, session.source, place):
            return None
        if self._recordings.cover(session.attempt_id, now):
            self._drop(scope, session)
            return None
        judge = self._judges[session.profile]
        _silences(judge, session, now, out)
        if self._is_forgotten(session, now):  # as a tick would have: nobody waits for a recovery any more
            self._note(session)
            self._drop(scope, session)
            return self._open(scope, session.source, event, place, context, out)
        if now > session.last:  # the file of a sub-agent may be read later than that of its parent
            judge.stuck.resumed(session, event, place, out)
        judge.limit.resumed(session, event, place, out)
        later = EPOCH if session.limited is not None else now + judge.limits.soonest  # what comes next may say that the limit is over
        session.horizon = self._recordings.horizon(session.attempt_id, now, later)
        return session

    def _backwards(self, session: Session, now: datetime) -> None:
        """Its clock was set back: begin afresh, and do not judge its silences any more."""
        if now < EARLIEST:
            return
        session.last = now
        session.horizon = now + self._judges[session.profile].limits.soonest
        session.is_erratic = True
        for lane in (session.main, *(session.lanes or {}).values()):
            lane.tools = lane.errors = None

    def _is_a_time(self, at: datetime, source: str, place: int) -> bool:
        """.NET writes year 1 for no time at all; what lies beyond any calendar cannot be reckoned with."""
        if EARLIEST <= at <= LATEST:
            return True
        self._tell(Fault(source, place, "no_time", f"an event of the year {at.year}"))
        return False


def _silences(judge: Judge, session: Session, now: datetime, out: list[Alert]) -> list[datetime]:
    """Tell what the time up to `now` has brought, in its order, however many looks it took; when to look again."""
    found: list[Alert] = []
    try:
        return [at for look in (judge.limit.look, judge.stuck.look) if (at := look(session, now, found)) is not None]
    finally:
        out += sorted(found, key=attrgetter("timestamp"))


def _bounded(context: Context) -> Context:
    for name in Context.__struct_fields__:
        value = getattr(context, name)
        if value is not None and len(value) > LONGEST_ID:
            setattr(context, name, value[:LONGEST_ID])
    if context.tags:
        context.tags = tuple(tags(context.tags))
    return context


def _second(at: datetime) -> int:
    since = at - EPOCH
    return since.days * 86_400 + since.seconds


def _lane(session: Session, name: str) -> Lane:
    if len(name) > LONGEST_NAME:
        name = name[:LONGEST_NAME]
    if session.lanes is None:
        session.lanes = {}
    lane = session.lanes.get(name)
    if lane is None:
        if len(session.lanes) >= MOST_OPEN_CALLS:
            del session.lanes[next(iter(session.lanes))]
        lane = session.lanes[name] = Lane()
    return lane


def _unshare(session: Session) -> None:
    """What was decoded from a snapshot must not keep the whole snapshot alive."""
    for lane in (session.main, *(session.lanes or {}).values()):
        for call in (*(lane.open_calls or {}).values(), lane.call):
            if call is not None and call.data.tool_params:
                call.data.tool_params = call.data.tool_params.copy()
