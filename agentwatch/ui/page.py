"""What is shown, before it is known where: styled words, paragraphs and tables. Knows no terminal."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal, NamedTuple, TextIO

from agentwatch.core.text import clean

if TYPE_CHECKING:
    from agentwatch.ui.charts import Chart

LONGEST_CELL = 400
"""A column is as wide as its widest cell: one name of 100,000 characters would make every line as long."""

Style = Literal["", "title", "good", "warn", "bad", "dim", "bar"]


class Word(NamedTuple):
    """A piece of text in one style. May hold anything: it is made harmless when it is shown."""

    text: str
    style: Style = ""


class Para(NamedTuple):
    """Words that stand in one paragraph, `indent` columns from the left."""

    words: tuple[Word, ...] = ()
    indent: int = 0


class Table(NamedTuple):
    """Rows under column names; a name that begins with `>` has its column flush right."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Word, ...]]
    indent: int = 2


Block = Para | Table


def para(*words: Word | str, indent: int = 0) -> Para:
    """A paragraph; a plain string is a word without style."""
    return Para(tuple(word if isinstance(word, Word) else Word(word) for word in words), indent)


def show(blocks: "Iterable[Block | Chart]", out: TextIO, *, plain: bool = False) -> None:
    """Write `blocks`: with colours and wrapped on a terminal, as plain lines elsewhere or where `plain` is set.

    `NO_COLOR` leaves the colours out (no-color.org); a terminal that calls itself `dumb` gets plain lines.
    """
    harmless = map(_harmless, _without_charts(blocks))
    if not plain and out.isatty() and os.environ.get("TERM") not in (None, "dumb"):
        from agentwatch.ui.terminal import draw  # noqa: PLC0415  # 83 ms, for terminals alone

        draw(harmless, out)
    else:
        out.writelines(f"{line}\n" for block in harmless for line in _lines(block))
    out.flush()


def _without_charts(blocks: "Iterable[Block | Chart]") -> Iterator[Block]:
    for block in blocks:
        if isinstance(block, Para | Table):
            yield block
        else:
            from agentwatch.ui.charts import as_text  # noqa: PLC0415  # it is made of paragraphs and tables

            yield from as_text(block)


def _harmless(block: Block) -> Block:
    if isinstance(block, Para):
        return block._replace(words=tuple(_clean(word) for word in block.words))
    return block._replace(rows=[tuple(_cell(word) for word in row) for row in block.rows])


def _clean(word: Word) -> Word:
    return word._replace(text=clean(word.text))


def _cell(word: Word) -> Word:
    text = clean(word.text)
    return word._replace(text=text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…")


def _lines(block: Block) -> Iterator[str]:
    indent = " " * block.indent
    if isinstance(block, Para):
        yield (indent + "".join(word.text for word in block.words)).rstrip()
        return
    cells = [[name.removeprefix(">").upper() for name in block.columns], *([word.text for word in row] for row in block.rows)]
    widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
    for row in cells:
        padded = (text.rjust(width) if name.startswith(">") else text.ljust(width) for text, width, name in zip(row, widths, block.columns, strict=True))
        yield (indent + "  ".join(padded)).rstrip()
