"""The formats of logs: a file each, and a table of them in `registry.py`."""

PROGRAMS = frozenset({"fluent-bit", "winston", "plain-text"})
"""Formats of programs that are no agents: their logs have errors, but no sessions. Here, for those who need no more than the names."""
