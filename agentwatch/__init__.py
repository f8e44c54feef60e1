"""agentwatch: tails the logs of coding agents and says, with evidence, which one loops, hangs or burns money."""

__version__ = "0.1.0"
