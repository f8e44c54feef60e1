"""Silence where somebody owes an answer, where the log shows whose turn it is."""

from datetime import timedelta

import pytest

from agentwatch.core.limits import Limits

DAY = timedelta(days=1)


def stuck_after(log, limits=None):
    """Seconds from the last line to the first alert about silence; None within half a day."""
    last = log.at - timedelta(seconds=1)
    alerts = [alert for alert in log.alerts(until=last + timedelta(hours=11), limits=limits) if alert.type == "stuck_agent"]
    return (alerts[0].timestamp - last).total_seconds() if alerts else None


WAITS = {
    "for the model after a result": (lambda log: log.both(), 480),
    "for the model after a prompt": (lambda log: log.both().add("turn_end").add("user_message", output="go"), 480),
    "for a tool": (lambda log: log.call("Read", {"path": "src/a.py"}), 300),
    "for the slowest of parallel tools": (lambda log: log.call("Read", {"path": "src/a.py"}).call("Task", {"prompt": "look"}), 1800),
    "for the one that is not back": (lambda log: log.call("Task", {"prompt": "look"}).call("Read", {"path": "a.py"}).result(number=1), 300),
    "for a tool that was given leave": (lambda log: log.call("Task", {"prompt": "look"}).add("turn_end", reason="permission").add("turn_start"), 1800),
    "for a sub-agent at work": (lambda log: log.call("Task", {"prompt": "look"}).call("Read", {"path": "src/a.py"}, lane="s1"), 1800),
}

SHELL = ["<bash-input>git status</bash-input>", "<bash-stdout></bash-stdout><bash-stderr></bash-stderr>", "<local-command-stdout>Bye!</local-command-stdout>"]
RESTS = {
    "what a person ran in the agent's shell": lambda log: [log.both().add("turn_end"), *(log.add("user_message", output=text) for text in SHELL)][0],
    "what a hook said after the end": lambda log: log.both().add("agent_output", output="Done.").add("user_message", output="Stop hook feedback:\nnot yet"),
    "a last word": lambda log: log.both().add("agent_output", output="Done."),
    "the end of a turn": lambda log: log.both().add("turn_end"),
    "a turn that ended with a call open": lambda log: log.call().add("turn_end", interrupted=True),
    "an interrupt": lambda log: log.call().add("user_message", output="[Request interrupted by user]", interrupted=True),
    "a question among parallel calls": lambda log: log.call().call("AskUserQuestion", {"question": "Which one?"}),
    "a question for leave to call": lambda log: log.call().add("turn_end", reason="permission"),
    "a turn that ended before its sub-agent": lambda log: log.call("Read", {"path": "src/a.py"}, lane="s1").both().add("turn_end"),
}


@pytest.mark.parametrize(("waits", "limit_s"), WAITS.values(), ids=WAITS.keys())
def test_whoever_owes_has_a_limit_of_their_own(new_log, waits, limit_s):
    """The model 8 minutes, a tool what it declares or 5, a sub-agent half an hour."""
    assert stuck_after(waits(new_log())) == limit_s


@pytest.mark.parametrize("rests", RESTS.values(), ids=RESTS.keys())
def test_nobody_is_stuck_who_waits_for_a_person(new_log, rests):
    """The agent has handed back, or asks."""
    assert stuck_after(rests(new_log())) is None


def test_a_limit_that_was_set_holds_for_the_model_too(log):
    """It is what the user asked for; a tool keeps its own where that is longer."""
    limits = Limits(stuck=timedelta(seconds=60), stuck_is_explicit=True)
    assert stuck_after(log.both(), limits) == 60
    assert stuck_after(log.call("Read", {"path": "src/a.py"}), limits) == 300


def test_silence_is_told_once_escalates_once_and_ends(log):
    """At the limit, at three times the limit, and with the next line."""
    log.both().wait(4000).both()
    alerts = log.alerts()
    assert [(str(alert.status), str(alert.severity)) for alert in alerts] == [("open", "medium"), ("escalated", "high"), ("recovered", "medium")]
    assert [alert.detail["idle_time_ms"] for alert in alerts] == [480_000, 1_440_000, 4_001_000]
    assert len({alert.episode_id for alert in alerts}) == 1


def test_each_silence_is_an_incident_of_its_own(log):
    """Its evidence is another line."""
    for name in "abc":
        log.both(params=f"cat {name}").wait(600)
    log.both()
    assert log.told() == [("stuck_agent", "open"), ("stuck_agent", "recovered")] * 3
    assert len({alert.alert_id for alert in log.alerts()}) == 6


def test_nobody_hears_of_an_agent_that_waits_for_its_user_unless_they_want_to(log):
    """It has finished, or asks: that is no fault."""
    log.both().add("turn_end")
    assert log.told(until=log.at + timedelta(hours=5)) == []


ASKS = {
    "after its answer": (lambda log: log.both().add("turn_end"), "for its user"),
    "with a question": (lambda log: log.call("AskUserQuestion", {"question": "Which?"}), "for an answer to AskUserQuestion"),
}


@pytest.mark.parametrize(("asks", "what"), ASKS.values(), ids=ASKS.keys())
def test_who_wants_to_hear_of_a_waiting_agent_does(new_log, asks, what):
    """After as long as was set, once, and that it goes on."""
    log, limits = asks(new_log()), Limits(waiting=timedelta(seconds=60))
    last = log.at - timedelta(seconds=1)
    log.wait(3000).add("user_message", output="the second one")
    first, second = log.alerts(limits=limits)
    assert (first.type, first.severity, first.timestamp) == ("waiting_for_user", "low", last + timedelta(seconds=60))
    assert what in first.summary
    assert (second.type, str(second.status), second.episode_id) == ("waiting_for_user", "recovered", first.episode_id)


@pytest.mark.parametrize(("limits", "kind"), [(Limits(stuck=DAY, stuck_is_explicit=True), "stuck_agent"), (Limits(waiting=DAY), "waiting_for_user")])
def test_a_silence_that_is_told_after_a_day_is_remembered_for_a_day(log, limits, kind):
    """By one who watches, too."""
    log.both().add("turn_end") if kind == "waiting_for_user" else log.both()
    later = [log.at + timedelta(minutes=minutes) for minutes in range(0, 25 * 60, 10)]
    assert [alert.type for alert in log.watched(later, limits=limits)] == [alert.type for alert in log.alerts(until=later[-1], limits=limits)] == [kind]
