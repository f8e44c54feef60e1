"""Posts to web addresses, signed as standardwebhooks.com has it. The one file that imports the HTTP client.

Where an address leads is looked up here and checked before anything is sent, and the connection goes to what was checked: a name cannot
lead to a public address when it is asked first and to a private one a moment later. Nothing is redirected, no proxy is used.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import socket
import ssl
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

import httpx

from agentwatch.core.text import safe
from agentwatch.notify.channel import Blocked, Delivered, NotSent, Outcome, Refused, Unsure

CONNECT_S = 5.0

_HEADER = re.compile(r"[!-~]{1,128}")
_GLOBAL = ipaddress.IPv6Network("2000::/3")
"""All that is given to anybody. Around it are older ways to write an address of version 4, and networks of one's own."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_BLANK = re.compile(r"[\x00-\x20\x7f]")
_GONE, _TOO_SOON, _TOO_MANY = 410, 408, 429


def keys(secrets: str | None) -> list[bytes]:
    """The keys in a secret: one, or several with spaces between, the newest first, while one replaces the other.

    As the convention has it a key is base64, with `whsec_` in front or not; what is no base64 is taken as it is.
    """
    return [_key(one) for one in (secrets or "").split()]


def _key(text: str) -> bytes:
    text = text.removeprefix("whsec_")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return text.encode()


def signed(keys: Iterable[bytes], identity: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that say which alert this is, when it was sent, and who sent it: one signature a key, none without keys.

    An id that no header can hold is told by a digest of it.
    """
    identity = identity if _HEADER.fullmatch(identity) else hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    content = f"{identity}.{timestamp}.".encode() + body
    signatures = [f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}" for key in keys]
    headers = {"webhook-id": identity, "webhook-timestamp": str(timestamp), "idempotency-key": identity}
    return {**headers, "webhook-signature": " ".join(signatures)} if signatures else headers


class Webhooks:
    """Sends posts. `timeout_s` is how long one may take as a whole.

    Private addresses are refused unless `allow_private`, or `trusted` names the same scheme, host and port and spells the host out.
    """

    def __init__(self, *, timeout_s: float, allow_private: bool, trusted: str = "") -> None:
        self._timeout_s = timeout_s
        self._allow_private = allow_private
        self._trusted = _spelt_out(trusted)
        # The certificates that the machine trusts, a company's own among them; the client would take a list of its own.
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(),
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
            headers={"user-agent": "agentwatch"},
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Outcome:
        """Post once. Never raises for what the other side or the network does."""
        try:
            async with asyncio.timeout(self._timeout_s):
                parts = _split(url)
                if parts is None:
                    return Refused("no address of the kind http:// or https://")
                addresses = await self._addresses(parts, is_trusted=_service(parts) == self._trusted)
                return await self._first(parts, addresses, headers, body) if isinstance(addresses, list) else addresses
        except TimeoutError:
            return Unsure(f"no answer within {self._timeout_s:g} s")
        except httpx.InvalidURL as error:
            return Refused(f"no address: {safe(str(error), 100)}")
        except httpx.HTTPError as error:
            return Unsure(f"{type(error).__name__}: {safe(str(error), 100)}")

    async def _addresses(self, parts: SplitResult, *, is_trusted: bool) -> list[str] | Outcome:
        """The addresses to connect to, in their order, if all of them are such as may be."""
        host = parts.hostname or ""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, parts.port or (443 if parts.scheme == "https" else 80), type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            return NotSent(f"`{host}` cannot be looked up: {error}")
        addresses = list(dict.fromkeys(str(row[4][0]) for row in found))
        if self._allow_private or is_trusted or all(map(is_public, addresses)):
            return addresses
        return Refused(f"`{host}` leads to a private address")

    async def _first(self, parts: SplitResult, addresses: list[str], headers: dict[str, str], body: bytes) -> Outcome:
        """What the first address that can be connected to answers: where a name has two kinds of numbers, often only one is in use."""
        reason = ""
        for address in addresses:
            try:
                return await self._send(parts, address, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                reason = safe(str(error), 100)
        return NotSent(f"no connection: {reason}")

    async def _send(self, parts: SplitResult, address: str, headers: dict[str, str], body: bytes) -> Outcome:
        netloc = f"[{address}]" if ":" in address else address
        target = parts._replace(netloc=f"{netloc}:{parts.port}" if parts.port else netloc, fragment="")
        content = {"content-type": "application/json", "host": parts.netloc, **headers}
        # The certificate is checked against the name, though the connection goes to the number.
        extensions = {"sni_hostname": parts.hostname}
        async with self._client.stream("POST", target.geturl(), content=body, headers=content, extensions=extensions) as answer:
            return _outcome(answer.status_code, answer.headers.get("retry-after"))


def _outcome(status: int, retry_after: str | None) -> Outcome:
    if 200 <= status < 300:
        return Delivered()
    reason = f"answered {status}"
    if status == _GONE:
        return Blocked(f"{reason}: it is gone")
    if status in (_TOO_SOON, _TOO_MANY) or status >= 500:
        return NotSent(reason, float(retry_after) if retry_after and retry_after.isdigit() and len(retry_after) < 6 else None)
    return Refused(f"{reason}; redirections are not followed" if 300 <= status < 400 else reason)


def is_public(address: str) -> bool:
    """Whether the address may be anybody's: neither private nor loopback, link-local, reserved or a group, nor a way to put one of these."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast
    inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped
    if inner is not None:
        return is_public(str(inner))
    return ip.is_global and ip in _GLOBAL and all(is_public(str(one)) for one in (ip.sixtofour, *(ip.teredo or ())) if one)


def _split(url: str) -> SplitResult | None:
    """The parts of an address of the web, a name in any script as the net writes it; None where it is none."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises for what is no port
        if not parts.netloc.isascii():
            parts = parts._replace(netloc=parts.netloc.encode("idna").decode())
    except ValueError:
        return None
    if _BLANK.search(url):
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc else None


def _service(parts: SplitResult) -> tuple[str, str | None, int | None]:
    """What answers at an address."""
    return parts.scheme, parts.hostname, parts.port


def _spelt_out(url: str) -> tuple[str, str | None, int | None] | None:
    """The service of a trusted address where its host is itself a number, or this machine: whoever wrote it there means it."""
    parts = _split(url)
    if parts is None or parts.hostname is None:
        return None
    try:
        ipaddress.ip_address(parts.hostname)
    except ValueError:
        return _service(parts) if parts.hostname == "localhost" else None
    return _service(parts)
