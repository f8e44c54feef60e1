"""The store of sessions: each row once, beside the lines of the logger."""

import errno
import fcntl
import json
import os
import resource
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from agentwatch.core.metrics import Loops, Metrics, Row
from agentwatch.logger import AgentLogger, append
from agentwatch.store import metrics_log
from agentwatch.store.metrics_log import NAME, MetricsLog

AT = datetime(2026, 2, 9, 10, tzinfo=UTC)


def row(attempt_id, *, at=AT, errors=0, **fields):
    return Row(timestamp=at, attempt_id=attempt_id, started_at=AT - timedelta(minutes=1), format="canonical", metrics=Metrics(errors=errors), **fields)


@pytest.fixture
def path(tmp_path):
    return tmp_path / NAME


def attempts(path):
    return [json.loads(line)["attempt_id"] for line in path.read_bytes().splitlines()]


def opened(path, position=None):
    return MetricsLog(path, position, append)


def test_rows_stand_in_the_file_in_their_order(path):
    """Each a line that a program can read, for its owner alone."""
    log = opened(path)
    assert log.write([row("a"), row("b")]) == 2
    assert log.write([]) == 0
    log.sync()
    assert attempts(path) == ["a", "b"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_bytes().splitlines()[0])["metrics"]["tokens"]["input"] == 0


def test_what_was_written_after_the_checkpoint_is_not_written_twice(path):
    """Made again after a crash, in any order, one new among them."""
    log = opened(path)
    log.write([row("a")])
    position = log.position()
    log.write([row("b"), row("c")])
    again = opened(path, position)
    assert again.write([row("c"), row("d"), row("b")]) == 1
    assert attempts(path) == ["a", "b", "c", "d"]


def test_what_stands_in_rotated_files_is_not_written_again_by_who_remembers_nothing(path):
    """Nor by one whose place was in a file that is gone; who knows its place does not look at them."""
    old = path.with_name("old")
    opened(old).write([row("a"), row("b")])
    AgentLogger("c", log_dir=old.parent / "logger").end("success")
    position = opened(old).position()
    older = [*old.read_bytes().splitlines(keepends=True), *(old.parent / "logger" / NAME).read_bytes().splitlines(keepends=True)]
    told = msgspec.json.decode(older[-1], type=Row).timestamp
    for place in (None, position):
        path.unlink(missing_ok=True)
        log = MetricsLog(path, place, append, lambda: older)
        assert log.write([row("b"), row("c", at=told), row("d"), row("a")]) == 1
        assert attempts(path) == ["d"]
    log.caught_up()
    assert MetricsLog(path, log.position(), append, pytest.fail).write([row("e")]) == 1


def test_a_second_crash_before_all_was_made_again_costs_nothing(path):
    """A checkpoint is saved at the start, when nothing of what the last crash left behind was made again."""
    first = opened(path)
    first.write([row("a"), row("b")])
    second = opened(path)
    assert second.write([row("a"), row("c")]) == 1
    third = opened(path, second.position())
    assert third.write([row("b"), row("c"), row("d")]) == 1
    assert attempts(path) == ["a", "b", "c", "d"]
    third.caught_up()
    assert third.write([row("a")]) == 0
    assert third.position().size == path.stat().st_size


@pytest.mark.parametrize("lose", ["checkpoint", "file", "both"])
def test_whatever_is_lost_no_row_is_written_twice(path, lose):
    """Without a checkpoint all that stands in the file counts; a new file begins empty."""
    log = opened(path)
    log.write([row("a")])
    position = None if lose in ("checkpoint", "both") else log.position()
    if lose != "checkpoint":
        path.rename(path.with_name(f"{NAME}.1"))
    again = opened(path, position)
    assert again.write([row("a"), row("b")]) == (1 if lose == "checkpoint" else 2)


def test_a_file_that_was_rotated_meanwhile_is_begun_anew(path):
    """The next row meets the new file."""
    log = opened(path)
    log.write([row("a")])
    path.rename(path.with_name("agent-metrics-20260209T100000.jsonl"))
    log.write([row("b")])
    log.sync()
    assert attempts(path) == ["b"]


def told(path, attempt_id, *, errors=0):
    """What the logger writes of a session, and when."""
    with AgentLogger(attempt_id, log_dir=path.parent) as agent:
        for number in range(errors):
            agent.error(f"boom {number}")
    return datetime.now(UTC)


@pytest.mark.parametrize("when", ["before", "between"])
def test_what_the_logger_told_is_not_told_again(path, when):
    """Whether its line stood there when the log was opened, or came while we watched."""
    log = None if when == "before" else opened(path)
    at = told(path, "a", errors=2)
    log = log or opened(path)
    assert log.write([row("a", at=at, errors=2), row("b", at=at)]) == 1
    assert attempts(path) == ["a", "b"]


def test_more_than_the_logger_told_is_told(path):
    """Another session of the attempt, errors that were no `error` events, what loops and silences cost."""
    log = opened(path)
    at = told(path, "a")
    log.write([row("a", at=at - timedelta(hours=1)), row("a", at=at, errors=3), row("a", at=at, loops=Loops(5, 1.0, 60)), row("a", at=at, stuck_ms=5)])
    assert attempts(path) == ["a"] * 5


def test_it_does_not_write_through_a_link(path, tmp_path):
    """Who may write to a shared directory could lead us to any file."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        opened(path).write([row("a")])
    assert victim.read_text() == "mine"


def test_a_disk_that_says_no_loses_nothing(path):
    """The rows are the caller's until they are written."""
    log = opened(path)
    os.mkdir(path)  # noqa: PTH102
    with pytest.raises(OSError):  # noqa: PT011
        log.write([row("a")])
    path.rmdir()
    assert log.write([row("a")]) == 1


@pytest.fixture
def room():
    """Lets files grow to a size, as a disk does that is nearly full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("before", [b"", b'{"attempt_id":"the'])
def test_a_full_disk_leaves_no_part_of_a_row(path, room, before):
    """What it took is taken back, all rows of one call, and they count as not written."""
    path.write_bytes(before)
    log = opened(path)
    room(len(before) + 1000)
    with pytest.raises(OSError, match="File too large"):
        log.write([row(f"a-{number}") for number in range(50)])
    assert path.read_bytes() == before
    room(resource.RLIM_INFINITY)
    assert log.write([row(f"a-{number}") for number in range(50)]) == 50
    assert len(path.read_bytes().removeprefix(before + b"\n").splitlines()) == 50


def test_what_another_has_written_behind_it_is_never_cut(path):
    """A full disk takes the short line of another writer, who knows nothing of locks, behind our torn one."""

    def torn(to, data):
        to.write_bytes(data[:100] + b'\n{"attempt_id":"theirs"}\n')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        MetricsLog(path, None, torn).write([row("a")])
    assert path.read_bytes().endswith(b'\n{"attempt_id":"theirs"}\n')


def test_many_lines_are_written_some_at_a_time(path, room, monkeypatch):
    """A disk that fills up meanwhile has whole lines, each of which is known when they come again."""
    monkeypatch.setattr(metrics_log, "BATCH_BYTES", 500)
    told(path, "a-3")
    lines = [msgspec.json.encode(row(f"a-{number}", at=datetime.now(UTC) if number == 3 else AT)) + b"\n" for number in range(30)]
    room(path.stat().st_size + 3000)
    with pytest.raises(OSError, match="File too large"):
        opened(path).write_lines(lines)
    kept = attempts(path)
    assert 5 < len(kept) < 20
    room(resource.RLIM_INFINITY)
    assert opened(path).write_lines(lines) == 30 - len(kept)
    assert sorted(attempts(path)) == sorted(f"a-{number}" for number in range(30))


def test_what_a_kill_has_left_of_a_row_is_taken_back_when_it_is_made_again(path):
    """The kernel stops a long write where the kill meets it."""
    opened(path).write([row("a"), row("b")])
    whole = path.read_bytes()
    for left in (1, 40, len(whole) - 1):
        path.write_bytes(whole[:left])
        assert opened(path).write([row("a"), row("b")]) == (2 if left < len(whole) // 2 else 1)
        assert path.read_bytes() == whole


def test_half_a_line_of_a_killed_writer_costs_nothing_but_itself(path):
    """It is closed, and the next row is whole."""
    path.write_bytes(b'{"attempt_id":"the')
    opened(path).write([row("a")])
    assert path.read_bytes().splitlines()[1].startswith(b'{"timestamp"')


def test_what_stood_already_is_not_written_when_the_disk_is_full_for_a_while(path):
    """A row that was made again beside a new one, which could not be written at first."""
    opened(path).write([row("a")])
    is_full = True

    def limited(to, data):
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(to, data)

    log = MetricsLog(path, None, limited)
    with pytest.raises(OSError, match="No space"):
        log.write([row("a"), row("b")])
    is_full = False
    assert log.write([row("a"), row("b")]) == 1
    assert attempts(path) == ["a", "b"]


def test_whole_lines_of_a_write_that_failed_are_not_written_again(path):
    """The disk was full after the second of three, and somebody held the lock, so that nothing could be taken back."""
    append(path, b'{"attempt_id":"logger"}\n')

    def limited(to, data):
        append(to, data[: data.rindex(b"{", 0, data.rindex(b'"attempt_id"'))])
        raise OSError(errno.ENOSPC, "No space left on device")

    rows = [row("a"), row("b"), row("c")]
    log = MetricsLog(path, None, limited)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        with pytest.raises(OSError, match="No space"):
            log.write(rows)
    log._append = append
    log.write(rows)
    assert attempts(path) == ["logger", "a", "b", "c"]


def test_a_write_that_failed_after_a_rotation_leaves_the_new_file_alone(path):
    """Nothing of it stands there that could be taken back."""
    append(path, b"{}\n" * 100)

    def rotated(to, _data):
        to.rename(to.with_name("old"))
        to.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        MetricsLog(path, None, rotated).write([row("a")])
    assert path.read_bytes() == b""


def test_what_another_of_ours_wrote_meanwhile_is_not_written_again(path):
    """A rebuild beside the daemon: whoever comes second knows it, and neither takes its own lines for those of another."""
    daemon, rebuild = opened(path), opened(path)
    daemon.write([row("a")])
    assert rebuild.write_lines([msgspec.json.encode(row(name)) + b"\n" for name in "abc"]) == 2
    assert daemon.write([row("b"), row("d")]) == 1
    assert attempts(path) == ["a", "b", "c", "d"]
    daemon.caught_up()
    assert opened(path, daemon.position()).write([row("e")]) == 1


def test_a_file_that_is_rotated_while_the_older_ones_are_read_is_known(path):
    """It was none of them when they were listed."""
    opened(path).write([row("a")])

    def older():
        path.rename(path.with_name("old"))
        return ()

    assert MetricsLog(path, None, append, older).write([row("a"), row("b")]) == 1
    assert attempts(path) == ["b"]


def test_a_row_that_waited_in_a_checkpoint_is_the_one_that_was_written(path):
    """A round number of milliseconds is read as one with a fraction, which has other bytes."""
    first = row("a")
    first.metrics.duration_ms = 4000
    opened(path).write([first])
    waited = msgspec.json.decode(msgspec.json.encode(first), type=Row)
    assert opened(path).write([waited]) == 0
