"""`agentwatch doctor --send-test`: a message to everybody who is to be notified, and whether it arrived."""

import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

import orjson

from agentwatch.apps import channels
from agentwatch.apps.doctor import Check
from agentwatch.core.cards import Span, line
from agentwatch.core.times import stamp
from agentwatch.errors import SettingsError
from agentwatch.notify.channel import Delivered, Job, Outcome
from agentwatch.settings import Loaded, secret

LINES = [line(Span("agentwatch: a test message", "b")), line("Alerts of your agents arrive here.")]


async def send_test(loaded: Loaded, environ: Mapping[str, str]) -> list[Check]:
    """One check for each chat, channel and web address. Raises SettingsError where they cannot be used, or there is none."""
    found = [check async for check in _telegram(loaded, environ)]
    for outlet in channels.others(loaded, environ):
        found += [_check(target.name, await outlet.channel.deliver(Job(target, 0, 0, LINES))) for target in outlet.targets]
    found += [check async for check in _webhook(loaded, environ)]
    if not found:
        raise SettingsError("nobody is to be notified: no chat, no web address", hint=channels.HINT)
    return found


async def _telegram(loaded: Loaded, environ: Mapping[str, str]) -> AsyncIterator[Check]:
    bot = channels.telegram(loaded, environ)
    if bot is None:
        return
    targets = channels.telegram_targets(loaded)
    name = await bot.name()
    by = f" by {name}" if name else ""
    if not targets:
        remedy = "run `agentwatch notify`, write to the bot, and set AGENTWATCH_TELEGRAM_CHATS to the id that is shown"
        yield Check("test message", "broken", f"there is no chat to write to{by}", remedy)
    for target in targets:
        yield _check(f"{target.name}{by}", await bot.deliver(Job(target, 0, 0, LINES)))
    await bot.close()


async def _webhook(loaded: Loaded, environ: Mapping[str, str]) -> AsyncIterator[Check]:
    settings = loaded.settings.webhook
    if not settings.url:
        return
    from agentwatch.notify.webhook import Webhooks, keys, signed

    now = time.time()
    at = stamp(datetime.fromtimestamp(now, UTC))
    body = orjson.dumps({"type": "agentwatch.test", "timestamp": at, "data": {}})
    signing = keys(secret(channels.WEBHOOK_SECRET, environ))
    webhooks = Webhooks(timeout_s=settings.timeout_s, allow_private=settings.allow_private, trusted=settings.url)
    yield _check("webhook" if signing else "webhook, not signed", await webhooks.post(settings.url, signed(signing, f"test-{now:.0f}", int(now), body), body))
    await webhooks.close()


def _check(name: str, outcome: Outcome) -> Check:
    if isinstance(outcome, Delivered):
        return Check("test message", "ok", f"{name}: taken")
    reason = getattr(outcome, "reason", "the chat has another id now")
    return Check("test message", "broken", f"{name}: {reason}", "see docs/notifications.md for what each answer means")
