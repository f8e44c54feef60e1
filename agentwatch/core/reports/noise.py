"""How sure a figure is. Three textbook intervals, so that a difference is not told where there may be none.

The libraries that have them (statsmodels, scipy) are 100 MB and a second of start for what takes a few lines.
"""

from collections.abc import Sequence
from math import sqrt

import msgspec

CONFIDENCE = 0.95
Z = 1.959963984540054
"""Of a normal distribution that share lies within so many standard deviations: `statistics.NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)`."""

RESAMPLES = 2000
LARGE = 200
"""From so many values on a side the mean is as good as normal and costs no resampling."""


class Interval(msgspec.Struct, frozen=True):
    """A figure and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float


class Difference(msgspec.Struct, frozen=True):
    """How much more the second has than the first. `is_noise`: it may as well be nothing, by 95 % confidence. None where too little is known."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    is_noise: bool = True


def share(hits: int, total: int) -> Interval | None:
    """Wilson's score interval (1927) of a share; None of nothing. Holds for few trials and for shares near 0 and 1, where the usual one fails."""
    if total <= 0:
        return None
    rate, z2 = hits / total, Z * Z
    middle = (rate + z2 / (2 * total)) / (1 + z2 / total)
    half = Z * sqrt(rate * (1 - rate) / total + z2 / (4 * total * total)) / (1 + z2 / total)
    return Interval(rate, max(0.0, middle - half), min(1.0, middle + half))


def shares_differ(hits: int, total: int, other_hits: int, other_total: int) -> Difference:
    """The second share minus the first, by Newcombe's hybrid score interval (1998, method 10)."""
    one, two = share(hits, total), share(other_hits, other_total)
    if one is None or two is None:
        return Difference()
    value = two.value - one.value
    low = value - sqrt((two.value - two.low) ** 2 + (one.high - one.value) ** 2)
    high = value + sqrt((two.high - two.value) ** 2 + (one.value - one.low) ** 2)
    return Difference(value, low, high, is_noise=low <= 0 <= high)


def means_differ(values: Sequence[float], others: Sequence[float]) -> Difference:
    """The second mean minus the first: by the percentile bootstrap (Efron 1979) for few values, by Welch's standard error for many.

    Seeded, so that the same values give the same interval. Fewer than three values on a side say nothing.
    """
    if len(values) < 3 or len(others) < 3:
        return Difference()
    # 5 ms, for those who compare.
    import random  # noqa: PLC0415
    from statistics import fmean, variance  # noqa: PLC0415

    value = fmean(others) - fmean(values)
    if min(len(values), len(others)) >= LARGE:
        half = Z * sqrt(variance(values) / len(values) + variance(others) / len(others))
        low, high = value - half, value + half
    else:
        draw = random.Random(1).choices  # noqa: S311  # resampling, not secrets
        found = sorted(fmean(draw(others, k=len(others))) - fmean(draw(values, k=len(values))) for _ in range(_resamples(len(values) + len(others))))
        tail = round(len(found) * (1 - CONFIDENCE) / 2)
        low, high = found[tail], found[-1 - tail]
    return Difference(value, low, high, is_noise=low <= 0 <= high)


def _resamples(values: int) -> int:
    """Fewer for more values: a report must not take seconds."""
    return max(400, min(RESAMPLES, 400_000 // values))


def quantile(ordered: Sequence[float], share_below: float) -> float | None:
    """The value below which that share of sorted values lies, between two of them as if they were a line; None of nothing."""
    if not ordered:
        return None
    position = share_below * (len(ordered) - 1)
    index = int(position)
    rest = position - index
    return ordered[index] if not rest else ordered[index] + (ordered[index + 1] - ordered[index]) * rest
