"""Money, told while it is spent."""

import pytest

from agentwatch.core.limits import Limits


def test_each_doubling_of_what_was_told_is_told_again(log):
    """25, 50, 100, 200 dollars: one episode, ever more urgent."""
    for _ in range(220):
        log.add("usage", cost_usd=1).wait(60)
    alerts = log.alerts()
    assert [(alert.detail["cost_usd"], str(alert.severity)) for alert in alerts] == [(26, "low"), (52, "medium"), (104, "high"), (208, "high")]
    assert len({alert.episode_id for alert in alerts}) == 1


def test_more_than_a_dollar_is_much_only_where_steps_have_no_costs(new_log):
    """Forty of a hundred healthy sessions cost more than one."""
    steps = new_log().add("usage", cost_usd=2).add("session_end", completion_status="success", cost_usd=2.5)
    whole = new_log().add("usage").add("session_end", completion_status="success", cost_usd=2.5)
    assert (steps.told(), whole.told()) == ([], [("cost_anomaly", "open")])


def test_a_limit_that_the_user_has_set_holds_for_steps_too(log):
    """However small."""
    log.add("usage", cost_usd=2)
    assert log.told(limits=Limits(cost_usd=1.5, cost_is_explicit=True)) == [("cost_anomaly", "open")]


def test_two_dollars_a_minute_for_ten_minutes_are_told_once(log):
    """Not again as long as it goes on; again when it begins anew."""
    limits = Limits(cost_usd=1e6, cost_is_explicit=True)
    for _ in range(30):
        log.add("usage", cost_usd=1).wait(34)
    assert log.starts("cost_anomaly", limits=limits) == 0
    for _ in range(60):
        log.add("usage", cost_usd=1).wait(20)
    assert log.starts("cost_anomaly", limits=limits) == 1
    assert log.alerts(limits=limits)[0].detail["cost_usd"] > 20
    log.add("turn_end").wait(3600)
    for _ in range(30):
        log.add("usage", cost_usd=1).wait(20)
    assert log.starts("cost_anomaly", limits=limits) == 2


def test_the_whole_cost_at_the_end_is_not_added_to_its_steps(log):
    """It replaces them."""
    log.add("usage", cost_usd=15).add("usage", cost_usd=4).add("session_end", completion_status="success", cost_usd=20)
    assert log.told() == []


@pytest.mark.parametrize("cost", [1e20, 1e300], ids=["more than there is", "more than a checkpoint holds"])
def test_a_nonsensical_cost_is_one_alert(new_log, cost):
    """And no exception."""
    log = new_log().add("session_end", completion_status="success", cost_usd=cost, duration_ms=1e300)
    assert log.told() == [("cost_anomaly", "open")]
