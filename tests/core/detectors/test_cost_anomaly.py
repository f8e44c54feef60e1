"""Money, told while it is spent."""

import pytest


def test_each_doubling_of_what_was_told_is_told_again(log):
    """1.5, 3, 6, 12 dollars: one episode, ever more urgent."""
    for _ in range(24):
        log.add("usage", cost_usd=0.5)
    alerts = log.alerts()
    assert [(alert.detail["cost_usd"], str(alert.severity)) for alert in alerts] == [(1.5, "low"), (3.0, "medium"), (6.0, "high"), (12.0, "high")]
    assert len({alert.episode_id for alert in alerts}) == 1


def test_the_whole_cost_at_the_end_is_not_added_to_its_steps(log):
    """It replaces them."""
    log.add("usage", cost_usd=0.6).add("session_end", completion_status="success", cost_usd=0.7)
    assert log.told() == []


@pytest.mark.parametrize("cost", [1e20, 1e300], ids=["more than there is", "more than a checkpoint holds"])
def test_a_nonsensical_cost_is_one_alert(new_log, cost):
    """And no exception."""
    log = new_log().add("session_end", completion_status="success", cost_usd=cost, duration_ms=1e300)
    assert log.told() == [("cost_anomaly", "open")]
