"""`agentwatch raw`: lines of the logs as they stand there, searched for by a pattern. Only reads.

RE2 goes over blocks, not over lines: where nothing matches, nothing is cut into lines, decoded or counted. Lines come in the order of their
times, merged over the logs; a line without a time has that of the one before it.
"""

import heapq
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from agentwatch.core.linear import LinePattern, PatternError
from agentwatch.core.runs import RUNS
from agentwatch.core.text import visible
from agentwatch.errors import AgentwatchError, UnknownNameError, UsageError
from agentwatch.formats import fluent_bit
from agentwatch.formats.program import time_of
from agentwatch.model import NO_MEMORY
from agentwatch.sources.blocks import Block, Log
from agentwatch.sources.tree import Root, Seen, shown, walk
from agentwatch.store.history import ARCHIVE
from agentwatch.store.runs import asking

MOST_BLOCK, LEAST_BLOCK, ALL_BLOCKS = 1 << 20, 64 << 10, 64 << 20
"""Bytes: of a block, and of the blocks of all logs together. Greater blocks do not fit the processor's cache, and take longer."""

LONGEST_TEXT = 32_768
"""Characters of a line that are given out, those round the match; `…` stands for the rest."""

LOOKED_BACK = 64 << 10
"""Bytes before a line without a time in which one with a time is looked for."""

MOST_CONTEXT = 1000

_PLAIN = re.compile(r"[^\\.^$*+?{}\[\]|()\n]+")
_EARLIEST = datetime.min.replace(tzinfo=UTC)


class Hit(msgspec.Struct, frozen=True):
    r"""A line that was found, as `raw --json` has it.

    `source` is its file, relative to the log directory, `offset` the line's first byte there, `line` its number from 1. `match` is where in
    `text` the pattern matched, in characters. `text`, `before` and `after` are as the log has them, but for bytes that are no UTF-8, which are
    shown as `\xff`: make them harmless before they are shown.
    """

    source: str
    offset: int
    line: int
    timestamp: datetime | None
    text: str
    match: tuple[int, int]
    before: tuple[str, ...]
    after: tuple[str, ...]


class Query(NamedTuple):
    """What is searched for: `pattern` None lets every line match. `sources` are names of logs, with or without ending and directory; `*` and `?` stand for others."""

    pattern: str | None = None
    ignore_case: bool = False
    sources: tuple[str, ...] = ()
    run: str | None = None
    since: datetime | None = None
    context: int = 0


def _unheard(_said: str) -> None:
    """For those who have nobody to tell."""


def _never() -> bool:
    """For those who have time."""
    return False


def search(log_dir: Path, query: Query, tell: Callable[[str], None] = _unheard, is_late: Callable[[], bool] = _never) -> Iterator[Hit]:
    """The lines that match, in the order of their times. `tell` hears of what could not be read, and of what was left when it was late.

    Raises UsageError for what is no pattern, and UnknownNameError for a source that is not there, both at once, not at the first line.
    """
    find = _finder(query)
    logs = _logs(log_dir, query)
    if query.sources and not logs:
        known = sorted({name_of(one) for one in _logs(log_dir, query._replace(sources=()))})
        raise UnknownNameError(
            f"there is no log `{', '.join(query.sources)}` in {log_dir / RUNS / query.run if query.run else log_dir}",
            hint=f"there are {', '.join(known[:20])}{', …' if len(known) > 20 else ''}" if known else "there are no logs yet",
        )
    return _merged(log_dir, logs, query, find, tell, is_late)


def newest(hits: Iterable[Hit], most: int) -> tuple[list[Hit], int]:
    """The last `most` of them, and how many there were in all."""
    kept: deque[Hit] = deque(maxlen=most)
    count = 0
    for count, hit in enumerate(hits, 1):  # noqa: B007  # the last number is what is asked for
        kept.append(hit)
    return list(kept), count


def name_of(seen: Seen) -> str:
    """What a log is called: its name within its run, or the log directory, without its ending."""
    parts = PurePosixPath(seen.source).parts
    within = parts[2:] if parts[0] == RUNS and len(parts) > 2 else parts
    return str(PurePosixPath(*within).with_suffix(""))


def as_json(hit: Hit) -> str:
    """The hit on one line, in ASCII alone: whatever a log holds, no terminal that this is shown on does anything."""
    return json.dumps(msgspec.to_builtins(hit), separators=(",", ":"))


def printed(hits: Iterable[Hit], *, colour: bool) -> Iterator[str]:
    """The hits for people, as grep has them: `source:line: text`, with `-` for lines round a match, each once, and `--` between what does not join."""
    last: tuple[str, int] | None = None
    after: Iterable[tuple[int, str]] = ()

    def row(source: str, number: int, text: str, mark: str) -> str:
        where = f"{visible(source)}{mark}{number}{mark}"
        return f"{_DIM}{where}{_PLAIN_AGAIN} {text}" if colour else f"{where} {text}"

    for hit in hits:
        first = hit.line - len(hit.before)
        follows = last is not None and last[0] == hit.source
        for number, text in after:
            if last is not None and not (follows and number >= first):
                yield row(last[0], number, visible(text), "-")
                last = last[0], number
        known = last[1] if last is not None and follows else 0
        if last is not None and (hit.before or hit.after or after) and not (follows and first <= known + 1):
            yield "--"
        for number, text in enumerate(hit.before, first):
            if number > known:
                yield row(hit.source, number, visible(text), "-")
        yield row(hit.source, hit.line, _marked(hit, colour=colour), ":")
        last, after = (hit.source, hit.line), list(enumerate(hit.after, hit.line + 1))
    for number, text in after:
        if last is not None:
            yield row(last[0], number, visible(text), "-")


_DIM, _FOUND, _PLAIN_AGAIN = "\x1b[2m", "\x1b[1;31m", "\x1b[0m"


def _marked(hit: Hit, *, colour: bool) -> str:
    start, end = hit.match
    if not colour or start == end:
        return visible(hit.text)
    head, match, tail = map(visible, (hit.text[:start], hit.text[start:end], hit.text[end:]))
    return f"{head}{_FOUND}{match}{_PLAIN_AGAIN}{tail}"


Find = Callable[[bytes, int], tuple[int, int] | None]
"""Where something matches first in a block, from a byte on."""


def _finder(query: Query) -> Find:
    text = query.pattern
    if text is None:
        return lambda data, start: (start, start) if start < len(data) else None
    if text == "":
        raise UsageError("`--grep` is empty", hint="leave it out, for all lines")
    if _PLAIN.fullmatch(text) and not query.ignore_case:  # a third of the time that RE2 takes
        plain = text.encode("utf-8", "surrogateescape")
        return lambda data, start: (at, at + len(plain)) if (at := data.find(plain, start)) >= 0 else None
    try:
        return LinePattern(text, ignore_case=query.ignore_case).span
    except PatternError as error:
        raise UsageError(f"`--grep {text}` is not a regular expression: {error}", hint="put a backslash before what is meant as it stands") from None
    except ImportError as error:
        raise AgentwatchError("searching needs google-re2, which cannot be loaded", hint="install it with `pip install google-re2`") from error


def _logs(log_dir: Path, query: Query) -> list[Seen]:
    """The logs that are searched: what is read as an input, and what the stream was rotated to."""
    roots = [(Root(log_dir, is_log_dir=True), f"{RUNS}/{query.run}" if query.run else "")]
    if query.run is None:
        roots.append((Root(log_dir / ARCHIVE, is_log_dir=True), ""))
    found = []
    for root, below in roots:
        for _, logs in walk(root, below):
            found += [one for one in logs if _is_meant(one, query)] if not isinstance(logs, OSError) else []
    return found


def _is_meant(seen: Seen, query: Query) -> bool:
    if query.since is not None and seen.stat.st_mtime < query.since.timestamp() - 60:
        return False
    if not query.sources:
        return True
    name = name_of(seen)
    names = (name, name.rpartition("/")[2], seen.source, seen.source.rpartition("/")[2])
    return any(fnmatchcase(one, wanted) for wanted in query.sources for one in names)


def _merged(log_dir: Path, logs: list[Seen], query: Query, find: Find, tell: Callable[[str], None], is_late: Callable[[], bool]) -> Iterator[Hit]:
    """The generations of a log follow each other, the oldest first; different logs are merged by time."""
    generations: dict[tuple[str, str], list[Seen]] = {}
    for one in logs:
        directory = one.place.directory.removesuffix(f"/{ARCHIVE}") if not one.place.scope else one.place.directory
        generations.setdefault((directory, one.source), []).append(one)
    block_bytes = max(LEAST_BLOCK, min(MOST_BLOCK, ALL_BLOCKS // max(1, len(generations))))
    streams = [_stamped(number, log_dir, files, _Search(query, find, block_bytes, tell, is_late)) for number, files in enumerate(generations.values())]
    with asking(log_dir, query.run):
        for _, _, hit in heapq.merge(*streams):
            yield hit


def _stamped(number: int, log_dir: Path, files: list[Seen], asked: "_Search") -> Iterator[tuple[datetime, int, Hit]]:
    """The lines of one log with the times by which they are merged. These never go back, or lines of one log would be torn apart."""
    files.sort(key=lambda one: (not one.is_rotated, one.stat.st_mtime_ns))
    latest = _EARLIEST
    for one in files:
        path = Path(one.path)
        name = shown(str(path.relative_to(log_dir)))
        try:
            with closing(Log(path, is_archive=one.is_archive)) as log:
                for hit in _Scan(name, log, asked).hits():
                    latest = max(latest, hit.timestamp or latest)
                    yield latest, number, hit
                if log.damage is not None:
                    asked.tell(f"`{name}` was not searched to its end: {log.damage}")
        except OSError as error:
            asked.tell(f"`{name}` cannot be read: {error.strerror or error}")


class _Search(NamedTuple):
    """How all files of a search are gone through."""

    query: Query
    find: Find
    block_bytes: int
    tell: Callable[[str], None] = _unheard
    is_late: Callable[[], bool] = _never


class _Scan:
    """One pass over one file. Lines that follow a match may stand in the next block: until then the match waits."""

    def __init__(self, source: str, log: Log, asked: _Search) -> None:
        self._source = source
        self._log = log
        self._asked = asked
        self._query = asked.query
        self._before: list[bytes] = []
        self._waiting: list[tuple[Hit, list[bytes]]] = []
        self._time: datetime | None = None

    def hits(self) -> Iterator[Hit]:
        context = self._query.context
        for block in self._log.blocks(self._asked.block_bytes):
            if self._asked.is_late():
                self._log.damage = "it takes too long"
                break
            if self._waiting:
                yield from self._complete(block.data)
            yield from self._of_block(block)
            self._log.passed(block)
            if context:
                self._before = [*self._before, *_last_lines(block.data, len(block.data), context)][-context:]
        for hit, after in self._waiting:
            yield _with_after(hit, after)

    def _of_block(self, block: Block) -> Iterator[Hit]:
        data, at = block.data, 0
        while at < len(data) and (found := self._asked.find(data, at)) is not None:
            match_start, match_end = found
            start = data.rfind(b"\n", 0, match_start) + 1
            end = data.find(b"\n", match_start)
            at = len(data) if end < 0 else end + 1
            if start == len(data):  # an empty match behind the last line
                return
            hit = self._hit(block, start, at, match_start - start, match_end - start)
            if hit is None:
                continue
            if not self._query.context:
                yield hit
                continue
            after = _first_lines(data, at, self._query.context)
            if self._waiting or len(after) < self._query.context:
                self._waiting.append((hit, after))
            else:
                yield _with_after(hit, after)

    def _complete(self, data: bytes) -> Iterator[Hit]:
        """Give the waiting ones the lines that they wait for. All of them stand before this block."""
        lines = _first_lines(data, 0, self._query.context)
        still: list[tuple[Hit, list[bytes]]] = []
        for hit, known in self._waiting:
            after = known + lines[: self._query.context - len(known)]
            if still or len(after) < self._query.context:
                still.append((hit, after))
            else:
                yield _with_after(hit, after)
        self._waiting = still

    def _hit(self, block: Block, start: int, end: int, match_start: int, match_end: int) -> Hit | None:
        """None for one of before the time that is asked for."""
        line = block.data[start:end].rstrip(b"\r\n")
        at = self._time = self._time_at(block.data, line, start)
        if self._query.since is not None and at is not None and at < self._query.since:
            return None
        context = self._query.context
        before: list[bytes] = []
        if context:
            inside = _last_lines(block.data, start, context)
            before = [*self._before[len(inside) - context :], *inside] if len(inside) < context else inside
        text, match = _shown(line, match_start, min(match_end, len(line)))
        return Hit(self._source, block.offset + start, self._log.line_at(block.offset + start, block), at, text, match, tuple(map(_text, before)), ())

    def _time_at(self, data: bytes, line: bytes, start: int) -> datetime | None:
        """The line's own, else that of the nearest line before it that has one."""
        at = _time(line)
        end, least = start, max(0, start - LOOKED_BACK)
        while at is None and end > least:
            begin = data.rfind(b"\n", 0, end - 1) + 1
            at = _time(data[begin:end])
            end = begin
        return at if at is not None else self._time


_unwrap = fluent_bit.decoder(fluent_bit.NAME, NO_MEMORY).unwrap


def _time(line: bytes) -> datetime | None:
    if not line.endswith((b"]", b"]\n")):  # nothing stands round it
        return time_of(line)
    around, inner = _unwrap(line)
    return time_of(inner) or around


def _first_lines(data: bytes, start: int, most: int) -> list[bytes]:
    lines: list[bytes] = []
    while len(lines) < most and start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        lines.append(data[start:end])
        start = end + 1
    return lines


def _last_lines(data: bytes, end: int, most: int) -> list[bytes]:
    """The lines before `end`, which is where a line begins, or the end of all."""
    lines: list[bytes] = []
    while len(lines) < most and end > 0:
        start = data.rfind(b"\n", 0, end - 1) + 1
        lines.append(data[start:end].removesuffix(b"\n"))
        end = start
    return lines[::-1]


def _with_after(hit: Hit, after: list[bytes]) -> Hit:
    return msgspec.structs.replace(hit, after=tuple(map(_text, after)))


def _text(line: bytes) -> str:
    return _shown(line.rstrip(b"\r"), 0, 0)[0]


def _shown(line: bytes, match_start: int, match_end: int) -> tuple[str, tuple[int, int]]:
    """A line as text, and where in it the match stands. Of a long one the part round the beginning of the match."""
    if len(line) <= LONGEST_TEXT and line.isascii():
        return line.decode(), (match_start, match_end)
    first = 0
    if len(line) > LONGEST_TEXT:
        first = max(0, min(match_start - LONGEST_TEXT // 2, len(line) - LONGEST_TEXT))
        while 0 < first < len(line) and line[first] & 0xC0 == 0x80:  # not into the middle of a character
            first += 1
    last = first + LONGEST_TEXT
    parts = [line[first:match_start], line[match_start : min(match_end, last)], line[min(match_end, last) : last]]
    head, match, tail = (part.decode("utf-8", "backslashreplace") for part in parts)
    head = f"…{head}" if first else head
    return f"{head}{match}{tail}{'…' if last < len(line) else ''}", (len(head), len(head) + len(match))
