"""The console and the replay on a real terminal: tmux types the keys and tells what is on the screen."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import psutil
import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
LONGEST_S = 600
"""A runner that is killed closes nothing: its terminals, and the server of each, end by themselves."""

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed: its screens are what is looked at")


class Terminal:
    """A terminal of 80 columns and 24 lines with a shell in it, in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.logs = home / ".cache" / "agent-work-logs"
        self.stream = self.logs / "agent-work-stream.jsonl"
        self._socket = str(home / "tmux")
        environ = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "SHELL": "/bin/bash"}
        self._environ = environ
        shell = f"env PS1='ready> ' timeout --foreground {LONGEST_S} bash --noprofile --norc"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-s", "t", "-x", "80", "-y", "24", shell)
        try:
            self.wait("ready>")
        except BaseException:
            self.close()
            raise

    def _tmux(self, *arguments: str) -> str:
        # A test runner may ignore SIGINT, and everything below it would.
        done = subprocess.run(
            ["tmux", "-S", self._socket, "-u", *arguments],
            cwd=self.home,
            env=self._environ,
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # nothing else runs in this process
        )
        return done.stdout

    def run(self, *arguments: str, prefix: str = "") -> None:
        """Type a command of agentwatch."""
        self.type(f"{prefix}{sys.executable} -m agentwatch {' '.join(arguments)}", "Enter")

    def type(self, *keys: str) -> None:
        """Press keys, as tmux names them."""
        self._tmux("send-keys", "-t", "t", *keys)

    def screen(self, *, colours: bool = False) -> str:
        """What stands on the screen; with `colours` as escape sequences have it."""
        return self._tmux("capture-pane", "-p", "-t", "t", *(["-e"] if colours else []))

    def wait(self, *texts: str, gone: str | None = None) -> str:
        """The screen when all of these texts stand on it, and `gone` does not."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            shown = self.screen()
            if all(text in shown for text in texts) and (gone is None or gone not in shown):
                return shown
            time.sleep(0.05)
        pytest.fail(f"{texts} never stood on the screen:\n{self.screen()}")

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-t", "t", "-x", str(width), "-y", str(height))

    def state(self) -> str:
        """Whether the alternate screen is on, whether the cursor is seen, and the title."""
        return self._tmux("display", "-p", "-t", "t", "#{alternate_on} #{cursor_flag} #{pane_title}").strip()

    def program(self) -> psutil.Process:
        """The process that draws: not the guard, which is its child."""
        [found] = [
            one
            for one in psutil.process_iter(["cmdline", "environ"])
            if one.info["cmdline"] and "agentwatch" in one.info["cmdline"] and (one.info["environ"] or {}).get("HOME") == str(self.home)
            if (parent := one.parent()) is not None and "agentwatch" not in parent.cmdline()
        ]
        return found

    def write(self, *lines: dict[str, object]) -> None:
        """Append to the stream."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with self.stream.open("ab") as file:
            file.writelines(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    try:
        yield opened
    finally:
        opened.close()


def event(event_type, attempt_id="attempt-1", *, ago_s=0.0, **data):
    return {
        "timestamp": (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(),
        "attempt_id": attempt_id,
        "task_title": f"The task of {attempt_id}",
        "executor": "CODEX",
        "event_type": event_type,
        "data": data,
    }


def call(command, attempt_id="attempt-1", **more):
    return event("tool_call", attempt_id, tool_name="Bash", tool_params={"command": command}, tool_call_id=command, **more)


def is_as_before(terminal: Terminal) -> None:
    """The shell is back: its echo, its screen, its cursor."""
    terminal.type("echo sta''tus $?", "Enter")
    terminal.wait("status")
    terminal.type("stty -a | tr ' ' '\\n' | grep -xE -- '-?(echo|icanon|isig|opost)' | tr '\\n' ' '", "Enter")
    terminal.wait("opost isig icanon echo")
    assert terminal.state().startswith("0 1")


def test_a_person_looks_at_what_happens_and_opens_what_is_alarming(terminal):
    """Rows, alerts and events appear by themselves; keys select, open, filter and go back; `q` gives the terminal back."""
    terminal.write(event("session_start", prompt="Fix it"), call("make one"))
    terminal.run("tail")
    terminal.wait("1 live", "tool   attempt-1", "Bash: make one", "no daemon runs")
    terminal.write(call("make two", "attempt-2"), *(event("error", "attempt-2", error_message="boom", error_fingerprint="boom") for _ in range(5)))
    terminal.wait("2 live", "error_loop", "attempt-2 is in an error loop")
    terminal.type("Tab")
    terminal.type("Enter")
    terminal.wait("error_loop of attempt-2", "rests on", "agent-work-stream.jsonl at byte")
    terminal.type("Escape")
    terminal.wait("make one", gone="rests on")
    terminal.type("/")
    terminal.type("make o")
    terminal.wait("show events with: make o_")
    terminal.type("Enter")
    terminal.wait("EVENTS 1   with 'make o'")
    terminal.type("Escape")
    terminal.wait("EVENTS 8")
    terminal.type("?")
    terminal.wait("only errors, or all again")
    terminal.type("q")
    terminal.wait("ready>", gone="agentwatch  2 live")
    is_as_before(terminal)


def test_the_console_counts_the_errors_that_reports_count(terminal):
    """A failed result that is told again right after is one error; a failure without a word and a person's no are none."""
    refused = "The user doesn't want to proceed with this tool use."
    failed = [
        event("tool_result", tool_name="Bash", tool_call_id=command, result=text, is_error=True)
        for command, text in (("grep x", ""), ("make", "no rule to make target"), ("rm x", refused))
    ]
    terminal.write(event("session_start", prompt="Fix it"), call("grep x"), failed[0], call("make"), failed[1])
    terminal.write(event("error", error_message="no rule to make target"), call("rm x"), failed[2], call("ls"))
    terminal.run("tail")
    terminal.wait("tool   attempt-1", "Bash: ls")
    terminal.type("Enter")
    terminal.wait("9 events, 1 error")
    terminal.type("Escape", "q")
    terminal.run("report", "sessions", "--json", "|", "tr", ",", "'\\n'")
    terminal.wait('"errors":1')


def test_the_page_follows_the_size_of_the_terminal(terminal):
    """Wider shows more columns, smaller fewer; nothing is left of the page before."""
    terminal.write(call("make"))
    terminal.run("tail")
    terminal.wait("attempt-1", "LAST ACTION")
    terminal.resize(200, 60)
    shown = terminal.wait("MODEL", "PACE", "The task of attempt-1")
    assert len(shown.splitlines()) == 60
    assert shown.splitlines()[59].startswith(" q quit")
    terminal.resize(40, 12)
    shown = terminal.wait("LAST", gone="MODEL")
    assert shown.splitlines()[11].startswith(" q quit")
    assert shown.count("LAST") == 1


def test_of_500_attempts_the_names_of_the_columns_stay_in_sight(terminal):
    """Down to the last of them and up again."""
    terminal.write(*(call("make", f"attempt-{number:03d}") for number in range(500)))
    terminal.run("tail")
    terminal.wait("500 live", "1-7 of 500")
    terminal.type("G")
    shown = terminal.wait("494-500 of 500", "attempt-499")
    assert "STATE" in shown.splitlines()[1]
    terminal.type("g")
    terminal.wait("1-7 of 500", "attempt-000")


def test_a_paused_page_stands_still_and_misses_nothing(terminal):
    """What came meanwhile is there when it goes on."""
    terminal.write(call("first"))
    terminal.run("tail")
    terminal.wait("Bash: first")
    terminal.type("p")
    terminal.wait("PAUSED")
    terminal.write(call("second"))
    time.sleep(1.5)
    assert "second" not in terminal.screen()
    terminal.type("p")
    terminal.wait("Bash: second", gone="PAUSED")


def test_a_paused_page_is_filtered_too(terminal):
    """How many events pass is told by the filter that is in force."""
    terminal.write(call("first"), call("second"), event("error", error_message="boom"))
    terminal.run("tail")
    terminal.wait("EVENTS 3")
    terminal.type("p")
    terminal.wait("PAUSED")
    terminal.type("e")
    terminal.wait("EVENTS 1")
    terminal.type("e")
    terminal.wait("EVENTS 3")


def test_what_a_log_holds_does_nothing_to_the_terminal(terminal):
    """No title, no clearing, no forged line, no bell: all of it is seen."""
    terminal.write(call("\x1b]0;owned\x07\x1b[2J\x1b[1;1Hx\r\nline\u202e"), event("agent_output", output="\x1b[?1049l\x1b[8m hidden"))
    terminal.run("tail")
    shown = terminal.wait(r"\x1b]0;owned\x07\x1b[2J\x1b[1;1Hx line\u202e", r"\x1b[?1049l hidden")
    assert shown.splitlines()[0].startswith(" agentwatch  1 live")
    assert "owned" not in terminal.state()
    assert terminal.state().startswith("1 0")


@pytest.mark.parametrize(
    ("end", "status"),
    [
        pytest.param("C-c", "status 130", id="Ctrl-C"),
        pytest.param(signal.SIGTERM, "status 0", id="SIGTERM"),
        pytest.param(signal.SIGKILL, "status 137", id="kill -9"),
    ],
)
def test_however_it_ends_the_terminal_is_as_it_was(terminal, end, status):
    """Echo, cursor and the screen of before, also where the process could not do anything for it any more."""
    terminal.write(call("make"))
    terminal.run("tail")
    terminal.wait("Bash: make")
    if isinstance(end, str):
        terminal.type(end)
    else:
        terminal.program().send_signal(end)
    terminal.wait("ready>", gone="LAST ACTION")
    time.sleep(0.3)  # the guard may be a moment later than the shell
    is_as_before(terminal)
    assert status in terminal.screen()


def test_without_colours_nothing_is_coloured_and_on_a_dumb_terminal_lines_are_printed(terminal):
    """NO_COLOR leaves words and attributes; a terminal that cannot move its cursor gets plain lines."""
    terminal.write(event("error", error_message="boom"))
    terminal.run("tail", prefix="NO_COLOR=1 ")
    terminal.wait("error: boom")
    coloured = terminal._tmux("capture-pane", "-p", "-e", "-t", "t")
    assert "\x1b[31m" not in coloured
    terminal.type("q")
    terminal.wait("ready>", gone="LAST ACTION")
    terminal.run("tail --since 1h", prefix="TERM=dumb ")
    terminal.wait("Z  attempt-1  error: boom")
    terminal.type("C-c")


def test_a_session_is_stepped_through(terminal):
    """Steps, jumps to errors, play, help, quit."""
    terminal.write(
        event("session_start", prompt="Fix it", ago_s=60),
        call("make one", ago_s=50),
        event("tool_result", tool_call_id="make one", result="fine", is_error=False, ago_s=40),
        call("make two", ago_s=30),
        event("tool_result", tool_call_id="make two", result="no rule", is_error=True, error_message="no rule", ago_s=20),
        event("agent_output", output="I give up", ago_s=10),
    )
    terminal.run("replay", "latest")
    terminal.wait("step 1 of 6", "Fix it")
    terminal.type("Right")
    terminal.wait("step 2 of 6", "make one")
    terminal.type("n")
    terminal.wait("step 5 of 6", "Bash failed", "no rule")
    terminal.type("n")
    terminal.wait("no error behind this")
    terminal.type("g")
    terminal.wait("step 1 of 6")
    terminal.type("p")
    terminal.wait("step 6 of 6")
    terminal.type("q")
    terminal.wait("ready>", gone="step 6 of 6")
    is_as_before(terminal)
