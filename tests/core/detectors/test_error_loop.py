"""The same error again and again."""

import pytest


def test_failed_results_count_by_tool_and_text(log):
    """Whether the text stands in the message or in the result."""
    log.both(text="boom happened", is_error=True).both(text="x", is_error=True, error_message="boom happened")
    log.both(text="boom happened", is_error=True).both("Read", {"path": "src/a"}, "boom happened", is_error=True)
    assert log.starts("error_loop") == 0
    log.both(text="boom happened", is_error=True)
    assert log.starts("error_loop") == 1


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


def test_an_error_told_long_after_the_failed_result_counts(log):
    """Only right after it is it the same one."""
    log.both(text="boom happened", is_error=True, error_message="boom happened").wait(10).add("error", error_message="boom happened")
    log.add("error", error_message="boom happened").add("error", error_message="boom happened").add("error", error_message="boom happened")
    assert log.starts("error_loop") == 1


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


def test_within_the_cool_down_nothing_is_told_twice(log):
    """An error every 150 s crosses the threshold again and again."""
    for _ in range(15):
        log.add("error", error_fingerprint="oom").wait(149)
    assert log.told() == [("error_loop", "open")]


def test_many_kinds_of_errors_keep_a_bounded_state(log):
    """A hostile log cannot make us grow, nor keep a real loop from being found."""
    for n in range(2000):
        log.add("error", error_fingerprint=f"e{n}" * 500)
    for _ in range(4):
        log.add("error", error_fingerprint="oom")
    assert log.starts("error_loop") == 1
