"""`agentwatch ask` from the question to the answer, against a real server on loopback."""

import json
import socket

import orjson
import pytest

from agentwatch.model import Issue, Sample, Severity
from agentwatch.store.issues import IssueStore
from tests.ask.conftest import BEGUN, alert, refused, stamp
from tests.ask.server import Reply, Server

WHY = "why does the database fail?"


def test_a_question_is_answered_and_its_citations_are_checked(asker):
    """The words as the model says them; a line that was sent, one that is there, and one that is not."""
    asker.server.script = lambda _body, _number: Reply(
        "Refused [worker.log:57], as [worker.log:2] and [worker.log:999] and worker.log:57-70 say; at 10:30.", (900, 20)
    )
    asker.log("worker.log", *(f"{stamp(100 + n)} INFO idle" for n in range(400)))
    done = asker.run("ask", WHY, "--run", "r1")
    assert done.returncode == 0
    assert done.stdout == (
        "Refused [worker.log:57], as [worker.log:2 (not shown to the model)] and [worker.log:999 (no such line)] and worker.log:57-70 (not shown to the model) say; at 10:30.\n"
    )
    assert "1 of its citations names a line that is not there\n" in done.stderr


def test_the_answer_streams(asker):
    """What the model has said can be read while it still speaks."""
    heard = []
    asker.server.script = lambda _body, _number: Reply("One two three four five six seven", pause_s=0.01)
    answer = asker.ask(hear=heard.append)
    assert len(heard) > 3
    assert "".join(heard) == answer.text == "One two three four five six seven"


def test_the_request_is_one_that_any_server_understands(asker):
    """Two messages, a limit, no tools; the question stands behind the data, and the data between markers that are never the same."""
    asker.ask()
    asker.ask()
    first, second = asker.server.requests
    assert sorted(first) == ["max_tokens", "messages", "model", "stream", "stream_options"]
    assert first["model"] == "gpt-5.4-mini"
    system, user = (message["content"] for message in first["messages"])
    nonce = user.partition("\n")[0].removeprefix("<<<")
    assert len(nonce) == 32
    assert f"<<<{nonce}" in system
    assert user.endswith(f"{nonce}>>>\n\nQuestion: {WHY}")
    assert nonce not in second["messages"][1]["content"]


def test_json_has_the_answer_with_all_it_rests_on(asker):
    """Who answered, citations with their state, facts, lines, tokens, cost, time."""
    asker.server.script = lambda _body, _number: Reply("See [worker.log:57].", (900, 20))
    answer = json.loads(asker.run("ask", "--json", "--run", "r1", WHY).stdout)
    assert (answer["by"], answer["text"], answer["run_id"], answer["question"]) == ("model", "See [worker.log:57].", "r1", WHY)
    assert answer["citations"] == [{"source": "worker.log", "place": "57", "state": "shown"}]
    assert answer["facts"]["errors"][0].startswith(f"6 times, since {stamp(7)}: worker.log:57 ")
    assert {"source": "worker.log", "place": "57", "text": f"{stamp(57)} ERROR connect ECONNREFUSED 127.0.0.1:5432 after 57 ms"} in answer["lines"]
    assert answer["sources"] == {"worker.log": str(asker.run_dir / "worker.log")}
    assert answer["cost_usd"] == answer["cost_usd_total"] > 0
    assert answer["tokens"]["budget"] == 10_000
    assert answer["tokens"]["left"] + answer["tokens"]["spent"] == 10_000
    assert set(answer["took_ms"]) == {"reading", "loading", "model", "account"}


def test_issues_alerts_and_sessions_are_told(asker):
    """Each with what it rests on, cited by line; a recovered incident is told by its last line alone."""
    lines = refused()
    offset = sum(len(line) + 1 for line in lines[:6])
    (asker.logs / "agent-alerts.jsonl").write_bytes(
        alert(7, summary="begins")
        + alert(9, summary="the database is gone", offset=offset, episode_id=f"{7:016x}")
        + alert(8, summary="of another run", run_id="r2")
    )
    row = {
        "timestamp": stamp(99),
        "attempt_id": "a-9",
        "run_id": "r1",
        "completion_status": "failed",
        "task_title": "Mend the pool",
        "metrics": {"cost_usd": 1.5, "errors": 3},
    }
    (asker.logs / "agent-metrics.jsonl").write_bytes(b"rubbish\n" + orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    (asker.logs / ".agentwatch").mkdir(mode=0o700)
    sample = Sample("runs/r1/worker.log", offset, BEGUN, lines[6])
    common = {"title": "Connection refused", "category": "network", "message": "connect ECONNREFUSED <num>", "first_seen": BEGUN, "last_seen": BEGUN}
    issue = Issue(run_id="r1", fingerprint="f" * 64, rule_id="net.refused", severity=Severity.HIGH, occurrences=6, samples=(sample,), **common)
    IssueStore(asker.logs / ".agentwatch" / "issues.db").write([issue], {"r1": BEGUN})
    asker.ask()
    said = asker.server.requests[0]["messages"][1]["content"]
    assert "net.refused: Connection refused. 6 times" in said
    assert "seen at worker.log:7" in said
    assert "the database is gone (seen at worker.log:7)" in said
    assert "begins" not in said
    assert "of another run" not in said
    assert 'a-9 "Mend the pool": failed' in said


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        pytest.param({"OPENAI_API_KEY": ""}, "no OPENAI_API_KEY is set", id="no key"),
        pytest.param({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, "the server cannot be reached", id="no server"),
        pytest.param({"OPENAI_BASE_URL": "http://no-such-host.invalid/v1"}, "the server cannot be reached", id="no network"),
        pytest.param({"OPENAI_BASE_URL": "localhost:11434"}, "`ask.base_url`, from environment OPENAI_BASE_URL, is no web address", id="no address"),
        pytest.param({"OPENAI_BASE_URL": "http://"}, "`ask.base_url`, from environment OPENAI_BASE_URL, is no web address", id="half an address"),
        pytest.param({"OPENAI_BASE_URL": "http://[::1/v1"}, "the server cannot be asked: Invalid port", id="a broken address"),
        pytest.param({"HTTP_PROXY": "nonsense://x"}, "the server cannot be asked: ", id="a broken proxy"),
        pytest.param({"SSL_CERT_FILE": "/nowhere/at/all"}, "the server cannot be asked: ", id="certificates that are gone"),
        pytest.param({"OPENAI_API_KEY": "ke\ny"}, "OPENAI_API_KEY has characters that no key has", id="a key that no header can hold"),
        pytest.param({"AGENTWATCH_ASK_BUDGET_TOKENS": "100"}, "of the 100 tokens for run r1 100 are left", id="budget spent"),
    ],
)
def test_without_a_model_the_rules_answer(asker, environ, why):
    """With what is known, exit code 0, and why it is not the model that answers."""
    done = asker.run("ask", WHY, "--run", "r1", **environ)
    assert done.returncode == 0
    assert done.stdout.startswith(f"Answered without a model: {why}")
    assert "worker.log:57" in done.stdout
    assert "ECONNREFUSED" in done.stdout
    assert asker.server.requests == []


FAULTS = {
    "overloaded": (Reply("slow down", status=429, headers={"Retry-After": "20"}), "the server says 429: slow down; it asks to wait 20 s", True),
    "broken": (Reply("oops", status=500), "the server says 500: oops", True),
    "wrong key": (Reply("no such key", status=401), "the server says 401: no such key", True),
    "moved": (Reply("elsewhere", status=307, headers={"Location": "http://127.0.0.1:9/"}), "the server says 307", True),
    "hangs": (Reply(hang_s=30), "the model was not done after 2 s", False),
    "trickles": (Reply("x" * 7000, pause_s=0.05), "the model was not done after 2 s", False),
    "breaks off": (Reply("Half an ans", reason=None), "the answer broke off", False),
    "breaks off in a piece": (Reply("Half an ans", cuts_off=True), "the answer broke off", False),
    "no stream": (Reply(raw=b"<html>hello</html>", kind="text/html"), "the answer broke off", False),
    "no JSON": (Reply(raw=b"data: {nonsense\n\n"), "what the server sent is no answer", False),
    "other JSON": (Reply(raw=b'data: [1, "two"]\n\ndata: 7\n\n'), "the answer broke off", False),
    "an error in the stream": (Reply(raw=b'data: {"error": {"message": "overheated"}}\n\n'), "the server says: overheated", False),
    "a whole answer that is none": (Reply(raw=b'{"choices": []}', kind="application/json"), "what the server sent is no answer", False),
    "a whole answer without end": (Reply(raw=b" " * (5 << 20), kind="application/json"), "the answer has no end", False),
    "nothing at all": (Reply(raw=b""), "the answer broke off", False),
}


@pytest.mark.parametrize(("reply", "why", "is_free"), FAULTS.values(), ids=FAULTS.keys())
def test_whatever_the_server_does_the_rules_answer(asker, reply, why, is_free):
    """In time, saying what happened; what may have been paid for stays reserved, and what was refused costs nothing."""
    asker.environ["AGENTWATCH_ASK_TIMEOUT_S"] = "2"
    asker.server.script = lambda _body, _number: reply
    answer = asker.ask()
    assert (answer.by, answer.why[: len(why)]) == ("rules", why)
    assert "worker.log:57" in answer.text
    assert len(asker.server.requests) == 1
    assert (answer.tokens.spent == 0) == is_free
    if not is_free:
        assert answer.tokens.spent > 1500


def test_what_was_said_before_the_end_is_kept(asker):
    """It was heard already."""
    asker.server.script = lambda _body, _number: Reply("Half an ans", reason=None)
    heard = []
    answer = asker.ask(hear=heard.append)
    assert "".join(heard) == answer.partial == "Half an ans"


def test_an_answer_that_is_no_stream_is_an_answer(asker):
    """Some servers send it whole."""
    asker.server.script = lambda _body, _number: Reply("All of it.", (800, 5), streams=False)
    answer = asker.ask()
    assert (answer.by, answer.text) == ("model", "All of it.")


@pytest.mark.parametrize("message", ["Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "unknown field stream_options"])
def test_a_parameter_that_the_server_does_not_know_is_left_out_or_called_otherwise(asker, message):
    """Servers differ; a refusal that names it costs nothing and is asked again once."""
    asker.server.script = lambda _body, number: Reply(message, status=400) if number == 0 else Reply("Now.")
    assert asker.ask().text == "Now."
    first, second = asker.server.requests
    name = "max_tokens" if "max_tokens" in message else "stream_options"
    assert name in first
    assert name not in second


def test_an_endless_answer_is_cut_where_its_tokens_end(asker, tokens):
    """A server that does not keep to the limit is not read any longer, and the budget holds."""
    asker.server.script = lambda _body, _number: Reply("all work and no play " * 20_000, None)
    answer = asker.ask()
    assert answer.by == "model"
    assert tokens(answer.text) <= 1500
    assert "the answer was cut off where its tokens ended" in answer.notes
    assert answer.tokens.spent <= 10_000


def test_an_answer_without_a_word_is_the_rules(asker):
    """A model that reasons may use up its tokens before it says anything; they are paid for."""
    asker.server.script = lambda _body, _number: Reply("", (900, 1500), "length")
    answer = asker.ask()
    assert (answer.by, answer.tokens.answer) == ("rules", 1500)
    assert "before it said anything" in answer.why


def test_show_prompt_prints_what_would_be_sent_and_sends_nothing(asker):
    """But for the random marker it is the request itself; nothing is written either."""
    shown = json.loads(asker.run("ask", WHY, "--run", "r1", "--show-prompt", "--json").stdout)
    assert asker.server.requests == []
    assert not (asker.logs / ".agentwatch").exists()
    asker.run("ask", WHY, "--run", "r1")
    (sent,) = asker.server.requests

    def nameless(body):
        nonce = body["messages"][1]["content"].partition("\n")[0][3:]
        return json.loads(json.dumps(body).replace(nonce, "N"))

    assert nameless(shown) == nameless(sent)
    assert "Question: why does the database fail?" in asker.run("ask", WHY, "--run", "r1", "--show-prompt").stdout


def test_only_what_was_asked_about_is_told(asker):
    """A run, a time, an attempt."""
    other = asker.logs / "runs" / "r2"
    other.mkdir()
    (other / "other.log").write_text(f"{stamp(5)} ERROR of another run\n")
    asker.write({"timestamp": stamp(9000), "attempt_id": "a-1", "event_type": "error", "data": {"error_message": "late failure"}})
    asker.write({"timestamp": stamp(10), "attempt_id": "b-1", "event_type": "error", "data": {"error_message": "early failure"}})

    def sent(**more):
        return asker.ask(**more) and asker.server.requests[-1]["messages"][1]["content"]

    assert "of another run" not in sent()
    everything = sent(run=None)
    assert all(text in everything for text in ("of another run", "late failure", "early failure", "ECONNREFUSED"))
    assert "early failure" not in sent(run=None, attempt="a-")
    late = sent(run=None, since=BEGUN.replace(hour=9))
    assert "late failure" in late
    assert "ECONNREFUSED" not in late


def test_long_names_are_short_in_the_prompt_and_still_tell_the_logs_apart(asker):
    """An id of 36 characters before each line would take half of the room; which file is meant is told beside the answer."""
    names = [f"rollout-2026-02-09T08-00-00-0b1f6c3e-3f0a-4f5e-9a51-0d8f8a1c2b3{n}.jsonl" for n in "de"]
    for word, name in zip(("asleep", "awake"), names, strict=True):
        asker.log(name, f'{{"level":"error","message":"database {word}","timestamp":"{stamp(99)}"}}')
    asker.server.script = lambda _body, _number: Reply("See [rollout-2026~0b1f6c3e.jsonl:1] and [rollout-2026~0b1f6c3e.jsonl~2:1].")
    answer = asker.ask()
    assert {one.state for one in answer.citations} == {"shown"}
    assert sorted(map(answer.sources.get, (one.source for one in answer.citations))) == [str(asker.run_dir / name) for name in names]
    told = asker.run("ask", WHY, "--run", "r1").stderr.splitlines()
    assert sorted(line.partition(" is ")[2] for line in told if line.startswith("rollout-2026~0b1f6c3e.jsonl")) == [str(asker.run_dir / name) for name in names]
    assert not any(line.startswith("worker.log is") for line in told)


def test_latest_and_the_environment_name_a_run(asker):
    """As everywhere else; one that is not there is told with those that are."""
    (asker.logs / "runs" / "latest").symlink_to("r1")
    assert asker.ask(run="latest").run_id == "r1"
    asker.environ["AGENTWATCH_RUN"] = "r1"
    assert asker.ask(run=None).run_id == "r1"
    done = asker.run("ask", WHY, "--run", "r9")
    assert (done.returncode, done.stderr) == (1, f"error: there is no run `r9` in {asker.logs}\n\nhint: the newest are r1\n")
    for name in ("..", "../runs/r1", "r1/"):
        done = asker.run("ask", WHY, "--run", name)
        assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"error: `{name}` cannot be a run's id")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["  "], "there is no question", id="empty"),
        pytest.param(["x" * 5000], "the question has 5,000 characters", id="too long"),
        pytest.param([WHY, "--since", "2h", "--days", "1"], "`--since` and `--days` say two things", id="two times"),
        pytest.param([], "Missing argument", id="none"),
    ],
)
def test_a_question_that_is_none_is_refused(place, arguments, said):
    """Exit code 2, and what to do."""
    done = place.run("ask", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_where_there_is_nothing_nobody_is_asked(place):
    """In an empty directory, and nothing is made there."""
    with Server() as server:
        place.asks(server)
        done = place.run("ask", WHY)
        assert (done.returncode, server.requests) == (0, [])
    assert done.stdout == "Answered without a model: there is nothing to ask about: no logs, alerts or issues were found.\n\nNothing was found.\n"
    assert not place.logs.exists()


def test_a_key_from_a_file_is_used_and_never_told(asker, tmp_path):
    """Nor is one that the server quotes."""
    key = "sk-" + "proj-aB3dE6gH9jK2mN5pQ8sT1v"
    (tmp_path / "key").write_text(key + "\n")
    asker.environ.update(OPENAI_API_KEY="", OPENAI_API_KEY_FILE=str(tmp_path / "key"))
    asker.server.script = lambda _body, _number: Reply(f"Incorrect API key provided: {key}", status=401)
    answer = asker.ask()
    assert f"Bearer {key}".encode() in asker.server.log[0]
    assert key not in answer.why
    assert b"aB3dE6" not in b"".join(path.read_bytes() for path in (asker.logs / ".agentwatch").iterdir())


def test_a_name_that_is_never_resolved_holds_nobody_up(asker, monkeypatch):
    """A name server without an answer has no timeout of its own."""
    asker.environ.update(OPENAI_BASE_URL="http://slow.invalid/v1", AGENTWATCH_ASK_TIMEOUT_S="0.2")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: asker.server.closing.wait(20) or [])
    assert asker.ask().why == "the model was not done after 0.2 s"
