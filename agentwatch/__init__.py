"""agentwatch: tails the logs of coding agents and says, with evidence, which one loops, hangs or burns money."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentwatch.logger import AgentLogger, AsyncAgentLogger

__all__ = ["AgentLogger", "AsyncAgentLogger", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """The logger, imported when it is first asked for: the commands and the daemon do without it."""
    if name not in __all__:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    from agentwatch import logger  # noqa: PLC0415

    return getattr(logger, name)
