"""Attempts that are started again and again."""


def again(log, works, *, status):
    return log.add("session_start", prompt_type="retry").both(params=works).add("session_end", completion_status=status)


def test_restarts_that_bring_a_success_are_past(log):
    """The follow-ups to it are no more of the same, however soon they come."""
    for number in range(3):
        again(log, f"ls {number}", status="failed")
    for number in range(4):
        again(log.wait(400), f"cat {number}", status="success")
    assert log.told() == [("excessive_restarts", "open"), ("excessive_restarts", "recovered")]


def test_a_commit_ends_them_too(log):
    """A session that fails later has still got somewhere."""
    for number in range(3):
        again(log, f"ls {number}", status="failed")
    for number in range(4):
        again(log.wait(400), f"git commit -m {number}", status="failed")
    assert log.told() == [("excessive_restarts", "open"), ("excessive_restarts", "recovered")]
