"""Which agents' sessions are recorded, as the unread part of the log directory says: known before anything is judged.

A backlog is read in the order in which its files were written last, and a transcript may come before the record that tells of its session.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from agentwatch.core.recordings import Recording
from agentwatch.formats.registry import FORMATS
from agentwatch.model import NO_MEMORY, RECORDED, Item
from agentwatch.sources.tailer import Tailer

CHUNK = 1 << 18
MARK = f'"{RECORDED}"'.encode()
WORTH_A_LOOK = (b'"session_start"', b'"status_change"', b'"session_end"')


def recordings(tailer: Tailer) -> Iterator[tuple[str, Recording]]:
    """The recordings of which unread lines tell, each with its session. One without an end goes up to the last line of its attempt. Archives are not looked into."""
    for file in tailer.files():
        if file.place.root.is_log_dir and not file.is_archive and file.path is not None and file.stream is not None:
            with suppress(OSError):
                yield from of_file(Path(file.path), file.stream.cursor.offset, file.place.scope)


def of_file(path: Path, start: int, scope: str) -> list[tuple[str, Recording]]:
    """The recordings of which one file tells from the byte `start` on. Raises OSError."""
    return _told(path, start, scope) if _has_mark(path, start) else []


def _has_mark(path: Path, start: int) -> bool:
    most = len(MARK) - 1
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        end = b""
        while chunk := file.read(CHUNK):
            if MARK in chunk or MARK in end + chunk[:most]:
                return True
            end = (end + chunk[-most:])[-most:]
    return False


def _told(path: Path, start: int, scope: str) -> list[tuple[str, Recording]]:
    decoder = FORMATS["canonical"].decoder("", NO_MEMORY)
    began: dict[str, datetime] = {}
    newest: dict[str, bytes] = {}
    found: list[tuple[str, Recording]] = []

    def events(line: bytes) -> list[Item]:
        items: list[Item] = []
        decoder.read([line], 0, items.extend, lambda *_: None)
        return items

    def end(attempt_id: str, at: datetime) -> None:
        newest.pop(attempt_id, None)
        for _, recording in found:
            if recording.attempt_id == attempt_id and recording.until is None:
                recording.until = at

    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            for attempt_id in newest:
                if attempt_id.encode(errors="replace") in line:
                    newest[attempt_id] = line
            for event, _, _ in events(line) if any(kind in line for kind in WORTH_A_LOOK) else ():
                attempt_id, session_id = event.attempt_id, decoder.context(line).session_id
                if event.event_type == "session_start":
                    began[attempt_id] = event.timestamp
                elif event.event_type == "session_end":
                    end(attempt_id, event.timestamp)
                elif session_id is not None and session_id != attempt_id and decoder.detail(line).new_status == RECORDED:
                    found.append((session_id, Recording(scope, attempt_id, began.get(attempt_id, event.timestamp))))
                    newest[attempt_id] = line
    for attempt_id, line in list(newest.items()):
        for event, _, _ in events(line):
            end(attempt_id, event.timestamp)
    return found
