"""Tokens to US dollars, by the price list inside genai-prices and the user's own. Nothing is fetched: the list is as old as the package."""

import functools
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from agentwatch.model import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

RESOLVED = 256
"""Model names whose entry in the price list is kept, unknown ones too: a look-up reads the whole list (0.4 ms)."""

# Bedrock names its models `[region.]maker.model`, behind an ARN or not; a slash is how routers write `maker/model`.
_BEDROCK = re.compile(r"(?:^|/)(?:[a-z]{2,6}\.)?(?:ai21|amazon|anthropic|cohere|deepseek|meta|mistral|openai|qwen)\.")


class Rates(msgspec.Struct, gc=False, frozen=True, forbid_unknown_fields=True):
    """What a million tokens of a model cost in USD. Cached ones cost what `input` does unless said otherwise, those for an hour what `cache_write` does."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None

    def usd(self, usage: Usage) -> float:
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        dearer = 0.0 if self.cache_write_1h is None else self.cache_write_1h - write
        cached = usage.cache_read * read + usage.cache_write * write + usage.cache_write_1h * dearer
        return (usage.input * self.input + usage.output * self.output + cached) / 1e6


class Prices:
    """USD of one step. Price each request by itself: the sum of three crosses the tier that none of them reaches.

    `overrides` goes by the exact name of the model as the log has it, and before the price list.
    """

    def __init__(self, overrides: Mapping[str, Rates] | None = None) -> None:
        self._overrides = dict(overrides or {})

    @functools.cached_property
    def data_version(self) -> str:
        """The price list's name and version, to be shown beside what was computed from it."""
        from importlib.metadata import version  # noqa: PLC0415  # 15 ms, for a figure that is only shown

        return f"genai-prices {version('genai-prices')}"

    def __call__(self, model: str, usage: Usage, at: datetime) -> float | None:
        """USD of `usage` at the prices of the moment `at`; None where the model's price is not known, which is not 0.

        `usage.reasoning` is part of `usage.output` and not paid twice. Cache writes for an hour have a price of their own.
        """
        if rates := self._overrides.get(model):
            return rates.usd(usage)
        listed = _resolve(model)
        try:
            return listed.usd(usage, at) if listed else None
        except (LookupError, ValueError):  # a log may hold numbers that no request can have
            return None


@functools.lru_cache(maxsize=RESOLVED)
def _resolve(model: str) -> "_Listed | None":
    # 0.3 s and 27 MB, for a process that may never meet a log without costs.
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    for provider_id, name in _candidates(model):
        try:
            provider, entry = get_snapshot().find_provider_model(name, None, provider_id, None)
        except LookupError:
            continue
        return _Listed(provider, entry)
    return None


def _candidates(model: str) -> list[tuple[str | None, str]]:
    """List whom to ask for the model and under which name; None leaves it to the name who sells it."""
    bare = model.rpartition("/")[2]
    if _BEDROCK.search(model):
        return [("aws", bare)]
    return [("openrouter", model), (None, bare)] if bare != model else [(None, model)]


_ONE_OF_EACH = (Usage(input=1), Usage(output=1), Usage(cache_read=1), Usage(cache_write=1), Usage(cache_write=1, cache_write_1h=1))
"""In the order of the fields of `Rates`."""


class _Listed:
    """A model of the price list.

    The library takes 150 us a request, thirty times what decoding the line that tells of it takes. Below the first
    tier a price is a sum of counts times rates, so five questions answer for all such requests of one period.
    """

    def __init__(self, provider: "Provider", entry: "ModelInfo") -> None:
        self._provider, self._entry = provider, entry
        self._flat: dict[int, tuple[int | None, Rates]] = {}

    def usd(self, usage: Usage, at: datetime) -> float:
        """Price a request, or raise ValueError for counts that none can have."""
        price = self._entry.get_prices(at)
        if id(price) not in self._flat:
            self._flat[id(price)] = _first_tier(price), self._rates(at)
        tier, rates = self._flat[id(price)]
        least = min(usage.input, usage.output, usage.cache_read, usage.cache_write - usage.cache_write_1h, usage.cache_write_1h)
        if least >= 0 and (tier is None or usage.total - usage.output < tier):
            return rates.usd(usage)
        return self._exact(usage, at)

    def _rates(self, at: datetime) -> Rates:
        return Rates(*(1e6 * self._exact(one, at) for one in _ONE_OF_EACH))

    def _exact(self, usage: Usage, at: datetime) -> float:
        from genai_prices import Usage as Counted  # noqa: PLC0415

        # Its `input_tokens` includes what went through the cache, ours does not.
        counted = Counted(
            input_tokens=usage.input + usage.cache_read + usage.cache_write,
            cache_read_tokens=usage.cache_read,
            cache_write_tokens=usage.cache_write,
            cache_write_1h_tokens=usage.cache_write_1h,
            output_tokens=usage.output,
        )
        return float(self._entry.calc_price(counted, self._provider, genai_request_timestamp=at).total_price)


def _first_tier(price: "ModelPrice") -> int | None:
    from genai_prices.types import TieredPrices  # noqa: PLC0415

    return min((tier.start for rate in vars(price).values() if isinstance(rate, TieredPrices) for tier in rate.tiers), default=None)
