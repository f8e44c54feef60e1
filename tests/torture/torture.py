"""One program of random writing, rotating and killing, run against the real daemon; prints what came of it as one line of JSON.

    python tests/torture/torture.py --seed 7 [--lives 30] [--small-disk] [--without ACTIONS]

The seed fixes what is done, not when the processes are scheduled: a seed that failed may have to be run a few times. The log
directory, a journal of what was done and the daemon's messages stay behind where the verdict is not clean.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import crashing
from oracle import Oracle, Told
from writers import Author, Log

PROJECT = Path(__file__).parents[2]
PATIENCE_S = 40.0
ALERTS = "agent-alerts.jsonl"
CHECKPOINT = Path(".agentwatch", "checkpoint.json")
SMALL_DISK = "8m"

CRASHES = tuple(
    f"{target}:{call}:{moment}"
    for target, call, moments in (
        ("alerts", "write", ("before", "half", "after")),
        ("alerts", "fdatasync", ("before", "after")),
        ("alerts", "ftruncate", ("before", "after")),
        ("checkpoint", "write", ("before", "half", "after")),
        ("checkpoint", "fsync", ("before", "after")),
        ("checkpoint", "replace", ("before", "after")),
    )
    for moment in moments
)
"""Every step of a commit, and of the repair of a torn line at the start."""

EXPECTED_FAULTS = frozenset({"disk_full", "not_saved", "unreadable"})
"""A full disk, and an archive that was looked at before it was complete."""


class WrongError(Exception):
    """The program under test did not do what it promises."""


@dataclass
class Plan:
    """What may happen in a program, drawn from its seed."""

    destroys: bool
    damages: bool
    spans: bool
    small_disk: bool


@dataclass
class Report:
    """The totals of a program, and what is wrong with it, in words: nothing if all is as it must be."""

    seed: int
    plan: Plan
    kills: int = 0
    crashes: Counter[str] = field(default_factory=Counter)
    damages: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    alerts: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: list[str] = field(default_factory=list)
    directory: str = ""


class Watcher:
    """The process under test, started again and again on one log directory."""

    def __init__(self, log_dir: Path, scratch: Path, report: Report) -> None:
        self._log_dir = log_dir
        self._messages = (scratch / "messages.txt").open("ab")
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(scratch),
            "PYTHONPATH": str(PROJECT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AGENTWATCH_SOURCES": "none",
        }
        self._scratch = scratch
        self._report = report
        self._process: subprocess.Popen[bytes] | None = None
        self._timer: threading.Timer | None = None
        self._crash: str | None = None

    @property
    def is_alive(self) -> bool:
        """Notes how it ended when it has."""
        if self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            return True
        self._disarm()
        self._process = None
        if code == crashing.EXIT_CODE and self._crash is not None:
            self._report.crashes[self._crash.rpartition(":")[0]] += 1
        elif code == -signal.SIGKILL:
            self._report.kills += 1
        else:
            raise WrongError(f"the daemon ended by itself with exit code {code}")
        return False

    def start(self, *, crash: str | None = None, lifetime_s: float | None = None) -> None:
        self._crash = crash
        command, environ = self._command(crash)
        self._process = subprocess.Popen(
            [*command, "--log-dir", str(self._log_dir)], cwd=self._scratch, env=environ, stdout=self._messages, stderr=self._messages
        )
        if lifetime_s is not None:
            self.kill_after(lifetime_s)

    def kill_after(self, seconds: float) -> None:
        self._disarm()
        if self._process is not None:
            self._timer = threading.Timer(seconds, self._process.kill)
            self._timer.start()

    def spare(self) -> None:
        """No kill that was planned; a daemon that runs as any other."""
        self._disarm()
        if not self.is_alive or self._crash is not None:
            self.kill()
            self.start()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.is_alive  # noqa: B018  # notes how

    def holds(self, path: Path) -> bool:
        """Whether it has the file open, and so can read it when its name is gone."""
        if self._process is None:
            return False
        with contextlib.suppress(OSError):
            return any(os.path.samestat(path.stat(), link.stat()) for link in Path(f"/proc/{self._process.pid}/fd").iterdir() if link.exists())
        return False

    def stop(self) -> None:
        """Ask it to end, and insist that it does so with success."""
        self._disarm()
        if self._process is not None:
            self._process.terminate()
            code = self._process.wait(PATIENCE_S)
            self._process = None
            if code not in (0, -signal.SIGTERM):  # which it is when it has not come so far as to handle it
                raise WrongError(f"exit code {code} after SIGTERM")

    def once(self, log_dir: Path, *, crash: str | None = None) -> bytes:
        """The alert file after a single pass over a directory, undisturbed or with a crash at some step."""
        command, environ = self._command(crash)
        done = subprocess.run([*command, "--once", "--log-dir", str(log_dir)], cwd=self._scratch, env=environ, capture_output=True, check=False)
        if done.returncode and (crash is None or done.returncode != crashing.EXIT_CODE):
            raise WrongError(f"`run --once` ended with exit code {done.returncode}: {done.stderr.decode()[-500:]}")
        return (log_dir / ALERTS).read_bytes()

    def _command(self, crash: str | None) -> tuple[list[str], dict[str, str]]:
        if crash is None:
            return [sys.executable, "-m", "agentwatch", "run"], self._environ
        return [sys.executable, str(PROJECT / "tests/torture/crashing.py"), "run"], {**self._environ, "TORTURE_CRASH": crash}

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Program:
    """Runs one seed to its verdict."""

    def __init__(self, seed: int, lives: int, *, small_disk: bool, without: frozenset[str], scratch: Path) -> None:
        self._rng = rng = random.Random(seed)
        destroys, damages = rng.random() < 0.5, rng.random() < 0.35
        self._plan = Plan(destroys, damages, rng.random() < 0.5 and not (destroys and damages), small_disk)
        self.report = Report(seed, self._plan)
        self._lives = lives
        self._without = without
        self._scratch = scratch
        self._log_dir = scratch / "logs"
        self._log_dir.mkdir()
        if small_disk:
            self._mount()
        self._journal = (scratch / "journal.txt").open("w")
        self._began = time.monotonic()
        self._oracle = Oracle()
        self._author = Author(rng, self._oracle)
        self._watcher = Watcher(self._log_dir, scratch, self.report)
        self._logs: list[Log] = []
        self._older: list[bytes] = []
        self._rotations = 0
        self._new_log()

    def run(self) -> None:
        """Lives and deaths of the daemon while logs are written, then a calm end, then the verdict."""
        try:
            for _ in range(self._lives):
                crash = self._crash()
                self._watcher.start(crash=crash, lifetime_s=2.5 if crash else self._rng.choice((0.2, 0.6, 0.9, 1.5)) * (0.5 + self._rng.random()))
                while self._watcher.is_alive:
                    self._act()
                    time.sleep(self._rng.choice((0, 0, 0.002, 0.02, 0.05)))
                self._between_lives()
            self._catch_up()
            self._watcher.stop()
            self._judge()
            if not self._plan.destroys:
                self._compare_with_a_calm_reading()
        except WrongError as error:
            self.report.wrong.append(str(error))
        finally:
            self._watcher.kill()
            self.report.lines = self._oracle.lines
            self.report.alerts = self._oracle.alerts.total()
            self._journal.close()

    # -- what is done ----------------------------------------------------------------------------------------------------------

    def _act(self) -> None:
        log = self._rng.choice(self._logs)
        keeping = (
            (log.append, 50),
            (log.rotate, 6),
            (log.let_go, 6),
            (log.copy_and_truncate, 5),
            (log.rewrite, 2),
            (log.back_up, 1),
            (log.pack, 3),
            (log.pause, 2),
            (self._new_log, 1),
            (self._rotate_alerts, 0 if self._plan.small_disk else 1),
        )
        destroying = ((log.replace, 1), (log.delete, 1), (log.delete_unread, 1), (log.truncate, 1), (log.drop_oldest, 2))
        filling = ((self._fill_disk, 2), (self._free_disk, 3))
        self._choose([*keeping, *(destroying if self._plan.destroys else ()), *(filling if self._plan.small_disk else ())], log)

    def _between_lives(self) -> None:
        for _ in range(self._rng.choice((0, 0, 0, 1, 4, 10))):
            self._act()
        self._watcher.kill()  # what destroys has had it started, to read first
        with contextlib.suppress(FileNotFoundError):
            self._older.append((self._log_dir / CHECKPOINT).read_bytes())
        if self._plan.damages and self._rng.random() < 0.4 and self._older:
            self._choose([(self._cut, 1), (self._zero, 1), (self._flip_a_bit, 1), (self._remove, 1), (self._roll_back, 4)], None)

    def _choose(self, table: list[tuple[Callable[[], None], int]], log: Log | None) -> None:
        actions, weights = zip(*table, strict=True)
        action = self._rng.choices(actions, weights)[0]
        name = action.__name__.strip("_")
        if name in self._without:
            return
        print(f"{time.monotonic() - self._began:8.3f} {name} {log.name if log else ''}", file=self._journal, flush=True)
        self.report.actions[name] += 1
        action()

    def _new_log(self) -> None:
        if len(self._logs) < 6:
            place, name = (
                ("", "agent-work-stream.jsonl"),
                ("", "worker.log"),
                ("runs/r1", "agent.jsonl"),
                ("runs/r2", "agent.jsonl"),
                ("ünï", "b c.ndjson"),
                ("runs/r2", "two.jsonl"),
            )[len(self._logs)]
            self._logs.append(
                Log(
                    self._log_dir / place,
                    name,
                    self._author,
                    self._rng,
                    spans=self._plan.spans,
                    destroys=self._plan.destroys,
                    wait_until_read=self._wait_until_read,
                    delete_held=self._delete_held,
                )
            )

    def _crash(self) -> str | None:
        """Half of all lives end at a chosen step; after a torn write the repair is as likely to be cut short."""
        if self._has_torn and self._rng.random() < 0.5:
            return self._rng.choice(("alerts:ftruncate:before:1", "alerts:ftruncate:after:1"))
        if self._rng.random() < 0.5:
            return f"{self._rng.choice(CRASHES)}:{self._rng.choice((1, 1, 2, 3, 5))}"
        return None

    @property
    def _has_torn(self) -> bool:
        """Whether the alert file ends in half a line."""
        with contextlib.suppress(FileNotFoundError):
            return (self._log_dir / ALERTS).read_bytes()[-1:] not in (b"", b"\n")
        return False

    def _rotate_alerts(self) -> None:
        """Somebody moves the alert file away. Not with half a line at its end: who repairs that looks at the newest file."""
        alerts = self._log_dir / ALERTS
        if alerts.exists() and not self._has_torn:
            self._rotations += 1
            alerts.rename(alerts.with_name(f"{ALERTS}.{self._rotations}"))

    def _fill_disk(self) -> None:
        with (self._scratch / "small" / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\1" * size)

    def _free_disk(self) -> None:
        (self._scratch / "small" / "ballast").unlink(missing_ok=True)

    def _mount(self) -> None:
        """Alerts and state on a disk of their own, so that the logs can grow while that one is full."""
        small = self._scratch / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", small], check=True)
        (small / "state").mkdir(mode=0o700)
        (small / ALERTS).touch()
        for name, target in self._mounts:
            target.mkdir() if name == "state" else target.touch()
            subprocess.run(["mount", "--bind", small / name, target], check=True)

    @property
    def _mounts(self) -> list[tuple[str, Path]]:
        return [("state", self._log_dir / CHECKPOINT.parent), (ALERTS, self._log_dir / ALERTS)]

    def unmount(self) -> None:
        """So that the directory can be removed."""
        for target in (*(target for _, target in self._mounts), self._scratch / "small"):
            subprocess.run(["umount", target], check=True)

    # -- damage ----------------------------------------------------------------------------------------------------------------

    def _cut(self) -> None:
        self._damage("cut", lambda data: data[: self._rng.randrange(len(data))])

    def _zero(self) -> None:
        self._damage("zeroed", lambda data: bytes(len(data)))

    def _flip_a_bit(self) -> None:
        def flip(data: bytes) -> bytes:
            at = self._rng.randrange(len(data))
            return data[:at] + bytes([data[at] ^ 1 << self._rng.randrange(8)]) + data[at + 1 :]

        self._damage("bit flipped", flip)

    def _roll_back(self) -> None:
        self._damage("rolled back", lambda _: self._rng.choice(self._older))

    def _remove(self) -> None:
        (self._log_dir / CHECKPOINT).unlink(missing_ok=True)
        self.report.damages["deleted"] += 1

    def _damage(self, name: str, change: Callable[[bytes], bytes]) -> None:
        path = self._log_dir / CHECKPOINT
        if path.exists():
            path.write_bytes(change(path.read_bytes()))
            self.report.damages[name] += 1

    # -- waiting and judging ---------------------------------------------------------------------------------------------------

    def _wait_until_read(self) -> None:
        self._catch_up()
        self._watcher.kill_after(self._rng.random())

    def _catch_up(self) -> None:
        """Until a checkpoint says that all there is was read. Raises WrongError when that takes too long, or too much was read."""
        if self._plan.small_disk:
            self._free_disk()
        for log in self._logs:
            log.flush()
        self._watcher.spare()
        end = time.monotonic() + PATIENCE_S
        while not self._is_read():
            if time.monotonic() > end:
                raise WrongError(f"not all was read within {PATIENCE_S:.0f} s: {self._how_far()}")
            time.sleep(0.02)
            if not self._watcher.is_alive:
                self._watcher.start()

    def _delete_held(self, path: Path, append: Callable[[], None]) -> bool:
        """Append to a file and take its name away at once, if the daemon has it open, and let it read the rest; whether it was so."""
        self._catch_up()
        is_held = self._watcher.holds(path)
        if is_held:
            append()
            path.unlink()
            self._catch_up()
        self._watcher.kill_after(self._rng.random())
        return is_held

    def _is_read(self) -> bool:
        state = self._state()
        if state is None:
            return False
        if self.report.damages.total() == 0:
            if state["events"] > self._oracle.lines:
                raise WrongError(f"lines were read twice: {self._how_far()}")
            return bool(state["events"] == self._oracle.lines)
        ends = {(one["path"].rpartition("/")[0], one["offset"]) for one in state["cursors"]}  # of any file: a copy may be the one that is read
        newest = [(str(log.newest.parent), log.newest.stat().st_size) for log in self._logs if log.newest and log.newest.exists()]
        return self._told() >= self._oracle.alerts and all(end in ends for end in newest if end[1])

    def _state(self) -> dict | None:
        with contextlib.suppress(FileNotFoundError, ValueError):  # not yet made, or not yet made anew after it was damaged
            return json.loads((self._log_dir / CHECKPOINT).read_bytes().partition(b"\n")[2])
        return None

    def _how_far(self) -> str:
        state = self._state() or {"events": 0}
        return f"{state['events']} events, {self._oracle.lines} lines; alerts missing {dict(self._oracle.alerts - self._told())}, too many {dict(self._told() - self._oracle.alerts)}"

    def _alerts(self) -> list[dict]:
        found = []
        for path in self._log_dir.glob(f"{ALERTS}*"):
            data = path.read_bytes()
            found += [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
        return found

    def _told(self) -> Counter[Told]:
        return Counter(Told(one["attempt_id"], one["type"], one["status"]) for one in self._alerts())

    def _judge(self) -> None:
        """Each alert once, whole; each line read once; nothing else said."""
        report, state = self.report, self._state()
        if self._has_torn:
            report.wrong.append("the alert file ends in half a line")
        told, expected = self._told(), self._oracle.alerts
        report.lost, report.duplicated = (expected - told).total(), (told - expected).total()
        if told != expected:
            report.wrong.append(self._how_far())
        twice = [identity for identity, count in Counter(one["alert_id"] for one in self._alerts()).items() if count > 1]
        if twice:
            report.wrong.append(f"ids that stand there twice: {twice}")
        if b"Traceback" in (self._scratch / "messages.txt").read_bytes():
            report.wrong.append("a traceback among the messages")
        if state is None:
            report.wrong.append("there is no checkpoint")
        elif report.damages.total() == 0:
            faults = [one for one in state["faults"] if one["fault"]["kind"] not in EXPECTED_FAULTS]
            if faults:
                report.wrong.append(f"faults: {faults}")
            if state["events"] != self._oracle.lines:
                report.wrong.append(f"{state['events']} events of {self._oracle.lines} lines")
            by_type = Counter(one.type for one in expected.elements())
            if state["alerts_by_type"] != by_type:
                report.wrong.append(f"alerts are counted as {state['alerts_by_type']} instead of {dict(by_type)}")

    def _compare_with_a_calm_reading(self) -> None:
        """A single pass over the same files, by a process that nobody disturbs, gives the same ids, and gives them again."""
        calm = self._scratch / "calm"
        shutil.copytree(self._log_dir, calm, ignore=shutil.ignore_patterns(".agentwatch", f"{ALERTS}*"))
        first = self._watcher.once(calm)
        (calm / ALERTS).unlink()
        if self._watcher.once(calm) != first:
            self.report.wrong.append("two single passes over the same files wrote different alerts")
        (calm / ALERTS).unlink()
        self._watcher.once(calm, crash=f"alerts:write:half:{self._rng.choice((1, 2, 5))}")
        if self._watcher.once(calm) != first:
            self.report.wrong.append("a single pass that was interrupted, and made again, wrote different alerts")
        tortured = {one["alert_id"]: one for one in self._alerts()}
        undisturbed = {one["alert_id"]: one for one in map(json.loads, first.splitlines())}
        for name, one, other in (("only the daemon", tortured, undisturbed), ("only the single pass", undisturbed, tortured)):
            alone = [(alert["attempt_id"], alert["type"], alert["status"]) for identity, alert in one.items() if identity not in other]
            if alone:
                self.report.wrong.append(f"{name} has {alone}")


def torture(seed: int, lives: int, *, small_disk: bool, without: frozenset[str] = frozenset()) -> Report:
    """Run the program of a seed. Its directory is kept only if something is wrong."""
    scratch = Path(tempfile.mkdtemp(prefix=f"torture-{seed}-"))
    program = Program(seed, lives, small_disk=small_disk, without=without, scratch=scratch)
    program.run()
    if program.report.wrong:
        program.report.directory = str(scratch)
        return program.report
    if small_disk:
        program.unmount()
    shutil.rmtree(scratch)
    return program.report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--lives", type=int, default=30, help="how often the daemon is started and killed")
    parser.add_argument("--small-disk", action="store_true", help="fill the disk that alerts and state lie on, now and then (needs `unshare -m`)")
    parser.add_argument("--without", default="", metavar="ACTIONS", help="leave these out, to find what a failure needs: `back_up,pack`")
    options = parser.parse_args()
    report = torture(options.seed, options.lives, small_disk=options.small_disk, without=frozenset(options.without.split(",")))
    sys.stdout.write(json.dumps({**vars(report), "plan": vars(report.plan)}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
