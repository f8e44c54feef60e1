"""A scratch home with a real daemon and a real agent in it, and a look at when each of their files grew."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.agents.model_server import ModelServer, Script
from tests.sources.harness import eventually

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / ".cache" / "agents" / "node_modules" / ".bin"
PATIENCE_S = 60.0
LOOK_S = 0.005

_CODEX = ("exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--model", "gpt-5-codex")
_CLAUDE = ("-p", "--dangerously-skip-permissions", "--output-format", "stream-json", "--verbose")


@dataclass(frozen=True)
class Agent:
    """How an agent is run against a model at an address, and where below its home it writes its transcripts."""

    program: str
    transcripts: str
    arguments: Callable[[str], tuple[str, ...]]
    environ: Callable[[str], dict[str, str]]
    overloaded: int

    @property
    def is_installed(self) -> bool:
        return (PROGRAMS / self.program).exists()

    def command(self, address: str) -> list[str]:
        return [str(PROGRAMS / self.program), *self.arguments(address), "Do what is to be done."]


AGENTS = {
    "claude": Agent(
        program="claude",
        transcripts=".claude/projects",
        arguments=lambda _address: _CLAUDE,
        environ=lambda address: {
            "ANTHROPIC_BASE_URL": address,
            "ANTHROPIC_API_KEY": "none",
            "CLAUDE_CODE_MAX_RETRIES": "4",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "IS_SANDBOX": "1",  # as root it refuses to run without asking for permissions, unless it is told that nothing can be harmed
        },
        overloaded=529,
    ),
    "codex": Agent(
        program="codex",
        transcripts=".codex/sessions",
        arguments=lambda address: (
            *_CODEX,
            "-c",
            'model_provider="loopback"',
            "-c",
            f'model_providers.loopback={{name="loopback", base_url="{address}/v1", wire_api="responses", request_max_retries=0}}',
        ),
        environ=lambda _address: {},
        overloaded=500,
    ),
}
"""With a model that refuses for ever either gives up within 10 s: Claude Code after its four tries more, Codex after five."""


class Growth:
    """When each file grew, as seen from outside: looked at every 5 ms, in wall-clock seconds."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._sizes: dict[Path, list[tuple[float, int]]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            for path in (path for folder in self._folders for path in folder.rglob("*.jsonl")):
                sizes = self._sizes.setdefault(path, [])
                now, size = time.time(), path.stat().st_size
                if not sizes or sizes[-1][1] != size:
                    sizes.append((now, size))

    def written_at(self, source: str, offset: int) -> float:
        """When the line that begins at `offset` of the file that is called `source` was there to its end."""
        (path,) = (path for path in self._sizes if path.as_posix().endswith(f"/{source}"))
        end = path.read_bytes().index(b"\n", offset) + 1
        return next(at for at, size in self._sizes[path] if size >= end)


class Scene:
    """A model that follows a script, a daemon that watches, and an agent that works, in a home where nothing was before."""

    def __init__(self, home: Path, agent: Agent, script: Script, **settings: str) -> None:
        self.agent = agent
        self.home = home
        self.work = home / "work"
        self.logs = self.work / ".cache" / "agent-work-logs"
        self.printed = home / "printed"
        self.model = ModelServer(script)
        self.growth = Growth(home / agent.transcripts, self.logs)
        self.settings = settings
        self.began = datetime.now(UTC)
        self.process: subprocess.Popen[bytes] | None = None
        self.daemon: subprocess.Popen[str] | None = None
        for folder in (self.work, home / ".codex"):
            folder.mkdir()
        (self.work / "notes.txt").write_text("nothing new\n")

    @property
    def environ(self) -> dict[str, str]:
        """Nothing of the environment that the tests run in but where programs are: a token or a model's address must not come with it."""
        own = {"CLAUDE_CONFIG_DIR": str(self.home / ".claude"), "CODEX_HOME": str(self.home / ".codex"), "PYTHONPATH": str(ROOT)}
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8"} | own | self.agent.environ(self.model.address) | self.settings

    @contextmanager
    def playing(self, *prefix: str) -> Iterator[None]:
        """While the agent works, after `prefix`, and the daemon watches; whoever still runs afterwards is ended, the daemon last."""
        with self.model, self.growth.watched(), self._daemon(), self._agent(*prefix):
            yield

    def ends(self) -> int:
        """The agent's exit code; waits for it."""
        return self.process.wait(PATIENCE_S)

    @contextmanager
    def _daemon(self) -> Iterator[None]:
        command = [sys.executable, "-m", "agentwatch", "run"]
        self.daemon = subprocess.Popen(command, cwd=self.work, env=self.environ, stderr=subprocess.PIPE, text=True)
        try:
            while not self.daemon.stderr.readline().startswith("watching "):
                assert self.daemon.poll() is None
            yield
        finally:
            self.daemon.terminate()
            self.daemon.communicate(timeout=PATIENCE_S)

    @contextmanager
    def _agent(self, *prefix: str) -> Iterator[None]:
        command = [*prefix, *self.agent.command(self.model.address)]
        with self.printed.open("wb") as out, (self.home / "complaints").open("wb") as err:
            self.process = subprocess.Popen(command, cwd=self.work, env=self.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            yield
        finally:
            self.process.terminate()
            self.process.wait(PATIENCE_S)

    @property
    def transcript(self) -> Path:
        """The one that this run has written."""
        (path,) = (self.home / self.agent.transcripts).rglob("*.jsonl")
        return path

    @property
    def session(self) -> str:
        """The id of the agent's session: both name their file by it."""
        return self.transcript.stem[-36:]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """In the order of the file, each with the `offset` of its line."""
        path = self.logs / "agent-alerts.jsonl"
        found, offset = [], 0
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            found.append(json.loads(line) | {"offset": offset})
            offset += len(line)
        return found

    def has_alerted(self, kind: str) -> None:
        """Waits for the first alert of this type."""
        eventually(lambda: any(alert["type"] == kind for alert in self.alerts), what=f"an alert `{kind}`")

    def delay_s(self, alert: dict[str, Any]) -> float:
        """From the moment that the last line of an alert's evidence was written to the moment that the alert was."""
        last = alert["evidence"][-1]
        return self.growth.written_at("agent-alerts.jsonl", alert["offset"]) - self.growth.written_at(last["source"], last["offset"])
