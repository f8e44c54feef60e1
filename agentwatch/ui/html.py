"""Reports as one HTML file: no network, no script, light and dark, for a screen, a phone and paper. Every text is escaped here."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from html import escape
from math import log10

from agentwatch.core.text import clean
from agentwatch.ui.charts import Bar, Bars, Chart, Columns, Heading, Span, Timeline
from agentwatch.ui.page import Block, Para, Table, Word

STYLE = """
:root{color-scheme:light dark;--page:#fcfcfb;--card:#fff;--ink:#1b1d1f;--soft:#5f666d;--line:#e3e5e8;--accent:#2f6fb3;--good:#1f7a4d;--warn:#9a6100;--bad:#b3362c}
@media (prefers-color-scheme:dark){:root{--page:#15171a;--card:#1c1f23;--ink:#e6e8ea;--soft:#9aa2aa;--line:#2e3339;--accent:#6aa6e6;--good:#5cc08c;--warn:#e0a848;--bad:#ef7b70}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:62rem;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .5rem;padding-top:.75rem;border-top:1px solid var(--line)}
p{margin:.25rem 0}.in{padding-left:1rem}
.title{font-weight:600}.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}.dim{color:var(--soft)}
.scroll{overflow-x:auto;margin:.5rem 0 1rem}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.3rem .6rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-weight:500;white-space:nowrap}
.n{text-align:right;white-space:nowrap}td:first-child,th:first-child{padding-left:0}td{overflow-wrap:normal}
figure{margin:.75rem 0 1.25rem}figcaption{color:var(--soft);font-size:.9rem;margin-bottom:.35rem}
svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font:12px system-ui,sans-serif}
.fill{fill:var(--accent)}.fill.good{fill:var(--good)}.fill.warn{fill:var(--warn)}.fill.bad{fill:var(--bad)}.fill.dim{fill:var(--soft)}
.rule{stroke:var(--line)}.whisker{stroke:var(--ink);stroke-width:1.5}
.bars{display:grid;grid-template-columns:minmax(6rem,max-content) minmax(5rem,1fr) max-content;gap:.3rem .75rem;align-items:center;font-size:.92rem}
.bars svg{height:14px}.bars>span{min-width:0}
@media (max-width:40rem){svg text{font-size:19px}body{font-size:15px;padding:1rem .75rem 2rem}.bars{grid-template-columns:1fr}.bars>span:first-child,.bars .l{margin-top:.4rem}td,th{padding:.25rem .45rem}}
@media print{:root{--page:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;color-scheme:light}body{max-width:none;padding:0;font-size:10pt}h2,figure,tr{break-inside:avoid}h2{break-after:avoid}.scroll{overflow:visible}}
"""
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720, 190, 58, 16, 24
ROW, MOST_LANES = 22, 30
NAMES = 190
"""How wide the names of a timeline are; text is 12 high, and 19 where the drawing is shrunk to a phone."""

MOST_LABELS = 8


def document(title: str, subtitle: str, blocks: Iterable[Block | Chart]) -> str:
    """A whole HTML document."""
    body = "\n".join(map(_drawn, blocks))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f'<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header><h1>{_text(title)}</h1><p class="dim">{_text(subtitle)}</p></header>\n'
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _drawn(block: Block | Chart) -> str:
    if isinstance(block, Heading):
        return f"<h2>{_text(block.text)}</h2>"
    if isinstance(block, Para):
        if not any(word.text.strip() for word in block.words):
            return ""
        return f"<p{' class=in' if block.indent else ''}>{''.join(map(_word, block.words))}</p>"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Bars):
        return _bars(block)
    return _columns(block) if isinstance(block, Columns) else _timeline(block)


def _text(text: str) -> str:
    return escape(clean(text))


def _word(word: Word) -> str:
    return f'<span class="{word.style}">{_text(word.text)}</span>' if word.style else _text(word.text)


def _table(table: Table) -> str:
    numbers = [name.startswith(">") for name in table.columns]
    head = "".join(f"<th{' class=n' if number else ''}>{_text(name.removeprefix('>'))}</th>" for name, number in zip(table.columns, numbers, strict=True))
    rows = "".join(
        "<tr>" + "".join(f"<td{' class=n' if number else ''}>{_word(word)}</td>" for word, number in zip(row, numbers, strict=True)) + "</tr>"
        for row in table.rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _bars(chart: Bars) -> str:
    full = chart.full or max((bar.value for bar in chart.bars), default=0.0) or 1.0
    rows = "".join(f'<span class="l">{_text(bar.label)}</span>{_bar(bar, full)}<span class="dim">{_text(bar.text)}</span>' for bar in chart.bars)
    return f'<figure><figcaption>By {_text(chart.title)}</figcaption><div class="bars">{rows}</div></figure>' if rows else ""


def _bar(bar: Bar, full: float) -> str:
    width = 100 * min(bar.value / full, 1.0)
    whisker = ""
    if bar.low is not None and bar.high is not None:
        low, high = (100 * min(end / full, 1.0) for end in (bar.low, bar.high))
        whisker = f'<path class="whisker" vector-effect="non-scaling-stroke" d="M{low:.2f} 7H{high:.2f}M{low:.2f} 3v8M{high:.2f} 3v8"/>'
    return (
        f'<svg viewBox="0 0 100 14" preserveAspectRatio="none" role="img" aria-label="{_text(bar.text)}">'
        f'<rect class="fill {bar.style}" x="0" y="2" width="{width:.2f}" height="10" opacity=".8"/>{whisker}</svg>'
    )


def _columns(chart: Columns) -> str:
    top = _round_up(max(chart.values, default=0.0))
    count = max(1, len(chart.values))
    step, plot = (WIDTH - LEFT) / count, HEIGHT - BOTTOM - TOP
    parts = []
    for share in (0, 0.5, 1):
        y = TOP + plot * (1 - share)
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/><text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_tick(top * share)}</text>'
        )
    for index, (label, value, text) in enumerate(zip(chart.labels, chart.values, chart.texts, strict=True)):
        height = plot * value / top if top else 0.0
        x = LEFT + index * step
        title = f"<title>{_text(label)}: {_text(text)}</title>"
        parts.append(
            f'<rect class="fill {chart.style}" x="{x + step * 0.12:.1f}" y="{TOP + plot - height:.1f}" width="{step * 0.76:.1f}" height="{height:.1f}">{title}</rect>'
        )
    for index in range(0, count if chart.labels else 0, -(-count // MOST_LABELS)):
        middle = LEFT + (index + 0.5) * step
        anchor = "middle" if middle < WIDTH - LEFT / 2 else "end"
        parts.append(
            f'<text x="{middle if anchor == "middle" else WIDTH:.1f}" y="{HEIGHT - 5}" text-anchor="{anchor}">{_text(_short(chart.labels[index]))}</text>'
        )
    caption = f"<figcaption>{_text(chart.title)}: {_text(chart.total)}</figcaption>"
    return f'<figure>{caption}<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_text(chart.title)}">{"".join(parts)}</svg></figure>'


def _short(label: str) -> str:
    return label[5:] if len(label) == 10 and label[4] == "-" else label


def _round_up(value: float) -> float:
    """The end of an axis: a round number."""
    if value <= 0:
        return 1.0
    power = 10.0 ** int(log10(value) // 1)
    return next(power * factor for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * factor >= value * 0.999)


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def _timeline(chart: Timeline) -> str:
    """In drawings of 30 spans, all on one axis: one that is higher than a sheet of paper would be cut."""
    if not chart.spans:
        return ""
    start, end = min(span.start for span in chart.spans), max(span.end for span in chart.spans)
    label = f"{len(chart.spans)} sessions on one axis of time; marks are alerts"
    drawings = [_lanes(chart.spans[first : first + MOST_LANES], start, end) for first in range(0, len(chart.spans), MOST_LANES)]
    return f"<figure><figcaption>{label}</figcaption>{'</figure><figure>'.join(drawings)}</figure>"


def _lanes(spans: Sequence[Span], start: datetime, end: datetime) -> str:
    width = max((end - start).total_seconds(), 1.0)

    def x(at: datetime) -> float:
        return NAMES + (WIDTH - NAMES) * min(max((at - start).total_seconds() / width, 0.0), 1.0)

    height = ROW * len(spans) + BOTTOM
    parts = []
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        at = start + (end - start) * share
        parts.append(f'<line class="rule" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="0" y2="{height - BOTTOM}"/>')
        parts.append(f'<text x="{x(at):.1f}" y="{height - 5}" text-anchor="{anchor}">{at:%m-%d %H:%M}</text>')
    parts += [_lane(span, index, x) for index, span in enumerate(spans)]
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{len(spans)} sessions">{"".join(parts)}</svg>'


def _lane(span: Span, index: int, x: Callable[[datetime], float]) -> str:
    y, left, right = index * ROW, x(span.start), x(span.end)
    marks = "".join(
        f'<path class="fill {mark.style}" d="M{x(mark.at):.1f} {y + 3}l4 7h-8z"><title>{_text(mark.text)} {mark.at:%m-%d %H:%M}</title></path>'
        for mark in span.marks
    )
    title = f"<title>{_text(span.label)}: {span.start:%m-%d %H:%M} to {span.end:%m-%d %H:%M} {_text(span.text)}</title>"
    name = f'<svg x="0" y="{y}" width="{NAMES - 8}" height="{ROW}"><text x="0" y="15">{_text(span.label)}</text></svg>'
    bar = f'<rect class="fill {span.style}" x="{left:.1f}" y="{y + 5}" width="{max(right - left, 2):.1f}" height="11" rx="2" opacity=".75">{title}</rect>'
    return name + bar + marks
