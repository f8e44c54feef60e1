"""Pages on a terminal: the one file that imports rich. Texts are handed over as texts, never as its markup."""

from collections.abc import Iterable
from typing import TextIO

import rich.table
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from agentwatch.ui.page import Block, Para, Word

STYLES = {"": "", "title": "bold", "good": "green", "warn": "yellow", "bad": "bold red", "dim": "dim", "bar": "reverse"}
"""Attributes and the colours that every theme defines: legible on dark and on light."""


def draw(blocks: Iterable[Block], out: TextIO) -> None:
    """Write `blocks` as wide as the terminal is."""
    console = Console(file=out, highlight=False, markup=False, emoji=False)
    for block in blocks:
        if isinstance(block, Para) and not block.words:
            console.print()
            continue
        console.print(Padding(_drawn(block), (0, 0, 0, block.indent), expand=False))


def _drawn(block: Block) -> RenderableType:
    if isinstance(block, Para):
        return Text.assemble(*map(_styled, block.words))
    table = rich.table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in block.columns:
        if name.startswith(">"):
            table.add_column(name[1:].upper(), justify="right", no_wrap=True)
        else:
            table.add_column(name.upper(), overflow="fold")
    for row in block.rows:
        table.add_row(*(Text(word.text, STYLES[word.style]) for word in row))
    return table


def _styled(word: Word) -> tuple[str, str]:
    return word.text, STYLES[word.style]
