"""`agentwatch notify`: from the alert log to chats, web addresses and commands. The loop; what it decides is decided elsewhere.

docs/notifications.md has the promises. Everything that must survive stands in the outbox before something is done about it.
"""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agentwatch import sdnotify
from agentwatch.alert_log import NAME as ALERTS
from agentwatch.alert_log import rotated
from agentwatch.apps import channels, setup
from agentwatch.apps.actions import Actions
from agentwatch.apps.alerts import parse
from agentwatch.apps.posts import DEAD_LETTERS, Posts
from agentwatch.apps.weekly import WeeklyReport
from agentwatch.core.cards import as_text
from agentwatch.core.notices import Wait, received
from agentwatch.core.times import stamp
from agentwatch.errors import AgentwatchError, StorageError
from agentwatch.model import Alert
from agentwatch.notify.channel import Job
from agentwatch.notify.courier import Courier, Rates, enqueue
from agentwatch.notify.feed import Batch, Feed
from agentwatch.notify.journal import append
from agentwatch.notify.outbox import KEPT_S, NAME, Outbox, is_damaged
from agentwatch.settings import Loaded
from agentwatch.voice import Level, Report

if TYPE_CHECKING:
    from agentwatch.apps.chat import Chat
    from agentwatch.notify.telegram import Incoming

LOOK_S = 0.1
"""How often the alert log is looked at: one `stat`. Half of what an alert waits on its way out."""

LONGEST_WAIT_S = 30.0
"""The event loop's clock stands still while the machine sleeps: after so long the time of day is looked at again."""

HOLD_S = 5.0
FORGET_S = 3600.0
WEEKLY_LOOK_S = 20.0
RETRY_S = 5.0
LAST_ANSWER_S = 5.0
"""So long the answer to what is on its way is waited for when asked to stop."""

SHORTEST_POLL_S, POLL_AGAIN_S, POLL_REFUSED_S = 1.0, 5.0, 300.0
LAST_POLL_S = 45.0
"""So long after a reload the server may still hold what our predecessor asked for (30 s), and refuse us for it."""

LOCK = "notify.lock"

WITH_RESTART = ("logs.dir",)
"""Settings that hold from the start of the process to its end."""

Loop = Callable[[], Coroutine[None, None, None]]


async def serve(load: Callable[[], Loaded], environ: Mapping[str, str], report: Report, *, lifeline: int | None = None) -> int:
    """Notify until SIGTERM, SIGINT or the end of what the descriptor `lifeline` reads; the exit code. SIGHUP reads the settings again.

    What is on its way stands in the outbox: one notifier ends, and the next goes on with the other settings.
    """
    loop = asyncio.get_running_loop()

    def end(notifier: Notifier, descriptor: int) -> None:
        loop.remove_reader(descriptor)
        notifier.stop()

    loaded: Loaded | None = load()
    code = 0
    notifier: Notifier | None = None
    while loaded is not None:
        notifier = Notifier(loaded, environ, report, load=load, is_successor=notifier is not None)
        if lifeline is not None:
            loop.add_reader(lifeline, end, notifier, lifeline)
        code = await notifier.run()
        loaded = notifier.successor
    return code


class Notifier:
    """One a log directory. `clock` gives seconds since the epoch; `rates` how fast chats may be sent to; `load` the settings at a SIGHUP.

    `successor` has the settings to go on with where it has ended for these.
    """

    def __init__(
        self,
        loaded: Loaded,
        environ: Mapping[str, str],
        report: Report,
        *,
        rates: Rates | None = None,
        clock: Callable[[], float] = time.time,
        zone: tzinfo | None = None,
        load: Callable[[], Loaded] | None = None,
        is_successor: bool = False,
    ) -> None:
        self._loaded = loaded
        self._patient_until_s = time.monotonic() + LAST_POLL_S if is_successor else 0.0
        self._load = load
        self.successor: Loaded | None = None
        self._environ = environ
        self._report = report
        self._clock = clock
        self._zone = zone
        self._telegram, self._outlets = channels.ways_out(loaded, environ)
        self._log_dir = Path(os.path.realpath(loaded.settings.logs.dir))
        self._state = setup.state_dir(self._log_dir)
        self._targets = channels.telegram_targets(loaded)
        self._held = setup.lock(self._state, LOCK, "notifies about")
        self._outbox, problem = Outbox.open(self._state / NAME)
        if problem:
            report(f"the notifier's memory is not used ({problem}) and set aside as `{NAME}.bad`: alerts of the last day are told again", Level.WARNING)
        self._feed = self._new_feed()
        # Until the log was read to its end once, however many pieces and starts that took.
        self._is_first = self._outbox.value("begun") is None
        self._stopping = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._systemd = sdnotify.Notifier(environ)
        self._couriers: list[tuple[Courier, asyncio.Event]] = []
        self._chat: Chat | None = None
        self._actions = Actions(loaded, self._outbox, self._state, environ, report, clock, self._wake)
        self._posts = Posts(loaded, self._outbox, self._log_dir, self._state, environ, self._warn, clock)
        for outlet in self._outlets:
            courier = Courier(
                self._outbox,
                outlet.targets,
                channels.limits(loaded),
                zone=zone,
                chance=random.random,
                tell=self._warn,
                action_of=self._actions.offered,
                bury=self._bury,
                rates=rates or Rates(),
            )
            self._couriers.append((courier, asyncio.Event()))

    async def run(self) -> int:
        """Until SIGTERM, SIGINT, `stop`, or a SIGHUP after which there are other settings; the exit code. What is on its way then is given a moment to be answered."""
        loop = asyncio.get_running_loop()
        asked: list[int] = []

        def on_signal(number: int) -> None:
            asked.append(number)
            self.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
        reloads: set[asyncio.Task[None]] = set()
        if (load := self._load) is not None:
            loop.add_signal_handler(signal.SIGHUP, lambda: reloads.add(asyncio.create_task(self._reload(load))))
        self._report(f"notifying about {self._log_dir}: {', '.join(self._names())}")
        self._systemd.send(READY=1, STATUS=f"notifying about {self._log_dir}")
        self._actions.resume()
        tasks = [asyncio.create_task(self._kept_up(one)) for one in self._loops()]
        stop = asyncio.create_task(self._stopping.wait())
        # What is not confirmed to have been seen comes again, so this one need not end well.
        poll = asyncio.create_task(self._kept_up(self._poll))
        try:
            done, _ = await asyncio.wait({stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            self._end()
            poll.cancel()
            await asyncio.wait(tasks, timeout=LAST_ANSWER_S)
            for task in done - {stop}:
                task.result()  # the error that ended it
        finally:
            for task in (stop, poll, *reloads, *tasks):
                task.cancel()
            await asyncio.gather(stop, poll, *reloads, *tasks, return_exceptions=True)
            await self._close()
        return 130 if signal.SIGINT in asked else 0

    def stop(self) -> None:
        """Ask it to end, and have no successor."""
        self.successor = None
        self._systemd.send(STOPPING=1)
        self._end()

    def _end(self) -> None:
        self._stopping.set()
        self._caught_up.set()
        self._wake()
        self._posts.stop()
        self._actions.stop()

    async def _reload(self, load: Callable[[], Loaded]) -> None:
        """End for other settings, once the commands that run have ended: a reload must not interrupt a repair."""
        try:
            fresh = load()
            channels.ways_out(fresh, self._environ)
        except Exception as error:  # noqa: BLE001  # a mistake in a settings file must not silence everything
            self._report(f"settings stay as they were: {error}", Level.ERROR)
            return
        fresh, said = setup.taken(fresh, self._loaded, WITH_RESTART)
        self._report(said)
        await self._actions.pause()
        if not self._stopping.is_set():
            self._systemd.reloading()
            self.successor = fresh
            self._end()

    def _warn(self, text: str) -> None:
        self._report(text, Level.WARNING)

    def _names(self) -> Iterator[str]:
        for outlet in self._outlets:
            yield from (target.name for target in outlet.targets)
        if self._telegram is not None and not self._targets:
            yield "no chat yet: write to the bot, and the chat's id is shown here"
        if self._loaded.settings.webhook.url:
            yield "webhook"
        yield from (f"command {name}" for name in self._loaded.settings.actions.commands)
        if channels.has_callbacks(self._log_dir):
            yield "callbacks of runs"

    def _loops(self) -> Iterator[Loop]:
        yield self._watch
        yield self._housekeep
        yield self._posts.run
        yield self._tell_weekly
        yield self._actions.run
        for (courier, wake), outlet in zip(self._couriers, self._outlets, strict=True):
            yield partial(self._carry, courier, outlet, wake)

    async def _kept_up(self, loop: Loop) -> None:
        """Run a loop until asked to stop, and again after what should not have happened, a full disk among it."""
        told = ""
        while not self._stopping.is_set():
            try:
                await loop()
            except AgentwatchError:
                raise
            except sqlite3.DatabaseError as error:
                if is_damaged(error):
                    raise StorageError(
                        f"`{self._state / NAME}` is damaged: {error}", hint="start the notifier again: it sets it aside, and tells alerts of the last day again"
                    ) from error
                told = await self._fails(error, told)
            except Exception as error:  # noqa: BLE001  # told, and tried again
                told = await self._fails(error, told)

    async def _fails(self, error: Exception, told: str) -> str:
        """Say so, once, and give it a moment; what was said."""
        said = f"{type(error).__name__}: {error}; trying again every {RETRY_S:g} s"
        if said != told:
            self._report(said, Level.ERROR)
        await self._pause(RETRY_S)
        return said

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _close(self) -> None:
        if self._chat is not None:
            await self._chat.close()
        for outlet in self._outlets:
            await outlet.channel.close()
        await self._posts.close()
        self._feed.close()
        self._outbox.close()
        os.close(self._held)

    # ----------------------------------------------------------------------------------------------------- alerts come in

    def _new_feed(self) -> Feed:
        return Feed(self._log_dir / ALERTS, lambda: rotated(self._log_dir), self._outbox.cursor())

    async def _watch(self) -> None:
        try:
            while not self._stopping.is_set():
                has_new = False
                for batch in self._feed.batches():
                    has_new |= self._take(batch)
                    await asyncio.sleep(0)
                self._caught_up.set()
                if has_new:
                    self._wake()
                if self._is_first and self._outbox.cursor() is not None:
                    self._outbox.remember("begun", str(self._clock()))
                    self._is_first = False
                await asyncio.sleep(LOOK_S)
        except BaseException:
            # What was read and not written down is read again; what is known already is told meanwhile.
            self._caught_up.set()
            self._wake()
            self._feed.close()
            self._feed = self._new_feed()
            raise

    def _take(self, batch: Batch) -> bool:
        """Write down what is new, and who is to be told of it; whether there was something."""
        now = self._clock()
        has_new = False
        with self._outbox.transaction():
            for seq, alert in fresh(self._outbox, batch, now, is_first=self._is_first):
                has_new = True
                for courier, _ in self._couriers:
                    enqueue(self._outbox, seq, alert, courier.targets, now)
                self._posts.enqueue(seq, alert, now, is_first=self._is_first)
                self._actions.consider(seq, alert, now)
            if batch.cursor is not None:
                self._outbox.advance(batch.cursor)
        if has_new:
            self._posts.wake()
            self._actions.wake()
        return has_new

    def _wake(self) -> None:
        for courier, wake in self._couriers:
            courier.wake()
            wake.set()

    # ---------------------------------------------------------------------------------------------------- messages go out

    async def _carry(self, courier: Courier, outlet: channels.Outlet, wake: asyncio.Event) -> None:
        # A backlog is one digest: it is read to its end before anything is told of it.
        await self._caught_up.wait()
        courier.wake()
        while not self._stopping.is_set():
            wake.clear()
            found = courier.next(self._clock())
            if isinstance(found, Wait):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(max(0.0, found.until_s - self._clock()), LONGEST_WAIT_S)):
                        await wake.wait()
                continue
            target = msgspec.structs.replace(found.target, chat=courier.chat_of(found.target))
            outcome = await outlet.channel.deliver(found._replace(target=target))
            courier.settle(found, outcome, self._clock())

    def _bury(self, job: Job, reason: str) -> None:
        at = stamp(datetime.fromtimestamp(self._clock(), UTC))
        entry = {"timestamp": at, "target": job.target.name, "reason": reason, "alert_ids": self._outbox.alert_ids(job.card), "text": as_text(job.lines)}
        append(self._state / DEAD_LETTERS, entry)

    # ------------------------------------------------------------------------------------------------- taps and commands

    async def _poll(self) -> None:
        from agentwatch.apps.chat import Chat
        from agentwatch.notify.telegram import UpdatesError

        telegram = self._telegram
        if telegram is None or not self._loaded.settings.telegram.polling:
            await self._stopping.wait()
            return
        courier = self._couriers[0][0]
        chat = Chat(self._loaded, self._outbox, courier, telegram, self._actions, self._report, self._log_dir, self._environ, self._zone)
        self._chat = chat
        # Each bot numbers what happens to it in its own way.
        seen = f"updates:{telegram.number}"
        offset = int(self._outbox.value(seen) or 0)
        while not self._stopping.is_set():
            asked_at = time.monotonic()
            try:
                found = await telegram.updates(offset)
            except UpdatesError as error:
                is_refused = error.is_final and asked_at > self._patient_until_s
                if is_refused:
                    self._report(f"taps and commands are not fetched: {error}; alerts are sent all the same", Level.ERROR)
                await self._pause(POLL_REFUSED_S if is_refused else POLL_AGAIN_S)
                continue
            for update in found:
                await self._obey(chat, update)
                offset = update.update + 1
                self._outbox.remember(seen, str(offset))
            if found:
                self._wake()
            elif time.monotonic() - asked_at < SHORTEST_POLL_S:
                # A server that does not wait for something to happen would be asked as fast as it answers.
                await self._pause(SHORTEST_POLL_S)

    async def _obey(self, chat: "Chat", update: "Incoming") -> None:
        """What one update brings must not keep the next from being seen."""
        try:
            await chat.take(update, self._clock())
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001
            self._report(f"a tap or command could not be carried out: {type(error).__name__}: {error}", Level.ERROR)

    # ---------------------------------------------------------------------------------------------------- weekly report

    async def _tell_weekly(self) -> None:
        targets = [target for outlet in self._outlets for target in outlet.targets]
        weekly = WeeklyReport(self._loaded, self._outbox, targets, Path.cwd(), self._environ, self._report, self._zone)
        while not self._stopping.is_set():
            if await weekly.look(self._clock()):
                self._wake()
            await self._pause(WEEKLY_LOOK_S)

    # ------------------------------------------------------------------------------------------------------ housekeeping

    async def _housekeep(self) -> None:
        forget_at = 0.0
        while not self._stopping.is_set():
            if not setup.holds(self._held, self._state, LOCK):
                raise StorageError(f"`{self._state}` was removed or replaced", hint="start the notifier again")
            now = self._clock()
            if now >= forget_at:
                self._outbox.forget(now - KEPT_S)
                forget_at = now + FORGET_S
            self._systemd.send(WATCHDOG=1)
            await self._pause(min(HOLD_S, self._systemd.watchdog_s or HOLD_S))


def fresh(outbox: Outbox, batch: Batch, now: float, *, is_first: bool) -> Iterator[tuple[int, Alert]]:
    """The alerts on these lines that were not seen before, with their numbers."""
    at = datetime.fromtimestamp(now, UTC)
    for raw in batch.lines:
        parsed = parse(raw)
        alert = received(parsed, at) if parsed is not None else None
        if alert is None:
            if raw.strip():
                outbox.count("lines that are no alert")
        elif not is_first and alert.timestamp.timestamp() <= now - KEPT_S:
            # What was forgotten comes again when a rotated log is read again; in the log itself it is new.
            if batch.cursor is not None:
                outbox.count("older than two weeks")
        elif (seq := outbox.add(alert, now)) is not None:
            yield seq, alert
