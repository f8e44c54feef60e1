"""Files and directories: whom they belong to, who may read them, and where links lead."""

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root can be another user")


class Place:
    """A scratch home, and the real program in it, for which every new file is open to everybody unless it sees to that itself."""

    def __init__(self, base):
        self.base = base
        self.logs = base / "logs"
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(base),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "AGENTWATCH_SOURCES": "none",
            "AGENT_WORK_LOG_DIR": str(self.logs),
        }

    def run(self, *arguments, umask=0, user=None, stdin=None, **environ):
        command = [sys.executable, "-m", "agentwatch", *arguments]
        given = {**self.environ, **environ}
        return subprocess.run(command, cwd=self.base, env=given, capture_output=True, text=True, timeout=60, check=False, umask=umask, user=user, input=stdin)

    def start(self, *arguments):
        return subprocess.Popen([sys.executable, "-m", "agentwatch", *arguments], cwd=self.base, env=self.environ, stderr=subprocess.PIPE, text=True, umask=0)

    def loop(self, attempt="a-1", message="boom"):
        """An error loop in the stream."""
        self.logs.mkdir(exist_ok=True, mode=0o700)
        lines = [
            {
                "timestamp": f"2026-02-09T08:0{minute}:00Z",
                "attempt_id": attempt,
                "event_type": "error",
                "data": {"error_message": message, "error_fingerprint": "boom"},
            }
            for minute in range(4)
        ]
        with (self.logs / "agent-work-stream.jsonl").open("ab") as stream:
            stream.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))

    def modes(self):
        """What stands below the log directory, and who may do what with it."""
        return {str(path.relative_to(self.base)): stat.S_IMODE(path.lstat().st_mode) for path in (self.logs, *self.logs.rglob("*"))}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_what_is_written_is_for_its_owner_alone(place):
    """Logger, daemon, rotation and recorder, with a umask that would let everybody in: 0600 and 0700 everywhere."""
    assert place.run("log", "start", "--attempt", "a-1", "--prompt", "x").returncode == 0
    assert place.run("log", "error", "--attempt", "a-1", "boom").returncode == 0
    assert place.run("exec", "--attempt", "a-2", "--", "true").returncode == 0
    assert place.run("run", "--once").returncode == 0
    daemon = place.start("run")
    while not daemon.stderr.readline().startswith("watching "):
        assert daemon.poll() is None
    place.run("log", "end", "--attempt", "a-1", "--status", "success")
    end = time.monotonic() + 20
    while not (place.logs / "agent-metrics.jsonl").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert place.run("rotate", AGENT_WORK_LOG_MAX_SIZE_MB="0.000001").returncode == 0
    daemon.terminate()
    daemon.communicate(timeout=20)
    modes = place.modes()
    assert {
        "logs/agent-work-stream.jsonl",
        "logs/agent-alerts.jsonl",
        "logs/.agentwatch/checkpoint.json",
        "logs/.agentwatch/status.json",
    } < modes.keys()
    assert {path: f"{mode:o}" for path, mode in modes.items() if mode & 0o077} == {}


def test_the_notifiers_memory_is_for_its_owner_alone(place):
    """Alerts, chats and what was done about them."""
    place.logs.mkdir(mode=0o700)
    process = subprocess.Popen(
        [sys.executable, "-m", "agentwatch", "notify"],
        cwd=place.base,
        env={**place.environ, "AGENTWATCH_WEBHOOK_URL": "http://127.0.0.1:9/x"},
        stderr=subprocess.PIPE,
        text=True,
        umask=0,
    )
    assert "notifying" in process.stderr.readline()
    modes = place.modes()
    process.terminate()
    process.communicate(timeout=20)
    assert "logs/.agentwatch/notify.sqlite" in modes
    assert {path: f"{mode:o}" for path, mode in modes.items() if mode & 0o077} == {}


def test_a_log_directory_that_everybody_may_write_to_is_refused(place):
    """Anybody could put a state directory of theirs in the place of ours."""
    place.loop()
    place.logs.chmod(0o777)
    done = place.run("run", "--once")
    assert done.returncode == 1
    assert "can be written by everybody" in done.stderr
    assert f"hint: run `chmod o-w {place.logs}`" in done.stderr
    assert any(check["state"] == "broken" for check in orjson.loads(place.run("doctor", "--json").stdout)["checks"] if check["name"] == "state directory")


def test_a_sticky_one_is_not(place):
    """There, as in /tmp, nobody can rename what is another's."""
    place.loop()
    place.logs.chmod(0o1777)
    assert place.run("run", "--once").returncode == 0


@needs_root
def test_a_state_directory_of_somebody_else_is_refused(place):
    """Who made it before we came knows what will be written there, and could have written what we would trust."""
    place.loop()
    state = place.logs / ".agentwatch"
    state.mkdir(mode=0o700)
    os.chown(state, 4711, 4711)
    done = place.run("run", "--once")
    assert done.returncode == 1
    assert "belongs to somebody else (user 4711)" in done.stderr


@pytest.mark.parametrize("name", ["x.jsonl", "x.log", "runs/r1/x.jsonl", "agent-work-stream.jsonl.1", "x.traj"])
def test_what_a_link_leads_to_is_not_read(place, name, tmp_path_factory):
    """Whoever may write to a shared log directory must not have us quote a file that they may not read."""
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.jsonl"
    place.loop("a-1")
    secret.write_bytes((place.logs / "agent-work-stream.jsonl").read_bytes().replace(b"a-1", b"outside").replace(b"boom", b"top secret"))
    link = place.logs / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(secret)
    (place.logs / "runs").mkdir(exist_ok=True)
    (place.logs / "runs" / "r2").symlink_to(secret.parent)
    (place.logs / "folder.jsonl").symlink_to(secret.parent)
    done = place.run("run", "--once")
    assert done.returncode == 0, done.stderr
    written = b"".join(path.read_bytes() for path in place.logs.rglob("*") if path.is_file() and not path.is_symlink())
    assert b"top secret" not in written
    assert "top secret" not in done.stdout + done.stderr + place.run("status").stdout + place.run("doctor").stdout
    assert b"boom" in (place.logs / "agent-alerts.jsonl").read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "agent-alerts.jsonl",
        "agent-metrics.jsonl",
        ".agentwatch/checkpoint.json",
        ".agentwatch/checkpoint.json.new",
        ".agentwatch/status.json.new",
        ".agentwatch/lock",
    ],
)
def test_nothing_is_written_through_a_link(place, name):
    """A link in the place of an output must not make us write over what it leads to."""
    victim = place.base / "victim"
    victim.write_text("precious")
    place.loop()
    path = place.logs / name
    path.parent.mkdir(exist_ok=True, mode=0o700)
    path.symlink_to(victim)
    place.run("run", "--once")
    place.run("log", "end", "--attempt", "a-1", "--status", "success")
    assert victim.read_text() == "precious"


def test_pipes_and_devices_hold_nobody_up(place):
    """A FIFO that nobody writes to would be waited for without end."""
    place.loop()
    os.mkfifo(place.logs / "pipe.jsonl")
    (place.logs / "runs").mkdir()
    os.mkfifo(place.logs / "runs" / "latest")
    started = time.monotonic()
    done = place.run("run", "--once")
    assert done.returncode == 0
    assert time.monotonic() - started < 20
    assert b"boom" in (place.logs / "agent-alerts.jsonl").read_bytes()


HOSTILE = {
    "an escape sequence": "\x1b]0;owned\x07\x1b[2J.jsonl",
    "a line break": "a\nerror: something else.jsonl",
    "a command": "$(touch pwned);`touch pwned`;&touch pwned.jsonl",
    "an option": "--log-dir=elsewhere.jsonl",
    "right to left": "\u202egnp.jsonl",
    "no text": os.fsdecode(b"\xff\xfe.jsonl"),
    "very long": f"{'x' * 240}.jsonl",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_no_name_of_a_file_does_anything(place, name):
    """It is shown harmless, wherever it is shown, and the file is read like any other."""
    place.loop()
    shutil.move(place.logs / "agent-work-stream.jsonl", place.logs / name)
    with (place.logs / name).open("ab") as file:
        file.write(b"rubbish\n")
    said = "".join(done.stdout + done.stderr for command in (("run", "--once"), ("alerts",), ("status",), ("doctor",)) if (done := place.run(*command)))
    assert "boom" in said
    assert [character for character in said if character != "\n" and (not character.isprintable())] == []
    assert "\nerror: something else" not in said
    assert not list(place.base.rglob("pwned"))


def test_an_attempts_name_leads_nowhere(place):
    """`../../x` is the name of an attempt, and of no file elsewhere."""
    place.run("log", "error", "--attempt", "../../escaped", "boom")
    place.loop("../../../etc/passwd")
    assert place.run("run", "--once").returncode == 0
    assert sorted(path.name for path in place.base.iterdir()) == ["logs"]
    assert [path.parent for path in place.logs.rglob("*escaped*")] == [place.logs / "agent-sessions"]
