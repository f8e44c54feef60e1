"""Sessions out of logs and archives, from nothing, with all cores: what `--rebuild` and a summary without a daemon rest on.

A file is one piece of work, a long canonical stream several; what a session left in two pieces is joined by `metrics.sessions`. The files
of one session of an agent, those of its sub-agents among them, are one piece. Detectors run in each piece as they do in the daemon, so
a loop that lies across two pieces may cost less here.
"""

import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from agentwatch.apps import foresight, setup
from agentwatch.apps.pipeline import RECOGNISE_LINES, Pipeline
from agentwatch.apps.wholes import Wholes
from agentwatch.core.engine import Engine
from agentwatch.core.limits import Limits
from agentwatch.core.metrics import Row
from agentwatch.core.recordings import Recording
from agentwatch.core.snapshot import Snapshot, live_rows
from agentwatch.formats import PROGRAMS
from agentwatch.formats.registry import FORMATS, recognise
from agentwatch.model import NO_MEMORY, Alert, Item
from agentwatch.pricing import Prices
from agentwatch.settings import LONGEST, Loaded
from agentwatch.sources.tree import Root, Seen, is_there, shown, walk
from agentwatch.store.history import ARCHIVE
from agentwatch.store.spill import Packed

BLOCK_BYTES = 1 << 20
PIECE_BYTES = 64 << 20
"""A canonical stream is cut into pieces of no more than this. Smaller ones would cut more sessions in two."""

LEAST_PIECE_BYTES, PIECES_A_CORE = 16 << 20, 3
"""Where there are few pieces, they are made smaller, so that no core waits for another."""

MOST_ROWS = 1000
"""So many finished sessions of a piece are kept as they are; they are four times as large as their lines."""

SMALL_BYTES = 16 << 20
"""Less than this is read before other processes have started."""

Progress = Callable[[int, int], None]
"""Told how many bytes of how many were read."""


class File(NamedTuple):
    """A log to be read, from one byte to another; `end` is None for all of it. `weight` is how much work it is, in bytes."""

    path: str
    source: str
    scope: str
    start: int
    end: int | None
    weight: int


class Piece(NamedTuple):
    """What one process reads at a time."""

    files: tuple[File, ...]
    limits: Limits
    max_line_bytes: int
    recordings: tuple[tuple[str, Recording], ...] = ()

    @property
    def weight(self) -> int:
        return sum(file.weight for file in self.files)


class Found(NamedTuple):
    """The rows of a piece, and what could not be read of it."""

    packed: Packed
    problems: list[str]


def files(loaded: Loaded, environ: Mapping[str, str], home: Path | None, since: datetime | None, tell: Callable[[str], None]) -> list[Seen]:
    """The logs of lines and the archives, but for those that were written last before `since`. `tell` hears of directories that cannot be read."""
    roots = setup.roots(loaded, environ, home)
    archive = Root(Path(os.path.realpath(loaded.settings.logs.dir)) / ARCHIVE, is_log_dir=True)
    least_s = since.timestamp() if since else 0.0
    found: dict[str, Seen] = {}
    for root in (*roots, archive):
        for below, seen_in in walk(root) if is_there(root.path) else ():
            if isinstance(seen_in, OSError):
                tell(f"`{shown(str(root.path / below))}` cannot be read: {seen_in.strerror}")
                continue
            for seen in seen_in:
                if seen.stat.st_mtime >= least_s and seen.stat.st_size:
                    found.setdefault(seen.path, seen)
    return list(found.values())


def scan(loaded: Loaded, seen: Iterable[Seen], progress: Progress) -> Iterator[tuple[int, Found]]:
    """What each piece of these logs has, as soon as it was read, with the place of the piece among them: to be put together by `metrics.sessions`."""
    seen = list(seen)
    recordings = tuple(_recordings(seen))
    pieces = [piece._replace(recordings=recordings) for piece in _pieces(seen, setup.limits(loaded), loaded.settings.logs.max_line_bytes)]
    total, done = sum(piece.weight for piece in pieces), 0
    progress(0, total)
    for place, found in _all(pieces, total):
        yield place, found
        done += pieces[place].weight
        progress(done, total)


def scan_rows(loaded: Loaded, seen: Iterable[Seen], progress: Progress) -> tuple[list[Row], list[str]]:
    """All of `scan` in memory, in the order of the logs: the rows, and what could not be read."""
    found = [one for _, one in sorted(scan(loaded, seen, progress), key=itemgetter(0))]
    return [row for one in found for row in one.packed.rows()], [problem for one in found for problem in one.problems]


def scan_wholes(loaded: Loaded, environ: Mapping[str, str], home: Path | None) -> list[Row]:
    """The sessions in documents, folders and databases, whatever their age."""
    everything = msgspec.structs.replace(loaded.settings, logs=msgspec.structs.replace(loaded.settings.logs, history_s=float(LONGEST)))
    loaded = msgspec.structs.replace(loaded, settings=everything)
    pipeline = Pipeline(None, setup.limits(loaded), Prices(), lambda _: None)
    wholes = Wholes(loaded, environ, home, [], pipeline.fault)
    wholes.look_at_everything()
    while wholes.turn(pipeline, Nowhere()) is not None:
        pass
    return sessions_of(pipeline.engine.snapshot())


class Nowhere:
    """Takes alerts, and keeps none."""

    def append(self, alerts: Iterable[Alert]) -> int:
        return sum(1 for _ in alerts)


def sessions_of(snapshot: Snapshot) -> list[Row]:
    """The sessions that were seen to end, fall quiet or go on; no programs."""
    return [row for row in (*snapshot.rows, *live_rows(snapshot)) if row.format not in PROGRAMS]


def read(piece: Piece) -> Found:
    """One piece, in this process."""
    engine = Engine(piece.limits, Prices())
    for session_id, recording in piece.recordings:
        engine.foresee(session_id, recording)
    found = Found(Packed(), [])
    for file in piece.files:
        try:
            for _ in _feed(engine, file, piece.max_line_bytes, found.problems):
                if len(engine.rows) >= MOST_ROWS:
                    found.packed.add(row for row in engine.rows if row.format not in PROGRAMS)
                    engine.rows.clear()
        except OSError as error:
            found.problems.append(f"`{file.source}` cannot be read: {error.strerror or error}")
    found.packed.add(sessions_of(engine.snapshot()))
    return found


def _recordings(seen: list[Seen]) -> Iterator[tuple[str, Recording]]:
    """Whose transcripts would tell again what somebody who ran the agent has told."""
    for one in seen:
        if one.place.root.is_log_dir and not one.is_archive:
            with suppress(OSError):
                yield from foresight.of_file(Path(one.path), 0, one.place.scope)


def _all(pieces: list[Piece], total: int) -> Iterator[tuple[int, Found]]:
    cores = _cores()
    if cores == 1 or len(pieces) < 2 or total < SMALL_BYTES:
        yield from ((place, read(piece)) for place, piece in enumerate(pieces))
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed

    pool = ProcessPoolExecutor(min(cores, len(pieces)))
    try:
        by_weight = sorted(enumerate(pieces), key=lambda one: -one[1].weight)
        waiting = {pool.submit(read, piece): place for place, piece in by_weight}
        for future in as_completed(waiting):
            place = waiting.pop(future)  # what it has found must not stay in memory
            yield place, future.result()
            del future
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _pieces(seen: list[Seen], limits: Limits, max_line_bytes: int) -> Iterator[Piece]:
    total = sum(one.stat.st_size for one in seen)
    most = min(PIECE_BYTES, max(LEAST_PIECE_BYTES, total // (PIECES_A_CORE * _cores())))
    groups: dict[tuple[str, str], list[Seen]] = {}
    for one in seen:
        groups.setdefault((str(one.place.root.path), _group(one)), []).append(one)
    for members in groups.values():
        whole = []
        for one in sorted(members, key=lambda one: (not one.is_rotated, one.stat.st_mtime)):
            size = one.stat.st_size
            if one.place.root.is_log_dir and size > most and not one.is_archive:
                for start in range(0, size, most):
                    end = min(start + most, size)
                    yield Piece((File(one.path, one.source, one.place.scope, start, end, end - start),), limits, max_line_bytes)
            else:
                whole.append(File(one.path, one.source, one.place.scope, 0, None, size * (8 if one.is_archive else 1)))
        if whole:
            yield Piece(tuple(whole), limits, max_line_bytes)


def _group(one: Seen) -> str:
    """What must be read together. A session of an agent and its sub-agents share the beginning of their path."""
    if one.place.root.is_log_dir:
        return one.path if one.is_archive else f"{one.place.scope}/{one.source}"
    relative = Path(one.path).relative_to(one.place.root.path).parts
    return "/".join(relative[:2]).removesuffix(".jsonl")


def _feed(engine: Engine, file: File, max_line_bytes: int, problems: list[str]) -> Iterator[None]:
    """Judge a file, with a rest after each block."""
    out: list[Alert] = []
    decoder = None
    with gzip.open(file.path, "rb") if file.path.endswith(".gz") else Path(file.path).open("rb", BLOCK_BYTES) as stream:
        for offset, lines in _lines(stream, file, max_line_bytes, problems):
            if decoder is None:
                name = recognise(file.path, lines[:RECOGNISE_LINES])
                if name is None or name in PROGRAMS:
                    continue
                decoder = FORMATS[name].decoder(file.source, NO_MEMORY)

            def feed(items: Iterable[Item], reader: Any = decoder) -> None:
                engine.feed(file.source, file.scope, items, reader, out)

            decoder.read(lines, offset, feed, lambda *_: None)
            out.clear()
            yield


def _lines(stream: IO[bytes] | gzip.GzipFile, file: File, max_line_bytes: int, problems: list[str]) -> Iterator[tuple[int, list[bytes]]]:
    """Whole lines that begin in the file's span, about a megabyte at a time, each time with the offset of the first."""
    offset = file.start
    if offset:
        stream.seek(offset - 1)
        offset += len(stream.readline()) - 1
    while file.end is None or offset < file.end:
        try:
            lines = stream.readlines(BLOCK_BYTES if file.end is None else min(BLOCK_BYTES, file.end - offset))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            problems.append(f"`{file.source}` is damaged ({error}): what stands before the damage counts")
            return
        if not lines:
            return
        yield offset, lines if max(map(len, lines)) <= max_line_bytes else [line for line in lines if len(line) <= max_line_bytes]
        offset = stream.tell()
