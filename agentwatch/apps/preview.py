"""`agentwatch notify --dry-run`: what would go out now. Sends, runs and remembers nothing."""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from agentwatch.alert_log import NAME as ALERTS
from agentwatch.alert_log import rotated
from agentwatch.apps import channels
from agentwatch.apps.holder import STATE_DIR
from agentwatch.apps.notify import fresh
from agentwatch.core.actions import RefusedError, arguments, name_for
from agentwatch.core.cards import as_text
from agentwatch.core.notices import Target
from agentwatch.model import Alert
from agentwatch.notify.channel import Delivered, Job
from agentwatch.notify.courier import Courier, Rates, enqueue
from agentwatch.notify.feed import Feed
from agentwatch.notify.outbox import NAME, Outbox
from agentwatch.settings import Loaded
from agentwatch.ui.page import Block, Word, para

NOBODY = Target(name="nobody: no chat is configured")
AT_ONCE = (1_000_000, 1e-9)


class Message(msgspec.Struct, frozen=True):
    """What would go out: to whom, about which alerts, and what it says. `kind` is message, edit, post or command."""

    target: str
    kind: str
    alert_ids: list[str]
    text: str


def preview(loaded: Loaded, environ: Mapping[str, str], now: float) -> Iterator[Message]:
    """What a notifier that is started now would send at once, in its order. What would wait its turn is not told."""
    log_dir = Path(os.path.realpath(loaded.settings.logs.dir))
    outbox = Outbox.copy(log_dir / STATE_DIR / NAME)
    others = [target for outlet in channels.others(loaded, environ) for target in outlet.targets]
    targets = [*channels.telegram_targets(loaded), *others] or [NOBODY]
    courier = Courier(outbox, targets, channels.limits(loaded), zone=None, chance=lambda: 0.5, tell=lambda _text: None, rates=Rates(AT_ONCE, AT_ONCE, AT_ONCE))
    webhook = channels.webhook_target(loaded)
    commands = loaded.settings.actions.commands
    feed = Feed(log_dir / ALERTS, lambda: rotated(log_dir), outbox.cursor())
    is_first = outbox.value("begun") is None
    after: list[Message] = []
    try:
        for batch in feed.batches():
            for seq, alert in fresh(outbox, batch, now, is_first=is_first):
                enqueue(outbox, seq, alert, targets, now)
                if webhook is not None and webhook.wants(alert):
                    after.append(Message(webhook.name, "post", [alert.alert_id], alert.summary))
                if (name := name_for(alert, commands)) is not None and loaded.settings.actions.automatic:
                    after.append(Message(f"command {name}", "command", [alert.alert_id], _command(commands[name], alert)))
        while isinstance(found := courier.next(now), Job):
            kind = "message" if found.remote is None else "edit"
            yield Message(found.target.name, kind, outbox.alert_ids(found.card), as_text(found.lines))
            courier.settle(found, Delivered("0"), now)
        yield from after
    finally:
        feed.close()
        outbox.close()


def _command(template: tuple[str, ...], alert: Alert) -> str:
    try:
        return shlex.join(arguments(template, alert))
    except RefusedError as error:
        return f"not run: {error}"


def page(messages: Iterable[Message]) -> Iterator[Block]:
    """The messages for people."""
    for message in messages:
        yield para(Word(f"{message.kind} to {message.target}", "title"))
        for text in message.text.splitlines():
            yield para(text, indent=2)
        yield para()
