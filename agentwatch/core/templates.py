"""What messages have in common: the same words with `<num>`, `<path>` and the like in place of what differs from case to case."""

import re

from agentwatch.core.lazy import lazy

LONGEST = 300
"""What differs behind so many characters only is the same."""

_HEX = "[0-9a-fA-F]"
_MASKS = (
    ("url", r"[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s\"'`<>()\[\]]{1,300}"),
    ("email", r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,8}"),
    ("uuid", rf"(?<!\w){_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}(?!\w)"),
    (
        "date",
        r"(?<!\w)[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?)?(?!\w)",
    ),
    ("time", r"(?<![\w:.])[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?![\w:])"),
    (
        "ip",
        rf"(?<![\w.])[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}(?::[0-9]{{1,5}})?(?![\w.])|\[?(?<![\w:.])(?:{_HEX}{{0,4}}:){{2,7}}{_HEX}{{1,4}}(?![\w:.])\]?(?::[0-9]{{1,5}})?",
    ),
    ("quoted", r"\"[^\"\n]{0,200}\"|(?<!\w)'[^'\n]{0,200}'(?!\w)|`[^`\n]{0,200}`"),
    (
        "path",
        r"(?<![\w.])(?:[A-Za-z]:)?(?:~|\.{1,2})?(?:[\\/][\w.@+~%-]{1,100}){1,40}[\\/]?(?::[0-9]{1,9}){0,2}|(?<!\w)[\w@+~-]{1,100}(?:/[\w.@+~-]{1,100}){1,40}\.\w{1,5}(?::[0-9]{1,9}){0,2}",
    ),
    ("host", r"(?<![\w.])[A-Za-z][\w-]{0,62}(?:\.[\w-]{1,63}){0,8}:[0-9]{2,5}(?![\w:])|(?<![\w.])(?:[a-z0-9][a-z0-9-]{0,62}\.){2,8}[a-z]{2,18}(?![\w.(])"),
    ("hex", rf"(?<!\w)0x{_HEX}{{1,64}}(?!\w)|(?<!\w)(?=[a-f]{{0,40}}[0-9])(?=[0-9]{{0,40}}[a-f]){_HEX}{{7,128}}(?!\w)"),
    ("id", r"(?<!\w)(?=[A-Za-z_-]{0,60}[0-9][A-Za-z_-]{0,60}[0-9])(?=[0-9_-]{0,60}[A-Za-z])[A-Za-z0-9_]{8,200}(?!\w)"),
    ("num", r"(?<![A-Z])(?<![A-Z][-_])(?<![0-9])[0-9]+(?:[.,][0-9]+)*"),
)
_ALL = lazy("|".join(f"(?P<{name}>{pattern})" for name, pattern in _MASKS))
_SPACE = lazy(r"\s+")


def template(text: str) -> str:
    """What the first `LONGEST` characters of `text` say without ids, numbers, paths, addresses, times and what is quoted. Codes as `TS2345` stay.

    `text` is expected to be safe to show: `core.text.safe` makes it so.
    """
    return _SPACE.sub(" ", _ALL.sub(_mask, text[:LONGEST])).strip()[:LONGEST]


def _mask(found: re.Match[str]) -> str:
    return f"<{found.lastgroup}>"
