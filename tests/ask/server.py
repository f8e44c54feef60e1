"""An OpenAI-compatible server on loopback that says what a script tells it to, streamed or not, whole or broken. Keeps every request as it came."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Reply:
    """What is said to a request. `usage`: prompt and answer tokens, None for no figures; `reason` None: the stream breaks off before its end.

    `hang_s`: so long nothing is said. `raw`: these bytes, whatever they are, in place of an answer, with `kind` as their type.
    """

    text: str = "All is well."
    usage: tuple[int, int] | None = (100, 10)
    reason: str | None = "stop"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang_s: float = 0.0
    raw: bytes | None = None
    kind: str = "text/event-stream"
    streams: bool = True
    pause_s: float = 0.0
    cuts_off: bool = False


Script = Callable[[dict[str, Any], int], Reply]


class Server:
    """Serves `script`, which is told the request and how many came before, on a port of its own until it is left."""

    def __init__(self, script: Script | Reply | None = None) -> None:
        reply = script or Reply()
        self.script: Script = reply if callable(reply) else lambda _body, _number: reply
        self.requests: list[dict[str, Any]] = []
        self.log: list[bytes] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.model = self  # type: ignore[attr-defined]  # the handler is made by the server and knows nobody else

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def environ(self) -> dict[str, str]:
        """What somebody who asks it has in the environment."""
        return {"OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": "key-of-this-test", "AGENTWATCH_ASK_MODEL": "gpt-5.4-mini"}

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Server = self.server.model  # type: ignore[attr-defined]  # see above
        data = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(data)
        with server.lock:
            number = len(server.requests)
            server.requests.append(body)
            server.log.append(str(self.headers).encode() + data)
        reply = server.script(body, number)
        server.closing.wait(reply.hang_s)
        try:
            self._say(reply)
        except (BrokenPipeError, ConnectionResetError):
            return
        self.close_connection = True

    def _say(self, reply: Reply) -> None:
        if reply.raw is not None:
            self._head(reply, reply.kind)
            self.wfile.write(reply.raw)
        elif reply.status >= 300:
            self._head(reply, "application/json")
            self.wfile.write(json.dumps({"error": {"message": reply.text, "type": "test"}}).encode())
        elif not reply.streams:
            self._head(reply, "application/json")
            choice = {"index": 0, "message": {"role": "assistant", "content": reply.text}, "finish_reason": reply.reason}
            self.wfile.write(json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], **self._usage(reply)}).encode())
        else:
            self._stream(reply)

    def _stream(self, reply: Reply) -> None:
        self._head(reply, "text/event-stream")
        for start in range(0, len(reply.text), 7):
            self._event({"choices": [{"index": 0, "delta": {"content": reply.text[start : start + 7]}, "finish_reason": None}]})
            if reply.pause_s:
                time.sleep(reply.pause_s)
        if reply.cuts_off:
            self.wfile.write(b'data: {"choices": [{"ind')
            return
        if reply.reason is None:
            return
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": reply.reason}]})
        if reply.usage is not None:
            self._event({"choices": [], **self._usage(reply)})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, value: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps({"id": "x", "object": "chat.completion.chunk", "model": "m", **value}).encode() + b"\n\n")
        self.wfile.flush()

    @staticmethod
    def _usage(reply: Reply) -> dict[str, Any]:
        if reply.usage is None:
            return {}
        prompt, answer = reply.usage
        return {"usage": {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}}

    def _head(self, reply: Reply, kind: str) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", kind)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""
