"""Every line is read exactly once, and every alert stands in the file exactly once, whatever happens to logs and daemon.

`make torture` runs it until the daemon was killed some 2,000 times. What it does is in the environment:
`AGENTWATCH_TORTURE_RUNS` programs (60) of `AGENTWATCH_TORTURE_LIVES` lives each (30), or the program of the one seed in
`AGENTWATCH_TORTURE_SEED`.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from oracle import Oracle, Told

PROGRAM = Path(__file__).with_name("torture.py")
AT_ONCE = 2
TIMEOUT_S = 900
RUNS = int(os.environ.get("AGENTWATCH_TORTURE_RUNS", "60"))
LIVES = int(os.environ.get("AGENTWATCH_TORTURE_LIVES", "30"))
SEED = os.environ.get("AGENTWATCH_TORTURE_SEED")
A_FEW_SEEDS = (2, 3, 4, 7)
"""Of every kind of program one: with and without damage to the checkpoint, and with and without destroyed logs."""

IN_A_NAMESPACE = ("unshare", "--mount", "--propagation", "private")


def run(seed: int, lives: int, *, small_disk: bool = False) -> dict:
    """The report of one program (see torture.py)."""
    command = [sys.executable, str(PROGRAM), "--seed", str(seed), "--lives", str(lives)]
    if small_disk:
        command = [*IN_A_NAMESPACE, *command, "--small-disk"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stderr[-3000:]}"
    return json.loads(done.stdout)


def run_all(seeds: Iterable[int], lives: int, *, small_disk: bool = False) -> Iterator[dict]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(lambda seed: run(seed, lives, small_disk=small_disk), seeds)


def totals(reports: list[dict]) -> str:
    """What was done and what came of it, to be printed whatever the verdict is."""
    summed = {name: sum(report[name] for report in reports) for name in ("kills", "lines", "alerts", "lost", "duplicated")}
    counted = {name: sum((Counter(report[name]) for report in reports), Counter()) for name in ("crashes", "damages", "actions")}
    done = f"runs {len(reports)}, kills {summed['kills'] + counted['crashes'].total()} ({summed['kills']} by SIGKILL), lines {summed['lines']}"
    came_of_it = f"alerts {summed['alerts']}, lost {summed['lost']}, duplicated {summed['duplicated']}"
    details = [f"{name}: {', '.join(f'{what} {count}' for what, count in sorted(counter.items()))}" for name, counter in counted.items()]
    wrong = [f"seed {report['seed']}, kept in {report['directory']}: {'; '.join(report['wrong'])}" for report in reports if report["wrong"]]
    return "\n".join([f"{done}, {came_of_it}", *details, *wrong])


def judge(reports: Iterable[dict], capsys: pytest.CaptureFixture[str]) -> None:
    reports = list(reports)
    with capsys.disabled():
        sys.stdout.write(f"\n{totals(reports)}\n")
    assert not [report["seed"] for report in reports if report["wrong"]], "replay one with AGENTWATCH_TORTURE_SEED=SEED pytest -m torture tests/torture"


def may_mount() -> bool:
    done = subprocess.run([*IN_A_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def namespace():
    """A mount namespace, in which a disk can be small."""
    if sys.platform != "linux" or os.geteuid() != 0 or not may_mount():
        pytest.skip("a small disk needs root and mount namespaces")


@pytest.mark.parametrize(
    ("errors", "status", "alerts"),
    [
        pytest.param(3, "failed", [], id="fewer than a loop"),
        pytest.param(4, "success", ["error_loop open", "error_loop recovered"], id="a loop"),
        pytest.param(15, "success", ["error_loop open", "error_loop recovered"], id="a loop that has not grown fourfold"),
        pytest.param(16, "success", ["error_loop open", "error_loop escalated", "error_loop recovered"], id="a loop that has"),
        pytest.param(64, "success", ["error_loop open", *["error_loop escalated"] * 2, "error_loop recovered"], id="twice"),
        pytest.param(4, "failed", ["error_loop open", "error_loop recovered", "failed_session_high_errors open"], id="a failed session"),
    ],
)
def test_the_oracle_counts_as_the_contract_does(errors, status, alerts):
    """What everything here is compared with, said once by hand."""
    oracle = Oracle()
    for _ in range(errors):
        oracle.error("a", "fp")
    oracle.end("a", status)
    oracle.error("a", "fp")
    assert oracle.lines == errors + 2
    assert oracle.alerts == Counter(Told("a", *alert.split()) for alert in alerts)


def test_a_few_lives_and_deaths_lose_and_repeat_nothing(capsys):
    """The short form: four programs, with kills, crashes at steps of the commit, damage and rotation."""
    judge(run_all(A_FEW_SEEDS, lives=4), capsys)


@pytest.mark.root
def test_a_full_disk_loses_and_repeats_nothing(namespace, capsys):
    """Alerts wait for space, cursors wait for alerts, and kills in between change nothing."""
    judge(run_all((1,), lives=4, small_disk=True), capsys)


@pytest.mark.torture
def test_thousands_of_lives_and_deaths_lose_and_repeat_nothing(capsys):
    """The long form. Its seeds are new each time, and printed."""
    first = random.SystemRandom().randrange(1_000_000)
    seeds = [int(SEED)] if SEED else range(first, first + RUNS)
    with capsys.disabled():
        sys.stdout.write(f"\nseeds {seeds}\n")
    judge(run_all(seeds, LIVES), capsys)


@pytest.mark.torture
@pytest.mark.root
def test_disks_that_fill_up_again_and_again_lose_and_repeat_nothing(namespace, capsys):
    """Also in the long form."""
    judge(run_all([int(SEED)] if SEED else range(1, 1 + max(1, RUNS // 10)), LIVES, small_disk=True), capsys)
