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
COMMANDS = ("", "run", "status", "doctor", "alerts", "demo")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "agentwatch")
def test_the_help_page_is_the_one_that_was_agreed_on(place, command):
    """Help changes on purpose only. AGENTWATCH_GOLDEN=write makes the files anew."""
    done = place.run(*command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    golden = GOLDEN / f"{command or 'agentwatch'}.txt"
    if os.environ.get("AGENTWATCH_GOLDEN") == "write":
        golden.write_text(done.stdout)
    assert done.stdout == golden.read_text()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "agentwatch")
def test_help_fits_a_terminal_of_80_columns(command):
    """No line of help is broken by the terminal."""
    assert max(map(len, (GOLDEN / f"{command or 'agentwatch'}.txt").read_text().splitlines())) <= 80


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
    assert loaded & {"rich", "msgspec", "orjson", "watchdog", "typed_settings", "dotenv"} == set()


def test_a_watcher_that_is_switched_off_says_so_and_ends(place):
    """The older name of the setting; nothing is written."""
    done = place.run("run", AGENT_WORK_ANALYZER_ENABLED="false")
    assert done.returncode == 0
    assert "switched off by `logs.enabled` from environment AGENT_WORK_ANALYZER_ENABLED" in done.stderr
