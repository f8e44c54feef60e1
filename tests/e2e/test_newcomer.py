"""A newcomer: an empty home, no settings, a fresh clone, and nothing but the README, whose commands are read out of it and done as they are written.

`make newcomer` runs it: it installs everything anew, as `make run` does, and takes some minutes. In place of Telegram stands the Bot API of the tests, in place of Codex
a program of that name that prints what Codex prints.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "notify"))

from botapi import TOKEN, BotApi

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600.0

pytestmark = [pytest.mark.newcomer, pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="needs git and its clone")]

CODEX = """#!/bin/sh
echo '{"type":"thread.started","thread_id":"0199a213-81c0-7800-8aa1-bbab2a035a53"}'
echo '{"type":"turn.started"}'
echo '{"type":"item.completed","item":{"id":"item_0","type":"agent_message","text":"The redirect is fixed."}}'
echo '{"type":"turn.completed","usage":{"input_tokens":2400,"cached_input_tokens":100,"output_tokens":70}}'
"""


class Newcomer:
    """Somebody with a shell in a fresh clone."""

    def __init__(self, home: Path, api: BotApi) -> None:
        self.home, self.clone = home, home / "agentwatch"
        subprocess.run(["git", "clone", "-q", ROOT, self.clone], check=True)
        programs = home / "bin"
        programs.mkdir()
        (programs / "codex").write_text(CODEX)
        (programs / "codex").chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_")) or name == "LANG"}
        self.environ = kept | {
            "HOME": str(home),
            "PATH": f"{self.clone}/.venv/bin:{programs}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "AGENTWATCH_TELEGRAM_BASE_URL": api.url,
        }
        self.sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (self.clone / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL))

    def commands(self, title: str, language: str = "sh") -> list[str]:
        """The lines of a section's blocks, without what explains them."""
        blocks = re.findall(rf"^```{language}\n(.*?)^```$", self.sections[title], re.MULTILINE | re.DOTALL)
        assert blocks, f"the README has no block of commands under `{title}` any more"
        return [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]

    def run(self, command: str, *, code: int = 0) -> str:
        """Type a command, and wait for its end."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.clone,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, f"$ {command}\n{done.stdout[-3000:]}"
        assert "Traceback" not in done.stdout
        return done.stdout

    def until(self, command: str, said: str) -> str:
        """Type a command that goes on until Ctrl-C, and press that when it has said something."""
        out = self.home / "said.txt"
        with out.open("wb") as file:
            process = subprocess.Popen(["sh", "-c", f"exec {command}"], cwd=self.clone, env=self.environ, stdout=file, stderr=file, start_new_session=True)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while said not in (text := out.read_text("utf-8", "replace")):
                assert process.poll() is None, text[-3000:]
                assert time.monotonic() < deadline, f"$ {command}\nnever said {said!r}:\n{text[-3000:]}"
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
        return out.read_text("utf-8", "replace")

    def sets(self, line: str, value: str) -> None:
        """Do an `export NAME=…` of the README, with a value of one's own."""
        name = re.fullmatch(r"export (\w+)=.*", line)
        assert name is not None, line
        self.environ[name[1]] = value


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    api = BotApi()
    someone = Newcomer(tmp_path_factory.mktemp("home"), api)
    someone.api = api
    yield someone
    api.close()


def test_make_run_sets_everything_up_and_watches(newcomer):
    """The first command of the README, in a clone in which nothing is installed."""
    first, test = newcomer.commands("Start", "")
    assert (first, test) == ("make run", "make test")
    assert "watching" in newcomer.until(first, "watching")
    assert "error_loop" in newcomer.run("make demo")


def test_an_alert_reaches_the_phone(newcomer):
    """Five minutes from nothing: the bot's token, the chat's id, a test message, an alert."""
    token, ask, chats, check, watch = newcomer.commands("On your phone")
    newcomer.sets(token, TOKEN)
    newcomer.api.say("hello")
    shown = newcomer.until(ask, "in chat")
    found = re.search(r"user (\d+) in chat (-?\d+)", shown)
    assert found is not None, shown
    newcomer.sets(chats, found[2])
    newcomer.run(check)
    assert newcomer.api.messages
    (newcomer.clone / ".cache/agent-work-logs").mkdir(parents=True, exist_ok=True)
    line = '{{"timestamp": "{}", "attempt_id": "a7", "event_type": "error", "data": {{"error_message": "no", "error_fingerprint": "push"}}}}\n'
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    (newcomer.clone / ".cache/agent-work-logs/agent-work-stream.jsonl").write_text(4 * line.format(now))
    before = len(newcomer.api.messages)
    process = subprocess.Popen(["sh", "-c", f"exec {watch}"], cwd=newcomer.clone, env=newcomer.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        newcomer.api.wait(lambda: any("ERROR LOOP" in message["text"] for message in newcomer.api.messages[before:]))
    finally:
        process.terminate()
        process.wait(60)


def test_an_agent_is_run_and_shown_in_the_reports(newcomer):
    """The other blocks of commands, in their order."""
    [execute] = newcomer.commands("Running an agent")
    newcomer.run(execute)
    for command in newcomer.commands("Reports"):
        newcomer.run(command)
    tail, _, latest, export = newcomer.commands("Watching", "")
    assert newcomer.until(f"{tail} --plain --since 1h", "The redirect is fixed.")
    assert "The redirect is fixed." in newcomer.run(f"{latest} --plain")
    newcomer.run(export.replace("attempt-7", "latest"))
    assert (newcomer.clone / "a.html").exists()


def test_the_logger_is_used_as_it_is_shown(newcomer):
    """The Python of the README, by the interpreter of the checkout."""
    [code] = re.findall(r"^```python\n(.*?)^```$", newcomer.sections["The logger"], re.MULTILINE | re.DOTALL)
    (newcomer.clone / "try.py").write_text(code)
    newcomer.run(".venv/bin/python try.py")
    assert "failed to push" in (newcomer.clone / ".cache/agent-work-logs/agent-errors.jsonl").read_text()


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="a systemd runs here, and would be changed: `make systemd` boots one of its own")
def test_whoever_has_no_systemd_is_told_what_else_there_is(newcomer):
    """The commands that keep it on, where they cannot."""
    install, status, uninstall = newcomer.commands("Always on")
    assert "docs/service.md" in newcomer.run(install, code=1)
    newcomer.run(status, code=1)
    newcomer.run(uninstall)
