"""Any program's log: what its lines say, whoever wrote them. Winston, Fluent Bit and plain text differ in what a line is wrapped in.

A record is a line that begins something, with the lines that belong to it (the rest of a message, a stack trace): it becomes one
event, at the line that says what happened. Nothing waits for what may follow, or a program's last words would never be heard. Of a record that
tells a failure, what follows is told as `progress`, line by line, for those who want to know what the failure rests on.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import NamedTuple

import msgspec

from agentwatch.formats.canonical import Decoder as Canonical
from agentwatch.formats.lenient import BLANK, REFUSED, salvaged
from agentwatch.formats.shared import Faults, Feed
from agentwatch.model import EPOCH, NOTHING, PROGRAM, Context, Data, Detail, Event, Item, Kind, Time, Usage, decoded

LONGEST = 4096
"""Characters of a record that are kept; the line itself is still there."""

MOST_TRACE_LINES = 1000
"""Lines that follow a failure and are told as a part of it. A stack overflow has 1,024 in Java; what goes on for longer is some other output."""

ERRORS = frozenset({"alert", "crit", "critical", "emerg", "emergency", "err", "error", "fatal", "panic", "severe"})
"""Levels, by the names of syslog, npm, log4j and the JDK, that tell a failure."""

_WORST_SYSLOG, _LEAST_SYSLOG, _ERROR_OF_PINO = 3, 7, 50
"""Numbers for levels: syslog's go down from 7 (debug), pino's and bunyan's up from 10 (trace)."""

_MOST_SECONDS = 1e11
"""A greater number is milliseconds: as seconds it would be the year 5138."""

_STAMP = re.compile(
    r"""(?:[\[(<]|time=|ts=|")*
    (?:(?P<date>\d{4}[-/]\d\d[-/]\d\d)[T\ ](?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<fraction>\d{1,9}))?\ ?(?P<zone>Z\b|UTC\b|[+-]\d\d:?\d\d\b)?
    |(?P<epoch>1\d{9}(?:\d{3})?(?:\.\d{1,9})?)(?=[\s\]]))
    [\])>"]*[\s:|,-]*""",
    re.VERBOSE,
)
_LEVEL = re.compile(
    r"""(?:\S{1,80}\s+){0,4}?
    (?:[\[(<|]*(?P<upper>TRACE|DEBUG|INFO|INFORMATION|NOTICE|WARN|WARNING|ERR|ERROR|SEVERE|CRIT|CRITICAL|ALERT|EMERG|FATAL|PANIC)
    |[\[(<](?P<lower>trace|debug|info|notice|warn|warning|err|error|severe|crit|critical|alert|emerg|fatal|panic)(?=[\])>])
    |(?:level|lvl|severity)="?(?P<named>[A-Za-z]{3,11}))
    (?![\w-])[\])>|":]*[\s:|-]*""",
    re.VERBOSE,
)
_FAILS = re.compile(
    r"""(?:Uncaught\ |Unhandled\ |Exception\ in\ thread\ "[^"]{0,200}"\ )?
    (?:(?:[A-Za-z_$][\w$]{0,80}\.){0,12}[A-Z]\w{0,80}(?:Error|Exception)|Error)(?:\ \[[A-Z_0-9]{1,60}\])?(?::\ |:?\s*\Z)
    |(?:error|fatal|fatal\ error|panic)(?:\[\w{1,20}\])?:\ (?!(?:0|no|none|null|nil|false|\[\])\W*\Z)|thread\ '[^']{0,80}'\ (?:\(\d+\)\ )?panicked\ at\ |(?:Unhandled|Uncaught)\ \w{1,40}""",
    re.VERBOSE,
)
_BELONGS = re.compile(r"[ \t]|Caused by: |Suppressed: |\.\.\. \d+ more|goroutine \d+ \[|[)}\]]+[;,]?\s*\Z|stack backtrace:|note: ")
_EXCEPTION = re.compile(r"(?P<package>(?:[A-Za-z_$][\w$]{0,80}\.){1,12})?[A-Z]\w{0,80}(?:Error|Exception)\b|Error\b")
_DIES = re.compile(r"Exception in thread |Exception ignored in|Process \S{1,80}:\s*\Z|(?:file://|node:)?[^\s:]{1,300}:\d+\s*\Z|\[eval\]:\d+\s*\Z")
"""What a thread or a process says before the exception that ends it: Python's, Java's, and Node's place in the source."""
_CAUGHT_FRAME = re.compile(r'\s+File "[^"]{1,1000}", line \d+, in (?!<module>|_run_module_as_main\b)')
"""The outermost frame of a traceback that somebody logs is the one that caught it. One that nobody caught begins where the program does."""
_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_PLAIN = frozenset({"info", "information", "notice"})
_SAID_ELSEWHERE = frozenset({"level", "severity", "timestamp", "time", "ts", "date", "@timestamp"})
_ANSI = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]")


class Memory(msgspec.Struct):
    """What later lines need of earlier ones.

    `is_stamped`: records begin with a time, so that a line without one goes on with the record before it. `awaits_trace`: an error was
    told whose stack trace may follow. `in_trace`: a Python traceback was begun; the exception stands on its last line. `at_first_frame`: that was the
    line before. `trace_lines`: so many more lines may belong to the latest record, which told a failure. `calm`: the level of the latest record,
    where it tells no failure; an exception below it may have been caught and logged.
    """

    time: Time | None = None
    is_stamped: bool = False
    awaits_trace: bool = False
    in_trace: bool = False
    at_first_frame: bool = False
    trace_lines: int = 0
    calm: str = ""


class Record(NamedTuple):
    """A line that begins something: when (None: it does not say), whether it tells a failure, what it says, and what else of a failure stands on it."""

    at: datetime | None
    is_error: bool
    text: str
    rest: str = ""


_CANONICAL = Canonical()


class Log:
    """Decodes a program's log. What a line holds is told by `unwrap`: a time from round it, and the JSON object or the text in it.

    `source` is the log's logical name. Its stem within its run is the attempt that all its events belong to (contract, section 1).
    """

    name = ""

    def __init__(self, source: str, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory
        self._run, self._attempt = _of(source)

    def unwrap(self, line: bytes) -> tuple[datetime | None, bytes]:
        """Give the time that stands round a record, if any, and the record."""
        return None, line

    def read(self, lines: list[bytes], offset: int, feed: Feed, fault: Faults) -> None:
        """Hand the events of `lines` to `feed`, which must take all of them; see `model.Format`. The only fault is `no_time`.

        A line that is an event of the canonical stream, as a program's logger may have written it, is that event.
        """
        feed(self._items(lines, offset, fault))

    def context(self, line: bytes) -> Context:
        """The run that the log belongs to. No agent speaks here, unless the line is an event that says so."""
        return _CANONICAL.context(line) if _is_event(line) else Context(run_id=self._run)

    def detail(self, line: bytes) -> Detail:
        """The whole of an event's `data`; of a record nothing is left to say."""
        return _CANONICAL.detail(line) if _is_event(line) else Detail()

    def usage(self, line: bytes) -> Usage | None:
        """The tokens of an event; a record has none."""
        return _CANONICAL.usage(line) if _is_event(line) else None

    def _items(self, lines: list[bytes], offset: int, fault: Faults) -> Iterator[Item]:
        memory = self.memory
        for line in lines:
            around, inner = self.unwrap(line)
            around, inner, fields = _shipped(inner, around)
            if _is_event(inner):
                events: list[Item] = []
                _CANONICAL.read([inner], offset, events.extend, fault)
                yield from events
            elif (record := _record(inner, fields, around, memory)) is not None:
                memory.time = record.at or memory.time
                memory.trace_lines = MOST_TRACE_LINES if record.is_error else 0
                if memory.time is None:
                    fault(offset, "no_time", "no line of this log has said a time so far")
                else:
                    for event_type, data in _facts(record):
                        yield Event(memory.time, self._attempt, event_type, data, None, record.at is None), offset, line
            elif memory.trace_lines and memory.time is not None and (said := _shown(inner).strip()):
                memory.trace_lines -= 1
                yield Event(memory.time, self._attempt, "progress", _more(said), None, True), offset, line
            offset += len(line)


def json_fields(line: bytes) -> "Fields | None":
    """What a line says, if it is a JSON object; None if it is anything else."""
    bare = line.strip(BLANK).removeprefix(b"\xef\xbb\xbf")
    if not bare.startswith(b"{"):
        return None
    try:
        return _decode(bare)
    except REFUSED:
        return salvaged(bare, Fields)


def moment(raw: msgspec.Raw) -> datetime | None:
    """The time that a JSON value tells: ISO 8601 (without a zone it is UTC), or seconds or milliseconds since the epoch; None for anything else."""
    if not raw:
        return None
    try:
        return _decode_time(raw)
    except REFUSED:
        value = decoded(raw)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _since_epoch(value)
    stamp = _STAMP.match(value) if isinstance(value, str) else None
    return _stamped(stamp) if stamp else None


class Fields(msgspec.Struct, gc=False):
    """A JSON record, by the names that loggers have for level, text, time and stack. All is optional, and may be of any type."""

    level: msgspec.Raw = NOTHING
    severity: msgspec.Raw = NOTHING
    message: msgspec.Raw = NOTHING
    msg: msgspec.Raw = NOTHING
    log: msgspec.Raw = NOTHING
    at_message: msgspec.Raw = msgspec.field(name="@message", default=NOTHING)
    timestamp: msgspec.Raw = NOTHING
    time: msgspec.Raw = NOTHING
    ts: msgspec.Raw = NOTHING
    date: msgspec.Raw = NOTHING
    at_timestamp: msgspec.Raw = msgspec.field(name="@timestamp", default=NOTHING)
    at_fields: msgspec.Raw = msgspec.field(name="@fields", default=NOTHING)
    stack: msgspec.Raw = NOTHING
    err: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


class _Inner(msgspec.Struct, gc=False):
    """What a record may say one level down: Logstash's `@fields`, pino's `err`."""

    level: msgspec.Raw = NOTHING
    message: msgspec.Raw = NOTHING
    stack: msgspec.Raw = NOTHING


def _of(source: str) -> tuple[str | None, str]:
    """The run that a source belongs to, and its name in it."""
    path = PurePosixPath(source)
    is_of_run = path.parts[:1] == ("runs",) and len(path.parts) > 2
    within = PurePosixPath(*path.parts[2:]) if is_of_run else path
    return (path.parts[1] if is_of_run else None), str(within.with_suffix(""))


def _is_event(line: bytes) -> bool:
    return b'"attempt_id"' in line and b'"event_type"' in line


def _facts(record: Record) -> list[tuple[Kind, Data]]:
    if not record.is_error:
        return [("agent_output", Detail(output=msgspec.Raw(msgspec.json.encode(record.text)), stop_reason=PROGRAM))]
    rest: list[tuple[Kind, Data]] = [("progress", _more(record.rest))] if record.rest else []
    return [("error", Detail(error_message=record.text, stop_reason=PROGRAM)), *rest, ("turn_end", Detail(reason=PROGRAM))]


def _more(said: str) -> Detail:
    return Detail(output=msgspec.Raw(msgspec.json.encode(said[:LONGEST])), stop_reason=PROGRAM)


def _shown(inner: bytes) -> str:
    text = inner.decode("utf-8", "replace").strip("\0\r\n\ufeff")
    return _ANSI.sub("", text) if "\x1b" in text else text


def _shipped(inner: bytes, around: datetime | None) -> tuple[datetime | None, bytes, Fields | None]:
    """The line that a program wrote, and the time round it. A shipper's record holds the line as it was, JSON or text, in `log` or `message`."""
    fields = json_fields(inner)
    if fields is None or fields.level or fields.severity:
        return around, inner, fields
    line = decoded(fields.log or fields.message)
    if not isinstance(line, str):
        return around, inner, fields
    text = line.encode(errors="replace")
    return _time_of(fields) or around, text, json_fields(text)


def _record(inner: bytes, fields: Fields | None, around: datetime | None, memory: Memory) -> Record | None:
    """The record that a line begins; None if it belongs to the one before, or says nothing."""
    text = _shown(inner)
    if fields is None:
        return _of_text(text, around, memory)
    memory.is_stamped, memory.awaits_trace, memory.in_trace, memory.calm = True, False, False, ""
    logstash, error = _inner(fields.at_fields), _inner(fields.err or fields.error)
    said = _text(fields.message or fields.msg or fields.at_message or fields.log) or _text(error.message)
    stack = _text(fields.stack or logstash.stack or error.stack) or ""
    message = said or stack.partition("\n")[0] or text
    fails = _is_failure(fields.level or fields.severity or logstash.level)
    return Record(_time_of(fields) or around, fails, message[:LONGEST], _rest(inner, message) if fails else "")


def _rest(inner: bytes, message: str) -> str:
    """What else a JSON record of a failure says, wherever in it: stack, cause, code; a text a line or more, under its name, single words last."""
    try:
        value = msgspec.json.decode(inner.strip(BLANK).removeprefix(b"\xef\xbb\xbf"))
    except REFUSED:
        return ""
    found: list[str] = []
    left = LONGEST
    waiting = list(value.items())[::-1] if isinstance(value, dict) else []
    while waiting and left > 0:
        name, one = waiting.pop()
        if isinstance(one, dict):
            waiting += list(one.items())[::-1]
        elif isinstance(one, list):
            waiting += [(name, each) for each in reversed(one)]
        elif isinstance(one, str) and one not in ("", message) and name not in _SAID_ELSEWHERE:
            found.append(f"{name}: {one.removeprefix(message).lstrip()}")
            left -= len(found[-1])
    return "\n".join(sorted(found, key=lambda one: one.count(" ") == 1))  # a bare code says less than a sentence


def _time_of(fields: Fields) -> datetime | None:
    return moment(fields.timestamp or fields.time or fields.ts or fields.at_timestamp or fields.date)


def _of_text(text: str, around: datetime | None, memory: Memory) -> Record | None:
    stamp = _STAMP.match(text)
    at = _stamped(stamp) if stamp else None
    if stamp is not None and at is not None:
        return _begun(text[stamp.end() :], at, memory)
    if not text.strip():
        return None
    if memory.at_first_frame or (memory.calm and _DIES.match(text)):
        memory.at_first_frame, memory.calm = False, memory.calm if _CAUGHT_FRAME.match(text) else ""
    if memory.time is not None and _BELONGS.match(text):
        return None
    return _unstamped(text, around, memory)


def _begun(text: str, at: datetime, memory: Memory) -> Record:
    """A line with a time of its own begins a record."""
    memory.is_stamped, memory.in_trace, memory.at_first_frame = True, False, False
    level = _LEVEL.match(text)
    said = _said(level)
    fails = said in ERRORS if level else _FAILS.match(text) is not None
    memory.awaits_trace, memory.calm = fails, "" if fails else said
    return Record(at, fails, (text[level.end() :] if level else text)[:LONGEST])


def _unstamped(text: str, around: datetime | None, memory: Memory) -> Record | None:
    if text.startswith(_TRACEBACK):
        memory.in_trace = memory.at_first_frame = True
        return None
    if text.startswith(_CHAINED):
        memory.awaits_trace = not memory.calm
        return None
    level = _LEVEL.match(text)
    said = _said(level)
    fails = memory.in_trace or _FAILS.match(text) is not None or said in ERRORS
    if fails and level is None and _was_caught(text, memory):
        memory.in_trace = False
        return None
    memory.in_trace = False
    if fails and memory.awaits_trace:
        memory.awaits_trace = False
        return None
    if not fails and memory.is_stamped and around is None and level is None:
        return None
    memory.awaits_trace, memory.calm = said in ERRORS, "" if fails else said
    return Record(around, fails, (text[level.end() :] if level else text)[:LONGEST])


def _said(level: re.Match[str] | None) -> str:
    return (level["upper"] or level["lower"] or level["named"]).lower() if level else ""


def _was_caught(text: str, memory: Memory) -> bool:
    """Whether an exception belongs to the record above it, which tells no failure: somebody caught it, and logged it as no more than that.

    Without a traceback an exception below a record that only informs may be a program's last words, but for those of the JVM, which
    says "Exception in thread" of what nobody caught.
    """
    if not memory.calm:
        return False
    if memory.in_trace:
        return True
    name = _EXCEPTION.match(text)
    return name is not None and (name["package"] is not None or memory.calm not in _PLAIN)


def _stamped(stamp: re.Match[str]) -> datetime | None:
    """The time of a stamp; None if there is no such time. A local time whose zone is not told is read as UTC."""
    if stamp["epoch"]:
        return _since_epoch(float(stamp["epoch"]))
    zone = stamp["zone"] or ""
    zone = "+00:00" if zone in ("", "Z", "UTC") else zone
    try:
        at = datetime.fromisoformat(f"{stamp['date'].replace('/', '-')}T{stamp['time']}.{(stamp['fraction'] or '0')[:6]:0<6}{zone}")
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _since_epoch(number: float) -> datetime | None:
    try:
        return EPOCH + timedelta(seconds=number if abs(number) <= _MOST_SECONDS else number / 1000)
    except (OverflowError, ValueError):
        return None


def _is_failure(level: msgspec.Raw) -> bool:
    value = decoded(level)
    if isinstance(value, str):
        return value.strip().lower() in ERRORS
    if isinstance(value, int) and not isinstance(value, bool):
        return value <= _WORST_SYSLOG if 0 <= value <= _LEAST_SYSLOG else value >= _ERROR_OF_PINO
    return False


def _text(raw: msgspec.Raw) -> str | None:
    """What a value says: a text, or the JSON of anything else; None where there is nothing."""
    value = decoded(raw)
    if value is None:
        return None
    return value if isinstance(value, str) else bytes(raw).decode("utf-8", "replace")


def _inner(raw: msgspec.Raw) -> _Inner:
    try:
        return _decode_inner(raw) if raw else _NO_INNER
    except REFUSED:
        return _Inner(message=raw)


_NO_INNER = _Inner()
_decode = msgspec.json.Decoder(Fields).decode
_decode_inner = msgspec.json.Decoder(_Inner).decode
_decode_time = msgspec.json.Decoder(Time).decode


def time_of(line: bytes) -> datetime | None:
    """The time that a log's line tells, whatever wrote it: JSON, or text that begins with a time; None where it tells none."""
    fields = json_fields(line)
    if fields is not None:
        return _time_of(fields)
    stamp = _STAMP.match(line[:_LONGEST_STAMP].decode("utf-8", "replace").strip("\0\ufeff"))
    return _stamped(stamp) if stamp else None


_LONGEST_STAMP = 128
