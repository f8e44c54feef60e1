"""`agentwatch doctor --online`: whether those that alerts and questions go to can be reached. Sends no message; the one question asked is who the bot is."""

import asyncio
import socket
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPMessage
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from agentwatch.apps import channels
from agentwatch.apps.doctor import Check
from agentwatch.core.text import safe
from agentwatch.errors import SettingsError
from agentwatch.settings import Loaded, secret

TIMEOUT_S = 10.0
TELEGRAM = "https://api.telegram.org"
OPENAI = "https://api.openai.com/v1"
MOST_SKEW_S = 60.0
"""A clock that is wrong by more makes silences of talk: stuck agents are judged by the clock where no next event can be waiting."""

NETWORK = "look at the network, its name server and proxy"


def reach(loaded: Loaded, environ: Mapping[str, str]) -> Iterator[Check]:
    """A check for each that is configured."""
    yield from _telegram(loaded, environ)
    yield from _webhook(loaded)
    yield from _openai(loaded, environ)


def _telegram(loaded: Loaded, environ: Mapping[str, str]) -> Iterator[Check]:
    try:
        bot = channels.telegram(loaded, environ)
    except SettingsError:
        return  # told by the check of the notifications
    if bot is None:
        return
    address = loaded.settings.telegram.base_url or TELEGRAM
    if (problem := _refusal(address)) is not None:
        yield Check("telegram", "broken", f"{_host(address)} cannot be reached: {problem}", NETWORK)
        return

    async def ask() -> str | None:
        name = await bot.name()
        await bot.close()
        return name

    name = asyncio.run(ask())
    if name is None:
        yield Check("telegram", "broken", "answers, but not to this bot", f"see that {channels.TOKEN} is the token that @BotFather gave")
    else:
        yield Check("telegram", "ok", f"knows the bot as {safe(name)}")


def _webhook(loaded: Loaded) -> Iterator[Check]:
    url = loaded.settings.webhook.url
    if not url:
        return
    problem = _refusal(url)
    if problem is None:
        yield Check("webhook", "ok", f"{_host(url)} takes connections; `--send-test` tries a post")
    else:
        yield Check("webhook", "broken", f"{_host(url)} cannot be reached: {problem}", f"{NETWORK}, or mend `webhook.url`")


def _openai(loaded: Loaded, environ: Mapping[str, str]) -> Iterator[Check]:
    """Asks for the list of models: that costs nothing, and needs the key."""
    try:
        key = secret("OPENAI_API_KEY", environ)
    except SettingsError as error:
        yield Check("openai", "broken", str(error), error.hint or "")
        return
    if key is None:
        yield Check("openai", "ok", "no key: questions are answered from rules and search alone")
        return
    base = loaded.settings.ask.base_url or OPENAI
    if urlsplit(base).scheme not in ("http", "https"):
        yield Check("openai", "broken", f"`ask.base_url` from {loaded.origins['ask.base_url']} is no web address", "begin it with https://")
        return
    request = urllib.request.Request(f"{base.rstrip('/')}/models", headers={"Authorization": f"Bearer {key}", "User-Agent": "agentwatch"})  # noqa: S310  # looked at above
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=TIMEOUT_S) as answer:
            status, headers = answer.status, answer.headers
    except HTTPError as error:
        with error:
            status, headers = error.code, error.headers
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        yield Check(
            "openai", "warning", f"{_host(base)} cannot be reached: {safe(str(reason), 200)}", f"{NETWORK}; until then questions are answered from rules"
        )
        return
    if status in (401, 403):
        yield Check("openai", "broken", f"{_host(base)} refuses the key (HTTP {status})", "see that OPENAI_API_KEY is the key for this address")
    else:
        yield Check("openai", "ok", f"{_host(base)} answers (HTTP {status})")
    yield from _skew(headers, _host(base))


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the key is for the address that was named, and for no other."""

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str) -> None:
        return None


def _skew(headers: HTTPMessage, host: str) -> Iterator[Check]:
    try:
        theirs = parsedate_to_datetime(headers["Date"])
    except (TypeError, ValueError):
        return
    late_s = (datetime.now(UTC) - theirs.replace(tzinfo=theirs.tzinfo or UTC)).total_seconds()
    if abs(late_s) > MOST_SKEW_S:
        yield Check("clock", "warning", f"{abs(late_s):,.0f} s {'before' if late_s > 0 else 'behind'} that of {host}", "set it: `timedatectl set-ntp true`")
    else:
        yield Check("clock", "ok", f"agrees with that of {host}")


def _refusal(url: str) -> str | None:
    """Why no connection comes about, certificate included; None if one does."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), TIMEOUT_S) as raw:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(raw, server_hostname=parts.hostname):
                    pass
    except (OSError, ValueError) as error:
        return safe(str(getattr(error, "strerror", None) or error), 200)
    return None


def _host(url: str) -> str:
    """Without path and user: they may hold a secret."""
    return safe(urlsplit(url).hostname or "?", 100)
