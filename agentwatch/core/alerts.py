"""From a detector's finding to an alert: its id, its texts made safe, its place in an episode.

An alert's id is a function of its evidence alone: type, attempt, what was repeated, and the line at which the incident
began. No clock, counter, path or process takes part, so the same log gives the same ids after a crash and elsewhere.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from hashlib import blake2b

import msgspec

from agentwatch.core.limits import Limits
from agentwatch.core.spending import loop_went_on
from agentwatch.core.state import Episode, Session
from agentwatch.core.text import safe_each
from agentwatch.model import Alert, Context, Evidence, Severity, Status

ESCALATE_AT, ESCALATE_AFTER, ESCALATE_USD = 4, timedelta(minutes=15), 5.0
"""A problem is told again when it has grown fourfold, has gone on for 15 minutes or has cost 5 USD since it was told, and then again when
any of these is four times as much (detection.md, section 5, lifecycle)."""

MOST_SUMMARY = 440
"""Characters of a summary, so that what it has cost still fits behind it."""

LOOPS = frozenset({"error_loop", "tool_loop"})
"""The types whose occurrences are repetitions: what is spent between them is counted as spent inside a loop."""

MOST_EVIDENCE = 5
MOST_EPISODES = 64
CENT = 0.01

_RAISED = {Severity.LOW: Severity.MEDIUM, Severity.MEDIUM: Severity.HIGH, Severity.HIGH: Severity.HIGH}
RECOMMENDATIONS = {
    "error_loop": ("trigger_ai_autofix", Severity.HIGH),
    "tool_loop": ("fresh_session", Severity.MEDIUM),
    "stuck_agent": ("check_agent_health", Severity.MEDIUM),
    "cost_anomaly": ("review_prompt_efficiency", Severity.LOW),
    "excessive_restarts": ("manual_review", Severity.MEDIUM),
    "failed_session_high_errors": ("analyze_root_cause", Severity.HIGH),
    "limit_reached": ("wait_for_reset", Severity.MEDIUM),
    "context_exhaustion": ("fresh_session", Severity.LOW),
    "waiting_for_user": ("answer_agent", Severity.LOW),
    "rule_match": ("manual_review", Severity.MEDIUM),  # the rule's own, where it has them
    "failed_session_transient_errors": ("switch_sdk_or_backoff_retry", Severity.MEDIUM),
}


_STEP = "tool, parameters and result; not why or how long in the parameters, nor times, ids and ports in the result"
COMPARED = {
    "names": "the name alone, as the log has it",
    "repeat": _STEP,
    "poll": _STEP,
    "interleaved": _STEP,
    "near_identical": "tool and result, and the parameters but for numbers, paths and quoted words",
    "cycle": _STEP,
    "monologue": "the messages' texts, but for times and ids",
    "operation": "what is done and the line that says what failed; not numbers, ids, times and addresses in it",
    "same_call": "the whole call and the line that says what failed",
    "failing_edits": "that they are edits, and fail",
    "storm": "the errors' texts, but for numbers, ids, times and addresses",
    "transient": "that they are errors which should pass, whatever they say",
}
"""What was held to be the same, and what was left out, by the rule that found it: part of the alert, so that a person can judge it."""

CONTEXT = tuple(name for name in Context.__struct_fields__ if name not in ("executor_variant", "tags"))


class Spot(msgspec.Struct, frozen=True, gc=False):
    """A line of a log that a finding rests on: when, at which byte, and what it says (raw)."""

    at: datetime
    place: int
    text: str


class Finding(msgspec.Struct, frozen=True):
    """What a detector has found, before it becomes an alert. `spots[0]` is where the incident began: the id rests on it. `rule` is one of `COMPARED`.
    `is_shared`: no single attempt's doing, so that the id rests on type and key alone.
    """

    type: str
    key: str
    at: datetime
    spots: list[Spot]
    summary: str
    detail: dict[str, object]
    rule: str | None = None
    is_shared: bool = False


Describe = Callable[[int, Status], Finding]
"""Called with the count so far and the status only when a line is due, so that counting on costs no text."""


class Reporter:
    """Keeps the episodes of sessions and turns findings into alerts, each at most once."""

    def __init__(self, limits: Limits) -> None:
        self._cooldown = limits.cooldown
        self._off = limits.off

    def count(self, session: Session, kind: str, key: str, at: datetime, *, crossed: bool, size: int, describe: Describe, out: list[Alert]) -> None:
        """One more occurrence of `key`. Opens an episode when the threshold is crossed, escalates it as it grows.

        `size` is the number of occurrences that crossing stands for. Within the cool-down after the last occurrence it is still
        the same episode, whatever the window says; after a recovery too, where the threshold is crossed again: a loop that stops
        and starts every minute is one incident.
        """
        name = f"{kind}:{key}"
        episode = session.episodes.get(name) if session.episodes else None
        if episode is not None and (crossed or not episode.recovered) and abs(at - episode.last_at) <= self._cooldown:
            if kind in LOOPS and not episode.recovered:
                loop_went_on(session, episode.last_at, at)
            self._grow(session, episode, at, describe, out)
        elif crossed:
            finding = describe(size, Status.OPEN)
            if kind in LOOPS:
                loop_went_on(session, finding.spots[0].at, at)
            if episode is not None and episode.episode_id == alert_id(session, finding, Status.OPEN, 0):
                # It never ended: a loop that goes round more slowly than the cool-down.
                self._grow(session, episode, at, describe, out)
            else:
                self.open(session, finding, size, out)

    def _grow(self, session: Session, episode: Episode, at: datetime, describe: Describe, out: list[Alert]) -> None:
        episode.count += 1
        episode.last_at = at
        if episode.count >= episode.next_count or at >= episode.next_at or session.cost_usd >= episode.next_usd:
            self._escalate(session, episode, describe(episode.count, Status.ESCALATED), out)

    def open(self, session: Session, finding: Finding, size: int, out: list[Alert]) -> Episode:
        """A new episode and its first line."""
        identity = alert_id(session, finding, Status.OPEN, 0)
        episode = Episode(
            episode_id=identity,
            opened_at=finding.spots[0].at,
            last_at=finding.at,
            count=size,
            next_count=size * ESCALATE_AT,
            next_at=finding.at + ESCALATE_AFTER,
            usd=session.cost_usd,
            next_usd=session.cost_usd + ESCALATE_USD,
        )
        episodes = session.episodes
        if episodes is None:
            episodes = session.episodes = {}
        episodes.pop(f"{finding.type}:{finding.key}", None)
        if len(episodes) >= MOST_EPISODES:
            del episodes[next((name for name, one in episodes.items() if one.recovered), next(iter(episodes)))]
        episodes[f"{finding.type}:{finding.key}"] = episode
        self._write(session, finding, identity, identity, Status.OPEN, 0, out)
        return episode

    def escalate(self, session: Session, episode: Episode, finding: Finding, out: list[Alert]) -> None:
        """The incident goes on: one more line of the same episode, a step more severe."""
        self._escalate(session, episode, finding, out)

    def recover(self, session: Session, finding: Finding, out: list[Alert]) -> None:
        """The incident ended, if it was told: the last line of its episode."""
        episode = session.episodes.get(f"{finding.type}:{finding.key}") if session.episodes else None
        if episode is None or episode.recovered:
            return
        episode.recovered = True
        identity = alert_id(session, finding, Status.RECOVERED, episode.level, episode.episode_id)
        self._write(session, finding, identity, episode.episode_id, Status.RECOVERED, 0, out)

    def _escalate(self, session: Session, episode: Episode, finding: Finding, out: list[Alert]) -> None:
        episode.level += 1
        episode.recovered = False
        episode.next_count = episode.count * ESCALATE_AT
        episode.next_at = finding.at + ESCALATE_AT * max(finding.at - episode.opened_at, ESCALATE_AFTER)
        episode.next_usd = session.cost_usd + ESCALATE_AT * max(session.cost_usd - episode.usd, ESCALATE_USD)
        identity = alert_id(session, finding, Status.ESCALATED, episode.level, episode.episode_id)
        self._write(session, finding, identity, episode.episode_id, Status.ESCALATED, episode.level, out)

    def follow(self, session: Session, episode: Episode, finding: Finding, out: list[Alert]) -> None:
        """What an incident has led to: the last line of its episode, of another type."""
        episode.recovered = True
        identity = alert_id(session, finding, Status.ESCALATED, 0, f"{episode.episode_id}\x1f{finding.type}")
        self._write(session, finding, identity, episode.episode_id, Status.ESCALATED, 0, out)

    def shared(self, session: Session, finding: Finding, level: int, out: list[Alert]) -> None:
        """A line of an incident that is no single attempt's: the first at level 0, each further one a level up."""
        episode_id = alert_id(session, finding, Status.OPEN, 0)
        if level == 0:
            self._write(session, finding, episode_id, episode_id, Status.OPEN, 0, out)
        else:
            self._write(session, finding, alert_id(session, finding, Status.ESCALATED, level, episode_id), episode_id, Status.ESCALATED, level, out)

    def _write(self, session: Session, finding: Finding, identity: str, episode_id: str, status: Status, level: int, out: list[Alert]) -> None:
        """Add an alert, but for the types that are switched off: their episodes are kept, so that settings change no state."""
        if finding.type not in self._off:
            out.append(_alert(session, finding, identity, episode_id, status, level))


def alert_id(session: Session, finding: Finding, status: Status, level: int, episode_id: str = "") -> str:
    """16 hex digits. The first line of an episode rests on where it began, the later ones on it and their step."""
    first = finding.spots[0]
    parts: tuple[str, ...] = (
        (episode_id,)
        if episode_id
        else (finding.type, finding.key)
        if finding.is_shared
        else (finding.type, session.attempt_id, finding.key, first.at.isoformat(), str(first.place), *([session.scope] if session.scope else ()))
    )
    return blake2b("\x1f".join((*parts, status, str(level))).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _alert(session: Session, finding: Finding, identity: str, episode_id: str, status: Status, level: int) -> Alert:
    recommendation, severity = RECOMMENDATIONS[finding.type]
    for _ in range(level):
        severity = _RAISED[severity]
    spots = list(_few(finding.spots))
    context = {name: value for name in CONTEXT if (value := getattr(session.context, name))}
    told = _told(session, finding)
    said = {name: value for name, value in told.items() if isinstance(value, str)}
    lists = {name: safe_each(value) for name, value in told.items() if isinstance(value, list)}
    texts = safe_each([session.attempt_id, session.source, _summary(session, finding), *context.values(), *said.values(), *(spot.text for spot in spots)])
    attempt_id, source, summary, *rest = texts
    return Alert(
        timestamp=finding.at,
        alert_id=identity,
        type=finding.type,
        severity=severity,
        attempt_id=attempt_id,
        recommendation=recommendation,
        summary=summary,
        evidence=tuple(Evidence(source, spot.place, spot.at, text) for spot, text in zip(spots, rest[len(context) + len(said) :], strict=True)),
        episode_id=episode_id,
        status=status,
        detail={**dict(zip(context, rest, strict=False)), **told, **lists, **dict(zip(said, rest[len(context) :], strict=False))},
    )


def _told(session: Session, finding: Finding) -> dict[str, object]:
    told = finding.detail
    if (rule := finding.rule) is not None:
        told = told | {"rule": rule, "compared": COMPARED[rule]}
    return told | {"spent_usd": round(session.cost_usd, 6)} if session.cost_usd and "cost_usd" not in told else told


def _summary(session: Session, finding: Finding) -> str:
    """What was found, and what the session has cost so far."""
    summary = finding.summary if len(finding.summary) <= MOST_SUMMARY else finding.summary[:MOST_SUMMARY] + "…"
    if "cost_usd" in finding.detail or session.cost_usd < CENT:
        return summary
    return f"{summary} (${session.cost_usd:.2f} so far)"


def _few(spots: list[Spot]) -> Iterable[Spot]:
    """The first two and the last three of them, at most."""
    return spots if len(spots) <= MOST_EVIDENCE else [*spots[:2], *spots[2 - MOST_EVIDENCE :]]


def span(width: timedelta) -> str:
    """A duration as a person says it: `45 s`, `10 min`, `1 h 5 min`."""
    seconds = max(0, round(width.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def milliseconds(width: timedelta) -> int:
    return round(width.total_seconds() * 1000)
