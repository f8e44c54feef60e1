"""Sessions of every format, written again in random pieces while the daemon runs: the same events as when all is read at once."""

import itertools
import json
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from agentwatch.formats.registry import CONTAINERS
from tests.e2e.test_faults import Daemon
from tests.formats.golden import SAMPLES, cut_to
from tests.sources.harness import append, eventually

MOST_PIECES = 12
PACE_S = 0.008
"""How long the writers rest between two pieces: with some 400 of them the daemon looks at all there is a few times, at the database too."""

KILLS = 3

PLACES = {
    "claude-code": ".claude/projects/-w/{name}.jsonl",
    "codex": ".codex/sessions/2026/02/09/rollout-{name}.jsonl",
    "copilot-cli": ".copilot/session-state/{name}/events.jsonl",
    "gemini-cli": ".gemini/tmp/p/chats/session-{name}.jsonl",
    "qwen-code": ".qwen/projects/-w/chats/{name}.jsonl",
    "pi": ".pi/agent/sessions/--w--/{name}.jsonl",
    "droid": ".factory/sessions/-w/{name}.jsonl",
    "kimi": ".kimi-code/sessions/wd_app_1/{name}/agents/main/wire.jsonl",
    "goose": ".local/share/goose/sessions/sessions.db",
    "opencode": ".local/share/opencode/opencode.db",
    "opencode-export": "logs/{name}-ses_2642d262affe.json",
    "gemini-document": ".gemini/tmp/p/chats/session-{name}.json",
    "amp": ".local/share/amp/threads/T-{name}.json",
    "cline": ".config/Code/User/globalStorage/saoudrizwan.claude-dev/tasks/{name}/ui_messages.json",
    "openhands": ".openhands/conversations/{name}/events",
    "openhands-state": ".openhands/conversations/{name}/base_state.json",
}
"""Where an agent puts such a file, below its home. All else lies in the log directory under a name that says nothing."""


def place_of(sample, home):
    where = PLACES.get(sample.format, "logs/{format}-{name}{suffix}").format(name=sample.path.stem, format=sample.format, suffix=sample.path.suffix)
    path = home / where
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def pieces_of(sample, path, rng, files):
    """Yield the steps in which a session is written: functions, to be called one after the other."""
    steps = sample.steps()
    looks = [*sorted(rng.choices(range(1, len(steps) + 1), k=rng.randint(1, MOST_PIECES))), len(steps)]
    match sample.kind:
        case "lines":
            text = sample.path.read_bytes()
            cuts = [0, *sorted(rng.choices(range(len(text)), k=rng.randint(1, MOST_PIECES))), len(text)]  # in the middle of a line, or of a character
            for start, end in itertools.pairwise(cuts):
                yield lambda start=start, end=end: append(path, text[start:end])
        case "document":
            document = json.loads(sample.path.read_bytes())
            for look in looks:
                state = cut_to(document, look, len(steps))
                yield lambda state=state: rng.choice((path.write_bytes, renamed(path), halved(path, rng)))(state)
        case "folder":
            path.mkdir(parents=True)
            for file in sorted(sample.path.iterdir(), key=lambda file: int(CONTAINERS[sample.format].files.fullmatch(file.name)[1])):
                text = file.read_bytes()
                yield lambda file=file, text=text: append(path / file.name, text[: len(text) // 2])
                yield lambda file=file, text=text: append(path / file.name, text[len(text) // 2 :])
        case "database":
            connection = files.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
            connection.execute("PRAGMA journal_mode = WAL")
            for start, end in zip([0, *looks], looks, strict=False):
                yield lambda start=start, end=end: [connection.execute(statement) for statement in steps[start:end]]


def renamed(path):
    def write(text):
        path.with_suffix(".new").write_bytes(text)
        path.with_suffix(".new").replace(path)

    return write


def halved(path, rng):
    """Truncated, and written in two pieces."""

    def write(text):
        cut = rng.randint(0, len(text))
        with path.open("wb", buffering=0) as file:
            file.write(text[:cut])
            file.write(text[cut:])

    return write


class Home:
    """A scratch home in which all agents have been at work, and what `agentwatch` notes of it."""

    def __init__(self, base: Path) -> None:
        self.path = base
        self.notes = base / "notes"
        (base / "logs").mkdir(parents=True)
        self.daemon = NotingDaemon(base / "logs", base)
        self.daemon.environ |= {"NOTED": str(self.notes), "TZ": "UTC"}
        del self.daemon.environ["AGENTWATCH_SOURCES"]

    def write(self, rng, *, at_once=False, between=lambda done: None):
        """Write all sessions, each in pieces, in the order of which the next is drawn; without `at_once` at the writers' own pace."""
        with ExitStack() as files:
            writers = [list(pieces_of(sample, place_of(sample, self.path), rng, files)) for sample in SAMPLES]
            order = [number for number, pieces in enumerate(writers) for _ in pieces]
            rng.shuffle(order)
            for done, number in enumerate(order):
                writers[number].pop(0)()
                between(done / len(order))
                if not at_once:
                    time.sleep(PACE_S)

    @property
    def events(self):
        """What was noted, by source, in its order; of what has no order, a document or a database, sorted."""
        found = {}
        for line in self.notes.read_bytes().splitlines():
            source, *event = json.loads(line)
            found.setdefault(source, []).append(json.dumps(event))
        return {source: events if source.endswith((".jsonl", ".log")) else sorted(events) for source, events in found.items()}


class NotingDaemon(Daemon):
    """A daemon that notes what it judges, and has looked at all there is once when it is started."""

    def start(self):
        super().start()
        eventually(lambda: not self.is_alive or self.status.get("pid") == self.process.pid)
        return self

    @property
    def command(self):
        return [sys.executable, "-m", "tests.e2e.noting", "run", "--log-dir", str(self.log_dir)]


@pytest.fixture(scope="module")
def at_once(tmp_path_factory):
    """The events of one reading."""
    home = Home(tmp_path_factory.mktemp("at-once"))
    home.write(random.Random(0), at_once=True)
    daemon = home.daemon
    subprocess.run([*daemon.command, "--once"], env=daemon.environ, cwd=home.path, check=True, timeout=120, stderr=subprocess.DEVNULL)
    return home.events


def total(events):
    return sum(map(len, events.values()))


def test_every_sample_gives_events(at_once):
    """A test that compares nothing with nothing proves nothing."""
    assert len(at_once) == len(SAMPLES)
    expected = sum(len([event for event in sample.expected() if "fault" not in event]) for sample in SAMPLES)
    assert total(at_once) == expected


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sessions_written_in_pieces_give_the_events_of_one_reading(tmp_path, at_once, seed):
    """Cut anywhere, rewritten in any way: each event once, as it was, and within a file in the same order."""
    home = Home(tmp_path / "home")
    daemon = home.daemon.start()
    try:
        home.write(random.Random(seed))
        daemon.wait_for_events(total(at_once))
        assert daemon.stop() == 0
    finally:
        daemon.kill()
    assert home.events == at_once


def test_sessions_written_in_pieces_between_kills_are_told_once(tmp_path, at_once):
    """What was judged after the last checkpoint is judged again, from the same state: nothing is missing, nothing else is told, and the count is that of one reading."""
    home, rng = Home(tmp_path / "home"), random.Random(3)
    daemon = home.daemon.start()
    left = sorted(rng.uniform(0.1, 0.95) for _ in range(KILLS))

    def kill(done):
        if left and done > left[0]:
            left.pop(0)
            daemon.kill().start()

    try:
        home.write(rng, between=kill)
        daemon.wait_for_events(total(at_once))
        assert daemon.stop() == 0
    finally:
        daemon.kill()
    assert not left
    assert {source: set(events) for source, events in home.events.items()} == {source: set(events) for source, events in at_once.items()}
