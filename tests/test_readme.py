"""The examples of the README and of docs/programs.md, each document's run in order in one scratch directory. A block counts if its first line says `test`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = {"README.md": 5, "docs/programs.md": 2}
"""Each with the least number of blocks that must be found in it."""


@pytest.fixture
def shell(tmp_path):
    """Run a line as a reader would, with `agentwatch` on PATH; what it printed, in order."""
    program = tmp_path / "bin" / "agentwatch"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agentwatch "$@"\n')
    program.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environ = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}

    def run(line: str) -> str:
        done = subprocess.run(["sh", "-c", line], cwd=work, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        return done.stdout

    run.work = work
    return run


def pattern(expected: str) -> str:
    """A regular expression for printed text in which `...` stands for anything."""
    return ".*".join(map(re.escape, expected.rstrip("\n").split("..."))) + r"\s*"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_example_prints_what_the_document_says(shell, document):
    """A reader who types the examples sees what stands below them."""
    blocks = re.findall(r"^```(sh|console|toml) test\n(.*?)^```$", (ROOT / document).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= DOCUMENTS[document]
    for language, text in blocks:
        if language == "toml":
            (shell.work / "agentwatch.toml").write_text(text)
        elif language == "sh":
            assert shell(text) == ""
        else:
            for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", text, re.MULTILINE):
                assert re.fullmatch(pattern(expected), printed := shell(command), re.DOTALL), f"$ {command}\n{printed}"


def test_the_alert_at_the_top_is_a_real_one(shell):
    """What a newcomer sees first is the program's own output about a recorded session."""
    logs = shell.work / "logs"
    logs.mkdir()
    (logs / "agent-work-stream.jsonl").write_bytes((ROOT / "agentwatch/demo/stream.jsonl").read_bytes())
    shell("agentwatch run --once --log-dir logs")
    sample = re.search(r"^```\n(2026.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert sample is not None
    assert sample[1] in shell("agentwatch alerts --log-dir logs")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http|#)([^)]+)\)", README))))
def test_every_link_leads_somewhere(target):
    """No link into the project is dead."""
    assert (ROOT / target).exists()


def test_the_table_of_commands_is_complete(shell):
    """Every command that exists is listed, and no other."""
    listed = set(re.findall(r"^\| `agentwatch (\w+)", README, re.MULTILINE))
    offered = set(re.findall(r"^  (\w+)  ", shell("agentwatch --help").partition("Commands:")[2].partition("Examples:")[0], re.MULTILINE))
    assert listed == offered
