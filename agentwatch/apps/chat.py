"""What people say to the bot: taps on buttons and commands. Who is not configured is not answered, only counted."""

import asyncio
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import NamedTuple

from agentwatch.apps import alerts
from agentwatch.apps.actions import Actions
from agentwatch.apps.status import look
from agentwatch.apps.week import TITLE, Asked, WeekError, figures, home_of
from agentwatch.core.alerts import span
from agentwatch.core.cards import ICONS, RECOVERED, Line, Span, clock, line, shortened
from agentwatch.core.notices import Mute, Target, received
from agentwatch.core.taps import CONFIRM_S, MUTES, parse
from agentwatch.core.text import safe
from agentwatch.model import Alert, Status
from agentwatch.notify.courier import Courier
from agentwatch.notify.outbox import Card, Outbox
from agentwatch.notify.telegram import Incoming, Other, Said, Tapped, Telegram
from agentwatch.settings import Loaded

MOST_STRANGERS_TOLD = 5
MOST_ALERTS, USUAL_ALERTS = 30, 10
MOST_SUMMARY_CHARS = 160
LONGEST_SUMMARY_S = 60.0

_COMMAND = re.compile(r"/([a-z]+)(?:@\w+)?(?:\s+(.*))?", re.DOTALL)
_FOR = re.compile(r"([0-9]{1,4})([mhd])")
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}

HELP = """/status  how the daemon and this notifier are doing
/alerts [N]  the newest alerts
/summary  the last seven days: sessions, success, cost, errors, incidents
/mute 1h  tell nothing for an hour; /mute attempt ID 24h, /mute type error_loop 24h
/mute  what is muted; /mute off  nothing any more
/help  this"""


class Place(NamedTuple):
    """Where an answer goes: the chat, and the topic in it."""

    chat: int
    topic_id: int | None


class Chat:
    """Obeys the configured users in the configured chats, and nobody else."""

    def __init__(
        self,
        loaded: Loaded,
        outbox: Outbox,
        courier: Courier,
        telegram: Telegram,
        actions: Actions,
        report: Callable[[str], None],
        log_dir: Path,
        environ: Mapping[str, str],
        zone: tzinfo | None,
    ) -> None:
        self._loaded = loaded
        self._environ = environ
        self._summing: asyncio.Task[None] | None = None
        self._is_summing = False
        self._outbox = outbox
        self._courier = courier
        self._telegram = telegram
        self._actions = actions
        self._report = report
        self._log_dir = log_dir
        self._zone = zone
        self._users = set(loaded.settings.telegram.users)
        self._strangers: set[tuple[int, int]] = set()

    async def take(self, update: Incoming, now: float) -> None:
        """Carry out what an update asks for, if it comes from somebody who may ask."""
        if isinstance(update, Other):
            return
        if not self._is_obeyed(update.chat, update.user):
            self._ignore(update.chat, update.user)
        elif isinstance(update, Tapped):
            await self._telegram.answer(update, self._tap(update, now))
        else:
            await self._answer(update, now)

    def _is_obeyed(self, chat: int, user: int) -> bool:
        chats = {self._courier.chat_of(target) for target in self._courier.targets}
        # In a private chat the chat's id is the user's.
        return chat in chats and (user in self._users or user == chat)

    def _ignore(self, chat: int, user: int) -> None:
        self._outbox.count("strangers")
        if (chat, user) not in self._strangers and len(self._strangers) < MOST_STRANGERS_TOLD:
            self._strangers.add((chat, user))
            self._report(f"not obeyed: user {user} in chat {chat}; to have them obeyed name them in AGENTWATCH_TELEGRAM_USERS and AGENTWATCH_TELEGRAM_CHATS")

    # --------------------------------------------------------------------------------------------------------------- taps

    def _tap(self, tapped: Tapped, now: float) -> str:
        """Do what the button says; what to show for a moment."""
        tap = parse(tapped.data)
        card = self._outbox.find_card(tap.card) if tap else None
        target = next((one for one in self._courier.targets if card is not None and one.name == card.target), None)
        # Whoever makes up a button's data could otherwise reach messages of other chats.
        if tap is None or card is None or card.last is None or target is None or self._courier.chat_of(target) != tapped.chat:
            self._outbox.count("forged taps")
            return "this message is too old"
        alert = self._outbox.alert(card.last)
        if tap.verb in MUTES:
            return self._mute(card, target, alert, tap.verb, tapped.name, now)
        return self._taps.get(tap.verb, Chat._unknown)(self, card, alert, tapped.name, now)

    def _unknown(self, card: Card, alert: Alert, name: str, now: float) -> str:
        self._outbox.count("forged taps")
        return "this button is not known any more"

    def _ack(self, card: Card, alert: Alert, name: str, now: float) -> str:
        self._outbox.note(card.id, "ack", f"✔ acknowledged by {name}, {self._time(now)}")
        return "acknowledged"

    def _more(self, card: Card, alert: Alert, name: str, now: float) -> str:
        self._outbox.toggle_details(card.id)
        return ""

    def _ask_mute(self, card: Card, alert: Alert, name: str, now: float) -> str:
        self._outbox.open_menu(card.id, "mute", now)
        return ""

    def _back(self, card: Card, alert: Alert, name: str, now: float) -> str:
        self._outbox.open_menu(card.id, "", now)
        return ""

    def _ask_run(self, card: Card, alert: Alert, name: str, now: float) -> str:
        self._outbox.open_menu(card.id, "run", now)
        return "tap once more to run it"

    def _run(self, card: Card, alert: Alert, name: str, now: float) -> str:
        is_asked = card.menu == "run" and 0 <= now - card.menu_s <= CONFIRM_S
        self._outbox.open_menu(card.id, "", now)
        if not is_asked or card.last is None:
            return "that question was asked too long ago"
        return self._actions.ask_for(card.last, alert, name, now)

    _taps = {"ack": _ack, "more": _more, "mute": _ask_mute, "back": _back, "run": _ask_run, "go": _run}  # noqa: RUF012  # a table, never changed

    def _mute(self, card: Card, target: Target, alert: Alert, verb: str, name: str, now: float) -> str:
        kind, seconds = MUTES[verb]
        value = alert.attempt_id if kind == "attempt" else alert.type
        self._set(target, Mute(kind, value, now + seconds))
        self._outbox.note(card.id, f"mute:{kind}", f"🔇 {'this attempt' if kind == 'attempt' else value} muted until {self._time(now + seconds)} by {name}")
        return f"{value[:100]} is muted for {span(timedelta(seconds=seconds))}"

    def _set(self, target: Target, mute: Mute) -> None:
        self._outbox.mute(target.name, mute)
        self._outbox.count("muted", self._outbox.drop_waiting(target.name, mute.covers))

    def _time(self, at: float) -> str:
        return clock(datetime.fromtimestamp(at, UTC), self._zone)

    # ----------------------------------------------------------------------------------------------------------- commands

    async def _answer(self, said: Said, now: float) -> None:
        found = _COMMAND.fullmatch(said.text.strip())
        if found is None:
            return  # people may talk to each other where the bot listens
        lines = self._commands.get(found[1], Chat._help)(self, said, (found[2] or "").split(), now)
        if lines:
            await self._telegram.send(said.chat, said.topic_id, lines)

    def _help(self, said: Said, words: list[str], now: float) -> list[Line]:
        return [line(text) for text in HELP.splitlines()]

    def _status(self, said: Said, words: list[str], now: float) -> list[Line]:
        health = look(self._log_dir)
        since = f", since {span(datetime.fromtimestamp(now, UTC) - health.started_at)}" if health.started_at else ""
        lines = [line(Span(f"{'✅ running' if health.running else '❌ not running'}{since}", "b"))]
        lines.append(line(f"attempts live {health.attempts_live:,}, events {health.events_total:,}, faults {sum(one.count for one in health.faults):,}"))
        if health.problem:
            lines.append(line(health.problem))
        lines.append(line())
        lines.append(line(Span("Notifier", "b")))
        here = self._here(said)
        lines += [line(f"waiting {self._outbox.waiting(one.name):,}, muted {len(self._outbox.mutes(one.name, now)):,}") for one in here]
        lines += [line(f"{name}: {number:,}") for name, number in self._outbox.counted().items() if not name.startswith("old:")]
        return lines

    def _alerts(self, said: Said, words: list[str], now: float) -> list[Line]:
        most = min(int(words[0]), MOST_ALERTS) if words and words[0].isdecimal() and len(words[0]) < 6 else USUAL_ALERTS
        found = alerts.read(self._log_dir)[-most:] if most else []
        if not found:
            return [line("no alerts")]
        at = datetime.fromtimestamp(now, UTC)
        return [_listed(alert, self._zone) for one in found if (alert := received(one, at)) is not None]

    def _summary(self, said: Said, words: list[str], now: float) -> list[Line]:
        if self._is_summing:
            return [line("the last one is still being made")]
        self._is_summing = True
        self._summing = asyncio.create_task(self._sum_up(said))
        return []

    async def _sum_up(self, said: Said) -> None:
        """The answer takes a moment, in which taps are not kept waiting."""
        try:
            week = await figures(Asked(self._loaded, home_of(self._environ)), self._environ, LONGEST_SUMMARY_S)
            lines = [line(Span(TITLE, "b")), *(line(text) for text in week.lines)]
        except WeekError as error:
            lines = [line(f"there are no figures: {error}")]
        finally:
            self._is_summing = False  # before it is sent: who reads the answer may ask again at once
        await self._telegram.send(said.chat, said.topic_id, lines)

    async def close(self) -> None:
        """End what is still being made."""
        if self._summing is not None:
            self._summing.cancel()
            await asyncio.gather(self._summing, return_exceptions=True)

    def _mute_command(self, said: Said, words: list[str], now: float) -> list[Line]:
        targets = self._here(said)
        if words == ["off"]:
            for target in targets:
                self._outbox.unmute(target.name)
            return [line("nothing is muted")]
        if not words:
            mutes = [mute for target in targets for mute in self._outbox.mutes(target.name, now)]
            return [line(f"{mute.kind} {mute.value} until {self._time(mute.until_s)}") for mute in mutes] or [line("nothing is muted")]
        how_long = _FOR.fullmatch(words[-1])
        what = words[:-1]
        if how_long is None or (what and (len(what) != 2 or what[0] not in ("attempt", "type"))):
            return self._help(said, words, now)
        kind, value = (what[0], safe(what[1])) if what else ("all", "")
        until_s = now + int(how_long[1]) * _UNITS[how_long[2]]
        for target in targets:
            self._set(target, Mute(kind, value, until_s))
        return [line(f"🔇 {kind} {value}".rstrip(), f" muted until {self._time(until_s)}")]

    _commands = {"status": _status, "alerts": _alerts, "summary": _summary, "mute": _mute_command, "help": _help, "start": _help}  # noqa: RUF012

    def _here(self, said: Said) -> list[Target]:
        """The targets of the chat, or of the topic in it, in which somebody said something."""
        chat = [target for target in self._courier.targets if self._courier.chat_of(target) == said.chat]
        return [target for target in chat if target.topic_id == said.topic_id] or chat


def _listed(alert: Alert, zone: tzinfo | None) -> Line:
    icon = RECOVERED if alert.status is Status.RECOVERED else ICONS[alert.severity]
    return line(f"{icon} {clock(alert.timestamp, zone)} ", shortened(alert.summary, MOST_SUMMARY_CHARS))
