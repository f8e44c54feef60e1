"""`agentwatch raw --grep` beside what else searches logs on this machine."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PATTERNS = {
    "no match": "zz[a-z]z",
    "a word in 1 of 10,000 lines": "ECONNREFUSED",
    "a shape in 1 of 10,000": "ECONN[A-Z]+ [0-9.]+:[0-9]+",
    "any of three words, 1 of 10,000": "ECONNREFUSED|ENOSPC|EPIPE",
    "a shape in 1 of 25": "user .*refused.*timeout",
}

_WORDS = ("connect", "error", "timeout", "GET", "POST", "user", "session", "id=%d", "took %dms", "refused")


def write(path: Path, megabytes: float) -> None:
    """A plain-text log of lines of 87 bytes, the same each time."""
    chosen = random.Random(1)
    size = number = 0
    with path.open("w") as file:
        while size < megabytes * 1e6:
            said = " ".join(chosen.choice(_WORDS).replace("%d", str(chosen.randrange(10_000))) for _ in range(8))
            said = f"ERROR connect ECONNREFUSED 127.0.0.1:{number % 65_536} {said}" if number % 10_000 == 0 else f"INFO {said}"
            size += file.write(f"2026-02-09T08:{number // 60 % 60:02}:{number % 60:02}.{number % 1000:03}Z {said}\n")
            number += 1


def compared(source: Path) -> str:
    """CPU seconds to search `source` for each pattern and write down numbered lines: ours without and with its start-up, grep's and ripgrep's; the least of three each."""
    with tempfile.TemporaryDirectory(prefix="agentwatch-bench-") as folder:
        (Path(folder) / "app.log").hardlink_to(source)
        environ = {**os.environ, "AGENTWATCH_SOURCES": "none", "LC_ALL": "C.UTF-8"}

        def seconds(command: list[str]) -> float:
            found = []
            for _ in range(3):
                with (Path(folder) / "out.txt").open("wb") as out:  # to /dev/null grep stops at the first match
                    process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env=environ)
                    _, status, usage = os.wait4(process.pid, 0)
                    process.returncode = os.waitstatus_to_exitcode(status)
                    found.append(usage.ru_utime + usage.ru_stime)
            return min(found)

        start = seconds([sys.executable, "-m", "agentwatch", "raw", "--log-dir", folder, "--grep", "x", "--source", "none"])
        lines = [f"{source.stat().st_size / 1e6:.0f} MB; CPU seconds; start-up {start:.2f} s"]
        for name, pattern in PATTERNS.items():
            others = {"grep -nE": ["grep", "-nE", pattern, str(source)], "rg -n": ["rg", "-n", pattern, str(source)]}
            told = [f"{program} {seconds(command):.2f} s" for program, command in others.items() if shutil.which(command[0])]
            ours = seconds([sys.executable, "-m", "agentwatch", "raw", "--log-dir", folder, "--grep", pattern])
            lines.append(f"{name}: {ours - start:.2f} s ({ours:.2f} s); {', '.join(told)}")
    return "\n    ".join(lines)
