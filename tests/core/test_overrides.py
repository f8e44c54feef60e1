"""Thresholds that hold for one executor or project alone."""

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from agentwatch.core.engine import Engine, Snapshot
from agentwatch.core.limits import Limits, Override
from agentwatch.formats.canonical import Decoder

START = datetime(2026, 2, 9, 10, tzinfo=UTC)
LIMITS = Limits(
    overrides=(
        Override(executor="codex", limits={"stuck": timedelta(minutes=20), "error_loop_threshold": 2}),
        Override(project="/srv/*", limits={"error_loop_threshold": 3}),
        Override(project="/srv/noisy", limits={"off": frozenset({"error_loop"})}),
    )
)


def lines(*, errors=4, **who):
    for second in range(errors):
        at = (START + timedelta(seconds=second)).isoformat()
        yield json.dumps({"timestamp": at, "attempt_id": "a1", "event_type": "error", "data": {"error_fingerprint": "x"}} | who).encode() + b"\n"


def told(lines, *, restarts=False, until=None):
    engine, decoder, out = Engine(LIMITS, lambda *_: None), Decoder(), []
    for line in lines:
        decoder.read([line], 0, lambda items, engine=engine: engine.feed("log", "", items, decoder, out), pytest.fail)
        if restarts:
            engine = Engine(LIMITS, lambda *_: None, msgspec.json.decode(msgspec.json.encode(engine.snapshot()), type=Snapshot))
    engine.finish(until, out)
    return [(alert.type, alert.detail.get("occurrences")) for alert in out]


WHO = {
    "nobody in particular": ({}, [("error_loop", 4)]),
    "an executor, whatever its case": ({"executor": "CODEX"}, [("error_loop", 2)]),
    "another executor": ({"executor": "codex-2"}, [("error_loop", 4)]),
    "a project": ({"project_id": "/srv/shop"}, [("error_loop", 3)]),
    "both: the later rule": ({"executor": "codex", "project_id": "/srv/shop"}, [("error_loop", 3)]),
    "a project that wants to hear nothing": ({"project_id": "/srv/noisy"}, []),
}


@pytest.mark.parametrize("restarts", [False, True], ids=["in one go", "with a restart after each line"])
@pytest.mark.parametrize(("who", "expected"), WHO.values(), ids=WHO.keys())
def test_an_attempt_is_judged_by_what_was_set_for_it(who, expected, restarts):
    """Patterns as a shell's; what is set later stands above."""
    assert told(lines(**who), restarts=restarts) == expected


@pytest.mark.parametrize(("executor", "after"), [("codex", timedelta(minutes=20)), ("claude", timedelta(minutes=5))])
def test_silence_is_judged_by_it_too(executor, after):
    """To the second."""
    log = list(lines(errors=1, executor=executor))
    assert told(log, until=START + after) == []
    assert [kind for kind, _ in told(log, until=START + after + timedelta(seconds=1))] == ["stuck_agent"]
