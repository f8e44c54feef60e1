"""Issues: matches of rules that say the same, counted in each run, and told when there are too many of them.

What is remembered stands in the snapshot beside all else that the engine remembers, so that counts are exact over crashes. It is bounded: see the
numbers below. Knows neither where rules come from nor who shows issues.
"""

from datetime import datetime, timedelta
from hashlib import blake2b, sha256
from typing import NamedTuple, Protocol

from agentwatch.core.alerts import CONTEXT, RECOMMENDATIONS, milliseconds, span
from agentwatch.core.limits import Limits
from agentwatch.core.quotas import limit_kind
from agentwatch.core.rules import Match, Rule, Slot
from agentwatch.core.runs import run_of
from agentwatch.core.signatures import is_own_failure, result_text
from agentwatch.core.state import RunIssues, Session, Tally, Window
from agentwatch.core.templates import template
from agentwatch.core.text import safe, safe_each
from agentwatch.model import PROGRAM, Alert, Detail, Event, Evidence, Issue, Sample, Severity, Status, decoded

MOST_SAMPLES, MOST_SOURCES = 5, 8
"""Of an issue the first two and the latest three samples are kept, and so many names of logs."""

MOST_OF_A_RULE, MOST_OF_A_RUN = 32, 256
"""So many issues one rule, and one run, may have. What is said in yet another way is counted together, as one more issue of its rule."""

MOST_RUNS = 64
"""In so many runs issues are counted. Of more, the one that nothing was counted in for longest is given up; the store still knows it."""

DAY = timedelta(hours=24)
"""Outside of runs, which end, an issue is told when it comes so often within a day, and again when it comes back after one: else what goes wrong
once a week would page somebody in the third, and never again."""

SAID_TWICE = timedelta(seconds=5)
"""An agent's error so soon after a failed result that is a case of the same rule is that failure, told again."""

MOST_REMEMBERED = 512
OTHERS = "<other messages>"
_SEVERITIES = tuple(Severity)
_KIND = "rule_match"


class Finder(Protocol):
    """Whoever knows the rules: `core.rules.Rules`, or what reads them when they are asked for first."""

    def find(self, slot: Slot, format_name: str, text: str, /) -> Match | None: ...


class _Named(NamedTuple):
    """What a match is called."""

    fingerprint: str
    message: str
    text: str


class Issues:
    """Counts what the rules find. `runs` is the part of the snapshot that is its own; `changed` are the issues to be stored, by run and fingerprint.

    Without `rules` nothing is looked for.
    """

    def __init__(self, limits: Limits, runs: dict[str, RunIssues]) -> None:
        self._threshold = limits.issue_threshold
        # A loop of the same error says more of an agent than the third one does, and is told first; what is spread over hours and attempts is no loop.
        self._agents_threshold = self._threshold if "error_loop" in limits.off else max(self._threshold, limits.error_loop_threshold + 1)
        self._off = limits.off
        self._runs = runs
        self._names: dict[tuple[str, str, object], _Named] = {}
        self.rules: Finder | None = None
        self.changed: dict[tuple[str, str], Issue] = {}
        self._fresh = dict.fromkeys(runs)

    def all(self) -> list[Issue]:
        """Every issue that is remembered."""
        return [tally.issue for run in self._runs.values() for tally in run.tallies.values()]

    def fresh_runs(self) -> dict[str, datetime]:
        """When the first event of each run was, of those that this is not stored of yet; "" is the log directory itself."""
        return {run_of(scope) or "": self._runs[scope].began for scope in self._fresh if scope in self._runs}

    def runs(self) -> dict[str, datetime]:
        """When the first event of each run was that is remembered."""
        return {run_of(scope) or "": run.began for scope, run in self._runs.items()}

    def stored(self) -> None:
        """What was `changed` and fresh stands in the store."""
        self.changed.clear()
        self._fresh.clear()

    def met(self, run: str, at: datetime) -> None:
        """An event of a run, which need not have any issue: that one had none makes it new in the next."""
        known = self._runs.get(run)
        if known is None:
            if len(self._runs) >= MOST_RUNS:
                del self._runs[min(self._runs, key=lambda one: self._runs[one].last)]
            self._runs[run] = RunIssues(at, at)
        elif at < known.began:
            known.began = at
        else:
            return
        self._fresh[run] = None

    def output(self, session: Session, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        """A program's record that tells no failure."""
        session.ruled = None
        self._look("output", session, event, result_text(decoded(detail.output)), place, out)

    def trace(self, session: Session, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        """What belongs to a program's record of a failure. A rule that the record is a case of already does not count again."""
        self._look("trace", session, event, result_text(decoded(detail.output)), place, out)

    def error(self, session: Session, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        """An error: of a program, or of an agent."""
        if not detail.error_message:
            return
        if detail.stop_reason == PROGRAM:
            session.ruled = None
            self._look("error", session, event, detail.error_message, place, out)
        else:
            if session.ruled_at is not None and not timedelta(0) <= event.timestamp - session.ruled_at <= SAID_TWICE:
                session.ruled = None
            self._look("agent", session, event, detail.error_message, place, out)
            session.ruled = None

    def result(self, session: Session, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        """A tool's result that failed."""
        session.ruled = None
        text = result_text(decoded(detail.result))
        message = detail.error_message
        if message and message not in text:
            text = f"{message}\n{text}"
        if text and is_own_failure(text):
            self._look("tool", session, event, text, place, out)

    def _look(self, slot: Slot, session: Session, event: Event, text: str, place: int, out: list[Alert]) -> None:
        rules = self.rules
        if rules is None:
            return
        match = rules.find(slot, session.format, text)
        if match is None or (session.ruled is not None and match.rule.id in session.ruled):
            return
        session.ruled = [*(session.ruled or ()), match.rule.id]
        session.ruled_at = event.timestamp
        severity = match.rule.severity
        if slot == "tool" and severity is Severity.HIGH:
            severity = Severity.MEDIUM  # an agent sees what its tools say, and most often mends it
        is_agents = slot in ("agent", "tool")
        threshold = match.rule.threshold or (self._agents_threshold if is_agents else self._threshold)
        is_told = is_agents and self._is_told(session, severity, event.timestamp, text)
        self._count(match, severity, session, event.timestamp, place, out, threshold=threshold, is_told=is_told)

    def _is_told(self, session: Session, severity: Severity, at: datetime, text: str) -> bool:
        """Whether a detector, which has seen the event before, has told of what it is a part of, and with no less severity."""
        for name, episode in (session.episodes or {}).items():
            kind = name.partition(":")[0]
            if episode.recovered or kind in self._off or kind not in ("error_loop", "limit_reached"):
                continue
            # Of a limit that was told, further errors are not counted.
            is_part = episode.last_at == at if kind == "error_loop" else session.limited is not None and limit_kind(text) is not None
            if is_part and _SEVERITIES.index(RECOMMENDATIONS[kind][1]) >= _SEVERITIES.index(severity):
                return True
        return False

    def _count(self, match: Match, severity: Severity, session: Session, at: datetime, place: int, out: list[Alert], *, threshold: int, is_told: bool) -> None:
        rule, name = match.rule, session.scope
        self.met(name, at)
        run = self._runs[name]
        named = self._named(match)
        tally = run.tallies.get(named.fingerprint)
        if tally is None and (run.by_rule.get(rule.id, 0) >= MOST_OF_A_RULE or len(run.tallies) >= MOST_OF_A_RUN):
            named = named._replace(fingerprint=_digest(rule.id, OTHERS), message=OTHERS)
            tally = run.tallies.get(named.fingerprint)
        if tally is None:
            tally = run.tallies[named.fingerprint] = Tally(_issue(rule, severity, named, name, at), Window())
            run.by_rule[rule.id] = run.by_rule.get(rule.id, 0) + 1
        run.last = max(run.last, at)
        issue = tally.issue
        if not name and at - issue.last_seen > DAY:
            tally.told, tally.recent = False, Window()
            tally.bout += 1
        _seen(issue, session.source, place, at, named.text)
        if _SEVERITIES.index(severity) > _SEVERITIES.index(issue.severity):
            issue.severity = severity
        full = tally.recent.push(at, place, threshold)
        window = timedelta(seconds=rule.window_s) if rule.window_s is not None else DAY if not name else None
        if full and not tally.told and (window is None or tally.recent.within(window)):
            tally.told, issue.status = True, "notified"
            if not is_told and _KIND not in self._off:
                out.append(_alert(tally, session, at))
        self.changed[name, named.fingerprint] = issue

    def _named(self, match: Match) -> _Named:
        rule, line = match.rule, match.line
        chosen = rule.fingerprint
        key = rule.id, line, tuple(match.groups.get(name) for name in chosen) if isinstance(chosen, tuple) else chosen
        named = self._names.get(key)
        if named is None:
            text = safe(line)
            message = template(text)
            parts: list[str] = [message] if chosen == "message" else []
            if isinstance(chosen, tuple):
                parts = [safe(match.groups.get(name, ""), 200) for name in chosen]
            named = _Named(_digest(rule.id, *parts), message, text)
            if len(self._names) >= MOST_REMEMBERED:
                self._names.clear()
            self._names[key] = named
        return named


def _digest(*parts: str) -> str:
    return sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _issue(rule: Rule, severity: Severity, named: _Named, scope: str, at: datetime) -> Issue:
    return Issue(
        run_id=run_of(scope),
        fingerprint=named.fingerprint,
        rule_id=rule.id,
        title=safe(rule.title, 100),
        severity=severity,
        category=rule.category,
        message=named.message,
        occurrences=0,
        first_seen=at,
        last_seen=at,
        recommendation=safe(rule.recommendation, 300),
    )


def _seen(issue: Issue, source: str, place: int, at: datetime, text: str) -> None:
    """One more occurrence. A log's times may run backwards."""
    issue.occurrences += 1
    issue.first_seen, issue.last_seen = min(issue.first_seen, at), max(issue.last_seen, at)
    source = safe(source)
    if source not in issue.sources and len(issue.sources) < MOST_SOURCES:
        issue.sources = (*issue.sources, source)
    sample = Sample(source, place, at, text)
    kept = issue.samples
    issue.samples = (*kept, sample) if len(kept) < MOST_SAMPLES else (*kept[:2], *kept[3:], sample)


def _alert(tally: Tally, session: Session, at: datetime) -> Alert:
    """The one alert of an issue. Its id rests on run and fingerprint alone: whichever log is read first, it is the same."""
    issue = tally.issue
    identity = blake2b("\x1f".join((_KIND, session.scope, issue.fingerprint, str(tally.bout))).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    context = {name: value for name in CONTEXT if (value := getattr(session.context, name))}
    attempt_id, *texts = safe_each([session.attempt_id, *context.values()])
    times = tally.recent.times
    lasted = max(times) - min(times)
    within = f" in {span(lasted)}" if lasted >= timedelta(seconds=1) else ""
    where = f" in {issue.sources[0]}" + (f" and {len(issue.sources) - 1} more" if len(issue.sources) > 1 else "")
    how_often = f"{issue.occurrences} {'time' if issue.occurrences == 1 else 'times'}"
    return Alert(
        timestamp=at,
        alert_id=identity,
        type=_KIND,
        severity=issue.severity,
        attempt_id=attempt_id,
        recommendation=issue.recommendation or RECOMMENDATIONS[_KIND][0],
        summary=safe(f"{issue.title}, {how_often}{within}{where}: {issue.samples[-1].text[:200]}"),
        evidence=tuple(Evidence(one.source, one.offset, one.timestamp, one.text) for one in issue.samples),
        episode_id=identity,
        status=Status.OPEN,
        detail={
            **dict(zip(context, texts, strict=True)),
            **({"run_id": issue.run_id} if issue.run_id is not None else {}),
            "rule_id": issue.rule_id,
            "issue_fingerprint": issue.fingerprint,
            "occurrences": issue.occurrences,
            "window_ms": milliseconds(lasted),
            "title": issue.title,
            "category": issue.category,
            "sources": list(issue.sources),
        },
    )
