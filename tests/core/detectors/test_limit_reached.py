"""Accounts that have used up what they may."""

from datetime import UTC, datetime, timedelta

import pytest

from agentwatch.core.limits import Limits

USED_UP = "You've hit your usage limit. Try again in 2 hours."


def told(log, **more):
    return [(str(alert.status), alert.timestamp, alert.detail) for alert in log.alerts(**more) if alert.type == "limit_reached"]


def test_a_used_up_account_is_told_at_once(log):
    """With its kind and when it is reset."""
    log.both().add("error", error_message=USED_UP, error_category="rate_limit")
    (alert,) = (alert for alert in log.alerts() if alert.type == "limit_reached")
    assert (alert.detail["limit_kind"], alert.detail["resets_at"], alert.recommendation, alert.severity) == (
        "usage",
        "2026-02-09T12:00:02+00:00",
        "wait_for_reset",
        "medium",
    )
    assert alert.evidence[0].text == USED_UP


def test_retries_that_help_are_no_news(log):
    """Two rejected requests, and the third is answered."""
    for _ in range(20):
        log.both().add("error", error_message="429 Too Many Requests").add("error", error_message="429 Too Many Requests")
    assert told(log) == []


def test_a_rate_limit_that_retries_do_not_cure_is_told(log):
    """At the third in a row, once."""
    log.both()
    for _ in range(5):
        log.add("error", error_message="429 Too Many Requests")
    ((status, at, detail),) = told(log)
    assert (status, detail["limit_kind"]) == ("open", "rate")
    assert (log.at - at).total_seconds() == 3


def test_an_agent_that_gives_up_at_a_rate_limit_is_told_at_once(log):
    """Its log says that it will not try again."""
    log.both().add("error", error_message="429 Too Many Requests", retry=False)
    assert len(told(log)) == 1


def test_names_alone_are_judged_by_the_settings_rules(log):
    """Rate limits there are what `error_loop` is for."""
    for _ in range(3):
        log.add("error", error_message="429 Too Many Requests", error_fingerprint="rate_limit")
    assert log.told() == []


@pytest.mark.parametrize("works", ["tool_call", "agent_output"])
def test_an_agent_that_works_again_has_recovered(log, works):
    """Whatever the error said of when."""
    log.both().add("error", error_message=USED_UP).wait(600).add("error", error_message=USED_UP).wait(600).add(works, tool_name="Bash", output="On it.")
    assert [status for status, _, _ in told(log)] == ["open", "recovered"]


def test_a_limit_is_over_when_it_says_so(log):
    """The second line has the time of the reset, and nobody was stuck until then."""
    log.both().add("error", error_message=USED_UP)
    assert [status for status, _, _ in told(log, until=log.at + timedelta(hours=1))] == ["open"]
    assert log.starts("stuck_agent", until=log.at + timedelta(hours=2)) == 0
    (_, _, _), (status, at, _) = told(log, until=log.at + timedelta(hours=3))
    assert (status, at) == ("recovered", datetime(2026, 2, 9, 12, 0, 2, tzinfo=UTC))


def test_who_does_not_go_on_after_a_reset_is_stuck(log):
    """Its patience begins when it could have gone on."""
    log.both().add("error", error_message=USED_UP)
    (alert,) = (alert for alert in log.alerts(until=log.at + timedelta(hours=2, minutes=10)) if alert.type == "stuck_agent")
    assert alert.timestamp == datetime(2026, 2, 9, 12, 8, 2, tzinfo=UTC)


def test_a_reset_of_next_week_is_waited_for(log):
    """Longer than a silent attempt is remembered otherwise."""
    log.both().add("error", error_message="You've hit your weekly limit · resets Feb 12, 5am (UTC)")
    assert [status for status, _, _ in told(log, until=log.at + timedelta(days=4))] == ["open", "recovered"]


def test_an_account_without_a_known_reset_makes_its_agent_wait_for_a_limit(log):
    """A long silence says what it waits for."""
    log.both().add("error", error_message="Your credit balance is too low")
    (alert,) = (alert for alert in log.alerts(until=log.at + timedelta(minutes=10)) if alert.type == "stuck_agent")
    assert alert.detail["waiting_for"] == "limit"


def test_a_session_that_ends_at_its_limit_has_not_recovered(log):
    """Nothing of it works again."""
    log.both().add("error", error_message="insufficient_quota").add("session_end", completion_status="failed")
    assert [status for status, _, _ in told(log)] == ["open"]


def test_sub_agents_that_are_rejected_together_need_no_help(log):
    """One error of each is no retry that failed; three of one are."""
    lanes = ["s1", "s2", "s3", "s4"]
    log.both()
    for lane in lanes:
        log.add("error", lane, error_message="429 Too Many Requests", retry=True)
    assert told(log) == []
    for lane in ["s1", "s2", "s1"]:
        log.add("error", lane, error_message="429 Too Many Requests", retry=True)
    assert [status for status, _, _ in told(log)] == ["open"]


def test_a_sub_agents_file_that_is_read_late_has_its_own_retries(log):
    """Each is answered, though their parent has gone on long since."""
    began = log.at
    log.wait(400).both(params="pwd")
    log.at = began
    for number in range(4):
        log.add("error", "s", error_message="429 Too Many Requests", retry=True).both(params=f"cat {number}", lane="s")
    assert told(log) == []


def test_what_was_done_before_a_limit_is_no_recovery_from_it(log):
    """It stands in a file that is read later."""
    began = log.at
    log.wait(300).both().add("error", error_message=USED_UP)
    log.at = began
    log.both(params="cat 1", lane="s")
    assert [status for status, _, _ in told(log)] == ["open"]


def test_another_kind_of_limit_does_not_hide_the_end_of_the_first(log):
    """An account that is used up rejects retries in many words; one limit may follow another."""
    log.both().add("error", error_message=USED_UP).add("error", error_message="429 Too Many Requests").both()
    assert [(status, detail["limit_kind"]) for status, _, detail in told(log)] == [("open", "usage"), ("recovered", "usage")]
    log.add("error", error_message="429 Too Many Requests", retry=False).add("error", error_message="insufficient_quota").both()
    assert [(status, detail["limit_kind"]) for status, _, detail in told(log)][2:] == [
        ("open", "rate"),
        ("recovered", "rate"),
        ("open", "quota"),
        ("recovered", "quota"),
    ]


def test_who_does_not_go_on_after_a_reset_of_next_week_is_stuck(log):
    """For one who watches as for one who reads the log later: a tick does not forget what it has not told."""
    log.both().add("error", error_message="You've hit your weekly limit · resets Feb 12, 5am (UTC)")
    later = [log.at + timedelta(minutes=minutes) for minutes in range(0, 3 * 24 * 60, 5)]
    assert log.starts("stuck_agent", until=later[-1]) == 1
    assert [(alert.type, alert.timestamp) for alert in log.watched(later)] == [(alert.type, alert.timestamp) for alert in log.alerts(until=later[-1])]


def test_a_reset_is_told_when_it_comes(log):
    """However long other silences may last: five minutes later at most."""
    log.both().add("error", error_message=USED_UP)
    seconds = [log.at + timedelta(seconds=second) for second in range(0, 7500, 10)]
    assert [alert.type for alert in log.watched(seconds, limits=Limits(stuck=timedelta(hours=9), stuck_is_explicit=True))] == ["limit_reached"] * 2


def test_the_wait_for_a_reset_is_no_part_of_an_agents_patience(log):
    """After three times eight minutes it is told again, not after three times two hours."""
    log.both().add("error", error_message=USED_UP)
    silences = [alert for alert in log.alerts(until=log.at + timedelta(hours=3)) if alert.type == "stuck_agent"]
    assert [str(alert.status) for alert in silences] == ["open", "escalated"]
    assert silences[1].timestamp - silences[0].timestamp == timedelta(minutes=16)
