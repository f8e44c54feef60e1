"""`agentwatch demo`: recorded sessions played into a scratch directory, and a real daemon that watches them."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import orjson

import agentwatch
from agentwatch.alert_log import NAME as ALERTS
from agentwatch.apps.alerts import AlertLine, page, parse
from agentwatch.core.alerts import span
from agentwatch.core.limits import Limits
from agentwatch.errors import StorageError
from agentwatch.settings import FILE_NAME, OLDER_NAMES, PREFIX
from agentwatch.ui.page import Block, Table, Word, para

Show = Callable[[Iterable[Block]], None]


class Recording(NamedTuple):
    """A file of `agentwatch/demo`, and after how many seconds of its own time it begins. Its one session is called like it."""

    name: str
    begins_s: float


STREAM = ".cache/agent-work-logs/agent-work-stream.jsonl"
TRANSCRIPTS = ".claude/projects/-home-dev"

STREAMED = "stream"
"""The recording of the canonical stream, which holds several sessions."""

RECORDINGS = (
    Recording(STREAMED, 0),
    Recording("code-review", 10),
    Recording("network-down", 60),
    Recording("web-search", 200),
    Recording("fish-completions", 240),
    Recording("model-hangs", 280),
    Recording("missing-file", 420),
)

ENDS_S = 1190.0
"""The last thing to happen: two silences that have gone on for three times their limit, since 280 s."""

SETTLE_S = 2.5
"""Of the clock on the wall, for the daemon to tell them: it looks for silence once a second, rounded up to the next."""

STEP_S = 0.05
START_S, STOP_S = 20.0, 10.0


class Step(NamedTuple):
    """A line to be written, `at` seconds after the start in the recording's own time."""

    at: float
    target: str
    session: str
    attempt_id: str
    line: dict[str, object]


def play(speed: float, *, keep: bool, show: Show) -> int:
    """Play all recordings `speed` times faster than they happened, show alerts as they are written, and sum up; the exit code.

    Time stamps are moved to now, and what the daemon measures in time (windows, limits of silence) is made as much smaller: it sees
    what a daemon saw that watched these sessions for 20 minutes.
    """
    scratch = Path(tempfile.mkdtemp(prefix="agentwatch-demo-"))
    before = signal.signal(signal.SIGTERM, _end)
    try:
        return _Player(scratch, speed, show).run()
    finally:
        signal.signal(signal.SIGTERM, before)
        if keep:
            show([para(f"kept: {scratch}")])
        else:
            shutil.rmtree(scratch, ignore_errors=True)


def _end(number: int, _frame: FrameType | None) -> None:
    """Leave through the `finally`s: neither the daemon nor the directory must stay behind."""
    sys.exit(128 + number)


class _Player:
    def __init__(self, scratch: Path, speed: float, show: Show) -> None:
        self._scratch = scratch
        self._log_dir = scratch / Path(STREAM).parent
        self._speed = speed
        self._show = show
        self._steps = sorted(_steps(), key=lambda step: step.at)
        self._read_to = 0
        self._alerts: list[AlertLine] = []

    def run(self) -> int:
        for target in {step.target for step in self._steps}:
            (self._scratch / target).parent.mkdir(parents=True, exist_ok=True)
        settings = self._scratch / FILE_NAME
        settings.write_text(_settings(self._speed), "utf-8")
        self._show(_opening(self._speed, self._steps, self._scratch))
        with (self._scratch / "daemon.log").open("wb") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "agentwatch", "run"], cwd=self._scratch, env=_environ(os.environ, self._scratch), stdout=log, stderr=log
            )
        try:
            self._wait_for(daemon)
            self._play(daemon)
        finally:
            _stop(daemon)
        self._show_new()
        self._show(_summary(self._steps, self._alerts))
        return 0

    def _wait_for(self, daemon: subprocess.Popen[bytes]) -> None:
        """Until it watches: it makes its first checkpoint then."""
        end = time.monotonic() + START_S
        while not (self._log_dir / ".agentwatch" / "checkpoint.json").exists():
            self._check(daemon)
            if time.monotonic() > end:
                raise StorageError(f"the daemon of the demo did not start within {START_S:.0f} s", hint="see what `agentwatch doctor` says")
            time.sleep(STEP_S)

    def _play(self, daemon: subprocess.Popen[bytes]) -> None:
        started, begun = time.monotonic(), datetime.now(UTC)
        written = 0
        while (elapsed := time.monotonic() - started) < ENDS_S / self._speed + SETTLE_S:
            self._check(daemon)
            while written < len(self._steps) and self._steps[written].at <= elapsed * self._speed:
                self._write(self._steps[written], begun)
                written += 1
            self._show_new()
            time.sleep(STEP_S)

    def _write(self, step: Step, begun: datetime) -> None:
        line = {**step.line, "timestamp": (begun + timedelta(seconds=step.at / self._speed)).isoformat(timespec="milliseconds")}
        with (self._scratch / step.target).open("ab") as file:
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _show_new(self) -> None:
        try:
            with (self._log_dir / ALERTS).open("rb") as file:
                file.seek(self._read_to)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            alert = parse(line)
            if alert is not None:
                self._alerts.append(alert)
                self._show([*page(alert), para()])

    def _check(self, daemon: subprocess.Popen[bytes]) -> None:
        if daemon.poll() is not None:
            said = (self._scratch / "daemon.log").read_text("utf-8", "replace").strip().rpartition("\n")[2]
            raise StorageError(f"the daemon of the demo ended with exit code {daemon.returncode}: {said}", hint="see what `agentwatch doctor` says")


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    """End it as systemd would; what it has not done by then is lost with the scratch directory anyway."""
    if daemon.poll() is None:
        daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(STOP_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _steps() -> Iterator[Step]:
    for recording in RECORDINGS:
        begun: datetime | None = None
        for text in resources.files("agentwatch").joinpath("demo", f"{recording.name}.jsonl").read_bytes().splitlines():
            line = orjson.loads(text)
            at = datetime.fromisoformat(line["timestamp"])
            begun = begun or at
            after = recording.begins_s + (at - begun).total_seconds()
            if recording.name == STREAMED:
                yield Step(after, STREAM, line["task_title"], line["attempt_id"], line)
            else:
                yield Step(after, f"{TRANSCRIPTS}/{recording.name}.jsonl", recording.name, line["sessionId"], line)


def _settings(speed: float) -> str:
    """Everything that is measured in time, as many times smaller as time runs faster. Counts and dollars stay as they are."""
    limits = Limits()
    return f"""\
# Of a demo that runs {speed:g} times faster than it happened.
[error_loop]
window_s = {limits.error_loop_window.total_seconds() / speed}
[tool_loop]
window_s = {limits.tool_loop_window.total_seconds() / speed}
[stuck]
threshold_ms = {round(limits.stuck.total_seconds() * 1000 / speed)}
[restarts]
window_s = {limits.restarts_window.total_seconds() / speed}
[alerts]
cooldown_s = {limits.cooldown.total_seconds() / speed}
"""


def _environ(environ: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """A home of its own, so that neither the user's settings nor the user's agents take part."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(PREFIX) and name not in OLDER_NAMES and name not in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME", "NOTIFY_SOCKET")
    }
    here = str(Path(agentwatch.__file__).parents[1])
    return {**kept, "HOME": str(scratch), "PYTHONPATH": os.pathsep.join(filter(None, (here, environ.get("PYTHONPATH"))))}


def _opening(speed: float, steps: list[Step], scratch: Path) -> Iterable[Block]:
    sessions, recorded = {step.attempt_id for step in steps}, len(RECORDINGS) - 1
    yield para(Word("agentwatch demo", "title"), f"  {len(sessions)} sessions: {recorded} recorded from Claude Code, {len(sessions) - recorded} made up")
    yield para(
        f"Time runs {speed:g} times faster than it did then, and so that it is judged alike, the daemon's windows and its limit of silence are as much shorter:"
        f" {Limits().stuck.total_seconds() / speed:g} s without a sign of life stand for {span(Limits().stuck)}. It takes {ENDS_S / speed + SETTLE_S:.0f} s. Directory: {scratch}"
    )
    yield para()


def _summary(steps: list[Step], alerts: list[AlertLine]) -> Iterable[Block]:
    """Every session with what was told of it, those first of which nothing was."""
    sessions = {step.attempt_id: step for step in steps}
    lines = Counter(step.attempt_id for step in steps)
    told = {attempt_id: Counter(str(alert["type"]) for alert in alerts if alert.get("attempt_id") == attempt_id) for attempt_id in sessions}
    silent = sum(not kinds for kinds in told.values())
    yield para(
        Word("Played", "title"), f" {len(sessions)} sessions, {len(steps)} lines. ",
        Word("Told", "title"), f" {len(alerts)} alerts of {len(sessions) - silent} sessions. ",
        Word("Silent", "title"), f" about {silent} healthy ones.",
    )  # fmt: skip
    rows = [
        (
            Word(step.session),
            Word(f"{lines[attempt_id]:,}"),
            Word(
                ", ".join(f"{kind} ({count} lines)" if count > 1 else kind for kind, count in told[attempt_id].items()) or "nothing",
                "" if told[attempt_id] else "good",
            ),
        )
        for attempt_id, step in sorted(sessions.items(), key=lambda one: (len(told[one[0]]), one[1].session))
    ]
    yield Table(("session", ">lines", "told"), rows)
    yield para()
    yield para("For your own agents: `agentwatch run`; `agentwatch doctor` says what it would watch.")
