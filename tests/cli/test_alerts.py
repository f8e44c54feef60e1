"""`agentwatch alerts` over real alert logs, whole, torn, rotated and foreign."""

import gzip
import lzma
import os

import orjson
import pytest


def alert(number, *, at="2026-02-09T08:00:00Z", kind="error_loop", attempt="a-1", **more):
    return {
        "timestamp": at,
        "alert_id": f"{number:016x}",
        "type": kind,
        "severity": "high",
        "status": "open",
        "attempt_id": attempt,
        "summary": f"number {number}",
        **more,
    }


def line(value):
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def listed(place, *arguments):
    done = place.run("alerts", "--json", *arguments)
    assert done.returncode == 0
    return [int(orjson.loads(text)["alert_id"], 16) for text in done.stdout.splitlines()]


@pytest.fixture
def log(place):
    place.logs.mkdir(parents=True)
    return place.alerts


def test_the_newest_stands_last_whatever_the_order_in_the_file(place, log):
    """Evidence of silence is written after what happened later elsewhere."""
    log.write_bytes(
        line(alert(1, at="2026-02-09T09:00:00Z")) + line(alert(2, at="2026-02-09T08:59:59.5+00:00")) + line(alert(3, at="2026-02-09T10:30:00+01:00"))
    )
    assert listed(place) == [2, 1, 3]


def test_what_is_no_alert_is_passed_over(place, log):
    """A torn end, other programs' lines, rubbish and blanks."""
    foreign = [b"\n", b"not json\n", b"[1]\n", b'{"type": "x"}\n', b'{"alert_id": "y", "type": "z", "timestamp": "never"}\n', b"\xff\xfe\n"]
    log.write_bytes(b"".join([line(alert(1)), *foreign, line(alert(2)), line(alert(3))[:-5]]))
    assert listed(place) == [1, 2]


def test_rotated_files_are_read_and_nothing_twice(place, log):
    """Plain and compressed, under the names that logrotate gives; a copy counts once."""
    log.write_bytes(line(alert(4, at="2026-02-09T12:00:00Z")))
    (place.logs / "agent-alerts.jsonl.1").write_bytes(line(alert(3, at="2026-02-09T11:00:00Z")))
    (place.logs / "agent-alerts-20260208.jsonl").write_bytes(line(alert(2, at="2026-02-08T11:00:00Z")))
    (place.logs / "agent-alerts.jsonl.2.gz").write_bytes(gzip.compress(line(alert(1, at="2026-02-07T11:00:00Z")) + line(alert(3, at="2026-02-09T11:00:00Z"))))
    assert listed(place) == [1, 2, 3, 4]


def test_a_cut_off_archive_gives_what_is_in_it(place, log):
    """Half a gzip file is no reason to show nothing."""
    whole = gzip.compress(line(alert(1)))
    (place.logs / "agent-alerts.jsonl.1.gz").write_bytes(whole[:-6])
    log.write_bytes(line(alert(2, at="2026-02-09T12:00:00Z")))
    assert 2 in listed(place)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        pytest.param("agent-alerts.jsonl.1.gz", gzip.compress(line(alert(1)))[:-6], "is damaged: Compressed file ended", id="cut off"),
        pytest.param("agent-alerts.jsonl.1.gz", line(alert(1)), "is damaged: Not a gzipped file", id="not compressed"),
        pytest.param("agent-alerts.jsonl.1.gz", gzip.compress(b""), None, id="empty archive"),
        pytest.param("agent-alerts.jsonl.1.xz", lzma.compress(line(alert(1))), "holds no line that is an alert", id="in another compression"),
        pytest.param("agent-alerts.jsonl.1", b"", None, id="empty"),
    ],
)
def test_a_rotated_file_that_cannot_be_read_is_told(place, log, name, content, told):
    """Who looks for an alert shall know that not all were looked at; the others are shown."""
    (place.logs / name).write_bytes(content)
    log.write_bytes(line(alert(2, at="2026-02-09T12:00:00Z")))
    done = place.run("alerts", "--json")
    assert (done.returncode, [orjson.loads(text)["summary"] for text in done.stdout.splitlines()][-1:]) == (0, ["number 2"])
    assert done.stderr.startswith(f"`{place.logs / name}` {told}") if told else done.stderr == ""
    assert len(done.stderr.splitlines()) == bool(told)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_rotated_file_of_somebody_else_is_told(place, log):
    """The log's own is an error, for it is what was asked for."""
    log.write_bytes(line(alert(2)))
    (place.logs / "agent-alerts.jsonl.1").touch(0)
    done = place.run("alerts", "--json")
    assert (done.returncode, done.stderr) == (0, f"`{place.logs}/agent-alerts.jsonl.1` cannot be read: Permission denied\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["--type", "stuck_agent"], [2], id="type"),
        pytest.param(["--type", "stuck_agent", "--type", "tool_loop"], [2, 3], id="types"),
        pytest.param(["--attempt", "b-"], [3], id="beginning of an attempt"),
        pytest.param(["--since", "2026-02-09T08:30:00Z"], [2, 3], id="since a time"),
        pytest.param(["--since", "2026-02-09T10:00"], [3], id="since a time without zone"),
        pytest.param(["--since", "1h"], [], id="since an hour ago"),
        pytest.param(["--since", "2000w"], [1, 2, 3], id="since long ago"),
        pytest.param(["--since", "999999w"], [1, 2, 3], id="since before there were years"),
        pytest.param(["--type", "stuck_agent", "--attempt", "b-2"], [], id="both"),
    ],
)
def test_filters_narrow_the_list(place, log, arguments, expected):
    """Each filter takes away; together they take away more."""
    log.write_bytes(
        line(alert(1))
        + line(alert(2, at="2026-02-09T09:00:00Z", kind="stuck_agent"))
        + line(alert(3, at="2026-02-09T10:00:00Z", kind="tool_loop", attempt="b-2"))
    )
    assert listed(place, *arguments) == expected


def test_json_is_the_line_as_it_stands_in_the_log(place, log):
    """Unknown fields and odd characters come through."""
    strange = alert(1, later={"x": [1, None]}, summary="é \u202e \x1b[31m")
    log.write_bytes(line(strange))
    assert orjson.loads(place.run("alerts", "--json").stdout) == strange


def test_hostile_text_is_shown_harmlessly(place, log):
    """Neither escape sequences nor markup of the terminal library do anything."""
    log.write_bytes(line(alert(1, summary="[bold]not bold[/] \x1b]0;title\x07\x1b[2J \u202egnirts")))
    shown = place.run("alerts").stdout
    assert "[bold]not bold[/]" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_no_alerts_is_said_on_stderr(place):
    """A script that reads the list reads an empty one."""
    done = place.run("alerts")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("no alerts in ")
