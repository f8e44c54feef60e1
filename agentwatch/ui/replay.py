"""The pages of a replay: on a screen the list of steps with the whole of one below it, elsewhere all of them one after the other. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta

from agentwatch.core.story import Kind, Step, Story
from agentwatch.core.text import redact, visible
from agentwatch.core.words import count, money
from agentwatch.ui.console import details, too_small
from agentwatch.ui.lines import Line, cut, fit, pad, wrap
from agentwatch.ui.page import Block, Para, Style, Word, para

LEAST_WIDTH, LEAST_HEIGHT = 20, 8
SHORT_LINES, SHORT_CHARACTERS = 12, 1200
"""So much of a long text is printed where nobody asked for all of it."""

MARKS: dict[Kind, tuple[str, Style]] = {
    "asked": (">", "warn"),
    "thinks": ("~", "dim"),
    "says": ('"', ""),
    "calls": ("*", "title"),
    "returned": ("=", "dim"),
    "error": ("x", "bad"),
    "alert": ("!", "bad"),
    "other": ("-", "dim"),
}
"""The mark and the style of each kind of step: the mark alone must do where there are no colours."""


@dataclass
class Replay:
    """What a page shows: the step that was come to, how far its text is scrolled, and how fast it goes on by itself, 0 for not at all."""

    story: Story
    at: int = 0
    scroll: int = 0
    speed: float = 0.0
    notice: str = ""


KEYS = (
    ("→ j space", "the next step"),
    ("← k", "the step before"),
    ("n N", "the next error, the one before"),
    ("a A", "the next alert, the one before"),
    ("c C", "the next call, the one before"),
    ("g G", "the first step, the last"),
    ("p", "play: steps come by themselves, waits are cut to 2 seconds"),
    ("+ -", "play faster, slower"),
    ("PgUp PgDn", "scroll the text of the step"),
    ("?", "this help"),
    ("q", "quit"),
)


def help_lines() -> list[Line]:
    """What each key does, and what the marks mean."""
    return [
        *((Word(f"  {keys:12}", "title"), Word(told)) for keys, told in KEYS),
        (),
        *((Word(f"  {mark:12}", style), Word(kind)) for kind, (mark, style) in MARKS.items()),
    ]


def page(view: Replay, width: int, height: int) -> list[Line]:
    """The whole screen: `height` lines, none wider than `width`."""
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return too_small(width, height)
    steps = view.story.steps
    room = max(3, (height - 4) * 2 // 5)
    lines = [_header(view, width), fit([Word(f" {_about(view.story)}", "dim")], width)]
    # The step stands in the middle, so that what led to it and what follows is seen.
    start = max(0, min(view.at - room // 2, len(steps) - room))
    shown = steps[start : start + room]
    lines += [_line(step, width, is_here=number == view.at) for number, step in enumerate(shown, start)]
    lines += [()] * (room - len(shown))
    rest = height - len(lines) - 2
    whole = _whole(steps[view.at], width) if steps else [(Word("  nothing happened", "dim"),)]
    view.scroll = max(0, min(view.scroll, len(whole) - rest))
    more = f"  lines {view.scroll + 1}-{min(view.scroll + rest, len(whole))} of {len(whole)}, PgDn scrolls" if len(whole) > rest else ""
    title = f" {_mark(steps[view.at])} {visible(steps[view.at].title)}{more}" if steps else ""
    lines.append(fit([Word(title, "title")], width))
    text = whole[view.scroll : view.scroll + rest]
    lines += text
    lines += [()] * (rest - len(text))
    playing = f"playing {view.speed:g} times as fast  + - speed  p stop" if view.speed else "p play"
    lines.append(fit([Word(f" {view.notice or f'q quit  ? help  ←→ step  n error  a alert  c call  g G ends  {playing}'}")], width, "bar"))
    return lines


def _header(view: Replay, width: int) -> Line:
    story = view.story
    if not story.steps:
        return (Word(pad(f" replay of {visible(story.attempt_id)}", width), "bar"),)
    step = story.steps[view.at]
    spent = f"{clock(step.elapsed)} of {clock(story.took)}   {count(step.tokens)} tokens   {_money(step.usd, is_priced=story.is_priced)}"
    where = f" step {step.number} of {len(story.steps)}   {spent}"
    left = width - len(where) - 2
    return (Word(pad(f" {cut(visible(story.attempt_id), max(left, 0))}  {where}", width), "bar"),)


def _about(story: Story) -> str:
    context = story.context
    errors, alerts = story.errors, story.alerts
    parts = [
        context.task_title or context.task_id,
        context.executor,
        context.model,
        f"{errors} error{'s' * (errors != 1)}" if errors else "no errors",
        f"{alerts} alert{'s' * (alerts != 1)}" if alerts else "no alerts",
    ]
    return "   ".join(shown(part, 60) for part in parts if part)


def _mark(step: Step) -> str:
    return "x" if step.is_bad and step.kind != "alert" else MARKS[step.kind][0]


def _style(step: Step) -> Style:
    return "bad" if step.is_bad else "good" if step.kind == "alert" else MARKS[step.kind][1]


def _line(step: Step, width: int, *, is_here: bool) -> Line:
    first = step.text.strip().split("\n", 1)[0]
    lane = f"↳{visible(step.lane[:8])} " if step.lane else ""
    words = [
        Word(f"{'▶' if is_here else ' '}{step.number:>4} {clock(step.elapsed):>8} ", "dim"),
        Word(f"{_mark(step)} ", _style(step)),
        Word(lane, "dim"),
        Word(visible(step.title), _style(step) or "title"),
        Word(f": {shown(first, 400)}" if first else "", "dim" if step.kind in ("returned", "thinks") and not step.is_bad else _style(step)),
    ]
    return fit(words, width, "bar" if is_here else None)


def _whole(step: Step, width: int) -> list[Line]:
    """A step with all that is known of it."""
    lines = [*_wrapped(step.text, width, "bad" if step.is_bad else ""), *_wrapped(step.more, width, "dim")]
    when = f"{step.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    return [*lines, (), *details([("when", when), ("sub-agent", step.lane), ("log", step.place)], width)]


def _wrapped(text: str, width: int, style: Style) -> list[Line]:
    text = redact(visible(text, newlines=True)).rstrip()
    return [(Word(f"  {part}", style),) for part in wrap(text, width - 4)] if text else []


# ---------------------------------------------------------------------------------------------------------- one after the other


def plain(story: Story, *, whole: bool) -> Iterator[Block]:
    """The session from its beginning to its end, for pipes and pagers; long texts are cut where `whole` is not set."""
    spent = f"{count(story.steps[-1].tokens)} tokens, {_money(story.steps[-1].usd, is_priced=story.is_priced)}" if story.steps else "nothing happened"
    yield para(Word(story.attempt_id, "title"), f"  {_about(story)}   took {clock(story.took)}, {spent}")
    project = ", branch ".join(filter(None, (story.context.project_id, story.context.branch)))
    yield para(Word("   ".join(filter(None, (project, story.source))), "dim"))
    tokens = 0
    for step in story.steps:
        spent = f"   {count(step.tokens)} tokens {_money(step.usd, is_priced=story.is_priced)}" if step.tokens > tokens else ""
        tokens = step.tokens
        yield para()
        yield Para(
            (
                Word(f"{step.number:>4} {clock(step.elapsed):>8} ", "dim"),
                Word(f"{_mark(step)} ", _style(step)),
                Word(f"({step.lane}) " if step.lane else "", "dim"),
                Word(visible(step.title), _style(step) or "title"),
                Word(spent, "dim"),
            )
        )
        text, left = shortened(f"{step.text}\n{step.more}" if whole and step.more else step.text, whole=whole)
        for line in text.split("\n") if text else ():
            yield para(Word(line, "bad" if step.is_bad else "dim" if step.kind in ("returned", "thinks") else ""), indent=16)
        if left:
            yield para(Word(left, "dim"), indent=16)


def shortened(text: str, *, whole: bool) -> tuple[str, str]:
    """A text without secrets, its controls visible, and in words how much of it was left out, empty for nothing."""
    text = redact(visible(text, newlines=True)).strip("\n")
    if whole or (len(text) <= SHORT_CHARACTERS and text.count("\n") < SHORT_LINES):
        return text, ""
    lines = text[:SHORT_CHARACTERS].split("\n")[:SHORT_LINES]
    kept = "\n".join(lines)
    return kept, f"… {len(text) - len(kept):,} characters more (--full)"


def shown(text: str, limit: int) -> str:
    """A text of a log on one line: without secrets, with what could move a cursor visible."""
    return cut(redact(visible(text[: 4 * limit])), limit)


def clock(width: timedelta) -> str:
    """A time since the beginning: `4:07`, `1:04:07`."""
    minutes, seconds = divmod(max(0, int(width.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _money(usd: float, *, is_priced: bool) -> str:
    return money(usd) if is_priced else "of unknown price"
