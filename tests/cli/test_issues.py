"""`agentwatch issues` and `agentwatch rules`, as somebody calls them who does not know them yet."""

import gzip
import json
import os
import re

import pytest


def line(second, text, level="ERROR"):
    return f"2026-02-09T10:00:{second:02} {level} {text}\n"


@pytest.fixture
def watched(place):
    """Two runs and a log outside of them, read once; `latest` leads to the second."""
    for run, words in (("r1", ["connect ECONNREFUSED 10.0.0.1:1"]), ("r2", ["connect ECONNREFUSED 10.0.0.1:1", "EACCES: permission denied, open '/x'"])):
        path = place.logs / "runs" / run / "worker.log"
        path.parent.mkdir(parents=True)
        path.write_text("".join(line(10 * int(run[1]) + 3 * number + n, word) for number, word in enumerate(words) for n in range(3)))
    (place.logs / "cron.log").write_text(line(0, "ENOSPC: no space left on device, write"))
    (place.logs / "runs" / "latest").symlink_to("r2")
    done = place.run("run", "--once", AGENTWATCH_SOURCES="none")
    assert done.returncode == 0, done.stderr
    return place


def titles(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(text)["rule_id"] for text in done.stdout.splitlines()]


def listed(place, *arguments, **environ):
    return titles(place.run("issues", "--json", *arguments, **environ))


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        pytest.param([], {}, ["disk-full", "connection-refused", "permission-denied"], id="the log directory's own and the newest run's"),
        pytest.param(["--run", "latest"], {}, ["connection-refused", "permission-denied"], id="latest"),
        pytest.param(["--run", "r1"], {}, ["connection-refused"], id="by its id"),
        pytest.param([], {"AGENTWATCH_RUN": "r1"}, ["connection-refused"], id="by the environment"),
        pytest.param(["--run", "r2"], {"AGENTWATCH_RUN": "r1"}, ["connection-refused", "permission-denied"], id="the option before the environment"),
        pytest.param(["--severity", "high"], {}, ["disk-full", "connection-refused"], id="the severe ones"),
    ],
)
def test_issues_are_those_of_the_run_that_is_asked_for(watched, arguments, environ, expected):
    """As JSON in the order in which they were seen first."""
    assert listed(watched, *arguments, **environ) == expected


def test_a_page_says_what_it_is_how_often_what_to_do_and_why_it_stands_there(watched):
    """What is new in the run comes first, though it is less severe."""
    done = watched.run("issues", "--run", "latest")
    first, _, advice, why, second, *_ = done.stdout.splitlines()
    assert "medium  3 x  Permission denied  notified" in first
    assert "ls -ld" in advice
    assert why.startswith("  new: in none of 1 earlier run   permission-denied   runs/r2/worker.log")
    assert "high    3 x  Connection refused  notified" in second


def test_a_marked_issue_goes_down_is_hidden_and_comes_back(watched):
    """Acknowledged below the others, resolved not shown, reopened as before."""
    (fingerprint,) = [json.loads(text)["fingerprint"] for text in watched.run("issues", "--json", "--run", "r1").stdout.splitlines()]
    done = watched.run("issues", "--run", "r1", "--resolve", fingerprint[:6])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"resolved {fingerprint[:12]}: Connection refused\n")
    assert listed(watched, "--run", "r1") == []
    assert listed(watched, "--run", "r1", "--all") == ["connection-refused"]
    assert listed(watched, "--run", "r2") == ["connection-refused", "permission-denied"], "another run's is another's"
    assert watched.run("issues", "--run", "r1", "--reopen", fingerprint).returncode == 0
    assert listed(watched, "--run", "r1") == ["connection-refused"]
    watched.run("issues", "--run", "r2", "--ack", fingerprint[:4].upper())
    assert watched.run("issues", "--run", "r2").stdout.splitlines()[4].endswith("Connection refused  acknowledged")


WRONG = {
    "a run that is not there": (["issues", "--run", "r9"], 1, "error: there is no run `r9`", "the newest are r1, r2"),
    "a run out of the tree": (["issues", "--run", "../.."], 2, "error: `../..` cannot be a run's id", ""),
    "a run with a NUL's name": (["issues", "--run", "r\x01"], 2, "cannot be a run's id", ""),
    "no severity": (["issues", "--severity", "fatal"], 2, "error: `--severity fatal` is no severity", "low, medium or high"),
    "a fingerprint of nobody": (["issues", "--ack", "ffffffffff"], 1, "error: there is no issue `ffffffffff`", "see `agentwatch issues --all`"),
    "a fingerprint that is too short": (["issues", "--ack", "f"], 2, "error: `f` is too short for a fingerprint", "give at least 4"),
    "an empty fingerprint": (["issues", "--resolve", ""], 2, "error: `` is too short for a fingerprint", ""),
    "a surplus argument": (["issues", "latest"], 2, "error: Got unexpected extra argument", ""),
    "no pattern": (["rules", "test", "(a", "cron.log"], 2, "error: `(a`: not a regular expression: missing ): (a", "RE2's"),
    "an empty pattern": (["rules", "test", "", "cron.log"], 2, "matches an empty text", ""),
    "look-behind": (["rules", "test", "(?<=a)b", "cron.log"], 2, "not a regular expression: invalid perl operator: (?<", ""),
    "no file": (["rules", "test", "a", "nowhere.log"], 1, "error: `nowhere.log`: No such file or directory", ""),
    "an empty file name": (["rules", "test", "a", ""], 2, "error: ", ""),
    "a directory": (["rules", "test", "a", "."], 2, "error: `.` is no regular file", "or `-` for stdin"),
    "a device": (["rules", "test", "a", "/dev/zero"], 2, "error: `/dev/zero` is no regular file", ""),
    "no category": (["rules", "list", "--category", "colours"], 1, "error: there is no category `colours`", "there are compilers, "),
    "no command": (["rules", "tset"], 2, "error: No such command 'tset'", ""),
}


@pytest.mark.parametrize(("arguments", "code", "message", "hint"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_told_in_two_lines(watched, arguments, code, message, hint):
    """With the code that says whether it was the call or the answer."""
    done = watched.run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_where_nothing_was_watched_there_are_no_issues(place):
    """Said on stderr, and nothing is made."""
    done = place.run("issues")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no issues in " in done.stderr
    assert not place.logs.exists()


def test_a_pattern_is_tried_on_a_log_as_a_daemon_would_read_it(watched):
    """Lines with named groups, and the issues that they would be."""
    path = watched.logs / "runs" / "r2" / "worker.log"
    done = watched.run("rules", "test", r"ECONN(?P<what>\w+) (?P<ip>[\d.]+)", str(path))
    assert done.returncode == 0
    rows = done.stdout.splitlines()
    assert rows[0] == f"{path}:1: pattern: connect ECONNREFUSED 10.0.0.1:1  what=REFUSED  ip=10.0.0.1"
    assert rows[3].endswith("low     3 x  pattern: connect ECONNREFUSED <ip>  [told]")
    assert done.stderr == "3 matches, 1 issue\n"


@pytest.mark.parametrize(
    ("wanted", "count"),
    [("permission-denied", 3), ("resources", 3), ("network", 3), ("all", 6), ("docker", 0)],
    ids=["rule", "category", "other", "all", "none"],
)
def test_rules_are_tried_by_id_by_category_or_all(watched, wanted, count):
    """Exit code 1 where nothing is found; as JSON a line each match and issue."""
    done = watched.run("rules", "test", wanted, str(watched.logs / "runs" / "r2" / "worker.log"), "--json")
    kinds = [json.loads(text)["type"] for text in done.stdout.splitlines()]
    assert (done.returncode, kinds.count("match")) == (int(not count), count)


def test_a_log_may_be_compressed_come_from_stdin_or_have_no_times(watched, tmp_path):
    """What a daemon would pass over is looked at as it stands, and that is said."""
    (tmp_path / "a.log.gz").write_bytes(gzip.compress(line(0, "boom").encode()))
    assert watched.run("rules", "test", "boom", str(tmp_path / "a.log.gz")).stdout.splitlines()[0].endswith(":1: pattern: boom")
    (tmp_path / "bare.txt").write_text("x\nno time, but boom \x1b[2J\n")
    done = watched.run("rules", "test", "boom", str(tmp_path / "bare.txt"))
    assert done.stdout.splitlines()[0].endswith(":2: pattern: no time, but boom ")
    assert "as they stand" in done.stderr
    (tmp_path / "torn.log.gz").write_bytes(gzip.compress(os.urandom(100_000))[:500])
    done = watched.run("rules", "test", "boom", str(tmp_path / "torn.log.gz"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "is damaged" in done.stderr


def test_every_rule_is_listed_with_the_file_it_stands_in_and_those_that_are_off_are_marked(place):
    """The user's own among them."""
    own = place.base / ".config" / "agentwatch" / "rules" / "own.toml"
    own.parent.mkdir(parents=True)
    own.write_text('[[rule]]\nid = "mine"\ntitle = "Mine"\npatterns = ["boom"]\nseverity = "low"\ncategory = "own"\nrecommendation = "Look."\n')
    done = place.run("rules", "list", "--json", AGENTWATCH_RULES_OFF="own,disk-full")
    rules = {rule["id"]: rule for rule in map(json.loads, done.stdout.splitlines())}
    assert (done.returncode, done.stderr) == (0, "")
    assert rules["mine"]["file"] == str(own)
    assert {name for name, rule in rules.items() if rule["is_off"]} == {"mine", "disk-full"}
    page = place.run("rules", "list", AGENTWATCH_RULES_OFF="disk-full").stdout
    assert f"{len(rules)} rules from " in page
    assert re.search(r"^  disk-full +off +error", page, re.MULTILINE)


def test_a_file_that_merely_lies_in_the_directory_names_no_rules(place):
    """A cloned repository could wake somebody, or have a command run by what it recommends."""
    (place.base / "agentwatch.toml").write_text('[rules]\ndir = "/tmp/evil"\n')
    done = place.run("rules", "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert "`rules.dir` may not stand in a file that merely lies in the directory" in done.stderr
