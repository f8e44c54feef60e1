"""The demo, for real: its daemon, its recordings, and nothing left behind."""

import os
import re
import signal
import subprocess
from importlib import resources
from pathlib import Path

import pytest

STORIES = {
    "Fix the login redirect": {"error_loop", "failed_session_high_errors"},
    "Speed up the test-suite": {"tool_loop"},
    "Migrate the settings page": {"stuck_agent"},
    "Rewrite the importer": {"cost_anomaly"},
    "code-review": set(),
    "network-down": {"error_loop"},
    "model-hangs": {"stuck_agent"},
    "missing-file": {"error_loop"},
    "web-search": set(),
    "fish-completions": set(),
    "Add a changelog entry": set(),
    "Fix a flaky test": set(),
}
"""Which alerts each session deserves."""


@pytest.fixture
def scratch(place):
    """Where the demo makes its directory, and an environment that must not reach it."""
    directory = place.base / "scratch"
    directory.mkdir()
    place.environ |= {"TMPDIR": str(directory), "AGENT_ERROR_LOOP_THRESHOLD": "2", "AGENTWATCH_SOURCES": "none", "CLAUDE_CONFIG_DIR": "/nowhere"}
    return directory


def test_each_session_is_told_what_it_deserves_and_nothing_stays_behind(place, scratch):
    """Alerts for those that loop, hang or cost; silence for the healthy; the scratch directory is gone."""
    done = place.run("demo")
    assert (done.returncode, done.stderr) == (0, "")
    told = {}
    for session in STORIES:
        row = re.search(rf"^ +{re.escape(session)} +\d+  (.+)$", done.stdout, re.MULTILINE)
        told[session] = set() if row[1] == "nothing" else set(re.findall(r"[a-z_]{5,}", row[1])) - {"lines"}
    assert told == STORIES
    assert done.stdout.count("stuck_agent  escalated") == 2
    assert list(scratch.iterdir()) == []
    assert not (place.base / ".cache").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_demo_cleans_up(place, scratch, number, code):
    """Neither its daemon nor its directory stay behind."""
    process = subprocess.Popen(place.command("demo"), cwd=place.base, env=place.environ, stdout=subprocess.PIPE, text=True)
    line = ""
    while "error_loop" not in line:
        line = process.stdout.readline()
    holder = int(next(scratch.glob("*/.cache/agent-work-logs/.agentwatch/lock")).read_text())
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert list(scratch.iterdir()) == []
    assert not Path(f"/proc/{holder}").exists()
    assert holder != os.getpid()


def test_the_recordings_are_small_and_their_sources_are_named():
    """They are shipped with the program, under licences that permit it."""
    folder = resources.files("agentwatch") / "demo"
    recordings = [entry for entry in folder.iterdir() if entry.name.endswith(".jsonl")]
    assert sum(len(entry.read_bytes()) for entry in recordings) < 300_000
    sources = (folder / "SOURCES.md").read_text("utf-8")
    assert all(f"`{entry.name}`" in sources for entry in recordings)
