"""Rotation: what is renamed, compressed and deleted, and above all what is not."""

import gzip
import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from agentwatch.apps.rotate import rotate as turn
from agentwatch.settings import Logs, Settings
from agentwatch.store import history
from agentwatch.store.rotation import LEAST_DAILY_BYTES, PART, Rotation, Rules

NOW = datetime(2026, 2, 10, 12, tzinfo=UTC)
RULES = Rules(stream_bytes=20_000_000, daily=True, errors=timedelta(days=90), archives=timedelta(days=180), sessions=3, runs=timedelta(hours=24))
STREAM = "agent-work-stream.jsonl"


def rotate(directory, read=None, rules=RULES, now=NOW, *, dry_run=False):
    return [(action.what, action.path) for action in Rotation(directory, rules, read or {}, now, dry_run=dry_run).run()]


def write(path, size, *, begun=NOW, age=timedelta()):
    """A file of lines of about that size whose first line was written then, and its last `age` before now."""
    line = json.dumps({"timestamp": begun.isoformat(), "attempt_id": "a", "event_type": "usage", "data": {"x": "y" * 1000}}).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(line * max(1, size // len(line)))
    at = (NOW - age).timestamp()
    os.utime(path, (at, at))
    return path


def read_whole(*paths):
    return {(path.stat().st_dev, path.stat().st_ino): path.stat().st_size for path in paths}


def everything(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_large_stream_is_renamed_and_a_new_one_stands_in_its_place(tmp_path):
    """The same inode under the new name, the same rights on the new file: writers and readers go on."""
    stream = write(tmp_path / STREAM, 21_000_000)
    stream.chmod(0o640)
    inode, content = stream.stat().st_ino, stream.read_bytes()
    assert rotate(tmp_path)[0] == ("renamed", STREAM)
    (old,) = tmp_path.glob("agent-work-stream-2*.jsonl")
    assert (old.stat().st_ino, old.read_bytes()) == (inode, content)
    assert (stream.read_bytes(), stream.stat().st_mode & 0o777) == (b"", 0o640)


@pytest.mark.parametrize(
    ("size", "begun", "daily", "is_rotated"),
    [
        pytest.param(LEAST_DAILY_BYTES + 5000, NOW - timedelta(days=1), True, True, id="of yesterday"),
        pytest.param(LEAST_DAILY_BYTES + 5000, NOW, True, False, id="of today"),
        pytest.param(LEAST_DAILY_BYTES + 5000, NOW - timedelta(days=1), False, False, id="switched off"),
        pytest.param(5000, NOW - timedelta(days=100), True, False, id="small"),
    ],
)
def test_a_stream_is_rotated_by_day(tmp_path, size, begun, daily, is_rotated):
    """One that is worth a file."""
    write(tmp_path / STREAM, size, begun=begun)
    assert bool(rotate(tmp_path, rules=RULES._replace(daily=daily))) is is_rotated


def test_what_is_quiet_and_read_goes_into_the_archive(tmp_path):
    """With its content and its time; the original goes when the archive is safe."""
    old = write(tmp_path / "agent-work-stream-20260209T120000.jsonl", 50_000, age=timedelta(hours=2))
    content = old.read_bytes()
    assert rotate(tmp_path, read_whole(old)) == [("compressed", old.name)]
    packed = tmp_path / "archive" / f"{old.name}.gz"
    assert gzip.decompress(packed.read_bytes()) == content
    assert packed.stat().st_mtime == (NOW - timedelta(hours=2)).timestamp()
    assert not old.exists()


@pytest.mark.parametrize(
    ("age", "missing"),
    [
        pytest.param(timedelta(minutes=10), 0, id="just written"),
        pytest.param(timedelta(hours=5), 1, id="a byte is unread"),
        pytest.param(timedelta(hours=5), None, id="no daemon has read it"),
    ],
)
def test_what_is_written_or_unread_stays(tmp_path, age, missing):
    """Whatever its age; and it is said."""
    old = write(tmp_path / "agent-work-stream-20260101T120000.jsonl", 5_000, age=age)
    read = {} if missing is None else {key: size - missing for key, size in read_whole(old).items()}
    assert rotate(tmp_path, read) == [("left", old.name)]
    assert old.exists()


def test_metrics_are_compressed_by_month_and_never_deleted(tmp_path):
    """They are small, and what reports read."""
    write(tmp_path / "agent-metrics.jsonl", 5_000, begun=NOW - timedelta(days=30), age=timedelta(days=11))
    assert rotate(tmp_path) == [("renamed", "agent-metrics.jsonl"), ("compressed", "agent-metrics-20260210T120000.jsonl")]
    assert rotate(tmp_path, now=NOW + timedelta(days=4000)) == []
    assert [path.name for path in (tmp_path / "archive").iterdir()] == ["agent-metrics-20260210T120000.jsonl.gz"]


def test_old_archives_go(tmp_path):
    """Errors after 90 days, streams after 180."""
    for stem in ("agent-errors", "agent-work-stream", "agent-metrics"):
        for days in (80, 100, 200):
            write(tmp_path / "archive" / f"{stem}-2025{days:04}T000000.jsonl.gz", 10, age=timedelta(days=days))
    assert sorted(rotate(tmp_path)) == [
        ("deleted", "archive/agent-errors-20250100T000000.jsonl.gz"),
        ("deleted", "archive/agent-errors-20250200T000000.jsonl.gz"),
        ("deleted", "archive/agent-work-stream-20250200T000000.jsonl.gz"),
    ]


def test_the_newest_session_copies_stay(tmp_path):
    """As many as the settings say, and whatever was written within the hour."""
    for number in range(6):
        write(tmp_path / "agent-sessions" / f"a{number}.jsonl", 10, age=timedelta(hours=number))
    assert rotate(tmp_path) == [("deleted", "agent-sessions/a3.jsonl"), ("deleted", "agent-sessions/a4.jsonl"), ("deleted", "agent-sessions/a5.jsonl")]


def run_of(directory, name, age):
    log = write(directory / "runs" / name / "log.jsonl", 10, age=age)
    at = (NOW - age).timestamp()
    os.utime(log.parent, (at, at))
    return log


def test_runs_that_are_over_and_read_go_but_the_latest_stays(tmp_path):
    """An unread one stays, too, and one in which something was written lately."""
    logs = {name: run_of(tmp_path, name, timedelta(hours=hours)) for name, hours in (("old", 30), ("unread", 30), ("latest-one", 40), ("young", 5))}
    (tmp_path / "runs" / "latest").symlink_to("latest-one")
    read = read_whole(logs["old"], logs["latest-one"], logs["young"])
    assert rotate(tmp_path, read) == [("deleted", "runs/old"), ("left", "runs/unread")]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["latest", "latest-one", "unread", "young"]


def test_what_others_write_is_not_touched(tmp_path):
    """Programs' logs, transcripts, alerts, links out of the directory."""
    outside = write(tmp_path / "outside.jsonl", 10_000, age=timedelta(days=900))
    logs = tmp_path / "logs"
    for name in ("app.log", "agent-alerts.jsonl", "agent-work-stream.jsonl.gz", "session.jsonl", "other-20240101.jsonl", "archive/mine.txt"):
        write(logs / name, 30_000_000 if name == "app.log" else 1000, age=timedelta(days=10))
    (logs / "agent-work-stream-20260101T000000.jsonl").symlink_to(outside)
    (logs / "agent-sessions").mkdir()
    for number in range(9):
        (logs / "agent-sessions" / f"l{number}.jsonl").symlink_to(outside)
    before = everything(logs)
    assert rotate(logs, read_whole(outside)) == []
    assert everything(logs) == before
    assert outside.exists()


def test_a_dry_run_says_it_and_does_nothing(tmp_path):
    """The same words as the run that follows."""
    stream = write(tmp_path / STREAM, 21_000_000)
    old = write(tmp_path / "agent-work-stream-20260209T120000.jsonl", 5_000, age=timedelta(hours=2))
    write(tmp_path / "archive" / "agent-errors-20250101T000000.jsonl.gz", 10, age=timedelta(days=100))
    run_of(tmp_path, "old", timedelta(hours=30))
    read = read_whole(stream, old, tmp_path / "runs" / "old" / "log.jsonl")
    before = everything(tmp_path)
    said = rotate(tmp_path, read, dry_run=True)
    assert everything(tmp_path) == before
    done = [one for one in rotate(tmp_path, read) if one != ("left", "agent-work-stream-20260210T120000.jsonl")]
    assert said == done
    assert len(said) == 4


def test_what_a_killed_pass_left_is_cleared(tmp_path):
    """Half an archive is no archive."""
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / f"agent-work-stream-20260101T000000.jsonl.gz{PART}").write_bytes(b"half")
    assert rotate(tmp_path) == []
    assert list((tmp_path / "archive").iterdir()) == []


def test_an_archive_that_is_there_is_not_overwritten(tmp_path):
    """Neither by a second file of the name, nor by a second rotation within the second."""
    write(tmp_path / STREAM, 21_000_000)
    write(tmp_path / "agent-work-stream-20260210T120000.jsonl", 10)
    assert ("left", STREAM) in rotate(tmp_path)
    old = write(tmp_path / "agent-work-stream-20260209T120000.jsonl", 5_000, age=timedelta(hours=2))
    write(tmp_path / "archive" / f"{old.name}.gz", 10)
    assert ("left", old.name) in rotate(tmp_path, read_whole(old))


def test_an_original_that_a_killed_pass_left_goes(tmp_path):
    """Its archive is whole: told twice, its errors would count twice, and it would be left for ever."""
    old = write(tmp_path / "agent-errors-20260101T120000.jsonl", 50_000, age=timedelta(hours=2))
    content = old.read_bytes()
    assert rotate(tmp_path) == [("compressed", old.name)]
    old.write_bytes(content)
    os.utime(old, ((NOW - timedelta(hours=2)).timestamp(),) * 2)
    assert rotate(tmp_path, dry_run=True) == [("compressed", old.name)]
    assert old.exists()
    assert rotate(tmp_path) == [("compressed", old.name)]
    assert not old.exists()
    assert rotate(tmp_path) == []


def test_two_passes_at_once_are_one(tmp_path):
    """Also where no daemon ever was: the second would give its empty stream the name that the first gave the full one."""
    settings = Settings(logs=Logs(dir=tmp_path))
    write(tmp_path / STREAM, 11_000_000, begun=NOW - timedelta(days=1))
    first = turn(settings, NOW)
    assert next(first).what == "renamed"
    assert [(action.what, action.why) for action in turn(settings, NOW)] == [("left", "another process is rotating")]
    assert [action.what for action in first] == ["left"]
    assert [action.what for action in turn(settings, NOW)] == ["left"]


def test_what_is_rotated_while_it_is_read_is_read(tmp_path, monkeypatch):
    """A report must not miss a month because the daemon packs it at that moment."""
    at = (NOW - timedelta(days=1)).isoformat()
    path = tmp_path / "agent-metrics-20260101T120000.jsonl"
    path.write_text(json.dumps({"timestamp": at, "attempt_id": "a", "metrics": {}}) + "\n")
    os.utime(path, ((NOW - timedelta(hours=2)).timestamp(),) * 2)
    listed, problems = history.files, []

    def files(*arguments):
        found = listed(*arguments)
        rotate(tmp_path)
        return found

    monkeypatch.setattr(history, "files", files)
    with history.lines(tmp_path, None, problems.append, "") as lines:
        assert [history.attempts(block) for block in lines] == [["a"]]
    assert problems == []
