"""The command line as such: help, refusals, exit codes, pipes and terminals."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = (
    "",
    "run",
    "notify",
    "status",
    "doctor",
    "alerts",
    "issues",
    "rules",
    "rules list",
    "rules test",
    "ask",
    "tail",
    "replay",
    "demo",
    "backtest",
    "summary",
    "report",
    "service",
    "service install",
    "report executors",
    "report tasks",
    "report cost",
    "rotate",
    "runs",
    "runs new",
    "runs clear",
    "raw",
    "mcp",
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "agentwatch")
def test_the_help_page_is_the_one_that_was_agreed_on(place, command):
    """Help changes on purpose only. AGENTWATCH_GOLDEN=write makes the files anew."""
    done = place.run(*command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    golden = GOLDEN / f"{command.replace(' ', '-') or 'agentwatch'}.txt"
    if os.environ.get("AGENTWATCH_GOLDEN") == "write":
        golden.write_text(done.stdout)
    assert done.stdout == golden.read_text()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "agentwatch")
def test_help_fits_a_terminal_of_80_columns(command):
    """No line of help is broken by the terminal."""
    assert max(map(len, (GOLDEN / f"{command.replace(' ', '-') or 'agentwatch'}.txt").read_text().splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        pytest.param(["statsu"], "error: No such command 'statsu'. Did you mean 'status'?", "hint: see `agentwatch --help`", id="command"),
        pytest.param(["run", "--onse"], "error: No such option: --onse", "hint: see `agentwatch run --help`", id="option"),
        pytest.param(["alerts", "--since", "yesterday"], "error: `--since yesterday` is no time", "hint: give it as in 30m, 2h", id="since"),
        pytest.param(["run", "--once", "--until", "noon"], "error: `--until noon` is no time", "hint: give it as in 2026", id="until"),
        pytest.param(
            ["run", "--until", "2026-02-09"], "error: `--until` says where the clock of a single pass ends", "hint: add `--once`", id="until without once"
        ),
        pytest.param(["demo", "--speed", "0"], "error: Invalid value for '--speed'", "hint: see `agentwatch demo --help`", id="range"),
        pytest.param(["status", "--config", "none.toml"], "error: `", "hint: ", id="settings file"),
    ],
)
def test_a_wrong_call_is_told_with_its_remedy(place, arguments, message, hint):
    """Exit code 2, nothing on stdout, what was wrong and what to do about it on stderr."""
    done = place.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert f"\n\n{hint}" in done.stderr


def test_without_a_command_the_help_goes_to_stderr(place):
    """A script that forgot its command does not take the help for data."""
    done = place.run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


def test_a_closed_pipe_ends_it_quietly(place, errors):
    """`agentwatch alerts | head -1` says nothing about the pipe."""
    place.write(*(errors(minute, f"a-{number}") for number in range(3000) for minute in (1, 2, 3, 4)))
    assert place.run("run", "--once").returncode == 0
    reader, writer = os.pipe()
    process = subprocess.Popen(place.command("alerts", "--json"), cwd=place.base, env=place.environ, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    os.read(reader, 10)
    os.close(reader)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, b"")


def test_ctrl_c_ends_the_daemon_with_130(place, daemon):
    """Interrupted is told apart from done, and without a traceback."""
    daemon.send_signal(signal.SIGINT)
    _, said = daemon.communicate(timeout=20)
    assert daemon.returncode == 130
    assert "Traceback" not in said


def on_a_terminal(place, *arguments, **environ):
    """What the command writes to a real terminal of 80 columns."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(place.command(*arguments), cwd=place.base, env={**place.environ, "TERM": "xterm-256color", **environ}, stdout=terminal)
    os.close(terminal)
    output = b""
    try:
        while chunk := os.read(main, 65536):
            output += chunk
    except OSError:  # Linux says EIO when the last writer is gone
        pass
    os.close(main)
    process.wait(timeout=60)
    return output.decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


def test_colour_is_for_terminals_alone(place, errors):
    """A pipe gets plain text, a terminal colours, and NO_COLOR is honoured."""
    place.write(*map(errors, range(4)))
    place.run("run", "--once")
    assert "\x1b" not in place.run("alerts").stdout
    assert COLOUR.search(on_a_terminal(place, "alerts"))
    assert not COLOUR.search(on_a_terminal(place, "alerts", NO_COLOR="1"))
    assert "\x1b" not in on_a_terminal(place, "alerts", TERM="dumb")


def test_help_is_there_in_200_ms():
    """Imports are what `--help` costs: none of them is a library for terminals, services or settings."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "agentwatch", "--help"], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in re.findall(r"\| *(\S+)$", done.stderr, re.MULTILINE)}
    assert loaded & {"rich", "msgspec", "orjson", "watchdog", "dotenv"} == set()


def test_a_daemon_starts_without_what_it_may_never_need(place):
    """Watching begins within 300 ms: pages, prices, `.env` files and the versions of packages are for those who ask for them."""
    program = "from agentwatch.settings import load; import agentwatch.cli.main, agentwatch.apps.daemon; load(cwd=Path(), environ={}, home=None)"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"from pathlib import Path; {program}"],
        cwd=place.base, env=place.environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(re.findall(r"\| *(\S+)$", done.stderr, re.MULTILINE))
    assert loaded & {"rich", "dotenv", "genai_prices", "pydantic", "importlib.metadata", "agentwatch.ui.page"} == set()


def test_a_watcher_that_is_switched_off_says_so_and_ends(place):
    """The older name of the setting; nothing is written."""
    done = place.run("run", AGENT_WORK_ANALYZER_ENABLED="false")
    assert done.returncode == 0
    assert "switched off by `logs.enabled` from environment AGENT_WORK_ANALYZER_ENABLED" in done.stderr


def test_a_single_pass_says_what_it_leaves_unread(place, errors):
    """A last line without its newline, once a file: where it stands and how long it is. The daemon would wait for its end."""
    place.write(errors(1), '{"half": ')
    (place.logs / "first.jsonl").write_text('{"timestamp"')
    (place.logs / "blank.jsonl").write_bytes(place.stream.read_bytes()[: place.stream.read_bytes().find(b"\n") + 1] + b"  ")
    (place.logs / "copy.jsonl").write_bytes(place.stream.read_bytes())
    done = place.run("run", "--once")
    assert done.returncode == 0
    offset = place.stream.read_bytes().find(b"\n") + 1
    said = sorted(line for line in done.stderr.splitlines() if "incomplete_line" in line)
    assert said == [
        f"agent-work-stream.jsonl at byte {offset}: incomplete_line (1) the last 9 bytes have no newline and were not read",
        "first.jsonl at byte 0: incomplete_line (1) the last 12 bytes have no newline and were not read",
    ]


IN_THE_WAY = {
    "link": (lambda path: path.symlink_to("elsewhere"), "is a symbolic link"),
    "directory": (lambda path: path.mkdir(), "is a directory"),
    "FIFO": (os.mkfifo, "is no regular file"),
}


@pytest.mark.parametrize(("make", "what"), IN_THE_WAY.values(), ids=IN_THE_WAY.keys())
@pytest.mark.parametrize("arguments", [["run"], ["run", "--once"]], ids=" ".join)
def test_what_is_in_the_alert_log_s_place_is_told_with_its_remedy(place, make, what, arguments):
    """No traceback, and exit code 1: the work failed."""
    place.logs.mkdir(parents=True)
    make(place.alerts)
    done = place.run(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: `{place.alerts}` {what}")
    assert "\n\nhint: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--log-dir", "--config"])
@pytest.mark.parametrize("command", ["run", "status", "alerts"])
def test_an_empty_path_is_refused(place, command, option):
    """`--log-dir "$LOGS"` where LOGS is not set: the working directory is not what was meant."""
    done = place.run(command, option, "")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: Invalid value for '{option}': it is empty\n\nhint: see `agentwatch {command} --help`\n"
    assert not place.logs.exists()
    assert list(place.base.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("alerts",),
        ("alerts", "--json"),
        ("status",),
        ("status", "--json"),
        ("doctor",),
        ("doctor", "--json"),
        ("hooks", "print", "claude-code"),
        ("log", "start", "--attempt", "a-1"),
    ],
    ids=" ".join,
)
def test_a_full_disk_behind_a_redirection_is_told_in_one_line(place, errors, arguments):
    """`agentwatch alerts > /full/report`: what it was about to write is not tried once more at the end."""
    place.write(*map(errors, range(4)))
    assert place.run("run", "--once").returncode == 0
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(place.command(*arguments), cwd=place.base, env=place.environ, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


def test_messages_that_find_no_room_are_no_reason_to_end(place, errors):
    """The disk that stderr goes to is full, or stderr is closed: the work is done all the same."""
    place.write(*map(errors, range(4)))
    for redirection in ("2>/dev/full", "2>&-", ">&- 2>&- <&-"):
        place.alerts.unlink(missing_ok=True)
        done = subprocess.run(["sh", "-c", f'"$@" {redirection}', "sh", *place.command("run", "--once")], cwd=place.base, env=place.environ, check=False)
        assert (redirection, done.returncode, len(place.alerts.read_bytes().splitlines())) == (redirection, 0, 1)


def test_a_working_directory_that_was_deleted_is_named(place):
    """Another terminal removed it."""
    gone = place.base / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && "$@"', "sh", *place.command("status")], cwd=gone, env=place.environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: the working directory was deleted")


def test_a_log_directory_that_is_a_file_is_named(place):
    """The file, not what cannot be made in it."""
    (place.base / "file").touch()
    assert place.run("run", "--once", "--log-dir", "file").stderr.startswith(f"error: flag, `logs.dir`: `{place.base / 'file'}` is no directory")


def test_how_often_a_call_may_repeat_is_a_setting(place):
    """Where calls carry their parameters: 4 equal ones in a row, or what is set."""
    lines = []
    for number in range(3):
        call = {"attempt_id": "a-1", "data": {"tool_name": "Bash", "tool_call_id": f"c{number}"}}
        for kind, second, more in (("tool_call", 0, {"tool_params": {"command": "git status"}}), ("tool_result", 1, {"result": "clean"})):
            lines.append({**call, "timestamp": f"2026-02-09T08:00:{2 * number + second:02}Z", "event_type": kind, "data": {**call["data"], **more}})
    place.write(*lines)
    assert place.run("run", "--once").stderr.startswith("0 new alerts")
    assert place.run("run", "--once", AGENTWATCH_TOOL_LOOP_REPEATS="3").stderr.startswith("1 new alert ")


@pytest.mark.parametrize(
    ("folders", "sources", "said"),
    [
        ([], "all", " and the folders of agents, of which none is there yet; `agentwatch doctor` lists them"),
        ([".claude/projects"], "all", " and 1 folder of agents; `agentwatch doctor` lists them"),
        ([".claude/projects", ".codex/sessions"], "all", " and 2 folders of agents; `agentwatch doctor` lists them"),
        ([".claude/projects"], "none", ""),
    ],
    ids=["none", "one", "two", "the log directory alone"],
)
def test_what_is_watched_is_told_in_one_short_line(place, folders, sources, said):
    """The log directory by name, the agents' folders by number: there are thirty that could be."""
    for folder in folders:
        (place.base / folder).mkdir(parents=True)
    environ = {**place.environ, "AGENTWATCH_SOURCES": sources}
    with subprocess.Popen(place.command("run"), cwd=place.base, env=environ, stderr=subprocess.PIPE, text=True) as daemon:
        line = daemon.stderr.readline()
        daemon.terminate()
    assert line == f"watching {place.logs}{said}\n"


@pytest.mark.parametrize(
    ("arguments", "code"), [(["mcp"], 0), (["rules", "test", "boom", "-"], 1), (["log", "error", "--attempt", "a-1", "-"], 0)], ids=["mcp", "rules", "log"]
)
def test_where_stdin_is_closed_there_is_nothing_to_read(place, arguments, code):
    """Some supervisors start a program so: it is no reason for a traceback."""
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *place.command(*arguments)], cwd=place.base, env=place.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
