"""Whose content is it: which stream a file continues, repeats or begins (tailing.md, section 3.2).

The rules stand in `docs/design.md`, and are run against random programs in `tests/torture`.
"""

from collections.abc import Callable
from typing import NamedTuple

from agentwatch.model import Cursor
from agentwatch.sources.archive import Archive
from agentwatch.sources.identity import continues, early_second, end_of, is_beginning, line_start, marker, second_line, shared
from agentwatch.sources.lines import OpenFile, head
from agentwatch.sources.streams import File, Stream, Streams
from agentwatch.sources.turns import Turns


class Likeness(NamedTuple):
    """The first `common` bytes of two files are the same; whether mine and theirs go on behind them."""

    common: int
    mine: bool
    theirs: bool


class Adoption:
    """Joins files and streams by what stands in the files.

    `part` is called with a file that no longer has what was read from it. Of an agent's own folder what has not grown for
    `history_s` before `wall` is history: its stream begins at its end.
    """

    def __init__(self, streams: Streams, turns: Turns, *, part: Callable[[File], None], wall: Callable[[], float], history_s: float) -> None:
        self._streams = streams
        self._turns = turns
        self._part = part
        self._wall = wall
        self._history_s = history_s

    def match(self, file: File, handle: OpenFile | Archive, *, is_last: bool) -> bool:
        """Bind a file to the stream that it continues or to a new one, or note it as the copy of another; nothing as long as it has no whole line.

        False where that has to wait until others were looked at; not if it `is_last`. Raises OSError where it cannot be read.
        """
        self._streams.repeat(file, None)
        found = head(handle)
        if found is None:
            return True
        orphans = []
        following = early_second(handle)
        for stream in self._streams.candidates(file, found, following):
            likeness = self._compare(file, handle, stream.file) if stream.file is not None else None
            # Asked after the comparison: the owner may have been truncated while it was read.
            if stream.file is not None and not self._carries(stream.file, stream.cursor):
                self._part(stream.file)
            if stream.file is None:
                if stream.cursor.offset > 0 and continues(handle, stream.cursor):
                    self._carry_on(file, stream)
                    return True
                orphans.append(stream)
            elif likeness is None or not likeness.mine:
                self._streams.repeat(file, stream)
                return True
            elif not likeness.theirs:
                self._turns.dequeue(stream.file)
                self._streams.take_over(file, stream.file, stream)
                self._turns.queue(file)
                return True
            elif (start := line_start(handle, likeness.common)) > second_line(handle):
                self._carry_on(file, self._streams.begin(file, found, following, start, marker(handle, start)))
                return True
        if orphans and not is_last:
            return False
        self._begin(file, handle, found, following, orphans)
        return True

    def _begin(self, file: File, handle: OpenFile | Archive, found: str, following: str, orphans: list[Stream]) -> None:
        """No stream goes on in this file: it is a left-over of one, or the first of its own."""
        unread = next((stream for stream in orphans if stream.cursor.offset == 0), None)  # any file with its first line continues it
        for stream in orphans:
            if file.is_rotated and stream.cursor.offset > 0 and is_beginning(handle, stream.cursor):
                self._streams.repeat(file, stream)
                return
        stream = unread or self._streams.begin(file, found, following, 0, "")
        if not file.place.root.is_log_dir and file.mtime_ns / 1e9 < self._wall() - self._history_s:
            self._streams.bind(file, stream)
            _pass_over(file, handle, stream.cursor)
        else:
            self._carry_on(file, stream)

    def _carries(self, owner: File, cursor: Cursor) -> bool:
        """Whether a stream's file still has what was read from it. Assumed where it cannot be opened: reading it will tell."""
        handle = self._turns.open(owner)
        return handle is None or owner.suspect_at is not None or (continues(handle, cursor) and head(handle) == cursor.head)

    def _compare(self, file: File, handle: OpenFile | Archive, owner: File) -> Likeness | None:
        """With the owner of a stream, as both are now; None where that cannot be opened."""
        other = self._turns.open(owner)
        if other is None:
            return None
        if file.compared and marker(handle, file.compared) != marker(other, file.compared):
            file.compared = 0  # what was compared stands there no longer
        while True:
            common = file.compared = shared(handle, other, file.compared)
            mine, theirs = handle.pread(1, common), other.pread(1, common)
            if not mine or mine != theirs:
                return Likeness(common, bool(mine), bool(theirs))

    def _carry_on(self, file: File, stream: Stream) -> None:
        self._streams.bind(file, stream)
        self._turns.queue(file)


def _pass_over(file: File, handle: OpenFile | Archive, cursor: Cursor) -> None:
    """Begin behind what is there: history that nobody wants to be alerted about."""
    cursor.offset = line_start(handle, end_of(handle) if file.is_archive else file.size)
    cursor.marker = marker(handle, cursor.offset)
    cursor.size, cursor.mtime_ns = file.size, file.mtime_ns
