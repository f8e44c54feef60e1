"""What is generated from the program says what the program says: the commands, the settings, the manual page."""

import re
import shutil
import subprocess
from importlib import import_module

import pytest

from agentwatch.cli.common import commands
from agentwatch.cli.main import MODULES
from agentwatch.settings import KEYS
from tools import reference


@pytest.mark.parametrize("path", reference.FILES, ids=lambda path: path.name)
def test_the_reference_is_what_the_program_says(path):
    """Whoever changes a command or a setting runs `make reference`."""
    assert path.read_text("utf-8") == reference.FILES[path](), "run `make reference`"


def test_every_command_and_every_setting_has_its_place():
    """None is left out, and none stands there twice."""
    described = re.findall(r"^## agentwatch (\w+)$", reference.commands_md(), re.MULTILINE)
    assert described == list(MODULES)
    for path in (reference.ROOT / "agentwatch" / "cli").glob("*.py"):
        import_module(f"agentwatch.cli.{path.stem}")
    functions = {one.name or one.callback.__name__ for one in commands.registered_commands}
    assert functions | {one.typer_instance.info.name for one in commands.registered_groups} == set(MODULES)
    settings = reference.settings_md()
    for key in KEYS.values():
        assert settings.count(f"`{key.names[-1]}` |") == 1 or f"`{key.names[-1]}`<br>" in settings


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_manual_page_is_set_without_a_warning():
    """All of groff's warnings are on."""
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", reference.MANUAL], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "--log-dir" in done.stdout.replace("\x08", "").replace("----lloogg--ddiirr", "--log-dir")
