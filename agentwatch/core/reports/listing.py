"""Sessions one by one."""

import msgspec

from agentwatch.core.metrics import Row
from agentwatch.core.reports.history import History
from agentwatch.core.reports.summary import TokenSums
from agentwatch.model import Time


class Session(msgspec.Struct, kw_only=True):
    """As `report sessions --json` has it (contract, section 6). `status` is None where the log told none, `running` while it goes on."""

    attempt_id: str
    session_id: str | None
    executor: str | None
    model: str | None
    task_id: str | None
    task_title: str | None
    project: str | None
    branch: str | None
    run_id: str | None
    format: str | None
    source: str | None
    started_at: Time
    ended_at: Time
    duration_ms: float | None
    status: str | None
    tokens: TokenSums
    cost_usd: float | None
    tool_calls: int
    errors: int
    alerts: int
    followups: int
    retries: int
    first_shot: bool | None
    looped_usd: float | None
    stuck_ms: int


def listing(history: History) -> list[Session]:
    """Every session, the newest last."""
    alerts: dict[str, int] = {}
    for alert in history.alerts:
        alerts[alert.attempt_id] = alerts.get(alert.attempt_id, 0) + 1
    return [_session(row, "running" if (row.scope, row.attempt_id) in history.running else row.status, alerts.get(row.attempt_id, 0)) for row in history.rows]


def _session(row: Row, status: str | None, alerts: int) -> Session:
    metrics, tokens = row.metrics, row.metrics.tokens
    return Session(
        attempt_id=row.attempt_id,
        session_id=row.session_id,
        executor=row.executor,
        model=row.model,
        task_id=row.task_id,
        task_title=row.task_title,
        project=row.project_id,
        branch=row.branch,
        run_id=row.run_id,
        format=row.format,
        source=row.source,
        started_at=row.begun,
        ended_at=row.timestamp,
        duration_ms=metrics.duration_ms,
        status=status,
        tokens=TokenSums(row.tokens, tokens.input, tokens.output, tokens.cache_read, tokens.cache_write, tokens.reasoning),
        cost_usd=metrics.cost_usd,
        tool_calls=metrics.tool_calls,
        errors=metrics.errors,
        alerts=alerts or sum(row.alerts.values()),
        followups=row.followups,
        retries=row.retries,
        first_shot=row.first_shot,
        looped_usd=row.loops.cost_usd if row.loops is not None else None,
        stuck_ms=row.stuck_ms,
    )
