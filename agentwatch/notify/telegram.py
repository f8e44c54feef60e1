"""Telegram's Bot API: messages, edits, taps and commands. The one file that imports the library, and that ever holds the token."""

import contextlib
import logging
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions, Message, Update
from telegram.constants import ParseMode
from telegram.error import BadRequest, ChatMigrated, Conflict, Forbidden, InvalidToken, NetworkError, RetryAfter, TelegramError
from telegram.request import HTTPXRequest

from agentwatch.core.cards import Line, as_html, as_text, line
from agentwatch.core.taps import Keyboard
from agentwatch.core.text import safe
from agentwatch.errors import SettingsError
from agentwatch.notify.channel import Blocked, Delivered, Gone, Job, Moved, NotSent, Outcome, Refused, Unsure

BASE_URL = "https://api.telegram.org/bot"
POLL_S = 30
ANSWER_S = 20.0
CONNECT_S = 5.0
MOST_ANSWER_CHARS = 190
GENERAL = 1
"""The topic that every group with topics has."""

MOST_CAPTION_UNITS, MOST_DOCUMENT_BYTES = 1024, 45_000_000
"""What Telegram takes; of documents 50 MB."""

_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{3,}")
_NEVER_LEFT: Final = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "LocalProtocolError"})
"""Errors of the HTTP client after which it is certain that nothing was sent. Known by name, since only the library imports the client."""

_ODD: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What the library raises for an answer of another shape than Telegram's: something in between gave it."""

_GONE = ("message to edit not found", "message can't be edited", "message_id_invalid")
_NO_TOPIC = ("message thread not found", "topic_closed", "topic closed", "topic_deleted")
_NOT_NOW = ("chat not found", "not enough rights", "have no rights", "chat_write_forbidden", "kicked", "deactivated", "upgraded to a supergroup")


class Tapped(NamedTuple):
    """Somebody tapped a button. `name` is what they call themselves."""

    update: int
    chat: int
    topic_id: int | None
    user: int
    name: str
    data: str
    answer_to: str


class Said(NamedTuple):
    """Somebody wrote something."""

    update: int
    chat: int
    topic_id: int | None
    user: int
    name: str
    text: str


class Other(NamedTuple):
    """Something that is no business of ours."""

    update: int


Incoming = Tapped | Said | Other


class UpdatesError(Exception):
    """Taps and commands cannot be fetched now. `is_final`: nor later, until somebody does something about it."""

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Telegram:
    """A bot. Raises SettingsError, which never shows the token, where that cannot be one."""

    def __init__(self, token: str, base_url: str) -> None:
        if not _TOKEN.fullmatch(token):
            raise SettingsError("AGENTWATCH_TELEGRAM_TOKEN: not a bot's token", hint="it looks like 123456789:AAF… and comes from @BotFather")
        self._token = token
        self.number = token.partition(":")[0]
        """The bot's own id, which is no secret."""
        hide(token)
        self._bot = Bot(
            token,
            base_url=f"{base_url.rstrip('/').removesuffix('/bot')}/bot" if base_url else BASE_URL,
            request=HTTPXRequest(connection_pool_size=4, read_timeout=ANSWER_S, write_timeout=ANSWER_S, connect_timeout=CONNECT_S, pool_timeout=CONNECT_S),
            get_updates_request=HTTPXRequest(connection_pool_size=1, read_timeout=ANSWER_S, connect_timeout=CONNECT_S, pool_timeout=CONNECT_S),
        )

    async def close(self) -> None:
        """Let go of connections."""
        for request in (self._bot.request, self._bot._request[0]):  # noqa: SLF001  # the one for updates has no other name
            await request.shutdown()

    async def name(self) -> str | None:
        """What the bot is called; None where that cannot be asked now."""
        try:
            return f"@{(await self._bot.get_me()).username}"
        except (TelegramError, *_ODD):
            return None

    async def deliver(self, job: Job) -> Outcome:
        """Send or edit once; where its marks are not understood once more as plain text, and without a topic that is gone."""
        return await self.send(job.target.chat, job.target.topic_id, job.lines, job.keyboard, job.remote, is_silent=job.is_silent, document=job.document)

    async def send(
        self,
        chat: int,
        topic_id: int | None,
        lines: list[Line],
        keyboard: Keyboard = (),
        remote: str | None = None,
        *,
        is_silent: bool = False,
        document: Path | None = None,
    ) -> Outcome:
        """As `deliver`, for what is in no outbox."""
        attached = _content(document)
        for is_plain in (False, True):
            try:
                if attached is not None and document is not None and not is_plain:
                    return Delivered(await self._upload(chat, topic_id, lines, document.name, attached, is_silent=is_silent))
                return Delivered(await self._request(chat, topic_id, lines, keyboard, remote, is_silent=is_silent, is_plain=is_plain))
            except BadRequest as error:
                outcome = self._bad_request(error, remote)
                if isinstance(outcome, Refused) and topic_id is not None and _is_one_of(error, _NO_TOPIC):
                    note = line(f"(sent here because topic {topic_id} is gone or closed)")
                    return await self.send(chat, None, [*lines, note], keyboard, remote, is_silent=is_silent, document=document)
                if is_plain or not isinstance(outcome, Refused):
                    return outcome
            except TelegramError as error:
                return self._outcome(error)
            except _ODD:
                return Unsure("the answer is none of Telegram's")
        raise AssertionError

    async def _request(
        self, chat: int, topic_id: int | None, lines: list[Line], keyboard: Keyboard, remote: str | None, *, is_silent: bool, is_plain: bool
    ) -> str:
        common: dict[str, Any] = {
            "chat_id": chat,
            "text": as_text(lines) if is_plain else as_html(lines),
            "parse_mode": None if is_plain else ParseMode.HTML,
            # A preview would have Telegram fetch an address that somebody planted in a log.
            "link_preview_options": LinkPreviewOptions(is_disabled=True),
            "reply_markup": None if is_plain else _markup(keyboard),
        }
        if remote is not None:
            await self._bot.edit_message_text(message_id=int(remote), **common)
            return remote
        sent = await self._bot.send_message(message_thread_id=_thread(topic_id), disable_notification=is_silent, **common)
        return str(sent.message_id)

    async def _upload(self, chat: int, topic_id: int | None, lines: list[Line], name: str, content: bytes, *, is_silent: bool) -> str:
        """A file with the lines below it: one message, so that both arrive or neither."""
        sent = await self._bot.send_document(
            chat,
            content,
            caption=as_html(lines, MOST_CAPTION_UNITS),
            parse_mode=ParseMode.HTML,
            filename=name,
            message_thread_id=_thread(topic_id),
            disable_notification=is_silent,
        )
        return str(sent.message_id)

    def _bad_request(self, error: BadRequest, remote: str | None) -> Outcome:
        if _is_one_of(error, ("message is not modified",)):
            return Delivered(remote)
        if _is_one_of(error, _GONE):
            return Gone()
        return Blocked(self._said(error)) if _is_one_of(error, _NOT_NOW) else Refused(self._said(error))

    def _outcome(self, error: TelegramError) -> Outcome:
        match error:
            case RetryAfter():
                asked = error.retry_after
                wait_s = float(asked) if isinstance(asked, int | float) else asked.total_seconds()
                return NotSent(f"asked to wait {wait_s:g} s", wait_s)
            case ChatMigrated():
                return Moved(error.new_chat_id)
            case InvalidToken():
                return Blocked("the bot's token is refused")
            case Forbidden():
                return Blocked(self._said(error))
            case NetworkError() if type(error.__cause__).__name__ in _NEVER_LEFT:
                return NotSent(self._said(error))
        return Unsure(self._said(error))

    async def updates(self, offset: int) -> list[Incoming]:
        """What happened since, from `offset` on; waits up to half a minute for it. Raises UpdatesError."""
        try:
            found = await self._bot.get_updates(offset=offset, timeout=POLL_S, allowed_updates=[Update.MESSAGE, Update.CALLBACK_QUERY])
        except InvalidToken:
            raise UpdatesError("the bot's token is refused", is_final=True) from None
        except Conflict:
            raise UpdatesError("another program fetches them: one bot serves one notifier with `telegram.polling`", is_final=True) from None
        except TelegramError as error:
            raise UpdatesError(self._said(error), is_final=False) from None
        except _ODD:
            raise UpdatesError("the answer is none of Telegram's", is_final=False) from None
        return [_incoming(update) for update in found]

    async def answer(self, tapped: Tapped, text: str) -> None:
        """What is shown for a moment above the chat. Not said where that fails."""
        with contextlib.suppress(TelegramError, *_ODD):
            await self._bot.answer_callback_query(tapped.answer_to, text[:MOST_ANSWER_CHARS])

    def _said(self, error: Exception) -> str:
        """An error's text, without the token."""
        return safe(f"{type(error).__name__}: {error}".replace(self._token, "[token]"), 200)


def hide(token: str) -> None:
    """Have no library log the addresses that hold the token, at any level, nor what it raises as well."""
    hidden = _Hidden(token)
    # The HTTP client logs every address at INFO.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # What goes wrong is ours to tell, in one line; the library would add a traceback for each answer that is no JSON.
    logging.getLogger("telegram").setLevel(logging.CRITICAL)
    for name in ("httpx", "httpcore", "telegram"):
        logging.getLogger(name).addFilter(hidden)
    for handler in (*logging.getLogger().handlers, logging.lastResort):
        if handler is not None:
            handler.addFilter(hidden)


class _Hidden(logging.Filter):
    """Takes the token out of whatever is logged."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._secret = token

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if self._secret in text:
            record.msg, record.args = text.replace(self._secret, "[token]"), ()
        return True


def _content(document: Path | None) -> bytes | None:
    """The file; None where there is none, or one that is larger than Telegram takes."""
    try:
        return document.read_bytes() if document is not None and document.stat().st_size <= MOST_DOCUMENT_BYTES else None
    except OSError:
        return None


def _is_one_of(error: Exception, texts: tuple[str, ...]) -> bool:
    said = str(error).lower()
    return any(text in said for text in texts)


def _markup(keyboard: Keyboard) -> InlineKeyboardMarkup | None:
    return InlineKeyboardMarkup([[InlineKeyboardButton(one.label, callback_data=one.data) for one in row] for row in keyboard]) if keyboard else None


def _incoming(update: Update) -> Incoming:
    query, message = update.callback_query, update.message
    if query is not None and isinstance(query.message, Message) and query.data is not None:
        at = query.message
        return Tapped(update.update_id, at.chat.id, _topic(at), query.from_user.id, _name(query.from_user), query.data, query.id)
    if message is not None and message.from_user is not None and message.text:
        return Said(update.update_id, message.chat.id, _topic(message), message.from_user.id, _name(message.from_user), message.text)
    return Other(update.update_id)


def _thread(topic_id: int | None) -> int | None:
    """How a topic is named to the server, which knows no thread of the general one's number."""
    return None if topic_id == GENERAL else topic_id


def _topic(message: Message) -> int | None:
    """The topic that it stands in. A reply elsewhere has the number of a thread, too, to which nothing can be sent."""
    return message.message_thread_id if message.is_topic_message else None


def _name(user: Any) -> str:
    return safe(str(user.first_name or user.username or user.id), 40)
