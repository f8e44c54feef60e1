"""Webhooks: every alert, posted until it is taken or given up. Each address has its own queue, so that one that hangs keeps nobody waiting."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agentwatch.alert_log import as_line
from agentwatch.apps import channels
from agentwatch.core.notices import Gate, backoff, topic
from agentwatch.core.text import safe
from agentwatch.core.times import stamp
from agentwatch.model import Alert, Status
from agentwatch.notify.channel import Blocked, Delivered, NotSent, Outcome, Refused, Unsure
from agentwatch.notify.journal import append
from agentwatch.notify.outbox import Outbox, Post, Standing
from agentwatch.settings import Loaded, secret

if TYPE_CHECKING:
    from agentwatch.notify.webhook import Webhooks

DEAD_LETTERS = "notify.dead.jsonl"
"""Of the state directory: what was given up, a line each, with the reason and the alert, or of a message its text and its alerts' ids."""

FIRST_RETRY_S, LAST_RETRY_S = 5.0, 3600.0
LONGEST_WAIT_S = 30.0
"""As in `apps/notify.py`: the machine may have slept."""


class Posts:
    """The queues of the addresses. Nothing is loaded before the first post."""

    def __init__(
        self,
        loaded: Loaded,
        outbox: Outbox,
        log_dir: Path,
        state: Path,
        environ: Mapping[str, str],
        report: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings = loaded.settings.webhook
        self._max_age_s = loaded.settings.notify.max_age_h * 3600
        self._outbox = outbox
        self._log_dir = log_dir
        self._state = state
        self._report = report
        self._clock = clock
        self._secret = secret(channels.WEBHOOK_SECRET, environ)
        self._target = channels.webhook_target(loaded)
        self._webhooks: Webhooks | None = None
        self._queues: dict[str, asyncio.Task[None]] = {}
        self._work = asyncio.Event()
        self._stopping = asyncio.Event()

    def enqueue(self, seq: int, alert: Alert, now: float, *, is_first: bool) -> None:
        """Have a new alert posted where it is wanted. What is older than the limit when the alert log is met first was before our time."""
        if is_first and alert.timestamp.timestamp() < now - self._max_age_s:
            return
        names = [self._target.name] if self._target is not None and self._target.wants(alert) else []
        run_id = alert.detail.get("run_id")
        if channels.callback(self._log_dir, run_id) is not None:
            names.append(f"{channels.CALLBACK}{run_id}")
        for name in names:
            about = topic(alert)
            is_repeat = about.startswith("issue:") and alert.status is Status.OPEN and self._outbox.standing(name, about) is not Standing.UNKNOWN
            if not is_repeat:
                self._outbox.post(name, seq, about, alert, now)

    def wake(self) -> None:
        """There may be something new."""
        self._work.set()

    def stop(self) -> None:
        """Finish what is on its way, and no more."""
        self._stopping.set()
        self._work.set()

    async def close(self) -> None:
        if self._webhooks is not None:
            await self._webhooks.close()

    async def run(self) -> None:
        """Until stopped. The error of a queue is raised here."""
        try:
            while not self._stopping.is_set():
                self._work.clear()
                for target in self._outbox.posting_targets():
                    if target not in self._queues:
                        self._queues[target] = asyncio.create_task(self._serve(target))
                waiting = asyncio.create_task(self._work.wait())
                done, _ = await asyncio.wait({waiting, *self._queues.values()}, timeout=LONGEST_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                ended = {target: task for target, task in self._queues.items() if task in done}
                for target in ended:
                    del self._queues[target]
                for task in ended.values():
                    task.result()
            await asyncio.gather(*self._queues.values())
        finally:
            for task in self._queues.values():
                task.cancel()
            self._queues.clear()

    async def _serve(self, target: str) -> None:
        """Post what waits for one address, the first that is due first, until there is none."""
        gate = Gate()
        failures = 0
        while not self._stopping.is_set() and (found := self._outbox.next_post(target)) is not None:
            post, due_s = found
            now = self._clock()
            # What is due later than any pause lasts was written down by a clock that was ahead.
            due_s = due_s if due_s - now <= LAST_RETRY_S else now
            if (at := max(due_s, gate.opens_at(now))) > now:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(at - now, LONGEST_WAIT_S)):
                        await self._stopping.wait()
                continue
            outcome = await self._try(target, post)
            failures = 0 if isinstance(outcome, Delivered) else failures + 1
            gate.close(self._clock(), self._settle(post, outcome, failures, self._clock()))

    def _settle(self, post: Post, outcome: Outcome, failures: int, now: float) -> float:
        """Write down what came of it; for how long to leave the address alone."""
        if isinstance(outcome, Delivered):
            self._outbox.posted(post)
            if post.tries:
                self._report(f"{post.target}: takes alerts again")
            return 0.0
        reason = getattr(outcome, "reason", "")
        is_over = now - (now if post.first_s is None else post.first_s) > self._settings.give_up_h * 3600
        if isinstance(outcome, Refused | Blocked) or is_over:
            alert = self._outbox.alert(post.seq)
            self._bury(post.target, reason, alert, now)
            self._outbox.posted(post)
            self._report(f"{post.target}: alert {alert.alert_id} is given up: {reason}; it stands in `{DEAD_LETTERS}`")
            return 0.0
        asked = outcome.wait_s if isinstance(outcome, NotSent) else None
        wait = max(min(asked or 0.0, LAST_RETRY_S), backoff(failures, random.random(), first_s=FIRST_RETRY_S, most_s=LAST_RETRY_S))  # noqa: S311  # jitter
        self._outbox.try_post_again(post, now + wait, now)
        if failures in (1, 10, 100):
            self._report(f"{post.target}: {reason}; trying again")
        return wait

    def _bury(self, target: str, reason: str, alert: Alert, now: float) -> None:
        import orjson

        at = stamp(datetime.fromtimestamp(now, UTC))
        append(self._state / DEAD_LETTERS, {"timestamp": at, "target": target, "reason": reason, "alert": orjson.loads(as_line(alert))})

    async def _try(self, target: str, post: Post) -> Outcome:
        from agentwatch.notify.webhook import Webhooks, keys, signed

        url = self._address(target)
        if url is None:
            return Refused("there is no address any more")
        if self._webhooks is None:
            self._webhooks = Webhooks(timeout_s=self._settings.timeout_s, allow_private=self._settings.allow_private, trusted=self._settings.url)
        alert = self._outbox.alert(post.seq)
        body = body_of(alert)
        try:
            return await self._webhooks.post(url, signed(keys(self._secret), alert.alert_id, int(self._clock()), body), body)
        except Exception as error:  # noqa: BLE001  # told, and tried again: one alert must not keep all others from being posted
            return Unsure(safe(f"{type(error).__name__}: {error}", 200))

    def _address(self, target: str) -> str | None:
        if target == channels.WEBHOOK.name:
            return self._settings.url or None
        return channels.callback(self._log_dir, target.removeprefix(channels.CALLBACK))


def body_of(alert: Alert) -> bytes:
    """What is posted: the type and time of what happened, and the alert as the alert log has it."""
    data = as_line(alert).rstrip(b"\n")
    at = stamp(alert.timestamp)
    return b'{"type":"alert.%s","timestamp":"%s","data":%s}' % (alert.status.encode(), at.encode(), data)
