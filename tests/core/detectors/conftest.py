"""A log in a few words, and what is told of it."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from agentwatch.core.engine import Engine
from agentwatch.core.limits import Limits
from agentwatch.formats.canonical import Decoder

START = datetime(2026, 2, 9, 10, tzinfo=UTC)


class Log:
    """Lines of one attempt, a second apart unless `wait` says otherwise."""

    def __init__(self):
        self.lines = []
        self.at = START
        self.calls = 0

    def wait(self, seconds):
        self.at += timedelta(seconds=seconds)
        return self

    def add(self, kind, lane=None, **data):
        marks = {"lane": lane} if lane else {}
        self.lines.append(json.dumps({"timestamp": self.at.isoformat(), "attempt_id": "a1", "event_type": kind, "data": data} | marks).encode() + b"\n")
        return self.wait(1)

    def call(self, name="Bash", params="ls -l", lane=None, **data):
        """A call of which the result is still to come; `params` may be the command alone."""
        self.calls += 1
        given = {"command": params} if isinstance(params, str) else params
        return self.add("tool_call", lane, tool_name=name, tool_params=given, tool_call_id=f"c{self.calls}", **data)

    def result(self, text="total 0", number=None, lane=None, **data):
        return self.add("tool_result", lane, tool_call_id=f"c{number or self.calls}", result=text, **data)

    def both(self, name="Bash", params="ls -l", text="total 0", lane=None, **data):
        return self.call(name, params, lane).result(text, lane=lane, **data)

    def alerts(self, *, until=None, limits=None):
        """All of them, silence ending with the log or at `until`."""
        decoder, out, faults = Decoder(), [], []
        engine = Engine(limits or Limits(), lambda *_: None, None, faults.append)
        decoder.read(self.lines, 0, lambda items: engine.feed("log", "", items, decoder, out), lambda *fault: faults.append(fault))
        engine.finish(until, out)
        assert not faults
        return out

    def watched(self, times, *, limits=None):
        """All of them, as one who looks at these times after the last line tells them."""
        decoder, out = Decoder(), []
        engine = Engine(limits or Limits(), lambda *_: None, None, pytest.fail)
        decoder.read(self.lines, 0, lambda items: engine.feed("log", "", items, decoder, out), pytest.fail)
        for now in times:
            engine.tick(now, out)
        return out

    def told(self, **more):
        return [(alert.type, str(alert.status)) for alert in self.alerts(**more)]

    def starts(self, kind, **more):
        """How many episodes of a type were opened."""
        return self.told(**more).count((kind, "open"))


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def new_log():
    return Log
