"""What the package and its help load: nothing that only one command needs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from agentwatch.cli.main import app
from agentwatch.formats.registry import CONTAINERS, FORMATS

ROOT = Path(__file__).parents[1]

HEAVY = {
    "apprise",
    "asyncio",
    "duckdb",
    "genai_prices",
    "httpx",
    "httpx2",
    "mcp",
    "openai",
    "pydantic",
    "pyspark",
    "re2",
    "telegram",
    "tiktoken",
    "watchdog",
}
"""Each costs 0.1 s to 2 s, and 7 MiB to 55 MiB (docs/dependencies.md); asyncio brings ssl, 25 ms. They load inside the command that needs them."""


def loaded_by(*arguments: str) -> set[str]:
    """Return the modules that a fresh interpreter imports when it is called like this."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(re.findall(r"^import time:.*\| *(\S+)$", done.stderr, re.MULTILINE))


def test_the_look_at_imports_sees_what_is_loaded():
    """An import inside a call is seen too: without this the two promises below would hold for a broken look."""
    assert {"json", "email", "email.message"} <= loaded_by("-c", "import json\ndef f(): import email.message\nf()")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("-c", "import agentwatch"), id="import agentwatch"),
        pytest.param(("-m", "agentwatch", "--help"), id="agentwatch --help"),
    ],
)
def test_no_heavy_library_is_loaded(arguments):
    """Who asks for help does not wait for a client of some service."""
    assert loaded_by(*arguments) & HEAVY == set()


def test_only_the_command_that_is_called_is_built():
    """Each has a dozen options, and there are twenty-two."""
    top = typer.main.get_command(app)
    top.get_command(typer.Context(top), "status")
    assert [name for name, command in top.commands.items() if command is not None] == ["status"]


def test_a_daemon_that_has_met_no_file_has_loaded_no_decoder():
    """They are many, and each machine has the logs of few agents."""
    decoders = {f"agentwatch.formats.{row.module}" for row in (*FORMATS.values(), *CONTAINERS.values())}
    assert loaded_by("-c", "import agentwatch.apps.daemon") & decoders == set()
