"""What errors say of limits: which kind was reached, and when it is reset. The agents and their providers have many wordings."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from agentwatch.core.lazy import lazy

READ = 2048
"""Characters of a message that are looked at."""

_WORTH_A_LOOK = ("limit", "quota", "429", "too many", "exhausted", "credit", "usage", "insufficient", "payment", " per ", "pm ", "workspace_")
"""Of most errors this is all that is asked."""

_QUOTA = lazy(
    r"insufficient[_ ]quota|exceeded your current quota|quota (?:is |has been |was )?(?:exceeded|exhausted|used up)|exhausted your (?:\w+ )?(?:quota|capacity)|credit balance is too low"
    r"|(?:run )?out of (?:\w+ )?credits|insufficient (?:funds|credits|balance)|billing (?:hard )?limit|payment required|purchase more credits to continue"
)
_SPAN_LIMIT = r"\b(?:session|weekly|daily|monthly|hourly|hour|plan|spend|spending|opus|sonnet|fable|haiku|free|message) limit"
_USAGE = lazy(
    r"usage[_ -]?limit|"
    + _SPAN_LIMIT
    + r" (?:has been |was |is )?(?:reached|hit|exceeded|used|resets?\b|will)|(?:hit|reach\w*|exceed\w*|used) .{0,40}"
    + _SPAN_LIMIT
    + r"|out of (?:extra )?usage"
    r"|(?:hit|reached) (?:your|the) limit(?! of [0-9]|:)|limit (?:will )?resets?\b|usage_not_included|workspace_\w*limit|usage allowance"
)
_RATE = lazy(r"rate[_ -]?limit|too many requests|\b429\b|resource[_ ]exhausted|(?:requests|tokens) per (?:min|minute|hour|day)\b|\b[rt]pm limit")
_NO_LIMIT = lazy(r"context|max_tokens|maximum (?:number of )?(?:tokens|context|length)|token limit|prompt is too long")

_NO_ACCOUNT = lazy(r"\b(?:disk|storage|memory|cpu|inode|file ?system|edquot|quotaexceedederror)\b")
"""What a machine or a browser runs out of is no account's."""

SOON = timedelta(hours=1)
"""A quota that is back sooner is one a minute: Google says "quota exceeded" of both."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_AGAIN = r"(?:try(?:ing)? again|retry(?:ing)?|retry[_-]?(?:after|delay)|resets?|reset|wait(?:ing)?|available again)"
_SPAN = r"[0-9]{1,9}(?:\.[0-9]{1,9})? ?(?:milliseconds?|ms|days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)\b"
_IN = lazy(_AGAIN + r"[\"':]*(?: (?:in|after|for|your request (?:in|after)))?[\"': ]{1,4}(?:about |approximately )?((?:" + _SPAN + r"[, and]{0,5}){1,4})")
_PARTS = re.compile(r"([0-9.]+) ?(milli|[a-z])([a-z]?)")
_EPOCH = lazy(r"(?:limit reached\||resets?_?(?:at)?[\"': ]{1,4})([0-9]{10})(?:[0-9]{3})?\b")
_ISO = lazy(
    r"(?:"
    + _AGAIN
    + r"|until)(?:_at)?(?: at| after| on)?[\"': ]{1,4}([0-9]{4}-[0-9]{2}-[0-9]{2}[t ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?:z| ?utc|[+-][0-9]{2}:?[0-9]{2}))"
)
_CLOCK = lazy(
    r"resets?(?: at| on)?[: ]{1,2}(?:(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6} ([0-9]{1,2})(?:st|nd|rd|th)?(?: at|,)? ?)?"
    r"([0-9]{1,2})(?::([0-9]{2}))? ?(am|pm)? ?\(([a-z]{2,20}(?:/[a-z_+0-9-]{1,30}){0,2})\)",
    re.IGNORECASE,
)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
LONGEST = timedelta(days=35)
"""No account waits longer than a month; what claims to is not believed."""


def limit_kind(message: str, *names: str | None) -> str | None:
    """`usage`, `rate` or `quota` where an error speaks of such a limit, else None. `names` are its category and fingerprint.

    The message decides before the names: Codex files all of them under `rate_limit`, Google says `RESOURCE_EXHAUSTED` of each.
    """
    text = message[:READ].lower()
    named = " ".join(name[:READ] for name in names if name).lower()
    if not any(word in text or word in named for word in _WORTH_A_LOOK):
        return None
    if _NO_ACCOUNT.search(text) or (_NO_LIMIT.search(text) and not _USAGE.search(text) and not _RATE.search(text)):
        return None
    for said in (text, named):
        if _QUOTA.search(said):
            wait = _relative(said)
            return "rate" if wait is not None and wait < SOON else "quota"
        if _USAGE.search(said):
            return "usage"
        if _RATE.search(said):
            return "rate"
    return None


def resets_at(message: str, at: datetime) -> datetime | None:
    """When the limit that a message of the time `at` speaks of is over; None where it does not say, or not in which zone its clock is."""
    text = message[:READ].lower()
    until = next((found for found in (*_candidates(text, at), _clock(message[:READ], at)) if found is not None), None)
    return until.astimezone(UTC) if until is not None and at <= until <= at + LONGEST else None


def _candidates(text: str, at: datetime) -> Iterator[datetime | None]:
    if found := _EPOCH.search(text):
        yield datetime.fromtimestamp(int(found[1]), UTC)
    if found := _ISO.search(text):
        try:
            yield datetime.fromisoformat(found[1].upper().replace(" UTC", "Z").replace("UTC", "Z"))
        except ValueError:
            yield None
    wait = _relative(text)
    yield at + wait if wait is not None else None


def _relative(text: str) -> timedelta | None:
    found = _IN.search(text)
    if found is None:
        return None
    seconds = 0.0
    for number, unit, following in _PARTS.findall(found[1]):
        try:
            seconds += float(number) * _UNITS["ms" if unit == "milli" or unit + following == "ms" else unit]
        except ValueError:
            return None
    return timedelta(seconds=min(seconds, LONGEST.total_seconds() * 2))


def _clock(text: str, at: datetime) -> datetime | None:
    """A clock's time with the name of its zone, as Claude Code writes it: the next one after `at`."""
    found = _CLOCK.search(text)
    if found is None:
        return None
    from zoneinfo import ZoneInfo  # noqa: PLC0415  # seldom needed, and 5 ms of every start

    month, day, hours, minutes, half, zone_name = found.groups()
    try:
        zone = ZoneInfo(zone_name)
    except (ValueError, OSError, KeyError):  # there is no such zone
        return None
    hour = int(hours) % 12 + 12 * (half.lower() == "pm") if half else int(hours)
    here = at.astimezone(zone)
    try:
        then = here.replace(hour=hour, minute=int(minutes or 0), second=0, microsecond=0)
        if month:
            then = then.replace(month=_MONTHS.index(month.lower()) + 1, day=int(day))
            return then if then > here else then.replace(year=then.year + 1)
    except ValueError:
        return None
    return then if then > here else then + timedelta(days=1)
