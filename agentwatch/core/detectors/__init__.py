"""One class a file. A detector that lives on seldom events joins by a row here; those that need calls, money or silence are wired in `core/steps.py`."""

from collections.abc import Callable

from agentwatch.core.alerts import Reporter
from agentwatch.core.detectors.base import Detector
from agentwatch.core.detectors.failed_session import FailedSession
from agentwatch.core.detectors.limit_reached import LimitReached
from agentwatch.core.limits import Limits

DETECTORS: tuple[Callable[[Limits, Reporter], Detector], ...] = (FailedSession, LimitReached)
