"""The same error again and again."""

import pytest

from agentwatch.core.limits import Limits

BOOM = "ValueError: boom happened here"


def fail(log, n, text=BOOM, **data):
    """Another test each time, so that it is never the same call."""
    return log.both(params=f"pytest tests/{n}", text=text, is_error=True, **data)


def test_five_equal_failures_of_an_operation_are_a_loop(log):
    """Whatever the test, and wherever the text stands; four are ordinary struggling."""
    for n in range(3):
        fail(log, n)
    log.both("Read", {"path": "src/a"}, BOOM, is_error=True)
    fail(log, 4, "x", error_message=BOOM)
    assert log.starts("error_loop") == 0
    fail(log, 5)
    (alert,) = log.alerts()
    assert (alert.detail["occurrences"], alert.detail["sample_message"]) == (5, BOOM)
    assert alert.detail["error_fingerprint"].startswith("pytest: ")
    assert alert.evidence[0].offset == len(log.lines[0])


def test_the_same_call_failing_three_times_in_a_row_is_a_loop(log):
    """Never seen in a healthy session; two were."""
    log.both(text=BOOM, is_error=True).both(text=BOOM, is_error=True)
    assert log.starts("error_loop") == 0
    log.both(text=BOOM, is_error=True)
    assert log.starts("error_loop") == 1


def test_a_success_of_the_operation_ends_it(log):
    """Before it is one, and after: then it is told."""
    for n in range(8):
        fail(log, n)
        if n == 3:
            log.both(params="pytest --version", text="done")
    assert log.starts("error_loop") == 0
    fail(log, 8).both(params="pytest tests/0", text="done")
    log.both(params="pytest tests/1", text="done")
    assert log.told() == [("error_loop", "open"), ("error_loop", "recovered")]


def test_another_operations_success_does_not(log):
    """Reading the code helps nobody if the build goes on failing."""
    for n in range(5):
        fail(log, n).both("Read", {"path": f"src/{n}.py"}, f"text {n}")
    assert log.told() == [("error_loop", "open")]


def test_failures_in_parallel_count_once(log):
    """One message with five calls is one turn."""
    for n in range(5):
        log.call(params=f"pytest tests/{n}", msg_id="m1")
    for n in range(5):
        log.result(BOOM, number=n + 1, is_error=True)
    assert log.told() == []


def test_seven_edits_that_fail_in_a_row_are_a_loop_whatever_they_say(log):
    """Five and six were not always."""
    for n, name in enumerate(("one", "two", "three", "four", "five", "six")):
        log.both("Edit", {"path": f"src/{n}.py", "old": name}, f"String to replace not found in file: {name} words of text", is_error=True)
    assert log.starts("error_loop") == 0
    log.both("Edit", {"path": "src/7.py", "old": "x"}, "File has not been read yet. Read it first.", is_error=True)
    assert log.alerts()[0].detail["error_fingerprint"] == "failing_edits"


def test_a_person_who_speaks_ends_every_loop(log):
    """What comes then is another try."""
    for n in range(5):
        fail(log, n)
    log.add("user_message", output="try it otherwise")
    for n in range(4):
        fail(log, n)
    assert log.told() == [("error_loop", "open"), ("error_loop", "recovered")]


def test_five_errors_that_should_pass_are_a_storm_whatever_they_say(log):
    """A retry may fail in another way each time; an answer of the model ends it."""
    log.both()
    for message in ("FailedToOpenSocket", "ConnectionRefused", "FailedToOpenSocket", "overloaded"):
        log.add("error", error_message=message, error_category="api")
    assert log.starts("error_loop") == 0
    log.add("error", error_message="ConnectionRefused", error_category="api").add("agent_output", output="here again")
    assert log.told() == [("error_loop", "open"), ("error_loop", "recovered")]
    assert log.alerts()[0].detail["transient"] is True


def test_five_equal_complaints_of_a_framework_are_a_loop_though_the_model_answers(log):
    """Its answers are what they are about."""
    log.both()
    for _ in range(5):
        log.add("agent_output", output="I will think").add("error", error_message="No tool calls found in the response")
    assert log.starts("error_loop") == 1
    log.both()
    assert ("error_loop", "recovered") in log.told()


def test_a_failure_without_a_word_is_no_evidence(log):
    """`diff` and `grep` that find nothing exit with 1."""
    for n in range(6):
        log.both(params=f"grep {n} a.txt", text="", is_error=True)
    assert log.told() == []


NOT_OWN = {
    "a sibling failed": "<tool_use_error>Sibling tool call errored</tool_use_error>",
    "the user said no": "The user doesn't want to proceed with this tool use. The tool use was rejected",
    "interrupted": "[Request interrupted by user for tool use]",
}


@pytest.mark.parametrize("text", NOT_OWN.values(), ids=NOT_OWN.keys())
def test_what_others_caused_is_not_counted(new_log, text):
    """One failed edit of a batch made nine errors."""
    log = new_log()
    for n in range(9):
        log.both("Edit", {"path": f"src/{n}.py"}, text, is_error=True)
    log.add("session_end", completion_status="failed")
    assert log.told() == []


def test_names_and_numbers_make_another_error(log):
    """A chase from one missing module to the next is healthy."""
    for name in ("jupyterlab", "json5", "nbformat", "tornado", "pyzmq"):
        log.both(params=f"pip install {name}", text=f"ModuleNotFoundError: No module named '{name}'", is_error=True)
    assert log.starts("error_loop") == 0


def test_an_error_told_long_after_the_failed_result_counts(new_log):
    """Only right after it is it the same one."""
    for wait, loops in ((0, 0), (10, 1)):
        log = new_log()
        fail(log, 1, BOOM, error_message=BOOM).wait(wait)
        for _ in range(5):
            log.add("error", error_message=BOOM)
        assert log.starts("error_loop") == loops


def test_errors_of_sub_agents_count_by_lane(log):
    """Two agents that meet the same error once each are no loop."""
    for n in range(6):
        log.add("error", lane=f"agent{n % 3}", error_fingerprint="oom")
    assert log.starts("error_loop") == 0


def test_a_storm_is_one_episode_that_escalates_and_ends_with_the_session(log):
    """4, 16, 64, and the end: four lines for a hundred errors."""
    for _ in range(100):
        log.add("error", error_fingerprint="oom", error_message="out of memory")
    log.add("session_end", completion_status="success")
    alerts = log.alerts()
    assert [str(alert.status) for alert in alerts] == ["open", "escalated", "escalated", "recovered"]
    assert len({alert.episode_id for alert in alerts}) == 1


def test_within_the_cool_down_a_loop_is_one_episode(log):
    """An error every 150 s crosses the threshold again and again: told at the fourth, and when it has grown fourfold or lasted 15 minutes since."""
    for _ in range(15):
        log.add("error", error_fingerprint="oom").wait(149)
    alerts = log.alerts()
    assert [(alert.type, str(alert.status)) for alert in alerts] == [("error_loop", "open"), ("error_loop", "escalated")]
    assert (alerts[1].timestamp - alerts[0].timestamp).total_seconds() == 900
    assert len({alert.episode_id for alert in alerts}) == 1


def test_many_kinds_of_errors_keep_a_bounded_state(log):
    """A hostile log cannot make us grow, nor keep a real loop from being found."""
    for n in range(2000):
        log.add("error", error_fingerprint=f"e{n}" * 500)
    for _ in range(4):
        log.add("error", error_fingerprint="oom")
    assert log.starts("error_loop") == 1


def test_polls_that_fail_until_what_they_wait_for_is_there_are_no_loop(log):
    """`gh pr checks` exits with 8 as long as they run; for an hour it is one."""
    for _ in range(7):
        log.call(params="sleep 30 && gh pr checks 55").wait(30).result("Exit code 8\nbuild\tpending", is_error=True)
    healthy = log.told()
    for _ in range(80):
        log.call(params="sleep 30 && gh pr checks 55").wait(30).result("Exit code 8\nbuild\tpending", is_error=True)
    assert (healthy, log.starts("error_loop")) == ([], 1)


def test_checks_that_are_asked_for_again_and_again_are_a_poll_without_a_sleep(log):
    """The agent may wait in another way, whether they fail as long as they run or not."""
    for _ in range(7):
        log.both(params="gh pr checks 55", text="Exit code 8\nbuild\tpending", is_error=True).wait(60)
    for _ in range(7):
        log.both(params="gh run view 123", text="in_progress").wait(60)
    assert log.told() == []


@pytest.mark.parametrize(
    ("off", "told"),
    [
        ("failed_session_high_errors", [("error_loop", "open"), ("error_loop", "recovered")]),
        ("error_loop", [("failed_session_high_errors", "open")]),
        ("none", [("error_loop", "open"), ("failed_session_high_errors", "escalated")]),
    ],
)
def test_a_loop_that_ends_in_failure_is_opened_and_ended_whichever_type_is_off(log, off, told):
    """A line of another type ends it only where both are told."""
    for _ in range(5):
        log.call().result("boom: no such thing", is_error=True)
    log.add("session_end", completion_status="failed")
    assert log.told(limits=Limits(off=frozenset({off}))) == told
