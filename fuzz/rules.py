"""Rule files, which a user copies from anywhere: the bytes up to the first NUL are one, what follows is a text that its rules are asked about.

A file is taken or refused with its reason. A rule that was taken finds what stands in the text, or nothing.
"""

import tempfile
from pathlib import Path

import atheris

from fuzz.target import run

with atheris.instrument_imports(include=["agentwatch"]):
    from agentwatch.core import linear
    from agentwatch.core.rules import RuleError, Rules
    from agentwatch.rulebook import read_file

linear.load()
FILE = Path(tempfile.mkdtemp(prefix="agentwatch-fuzz-"), "own.toml")
SLOTS = ("error", "trace", "output", "agent", "tool")


def target(data: bytes) -> None:
    """`make fuzz` starts from rules that use every key."""
    written, _, asked = data.partition(b"\0")
    text = asked.decode("utf-8", "replace")
    FILE.write_bytes(written)
    try:
        found = Rules(read_file(FILE, is_ours=False))
    except RuleError as error:
        if not str(error):
            raise
        return
    for slot in SLOTS:
        match = found.find(slot, "winston", text)
        assert match is None or match.line in text


if __name__ == "__main__":
    run(target)
