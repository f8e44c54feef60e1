"""Which issue of a run to look at first: what is new before what every run has."""

from math import log10

from agentwatch.model import Issue, Severity

_TIER, _SEVERITY = 100, 10
"""What is new comes before what is worse, and what is worse before what is more frequent: no count reaches the next severity."""

_MOST_COUNT = 9.0
_SEVERITIES = {severity: number for number, severity in enumerate(Severity)}
_SETTLED = {"resolved": -10 * _TIER, "acknowledged": -5 * _TIER}
"""What somebody has seen to stands below all that nobody has."""


def rank(issue: Issue) -> None:
    """Set `rank` and `why` by what is known of earlier runs, severity, count and status."""
    tier, issue.why = _novelty(issue)
    issue.rank = round(
        tier * _TIER + _SEVERITIES[issue.severity] * _SEVERITY + min(log10(max(issue.occurrences, 1)), _MOST_COUNT) + _SETTLED.get(issue.status, 0), 3
    )
    if issue.status in _SETTLED:
        issue.why = f"{issue.status}; {issue.why}"


def _novelty(issue: Issue) -> tuple[int, str]:
    seen, earlier = issue.seen_in_runs, issue.earlier_runs
    if not earlier:
        return 1, "no earlier run to compare with" if issue.run_id is not None else "in no run"
    if not seen:
        return 3, f"new: in none of {earlier} earlier {_runs(earlier)}"
    if 2 * seen < earlier:
        return 1, f"seen before: in {seen} of {earlier} earlier {_runs(earlier)}"
    return 0, f"flaky or known: in {seen} of {earlier} earlier {_runs(earlier)}"


def _runs(number: int) -> str:
    return "run" if number == 1 else "runs"
