"""Money, told while it is spent."""

import msgspec
import pytest

from agentwatch.core.detectors.cost_anomaly import usual_usd
from agentwatch.core.engine import Engine
from agentwatch.core.limits import Limits
from agentwatch.core.snapshot import Snapshot
from agentwatch.formats.canonical import Decoder


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


def spend(log, *costs, lane=None):
    for cost in costs:
        log.add("usage", lane, cost_usd=cost)
    return log


def told(log, limits):
    return [
        (str(alert.status), alert.detail["cost_usd"], alert.detail["threshold_usd"], alert.summary)
        for alert in log.alerts(limits=limits)
        if alert.type == "cost_anomaly"
    ]


def test_a_budget_of_a_day_is_told_when_it_is_spent_and_at_each_doubling(log):
    """As one incident of the day, whoever spends."""
    spend(log, 4, 4, 4).wait(700)
    spend(log, 8, 1)
    alerts = [alert for alert in log.alerts(limits=Limits(usd_per_day=10)) if alert.type == "cost_anomaly"]
    assert [(str(alert.status), alert.detail["cost_usd"]) for alert in alerts] == [("open", 12), ("escalated", 21)]
    assert {alert.episode_id for alert in alerts} == {alerts[0].alert_id}
    assert "all attempts have spent $12.00 on 2026-02-09; the budget is $10.00 a day" in alerts[0].summary


def test_a_day_is_one_of_utc(log):
    """What is spent after midnight is the next day's."""
    spend(log, 6).wait(86_400)
    spend(log, 6)
    assert told(log, Limits(usd_per_day=10)) == []


def test_the_id_of_a_days_budget_does_not_rest_on_who_crossed_it(new_log):
    """Logs are read in any order."""
    limits = Limits(usd_per_day=10)
    one, other = spend(new_log(), 4, 8), spend(new_log(), 8, 4)
    other.lines = [row.replace(b'"a1"', b'"a2"') for row in other.lines]
    assert [alert.alert_id for alert in one.alerts(limits=limits)] == [alert.alert_id for alert in other.alerts(limits=limits)]


def test_a_projects_budget_counts_its_own(log):
    """By the folder that the attempt works in."""
    spend(log, 6, 6)
    limits = Limits(usd_per_project_day=10)
    assert told(log, limits) == []
    log.lines = [row.replace(b'"data"', b'"project_id": "/srv/shop", "data"') for row in log.lines]
    ((_, usd, _, summary),) = told(log, limits)
    assert (usd, summary) == (12, "/srv/shop has cost $12.00 on 2026-02-09; the budget is $10.00 a day")


def test_a_sub_agents_budget_is_its_own(log):
    """What the agent itself and other sub-agents spend is not counted."""
    spend(log, 6)
    spend(log, 3, 3, lane="s1")
    spend(log, 3, lane="s2")
    ((_, usd, _, summary),) = told(log, Limits(usd_per_subagent=5))
    assert usd == 6
    assert "the sub-agent s1 of a1 has cost $6.00" in summary


def learnt(log, usual, limits=None):
    """The limits that are told where this has been learnt, over a restart."""
    decoder, out = Decoder(), []
    engine = Engine(limits or Limits(), lambda *_: None)
    engine.learn(usual)
    engine = Engine(limits or Limits(), lambda *_: None, msgspec.json.decode(msgspec.json.encode(engine.snapshot()), type=Snapshot))
    decoder.read(log.lines, 0, lambda items: engine.feed("log", "", items, decoder, out), pytest.fail)
    return [alert.detail["threshold_usd"] for alert in out]


def test_what_an_executors_sessions_usually_cost_replaces_the_default_budget(log):
    """Unless the user has set one."""
    spend(log, 3, 3)
    log.lines = [row.replace(b'"data"', b'"executor": "codex", "data"') for row in log.lines]
    assert learnt(log, {"CODEX": 5.0}) == [5.0]
    assert learnt(log, {"CODEX": 5.0}, Limits(cost_usd=10.0, cost_is_explicit=True)) == []
    assert learnt(log, {"CLAUDE": 5.0}) == []


def test_what_is_usual_is_twice_what_19_of_20_sessions_cost_at_most():
    """Five dollars at least, and nothing of an executor with less than 20 sessions."""
    dear = [("claude", float(usd)) for usd in range(1, 21)]
    assert usual_usd([*dear, *[("CODEX", 0.5)] * 20, *[("GEMINI", 50.0)] * 19]) == {"CLAUDE": 38.0, "CODEX": 5.0}


@pytest.mark.parametrize(("budget", "told"), [(5.0, 1), (15.0, 0)])
def test_a_budget_counts_what_only_the_end_of_a_session_tells(log, budget, told):
    """And of a session whose steps have costs what is more than theirs."""
    log.add("usage", cost_usd=4).add("session_end", completion_status="success", cost_usd=12)
    assert log.starts("cost_anomaly", limits=Limits(cost_usd=1e6, cost_is_explicit=True, usd_per_day=budget)) == told


def test_the_first_line_of_a_budget_opens_it(log):
    """However much of it one step has spent."""
    log.add("usage", cost_usd=9).add("usage", cost_usd=9)
    assert log.told(limits=Limits(usd_per_day=1.5)) == [("cost_anomaly", "open"), ("cost_anomaly", "escalated")]


def test_a_budget_next_to_nothing_is_one_alert(log):
    """And no exception."""
    assert log.add("usage", cost_usd=1).told(limits=Limits(usd_per_day=5e-324)) == [("cost_anomaly", "open")]
