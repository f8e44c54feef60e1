"""The page of the live console: attempts on top, alerts in the middle, the stream of events below. Pure: values in, lines out.

Whatever the size, the first line and the names of the columns stay, and each part says how much of it is not shown. Texts may hold
anything: they are made visible here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal, NamedTuple

from agentwatch.core.text import visible
from agentwatch.core.words import count, money
from agentwatch.ui.lines import Line, cut, fit, pad, spark, width_of, wrap
from agentwatch.ui.page import Style, Word

Pane = Literal["attempts", "alerts", "events"]
PANES: tuple[Pane, ...] = ("attempts", "alerts", "events")

LEAST_WIDTH, LEAST_HEIGHT = 20, 5
"""On less than this nothing sensible can be shown, and a line says so."""


class AttemptRow(NamedTuple):
    """An attempt as it stands. `alarm` is the severity of its worst open alert, empty for none; `usd` is None where no price is known."""

    key: tuple[str, str]
    state: str
    waiting_for: str
    attempt_id: str
    task: str
    executor: str
    model: str
    age: timedelta
    silent: timedelta
    action: str
    action_is_bad: bool
    tokens: int
    usd: float | None
    errors: int
    pace: tuple[int, ...]
    alarm: str


class AlertRow(NamedTuple):
    """An alert: `evidence` are times and texts of the lines that it rests on."""

    at: datetime
    severity: str
    type: str
    status: str
    attempt_id: str
    summary: str
    recommendation: str
    evidence: tuple[tuple[str, str], ...]


class EventRow(NamedTuple):
    """An event in words."""

    at: datetime
    attempt_id: str
    lane: str
    title: str
    text: str
    kind: str
    is_bad: bool


@dataclass
class View:
    """All that a page shows. Only what is on the screen is asked for: `rows(start, count)` are so many attempts from that place on,

    `events(count, back)` so many events up to the `back`-th newest, oldest first. `numbers` are those of the attempts that live, that are
    stuck, that wait for their user, and that have open alerts.
    """

    now: datetime
    rows: Callable[[int, int], Sequence[AttemptRow]]
    row_count: int
    numbers: tuple[int, int, int, int]
    alerts: Sequence[AlertRow]
    events: Callable[[int, int], Sequence[EventRow]]
    event_count: int
    watcher: str
    rate: str
    focus: Pane = "attempts"
    selected: dict[Pane, int] = field(default_factory=lambda: dict.fromkeys(PANES, 0))
    filters: str = ""
    is_paused: bool = False
    typing: str | None = None
    notice: str = ""
    is_plain: bool = False


class _Column(NamedTuple):
    name: str
    width: int
    needs: int
    tell: Callable[[AttemptRow, View], tuple[str, Style]]
    right: bool = False


STATES: dict[str, tuple[str, Style]] = {
    "stuck": ("STUCK", "bad"),
    "limit": ("limit", "warn"),
    "user": ("waits", "warn"),
    "tool": ("tool", "good"),
    "working": ("works", "good"),
    "failed": ("failed", "bad"),
    "done": ("done", "dim"),
}
"""The word and the style of each state: the word alone must do where there are no colours."""

SEVERITIES: dict[str, Style] = {"low": "", "medium": "warn", "high": "bad"}

_COLUMNS = (
    _Column("", 1, 0, lambda row, _view: ("!" if row.alarm else " ", SEVERITIES.get(row.alarm, "bad"))),
    _Column("STATE", 6, 0, lambda row, _view: STATES[row.state]),
    _Column("ATTEMPT", 13, 0, lambda row, _view: (short(row.attempt_id), "title")),
    _Column("TASK", 26, 150, lambda row, _view: (row.task, "")),
    _Column("AGENT", 7, 70, lambda row, _view: (row.executor.lower(), "")),
    _Column("MODEL", 18, 120, lambda row, _view: (row.model, "")),
    _Column("AGE", 4, 95, lambda row, _view: (ago(row.age), "dim"), right=True),
    _Column("IDLE", 4, 50, lambda row, _view: (ago(row.silent), "bad" if row.state == "stuck" else ""), right=True),
    _Column("TOKENS", 6, 60, lambda row, _view: (count(row.tokens) if row.tokens else "-", ""), right=True),
    _Column("USD", 6, 60, lambda row, _view: ("?" if row.usd is None else money(row.usd) if row.usd else "-", ""), right=True),
    _Column("ERR", 3, 40, lambda row, _view: (count(row.errors) if row.errors else "-", "bad" if row.errors else "dim"), right=True),
    _Column("PACE", 12, 135, lambda row, view: (spark(row.pace, plain=view.is_plain), "dim")),
)
"""What is told of an attempt, from the left, and from which width of the screen on; its last action has what is left of the line."""


def page(view: View, width: int, height: int) -> list[Line]:
    """The whole screen: `height` lines, none wider than `width`."""
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return too_small(width, height)
    body = height - 2
    attempts, alerts = _shares(view, body)
    lines = [_header(view, width)]
    for part, room in ((_attempts, attempts), (_alerts, alerts), (_events, body - attempts - alerts)):
        lines += _exactly(room, part(view, width, room))
    lines.append(_footer(view, width))
    return lines


def too_small(width: int, height: int) -> list[Line]:
    """What is shown where there is no room for anything."""
    return [fit([Word("too small")], width), *[()] * (height - 1)][:height]


def overlay(view: View, title: str, lines: Sequence[Line], start: int, width: int, height: int) -> list[Line]:
    """A page of its own below the header: `lines` from `start` on."""
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return too_small(width, height)
    return [_header(view, width), *leaf(title, lines, width, height - 1, start)]


def leaf(title: str, lines: Sequence[Line], width: int, height: int, start: int = 0) -> list[Line]:
    """A title, as many `lines` from `start` on as there is room for, and the keys that lead away."""
    room = max(height - 2, 0)
    shown = list(lines[start : start + room])
    more = f"  {start + len(shown)} of {len(lines)} lines" if len(lines) > room else ""
    return [
        fit([Word(f" {visible(title)}{more}")], width, "title"),
        *(fit(line, width) for line in shown),
        *[()] * (room - len(shown)),
        fit([Word(" esc back   ↑↓ PgUp PgDn scroll   q quit")], width, "bar"),
    ][:height]


def window(number: int, selected: int, room: int) -> int:
    """Where a list of `number` begins so that the selected one is among the `room` that are shown: pages, which do not creep."""
    if number <= room or room <= 0:
        return 0
    return min(selected // room * room, number - room)


def position(view: View) -> int:
    """The row that is selected in the pane that has the focus, within what is there."""
    number = {"attempts": view.row_count, "alerts": len(view.alerts), "events": view.event_count}[view.focus]
    return min(view.selected[view.focus], max(number - 1, 0))


# ----------------------------------------------------------------------------------------------------------------- parts


def _shares(view: View, body: int) -> tuple[int, int]:
    """How many of the lines between header and footer the attempts and the alerts have, their titles included; events have the rest."""
    attempts = 1 + min(max(view.row_count, 1), max(body * 2 // 5 - 1, 1))
    wanted = sum(1 + len(alert.evidence[-2:]) for alert in view.alerts[:4]) + max(len(view.alerts) - 4, 0)
    alerts = 1 + min(max(wanted, 1), max(body // 4 - 1, 1))
    return min(attempts, body), min(alerts, max(body - attempts, 0))


def _exactly(height: int, lines: Iterator[Line]) -> list[Line]:
    shown = list(islice(lines, height))
    return shown + [()] * (height - len(shown))


def _header(view: View, width: int) -> Line:
    live, stuck, waiting, alarmed = view.numbers
    parts = [
        "PAUSED" if view.is_paused else "",
        f"{live} live",
        f"{stuck} stuck" if stuck else "",
        f"{waiting} waiting for you" if waiting and width >= 70 else "",
        f"{alarmed} with alerts" if alarmed else "",
        view.rate if width >= 60 else "",
        view.watcher if width >= 75 else "",
    ]
    clock = f"{view.now.astimezone(UTC):%H:%M:%S}Z "
    said = cut("agentwatch  " + "  ".join(filter(None, parts)).strip(), width - len(clock) - 1)
    return (Word(" " + pad(said, width - len(clock) - 1) + clock, "bar"),)


def _title(view: View, pane: Pane, text: str, width: int) -> Line:
    return fit([Word("▌" if view.focus == pane else " ", "title"), Word(text, "title" if view.focus == pane else "dim")], width)


def _attempts(view: View, width: int, height: int) -> Iterator[Line]:
    room = height - 1
    columns = [column for column in _COLUMNS if width >= column.needs]
    left = width - 1 - sum(column.width + 1 for column in columns)
    names = " ".join(pad(column.name, column.width, right=column.right) for column in columns)
    chosen = min(view.selected["attempts"], max(view.row_count - 1, 0))
    start = window(view.row_count, chosen, room)
    shown = view.rows(start, room)
    more = f"  {start + 1}-{start + len(shown)} of {view.row_count}" if view.row_count > room else ""
    name = f"LAST ACTION{more}" if width_of(f"LAST ACTION{more}") <= left or not more else more.strip()
    yield _title(view, "attempts", f"{names} {name}", width)
    for number, row in enumerate(shown, start):
        words = [Word(" ")]
        for column in columns:
            text, style = column.tell(row, view)
            words.append(Word(pad(visible(text), column.width, right=column.right), style))
            words.append(Word(" "))
        words.append(Word(visible(row.action[:400]), "bad" if row.action_is_bad else ""))
        yield fit(words, width, "bar" if view.focus == "attempts" and number == chosen else None)
    if not shown:
        yield fit([Word("  no attempt is live", "dim")], width)


def _alerts(view: View, width: int, height: int) -> Iterator[Line]:
    room = height - 1
    chosen = min(view.selected["alerts"], max(len(view.alerts) - 1, 0))
    start = window(len(view.alerts), chosen, room)
    shown = view.alerts[start : start + room]
    # Evidence has the lines that are left when every alert has one.
    spare = room - len(shown)
    more = f"  {start + 1}-{start + len(shown)} of {len(view.alerts)}" if len(view.alerts) > room else ""
    yield _title(view, "alerts", f"ALERTS{more}", width)
    if not view.alerts:
        yield fit([Word("  none", "dim")], width)
    for number, alert in enumerate(shown, start):
        style = "good" if alert.status == "recovered" else SEVERITIES.get(alert.severity, "")
        words = [
            Word(f" {moment(alert.at, view.now)} ", "dim"),
            Word(pad(visible(alert.status if alert.status == "recovered" else alert.severity), 9), style),
            Word(f" {visible(alert.type)}  ", "title"),
            Word(visible(alert.summary)),
        ]
        yield fit(words, width, "bar" if view.focus == "alerts" and number == chosen else None)
        for at, text in alert.evidence[-min(2, spare) :] if spare > 0 else ():
            spare -= 1
            yield fit([Word(f" {'':8} {'':9} ", "dim"), Word(visible(f"{at} {text}"), "dim")], width)


def _events(view: View, width: int, height: int) -> Iterator[Line]:
    room = height - 1
    back = view.selected["events"]
    shown = view.events(room, back)
    parts = [f"EVENTS {view.event_count:,}", f"{back:,} below" if back else "", view.filters]
    yield _title(view, "events", "   ".join(filter(None, map(visible, parts))), width)
    names = min(18, max(8, width // 6))
    for number, row in enumerate(shown):
        line = event_line(row, view.now, names)
        yield fit(line, width, "bar" if view.focus == "events" and number == len(shown) - 1 and back else None)
    if not shown:
        yield fit([Word("  nothing yet" if not view.filters else "  nothing that passes the filter", "dim")], width)


def event_line(row: EventRow, now: datetime, names: int) -> list[Word]:
    """An event on one line: when, who, what."""
    style: Style = "bad" if row.is_bad else _KINDS.get(row.kind, "")
    who = short(row.attempt_id) + (f" ↳{row.lane[:8]}" if row.lane else "")
    text = visible(row.text[:600]).strip()
    return [
        Word(f" {moment(row.at, now)} ", "dim"),
        Word(pad(visible(who), names) + " "),
        Word(visible(row.title), style or "title"),
        Word(f": {text}" if text else "", "bad" if row.is_bad else "dim" if row.kind in _QUIET else ""),
    ]


_KINDS: dict[str, Style] = {
    "agent_output": "good",
    "user_message": "warn",
    "session_start": "warn",
    "followup_sent": "warn",
    "agent_thinking": "dim",
    "usage": "dim",
}
_QUIET = frozenset({"tool_result", "agent_thinking", "usage", "progress", "turn_start", "turn_end"})

KEYS = (
    ("↑↓ j k", "select; PgUp PgDn, g G: by pages, first, last"),
    ("tab", "go to the next part: attempts, alerts, events"),
    ("enter", "open what is selected; esc closes it"),
    ("/", "show only events that hold a text; empty: all again"),
    ("f", "show only events of the selected attempt, or of all again"),
    ("e", "show only errors, or all again"),
    ("p space", "pause: the page stands still, and nothing is missed"),
    ("?", "this help"),
    ("q", "quit"),
)


def help_lines() -> list[Line]:
    """What each key does, and what the words of the page mean."""
    means = (
        ("works", "the model is at it"),
        ("tool", "waits for the result of a call, or for a sub-agent"),
        ("limit", "a limit of its account is reached: waits for its reset"),
        ("waits", "for its user: nothing happens until somebody answers"),
        ("STUCK", "silent for longer than what it waits for may take"),
        ("done failed", "ended, within the last 15 minutes"),
        ("!", "an alert of it is open"),
    )
    return [
        *((Word(f"  {keys:12}", "title"), Word(told)) for keys, told in KEYS),
        (),
        *((Word(f"  {word:12}", "title"), Word(told)) for word, told in means),
        (),
        (Word("  Sorted by what needs attention: alerts and silence first, then who waits for you, then who works.", "dim"),),
        (Word("  Only looks: nothing is written, and a daemon is not disturbed. Times are UTC, as in the logs.", "dim"),),
    ]


def _footer(view: View, width: int) -> Line:
    if view.typing is not None:
        return fit([Word(f" show events with: {visible(view.typing)}_")], width, "bar")
    if view.notice:
        return fit([Word(f" {visible(view.notice)}")], width, "bar")
    return fit([Word(" q quit  ? help  ↑↓ select  enter open  tab part  / filter  f one attempt  e errors  p pause")], width, "bar")


def details(pairs: Iterable[tuple[str, str]], width: int) -> list[Line]:
    """Names with texts of any length beside them; what has no text is left out."""
    lines: list[Line] = []
    for name, text in pairs:
        first = True
        for part in wrap(visible(text, newlines=True), width - 16) if text else ():
            lines.append((Word(f"  {visible(name) if first else '':13} ", "dim"), Word(part)))
            first = False
    return lines


# ----------------------------------------------------------------------------------------------------------------- words


def short(attempt_id: str) -> str:
    """An id as people tell it: of a UUID the first 8 digits; of one of version 7 those of its time, since the first 8 are the same for 65 seconds."""
    if len(attempt_id) != 36 or attempt_id.count("-") != 4:
        return attempt_id
    return attempt_id[:13] if attempt_id[14] == "7" else attempt_id[:8]


def ago(width: timedelta) -> str:
    """A duration in at most four characters: `5s`, `12m`, `3h`, `9d`."""
    seconds = max(0, int(width.total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{min(seconds // size, 999)}{unit}"
    return f"{seconds}s"


def moment(at: datetime, now: datetime) -> str:
    """A time in eight characters: of today's (within 20 hours) the time of day, of others the date."""
    at = at.astimezone(UTC)
    return f"{at:%H:%M:%S}" if abs(now - at) < timedelta(hours=20) else f"{at:%y-%m-%d}"
