"""One class a file. A detector joins by a row here; the two that watch silence and money are wired in `core/engine.py`."""

from collections.abc import Callable

from agentwatch.core.alerts import Reporter
from agentwatch.core.detectors.base import Detector
from agentwatch.core.detectors.error_loop import ErrorLoop
from agentwatch.core.detectors.excessive_restarts import ExcessiveRestarts
from agentwatch.core.detectors.failed_session import FailedSession
from agentwatch.core.detectors.tool_loop import ToolLoop
from agentwatch.core.limits import Limits

DETECTORS: tuple[Callable[[Limits, Reporter], Detector], ...] = (ToolLoop, ErrorLoop, ExcessiveRestarts, FailedSession)
