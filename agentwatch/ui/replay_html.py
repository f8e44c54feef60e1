"""A replay as one HTML file: no script, no network; light and dark, on paper and on a phone. Every text is escaped, redacted and made visible."""

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape

from agentwatch.core.story import Kind, Step, Story
from agentwatch.core.text import redact, visible
from agentwatch.core.words import count, money
from agentwatch.ui.replay import SHORT_CHARACTERS, SHORT_LINES, clock

LONGEST_TEXT = 20_000
"""Of a longer text the file has the beginning: a session that read large files would be too large for a phone."""

WIDTH, HEIGHT = 1000, 100
NAMES: dict[Kind, str] = {
    "asked": "asked",
    "thinks": "",
    "says": "",
    "calls": "calls",
    "returned": "came back",
    "error": "",
    "alert": "alert",
    "other": "",
}

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#59636e;--line:#d9dee3;--box:#f5f7f9;--bad:#b42318;--badbg:#fdf0ee;--alert:#8a4b00;--alertbg:#fff4e0;
--ask:#5b3fa8;--call:#0b5cad;--say:#176639}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e4e7ea;--dim:#9aa4ae;--line:#31373d;--box:#1d2126;--bad:#ff8a7d;--badbg:#33191a;--alert:#ffc46b;--alertbg:#33260f;
--ask:#b9a3f5;--call:#7db9f5;--say:#7fd1a0}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:62rem;padding:1rem;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.3rem;margin:.2rem 0;overflow-wrap:anywhere}
p.about,footer{color:var(--dim);margin:.2rem 0 1rem}
dl.sums{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.5rem,1fr));gap:.5rem;margin:1rem 0}
dl.sums div{background:var(--box);border-radius:.4rem;padding:.4rem .6rem}
dt{color:var(--dim);font-size:.8rem}dd{margin:0;font-weight:600}
svg{display:block;width:100%;height:6.5rem;background:var(--box);border-radius:.4rem}
svg *{vector-effect:non-scaling-stroke;stroke-width:2}polyline{fill:none;stroke:var(--fg);stroke-width:1.5;opacity:.7}
p.axis{display:flex;justify-content:space-between;color:var(--dim);font-size:.8rem;margin:.1rem 0}
ol{list-style:none;margin:1rem 0;padding:0}
li{border-left:4px solid var(--line);padding:.3rem 0 .3rem .8rem;margin:.5rem 0;break-inside:avoid-page}
li.asked{border-color:var(--ask)}li.calls{border-color:var(--call)}li.says{border-color:var(--say)}
li.bad{border-color:var(--bad);background:var(--badbg)}li.alert{border-color:var(--alert);background:var(--alertbg)}
li.lane{margin-left:1.2rem}
.head{display:flex;flex-wrap:wrap;gap:.1rem .7rem;align-items:baseline}
.head b{overflow-wrap:anywhere}.head span{color:var(--dim);font-size:.85rem}.head .kind{text-transform:uppercase;letter-spacing:.03em;font-size:.72rem}
.head a{color:inherit;text-decoration:none}
pre{margin:.3rem 0;white-space:pre-wrap;overflow-wrap:anywhere;font:.85rem/1.45 ui-monospace,monospace}
.thinks pre,.returned pre{color:var(--dim)}.bad pre{color:inherit}
summary{cursor:pointer;color:var(--dim);font-size:.85rem}
@media print{:root{color-scheme:light;--bg:#fff;--fg:#000;--box:#fff;--badbg:#fff;--alertbg:#fff}body{max-width:none;font-size:11px}details>*{display:block}}
"""


def html(story: Story, at: datetime) -> Iterator[str]:
    """The lines of the file; `at` is when it is made."""
    name, context = _text(story.attempt_id), story.context
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield f"<title>{name}: replay</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{_text(context.task_title or context.task_id or story.attempt_id)}</h1>"
    about = [story.attempt_id, context.executor, context.model, context.project_id, context.branch]
    yield f"<p class=about>{' · '.join(_text(part) for part in about if part)}</p>"
    yield "<dl class=sums>"
    for label, value in _sums(story):
        yield f"<div><dt>{label}</dt><dd>{_text(value)}</dd></div>"
    yield "</dl>"
    if len(story.steps) > 1:
        yield from _timeline(story)
    yield "<ol>"
    tokens = 0
    for step in story.steps:
        spent = f"{count(step.tokens)} tokens{f', {money(step.usd)}' if story.is_priced and step.usd else ''}" if step.tokens > tokens else ""
        tokens = step.tokens
        yield from _step(step, spent)
    yield "</ol>"
    yield f"<footer>made by agentwatch replay, {at.astimezone(UTC):%Y-%m-%d %H:%M}Z, from {_text(story.source)}; secrets that were recognised are taken out</footer>"
    yield "</body></html>"


def _sums(story: Story) -> Iterator[tuple[str, str]]:
    last = story.steps[-1] if story.steps else None
    yield "began", f"{story.steps[0].at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if last else "never"
    yield "took", clock(story.took)
    yield "tokens", count(last.tokens) if last else "0"
    yield "cost", (money(last.usd) if story.is_priced else "unknown") if last else "$0"
    yield "calls", str(story.count("calls"))
    yield "errors", str(story.errors)
    yield "alerts", str(story.alerts)


def _timeline(story: Story) -> Iterator[str]:
    """A tick a step at its time, higher where something went wrong, and the tokens spent by then as a line."""
    took = max(story.took.total_seconds(), 1e-9)
    most = max(story.steps[-1].tokens, 1)
    along = [10 + (WIDTH - 20) * step.elapsed.total_seconds() / took for step in story.steps]
    yield f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="steps and tokens over time">'
    for x, step in zip(along, story.steps, strict=True):
        colour, top = ("--alert", 6) if step.kind == "alert" and step.is_bad else ("--bad", 24) if step.is_bad else (_TICKS.get(step.kind, "--line"), 50)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{HEIGHT - 4}" style="stroke:var({colour})"/>'
    points = " ".join(f"{x:.1f},{HEIGHT - 4 - (HEIGHT - 14) * step.tokens / most:.1f}" for x, step in zip(along, story.steps, strict=True))
    yield f'<polyline points="{points}"/></svg>'
    yield f"<p class=axis><span>0:00</span><span>line: tokens, up to {count(story.steps[-1].tokens)}</span><span>{clock(story.took)}</span></p>"


_TICKS: dict[Kind, str] = {"asked": "--ask", "calls": "--call", "says": "--say"}


def _step(step: Step, spent: str) -> Iterator[str]:
    kind = "over" if step.kind == "alert" and not step.is_bad else step.kind
    classes = " ".join(filter(None, (kind, "bad" if step.is_bad and step.kind != "alert" else "", "lane" if step.lane else "")))
    yield f'<li class="{classes}" id="s{step.number}"><div class=head><span><a href="#s{step.number}">{step.number}</a></span>'
    yield f'<span title="{step.at.isoformat()}">{clock(step.elapsed)}</span><span class=kind>{NAMES[step.kind]}</span><b>{_text(step.title)}</b>'
    yield f"<span>{_text(step.lane)}</span><span>{spent}</span></div>"
    text = _bounded(step.text, step)
    if len(text) <= SHORT_CHARACTERS and text.count("\n") < SHORT_LINES:
        yield f"<pre>{escape(text)}</pre>" if text else ""
    else:
        start = "\n".join(text[:SHORT_CHARACTERS].split("\n")[:SHORT_LINES])
        yield f"<pre>{escape(start)}</pre><details><summary>{len(text) - len(start):,} characters more</summary><pre>{escape(text[len(start) :])}</pre></details>"
    if step.more:
        more = _bounded(step.more, step)
        yield f"<details><summary>with</summary><pre>{escape(more)}</pre></details>"
    yield "</li>"


def _bounded(text: str, step: Step) -> str:
    text = redact(visible(text, newlines=True)).strip("\n")
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]}\n… {len(text) - LONGEST_TEXT:,} characters more stand in the log: {visible(step.place)}"


def _text(text: str) -> str:
    return escape(redact(visible(text)))
