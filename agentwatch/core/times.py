"""Times as people and models write them."""

import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_TO_MILLISECONDS = len("2026-02-09T08:00:00.000")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def stamp(at: datetime) -> str:
    """A time as lines have it: ISO 8601, UTC, to the millisecond."""
    import msgspec  # noqa: PLC0415  # `--help` does without

    text: str = msgspec.to_builtins(at if at.tzinfo is UTC else at.astimezone(UTC))  # a quarter of the time that `isoformat` takes
    return f"{text[:-1]}.000Z" if at.microsecond == 0 else f"{text[:_TO_MILLISECONDS]}Z"


def moment(text: str) -> datetime:
    """The time that `text` names in ISO 8601; UTC where it names no zone. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def since(text: str, now: datetime) -> datetime:
    """As `moment`, or so long before `now`: `90s`, `30m`, `2h`, `7d`, `1w`. Raises ValueError."""
    ago = _AGO.fullmatch(text)
    if ago is None:
        return moment(text)
    try:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    except OverflowError:  # before there were years
        return datetime.min.replace(tzinfo=UTC)
