"""Every decoder, and the engine behind it: whatever the lines say, nothing is raised and no detector fails.

`python -m fuzz.formats .cache/fuzz/formats fuzz/seeds/formats -max_total_time=600 -timeout=10` (`make fuzz`)
"""

import sys
from datetime import UTC, datetime, timedelta

import atheris

from fuzz.target import run

with atheris.instrument_imports(include=["agentwatch"]):
    from agentwatch.alert_log import as_line
    from agentwatch.core.engine import Engine
    from agentwatch.core.limits import Limits
    from agentwatch.formats.registry import FORMATS, recognise
    from agentwatch.model import NO_MEMORY, Alert, Fault, Format

ANY_TIME = datetime(2026, 2, 9, tzinfo=UTC)


def target(data: bytes) -> None:
    """All formats read the same bytes: whatever recognises a file, another may have to read it after a change of heart."""
    lines = data.splitlines(keepends=True)
    recognise("any.jsonl", lines)
    for row in FORMATS.values():
        _read(lines, row.decoder("any.jsonl", NO_MEMORY))


def _read(lines: list[bytes], decoder: Format) -> None:
    alerts: list[Alert] = []
    failures: list[Fault] = []
    engine = Engine(Limits(), lambda *_: 0.1, None, failures.append)
    decoder.read(lines, 0, lambda items: engine.feed("any.jsonl", "", items, decoder, alerts), lambda _place, _kind, _detail: None)
    engine.tick(ANY_TIME, alerts)
    engine.finish(ANY_TIME + timedelta(days=1), alerts)
    broken = [one for one in failures if one.kind.startswith("detector_failed")]
    assert not broken, broken
    for alert in alerts:
        as_line(alert)


if __name__ == "__main__":
    sys.setrecursionlimit(2000)
    run(target)
