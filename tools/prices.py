"""`make prices`: the price list of the installed genai-prices, as `agentwatch/prices.json` has it.

Only what `agentwatch.pricing` asks for: the sellers that it names, those that a model's bare name leads to, and whose models they sell
besides their own; of a price what a million tokens of each kind cost, in each tier of each period. Rates are had by asking the
library, not by reading its tables, so that what it makes of them is what is written down. `tests/test_pricing.py` holds both together.
"""

import json
from decimal import Decimal
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from genai_prices import Usage
from genai_prices import types as listed
from genai_prices.data import providers

from agentwatch.pricing import LIST, SELLERS

Made = dict[str, Any]
SOURCE = "genai-prices"


def price_list() -> Made:
    """All of it, as it is written."""
    own = [provider for provider in providers if provider.model_match is not None or provider.id in SELLERS]
    lent = {name for provider in own for name in provider.fallback_model_providers or ()} - {provider.id for provider in own}
    if lent:
        raise SystemExit(f"sold by others, and not in the list: {lent}")
    return {
        "source": f"{SOURCE} {version(SOURCE)}",
        "sellers": {
            provider.id: {
                **({"match": _match(provider.model_match)} if provider.model_match is not None else {}),
                **({"lends": provider.fallback_model_providers} if provider.fallback_model_providers else {}),
                "models": [{"match": _match(model.match), "periods": _periods(model)} for model in provider.models],
            }
            for provider in own
        },
    }


def _match(clause: Any) -> Made:
    """Texts in lower case, as those are that they are compared with; alternatives in one, whatever they were nested in."""
    match clause:
        case listed.ClauseEquals(equals=text):
            return {"names": [text.lower()]}
        case listed.ClauseStartsWith(starts_with=text):
            return {"starts": [text.lower()]}
        case listed.ClauseEndsWith(ends_with=text):
            return {"ends": [text.lower()]}
        case listed.ClauseContains(contains=text):
            return {"contains": [text.lower()]}
        case listed.ClauseRegex(regex=pattern):
            return {"patterns": [pattern]}
        case listed.ClauseAnd(and_=clauses):
            return {"together": [[_match(one) for one in clauses]]}
        case listed.ClauseOr(or_=clauses):
            found = [_match(one) for one in clauses]
            return {key: list(chain.from_iterable(one.get(key, ()) for one in found)) for key in dict.fromkeys(key for one in found for key in one)}
    raise SystemExit(f"a new kind of clause: {clause!r}")


def _periods(model: listed.ModelInfo) -> list[Made]:
    if isinstance(model.prices, listed.ModelPrice):
        return [{"tiers": _tiers(model.prices)}]
    return [{**_when(one.constraint), "tiers": _tiers(one.prices)} for one in model.prices]


def _when(constraint: Any) -> Made:
    match constraint:
        case None:
            return {}
        case listed.StartDateConstraint(start_date=day):
            return {"since": day.isoformat()}
        case listed.TimeOfDateConstraint(start_time=start, end_time=end):
            return {"hours": [start.isoformat(), end.isoformat()]}
    raise SystemExit(f"a new kind of period: {constraint!r}")


def _tiers(price: listed.ModelPrice) -> list[Made]:
    """None where the library cannot price tokens of some kind: it is unknown what such a model costs."""
    starts = {tier.start for value in vars(price).values() if isinstance(value, listed.TieredPrices) for tier in value.tiers}
    try:
        return [{**({"above": start} if start else {}), "rates": _rates(price, start)} for start in sorted({0, *starts})]
    except ValueError:
        return []


def _rates(price: listed.ModelPrice, above: int) -> Made:
    """What a million tokens cost in a request of more than `above` tokens of input."""
    many = above + 1

    def usd(*, output: int = 0, **cached: int) -> Decimal:
        asked = {"cache_read_tokens": 0, "cache_write_tokens": 0, "cache_write_1h_tokens": 0, **cached}
        return Decimal(price.calc_price(Usage(input_tokens=many, output_tokens=output, **asked))["total_price"])

    def a_million(cost: Decimal, tokens: int) -> float:
        return float(round(1_000_000 * cost / tokens, 15))

    request = price.calc_price(Usage(input_tokens=0, output_tokens=0))["total_price"]
    fresh = usd()
    rates = {
        "input": a_million(fresh - request, many),
        "output": a_million(usd(output=many) - fresh, many),
        "cache_read": a_million(usd(cache_read_tokens=many) - request, many),
        "cache_write": a_million(usd(cache_write_tokens=many) - request, many),
        "cache_write_1h": a_million(usd(cache_write_tokens=many, cache_write_1h_tokens=many) - request, many),
    }
    return {**rates, **({"request": float(request)} if request else {})}


def write(path: Path) -> None:
    """One model a line, so that a diff of two versions can be read."""
    made = price_list()
    lines = [f'{{"source":{_compact(made["source"])},"sellers":{{']
    for name, seller in made["sellers"].items():
        facts = "".join(f"{_compact(key)}:{_compact(value)}," for key, value in seller.items() if key != "models")
        lines += [f'{_compact(name)}:{{{facts}"models":[', *(f"{_compact(model)}," for model in seller["models"])]
        lines[-1] = lines[-1].removesuffix(",")
        lines.append("]},")
    lines[-1] = "]}"
    path.write_text("\n".join([*lines, "}}", ""]), encoding="utf-8")


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    write(LIST)
