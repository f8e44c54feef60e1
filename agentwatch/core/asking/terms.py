"""What a question is about: its words, as they may stand in a log. Cheap on purpose: stems are cut off, and a table knows what logs call it."""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

MOST_TERMS = 24
LEAST_LETTERS = 3

_TOKEN = re.compile(r"[\"'`“]([^\"'`“”]{2,80})[\"'`”]|[\w@#][\w@#./:-]{0,98}[\w]|\w")
_PART = re.compile(r"[^\W_]+")
_COMMON_WORDS = (
    "the and for are was were did does has have had with what which why who whom whose when where how this that these those there their they you your our its his her not but"
    " from into about over under than then them any all some most more much many can could should would will shall may might must been being please tell doing done come came show give list find"
    " happen happened happening happens cause caused causes reason explain going went wrong log logs line lines agent agents session sessions run runs today yesterday last"
    " first time times get got make made say says said let know see seen look want problem problems issue issues thing things anything something everything right now"
    " der die das und ist was warum wie wer wann welche welcher ein eine nicht auf mit von bei für hat sind war"
)
_COMMON = frozenset(_COMMON_WORDS.split())
_ENDINGS = ("ations", "ation", "ings", "ing", "ions", "ion", "ures", "ure", "ness", "ments", "ment", "ers", "ies", "ied", "ed", "es", "ly", "er", "s", "e", "y")

_SAME = (
    "fail error exception crash abort fatal panic broke uncaught unhandled traceback",
    "slow timeout timed-out etimedout latency hang hung stuck wait deadline",
    "cost expensive usd spend spent money price token budget bill",
    "database postgres mysql sqlite mongo redis sql query deadlock db",
    "auth login unauthorized forbidden credential denied permission 401 403 eacces api-key",
    "memory oom heap killed enomem out-of-memory",
    "disk space enospc no-space quota full",
    "network connect connection refused econnrefused econnreset dns enotfound socket reset unreachable proxy",
    "limit rate-limit 429 throttle overload quota too-many",
    "loop repeat again same retry retries",
    "restart start boot launch shutdown stop exit killed sigterm",
    "test tests assert pytest jest vitest spec",
    "git push merge conflict commit rebase branch",
    "install npm pip package dependency module import cannot-find",
    "build compile compiler typescript tsc linker",
    "file enoent missing not-found directory path",
    "type typeerror undefined null nullpointer attributeerror none",
    "certificate tls ssl x509 handshake",
    "port eaddrinuse address-in-use listen bind",
)
"""Words that stand for each other in logs. A dash is a space or any other sign."""


class Term(NamedTuple):
    """A piece of text to look for, in lower case, and how much finding it says: 1 for a word of the question, more for a name, less for a synonym."""

    text: str
    weight: float


def stem(word: str) -> str:
    """`word`, in lower case, without an ending that English puts behind it; never less than four letters, or the word itself."""
    if not word.isalpha():
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word.removesuffix(ending)
    return word


def terms_of(question: str) -> tuple[Term, ...]:
    """What to look for, what says most first. Empty for a question that only asks what is going on."""
    found: dict[str, float] = {}

    def add(text: str, weight: float) -> None:
        if text:
            found[text] = max(weight, found.get(text, 0.0))

    for match in _TOKEN.finditer(question.lower()):
        if match[1]:
            add(match[1].strip(), 3.0)
        word = (match[1] or match[0]).strip("./:-")
        parts = _PART.findall(word)
        if not match[1] and (len(parts) > 1 or any(c.isdigit() for c in word)) and len(word) >= LEAST_LETTERS:
            add(word, 3.0)
        for part in parts:
            if (len(part) >= LEAST_LETTERS or part in _SYNONYMS) and part not in _COMMON and not (part.isdigit() and len(parts) > 1):
                add(stem(part), 1.0)
                for synonym in _SYNONYMS.get(stem(part), ()):
                    add(synonym, 0.4)
    ordered = sorted(found.items(), key=lambda one: -one[1])
    return tuple(Term(text, weight) for text, weight in ordered[:MOST_TERMS])


def _by_stem() -> dict[str, tuple[str, ...]]:
    same: dict[str, tuple[str, ...]] = {}
    for row in _SAME:
        words = row.split()
        for word in words:
            others = tuple(stem(other).replace("-", " ") for other in words if stem(other) != stem(word))
            same[stem(word)] = (*same.get(stem(word), ()), *others)
    return same


_SYNONYMS = _by_stem()


class Scale:
    """Weighs texts by the terms in them: one that stands in few of the texts says more than one that stands in all of them.

    `texts` are those that are compared, in lower case.
    """

    def __init__(self, terms: Iterable[Term], texts: Iterable[str]) -> None:
        self._terms = tuple(terms)
        counts = dict.fromkeys(self._terms, 0)
        total = 0
        for text in texts:
            total += 1
            for term in self._terms:
                counts[term] += term.text in text
        self._worth = {term: term.weight * math.log(1 + (total + 1) / (count + 0.5)) for term, count in counts.items()}

    def weigh(self, text: str) -> float:
        """0 for a text, in lower case, with none of the terms."""
        return sum(worth for term, worth in self._worth.items() if term.text in text)
