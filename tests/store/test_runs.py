"""Directories of runs: made, found and removed among links, strangers' names and programs that still write."""

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.core.runs import begun_at, is_run_id
from agentwatch.errors import StorageError, UnknownNameError, UsageError
from agentwatch.store import runs

NOW = datetime(2026, 2, 9, 8, tzinfo=UTC)


def child(program, *arguments):
    """A process of its own that has done what it should when it says so, and ends when it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{program}\nprint(1, flush=True); input()", *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"1\n"
    return process


def quiet(log_dir, run_id, hours=1):
    """Have everything of a run be of long ago; what a look at it says."""
    at = (NOW - timedelta(hours=hours)).timestamp()
    path = log_dir / "runs" / run_id
    for one in (*path.rglob("*"), path):
        os.utime(one, (at, at), follow_symlinks=False)
    return runs.look(log_dir, run_id)


def test_a_new_run_is_the_latest_and_its_owners_alone(tmp_path):
    """By a link that holds no path, so that the directory can be moved."""
    run_id = runs.new(tmp_path / "logs", NOW, name="nightly", callback="https://example.org/7")
    directory = tmp_path / "logs" / "runs" / run_id
    assert run_id == "20260209T080000Z-nightly"
    assert os.fspath((tmp_path / "logs/runs/latest").readlink()) == run_id
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "callback").stat().st_mode & 0o777 == 0o600
    assert (directory / "callback").read_text() == "https://example.org/7\n"
    assert begun_at(run_id) == NOW


def test_runs_of_one_moment_are_different(tmp_path):
    """Made by several at once, and the link leads to one of them at every moment."""
    runs.new(tmp_path, NOW, name="first")
    made, seen = [], set()
    makers = [threading.Thread(target=lambda: made.extend(runs.new(tmp_path, NOW, name="same") for _ in range(25))) for _ in range(4)]
    for one in makers:
        one.start()
    while any(one.is_alive() for one in makers):
        seen.add((tmp_path / "runs/latest").readlink().name)
    assert len(set(made)) == 100
    assert seen <= {*made, "20260209T080000Z-first"}
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted([*made, "20260209T080000Z-first", "latest"])


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "a b", "-", "x" * 65, "a\n", "é", "\ud800", "a\0b"])
def test_a_name_that_is_a_path_or_worse_is_refused(tmp_path, name):
    """Before anything is made."""
    with pytest.raises(UsageError):
        runs.new(tmp_path, NOW, name=name)
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=300))
def test_no_id_leads_anywhere_else(text):
    """Whatever somebody calls a run, its directory stands directly below `runs`, under a name that every file system takes."""
    if is_run_id(text):
        assert Path("/runs", text).parent == Path("/runs")
        assert os.path.normpath(f"/runs/{text}") == f"/runs/{text}"
        assert len(os.fsencode(text)) <= 255
        assert "\0" not in text


def test_a_link_in_the_place_of_the_directory_is_refused(tmp_path):
    """It may lead to anybody's directory."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "logs/runs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is a link"):
        runs.new(tmp_path / "logs", NOW)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "elsewhere/r").mkdir()
    assert runs.ids(tmp_path / "logs") == []


def test_a_directory_in_the_place_of_the_link_is_told(tmp_path):
    """Somebody's `mkdir -p runs/latest`: it is not deleted."""
    (tmp_path / "runs/latest").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot make a run"):
        runs.new(tmp_path, NOW)
    assert (tmp_path / "runs/latest").is_dir()
    assert not any(path.name.startswith(".") for path in (tmp_path / "runs").iterdir())


def test_which_run_is_meant(tmp_path):
    """The one that is named, `latest`, or without either the one of the environment."""
    with pytest.raises(UnknownNameError, match="there is no run in"):
        runs.resolve(tmp_path, "latest", {})
    run_id = runs.new(tmp_path, NOW)
    assert runs.resolve(tmp_path, "latest", {}) == run_id
    assert runs.resolve(tmp_path, None, {"AGENTWATCH_RUN": "latest"}) == run_id
    assert runs.resolve(tmp_path, "gone", {"AGENTWATCH_RUN": "other"}) == "gone"
    assert runs.resolve(tmp_path, None, {"AGENTWATCH_RUN": ""}) is None
    assert runs.resolve(tmp_path, None, {}) is None
    assert runs.resolve(tmp_path, None, {"AGENTWATCH_RUN": "team/7"}) == "team/7"
    with pytest.raises(UsageError, match="from AGENTWATCH_RUN"):
        runs.find(tmp_path, None, {"AGENTWATCH_RUN": "../x"})
    with pytest.raises(UnknownNameError, match="there is no run `gone`"):
        runs.find(tmp_path, "gone", {})


def test_links_in_a_run_are_neither_measured_nor_followed_nor_removed_with_what_they_lead_to(tmp_path):
    """Whoever may write a log may make one."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.log").write_text("x" * 1000)
    run_id = runs.new(tmp_path, NOW)
    directory = tmp_path / "runs" / run_id
    (directory / "link.log").symlink_to(outside / "precious.log")
    (directory / "sub").symlink_to(outside)
    (directory / "app.log").write_text("line\n")
    found = quiet(tmp_path, run_id)
    assert set(found.files) == {"app.log", "link.log", "sub"}
    assert found.bytes < 1000
    assert runs.remove(tmp_path, found)
    assert (outside / "precious.log").exists()
    (tmp_path / "runs/linked").symlink_to(outside)
    assert runs.look(tmp_path, "linked") is None
    assert runs.ids(tmp_path) == []


def test_a_run_that_a_process_has_open_to_write_is_in_use(tmp_path):
    """And one that was written to just now; who only reads is in nobody's way."""
    run_id = runs.new(tmp_path, NOW)
    path = tmp_path / "runs" / run_id / "worker.log"
    path.write_text("line\n")
    assert runs.use_of(runs.look(tmp_path, run_id), datetime.now(UTC)) == "was written to just now"
    reader = child("import sys; file = open(sys.argv[1])", path)
    assert runs.use_of(quiet(tmp_path, run_id), NOW) is None
    writer = child("import sys; file = open(sys.argv[1], 'a')", path)
    said = runs.use_of(quiet(tmp_path, run_id), NOW)
    for one in (reader, writer):
        one.communicate(b"\n", timeout=20)
    assert said.startswith("held open by python")
    assert f"(pid {writer.pid})" in said
    assert runs.use_of(quiet(tmp_path, run_id), NOW) is None


def test_a_run_that_is_asked_about_is_not_removed(tmp_path):
    """By another process, be it killed: then it can be."""
    run_id = runs.new(tmp_path, NOW)
    asker = child(f"from pathlib import Path; from agentwatch.store.runs import asking; held = asking(Path({str(tmp_path)!r}), {run_id!r}); held.__enter__()")
    found = quiet(tmp_path, run_id)
    assert not runs.remove(tmp_path, found)
    assert found.path.is_dir()
    asker.kill()
    asker.communicate(timeout=20)
    with runs.asking(tmp_path, run_id):
        assert not runs.remove(tmp_path, found)
    assert runs.remove(tmp_path, found)
    with runs.asking(tmp_path, run_id), runs.asking(tmp_path, None):
        assert not found.path.exists()


def test_the_link_leads_to_the_newest_that_is_left(tmp_path):
    """And is gone with the last."""
    older, newer = (runs.new(tmp_path, NOW + timedelta(minutes=minute)) for minute in (0, 1))
    assert runs.remove(tmp_path, runs.look(tmp_path, newer))
    assert runs.latest(tmp_path) == older
    assert runs.remove(tmp_path, runs.look(tmp_path, older))
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_is_not_read_yet(tmp_path):
    """Whole lines count: the half that a killed program left is waited for by nobody."""
    run_id = runs.new(tmp_path, NOW)
    directory = tmp_path / "runs" / run_id
    (directory / "notes.txt").write_text("no log\n")
    (directory / "empty.log").touch()
    log = directory / "app.log.1"
    log.write_text("one\ntwo\nhal")

    def unread(offset):
        stat = log.stat()
        return runs.unread(runs.look(tmp_path, run_id), {(stat.st_dev, stat.st_ino): offset} if offset is not None else {})

    assert [unread(offset) for offset in (None, 0, 4, 8, 11)] == ["app.log.1"] * 3 + [None, None]
