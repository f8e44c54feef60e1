"""From settings to where messages go: targets, and the channels that reach them."""

import os
import re
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple

from agentwatch.core.notices import Limits, Target
from agentwatch.core.runs import CALLBACK as CALLBACK_FILE
from agentwatch.core.runs import RUNS, is_run_id
from agentwatch.errors import SettingsError
from agentwatch.settings import Loaded, TelegramRoute, secret
from agentwatch.store.runs import LONGEST_ADDRESS, ids

if TYPE_CHECKING:
    from agentwatch.notify.channel import Channel
    from agentwatch.notify.telegram import Telegram

TOKEN, WEBHOOK_SECRET, APPRISE_URLS = "AGENTWATCH_TELEGRAM_TOKEN", "AGENTWATCH_WEBHOOK_SECRET", "AGENTWATCH_APPRISE_URLS"

WEBHOOK = Target(name="webhook", can_edit=False)
CALLBACK = "callback:"
"""Before a run's id: the target that posts to the address in `runs/<id>/callback`."""


HINT = "see docs/notifications.md; for Telegram set AGENTWATCH_TELEGRAM_TOKEN and AGENTWATCH_TELEGRAM_CHATS"


class Outlet(NamedTuple):
    """A channel and the targets that it reaches."""

    channel: "Channel"
    targets: tuple[Target, ...]


def limits(loaded: Loaded) -> Limits:
    """How much a chat is sent."""
    notify = loaded.settings.notify
    return Limits(notify.storm_per_min, notify.late_s, notify.max_age_h * 3600)


def telegram_targets(loaded: Loaded) -> tuple[Target, ...]:
    """The chats: those with a route are told what it says, the others everything. Raises SettingsError where a chat has two routes."""
    settings = loaded.settings.telegram
    routes: dict[str, TelegramRoute] = {name: TelegramRoute(chat=name) for name in settings.chats}
    seen: set[str] = set()
    for route in settings.routes:
        if route.chat in seen:
            raise SettingsError(f"`telegram.routes` from {loaded.origins['telegram.routes']}: two routes for `{route.chat}`", hint="put both into one")
        seen.add(route.chat)
        routes[route.chat] = route
    found = []
    for name, route in routes.items():
        chat, _, topic = name.partition("/")
        found.append(
            Target(
                name=f"telegram:{name}",
                chat=int(chat),
                topic_id=int(topic) if topic else None,
                types=route.types,
                executors=route.executors,
                projects=route.projects,
                min_severity=settings.min_severity if route.min_severity is None else route.min_severity,
                quiet=settings.quiet if route.quiet is None else route.quiet,
            )
        )
    return tuple(found)


def webhook_target(loaded: Loaded) -> Target | None:
    """Where every alert is posted to, if anywhere."""
    settings = loaded.settings.webhook
    return Target(name=WEBHOOK.name, min_severity=settings.min_severity, can_edit=False) if settings.url else None


def telegram(loaded: Loaded, environ: Mapping[str, str]) -> "Telegram | None":
    """The bot; None where none is configured. Raises SettingsError where it is by half."""
    token = secret(TOKEN, environ)
    if token is None:
        if loaded.settings.telegram.chats or loaded.settings.telegram.routes:
            raise SettingsError(f"`telegram.chats` from {loaded.origins['telegram.chats']}: there is no {TOKEN}", hint=f"set {TOKEN}, or {TOKEN}_FILE")
        return None
    from agentwatch.notify.telegram import Telegram

    return Telegram(token, loaded.settings.telegram.base_url)


def others(loaded: Loaded, environ: Mapping[str, str]) -> list[Outlet]:
    """The channels of apprise. Raises SettingsError for what is no address of one."""
    addresses = re.split(r"[\s,]+(?=\w+://)", (secret(APPRISE_URLS, environ) or "").strip())
    if addresses == [""]:
        return []
    from agentwatch.notify.other import Other

    settings = loaded.settings.apprise
    return [
        Outlet(Other(number, address), (Target(name=f"apprise:{_digest(address)}", min_severity=settings.min_severity, quiet=settings.quiet, can_edit=False),))
        for number, address in enumerate(addresses, 1)
    ]


def ways_out(loaded: Loaded, environ: Mapping[str, str]) -> "tuple[Telegram | None, list[Outlet]]":
    """The bot, and all channels, it among them. Raises SettingsError where they cannot be used, or nobody is to be notified at all."""
    bot = telegram(loaded, environ)
    outlets = others(loaded, environ)
    if bot is not None:
        outlets.insert(0, Outlet(bot, telegram_targets(loaded)))
    log_dir = Path(os.path.realpath(loaded.settings.logs.dir))
    if not (outlets or loaded.settings.webhook.url or loaded.settings.actions.commands or has_callbacks(log_dir)):
        raise SettingsError("nobody is to be notified: no chat, no web address, no command", hint=HINT)
    secret(WEBHOOK_SECRET, environ)
    return bot, outlets


def _digest(address: str) -> str:
    """Stands for an address that must be shown to nobody."""
    return blake2b(address.encode(), digest_size=4).hexdigest()


def callback(log_dir: Path, run_id: object) -> str | None:
    """The address in `runs/<id>/callback`, that alerts of the run are posted to; None where there is none that may be used.

    The file must belong to this user and to nobody else (mode 0600): what came with a cloned repository does not.
    """
    if not isinstance(run_id, str) or not is_run_id(run_id):
        return None
    try:
        fd = os.open(log_dir / RUNS / run_id / CALLBACK_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        stat = os.fstat(fd)
        if not S_ISREG(stat.st_mode) or stat.st_uid != os.geteuid() or stat.st_mode & 0o077:
            return None
        text = os.read(fd, LONGEST_ADDRESS + 1).decode("utf-8", "replace").strip()
        return text if len(text.split()) == 1 and len(text) <= LONGEST_ADDRESS else None
    finally:
        os.close(fd)


def has_callbacks(log_dir: Path) -> bool:
    """Whether any run has an address of its own. Raises StorageError where the runs cannot be looked at."""
    return any(callback(log_dir, run_id) is not None for run_id in ids(log_dir))
