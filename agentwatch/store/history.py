"""What is kept of finished sessions and of their errors, read again: the current files and what they were rotated to. Only reads.

Lines of other writers and of the ancestor are understood as far as they go. What cannot be read is told, and never raised.
"""

import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self, cast

import msgspec
import orjson

from agentwatch.core.metrics import Metrics, Outcome, Row, sessions
from agentwatch.core.text import safe
from agentwatch.errors import StorageError
from agentwatch.model import EPOCH, Time

ARCHIVE = "archive"
METRICS, ERRORS = "agent-metrics", "agent-errors"
COMPACTED = f"{METRICS}-compacted.json"
BLOCK_BYTES, LOOKS = 256 << 10, 3
MOST_UNPACKED_BYTES = 64 << 20
"""More than so much of unpacked lines is kept on disk, where temporary files are."""


_rows = msgspec.json.Decoder(Row).decode_lines
_row = msgspec.json.Decoder(Row).decode
REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Tell = Callable[[str], None]
"""Told in words what could not be read, and how much of it."""


class ErrorLine(msgspec.Struct, gc=False):
    """One error as the logger's copy has it. `timestamp` is None where the line names no time."""

    attempt_id: str
    timestamp: Time | None = None
    task_id: str | None = None
    task_title: str | None = None
    executor: str | None = None
    model: str | None = None
    run_id: str | None = None
    message: str = ""
    fingerprint: str | None = None
    category: str | None = None


class Compacted(msgspec.Struct):
    """Which rotated metrics files stand in Parquet, size and time of the last write (ns) by name, and where."""

    location: str = ""
    files: dict[str, tuple[int, int]] = {}


def compacted(log_dir: Path) -> Compacted:
    """What was compacted; nothing where nobody did."""
    try:
        return msgspec.json.decode((log_dir / ARCHIVE / COMPACTED).read_bytes(), type=Compacted)
    except (OSError, *REFUSED):
        return Compacted()


def note_compacted(log_dir: Path, done: Compacted) -> None:
    """Remember it. Raises OSError."""
    archive = log_dir / ARCHIVE
    archive.mkdir(0o700, exist_ok=True)
    temporary = archive / f"{COMPACTED}.new"
    temporary.write_bytes(msgspec.json.encode(done))
    temporary.replace(archive / COMPACTED)


def state_of(path: Path) -> tuple[int, int] | None:
    """By which it is known whether a file is the one that was compacted; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


class Block(NamedTuple):
    """Whole lines of one file."""

    name: str
    lines: bytes


class _Named(msgspec.Struct, gc=False):
    attempt_id: str


_names = msgspec.json.Decoder(_Named).decode_lines


class Lines:
    """The lines of the store, to be gone through as often as is needed and never all in memory: of a file those that it had when it was added.

    What is packed is unpacked once, into a file without a name where it is much. To be closed.
    """

    def __init__(self) -> None:
        self._unpacked: IO[bytes] | None = None
        self._spans: list[tuple[str, IO[bytes], int, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._unpacked is not None:
            self._unpacked.close()
        for _, file, _, _ in self._spans:
            file.close()

    def __iter__(self) -> Iterator[Block]:
        """Whole lines, no more at a time than a processor's cache holds. Raises OSError where a disk fails."""
        for name, file, start, end in self._spans:
            for lines in _whole(_span(file, start, end)):
                yield Block(name, lines)

    def add(self, path: Path, tell: Tell) -> None:
        """A file of lines, packed or not; of a damaged one what stands before the damage."""
        if path.suffix == ".gz":
            self.unpack(path.name, _chunks(path, tell))
            return
        try:
            file = path.open("rb", buffering=0)
        except OSError as error:
            tell(f"`{path.name}` cannot be read: {error.strerror or error}")
        else:
            self._spans.append((path.name, file, 0, os.fstat(file.fileno()).st_size))

    def unpack(self, name: str, chunks: Iterable[bytes]) -> None:
        """What it raises, and what `chunks` raises, passes through."""
        if self._unpacked is None:
            from tempfile import SpooledTemporaryFile  # noqa: PLC0415  # 4 ms, where something is packed

            self._unpacked = SpooledTemporaryFile[bytes](MOST_UNPACKED_BYTES)
        start = self._unpacked.seek(0, os.SEEK_END)
        for chunk in chunks:  # `writelines` would have all of them in memory first
            self._unpacked.write(chunk)
        self._spans.append((name, self._unpacked, start, self._unpacked.tell()))


def lines(log_dir: Path, since: datetime | None, tell: Tell, location: str | None, *, needs_parquet: bool = False, only_rotated: bool = False) -> Lines:
    """The lines of all metrics files, in the order in which they were written; archives of months before `since` stay closed. To be closed.

    `location` is where the settings say that Parquet is: no other store of objects is asked, whatever stands in the directory; with None, none at all.
    What was compacted is read from Parquet, before what was not; where that cannot be read, from the files as long as they are there,
    but with `needs_parquet`: then it raises StorageError.
    """
    current = log_dir / f"{METRICS}.jsonl"
    for look in range(LOOKS):
        paths, problems, found = files(log_dir, METRICS, since), list[str](), Lines()
        kept = [path for path in paths if path != current] if only_rotated else paths
        try:
            if location is not None:
                kept = _add_compacted(log_dir, kept, since, location, found)
        except StorageError as error:
            if needs_parquet:
                found.close()
                raise
            problems.append(f"what was compacted is not used: {error}")
        for path in kept:
            found.add(path, problems.append)
        if look == LOOKS - 1 or files(log_dir, METRICS, since) == paths:
            break
        found.close()  # one was rotated meanwhile, and stands elsewhere
    for problem in problems:
        tell(problem)
    return found


def rotated(log_dir: Path, tell: Tell, location: str | None = None) -> Iterator[bytes]:
    """The lines of the rotated files of metrics as they are when the first is asked for; of those that stand in Parquet only with its `location`."""
    with lines(log_dir, None, tell, location, only_rotated=True) as found:
        for block in found:
            yield from block.lines.splitlines(keepends=True)


def understood(blocks: Iterable[Block], tell: Tell) -> Iterator[list[Row]]:
    """The rows of each block, their times in UTC; at the end it is told what was not understood."""
    refused: dict[str, int] = {}
    for block in blocks:
        try:
            read = _rows(block.lines)
        except REFUSED:
            lines = [line for line in block.lines.splitlines() if line.strip()]
            read = [row for line in lines if (row := _lenient(line)) is not None]
            refused[block.name] = refused.get(block.name, 0) + len(lines) - len(read)
        sound = [row for row in read if (row.timestamp.tzinfo is UTC and row.error_summary is None) or _is_in_utc(row)]
        refused[block.name] = refused.get(block.name, 0) + len(read) - len(sound)
        yield sound
    for name, count in refused.items():
        if count:
            tell(f"`{name}`: {count:,} {'line is no session' if count == 1 else 'lines are no sessions'}, and not counted")


def attempts(block: Block) -> list[str]:
    """The attempts that the rows of a block may be of, in a quarter of the time that the rows take."""
    try:
        return [row.attempt_id for row in _names(block.lines)]
    except REFUSED:
        return [row.attempt_id for rows in understood([block], lambda _: None) for row in rows]


def joined(lines: Iterable[Block], beside: Sequence[Row], tell: Tell) -> Iterator[list[Row]]:
    """What `metrics.sessions` makes of these lines, which are gone through twice, and of the rows beside them; some at a time, in no order.

    In memory are only the rows of attempts that have several: of those some replace and some continue others.
    """
    names = chain.from_iterable(map(attempts, lines))
    several = repeated(map(hash, chain(names, (row.attempt_id for row in beside))))
    apart: list[Row] = []
    for read in chain(understood(lines, tell), [beside]):
        yield [row for row in read if hash(row.attempt_id) not in several]
        apart += [row for row in read if hash(row.attempt_id) in several]
    yield sessions(apart)


def repeated(values: Iterable[int]) -> set[int]:
    """Those that come more than once."""
    seen: set[int] = set()
    again: set[int] = set()
    for value in values:
        (again if value in seen else seen).add(value)
    return again


def _add_compacted(log_dir: Path, paths: list[Path], since: datetime | None, location: str, found: Lines) -> list[Path]:
    """Add the lines in Parquet that the period needs; the files that are to be read besides. Raises StorageError, and then nothing is added."""
    done = compacted(log_dir)
    at_ns = since.timestamp() * 1e9 if since is not None else 0
    if not any(written_ns >= at_ns for _, written_ns in done.files.values()):
        return paths
    from agentwatch.store import parquet  # noqa: PLC0415  # where somebody compacts

    if parquet.is_remote(done.location) and done.location != location.rstrip("/"):
        raise StorageError(f"`report.history` does not say `{safe(done.location, 200)}`", hint=f"set it so, or remove `{ARCHIVE}/{COMPACTED}`")
    found.unpack(done.location, parquet.read(done.location, f"{since or EPOCH:%Y-%m-%d}"))
    return [path for path in paths if done.files.get(path.name) != state_of(path)]


def _is_in_utc(row: Row) -> bool:
    """Put its times in UTC; false where the calendar has no such time there. An error's time that it has not counts as absent."""
    try:
        row.timestamp = row.timestamp.astimezone(UTC)
        row.started_at = row.started_at and row.started_at.astimezone(UTC)
    except OverflowError:
        return False
    for kind in row.error_summary.kinds if row.error_summary is not None else ():
        kind.first_seen, kind.last_seen = _in_utc(kind.first_seen), _in_utc(kind.last_seen)
    return True


def _in_utc(at: datetime | None) -> datetime | None:
    try:
        return at if at is None or at.tzinfo is UTC else at.astimezone(UTC)
    except OverflowError:
        return None


def errors(log_dir: Path, since: datetime | None, tell: Tell) -> list[ErrorLine]:
    """The logger's copies of error events, for sessions of which nothing else is known."""
    found: list[ErrorLine] = []
    for path in files(log_dir, ERRORS, since):
        refused = 0
        for block in _blocks(path, tell):
            for line in block.splitlines():
                error = _error(line)
                if error is not None:
                    found.append(error)
                elif line.strip():
                    refused += 1
        if refused:
            tell(f"`{path.name}`: {refused:,} {'line is no error' if refused == 1 else 'lines are no errors'}, and not counted")
    return found


def files(log_dir: Path, stem: str, since: datetime | None = None) -> list[Path]:
    """A file of ours and what it was rotated to, the oldest first. What was last written before `since` is left out."""
    found = []
    for directory in (log_dir / ARCHIVE, log_dir):
        for path in {*directory.glob(f"{stem}.jsonl*"), *directory.glob(f"{stem}-*.jsonl*")}:
            try:
                stat = path.lstat()
            except OSError:
                continue
            if path.is_file() and not path.is_symlink() and not path.name.endswith(".part"):
                found.append((stat.st_mtime, path == log_dir / f"{stem}.jsonl", path))
    found.sort(key=lambda one: (one[1], one[0]))
    return [path for written_s, _, path in found if since is None or written_s >= since.timestamp()]


def _blocks(path: Path, tell: Tell) -> Iterator[bytes]:
    """Whole lines of a file, packed or not."""
    return _whole(_chunks(path, tell))


def _chunks(path: Path, tell: Tell) -> Iterator[bytes]:
    """A damaged archive ends where the damage begins."""
    opened: Callable[[Path, str], Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            while chunk := file.read1(BLOCK_BYTES) if path.suffix == ".gz" else file.read(BLOCK_BYTES):
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        tell(f"`{path.name}` is damaged ({error}): what stands before the damage counts")
    except OSError as error:
        tell(f"`{path.name}` cannot be read: {error.strerror or error}")


def _span(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    while start < end:
        file.seek(start)
        chunk = file.read(min(BLOCK_BYTES, end - start))
        if not chunk:
            return
        yield chunk
        start += len(chunk)


def _whole(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same cut at the ends of lines. The last line may lack its end."""
    begun: list[bytes] = []
    for chunk in chunks:
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            begun.append(chunk)
            continue
        yield b"".join((*begun, chunk[:cut]))
        begun = [chunk[cut:]]
    rest = b"".join(begun)
    if rest.strip():
        yield rest


def _lenient(line: bytes) -> Row | None:
    """A row of another writer: a field of an unexpected type counts as absent. None where it says no time or attempt."""
    try:
        return _row(line.removeprefix(b"\xef\xbb\xbf"))
    except REFUSED:
        pass
    raw = _object(line)
    at = _time(raw.get("timestamp"))
    attempt_id = raw.get("attempt_id")
    if at is None or not isinstance(attempt_id, str):
        return None
    told = {"timestamp": at, "attempt_id": attempt_id, "metrics": _fitting(Metrics, raw.get("metrics"))}
    for field in msgspec.structs.fields(Row):
        value = raw.get(field.name)
        if field.name in told or value is None:
            continue
        if field.name == "outcome":
            told["outcome"] = _fitting(Outcome, value)
            continue
        try:
            told[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError:
            continue
    return Row(**told)


def _fitting(wanted: type[Any], raw: object) -> Any:
    """As many fields of a struct as `raw` has in a fitting type."""
    kept: dict[str, object] = {}
    if isinstance(raw, dict):
        for field in msgspec.structs.fields(wanted):
            if raw.get(field.name) is not None:
                try:
                    kept[field.name] = msgspec.convert(raw[field.name], field.type, strict=False)
                except msgspec.ValidationError:
                    continue
    return wanted(**kept)


def _error(line: bytes) -> ErrorLine | None:
    raw = _object(line)
    data = raw.get("data")
    if not isinstance(raw.get("attempt_id"), str) or not isinstance(data, dict):
        return None
    names = ("attempt_id", "task_id", "task_title", "executor", "model", "run_id")
    told = {name: safe(value, 200) for name in names if isinstance(value := raw.get(name), str)}
    said = {ours: safe(value, 500) for ours, theirs in _SAID.items() if isinstance(value := data.get(theirs), str) and value}
    return ErrorLine(timestamp=_time(raw.get("timestamp")), **told, **said)


_SAID = {"message": "error_message", "fingerprint": "error_fingerprint", "category": "error_category"}


def _object(line: bytes) -> dict[str, object]:
    try:
        raw = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, object]", raw) if isinstance(raw, dict) else {}


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
