"""What is remembered of a live attempt. Only plain structs, so that a snapshot is one call of the encoder.

Everything is bounded: a window keeps as many entries as its threshold asks for, a lane keeps `MOST_KEYS` windows of a kind
and `MOST_OPEN_CALLS` calls, and the engine forgets attempts that ended or fell silent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from zlib import crc32

import msgspec

from agentwatch.model import Context, Event, Issue, Time

MOST_KEYS = 64
MOST_OPEN_CALLS = 64
EMPTY_BYTES = 4
"""Parameters of no more bytes say nothing: `{}`, `""`, `null`."""

Owes = Literal["model", "text", "user", "leave"]
"""Who owes the next event when no tool call is open. `text`: the agent has said something, which is its answer if nothing follows. `leave`: the user does, and the
calls that are open wait for that."""

MOST_PARAMS_BYTES = 4096
"""Of longer parameters of a call only a checksum is kept."""

LONGEST_CALL_ID = 4096
"""Of a longer id a digest is kept."""

MOST_LINE_BYTES = 4096
"""A call on a longer line is copied out of it: what is kept of an event keeps its line's bytes alive."""


class Window(msgspec.Struct, gc=False):
    """The last occurrences of one thing, as many as its threshold: full and narrow means that the threshold is crossed.

    `times` and `places` run in parallel, in the order of the log. Keeping no more than the threshold makes the question
    "N within W?" one comparison, with nothing to evict and nothing to count again.
    """

    times: list[Time] = []
    places: list[int] = []

    def push(self, at: datetime, place: int, size: int) -> bool:
        """Add an occurrence; True if there are now `size` of them."""
        self.times.append(at)
        self.places.append(place)
        if len(self.times) > size:
            del self.times[:-size], self.places[:-size]
        return len(self.times) == size

    def within(self, width: timedelta) -> bool:
        """Whether all entries lie within `width`. A log's times may run backwards, so that the ends alone do not decide."""
        across = self.times[-1] - self.times[0]
        if not -width <= across <= width:
            return False
        return max(self.times) - min(self.times) <= width


class Same(msgspec.Struct, gc=False):
    """A call with the same `result` (a checksum) in `count` turns, the last `row` of them with nothing else between."""

    result: int
    count: int
    row: int
    turn: str | int
    first_at: Time
    first_place: int


class Cycle(msgspec.Struct, gc=False):
    """A circle of `period` different steps that has been gone through for so many `steps`."""

    key: int
    period: int
    steps: int
    first_at: Time
    first_place: int
    polls: bool


class Loops(msgspec.Struct, gc=False):
    """What a lane that does something again is watched by: exists only while it does.

    `steps` are counted, `fresh` those in a row that were new; `last` and `turn` are the latest step's. `trail` has the latest steps
    with their results. `told` says which loops were told and at which step they went on last, `tools` of which tool they are.
    """

    steps: int = 0
    fresh: int = 0
    last: int = 0
    turn: str | int = 0
    trail: list[int] = []
    same: dict[int, Same] = {}
    near: dict[int, Same] = {}
    cycle: Cycle | None = None
    told: dict[str, int] = {}
    tools: dict[str, str] = {}


class Failure(msgspec.Struct, gc=False):
    """One error of one operation, in `count` turns without a success of the operation between."""

    operation: str
    count: int
    turn: str | int
    first_at: Time
    first_place: int
    transient: bool = False


class Failures(msgspec.Struct, gc=False):
    """What goes wrong in a lane: by error; the last failing `call` with its `error` (checksums) and how often in a `row`; failed `edits`
    in a row; the `storm` of equal errors that are no tool's.
    """

    by_error: dict[str, Failure] = {}
    call: int = 0
    error: int = 0
    row: int = 0
    turn: str | int = 0
    edits: int = 0
    edits_turn: str | int = 0
    edits_at: Time | None = None
    edits_place: int = 0
    storm: Failure | None = None


class Talk(msgspec.Struct, gc=False):
    """Messages without a call or a word of the user between: how many, how many of the latest say the same, and where they began."""

    count: int
    same: int
    text: int
    message: str
    first_at: Time
    first_place: int


class Episode(msgspec.Struct, gc=False):
    """One incident. `count` occurrences since it began at `opened_at`, when the session had cost `usd`. The next line is due at `next_count`
    occurrences, at `next_at` or at `next_usd`, whichever comes first.
    """

    episode_id: str
    opened_at: Time
    last_at: Time
    count: int
    next_count: int
    next_at: Time
    usd: float = 0.0
    next_usd: float = 0.0
    level: int = 0
    recovered: bool = False


class Limited(msgspec.Struct, gc=False):
    """An account's limit that an attempt runs into: errors in a row, in all and by lane, whether it was told, and when it ends, where the log says so."""

    kind: str
    count: int
    first_at: Time
    first_place: int
    told: bool = False
    until: Time | None = None
    by_lane: dict[str, int] = {}


class ErrorKind(msgspec.Struct, gc=False):
    """Errors of one fingerprint in a session: how many, and what is needed to tell whether they pass by themselves.

    `is_named` says that the fingerprint is the log's own.
    """

    count: int
    category: str | None
    sample: str
    is_named: bool = False
    first_at: Time | None = None
    last_at: Time | None = None


@dataclass(slots=True, eq=False)
class Spent:
    """What steps spent on one day (its ordinal, UTC): tokens by kind, as `model.Usage` has them, and USD."""

    day: int
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    usd: float = 0.0


@dataclass(slots=True, eq=False)
class Looped:
    """What was spent inside loops: between the first and the last repetition. `…_to` is how far of the session's sums that is counted."""

    to: Time
    tokens_to: int
    usd_to: float
    tokens: int = 0
    usd: float = 0.0
    time: timedelta = timedelta(0)


@dataclass(slots=True, eq=False)
class Lane:
    """One line of thought of an attempt: the agent itself or one of its sub-agents. Loops are judged within it.

    `call` is the newest tool call, whose line stands at `call_place` and whose checksum is `call_key`; `is_open` says that it has brought no result yet. Calls made in
    parallel before it that are open too stand in `open_calls`, by their id. `turn` counts the model's answers where its messages have no
    ids. `step_at`, `step_place`, `step_turn` and `step_shape` are of the call whose result came last; `said` is the id of the
    one message since the last call, empty where it has none; `recent` is a ring of the latest steps' checksums (`detectors/call_loop.py`); `full_steps` counts those in a row with a full context; the rest exists only once something has happened.

    A dataclass, as `Session` is: setting a field costs 8 ns, and 29 of a `msgspec.Struct`; several are set for each line.
    """

    owes: Owes = "model"
    call: Event | None = None
    call_place: int = 0
    call_key: int = 0
    step_at: Time | None = None
    step_place: int = 0
    step_turn: str | int = 0
    step_shape: int = 0
    is_open: bool = False
    was_answered: bool = False
    turn: int = 0
    recent: bytes = b""
    open_calls: dict[str, Event] | None = None
    loops: Loops | None = None
    failures: Failures | None = None
    said: str | None = None
    talk: Talk | None = None
    tools: dict[str, Window] | None = None
    errors: dict[str, Window] | None = None
    full_steps: int = 0
    last_failure: str | None = None
    last_failure_at: Time | None = None


def open_calls(lane: Lane) -> Iterator[Event]:
    """The calls of a lane that wait for their results, oldest first."""
    yield from (lane.open_calls or {}).values()
    if lane.is_open and lane.call is not None:
        yield lane.call


def checksum(params: msgspec.Raw) -> msgspec.Raw:
    """What is remembered of long parameters: a JSON text of their length and CRC."""
    return msgspec.Raw(b'"%d:%08x"' % (len(params), crc32(params)))


@dataclass(slots=True, eq=False)
class Session:
    """A live attempt. `last` and `place` are of its newest event, `source` names the file that it stood in.

    `profile` says which of the sets of thresholds hold for it. `limited` exists from the first error that speaks of a limit until it works again.

    `horizon` is a time up to which the attempt cannot have been silent for too long: as long as events are stamped before it,
    silence needs no look. `rich` says that its log carries parameters, turn marks or messages, and not names alone; `shows_params`,
    that it is parameters. `has_steps` says that its log tells what each step costs; `spending` has the USD of its latest minutes, by
    minutes since the epoch. `ruled` are the rules that the latest record of a program, or failed result of a tool, is a case of, at `ruled_at`.

    For the metrics alone: `format` names the format of its log, `prompt` is the checksum of its first prompt, `followups` are messages to it
    after the first, `retries` its starts that were no first ones; `spent` is by day, `meter` the sums at the beginning of its latest minutes
    in which it spent; `noted_at` is the newest event at the time of the last row that was made of it.
    """

    attempt_id: str
    source: str
    context: Context
    last: Time
    place: int
    horizon: Time
    started: Time
    main: Lane
    lanes: dict[str, Lane] | None = None
    rich: bool = False
    is_erratic: bool = False
    shows_params: bool = False
    errors: int = 0
    kinds_of_error: dict[str, ErrorKind] | None = None
    cost_usd: float = 0.0
    has_steps: bool = False
    spending: dict[int, float] | None = None
    unpriced: bool = False
    tokens: int = 0
    restarts: Window | None = None
    episodes: dict[str, Episode] | None = None
    excused: timedelta = timedelta(0)
    excused_at: Time | None = None
    bucket: int = 0
    scope: str = ""
    told_silence_at: Time | None = None
    limited: Limited | None = None
    ruled: list[str] | None = None
    ruled_at: Time | None = None
    lanes_usd: dict[str, float] | None = None
    profile: int = 0

    format: str = ""
    tool_calls: int = 0
    prompt: int = 0
    was_asked: bool = False
    followups: int = 0
    retries: int = 0
    spent: list[Spent] | None = None
    meter: list[tuple[int, int, float]] | None = None
    looped: Looped | None = None
    stuck_ms: int = 0
    noted_at: Time | None = None


class Ledger(msgspec.Struct):
    """What was spent on a day by all attempts, and what of that was told. `usd` by day (`2026-02-09`) and by day and project
    (`2026-02-09/path`); `told` has how many steps of each budget were. `usual` is where a session of an executor costs more than it should,
    learnt from its history: kept here, so that what is read again after a crash is judged by the same.
    """

    usd: dict[str, float] = {}
    told: dict[str, int] = {}
    usual: dict[str, float] = {}


class Ended(msgspec.Struct, gc=False, omit_defaults=True):
    """What outlives an attempt's end: how often it was started again, and what was told of that."""

    at: Time
    restarts: Window | None = None
    episodes: dict[str, Episode] | None = None


class Tally(msgspec.Struct, gc=False):
    """An issue while it is counted. `recent` holds as many occurrences as its threshold; `bout` is how often it was armed again."""

    issue: Issue
    recent: Window
    told: bool = False
    bout: int = 0


class RunIssues(msgspec.Struct, gc=False):
    """The issues of one run by fingerprint, how many each rule has, when the run's first event was, and when something was counted last."""

    began: Time
    last: Time
    tallies: dict[str, Tally] = {}
    by_rule: dict[str, int] = {}
