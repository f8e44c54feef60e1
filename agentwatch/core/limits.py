"""The thresholds that detectors judge by. Filled from the settings; the defaults are those of the contract, section 5."""

from datetime import timedelta

import msgspec


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
