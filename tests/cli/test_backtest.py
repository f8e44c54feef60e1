"""`agentwatch backtest`: one's own history under other settings."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from agentwatch.apps.backtest import Kept, compare
from agentwatch.model import Severity


@pytest.fixture
def history(place, errors):
    """Five equal errors of one attempt, three of another."""
    place.write(*(errors(minute, "loops") for minute in range(5)), *(errors(minute, "struggles") for minute in range(3)))
    return place


def compared(place, *arguments):
    done = place.run("backtest", "--days", "3650", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_lower_threshold_tells_more(history):
    """What is new is named; nothing is gone."""
    found = compared(history, "--set", "error_loop.threshold=3")
    assert (found["before"]["error_loop"], found["after"]["error_loop"]) == (1, 2)
    assert [(one["type"], one["attempt_id"]) for one in found["new"]] == [("error_loop", "struggles")]
    assert found["gone"] == []
    assert found["changed"] == {"error_loop.threshold": ["4", "3"]}


def test_a_type_that_is_switched_off_is_gone(history):
    """And nothing else is."""
    found = compared(history, "--set", "alerts.off=error_loop")
    assert [one["type"] for one in found["gone"]] == ["error_loop"]
    assert "error_loop" not in found["after"]


def test_a_file_of_settings_may_be_compared_with(history):
    """What it says for one executor too."""
    for row in range(3):
        history.write(
            {"timestamp": f"2026-02-09T09:0{row}:00Z", "attempt_id": "c", "executor": "CODEX", "event_type": "error", "data": {"error_fingerprint": "x"}}
        )
    (history.base / "strict.toml").write_text("[executor.codex.error_loop]\nthreshold = 2\n")
    found = compared(history, "--with", "strict.toml")
    assert [one["attempt_id"] for one in found["new"]] == ["c"]
    assert found["changed"] == {"executor.codex.error_loop.threshold": ["", "2"]}


def test_a_number_that_takes_the_place_of_finer_rules_says_so(history):
    """Who lowers one may hear of less; a switch takes no rule's place."""
    said = "A number that is set holds on every log, in place of the finer rules"
    assert said in history.run("backtest", "--days", "3650", "--set", "error_loop.threshold=3").stdout
    assert said not in history.run("backtest", "--days", "3650", "--set", "alerts.off=error_loop").stdout


def test_only_the_days_asked_for_are_compared(history):
    """The logs are of February."""
    done = history.run("backtest", "--days", "7", "--set", "error_loop.threshold=3", "--json")
    assert json.loads(done.stdout)["after"] == {}


def test_nothing_is_written(history):
    """No alert, no state, no lock."""
    before = sorted(history.base.rglob("*"))
    compared(history, "--set", "error_loop.threshold=3")
    assert sorted(history.base.rglob("*")) == before


def test_the_page_shows_what_changes(history):
    """Counts by type, and each incident in words."""
    done = history.run("backtest", "--days", "3650", "--set", "error_loop.threshold=3")
    assert "error_loop.threshold: 4 -> 3" in done.stdout
    assert "Told besides" in done.stdout
    assert "struggles is in an error loop" in done.stdout


WRONG = {
    "no change": ((), "nothing to compare with"),
    "no value": (("--set", "stuck.threshold_ms"), "sets nothing"),
    "an unknown key": (("--set", "stuck.limit=3"), "there is no setting `stuck.limit`"),
    "a wrong value": (("--set", "stuck.threshold_ms=soon"), "stuck.threshold_ms"),
    "an unknown type": (("--set", "alerts.off=noise"), "there is no type of alert `noise`"),
    "a file that is not there": (("--with", "nowhere.toml"), "nowhere.toml"),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_compared_is_refused(history, arguments, said):
    """With what is wrong and what to do."""
    done = history.run("backtest", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "hint: " in done.stderr


def test_two_incidents_are_never_paired_with_the_same_one():
    """What is told now and what then differ by what is gone and what is new."""
    at = datetime(2026, 2, 9, 10, tzinfo=UTC)
    one, other, later = (Kept(at + timedelta(minutes=minutes), "cost_anomaly", Severity.LOW, "a1", str(minutes)) for minutes in (0, 5, 50))
    found = compare([one, later], [one, other, later], changed={})
    assert (found.gone, [incident.summary for incident in found.new]) == ([], ["5"])
