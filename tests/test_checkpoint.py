"""The checkpoint: everything or nothing, and never a reason not to start."""

import os
import shutil
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch import checkpoint
from agentwatch.checkpoint import NAME, Checkpoint, FaultCount
from agentwatch.core.engine import Scope, Snapshot
from agentwatch.core.recordings import Recording
from agentwatch.core.state import Cycle, Episode, Failure, Failures, Lane, Ledger, Limited, Loops, Same, Session, Talk, Window
from agentwatch.model import NO_MEMORY, AlertPosition, Context, Cursor, Data, Event, Fault

AT = datetime(2026, 2, 9, 10, 0, 0, 123456, tzinfo=UTC)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
TIMES = st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis wants naive bounds
PLACES = st.integers(0, 2**62)
RAW = st.recursive(st.none() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=5).map(
    lambda value: msgspec.Raw(msgspec.json.encode(value))
)
WINDOWS = st.builds(Window, st.lists(TIMES, max_size=4), st.lists(PLACES, max_size=4))
CALLS = st.builds(Event, TIMES, TEXT, st.just("tool_call"), st.builds(Data, tool_name=st.none() | TEXT, tool_params=RAW))
TURNS = PLACES | TEXT
SAME = st.builds(Same, PLACES, PLACES, PLACES, TURNS, TIMES, PLACES)
LOOPS = st.builds(
    Loops,
    PLACES,
    PLACES,
    PLACES,
    TURNS,
    st.lists(PLACES, max_size=3),
    st.dictionaries(PLACES, SAME, max_size=2),
    cycle=st.none() | st.builds(Cycle, PLACES, PLACES, PLACES, TIMES, PLACES, st.booleans()),
    told=st.dictionaries(TEXT, PLACES, max_size=2),
)
FAILURE = st.builds(Failure, TEXT, PLACES, TURNS, TIMES, PLACES, st.booleans())
FAILURES = st.builds(Failures, st.dictionaries(TEXT, FAILURE, max_size=2), PLACES, PLACES, PLACES, TURNS, storm=st.none() | FAILURE)
LANES = st.builds(
    Lane,
    tools=st.none() | st.dictionaries(TEXT, WINDOWS, max_size=3),
    errors=st.none() | st.dictionaries(TEXT, WINDOWS, max_size=3),
    call=st.none() | CALLS,
    is_open=st.booleans(),
    open_calls=st.none() | st.dictionaries(TEXT, CALLS, max_size=3),
    recent=st.binary(max_size=8),
    loops=st.none() | LOOPS,
    failures=st.none() | FAILURES,
    said=st.none() | TEXT,
    talk=st.none() | st.builds(Talk, PLACES, PLACES, PLACES, TEXT, TIMES, PLACES),
    last_failure=st.none() | TEXT,
    owes=st.sampled_from(["model", "user", "leave"]),
)
USD = st.floats(0, 1e12)
EPISODES = st.builds(Episode, TEXT, TIMES, TIMES, st.integers(0, 2**53), st.integers(0, 2**53), TIMES, USD, USD, st.integers(0, 9), st.booleans())
SESSIONS = st.builds(
    Session,
    TEXT,
    TEXT,
    st.builds(Context, session_id=st.none() | TEXT, task_title=st.none() | TEXT),
    TIMES,
    PLACES,
    TIMES,
    TIMES,
    LANES,
    lanes=st.none() | st.dictionaries(TEXT, LANES, max_size=2),
    rich=st.booleans(),
    cost_usd=USD,
    limited=st.none() | st.builds(Limited, TEXT, PLACES, TIMES, PLACES, st.booleans(), st.none() | TIMES),
    lanes_usd=st.none() | st.dictionaries(TEXT, USD, max_size=2),
    tokens=st.integers(0, 2**53),
    restarts=st.none() | WINDOWS,
    episodes=st.none() | st.dictionaries(TEXT, EPISODES, max_size=3),
    excused=st.timedeltas(timedelta(-9), timedelta(9)),
    excused_at=st.none() | TIMES,
)
CHECKPOINTS = st.builds(
    Checkpoint,
    alerts=st.builds(AlertPosition, PLACES, PLACES, st.lists(TEXT, max_size=3)),
    cursors=st.lists(
        st.builds(
            Cursor,
            TEXT,
            TEXT,
            TEXT,
            PLACES,
            format=st.none() | TEXT,
            memory=RAW.map(lambda raw: NO_MEMORY if raw == NO_MEMORY else raw),
            skipping=st.booleans(),
        ),
        max_size=3,
    ),
    engine=st.builds(
        Snapshot,
        st.dictionaries(TEXT, st.builds(Scope, st.dictionaries(TEXT, SESSIONS, max_size=2)), max_size=2),
        st.dictionaries(TEXT, st.lists(st.builds(Recording, TEXT, TEXT, TIMES, st.none() | TIMES), max_size=2), max_size=2),
        st.builds(Ledger, st.dictionaries(TEXT, USD, max_size=2), st.dictionaries(TEXT, PLACES, max_size=2)),
    ),
    events=PLACES,
    alerts_by_type=st.dictionaries(TEXT, PLACES, max_size=3),
    faults=st.lists(st.builds(FaultCount, st.builds(Fault, TEXT, PLACES, TEXT, TEXT), PLACES), max_size=3),
)


def test_it_is_written_in_pieces(tmp_path):
    """More of everything than goes into one."""
    count = 2 * checkpoint.BATCH + 1
    sessions = {f"a{n}": Session(f"a{n}", "log", Context(), AT, n, AT, AT, Lane()) for n in range(count)}
    saved = Checkpoint(
        cursors=[Cursor(f"s{n}", "path", "head", n) for n in range(count)],
        engine=Snapshot({"": Scope(sessions), "run": Scope(), "other": Scope({"a": sessions["a1"]}, {}, {})}),
    )
    checkpoint.save(tmp_path, saved)
    loaded, problem = checkpoint.load(tmp_path)
    assert problem is None
    assert msgspec.json.encode(loaded) == msgspec.json.encode(saved)


@given(saved=CHECKPOINTS)
@settings(deadline=None, max_examples=60)
def test_what_was_saved_is_what_is_loaded(tmp_path_factory, saved):
    """All of it, whatever the texts."""
    directory = tmp_path_factory.mktemp("state")
    checkpoint.save(directory, saved)
    loaded, problem = checkpoint.load(directory)
    assert problem is None
    assert msgspec.json.encode(loaded) == msgspec.json.encode(saved)
    assert [entry.name for entry in directory.iterdir()] == [NAME]


WEIRD = {
    "no UTF-8": b'{"a":"\xff\xfe\xc3"}',
    "half a pair of surrogates": rb'{"a":"\ud800"}',
    "an unknown escape": rb'{"a":"\u12"}',
    "nested deeply": b"[" * 900 + b"]" * 900,
    "a number without end": b"9" * 4000,
    "zeros": b'"\\u0000\\u0000"',
}


@pytest.mark.parametrize("raw", WEIRD.values(), ids=WEIRD.keys())
def test_parameters_that_are_kept_as_they_stand_do_not_spoil_it(tmp_path, raw):
    """They were skipped, not read, when the log's line was decoded; so they are here."""
    decoder = msgspec.json.Decoder(Event)
    line = b'{"timestamp":"2026-02-09T10:00:00Z","attempt_id":"a","event_type":"tool_call","data":{"tool_params":' + raw + b"}}"
    try:
        event = decoder.decode(line)
    except msgspec.MsgspecError:
        pytest.skip("the strict decoder does not let it in")
    lane = Lane(call=event, open_calls={"c": event})
    session = Session("a", "log", Context(), AT, 1, AT, AT, lane)
    checkpoint.save(tmp_path, Checkpoint(engine=Snapshot({"": Scope({"a": session})})))
    loaded, problem = checkpoint.load(tmp_path)
    assert problem is None
    assert bytes(loaded.engine.scopes[""].sessions["a"].main.call.data.tool_params) == raw


def test_there_need_not_be_one(tmp_path):
    """The first start."""
    assert checkpoint.load(tmp_path) == (None, None)


def body_of(**fields):
    body = msgspec.json.encode({"version": checkpoint.VERSION} | fields)
    return checkpoint._sum(body) + b"\n" + body


DAMAGED = {
    "empty": (b"", "checksum"),
    "zeros": (b"\0" * 300, "checksum"),
    "cut": (body_of()[:-1], "checksum"),
    "a byte more": (body_of() + b" ", "checksum"),
    "a bit flipped": (body_of().replace(b"version", b"versioo"), "checksum"),
    "no line": (b"x" * 100, "checksum"),
    "older": (body_of(version=0), "an older agentwatch: version 0"),
    "newer": (body_of(version=99), "a newer agentwatch: version 99"),
    "newer, of another shape": (body_of(version=99, cursors={}), "a newer agentwatch: version 99"),
    "of another directory": (body_of(place={"path": "/elsewhere/.agentwatch", "device": 1, "inode": 1}), "copied from `/elsewhere/.agentwatch`"),
    "of another type": (body_of(cursors=[{"source": 1}]), "read"),
    "no object": (checkpoint._sum(b"[]") + b"\n[]", "read"),
    "no JSON": (checkpoint._sum(b"hello") + b"\nhello", "read"),
    "no UTF-8": (checkpoint._sum(b'{"alerts_by_type":{"\xff":1}}') + b'\n{"alerts_by_type":{"\xff":1}}', "read"),
    "nested beyond sense": ((deep := b'{"cursors":' + b"[" * 100_000) and checkpoint._sum(deep) + b"\n" + deep, "read"),
    "nested in what is not read": (
        (deep := b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}") and checkpoint._sum(deep) + b"\n" + deep,
        "read",
    ),
}


@pytest.mark.parametrize(("data", "why"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_one_is_set_aside_and_named(tmp_path, data, why):
    """It is kept for whoever wants to know; the start goes on without it, and so does the next."""
    (tmp_path / NAME).write_bytes(data)
    loaded, problem = checkpoint.load(tmp_path)
    assert loaded is None
    assert why in problem
    assert (tmp_path / f"{NAME}.bad").read_bytes() == data
    assert checkpoint.load(tmp_path) == (None, None)


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.none() | st.integers(0, 10_000))
@settings(deadline=None)
def test_no_damage_goes_unnoticed(tmp_path_factory, at, bit, cut):
    """One bit, anywhere, or an end anywhere."""
    directory = tmp_path_factory.mktemp("state")
    checkpoint.save(directory, Checkpoint(events=7, faults=[FaultCount(Fault("log", 1, "not_json"))]))
    data = bytearray((directory / NAME).read_bytes())
    if cut is None:
        data[at % len(data)] ^= 1 << bit
    else:
        del data[cut % len(data) :]
    (directory / NAME).write_bytes(data)
    loaded, problem = checkpoint.load(directory)
    assert loaded is None
    assert problem


def test_one_that_was_copied_with_its_directory_is_not_used(tmp_path):
    """The copies of the logs would be judged on top of what is remembered of the originals; after a move nothing is judged twice."""
    (tmp_path / "one").mkdir()
    checkpoint.save(tmp_path / "one", Checkpoint(events=7))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "one").rename(tmp_path / "three")
    assert checkpoint.read(tmp_path / "three")[0].events == 7
    assert checkpoint.read(tmp_path / "two") == (None, f"it was copied from `{tmp_path / 'one'}`")


def test_the_name_of_its_directory_may_be_no_text(tmp_path):
    """File names are bytes."""
    directory = tmp_path / os.fsdecode(b"caf\xe9")
    directory.mkdir()
    checkpoint.save(directory, Checkpoint(events=7))
    assert checkpoint.load(directory)[0].events == 7


def test_fields_that_are_not_known_are_ignored(tmp_path):
    """A newer program of the same version of the file may have added some."""
    (tmp_path / NAME).write_bytes(body_of(events=7, tomorrow=[1]))
    loaded, problem = checkpoint.load(tmp_path)
    assert (loaded.events, problem) == (7, None)


def test_one_that_cannot_be_opened_is_named(tmp_path):
    """A directory in its place, for one."""
    (tmp_path / NAME).mkdir()
    loaded, problem = checkpoint.load(tmp_path)
    assert loaded is None
    assert "directory" in problem.lower()


def test_half_a_save_leaves_the_old_one(tmp_path, monkeypatch):
    """The disk is full: the error passes through, what was there stands."""
    checkpoint.save(tmp_path, Checkpoint(events=1))

    def full(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, Checkpoint(events=2))
    monkeypatch.undo()
    assert checkpoint.load(tmp_path)[0].events == 1


def test_a_file_left_over_from_a_crash_is_overwritten(tmp_path):
    """The half-written new one of a process that was killed."""
    (tmp_path / f"{NAME}.new").write_bytes(b"half")
    checkpoint.save(tmp_path, Checkpoint(events=2))
    assert checkpoint.load(tmp_path)[0].events == 2


def test_only_the_owner_reads_it(tmp_path):
    """Prompts stand in it."""
    checkpoint.save(tmp_path, Checkpoint())
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
