"""`agentwatch raw` against a search line by line, and over logs that are rotated, compressed, torn, huge or hostile."""

import gzip
import json
import os
import random
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.apps import raw
from agentwatch.apps.raw import Query, search
from agentwatch.errors import UnknownNameError, UsageError


def stamped(second, text):
    return f"2026-02-09T08:{second // 60:02}:{second % 60:02}Z {text}\n"


def texts(log_dir, pattern=None, **query):
    return [hit.text for hit in search(log_dir, Query(pattern, **query))]


@pytest.fixture
def logs(tmp_path):
    (tmp_path / "runs" / "r1").mkdir(parents=True)
    (tmp_path / "runs" / "latest").symlink_to("r1")
    return tmp_path


# ---------------------------------------------------------------------------------------------------------------- what is found

LINES = st.lists(st.sampled_from([b"", b"a", b"ab", b"xaby", b"aab\r", b"b" * 30, "é".encode(), b"\xff\xfe", b"\0a", b"a" * 9]), max_size=30)


@settings(max_examples=150)
@given(LINES, st.booleans(), st.integers(0, 3), st.sampled_from(["a", "ab", "a+b", "^a", "b$", "[^x]*b", "a|é", "(a)(b)?"]), st.integers(1, 40))
def test_every_matching_line_is_found_with_its_neighbours_wherever_the_blocks_end(tmp_path_factory, lines, is_ended, context, pattern, block_bytes):
    """As a search line by line finds them: number, offset, match and what stands round it."""
    import re2

    path = tmp_path_factory.getbasetemp() / "property.log"
    data = b"\n".join(lines) + (b"\n" if is_ended and lines else b"")
    path.write_bytes(data)
    query = Query(pattern, context=context)
    with raw.closing(raw.Log(path, is_archive=False)) as log:
        found = [
            (hit.line, hit.offset, hit.text, hit.before, hit.after) for hit in raw._Scan("s", log, raw._Search(query, raw._finder(query), block_bytes)).hits()
        ]
    whole = data.split(b"\n")[: -1 if data.endswith(b"\n") or not data else None]
    shown = [line.decode("utf-8", "backslashreplace") for line in (one.rstrip(b"\r") for one in whole)]
    starts = [sum(len(one) + 1 for one in whole[:number]) for number in range(len(whole))]
    compiled = re2.compile(pattern)
    assert found == [
        (number + 1, starts[number], shown[number], tuple(shown[max(0, number - context) : number]), tuple(shown[number + 1 : number + 1 + context]))
        for number, line in enumerate(whole)
        if compiled.search(line)
    ]


def test_lines_of_all_logs_come_in_the_order_of_their_times(logs):
    """Rotated and compressed ones before what they were rotated from; a line without a time stays with the one before it."""
    (logs / "app.log").write_text(stamped(30, "app x") + "    trace x\n" + stamped(50, "app x"))
    (logs / "app.log.2.gz").write_bytes(gzip.compress(stamped(5, "oldest x").encode()))
    (logs / "app.log.1").write_text(stamped(10, "older x"))
    for number, name in enumerate(("app.log.2.gz", "app.log.1", "app.log")):
        os.utime(logs / name, (1e9 + number, 1e9 + number))
    (logs / "runs/r1/main-app.jsonl").write_text(json.dumps({"timestamp": "2026-02-09T09:00:40+01:00", "level": "error", "message": "winston x"}) + "\n")
    (logs / "fluent.log").write_text('app.tag: [1770624045.500000000, {"log":"fluent x"}]\n')
    (logs / "archive").mkdir()
    (logs / "archive/agent-work-stream-20260208T000000.jsonl.gz").write_bytes(gzip.compress(b'{"timestamp":"2026-02-08T00:00:00Z","x":1}\n'))
    found = texts(logs, "x")
    assert [text.split()[-2] if "Z " in text else text.strip()[:12] for text in found] == [
        '{"timestamp"', "oldest", "older", "app", "trace x", '{"timestamp"', "app.tag: [17", "app",
    ]  # fmt: skip
    assert [hit.timestamp.isoformat() for hit in search(logs, Query("fluent"))] == ["2026-02-09T08:00:45.500000+00:00"]


def test_outputs_of_ours_and_what_links_lead_to_are_not_searched(logs, tmp_path):
    """An error is found once, where it was written; a link may lead anywhere, a pipe waits for ever."""
    for name in ("agent-alerts.jsonl", "agent-errors.jsonl", "agent-metrics.jsonl", "agent-sessions/a.jsonl", ".agentwatch/x.log"):
        (logs / name).parent.mkdir(exist_ok=True)
        (logs / name).write_text("needle\n")
    os.mkfifo(logs / "pipe.log")
    (logs / "runs/r1/link.log").symlink_to("/etc/passwd")
    (logs / "notes.txt").write_text("needle\n")
    assert texts(logs, "needle|root") == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param({"sources": ("worker",)}, {"runs/r1/worker.log", "runs/r2/worker.log.1", "worker.jsonl"}, id="name"),
        pytest.param({"sources": ("worker.log",)}, {"runs/r1/worker.log", "runs/r2/worker.log.1"}, id="file"),
        pytest.param({"sources": ("runs/r1/*",)}, {"runs/r1/worker.log", "runs/r1/api/main.log"}, id="path"),
        pytest.param({"sources": ("main", "w*")}, {"runs/r1/worker.log", "runs/r2/worker.log.1", "worker.jsonl", "runs/r1/api/main.log"}, id="several"),
        pytest.param({"run": "r1"}, {"runs/r1/worker.log", "runs/r1/api/main.log"}, id="run"),
        pytest.param({"run": "r2", "sources": ("worker",)}, {"runs/r2/worker.log.1"}, id="both"),
    ],
)
def test_sources_and_runs_are_chosen_by_name(logs, query, expected):
    """A source is a file's name without its ending, in whichever run; its rotated files are the same source."""
    for name in ("runs/r1/worker.log", "runs/r2/worker.log.1", "worker.jsonl", "runs/r1/api/main.log"):
        (logs / name).parent.mkdir(exist_ok=True)
        (logs / name).write_text("needle\n")
    assert {hit.source for hit in search(logs, Query("needle", **query))} == expected


def test_a_source_that_is_not_there_is_told_with_those_that_are(logs):
    """At once: not when the first line is asked for."""
    (logs / "app.log").write_text("x\n")
    with pytest.raises(UnknownNameError) as refused:
        search(logs, Query("x", sources=("ap",)))
    assert refused.value.hint == "there are app"


def test_since_counts_the_time_of_the_line_or_of_the_one_before_it(logs):
    """A stack trace is as old as its error; what has no time at all is found."""
    (logs / "app.log").write_text("no time x\n" + stamped(10, "old x") + "  old trace x\n" + stamped(50, "new x") + "  new trace x\n")
    at = datetime(2026, 2, 9, 8, 0, 30, tzinfo=UTC)
    assert [text.strip() for text in texts(logs, "x", since=at)] == ["no time x", stamped(50, "new x").strip(), "new trace x"]


def test_a_match_never_goes_on_in_the_next_line(logs):
    """White space and negated sets match a line's end elsewhere."""
    (logs / "app.log").write_text("foo\nbar\nfoo bar\na\nc\n")
    assert texts(logs, r"foo\s+bar") == ["foo bar"]
    assert texts(logs, "a[^b]*c") == []
    assert texts(logs, "^(?:bar|c)$") == ["bar", "c"]


# ------------------------------------------------------------------------------------------------------------------ odd contents


def test_a_long_line_is_shown_round_the_match(logs):
    """Found wherever in it the match stands, at its own offset; a character is not cut in two."""
    (logs / "app.log").write_bytes(b"first\n" + b"\xc3\xa9" * 4_000_000 + b"needle" + b"y" * 5_000_000 + b"\nlast needle\n")
    first, second = search(logs, Query("needle"))
    assert (first.line, first.offset, second.line, second.text) == (2, 6, 3, "last needle")
    assert len(first.text) < 40_000
    assert first.text[slice(*first.match)] == "needle"
    assert "\\x" not in first.text
    assert first.text.startswith("…é")
    assert first.text.endswith("y…")


def test_a_line_without_an_end_and_a_hole_cost_nothing(logs):
    """A gigabyte of nothing between two lines is passed over, and 20 MB without a line break are searched in pieces."""
    with (logs / "app.log").open("wb") as file:
        file.write(b"one needle\n")
        file.seek(1 << 32)
        file.write(b"\ntwo needle")
    (logs / "piece.log").write_bytes(b"z" * 20_000_000 + b"needle")
    began = time.process_time()
    found = list(search(logs, Query("needle")))
    assert [hit.text[-10:] for hit in found if hit.source == "app.log"] == ["one needle", "two needle"]
    assert len(found) == 3
    assert time.process_time() - began < 5


def test_a_damaged_archive_and_a_file_that_cannot_be_read_are_told(logs):
    """What is in front of the damage is found."""
    # What does not compress stands in many blocks, so that the first of them come out.
    packed = gzip.compress(b"needle\n" + random.Random(1).randbytes(3_000_000) + b"\n")
    (logs / "app.log.1.gz").write_bytes(packed[: len(packed) // 2])
    told = []
    assert [hit.text for hit in search(logs, Query("^needle$"), told.append)] == ["needle"]
    assert told == ["`app.log.1.gz` was not searched to its end: Compressed file ended before the end-of-stream marker was reached"]


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)(.*)(.*)x$", "([a-zA-Z]+)*$", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_no_pattern_takes_more_than_linear_time(logs, pattern):
    """Patterns that take others for ever, on the line that does it to them."""
    (logs / "app.log").write_text("a" * 200_000 + "!\n")
    began = time.process_time()
    list(search(logs, Query(pattern)))
    assert time.process_time() - began < 5


# ------------------------------------------------------------------------------------------------------------------ as a program


def test_what_is_printed_is_harmless_and_says_where_it_stands(place):
    """A log cannot move the cursor, forge a line or hide one, neither for people nor in JSON."""
    run = place.logs / "runs" / "r1"
    run.mkdir(parents=True)
    (run / "app.log").write_bytes(b"before\n\x1b[2J\x1b]0;t\x07 needle \xe2\x80\xae \xff \xc2\x9b\rforged\nafter\n")
    done = place.run("raw", "--grep", "needle", "-C", "1")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "runs/r1/app.log-1- before",
        r"runs/r1/app.log:2: \x1b[2J\x1b]0;t\x07 needle \u202e \xff \x9b forged",
        "runs/r1/app.log-3- after",
    ]
    out = place.run("raw", "--grep", "needle", "--json", "--run", "r1").stdout
    assert out.isascii()
    (hit,) = map(json.loads, out.splitlines())
    assert hit["text"][slice(*hit["match"])] == "needle"
    assert (hit["source"], hit["offset"], hit["line"], hit["before"], hit["timestamp"]) == ("runs/r1/app.log", 7, 2, [], None)


def test_lines_round_several_matches_are_told_once(place):
    """As grep does."""
    place.logs.mkdir(parents=True)
    (place.logs / "app.log").write_text("".join(f"{number} {'needle' if number in (2, 4, 9) else 'hay'}\n" for number in range(1, 12)))
    done = place.run("raw", "--grep", "needle", "-C", "1")
    expected = ["1-", "2:", "3-", "4:", "5-", "--", "8-", "9:", "10-"]
    assert [line.removeprefix("app.log").lstrip("-:")[:3].split()[0] if line != "--" else "--" for line in done.stdout.splitlines()] == expected


def test_the_newest_alone(place):
    """With `--limit`, of all logs together."""
    place.logs.mkdir(parents=True)
    (place.logs / "a.log").write_text("".join(stamped(second, f"a{second}") for second in range(0, 20, 2)))
    (place.logs / "b.log").write_text("".join(stamped(second, f"b{second}") for second in range(1, 20, 2)))
    done = place.run("raw", "--limit", "3")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["b17", "a18", "b19"]


def test_the_answer_is_no(place):
    """Exit code 1, and nothing said; so is an empty directory and one that is not there."""
    done = place.run("raw", "--grep", "x")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert not place.logs.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(("--grep", "("), 2, "`--grep (` is not a regular expression: missing )", id="pattern"),
        pytest.param(("--grep", "(?=x)"), 2, "is not a regular expression", id="look-ahead"),
        pytest.param(("--grep", "a{1000}{1000}"), 2, "is not a regular expression", id="too large"),
        pytest.param(("--grep", ""), 2, "`--grep` is empty", id="empty"),
        pytest.param(("--run", "none"), 1, "there is no run `none`", id="run"),
        pytest.param(("--run", "../.."), 2, "cannot be a run's id", id="path"),
        pytest.param(("--source", "none"), 1, "there is no log `none`", id="source"),
        pytest.param(("-C", "-1"), 2, "Invalid value", id="context"),
        pytest.param(("--since", "soon"), 2, "is no time", id="since"),
    ],
)
def test_what_cannot_be_asked_is_told_with_its_remedy(place, arguments, code, message):
    """Nothing on stdout."""
    done = place.run("raw", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "\n\nhint: " in done.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly(place):
    """`raw | head` on a large log."""
    place.logs.mkdir(parents=True)
    (place.logs / "app.log").write_text("needle\n" * 500_000)
    process = subprocess.Popen(place.command("raw", "--grep", "needle"), cwd=place.base, env=place.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"app.log:1: needle\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0


def test_a_run_that_is_searched_is_not_removed(logs):
    """From the first line to the last."""
    from agentwatch.store import runs

    (logs / "runs/r1/app.log").write_text("needle\n" * 3)
    hits = search(logs, Query("needle", run="r1"))
    next(hits)
    assert not runs.remove(logs, runs.look(logs, "r1"))
    assert len(list(hits)) == 2
    assert runs.remove(logs, runs.look(logs, "r1"))
    assert Path(logs / "runs").is_dir()


def test_an_unreadable_pattern_is_refused_before_anything_is_read(logs):
    """Half of a surrogate pair is no text."""
    with pytest.raises(UsageError):
        search(logs, Query("\ud800+"))
