"""`agentwatch exec` with real processes, real terminals and real signals: the program's console is the same with it as without."""

import contextlib
import fcntl
import itertools
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
TMUX = shutil.which("tmux")
PATIENCE_S = 20.0

THREAD = "01a200d9-637d-7bb0-8824-05e7c0ebfa83"


class Place:
    """A scratch home to run the program in."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.logs = base / "logs"
        self.environ = {
            "PATH": f"{base}:{os.environ['PATH']}",
            "HOME": str(base),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "AGENTWATCH_LOGS_DIR": str(self.logs),
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "agentwatch", "exec", *arguments]

    def run(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, "cwd": self.base, "env": self.environ} | options
        return subprocess.run(self.command(*arguments), check=False, **options)

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": self.base, "env": self.environ} | options
        return subprocess.Popen(self.command(*arguments), **options)

    def script(self, name: str, text: str) -> str:
        """A program on PATH."""
        path = self.base / name
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)
        return name

    def agent(self, name: str, *entries: dict, then: str = "") -> str:
        """A program that prints `entries` as stream JSON."""
        (self.base / f"{name}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        return self.script(name, f"cat {shlex.quote(str(self.base / name))}.jsonl\n{then}\n")

    @property
    def events(self) -> list[dict]:
        path = self.logs / "agent-work-stream.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def of(self, kind: str) -> list[dict]:
        return [event["data"] for event in self.events if event["event_type"] == kind]

    @property
    def outcome(self) -> dict:
        (end,) = self.of("session_end")
        return end

    @property
    def said(self) -> str:
        return "\n".join(data["output"] for data in self.of("agent_output"))


class Screen:
    """A terminal with the program on it."""

    def __init__(self, place: Place, *arguments: str, size: tuple[int, int] = (24, 80)) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(*size)
        self.modes = termios.tcgetattr(self.slave)
        self.text = b""
        self.process = place.start(
            *arguments,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def shows(self, text: bytes) -> bool:
        """Whether the text appears; waits for it."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.text and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 65_536)
        return text in self.text

    def ends(self) -> int:
        """The exit code, and what was left to read."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.05)[0]:
                self.text += os.read(self.master, 65_536)
        code = self.process.wait(1)
        while select.select([self.master], [], [], 0)[0]:
            self.text += os.read(self.master, 65_536)
        return code

    @property
    def is_restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.modes

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def screen(place):
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **options) -> Screen:
            made = Screen(place, *arguments, **options)
            stack.callback(made.close)
            return made

        yield start


def lives(pid: int) -> bool:
    """Whether a process exists that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(holds) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := holds()) and time.monotonic() < deadline:
        select.select([], [], [], 0.02)
    return found


# ---------------------------------------------------------------------------------------------------------------- the console


@pytest.mark.parametrize(
    ("command", "code", "status"),
    [
        pytest.param(["true"], 0, "success", id="done"),
        pytest.param(["sh", "-c", "exit 7"], 7, "failed", id="a code of its own"),
        pytest.param(["sh", "-c", "kill -9 $$"], 137, "failed", id="killed"),
        pytest.param(["sh", "-c", "kill -TERM $$"], 143, "interrupted", id="terminated"),
        pytest.param(["there-is-no-such-command"], 127, "failed", id="not found"),
        pytest.param(["./no/such/file"], 127, "failed", id="no such file"),
        pytest.param(["/etc/passwd"], 126, "failed", id="not executable"),
        pytest.param(["/"], 126, "failed", id="a directory"),
    ],
)
def test_the_exit_code_is_the_programs_own(place, command, code, status):
    """As a shell has it; the log says the same."""
    assert place.run("--", *command).returncode == code
    assert place.outcome["exit_code"] == code
    assert place.outcome["completion_status"] == status
    assert place.events[0]["event_type"] == "session_start"


def test_bytes_pass_unchanged_in_both_directions(place):
    """Whatever they are, to the end of the input; what goes to stderr stays apart."""
    data = bytes(range(256)) * 1000 + b"\x1b[31mred\x1b[0m no newline"
    done = place.run("--", "sh", "-c", "tee /dev/stderr", input=data)
    assert (done.stdout, done.stderr) == (data, data)


def test_a_program_that_is_given_no_input_sees_its_end(place):
    """Standard input is ours, as it is."""
    assert place.run("--", "sh", "-c", "cat; echo over", stdin=subprocess.DEVNULL).stdout == b"over\n"


def test_a_reader_that_leaves_ends_the_program_as_without_us(place):
    """It gets its SIGPIPE."""
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join(place.command('--', 'yes'))} | head -1; echo ${{PIPESTATUS[0]}}"],
        env=place.environ, cwd=place.base, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "y\n141\n"
    assert done.stderr == ""


def test_children_that_hold_the_pipe_do_not_hold_us(place):
    """The end is the program's end, whatever it has left behind."""
    began = time.monotonic()
    done = place.run("--", "sh", "-c", "sleep 25 & echo now")
    assert done.stdout == b"now\n"
    assert time.monotonic() - began < PATIENCE_S


def test_a_child_that_goes_on_talking_does_not_hold_us(place):
    """Not even if there is always something to read."""
    assert place.run("--", "sh", "-c", "yes & echo now", stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT], ids=lambda one: one.name)
def test_signals_are_passed_on(place, number):
    """The program decides what they mean."""
    name = number.name.removeprefix("SIG")
    process = place.start("--", "sh", "-c", f'trap "echo got {name}; exit 5" {name}; echo ready; while :; do sleep 0.05; done')
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert out == f"got {name}\n".encode()
    assert process.returncode == 5


def test_what_was_ignored_stays_ignored(place):
    """`nohup agentwatch exec` survives what `nohup` lets survive."""
    process = subprocess.Popen(
        ["sh", "-c", f"trap '' HUP; exec {shlex.join(place.command('--', 'sh', '-c', 'echo ready; read x; echo $x'))}"],
        env=place.environ, cwd=place.base, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(b"still here\n", timeout=PATIENCE_S)
    assert (out, process.returncode) == (b"still here\n", 0)


# --------------------------------------------------------------------------------------------------------------- the terminal


def test_on_a_terminal_the_program_has_one(screen):
    """All three streams, of the right size, and it is its own."""
    terminal = screen("--", "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && stty size && echo yes >/dev/tty", size=(31, 97))
    assert terminal.ends() == 0
    assert terminal.text == b"31 97\r\nyes\r\n"
    assert terminal.is_restored


def test_streams_that_are_no_terminal_stay_none(place):
    """Each for itself: who redirects one keeps the others."""
    done = place.run("--", "sh", "-c", "for n in 0 1 2; do test -t $n && echo $n; done; true", stdin=subprocess.DEVNULL)
    assert done.stdout == b""


def test_colours_stay_where_the_input_alone_is_redirected(place, screen):
    """`echo prompt | agentwatch exec -- agent` on a terminal: the agent sees one, and a line ends as it would."""
    place.script("run", f"echo prompt | {shlex.join(place.command('--', 'sh', '-c', 'cat; test -t 1 && test -t 2 && echo yes'))}")
    terminal = screen("--", "run")
    assert terminal.ends() == 0
    assert terminal.text == b"prompt\r\nyes\r\n"


def test_a_new_size_reaches_the_program(screen):
    """With the signal that tells of it."""
    terminal = screen("--", "sh", "-c", 'trap "stty size; exit" WINCH; echo ready; while :; do sleep 0.05; done')
    assert terminal.shows(b"ready")
    terminal.resize(40, 133)
    assert terminal.ends() == 0
    assert b"40 133" in terminal.text


def test_keys_mean_to_the_program_what_they_meant_before(screen):
    """Ctrl-D ends its input, Ctrl-C interrupts it, and not us."""
    terminal = screen("--", "sh", "-c", 'echo type; cat; trap "echo interrupted; exit 3" INT; echo ready; while :; do sleep 0.05; done')
    assert terminal.shows(b"type")
    terminal.type(b"hello\n\x04")
    assert terminal.shows(b"hello\r\nhello\r\nready")
    terminal.type(b"\x03")
    assert terminal.ends() == 3
    assert b"interrupted" in terminal.text


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        pytest.param("stty raw -echo; kill -9 $$", None, 137, id="the program is killed in raw mode"),
        pytest.param("stty raw -echo; echo ready; sleep 30", signal.SIGTERM, 143, id="we are terminated"),
        pytest.param("echo ready; sleep 30", signal.SIGHUP, 129, id="we are hung up"),
    ],
)
def test_the_terminal_is_as_it_was(screen, command, number, code):
    """However it ends."""
    terminal = screen("--", "sh", "-c", command)
    if number:
        assert terminal.shows(b"ready")
        terminal.process.send_signal(number)
    assert terminal.ends() == code
    assert terminal.is_restored


def test_children_that_hold_the_terminal_do_not_hold_us(place, screen):
    """They have been hung up, or ignore it: the end is the program's end."""
    terminal = screen("--", "sh", "-c", "trap '' HUP; sleep 25 & echo now")
    assert terminal.ends() == 0
    assert b"now" in terminal.text
    assert terminal.is_restored
    assert place.outcome["duration_ms"] < 10_000


# -------------------------------------------------------------------------------------------------------------- what is recorded


def test_a_session_is_recorded(place):
    """Who, about what, what was said, and how it ended; all of one attempt."""
    place.script("claude", 'echo "\033[1mworking\033[0m"; printf "10%%\\r100%%\\n"; echo oops >&2')
    place.run("--task", "T-17", "--attempt", "a-1", "--run", "run-3", "--", "claude", "--model", "sonnet")
    assert {(one["attempt_id"], one["task_id"], one["executor"], one["model"], one["run_id"]) for one in place.events} == {
        ("a-1", "T-17", "CLAUDE", "sonnet", "run-3")
    }
    assert {(data["stream_type"], data["output"]) for data in place.of("agent_output")} == {("stdout", "working\n100%"), ("stderr", "oops")}
    assert place.outcome["completion_status"] == "success"
    assert place.outcome["duration_ms"] >= 0


@pytest.mark.parametrize(
    ("command", "executor"),
    [
        pytest.param(["codex", "exec"], "CODEX", id="by its name"),
        pytest.param(["/opt/bin/gemini"], "GEMINI", id="by its path"),
        pytest.param(["npx", "-y", "@openai/codex@0.148", "exec"], "CODEX", id="by its package"),
        pytest.param(["timeout", "60", "claude", "-p"], "CLAUDE", id="behind another"),
        pytest.param(["make", "agent"], "make", id="none that is known"),
    ],
)
def test_the_executor_is_guessed(command, executor):
    """By what is run; `--executor` says otherwise."""
    from agentwatch.apps.record import executor_of

    assert executor_of(command) == executor


def test_secrets_on_the_console_stay_there(place):
    """What is passed on is not what is kept."""
    done = place.run("--", "echo", "token: ghp_0123456789abcdefghijABCDEFGHIJ456789")
    assert b"ghp_0123" in done.stdout
    assert "ghp_0123" not in place.said


@pytest.mark.parametrize("kind", ["text", "json", "the agent's own json"])
def test_floods_cost_little(place, kind):
    """20 MB: every byte arrives, the log stays small, its first and last lines are there."""
    line = {
        "text": "a line of text that says little",
        "json": '{"level":"info","type":"noise"}',
        "the agent's own json": '{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"again"}}',
    }[kind]
    first = json.dumps({"type": "thread.started", "thread_id": THREAD}) if kind.startswith("the") else "the first line"
    done = place.run("--", "sh", "-c", f"echo '{first}'; yes '{line}' | head -c 20000000; echo; echo the last line")
    assert len(done.stdout) == 20_000_000 + len(first) + len("\n\nthe last line\n")
    assert sum(path.stat().st_size for path in place.logs.rglob("*.jsonl")) < 3_000_000
    assert "the last line" in place.said
    assert place.outcome["completion_status"] == "success"


@given(st.lists(st.sampled_from([b"{", b"}", b"\n", b"text", b"{}\n", b"\r\n"])).map(b"".join), st.lists(st.integers(0, 60)))
def test_lines_are_told_apart_however_they_arrive(data, cuts):
    """What begins with a brace goes one way, all else the other, and nothing is lost or changed."""
    from agentwatch.apps.record import Lines

    lines, found, other = Lines(), [], b""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in itertools.pairwise(edges):
        one, rest = lines.split(data[start:end])
        found += one
        other += rest
    whole = [line for line in re.split(rb"(?<=\n)", data) if line]
    assert b"".join([*found, lines.rest()]) == b"".join(line for line in whole if line.startswith(b"{"))
    assert all(line.startswith(b"{") and line.endswith(b"\n") and line.count(b"\n") == 1 for line in found)
    assert other == b"".join(line for line in whole if not line.startswith(b"{"))


def peak_kb(place: Place, size: int) -> int:
    """Of the process itself, in kB, while that many bytes pass through it; it tells as it ends."""
    program = (
        "import resource, sys; sys.argv[0] = 'agentwatch'; from agentwatch.cli.main import main\n"
        "try: main()\nfinally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, "exec", "--", "sh", "-c", f"yes 'a line of output' | head -c {size}"]
    done = subprocess.run(command, cwd=place.base, env=place.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=600, check=True)
    return int(done.stderr.split()[-1])


def test_memory_stays_flat(place):
    """200 times the output, the same memory."""
    assert peak_kb(place, 20_000_000) - peak_kb(place, 100_000) < 8_000


@pytest.mark.torture
def test_memory_stays_flat_for_a_gigabyte(place):
    """10,000 times the output, the same memory, and less than a megabyte of log."""
    assert peak_kb(place, 1_000_000_000) - peak_kb(place, 100_000) < 8_000
    assert sum(path.stat().st_size for path in place.logs.rglob("*.jsonl")) < 1_000_000


@pytest.mark.parametrize("trouble", ["a full disk", "no directory"])
def test_a_log_that_cannot_be_written_costs_the_agent_nothing(place, trouble):
    """Its output and its exit code are as ever; the loss is told, at the end."""
    if trouble == "a full disk":
        place.logs.mkdir()
        for name in ("agent-work-stream.jsonl", "agent-metrics.jsonl"):
            (place.logs / name).symlink_to("/dev/full")
    else:
        place.logs.write_text("a file where the directory should be")
    done = place.run("--attempt", "a-1", "--", "sh", "-c", "echo fine; exit 3")
    assert (done.stdout, done.returncode) == (b"fine\n", 3)
    assert re.search(rb"^agentwatch: warning: .*cannot be written", done.stderr)


def test_logging_that_is_switched_off_makes_no_file(place):
    """And changes nothing else."""
    place.environ["AGENT_WORK_LOGGING_ENABLED"] = "false"
    assert place.run("--", "echo", "fine").stdout == b"fine\n"
    assert not place.logs.exists()


# --------------------------------------------------------------------------------------------------------------- stream JSON


def call(number: int, command: str = "make test", exit_code: int = 2) -> list[dict]:
    """A command that codex runs, and what comes of it."""
    item = {"id": f"item_{number}", "type": "command_execution", "command": command, "aggregated_output": "2 failed", "exit_code": exit_code}
    return [
        {"type": "item.started", "item": item | {"exit_code": None, "status": "in_progress"}},
        {"type": "item.completed", "item": item | {"status": "failed"}},
    ]


def codex(*entries: dict) -> list[dict]:
    return [{"type": "thread.started", "thread_id": THREAD}, {"type": "turn.started"}, *entries]


def spent(tokens: int) -> dict:
    return {"type": "turn.completed", "usage": {"input_tokens": tokens, "cached_input_tokens": 0, "output_tokens": tokens}}


def test_the_stream_of_codex_becomes_events(place):
    """With the agent's session and model on each of them; its JSON is no output, what stands beside it is."""
    agent = place.agent(
        "codex", *codex(*call(1), {"type": "item.completed", "item": {"id": "i", "type": "agent_message", "text": "done"}}, spent(100)), then="echo bye"
    )
    done = place.run("--", agent, "exec", "--json", "-m", "gpt-5-codex")
    assert done.stdout.startswith(b'{"type": "thread.started"')
    (called,), (result,), (usage,) = place.of("tool_call"), place.of("tool_result"), place.of("usage")
    assert called["tool_params"] == {"command": "make test"}
    assert (result["is_error"], result["exit_code"], result["error_message"]) == (True, 2, "2 failed")
    assert {kind: count for kind, count in usage["usage"].items() if count} == {"input": 100, "output": 100}
    assert [event["session_id"] for event in place.events if event["event_type"] == "tool_call"] == [THREAD]
    assert {data["output"] for data in place.of("agent_output")} == {"done", "bye"}
    assert len(place.of("session_start")) == len(place.of("session_end")) == 1


def test_the_stream_of_gemini_becomes_events(place):
    """With the model that its first line names."""
    at = "2026-02-09T08:00:00.000Z"
    agent = place.agent(
        "gemini",
        {"type": "init", "timestamp": at, "session_id": "s-2", "model": "gemini-2.5-pro"},
        {"type": "tool_use", "timestamp": at, "tool_id": "t1", "tool_name": "read_file", "parameters": {"path": "a"}},
        {"type": "tool_result", "timestamp": at, "tool_id": "t1", "status": "success", "output": "text"},
        {"type": "result", "timestamp": at, "status": "success", "stats": {"total_tokens": 30, "input_tokens": 10, "output_tokens": 20}},
    )
    place.run("--", agent, "--output-format", "stream-json")
    assert [data["tool_name"] for data in place.of("tool_call")] == ["read_file"]
    assert [data["usage"]["output"] for data in place.of("usage")] == [20]
    assert {(event["session_id"], event["model"]) for event in place.events if event["event_type"] != "session_start"} == {("s-2", "gemini-2.5-pro")}
    assert place.outcome["total_tokens"] == 30


def test_the_stream_of_claude_becomes_events(place):
    """As `claude -p --output-format stream-json --verbose` prints it."""
    from agentwatch.formats.registry import recognise

    session = "5b1f2c4e-0000-4000-8000-000000000001"
    about = {"session_id": session, "uuid": "5b1f2c4e-0000-4000-8000-000000000002"}
    init = {
        "type": "system",
        "subtype": "init",
        "cwd": "/w",
        "tools": ["Bash"],
        "model": "claude-sonnet-4-5",
        "permissionMode": "default",
        "apiKeySource": "none",
        **about,
    }
    if recognise("", [json.dumps(init).encode() + b"\n"]) is None:
        pytest.skip("no format of the registry reads Claude Code's stream JSON")
    usage = {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": None, "usage": usage}
    agent = place.agent(
        "claude",
        init,
        {"type": "assistant", "message": message | {"content": [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}]}, "parent_tool_use_id": None, **about},
        {"type": "user", "message": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "a", "is_error": False}]}, "parent_tool_use_id": None, **about},
        {"type": "result", "subtype": "success", "is_error": False, "duration_ms": 10, "num_turns": 1, "result": "done", "total_cost_usd": 0.5, "usage": usage, **about},
    )  # fmt: skip
    place.run("--", agent, "-p", "--output-format", "stream-json")
    assert [data["tool_name"] for data in place.of("tool_call")] == ["Bash"]
    assert [data["is_error"] for data in place.of("tool_result")] == [False]
    assert {event.get("session_id") for event in place.events if event["event_type"] == "tool_call"} == {session}


def test_the_daemon_judges_what_was_recorded(place):
    """The same detectors on the same events: a loop on the console is a loop in the alerts, and exec writes none itself."""
    agent = place.agent("codex", *codex(*(entry for number in range(8) for entry in call(number))))
    place.run("--attempt", "a-1", "--", agent, "exec", "--json")
    assert not (place.logs / "agent-alerts.jsonl").exists()
    once(place)
    alerts = [json.loads(line) for line in (place.logs / "agent-alerts.jsonl").read_bytes().splitlines()]
    assert {alert["attempt_id"] for alert in alerts} == {"a-1"}
    assert "tool_loop" in {alert["type"] for alert in alerts} or "error_loop" in {alert["type"] for alert in alerts}


CODEX = """
import json, os, sys, time
from datetime import UTC, datetime
thread = "%s"
rollout = open(os.path.join(os.environ["HOME"], ".codex/sessions/2026/02/09", f"rollout-2026-02-09T08-00-00-{thread}.jsonl"), "a")
def wrote(kind, **payload):
    line = {"timestamp": datetime.now(UTC).isoformat(), "type": kind, "payload": payload}
    print(json.dumps(line), file=rollout, flush=True)
def said(kind, **fields):
    print(json.dumps({"type": kind, **fields}), flush=True)
wrote("session_meta", id=thread, timestamp=datetime.now(UTC).isoformat(), cwd="/w", cli_version="0.169.0")
said("thread.started", thread_id=thread)
said("turn.started")
wrote("turn_context", turn_id="t", cwd="/w", model="gpt-5-codex")
wrote("event_msg", type="user_message", message="Mend it")
log = os.path.join(os.environ["AGENTWATCH_LOGS_DIR"], "agent-work-stream.jsonl")
while not (os.path.exists(log) and '"recorded"' in open(log).read()):
    time.sleep(0.01)
for number in range(8):
    command = {"id": f"i{number}", "type": "command_execution", "command": "make", "aggregated_output": "no rule"}
    wrote("response_item", type="function_call", name="shell", call_id=f"c{number}", arguments='{"command": "make"}')
    said("item.started", item=command | {"status": "in_progress"})
    wrote("response_item", type="function_call_output", call_id=f"c{number}", output="Exit code: 2\\nno rule")
    said("item.completed", item=command | {"status": "failed", "exit_code": 2})
    total = {"input_tokens": 100_000 * (number + 1), "cached_input_tokens": 0, "output_tokens": 1000 * (number + 1), "reasoning_output_tokens": 0}
    wrote("event_msg", type="token_count", info={"total_token_usage": total, "last_token_usage": {}}, rate_limits=None)
    time.sleep(float(sys.argv[1]))
said("turn.completed", usage={"input_tokens": 800_000, "cached_input_tokens": 0, "output_tokens": 8000})
"""
"""Prints its stream and writes its transcript, as Codex does. Its first call comes when it is known whose session it is: a model takes longer than that. The time
between its calls is its own."""


def once(place):
    subprocess.run([sys.executable, "-m", "agentwatch", "run", "--once"], cwd=place.base, env=place.environ, check=True, capture_output=True, timeout=60)


def loops(place):
    alerts = [json.loads(line) for line in (place.logs / "agent-alerts.jsonl").read_bytes().splitlines()]
    return [(alert["attempt_id"], alert["session_id"]) for alert in alerts if alert["type"] == "error_loop" and alert["status"] == "open"]


def recording(place, *options, pause_s=0.05):
    """Run the agent that does both, recorded."""
    (place.base / ".codex/sessions/2026/02/09").mkdir(parents=True)
    (place.base / "agent.py").write_text(CODEX % THREAD)
    agent = place.script("codex", f"exec {sys.executable} {place.base}/agent.py {pause_s}\n")
    return place.run("--attempt", "a-1", *options, "--", agent, "exec", "--json")


def test_what_is_recorded_is_not_judged_again_from_the_transcript(place):
    """One loop, told for the attempt that its user knows, whether the daemon was there or not; without the record it is the session's."""
    daemon = subprocess.Popen([sys.executable, "-m", "agentwatch", "run"], cwd=place.base, env=place.environ, stderr=subprocess.PIPE, text=True)
    try:
        assert daemon.stderr.readline().startswith("watching")
        assert recording(place).returncode == 0
        eventually((place.logs / "agent-alerts.jsonl").exists)
    finally:
        daemon.terminate()
        daemon.communicate(timeout=20)
    assert loops(place) == [("a-1", THREAD)]
    once(place)
    assert loops(place) == [("a-1", THREAD)]
    for name in ("agent-alerts.jsonl", "agent-work-stream.jsonl"):
        (place.logs / name).unlink()
    once(place)
    assert loops(place) == [(THREAD, THREAD)]


@pytest.mark.parametrize("is_killed", [False, True], ids=["to its end", "until exec was killed"])
def test_a_backlog_knows_of_a_record_that_is_read_after_the_transcript(place, is_killed):
    """What was written first is read first: here the transcript."""
    assert recording(place).returncode == 0
    stream = place.logs / "agent-work-stream.jsonl"
    if is_killed:
        stream.write_bytes(b"".join(line for line in stream.read_bytes().splitlines(keepends=True) if b'"session_end"' not in line))
    os.utime(stream, (time.time() + 60,) * 2)
    once(place)
    assert loops(place) == [("a-1", THREAD)]


def test_what_codex_spends_is_read_from_its_transcript(place):
    """Its stream tells the tokens once, at the end, and no model: they are recorded as they are spent, each once, with a price."""
    assert recording(place).returncode == 0
    assert sum(data["usage"]["input"] for data in place.of("usage")) == 800_000
    assert sum(data["usage"]["output"] for data in place.of("usage")) == 8000
    assert {data["model"] for data in place.of("usage")} == {"gpt-5-codex"}
    assert place.outcome["total_tokens"] == 808_000


def test_codex_is_stopped_in_the_middle_of_a_turn_that_costs_too_much(place):
    """100,000 tokens a call at 1.25 USD a million: the third is too much, and there are eight."""
    done = recording(place, "--max-cost", "0.3", pause_s=2)
    assert done.returncode == 130
    assert b"may cost $0.30" in done.stderr
    assert 3 <= len(place.of("tool_call")) < 8


def test_without_a_transcript_what_the_stream_says_is_believed(place):
    """The session was ephemeral, or lies in another home."""
    agent = place.agent("codex", *codex(*call(1), spent(100)))
    place.run("--", agent, "exec", "--json", "-m", "gpt-5-codex")
    assert [data["usage"]["input"] for data in place.of("usage")] == [100]


# --------------------------------------------------------------------------------------------------------------- ending a runaway


def test_an_alert_stops_the_agent(place):
    """It is told why on stderr, and in the log."""
    agent = place.agent("codex", *codex(*(entry for number in range(8) for entry in call(number))), then="exec sleep 30")
    done = place.run("--on-alert", "stop", "--", agent, "exec", "--json")
    assert done.returncode == 130
    assert re.search(rb"^agentwatch: SIGINT to `codex`: (error|tool)_loop: ", done.stderr)
    assert [data["new_status"] for data in place.of("status_change")] == ["recorded", "stopping"]
    assert place.outcome["completion_status"] == "interrupted"
    assert "_loop: " in place.outcome["reason"]
    assert not (place.logs / "agent-alerts.jsonl").exists()


def test_without_being_asked_no_alert_stops_anything(place):
    """Watching is the default."""
    agent = place.agent("codex", *codex(*(entry for number in range(8) for entry in call(number))), then="echo survived")
    assert b"survived" in place.run("--", agent, "exec", "--json").stdout


def test_money_stops_the_agent(place):
    """When the tokens it has told of cost more than it may spend."""
    agent = place.agent("codex", *codex(spent(3_000_000)), then="exec sleep 30")
    done = place.run("--max-cost", "2.5", "--", agent, "exec", "--json", "--model", "gpt-5-codex")
    assert done.returncode == 130
    assert b"and may cost $2.50 (`--max-cost`)" in done.stderr
    assert place.outcome["completion_status"] == "interrupted"


def test_less_money_does_not(place):
    """The limit is what was said, and the settings' own does not stop it."""
    agent = place.agent("codex", *codex(spent(3_000_000)))
    assert place.run("--max-cost", "50", "--", agent, "exec", "--json", "--model", "gpt-5-codex").returncode == 0


def test_costs_that_cannot_be_seen_are_told(place):
    """A limit that cannot hold must not look as if it did."""
    agent = place.agent("codex", *codex(spent(3_000_000)))
    done = place.run("--max-cost", "2", "--", agent, "exec", "--json")
    assert b"`--max-cost` does not see all costs" in done.stderr


def test_silence_stops_a_program_that_ignores_sigint_with_all_its_children(place):
    """SIGINT, then SIGTERM, then SIGKILL to whoever is left."""
    done = place.run("--max-idle", "500ms", "--grace", "300ms", "--", "sh", "-c", 'trap "" INT TERM; sleep 60 & echo $!; wait; while :; do sleep 1; done')
    assert done.returncode == 137
    assert re.findall(rb"SIG\w+", done.stderr) == [b"SIGINT", b"SIGTERM", b"SIGKILL"]
    assert b"it has said nothing for 0.5 s (`--max-idle`)" in done.stderr
    assert eventually(lambda: not lives(int(done.stdout)))
    assert place.outcome["completion_status"] == "timeout"
    assert place.outcome["exit_code"] == 137


def test_a_program_that_obeys_is_asked_once(place):
    """One that ends well although it was stopped has not done its work: 1."""
    done = place.run("--max-idle", "500ms", "--", "sh", "-c", 'trap "echo saved; exit 0" INT; echo up; while :; do sleep 0.1; done')
    assert (done.stdout, done.returncode) == (b"up\nsaved\n", 1)
    assert re.findall(rb"SIG\w+", done.stderr) == [b"SIGINT"]


def test_children_that_outlive_a_stopped_program_are_ended(place):
    """A runaway is its whole family."""
    done = place.run("--max-idle", "500ms", "--grace", "300ms", "--", "sh", "-c", "(trap '' INT TERM; exec sleep 60) & echo $!; exec sleep 60")
    assert done.returncode == 130
    assert eventually(lambda: not lives(int(done.stdout)))


def test_a_slow_reader_is_not_the_programs_silence(place):
    """Whoever waits to be read is not idle."""
    process = place.start("--max-idle", "1s", "--", "sh", "-c", "yes | head -c 1000000")
    select.select([], [], [], 2.5)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (len(out), err, process.returncode) == (1_000_000, b"", 0)


def test_a_program_that_talks_is_not_idle(place):
    """Each byte counts."""
    assert place.run("--max-idle", "2s", "--", "sh", "-c", "for i in 1 2 3 4 5 6; do printf .; sleep 0.5; done").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--max-idle", "soon", "--", "true"], "`--max-idle soon` is no duration", id="no duration"),
        pytest.param(["--on-alert", "cry", "--", "true"], "cry", id="no such reaction"),
        pytest.param(["--max-cost", "-1", "--", "true"], "-1", id="less than nothing"),
        pytest.param([], "CMD", id="nothing to run"),
    ],
)
def test_wrong_usage_is_told_and_runs_nothing(place, arguments, message):
    """Exit code 2, before anything was started."""
    done = place.run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.decode()
    assert place.events == []


def test_little_is_loaded_for_a_program_that_says_nothing(place):
    """Detectors, formats and prices wait until somebody needs them."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "agentwatch", "exec", "--", "true"],
        cwd=place.base, env=place.environ, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    loaded = set(re.findall(r"^import time:.*\| *(\S+)$", done.stderr, re.MULTILINE))
    assert "agentwatch.apps.record" in loaded
    assert loaded.isdisjoint({"agentwatch.core.engine", "agentwatch.formats.registry", "genai_prices", "watchdog", "agentwatch.core.text"})


# ------------------------------------------------------------------------------------------------------------------ under tmux


class Tmux:
    """A terminal as people have it: an emulator that keeps the screen, and a shell with job control in it."""

    def __init__(self, place: Place) -> None:
        self.socket = str(place.base / "tmux.sock")
        self.place = place
        rc = place.base / "rc"
        rc.write_text("PS1='shell> '\n")
        self.call("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", f"exec bash --noprofile --rcfile {rc} -i")

    def call(self, *arguments: str) -> str:
        environ = {name: value for name, value in self.place.environ.items() if name != "TERM"}
        done = subprocess.run([TMUX, "-S", self.socket, *arguments], cwd=self.place.base, env=environ, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout

    def type(self, *keys: str) -> None:
        self.call("send-keys", *keys)

    def line(self, text: str) -> None:
        self.call("send-keys", "-l", text)
        self.type("Enter")

    @property
    def screen(self) -> str:
        return self.call("capture-pane", "-p", "-e")

    def shows(self, text: str) -> bool:
        return eventually(lambda: text in self.screen)

    def settled(self) -> str:
        """The screen, once it has been the same for half a second."""
        seen = [""] * 10

        def is_still() -> bool:
            seen.append(self.screen)
            return len(set(seen[-10:])) == 1

        assert eventually(is_still)
        return seen[-1]

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.call("kill-server")


@pytest.fixture
def tmux(place):
    if TMUX is None:
        pytest.skip("tmux is not installed")
    terminal = Tmux(place)
    with contextlib.closing(terminal):
        assert terminal.shows("shell>")
        yield terminal


def executing(place: Place, command: str) -> str:
    return f"clear; {shlex.join(place.command('--'))} {command}"


@pytest.mark.parametrize("program", ["vim", "less"])
def test_a_full_screen_program_looks_as_without_us(place, tmux, program):
    """Screen, resize, keys and the way out."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    text = place.base / "text"
    text.write_text("".join(f"line {number} \twith ünïcödé\n" for number in range(200)))
    command = f"{program} {'-u NONE -N' if program == 'vim' else ''} {text}"
    screens = {}
    for how in ("without", "with"):
        tmux.line(f"clear; {command}" if how == "without" else executing(place, command))
        assert tmux.shows("line 20 ")
        tmux.type("C-f", "C-f")
        assert tmux.shows("line 60 ")
        tmux.call("resize-window", "-x", "100", "-y", "30")
        screens[how] = [tmux.settled()]
        tmux.call("resize-window", "-x", "80", "-y", "24")
        screens[how].append(tmux.settled())
        tmux.line(":q!") if program == "vim" else tmux.type("q")
        assert tmux.shows("shell>")
        tmux.line("clear; stty -a | md5sum; echo code $?")
        assert tmux.shows("code 0")
        screens[how].append(tmux.settled())
    assert screens["with"] == screens["without"]


def test_a_job_is_stopped_and_continued(place, tmux):
    """Ctrl-Z gives the shell its terminal back, `fg` goes on, Ctrl-C ends it, and the exit code is the program's."""
    tmux.line(executing(place, "sh -c 'echo up; exec cat'"))
    assert eventually(lambda: tmux.screen.startswith("up"))
    tmux.line("before")
    assert eventually(lambda: tmux.screen.count("before") == 2)
    tmux.type("C-z")
    assert tmux.shows("Stopped")
    tmux.line("clear; stty -a | grep -o ' icanon'; echo back")
    assert tmux.shows(" icanon")
    tmux.line("clear; fg")
    tmux.line("after")
    assert eventually(lambda: tmux.screen.count("after") >= 2)
    tmux.type("C-c")
    tmux.line("clear; echo code $?")
    assert tmux.shows("code 0")  # `clear` was done
    assert eventually(lambda: place.of("session_end"))
    assert place.outcome["exit_code"] == 130


def test_in_the_background_it_does_not_touch_the_terminal(place, tmux):
    """It runs and prints, as any job does."""
    tmux.line(executing(place, "sh -c 'echo from the back; sleep 0.3' &"))
    assert tmux.shows("from the back")
    assert eventually(lambda: place.of("session_end"))
    tmux.line("stty -a | grep -o ' icanon'; echo usable")
    assert tmux.shows(" icanon")
