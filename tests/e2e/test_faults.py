"""The daemon as a process, beside what a machine can do to it. Numbers are the cases of `docs/design.md`, Faults."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.sources.harness import append, eventually, remove

PROJECT = Path(__file__).parents[2]
START = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)


def burst(attempt: str, count: int = 4) -> bytes:
    """So many errors with one fingerprint: from four on, one `error_loop` alert."""
    lines = [
        {
            "timestamp": (START + timedelta(seconds=n)).isoformat(),
            "attempt_id": attempt,
            "event_type": "error",
            "data": {"error_message": "it broke", "error_fingerprint": "broke"},
        }
        for n in range(count)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


class Daemon:
    """`agentwatch run` on a log directory; what it does is seen in its files alone."""

    def __init__(self, log_dir: Path, home: Path) -> None:
        self.log_dir = log_dir
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(PROJECT), "AGENTWATCH_SOURCES": "none"}

    def start(self, *prefix: str, see: Path | None = None, stderr: int | None = None) -> "Daemon":
        """`prefix` is what runs the command; `see` is where its log directory is found from here."""
        self.log_dir = see or self.log_dir
        messages = (self.home / "messages").open("ab") if stderr is None else stderr
        self.process = subprocess.Popen([*prefix, *self.command], cwd=self.home, env=self.environ, stderr=messages, stdin=subprocess.DEVNULL)
        if stderr is None:
            messages.close()
        return self

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "agentwatch", "run", "--log-dir", str(getattr(self, "inside", self.log_dir))]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> "Daemon":
        self.process.kill()
        self.process.wait(20)
        return self

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def alerts(self) -> list[dict]:
        """In all that the alert file ever was."""
        found = []
        for path in sorted(self.log_dir.glob("agent-alerts*"), reverse=True):
            data = path.read_bytes()
            found += [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
        return [alert for alert in found if alert["type"] == "error_loop"]

    @property
    def alerted(self) -> list[str]:
        return [alert["attempt_id"] for alert in self.alerts]

    def has_alerted(self, *attempts: str) -> bool:
        """Exactly for these, each once; waits for it."""
        eventually(lambda: not self.is_alive or set(attempts) <= set(self.alerted), what=f"{len(attempts)} alerts")
        assert Counter(self.alerted) == Counter(attempts), self.messages
        return True

    @property
    def checkpoint(self) -> dict:
        try:
            return json.loads((self.log_dir / ".agentwatch" / "checkpoint.json").read_bytes().partition(b"\n")[2])
        except (FileNotFoundError, json.JSONDecodeError):
            return {"cursors": [], "events": 0, "faults": []}

    @property
    def status(self) -> dict:
        try:
            return json.loads((self.log_dir / ".agentwatch" / "status.json").read_bytes())
        except FileNotFoundError:
            return {}

    @property
    def faults(self) -> set[str]:
        return {one["fault"]["kind"] for one in self.checkpoint["faults"]}

    @property
    def messages(self) -> str:
        return (self.home / "messages").read_text() if (self.home / "messages").exists() else ""

    def wait_for_events(self, count: int, within_s: float = 30.0) -> None:
        eventually(lambda: not self.is_alive or self.checkpoint["events"] >= count, within_s, f"{count} events, not {self.checkpoint['events']}")
        assert self.checkpoint["events"] == count, self.messages


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "log").mkdir()
    (tmp_path / "home").mkdir()
    daemon = Daemon(tmp_path / "log", tmp_path / "home")
    yield daemon
    if daemon.process is not None and daemon.is_alive:
        daemon.signal(signal.SIGCONT)
        daemon.kill()


@pytest.fixture
def running(daemon: Daemon) -> Daemon:
    """A daemon that has made its first alert."""
    append(daemon.log_dir / "a.jsonl", burst("first"))
    daemon.start().has_alerted("first")
    return daemon


def test_a_kill_with_half_a_line_on_disk_loses_nothing(running: Daemon) -> None:
    """2: the line is completed while nobody looks."""
    whole = burst("half")
    append(running.log_dir / "a.jsonl", whole[:-30])
    running.wait_for_events(7)
    running.kill()
    append(running.log_dir / "a.jsonl", whole[-30:])
    assert running.start().has_alerted("first", "half")
    assert running.stop() == 0


def test_files_changed_while_the_process_stood_still_are_all_read(running: Daemon) -> None:
    """38: 2,000 of them, by their events."""
    stand_still_and_write(running, directories=20, files=100)
    running.wait_for_events(4 + 2000)
    assert running.faults == set()


@pytest.mark.torture
def test_files_changed_while_the_kernels_queue_overflowed_are_all_read(running: Daemon) -> None:
    """38: 24,000 of them, of which inotify forgets half."""
    stand_still_and_write(running, directories=60, files=400)
    running.wait_for_events(4 + 24_000, within_s=120)
    eventually(lambda: "queue_overflow" in running.faults)


def stand_still_and_write(daemon: Daemon, directories: int, files: int) -> None:
    paths = [daemon.log_dir / f"d{n}" / f"{m}.jsonl" for n in range(directories) for m in range(files)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    eventually(lambda: daemon.status.get("attempts_live") is not None)
    daemon.signal(signal.SIGSTOP)
    for path in paths:
        append(path, burst(f"{path.parent.name}-{path.stem}", 1))
    daemon.signal(signal.SIGCONT)


@pytest.mark.torture
def test_unpaced_appends_to_500_files_are_all_read(running: Daemon) -> None:
    """39: the queue overflows by itself, again and again."""
    files = [(running.log_dir / f"{n}.jsonl").open("ab", buffering=0) for n in range(500)]
    lines = [burst(f"f{n}", 1) for n in range(500)]
    count = 4
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        for file, line in zip(files, lines, strict=True):
            file.write(line)
        count += 500
    for file in files:
        file.close()
    running.wait_for_events(count, within_s=120)


def namespaces(*flags: str) -> str | None:
    """Why there are none; None where there are."""
    if shutil.which("unshare") is None:
        return "there is no `unshare` here"
    found = subprocess.run(["unshare", *flags, "true"], capture_output=True, text=True, check=False)
    return None if found.returncode == 0 else f"`unshare {' '.join(flags)}`: {found.stderr.strip()}"


def needs(*flags: str):
    why = namespaces(*flags)
    return lambda test: pytest.mark.root(pytest.mark.skipif(why is not None, reason=str(why))(test))


@needs("-Ur")
@pytest.mark.parametrize(("name", "limit"), [("watches", 40), ("instances", 0)], ids=["44", "45"])
def test_without_enough_inotify_the_sweep_finds_everything_and_the_status_says_why(daemon: Daemon, name: str, limit: int) -> None:
    """44 and 45: 60 directories, some or none of them watched."""
    paths = [daemon.log_dir / f"d{n}" / "a.jsonl" for n in range(60)]
    for path in paths:
        path.parent.mkdir()
    daemon.start("unshare", "-Ur", "sh", "-c", f'echo {limit} > /proc/sys/user/max_inotify_{name} && exec "$@"', "sh")
    eventually(lambda: f"max_user_{name}" in daemon.status.get("inotify_detail", ""), what=f"a word about the limit: {daemon.messages}")
    for path in paths:
        append(path, burst(path.parent.name))
    assert daemon.has_alerted(*[path.parent.name for path in paths])
    assert daemon.status["inotify_ok"] is False
    assert daemon.stop() == 0


@pytest.mark.parametrize("arguments", [("doctor",), ("run", "--once"), ("summary",), ("report", "sessions"), ("ask", "what went wrong?")], ids=" ".join)
def test_an_agent_whose_folder_is_closed_stops_no_command(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """What can be read is read; doctor and the reports say what cannot be."""
    closed, log_dir = tmp_path / ".codex", tmp_path / ".cache" / "agent-work-logs"
    closed.mkdir()
    log_dir.mkdir(parents=True)
    append(log_dir / "agent-work-stream.jsonl", burst("open"))
    closed.chmod(0)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    command = [*without_rights(), sys.executable, "-m", "agentwatch", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    if arguments == ("doctor",):
        assert f"in `{closed}/sessions` cannot be read" in done.stdout
    if arguments[0] in ("summary", "report"):
        assert f"`{closed}/sessions` cannot be read: Permission denied" in done.stdout


def test_a_daemon_starts_beside_an_agent_whose_folder_is_closed(daemon: Daemon) -> None:
    """It watches the others, and says what it cannot read."""
    del daemon.environ["AGENTWATCH_SOURCES"]
    closed = daemon.home / ".codex"
    closed.mkdir()
    closed.chmod(0)
    append(daemon.log_dir / "a.jsonl", burst("open"))
    daemon.start(*without_rights())
    assert daemon.has_alerted("open")
    eventually(lambda: "unreadable_directory" in daemon.faults, what=f"a fault: {daemon.messages}")


def without_rights() -> list[str]:
    """What takes root's right to read everything from a command."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root reads everything, and there is no `setpriv` here")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


def test_a_directory_that_cannot_be_read_is_read_when_it_can(daemon: Daemon) -> None:
    """46: told once, and looked at again."""
    closed = daemon.log_dir / "closed"
    closed.mkdir()
    append(closed / "a.jsonl", burst("closed"))
    closed.chmod(0)
    daemon.start(*without_rights())
    eventually(lambda: "unreadable_directory" in daemon.faults, what=f"a fault: {daemon.messages}")
    closed.chmod(0o755)
    assert daemon.has_alerted("closed")


def test_an_agents_folder_that_appears_later_is_read(daemon: Daemon, tmp_path: Path) -> None:
    """47: it is missing at the start."""
    folder = tmp_path / "claude"
    daemon.environ |= {"AGENTWATCH_SOURCES": "claude-code", "CLAUDE_CONFIG_DIR": str(folder)}
    daemon.start()
    eventually(lambda: daemon.status)
    path = folder / "projects" / "p" / "session.jsonl"
    path.parent.mkdir(parents=True)
    line = {"type": "user", "sessionId": "s", "uuid": "u", "timestamp": START.isoformat(), "message": {"role": "user", "content": "hello"}}
    path.write_text(json.dumps(line) + "\n")
    eventually(lambda: [one for one in daemon.checkpoint["cursors"] if one["path"] == str(path) and one["offset"] == path.stat().st_size], what=daemon.messages)


@pytest.mark.parametrize("how", ["deleted", "renamed"])
def test_a_log_directory_that_was_replaced_is_watched_on(running: Daemon, how: str, tmp_path: Path) -> None:
    """48: state, alerts and inputs go on in the new one."""
    if how == "deleted":
        remove(running.log_dir)
    else:
        running.log_dir.rename(tmp_path / "old")
    running.log_dir.mkdir()
    append(running.log_dir / "a.jsonl", burst("second"))
    assert running.has_alerted("second")
    append(running.log_dir / "a.jsonl", burst("third"))
    assert running.has_alerted("second", "third")
    assert running.stop() == 0


def test_a_log_directory_that_is_gone_for_a_while_is_no_reason_to_end(running: Daemon) -> None:
    """48: nothing to write to, and nothing to read."""
    remove(running.log_dir)
    deadline = time.monotonic() + 2.5
    eventually(lambda: not running.is_alive or time.monotonic() > deadline)
    assert running.is_alive, running.messages
    running.log_dir.mkdir()
    append(running.log_dir / "a.jsonl", burst("second"))
    assert running.has_alerted("second")


def test_nobody_reads_stderr_while_a_thousand_directories_appear(daemon: Daemon) -> None:
    """54: watchdog's warnings would fill the pipe, and its thread would stand still."""
    read, write = os.pipe()
    daemon.start(stderr=write)
    os.close(write)
    eventually(lambda: daemon.status)
    attempts = [f"r{n}" for n in range(1000)]
    for attempt in attempts:
        deep = daemon.log_dir / "runs" / attempt / "deep"
        deep.mkdir(parents=True)
        append(deep / "a.jsonl", burst(attempt))
    assert daemon.has_alerted(*attempts)
    append(daemon.log_dir / "late.jsonl", burst("late"))
    assert daemon.has_alerted(*attempts, "late")
    assert daemon.stop() == 0
    assert len(os.read(read, 1 << 20)) < 1000
    os.close(read)


@needs("-m")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small file system")
def test_alerts_that_find_no_room_wait_for_it(daemon: Daemon, tmp_path: Path) -> None:
    """57: on a full disk nothing passes an alert, kills included; each is there once, and in order, when there is room."""
    inside = tmp_path / "small"
    inside.mkdir()
    keeper = subprocess.Popen(["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o size=256k none {inside} && echo && exec sleep 600"], stdout=subprocess.PIPE)
    try:
        keeper.stdout.readline()
        seen = Path(f"/proc/{keeper.pid}/root{inside}")
        daemon.inside = inside
        attempts = [f"a{n}" for n in range(60)]
        append(seen / "a.jsonl", b"".join(map(burst, attempts)))
        fill(seen / "ballast")
        enter = ("nsenter", "-t", str(keeper.pid), "-m")
        for _ in range(4):
            before = daemon.messages.count("cannot write alerts")
            daemon.start(*enter, see=seen)
            eventually(lambda before=before: daemon.messages.count("cannot write alerts") > before or not daemon.is_alive, what="a full disk")
            assert daemon.is_alive, daemon.messages
            daemon.kill()
        daemon.start(*enter, see=seen)
        eventually(lambda: not daemon.is_alive or daemon.messages.count("cannot write alerts") > 4)
        deadline = time.monotonic() + 2.5
        eventually(lambda: not daemon.is_alive or time.monotonic() > deadline)
        assert daemon.messages.count("cannot write alerts") == 5  # once a start, not once a second
        assert "alerts can be written again" not in daemon.messages
        (seen / "ballast").unlink()
        assert daemon.has_alerted(*attempts)
        assert daemon.messages.count("alerts can be written again") == 1
        assert daemon.alerted == attempts
        assert daemon.stop() == 0
    finally:
        keeper.kill()
        keeper.wait()
        keeper.stdout.close()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError:
                    break


def test_a_checkpoint_that_cannot_be_written_blocks_nothing(running: Daemon) -> None:
    """58: alerts go on, the old one is kept, a kill costs a harmless replay, and it is told."""
    obstacle = running.log_dir / ".agentwatch" / "checkpoint.json.new"
    eventually(lambda: made(obstacle))
    append(running.log_dir / "a.jsonl", burst("second"))
    running.has_alerted("first", "second")
    running.kill().start()
    append(running.log_dir / "a.jsonl", burst("third"))
    assert running.has_alerted("first", "second", "third")
    obstacle.rmdir()
    eventually(lambda: "not_saved" in running.faults)
    running.wait_for_events(12)
    assert running.stop() == 0


def made(path: Path) -> bool:
    try:
        path.mkdir()
    except FileExistsError:
        return path.is_dir()
    return True


def flipped(data: bytes) -> bytes:
    return data[:-10] + bytes([data[-10] ^ 1]) + data[-9:]


DAMAGE: dict[str, Callable[[Path, bytes], object]] = {
    "empty": lambda path, old: path.write_bytes(b""),
    "all NUL": lambda path, old: path.write_bytes(bytes(path.stat().st_size)),
    "cut": lambda path, old: path.write_bytes(path.read_bytes()[:-7]),
    "a flipped bit": lambda path, old: path.write_bytes(flipped(path.read_bytes())),
    "only the checksum": lambda path, old: path.write_bytes(path.read_bytes().partition(b"\n")[0]),
    "not JSON": lambda path, old: path.write_bytes(b"\xff" * 100),
    "older than the alerts": lambda path, old: path.write_bytes(old),
    "deleted": lambda path, old: path.unlink(),
    "half a new one beside it": lambda path, old: path.with_name("checkpoint.json.new").write_bytes(old[:40]),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_no_reason_not_to_start_nor_to_repeat_alerts(running: Daemon, damage: Callable[[Path, bytes], object]) -> None:
    """59: everything is read again, and what stands in the alert file is not written twice."""
    path = running.log_dir / ".agentwatch" / "checkpoint.json"
    running.wait_for_events(4)
    old = path.read_bytes()
    append(running.log_dir / "a.jsonl", burst("second"))
    running.has_alerted("first", "second")
    running.kill()
    damage(path, old)
    append(running.log_dir / "b.jsonl", burst("third"))
    assert running.start().has_alerted("first", "second", "third")
    assert running.stop() == 0


@pytest.mark.parametrize("is_down", [False, True], ids=["running", "down"])
@pytest.mark.parametrize("how", ["rotated", "truncated", "deleted"])
def test_an_alert_file_that_somebody_rotates_truncates_or_deletes_is_gone_on_with(running: Daemon, how: str, *, is_down: bool) -> None:
    """60: nothing that was told is told again."""
    path = running.log_dir / "agent-alerts.jsonl"
    running.wait_for_events(4)
    if is_down:
        running.stop()
    {"rotated": lambda: path.rename(path.with_name("agent-alerts.jsonl.1")), "truncated": lambda: os.truncate(path, 0), "deleted": path.unlink}[how]()
    if is_down:
        running.start()
    append(running.log_dir / "a.jsonl", burst("second"))
    assert running.has_alerted(*(["first"] if how == "rotated" else []), "second")
    assert b"second" in path.read_bytes()
    assert running.kill().start().has_alerted(*(["first"] if how == "rotated" else []), "second")


@pytest.mark.parametrize("arguments", [[], ["--once"]], ids=["run", "run --once"])
def test_a_second_daemon_says_that_there_is_one_and_ends(running: Daemon, arguments: list[str]) -> None:
    """61: and disturbs the first in nothing."""
    second = subprocess.run([*running.command, *arguments], cwd=running.home, env=running.environ, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert f"pid {running.process.pid}" in second.stderr
    append(running.log_dir / "a.jsonl", burst("second"))
    assert running.has_alerted("first", "second")


def test_a_second_daemon_in_a_directory_that_was_replaced_finds_the_first(running: Daemon) -> None:
    """61: the lock went with the old directory, and is taken anew in its successor."""
    running.log_dir.rename(running.home / "gone")  # at once: what is removed bit by bit may be written into meanwhile
    running.log_dir.mkdir()
    append(running.log_dir / "a.jsonl", burst("second"))
    running.wait_for_events(8)
    second = subprocess.run([*running.command, "--once"], cwd=running.home, env=running.environ, capture_output=True, text=True, timeout=20, check=False)
    assert (second.returncode, f"pid {running.process.pid}" in second.stderr) == (1, True)
    assert running.kill().start().has_alerted("second")


SLOW_DISK = """
import os, runpy, sys, time
from agentwatch.apps import daemon
daemon.LONGEST_CHECKPOINT_S = 1.0
real = os.fsync
def first(fd):
    os.fsync = real
    time.sleep(3)
    real(fd)
os.fsync = first
sys.argv = sys.argv[3:]
runpy.run_module("agentwatch", run_name="__main__")
"""


def test_a_disk_that_stood_still_once_does_not_put_off_the_next_checkpoint_for_long(daemon: Daemon) -> None:
    """Twenty times three seconds would be a minute in which a crash costs all that was read."""
    daemon.start(sys.executable, "-c", SLOW_DISK)
    eventually(lambda: "watching" in daemon.messages, 20, "the start")
    append(daemon.log_dir / "a.jsonl", burst("first"))
    daemon.wait_for_events(4, within_s=20)


def test_a_copied_log_directory_is_judged_by_itself(running: Daemon, tmp_path: Path) -> None:
    """What is remembered of the originals is no part of the copies; the alerts in the copied file are not repeated."""
    append(running.log_dir / "a.jsonl", burst("second", 3))
    running.wait_for_events(7)
    running.stop()
    running.log_dir = Path(shutil.copytree(running.log_dir, tmp_path / "copy"))
    append(running.log_dir / "a.jsonl", burst("third"))
    assert running.start().has_alerted("first", "third")
    assert "it was copied from" in running.messages
    running.wait_for_events(11)


def test_64_descriptors_are_enough_for_1000_files(daemon: Daemon) -> None:
    """62: all are read, rotated and read on."""
    attempts = [f"f{n}" for n in range(1000)]
    for attempt in attempts:
        append(daemon.log_dir / f"{attempt}.jsonl", burst(attempt, 3))
    daemon.start("sh", "-c", 'ulimit -n 64 && exec "$@"', "sh")
    daemon.wait_for_events(3000)
    for attempt in attempts:
        append(daemon.log_dir / f"{attempt}.jsonl", burst(attempt)[-len(burst(attempt, 1)) :])
        (daemon.log_dir / f"{attempt}.jsonl").rename(daemon.log_dir / f"{attempt}.jsonl.1")
    assert daemon.has_alerted(*attempts)
    assert daemon.faults == set()


@pytest.mark.torture
@pytest.mark.parametrize("directories", [1, 10_000])
def test_10_000_files_start_within_seconds_and_idle_costs_little(daemon: Daemon, directories: int) -> None:
    """53: in one directory, and in as many. Measured 1.5 s and 2 to 3 %; the limits leave room for a busy machine."""
    for n in range(10_000):
        path = daemon.log_dir / f"d{n % directories}" / f"{n}.jsonl"
        path.parent.mkdir(exist_ok=True)
        append(path, burst(f"a{n}", 1))
    started = time.monotonic()
    daemon.start()
    daemon.wait_for_events(10_000, within_s=60)
    assert time.monotonic() - started < 20
    used, since = cpu_s(daemon), time.monotonic()
    eventually(lambda: time.monotonic() - since > 20, within_s=30)
    assert (cpu_s(daemon) - used) / (time.monotonic() - since) < 0.10


def cpu_s(daemon: Daemon) -> float:
    user, system = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_a_full_day_of_rotations_leaks_neither_descriptors_nor_memory(running: Daemon) -> None:
    """24 h of hourly rotation, in seconds: what is open and what is remembered follows what is there."""
    path = running.log_dir / "a.jsonl"
    attempts = ["first"]
    for n in range(24):
        append(path, burst(f"h{n}"))
        attempts.append(f"h{n}")
        running.has_alerted(*attempts)
        for age in range(3, 0, -1):
            older = path.with_name(f"a.jsonl.{age}")
            if older.exists():
                older.rename(path.with_name(f"a.jsonl.{age + 1}"))
        path.rename(path.with_name("a.jsonl.1"))
    assert len(list(Path(f"/proc/{running.process.pid}/fd").iterdir())) < resource.getrlimit(resource.RLIMIT_NOFILE)[0] / 2
    assert len(list(Path(f"/proc/{running.process.pid}/fd").iterdir())) < 50
    assert running.stop() == 0


def test_a_healthy_agent_whose_clock_is_behind_is_never_stuck(daemon: Daemon) -> None:
    """A container's clock, twenty minutes late, over a restart."""

    def step(n: int) -> None:
        at = datetime.now(UTC) - timedelta(minutes=20)
        event = {"timestamp": at.isoformat(), "attempt_id": "late", "event_type": "tool_call", "data": {"tool_name": f"tool-{n}"}}
        append(daemon.log_dir / "a.jsonl", json.dumps(event).encode() + b"\n")

    step(0)
    for n in range(2):
        daemon.start()
        for k in range(5):
            step(5 * n + k + 1)
            daemon.wait_for_events(5 * n + k + 2)
        began = time.monotonic()
        eventually(lambda began=began: time.monotonic() - began > 2.5, what="two ticks")
        daemon.kill()
    assert not (daemon.log_dir / "agent-alerts.jsonl").exists() or (daemon.log_dir / "agent-alerts.jsonl").read_bytes() == b""
