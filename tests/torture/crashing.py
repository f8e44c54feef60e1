"""The real program, made to die at a chosen call of its commit.

`TORTURE_CRASH=alerts:write:half:3` ends the process, as a power cut would, when half of its third write to the alert file is
done. Takes the command line of `agentwatch`.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXIT_CODE = 99
TARGETS = {"agent-alerts.jsonl": "alerts", "checkpoint.json.new": "checkpoint"}


class Crash:
    """Counts the calls that could be the one, and dies in it."""

    def __init__(self, order: str) -> None:
        self._target, self._call, self._moment, count = order.split(":")
        self._count = int(count)
        self._seen: Counter[str] = Counter()

    def of_descriptor(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(fd: int, *rest: Any) -> Any:
            return self._run(name, _target(fd), real, fd, *rest)

        return call

    def of_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, *rest: Any) -> Any:
            return self._run(name, TARGETS.get(path.name), real, path, *rest)

        return call

    def _run(self, name: str, target: str | None, real: Callable[..., Any], *arguments: Any) -> Any:
        if (target, name) != (self._target, self._call):
            return real(*arguments)
        self._seen[name] += 1
        if self._seen[name] != self._count:
            return real(*arguments)
        if self._moment == "half":
            fd, data = arguments
            real(fd, data[: len(data) // 2])
        elif self._moment == "after":
            real(*arguments)
        os._exit(EXIT_CODE)


def _target(fd: int) -> str | None:
    return TARGETS.get(os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[2])  # noqa: PTH115  # no path that `Path` would know


def main() -> None:
    crash = Crash(os.environ["TORTURE_CRASH"])
    for name in ("write", "fsync", "fdatasync", "ftruncate"):
        setattr(os, name, crash.of_descriptor(name, getattr(os, name)))
    Path.replace = crash.of_path("replace", Path.replace)  # type: ignore[method-assign]
    from agentwatch.cli.main import main as run  # what it loads must find the patched calls

    sys.exit(run())


if __name__ == "__main__":
    main()
