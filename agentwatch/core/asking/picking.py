"""What of all that was found is worth sending: facts and lines, the weightiest first, as many as fit. Knows no files and no model.

What is the same again stands there once, with how often. Each kind of thing has a share of the room, so that a thousand alerts leave
some of it to the lines; what a kind does not need goes to the others.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from agentwatch.core.asking.terms import Scale, Term
from agentwatch.core.lazy import lazy

Section = Literal["issues", "alerts", "errors", "sessions", "lines"]
SHARES: dict[Section, float] = {"issues": 0.22, "alerts": 0.15, "errors": 0.15, "sessions": 0.08, "lines": 0.40}

BEFORE, AFTER = 2, 4
"""Lines shown round one that matters: what follows an error in a program's log is its stack trace."""

# Hex, and numbers with what joins them (times, versions, addresses); in a text that is no JSON what is quoted, too.
_VARIES = lazy(r"0x[0-9a-fA-F]+|\b[0-9a-fA-F]{7,}(?:-[0-9a-fA-F]{4,}){0,4}\b|[0-9]+(?:[.,:T/-][0-9]+)*Z?")
_QUOTED = lazy(r"\"[^\"]{0,80}\"|'[^']{0,80}'")
_LOOKED_AT = 300


class Line(NamedTuple):
    """A line of a log as it may be shown. `label` names its log and `place` where it stands in it: its number, or `@` and its first byte's offset.

    `offset` is that of its first byte. `row` counts the lines that say something where the log was read: neighbours differ by 1. `reasons` say why it was read: `bad`, `match`, `evidence`, `newest`.
    """

    label: str
    place: str
    offset: int
    row: int
    text: str
    at: datetime | None = None
    reasons: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """How it is cited."""
        return f"{self.label}:{self.place}"

    @property
    def shown(self) -> str:
        """As it is sent."""
        return f"{self.name} {self.text}"


class Fact(NamedTuple):
    """Something that is known beside the lines. `weight` is what it is worth whatever was asked: 1 for what is worth a look, 3 for what is urgent."""

    section: Section
    text: str
    weight: float


class Cluster(NamedTuple):
    """Lines that say the same but for numbers, ids and what is quoted; `sample` is the newest of them."""

    sample: Line
    number: int
    first: datetime | None

    @property
    def shown(self) -> str:
        since = f", since {moment(self.first)}" if self.first else ""
        return f"{self.number} times{since}: {self.sample.shown}" if self.number > 1 else self.sample.shown


class Picked(NamedTuple):
    """What was chosen: facts in the order of their sections, lines in the order of their logs, what was left out of each section, and the tokens of it all."""

    facts: tuple[Fact, ...]
    lines: tuple[Line, ...]
    left_out: dict[Section, int]
    tokens: int


Count = Callable[[str], int]
"""How many tokens a text is."""


def moment(at: datetime | None) -> str:
    """A time as it is shown: UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if at else "an unknown time"


def template(text: str) -> str:
    """What lines have in common that say the same again: `text` without numbers, ids, times and quoted words."""
    text = text[:_LOOKED_AT]
    return _VARIES.sub("#", text if text.startswith("{") else _QUOTED.sub("#", text))


def clustered(lines: Iterable[Line]) -> list[Cluster]:
    """The lines folded, what was seen most often first."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(template(line.text), []).append(line)
    found = [Cluster(_newest(group), len(group), min((one.at for one in group if one.at), default=None)) for group in groups.values()]
    return sorted(found, key=lambda one: (-one.number, -_stamp(one.sample)))


def pick(facts: Sequence[Fact], lines: Sequence[Line], terms: Sequence[Term], limit: int, count: Count) -> Picked:
    """Choose what matters for a question with these terms and is no more than `limit` tokens.

    Error lines become facts of the section `errors`, one for all that say the same. Sums of tokens are of texts by themselves: whoever joins
    them counts again.
    """
    lines = list({(line.label, line.offset): line for line in reversed(lines)}.values())
    clusters = clustered(line for line in lines if "bad" in line.reasons)
    facts = [*facts, *(Fact("errors", one.shown, 1 + math.log10(one.number)) for one in clusters)]
    scale = Scale(terms, (text.lower() for text in (*(fact.text for fact in facts), *(line.text for line in lines))))
    offers: dict[Section, list[_Offer]] = {section: [] for section in SHARES}
    for fact in facts:
        offers[fact.section].append(_Offer(fact.weight + scale.weigh(fact.text.lower()), (fact.text,), fact, ()))
    offers["lines"] = _passages(lines, clusters, scale)
    for offered in offers.values():
        offered.sort(key=lambda one: -one.weight)
    return _filled(offers, limit, count)


class _Offer(NamedTuple):
    weight: float
    texts: tuple[str, ...]
    fact: Fact | None
    lines: tuple[Line, ...]


def _passages(lines: Sequence[Line], clusters: Sequence[Cluster], scale: Scale) -> list[_Offer]:
    """Lines that matter, each with those round it; of those that say the same the newest alone."""
    by_place = {(line.label, line.row): line for line in lines}
    counts = {one.sample: one.number for one in clusters}
    newest = max((_stamp(line) for line in lines), default=0.0)
    offers = []
    for cluster in clustered(line for line in lines if line.reasons):
        line = cluster.sample
        weight = scale.weigh(line.text.lower()) if "match" in line.reasons else 0.0
        weight += 2.0 * ("evidence" in line.reasons) + (1 + math.log10(counts.get(line, 1))) * ("bad" in line.reasons)
        weight += 0.5 / (1 + max(0.0, newest - _stamp(line)) / 600)
        is_worth_more = not line.reasons <= {"newest"}
        span = range(line.row - BEFORE, line.row + AFTER + 1) if is_worth_more else (line.row,)
        near = tuple(by_place[key] for row in span if (key := (line.label, row)) in by_place)
        offers.append(_Offer(weight, tuple(one.shown for one in near), None, near))
    return offers


def _filled(offers: dict[Section, list[_Offer]], limit: int, count: Count) -> Picked:
    left = limit
    chosen: dict[Section, list[_Offer]] = {section: [] for section in offers}
    waiting: list[tuple[Section, _Offer]] = []
    taken: set[Line] = set()
    costs: dict[str, int] = {}

    def cost(offer: _Offer) -> int:
        texts = [line.shown for line in offer.lines if line not in taken] if offer.lines else offer.texts
        return sum(costs[text] if text in costs else costs.setdefault(text, count(text) + 1) for text in texts)

    def take(section: Section, offer: _Offer) -> None:
        chosen[section].append(offer)
        taken.update(offer.lines)

    for section, offered in offers.items():
        room = int(limit * SHARES[section])
        for number, offer in enumerate(offered):
            price = cost(offer)
            if price > min(room, left):
                waiting.extend((section, one) for one in offered[number:])
                break
            room, left = room - price, left - price
            take(section, offer)
    misses = 0
    for section, offer in sorted(waiting, key=lambda one: -one[1].weight):
        price = cost(offer) if misses < MOST_MISSES else left + 1
        if price > left:
            misses += 1
            continue
        left -= price
        take(section, offer)
    return Picked(
        tuple(offer.fact for offered in chosen.values() for offer in offered if offer.fact is not None),
        tuple(sorted(taken, key=lambda line: (line.label, line.offset))),
        {section: len(offers[section]) - len(chosen[section]) for section in offers if len(offers[section]) > len(chosen[section])},
        limit - left,
    )


MOST_MISSES = 20
"""After so many that did not fit in what is left, no more are tried."""


def without_the_least(picked: Picked) -> Picked:
    """The same with a twentieth less, the lightest facts or, where there are none, lines from the beginning: for what turned out to be too much when joined."""
    if not picked.facts and not picked.lines:
        return picked
    if picked.lines:
        dropped = max(1, len(picked.lines) // 20)
        left_out = {**picked.left_out, "lines": picked.left_out.get("lines", 0) + dropped}
        return picked._replace(lines=picked.lines[dropped:], left_out=left_out)
    least = min(picked.facts, key=lambda fact: fact.weight)
    facts = tuple(fact for fact in picked.facts if fact is not least)
    return picked._replace(facts=facts, left_out={**picked.left_out, least.section: picked.left_out.get(least.section, 0) + 1})


def _newest(lines: Sequence[Line]) -> Line:
    return max(lines, key=lambda line: (_stamp(line), line.offset))


def _stamp(line: Line) -> float:
    return line.at.timestamp() if line.at else 0.0
