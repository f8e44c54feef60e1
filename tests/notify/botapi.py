"""A Bot API on loopback, as strict as the real one where that matters, and as unreliable as one likes.

Methods: getMe, sendMessage, sendDocument, editMessageText, answerCallbackQuery, getUpdates (long polls, offsets, 409 for a second poller). It reads Telegram's
HTML, counts UTF-16 units, knows topics, and answers each request with the fault that stands next in `faults` or that `choose` draws.
"""

import json
import re
import threading
import time
from collections import deque
from email.parser import BytesParser
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

TOKEN = "123456789:AAFakeTokenForTheBotOfOurTests_0123456"  # noqa: S105  # nobody's

OK, CUT, LOST, SLOW, ERROR, GATEWAY, PORTAL, FLOOD, BAD, BLOCKED = "ok", "cut", "lost", "slow", "500", "502", "portal", "429", "400", "403"
"""CUT: the connection is cut before the message is accepted, LOST: after it. SLOW: accepted, and answered so late that nobody waits any more. GATEWAY: accepted, and lost behind a proxy.
PORTAL: not accepted, but answered with 200 by something in between."""

_TAG = re.compile(r"<(/?)([a-z]+)>")
_ENTITY = re.compile(r"&(?!(?:lt|gt|amp|quot|#\d+);)")
_TAGS = {"b", "i", "u", "s", "code", "pre"}


def units(text):
    return len(text.encode("utf-16-le")) // 2


def plain(text):
    """What a phone shows of Telegram's HTML. Raises ValueError as the real one refuses it."""
    opened = []
    for found in _TAG.finditer(text):
        if found[2] not in _TAGS:
            raise ValueError(f"unsupported start tag {found[2]}")
        if not found[1]:
            opened.append(found[2])
        elif not opened or opened.pop() != found[2]:
            raise ValueError("unexpected end tag")
    if opened:
        raise ValueError(f"can't find end tag {opened[-1]}")
    rest = _TAG.sub("", text)
    if "<" in rest:
        raise ValueError("unsupported start tag")
    return unescape(rest)


class RefusalError(Exception):
    def __init__(self, code, description, **parameters):
        super().__init__(description)
        self.code, self.description, self.parameters = code, description, parameters


class BotApi:
    """The server. `messages` are those that stand in chats: dicts with chat, id, text (plain), html, edits, keyboard, at."""

    def __init__(self, port=0):
        self.messages = []
        self.requests = []
        self.faults = deque()
        self.choose = lambda: OK
        self.retry_after = 1
        self.slow_s = 0.0
        self.topics = set()
        self.tokens = {TOKEN}
        self.moved = {}
        self.updates = []
        self.answers = []
        self.lock = threading.RLock()
        self.news = threading.Condition(self.lock)
        self.polling = 0
        self.closing = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                outer.handle(self)

            def log_message(self, *arguments):
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, address):
                """A client that was killed is no news."""

        self.server = Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/bot"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self):
        with self.lock:
            self.closing = True
            self.news.notify_all()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

    def handle(self, handler):
        at = time.time()
        if self.closing:
            return _cut(handler)
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        token, _, method = handler.path.removeprefix("/bot").partition("/")
        values = _values(handler.headers.get("content-type", ""), body)
        try:
            _check(token, self.tokens)
            if method == "getUpdates":
                return _answer(handler, 200, {"ok": True, "result": self._get_updates(values)})
            if method not in ("sendMessage", "sendDocument", "editMessageText"):
                return _answer(handler, 200, {"ok": True, "result": self._other(method, values)})
            with self.lock:
                self.requests.append((at, method, values))
                fault = self.faults.popleft() if self.faults else self.choose()
            if fault == CUT:
                return _cut(handler)
            if fault == PORTAL:
                return _answer(handler, 200, {"login": "please"})
            self._refuse(fault)
            with self.lock:
                result = self._edit(values) if method == "editMessageText" else self._send(values)
            if fault == LOST:
                return _cut(handler)
            if fault == GATEWAY:
                return _answer(handler, 502, None)
            if fault == SLOW:
                time.sleep(self.slow_s)
            _answer(handler, 200, {"ok": True, "result": result})
        except RefusalError as refusal:
            content = {"ok": False, "error_code": refusal.code, "description": refusal.description}
            _answer(handler, refusal.code, {**content, **({"parameters": refusal.parameters} if refusal.parameters else {})})
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True

    def _refuse(self, fault):
        if fault == FLOOD:
            raise RefusalError(429, f"Too Many Requests: retry after {self.retry_after}", retry_after=self.retry_after)
        if fault == ERROR:
            raise RefusalError(500, "Internal Server Error")
        if fault == BAD:
            raise RefusalError(400, "Bad Request: BUTTON_DATA_INVALID")
        if fault == BLOCKED:
            raise RefusalError(403, "Forbidden: bot was blocked by the user")

    def _text(self, values):
        text = values.get("caption" if "document" in values else "text")
        if not isinstance(text, str):
            text = json.dumps(text) if text is not None else ""
        if values.get("parse_mode") == "HTML":
            try:
                shown = plain(text)
            except ValueError as error:
                raise RefusalError(400, f"Bad Request: can't parse entities: {error}") from None
        else:
            shown = text
        if not shown.strip():
            raise RefusalError(400, "Bad Request: message text is empty")
        if units(shown) > (1024 if "document" in values else 4096):
            raise RefusalError(400, "Bad Request: message is too long")
        for row in (values.get("reply_markup") or {}).get("inline_keyboard", ()):
            for button in row:
                if not 1 <= len(button["callback_data"].encode()) <= 64:
                    raise RefusalError(400, "Bad Request: BUTTON_DATA_INVALID")
        return shown

    def _send(self, values):
        chat = int(values["chat_id"])
        if chat in self.moved:
            raise RefusalError(400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=self.moved[chat])
        topic = values.get("message_thread_id")
        if topic is not None and int(topic) not in self.topics:
            raise RefusalError(400, "Bad Request: message thread not found")
        shown = self._text(values)
        message = {
            "chat": chat,
            "topic": topic,
            "id": len(self.messages) + 1,
            "text": shown,
            "html": values.get("text"),
            "document": values.get("document"),
            "at": time.time(),
            "edits": [],
            "keyboard": (values.get("reply_markup") or {}).get("inline_keyboard"),
            "is_silent": bool(values.get("disable_notification")),
        }
        self.messages.append(message)
        self.news.notify_all()
        return _as_result(message)

    def _edit(self, values):
        message = next((one for one in self.messages if one["id"] == int(values["message_id"]) and one["chat"] == int(values["chat_id"])), None)
        if message is None or message.get("is_deleted"):
            raise RefusalError(400, "Bad Request: message to edit not found")
        shown, keyboard = self._text(values), (values.get("reply_markup") or {}).get("inline_keyboard")
        if (shown, keyboard) == (message["text"], message["keyboard"]):
            raise RefusalError(400, "Bad Request: message is not modified: specified new message content and reply markup are exactly the same")
        message["edits"].append(message["text"])
        message.update(text=shown, keyboard=keyboard, html=values.get("text"))
        self.news.notify_all()
        return _as_result(message)

    def _other(self, method, values):
        if method == "getMe":
            return {"id": int(TOKEN.split(":", maxsplit=1)[0]), "is_bot": True, "first_name": "agentwatch", "username": "agentwatch_test_bot"}
        if method == "answerCallbackQuery":
            with self.lock:
                self.answers.append(values.get("text", ""))
                self.news.notify_all()
            return True
        raise RefusalError(404, "Not Found")

    def _get_updates(self, values):
        offset, until = int(values.get("offset") or 0), time.time() + min(float(values.get("timeout") or 0), 2)
        with self.lock:
            if self.polling:
                raise RefusalError(409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running")
            self.polling += 1
            try:
                self.updates = [one for one in self.updates if one["update_id"] >= offset]
                while not self.updates and not self.closing and (left := until - time.time()) > 0:
                    self.news.wait(min(left, 0.05))
                return self.updates
            finally:
                self.polling -= 1

    # ---------------------------------------------------------------------------------------------------- what people do

    def tap(self, message, label, user=7, data=None, chat=None, *, is_old=False):
        """Somebody taps the button of that label, or one that they made up. Of an old message the server says no more than where it is."""
        keys = {key["text"]: key["callback_data"] for row in message["keyboard"] or () for key in row}
        found = data if data is not None else next(value for text, value in keys.items() if label in text)
        at = {**_as_result(message), **({"chat": _chat(chat)} if chat is not None else {})}
        at = {"chat": at["chat"], "message_id": at["message_id"], "date": 0} if is_old else at
        query = {"id": "1", "from": _user(user), "chat_instance": "1", "message": at, "data": found}
        self._update(callback_query=query)

    def say(self, text, chat=7, user=7, **more):
        """Somebody writes to the bot."""
        self._update(message={"message_id": 1, "date": int(time.time()), "chat": _chat(chat), "from": _user(user), "text": text, **more})

    def _update(self, **what):
        with self.lock:
            number = getattr(self, "_number", 1000) + 1
            self._number = number
            self.updates.append({"update_id": number, **what})
            self.news.notify_all()

    def wait(self, condition, timeout=20.0):
        """Until it holds; what it gave."""
        until = time.time() + timeout
        with self.lock:
            while not (found := condition()):
                if time.time() > until:
                    raise AssertionError(f"not within {timeout} s; messages: {[one['text'] for one in self.messages][-5:]}")
                self.news.wait(0.05)
            return found


def _check(token, tokens):
    if token not in tokens:
        raise RefusalError(401, "Unauthorized")


def _values(kind, body):
    """The fields of a request; a file is its name and content."""
    if not kind.startswith("multipart/"):
        return {name: _value(text) for name, text in parse_qsl(body.decode(), keep_blank_values=True)}
    parts = {}
    for part in BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body).get_payload():
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        parts[name] = (part.get_filename(), content) if part.get_filename() else _value(content.decode())
    for name, value in parts.items():
        if isinstance(value, str) and value.startswith("attach://"):
            parts[name] = parts[value.removeprefix("attach://")]
    return parts


def _value(text):
    try:
        return json.loads(text) if text[:1] in "[{" else text
    except ValueError:
        return text


def _user(user):
    return {"id": user, "is_bot": False, "first_name": f"User{user}"}


def _chat(chat):
    return {"id": chat, "type": "private"} if chat > 0 else {"id": chat, "type": "supergroup", "title": "group"}


def _as_result(message):
    return {"message_id": message["id"], "date": int(message["at"]), "chat": _chat(message["chat"]), "text": message["text"]}


def _answer(handler, code, content):
    body = json.dumps(content).encode() if content is not None else b"<html>Bad Gateway</html>"
    handler.send_response(code)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _cut(handler):
    handler.close_connection = True
    handler.connection.close()
