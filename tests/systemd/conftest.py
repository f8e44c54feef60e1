"""One machine for all tests of this folder: it takes three seconds to boot."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "notify"))

from machine import Machine, missing


@pytest.fixture(scope="session")
def booted(tmp_path_factory):
    if (reason := missing()) is not None:
        pytest.skip(reason)
    machine = Machine(tmp_path_factory.mktemp("machine"))
    yield machine
    machine.close()
