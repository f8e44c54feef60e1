"""What is shown to who watches: which events and alerts, each alert once, and of the past no more than the newest."""

import heapq
import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Generic, TypeVar, get_args

from agentwatch.alert_log import NAME as ALERTS
from agentwatch.alert_log import as_line
from agentwatch.apps.alerts import AlertLine, moment, parse, read
from agentwatch.apps.holder import STATE_DIR, holder_of
from agentwatch.core.alerts import RECOMMENDATIONS
from agentwatch.core.board import Heard
from agentwatch.core.runs import RUNS
from agentwatch.errors import UsageError
from agentwatch.model import Alert, Context, Kind
from agentwatch.store import runs as runs_

LOOK_S = 2.0
"""How often it is asked whether a daemon runs."""

MOST_SEEN = 20_000

ALERT_TYPES = tuple(RECOMMENDATIONS)
TYPES = (*get_args(Kind), *ALERT_TYPES)

_Thing = TypeVar("_Thing")


@dataclass(frozen=True)
class Filters:
    """Which events and alerts are shown; what is empty lets all through. `attempts` are ids or their beginnings, `scopes` runs."""

    attempts: tuple[str, ...] = ()
    executors: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    grep: re.Pattern[str] | None = None
    alerts_only: bool = False

    @property
    def are_none(self) -> bool:
        """Whether everything passes."""
        return self == NO_FILTERS

    def event(self, heard: Heard, context: Context) -> bool:
        """Whether an event passes."""
        event = heard.event
        if self.alerts_only or (self.types and event.event_type not in self.types) or not self.attempt(event.attempt_id, heard.scope, context.executor):
            return False
        return self.grep is None or self.grep.search(heard.said().line) is not None

    def alert(self, alert: AlertLine, scope: str) -> bool:
        """Whether an alert passes."""
        if (self.types and alert["type"] not in self.types) or not self.attempt(str(alert.get("attempt_id", "")), scope, alert.get("executor")):
            return False
        return self.grep is None or self.grep.search(f"{alert['type']} {alert.get('summary', '')} {alert.get('evidence', '')}") is not None

    def attempt(self, attempt_id: str, scope: str, executor: str | None) -> bool:
        """Whether an attempt is one of those that are shown."""
        return (
            (not self.attempts or attempt_id.startswith(self.attempts))
            and (not self.scopes or scope in self.scopes)
            and (not self.executors or (executor or "").lower() in self.executors)
        )

    def words(self) -> str:
        """What is filtered, for people."""
        said = [
            *(f"attempt {one}" for one in self.attempts),
            *sorted(self.executors),
            *sorted(self.scopes),
            *sorted(self.types),
            *([f"/{self.grep.pattern}/"] if self.grep else []),
            *(["alerts"] if self.alerts_only else []),
        ]
        return f"only {', '.join(said)}" if said else ""


NO_FILTERS = Filters()


def filters(
    log_dir: Path,
    *,
    attempts: Iterable[str],
    executors: Iterable[str],
    runs: Sequence[str],
    types: Iterable[str],
    grep: str | None,
    alerts_only: bool,
    environ: Mapping[str, str],
) -> Filters:
    """What the options ask for; without `runs` the one that AGENTWATCH_RUN names, if any.

    Raises UsageError for a type that does not exist and a pattern that is none, and UnknownNameError for a run that is not there.
    """
    for name in types:
        if name not in TYPES:
            near = get_close_matches(name, TYPES, 1)
            raise UsageError(f"`--type {name}` is no type of event or alert", hint=f"did you mean `{near[0]}`?" if near else f"known are {', '.join(TYPES)}")
    try:
        pattern = re.compile(grep) if grep else None
    except re.error as error:
        raise UsageError(f"`--grep {grep}` is not a regular expression: {error}", hint="put a backslash before what is meant as it stands") from None
    return Filters(
        tuple(attempts),
        frozenset(name.lower() for name in executors),
        frozenset(f"{RUNS}/{run}" for one in (runs or (None,)) if (run := runs_.find(log_dir, one, environ)) is not None),
        frozenset(types),
        pattern,
        alerts_only,
    )


class AlertTail:
    """Alerts, each once: those of the alert log as it grows, and where no daemon runs those that were judged here.

    Both have the same ids, so that it does not matter who was first when a daemon starts or ends.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._path = log_dir / ALERTS
        self._fd = -1
        self._offset = 0
        self._next_look = 0.0
        self._seen: OrderedDict[str, None] = OrderedDict()
        self.daemon: int | None = None

    def begin(self, since: datetime) -> list[AlertLine]:
        """Those of before that are not older than `since`; what is older is not told any more."""
        self._look(time.monotonic())
        self._open()
        if self._fd >= 0:
            self._offset = os.fstat(self._fd).st_size
        return self._fresh(read(self._log_dir, since=since))

    def poll(self, judged: Sequence[Alert]) -> list[AlertLine]:
        """What came since the last call. `judged` are those of our own engine."""
        self._look(time.monotonic())
        found = [alert for line in self._new_lines() if (alert := parse(line)) is not None]
        if self.daemon is None:
            found += [alert for one in judged if (alert := parse(as_line(one))) is not None]
        return self._fresh(found)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _look(self, now: float) -> None:
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            self.daemon = holder_of(self._log_dir / STATE_DIR)

    def _fresh(self, alerts: Iterable[AlertLine]) -> list[AlertLine]:
        fresh = []
        for alert in alerts:
            if alert["alert_id"] not in self._seen and moment(alert) is not None:
                self._seen[alert["alert_id"]] = None
                fresh.append(alert)
        while len(self._seen) > MOST_SEEN:
            self._seen.popitem(last=False)
        return fresh

    def _open(self) -> None:
        with suppress(OSError):
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._offset = 0

    def _new_lines(self) -> Iterator[bytes]:
        """Whole lines behind those that were told; the file that was rotated away is read to its end before the new one."""
        if self._fd < 0:
            self._open()
        while self._fd >= 0:
            yield from self._read()
            held = os.fstat(self._fd)
            if held.st_size < self._offset:
                self._offset = 0
                continue
            try:
                if os.path.samestat(held, self._path.stat(follow_symlinks=False)):
                    return
            except OSError:
                return
            self.close()
            self._open()

    def _read(self) -> Iterator[bytes]:
        while piece := os.pread(self._fd, 1 << 20, self._offset):
            whole = piece[: piece.rfind(b"\n") + 1]
            if not whole:
                return
            self._offset += len(whole)
            yield from whole.splitlines(keepends=True)


class Newest(Generic[_Thing]):
    """The newest of many things by their time, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[datetime, int, _Thing]] = []
        self.count = 0

    def add(self, at: datetime, thing: _Thing) -> None:
        """One more; the oldest leaves where there are too many."""
        self.count += 1
        entry = (at, self.count, thing)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def sorted(self) -> list[_Thing]:
        """They, oldest first; of the same time in the order in which they came."""
        return [thing for _, _, thing in sorted(self._heap, key=lambda entry: entry[:2])]
