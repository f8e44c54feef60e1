"""`agentwatch issues`: the issues of a run as a person or a program sees them, and what a person says of them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from agentwatch.apps.alerts import SEVERITY
from agentwatch.apps.holder import STATE_DIR
from agentwatch.errors import UnknownNameError, UsageError
from agentwatch.model import Issue, Severity, Standing
from agentwatch.store import runs
from agentwatch.store.issues import NAME, IssueStore
from agentwatch.ui.page import Block, Word, para

SHOWN = 12
"""Digits of a fingerprint that are shown: among a thousand issues two begin alike once in half a billion."""

LEAST_DIGITS = 4


def store(log_dir: Path, *, read_only: bool = True) -> IssueStore:
    """The issues of a log directory, for those who look or mark."""
    return IssueStore(log_dir / STATE_DIR / NAME, read_only=read_only)


class Chosen(NamedTuple):
    """Which issues are asked for. `runs` are run ids, None the log directory itself."""

    runs: tuple[str | None, ...]
    least: Severity = Severity.LOW
    with_resolved: bool = False


def runs_meant(log_dir: Path, named: str | None, environ: Mapping[str, str]) -> tuple[str | None, ...]:
    """The run that is named, else that of AGENTWATCH_RUN, else the log directory itself and its newest run. `latest` is what `runs/latest` leads to.

    Raises UnknownNameError for a run that nobody knows, and UsageError for what cannot be a run's id.
    """
    wanted = runs.resolve(log_dir, named, environ)
    with closing(store(log_dir)) as issues:
        known = [run for run in issues.runs() if run is not None]
    if wanted is None:
        newest = runs.latest(log_dir) or (known[-1] if known else None)
        return (None, newest) if newest is not None else (None,)
    return (wanted,) if wanted in known else (runs.find(log_dir, wanted, environ),)


def look(log_dir: Path, chosen: Chosen) -> list[Issue]:
    """The issues that are asked for, what to look at first standing first."""
    order = list(Severity)
    with closing(store(log_dir)) as issues:
        found = [issue for run in chosen.runs for issue in issues.issues(run)]
    found = [issue for issue in found if order.index(issue.severity) >= order.index(chosen.least) and (chosen.with_resolved or issue.status != "resolved")]
    return sorted(found, key=lambda issue: -issue.rank)


def mark(log_dir: Path, run_ids: Iterable[str | None], beginning: str, status: Standing) -> Issue:
    """Say of the issue whose fingerprint begins so where it stands, and give it as it was.

    Raises UnknownNameError where there is none in these runs, or more than one of different fingerprints, and UsageError for less than `LEAST_DIGITS`.
    """
    if len(beginning) < LEAST_DIGITS:
        raise UsageError(f"`{beginning}` is too short for a fingerprint", hint=f"give at least {LEAST_DIGITS} of its digits")
    with closing(store(log_dir)) as issues:
        found = [issue for run in run_ids for issue in issues.issues(run) if issue.fingerprint.startswith(beginning.lower())]
    if not found:
        raise UnknownNameError(f"there is no issue `{beginning}`", hint="see `agentwatch issues --all`")
    if len({issue.fingerprint for issue in found}) > 1:
        raise UnknownNameError(f"there are {len(found)} issues that begin with `{beginning}`", hint="give more of the fingerprint")
    with closing(store(log_dir, read_only=False)) as issues:
        for issue in found:
            issues.mark(issue.run_id, issue.fingerprint, status)
    return found[0]


def as_json(issue: Issue) -> str:
    """An issue on one line."""
    return msgspec.json.encode(issue).decode()


def page(issues: Iterable[Issue]) -> Iterator[Block]:
    """Issues for people: what it is and how often, what is said, what to do, and why it stands where it does. Times are UTC."""
    for issue in issues:
        is_settled = issue.status in ("acknowledged", "resolved")
        yield para(
            Word(issue.fingerprint[:SHOWN], "dim"),
            "  ",
            Word(f"{issue.severity:6}", "dim" if is_settled else SEVERITY[issue.severity]),
            f"  {issue.occurrences:,} x  ",
            Word(issue.title, "title"),
            Word(f"  {issue.status}" if issue.status != "open" else "", "good" if is_settled else ""),
        )
        yield para(issue.samples[-1].text if issue.samples else issue.message, indent=2)
        yield para(f"-> {issue.recommendation}", indent=2)
        where = ", ".join(issue.sources)
        when = f"{issue.first_seen:%Y-%m-%d %H:%M:%S}Z" + (f" to {issue.last_seen:%Y-%m-%d %H:%M:%S}Z" if issue.last_seen != issue.first_seen else "")
        yield para(Word(f"{issue.why}   {issue.rule_id}   {where}   {when}", "dim"), indent=2)
