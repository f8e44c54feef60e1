"""Whom we talk to: certificates are looked at, always."""

import shutil
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed, and makes the certificate")


class Anything(BaseHTTPRequestHandler):
    """Answers 200 to whatever it is asked, and remembers that it was."""

    def do_POST(self):
        self.do_GET()

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


@pytest.fixture
def impostor(tmp_path):
    """A server that says it is localhost, and whose certificate nobody has signed but itself."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    subprocess.run(command, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Anything)
    server.asked = []
    server.handle_error = lambda *_: None
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"AGENTWATCH_WEBHOOK_URL": "https://localhost:{port}/hook", "AGENTWATCH_WEBHOOK_ALLOW_PRIVATE": "yes"}, id="webhook"),
        pytest.param(
            {"AGENTWATCH_TELEGRAM_TOKEN": "1:secretsecret", "AGENTWATCH_TELEGRAM_CHATS": "7", "AGENTWATCH_TELEGRAM_BASE_URL": "https://localhost:{port}/bot"},
            id="Telegram",
        ),
        pytest.param({"OPENAI_API_KEY": "sk-nobody", "OPENAI_BASE_URL": "https://localhost:{port}/v1"}, id="language model"),
    ],
)
def test_an_impostor_gets_nothing(tmp_path, impostor, environ):
    """Not the alert, not the token, not the key: `--online` and `--send-test` say why."""
    given = {name: value.format(port=impostor.server_port) for name, value in environ.items()}
    options = ["--online"] if "OPENAI_API_KEY" in given else ["--online", "--send-test"]
    command = [sys.executable, "-m", "agentwatch", "doctor", "--json", *options]
    paths = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env={**paths, **given}, capture_output=True, text=True, timeout=60, check=False)
    told = [
        check
        for check in orjson.loads(done.stdout)["checks"]
        if check["name"] in ("webhook", "telegram", "openai", "test message") and "no key" not in check["found"]
    ]
    assert told, done.stderr
    assert [check for check in told if check["state"] == "ok"] == []
    assert any("certificate" in check["found"].lower() for check in told)
    assert impostor.asked == []
