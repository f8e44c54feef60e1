"""Tokens to US dollars, by the user's own rates and a price list. Nothing is fetched: the list is as old as the release.

The list, `prices.json`, is made of genai-prices by `make prices`. Asking the library itself takes 0.4 s and 27 MB of pydantic models
at the first line that has tokens and no cost, with all other logs waiting.
"""

import functools
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path

import msgspec

from agentwatch.model import Usage

LIST = Path(__file__).with_name("prices.json")
SELLERS = ("aws", "openrouter")
"""Who is asked by name, whatever the model is called. All others are found by the model's name."""

RESOLVED = 256
"""Model names whose entry in the price list is kept, unknown ones too: a look-up tries hundreds of names."""

# Bedrock names its models `[region.]maker.model`, behind an ARN or not; a slash is how routers write `maker/model`.
_BEDROCK = re.compile(r"(?:^|/)(?:[a-z]{2,6}\.)?(?:ai21|amazon|anthropic|cohere|deepseek|meta|mistral|openai|qwen)\.")
_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


class Rates(msgspec.Struct, gc=False, frozen=True, forbid_unknown_fields=True):
    """What a million tokens of a model cost in USD. Cached ones cost what `input` does unless said otherwise, those for an hour what `cache_write` does.

    `request` is paid once a request, whatever its size.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    request: float = 0.0

    def usd(self, usage: Usage) -> float:
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        dearer = 0.0 if self.cache_write_1h is None else self.cache_write_1h - write
        cached = usage.cache_read * read + usage.cache_write * write + usage.cache_write_1h * dearer
        return (usage.input * self.input + usage.output * self.output + cached) / 1e6 + self.request


class _Match(msgspec.Struct, frozen=True):
    """Which names are meant: any that one of these says, in lower case. Of `together` all in one group must."""

    names: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    together: tuple[tuple["_Match", ...], ...] = ()

    def means(self, name: str) -> bool:
        return (
            name in self.names
            or name.startswith(self.starts)
            or name.endswith(self.ends)
            or any(part in name for part in self.contains)
            or any(re.search(pattern, name) for pattern in self.patterns)
            or any(all(one.means(name) for one in group) for group in self.together)
        )


class _Tier(msgspec.Struct, frozen=True):
    """Rates of all tokens of a request with more than `above` tokens of input, cached ones included."""

    rates: Rates
    above: int = 0


class _Period(msgspec.Struct, frozen=True):
    """When these prices hold: from a day on, or between two times of every day, in UTC. Without tiers they are unknown."""

    tiers: tuple[_Tier, ...]
    since: date | None = None
    hours: tuple[time, time] | None = None

    def holds(self, at: datetime) -> bool:
        if self.since is not None:
            return at.date() >= self.since
        if self.hours is None:
            return True
        start, end = self.hours
        now = at.timetz()
        return start <= now < end if start <= end else now >= start or now < end


class _Model(msgspec.Struct, frozen=True):
    match: _Match
    periods: tuple[_Period, ...]

    def usd(self, usage: Usage, at: datetime) -> float | None:
        """Price a request; None where it is not known what the model costs."""
        period = self.periods[0]
        if len(self.periods) > 1:
            utc = at.astimezone(UTC)
            period = next((one for one in reversed(self.periods) if one.holds(utc)), period)
        if not period.tiers:
            return None
        tier = period.tiers[0]
        if len(period.tiers) > 1:
            sent = usage.total - usage.output
            tier = next((one for one in reversed(period.tiers) if sent > one.above), tier)
        return tier.rates.usd(usage)


class _Seller(msgspec.Struct, frozen=True):
    """Who sells models: those that `match` leads to by their bare names, and besides its own the models that others `lend` it."""

    models: msgspec.Raw
    match: _Match | None = None
    lends: tuple[str, ...] = ()


class _List(msgspec.Struct, frozen=True):
    source: str
    sellers: dict[str, _Seller]


class Prices:
    """USD of one step. Price each request by itself: the sum of three crosses the tier that none of them reaches.

    `overrides` goes by the exact name of the model as the log has it, and before the price list.
    """

    def __init__(self, overrides: Mapping[str, Rates] | None = None) -> None:
        self._overrides = dict(overrides or {})

    @property
    def data_version(self) -> str:
        """The price list's name and version, to be shown beside what was computed from it."""
        return _list().source

    def __call__(self, model: str, usage: Usage, at: datetime) -> float | None:
        """USD of `usage` at the prices of the moment `at`; None where the model's price is not known, which is not 0.

        `usage.reasoning` is part of `usage.output` and not paid twice. Cache writes for an hour have a price of their own.
        """
        if rates := self._overrides.get(model):
            return rates.usd(usage)
        listed = _resolve(model)
        # A log may hold numbers that no request can have.
        if listed is None or min(usage.input, usage.output, usage.cache_read, usage.cache_write - usage.cache_write_1h, usage.cache_write_1h) < 0:
            return None
        return listed.usd(usage, at)


@functools.lru_cache(maxsize=RESOLVED)
def _resolve(model: str) -> _Model | None:
    return next((entry for seller, name in _candidates(model) if (entry := _find(seller, name.lower())) is not None), None)


def _candidates(model: str) -> list[tuple[str | None, str]]:
    """List whom to ask for the model and under which name; None leaves it to the name who sells it."""
    bare = model.rpartition("/")[2]
    if _BEDROCK.search(model):
        return [("aws", bare)]
    return [("openrouter", model), (None, bare)] if bare != model else [(None, model)]


def _find(seller: str | None, name: str) -> _Model | None:
    sellers = _list().sellers
    if seller is None:
        seller = next((one for one, sold in sellers.items() if sold.match is not None and sold.match.means(name)), None)
    if seller is None:
        return None
    # Routers write a version as `-20251211` where the list has `-2025-12-11`.
    for spelling in dict.fromkeys((name, _COMPACT_DATE.sub(r"-\1-\2-\3", name))):
        for one in (seller, *sellers[seller].lends):
            entry = next((model for model in _models(one) if model.match.means(spelling)), None)
            if entry is not None:
                return entry
    return None


@functools.cache
def _list() -> _List:
    return msgspec.json.decode(LIST.read_bytes(), type=_List)


@functools.cache
def _models(seller: str) -> tuple[_Model, ...]:
    return msgspec.json.decode(_list().sellers[seller].models, type=tuple[_Model, ...])
