"""`agentwatch ask`: a question about the logs, answered by a model within a budget, or by what is known without one. Never fails for want of a model."""

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from agentwatch.apps import setup
from agentwatch.apps.gather import Findings, Logs, Scope, gather
from agentwatch.core.asking import account, prompt
from agentwatch.core.asking.account import End, Used
from agentwatch.core.asking.citing import Citation, Citations
from agentwatch.core.asking.picking import Line, Picked, pick, without_the_least
from agentwatch.core.asking.terms import Term, terms_of
from agentwatch.core.text import safe
from agentwatch.errors import ModelError, StorageError, UsageError
from agentwatch.llm.ledger import NAME as LEDGER
from agentwatch.llm.ledger import Ledger, Refused
from agentwatch.llm.tokens import Counter
from agentwatch.model import Usage
from agentwatch.pricing import Prices
from agentwatch.settings import Ask, Loaded, secret
from agentwatch.store import runs

KEY = "OPENAI_API_KEY"
_ADDRESS = re.compile(r"\Z|https?://[^/?#\s]")

MOST_QUESTION = 4000
"""Characters of a question."""

TRIES = 5
"""To take tokens that others may take first."""

LEAST_CONTEXT = 700
"""Tokens below which a question is not worth its price: what it is for takes 250 of them."""

MOST_BYTES_A_TOKEN = 16
"""More than a real answer has: where tokens cannot be counted, a server that does not keep to the answer's limit is read no longer."""

HEADINGS = 120
"""Tokens that the titles of the sections take."""

LOCAL_ROOM = 90
"""Of an answer without a model: about as many lines."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Of this question, and of its budget: `spent` and `left` with this question in it. `counted_with` is the vocabulary, or `bytes`, which is more than there are."""

    prompt: int
    answer: int
    counted_with: str
    is_estimate: bool
    budget: int
    spent: int
    left: int
    budget_is_for: str


class Shown(msgspec.Struct, frozen=True):
    """A line that the answer was made of."""

    source: str
    place: str
    text: str


class Took(msgspec.Struct, frozen=True):
    """Milliseconds: reading the logs and choosing, loading libraries and vocabulary, waiting for the model, keeping account."""

    reading: int
    loading: int
    model: int
    account: int


class Answer(msgspec.Struct, kw_only=True):
    """What came of a question. `by` says whether a model answered or the rules alone, and then `why` not the model; all texts are safe to show.

    `partial` is what a model said before it broke off. `facts` are by section; `sources` are the files that `lines` are called by short names of; `left_out` counts what did not fit, by section. `cost_usd` is
    None where nothing was spent or no price is known; `cost_usd_total` is that of all questions of the budget.
    """

    question: str
    by: Literal["model", "rules"]
    text: str
    why: str | None = None
    partial: str = ""
    run_id: str | None = None
    model: str | None = None
    citations: tuple[Citation, ...] = ()
    facts: dict[str, list[str]] = msgspec.field(default_factory=dict)
    lines: tuple[Shown, ...] = ()
    sources: dict[str, str] = msgspec.field(default_factory=dict)
    left_out: dict[str, int] = msgspec.field(default_factory=dict)
    notes: list[str] = msgspec.field(default_factory=list)
    tokens: Tokens | None = None
    cost_usd: float | None = None
    cost_usd_total: float | None = None
    took_ms: Took = Took(0, 0, 0, 0)


def _unheard(_piece: str) -> None:
    """For those who want the answer when it is whole."""


def ask(
    question: str,
    loaded: Loaded,
    environ: Mapping[str, str],
    home: Path | None,
    *,
    run: str | None = None,
    since: datetime | None = None,
    attempt: str | None = None,
    budget: int | None = None,
    hear: Callable[[str], None] = _unheard,
) -> Answer:
    """Answer a question about the logs. `hear` is told the model's words as they come, harmless and with their citations checked.

    `run`: a run's id or `latest`; where nothing is said AGENTWATCH_RUN, else the log directory and the agents' own folders. `budget`: tokens, in place of
    the setting. Raises UsageError for a question that is empty or too long and for a run that is not there, and SettingsError for a key in a file
    that cannot be read; whatever keeps the model from answering is told in the answer.
    """
    return _Question(question, loaded, environ, home, run, since, attempt, budget).answer(hear)


def request(
    question: str,
    loaded: Loaded,
    environ: Mapping[str, str],
    home: Path | None,
    *,
    run: str | None = None,
    since: datetime | None = None,
    attempt: str | None = None,
    budget: int | None = None,
) -> dict[str, Any]:
    """The body of the request that `ask` would send now, but for its random marker. Nothing is sent, reserved or written. Raises as `ask` does.

    It is as long as the settings allow, whatever of the budget is spent.
    """
    return _Question(question, loaded, environ, home, run, since, attempt, budget).body()


class _No(Exception):  # noqa: N818  # no error: the model is not asked, and the message says why
    """The rules answer alone."""


class _Sent(NamedTuple):
    """What is to be sent, and how many tokens that is."""

    told: list[prompt.Message]
    picked: Picked
    tokens: int


class _Question:
    """One question, from the words to the account."""

    def __init__(
        self,
        question: str,
        loaded: Loaded,
        environ: Mapping[str, str],
        home: Path | None,
        run: str | None,
        since: datetime | None,
        attempt: str | None,
        budget: int | None,
    ) -> None:
        if not question.strip():
            raise UsageError("there is no question", hint='ask in plain words, as in `agentwatch ask "why did the last session fail?"`')
        if len(question) > MOST_QUESTION:
            raise UsageError(
                f"the question has {len(question):,} characters, and {MOST_QUESTION:,} are the most", hint="ask about the logs; they need not be pasted"
            )
        self._question = safe(question, MOST_QUESTION)
        self._loaded = loaded
        self._settings: Ask = loaded.settings.ask
        self._budget = self._settings.budget_tokens if budget is None else budget
        log_dir = loaded.settings.logs.dir
        self._scope = Scope(runs.find(log_dir, run, environ), since, attempt)
        self._nonce = secrets.token_hex(16)
        self._key = secret(KEY, environ)
        self._clock = _Stopwatch()
        self._terms: tuple[Term, ...] = terms_of(self._question)
        with runs.asking(log_dir, self._scope.run_id):
            self._found: Findings = gather(loaded, environ, home, self._scope, self._terms)
        self._clock.lap("reading")

    def answer(self, hear: Callable[[str], None]) -> Answer:
        """The model's, or where there can be none, what is known without it."""
        try:
            return self._asked(hear)
        except (_No, ModelError, StorageError) as why:
            return self._by_rules(str(why))

    def body(self) -> dict[str, Any]:
        from agentwatch.llm.tokens import counter

        sent = self._fitted(counter(self._settings.model), self._settings.context_tokens)
        return self._body(sent)

    # ---------------------------------------------------------------------------------------------------------- with a model

    def _asked(self, hear: Callable[[str], None]) -> Answer:
        if not self._found.facts and not self._found.lines:
            raise _No("there is nothing to ask about: no logs, alerts or issues were found")
        if self._key is None:
            raise _No(f"no {KEY} is set")
        if not self._key.isascii() or not self._key.isprintable() or " " in self._key:
            raise _No(f"{KEY} has characters that no key has")  # the library would say which key it is
        if not _ADDRESS.match(self._settings.base_url):
            raise _No(f"`ask.base_url`, from {self._loaded.origins['ask.base_url']}, is no web address")
        endpoint = blake2b(f"{self._settings.base_url}\n{self._settings.model}\n{self._key}".encode("utf-8", "replace"), digest_size=8).hexdigest()
        with closing(Ledger(setup.state_dir(self._loaded.settings.logs.dir) / LEDGER)) as ledger:
            books = _Books(ledger, account.scope_of(self._scope.run_id, datetime.now(UTC)), endpoint)
            if wait_s := ledger.breaker(endpoint).wait_s(time.time()):
                raise _No(_left_alone(wait_s))
            self._room(books)
            self._clock.lap("account")
            from agentwatch.llm.chat import Chat
            from agentwatch.llm.tokens import counter

            counted = counter(self._settings.model)
            chat = Chat(self._settings.base_url, self._key, self._settings.timeout_s)
            self._clock.lap("loading")
            with closing(chat):
                number, sent = self._reserved(books, counted)
                outcome = self._heard(chat.answer(self._body(sent)), _Reading(sent, counted, self._settings.answer_tokens, self._found.logs, hear))
            self._settle(books, number, outcome, counted)
            return outcome.answer

    def _heard(self, pieces: Iterator[str | End], reading: "_Reading") -> "_Outcome":
        try:
            reading.read(pieces)
        except ModelError as error:
            self._clock.lap("model")
            answer = self._by_rules(str(error))
            answer.partial = reading.shown
            return _Outcome(answer, None, is_free=error.is_free)
        self._clock.lap("model")
        if reading.shown.strip():
            answer = self._told("model", reading.shown, reading.sent.picked)
            answer.citations = reading.citations.found
            answer.notes += ["the answer was cut off where its tokens ended"] if reading.is_cut else []
        else:
            answer = self._by_rules("the model used up its tokens before it said anything; `ask.answer_tokens` sets how many those are")
        used = reading.used
        usage = Usage(input=used.prompt - used.cached, output=used.answer, cache_read=used.cached)
        answer.cost_usd = Prices()(self._settings.model, usage, datetime.now(UTC))
        return _Outcome(answer, used, is_estimate=reading.is_estimate)

    def _settle(self, books: "_Books", number: int, outcome: "_Outcome", counted: Counter) -> None:
        """Put down what the question came to, and say so in its answer; where the disk says no, the answer is worth having all the same."""
        answer, used = outcome.answer, outcome.used
        try:
            if used is not None:
                books.ledger.answered(number, books.endpoint, used, answer.cost_usd)
            else:
                books.ledger.failed(number, books.endpoint, time.time(), is_free=outcome.is_free)
            spent = books.ledger.spent(books.scope)
        except StorageError as error:
            answer.notes.append(f"what it cost could not be written down: {error}")
            return
        self._clock.lap("account")
        answer.model = self._settings.model
        answer.cost_usd_total = spent.usd
        answer.tokens = Tokens(
            prompt=used.prompt if used else 0,
            answer=used.answer if used else 0,
            counted_with=counted.name,
            is_estimate=outcome.is_estimate,
            budget=self._budget,
            spent=spent.tokens,
            left=max(0, self._budget - spent.tokens),
            budget_is_for=books.scope,
        )
        answer.took_ms = self._clock.took()

    def _room(self, books: "_Books") -> int:
        """Tokens that the question may have. Raises _No where that is too few."""
        left = self._budget - books.ledger.spent(books.scope).tokens
        room = min(self._settings.context_tokens, left - self._settings.answer_tokens)
        if room < LEAST_CONTEXT:
            whose = "today" if self._scope.run_id is None else f"run {self._scope.run_id}"
            raise _No(f"of the {self._budget:,} tokens for {whose} {max(0, left):,} are left, which is too few for a question; `--budget` raises it")
        return room

    def _reserved(self, books: "_Books", counted: Counter) -> tuple[int, _Sent]:
        """Choose what fits in what is left, and take it from the budget. Others may be faster: then there is less, and it is chosen again."""
        for _ in range(TRIES):
            sent = self._fitted(counted, self._room(books))
            self._clock.lap("reading")
            got = books.ledger.reserve(books.scope, books.endpoint, self._settings.model, sent.tokens + self._settings.answer_tokens, self._budget, time.time())
            self._clock.lap("account")
            if not isinstance(got, Refused):
                return got, sent
            if got.why == "breaker":
                raise _No(_left_alone(got.wait_s))
        raise _No("others ask at this moment, and have taken what was left of the budget")

    def _fitted(self, counted: Counter, limit: int) -> _Sent:
        found = self._found
        empty = prompt.size(prompt.messages(self._question, Picked((), (), {}, 0), found.notes, self._nonce), counted.count)
        picked = pick(found.facts, found.lines, self._terms, limit - empty - HEADINGS, counted.count)
        while True:
            told = prompt.messages(self._question, picked, found.notes, self._nonce)
            tokens = prompt.size(told, counted.count)
            if tokens <= limit:
                return _Sent(told, picked, tokens)
            less = without_the_least(picked)
            if less is picked:
                raise _No(f"the question alone takes more than the {limit:,} tokens that it may have")
            picked = less

    def _body(self, sent: _Sent) -> dict[str, Any]:
        return prompt.body(self._settings.model, sent.told, self._settings.answer_tokens, self._settings.base_url)

    # ------------------------------------------------------------------------------------------------------------- without one

    def _by_rules(self, why: str) -> Answer:
        picked = pick(self._found.facts, self._found.lines, self._terms, LOCAL_ROOM, lambda _text: 1)
        answer = self._told("rules", prompt.plain(picked), picked)
        answer.why = safe(why, 400)
        return answer

    def _told(self, by: Literal["model", "rules"], text: str, picked: Picked) -> Answer:
        """The answer with what it rests on."""
        facts: dict[str, list[str]] = {}
        for fact in picked.facts:
            facts.setdefault(fact.section, []).append(fact.text)
        return Answer(
            question=self._question,
            by=by,
            text=text,
            run_id=self._scope.run_id,
            facts=facts,
            lines=tuple(_shown(line) for line in picked.lines),
            sources={label: self._found.logs.path(label) for label in dict.fromkeys(line.label for line in picked.lines)},
            left_out={str(section): number for section, number in picked.left_out.items()},
            notes=list(self._found.notes),
            took_ms=self._clock.took(),
        )


class _Books(NamedTuple):
    """Where the question is put down: for which budget, and which server is asked."""

    ledger: Ledger
    scope: str
    endpoint: str


class _Outcome(NamedTuple):
    """What became of a request. `used` is None where it got no whole answer; then it cost nothing if it `is_free`, and else nobody knows."""

    answer: Answer
    used: Used | None
    is_free: bool = False
    is_estimate: bool = False


class _Reading:
    """An answer as it is read: cut where its tokens end, whatever the server does, and counted."""

    def __init__(self, sent: _Sent, counted: Counter, limit: int, logs: Logs, hear: Callable[[str], None]) -> None:
        self.sent = sent
        self.citations = Citations({line.name for line in sent.picked.lines}, logs.label_of, logs.exists)
        self.is_cut = False
        self._counted, self._limit, self._hear = counted, limit, hear
        self._said: list[str] = []
        self._shown: list[str] = []
        self._told: Used | None = None

    @property
    def shown(self) -> str:
        """What of it was shown."""
        return "".join(self._shown)

    def read(self, pieces: Iterator[str | End]) -> None:
        """Take it all, and tell it on. Raises ModelError where it breaks off."""
        left = self._limit if self._counted.is_exact else self._limit * MOST_BYTES_A_TOKEN
        try:
            with closing(pieces):  # type: ignore[type-var]  # a generator
                for piece in pieces:
                    if isinstance(piece, End):
                        self._told = piece.used
                        self.is_cut = piece.reason == "length"
                        return
                    kept = self._within(piece, left)
                    left -= self._counted.count(kept)
                    self._said.append(kept)
                    self._tell(self.citations.feed(kept))
                    if len(kept) < len(piece):
                        self.is_cut = True
                        return
        finally:
            self._tell(self.citations.end())

    @property
    def used(self) -> Used:
        """Tokens, by the server's figures. Some leave out what they had cached, or tell nothing: less than was counted here is not believed."""
        text = self._counted.count("".join(self._said))
        answer = text if self._counted.is_exact else min(text, self._limit)
        if self._told is None:
            return Used(self.sent.tokens, answer, 0)
        if not self._counted.is_exact:
            return self._told
        return Used(_believed(self._told.prompt, self.sent.tokens), _believed(self._told.answer, answer), self._told.cached)

    @property
    def is_estimate(self) -> bool:
        """Whether nobody has counted."""
        return self._told is None and not self._counted.is_exact

    def _within(self, piece: str, left: int) -> str:
        piece = piece[: max(0, left) * MOST_BYTES_A_TOKEN]
        while piece and self._counted.count(piece) > left:
            piece = piece[: len(piece) // 2]
        return piece

    def _tell(self, text: str) -> None:
        if text:
            self._shown.append(text)
            self._hear(text)


def _believed(told: int, counted: int) -> int:
    return told if told >= 0.9 * counted else counted


class _Stopwatch:
    """Where the time of a question goes."""

    def __init__(self) -> None:
        self._spent = {"reading": 0.0, "loading": 0.0, "model": 0.0, "account": 0.0}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """What passed since the last lap belongs to this."""
        now = time.perf_counter()
        self._spent[name] += now - self._since
        self._since = now

    def took(self) -> Took:
        return Took(**{name: round(seconds * 1000) for name, seconds in self._spent.items()})


def _shown(line: Line) -> Shown:
    return Shown(line.label, line.place, line.text)


def _left_alone(wait_s: float) -> str:
    return f"the model failed {account.FAILURES} times in a row and is left alone for another {wait_s:.0f} s"
