"""Figures as people read them: money, counts, durations, shares, and how they changed."""

from agentwatch.ui.page import Style, Word

NOTHING = "-"
MANY_TIMES = 10
_STEPS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


def count(value: float | None) -> str:
    """A whole number, shortened from 100,000 on: `81,234`, `1.4 M`."""
    if value is None:
        return NOTHING
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value / 1e3:.0f} k" if abs(value) >= 1e5 else f"{value:,.0f}"


def counted(number: int, what: str) -> str:
    """So many of them: `1 attempt`, `2 attempts`."""
    return f"{count(number)} {what}{'' if number == 1 else 's'}"


def usd(value: float | None) -> str:
    """Dollars; cents have four digits where they are all there is."""
    if value is None:
        return NOTHING
    return f"${value:,.0f}" if abs(value) >= 10_000 else f"${value:,.4f}" if 0 < abs(value) < 0.1 else f"${value:,.2f}"


def duration(ms: float | None) -> str:
    """Two units at most: `1 h 5 min`, `42 s`, `310 ms`."""
    if ms is None:
        return NOTHING
    if ms < 1000:
        return f"{ms:.0f} ms"
    for index, (size, unit) in enumerate(_STEPS):
        if ms >= size:
            whole, rest = divmod(round(ms), size)
            if index + 1 < len(_STEPS):
                smaller, name = _STEPS[index + 1]
                return f"{whole} {unit} {rest // smaller} {name}" if rest >= smaller else f"{whole} {unit}"
            return f"{whole} {unit}"
    return NOTHING


def percent(share: float | None) -> str:
    """A share of 1."""
    return NOTHING if share is None else f"{100 * share:.1f} %"


def change(now: float | None, before: float | None, *, more_is: Style = "") -> Word:
    """An arrow and by how much; in a colour where more is `good` or `bad`."""
    if now is None or before is None:
        return Word("")
    if now == before:
        return Word("=", "dim")
    arrow = "▲" if now > before else "▼"
    if not before:
        text = f"{arrow} new"
    elif now > MANY_TIMES * before > 0:
        text = f"{arrow} {now / before:,.0f} times"
    else:
        text = f"{arrow} {abs(now - before) / abs(before):.0%}"
        if text.endswith(" 0%"):
            return Word("=", "dim")
    other: Style = "bad" if more_is == "good" else "good"
    return Word(text, more_is if now > before or not more_is else other)


def points(now: float | None, before: float | None) -> Word:
    """How a share changed, in percentage points; more is good."""
    if now is None or before is None:
        return Word("")
    if round(now, 3) == round(before, 3):
        return Word("=", "dim")
    return Word(f"{'▲' if now > before else '▼'} {abs(now - before) * 100:.1f} points", "good" if now > before else "bad")
