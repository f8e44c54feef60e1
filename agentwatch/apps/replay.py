"""`agentwatch replay`: finds the events of one attempt, wherever its agent wrote them, and tells them as its decisions. Only reads."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import msgspec

from agentwatch.alert_log import as_line
from agentwatch.apps import setup
from agentwatch.apps.alerts import AlertLine, moment, parse, read
from agentwatch.apps.pipeline import Pipeline
from agentwatch.apps.tail import alert_json, event_json, evidence
from agentwatch.apps.wholes import Wholes
from agentwatch.core.board import Heard
from agentwatch.core.state import Session
from agentwatch.core.steps import Reader
from agentwatch.core.story import Alarm, Step, Story, Told, story
from agentwatch.errors import StorageError, UnknownNameError, UsageError
from agentwatch.model import Alert, Context, Item
from agentwatch.pricing import Prices
from agentwatch.settings import Loaded
from agentwatch.sources.tailer import Tailer
from agentwatch.sources.tree import Root, walk
from agentwatch.ui import console
from agentwatch.ui import replay as pages
from agentwatch.ui.lines import Line
from agentwatch.ui.replay_html import html
from agentwatch.ui.screen import Screen

LATEST = "latest"
EVER_S = 50 * 365 * 86_400.0
"""However old: of what is asked for nothing is passed over."""

SLACK_S = 60.0
MOST_NAMED = 5
NEWEST_FILES = 5
PIECE = 1 << 20


class _File(NamedTuple):
    root: Root
    relative: str
    path: str
    written_s: float


class Found(NamedTuple):
    """The events of an attempt, and the alerts about it."""

    story: Story
    told: tuple[Told, ...]
    alerts: tuple[AlertLine, ...]


def find(loaded: Loaded, environ: Mapping[str, str], home: Path | None, name: str) -> Found:
    """The attempt of that id, or of one that begins so; `latest` is the one that did something last.

    Raises UnknownNameError where there is none, or more than one.
    """
    if not name:
        raise UsageError("the id of an attempt is empty", hint=f"give its beginning, or `{LATEST}`")
    library = _Library(loaded, environ, home)
    if name == LATEST:
        last = library.attempts(library.newest(1))
        if not last:
            raise UnknownNameError("no log holds an attempt", hint="see what `agentwatch doctor` says would be watched")
        name = max(last, key=lambda attempt_id: last[attempt_id])
    reading = library.read(library.holding(name), name)
    found = sorted({attempt_id for _, attempt_id in reading.told})
    if name in found:
        found = [name]
    if not found:
        near = get_close_matches(name, library.attempts(library.newest(NEWEST_FILES)), MOST_NAMED, 0.4)
        raise UnknownNameError(
            f"there is no attempt `{name}`", hint=f"the nearest are {', '.join(near)}" if near else "`agentwatch tail` shows those that live"
        )
    if len(found) > 1:
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise UnknownNameError(f"`{name}` is the beginning of {len(found)} attempts", hint=f"they are {', '.join(found[:MOST_NAMED])}{more}")
    return reading.of(found[0], loaded.settings.logs.dir)


class _Library:
    """All logs, from which only those are read that can hold what is asked for."""

    def __init__(self, loaded: Loaded, environ: Mapping[str, str], home: Path | None) -> None:
        self._loaded, self._environ, self._home = loaded, environ, home
        self._files = [
            _File(root, f"{below}/{name}" if below else name, seen.path, seen.stat.st_mtime)
            for root in setup.roots(loaded, environ, home)
            for below, found in walk(root)
            if not isinstance(found, OSError)
            for seen in found
            for name in [os.path.basename(seen.path)]  # noqa: PTH119  # of bytes that may be no UTF-8
        ]

    def newest(self, count: int) -> list[_File]:
        """The logs that were written last."""
        return sorted(self._files, key=lambda file: -file.written_s)[:count]

    def holding(self, name: str) -> list[_File]:
        """The logs in whose path or lines the name stands: an id is told in one of them. Archives are taken unseen."""
        text = name.encode("utf-8", "surrogatepass")
        return [file for file in self._files if name in file.path or file.path.endswith(".gz") or _holds(file.path, text)]

    def attempts(self, files: list[_File]) -> dict[str, datetime]:
        """When each attempt of these logs, and of the documents that are not older, did something last."""
        last: dict[str, datetime] = {}

        def hear(_source: str, _scope: str, items: Iterable[Item], _reader: Reader) -> Iterable[Item]:
            for event, _, _ in items:
                if event.attempt_id not in last or last[event.attempt_id] < event.timestamp:
                    last[event.attempt_id] = event.timestamp
            return ()

        oldest = min((file.written_s for file in files), default=-math.inf)
        self._pass(files, hear, history_s=min(datetime.now(UTC).timestamp() - oldest + SLACK_S, EVER_S))
        return last

    def read(self, files: list[_File], name: str) -> "_Reading":
        """Every event of the attempts whose id begins with `name`, judged."""
        reading = _Reading(name)
        reading.pipeline = self._pass(files, reading.hear, history_s=EVER_S, sink=reading)
        reading.pipeline.engine.finish(None, reading.judged)
        return reading

    def _pass(
        self, files: list[_File], hear: Callable[[str, str, Iterable[Item], Reader], Iterable[Item]], *, history_s: float, sink: "_Reading | None" = None
    ) -> Pipeline:
        logs = msgspec.structs.replace(self._loaded.settings.logs, history_s=history_s)
        loaded = msgspec.structs.replace(self._loaded, settings=msgspec.structs.replace(self._loaded.settings, logs=logs))
        sink = sink or _Reading("")
        pipeline = Pipeline(None, setup.limits(loaded), Prices(), lambda _said: None, hear)
        sink.pipeline = pipeline
        tailer: Tailer = setup.tailer(loaded, self._environ, self._home, [], pipeline.fault)
        wholes = Wholes(loaded, self._environ, self._home, [], pipeline.fault)
        try:
            for file in files:
                tailer.hint(file.root, file.relative)
            tailer.settle()
            while tailer.is_behind:
                work = tailer.turn()
                if work is not None:
                    pipeline.process(work, tailer, sink)
                tailer.settle()
            wholes.look_at_everything()
            while wholes.turn(pipeline, sink) is not None:
                pass
        finally:
            tailer.close()
        return pipeline


class _Reading:
    """The events of the attempts whose id begins with a name, by scope and id, and what was judged of them."""

    pipeline: Pipeline

    def __init__(self, name: str) -> None:
        self._name = name
        self.told: dict[tuple[str, str], list[Told]] = {}
        self.judged: list[Alert] = []
        self._sessions: dict[tuple[str, str], Session] = {}

    def append(self, alerts: list[Alert]) -> int:
        """As the alert log does, but only in memory."""
        self.judged += alerts
        return len(alerts)

    def hear(self, source: str, scope: str, items: Iterable[Item], reader: Reader) -> Iterator[Item]:
        """Let the events of these attempts through to the engine, and note what each costs."""
        engine = self.pipeline.engine
        for event, place, line in items:
            if not event.attempt_id.startswith(self._name):
                continue
            key = scope, event.attempt_id
            before = engine.session(*key)
            tokens, usd = (before.tokens, before.cost_usd) if before is not None else (0, 0.0)
            yield event, place, line
            after = engine.session(*key)
            if after is not None:
                self._sessions[key] = after
            spent = (after.tokens - tokens, after.cost_usd - usd) if after is not None else (0, 0.0)
            if event.event_type == "session_end" and not usd:
                spent = 0, event.data.cost_usd or 0.0
            self.told.setdefault(key, []).append(Told(Heard(event, scope, source, place, line, reader.detail), max(spent[0], 0), max(spent[1], 0.0)))

    def of(self, attempt_id: str, log_dir: Path) -> Found:
        """All of one attempt, of the run in which it did something last."""
        key = max((key for key in self.told if key[1] == attempt_id), key=lambda key: max(one.heard.event.timestamp for one in self.told[key]))
        told = self.told[key]
        judged = [alert for one in self.judged if (alert := parse(as_line(one))) is not None]
        alerts = {alert["alert_id"]: alert for alert in (*judged, *read(log_dir)) if alert.get("attempt_id") == attempt_id}
        session = self._sessions.get(key)
        context = session.context if session is not None else Context()
        alarms = [_alarm(at, alert) for alert in alerts.values() if (at := moment(alert)) is not None]
        is_priced = session is None or not session.unpriced or bool(session.cost_usd)
        return Found(story(attempt_id, context, told, alarms, is_priced=is_priced), tuple(told), tuple(alerts.values()))


def _alarm(at: datetime, alert: AlertLine) -> Alarm:
    is_over = alert.get("status") == "recovered"
    title = f"{alert['type']} is over" if is_over else f"{alert['type']} ({alert.get('severity', '')})"
    return Alarm(at, title, str(alert.get("summary", "")), tuple(evidence(alert)), is_over)


def _holds(path: str, text: bytes) -> bool:
    """Whether a text stands in a file."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # of bytes that may be no UTF-8
            end = b""
            while piece := file.read(PIECE):
                if text in end + piece:
                    return True
                end = piece[-len(text) :] if text else b""
    except OSError:
        return False
    return False


# ------------------------------------------------------------------------------------------------------------------ on a screen

SPEEDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
LONGEST_WAIT_S = 2.0
"""While it plays nobody watches an agent wait: longer waits are cut to this."""

IDLE_S = 1.0


def show(found: Story, environ: Mapping[str, str]) -> int:
    """Step through a session on the terminal until its user quits; the exit code."""
    with Screen(environ) as terminal:
        player = Player(found)
        while not player.is_over:
            terminal.draw(player.page(*terminal.size))
            wait = player.wait_s()
            key = terminal.key(IDLE_S if wait is None else wait)
            if key in ("resize", "redraw"):
                terminal.redraw()
            elif key is not None:
                player.press(key)
            elif wait is not None:
                player.go(1)
    return 0


class Player:
    """A replay without its screen: keys in, pages out."""

    def __init__(self, found: Story) -> None:
        self._view = pages.Replay(found)
        self._fast = SPEEDS.index(10.0)
        self._helps = False
        self.is_over = False

    def page(self, width: int, height: int) -> list[Line]:
        """The screen as it is now."""
        return console.leaf("help", pages.help_lines(), width, height) if self._helps else pages.page(self._view, width, height)

    def wait_s(self) -> float | None:
        """How long until the next step comes by itself; None where it does not."""
        steps, at = self._view.story.steps, self._view.at
        if not self._view.speed or at + 1 >= len(steps):
            self._view.speed = 0.0
            return None
        return min((steps[at + 1].at - steps[at].at).total_seconds() / self._view.speed, LONGEST_WAIT_S)

    def go(self, by: int) -> None:
        """So many steps on or back."""
        self._view.at = max(0, min(self._view.at + by, len(self._view.story.steps) - 1))
        self._view.scroll = 0

    def press(self, key: str) -> None:
        """Do what a key asks for."""
        view = self._view
        view.notice = ""
        if self._helps:
            self._helps = False
            self.is_over = key == "q"
        elif key in _STEPS:
            self.go(_STEPS[key])
        elif key in _JUMPS:
            self._jump(*_JUMPS[key])
        elif key in _SCROLLS:
            view.scroll += _SCROLLS[key]
        elif key in "+=-_":
            self._fast = max(0, min(self._fast + (1 if key in "+=" else -1), len(SPEEDS) - 1))
            view.speed = SPEEDS[self._fast] if view.speed else 0.0
            view.notice = f"plays {SPEEDS[self._fast]:g} times as fast"
        elif key == "p":
            view.speed = 0.0 if view.speed else SPEEDS[self._fast]
        elif key == "?":
            self._helps = True
        elif key == "q":
            self.is_over = True

    def _jump(self, what: str, by: int, is_it: Callable[[Step], bool]) -> None:
        steps, at = self._view.story.steps, self._view.at + by
        while 0 <= at < len(steps):
            if is_it(steps[at]):
                self.go(at - self._view.at)
                return
            at += by
        self._view.notice = f"no {what} {'behind' if by > 0 else 'before'} this"


def _is_error(step: Step) -> bool:
    return step.is_bad and step.kind != "alert"


def _is_alert(step: Step) -> bool:
    return step.kind == "alert" and step.is_bad


def _is_call(step: Step) -> bool:
    return step.kind == "calls"


_STEPS = {
    "right": 1,
    "j": 1,
    "down": 1,
    " ": 1,
    "enter": 1,
    "left": -1,
    "k": -1,
    "up": -1,
    "backspace": -1,
    "home": -(10**9),
    "g": -(10**9),
    "end": 10**9,
    "G": 10**9,
}
_JUMPS = {
    "n": ("error", 1, _is_error),
    "N": ("error", -1, _is_error),
    "a": ("alert", 1, _is_alert),
    "A": ("alert", -1, _is_alert),
    "c": ("call", 1, _is_call),
    "C": ("call", -1, _is_call),
}
_SCROLLS = {"pgdn": 10, "pgup": -10}


def export(found: Story, path: Path) -> None:
    """Write a session as one HTML file. Raises StorageError where that cannot be written."""
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in html(found, datetime.now(UTC)))
    except OSError as error:
        raise StorageError(f"cannot write `{path}`: {error.strerror or error}", hint="name a file in a directory that you may write to") from error


def as_json(found: Found) -> Iterator[str]:
    """Events and alerts of a session as `tail --json` has them, in the order of time."""
    lines = [(one.heard.event.timestamp, event_json(one.heard, found.story.context)) for one in found.told]
    lines += [(at, alert_json(alert)) for alert in found.alerts if (at := moment(alert)) is not None]
    return (line for _, line in sorted(lines, key=lambda one: one[0]))
