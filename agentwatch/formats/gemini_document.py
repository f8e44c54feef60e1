"""Gemini CLI's sessions as it wrote them before 0.39: one JSON document, rewritten at every change. Its messages are those of the later logs.

Facts, traps and omissions stand in `README.md` beside this file, under Gemini CLI.
"""

from collections.abc import Callable
from hashlib import blake2b

import msgspec

from agentwatch.formats import gemini
from agentwatch.formats.documents import Elements, Origin, changing, element, parsed
from agentwatch.formats.shared import Faults, Feed, Silent
from agentwatch.model import NOTHING, Context, Time

NAME = "gemini-document"


class _Document(msgspec.Struct, gc=False, rename="camel"):
    session_id: str | None = None
    project_hash: str | None = None
    start_time: str | None = None
    messages: list[msgspec.Raw] = []


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    timestamp: msgspec.Raw = NOTHING


class Told(msgspec.Struct):
    """A message as it was when it was told last."""

    digest: str = ""


class Memory(Elements):
    """What was told of one document, and what the decoder of its messages remembers."""

    session: str = ""
    told: dict[str, Told] = msgspec.field(default_factory=dict)
    messages: gemini.Memory = msgspec.field(default_factory=gemini.Memory)


class Decoder(Silent):
    """Decodes one document. Continue it in another process by giving `memory` to a new one."""

    name = NAME

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory or Memory()
        self._messages = gemini.Decoder(self.memory.messages)

    @property
    def place(self) -> int:
        return self.memory.count

    def read(self, document: bytes, feed: Feed, fault: Faults) -> int | None:
        """Tell what is new; the place of an event is the index of its message, and 0 that of the session's start. See `documents.Whole`."""
        said = parsed(document, _decode, _Document)
        if said is None:
            return None
        if not said.session_id or not said.project_hash:
            fault(0, "unrecognised", "no session of Gemini CLI: `sessionId` or `projectHash` is missing")
            return 0
        if said.session_id != self.memory.session:
            self.memory = Memory(session=said.session_id)
            self._messages = gemini.Decoder(self.memory.messages)
            head = {"sessionId": said.session_id, "projectHash": said.project_hash, "startTime": said.start_time}
            self._messages.read([msgspec.json.encode(head)], 0, feed, fault)
        looked_at = 0
        for index, line, state in changing(self.memory, self.memory.told, Told, [bytes(raw) for raw in said.messages], _identify):
            digest = blake2b(line, digest_size=8).hexdigest()
            if state.digest != digest:
                state.digest = digest
                looked_at += 1
                self._messages.read([line], index, feed, fault)
        return looked_at

    def context(self, line: bytes) -> Context:
        return self._messages.context(line)


def decoder(memory: msgspec.Raw, _origin: Origin) -> Decoder:
    """Continue a document."""
    return Decoder(msgspec.json.decode(memory, type=Memory | None))


def _identify(index: int, line: bytes) -> tuple[str, float]:
    _, message = element(line, _decode_message, _Message)
    try:
        time = _decode_time(message.timestamp).timestamp() if message.timestamp else 0.0
    except (msgspec.MsgspecError, ValueError, OverflowError):
        time = 0.0
    return message.id or str(index), time


_decode: Callable[[bytes], _Document] = msgspec.json.Decoder(_Document).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_time = msgspec.json.Decoder(Time).decode
