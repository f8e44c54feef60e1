"""Charts, before it is known where they are shown: what is drawn as SVG in a document is told in characters on a terminal."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from agentwatch.ui.page import Para, Style, Table, Word, para

BAR_CELLS, MOST_COLUMNS = 24, 60
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"


class Heading(NamedTuple):
    """Begins a part of a report."""

    text: str


class Bar(NamedTuple):
    """`value` of one thing beside others; `text` is how it is said. `low` and `high` are where it lies with confidence, if that is known."""

    label: str
    value: float
    text: str
    style: Style = ""
    low: float | None = None
    high: float | None = None


class Bars(NamedTuple):
    """Horizontal bars, in their order. `full` is the value of a whole bar; None: the greatest."""

    title: str
    bars: Sequence[Bar]
    full: float | None = None


class Columns(NamedTuple):
    """One figure over time, a column each. `texts` say the values; `total` says all of them in words."""

    title: str
    labels: Sequence[str]
    values: Sequence[float]
    texts: Sequence[str]
    total: str
    style: Style = ""


class Mark(NamedTuple):
    """Something that happened at a time."""

    at: datetime
    text: str
    style: Style = "bad"


class Span(NamedTuple):
    """Something that lasted, with what happened in it."""

    label: str
    start: datetime
    end: datetime
    text: str
    style: Style = ""
    marks: Sequence[Mark] = ()


class Timeline(NamedTuple):
    """Spans on one axis of time."""

    spans: Sequence[Span]


Chart = Heading | Bars | Columns | Timeline


def as_text(chart: Chart) -> Iterable[Para | Table]:
    """The chart in paragraphs and tables. A timeline has none: the table beside it says the same."""
    if isinstance(chart, Heading):
        yield para()
        yield para(Word(chart.text, "title"))
    elif isinstance(chart, Bars):
        full = chart.full or max((bar.value for bar in chart.bars), default=0.0)
        rows = [(Word(bar.label), Word(bar_text(bar.value, full), bar.style), Word(bar.text)) for bar in chart.bars]
        if rows:
            yield Table((chart.title, "", ""), rows)
    elif isinstance(chart, Columns):
        line = sparkline(chart.values)
        yield para(Word(f"{chart.title:10} ", "dim"), Word(line, chart.style), f"  {chart.total}", indent=2)


def bar_text(value: float, full: float) -> str:
    """A bar of up to 24 cells, to an eighth of one; what is more than nothing shows."""
    if full <= 0 or value <= 0:
        return ""
    eighths = max(1, round(8 * BAR_CELLS * min(value / full, 1.0)))
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def sparkline(values: Sequence[float]) -> str:
    """The values as columns an eighth of a line high, at most 60 of them (then each is the sum of several); nothing is a blank."""
    step = -(-len(values) // MOST_COLUMNS) or 1
    sums = [sum(values[start : start + step]) for start in range(0, len(values), step)]
    top = max(sums, default=0.0)
    return "".join(_LEVELS[max(0, round(7 * value / top))] if value > 0 else "·" for value in sums)
