"""What the fuzz targets have in common: atheris watches every module of agentwatch and calls the target until it breaks or the time is over."""

import sys
from collections.abc import Callable

import atheris


def run(target: Callable[[bytes], None]) -> None:
    """The arguments are libFuzzer's: a folder of seeds, `-max_total_time=600`, a file that broke it."""
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
