"""The weekly report of the notifier: at its hour the files of `agentwatch report weekly`, and a message to the chats that are told everything."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from agentwatch.apps.reports import weekly_dir
from agentwatch.apps.week import TITLE, Asked, WeekError, figures, home_of
from agentwatch.core.notices import Target
from agentwatch.core.weekly import LATEST, last_due
from agentwatch.notify.outbox import Outbox
from agentwatch.settings import Loaded

TOLD = "weekly"
"""What the outbox remembers the day of the last report by."""

LONGEST_S = 3600.0
AGAIN_S = 300.0


class WeeklyReport:
    """Once a week, over restarts and kills: its messages are written down in the same step as that it was made."""

    def __init__(
        self,
        loaded: Loaded,
        outbox: Outbox,
        targets: Iterable[Target],
        cwd: Path,
        environ: Mapping[str, str],
        report: Callable[[str], None],
        zone: tzinfo | None,
    ) -> None:
        self._loaded = loaded
        self._outbox = outbox
        # Whoever is told of some projects alone is not told what all of them cost.
        self._targets = [one.name for one in targets if not (one.types or one.executors or one.projects)]
        self._directory = weekly_dir(cwd)
        self._environ = environ
        self._report = report
        self._zone = zone
        self._not_before_s = 0.0

    async def look(self, now: float) -> bool:
        """Make and tell the report if it is due; whether it was. `now` is in seconds since the epoch."""
        settings = self._loaded.settings.report
        local = (datetime.fromtimestamp(now, self._zone) if self._zone else datetime.fromtimestamp(now)).replace(tzinfo=None)  # noqa: DTZ006  # local is meant
        moment = last_due(settings.day, settings.hour, local)
        day, told = f"{moment:%Y-%m-%d}", self._outbox.value(TOLD)
        if told is None:
            # Whoever starts it for the first time has missed no report.
            self._outbox.remember(TOLD, day)
            return False
        if not settings.weekly or day <= told or local - moment > LATEST or now < self._not_before_s:
            return False
        until = (moment.replace(tzinfo=self._zone) if self._zone else moment).astimezone(UTC)
        try:
            week = await figures(Asked(self._loaded, home_of(self._environ), until, self._directory), self._environ, LONGEST_S)
        except WeekError as error:
            self._not_before_s = now + AGAIN_S
            self._report(f"the weekly report cannot be made: {error}; trying again in {AGAIN_S / 60:.0f} min")
            return False
        with self._outbox.transaction():
            for target in self._targets:
                self._outbox.announce(target, f"weekly:{day}", "\n".join([f"📊 {TITLE}, up to {moment:%d %b %H:%M}", *week.lines]), week.page or "", now)
            self._outbox.remember(TOLD, day)
        self._report(f"weekly report saved: {week.page}")
        return True
