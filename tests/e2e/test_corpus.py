"""The program itself on every file of the corpus, each where its agent puts it: no fault without a reason."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.test_pieces import PLACES
from tests.formats.harness import CORPUS
from tests.formats.test_corpus import FAULTS, NOT_READ, files, format_of

ROOT = Path(__file__).parents[2]
FAULT = re.compile(r"^(\S+) at byte \d+: (\S+) \((\d+)\)", re.MULTILINE)

IN_ONE_FILE = "open/openhands-v0/01-OpenHands-basic.json"
"""A test's copy of a conversation; OpenHands wrote a file an event."""


def place_of(name, path, number):
    """Where an agent puts such a file, below its home; each under a name that tells it from all others."""
    found = format_of(name)
    match found:
        case "opencode":
            return f".local/share/opencode/opencode-{number}.db"
        case "opencode-export":
            return f"logs/{number}-{path.name.rpartition('-')[2]}"
        case "openhands":
            return f".openhands/conversations/{path.parent.parent.name}/events/{path.name}"
        case "openhands-state":
            return f".openhands/conversations/{path.parent.name}/{path.name}"
        case _ if found in PLACES:
            return PLACES[found].format(name=f"f{number}")
    return f"logs/f{number}-{path.name}"


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real sessions is not beside the project")
def test_every_file_of_the_corpus_runs_through(tmp_path):
    """Told is what is wrong with a file, and which have no newline at their end: whoever collected them took it away."""
    reasons, sources = Counter(), {}
    (tmp_path / "logs").mkdir()
    for number, (name, path) in enumerate(files().items()):
        if name in NOT_READ or name == IN_ONE_FILE:
            continue
        place = tmp_path / place_of(name, path, number)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        sources[place] = name
        reasons.update({(name, kind): count for kind, count in FAULTS.get(name, {}).items()})
        if path.suffix in (".jsonl", ".log") and not path.read_bytes().endswith(b"\n"):
            reasons[name, "incomplete_line"] += 1
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "agentwatch", "run", "--once", "--log-dir", str(tmp_path / "logs")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=120)
    told = Counter()
    for source, kind, count in FAULT.findall(done.stderr):
        (name,) = (name for place, name in sources.items() if str(place).endswith(f"/{source}"))
        told[name, kind] += int(count)
    assert told == reasons
    assert len(sources) > 100
