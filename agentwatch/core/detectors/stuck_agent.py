"""Silence where somebody owes an answer."""

import re
from datetime import datetime, timedelta

from agentwatch.core.alerts import Finding, Reporter, Spot, milliseconds, span
from agentwatch.core.limits import Limits
from agentwatch.core.state import Episode, OpenCall, Session
from agentwatch.model import Alert, Event

ESCALATE_AFTER = 3
"""Silence of three times the limit is told again (15 minutes by default: detection.md, section 5, lifecycle)."""

MODEL_PATIENCE = timedelta(seconds=480)
"""How long a model may think where the log shows whose turn it is: 99.98 % of 49,700 answers came sooner (detection.md, section 5)."""

TOOL_LIMIT_S = 120.0
TOOL_GRACE_S = 180.0
"""A call that declares no time-out gets 120 s, and every call 180 s beyond: less grace brought 25 to 33 false alarms (section 6.5)."""

FOREVER = float("inf")
DECLARED = 0.0
_SUBAGENT_S = 1800.0

PATIENCE_S = {
    # Sub-agents: 600 s brought 10 false alarms (section 6.5).
    **dict.fromkeys(("Task", "Agent", "task", "agent", "spawn_agent", "wait", "wait_agent"), _SUBAGENT_S),
    **dict.fromkeys(("AskUserQuestion", "ExitPlanMode", "request_user_input", "ask_user", "ask_followup_question"), FOREVER),
    **dict.fromkeys(("Bash", "bash", "shell", "shell_command", "exec_command", "execute_bash", "run_shell_command", "run_in_terminal"), DECLARED),
}
"""Seconds that a call of a tool may take. `FOREVER`: it asks a person. `DECLARED`: the call may say so itself."""

DECLARES = re.compile(rb'"(?:timeout|yield_time)').search
TIMEOUTS = (("timeout_ms", 1e-3), ("timeout", 1e-3), ("yield_time_ms", 1e-3), ("timeout_s", 1.0), ("timeout_seconds", 1.0))
MOST_PATIENCE_S = 86_400.0


class StuckAgent:
    """An attempt that is silent although an event is owed.

    Where the log shows no more than names, silence longer than `stuck` (5 min: contract, section 5). Where it shows calls with
    parameters or turns: longer than the open call's own limit, or than the model's patience. Never while its user is asked.

    Silence is judged by the times in the log: when the next event of the attempt comes, and by `until` when none does. Both
    ways find the same moments, so a watching daemon and a later reading of the log give the same alerts.
    """

    def __init__(self, limits: Limits, reporter: Reporter) -> None:
        self._limits = limits
        self._reporter = reporter

    def limit(self, session: Session) -> tuple[timedelta | None, str]:
        """How long this session may be silent from its last event on (None: for ever), and for what it waits."""
        calls = [call for lane in (session.main, *(session.lanes or {}).values()) for call in (lane.open_calls or {}).values()]
        if calls:
            return self._for_calls(session, calls)
        if session.rich:
            if session.main.owes == "user":
                return None, "user"
            return (self._limits.stuck if self._limits.stuck_is_explicit else MODEL_PATIENCE), "model"
        if session.main.owes == "user":
            return None, "user"
        return self._limits.stuck, "model"

    def _for_calls(self, session: Session, calls: list[OpenCall]) -> tuple[timedelta | None, str]:
        if any(call.limit_s == FOREVER for call in calls):
            return None, "user"
        slowest = max(calls, key=lambda call: call.limit_s)
        if not session.rich:
            return self._limits.stuck, f"tool {slowest.tool_name}"
        patience = timedelta(seconds=slowest.limit_s)
        if self._limits.stuck_is_explicit:
            patience = max(patience, self._limits.stuck)
        return patience, f"tool {slowest.tool_name}"

    def look(self, session: Session, until: datetime, out: list[Alert]) -> datetime | None:
        """Tell the silence from the session's last event to `until`; the next moment worth a look, None if there is none."""
        limit, waiting_for = self.limit(session)
        if limit is None:
            return None
        if session.excused_at == session.last:
            limit += session.excused
        key = f"{session.last.isoformat()}@{session.place}"
        due = session.last + limit
        if until <= due:
            return due
        episode = self._episode(session, key)
        if episode is None:
            episode = self._reporter.open(session, self._finding(session, key, due, limit, waiting_for), 1, out)
        later = session.last + limit * ESCALATE_AFTER
        if episode.level == 0 and until > later:
            self._reporter.escalate(session, episode, self._finding(session, key, later, limit, waiting_for), out)
        return later if episode.level == 0 else None

    def resumed(self, session: Session, event: Event, place: int, out: list[Alert]) -> None:
        """The next event has come: a silence that was told is over."""
        key = f"{session.last.isoformat()}@{session.place}"
        if self._episode(session, key) is None:
            return
        silent = event.timestamp - session.last
        finding = Finding(
            type="stuck_agent",
            key=key,
            at=event.timestamp,
            spots=[Spot(session.last, session.place, "the last line before the silence"), Spot(event.timestamp, place, f"{event.event_type}: the next line")],
            summary=f"{session.attempt_id} goes on after {span(silent)} of silence",
            detail={"idle_time_ms": milliseconds(silent), "threshold_ms": milliseconds(self.limit(session)[0] or self._limits.stuck), "waiting_for": "nothing"},
        )
        self._reporter.recover(session, finding, out)

    def _episode(self, session: Session, key: str) -> Episode | None:
        return session.episodes.get(f"stuck_agent:{key}") if session.episodes else None

    def _finding(self, session: Session, key: str, at: datetime, limit: timedelta, waiting_for: str) -> Finding:
        idle = at - session.last
        return Finding(
            type="stuck_agent",
            key=key,
            at=at,
            spots=[Spot(session.last, session.place, f"the last line, waiting for {waiting_for}")],
            summary=f"{session.attempt_id} has been silent for {span(idle)}, waiting for {waiting_for}; its limit is {span(limit)}",
            detail={"idle_time_ms": milliseconds(idle), "threshold_ms": milliseconds(limit), "waiting_for": waiting_for},
        )
