"""What a program says on its console, made into events of one attempt: its text within bounds, and what it says of itself as stream JSON.

The side that the program's bytes pass by costs no more than a look at them. Decoding, judging and writing happen in a thread, behind
a queue that drops what it has no room for, and counts it.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from os.path import basename
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    import msgspec

    from agentwatch.apps.transcript import Transcript
    from agentwatch.core.engine import Engine
    from agentwatch.logger import AgentLogger
    from agentwatch.model import Alert, Context, Data, Detail, Event, Format, Item, Kind, Usage
    from agentwatch.settings import Loaded

KEPT = 4096
"""Bytes of a text's beginning, and of its end, that are kept of what is said between two events."""

GATHER_S = 1.0
BURST_BYTES, BYTES_A_SECOND = 256 << 10, 512
"""A program that never stops talking fills 44 MB a day; one that says less than 256 kB is recorded whole, but for floods."""

BURST_KB, KB_A_SECOND = 2000, 20
"""Of an agent's own events, each with 1 kB on top. A transcript of Claude Code grows by 3 kB a second; what says more floods."""

LONGEST_TEXT = 16_384
"""Bytes of JSON that one parameter or one result of a tool may take in the log."""

MOST_QUEUED = 16 << 20
MOST_CANDIDATES = 50
LONGEST_LINE = 8 << 20
"""Default of `logs.max_line_bytes`: what is longer is read nowhere."""

BREATH_S = 30.0
"""A sign of life where there is nothing to tell: a spinner turns."""

LAST_WORDS_S = 3.0
"""How long the end waits for a disk that does not answer."""

LOGS = frozenset({"canonical", "plain-text", "winston", "fluent-bit"})
"""Formats of logs. A program that prints such lines does not speak of its own steps."""

NAMES = {
    "amp": "AMP",
    "claude": "CLAUDE",
    "claude-code": "CLAUDE",
    "codex": "CODEX",
    "copilot": "COPILOT",
    "cursor-agent": "CURSOR",
    "droid": "DROID",
    "gemini": "GEMINI",
    "gemini-cli": "GEMINI",
    "goose": "GOOSE",
    "kimi": "KIMI",
    "opencode": "OPENCODE",
    "pi": "PI",
    "qwen": "QWEN",
    "qwen-code": "QWEN",
}
"""Agents by their commands, and by the packages that `npx` knows them by; the names are those of their formats."""

LOOKED_AT = 6
"""Words of a command among which the agent may stand: behind `npx`, `env A=b`, `timeout 60`, `node`."""


class Ending(NamedTuple):
    """How a session ended; `error` is why it never began."""

    completion_status: str
    exit_code: int
    reason: str | None = None
    error: str | None = None


class Stop(NamedTuple):
    """Why the program is to be ended, and what becomes of the session by that."""

    reason: str
    completion_status: str


class Subject(NamedTuple):
    """Who is recorded, and where: `place` are the logger's own options. `is_attended`: a person sits at the program's keyboard."""

    attempt_id: str
    place: Mapping[str, Any]
    executor: str
    task_id: str | None
    model: str | None
    is_attended: bool


class Judging(NamedTuple):
    """When the events are reason enough to stop: what was spent is more than `max_usd`, or (`heeds_alerts`) there is any alert."""

    loaded: "Loaded"
    max_usd: float | None
    heeds_alerts: bool


def executor_of(command: Sequence[str]) -> str:
    """The agent that a command runs; where it is none that is known, the command's own name."""
    words = [basename(word).partition("@")[0].removesuffix(".js").lower() for word in command[:LOOKED_AT]]  # noqa: PTH119  # pathlib takes longer
    return next((NAMES[word] for word in words if word in NAMES), basename(command[0]))  # noqa: PTH119


def model_of(command: Sequence[str]) -> str | None:
    """The model that a command asks for, in the way that all agents have in common."""
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word in ("--model", "-m"):
            return following or None
        if word.startswith("--model="):
            return word.partition("=")[2] or None
    return None


class Lines:
    """Tells lines that may be an agent's JSON from everything else, at the speed of a search where there are none."""

    def __init__(self) -> None:
        self._part = bytearray()
        self._at_start = True

    def split(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Complete lines that begin with `{`, and all other bytes. The beginning of such a line is kept for the next call."""
        if not self._part and b"\n{" not in data and not (self._at_start and data.startswith(b"{")):
            self._at_start = data.endswith(b"\n")
            return [], data
        found: list[bytes] = []
        other: list[bytes] = []
        *whole, rest = data.split(b"\n")
        for piece in whole:
            if self._part:
                found.append(bytes(self._part + piece) + b"\n")
                self._part.clear()
            else:
                (found if self._at_start and piece.startswith(b"{") else other).append(piece + b"\n")
            self._at_start = True
        if self._part or (self._at_start and rest.startswith(b"{")):
            self._part += rest
        else:
            other.append(rest)
        self._at_start = self._at_start and not rest
        if len(self._part) > LONGEST_LINE:
            self._part.clear()
        return found, b"".join(other)

    def rest(self) -> bytes:
        """The last line, where no newline ends it."""
        rest = bytes(self._part)
        self._part.clear()
        return rest


class Sample:
    """The bytes of a stream since the last look, within bounds: the first and the last, and how many stood between them."""

    def __init__(self) -> None:
        self.since = 0.0
        self._head = bytearray()
        self._tail = b""
        self._size = 0

    def __bool__(self) -> bool:
        return self._size > 0

    def add(self, data: bytes, now: float) -> None:
        if not self._size:
            self.since = now
        self._size += len(data)
        room = KEPT - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail = (self._tail + data[-KEPT:])[-KEPT:]

    def take(self) -> bytes:
        between = self._size - len(self._head) - len(self._tail)
        text = bytes(self._head) + (b"\n[%d bytes]\n" % between if between else b"") + self._tail
        self._head.clear()
        self._tail, self._size = b"", 0
        return text


class Recorder:
    """Records one attempt. `saw`, `turn` and `wait_s` are the program's side; nothing they do waits for anything.

    `stop` is set, and the runner woken, when the events are reason enough to end the program.
    """

    def __init__(self, subject: Subject, judging: Judging | None) -> None:
        self.stop: Stop | None = None
        self.complaints: list[str] = []
        self._told = 0
        self.dropped = 0
        self.speaks_json: bool | None = None
        self._scribe = Scribe(subject, judging, self)
        self._queue: SimpleQueue[tuple[str, Any, int]] = SimpleQueue()
        self._queued = self._done = 0
        self._lines = Lines()
        self._samples: dict[str, Sample] = {}
        self._debt_bytes, self._paid_at = 0.0, time.monotonic()
        self._wake: Callable[[], None] = lambda: None
        self._worker = Thread(target=self._work, name="agentwatch-recorder", daemon=True)

    def begin(self, wake: Callable[[], None]) -> None:
        """The program runs. `wake` is called from another thread when there is a reason to stop it."""
        self._wake = wake
        self._worker.start()

    def saw(self, stream: str, data: bytes) -> None:
        """The program has said this."""
        if stream == "stdout" and self.speaks_json is not False:
            lines, data = self._lines.split(data)
            if lines:
                self._put("lines", lines, sum(map(len, lines)))
        if data:
            self._samples.setdefault(stream, Sample()).add(data, time.monotonic())

    def turn(self, now: float) -> None:
        """Hand over what was gathered for long enough."""
        for stream, sample in self._samples.items():
            if sample and now >= self._due(sample):
                self._hand_over(stream, sample)

    def wait_s(self, now: float) -> float:
        """When the next turn is due at the latest."""
        return min((max(0.0, self._due(sample) - now) for sample in self._samples.values() if sample), default=3600.0)

    def ask_to_stop(self, reason: str, completion_status: str) -> None:
        """There is a reason to end the program. The first one stands."""
        if self.stop is None:
            self.stop = Stop(reason, completion_status)
            self._put("stopping", self.stop, 0)
            self._wake()

    def complain(self, what: str) -> None:
        """Tell what was not recorded, once."""
        if what not in self.complaints:
            self.complaints.append(what)
            self._wake()

    def news(self) -> list[str]:
        """The complaints that are new since the last call."""
        news = self.complaints[self._told :]
        self._told += len(news)
        return news

    def end(self, ending: Ending) -> None:
        """Write what is left, and the end of the session; a disk that does not answer is given up."""
        if rest := self._lines.rest():
            self._put("lines", [rest], len(rest))
        for stream, sample in self._samples.items():
            if sample:
                self._hand_over(stream, sample)
        self._put("end", ending, 0)
        self._worker.join(LAST_WORDS_S)
        if self._worker.is_alive():
            self.complain("warning: the log does not answer; its last events are lost")

    def _due(self, sample: Sample) -> float:
        return max(sample.since + GATHER_S, self._paid_at + max(0.0, self._debt_bytes - BURST_BYTES) / BYTES_A_SECOND)

    def _hand_over(self, stream: str, sample: Sample) -> None:
        text, now = sample.take(), time.monotonic()
        self._debt_bytes = max(0.0, self._debt_bytes - (now - self._paid_at) * BYTES_A_SECOND) + len(text)
        self._paid_at = now
        self._put("text", (stream, text), len(text))

    def _put(self, what: str, value: object, size: int) -> None:
        if self._queued - self._done + size > MOST_QUEUED:
            self.dropped += 1
            return
        self._queued += size
        self._queue.put((what, value, size))

    # ---------------------------------------------------------------------------------------------- from here on, in the thread

    def _work(self) -> None:
        tell: dict[str, Callable[[Any], None]] = {
            "lines": self._scribe.lines,
            "text": self._scribe.text,
            "stopping": self._scribe.stopping,
            "end": self._scribe.end,
        }
        what = "begin"
        self._guarded(self._scribe.begin, None)
        while what != "end":
            try:
                what, value, size = self._queue.get(timeout=GATHER_S)
            except Empty:
                self._guarded(self._scribe.tick, None)
            else:
                self._guarded(tell[what], value)
                self._done += size

    def _guarded(self, step: Callable[[Any], None], value: object) -> None:
        try:
            step(value)
        except Exception as error:  # noqa: BLE001  # the agent must not suffer from what reads along
            self.complain(f"warning: not all was recorded: {type(error).__name__}: {error}")


class Scribe:
    """Makes events, has them judged, and writes them. All in one thread."""

    name = "exec"

    def __init__(self, subject: Subject, judging: Judging | None, recorder: Recorder) -> None:
        self._subject = subject
        self._judging = judging
        self._recorder = recorder
        self._logger: AgentLogger
        self._lanes: dict[str, AgentLogger] = {}
        self._lost = 0
        self._session_id: str | None = None
        self._model = subject.model
        self._engine: Engine | None = None
        self._decoder: Format | None = None
        self._candidates = 0
        self._offset = 0
        self._turn_is_open = True
        self._last_text = ""
        self._told_at = time.monotonic()
        self._allowance, self._allowed_at = float(BURST_KB), time.monotonic()
        self._cost_usd: float | None = None
        self._stream = ""
        self._transcript: Transcript | None = None
        self._transcript_at = 0.0
        self._began_at = _now()

    def begin(self, _: None) -> None:
        """The session starts."""
        from agentwatch.logger import AgentLogger
        from agentwatch.model import Detail

        _collect_warnings(self._recorder.complain)
        self._logger = AgentLogger(self._subject.attempt_id, **self._fields())
        self._logger.start()
        if self._subject.executor in NAMES.values():
            # Whose session it is must be said before the agent does anything: its first word takes it longer than this.
            from agentwatch.formats.registry import recognise

            recognise("", [])
        if self._judging:
            self._engine = _engine(self._judging)
            self._judge("session_start", Detail(prompt_type="initial"))

    def text(self, said: tuple[str, bytes]) -> None:
        """What was on the console. A program with a person at its keyboard owes nothing when it falls silent."""
        from agentwatch.core.text import clean, redact
        from agentwatch.model import Detail

        stream, raw = said
        shown = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in raw.decode("utf-8", "replace").split("\n"))
        text = redact(clean(shown, newlines=True)).strip("\n")
        # Beside an agent's own events it says nothing about whose turn it is.
        is_beside, is_owing = self._decoder is not None, self._decoder is not None and self._turn_is_open
        reason = "tool_use" if is_owing else "console" if self._subject.is_attended and not is_beside else None
        if not text.strip() or text == self._last_text:
            self._breathe()
            return
        self._last_text = text
        self._told_at = time.monotonic()
        self._logger.output(text, stream_type=stream, stop_reason=reason)
        self._judge("agent_output", Detail(stop_reason=reason))

    def lines(self, lines: list[bytes]) -> None:
        """Lines that may be an agent's own."""
        self._catch_up(GATHER_S)
        if self._decoder is None and self._recorder.speaks_json is None:
            self._recognise(lines)
        if self._decoder is None:
            self.text(("stdout", b"".join(lines)[: 2 * KEPT]))
        else:
            self._read(self._decoder, lines)

    def tick(self, _: None) -> None:
        """Time has passed."""
        self._catch_up()
        if self._engine is not None:
            alerts: list[Alert] = []
            self._engine.tick(_now(), alerts)
            self._heed(alerts)

    def stopping(self, stop: Stop) -> None:
        self._logger.status_change("stopping", "running", reason=stop.reason)

    def end(self, ending: Ending) -> None:
        self._catch_up()
        if ending.error:
            self._logger.error(ending.error)
        dropped = self._recorder.dropped or None
        self._logger.end(ending.completion_status, cost_usd=self._cost_usd, exit_code=ending.exit_code, reason=ending.reason, events_dropped=dropped)
        lost = self._lost + self._logger.lost + sum(logger.lost for logger in self._lanes.values())
        if lost and not self._recorder.complaints:
            self._recorder.complain(f"warning: {lost} events could not be written to the log")

    def _recognise(self, lines: list[bytes]) -> None:
        likely = [line for line in lines if b'"type"' in line]
        self._candidates += len(lines)
        if likely:
            from agentwatch.formats.registry import FORMATS, recognise
            from agentwatch.model import NO_MEMORY

            name = recognise("", likely[:MOST_CANDIDATES])
            if name is not None and name not in LOGS:
                self._stream, self._decoder = name, FORMATS[name].decoder("", NO_MEMORY)
                self._recorder.speaks_json = True
        if self._decoder is None and self._candidates >= MOST_CANDIDATES:
            self._recorder.speaks_json = False

    def _read(self, decoder: "Format", lines: list[bytes]) -> None:
        def feed(items: "Iterable[Item]") -> None:
            for event, place, line in items:
                self._event(decoder, event, place, line)

        if hasattr(decoder.memory, "time"):
            decoder.memory.time = _now()  # most lines say no time: it is when they are printed
        decoder.read(lines, self._offset, feed, lambda *_: None)
        self._offset += sum(map(len, lines))

    def _event(self, decoder: "Format", event: "Event", place: int, line: bytes) -> None:
        if event.event_type == "session_start":
            self._learn(decoder.context(line))
            return
        if event.event_type == "session_end":
            self._cost_usd = event.data.cost_usd
            return
        if event.event_type == "turn_end":
            self._turn_is_open = False
        elif event.event_type in ("turn_start", "user_message", "tool_call"):
            self._turn_is_open = True
        data = event.data
        if event.event_type == "usage":
            self._catch_up()
            if self._transcript is not None and self._transcript.is_found:
                return  # it has told this, or will before the end
            self._transcript = None
            data.usage = data.usage or decoder.usage(line)
        self._judge(event.event_type, data, event.lane, place, line)
        if event.event_type == "progress":
            self._breathe()
        elif self._may_write(len(line)):
            self._told_at = time.monotonic()
            self._of_lane(event.lane).event(event.event_type, **_bounded(data))
        else:
            self._recorder.dropped += 1

    def _learn(self, context: "Context") -> None:
        """The agent has said who it is: that stands on its events from now on, and its own transcript need not be judged beside them."""
        from agentwatch.model import RECORDED

        session_id, model = context.session_id, context.model or self._subject.model
        if (session_id, model) == (self._session_id, self._model):
            return
        is_another, self._session_id, self._model = session_id != self._session_id, session_id, model
        self._rejoin()
        if is_another:
            self._logger.status_change(RECORDED, "running")
            self._open_transcript(session_id)

    def _open_transcript(self, session_id: str | None) -> None:
        from agentwatch.apps.transcript import BESIDE, Transcript

        self._transcript = Transcript(self._stream, session_id, self._began_at) if session_id and self._stream in BESIDE else None

    def _catch_up(self, after_s: float = 0.0) -> None:
        """What the transcript says of money that the stream will say later; not before `after_s` have passed since the last look."""
        if self._transcript is None or time.monotonic() - self._transcript_at < after_s:
            return
        self._transcript_at = time.monotonic()
        for spent in self._transcript.news():
            if spent.model is not None and spent.model != self._model:
                self._model = spent.model
                self._rejoin()
            self._told_at = self._transcript_at
            self._logger.event("usage", **_bounded(spent))
            self._judge("usage", spent)

    def _fields(self) -> dict[str, Any]:
        subject = self._subject
        return {**subject.place, "executor": subject.executor, "task_id": subject.task_id, "session_id": self._session_id, "model": self._model}

    def _joined(self, **fields: Any) -> "AgentLogger":
        return self._logger.join(self._subject.attempt_id, **self._fields(), **fields)

    def _rejoin(self) -> None:
        """What is known by now stands on all events from now on."""
        self._lost += self._logger.lost
        self._logger = self._joined()
        self._lanes.clear()

    def _of_lane(self, lane: str | None) -> "AgentLogger":
        if lane is None or len(self._lanes) >= MOST_CANDIDATES:
            return self._logger
        if lane not in self._lanes:
            self._lanes[lane] = self._joined(lane=lane)
        return self._lanes[lane]

    def _breathe(self) -> None:
        now = time.monotonic()
        if now - self._told_at >= BREATH_S:
            self._told_at = now
            self._logger.event("progress")
            self._judge("progress", None)

    def _may_write(self, size: int) -> bool:
        now = time.monotonic()
        price = 1 + min(size, 2 * LONGEST_TEXT) / 1024
        self._allowance = min(BURST_KB, self._allowance + (now - self._allowed_at) * KB_A_SECOND)
        self._allowed_at = now
        if self._allowance < price:
            return False
        self._allowance -= price
        return True

    def _judge(self, kind: "Kind", data: "Data | None", lane: str | None = None, place: int | None = None, line: bytes = b"") -> None:
        if self._engine is None:
            return
        from agentwatch.model import Data, Event

        event = Event(_now(), self._subject.attempt_id, kind, data or Data(), lane)
        alerts: list[Alert] = []
        self._engine.feed("the console", "", [(event, self._offset if place is None else place, line)], self, alerts)
        self._audit(self._engine)
        self._heed(alerts)

    def _audit(self, engine: "Engine") -> None:
        """Compare what was spent with what may be. By the sum itself: an alert about money may have other reasons."""
        most = self._judging.max_usd if self._judging else None
        session = engine.snapshot().scopes[""].sessions.get(self._subject.attempt_id)
        if most is None or session is None:
            return
        if session.cost_usd > most:
            self._recorder.ask_to_stop(f"it has cost ${session.cost_usd:.2f}, and may cost ${most:.2f} (`--max-cost`)", "interrupted")
        if session.unpriced:
            self._recorder.complain(f"warning: `--max-cost` does not see all costs: the price of {self._model or 'a model that is not named'} is not known")

    def _heed(self, alerts: "list[Alert]") -> None:
        from agentwatch.model import Status

        for alert in alerts if self._judging and self._judging.heeds_alerts else []:
            if alert.status is not Status.RECOVERED:
                self._recorder.ask_to_stop(f"{alert.type}: {alert.summary}", "interrupted")

    # ------------------------------------------------------------------- what the engine asks of a format (core.steps.Reader)

    def context(self, line: bytes) -> "Context":
        """Who the attempt is about, as far as it is known."""
        from agentwatch.model import Context

        return Context(session_id=self._session_id, task_id=self._subject.task_id, executor=self._subject.executor, model=self._model)

    def detail(self, line: bytes) -> "Detail":
        """What the format has to add."""
        from agentwatch.model import Detail

        return self._decoder.detail(line) if self._decoder and line else Detail()

    def usage(self, line: bytes) -> "Usage | None":
        """Tokens in the format's own words."""
        return self._decoder.usage(line) if self._decoder and line else None


def _engine(judging: Judging) -> "Engine":
    """The daemon's detectors, with what may be spent as their limit for a session."""
    import msgspec

    from agentwatch.apps.setup import limits
    from agentwatch.core.engine import Engine
    from agentwatch.pricing import Prices

    chosen = limits(judging.loaded)
    return Engine(chosen if judging.max_usd is None else msgspec.structs.replace(chosen, cost_usd=judging.max_usd), Prices())


def _bounded(data: "Data") -> dict[str, Any]:
    """An event's data as JSON values. What is too long keeps its ends, and a checksum, so that equal ones stay equal."""
    import msgspec

    from agentwatch.model import NOTHING

    raws = {name: raw for name in ("tool_params", "result", "result_data", "output", "prompt") if len(raw := getattr(data, name, NOTHING)) > LONGEST_TEXT}
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(msgspec.structs.replace(data, **dict.fromkeys(raws, msgspec.Raw(b"null")))))
    fields |= {name: _ends(raw) for name, raw in raws.items()}
    message = fields.get("error_message")
    return fields if message is None else {**fields, "error_message": message[:LONGEST_TEXT]}


def _ends(raw: "msgspec.Raw") -> str:
    text = bytes(raw)
    middle = f" … [{len(text)} bytes, {crc32(text):08x}] … "
    return text[:KEPT].decode("utf-8", "replace") + middle + text[-KEPT:].decode("utf-8", "replace")


def _collect_warnings(complain: Callable[[str], None]) -> None:
    """What the logger has to say is said when the program is over: its terminal is its own."""
    import logging

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complain(f"warning: {record.getMessage()}")

    log = logging.getLogger("agentwatch")
    log.addHandler(Collector())
    log.propagate = False


def _now() -> datetime:
    return datetime.now(UTC)
