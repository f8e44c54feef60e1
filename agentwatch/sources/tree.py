"""Which files are logs. Looks at directories, never into files."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

from agentwatch.core.runs import RUNS

OUTPUT_FILES = ("agent-alerts", "agent-metrics", "agent-errors")
"""What agentwatch and its logger write (contract, section 1). Read back as inputs they would count every error twice."""

OUTPUT_DIRS = frozenset({"agent-sessions", "archive", ".agentwatch"})

_ENDINGS = r"jsonl|ndjson|log"
_NAME = re.compile(
    rf"""(?P<stem>.+?)
    (?:-(?P<dated>20\d{{6}}(?:[-_T]\d{{4,6}})?))*   # x-20260209.jsonl
    \.(?P<ending>{_ENDINGS})
    (?P<rotated>[.-]\d[\d_T-]*)?                     # x.jsonl.1, x.jsonl-20260209
    (?P<gz>\.gz)?""",
    re.VERBOSE | re.DOTALL,
)


class Root(NamedTuple):
    """A directory whose logs are read. The log directory has outputs beside its inputs; an agent's own folder has none."""

    path: Path
    is_log_dir: bool
    format: str | None = None


class Place(NamedTuple):
    """A directory in which logs stand; `scope` is the space of attempt ids that it belongs to."""

    root: Root
    directory: str
    scope: str


class Seen(NamedTuple):
    """A file that is a log, and what `lstat` says of it. `source` is its logical name: rotated siblings share it."""

    place: Place
    path: str
    source: str
    is_rotated: bool
    is_archive: bool
    stat: os.stat_result


def source_of(name: str) -> tuple[str, bool, bool] | None:
    """Of a file's name: its source's name, whether it is a rotated sibling, whether it is compressed. None: not a log."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    rotated = match["dated"] or match["rotated"]
    return f"{match['stem']}.{match['ending']}", rotated is not None, match["gz"] is not None


def is_output(name: str) -> bool:
    """Whether a file of this name is one of those that agentwatch or its logger writes, rotated or not."""
    return any(name == f"{stem}.jsonl" or name.startswith((f"{stem}.jsonl.", f"{stem}.jsonl-", f"{stem}-2")) for stem in OUTPUT_FILES)


def scope_of(root: Root, relative_dir: str) -> str:
    """The space of attempt ids that a directory belongs to: each run has its own, everything else shares one."""
    parts = relative_dir.split("/")
    if not root.is_log_dir or parts[0] != RUNS or len(parts) < 2:
        return ""
    return f"{RUNS}/{parts[1]}".encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def list_dir(root: Root, relative_dir: str) -> tuple[list[Seen], list[str]]:
    """The logs directly in a directory of `root`, and its sub-directories as paths relative to the root.

    Symbolic links are not followed: `runs/latest` would be read twice, and a link may lead anywhere. What is no regular file
    (FIFO, socket, device) is no log. Raises OSError where the directory cannot be read.
    """
    files: list[Seen] = []
    directories: list[str] = []
    base = os.path.join(root.path, relative_dir) if relative_dir else os.fspath(root.path)  # noqa: PTH118  # called for each of 10,000 files
    place = Place(root, base, scope_of(root, relative_dir))
    prefix = f"{relative_dir}/" if relative_dir else ""
    with os.scandir(base) as entries:
        for entry in entries:
            name = entry.name
            if entry.is_dir(follow_symlinks=False):
                if not (root.is_log_dir and not relative_dir and name in OUTPUT_DIRS):
                    directories.append(prefix + name)
                continue
            seen = _seen(place, prefix, name, entry)
            if seen is not None:
                files.append(seen)
    return files, directories


def look(root: Root, relative_path: str) -> Seen | None:
    """One file of `root`, if it is there and a log."""
    relative_dir, _, name = relative_path.rpartition("/")
    top = relative_path.split("/", 1)[0]
    if root.is_log_dir and top in OUTPUT_DIRS:
        return None
    named = source_of(name)
    if named is None or (root.is_log_dir and is_output(name)) or not _is_reached(root, relative_dir):
        return None
    path = os.path.join(root.path, relative_path)  # noqa: PTH118
    try:
        stat = os.lstat(path)
    except OSError:
        return None
    if not S_ISREG(stat.st_mode):
        return None
    place = Place(root, path.rpartition("/")[0], scope_of(root, relative_dir))
    return _named(place, f"{relative_dir}/" if relative_dir else "", path, named, stat)


def is_there(path: Path) -> bool:
    """Whether it is a directory, or lies where nobody may look: `walk` says so then."""
    try:
        return S_ISDIR(path.stat().st_mode)
    except PermissionError:
        return True
    except OSError:
        return False


def walk(root: Root, below: str = "") -> Iterator[tuple[str, list[Seen] | OSError]]:
    """Every directory of `root` from the top, or from the one named, with its logs or with why it cannot be read."""
    if (root.is_log_dir and below.split("/", 1)[0] in OUTPUT_DIRS) or not _is_reached(root, below):
        return
    pending = [below]
    while pending:
        relative_dir = pending.pop()
        try:
            files, directories = list_dir(root, relative_dir)
        except OSError as error:
            yield relative_dir, error
            continue
        pending.extend(directories)
        yield relative_dir, files


def _seen(place: Place, prefix: str, name: str, entry: os.DirEntry[str]) -> Seen | None:
    named = source_of(name)
    if named is None or (place.root.is_log_dir and is_output(name)):
        return None
    try:
        stat = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    return _named(place, prefix, entry.path, named, stat) if S_ISREG(stat.st_mode) else None


def _named(place: Place, prefix: str, path: str, named: tuple[str, bool, bool], stat: os.stat_result) -> Seen:
    name, is_rotated, is_archive = named
    root = place.root
    if not root.is_log_dir:  # an agent names its files by date and id, and rotates none
        name, is_rotated = path.rpartition("/")[2], False
    source = prefix + name if root.is_log_dir else f"{root.path.name}/{prefix}{name}"
    return Seen(place, path, shown(source), is_rotated, is_archive, stat)


def shown(path: str) -> str:
    """A path as text: bytes of a file name that are no UTF-8 become visible escapes."""
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_reached(root: Root, relative_dir: str) -> bool:
    """Whether each directory on the way down from the root is a real one: through a link the same file has two paths."""
    path = os.fspath(root.path)
    for part in relative_dir.split("/") if relative_dir else ():
        path = f"{path}/{part}"
        try:
            if not S_ISDIR(os.lstat(path).st_mode):
                return False
        except OSError:
            return False
    return True
