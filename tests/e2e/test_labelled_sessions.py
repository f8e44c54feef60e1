"""Sessions that people have read and labelled: what is found, and that nothing else is told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SESSIONS = ROOT.parent / "shared" / "data" / "detection"


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """What `evaluate.py` says of the program as it is run by everyone."""
    if not (SESSIONS / "labels.tsv").exists():
        pytest.skip("the labelled sessions are not here (../shared/data/detection)")
    program = tmp_path_factory.mktemp("bin") / "agentwatch"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m agentwatch "$@"\n')
    program.chmod(0o755)
    command = [sys.executable, str(SESSIONS / "evaluate.py"), "--aw", str(program), "--labels", str(SESSIONS / "labels.tsv"), "--", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return next(iter(json.loads(done.stdout).values()))


def test_incidents_are_found_and_healthy_agents_left_alone(scored):
    """The floor below which no change may bring it."""
    assert scored["recall"] >= 0.95
    assert scored["precision"] >= 0.97
    assert scored["fa_per_1000h"] <= 10


def test_they_are_called_by_their_names(scored):
    """A loop of errors is no loop of tools."""
    hits = sum(one["hit"] for one in scored["by"].values())
    assert sum(one["strict"] for one in scored["by"].values()) >= 0.9 * hits
