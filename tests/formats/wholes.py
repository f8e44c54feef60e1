"""What the tests of documents, folders and databases do alike: decode, restart between states, break a document."""

import json
import sqlite3
from datetime import UTC, datetime

import msgspec
from hypothesis import strategies as st

from agentwatch.formats.documents import Origin
from agentwatch.formats.registry import CONTAINERS
from tests.formats.harness import JSON_VALUES, members, plain

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
ORIGIN = Origin("folder/session.json", datetime(2026, 2, 9, 8, tzinfo=UTC), LONG_AGO)
NO_MEMORY = msgspec.Raw(b"null")


def told(name, said, memory=NO_MEMORY, origin=ORIGIN):
    """Say what a decoder makes of what is said, what it remembers then, and how much it understood."""
    decoder = CONTAINERS[name].decoder(memory, origin)
    events = []

    def feed(items):
        for event, at, line in items:
            data = {name: plain(value) for name in event.data.__struct_fields__ if (value := getattr(event.data, name)) not in (None, msgspec.Raw(b""))}
            marks = {"inferred": True} if event.inferred else {}
            stamp = event.timestamp.isoformat()
            events.append({"offset": at, "event_type": event.event_type, "attempt_id": event.attempt_id, "timestamp": stamp, **marks, "data": data})
            decoder.context(line)

    understood = decoder.read(said, feed, lambda at, kind, detail: events.append({"offset": at, "fault": kind}))
    return events, msgspec.Raw(msgspec.json.encode(decoder.memory)), understood


def asked(connection, questions):
    """What a database answers, its texts as bytes."""
    factory, connection.text_factory = connection.text_factory, bytes
    try:
        return [connection.execute(sql, parameters).fetchall() for sql, parameters in questions]
    finally:
        connection.text_factory = factory


class Watched:
    """A database and its reader, each look of which is a new decoder's; `events` are all that were told."""

    def __init__(self, name, origin, path=":memory:"):
        self.name = name
        self.origin = origin
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.memory = NO_MEMORY
        self.events = []

    def __del__(self):
        self.connection.close()

    def ask(self, questions):
        return asked(self.connection, questions)

    def look(self, origin=None):
        while True:
            events, self.memory, rows = told(self.name, self.ask, self.memory, origin or self.origin)
            self.events += events
            if not rows:
                return self


def rewritten(name, states, origin=ORIGIN):
    """Say what is told of one state of a document after the other, each by a new decoder."""
    events, memory = [], NO_MEMORY
    for state in states:
        more, memory, _ = told(name, state, memory, origin)
        events += more
    return events


def alike(events):
    """Sort events for comparison: in which order a reading finds them depends on when it looks."""
    return sorted(json.dumps(event, sort_keys=True) for event in events)


def faults(events):
    return [event["fault"] for event in events if "fault" in event]


@st.composite
def broken_documents(draw, document):
    """Break a real document: some values replaced or renamed, or some of its bytes."""
    if draw(st.booleans()):
        torn = bytearray(document)
        at = draw(st.integers(0, len(torn)))
        torn[at : at + draw(st.integers(0, 40))] = draw(st.binary(max_size=10))
        return bytes(torn)
    value = json.loads(document)
    for _ in range(draw(st.integers(1, 4))):
        places = list(members(value))
        if not places:
            break
        parent, key = places[draw(st.integers(0, len(places) - 1))]
        if draw(st.booleans()):
            parent[key] = draw(JSON_VALUES)
        elif isinstance(parent, dict):
            parent[f"{key}2"] = parent.pop(key)
    return json.dumps(value).encode()
