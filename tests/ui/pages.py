"""Pages as text, compared with those that were agreed on."""

import os
from pathlib import Path

from agentwatch.ui.lines import width_of

GOLDEN = Path(__file__).parent / "golden"


def text_of(lines, width, height):
    """A page as text; it has exactly `height` lines, none of them wider than `width`, all printable."""
    texts = ["".join(word.text for word in line) for line in lines]
    assert len(texts) == height
    assert max(map(width_of, texts)) <= width
    assert all(text.isprintable() for text in texts)
    return "".join(f"{text.rstrip()}\n" for text in texts)


def is_golden(name, text):
    """Whether a page is as it was. AGENTWATCH_GOLDEN=write makes the files anew."""
    path = GOLDEN / name
    if os.environ.get("AGENTWATCH_GOLDEN") == "write":
        path.write_text(text, "utf-8")
    return text == path.read_text("utf-8")
