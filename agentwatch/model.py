"""The values that travel through agentwatch: lines become events, events become alerts. Imports nothing of agentwatch.

Everything that is kept over a restart is a `msgspec.Struct`, so that a snapshot is one call of the encoder and nothing has
to be written by hand for a new field.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, Protocol

import msgspec

Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""An aware datetime. Kept as such all the way: subtracting two costs less than one `.timestamp()` (170 ns)."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NOTHING = msgspec.Raw(b"")
"""A JSON value that was not there: falsy, as every absent field of `Data` is."""


NO_MEMORY = msgspec.Raw(b"null")
"""What a decoder remembers that remembers nothing. One object, which the encoder knows as a default and leaves out."""


def decoded(raw: msgspec.Raw) -> object:
    """The JSON value that was left undecoded; None where there was none, or where it is no text after all."""
    try:
        return msgspec.json.decode(raw) if raw else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


Kind = Literal[
    "session_start",
    "session_end",
    "user_message",
    "turn_start",
    "turn_end",
    "agent_output",
    "agent_thinking",
    "tool_call",
    "tool_result",
    "error",
    "followup_sent",
    "status_change",
    "compaction",
    "usage",
    "progress",
]
"""The event types of contract section 2, and `progress`: a sign of life. As a Literal, so that the decoder hands out the same
string objects, whose hashes are known, instead of making one a line."""


RECORDED = "recorded"
"""The `new_status` by which an attempt says that its events tell all of the agent's session that `session_id` names."""


PROGRAM = "log"
"""The `stop_reason` of what a program's log says: no agent speaks, and nobody waits for what comes next."""


class Severity(StrEnum):
    """How urgent an alert is, in the order of their definition."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Status(StrEnum):
    """Where an episode stands. Its first line is `open`; `recovered` is the last."""

    OPEN = "open"
    ESCALATED = "escalated"
    RECOVERED = "recovered"


MOST_TOKENS = 2**53
"""Where sums stop growing: nobody spends so much, and the checkpoint could not hold more than 64 bits."""

MOST_USD, MOST_MS = 1e12, 1e14
"""What is counted of a nonsensical cost or duration: a checkpoint has no larger integers."""


class Usage(msgspec.Struct, gc=False, frozen=True):
    """Tokens of one step, by kind. `input` excludes what came from or went into the cache.

    `reasoning` is a part of `output`, and `cache_write_1h`, what is cached for an hour and not for minutes, of `cache_write`.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    cache_write_1h: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_write


class Data(msgspec.Struct, gc=False, omit_defaults=True):
    """What every event is judged by. An absent field has its default, whatever the event's type.

    Each field costs 1 % of a backlog's time whether a line has it or not, so what only few types of event are asked for
    stands in `Detail`. `tool_params` and `result` stay undecoded JSON (`msgspec.Raw`): most are never looked at, and two
    that are equal byte for byte need no decoding to be called so. `is_error` is None where the log does not say.
    `model` is whose `usage` it is, where the format knows that better than the context of the line does.
    """

    tool_name: str | None = None
    tool_call_id: str | None = None
    tool_params: msgspec.Raw = NOTHING
    result: msgspec.Raw = NOTHING
    is_error: bool | None = None
    exit_code: int | None = None
    error_message: str | None = None
    error_fingerprint: str | None = None
    stop_reason: str | None = None
    msg_id: str | None = None
    model: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = None


class Detail(Data, gc=False, omit_defaults=True):
    """All that an event says, as far as anything here asks."""

    result_data: msgspec.Raw = NOTHING
    error_category: str | None = None
    retry: bool | None = None
    output: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    prompt_type: str | None = None
    followup_reason: str | None = None
    completion_status: str | None = None
    outcome: "Outcome | None" = None
    duration_ms: float | None = None
    total_tokens: float | None = None
    reason: str | None = None
    interrupted: bool | None = None
    new_status: str | None = None
    context_used: int | None = None
    context_window: int | None = None
    stream_type: str | None = None


class Outcome(msgspec.Struct, gc=False):
    """The ancestor's second way to say how a session ended."""

    status: str | None = None


class Event(msgspec.Struct, gc=False, omit_defaults=True):
    """One thing an agent did. `lane` is a sub-agent's id inside the attempt, None for the agent itself.

    `timestamp` is what the log says; where a format has none it is inferred from its neighbours and `inferred` is set.
    """

    timestamp: Time
    attempt_id: str
    event_type: Kind
    data: Data
    lane: str | None = None
    inferred: bool = False


class Context(msgspec.Struct, gc=False):
    """Whom an attempt's events speak of. Read once an attempt, not once a line. `parent_id` is the attempt that started a sub-agent's."""

    session_id: str | None = None
    task_id: str | None = None
    task_title: str | None = None
    project_id: str | None = None
    executor: str | None = None
    model: str | None = None
    branch: str | None = None
    run_id: str | None = None
    parent_id: str | None = None
    executor_variant: str | None = None
    tags: tuple[str, ...] | str | None = None


class Evidence(msgspec.Struct, gc=False):
    """A line that an alert rests on. `offset` is its first byte in `source` (a path relative to the log directory or the home).

    Where `source` is no log of lines it is the index of an element (a document), the number of a file (a folder) or the id of a row (a database).
    """

    source: str
    offset: int
    timestamp: Time
    text: str


class Alert(msgspec.Struct, gc=False, omit_defaults=True):
    """A judgement about events, as one line of `agent-alerts.jsonl` has it.

    `timestamp` is the moment the evidence was complete, never the moment of writing. `detail` holds what is known of the attempt
    and the fields that only this type has (contract, section 3); they stand at the top level of the line. Every text is safe.
    """

    timestamp: Time
    alert_id: str
    type: str
    severity: Severity
    attempt_id: str
    recommendation: str
    summary: str
    evidence: tuple[Evidence, ...]
    episode_id: str
    status: Status
    detail: dict[str, object]


class Sample(msgspec.Struct, gc=False, frozen=True):
    """A line in which an issue was seen, as it may be shown: cleaned, redacted, at most 500 characters. `offset` and `source` are as an alert's evidence has them."""

    source: str
    offset: int
    timestamp: Time
    text: str


Standing = Literal["open", "notified", "acknowledged", "resolved"]
"""Where an issue stands: counted, told, seen by a person, mended. One that comes again after it was mended is open once more."""


class Issue(msgspec.Struct, gc=False, kw_only=True):
    """Matches of one rule that say the same, counted in one run; `run_id` is None for the log directory itself. Every text is safe.

    `message` is what they have in common, with `<num>`, `<path>` and the like for what differs; `fingerprint` is made of it (64 hex digits).
    Of the `earlier_runs` that are known, `seen_in_runs` had it too. `rank` orders the issues of a run, the greatest first, and `why` says what
    it rests on.
    """

    run_id: str | None
    fingerprint: str
    rule_id: str
    title: str
    severity: Severity
    category: str
    message: str
    occurrences: int
    first_seen: Time
    last_seen: Time
    sources: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    recommendation: str = ""
    status: Standing = "open"
    seen_in_runs: int = 0
    earlier_runs: int = 0
    rank: float = 0.0
    why: str = ""


class Fault(msgspec.Struct, gc=False, frozen=True):
    """Something that went wrong and does not stop us: counted by (path, kind), shown with the offset of the first."""

    path: str
    offset: int
    kind: str
    detail: str = ""


Line = tuple[int, bytes]
"""Offset of a line's first byte in its file, and its bytes up to and including the newline."""

Item = tuple[Event, int, bytes]
"""An event, the offset of the line it came from, and that line."""


class Cursor(msgspec.Struct, gc=False, omit_defaults=True):
    """How far one stream of bytes has been read, and how it is recognised again. Saved with what was made of the lines.

    `head` is the digest of the first complete line, `second` that of the second, `marker` that of the last 256 bytes before
    `offset`. `skipping`: the bytes at `offset` belong to a line that was too long. `memory` is what the decoder of its format
    remembers of earlier lines. Device, inode, size and time of the file that carried it last are hints: where all are unchanged
    the file need not be opened to be known. `seen_s` is when a file carried it last, in seconds since the epoch; 0 while one does. `skew_s`
    is by how many seconds its writer's clock is behind that of the file system, where that is more than a minute.
    """

    source: str
    path: str
    head: str
    offset: int
    marker: str = ""
    second: str = ""
    skipping: bool = False
    format: str | None = None
    memory: msgspec.Raw = NO_MEMORY
    device: int = 0
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    seen_s: int = 0
    skew_s: int = 0


class AlertPosition(msgspec.Struct, frozen=True):
    """Where `agent-alerts.jsonl` stood at a checkpoint: its length, its inode, and the ids in it that were not made again yet.

    `marker` is the digest of its last 256 bytes: an inode and a length alone do not tell that it was emptied and filled again.
    """

    size: int = 0
    inode: int = 0
    pending: list[str] = []
    marker: str = ""


class FilePosition(msgspec.Struct, frozen=True):
    """Where a file that others write too stood at a checkpoint: its length, its inode, and the digest of its last 256 bytes."""

    size: int = 0
    inode: int = 0
    marker: str = ""


class Format(Protocol):
    """What a row of the registry gives: how lines of one kind of file become events.

    A decoder is made per file. It may remember earlier lines; what it remembers must survive a restart, so it stands in
    `memory`, a `msgspec.Struct` or None, which is saved with the file's cursor.
    """

    @property
    def name(self) -> str:
        """Its name in the registry."""

    @property
    def memory(self) -> object:
        """What it remembers; encoded as JSON into the cursor."""

    def read(self, lines: list[bytes], offset: int, feed: Callable[[Iterable[Item]], None], fault: Callable[[int, str, str], None]) -> None:
        """Decode `lines`, the first of which stands at `offset`, and hand their events to `feed` in order.

        `feed` may be called more than once. A line that is none of this format's is told to `fault(offset, kind, detail)`; nothing is raised for it.
        """

    def context(self, line: bytes) -> Context:
        """Who the event on `line` speaks of. All fields None where the line does not say."""

    def detail(self, line: bytes) -> Detail:
        """All that the event on `line` says, asked where its data is no `Detail` yet and somebody wants to know more."""

    def usage(self, line: bytes) -> Usage | None:
        """The tokens of a `usage` event that tells them in other words than `data.usage`. None where it does not."""
