"""When the weekly report is due. Local times without a zone; no clock."""

from datetime import datetime, time, timedelta

LATEST = timedelta(days=1)
"""So late a report that was missed is still made."""


def last_due(day: int, hour: int, local: datetime) -> datetime:
    """The last moment at or before `local` that is the hour of the day of the week, 0 being Sunday."""
    back = (local.isoweekday() - day) % 7
    moment = datetime.combine(local.date() - timedelta(days=back), time(hour))
    return moment if moment <= local else moment - timedelta(days=7)
