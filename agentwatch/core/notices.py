"""An alert as it may leave this machine, who is to be told of it, and when. No clock, no files, no network.

A *topic* is what gets one message in a chat, however many alerts it is made of: an episode, or, of rule matches, an issue of a run.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import MAXYEAR, MINYEAR, UTC, datetime, time, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from agentwatch.core.text import safe, safe_each
from agentwatch.model import Alert, Evidence, Severity, Status

MOST_FIELDS, MOST_ITEMS, MOST_EVIDENCE = 40, 20, 5
LONGEST_NAME, LONGEST_ADVICE = 64, 300
"""Characters of a name, and of a recommendation, which a rule may write out."""

MINUTE_S = 60.0

_COMMON = frozenset({"timestamp", "alert_id", "type", "severity", "status", "attempt_id", "recommendation", "summary", "episode_id", "evidence"})
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MOST_INTEGER = 2**63

RANK = {severity: rank for rank, severity in enumerate(Severity)}
"""Severities by how bad they are."""


def received(line: Mapping[str, Any], now: datetime) -> Alert | None:
    """The alert on a decoded line of the alert log, whoever wrote it there; None where it has no id or no type.

    Every text is safe and bounded, unknown severities count as medium, what is neither text, number nor list is left out, and an alert
    without a usable time has `now`.
    """
    if not isinstance(line.get("alert_id"), str) or not isinstance(line.get("type"), str):
        return None
    alert_id, episode_id = (_identity(str(line.get(name) or "")) for name in ("alert_id", "episode_id"))
    kind, recommendation = (safe(str(line.get(name) or ""), longest) for name, longest in (("type", LONGEST_NAME), ("recommendation", LONGEST_ADVICE)))
    if not alert_id.strip() or not kind.strip():
        return None
    attempt_id, summary = safe_each([str(line.get(name) or "") for name in ("attempt_id", "summary")])
    at = _moment(line.get("timestamp")) or now
    found = line.get("evidence")
    evidence = [_evidence(one, at) for one in found[:MOST_EVIDENCE] if isinstance(one, dict)] if isinstance(found, list) else []
    names = [name for name in line if name not in _COMMON and isinstance(name, str) and _FIELD.fullmatch(name)][:MOST_FIELDS]
    return Alert(
        timestamp=at,
        alert_id=alert_id,
        type=kind,
        severity=_one_of(Severity, line.get("severity"), Severity.MEDIUM),
        attempt_id=attempt_id,
        recommendation=recommendation,
        summary=summary,
        evidence=tuple(evidence),
        episode_id=episode_id or alert_id,
        status=_one_of(Status, line.get("status"), Status.OPEN),
        detail={name: value for name in names if (value := _value(line[name])) is not None},
    )


def topic(alert: Alert) -> str:
    """What the alert belongs to: of rule matches the issue in its run, of all others the episode."""
    if alert.type == "rule_match" and alert.detail.get("issue_fingerprint"):
        return f"issue:{alert.detail.get('run_id', '')}:{alert.detail['issue_fingerprint']}"
    return alert.episode_id


FLEET_ATTEMPTS, FLEET_S = 3, 300.0
"""So many attempts within so many seconds that alerts of one cause are one outage (docs/detection.md)."""

OUTAGE = "fleet:"
"""How the topic of an outage begins."""


class Member(NamedTuple):
    """A topic that may be part of an outage: whose attempt it is, and when it was told first, in seconds since the epoch."""

    topic: str
    attempt: str
    at_s: float


def cause(alert: Alert) -> str | None:
    """What the alert may have in common with those of other attempts; None where it stands for itself, or is over."""
    found = alert.detail.get("fleet")
    return found if isinstance(found, str) and found and alert.status is not Status.RECOVERED else None


def outage(own: Member, others: Iterable[Member]) -> list[Member]:
    """Those that make an outage together with `own`, which is one of them; none where they are too few, or too far apart."""
    members = sorted({own, *others}, key=lambda one: one.at_s)
    if len({one.attempt for one in members}) < FLEET_ATTEMPTS:
        return []
    for first in members:
        inside = [one for one in members if first.at_s <= one.at_s <= first.at_s + FLEET_S]
        if own in inside and len({one.attempt for one in inside}) >= FLEET_ATTEMPTS:
            return inside
    return []


def _identity(text: str) -> str:
    """The same for the same id, another for another: what is cut or redacted has a digest behind it, or two alerts could become one."""
    shown = safe(text, LONGEST_NAME)
    return shown if shown == text else f"{safe(text, LONGEST_NAME // 2)}~{blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


def _one_of(kind: Any, value: object, otherwise: Any) -> Any:
    return kind(value) if value in list(kind) else otherwise


def _moment(value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)  # type: ignore[arg-type]  # what is no text raises
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    # At the ends of the calendar there are zones in which the moment cannot be told.
    return at if MINYEAR < at.year < MAXYEAR else None


def _evidence(one: dict[str, Any], at: datetime) -> Evidence:
    source, text = safe_each([str(one.get("source") or ""), str(one.get("text") or "")])
    offset = one.get("offset")
    return Evidence(source, offset if type(offset) is int and 0 <= offset < _MOST_INTEGER else 0, _moment(one.get("timestamp")) or at, text)


def _value(value: object) -> object:
    """None for what is left out."""
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < _MOST_INTEGER else None
    if isinstance(value, list):
        return [one for item in value[:MOST_ITEMS] if not isinstance(item, list | dict) and (one := _value(item)) is not None]
    return None


# ----------------------------------------------------------------------------------------------------------- who is told of it


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Somewhere that messages go, and what is sent there. Empty tuples mean all.

    `name` stands for it in what is remembered, so it must not change with the order of the settings. `chat` and `topic_id` are Telegram's.
    """

    name: str
    chat: int = 0
    topic_id: int | None = None
    types: tuple[str, ...] = ()
    executors: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    min_severity: Severity = Severity.LOW
    quiet: str = ""
    can_edit: bool = True

    def wants(self, alert: Alert) -> bool:
        """Whether it is sent alerts of this type, executor and project, if they are bad enough. The end of an episode always is."""
        return (
            (not self.types or alert.type in self.types)
            and (not self.executors or str(alert.detail.get("executor", "")).lower() in {one.lower() for one in self.executors})
            and (not self.projects or alert.detail.get("project_id") in self.projects)
            and (alert.status is Status.RECOVERED or RANK[alert.severity] >= RANK[self.min_severity])
        )


class Mute(msgspec.Struct, frozen=True):
    """What a chat asked not to be told until a moment, in seconds since the epoch. `kind` is `attempt`, `type` or `all`."""

    kind: str
    value: str
    until_s: float

    def covers(self, alert: Alert) -> bool:
        return self.kind == "all" or self.value == (alert.attempt_id if self.kind == "attempt" else alert.type)


def is_muted(alert: Alert, mutes: Iterable[Mute], now: float) -> bool:
    """Whether one of the mutes that are still in force covers it."""
    return any(mute.until_s > now and mute.covers(alert) for mute in mutes)


# -------------------------------------------------------------------------------------------------------- when they are told


class Limits(NamedTuple):
    """How much a chat is sent. Times in seconds."""

    storm_per_min: int = 10
    late_s: float = 600.0
    max_age_s: float = 86_400.0


class Queue(NamedTuple):
    """What waits to be told in a new message: topics, the time of the oldest alert, seconds since the epoch."""

    topics: int
    oldest_s: float


class Sent(NamedTuple):
    """A message of the last minute: when, and whether it was a digest."""

    at_s: float
    is_digest: bool


class Wait(NamedTuple):
    """Nothing yet, but look again then."""

    until_s: float


SINGLE, DIGEST = "single", "digest"


def decide(queue: Queue, sent: Iterable[Sent], limits: Limits, now: float) -> str | Wait:
    """Whether the oldest topic is told by itself, all of them in one digest, or nothing yet. The queue holds one topic at least.

    A minute has at most `storm_per_min` messages and, where more happens, one digest on top; what comes after that waits for the next.
    """
    recent = [one for one in sent if now - MINUTE_S < one.at_s <= now]
    room = limits.storm_per_min - len(recent)
    is_late = queue.topics > 1 and now - queue.oldest_s > limits.late_s
    if queue.topics <= room and not is_late:
        return SINGLE
    if queue.topics == 1:
        return Wait(min(one.at_s for one in recent) + MINUTE_S)
    digests = [one.at_s for one in recent if one.is_digest]
    return Wait(max(digests) + MINUTE_S) if digests else DIGEST


def quiet_until(spec: str, local: datetime) -> datetime | None:
    """The end of the quiet hours that `local` lies in; None where it lies in none. `spec` as in `22:00-07:00`, over midnight or not."""
    if not spec:
        return None
    begin, end = (time.fromisoformat(part) for part in spec.split("-"))
    at = local.time()
    is_quiet = begin <= at < end if begin <= end else at >= begin or at < end
    if not is_quiet:
        return None
    until = local.replace(hour=end.hour, minute=end.minute, second=0, microsecond=0)
    return until if until > local else until + timedelta(days=1)


class Bucket:
    """Tokens that come back with time: `burst` at once, then one every `every_s` seconds."""

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst, self._every_s = burst, every_s
        self._tokens, self._at = float(burst), 0.0

    def ready_at(self, now: float) -> float:
        """When the next token is there; not after `now` where one is."""
        self._refill(now)
        return now if self._tokens >= 1 else now + (1 - self._tokens) * self._every_s

    def take(self, now: float) -> None:
        self._refill(now)
        self._tokens -= 1

    def _refill(self, now: float) -> None:
        # A clock that was set back gives nothing, and takes nothing either.
        self._tokens = min(float(self._burst), self._tokens + max(0.0, now - self._at) / self._every_s)
        self._at = now


class Gate:
    """Closed for a while. A clock that is set back opens it: else a correction by an hour would be an hour of silence."""

    def __init__(self) -> None:
        self._closed_at = self._opens_at = 0.0

    def close(self, now: float, seconds: float) -> None:
        """At least for so long; one that is closed for longer stays so."""
        self._closed_at, self._opens_at = now, max(self.opens_at(now), now + seconds)

    def opens_at(self, now: float) -> float:
        """Not after `now` where it is open."""
        return self._opens_at if now >= self._closed_at else now


def backoff(failures: int, chance: float, *, first_s: float = 1.0, most_s: float = 60.0) -> float:
    """How long to wait after so many failures in a row: doubled each time, with jitter. `chance` lies between 0 and 1."""
    return min(most_s, first_s * 2.0 ** min(max(failures - 1, 0), 30)) * (0.5 + chance / 2)
