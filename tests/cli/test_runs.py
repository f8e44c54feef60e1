"""`agentwatch runs`, and what it is for: programs that log into a run, and commands that look at it."""

import json
import os
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

ID = r"20\d{6}T\d{6}Z-[0-9a-f]{6}"
ALONE = {"AGENTWATCH_SOURCES": "none"}


def record(minute, level="error", message="boom"):
    at = datetime.now(UTC) - timedelta(minutes=30 - minute)
    return json.dumps({"timestamp": at.isoformat(), "level": level, "message": message}) + "\n"


def grow_old(run, hours):
    at = time.time() - hours * 3600
    for path in (*run.rglob("*"), run):
        os.utime(path, (at, at), follow_symlinks=False)


def new(place, *arguments):
    done = place.run("runs", "new", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.removesuffix("\n")


def listed(place):
    return json.loads(place.run("runs", "list", "--json").stdout)


def test_a_shell_that_evaluates_it_logs_into_the_run(place):
    """The id alone is printed, or a line for `eval`; what starts next writes there, and `latest` is what all commands look at."""
    assert re.fullmatch(ID, new(place))
    shell = 'eval "$(python -m agentwatch runs new --export --name nightly)" && for i in 1 2 3 4; do python -m agentwatch log error --attempt a-1 boom; done; echo "$AGENTWATCH_RUN"'
    done = subprocess.run(
        ["sh", "-c", shell.replace("python ", f"{place.command()[0]} ")],
        cwd=place.base,
        env=place.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    run_id = done.stdout.strip()
    assert run_id.endswith("-nightly")
    assert (place.logs / "runs" / run_id / "agent-work-stream.jsonl").exists()
    assert not place.stream.exists()
    place.write({"timestamp": datetime.now(UTC).isoformat(), "attempt_id": "a-2", "event_type": "session_start", "data": {}})
    assert place.run("run", "--once", **ALONE).returncode == 0

    def attempts(*arguments, **environ):
        done = place.run(*arguments, "--json", **ALONE, **environ)
        assert done.returncode == 0, done.stderr
        return {alert["attempt_id"] for alert in map(json.loads, done.stdout.splitlines())}

    assert attempts("alerts", "--run", "latest") == attempts("alerts", "--run", run_id) == attempts("alerts", AGENTWATCH_RUN=run_id) == {"a-1"}
    assert attempts("alerts", "--run", "another") == set()
    (row,) = [row for row in listed(place) if row["is_latest"]]
    assert (row["run_id"], row["alerts"], row["sources"]) == (run_id, 1, ["agent-work-stream"])
    sessions = json.loads(place.run("report", "sessions", "--run", "latest", "--json", **ALONE).stdout)
    assert [session["attempt_id"] for session in sessions] == ["a-1"]
    assert json.loads(place.run("summary", "--json", AGENTWATCH_RUN=run_id, **ALONE).stdout)["sessions"]["total"] == 1


def test_the_list_says_age_size_sources_and_alerts(place):
    """The newest last; a rotated log is no source of its own, the address is none at all."""
    first, second = new(place), new(place, "--callback", "https://example.org/7")
    run = place.logs / "runs" / second
    for name in ("main-app.jsonl", "worker.log", "worker.log.1", "sub/deep.ndjson", "notes.txt", "agent-errors.jsonl"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("x" * 100)
    older, newer = listed(place)
    assert (older["run_id"], older["is_latest"], older["sources"], older["bytes"], older["has_callback"]) == (first, False, [], 0, False)
    assert (newer["run_id"], newer["is_latest"], newer["sources"], newer["bytes"]) == (second, True, ["main-app", "sub/deep", "worker"], 600)
    assert (newer["has_callback"], newer["expires_at"], newer["issues"], newer["alerts"]) == (True, None, 0, 0)
    assert 0 <= newer["age_ms"] < 60_000
    page = place.run("runs", "list").stdout
    assert f"{second}  latest" in page
    assert "main-app, sub/deep, worker" in page


def test_without_runs_the_list_is_empty(place):
    """And says what makes one."""
    assert listed(place) == []
    assert "agentwatch runs new" in place.run("runs", "list").stdout
    assert place.run("runs", "clear").stderr == "no run to clear\n"
    assert not place.logs.exists()


def test_the_old_ones_go_and_the_rest_stays(place):
    """By the setting; the latest stays however old, and so does one that a program has open."""
    old, held, young, latest = (new(place) for _ in range(4))
    for run_id in (old, held, latest):
        (place.logs / "runs" / run_id / "app.log").write_text("line\n")
    for run_id, hours in ((old, 30), (held, 30), (young, 20), (latest, 50)):
        grow_old(place.logs / "runs" / run_id, hours)
    with (place.logs / "runs" / held / "app.log").open("a"):
        done = place.run("runs", "clear", "--json")
    told = {action["path"]: action["what"] for action in json.loads(done.stdout)}
    assert told == {f"runs/{old}": "deleted", f"runs/{held}": "left"}
    assert {row["run_id"] for row in listed(place)} == {held, young, latest}
    assert json.loads(place.run("runs", "clear", "--json", AGENTWATCH_RUNS_TTL_H="10").stdout)[0]["what"] == "deleted"


def test_one_that_is_named_goes_unless_it_is_in_use(place):
    """With `--force` even then; `latest` leads to the newest that is left."""
    first, second = new(place), new(place)
    grow_old(place.logs / "runs" / second, -1)  # written to just now, however slow the machine
    refused = place.run("runs", "clear", "latest")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "was written to just now" in refused.stderr
    assert "hint: wait until that is over, or add `--force`" in refused.stderr
    assert place.run("runs", "clear", "latest", "--force").stdout == f"deleted  runs/{second}\n"
    assert [(row["run_id"], row["is_latest"]) for row in listed(place)] == [(first, True)]
    with (place.logs / "runs" / first / "app.log").open("a"):
        assert place.run("runs", "clear", "--all").returncode == 1
    assert place.run("runs", "clear", "--all", "--force").returncode == 0
    assert listed(place) == []


def test_what_the_daemon_has_not_read_is_not_cleared_and_its_alerts_stay(place, daemon):
    """It reads, tells, and goes on with other logs when the files are gone."""
    first, second = new(place), new(place)
    for run_id in (first, second):
        (place.logs / "runs" / run_id / "app.jsonl").write_text("".join(record(minute) for minute in range(4)))

    def alerts(run_id):
        return place.run("alerts", "--run", run_id, "--json").stdout.count("\n")

    until = time.monotonic() + 30
    while not (alerts(first) and alerts(second)):
        assert time.monotonic() < until
    grow_old(place.logs / "runs" / first, 1)
    while place.run("runs", "clear", first).returncode:  # until the checkpoint says that it was read
        assert time.monotonic() < until
    assert not (place.logs / "runs" / first).exists()
    assert alerts(first) == 1
    third = new(place)
    (place.logs / "runs" / third / "app.jsonl").write_text("".join(record(minute) for minute in range(4)))
    while not alerts(third):
        assert time.monotonic() < until
    assert json.loads(place.run("status", "--json").stdout)["faults"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(("new", "--name", "../x"), 2, "cannot be part of a run's id", id="name"),
        pytest.param(("new", "--callback", "ftp://x/y"), 2, "is no address", id="scheme"),
        pytest.param(("new", "--callback", "http://user:pw@x/y"), 2, "is no address", id="password"),
        pytest.param(("new", "--callback", "http://x/a b"), 2, "is no address", id="two lines' worth"),
        pytest.param(("new", "--callback", f"http://x/{'y' * 3000}"), 2, "is no address", id="long"),
        pytest.param(("clear", "nope"), 1, "there is no run `nope`", id="unknown"),
        pytest.param(("clear", "latest"), 1, "there is no run in", id="no latest"),
        pytest.param(("clear", "../.."), 2, "cannot be a run's id", id="path"),
        pytest.param(("clear", ""), 2, "the run's id is empty", id="empty"),
        pytest.param(("clear", "x", "--all"), 2, "say two things", id="two ways"),
        pytest.param(("clear", "--force"), 2, "`--force` is for runs that are named", id="force"),
    ],
)
def test_what_cannot_be_done_is_told_and_nothing_made(place, arguments, code, message):
    """With its remedy, before anything is touched."""
    done = place.run("runs", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "\n\nhint: " in done.stderr
    assert not place.logs.exists()
