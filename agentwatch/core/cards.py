"""What a message says: an alert's card, a digest, in Telegram's HTML and as plain text. Knows nothing of how messages travel.

A card is a list of lines, a line a list of spans. Texts are cut before they are escaped, so no tag and no entity is ever cut in two.
"""

import html
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

from agentwatch.core.alerts import span
from agentwatch.model import Alert, Severity, Status

MOST_UNITS = 4096
"""Of a Telegram message, in UTF-16 code units. It counts what is left after its tags are read; we count them too, to be on the safe side."""

MOST_EVIDENCE_CHARS, MOST_LISTED_CHARS, MOST_NAME_CHARS = 300, 160, 100
"""So much of evidence, of a line, and of a name: what must not be cut off, a mark or a note, comes before what may."""

MOST_TALLIES, MOST_FIRST = 12, 8

ICONS = {Severity.HIGH: "❌", Severity.MEDIUM: "⚠️", Severity.LOW: "\N{INFORMATION SOURCE}\N{VARIATION SELECTOR-16}"}
RECOVERED = "✅"
REPEAT = "(possibly seen already: the answer to the first try was lost)"

_TITLES = {
    "error_loop": "ERROR LOOP DETECTED",
    "tool_loop": "TOOL LOOP DETECTED",
    "stuck_agent": "STUCK AGENT",
    "cost_anomaly": "COST ANOMALY",
    "excessive_restarts": "EXCESSIVE RESTARTS",
    "failed_session_high_errors": "SESSION FAILED WITH MANY ERRORS",
    "failed_session_transient_errors": "SESSION FAILED WITH TRANSIENT ERRORS",
    "limit_reached": "LIMIT REACHED",
    "context_exhaustion": "CONTEXT NEARLY FULL",
    "rule_match": "RULE MATCHED",
    "waiting_for_user": "WAITING FOR YOU",
}


_CAUSES = {"transient": "transient errors"}


class Span(NamedTuple):
    """A piece of a line; `tag` is one of Telegram's: b, i, code, pre, or none."""

    text: str
    tag: str = ""


Line = tuple[Span, ...]


def line(*spans: Span | str) -> Line:
    return tuple(one if isinstance(one, Span) else Span(one) for one in spans)


def units(text: str) -> int:
    """Its length as Telegram counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def as_html(lines: Iterable[Line], limit: int = MOST_UNITS) -> str:
    """The lines as Telegram's HTML, at most `limit` units; what does not fit is cut with `…`, between characters and never inside a tag."""
    return _joined(lines, limit, _tagged)


def as_text(lines: Iterable[Line], limit: int = MOST_UNITS) -> str:
    """The lines without any marks."""
    return _joined(lines, limit, lambda one: one.text)


def _tagged(one: Span) -> str:
    text = html.escape(one.text, quote=False)
    return f"<{one.tag}>{text}</{one.tag}>" if one.tag and text else text


def _joined(lines: Iterable[Line], limit: int, write: Callable[[Span], str]) -> str:
    pieces: list[str] = []
    left = limit
    for number, spans in enumerate(lines):
        for one in (Span("\n"), *spans) if number else spans:
            piece = write(one)
            if units(piece) > left:
                pieces.append(_cut(one, left, write))
                return "".join(pieces).rstrip("\n")
            pieces.append(piece)
            left -= units(piece)
    return "".join(pieces)


def _cut(one: Span, left: int, write: Callable[[Span], str]) -> str:
    """The longest beginning of it that fits with `…` behind it."""
    low, high = 0, len(one.text)
    while low < high:
        middle = (low + high + 1) // 2
        if units(write(one._replace(text=one.text[:middle] + "…"))) <= left:
            low = middle
        else:
            high = middle - 1
    piece = write(one._replace(text=one.text[:low] + "…"))
    return piece if units(piece) <= left else ""


# ------------------------------------------------------------------------------------------------------------------ an alert


class Notes(NamedTuple):
    """What has been done about a topic: lines that stand below its text."""

    lines: tuple[str, ...] = ()
    is_repeat: bool = False
    has_details: bool = False


def card(first: Alert, last: Alert, notes: Notes, zone: tzinfo | None) -> list[Line]:
    """The message of a topic whose first told alert is `first` and whose newest is `last`; times in `zone`, the machine's where None."""
    lines = [line(Span(_title(last), "b"))]
    if notes.is_repeat:
        lines.append(line(Span(REPEAT, "i")))
    lines.append(line("Attempt: ", Span(shortened(last.attempt_id, MOST_NAME_CHARS), "code")))
    if executor := last.detail.get("executor"):
        model = last.detail.get("model")
        lines.append(line(f"Executor: {shortened(str(executor).upper(), MOST_NAME_CHARS)}", shortened(f" ({model})", MOST_NAME_CHARS) if model else ""))
    if task := last.detail.get("task_title") or last.detail.get("task_id"):
        lines.append(line(f"Task: {shortened(str(task), MOST_LISTED_CHARS)}"))
    if about := _ABOUT.get(last.type, _no_line)(last):
        lines.append(line(shortened(about, MOST_LISTED_CHARS)))
    if last.status is not Status.RECOVERED and last.recommendation:
        lines.append(line(f"Recommendation: {last.recommendation}"))
    lines.append(line())
    lines.append(line(last.summary))
    if evidence := best_evidence(last):
        lines.append(line(Span(shortened(evidence, MOST_EVIDENCE_CHARS), "pre")))
    lines.append(line(Span(_times(first, last, zone), "i")))
    lines += [line(note) for note in notes.lines]
    if notes.has_details:
        lines += _details(last, zone)
    return lines


def title(kind: str) -> str:
    """A type of alert as a heading."""
    return _TITLES.get(kind, kind.replace("_", " ").upper())


def _title(alert: Alert) -> str:
    if alert.status is Status.RECOVERED:
        return f"{RECOVERED} RECOVERED: {title(alert.type).removesuffix(' DETECTED')}"
    heading = shortened(_text(alert, "title"), MOST_NAME_CHARS).upper() if alert.type == "rule_match" else ""
    return f"{ICONS[alert.severity]} {heading or title(alert.type)}"


def _times(first: Alert, last: Alert, zone: tzinfo | None) -> str:
    if first.alert_id == last.alert_id:
        return clock(last.timestamp, zone)
    since = f"since {clock(first.timestamp, zone)}"
    if last.status is Status.RECOVERED:
        return f"{since}, recovered {clock(last.timestamp, zone)}, after {span(last.timestamp - first.timestamp)}"
    return f"{since}, last seen {clock(last.timestamp, zone)}"


def clock(at: datetime, zone: tzinfo | None) -> str:
    """A time as a phone shows it, with its day, since a message may be read much later."""
    return f"{at.astimezone(zone):%d %b %H:%M:%S}"


def best_evidence(alert: Alert) -> str:
    """The newest line that says something the summary does not; empty where there is none."""
    texts = [one.text.strip() for one in reversed(alert.evidence)]
    return next((text for text in texts if text and text not in alert.summary), "")


def _details(alert: Alert, zone: tzinfo | None) -> list[Line]:
    lines = [line(), line(Span("Details", "b")), line("Alert: ", Span(alert.alert_id, "code"))]
    lines += [line(f"{name}: ", Span(str(alert.detail[name]), "code")) for name in ("run_id", "session_id", "branch", "project_id") if name in alert.detail]
    for one in alert.evidence:
        lines.append(line(f"{clock(one.timestamp, zone)} {one.source} at byte {one.offset}"))
        lines.append(line(Span(shortened(one.text, MOST_EVIDENCE_CHARS), "pre")))
    return lines


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters of it, cut with `…`."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _no_line(alert: Alert) -> str:
    return ""


def _ms(alert: Alert, name: str) -> str:
    value = _number(alert, name)
    return span(timedelta(milliseconds=min(value, 1e12))) if value is not None else ""


def _number(alert: Alert, name: str) -> float | None:
    value = alert.detail.get(name)
    return float(value) if isinstance(value, int | float) and value >= 0 else None  # NaN is not


def _count(alert: Alert, name: str, noun: str) -> str:
    value = _number(alert, name)
    return f"{min(value, 1e15):,.0f} {noun}" if value is not None else ""


def _usd(alert: Alert, name: str) -> str:
    value = _number(alert, name)
    return f"${min(value, 1e12):,.2f}" if value is not None else ""


def _text(alert: Alert, name: str) -> str:
    value = alert.detail.get(name)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value if value is not None else "")


def _about(label: str, what: str, *more: str) -> str:
    """`label: what, more, more` of what is known; nothing where it is not even known what."""
    return f"{label}: {', '.join(one for one in (what, *more) if one)}" if what else ""


def _with(prefix: str, text: str, suffix: str = "") -> str:
    return f"{prefix}{text}{suffix}" if text else ""


def _loop(label: str, name: str, noun: str) -> Callable[[Alert], str]:
    def about(alert: Alert) -> str:
        count = _count(alert, "occurrences", noun)
        within = _with(" in ", _ms(alert, "window_ms"))
        return _about(label, _text(alert, name) + _with(" (", count and f"{count}{within}", ")") if _text(alert, name) else count)

    return about


def _stuck(alert: Alert) -> str:
    return _about("Silent", _ms(alert, "idle_time_ms"), _with("waiting for ", _text(alert, "waiting_for")), _with("limit ", _ms(alert, "threshold_ms")))


def _cost(alert: Alert) -> str:
    return _about("Cost", _usd(alert, "cost_usd"), _with("in ", _ms(alert, "duration_ms")), _with("limit ", _usd(alert, "threshold_usd")))


def _restarts(alert: Alert) -> str:
    return _about("Restarts", _text(alert, "restart_count"), _with("the last: ", _text(alert, "last_reason")))


def _failed(alert: Alert) -> str:
    return _about("Errors", _text(alert, "error_count"), shortened(_text(alert, "error_fingerprints"), 120))


def _limit(alert: Alert) -> str:
    return _about("Limit", _text(alert, "limit_kind"), _with("resets ", _text(alert, "resets_at")))


def _context(alert: Alert) -> str:
    return _about("Context", _count(alert, "context_used", "tokens"), _with("of ", _count(alert, "context_window", "tokens")))


def _rule(alert: Alert) -> str:
    about = _loop("Rule", "rule_id", "occurrences")(alert)
    return about and about + _with(", run ", _text(alert, "run_id"))


_ABOUT: dict[str, Callable[[Alert], str]] = {
    "error_loop": _loop("Error", "error_fingerprint", "occurrences"),
    "tool_loop": _loop("Tool", "tool_name", "calls"),
    "stuck_agent": _stuck,
    "cost_anomaly": _cost,
    "excessive_restarts": _restarts,
    "failed_session_high_errors": _failed,
    "failed_session_transient_errors": _failed,
    "limit_reached": _limit,
    "context_exhaustion": _context,
    "rule_match": _rule,
}
"""The line that says what only this type has."""


# ---------------------------------------------------------------------------------------------------------------- an outage


class Outage(NamedTuple):
    """Alerts of many attempts that one cause may have: how many attempts, how many of them are over, by executor, and the first ones."""

    cause: str
    worst: Severity
    attempts: int
    over: int
    executors: dict[str, int]
    first: list[Alert]
    first_at: datetime
    last_at: datetime


def together(alerts: Iterable[Alert]) -> Outage:
    """What alerts of one message have in common, in the order in which they came. There must be one."""
    seen: dict[str, Alert] = {}
    running: dict[str, str] = {}
    times: list[datetime] = []
    worst = Severity.LOW
    for alert in alerts:
        seen.setdefault(alert.attempt_id, alert)
        running.pop(alert.episode_id, None)
        if alert.status is not Status.RECOVERED:
            running[alert.episode_id] = alert.attempt_id
        worst = max(worst, alert.severity, key=list(Severity).index)
        times = [min([*times, alert.timestamp]), max([*times, alert.timestamp])]
    executors = Counter(str(alert.detail.get("executor") or "unknown").upper() for alert in seen.values())
    cause = next((str(alert.detail["fleet"]) for alert in seen.values() if "fleet" in alert.detail), "")
    over = len(seen) - len(set(running.values()))
    return Outage(cause, worst, len(seen), over, dict(executors.most_common()), list(seen.values())[:MOST_FIRST], *times)


def fleet(told: Outage, last: Alert, notes: Notes, zone: tzinfo | None) -> list[Line]:
    """The message of an outage whose newest alert is `last`."""
    icon = RECOVERED if told.over == told.attempts else ICONS[told.worst]
    cause = shortened(_CAUSES.get(told.cause, told.cause), MOST_NAME_CHARS).upper()
    lines = [line(Span(f"{icon} FLEET: {cause}, {told.attempts:,} ATTEMPTS", "b"))]
    if notes.is_repeat:
        lines.append(line(Span(REPEAT, "i")))
    executors = ", ".join(f"{name} {number:,}" for name, number in told.executors.items())
    lines.append(line(f"Executor: {shortened(executors, MOST_LISTED_CHARS)}"))
    if told.over:
        lines.append(line(f"Over: {told.over:,} of {told.attempts:,}"))
    lines.append(line())
    lines += [line(f"{alert.timestamp.astimezone(zone):%H:%M} ", shortened(alert.summary or alert.attempt_id, MOST_LISTED_CHARS)) for alert in told.first]
    if rest := told.attempts - len(told.first):
        lines.append(line(Span(f"and {rest:,} more: `agentwatch alerts` lists them all", "i")))
    lines.append(line(Span(f"since {clock(told.first_at, zone)}, last seen {clock(told.last_at, zone)}", "i")))
    lines += [line(note) for note in notes.lines]
    return lines + (_details(last, zone) if notes.has_details else [])


# ------------------------------------------------------------------------------------------------------------------ a digest


class Tally(NamedTuple):
    """Alerts of one type and severity in a digest."""

    type: str
    severity: Severity
    alerts: int


class Digest(NamedTuple):
    """What a digest is made of. `worst` are some of the alerts, the worst first and of those the oldest; `old` are only counted."""

    tallies: Sequence[Tally]
    worst: Sequence[Alert]
    first_at: datetime | None = None
    last_at: datetime | None = None
    old: int = 0
    is_repeat: bool = False

    @property
    def alerts(self) -> int:
        return sum(one.alerts for one in self.tallies)


def digest(told: Digest, zone: tzinfo | None, max_age_h: float) -> list[Line]:
    """One message about many alerts: how many of what, the worst by name, and how to see the rest."""
    lines: list[Line] = []
    if told.alerts and told.first_at and told.last_at:
        worst = next((one for one in reversed(Severity) if any(tally.severity is one for tally in told.tallies)), Severity.LOW)
        when = f"{clock(told.first_at, zone)} to {clock(told.last_at, zone)}" if told.last_at > told.first_at else clock(told.first_at, zone)
        lines = [line(Span(f"{ICONS[worst]} {told.alerts:,} alert{'s' if told.alerts > 1 else ''}", "b"), f", {when}")]
        lines += [line(f"{ICONS[one.severity]} {one.alerts:,} {one.type}") for one in told.tallies[:MOST_TALLIES]]
        lines.append(line())
        for alert in told.worst:
            icon = RECOVERED if alert.status is Status.RECOVERED else ICONS[alert.severity]
            lines.append(line(f"{icon} {alert.timestamp.astimezone(zone):%H:%M} ", shortened(alert.summary or title(alert.type), MOST_LISTED_CHARS)))
        if (rest := told.alerts - len(told.worst)) > 0:
            lines.append(line(Span(f"and {rest:,} more: `agentwatch alerts` lists them all", "i")))
    if told.old:
        text = f"{told.old:,} alert{'s' if told.old > 1 else ''} older than {max_age_h:g} h only counted: `agentwatch alerts` lists them"
        lines.append(line(Span(text, "i")))
    if told.is_repeat:
        lines.insert(1, line(Span(REPEAT, "i")))
    return lines


def notice(text: str, *, is_repeat: bool) -> list[Line]:
    """A message that is about no alert; its first line is its title."""
    first, *rest = text.split("\n")
    return [line(Span(first, "b")), *([line(Span(REPEAT, "i"))] if is_repeat else []), *(line(one) for one in rest)]


def fitting(told: Digest, zone: tzinfo | None, max_age_h: float) -> list[Line]:
    """As `digest`, with as many alerts by name as fit into a message together with what must stand below them."""
    while True:
        lines = digest(told, zone, max_age_h)
        if not told.worst or units(as_html(lines, 1 << 30)) <= MOST_UNITS:
            return lines
        told = told._replace(worst=told.worst[: len(told.worst) * 3 // 4])
