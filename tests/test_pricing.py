"""Prices: what a step costs, and that not knowing is not nothing."""

import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from importlib.metadata import version

import genai_prices
import msgspec
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.model import Usage
from agentwatch.pricing import LIST, Prices, Rates, _candidates
from tools.prices import write

AT = datetime(2026, 2, 9, tzinfo=UTC)
STEP = Usage(input=10_000, output=2_000, cache_read=100_000, cache_write=10_000)


def test_a_cached_request_costs_what_it_costs_by_hand():
    """10k fresh at 3, 100k read at 0.30, 10k written at 3.75 and 2k out at 15 USD a million are 0.1275 USD."""
    assert Prices()("claude-sonnet-4-5-20250929", STEP, AT) == pytest.approx(0.1275)


def test_what_is_cached_for_an_hour_costs_more():
    """Written for an hour, 10k tokens cost 6 USD a million in place of 3.75; a user's own rates tell them apart where they say so."""
    hour, own = msgspec.structs.replace(STEP, cache_write_1h=10_000), Rates(input=1.0, output=2.0, cache_write=2.0)
    assert Prices()("claude-sonnet-4-5-20250929", hour, AT) == pytest.approx(0.15)
    assert Prices({"own": own})("own", hour, AT) == pytest.approx(0.134)
    assert Prices({"own": msgspec.structs.replace(own, cache_write_1h=3.0)})("own", hour, AT) == pytest.approx(0.144)


def test_three_requests_cost_less_than_their_sum_as_one():
    """A request above 200k tokens has higher rates; requests are priced one by one, so none of these reaches it."""
    prices = Prices()
    together = Usage(input=30_000, output=6_000, cache_read=300_000, cache_write=30_000)
    assert 3 * (prices("claude-sonnet-4-5", STEP, AT) or 0) == pytest.approx(0.3825)
    assert prices("claude-sonnet-4-5", together, AT) == pytest.approx(0.72)


@pytest.mark.parametrize(
    "model",
    [
        "claude-sonnet-4-5",
        "claude-sonnet-4-5-20250929[1m]",
        "claude-sonnet-4-5@20250929",
        "anthropic/claude-sonnet-4.5",
        "vertex_ai/claude-sonnet-4-5",
        "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
    ],
)
def test_a_model_has_one_price_under_its_many_names(model):
    """Dates, windows, clouds and routers decorate a name; list prices agree where the seller does not add to them."""
    assert Prices()(model, STEP, AT) == pytest.approx(0.1275)


@pytest.mark.parametrize(
    "model",
    [
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    ],
)
def test_a_regional_bedrock_profile_costs_a_tenth_more(model):
    """Bedrock's regional profiles have prices of their own, which only asking it by name finds."""
    assert Prices()(model, STEP, AT) == pytest.approx(0.14025)


@pytest.mark.parametrize("model", ["<synthetic>", "", "my-local-llama", "claude-fail429", "nobody/nothing"])
def test_an_unknown_model_has_no_price_rather_than_none_at_all(model):
    """0 would say that it was free."""
    assert Prices()(model, STEP, AT) is None


def test_numbers_that_no_request_can_have_are_not_priced():
    """A log is only text: a negative count must not stop the reader."""
    assert Prices()("claude-sonnet-4-5", Usage(cache_read=-5), AT) is None


def test_the_users_own_rates_come_first():
    """A table of one's own prices local models, and corrects the list."""
    prices = Prices({"my-local-llama": Rates(input=1.0, output=2.0), "claude-sonnet-4-5": Rates(input=0.0, output=0.0, cache_read=0.5, cache_write=4.0)})
    assert prices("my-local-llama", STEP, AT) == pytest.approx(0.124)
    assert prices("claude-sonnet-4-5", STEP, AT) == pytest.approx(0.09)


def test_thinking_is_paid_once():
    """`reasoning` is a part of `output`."""
    assert Prices()("claude-sonnet-4-5", Usage(output=1000, reasoning=900), AT) == pytest.approx(0.015)


def names() -> list[str]:
    """Return all names that stand in the library: of models, with and without who made them, and what its rules for them compare names with."""

    def texts(value: object) -> Iterator[str]:
        for part in value if isinstance(value, list) else vars(value).values():
            yield from [part] if isinstance(part, str) else texts(part)

    return sorted({name for provider in get_snapshot().providers for model in provider.models for name in (model.id, *texts(model.match))})


def answer(model: str, usage: Usage, at: datetime) -> float | None:
    """Return what the library says."""
    for provider_id, name in _candidates(model):
        try:
            provider, entry = get_snapshot().find_provider_model(name, None, provider_id, None)
        except LookupError:
            continue
        counted = genai_prices.Usage(
            input_tokens=usage.input + usage.cache_read + usage.cache_write,
            cache_read_tokens=usage.cache_read,
            cache_write_tokens=usage.cache_write,
            cache_write_1h_tokens=usage.cache_write_1h,
            output_tokens=usage.output,
        )
        return float(entry.calc_price(counted, provider, genai_request_timestamp=at).total_price)
    return None


def test_every_model_costs_what_the_library_says():
    """All names there are, as they are and as routers and clouds write them, at any time, on every side of every tier."""
    draw, prices = random.Random(2), Prices()
    sizes = (0, 1, 1000, 60_000, 250_000, 1_500_000)
    wrong, known = [], 0
    for name in names():
        model = draw.choice((name, name, name.upper(), f"{name}-20251211", f"anthropic/{name}", f"us.anthropic.{name}", f"x{name}"))
        written = draw.choice(sizes)
        usage = Usage(draw.choice(sizes), draw.choice(sizes), draw.choice(sizes), written, cache_write_1h=draw.choice((0, written, written // 3)))
        at = datetime.fromtimestamp(draw.uniform(1_700_000_000, 1_800_000_000), UTC)
        ours, theirs = prices(model, usage, at), answer(model, usage, at)
        if ours is None or theirs is None or ours != pytest.approx(theirs, rel=1e-9):
            wrong += [] if ours is theirs is None else [(model, usage, at, ours, theirs)]
        else:
            known += 1
    assert wrong == []
    assert known > 1000


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-5", "gpt-5", "gemini-2.5-pro", "anthropic/claude-sonnet-4.5"])
@given(usage=st.builds(Usage, *(st.integers(0, 300_000) for _ in range(4))), hour=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_a_request_of_any_size_costs_what_the_library_says(model, usage, hour):
    """On both sides of a tier, up to the token."""
    usage = msgspec.structs.replace(usage, cache_write_1h=int(hour * usage.cache_write))
    assert Prices()(model, usage, AT) == pytest.approx(answer(model, usage, AT))


def test_the_list_is_that_of_the_locked_library(tmp_path):
    """Who moves the lock makes the list anew: `make prices`."""
    write(tmp_path / "prices.json")
    assert LIST.read_text() == (tmp_path / "prices.json").read_text()
    assert Prices().data_version == f"genai-prices {version('genai-prices')}"


def test_prices_follow_their_date():
    """A model whose price was cut costs the old price before that day."""
    prices, usage = Prices(), Usage(input=1_000_000)
    assert prices("o3", usage, datetime(2025, 5, 1, tzinfo=UTC)) == pytest.approx(10.0)
    assert prices("o3", usage, AT) == pytest.approx(2.0)


def test_a_price_that_changes_in_the_course_of_a_day_follows_the_time():
    """In UTC, whatever zone the log's time is in."""
    usage = Usage(input=1_000_000)
    cheap, dear = datetime(2025, 3, 1, 18, tzinfo=UTC), datetime(2025, 3, 1, 12, tzinfo=UTC)
    assert Prices()("deepseek-chat", usage, cheap) < Prices()("deepseek-chat", usage, dear)
    assert Prices()("deepseek-chat", usage, cheap.astimezone(timezone(timedelta(hours=-6)))) == Prices()("deepseek-chat", usage, cheap)


def test_the_library_is_not_needed():
    """It brings 27 MB, and half a second in which no log is read."""
    code = "import sys; from datetime import *; from agentwatch.pricing import *; print(Prices()('gpt-5', Usage(input=1), datetime.now(UTC)) > 0, 'genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True False\n"
