"""The thresholds that detectors judge by. Filled from the settings; the defaults are those of the contract, section 5."""

from datetime import timedelta
from fnmatch import fnmatchcase

import msgspec

from agentwatch.model import Context


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Other thresholds for the attempts of one executor or project. Patterns as a shell's; `limits` has fields of `Limits`."""

    executor: str = "*"
    project: str = "*"
    limits: dict[str, object]

    def is_for(self, context: Context) -> bool:
        """Whether it holds for an attempt. Executors are the same whatever their case."""
        return fnmatchcase((context.executor or "").upper(), self.executor.upper()) and fnmatchcase(context.project_id or "", self.project)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Every number here can be set; each detector's docstring says where its default comes from."""

    error_loop_threshold: int = 4
    error_loop_window: timedelta = timedelta(minutes=10)
    error_loop_is_explicit: bool = False
    tool_loop_threshold: int = 10
    tool_loop_window: timedelta = timedelta(seconds=60)
    tool_loop_is_explicit: bool = False
    tool_loop_repeats: int = 4
    stuck: timedelta = timedelta(minutes=5)
    stuck_is_explicit: bool = False
    cost_usd: float = 1.0
    cost_is_explicit: bool = False
    restarts_threshold: int = 3
    restarts_window: timedelta = timedelta(hours=1)
    failed_session_threshold: int = 4
    cooldown: timedelta = timedelta(minutes=10)
    forget_after: timedelta = timedelta(hours=12)
    waiting: timedelta | None = None
    context_share: float = 0.95
    issue_threshold: int = 3
    usd_per_day: float | None = None
    usd_per_project_day: float | None = None
    usd_per_subagent: float | None = None
    off: frozenset[str] = frozenset()
    overrides: tuple[Override, ...] = ()

    @property
    def soonest(self) -> timedelta:
        """The shortest silence that could be told."""
        return self.stuck if self.waiting is None else min(self.stuck, self.waiting)

    @property
    def remembered(self) -> timedelta:
        """How long a silent attempt is remembered: until the longest silence that is told has been."""
        return max(self.forget_after, 3 * self.stuck, self.waiting or self.stuck)

    @property
    def longest_remembered(self) -> timedelta:
        """So long of any attempt, whatever the overrides say: what is silent for longer is two sessions to the engine."""
        return max([self.remembered, *(self.for_attempt((index,)).remembered for index in range(len(self.overrides)))])

    def for_attempt(self, matching: tuple[int, ...]) -> "Limits":
        """Those that hold where these of the overrides do, later ones above earlier ones."""
        changes: dict[str, object] = {}
        for index in matching:
            changes |= self.overrides[index].limits
        return msgspec.structs.replace(self, **changes) if changes else self

    def matching(self, context: Context) -> tuple[int, ...]:
        """Which of the overrides hold for an attempt."""
        return tuple(index for index, override in enumerate(self.overrides) if override.is_for(context))
