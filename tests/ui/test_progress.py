"""The line that says how far a long look has come."""

import os
import pty
import sys

import pytest

from agentwatch.ui import progress


@pytest.mark.parametrize(("term", "is_told"), [("xterm", True), ("dumb", False)])
def test_it_is_told_where_it_can_be_taken_back(monkeypatch, term, is_told):
    """A dumb terminal would show the codes, and a line for each step."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    monkeypatch.setattr(progress, "STEP_S", 0.0)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.Progress("reading logs") as told:
            told(1_000_000, 2_000_000)
        terminal.write("end")
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert shown.startswith("\rreading logs") is is_told
    assert (shown == "end") is not is_told
