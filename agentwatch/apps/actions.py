"""Commands that answer alerts: once an alert at most, so many at a time, and not again for an attempt that was just answered."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agentwatch.alert_log import as_line
from agentwatch.core.actions import RefusedError, arguments, name_for
from agentwatch.core.alerts import span
from agentwatch.core.cards import shortened
from agentwatch.core.text import safe
from agentwatch.core.times import stamp
from agentwatch.model import Alert
from agentwatch.notify.commands import Result, run
from agentwatch.notify.journal import append
from agentwatch.notify.outbox import NOT_RUN, Outbox
from agentwatch.settings import SECRET_NAMES, Loaded

JOURNAL = "actions.jsonl"
"""Of the state directory: every command that was run, or was not and why, a line each."""

AUTOMATIC = "automatic"
TOO_OLD = "not run: the alert is old"
MOST_SHOWN_CHARS = 200

_WITHHELD = frozenset({*SECRET_NAMES, *(f"{name}_FILE" for name in SECRET_NAMES), "CREDENTIALS_DIRECTORY"})
"""What a child's environment does not have: the secrets of the notifier are none of its business."""


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child of the notifier."""
    return {name: value for name, value in environ.items() if name not in _WITHHELD}


class Actions:
    """The table of commands and what is being done about it. `changed` is called when messages have something new to say."""

    def __init__(
        self,
        loaded: Loaded,
        outbox: Outbox,
        state: Path,
        environ: Mapping[str, str],
        report: Callable[[str], None],
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._settings = loaded.settings.actions
        self._late_s = loaded.settings.notify.late_s
        self._outbox = outbox
        self._state = state
        self._environ = without_secrets(environ)
        self._report = report
        self._clock = clock
        self._changed = changed
        self._work = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._is_paused = False

    def consider(self, seq: int, alert: Alert, now: float) -> None:
        """Put the command for a new alert in line, if there is one that may run by itself."""
        name = name_for(alert, self._settings.commands)
        if name is None or not self._settings.automatic:
            return
        if (reason := self._against(alert, now)) is not None:
            self._skip(seq, name, alert, "skipped", reason, now)
        elif self._settings.dry_run:
            self._skip(seq, name, alert, "dry_run", "would run (dry-run)", now)
        else:
            self._outbox.claim_action(seq, name, alert.attempt_id, "queued", "waits its turn", now)

    def _against(self, alert: Alert, now: float) -> str | None:
        """Why nothing is run for it by itself."""
        if now - alert.timestamp.timestamp() > self._late_s:
            return TOO_OLD
        last = self._outbox.last_action_s(alert.attempt_id)
        if last is not None and 0 <= now - last < self._settings.cooldown_s:
            return "not run: this attempt was answered just before"
        return None

    def _skip(self, seq: int, name: str, alert: Alert, state: str, said: str, now: float) -> None:
        if self._outbox.claim_action(seq, name, alert.attempt_id, state, said, now):
            self._write(name, alert, self._command(name, alert), Result(state, output=said), AUTOMATIC, now)

    def offered(self, seq: int, alert: Alert) -> str | None:
        """The name of the command that somebody could have run for an alert: there is one, and it was not run for it."""
        name = name_for(alert, self._settings.commands)
        if name is None or (self._outbox.action_state(seq) or "skipped") not in NOT_RUN:
            return None
        return name

    def ask_for(self, seq: int, alert: Alert, by: str, now: float) -> str:
        """Put the command in line because somebody wants it; what to tell them."""
        name = self.offered(seq, alert)
        if name is None or not self._outbox.claim_action(seq, name, alert.attempt_id, "queued", f"asked for by {by}, waits its turn", now):
            return "it was run for this alert before"
        self._outbox.remember(f"asked:{seq}", by)
        self.wake()
        return f"{name} is in line"

    def resume(self) -> None:
        """After a start: what was running when the notifier ended is over, one way or the other, and is not run again."""
        now = self._clock()
        for seq, name in self._outbox.actions_in("running"):
            alert = self._outbox.alert(seq)
            self._outbox.action_is(seq, "unknown", "the notifier ended while it ran; it is not run again")
            self._write(name, alert, None, Result("unknown"), AUTOMATIC, now)
        for seq, name in self._outbox.actions_in("queued"):
            alert = self._outbox.alert(seq)
            if now - alert.timestamp.timestamp() > self._late_s and self._outbox.value(f"asked:{seq}") is None:
                self._outbox.action_is(seq, "skipped", TOO_OLD)
                self._write(name, alert, None, Result("skipped", output=TOO_OLD), AUTOMATIC, now)

    def wake(self) -> None:
        self._work.set()

    async def pause(self) -> None:
        """Start no more, and wait for the end of what runs."""
        self._is_paused = True
        while self._running:
            await asyncio.wait(self._running)

    def stop(self) -> None:
        """Start no more; what runs is ended, and may say so: it is not interrupted a second time."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._work.set()
        for task in self._running:
            task.cancel()

    async def run(self) -> None:
        """Until stopped, and all commands have ended."""
        while not self._is_stopping:
            self._work.clear()
            for seq, name in self._outbox.actions_in("queued"):
                if self._is_paused or len(self._running) >= self._settings.at_once:
                    break
                self._outbox.action_is(seq, "running", "running")
                task = asyncio.create_task(self._carry_out(seq, name))
                self._running.add(task)
                task.add_done_callback(self._ended)
            self._changed()
            await self._work.wait()
        if self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._work.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(f"a command's outcome could not be written down: {error}")

    async def _carry_out(self, seq: int, name: str) -> None:
        alert = self._outbox.alert(seq)
        by = self._outbox.value(f"asked:{seq}") or AUTOMATIC
        command = self._command(name, alert)
        if isinstance(command, str):
            result = Result("refused", output=command)
        else:
            result = await run(command, as_line(alert), timeout_s=self._settings.timeout_s, environ=self._environ)
        self._outbox.action_is(seq, result.outcome, described(result))
        self._write(name, alert, command, result, by, self._clock())
        self._changed()

    def _command(self, name: str, alert: Alert) -> list[str] | str:
        """The command, or why it cannot be called for this alert. One that the settings do not have any more is none."""
        if name not in self._settings.commands:
            return f"`{name}` is not in the settings any more"
        try:
            return arguments(self._settings.commands[name], alert)
        except RefusedError as error:
            return str(error)

    def _write(self, name: str, alert: Alert, command: list[str] | str | None, result: Result, by: str, now: float) -> None:
        at = stamp(datetime.fromtimestamp(now, UTC))
        entry: dict[str, object] = {
            "timestamp": at,
            "action": name,
            "alert_id": alert.alert_id,
            "attempt_id": alert.attempt_id,
            "type": alert.type,
            "command": [safe(one) for one in command] if isinstance(command, list) else None,
            "by": by,
            "outcome": result.outcome,
            "exit_code": result.exit_code,
            "duration_ms": result.duration_ms,
            "output": result.output,
        }
        append(self._state / JOURNAL, entry)


def described(result: Result) -> str:
    """What became of a command, as a message says it."""
    took = span(timedelta(milliseconds=result.duration_ms))
    last = f": {shortened(result.output, MOST_SHOWN_CHARS)}" if result.output else ""
    match result.outcome:
        case "done":
            return f"done in {took}{last}"
        case "failed":
            return f"failed with exit code {result.exit_code} after {took}{last}"
        case "timeout":
            return f"ended after {took}: it took too long{last}"
        case "interrupted":
            return f"ended after {took}, because the notifier was stopped"
    return f"not run{last}"
