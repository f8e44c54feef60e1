"""`agentwatch alerts`: what stands in the alert log, its rotated siblings included. Only reads."""

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from agentwatch.alert_log import NAME, rotated
from agentwatch.core.runs import RUNS
from agentwatch.errors import StorageError
from agentwatch.ui.page import Block, Style, Word, para

AlertLine = dict[str, Any]
"""An alert as its line has it (contract, section 3)."""

SEVERITY: dict[str, Style] = {"low": "", "medium": "warn", "high": "bad"}


def _unheard(_said: str) -> None:
    """For those who ask for what there is, and have nobody to tell what there is not."""


def read(
    log_dir: Path,
    *,
    since: datetime | None = None,
    types: Iterable[str] = (),
    attempt: str | None = None,
    run: str | None = None,
    tell: Callable[[str], None] = _unheard,
) -> list[AlertLine]:
    """The alerts in `log_dir`, oldest first. `attempt`: an attempt's id or its beginning; no `types`: all of them; `run`: the id of a run.

    A line that is no alert is passed over, as is the half of one at the end. An alert that stands in two files, because one is the
    other's copy, is told once. `tell` hears of each rotated file of which not all could be read. Raises StorageError where the alert
    log itself cannot be.
    """
    chosen = set(types)
    found: dict[str, tuple[datetime, AlertLine]] = {}
    for path in files(log_dir):
        for alert in _alerts(path) if path.name == NAME else _old_alerts(path, tell):
            at = moment(alert)
            if at is None or (since and at < since) or (chosen and alert["type"] not in chosen):
                continue
            if run is not None and run_of(alert) != run:
                continue
            if attempt is None or str(alert.get("attempt_id", "")).startswith(attempt):
                found.setdefault(alert["alert_id"], (at, alert))
    return [alert for _, alert in sorted(found.values(), key=lambda one: one[0])]


def files(log_dir: Path) -> list[Path]:
    """The alert log and what it was rotated to, the one that is written now last."""
    current = log_dir / NAME
    return [*rotated(log_dir), *([current] if current.is_file() else [])]


def moment(alert: AlertLine) -> datetime | None:
    """When the alert's evidence was complete; None where the line does not say."""
    try:
        at = datetime.fromisoformat(alert["timestamp"])
    except (KeyError, TypeError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def scope_of(alert: AlertLine) -> str:
    """The scope of an alert's attempt (`runs/<id>`, or none), known by the file that its evidence stands in."""
    match alert.get("evidence"):
        case [{"source": str(source)}, *_] if source.startswith(f"{RUNS}/"):
            return "/".join(source.split("/")[:2])
    return ""


def run_of(alert: AlertLine) -> str | None:
    """The run that an alert belongs to: the one in whose directory its evidence stands, or that its attempt names; None for no run."""
    return scope_of(alert).removeprefix(f"{RUNS}/") or (str(alert["run_id"]) if alert.get("run_id") else None)


def parse(line: bytes) -> AlertLine | None:
    """The alert on a line; None where it is none."""
    try:
        alert = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return alert if isinstance(alert, dict) and isinstance(alert.get("alert_id"), str) and isinstance(alert.get("type"), str) else None


def as_json(alert: AlertLine) -> str:
    """The alert on one line again."""
    return orjson.dumps(alert).decode()


def page(alert: AlertLine) -> Iterable[Block]:
    """An alert for people: when and what, what happened, what to do and where it stands. Times are UTC, as in the logs."""
    severity, status = _text(alert, "severity"), _text(alert, "status")
    is_over = status == "recovered"
    at = moment(alert)
    yield para(
        Word(f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if at else "at no known time", "dim"),
        "  ",
        Word(f"{'over' if is_over else severity:6}", "good" if is_over else SEVERITY.get(severity, "")),
        "  ",
        Word(_text(alert, "type"), "title"),
        Word(f"  {status}" if status == "escalated" else "", "bad"),
    )
    yield para(_text(alert, "summary"), indent=2)
    who = [_text(alert, name) for name in ("task_id", "task_title", "executor", "model", "branch") if alert.get(name)]
    advice = [] if is_over else [f"-> {_text(alert, 'recommendation')}"]
    yield para(Word("   ".join([*advice, *_place(alert), ", ".join(who)]).rstrip(), "dim"), indent=2)


def _place(alert: AlertLine) -> list[str]:
    match alert.get("evidence"):
        case [*_, {"source": str(source), "offset": int(offset)}]:
            return [f"{source} at byte {offset}"]
    return []


def _text(alert: AlertLine, name: str) -> str:
    return str(alert.get(name) or "")


def _alerts(path: Path) -> Iterator[AlertLine]:
    try:
        yield from _lines(path)
    except OSError as error:
        raise StorageError(f"cannot read `{path}`: {error.strerror or error}", hint="ask as the user who runs the daemon") from error


def _old_alerts(path: Path, tell: Callable[[str], None]) -> Iterator[AlertLine]:
    """Those of a rotated file, as far as it can be read."""
    is_void = True
    try:
        for alert in _lines(path):
            is_void = False
            yield alert
        if is_void and path.suffix != ".gz" and path.stat().st_size:
            tell(f"`{path}` holds no line that is an alert")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        tell(f"`{path}` is damaged: {error}")
    except OSError as error:
        tell(f"`{path}` cannot be read: {error.strerror or error}")


def _lines(path: Path) -> Iterator[AlertLine]:
    opened: Callable[[Path, str], Any] = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as lines:
        for line in lines:
            alert = parse(line) if line.endswith(b"\n") else None
            if alert is not None:
                yield alert
