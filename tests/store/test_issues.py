"""The issue store: absolute counts, what a person said of them, and which runs had them too."""

import stat
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from agentwatch.errors import StorageError
from agentwatch.model import Issue, Sample, Severity
from agentwatch.store.issues import MOST_RUNS, IssueStore

AT = datetime(2026, 2, 9, 12, tzinfo=UTC)


def issue(fingerprint="ab" * 32, run="run-2", occurrences=1, severity=Severity.MEDIUM, **more):
    return Issue(
        run_id=run,
        fingerprint=fingerprint,
        rule_id="connection-refused",
        title="Connection refused",
        severity=severity,
        category="network",
        message="connect ECONNREFUSED <ip>",
        occurrences=occurrences,
        first_seen=AT,
        last_seen=AT,
        sources=("worker.log",),
        samples=(Sample("worker.log", 17, AT, "connect ECONNREFUSED 127.0.0.1:5432"),),
        recommendation="Start the service.",
        **more,
    )


@pytest.fixture
def store(tmp_path):
    made = IssueStore(tmp_path / "issues.db")
    yield made
    made.close()


def test_what_was_written_is_read_again(store):
    """An issue comes back as it was counted, with what only the store knows beside it."""
    store.write([issue(occurrences=7)], {"run-2": AT})
    (found,) = store.issues("run-2")
    assert (found.occurrences, found.samples[0].offset, found.status, found.why) == (7, 17, "open", "no earlier run to compare with")
    assert store.issues("run-3") == []
    assert store.issues(None) == []


def test_the_same_counts_written_twice_count_once(store):
    """What a crash makes the daemon write again changes nothing: counts are absolute."""
    for _ in range(2):
        store.write([issue(occurrences=3)], {"run-2": AT})
    before = store.change_count()
    store.write([issue(occurrences=3)], {"run-2": AT})
    assert [one.occurrences for one in store.issues("run-2")] == [3]
    assert store.change_count() == before


def test_the_log_directory_itself_is_no_run(store):
    """Its issues are found under None, and it is no earlier run of any."""
    store.write([issue(run=None), issue(run="run-2")], {"": AT - timedelta(days=1), "run-2": AT})
    assert [one.run_id for one in store.issues(None)] == [None]
    assert store.issues("run-2")[0].earlier_runs == 0
    assert store.runs() == {None: 1, "run-2": 1}


def test_what_is_new_stands_above_what_every_run_has(store):
    """New before flaky: an issue that no earlier run had comes first, however mild; the reason is told."""
    runs = {f"run-{n}": AT + timedelta(hours=n) for n in range(6)}
    store.write([issue("aa" * 32, run, 500, Severity.HIGH) for run in runs] + [issue("bb" * 32, "run-5", severity=Severity.LOW)], runs)
    new, flaky = store.issues("run-5")
    assert (new.fingerprint[:2], new.why) == ("bb", "new: in none of 5 earlier runs")
    assert (flaky.fingerprint[:2], flaky.why, flaky.seen_in_runs, flaky.earlier_runs) == ("aa", "flaky or known: in 5 of 5 earlier runs", 5, 5)
    assert [one.why for one in store.issues("run-0")] == ["no earlier run to compare with"]


def test_a_run_without_issues_counts_as_an_earlier_one(store):
    """That all went well before is what makes an issue new."""
    store.write([issue()], {"run-1": AT - timedelta(hours=1), "run-2": AT})
    assert store.issues("run-2")[0].why == "new: in none of 1 earlier run"


def test_what_a_person_said_stays_when_it_is_counted_on(store):
    """An acknowledged issue stays so, below all that nobody has seen to."""
    store.write([issue("aa" * 32, severity=Severity.HIGH), issue("bb" * 32, severity=Severity.LOW)], {"run-2": AT})
    assert store.mark("run-2", "aa" * 32, "acknowledged")
    store.write([issue("aa" * 32, occurrences=9, severity=Severity.HIGH, status="notified")], {})
    assert [(one.fingerprint[:2], one.status) for one in store.issues("run-2")] == [("bb", "open"), ("aa", "acknowledged")]
    assert store.mark("run-2", "aa" * 32, "open")
    assert store.issues("run-2")[0].status == "notified"


def test_a_resolved_issue_that_comes_again_is_open_again(store):
    """Resolved holds for what was counted so far; what comes on top opens it, and the reason says so."""
    store.write([issue(occurrences=4)], {"run-2": AT})
    store.mark("run-2", "ab" * 32, "resolved")
    store.write([issue(occurrences=4)], {})
    assert store.issues("run-2")[0].status == "resolved"
    store.write([issue(occurrences=5)], {})
    (back,) = store.issues("run-2")
    assert back.status == "open"
    assert back.why.startswith("came back after it was resolved")


def test_an_issue_that_is_not_there_cannot_be_marked(store):
    """Who marks it is told."""
    assert not store.mark("run-2", "cd" * 32, "acknowledged")


def test_a_reader_finds_nothing_before_there_is_a_file_and_sees_it_come(tmp_path, store):
    """Who only reads makes no file, and need not be started after the daemon."""
    reader = IssueStore(tmp_path / "issues.db", read_only=True)
    assert (reader.issues(None), reader.runs(), reader.change_count(), reader.mark(None, "ab" * 32, "open")) == ([], {}, 0, False)
    assert not (tmp_path / "issues.db").exists()
    store.write([issue()], {"run-2": AT})
    assert len(reader.issues("run-2")) == 1
    count = reader.change_count()
    store.write([issue(occurrences=2)], {})
    assert reader.change_count() > count
    reader.close()


def test_a_reader_that_comes_while_the_file_is_made_finds_nothing(tmp_path, store):
    """It is there before its tables are."""
    (tmp_path / "issues.db").touch()
    reader = IssueStore(tmp_path / "issues.db", read_only=True)
    assert reader.issues("run-2") == []
    assert reader.change_count() == 0
    store.write([issue()], {"run-2": AT})
    assert len(reader.issues("run-2")) == 1
    reader.close()


def test_only_its_owner_may_read_it(tmp_path, store):
    """Log lines stand in it."""
    store.write([issue()], {"run-2": AT})
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_file_that_was_taken_away_is_made_again_with_everything(tmp_path, store):
    """Not by the write that finds it gone, which may meet a tree that is just being deleted; the one after it writes what has not changed, too."""
    store.write([issue()], {"run-2": AT})
    (tmp_path / "issues.db").unlink()
    with pytest.raises(StorageError, match="was taken away"):
        store.write([issue(occurrences=2)], {})
    assert not (tmp_path / "issues.db").exists()
    store.write([], {}, lambda: ([issue(occurrences=2), issue("cd" * 32)], {"run-1": AT - timedelta(days=1), "run-2": AT}))
    assert [(one.occurrences, one.why) for one in store.issues("run-2")] == [(2, "new: in none of 1 earlier run"), (1, "new: in none of 1 earlier run")]
    assert store.runs() == {"run-1": 0, "run-2": 2}


def test_a_damaged_file_is_set_aside_and_made_again(tmp_path, store):
    """A file that is no database is told once; the next write makes a new one with everything."""
    (tmp_path / "issues.db").write_bytes(b"no database at all, but long enough to be read as one" * 100)
    with pytest.raises(StorageError, match=r"issues\.db"):
        store.write([issue()], {}, lambda: ([issue()], {"run-2": AT}))
    store.write([], {}, lambda: ([issue()], {"run-2": AT}))
    assert len(store.issues("run-2")) == 1
    assert (tmp_path / "issues.db.bad").exists()


def test_of_many_runs_the_latest_are_remembered(store):
    """The file does not grow with every run that ever was."""
    runs = {f"run-{n:04}": AT + timedelta(hours=n) for n in range(MOST_RUNS + 10)}
    store.write([issue(run=run) for run in runs], runs)
    assert list(store.runs()) == list(runs)[10:]
    assert store.issues("run-0003") == []


@pytest.mark.parametrize("name", ["a file?mode=memory", "50%", "ä ö#1"])
def test_the_path_is_taken_as_it_is(tmp_path, name):
    """No character of a directory's name is read as part of a URI."""
    directory = tmp_path / name
    directory.mkdir()
    store = IssueStore(directory / "issues.db")
    store.write([issue()], {"run-2": AT})
    reader = IssueStore(directory / "issues.db", read_only=True)
    assert len(reader.issues("run-2")) == 1
    store.close()
    reader.close()


def test_an_issue_survives_its_own_encoding():
    """What stands in the checkpoint and in the store is the same struct."""
    assert msgspec.json.decode(msgspec.json.encode(issue()), type=Issue) == issue()
