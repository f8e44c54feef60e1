"""The seven-day report in the few lines that a phone shows."""

from collections.abc import Iterator

from agentwatch.core.reports.summary import Summary
from agentwatch.core.text import safe
from agentwatch.ui.figures import count, percent, usd

MOST_ERRORS, MOST_TYPES, MOST_CHARS = 3, 8, 80


def brief(summary: Summary) -> Iterator[str]:
    """Sessions, success, cost, the most frequent errors and the incidents by type, a line each; what is not known has none."""
    told, then = summary.sessions, summary.before
    ended = ", ".join(f"{count(number)} {name}" for name in ("failed", "timeout", "interrupted", "running") if (number := getattr(told, name)))
    yield f"Sessions: {count(told.total)}{f' ({ended})' if ended else ''}{f', before {count(then.sessions.total)}' if then else ''}"
    if told.success_rate is not None:
        yield f"Success: {percent(told.success_rate)}{_before(percent(then.sessions.success_rate) if then else '')}"
    if summary.cost_usd.known:
        yield f"Cost: {'≥ ' if summary.cost_usd.at_least else ''}{usd(summary.cost_usd.total)}{_before(usd(then.cost_usd.total) if then and then.cost_usd.known else '')}"
    if summary.top_errors:
        yield f"Errors: {count(summary.errors.total)}, most often"
        yield from (f"  {count(one.occurrences)} times {safe(one.sample_message or one.fingerprint, MOST_CHARS)}" for one in summary.top_errors[:MOST_ERRORS])
    if summary.incidents:
        yield f"Incidents: {count(sum(summary.incidents.values()))}"
        yield from (f"  {count(number)} {safe(kind, MOST_CHARS)}" for kind, number in list(summary.incidents.items())[:MOST_TYPES])
    yield from (safe(problem, 2 * MOST_CHARS) for problem in summary.problems[:1])


def _before(text: str) -> str:
    return f", before {text}" if text else ""
