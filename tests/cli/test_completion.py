"""Completion as a shell asks for it: the script that the program prints, run by bash itself."""

import shutil
import subprocess
import sys

import pytest

ASKED = {
    "agentwatch re": ["report", "replay"],
    "agentwatch report ex": ["executors"],
    "agentwatch tail --si": ["--since"],
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_and_options(tmp_path):
    """`eval "$(agentwatch --show-completion)"` is all that a user does."""
    program = tmp_path / "agentwatch"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agentwatch "$@"\n')
    program.chmod(0o755)
    asks = "\n".join(f'COMP_WORDS=({line}); COMP_CWORD={len(line.split()) - 1}; _agentwatch_completion agentwatch; echo "${{COMPREPLY[*]}}"' for line in ASKED)
    script = f'PATH="{tmp_path}:$PATH"\neval "$(agentwatch --show-completion)"\ncomplete -p agentwatch\n{asks}\n'
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    bound, *answers = done.stdout.splitlines()
    assert bound == "complete -o default -F _agentwatch_completion agentwatch", done.stderr
    assert [answer.split() for answer in answers] == list(ASKED.values())
