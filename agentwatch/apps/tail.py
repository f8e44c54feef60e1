"""`agentwatch tail` as a stream: events and alerts as lines for people or as JSON for programs, as they happen. Only looks."""

import json
import re
import select
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import TextIO

import msgspec
import orjson

from agentwatch.apps.alerts import AlertLine, moment, scope_of
from agentwatch.apps.feed import AlertTail, Filters, Newest
from agentwatch.apps.follow import Follower
from agentwatch.core.board import Heard
from agentwatch.core.text import clean, may_hold_secret, redact, visible
from agentwatch.core.times import stamp
from agentwatch.core.words import LONGEST_RAW, SAYS_ITSELF, thought
from agentwatch.model import NOTHING, Context, Data, Detail, Outcome, Usage, decoded
from agentwatch.settings import Loaded

LIVE_S = 43_200.0
"""What was not written to for so long is not read: no attempt in it lives any more (`Limits.forget_after`)."""

MOST_HISTORY = 100_000
"""Of what happened before the start so many of the newest events and alerts are shown."""

TURN_S, PAUSE_S = 0.25, 1.0
MOST_TEXT = 2000
MOST_LINE = 500
MOST_ITEMS, DEEPEST, MOST_KEY = 100, 6, 200

_Entry = tuple[datetime, str]


def stream(
    loaded: Loaded,
    environ: Mapping[str, str],
    home: Path | None,
    filters: Filters,
    *,
    since: datetime | None,
    as_json: bool,
    out: TextIO,
    report: Callable[[str], None],
) -> None:
    """Write what passes the filters to `out`, a line each in the order of time, until somebody ends it: with `since`, first what happened from then on.

    Returns when nobody reads `out` any more. `report` is told, in words, what is not in the lines.
    """
    started = datetime.now(UTC)
    lines = _Lines(filters, as_json=as_json)
    follower = Follower(loaded, environ, home, history_s=history_s(since, started), tell=lambda heard: lines.hear(heard, follower), may_skip=since is None)
    alerts = AlertTail(loaded.settings.logs.dir)
    try:
        lines.since = since or datetime.max.replace(tzinfo=UTC)
        before = alerts.begin(lines.since if since else started)
        for _ in follower.catch_up():
            pass
        judged = [alert for alert in follower.take_alerts() if alert.timestamp >= lines.since]
        if alerts.daemon is None:
            report("no daemon runs: alerts are judged here, and not kept (`agentwatch run` starts one)")
        for alert in (*before, *alerts.poll(judged)) if since else ():
            lines.tell(alert)
        if lines.history.count > MOST_HISTORY:
            report(f"of {lines.history.count:,} events and alerts since then the newest {MOST_HISTORY:,} are shown")
        _write(out, lines.history.sorted())
        lines.is_live = True
        gone = select.poll()
        gone.register(out.fileno(), 0)
        while not gone.poll(0):
            follower.wait(PAUSE_S)
            follower.step(TURN_S)
            for alert in alerts.poll(follower.take_alerts()):
                lines.tell(alert)
            _write(out, [text for _, text in sorted(lines.fresh, key=lambda entry: entry[0])])
            lines.fresh.clear()
    finally:
        follower.close()
        alerts.close()


def history_s(since: datetime | None, now: datetime) -> float:
    """How old files may be that are read: all that `since` asks for, and whatever a live attempt may have begun in."""
    return max(LIVE_S, (now - since).total_seconds()) if since else LIVE_S


def _write(out: TextIO, texts: list[str]) -> None:
    if texts:
        out.write("".join(texts))  # where nothing is buffered (PYTHONUNBUFFERED) each line would be a call to the system
        out.flush()


class _Lines:
    """Events and alerts as lines: those of before go into `history`, the live ones into `fresh`."""

    def __init__(self, filters: Filters, *, as_json: bool) -> None:
        self._filters = filters
        self._lets_all_through = filters.are_none
        self._event: Callable[[Heard, Context], str] = event_json if as_json else event_line
        self._alert: Callable[[AlertLine], str] = alert_json if as_json else alert_lines
        self.since = datetime.max.replace(tzinfo=UTC)
        self.is_live = False
        self.history: Newest[str] = Newest(MOST_HISTORY)
        self.fresh: list[_Entry] = []

    def hear(self, heard: Heard, follower: Follower) -> None:
        at = heard.event.timestamp
        if not self.is_live and at < self.since:
            return
        context = follower.context(heard)
        if self._lets_all_through or self._filters.event(heard, context):
            self._add(at, self._event(heard, context))

    def tell(self, alert: AlertLine) -> None:
        at = moment(alert)
        if at is not None and self._filters.alert(alert, scope_of(alert)):
            self._add(at, self._alert(alert))

    def _add(self, at: datetime, text: str) -> None:
        if self.is_live:
            self.fresh.append((at, text))
        else:
            self.history.add(at, text)


# ----------------------------------------------------------------------------------------------------------- for people


def event_line(heard: Heard, _context: Context) -> str:
    """An event on one line: when, which attempt, what. Secrets are taken out, and what could move a cursor is visible."""
    event, said = heard.event, heard.said()
    lane = f" ({event.lane})" if event.lane else ""
    text = f"{said.title}: {said.text[:MOST_LINE]}" if said.text else said.title
    return f"{stamp(event.timestamp)}  {shown(event.attempt_id + lane)}  {shown(text)}{'…' if len(said.text) > MOST_LINE else ''}\n"


def alert_lines(alert: AlertLine) -> str:
    """An alert on one line, and below it, indented, what it rests on."""
    at = moment(alert)
    status = "over" if alert.get("status") == "recovered" else alert.get("severity", "")
    first = (
        f"{stamp(at) if at else ''}  {shown(alert.get('attempt_id', ''))}  ALERT {shown(status)} {shown(alert['type'])}: {shown(alert.get('summary', ''))}\n"
    )
    return first + "".join(f"    {shown(text)}\n" for text in evidence(alert))


def evidence(alert: AlertLine) -> list[str]:
    """The lines that an alert rests on, one in words each."""
    found = alert.get("evidence")
    lines = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return [f"{one.get('timestamp', '')} {one.get('source', '')} at byte {one.get('offset', '?')}: {one.get('text', '')}" for one in lines]


def shown(text: object) -> str:
    """A text of a log on a screen: without secrets, on one line, with what could move a cursor visible."""
    return redact(visible(str(text)))


# --------------------------------------------------------------------------------------------------------- for programs


def event_json(heard: Heard, context: Context) -> str:
    """An event in the canonical form (contract, section 2), whatever its format: where it stands, and what it says in words, beside it.

    Texts are redacted and cut to 2,000 characters, lists to 100 elements.
    """
    texts: list[str] = []

    def noted(text: str) -> str:
        texts.append(text)
        return text

    shown = _event(heard, context, noted)
    # One look at all texts is a fifth of the price of a look at each, and most have nothing to hide. Names of fields that are ours are not looked at.
    together = "\n".join(texts)
    if may_hold_secret(together) or clean(together, newlines=True) != together:
        shown = _event(heard, context, _safe)
    return _dumped(shown)


def _safe(text: str) -> str:
    return redact(clean(text, newlines=True))


def _event(heard: Heard, context: Context, hide: Callable[[str], str]) -> dict[str, object]:
    event = heard.event
    data = event.data
    if not isinstance(data, Detail) and event.event_type not in SAYS_ITSELF:
        data = heard.detail(heard.line)
    names, values = _FIELDS[type(data)]
    told = {name: _tidy(value, hide) for name, value in zip(names, values(data), strict=True) if value is not None and value is not NOTHING}
    if event.event_type == "agent_thinking" and (text := thought(heard.line)):
        told["thinking"] = _tidy(text, hide)
    names, values = _FIELDS[Context]
    shown: dict[str, object] = {
        "kind": "event",
        "timestamp": stamp(event.timestamp),
        "attempt_id": _named(event.attempt_id),
        "event_type": _named(event.event_type),
    }
    if event.lane:
        shown["lane"] = _named(event.lane)
    for name, value in zip(names, values(context), strict=True):
        if value is not None:
            shown[name] = _named(value)
    shown["data"] = told
    shown["source"] = heard.source
    shown["offset"] = heard.place
    shown["text"] = hide(heard.said().line[:MOST_LINE].replace("\n", " "))
    return shown


_FIELDS = {kind: (kind.__struct_fields__, attrgetter(*kind.__struct_fields__)) for kind in (Data, Detail, Context)}
"""Of a struct, how its fields are called, and what takes the values of all in one step."""


@lru_cache(maxsize=4096)
def _named(value: str | tuple[str, ...]) -> object:
    """What names whom an event speaks of, made safe once: it comes again with each event."""
    return _tidy(value, _safe)


def alert_json(alert: AlertLine) -> str:
    """An alert as its log has it, and what kind of line it is."""
    return _dumped({"kind": "alert", **alert})


def _dumped(line: dict[str, object]) -> str:
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE).decode()
    except TypeError:  # a number of more than 64 bits, which the log may have
        return json.dumps(line) + "\n"


def _tidy(value: object, hide: Callable[[str], str], depth: int = 0) -> object:
    """A value of a log, bounded, and with `hide` done to each text."""
    if type(value) in _PLAIN:
        return value
    match value:
        case str():
            return hide(value) if len(value) <= MOST_TEXT else hide(value[:MOST_TEXT]) + "…"
        case dict() | list() | tuple() if depth >= DEEPEST:
            return "…"
        case dict():
            items = value.items() if len(value) <= MOST_ITEMS else list(value.items())[:MOST_ITEMS]
            return {hide(str(key)[:MOST_KEY]): _tidy_field(str(key), item, hide, depth + 1) for key, item in items}
        case list() | tuple():
            return [_tidy(item, hide, depth + 1) for item in value[:MOST_ITEMS]]
        case msgspec.Raw():
            return _tidy(decoded(value), hide, depth) if len(value) <= LONGEST_RAW else f"({len(value)} bytes)"
        case Usage() | Outcome():
            return {name: number for name in value.__struct_fields__ if (number := getattr(value, name))}
    return value


def _tidy_field(key: str, value: object, hide: Callable[[str], str], depth: int) -> object:
    """A field, whose name may say that what it holds is secret."""
    tidy = _tidy(value, hide, depth)
    if isinstance(tidy, str) and (_may_name_secret(key) if len(key) <= MOST_KEY else _SECRET_NAMES.search(key)):
        field = f'"{key}": "{tidy}"'
        return tidy if hide(field) == field else "[REDACTED]"
    return tidy


@lru_cache(maxsize=4096)
def _may_name_secret(key: str) -> bool:
    return _SECRET_NAMES.search(key) is not None


_PLAIN = frozenset({bool, int, float, type(None)})
_SECRET_NAMES = re.compile("passw|passphrase|pwd|secret|token|credential|key|authorization|cookie", re.IGNORECASE)
