"""Never more tokens than were allowed, whatever the logs, the questions and the server say, and however many ask at once; and who fails is left alone."""

import multiprocessing
import signal
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentwatch.core.asking.account import FAILURES, PAUSE_S, Breaker, Used, scope_of
from agentwatch.errors import StorageError
from agentwatch.llm.ledger import Ledger, Refused
from tests.ask.conftest import Asker, stamp
from tests.ask.server import Reply, Server

WORDS = st.sampled_from(
    ["database", "ECONNREFUSED", "why", "0x7f3a9b", "error", "a1b2c3d4e5f6", "中文日志", "🙂", "<|endoftext|>", "{}[]();", "…", "worker.log:3", "\t", "'\"\\"]
)
PIECES = st.lists(st.one_of(WORDS, st.text(max_size=30), st.text(alphabet="0123456789abcdef+/=", min_size=20, max_size=200)), min_size=1, max_size=25)
LINES = st.lists(
    st.builds(lambda level, pieces: f"{level} {' '.join(pieces)}".replace("\n", " ").replace("\r", " "), st.sampled_from(["ERROR", "INFO", "WARN"]), PIECES),
    max_size=40,
)
QUESTIONS = st.text(min_size=1, max_size=300).filter(str.strip)


class TestNoMore:
    """Counted by the test, with tiktoken's own vocabulary."""

    @settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(
        lines=LINES,
        questions=st.lists(QUESTIONS, min_size=1, max_size=4),
        times=st.integers(1, 60),
        told=st.sampled_from(["right", "none", "tiny"]),
        long=st.booleans(),
    )
    def test_no_question_and_no_run_has_more_tokens_than_it_may(self, prompt_tokens, tokens, lines, questions, times, told, long):
        """7,000 in a request and 10,000 in a run, whether the server counts right, not at all or too little, and whether it keeps to the limit or not."""
        said = "The answer, as long as can be. " * 4000 if long else "Short."
        usage = {"right": lambda body: (prompt_tokens(body), tokens(said)), "none": lambda _body: None, "tiny": lambda _body: (1, 1)}[told]
        spent = 0
        with (
            tempfile.TemporaryDirectory() as directory,
            Server(lambda body, _number: Reply(said, usage(body) if not (long and told == "right") else None)) as server,
        ):
            asker = Asker(Path(directory))
            asker.log("worker.log", *(f"{stamp(n)} {line}" for n, line in enumerate(lines * times)), f"{stamp(9000)} ERROR the end")
            asker.asks(server)
            for question in questions:
                answer = asker.ask(question)
                spent += tokens(answer.text) if answer.by == "model" else 0
                assert answer.by == "model" or "too few for a question" in answer.why
            asked = [prompt_tokens(body) for body in server.requests]
        assert asked
        assert max(asked) <= 7000
        assert sum(asked) + spent <= 10_000

    def test_of_much_that_matters_the_room_is_used(self, asker, prompt_tokens):
        """A long log does not leave the model with a few lines; what is left out is said."""
        asker.log(
            "worker.log", *(f"{stamp(100 + n)} ERROR database {'abcdefghijklmnop'[n % 16] * 9} {'qrstuvwxyz'[n // 16 % 10] * 7} failed" for n in range(900))
        )
        answer = asker.ask()
        assert 5000 < prompt_tokens(asker.server.requests[0]) <= 7000
        assert answer.left_out["errors"] > 0

    def test_what_is_left_is_used_until_it_is_too_little(self, asker, prompt_tokens):
        """The second question has less room than the first, and is asked all the same."""
        asker.log(
            "worker.log", *(f"{stamp(100 + n)} ERROR database {'abcdefghijklmnop'[n % 16] * 9} {'qrstuvwxyz'[n // 16 % 10] * 7} failed" for n in range(900))
        )
        asker.server.script = lambda body, _number: Reply("Yes.", (prompt_tokens(body), 2))
        assert [asker.ask().by for _ in range(4)] == ["model", "model", "rules", "rules"]
        first, second = map(prompt_tokens, asker.server.requests)
        assert first > 5000
        assert second < 2000

    def test_a_larger_budget_is_asked_for_by_hand(self, asker):
        """`--budget` raises it for this question; what was spent counts."""
        asker.environ["AGENTWATCH_ASK_BUDGET_TOKENS"] = "0"
        assert asker.ask().why == "of the 0 tokens for run r1 0 are left, which is too few for a question; `--budget` raises it"
        assert asker.ask(budget=9000).by == "model"
        assert asker.ask(budget=9000).tokens.budget == 9000

    def test_each_run_has_a_budget_and_so_has_each_day(self, asker):
        """What was asked about a run is not charged to the day."""
        day = f"day {datetime.now(UTC):%Y-%m-%d}"
        assert (asker.ask().tokens.budget_is_for, asker.ask(run=None).tokens.budget_is_for) in (
            ("run r1", day),
            ("run r1", f"day {datetime.now(UTC):%Y-%m-%d}"),
        )
        assert scope_of(None, datetime(2026, 2, 9, 23, 59, tzinfo=UTC)) == "day 2026-02-09"


def test_the_servers_figures_settle_the_account(asker, prompt_tokens):
    """With the price of what came from its cache."""
    asker.server.script = lambda body, _number: Reply("Yes.", (prompt_tokens(body) + 37, 200))
    tokens = asker.ask().tokens
    assert (tokens.prompt, tokens.answer) == (prompt_tokens(asker.server.requests[0]) + 37, 200)
    assert tokens.spent == tokens.prompt + tokens.answer


def test_a_price_that_is_not_known_is_not_nothing(asker):
    """It is kept as unknown, and so is the sum as long as there is no other."""
    asker.environ["AGENTWATCH_ASK_MODEL"] = "llama-at-home"
    answer = asker.ask()
    assert (answer.by, answer.cost_usd, answer.cost_usd_total) == ("model", None, None)
    assert "at an unknown price" in asker.run("ask", "why", "--run", "r1").stderr


def asked_at_once(barrier, base, environ, number, out):
    """One of many processes: asks when all of them are there."""
    asker = Asker(base)
    asker.environ = environ
    barrier.wait(120)
    answer = asker.ask(f"why does the database fail, {number}?")
    out.put((answer.by, answer.text, answer.tokens.spent if answer.tokens else 0))


def test_twenty_that_ask_at_once_do_not_spend_more_than_one_could(asker, prompt_tokens, tokens):
    """Real processes, and a server that lets nobody go before all who may ask have asked."""
    asker.log("worker.log", *(f"{stamp(100 + n)} ERROR database {'abcdefghijklmnop'[n % 16] * 9} {'qrstuvwxyz'[n // 16 % 10] * 7} failed" for n in range(900)))
    asker.server.script = lambda body, _number: Reply("Yes.", (prompt_tokens(body), 2), hang_s=1.0)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["agentwatch.llm.chat", "agentwatch.apps.ask", "tests.ask.conftest"])
    barrier, out = context.Barrier(20), context.Queue()
    processes = [context.Process(target=asked_at_once, args=(barrier, asker.base, asker.environ, number, out)) for number in range(20)]
    for process in processes:
        process.start()
    answers = [out.get(timeout=240) for _ in processes]
    for process in processes:
        process.join(60)
    asked = [text for by, text, _ in answers if by == "model"]
    assert len(asked) == len(asker.server.requests) >= 1
    assert sum(map(prompt_tokens, asker.server.requests)) + sum(map(tokens, asked)) <= 10_000
    assert max(spent for _, _, spent in answers) <= 10_000
    assert {by for by, _, _ in answers} == {"model", "rules"}


def test_who_is_killed_while_the_model_speaks_leaves_the_reservation(asker):
    """Nobody knows what became of the request: it counts."""
    asker.server.script = lambda _body, _number: Reply(hang_s=30)
    process = subprocess.Popen(asker.command("ask", "--run", "r1", "why"), cwd=asker.base, env=asker.environ, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not asker.server.requests and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    asker.server.script = lambda _body, _number: Reply("Yes.", (600, 2))
    ((reserved, prompt),) = changed(asker.logs / ".agentwatch" / "ask.db", "SELECT reserved, prompt FROM question")
    assert reserved > 1500
    assert prompt is None
    assert asker.ask().tokens.spent >= reserved + 600


# ---------------------------------------------------------------------------------------------------------------- the breaker


def test_after_three_failures_other_processes_do_not_ask(asker):
    """Answers come from the rules at once, saying so, for a minute."""
    asker.server.script = lambda _body, _number: Reply("oops", status=500)
    for _ in range(3):
        assert asker.run("ask", "why", "--run", "r1").stdout.startswith("Answered without a model: the server says 500")
    for _ in range(2):
        assert asker.run("ask", "why", "--run", "r1").stdout.startswith(
            "Answered without a model: the model failed 3 times in a row and is left alone for another"
        )
    assert len(asker.server.requests) == 3


def test_after_a_minute_one_asks_and_the_others_wait_for_what_becomes_of_it(asker):
    """A probe that fails costs another minute; one that succeeds ends it for all."""
    path = asker.logs / ".agentwatch" / "ask.db"

    def probed(_body, number):
        return Reply("oops", status=500) if number < 4 else Reply("Well again.")

    def an_hour_passes():
        changed(path, "UPDATE breaker SET failed_s = failed_s - 3600, probed_s = probed_s - 3600")

    asker.server.script = probed
    for _ in range(3):
        asker.ask()
    an_hour_passes()
    assert "500" in asker.ask().why
    assert "left alone for another" in asker.ask().why
    an_hour_passes()
    assert asker.ask().text == "Well again."
    assert asker.ask().by == "model"
    assert len(asker.server.requests) == 6


def test_another_server_model_or_key_is_not_to_blame(asker):
    """Who mends the settings need not wait."""
    asker.server.script = lambda body, _number: Reply("no such model", status=404) if body["model"] == "wrong" else Reply("Yes.")
    asker.environ["AGENTWATCH_ASK_MODEL"] = "wrong"
    assert [asker.ask().why[:4] for _ in range(4)] == ["the ", "the ", "the ", "the "]
    assert len(asker.server.requests) == 3
    asker.environ["AGENTWATCH_ASK_MODEL"] = "gpt-5.4-mini"
    assert asker.ask().by == "model"


@pytest.mark.parametrize(
    ("breaker", "now_s", "wait_s"),
    [
        pytest.param(Breaker(), 100.0, 0.0, id="never failed"),
        pytest.param(Breaker(FAILURES - 1, 100.0), 100.0, 0.0, id="failed less often"),
        pytest.param(Breaker(FAILURES, 100.0), 100.0, PAUSE_S, id="just failed"),
        pytest.param(Breaker(FAILURES, 100.0), 130.0, 30.0, id="half the time"),
        pytest.param(Breaker(FAILURES, 100.0), 160.0, 0.0, id="time for a probe"),
        pytest.param(Breaker(FAILURES, 100.0).asked(160.0), 161.0, 59.0, id="somebody probes"),
        pytest.param(Breaker(FAILURES, 100.0).asked(160.0), 220.0, 0.0, id="whoever probed was killed"),
        pytest.param(Breaker(FAILURES, 100.0).asked(160.0).failed(165.0), 170.0, 55.0, id="the probe failed"),
        pytest.param(Breaker(FAILURES, 100.0).succeeded(), 101.0, 0.0, id="it answered"),
        pytest.param(Breaker(FAILURES, 100.0), 50.0, 0.0, id="the clock was set back"),
    ],
)
def test_how_long_a_server_is_left_alone(breaker, now_s, wait_s):
    """A minute after the third failure in a row, then one probe at a time."""
    assert breaker.wait_s(now_s) == wait_s


# ----------------------------------------------------------------------------------------------------------------- the ledger


@settings(max_examples=25)
@given(
    budget=st.integers(0, 1000),
    steps=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 600), st.one_of(st.none(), st.tuples(st.integers(0, 300), st.integers(0, 300)))), max_size=12
    ),
)
def test_what_is_reserved_and_not_settled_for_more_is_never_more_than_the_budget(budget, steps):
    """Whatever the order of reserving and settling, in each scope by itself."""
    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger(Path(directory) / "ask.db")
        spent = {"a": 0, "b": 0}
        for scope, tokens, used in steps:
            got = ledger.reserve(scope, "server", "model", tokens, budget, 0.0)
            assert isinstance(got, Refused) == (spent[scope] + tokens > budget)
            if isinstance(got, Refused):
                assert (got.why, got.left) == ("budget", budget - spent[scope])
                continue
            is_settled = used is not None and sum(used) <= tokens
            if is_settled:
                ledger.answered(got, "server", Used(*used, 0), 0.5)
            spent[scope] += sum(used) if is_settled else tokens
            assert ledger.spent(scope).tokens == spent[scope] <= budget
        ledger.close()


def changed(path, statement):
    """Carried out by somebody else; what it gives."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        return database.execute(statement).fetchall()


DAMAGED = {
    "rubbish": lambda path: path.write_bytes(b"rubbish" * 1000),
    "a directory": lambda path: path.mkdir(),
    "a link": lambda path: path.symlink_to(path.with_name("elsewhere")),
    "of a later agentwatch": lambda path: changed(path, "PRAGMA user_version = 99"),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED.keys())
def test_where_no_account_can_be_kept_nobody_is_asked(asker, damage):
    """What was spent is not known then; the rules answer, and nothing is made anew by itself."""
    state = asker.logs / ".agentwatch"
    state.mkdir(mode=0o700)
    damage(state / "ask.db")
    with pytest.raises(StorageError):
        Ledger(state / "ask.db")
    answer = asker.ask()
    assert answer.by == "rules"
    assert f"`{state / 'ask.db'}`" in answer.why
    assert asker.server.requests == []


def test_the_ledger_is_its_owners_alone(asker):
    """It has the names of models and runs."""
    asker.ask()
    assert (asker.logs / ".agentwatch" / "ask.db").stat().st_mode & 0o777 == 0o600


def test_an_answer_is_given_though_its_cost_cannot_be_written_down(asker):
    """The disk fills up while the model speaks."""
    path = asker.logs / ".agentwatch" / "ask.db"

    def damaging(_body, _number):
        path.unlink()
        path.write_bytes(b"rubbish" * 1000)
        return Reply("Yes.")

    asker.server.script = damaging
    answer = asker.ask()
    assert answer.text == "Yes."
