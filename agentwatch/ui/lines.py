"""Lines of styled words that fit a screen: how wide a text is, how it is cut, padded and wrapped. Knows no terminal and no log."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from unicodedata import category, east_asian_width

from agentwatch.ui.page import Style, Word

Line = tuple[Word, ...]
"""What stands on one row of a screen, from the left. Its texts are printable."""


@lru_cache(maxsize=4096)
def _cells(character: str) -> int:
    if category(character) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(character) in ("W", "F") else 1


def width_of(text: str) -> int:
    """How many columns a printable text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def cut(text: str, width: int) -> str:
    """As much of a text as fits, with `…` at the end where that is not all."""
    if len(text) <= width and text.isascii():
        return text
    if width <= 0:
        return ""
    total, fits = 0, 0
    for place, character in enumerate(text):
        total += _cells(character)
        if total > width:
            return f"{text[:fits]}…"
        if total < width:
            fits = place + 1
    return text


def pad(text: str, width: int, *, right: bool = False) -> str:
    """A text in a column of exactly `width`, cut where it is too long."""
    text = cut(text, width)
    blank = " " * (width - width_of(text))
    return blank + text if right else text + blank


def fit(words: Iterable[Word], width: int, style: Style | None = None) -> Line:
    """Words on one line of at most `width`; all in `style`, and filled up to the width, where one is given."""
    fitted: list[Word] = []
    room = width
    for text, own in words:
        shown = cut(text, room)
        if shown:
            fitted.append(Word(shown, own if style is None else style))
            room -= width_of(shown)
        if shown != text:
            break
    if style is not None and room > 0:
        fitted.append(Word(" " * room, style))
    return tuple(fitted)


def wrap(text: str, width: int) -> Iterator[str]:
    """A text with line breaks as lines of at most `width`, broken at spaces where there are any; one empty line for none."""
    width = max(width, 2)  # a wide character must fit
    for line in text.split("\n"):
        rest = line
        while width_of(rest) > width:
            end, total = 0, 0
            for character in rest:
                total += _cells(character)
                if total > width:
                    break
                end += 1
            space = rest.rfind(" ", end // 2, end + 1)
            yield rest[: space if space > 0 else end].rstrip()
            rest = rest[space + 1 if space > 0 else end :]
        yield rest


def spark(counts: Iterable[int], *, plain: bool = False) -> str:
    """A bar a count, as high as it is compared with the highest; a dot for none."""
    heights = ".:-=+*#%@" if plain else "·▁▂▃▄▅▆▇█"
    numbers = list(counts)
    most = max(numbers, default=0)
    return "".join(heights[0] if not number else heights[max(1, -(-number * 8 // most))] for number in numbers)
