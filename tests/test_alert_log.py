"""The alert log: each alert once, whatever happened to the file or to the process."""

import errno
import gzip
import json
import os
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch import alert_log
from agentwatch.alert_log import NAME, AlertLog, as_line
from agentwatch.errors import StorageError
from agentwatch.model import Alert, AlertPosition, Evidence, Severity, Status

AT = datetime(2026, 2, 9, 10, tzinfo=UTC)


def alert(number, text="text"):
    evidence = (Evidence("log.jsonl", 7, AT, text),)
    return Alert(
        AT, f"{number:016x}", "error_loop", Severity.HIGH, "a1", "trigger_ai_autofix", "summary", evidence, f"{number:016x}", Status.OPEN, {"occurrences": 4}
    )


def give_up(error):
    raise error


def opened(path, position=None, wait=give_up):
    return AlertLog(path, position, wait)


def numbers(path):
    return [int(json.loads(line)["alert_id"], 16) for line in path.read_bytes().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / NAME


def test_alerts_stand_in_the_file_in_their_order(path):
    """Each a line, readable by its owner alone."""
    log = opened(path)
    assert log.append([alert(1), alert(2)]) == 2
    assert log.append([]) == 0
    assert log.append([alert(3)]) == 1
    assert numbers(path) == [1, 2, 3]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_written_after_the_checkpoint_is_not_written_twice(path):
    """Made again with the same ids after a crash, in any order, one new among them."""
    log = opened(path)
    log.append([alert(1)])
    position = log.position()
    log.append([alert(2), alert(3)])
    again = opened(path, position)
    assert again.append([alert(3), alert(4), alert(2)]) == 1
    assert numbers(path) == [1, 2, 3, 4]


def test_ids_that_were_not_made_again_yet_are_remembered_by_the_next_checkpoint(path):
    """A second crash before all is read again."""
    log = opened(path)
    position = log.position()
    log.append([alert(1), alert(2), alert(3)])
    second = opened(path, position)
    second.append([alert(1)])
    position = second.position()
    assert set(position.pending) == {f"{n:016x}" for n in (2, 3)}
    third = opened(path, position)
    assert third.append([alert(2), alert(3), alert(4)]) == 1
    assert numbers(path) == [1, 2, 3, 4]
    assert third.position().pending == []


def test_without_a_checkpoint_all_that_stands_there_counts(path):
    """Also what was rotated away."""
    opened(path).append([alert(1)])
    path.rename(path.with_name(f"{NAME}.1"))
    opened(path).append([alert(2)])
    assert opened(path).append([alert(1), alert(2), alert(3)]) == 1


SIBLINGS = {
    "agent-alerts.jsonl.1": bytes,
    "agent-alerts.jsonl.2.gz": gzip.compress,
    "agent-alerts-20260209.jsonl": bytes,
    "agent-alerts-20260208.jsonl.gz": gzip.compress,
    "agent-alerts.jsonl-20260207.gz": gzip.compress,
}


@pytest.mark.parametrize(("name", "pack"), SIBLINGS.items(), ids=SIBLINGS.keys())
def test_without_a_checkpoint_what_was_rotated_away_counts_too(path, name, pack):
    """Under each name that logrotate gives, compressed or not."""
    path.with_name(name).write_bytes(pack(as_line(alert(1)) + as_line(alert(2))))
    log = opened(path)
    assert log.append([alert(1), alert(2), alert(3)]) == 1
    assert numbers(path) == [3]


DAMAGED = {
    "cut off": lambda whole: whole[:-12],
    "a byte changed": lambda whole: whole[: len(whole) // 2] + b"\xff\xff\xff\xff" + whole[len(whole) // 2 + 4 :],
    "no gzip at all": lambda whole: b"hello",
    "empty": lambda whole: b"",
    "rubbish behind it": lambda whole: whole + b"rubbish",
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_archive_is_no_reason_not_to_start(path, damage):
    """What can be unpacked of it counts."""
    path.with_name(f"{NAME}.2.gz").write_bytes(damage(gzip.compress(as_line(alert(1)))))
    path.with_name(f"{NAME}.1").write_bytes(as_line(alert(2)))
    assert opened(path).append([alert(2), alert(3)]) == 1


def test_siblings_that_are_no_files_are_passed_over(path, tmp_path):
    """A FIFO would be waited at, and a link may lead anywhere."""
    os.mkfifo(path.with_name(f"{NAME}.1"))
    path.with_name(f"{NAME}.2").symlink_to(tmp_path / "elsewhere")
    path.with_name(f"{NAME}.3").mkdir()
    assert opened(path).append([alert(1)]) == 1


IN_THE_WAY = {
    "a link to a file": (lambda path: path.symlink_to(path.with_name("target")), "is a symbolic link"),
    "a link to nowhere": (lambda path: path.symlink_to("/nowhere/at/all"), "is a symbolic link"),
    "a directory": (lambda path: path.mkdir(), "is a directory"),
    "a FIFO": (os.mkfifo, "is no regular file"),
}


@pytest.mark.parametrize(("make", "what"), IN_THE_WAY.values(), ids=IN_THE_WAY.keys())
@pytest.mark.parametrize("is_late", [False, True], ids=["at the start", "later"])
def test_what_is_no_file_is_refused_with_a_remedy(path, make, what, is_late):
    """Alerts are written to a file of this name, and through no link: whoever shares the directory could have set it."""
    path.with_name("target").write_text("precious\n")
    log = None
    if is_late:
        log = opened(path)
        path.unlink()
    make(path)
    with pytest.raises(StorageError, match=what) as caught:
        log.append([alert(1)]) if log else opened(path)
    assert f"`{path}`" in str(caught.value)
    assert caught.value.hint
    assert path.with_name("target").read_text() == "precious\n"


def test_a_directory_that_is_gone_is_waited_for(path):
    """Somebody cleans up, and the log directory with it: the alert is written when there is one again."""
    log = opened(path)
    path.unlink()
    path.parent.rmdir()
    waits = []

    def wait(error):
        waits.append(error and error.errno)
        path.parent.mkdir(exist_ok=True)

    log._wait = wait
    log.append([alert(1)])
    assert waits == [errno.ENOENT, None]
    assert numbers(path) == [1]


TORN = {
    "half a line": b'{"alert_id": "00',
    "a whole object without its newline": b'{"alert_id": "0000000000000009"}',
    "zeros": b"\0" * 100,
    "more than a block": b'"' + b"x" * (3 << 20),
    "half a character": b'{"summary": "caf\xc3',
}


@pytest.mark.parametrize("tail", TORN.values(), ids=TORN.keys())
@pytest.mark.parametrize("before", [0, 2])
def test_a_torn_last_line_is_cut_and_made_again(path, tail, before):
    """What was whole before it stays."""
    opened(path).append([alert(n) for n in range(before)])
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(tail)
    log = opened(path, AlertPosition())
    assert path.read_bytes() == whole
    log.append([alert(9)])
    assert numbers(path) == [*range(before), 9]


FOREIGN = [
    b"hello\n",
    b"\n",
    b"[1]\n",
    b'"text"\n',
    b"7\n",
    b"{}\n",
    b'{"alert_id": null}\n',
    b'{"alert_id": [1]}\n',
    b"\xff\xfe\n",
    b"\0\0\n",
    b"[" * 5000 + b"\n",
]


@pytest.mark.parametrize("line", FOREIGN)
def test_somebody_elses_line_is_left_alone(path, line):
    """It is not ours to judge; those round it count."""
    log = opened(path)
    position = log.position()
    log.append([alert(1)])
    with path.open("ab") as file:
        file.write(line)
    log.append([alert(2)])
    again = opened(path, position)
    assert again.append([alert(1), alert(2), alert(3)]) == 1
    assert line in path.read_bytes()


def test_after_a_rotation_by_rename_writing_goes_on_in_a_new_file(path):
    """Nothing is added to the one that was moved."""
    log = opened(path)
    log.append([alert(1)])
    position = log.position()
    path.rename(path.with_name(f"{NAME}.1"))
    log.append([alert(2)])
    assert numbers(path) == [2]
    assert numbers(path.with_name(f"{NAME}.1")) == [1]
    again = opened(path, position)
    assert again.append([alert(1), alert(2), alert(3)]) == 1


def test_after_a_deletion_writing_goes_on_in_a_new_file(path):
    """Whoever deleted it wanted it gone."""
    log = opened(path)
    log.append([alert(1)])
    path.unlink()
    log.append([alert(2)])
    assert numbers(path) == [2]
    log.sync()


def test_a_file_that_was_emptied_is_filled_again(path):
    """By `: > agent-alerts.jsonl`, while we write and while we are stopped."""
    log = opened(path)
    log.append([alert(1), alert(2)])
    position = log.position()
    os.truncate(path, 0)
    log.append([alert(3)])
    assert numbers(path) == [3]
    again = opened(path, position)
    assert again.append([alert(3), alert(4)]) == 1
    assert numbers(path) == [3, 4]


@pytest.mark.parametrize("padding", ["", "x" * 1000], ids=["a little longer", "much longer"])
def test_a_file_that_was_emptied_and_outgrew_its_old_length_is_read_whole(path, padding):
    """Before the next checkpoint, and then the process is killed: the length alone says that nothing happened."""
    log = opened(path)
    log.append([alert(1)])
    position = log.position()
    os.truncate(path, 0)
    log.append([alert(2, padding), alert(3, padding)])
    assert path.stat().st_size > position.size
    assert path.stat().st_ino == position.inode
    again = opened(path, position)
    assert again.append([alert(2, padding), alert(3, padding), alert(4)]) == 1
    assert numbers(path) == [2, 3, 4]


def test_what_the_checkpoint_knows_is_not_read_again(path):
    """Its end is recognised by its bytes: a start does not cost more with every alert that ever was."""
    log = opened(path)
    log.append([alert(1), alert(2)])
    position = log.position()
    log.append([alert(3)])
    assert opened(path, position).position().pending == [f"{3:016x}"]


POSITIONS = [AlertPosition(), AlertPosition(size=10**9, inode=1), AlertPosition(size=10**9), AlertPosition(size=3)]


@pytest.mark.parametrize("position", POSITIONS)
def test_a_position_that_does_not_fit_means_reading_all(path, position):
    """Of another file, or beyond the end of this one."""
    opened(path).append([alert(1), alert(2)])
    assert opened(path, position).append([alert(1), alert(2)]) == 0
    beyond = AlertPosition(10**9, path.stat().st_ino)
    assert opened(path, beyond).append([alert(1), alert(2)]) == 0


def test_of_ids_that_nothing_came_for_the_newest_are_kept(path, monkeypatch):
    """Memory is bounded once all has been read again."""
    monkeypatch.setattr(alert_log, "MOST_PENDING", 3)
    opened(path).append([alert(n) for n in range(10)])
    log = opened(path)
    log.forget_old()
    assert [int(identity, 16) for identity in log.position().pending] == [7, 8, 9]


def test_a_full_disk_is_waited_for_and_leaves_no_half_batch(path, monkeypatch):
    """What was written of the batch is taken back before the wait, and its end is told."""
    waits, real = [], os.write
    log = opened(path, wait=lambda error: waits.append((error and error.errno, path.read_bytes())))
    log.append([alert(1)])
    before = path.read_bytes()

    def full_twice(fd, data):
        if len(waits) < 2:
            if len(data) > 50:
                return real(fd, bytes(data[:50]))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    def write(fd, data):
        if len(waits) < 2 and path.stat().st_size > len(before):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return full_twice(fd, data)

    monkeypatch.setattr(os, "write", write)
    log.append([alert(2), alert(3)])
    assert waits == [*[(errno.ENOSPC, before)] * 2, (None, path.read_bytes())]
    log.append([alert(4)])
    assert len(waits) == 3
    assert numbers(path) == [1, 2, 3, 4]


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=20), st.integers(0, 400))
@settings(deadline=None)
def test_any_crash_anywhere_leaves_each_alert_once(tmp_path_factory, steps, torn):
    """A process that writes on from checkpoint to checkpoint, killed at any byte of its last write."""
    path = tmp_path_factory.mktemp("log") / NAME
    log, position, written, saved = opened(path), AlertPosition(), 0, 0
    for count, crashes in steps:
        log.append([alert(n) for n in range(written, written + count)])
        written += count
        if not crashes:
            position, saved = log.position(), written
            continue
        log.close()
        if torn and written > saved:
            whole = path.stat().st_size
            os.truncate(path, max(whole - torn, position.size))
        log = opened(path, position)
        written = saved
    log.append([alert(n) for n in range(written, 300)])
    log.close()
    assert numbers(path) == list(range(300))


def test_times_are_told_in_utc_with_milliseconds():
    """Whatever the zone of the log."""
    found = alert(1)
    found.timestamp = datetime(2026, 2, 9, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert json.loads(as_line(found))["timestamp"] == "2026-02-09T10:00:00.123Z"
