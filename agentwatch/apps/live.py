"""`agentwatch tail` on a terminal: the console. Keeps what is on the screen and what keys do; what it looks like stands in `ui/console.py`."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from agentwatch.apps.alerts import AlertLine, moment, scope_of
from agentwatch.apps.feed import AlertTail, Filters, Newest
from agentwatch.apps.follow import Follower
from agentwatch.apps.tail import evidence, history_s, shown
from agentwatch.core.alerts import span
from agentwatch.core.board import Attempt, Heard, Standing, urgency
from agentwatch.core.text import redact, visible
from agentwatch.core.words import money
from agentwatch.settings import Loaded
from agentwatch.ui import console
from agentwatch.ui.console import PANES, AlertRow, AttemptRow, EventRow, View
from agentwatch.ui.lines import Line, wrap
from agentwatch.ui.page import Word
from agentwatch.ui.screen import Screen

FRAME_S, LONGEST_FRAME_S = 0.25, 2.0
FRAME_SHARE = 20
"""A page is drawn four times a second, and never so often that it costs more than 1/20 of the time."""

TURN_S = 0.05
MOST_EVENTS = 5000
MOST_BYTES = 32 << 20
MOST_ALERTS = 500
RATE_S = 10.0
ALERTS_SINCE = timedelta(days=1)
"""How far back alerts are shown where nothing else is asked for."""

ALARM = timedelta(hours=1)
"""For how long an alert marks its attempt, if nothing more is told of it: not every kind of trouble is known to be over."""

SHOWN_TEXT = 600
SEVERITY = {"low": 1, "medium": 2, "high": 3}


def run(loaded: Loaded, environ: Mapping[str, str], home: Path | None, filters: Filters, *, since: datetime | None) -> int:
    """Show the console until its user quits; the exit code. The terminal is left as it was, also when this is ended or fails."""
    with Screen(environ) as screen:
        live = Live(loaded, environ, home, filters, since=since, is_plain=screen.is_plain)
        try:
            _catch_up(screen, live)
            _loop(screen, live)
        finally:
            live.close()
    return 0


def _catch_up(screen: Screen, live: "Live") -> None:
    drawn = 0.0
    for notice in live.catch_up():
        if time.monotonic() - drawn > FRAME_S:
            drawn = time.monotonic()
            live.notice = notice
            screen.draw(live.page(*screen.size))
            key = screen.key(0)
            if key == "resize":
                screen.redraw()
            elif key is not None:
                live.press(key)
            if live.is_over:
                return
    live.notice = ""


def _loop(screen: Screen, live: "Live") -> None:
    next_frame = 0.0
    while not live.is_over:
        now = time.monotonic()
        if now >= next_frame:
            screen.draw(live.page(*screen.size))
            cost = time.monotonic() - now
            next_frame = now + min(max(FRAME_S, FRAME_SHARE * cost), LONGEST_FRAME_S)
        key = screen.key(max(0.0, min(next_frame - time.monotonic(), FRAME_S / 2)))
        if key in ("resize", "redraw"):
            screen.redraw()
        elif key is not None:
            live.press(key)
        if key is not None:
            next_frame = 0.0
        live.step(TURN_S)


class _Open(NamedTuple):
    """What is opened over the page: an attempt, an alert's episode, an event, or the help."""

    kind: str
    what: object


class Live:
    """The console without its screen: keys in, pages out."""

    def __init__(self, loaded: Loaded, environ: Mapping[str, str], home: Path | None, filters: Filters, *, since: datetime | None, is_plain: bool) -> None:
        now = datetime.now(UTC)
        self._filters = filters
        self._lets_all_through = filters.are_none
        self._since = since
        self._alerts_since = since or now - ALERTS_SINCE
        self._follower = Follower(loaded, environ, home, history_s=history_s(since, now), tell=self._hear, may_skip=since is None)
        self._tail = AlertTail(loaded.settings.logs.dir)
        self._history: Newest[Heard] | None = Newest(MOST_EVENTS)
        self._events: deque[Heard] = deque()
        self._bytes = 0
        self._episodes: dict[str, AlertLine] = {}
        self._alert_rows: dict[str, AlertRow] = {}
        self._alarms: dict[str, dict[str, tuple[int, datetime]]] = {}
        self._rate: deque[tuple[float, int]] = deque()
        self._standings: list[Standing] = []
        self._worst: dict[str, int] = {}
        self._frozen: list[AttemptRow] | None = None
        self._chosen: tuple[str, str] | None = None
        self._only: tuple[str, str] | None = None
        self._errors_only = False
        self._text = ""
        self._open: list[_Open] = []
        self._scroll = 0
        self._room = 10
        self._view = View(now, self._rows, 0, (0, 0, 0, 0), (), self._shown, 0, "", "", is_plain=is_plain)
        self._actions: dict[str, Callable[[], None]] = {
            "q": self._quit,
            "?": self._help,
            "h": self._help,
            "tab": lambda: self._turn(1),
            "backtab": lambda: self._turn(-1),
            "enter": self._expand,
            "right": self._expand,
            "/": self._ask_text,
            "f": self._follow,
            "e": self._toggle_errors,
            "p": self._pause,
            " ": self._pause,
            "esc": self._clear,
        }
        self.is_over = False
        self.notice = ""

    # -- what comes ------------------------------------------------------------------------------------------------------------

    def catch_up(self) -> Iterator[str]:
        """Read what there is by now, telling how far that is."""
        self._take(self._tail.begin(self._alerts_since))
        for read, total in self._follower.catch_up():
            yield f"reading the logs: {100 * read // total if total else 100} %"
        judged = [alert for alert in self._follower.take_alerts() if alert.timestamp >= self._alerts_since]
        self._take(self._tail.poll(judged))
        history, self._history = self._history, None
        for heard in history.sorted() if history is not None else ():
            self._keep(heard)

    def step(self, budget_s: float) -> None:
        """Read what is new."""
        self._follower.step(budget_s)
        self._take(self._tail.poll(self._follower.take_alerts()))

    def close(self) -> None:
        self._follower.close()
        self._tail.close()

    def _hear(self, heard: Heard) -> None:
        if self._history is not None:
            if self._since is not None and heard.event.timestamp < self._since:
                return
            if self._lets_all_through or self._filters.event(heard, self._follower.context(heard)):
                self._history.add(heard.event.timestamp, heard)
        elif self._lets_all_through or self._filters.event(heard, self._follower.context(heard)):
            self._keep(heard)

    def _keep(self, heard: Heard) -> None:
        self._events.append(heard)
        self._bytes += len(heard.line)
        while len(self._events) > MOST_EVENTS or self._bytes > MOST_BYTES:
            self._bytes -= len(self._events.popleft().line)
        selected = self._view.selected
        if (selected["events"] or self._view.is_paused) and self._passes(heard):
            selected["events"] += 1  # what is looked at stays where it is

    def _take(self, alerts: Sequence[AlertLine]) -> None:
        for alert in alerts:
            if not self._filters.alert(alert, scope_of(alert)):
                continue
            episode = str(alert.get("episode_id") or alert["alert_id"])
            for known in (self._episodes, self._alert_rows):
                known.pop(episode, None)
            self._episodes[episode], self._alert_rows[episode] = alert, _alert_row(alert)
            if len(self._episodes) > MOST_ALERTS:
                oldest = next(iter(self._episodes))
                del self._episodes[oldest], self._alert_rows[oldest]
            of_attempt = self._alarms.setdefault(str(alert.get("attempt_id", "")), {})
            at = moment(alert)
            if alert.get("status") == "recovered" or at is None:
                of_attempt.pop(episode, None)
            else:
                of_attempt[episode] = SEVERITY.get(str(alert.get("severity")), 1), at

    # -- what is shown ---------------------------------------------------------------------------------------------------------

    def page(self, width: int, height: int) -> list[Line]:
        """The screen as it is now."""
        view = self._view
        now = datetime.now(UTC)
        view.now, view.notice = now, self.notice
        if not view.is_paused:
            self._look(now)
        view.filters = "   ".join(filter(None, [self._filters.words(), *self._own_filters()]))
        self._room = max(1, height - 3)
        if not self._open:
            return console.page(view, width, height)
        title, lines = self._opened(self._open[-1], width)
        self._scroll = max(0, min(self._scroll, len(lines) - self._room))
        return console.overlay(view, title, lines, self._scroll, width, height)

    def _look(self, now: datetime) -> None:
        view = self._view
        alarms = {
            attempt_id: worst for attempt_id, ours in self._alarms.items() if (worst := max((n for n, at in ours.values() if now - at < ALARM), default=0))
        }
        found = [
            one
            for one in self._follower.board.standings(now, self._follower.skew)
            if self._filters.attempt(one.attempt.attempt_id, one.attempt.scope, one.context.executor)
        ]
        found.sort(key=lambda one: urgency(one, alarms.get(one.attempt.attempt_id, 0)))
        self._standings = found
        self._worst = alarms
        live = [one for one in found if one.attempt.ended is None]
        view.row_count = len(found)
        view.numbers = (
            len(live),
            sum(one.state == "stuck" for one in live),
            sum(one.state == "user" for one in live),
            sum(one.attempt.attempt_id in alarms for one in live),
        )
        view.alerts = list(reversed(self._alert_rows.values()))
        view.event_count = self._count()
        view.watcher = f"daemon {self._tail.daemon or ''} watches".replace("  ", " ") if self._tail.daemon is not None else "no daemon runs: judged here"
        view.rate = self._pace()
        if self._chosen is not None:
            place = next((place for place, one in enumerate(found) if _key(one.attempt) == self._chosen), None)
            view.selected["attempts"] = min(view.selected["attempts"], max(len(found) - 1, 0)) if place is None else place

    def _rows(self, start: int, count: int) -> list[AttemptRow]:
        if self._frozen is not None:
            return self._frozen[start : start + count]
        return [_row(one, self._worst.get(one.attempt.attempt_id, 0), self._view.now) for one in self._standings[start : start + count]]

    def _pace(self) -> str:
        now, events = time.monotonic(), self._follower.board.events
        self._rate.append((now, events))
        while len(self._rate) > 1 and self._rate[0][0] < now - RATE_S:
            self._rate.popleft()
        since, before = self._rate[0]
        per_s = (events - before) / (now - since) if now - since >= 1 else 0.0
        return f"{per_s:,.0f}/s" if per_s >= 1 else f"{60 * per_s:,.0f}/min" if per_s else "quiet"

    def _own_filters(self) -> Iterator[str]:
        if self._only is not None:
            yield f"of {console.short(self._only[1])}"
        if self._errors_only:
            yield "errors"
        if self._text:
            yield f"with {self._text!r}"

    def _passes(self, heard: Heard) -> bool:
        """Whether an event passes what was typed."""
        event = heard.event
        if self._only is not None and (heard.scope, event.attempt_id) != self._only:
            return False
        if self._errors_only and event.event_type != "error" and not event.data.is_error:
            return False
        return not self._text or self._text in heard.said().line.lower() or self._text in event.attempt_id.lower()

    @property
    def _is_filtered(self) -> bool:
        return bool(self._only is not None or self._errors_only or self._text)

    def _count(self) -> int:
        return sum(map(self._passes, self._events)) if self._is_filtered else len(self._events)

    def _newest(self, count: int, back: int) -> list[Heard]:
        """So many events up to the `back`-th newest, oldest first."""
        found: list[Heard] = []
        skipped = 0
        for heard in reversed(self._events):
            if self._is_filtered and not self._passes(heard):
                continue
            skipped += 1
            if skipped > back:
                found.append(heard)
                if len(found) == count:
                    break
        return found[::-1]

    def _shown(self, count: int, back: int) -> list[EventRow]:
        if not self._view.is_paused:  # what came since then is not shown, however much room there is
            back = max(0, min(back, self._view.event_count - count))
        return [self._event_row(heard) for heard in self._newest(count, back)]

    def _event_row(self, heard: Heard) -> EventRow:
        said, event = heard.said(), heard.event
        cwd = self._follower.context(heard).project_id
        return EventRow(
            event.timestamp, event.attempt_id, event.lane or "", said.title, shown(_below(said.text[:SHOWN_TEXT], cwd)), event.event_type, said.is_bad
        )

    def _opened(self, opened: _Open, width: int) -> tuple[str, list[Line]]:
        match opened:
            case _Open("attempt", (str(scope), str(attempt_id))):
                return f"attempt {attempt_id}", self._about_attempt((scope, attempt_id), width)
            case _Open("alert", str(episode)) if (alert := self._episodes.get(episode)) is not None:
                return f"{alert['type']} of {alert.get('attempt_id', '')}", _about_alert(alert, width)
            case _Open("event", Heard() as heard):
                return f"event of {heard.event.attempt_id}", self._about_event(heard, width)
        return "help", console.help_lines()

    def _about_attempt(self, key: tuple[str, str], width: int) -> list[Line]:
        one = next((one for one in self._standings if _key(one.attempt) == key), None)
        if one is None:
            return [(Word("  it is over, and nothing is known of it any more", "dim"),)]
        context, session, usd = one.context, one.session, one.cost_usd
        state = f"{one.state}: waits for {one.waiting_for}, silent for {span(one.silent)}" if one.attempt.ended is None else f"ended: {one.attempt.ended}"
        limit = f"; stuck after {span(one.limit)}" if one.limit is not None else ""
        action = one.attempt.action.said().line if one.attempt.action is not None else ""
        pairs = [
            ("state", state + limit),
            ("task", " ".join(filter(None, (context.task_id, context.task_title)))),
            ("agent", ", ".join(filter(None, (context.executor, context.model)))),
            ("project", ", branch ".join(filter(None, (context.project_id, context.branch)))),
            ("run", key[0]),
            ("log", session.source),
            ("started", f"{session.started.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z, {span(self._view.now - session.started)} ago"),
            ("spent", f"{session.tokens:,} tokens, {'of unknown price' if usd is None else money(usd)}"),
            ("so far", f"{one.attempt.events:,} events, {session.errors:,} error{'s' * (session.errors != 1)}"),
            ("sub-agents", ", ".join(session.lanes or ())),
            ("last action", action),
        ]
        lines = console.details([(name, redact(visible(text, newlines=True))) for name, text in pairs], width)
        alerts = [alert for alert in reversed(self._episodes.values()) if alert.get("attempt_id") == key[1]]
        for alert in alerts:
            lines += [(), *_about_alert(alert, width)]
        events = [heard for heard in self._events if (heard.scope, heard.event.attempt_id) == key][-200:]
        lines += [(), (Word(f"  its last {len(events)} events, the newest first", "dim"),)]
        return lines + [tuple(console.event_line(self._event_row(heard)._replace(attempt_id=""), self._view.now, 1)) for heard in reversed(events)]

    def _about_event(self, heard: Heard, width: int) -> list[Line]:
        event, said = heard.event, heard.said()
        pairs = [
            ("time", f"{event.timestamp.isoformat()}{' (inferred)' if event.inferred else ''}"),
            ("type", event.event_type),
            ("sub-agent", event.lane or ""),
            ("log", f"{heard.source} at byte {heard.place}"),
            ("model", event.data.model or ""),
            ("says", said.title),
        ]
        lines = console.details([(name, shown(text)) for name, text in pairs], width)
        text = redact(visible(said.text, newlines=True))
        return [*lines, (), *((Word(f"  {part}", "bad" if said.is_bad else ""),) for part in wrap(text, width - 4))]

    # -- keys ------------------------------------------------------------------------------------------------------------------

    def press(self, key: str) -> None:
        """Do what a key asks for."""
        if self._view.typing is not None:
            self._type(key)
        elif self._open:
            self._press_open(key)
        elif key in self._actions:
            self._actions[key]()
        elif key in _MOVES:
            self._move(_MOVES[key])

    def _type(self, key: str) -> None:
        typed = self._view.typing or ""
        if key == "enter":
            self._text, self._view.typing = typed.lower(), None
            self._refilter()
        elif key == "esc":
            self._view.typing = None
        elif key == "backspace":
            self._view.typing = typed[:-1]
        elif len(key) == 1:
            self._view.typing = typed + key

    def _press_open(self, key: str) -> None:
        if key == "q":
            self.is_over = True
        elif key in ("esc", "enter", "left", "backspace"):
            self._open.pop()
            self._scroll = 0
        elif key in _MOVES:
            self._scroll = max(0, self._scroll + _by(_MOVES[key], self._room))

    def _move(self, move: str) -> None:
        view = self._view
        pane = view.focus
        number = {"attempts": view.row_count, "alerts": len(view.alerts), "events": view.event_count}[pane]
        by = _by(move, max(1, self._room // 3))
        at = view.selected[pane]
        # Events are counted from the newest, which stands at the bottom.
        view.selected[pane] = at = max(0, min(at - by if pane == "events" else at + by, number - 1))
        if pane == "attempts":
            self._chosen = _key(self._standings[at].attempt) if at else None

    def _turn(self, by: int) -> None:
        self._view.focus = PANES[(PANES.index(self._view.focus) + by) % len(PANES)]

    def _expand(self) -> None:
        view = self._view
        at = console.position(view)
        if view.focus == "attempts" and at < len(self._standings):
            self._open.append(_Open("attempt", _key(self._standings[at].attempt)))
        elif view.focus == "alerts" and at < len(self._episodes):
            self._open.append(_Open("alert", list(reversed(self._episodes))[at]))
        elif view.focus == "events" and (newest := self._newest(1, at)):
            self._open.append(_Open("event", newest[0]))
        self._scroll = 0

    def _follow(self) -> None:
        at = min(self._view.selected["attempts"], len(self._standings) - 1)
        self._only = _key(self._standings[at].attempt) if self._only is None and at >= 0 else None
        self._refilter()

    def _ask_text(self) -> None:
        self._view.typing = self._text

    def _toggle_errors(self) -> None:
        self._errors_only = not self._errors_only
        self._refilter()

    def _pause(self) -> None:
        view = self._view
        self._frozen = None if view.is_paused else self._rows(0, view.row_count)
        view.is_paused = not view.is_paused
        if not view.is_paused:
            view.selected["events"] = 0

    def _clear(self) -> None:
        self._only, self._text, self._errors_only = None, "", False
        self._refilter()

    def _refilter(self) -> None:
        """Other events pass from here on, also on a page that stands still."""
        self._view.selected["events"] = 0
        self._view.event_count = self._count()

    def _help(self) -> None:
        self._open.append(_Open("help", None))
        self._scroll = 0

    def _quit(self) -> None:
        self.is_over = True


_MOVES = {"up": "-1", "k": "-1", "down": "+1", "j": "+1", "pgup": "-page", "pgdn": "+page", "home": "first", "g": "first", "end": "last", "G": "last"}


def _by(move: str, room: int) -> int:
    """By how many lines a move goes."""
    return {"-1": -1, "+1": 1, "-page": -room, "+page": room, "first": -(10**9), "last": 10**9}[move]


def _key(attempt: Attempt) -> tuple[str, str]:
    return attempt.scope, attempt.attempt_id


def _below(text: str, cwd: str | None) -> str:
    """A text on one line, with paths relative to the directory in which the agent works."""
    return " ".join((text.replace(f"{cwd}/", "") if cwd and len(cwd) > 1 else text).split())


def _row(one: Standing, alarm: int, now: datetime) -> AttemptRow:
    context, action = one.context, one.attempt.action
    said = action.said() if action is not None else None
    return AttemptRow(
        key=_key(one.attempt),
        state=one.state,
        waiting_for=one.waiting_for,
        attempt_id=one.attempt.attempt_id,
        task=shown((context.task_title or context.task_id or "")[:200]),
        executor=shown((context.executor or "")[:40]),
        model=shown((context.model or "")[:80]),
        age=now - one.session.started,
        silent=one.silent,
        action=shown(_below(f"{said.title}: {said.text[:200]}" if said.text else said.title, context.project_id)) if said else "",
        action_is_bad=said.is_bad if said else False,
        tokens=one.session.tokens,
        usd=one.cost_usd,
        errors=one.session.errors,
        pace=one.attempt.pace(now),
        alarm=next((name for name, number in SEVERITY.items() if number == alarm), "") if one.attempt.ended is None else "",
    )


def _alert_row(alert: AlertLine) -> AlertRow:
    found = alert.get("evidence")
    spots = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    attempt_id = str(alert.get("attempt_id", ""))
    return AlertRow(
        at=moment(alert) or datetime.now(UTC),
        severity=str(alert.get("severity", "")),
        type=alert["type"],
        status=str(alert.get("status", "")),
        attempt_id=attempt_id,
        summary=shown(str(alert.get("summary", "")).replace(attempt_id, console.short(attempt_id)) if attempt_id else alert.get("summary", "")),
        recommendation=str(alert.get("recommendation", "")),
        evidence=tuple((str(one.get("timestamp", ""))[11:19], shown(one.get("text", ""))) for one in spots),
    )


def _about_alert(alert: AlertLine, width: int) -> list[Line]:
    at = moment(alert)
    pairs = [
        ("alert", f"{alert['type']}, {alert.get('severity', '')}, {alert.get('status', '')}{f', {at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z' if at else ''}"),
        ("what", alert.get("summary", "")),
        ("to do", str(alert.get("recommendation", "")).replace("_", " ")),
        *(("rests on" if number == 0 else "and", text) for number, text in enumerate(evidence(alert))),
    ]
    return console.details([(name, shown(text)) for name, text in pairs], width)
