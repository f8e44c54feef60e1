"""Writes what an agent does into the log directory, for orchestrators that have no transcript of their own.

One event is one line, appended by one `write` to the stream, to the attempt's own file and, if it is an error, to the errors
(contract, sections 1 and 2). Files are opened for each line: nothing of them is kept, so that threads, forked children and other
processes share no state, and rotation, deletion and a new directory are met at the next line.

Nothing here raises for what a disk or a value does: what cannot be written is counted in `lost` and told once.
"""

import fcntl
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial, wraps
from itertools import takewhile
from math import isfinite
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from agentwatch.core.categories import category_of
from agentwatch.core.runs import LATEST, RUNS, VARIABLE, is_run_id

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

DEFAULT_DIR = ".cache/agent-work-logs"
STREAM, ERRORS, METRICS, SESSIONS = "agent-work-stream.jsonl", "agent-errors.jsonl", "agent-metrics.jsonl", "agent-sessions"

LONGEST_LINE = 4 << 20
"""Bytes. Half of the daemon's default `logs.max_line_bytes`: a line that it would pass over must not be written in the first place."""

LONGEST_WAIT_MS = 1000
"""For another process that closes a torn line, which takes it the time of one `write`."""

DEEPEST = 128
"""Levels of nesting that are kept. Readers refuse what is deeper than they like (orjson: 254)."""

USAGE = ("input", "output", "cache_read", "cache_write", "reasoning")

_OFF = frozenset({"false", "no", "off", "n", "f", "0"})
_DIR_NAMES = ("AGENTWATCH_LOGS_DIR", "AGENT_WORK_LOG_DIR")
_ENABLED_NAMES = ("AGENTWATCH_LOGS_LOGGING_ENABLED", "AGENT_WORK_LOGGING_ENABLED")

_OF_THE_LOGGER = frozenset({"log_dir", "enabled"})
_OF_THE_EVENT = frozenset({"timestamp", "attempt_id", "event_type", "elapsed_ms", "data"})

_P = ParamSpec("_P")
_R = TypeVar("_R")


class AgentLogger:
    """The log of one attempt. As a context manager it writes the end of the session: `success`, or what the exception was.

    `log_dir` is by default what `AGENT_WORK_LOG_DIR` names, else `.cache/agent-work-logs` below the working directory, as it was
    when the logger was made. `fields` are the optional ones of an event: `session_id`, `task_id`, `task_title`, `task_description`,
    `project_id`, `executor`, `executor_variant`, `model`, `branch`, `base_branch`, `commits_ahead`, `commits_behind`, `run_id` (by
    default `AGENTWATCH_RUN`), `lane`, `tags`; they stand on every line. Where the run has a directory, events go to the stream in it. With `AGENT_WORK_LOGGING_ENABLED=false` nothing is written.

    Money is USD, times are milliseconds, tokens of `input` are those that came from no cache. Methods never raise for what they are
    given or for what the disk says: `lost` counts the lines that could not be written.
    """

    def __init__(self, attempt_id: str | None = None, *, log_dir: str | os.PathLike[str] | None = None, enabled: bool | None = None, **fields: Any) -> None:
        self.attempt_id = attempt_id or f"attempt-{os.urandom(6).hex()}"
        self.enabled = _setting(_ENABLED_NAMES, "true").lower() not in _OFF if enabled is None else enabled
        self.lost = 0
        self._dir = Path(log_dir or _setting(_DIR_NAMES, DEFAULT_DIR)).absolute()
        self._transcript = self._dir / SESSIONS / _file_name(self.attempt_id)
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._name_run(self._fields.get("run_id") or os.environ.get(VARIABLE))
        self._began_s: float | None = None
        self._pid = os.getpid()
        # Locks that are never released: taken by the first of all threads that starts or ends the session, whoever that is.
        self._start_is_due, self._end_is_due = Lock(), Lock()

    @classmethod
    def join(cls, attempt_id: str, **options: Any) -> Self:
        """The logger of an attempt that was started elsewhere: by another process, or by `agentwatch log start`.

        What its session is about is read from its last start. `options` are those of the constructor; they win.
        """
        logger = cls(attempt_id, **options)
        logger._start_is_due.acquire(blocking=False)
        for event in _events(logger._transcript, b'"session_start"') if logger.enabled else ():
            if event.get("event_type") == "session_start":
                told = {name: value for name, value in event.items() if name not in _OF_THE_EVENT and value is not None}
                logger._fields = told | {name: value for name, value in options.items() if name not in _OF_THE_LOGGER and value is not None}
                logger._name_run(logger._fields.get("run_id"))
                with suppress(TypeError, ValueError):
                    since = datetime.now(UTC) - datetime.fromisoformat(event["timestamp"])
                    logger._began_s = time.monotonic() - max(since.total_seconds(), 0.0)
        return logger

    def start(
        self, /, prompt: str | None = None, *, prompt_type: str = "initial", followup_reason: str | None = None, cwd: str | os.PathLike[str] | None = None
    ) -> Self:
        """The session begins. `prompt_type` is initial, followup or retry. Where it is not called, the first event calls it."""
        if self._start_is_due.acquire(blocking=False):
            self._start(prompt, prompt_type, followup_reason, cwd)
        return self

    def output(self, /, text: str, *, stream_type: str = "stdout", stop_reason: str | None = None, **more: Any) -> None:
        """The agent said something. `stop_reason` is the model's own, where it is known."""
        self.event("agent_output", output=text, stream_type=stream_type, stop_reason=stop_reason, **more)

    def thinking(self, /, text: str, **more: Any) -> None:
        """The agent thought aloud."""
        self.event("agent_thinking", thinking=text, **more)

    def tool_call(self, /, tool_name: str, tool_params: object = None, *, tool_call_id: str | None = None, **more: Any) -> str:
        """The agent calls a tool; the id to give to `tool_result`, made up where the agent has none."""
        call_id = tool_call_id or f"call_{os.urandom(8).hex()}"
        self.event("tool_call", tool_name=tool_name, tool_params=tool_params, tool_call_id=call_id, **more)
        return call_id

    def tool_result(
        self,
        /,
        tool_name: str | None = None,
        result: object = None,
        *,
        tool_call_id: str | None = None,
        is_error: bool | None = None,
        exit_code: int | None = None,
        error_message: str | None = None,
        **more: Any,
    ) -> None:
        """A tool has answered. It failed if `is_error` says so; where that is not said, if there is an exit code but 0 or an error message."""
        failed = bool(exit_code) or error_message is not None if is_error is None else is_error
        told = {
            "tool_name": tool_name,
            "tool_call_id": tool_call_id,
            "is_error": failed,
            "exit_code": exit_code,
            "error_message": error_message,
            "result": result,
        }
        self.event("tool_result", **told, **more)

    def error(
        self,
        /,
        message: str | BaseException,
        *,
        fingerprint: str | None = None,
        category: str | None = None,
        stack_trace: str | None = None,
        retry: bool | None = None,
        **more: Any,
    ) -> None:
        """Something failed. Fingerprint and category are made from the message where they are not given, the stack of an exception is its own."""
        if not self.enabled:
            return
        with self._guarded():
            if isinstance(message, BaseException):
                stack_trace = stack_trace or _stack(message)
                message = f"{type(message).__name__}: {_text(message)}"
            text = message if isinstance(message, str) else _text(message)
            told = {"error_message": text, "error_fingerprint": fingerprint or _fingerprint(text), "error_category": category or category_of(text)}
            self.event("error", **told, stack_trace=stack_trace, retry=retry, **more)

    def followup(self, /, prompt: str, *, reason: str | None = None, **more: Any) -> None:
        """The agent was sent another message."""
        self.event("followup_sent", prompt=prompt, followup_reason=reason, **more)

    def usage(
        self,
        /,
        *,
        input: int = 0,  # noqa: A002  # the contract's word
        output: int = 0,
        cache_read: int = 0,
        cache_write: int = 0,
        reasoning: int = 0,
        cost_usd: float | None = None,
        **more: Any,
    ) -> None:
        """What one step took: no running total."""
        tokens = dict(zip(USAGE, (input, output, cache_read, cache_write, reasoning), strict=True))
        self.event("usage", usage=tokens, cost_usd=cost_usd, **more)

    def status_change(self, /, new_status: str, old_status: str | None = None, *, reason: str | None = None, **more: Any) -> None:
        """The orchestrator sees the attempt in another state."""
        self.event("status_change", old_status=old_status, new_status=new_status, reason=reason, **more)

    def end(
        self,
        /,
        completion_status: str = "success",
        *,
        total_tokens: int | None = None,
        cost_usd: float | None = None,
        outcome: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """The session is over: success, failed, timeout or interrupted. Told once: a second call does nothing.

        Tokens and USD of the session, and its errors for the metrics, are summed up from the attempt's file where they are not given.
        """
        if not self.enabled or not self._end_is_due.acquire(blocking=False):
            return
        self.start()
        with self._guarded():
            tally = _tally(self._transcript)
            tokens = tally.tokens if total_tokens is None else total_tokens
            cost = tally.cost_usd if cost_usd is None else cost_usd
            duration_ms = self._elapsed_ms()
            self.event("session_end", completion_status=completion_status, duration_ms=duration_ms, total_tokens=tokens, cost_usd=cost, outcome=outcome, **more)
            status = "completed" if completion_status == "success" else completion_status
            metrics = {
                "duration_ms": duration_ms,
                "total_tokens": tokens,
                "cost_usd": cost,
                "errors": tally.errors,
                "tool_calls": tally.tool_calls,
                "tokens": tally.usage,
            }
            outcome = {"status": status} | (outcome or {})
            told = {
                "metrics": metrics,
                "outcome": outcome,
                "error_summary": tally.error_summary,
                "followups": tally.followups,
                "retries": tally.retries,
                "first_shot": completion_status == "success" and not tally.followups and not tally.retries,
            }
            self._append(
                self._dir / METRICS,
                _line({"timestamp": _now(), "attempt_id": self.attempt_id, **self._fields, **self._scope(), "completion_status": completion_status, **told}),
            )

    def event(self, /, event_type: str, **data: Any) -> None:
        """Any event by its name in the contract, with the fields of its `data`; those that are None are left out."""
        if not self.enabled:
            return
        with self._guarded():
            if event_type != "session_start":
                self.start()
            data = {name: value for name, value in data.items() if value is not None}
            head = {"timestamp": _now(), "attempt_id": self.attempt_id, "event_type": event_type}
            elapsed_ms = self._elapsed_ms()
            line = _line({**head, **self._fields, **({} if elapsed_ms is None else {"elapsed_ms": elapsed_ms}), "data": data})
            self._append(self._dir.joinpath(*self._scope().values(), STREAM), line)
            self._append(self._transcript, line)
            if event_type == "error":
                self._append(self._dir / ERRORS, line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, /, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if os.getpid() != self._pid:  # a forked child that leaves the block is not the session's end
            return
        status = _status_of(error)
        if error is not None and status == "failed":
            self.error(error)
        self.end(status)

    def _name_run(self, run_id: object) -> None:
        """Have the events name their run, if there is one. `latest` is the one that `runs/latest` leads to by now."""
        found = _latest(self._dir) if run_id == LATEST else run_id
        self._fields.pop("run_id", None)
        if found:
            self._fields["run_id"] = found

    def _scope(self) -> dict[str, str]:
        """As the field `scope` of a row, where events go: into the run's directory, as long as there is one."""
        run_id = self._fields.get("run_id")
        if not isinstance(run_id, str) or not is_run_id(run_id):
            return {}
        runs = self._dir / RUNS
        return {"scope": f"{RUNS}/{run_id}"} if all(path.is_dir() and not path.is_symlink() for path in (runs, runs / run_id)) else {}

    def _start(self, prompt: str | None, prompt_type: str, followup_reason: str | None, cwd: str | os.PathLike[str] | None) -> None:
        self._began_s = time.monotonic()
        with self._guarded():
            where = os.fspath(cwd) if cwd is not None else _cwd()
            self.event("session_start", prompt=prompt, prompt_type=prompt_type, followup_reason=followup_reason, cwd=where)

    def _elapsed_ms(self) -> int | None:
        """None where nobody has logged the start."""
        return None if self._began_s is None else int((time.monotonic() - self._began_s) * 1000)

    def _append(self, path: Path, line: bytes) -> None:
        try:
            append(path, line)
        except OSError as error:
            self.lost += 1
            _tell(str(self._dir), error.errno or 0, f"`{path}` cannot be written: {error.strerror}; events are lost, and counted in `lost`")

    def _guarded(self) -> "_Guard":
        return _Guard(self)


class _Guard:
    """The program that logs must not fail for its log: what goes wrong in making a line costs that line."""

    def __init__(self, logger: AgentLogger) -> None:
        self._logger = logger

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if not isinstance(error, Exception):
            return False
        self._logger.lost += 1
        _tell(type(error).__name__, 0, f"an event could not be made into a line: {type(error).__name__}; it is lost, and counted in `lost`")
        return True


class AsyncAgentLogger:
    """An `AgentLogger` whose methods are awaited. A slow disk holds up its own thread, not the loop; lines keep their order."""

    def __init__(self, attempt_id: str | None = None, **options: Any) -> None:
        from concurrent.futures import ThreadPoolExecutor as Pool  # noqa: PLC0415  # 20 ms, for those who run a loop anyway

        self._logger = AgentLogger(attempt_id, **options)
        self._worker: ThreadPoolExecutor = Pool(1, thread_name_prefix="agentwatch-logger")

    @property
    def attempt_id(self) -> str:
        return self._logger.attempt_id

    @property
    def lost(self) -> int:
        return self._logger.lost

    @staticmethod
    def _awaited(method: Callable[Concatenate[AgentLogger, _P], _R]) -> Callable[Concatenate["AsyncAgentLogger", _P], Awaitable[_R]]:
        @wraps(method)
        async def call(self: "AsyncAgentLogger", /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            from asyncio import get_running_loop  # noqa: PLC0415  # loaded, or nobody could await this

            return await get_running_loop().run_in_executor(self._worker, partial(method, self._logger, *args, **kwargs))

        return call

    start = _awaited(AgentLogger.start)
    output = _awaited(AgentLogger.output)
    thinking = _awaited(AgentLogger.thinking)
    tool_call = _awaited(AgentLogger.tool_call)
    tool_result = _awaited(AgentLogger.tool_result)
    error = _awaited(AgentLogger.error)
    followup = _awaited(AgentLogger.followup)
    usage = _awaited(AgentLogger.usage)
    status_change = _awaited(AgentLogger.status_change)
    end = _awaited(AgentLogger.end)
    event = _awaited(AgentLogger.event)
    _exit = _awaited(AgentLogger.__exit__)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._exit(kind, error, trace)


# ------------------------------------------------------------------------------------------------------------------- files


def append(path: Path, line: bytes) -> None:
    """Append `line`, which ends in a newline, as a whole: by one `write`, whatever its length. Raises OSError.

    The kernel orders appending writes to one file of a local file system. What a killed process or a full disk left of a line is
    closed with a newline first, so that it costs nothing but itself. A directory that is gone is made again.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO in its place must not hold us up
    try:
        file = os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        file = os.open(path, flags, 0o600)
    try:
        # Whoever writes holds the shared lock, whoever mends wants it alone: a line that is being written, page after page, looks torn
        # too. The one who mends writes one line, so that nobody waits for long, and nobody waits for one who was stopped meanwhile.
        _share(file)
        if _is_torn(file):
            if _lock(file, fcntl.LOCK_EX) and _is_torn(file):
                line = b"\n" + line
            else:
                _share(file)
        _write(file, line)
    finally:
        os.close(file)


def _write(file: int, line: bytes) -> None:
    rest = line
    while (written := os.write(file, rest)) < len(rest):
        is_last = os.lseek(file, 0, os.SEEK_CUR) == os.fstat(file).st_size
        rest = rest[written:] if is_last else b"\n" + line


def _share(file: int) -> None:
    for _ in range(LONGEST_WAIT_MS):
        if _lock(file, fcntl.LOCK_SH):
            return
        time.sleep(0.001)


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_torn(file: int) -> bool:
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) not in (b"\n", b"")


def _file_name(attempt_id: str) -> str:
    """The attempt's file in `agent-sessions`: its id, or what of it may stand in a name and a digest of all."""
    name = re.sub(r"[^\w.-]", "_", attempt_id)
    if name == attempt_id and len(name.encode()) <= 200 and not name.startswith("."):
        return f"{name}.jsonl"
    from hashlib import blake2b  # noqa: PLC0415  # for names that are odd

    return f"{name.lstrip('.')[:40]}-{blake2b(attempt_id.encode('utf-8', 'replace'), digest_size=4).hexdigest()}.jsonl"


def _setting(names: tuple[str, ...], default: str) -> str:
    return next((value for name in names if (value := os.environ.get(name))), default)


def _latest(directory: Path) -> str | None:
    try:
        return (directory / RUNS / LATEST).readlink().name
    except OSError:
        return None


def _cwd() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:
        return None


# ------------------------------------------------------------------------------------------------------------------- lines


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _line(event: dict[str, Any]) -> bytes:
    """The event as a line of JSON that every reader takes: no NaN, no half of a surrogate pair, nothing deeper or longer than is read."""
    with suppress(ValueError, TypeError, RecursionError):  # UnicodeEncodeError is a ValueError
        line = _encode(event)
        if len(line) <= LONGEST_LINE and line.count(b"[") + line.count(b"{") <= DEEPEST:
            return line
    for budget in (LONGEST_LINE, LONGEST_LINE // 8):  # escaped, a character takes up to 6 bytes
        line = _encode(_fitted(event, budget))
        if len(line) <= LONGEST_LINE:
            break
    return line


def _encode(event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_text).encode() + b"\n"


def _fitted(value: Any, budget: int) -> Any:
    """`value` in JSON's own types, and as much of it as `budget` characters hold; no text takes more than half of them."""
    left = budget

    def cut(text: str) -> str:
        nonlocal left
        most = min(max(left, 0), budget // 2)
        left -= min(len(text), most) + 4
        text = text if len(text) <= most else f"{text[:most]}… [{len(text) - most} characters cut]"
        return text.encode("utf-8", "replace").decode()

    def fit(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 8
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value) if value.bit_length() <= 63 else cut(f"{value:#x}")
        if isinstance(value, float):
            return float(value) if isfinite(value) else _text(value)
        if not isinstance(value, dict | list | tuple | set | frozenset):
            return cut(_text(value))
        if depth >= DEEPEST:
            return "…"
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        kept = [(cut(_text(name)) if isinstance(value, dict) else "", fit(one, depth + 1)) for name, one in takewhile(lambda _: left > 0, entries)]
        if len(kept) < len(value):
            kept.append(("…", f"{len(value) - len(kept)} entries cut"))
        return dict(kept) if isinstance(value, dict) else [one for _, one in kept]

    return fit(value, 0)


def _text(value: object) -> str:
    """A value that JSON has no type for, as its own `str` has it."""
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    try:
        return str(value)
    except Exception:  # noqa: BLE001  # somebody else's `__str__`
        return f"<{type(value).__name__}>"


def _stack(error: BaseException) -> str:
    import traceback  # noqa: PLC0415  # 15 ms, for those who have an exception

    return "".join(traceback.format_exception(error))


def _fingerprint(message: str) -> str:
    from agentwatch.core.signatures import fingerprint  # noqa: PLC0415  # 40 ms, for those who have an error without one

    return fingerprint(message)


def _status_of(error: BaseException | None) -> str:
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "success"
    if isinstance(error, TimeoutError):
        return "timeout"
    is_interrupt = isinstance(error, KeyboardInterrupt | GeneratorExit) or type(error).__name__ == "CancelledError"  # asyncio is not loaded for its name
    return "interrupted" if is_interrupt else "failed"


# ------------------------------------------------------------------------------------------------------------------- sums


_COUNTED = (b'"session_start"', b'"error"', b'"tool_call"', b'"usage"', b'"cost_usd"', b'"followup_sent"', b'"user_message"')
"""One of these stands on every line that adds to the sums."""


class _Tally:
    """What a session came to, by its own file: whoever wrote it, be it another process."""

    def __init__(self) -> None:
        self.errors = self.tool_calls = 0
        self.usage = dict.fromkeys(USAGE, 0)
        self.cost_usd: float | None = None
        self.followups = self.retries = 0
        self._was_asked = False
        self._categories: dict[str, None] = {}
        self._fingerprints: dict[str, None] = {}

    @property
    def tokens(self) -> int:
        return sum(self.usage.values()) - self.usage["reasoning"]

    @property
    def error_summary(self) -> dict[str, Any]:
        return {"total_errors": self.errors, "error_categories": list(self._categories), "error_fingerprints": list(self._fingerprints)}

    def add(self, event: dict[str, Any]) -> None:
        data = event.get("data")
        if not isinstance(data, dict):
            return
        self.tool_calls += event.get("event_type") == "tool_call"
        self._count_prompt(str(event.get("event_type")), data)
        if event.get("event_type") == "error":
            self.errors += 1
            for names, key in ((self._categories, "error_category"), (self._fingerprints, "error_fingerprint")):
                if isinstance(data.get(key), str):
                    names[data[key]] = None
        usage = data.get("usage")
        if isinstance(usage, dict):
            for kind in USAGE:
                self.usage[kind] += usage[kind] if isinstance(usage.get(kind), int) else 0
        if isinstance(data.get("cost_usd"), int | float):
            self.cost_usd = (self.cost_usd or 0.0) + data["cost_usd"]

    def _count_prompt(self, event_type: str, data: dict[str, Any]) -> None:
        """What came after the first prompt is a follow-up. A start may be followed by the message that it was started with."""
        self.retries += event_type == "session_start" and data.get("prompt_type") in ("followup", "retry")
        self.followups += event_type == "followup_sent" or (event_type == "user_message" and self._was_asked)
        self._was_asked = self._was_asked or event_type == "user_message"


def _tally(transcript: Path) -> _Tally:
    tally = _Tally()
    for event in _events(transcript, *_COUNTED):
        if event.get("event_type") in ("session_start", "session_end"):  # the attempt was started again
            tally = _Tally()
        tally.add(event)
    return tally


def _events(transcript: Path, *hints: bytes) -> Iterator[dict[str, Any]]:
    """The events of an attempt's file on whose lines one of `hints` stands."""
    try:
        file = transcript.open("rb")  # closed below; a file that is not there is an empty one
    except OSError:
        return
    with file:
        for line in file:
            if any(hint in line for hint in hints):
                with suppress(ValueError, RecursionError):
                    event: object = json.loads(line.decode("utf-8-sig", "replace"))
                    if isinstance(event, dict):
                        yield event


# ---------------------------------------------------------------------------------------------------------------- trouble

_told: set[tuple[str, int]] = set()


def _tell(about: str, number: int, message: str) -> None:
    """Say it once a process: to `logging`, which prints it on stderr where nobody has set up anything else."""
    if (about, number) in _told:
        return
    _told.add((about, number))
    with suppress(Exception):  # a handler of the program's own
        import logging  # noqa: PLC0415  # 15 ms, for those who have trouble

        logging.getLogger("agentwatch").warning(message)
