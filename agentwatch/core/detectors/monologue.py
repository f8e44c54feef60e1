"""An agent that talks and does nothing."""

from collections.abc import Iterator
from zlib import crc32

from agentwatch.core.alerts import Finding, Reporter, Spot, milliseconds, span
from agentwatch.core.limits import Limits
from agentwatch.core.signatures import normalise_result, result_text
from agentwatch.core.state import Lane, Session, Talk
from agentwatch.model import Alert, Detail, Event, Status, decoded

SAME, MESSAGES = 3, 6
"""The same message so often, or so many messages, with no call between. Of 2,083 real sessions 13 had three different ones in a row, 9 six
or more, all of them true (detection.md, section 4)."""

PASSAGE, PASSAGES = 50, 10
"""One message in which a passage of so many characters stands so often goes round in itself."""

SPREAD = 5 * PASSAGE * PASSAGES
"""Within so many characters of each other: 50 apart on average, times five."""

UNREAD = 0
"""The first message's text is not looked at; it is taken to be that of the second."""

FEW = 4  # a ruler has no more different characters
LONG = 2000
"""Shorter messages are not looked at: they end soon."""

LONG_LINE = LONG + 200
MOST_CHARACTERS = 16_384
_LIST = "-*+|#>`0123456789.) \t"


class Monologue:
    """Told as a `tool_loop` of the tool `none`. Only messages without a call after them count: many agents comment on each call.

    Where an orchestrator logs what a console prints (`stream_type`), a line is no message.
    """

    def __init__(self, _limits: Limits, reporter: Reporter) -> None:
        self._reporter = reporter

    def spoke(self, session: Session, lane: Lane, event: Event, detail: Detail, place: int, out: list[Alert]) -> None:
        """A message that followed another, or a long one."""
        if detail.stream_type is not None:
            return
        talk = lane.talk
        before = talk.message if talk is not None else lane.said
        follows = before is not None and (not before or before != detail.msg_id)
        lane.said = detail.msg_id or ""
        size = len(detail.output)
        if not follows and size < LONG:
            return
        said = result_text(decoded(detail.output))[:MOST_CHARACTERS]
        if talk is None:
            talk = lane.talk = Talk(1, 1, UNREAD, before or lane.said, event.timestamp, place)
        if size >= LONG and goes_round(said):
            self._tell(session, talk, event, place, "passage", "repeats itself within one message", said, out, size=PASSAGES, crossed=True)
        if not follows:
            return
        text = normalise_result(said)
        digest = crc32(text.encode("utf-8", "surrogatepass"))
        if detail.msg_id is not None or detail.stop_reason is not None or detail.usage is not None or detail.cost_usd is not None:
            talk.count += 1  # else it may be a paragraph of the message before
        talk.same = talk.same + 1 if text and talk.text in (digest, UNREAD) else 1
        talk.text, talk.message = digest, lane.said
        what = "says the same again, {} times now, and calls no tool" if talk.same > 1 else "talks without calling a tool, {} messages so far"
        crossed = talk.same >= SAME or talk.count >= MESSAGES
        self._tell(session, talk, event, place, "messages", what, text, out, size=talk.count, crossed=crossed)

    def over(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        """It did something, its user spoke, or its turn ended."""
        talk, lane.talk, lane.said = lane.talk, None, None
        if talk is None or not session.episodes:
            return
        for what in ("messages", "passage"):
            key = _key(event, what)
            episode = session.episodes.get(f"tool_loop:{key}")
            if episode is not None:
                text = f"{session.attempt_id} stopped talking to itself after {episode.count} times in {span(event.timestamp - episode.opened_at)}"
                self._reporter.recover(session, _finding(key, talk, event, place, episode.count, text), out)

    def _tell(
        self, session: Session, talk: Talk, event: Event, place: int, what: str, how: str, text: str, out: list[Alert], *, size: int, crossed: bool
    ) -> None:
        key = _key(event, what)

        def describe(count: int, _status: Status) -> Finding:
            return _finding(key, talk, event, place, count, f"{session.attempt_id} {how.format(count)}: {text[:120]}")

        self._reporter.count(session, "tool_loop", key, event.timestamp, crossed=crossed, size=size, describe=describe, out=out)


def _key(event: Event, what: str) -> str:
    return f"{event.lane or ''}:monologue:{what}"


def _finding(key: str, talk: Talk, event: Event, place: int, count: int, summary: str) -> Finding:
    return Finding(
        type="tool_loop",
        key=key,
        at=event.timestamp,
        spots=[Spot(talk.first_at, talk.first_place, "the first of these messages"), Spot(event.timestamp, place, "the latest line")],
        summary=summary,
        detail={"tool_name": "none", "occurrences": count, "window_ms": milliseconds(event.timestamp - talk.first_at)},
        rule="monologue",
    )


def goes_round(text: str) -> bool:
    """Whether a passage stands in it too often. Code, tables and lists repeat themselves healthily and do not count."""
    return _repeats(text) and _repeats("".join(_prose(text)))


def _repeats(text: str) -> bool:
    for start in range(0, len(text) - PASSAGE, PASSAGE * PASSAGES - 2 * PASSAGE):
        passage = text[start : start + PASSAGE]
        if text.count(passage, max(0, start - SPREAD), start + SPREAD) >= PASSAGES and len(set(passage)) > FEW:
            return True
    return False


def _prose(text: str) -> Iterator[str]:
    for block in text.split("```")[::2]:
        for line in block.split("\n"):
            if line.strip(_LIST) == line.strip():
                yield " ".join(line.split())
