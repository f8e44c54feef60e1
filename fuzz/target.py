"""What the fuzz targets have in common: atheris watches every module of agentwatch and calls the target until it breaks or the time is over."""

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import atheris

with atheris.instrument_imports(include=["agentwatch"]):
    from agentwatch.alert_log import as_line
    from agentwatch.core.engine import Engine
    from agentwatch.core.limits import Limits
    from agentwatch.core.steps import Reader
    from agentwatch.model import Alert, Event, Fault, Item

ANY_TIME = datetime(2026, 2, 9, tzinfo=UTC)


class Judge:
    """The engine behind a decoder: it has every detector look at each event, and keeps the events for comparison."""

    def __init__(self) -> None:
        self.events: list[tuple[Event, int]] = []
        self._alerts: list[Alert] = []
        self._failures: list[Fault] = []
        self._engine = Engine(Limits(), lambda *_: 0.1, None, self._failures.append)

    def feed(self, items: Iterable[Item], reader: Reader) -> None:
        """Judge what a decoder tells."""

        def noted() -> Iterable[Item]:
            for item in items:
                self.events.append(item[:2])
                yield item

        self._engine.feed("any", "", noted(), reader, self._alerts)

    def finish(self) -> None:
        """No detector has failed, and every alert can be written."""
        self._engine.tick(ANY_TIME, self._alerts)
        self._engine.finish(ANY_TIME + timedelta(days=1), self._alerts)
        broken = [one for one in self._failures if one.kind.startswith("detector_failed")]
        assert not broken, broken
        for alert in self._alerts:
            as_line(alert)


def silent(_place: int, _kind: str, _detail: str) -> None:
    """Take a fault: it may be any."""


def run(target: Callable[[bytes], None]) -> None:
    """The arguments are libFuzzer's: folders of seeds, `-max_total_time=600`, a file that broke it."""
    sys.setrecursionlimit(2000)
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
