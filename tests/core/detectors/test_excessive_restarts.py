"""Attempts that are started again and again."""

import pytest

from agentwatch.core.detectors.excessive_restarts import COMMITS


@pytest.mark.parametrize(
    ("params", "is_commit"),
    [
        (b'{"command":"git commit -m x"}', True),
        (b'{"command":["git","commit","-m","x"]}', True),
        (b'{"command":"git add -A && git -C /srv/x -c user.name=x commit -am y"}', True),
        (b'{"command":"git --no-pager commit"}', True),
        (b'{"command":"gh pr create --fill"}', True),
        (b'{"command":"git log --grep commit"}', False),
        (b'{"command":"git show commit"}', False),
        (b'{"command":"git commit-tree HEAD"}', False),
    ],
)
def test_what_commits(params, is_commit):
    """Whoever looks for a commit has not made one."""
    assert bool(COMMITS(params)) == is_commit


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
