"""Everything that a question about the logs can be answered from: issues, alerts, sessions that are over, and lines of the logs. Only reads.

However many gigabytes there are, this is over in a fifth of a second: of the lists their ends are read, of the logs the newest first, of each
its end and the lines that alerts rest on, and then, as long as there is time, what stands before for the words of the question.
"""

import io
import os
import re
import time
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from agentwatch.alert_log import NAME as ALERTS
from agentwatch.apps import setup
from agentwatch.apps.alerts import AlertLine, moment, parse
from agentwatch.apps.holder import STATE_DIR
from agentwatch.core.asking import picking
from agentwatch.core.asking.picking import Fact, Line
from agentwatch.core.asking.terms import Term
from agentwatch.core.metrics import Row
from agentwatch.core.runs import RUNS
from agentwatch.core.text import safe, withhold_keys
from agentwatch.core.words import count, money, said, whole
from agentwatch.errors import StorageError
from agentwatch.formats import PROGRAMS
from agentwatch.formats.registry import FORMATS, recognise
from agentwatch.model import NO_MEMORY, Event, Format, Issue, Item
from agentwatch.settings import Loaded
from agentwatch.sources.tree import Root, Seen, is_there, walk
from agentwatch.store.issues import NAME as ISSUES
from agentwatch.store.issues import IssueStore
from agentwatch.store.metrics_log import NAME as METRICS

READING_S, SEARCH_S = 0.1, 0.05
LEAST_LOGS = 4
"""When no further log is begun, for how long what stands before the ends is searched, and how many logs are read however slow the machine is. Each takes some milliseconds."""

WINDOW_BYTES = 256 << 10
HEAD_BYTES, HEAD_LINES = 64 << 10, 5
LIST_BYTES = 512 << 10
BLOCK_BYTES = 1 << 20
NEAR_BYTES = 4 << 10
COUNTED_BYTES = 128 << 20
"""So much is looked through for the numbers of lines; beyond, a line is called by the offset of its first byte."""

LONGEST_FILE = 1 << 62

MOST_ISSUES, MOST_ALERTS, MOST_SESSIONS = 60, 100, 40
MOST_BAD, MOST_MATCHES, NEWEST, HITS = 200, 150, 40, 30
LEAST_LINES = 5
"""Lines of the newest log: errors, matches of the question's words, the newest, and matches before its end; and of any log at least."""

LINE_CHARACTERS = 300
LABEL_HEAD, LABEL_TAIL = 12, 14
LONGEST_PATH = 4096
URGENT = {"high": 3.0, "medium": 2.0, "low": 1.2}

_SAYS_LITTLE = frozenset({"usage", "progress", "turn_start", "turn_end"})
_ODD = re.compile(r"[^\w./@+=~-]")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Scope(NamedTuple):
    """What is asked about. Without a run: the log directory and the agents' own folders. `attempt`: an attempt's id or its beginning."""

    run_id: str | None = None
    since: datetime | None = None
    attempt: str | None = None


class Findings(NamedTuple):
    """What there is. `notes` say what could not be looked at."""

    facts: list[Fact]
    lines: list[Line]
    notes: list[str]
    logs: "Logs"


def gather(loaded: Loaded, environ: Mapping[str, str], home: Path | None, scope: Scope, terms: Sequence[Term]) -> Findings:
    """Look for what may answer a question with these terms."""
    deadline = time.monotonic() + READING_S
    log_dir = Path(os.path.realpath(loaded.settings.logs.dir))
    notes: list[str] = []
    logs = Logs(_seen(loaded, environ, home, scope, log_dir, deadline, notes), scope)
    issues, alerts = _issues(log_dir, scope, notes), _alerts(log_dir, scope)
    evidence = [(sample.source, sample.offset) for issue in issues for sample in issue.samples[:1]]
    evidence += [spot for alert in alerts for spot in _evidence(alert)[-1:]]
    lines = logs.read(terms, evidence, scope, deadline, notes)
    facts = [*_of_issues(issues, logs), *_of_alerts(alerts, logs), *_of_sessions(_rows(log_dir, scope))]
    return Findings(facts, lines, notes, logs)


def _seen(loaded: Loaded, environ: Mapping[str, str], home: Path | None, scope: Scope, log_dir: Path, deadline: float, notes: list[str]) -> list[Seen]:
    """The logs, the newest first."""
    found: list[Seen] = []
    least_s = scope.since.timestamp() if scope.since else 0.0
    archives = 0
    roots = (Root(log_dir, is_log_dir=True),) if scope.run_id is not None else setup.roots(loaded, environ, home)
    for root in roots:
        below = f"{RUNS}/{scope.run_id}" if scope.run_id is not None else ""
        for _, seen_in in walk(root, below) if is_there(root.path / below) else ():
            if isinstance(seen_in, OSError):
                notes.append(f"a directory could not be read: {seen_in.strerror}")
                continue
            for seen in seen_in:
                if seen.stat.st_size and seen.stat.st_mtime >= least_s:
                    archives += seen.is_archive
                    found += [] if seen.is_archive else [seen]
            if time.monotonic() > deadline and found:
                notes.append("not all directories were looked at")
                break
    if archives:
        notes.append(f"{archives} compressed {'log was' if archives == 1 else 'logs were'} not looked at")
    return sorted(found, key=lambda one: -one.stat.st_mtime)


# ------------------------------------------------------------------------------------------------------------------- lists


def _issues(log_dir: Path, scope: Scope, notes: list[str]) -> list[Issue]:
    store = IssueStore(log_dir / STATE_DIR / ISSUES, read_only=True)
    try:
        issues = store.issues(scope.run_id)
    except StorageError as error:
        notes.append(f"the issues could not be read: {error}")
        return []
    finally:
        store.close()
    if scope.attempt is not None:
        issues = [one for one in issues if any(Path(source).name.startswith(scope.attempt) for source in one.sources)]
    return [one for one in issues if scope.since is None or one.last_seen >= scope.since][:MOST_ISSUES]


def _alerts(log_dir: Path, scope: Scope) -> list[AlertLine]:
    """The last line of each incident, the newest first."""
    found: dict[str, AlertLine] = {}
    for line in reversed(_tail(log_dir / ALERTS, LIST_BYTES)):
        alert = parse(line)
        at = moment(alert) if alert else None
        if alert is None or at is None or (scope.since and at < scope.since):
            continue
        if scope.run_id is not None and alert.get("run_id") != scope.run_id:
            continue
        if scope.attempt is None or str(alert.get("attempt_id", "")).startswith(scope.attempt):
            found.setdefault(str(alert.get("episode_id", alert["alert_id"])), alert)
    return list(islice(found.values(), MOST_ALERTS))


def _rows(log_dir: Path, scope: Scope) -> list[Row]:
    """The last row of each session, the newest first."""
    found: dict[tuple[str, str], Row] = {}
    for line in reversed(_tail(log_dir / METRICS, LIST_BYTES)):
        try:
            row = _decode_row(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        is_of_run = scope.run_id is None or scope.run_id in (row.run_id, row.scope.removeprefix(f"{RUNS}/"))
        if is_of_run and (not scope.since or row.timestamp >= scope.since) and row.attempt_id.startswith(scope.attempt or ""):
            found.setdefault((row.scope, row.attempt_id), row)
    return list(found.values())


_decode_row = msgspec.json.Decoder(Row).decode


def _evidence(alert: AlertLine) -> list[tuple[str, int]]:
    """Sources and offsets of the lines that an alert rests on. Whoever may write to the directory may have written it: anything may stand there."""
    told = alert.get("evidence")
    if not isinstance(told, list):
        return []
    spots = [(one.get("source"), one.get("offset")) for one in told if isinstance(one, dict)]
    return [(source, offset) for source, offset in spots if isinstance(source, str) and type(offset) is int and 0 <= offset < LONGEST_FILE]


def _of_issues(issues: list[Issue], logs: "Logs") -> Iterator[Fact]:
    for number, issue in enumerate(issues):
        cites = ", ".join(filter(None, (logs.name(sample.source, sample.offset) for sample in issue.samples[:3])))
        text = (
            f"{issue.severity} {issue.status} {issue.rule_id}: {issue.title}. {issue.occurrences} times, {picking.moment(issue.first_seen)} to "
            f"{picking.moment(issue.last_seen)}: {issue.message}"
        )
        text += "".join(f" ({part})" for part in (issue.why, cites and f"seen at {cites}") if part)
        weight = URGENT[issue.severity] * (0.3 if issue.status == "resolved" else 1.0)
        yield Fact("issues", safe(text, 2 * LINE_CHARACTERS), weight / (1 + number / 20))


def _of_alerts(alerts: list[AlertLine], logs: "Logs") -> Iterator[Fact]:
    for number, alert in enumerate(alerts):
        cites = ", ".join(filter(None, (logs.name(*spot) for spot in _evidence(alert)[-2:])))
        status = str(alert.get("status", "open"))
        text = f"{alert.get('severity')} {alert['type']} {status} {picking.moment(moment(alert))} attempt {alert.get('attempt_id')}: {alert.get('summary')}"
        text += f" (seen at {cites})" if cites else ""
        weight = URGENT.get(str(alert.get("severity")), 1.0) * (0.4 if status == "recovered" else 1.0)
        yield Fact("alerts", safe(text, 2 * LINE_CHARACTERS), weight / (1 + number / 20))


def _of_sessions(rows: list[Row]) -> Iterator[Fact]:
    if not rows:
        return
    failed = sum(row.status not in ("success", None) for row in rows)
    usd = sum(row.metrics.cost_usd or 0.0 for row in rows)
    tokens = sum(row.tokens for row in rows)
    yield Fact("sessions", f"The newest {len(rows)} sessions in all: {failed} failed, {money(usd)}, {count(tokens)} tokens.", 3.0)
    dearest = max(rows, key=lambda row: row.metrics.cost_usd or 0.0)
    for number, row in enumerate([*rows[:MOST_SESSIONS], *([dearest] if dearest not in rows[:MOST_SESSIONS] else [])]):
        about = " ".join(filter(None, (row.executor, row.model, row.task_id, row.task_title and f'"{row.task_title}"')))
        cost = money(row.metrics.cost_usd) if row.metrics.cost_usd is not None else "cost unknown"
        spent = f"{timedelta(milliseconds=int(row.metrics.duration_ms or 0))}".partition(".")[0]
        errors = f"{row.metrics.errors} errors" + (f": {row.error_summary.kinds[0].sample_message}" if row.error_summary and row.error_summary.kinds else "")
        text = (
            f"{row.attempt_id} {about}: {row.status or 'end not told'} {picking.moment(row.timestamp)}, {spent}, {cost}, {count(row.tokens)} tokens, {errors}"
        )
        weight = (1.0 + (row.status not in ("success", None)) + (row is dearest)) / (1 + number / 10)
        yield Fact("sessions", safe(text, LINE_CHARACTERS), weight)


def _tail(path: Path, size: int) -> list[bytes]:
    """The whole lines at the end of a file; none where it cannot be read, or is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:  # noqa: PTH123  # a descriptor
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            lines = _split(file.read(size))
    except OSError:
        return []
    return [line for line in (lines if end <= size else lines[1:]) if line.endswith(b"\n")]


# ------------------------------------------------------------------------------------------------------------------- lines


class _Row(NamedTuple):
    """A line that says something, its events (a program's line may have none), and why it is worth reading."""

    offset: int
    raw: bytes
    events: tuple[Event, ...]
    at: datetime | None
    reasons: frozenset[str]


class Logs:
    """The logs that were found, by the labels they are cited by."""

    def __init__(self, seen: Iterable[Seen], scope: Scope) -> None:
        self._logs: dict[str, _Log] = {}
        self._by_source: dict[str, _Log] = {}
        self._names: dict[str, str | None] = {}
        counter = _Newlines()
        for one in seen:
            label = _label(one, scope.run_id, self._logs)
            log = self._logs[label] = _Log(one, label, counter)
            if not one.is_rotated:
                self._by_source.setdefault(one.source, log)
            for name in {label, one.source, Path(one.source).name, Path(one.source).stem}:
                self._names[name] = label if self._names.get(name, label) == label or name == label else None

    def __len__(self) -> int:
        return len(self._logs)

    def label_of(self, name: str) -> str | None:
        """Of a log by its label, its source, or its file's name with or without the ending; None where there is none, or more than one."""
        return self._names.get(name)

    def path(self, label: str) -> str:
        """The file that a label stands for; empty for none."""
        log = self._logs.get(label)
        return safe(log.path, LONGEST_PATH) if log is not None else ""

    def exists(self, label: str, place: str) -> bool:
        """Whether a log has a line there: a number from 1, or `@` and the offset of its first byte."""
        log = self._logs.get(label)
        return log is not None and log.has(place)

    def name(self, source: str, offset: int) -> str:
        """How the line at an offset is cited; empty where the log is not known, or has no line there."""
        log = self._by_source.get(source)
        return f"{log.label}:{log.place(offset)}" if log is not None and log.has(f"@{offset}") else ""

    def read(self, terms: Sequence[Term], evidence: Sequence[tuple[str, int]], scope: Scope, deadline: float, notes: list[str]) -> list[Line]:
        """The lines that matter, with those round them."""
        strong = tuple(term.text.encode() for term in terms if term.weight >= 1) or tuple(term.text.encode() for term in terms)
        found: list[Line] = []
        unread = 0
        begun: list[_Log] = []
        for number, log in enumerate(self._logs.values()):
            if number >= LEAST_LOGS and time.monotonic() > deadline:
                unread += 1
                continue
            begun.append(log)
            found += log.end(strong, {offset for source, offset in evidence if source == log.source}, scope, share=1 / (1 + number))
        deadline = time.monotonic() + SEARCH_S
        for log in begun:
            if strong and time.monotonic() < deadline:
                found += log.before(strong, scope, deadline)
        if unread:
            notes.append(f"{unread} older {'log was' if unread == 1 else 'logs were'} not looked at")
        if any(log.has_more_errors for log in begun):
            notes.append("not all errors are counted: of each log the newest")
        before = sum(log.start > 0 for log in begun)
        if before:
            notes.append(
                f"of {before} {'log' if before == 1 else 'logs'} only the end was read, and what stands before {'searched as far as there was time' if strong else 'not'}"
            )
        return found


class _Log:
    """One log. Lines are read when they are asked for; one that cannot be read has none."""

    def __init__(self, seen: Seen, label: str, newlines: "_Newlines") -> None:
        self.label, self.source = label, seen.source
        self.path, self._size = seen.path, seen.stat.st_size
        self._newlines = newlines
        self.start = 0
        self.has_more_errors = False
        self._rows_read = 0
        self._counted = [(0, 0)]
        self._decoder: Format | None = None
        self._is_program = True

    def place(self, offset: int) -> str:
        """What the line at an offset is called."""
        before, lines = self._counted[bisect_right(self._counted, (offset, self._size)) - 1]
        between = self._newlines.count(self.path, before, offset)
        if between is None:
            return f"@{offset}"
        insort(self._counted, (offset, lines + between))
        return str(lines + between + 1)

    def has(self, place: str) -> bool:
        """Whether a line begins there."""
        if place.startswith("@"):
            offset = int(place[1:])
            return offset == 0 or (0 < offset < self._size and self._read(offset - 1, offset) == b"\n")
        return self._newlines.has_line(self.path, int(place))

    def end(self, terms: Sequence[bytes], evidence: set[int], scope: Scope, *, share: float) -> list[Line]:
        """Lines at the end of the log, and those that alerts rest on, wherever they are. Of the first log all are wanted that are wanted of one, of others a `share`."""
        self.start = self._line_start(max(0, self._size - WINDOW_BYTES))
        self._recognise()
        rows = self._rows(self.start, self._size, terms, evidence, scope)
        late = range(len(rows) - max(LEAST_LINES, round(NEWEST * share)), len(rows))
        rows = [row._replace(reasons=row.reasons | {"newest"}) if number in late else row for number, row in enumerate(rows)]
        lines = self._lines(rows, share)
        for offset in sorted(one for one in evidence if one < self.start)[-HITS:]:
            near = self._rows(offset, min(offset + NEAR_BYTES, self.start), (), {offset}, scope)
            lines += self._lines(near[: picking.AFTER + 1])
        return lines

    def before(self, terms: Sequence[bytes], scope: Scope, deadline: float) -> list[Line]:
        """Lines before the end that hold one of the terms, searched backwards."""
        lines: list[Line] = []
        hits = 0
        end = self.start
        while end > 0 and hits < HITS and time.monotonic() < deadline:
            begin = max(0, end - BLOCK_BYTES)
            block = self._read(begin, end)
            low = block.lower()
            ends = {low.find(b"\n", at) for term in terms for at in _found(low, term, HITS - hits)}
            for stop in sorted(ends, reverse=True)[: HITS - hits]:
                last = stop + 1 if stop >= 0 else len(block)
                first = low.rfind(b"\n", 0, max(0, last - 1)) + 1
                if first == 0 and begin > 0:
                    continue
                hits += 1
                near = self._rows(begin + first, begin + min(len(block), last + NEAR_BYTES), terms, set(), scope)
                lines += self._lines(near[: picking.AFTER + 1])
            end = begin
        return lines

    def _recognise(self) -> None:
        head = _split(self._read(0, min(self._size, HEAD_BYTES)))[:HEAD_LINES]
        name = recognise(self.path, head)
        self._is_program = name is None or name in PROGRAMS
        if name is None:
            return
        self._decoder = FORMATS[name].decoder(self.source, NO_MEMORY)
        if self.start:  # whose session it is may stand on the first line alone
            self._decoder.read([line for line in head if line.endswith(b"\n")], 0, _nobody, _nothing)

    def _rows(self, start: int, end: int, terms: Sequence[bytes], evidence: set[int], scope: Scope) -> list[_Row]:
        data = self._read(start, end)
        raws = _split(data)
        if end < self._size and raws and not raws[-1].endswith(b"\n"):
            raws.pop()
        events: dict[int, list[Event]] = {}

        def feed(items: Iterable[Item]) -> None:
            for event, offset, _ in items:
                events.setdefault(offset, []).append(event)

        if self._decoder is not None:
            self._decoder.read([raw if raw.endswith(b"\n") else raw + b"\n" for raw in raws], start, feed, _nothing)
        rows: list[_Row] = []
        offset, at, is_wanted = start, None, scope.attempt is None and scope.since is None
        for raw in raws:
            of_line = tuple(events.get(offset, ()))
            told = tuple(one for one in of_line if one.event_type not in _SAYS_LITTLE)
            if told:
                at = told[0].timestamp
                is_wanted = (scope.since is None or at >= scope.since) and (scope.attempt is None or told[0].attempt_id.startswith(scope.attempt))
            if is_wanted and (told or (self._is_program and raw.strip())):
                rows.append(_Row(offset, raw, told, at, _reasons(offset, raw, told, terms, evidence)))
            offset += len(raw)
        return rows

    def _lines(self, rows: Sequence[_Row], share: float = 1.0) -> list[Line]:
        """Those of the rows that were found for a reason, and those round them."""
        first_row = self._rows_read
        self._rows_read += len(rows) + 1
        wanted: set[int] = set()
        left = {"bad": max(LEAST_LINES, round(MOST_BAD * share)), "match": max(LEAST_LINES, round(MOST_MATCHES * share))}
        for number in range(len(rows) - 1, -1, -1):
            reasons = rows[number].reasons
            for reason in reasons & left.keys():
                left[reason] -= 1
            self.has_more_errors |= left["bad"] < 0
            if not reasons or (reasons <= left.keys() and all(left[reason] < 0 for reason in reasons)):
                continue
            wanted.update(range(number - picking.BEFORE, number + picking.AFTER + 1) if reasons != {"newest"} else (number,))
        texts = withhold_keys([row.raw.decode("utf-8", "replace") for row in rows]) if self._is_program else []
        found = []
        for number in sorted(wanted & set(range(len(rows)))):
            row = rows[number]
            text = texts[number].rstrip() if self._is_program else self._in_words(row)
            found.append(Line(self.label, self.place(row.offset), row.offset, first_row + number, safe(text, LINE_CHARACTERS), row.at, row.reasons))
        return found

    def _in_words(self, row: _Row) -> str:
        if self._decoder is None:
            return ""
        decoder = self._decoder
        told = " | ".join(said(event, row.raw, whole(event, row.raw, decoder.detail)).line for event in row.events)
        return f"{picking.moment(row.at)} {told}"

    def _line_start(self, offset: int) -> int:
        """Where the first line begins that begins at `offset` or behind it."""
        if offset == 0:
            return 0
        at = self._read(offset - 1, min(self._size, offset + BLOCK_BYTES)).find(b"\n")
        return offset + at if at >= 0 else self._size

    def _read(self, start: int, end: int) -> bytes:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return b""
        try:
            return os.pread(fd, max(0, end - start), start)
        except OSError:
            return b""
        finally:
            os.close(fd)


class _Newlines:
    """Counts lines, and no more bytes than is worth it."""

    def __init__(self) -> None:
        self._left = COUNTED_BYTES

    def count(self, path: str, start: int, end: int) -> int | None:
        """Newlines between two offsets; None where that is too far."""
        if end - start > self._left:
            return None
        self._left -= end - start
        try:
            with Path(path).open("rb", buffering=0) as file:
                file.seek(start)
                return sum(block.count(b"\n") for block in _blocks(file.fileno(), end - start))
        except OSError:
            return None

    @staticmethod
    def has_line(path: str, number: int) -> bool:
        """Whether a file has so many lines; of a very long one only the beginning is counted."""
        if number < 1:
            return False
        lines, is_open = 0, False
        try:
            with Path(path).open("rb", buffering=0) as file:
                for block in _blocks(file.fileno(), COUNTED_BYTES):
                    lines += block.count(b"\n")
                    is_open = not block.endswith(b"\n")
                    if lines >= number:
                        return True
        except OSError:
            return False
        return lines + is_open >= number


def _split(data: bytes) -> list[bytes]:
    """The lines, each with its newline; a carriage return ends none."""
    return io.BytesIO(data).readlines()


def _blocks(fd: int, size: int) -> Iterator[bytes]:
    while size > 0 and (block := os.read(fd, min(BLOCK_BYTES, size))):
        size -= len(block)
        yield block


def _reasons(offset: int, raw: bytes, events: Sequence[Event], terms: Sequence[bytes], evidence: set[int]) -> frozenset[str]:
    found = []
    if any(event.event_type == "error" or (event.event_type == "tool_result" and event.data.is_error) for event in events):
        found.append("bad")
    if terms:
        low = raw.lower()
        if any(term in low for term in terms):
            found.append("match")
    if offset in evidence:
        found.append("evidence")
    return frozenset(found)


def _found(low: bytes, term: bytes, most: int) -> Iterator[int]:
    at = len(low)
    for _ in range(most):
        at = low.rfind(term, 0, at)
        if at < 0:
            return
        yield at


def _label(seen: Seen, run_id: str | None, taken: Mapping[str, object]) -> str:
    """A short name that no other log has, since it stands before each line: the path within the run or the log directory, of an agent's own log its name.

    Ids are cut to their first eight digits, and what is still long has a `~` in its middle.
    """
    name = os.path.relpath(seen.path, seen.place.root.path)
    if run_id is not None:
        name = name.removeprefix(f"{RUNS}/{run_id}/")
    elif not seen.place.root.is_log_dir:
        name = os.path.basename(name)  # noqa: PTH119  # called for thousands of names
    name = _ID.sub(lambda found: found[0][:8], _ODD.sub("_", safe(name)))
    if len(name) > LABEL_HEAD + LABEL_TAIL + 1:
        name = f"{name[:LABEL_HEAD]}~{name[-LABEL_TAIL:]}"
    label, number = name, 1
    while label in taken:
        number += 1
        label = f"{name}~{number}"
    return label


def _nobody(items: Iterable[Item]) -> None:
    for _ in items:
        pass


def _nothing(_offset: int, _kind: str, _detail: str) -> None:
    """Faults are counted by the daemon."""
