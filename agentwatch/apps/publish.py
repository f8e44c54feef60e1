"""From what the engine counts to the store, where whoever looks for issues finds them."""

from agentwatch.core.issues import Issues
from agentwatch.store.issues import IssueStore

DAEMON_BUSY_S = 0.05
"""The daemon does not wait for longer while a person's mark is written: it tries again a second later."""


def publish(issues: Issues, where: IssueStore, *, everything: bool = False) -> None:
    """Store what was counted since this was called last, or all that is known. Raises StorageError, and then it is stored the next time."""
    runs = issues.fresh_runs()
    if everything or issues.changed or runs:
        where.write(issues.all() if everything else issues.changed.values(), runs, lambda: (issues.all(), issues.runs()))
        issues.stored()
