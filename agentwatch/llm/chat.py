"""Asks a model on any OpenAI-compatible server, and gives on what it says as it says it. The one file that imports the OpenAI SDK.

Chat Completions, because that is what every such server speaks. Nothing is tried again: what was sent may have been paid for, and a budget
counts every request. Redirects are not followed: the logs go to the server that was named, or nowhere.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import msgspec
import openai

from agentwatch.core.asking.account import End, Used
from agentwatch.core.asking.prompt import LIMIT_NAMES, OPENAI_URL
from agentwatch.core.text import safe
from agentwatch.errors import ModelError

CONNECT_S = 5.0
MOST_BYTES = 4 << 20
"""Of an answer that does not come as a stream."""


class Chat:
    """One server. Close it at the end. `base_url` is empty for OpenAI's own. Raises ModelError for one that nobody could ask."""

    def __init__(self, base_url: str, key: str, timeout_s: float) -> None:
        timeout = httpx2.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        self._timeout_s = timeout_s
        try:
            client = openai.OpenAI(
                api_key=key,
                base_url=base_url or OPENAI_URL,
                max_retries=0,
                timeout=timeout,
                http_client=openai.DefaultHttpx2Client(follow_redirects=False, timeout=timeout),
            )
        except (httpx2.InvalidURL, openai.OpenAIError, OSError, ValueError) as error:
            # The address, a proxy's in the environment, or certificates that are not where it says.
            raise ModelError(f"the server cannot be asked: {safe(str(error), 120)}", is_free=True) from error
        # Asked for now, because the SDK imports what it needs for it only then: a tenth of a second that is not the model's.
        self._create, self._close = client.chat.completions.with_raw_response.create, client.close

    def answer(self, body: dict[str, Any]) -> Iterator[str | End]:
        """The pieces of the answer to a request, and at last how it ended.

        Raises ModelError where the server cannot be reached, refuses, breaks off, sends what is no answer, or is not done in time. Whoever has
        read enough closes the iterator.
        """
        request = _Request(self._create, body)
        deadline = time.monotonic() + self._timeout_s
        try:
            while True:
                try:
                    said = request.said.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    raise ModelError(f"the model was not done after {self._timeout_s:g} s") from None
                if isinstance(said, ModelError):
                    raise said
                yield said
                if isinstance(said, End):
                    return
        finally:
            request.stop()

    def close(self) -> None:
        self._close()


class _Request:
    """A request in a thread of its own: neither a name server nor one that sends a byte a second can hold up who asks."""

    def __init__(self, create: Callable[..., Any], body: dict[str, Any]) -> None:
        self.said: queue.SimpleQueue[str | End | ModelError] = queue.SimpleQueue()
        self._create = create
        self._response: httpx2.Response | None = None
        self._is_over = threading.Event()
        threading.Thread(target=self._run, args=(body,), daemon=True).start()

    def stop(self) -> None:
        """Nothing more is wanted."""
        self._is_over.set()
        if self._response is not None:
            with contextlib.suppress(Exception):  # it may be read at this moment, and whatever comes of that is not wanted either
                self._response.close()

    def _run(self, body: dict[str, Any]) -> None:
        try:
            for said in self._pieces(body):
                if self._is_over.is_set():
                    return
                self.said.put(said)
        except ModelError as error:
            self.said.put(error)
        except Exception as error:  # noqa: BLE001  # what a server sends can make the SDK fail in any way; who asks is told, and goes on
            self.said.put(_translated(error))

    def _pieces(self, body: dict[str, Any]) -> Iterator[str | End]:
        raw = self._opened(body)
        self._response = raw.http_response
        if "json" in raw.headers.get("content-type", ""):
            yield from _whole(raw.http_response)
            return
        reason, usage = "", None
        for chunk in raw.parse():
            usage = _usage(getattr(chunk, "usage", None)) or usage
            for choice in getattr(chunk, "choices", None) or ():
                text = getattr(choice.delta, "content", None) or getattr(choice.delta, "refusal", None)
                if isinstance(text, str):
                    yield text
                reason = choice.finish_reason or reason
        if not reason:
            raise ModelError("the answer broke off")
        yield End(str(reason), usage)

    def _opened(self, body: dict[str, Any]) -> Any:
        """The response, with its parameters changed once each where the server says that it does not know them."""
        for _ in range(3):
            try:
                return self._create(**body)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                changed = _without_what_is_refused(body, _message(error))
                if changed == body:
                    raise
                body = changed
        return self._create(**body)


def _without_what_is_refused(body: dict[str, Any], message: str) -> dict[str, Any]:
    body = dict(body)
    if "stream_options" in message:
        body.pop("stream_options", None)
    for name, other in (LIMIT_NAMES, LIMIT_NAMES[::-1]):
        # "Unsupported parameter: 'max_tokens' … Use 'max_completion_tokens' instead" names both.
        refused = message.find(name)
        if name in body and refused >= 0 and not 0 <= message.find(other) < refused:
            body[other] = body.pop(name)
            break
    return body


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: dict[str, Any] | None = None


def _whole(response: httpx2.Response) -> Iterator[str | End]:
    """The answer of a server that does not stream."""
    data = b""
    for piece in response.iter_bytes():
        data += piece
        if len(data) > MOST_BYTES:
            raise ModelError("the answer has no end")
    try:
        completion = msgspec.json.decode(data, type=_Completion)
        choice = completion.choices[0]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IndexError):
        raise ModelError("what the server sent is no answer") from None
    if choice.message.content:
        yield choice.message.content
    yield End(choice.finish_reason or "stop", _usage(completion.usage))


def _usage(told: Any) -> Used | None:
    """The server's figures, if they are any: some tell zeros, or nothing."""
    if told is None:
        return None
    figures = told if isinstance(told, dict) else told.model_dump()
    details = figures.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    prompt, answer = figures.get("prompt_tokens"), figures.get("completion_tokens")
    if not (isinstance(prompt, int) and isinstance(answer, int) and prompt > 0 and answer >= 0):
        return None
    return Used(prompt, answer, cached if isinstance(cached, int) and 0 <= cached <= prompt else 0)


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    told = body.get("message") if isinstance(body, dict) else None
    return told if isinstance(told, str) else error.message


def _translated(error: Exception) -> ModelError:
    if isinstance(error, openai.APIStatusError):
        wait = error.response.headers.get("retry-after", "")
        patience = f"; it asks to wait {wait} s" if wait.isdecimal() and len(wait) < 6 else ""
        return ModelError(f"the server says {error.status_code}: {safe(_message(error), 200)}{patience}", is_free=True)
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
        return ModelError("the server does not answer in time")
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        is_refused = isinstance(cause, httpx2.ConnectError)
        why = f": {safe(str(cause), 120)}" if cause and str(cause) else ""
        return ModelError(f"the server cannot be reached{why}" if is_refused else f"the connection broke{why}", is_free=is_refused)
    if isinstance(error, httpx2.HTTPError):
        return ModelError("the answer broke off")
    if isinstance(error, openai.APIError):
        return ModelError(f"the server says: {safe(str(error.message), 200)}")
    return ModelError(f"what the server sent is no answer ({type(error).__name__})")
