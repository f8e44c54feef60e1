"""A model on loopback that says what a script tells it to: Anthropic's Messages and OpenAI's Responses, streamed. Knows nothing of any agent's logs.

Both are as the pinned agents ask for them. What an agent asks beside its work (a title, a count of tokens) gets a short answer and is no part of the script.
"""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

LONGEST_SILENCE_S = 120.0
"""A model that never answers lets go after this long even if nobody closes it."""


@dataclass(frozen=True)
class Run:
    """Asks for a shell command."""

    command: str


@dataclass(frozen=True)
class Say:
    """A final answer."""

    text: str


@dataclass(frozen=True)
class Refuse:
    """An HTTP error instead of an answer."""

    status: int


@dataclass(frozen=True)
class Hang:
    """No answer at all: the connection stays open and silent."""


Reply = Run | Say | Refuse | Hang
Script = Callable[[int, int], Reply]
"""What is replied to a request that has so many results of calls in it, and that so many requests came before."""

Frames = Iterator[tuple[str, dict[str, Any]]]


class ModelServer:
    """Serves `script` on a port of its own until it is left. `requests` counts what was part of the script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests = 0
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.model = self  # type: ignore[attr-defined]  # the handler is made by the server and knows nobody else
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        speak = DIALECTS.get(self.path.partition("?")[0])
        if speak is None:
            self._send(HTTPStatus.NOT_FOUND, "application/json", b'{"error":{"type":"not_found_error","message":"no such address"}}')
            return
        self._reply(request, speak)

    def do_GET(self) -> None:
        self._send(HTTPStatus.NOT_FOUND, "application/json", b"{}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _reply(self, request: dict[str, Any], speak: Callable[[dict[str, Any], Reply], Frames]) -> None:
        model: ModelServer = self.server.model  # type: ignore[attr-defined]
        reply: Reply = Say("agents")
        if request.get("tools"):
            reply = model.script(results_in(request), model.requests)
            model.requests += 1
        match reply:
            case Refuse(status):
                said = {"type": "error", "error": {"type": "overloaded_error", "code": "server_error", "message": "Overloaded"}}
                self._send(status, "application/json", json.dumps(said).encode())
            case Hang():
                model.closing.wait(LONGEST_SILENCE_S)
                self.close_connection = True
            case _:
                frames = (f"event: {name}\ndata: {json.dumps({'type': name} | data)}\n\n" for name, data in speak(request, reply))
                self._send(HTTPStatus.OK, "text/event-stream", "".join(frames).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the name that the library calls it by
        """Nobody reads it."""


def results_in(request: dict[str, Any]) -> int:
    """How many results of calls a request has in it, in either dialect."""
    blocks = [block for message in request.get("messages", ()) if isinstance(message["content"], list) for block in message["content"]]
    items = request.get("input", ())
    return sum(block["type"] == "tool_result" for block in blocks) + sum(item.get("type") == "function_call_output" for item in items)


def messages(request: dict[str, Any], reply: Reply) -> Frames:
    """One streamed answer of Anthropic's Messages API."""
    number = results_in(request)
    block, delta, stop = {
        Run: lambda one: ({"type": "tool_use", "id": f"toolu_{number:04}", "name": "Bash", "input": {}}, _json_delta(one.command), "tool_use"),
        Say: lambda one: ({"type": "text", "text": ""}, {"type": "text_delta", "text": one.text}, "end_turn"),
    }[type(reply)](reply)
    usage = {"input_tokens": 100, "output_tokens": 1, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    about = {"id": f"msg_{number:04}", "type": "message", "role": "assistant", "model": request["model"], "content": [], "usage": usage}
    yield "message_start", {"message": about | {"stop_reason": None, "stop_sequence": None}}
    yield "content_block_start", {"index": 0, "content_block": block}
    yield "content_block_delta", {"index": 0, "delta": delta}
    yield "content_block_stop", {"index": 0}
    yield "message_delta", {"delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 20}}
    yield "message_stop", {}


def _json_delta(command: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": json.dumps({"command": command, "description": "Run it"})}


def responses(request: dict[str, Any], reply: Reply) -> Frames:
    """One streamed answer of OpenAI's Responses API."""
    number = results_in(request)
    item: dict[str, Any] = {
        Run: lambda one: {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", **_shell(request, one.command)},
        Say: lambda one: {
            "type": "message",
            "id": f"msg_{number}",
            "role": "assistant",
            "content": [{"type": "output_text", "text": one.text, "annotations": []}],
        },
    }[type(reply)](reply)
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 120,
    }
    about = {"id": f"resp_{number}", "object": "response", "model": request["model"]}
    yield "response.created", {"response": about | {"status": "in_progress", "output": []}}
    yield "response.output_item.done", {"output_index": 0, "item": item | {"status": "completed"}}
    yield "response.completed", {"response": about | {"status": "completed", "output": [item], "usage": usage}}


def _shell(request: dict[str, Any], command: str) -> dict[str, str]:
    """The call of whichever shell the request offers: which one it is depends on the model's name and the platform."""
    offered = {tool.get("name") for tool in request["tools"]}
    if "exec_command" in offered:
        return {"name": "exec_command", "arguments": json.dumps({"cmd": command})}
    return {"name": "shell_command", "arguments": json.dumps({"command": command})}


DIALECTS = {"/v1/messages": messages, "/v1/responses": responses}
