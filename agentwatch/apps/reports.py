"""`agentwatch summary` and `report …`: collects what is known and hands it to the report that was asked for."""

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agentwatch.apps import history
from agentwatch.apps.history import collect
from agentwatch.core.reports.history import Period, last_days
from agentwatch.core.reports.summary import Summary, summarise
from agentwatch.errors import StorageError
from agentwatch.store.runs import resolve

if TYPE_CHECKING:
    from agentwatch.apps.scan import Progress
    from agentwatch.core.reports.cost import By
    from agentwatch.settings import Loaded
    from agentwatch.ui.charts import Chart
    from agentwatch.ui.page import Block

WEEKLY_DIR = Path(".cache/reports")


class Scope(NamedTuple):
    """What a report is about: which days, which run, which executor."""

    days: float
    run: str | None = None
    executor: str | None = None

    @classmethod
    def of(cls, loaded: "Loaded", environ: Mapping[str, str], days: float, run: str | None = None, executor: str | None = None) -> "Scope":
        """The same with the id of the run that `run`, or else the environment, means. Raises UnknownNameError."""
        return cls(days, resolve(loaded.settings.logs.dir, run, environ), executor)

    def period(self, until: datetime | None) -> Period:
        """The days up to then, or up to now."""
        return last_days(self.days, until or datetime.now(UTC), is_now=until is None)

    @property
    def words(self) -> str:
        return "".join(f", {name} {value}" for name, value in (("run", self.run), ("executor", self.executor)) if value)


class Report(NamedTuple):
    """What a report found: as rows for programs, and as blocks for people."""

    title: str
    period: Period
    chosen: str
    found: Sequence[Any]
    blocks: "list[Block | Chart]"

    @property
    def about(self) -> str:
        """Which days, and what was chosen."""
        start, end = (at.astimezone(UTC) for at in (self.period.start, self.period.end))
        return f"{self.period.days:g} days, {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC{self.chosen}"

    def page(self) -> "list[Block | Chart]":
        """For a terminal or a pipe: what the report is about, and what it found."""
        from agentwatch.ui.page import Word, para

        return [para(Word(self.title, "title"), Word(f"  {self.about}", "dim")), *self.blocks]


class Source:
    """All that the reports of one call are made of, collected once; what came before the period only where it is compared with that (`is_compared`)."""

    def __init__(
        self,
        loaded: "Loaded",
        environ: Mapping[str, str],
        home: Path | None,
        scope: Scope,
        until: datetime | None,
        progress: "Progress",
        *,
        is_compared: bool = False,
        reads_logs: bool = True,
    ) -> None:
        self.period = scope.period(until)
        self.scope = scope
        since = self.period.before.start if is_compared else self.period.start
        known = collect(loaded, environ, home, since, progress, reads_logs=reads_logs)
        self.known = known.only(run=scope.run, executor=scope.executor)
        self.history = self.known.of(self.period)

    def summary(self) -> Summary:
        return summarise(self.known, self.period)

    def errors(self) -> Report:
        from agentwatch.core.reports.errors import clusters
        from agentwatch.ui import report_pages

        found = clusters(self.history, self.period)
        return self._report("Errors", found, report_pages.errors(found))

    def executors(self, names: Sequence[str] = ()) -> Report:
        from agentwatch.core.reports.executors import executors
        from agentwatch.ui import report_pages

        found = executors(self.history, names)
        return self._report("Executors", found, report_pages.executors(found))

    def prompts(self, names: Sequence[str] = ()) -> Report:
        from agentwatch.core.reports.executors import variants
        from agentwatch.ui import report_pages

        found = variants(self.history, names)
        return self._report("Prompts", found, report_pages.variants(found))

    def tasks(self, *, failed_only: bool) -> Report:
        from agentwatch.core.reports.tasks import tasks
        from agentwatch.ui import report_pages

        found = tasks(self.history, failed_only=failed_only)
        return self._report("Tasks that failed" if failed_only else "Tasks", found, report_pages.tasks(found))

    def backlog(self, top: int) -> Report:
        from agentwatch.core.reports.tasks import backlog
        from agentwatch.ui import report_pages

        found = backlog(self.history, top)
        return self._report("Tasks that deserve a look first", found, report_pages.tasks(found))

    def sessions(self) -> Report:
        from agentwatch.core.reports.listing import listing
        from agentwatch.ui import report_pages

        found = listing(self.history)
        return self._report("Sessions", found, report_pages.sessions(found, self.history.alerts))

    def cost(self, by: "By") -> Report:
        from agentwatch.core.reports.cost import recommendations, spending
        from agentwatch.ui import report_pages

        found = spending(self.history, by, self.period)
        return self._report(f"Cost by {by}", found, report_pages.spending(found, by, recommendations(self.history)))

    def weekly(self) -> "Weekly":
        """All of it."""
        from agentwatch.core.reports.cost import recommendations
        from agentwatch.ui.charts import Heading
        from agentwatch.ui.summary_page import page

        summary = self.summary()
        parts = [self.executors(), self.cost("day"), self.cost("model"), self.errors(), self.tasks(failed_only=True), self.backlog(10)]
        blocks: list[Block | Chart] = [Heading("Summary"), *page(summary)]
        for part in parts:
            blocks += [Heading(part.title), *part.blocks]
        names = ("executors", "cost_by_day", "cost_by_model", "errors", "failed_tasks", "backlog")
        found = {"summary": summary, **{name: part.found for name, part in zip(names, parts, strict=True)}, "recommendations": recommendations(self.history)}
        return Weekly(found, Report("Weekly report", self.period, self.scope.words, [], blocks))

    def _report(self, title: str, found: Sequence[Any], blocks: "Iterable[Block | Chart]") -> Report:
        from agentwatch.ui.report_pages import remarks

        return Report(title, self.period, self.scope.words, found, [*blocks, *remarks(self.known.problems)])


def summed(loaded: "Loaded", environ: Mapping[str, str], home: Path | None, scope: Scope, until: datetime | None, progress: "Progress") -> Summary:
    """The summary alone: where it is about everything, without a look back at single sessions."""
    if scope.run is None and scope.executor is None:
        return history.summary(loaded, environ, home, scope.period(until), progress)
    return Source(loaded, environ, home, scope, until, progress, is_compared=True).summary()


def summary_report(summary: Summary, scope: Scope) -> Report:
    """The summary for people."""
    from agentwatch.ui.summary_page import page

    return Report("Summary", summary.period, scope.words, [], list(page(summary)))


class Weekly(NamedTuple):
    """The weekly report: for programs, and for people."""

    found: dict[str, Any]
    report: Report


def as_csv(found: Sequence[Any]) -> str:
    """The rows as RFC 4180 has them, after a line of names; nested names are joined by dots, lists by semicolons. Empty of no rows.

    A text that a spreadsheet would take for a formula is given an apostrophe in front: logs are other people's text.
    """
    import csv
    import io

    rows = [dict(_flat(one)) for one in found]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\r\n", restval="")
    if rows:
        writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flat(value: msgspec.Struct, prefix: str = "") -> Iterable[tuple[str, object]]:
    for name in value.__struct_fields__:
        one = getattr(value, name)
        if isinstance(one, msgspec.Struct):
            yield from _flat(one, f"{prefix}{name}.")
        else:
            yield prefix + name, _cell(one)


def _cell(value: object) -> object:
    """Where names are data it is one cell, `CODEX 5; CLAUDE 3`, and not a column for each executor."""
    if isinstance(value, dict):
        return _harmless("; ".join(str(name) if isinstance(one, msgspec.Struct) else f"{name} {one}" for name, one in value.items()))
    if isinstance(value, list):
        return _harmless("; ".join(str(getattr(one, "text", None) or getattr(one, "fingerprint", None) or one) for one in value))
    plain = msgspec.to_builtins(value)
    return _harmless(plain) if isinstance(plain, str) else plain


def _harmless(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def as_html(report: Report) -> str:
    """The report as one file."""
    from agentwatch.ui.html import document

    return document(f"agentwatch: {report.title}", report.about, report.blocks)


def save(path: Path, text: str) -> None:
    """Replace the file at once, or not at all. Raises StorageError."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"`{path}` cannot be written: {error.strerror or error}", hint="name a file in a directory that you may write to") from error


def save_weekly(weekly: Weekly, directory: Path) -> tuple[Path, Path]:
    """The weekly report as `weekly-YYYY-MM-DD.json` and `.html`, by the day, UTC, on which its week ends."""
    stem = f"weekly-{weekly.report.period.end.astimezone(UTC):%Y-%m-%d}"
    data, page = directory / f"{stem}.json", directory / f"{stem}.html"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"`{directory}` cannot be made: {error.strerror}", hint="choose another with `--output`") from error
    save(data, msgspec.json.format(msgspec.json.encode(weekly.found), indent=2).decode() + "\n")
    save(page, as_html(weekly.report))
    return data, page


def weekly_dir(cwd: Path) -> Path:
    """Where the weekly reports are kept."""
    return Path(os.path.realpath(cwd)) / WEEKLY_DIR
