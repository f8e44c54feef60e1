"""`agentwatch tail` as a stream: events and alerts as lines for people or as JSON for programs, as they happen. Only looks."""

import json
import re
import select
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import msgspec
import orjson

from agentwatch.apps.alerts import AlertLine, moment, scope_of
from agentwatch.apps.feed import AlertTail, Filters, Newest
from agentwatch.apps.follow import Follower
from agentwatch.core.board import Heard
from agentwatch.core.text import clean, harmless_json, redact, visible
from agentwatch.core.times import stamp
from agentwatch.core.words import LONGEST_RAW, said, thought, whole
from agentwatch.model import NOTHING, Context, Data, Event, decoded
from agentwatch.settings import Loaded

LIVE_S = 43_200.0
"""What was not written to for so long is not read: no attempt in it lives any more (`Limits.forget_after`)."""

MOST_HISTORY = 100_000
"""Of what happened before the start so many of the newest events and alerts are shown."""

TURN_S, PAUSE_S = 0.25, 1.0
REST_MS = 100
"""After lines were shown the next ones wait for so long, and come together: whoever writes in small pieces would wake us for each of them.
The first line after a quiet while waits for nothing."""

MOST_TEXT = 2000
MOST_LINE = 500
MOST_ITEMS, DEEPEST, MOST_KEY = 100, 6, 200
BEYOND = 1024
"""So much behind a cut is looked at before it is made: half a secret looks like none. Those that are longer are known by how they begin."""

MOST_NOTED = 128
"""So many events become lines together, and are looked at together for secrets and for what acts on a screen."""

_Entry = tuple[datetime, bytes]


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
        lines.finish()
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
        rest_ms = 0
        while not gone.poll(rest_ms):
            follower.wait(PAUSE_S)
            follower.step(TURN_S)
            lines.finish()
            for alert in alerts.poll(follower.take_alerts()):
                lines.tell(alert)
            rest_ms = REST_MS if lines.fresh else 0
            _write(out, [line for _, line in sorted(lines.fresh, key=itemgetter(0))])
            lines.fresh.clear()
    finally:
        follower.close()
        alerts.close()


def history_s(since: datetime | None, now: datetime) -> float:
    """How old files may be that are read: all that `since` asks for, and whatever a live attempt may have begun in."""
    return max(LIVE_S, (now - since).total_seconds()) if since else LIVE_S


def _write(out: TextIO, lines: list[bytes]) -> None:
    if lines:
        out.buffer.write(b"".join(lines))  # where nothing is buffered (PYTHONUNBUFFERED) each line would be a call to the system
        out.buffer.flush()


class _Lines:
    """Events and alerts as lines: those of before go into `history`, the live ones into `fresh`, events in JSON with the next `finish`."""

    def __init__(self, filters: Filters, *, as_json: bool) -> None:
        self._filters = filters
        self._lets_all_through = filters.are_none
        self._as_json = as_json
        self._alert: Callable[[AlertLine], str] = alert_json if as_json else alert_lines
        self._noted: list[Noted] = []
        self.since = datetime.max.replace(tzinfo=UTC)
        self.is_live = False
        self.history: Newest[bytes] = Newest(MOST_HISTORY)
        self.fresh: list[_Entry] = []

    def hear(self, heard: Heard, follower: Follower) -> None:
        at = heard.event.timestamp
        if not self.is_live and at < self.since:
            return
        context = follower.context(heard)
        if not self._lets_all_through and not self._filters.event(heard, context):
            return
        if not self._as_json:
            self._add(at, event_line(heard).encode())
            return
        self._noted.append(note(heard, context))
        if len(self._noted) >= MOST_NOTED:
            self.finish()

    def finish(self) -> None:
        """Make lines of all events that were heard up to now."""
        if not self._noted:
            return
        noted, self._noted = self._noted, []
        lines = zip([one.event.timestamp for one in noted], events_json(noted), strict=True)
        if self.is_live:
            self.fresh += lines
        else:
            for at, line in lines:
                self.history.add(at, line)

    def tell(self, alert: AlertLine) -> None:
        at = moment(alert)
        if at is not None and self._filters.alert(alert, scope_of(alert)):
            self._add(at, self._alert(alert).encode())

    def _add(self, at: datetime, line: bytes) -> None:
        if self.is_live:
            self.fresh.append((at, line))
        else:
            self.history.add(at, line)


# ----------------------------------------------------------------------------------------------------------- for people


def event_line(heard: Heard) -> str:
    """An event on one line: when, which attempt, what. Secrets are taken out, and what could move a cursor is visible."""
    event, said = heard.event, heard.said()
    text = f"{said.title}: {_until(said.text, MOST_LINE, shown)}" if said.text else said.title
    return f"{stamp(event.timestamp)}  {_whose(event.attempt_id, event.lane)}  {shown(text)}{'…' if len(said.text) > MOST_LINE else ''}\n"


@lru_cache(maxsize=4096)
def _whose(attempt_id: str, lane: str | None) -> str:
    """An attempt, made safe once: it comes again with each event."""
    return shown(f"{attempt_id} ({lane})" if lane else attempt_id)


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


class Noted(NamedTuple):
    """An event as it was when it was heard: `Board` lets go of a long line, and a context changes. `whom` are the fields of its context, as JSON."""

    heard: Heard
    event: Event
    line: bytes
    whom: str


class _Draft(NamedTuple):
    """An event on its way to a line of JSON. What stands before its data and behind it is JSON already, and safe.

    `told` is its data and `words` what it says in words, both as the log has them (the words for a bit more than there is room for). `json` is the data,
    the words cut and, where that is less, uncut, all as JSON with `_BETWEEN` between them; None where the data must be cut.
    """

    before: bytes
    told: dict[str, object]
    behind: bytes
    words: str
    json: bytes | None


def event_json(heard: Heard, context: Context) -> str:
    """An event in the canonical form (contract, section 2), whatever its format: where it stands, and what it says in words, beside it.

    Texts are redacted and cut to 2,000 characters, lists to 100 elements.
    """
    return events_json([note(heard, context)])[0].decode()


def note(heard: Heard, context: Context) -> Noted:
    """What `events_json` makes a line of, later: many together take half of the time."""
    return Noted(heard, heard.event, heard.line, _whom(_CONTEXT(context)))


def events_json(noted: Sequence[Noted]) -> list[bytes]:
    """Each of them as `event_json` has it. Most have nothing to hide: that takes one look at all of them together."""
    drafts = [_draft(*one) for one in noted]
    harmless = harmless_json([one.json or b"" for one in drafts])
    return [_line(one, is_harmless=is_harmless) for one, is_harmless in zip(drafts, harmless, strict=True)]


def _draft(heard: Heard, event: Event, line: bytes, whom: str) -> _Draft:
    data = whole(event, line, heard.detail)
    told = _told(data)
    if event.event_type == "agent_thinking" and (thoughts := thought(line)):
        told["thinking"] = thoughts
    words = (heard.words or said(event, line, data)).line[: MOST_LINE + BEYOND].replace("\n", " ")
    shown = _within(told)
    lane = f',"lane":{_named(event.lane)}' if event.lane else ""
    before = (
        f'{{"kind":"event","timestamp":"{stamp(event.timestamp)}","attempt_id":{_named(event.attempt_id)},"event_type":{_named(event.event_type)}'
        f'{lane}{whom},"data":'
    )
    behind = f',"source":{_quoted(heard.source)},"offset":{heard.place},"text":'
    if shown is None:
        return _Draft(before.encode(), told, behind.encode(), words, None)
    looked_at = [shown, _json(words[:MOST_LINE]), *([_json(words)] if len(words) > MOST_LINE else [])]
    return _Draft(before.encode(), told, behind.encode(), words, _BETWEEN.join(looked_at))


def _line(one: _Draft, *, is_harmless: bool) -> bytes:
    if is_harmless and one.json is not None:
        told, words = one.json.split(_BETWEEN)[:2]
    else:
        told, words = _json(_safe_fields(one.told)), _json(_until(one.words, MOST_LINE, _safe))
    return b"".join((one.before, told, one.behind, words, b"}\n"))


def _told(data: Data) -> dict[str, object]:
    """The fields that an event has, decoded."""
    try:
        encoded = msgspec.json.encode(data)  # leaves out what is not there, in a fifth of the time that it takes to ask for each field
        told = msgspec.json.decode(encoded) if len(encoded) <= LONGEST_RAW else _told_one_by_one(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        told = _told_one_by_one(data)
    for name in ("usage", "outcome"):
        if name in told:
            told[name] = {key: value for key, value in told[name].items() if value}
    return told


def _told_one_by_one(data: Data) -> dict[str, Any]:
    """As `_told`, where a field is no JSON after all, or very long."""
    return {name: _opened(value) for name in data.__struct_fields__ if (value := getattr(data, name)) is not None and value is not NOTHING}


def _opened(value: object) -> object:
    match value:
        case msgspec.Raw():
            return decoded(value) if len(value) <= LONGEST_RAW else f"({len(value)} bytes)"
        case msgspec.Struct():
            return msgspec.structs.asdict(value)
    return value


def _within(fields: dict[str, object]) -> bytes | None:
    """Fields as JSON; None where something in them is too long, too much or too deep."""
    encoded = _json(fields)
    # No look at each value where there is no room for anything too long: neither for a text nor, where values have parts, for a name or a hundred parts.
    parts = encoded.count(b"{") + encoded.count(b"[") - 1
    is_small = (parts == 0 and len(encoded) <= MOST_TEXT) or (parts < DEEPEST and len(encoded) <= MOST_KEY)
    return encoded if is_small or all(map(_fits, fields.values())) else None


def _fits(value: object, depth: int = 0) -> bool:
    """Whether a value is within the bounds."""
    if isinstance(value, str):
        return len(value) <= MOST_TEXT
    if isinstance(value, dict):
        within = depth < DEEPEST and len(value) <= MOST_ITEMS
        return within and all(len(key) <= MOST_KEY and _fits(item, depth + 1) for key, item in value.items())
    if isinstance(value, list | tuple):
        return depth < DEEPEST and len(value) <= MOST_ITEMS and all(_fits(item, depth + 1) for item in value)
    return True


_CONTEXT = attrgetter(*Context.__struct_fields__)


@lru_cache(maxsize=2048)
def _whom(values: tuple[str | tuple[str, ...] | None, ...]) -> str:
    """What a context says, as fields of JSON, made safe once: it comes again with each event of an attempt."""
    named: dict[str, object] = {name: value for name, value in zip(Context.__struct_fields__, values, strict=True) if value is not None}
    encoded = _within(named)
    if encoded is None or not harmless_json([encoded])[0]:
        encoded = _json(_safe_fields(named))
    return f",{encoded[1:-1].decode()}" if named else ""


@lru_cache(maxsize=4096)
def _named(name: str) -> str:
    """A name that comes again with each event, as JSON, made safe once."""
    return _json(_tidy(name)).decode()


@lru_cache(maxsize=4096)
def _quoted(path: str) -> str:
    return _json(path).decode()


def alert_json(alert: AlertLine) -> str:
    """An alert as its log has it, and what kind of line it is."""
    return _json({"kind": "alert", **alert}).decode() + "\n"


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a number of more than 64 bits, or half a pair of surrogates in the name of a file: the log may have both
        return json.dumps(value, separators=(",", ":")).encode()


_BETWEEN = b"\n"
"""Stands in no JSON that `_json` writes, and is nothing that `harmless_json` minds."""


def _safe(text: str) -> str:
    return redact(clean(text, newlines=True))


def _until(text: str, most: int, made_safe: Callable[[str], str]) -> str:
    """A text as far as there is room for it, made safe before it is cut, and again: what stood behind may have made a value harmless."""
    return made_safe(text) if len(text) <= most else made_safe(made_safe(text[: most + BEYOND])[:most])


def _safe_fields(fields: dict[str, object]) -> dict[str, object]:
    """Fields whose names are ours."""
    return {name: _tidy(value) for name, value in fields.items()}


def _tidy(value: object, depth: int = 0) -> object:
    """A value of a log, bounded, and each text of it safe."""
    match value:
        case str():
            return _until(value, MOST_TEXT, _safe) + ("…" if len(value) > MOST_TEXT else "")
        case dict() | list() | tuple() if depth >= DEEPEST:
            return "…"
        case dict():
            items = value.items() if len(value) <= MOST_ITEMS else list(value.items())[:MOST_ITEMS]
            return {_until(key, MOST_KEY, _safe): _tidy_field(key, item, depth + 1) for key, item in items}
        case list() | tuple():
            return [_tidy(item, depth + 1) for item in value[:MOST_ITEMS]]
    return value


def _tidy_field(key: str, value: object, depth: int) -> object:
    """A field, whose name may say that what it holds is secret."""
    tidy = _tidy(value, depth)
    if isinstance(tidy, str) and (_may_name_secret(key) if len(key) <= MOST_KEY else _SECRET_NAMES.search(key)):
        field = f'"{key}": "{tidy}"'
        return tidy if _safe(field) == field else "[REDACTED]"
    return tidy


@lru_cache(maxsize=4096)
def _may_name_secret(key: str) -> bool:
    return _SECRET_NAMES.search(key) is not None


_SECRET_NAMES = re.compile("passw|passphrase|pwd|secret|token|credential|key|authorization|cookie", re.IGNORECASE)
