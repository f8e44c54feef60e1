"""`agentwatch doctor --online`: real servers on loopback, and none at all."""

import socket
import sys
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "notify"))

from botapi import TOKEN, BotApi

KEY = "sk-test-of-nobody-0123456789"


@pytest.fixture
def api():
    """A Bot API."""
    server = BotApi()
    yield server
    server.close()


class Models(BaseHTTPRequestHandler):
    """What an OpenAI-compatible server says of its models."""

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers["Authorization"]))
        status = server.status if self.headers["Authorization"] == f"Bearer {KEY}" else 401
        self.send_response_only(status)
        self.send_header("Date", server.date or formatdate(usegmt=True))
        self.send_header("Location", server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def models():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Models)
    server.asked, server.status, server.date, server.location = [], 200, None, ""
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def checks(place, **environ):
    done = place.run("doctor", "--online", "--json", **environ)
    assert "Traceback" not in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    found = {}
    for check in orjson.loads(done.stdout)["checks"]:
        found.setdefault(check["name"], []).append(check)
    return done.returncode, found


@pytest.fixture
def nowhere():
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_bot_that_is_known_is_named(place, api):
    """Who it is, asked once; no message is sent."""
    environ = {"AGENTWATCH_TELEGRAM_TOKEN": TOKEN, "AGENTWATCH_TELEGRAM_CHATS": "7", "AGENTWATCH_TELEGRAM_BASE_URL": api.url}
    code, found = checks(place, **environ)
    assert (code, found["telegram"][0]["state"]) == (0, "ok")
    assert "@" in found["telegram"][0]["found"]
    assert api.messages == []


def test_a_wrong_token_is_broken(place, api):
    """The server answers, but not to this bot."""
    environ = {"AGENTWATCH_TELEGRAM_TOKEN": "1:nobody", "AGENTWATCH_TELEGRAM_CHATS": "7", "AGENTWATCH_TELEGRAM_BASE_URL": api.url}
    code, found = checks(place, **environ)
    assert (code, found["telegram"][0]["state"]) == (1, "broken")
    assert "BotFather" in found["telegram"][0]["remedy"]


def test_what_cannot_be_reached_is_broken_with_its_reason(place, nowhere):
    """Telegram, and the web address."""
    environ = {
        "AGENTWATCH_TELEGRAM_TOKEN": TOKEN,
        "AGENTWATCH_TELEGRAM_CHATS": "7",
        "AGENTWATCH_TELEGRAM_BASE_URL": f"{nowhere}/bot",
        "AGENTWATCH_WEBHOOK_URL": f"{nowhere}/hook",
    }
    code, found = checks(place, **environ)
    assert code == 1
    for name in ("telegram", "webhook"):
        assert found[name][0]["state"] == "broken"
        assert "Connection refused" in found[name][0]["found"]


def test_a_web_address_that_takes_connections_is_reached(place, models):
    """No request is made of it: a post would be an alert."""
    _, found = checks(place, AGENTWATCH_WEBHOOK_URL=models.url)
    assert found["webhook"][0]["state"] == "ok"
    assert models.asked == []


def test_a_key_is_tried_with_a_question_that_costs_nothing(place, models):
    """The list of models; and the clock is compared on the way."""
    code, found = checks(place, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=models.url)
    assert (code, found["openai"][0]["state"]) == (0, "ok")
    assert models.asked == [("/v1/models", f"Bearer {KEY}")]
    assert "agrees" in found["clock"][1]["found"]


def test_a_refused_key_is_broken(place, models):
    """Whoever asks a question would get no answer."""
    models.status = 403
    code, found = checks(place, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=models.url)
    assert (code, found["openai"][0]["state"]) == (1, "broken")


def test_a_key_follows_no_redirect(place, models):
    """It is for the address that was named."""
    models.status, models.location = 302, f"{models.url}/elsewhere"
    checks(place, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=models.url)
    assert len(models.asked) == 1


def test_a_clock_that_is_wrong_is_told(place, models):
    """By the date that the other side says."""
    models.date = "Mon, 09 Feb 2026 08:00:00 GMT"
    _, found = checks(place, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=models.url)
    assert found["clock"][1]["state"] == "warning"
    assert "timedatectl" in found["clock"][1]["remedy"]


def test_a_model_that_cannot_be_reached_is_a_warning(place, nowhere):
    """Questions are answered without it."""
    code, found = checks(place, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=nowhere)
    assert (code, found["openai"][0]["state"]) == (0, "warning")


def test_nobody_is_asked_where_nothing_is_configured(place):
    """An offline machine is in order."""
    code, found = checks(place)
    assert code == 0
    assert {"telegram", "webhook"} & found.keys() == set()
