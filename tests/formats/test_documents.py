"""The documents of all agents: each element becomes its events once, whatever its writer does between two looks."""

import copy
import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.formats.harness import CORPUS, JSON_VALUES, differences, of_type, types, usages
from tests.formats.wholes import NO_MEMORY, alike, faults, rewritten, told

FOLDERS = {"opencode-export": "opencode-export", "gemini-cli": "gemini-document", "amp": "amp", "swe-agent": "swe-agent", "mini-swe-agent": "swe-agent"}
ELEMENTS = {"opencode-export": "messages", "gemini-document": "messages", "amp": "messages"}


def corpus() -> list[tuple[str, dict, Path]]:
    found = []
    for index in (CORPUS / "INDEX.tsv", CORPUS / "gen" / "GEN_INDEX.tsv"):
        if index.exists():
            with index.open() as rows:
                for row in csv.DictReader(rows, delimiter="\t"):
                    folder = row["file"].split("/")[1]
                    if folder in FOLDERS and not row["file"].endswith(".jsonl"):
                        found.append((FOLDERS[folder], row, CORPUS / row["file"]))
    return found


DOCUMENTS = [pytest.param(name, row, path, id="/".join(path.parts[-3:-1]) + f"/{path.name[:2]}") for name, row, path in corpus()]
if not DOCUMENTS:
    DOCUMENTS = [pytest.param("", {}, Path(), marks=pytest.mark.skip("the corpus of transcripts is not here"))]

EXPLAINED = {
    # The index counts what OpenCode calls an error; a command that failed is one here (README.md). An abort is the user's doing.
    "open/opencode-export/01": {"ref_tool_errors": 5},
    "open/opencode-export/02": {"ref_tool_errors": 7, "ref_api_errors": 0},
}


def key(path):
    return "/".join(path.parts[-3:-1]) + f"/{path.name[:2]}"


def kept(name, count, document):
    """The document as it was when it had so many elements."""
    value = copy.copy(document)
    if isinstance(value, list):
        return value[:count]
    for field in (ELEMENTS.get(name), "messages", "trajectory"):
        if field in value:
            value[field] = value[field][:count]
            return value
    raise AssertionError(name)


def size(document):
    return len(document if isinstance(document, list) else document.get("messages") or document.get("trajectory"))


@pytest.mark.parametrize(("name", "row", "path"), DOCUMENTS)
def test_real_documents_are_understood(name, row, path):
    """Counts of calls, errors and tokens are those of the index, but for what is explained; nothing is unknown."""
    events, memory, understood = told(name, path.read_bytes())
    assert understood
    assert faults(events) == []
    if "ref_tok_in" in row and name == "opencode-export":
        row = {**row, "ref_tok_in": ""}  # the index excludes the cache here; asked below
        assert sum(usage["input"] for usage in usages(events)) == int(csv_row(path)["ref_tok_in"])
        assert sum(usage["output"] - usage["reasoning"] for usage in usages(events)) == int(row["ref_tok_out"])
        row["ref_tok_out"] = ""
    if name == "gemini-document":
        assert sum(usage["output"] - usage["reasoning"] for usage in usages(events)) == int(row["ref_tok_out"])
        row = {**row, "ref_tok_out": ""}
    assert differences(row, events) == EXPLAINED.get(key(path), {})
    assert told(name, path.read_bytes(), memory)[0] == []


def csv_row(path):
    return next(row for _, row, other in corpus() if other == path)


@pytest.mark.parametrize(("name", "row", "path"), DOCUMENTS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_document_that_grew_gives_the_events_of_one_reading(name, row, path, data):
    """Whichever of its states were seen, and whether the daemon lived between them."""
    document = json.loads(path.read_bytes())
    cuts = sorted(data.draw(st.lists(st.integers(0, size(document)), max_size=5)))
    states = [json.dumps(kept(name, cut, document)).encode() for cut in cuts]
    if name == "swe-agent" and isinstance(document, dict):  # totals and the end come with the last step
        early = [{**json.loads(state), "info": {}} for state in states]
        states = [json.dumps(state).encode() for state in early]
    whole = json.dumps(document).encode()
    assert alike(rewritten(name, [*states, whole])) == alike(told(name, whole)[0])


@pytest.mark.parametrize("name", sorted(set(FOLDERS.values())))
@settings(max_examples=100, deadline=None)
@given(value=JSON_VALUES | st.dictionaries(st.sampled_from(["info", "messages", "trajectory", "id", "sessionId", "projectHash"]), JSON_VALUES))
def test_any_json_is_survived(name, value):
    """Whatever lies under such a name."""
    told(name, json.dumps(value).encode())


@pytest.mark.parametrize("name", sorted(set(FOLDERS.values())))
@pytest.mark.parametrize("half", [b"", b"{", b'{"messages": [', b"\0\0\0", b"nothing"], ids=["empty", "begun", "in the middle", "a hole", "no JSON"])
def test_a_half_document_says_nothing(name, half):
    """It is no fault either: it is looked at again."""
    assert told(name, half)[::2] == ([], None)


# Gemini CLI, before 0.39


def gemini(*messages):
    return json.dumps({"sessionId": "s", "projectHash": "p", "startTime": "2026-02-09T08:00:00Z", "messages": messages}).encode()


def said(number, **fields):
    return {"id": f"m{number}", "timestamp": f"2026-02-09T08:{number:02}:00Z", "type": "gemini", "content": f"answer {number}", **fields}


def test_a_message_that_grows_is_told_as_it_grows():
    """First its text, then its tokens, then its calls: each once."""
    tokens = {"input": 100, "output": 10, "cached": 40, "thoughts": 0, "tool": 0, "total": 110}
    call = {"id": "c", "name": "list", "args": {}, "status": "success", "result": [], "timestamp": "2026-02-09T08:02:00Z"}
    states = [
        gemini(said(1)),
        gemini(said(1, tokens=tokens)),
        gemini(said(1, tokens=tokens, toolCalls=[call])),
        gemini(said(1, tokens=tokens, toolCalls=[call])),
    ]
    events = rewritten("gemini-document", states)
    assert types(events) == ["session_start", "turn_end", "agent_output", "turn_end", "usage", "tool_call", "tool_result"]
    assert usages(events) == [{"input": 60, "output": 10, "cache_read": 40, "cache_write": 0, "reasoning": 0}]


def test_what_is_left_after_a_rewind_was_told():
    """A document that became shorter by more than is remembered: only what comes after it is new."""
    before = [said(n) for n in range(50)]
    events = rewritten("gemini-document", [gemini(*before), gemini(*before[:10]), gemini(*before[:10], said(55, content="new"))])
    assert [data["output"] for data in of_type(events, "agent_output")] == [f"answer {n}" for n in range(50)] + ["new"]


def test_another_session_in_the_same_file_begins_anew():
    """A name says nothing."""
    other = gemini(said(1)).replace(b'"s"', b'"t"')
    assert types(rewritten("gemini-document", [gemini(said(1)), other])) == ["session_start", "turn_end", "agent_output", "turn_end"] * 2


# Amp


def amp(*messages):
    return json.dumps({"id": "T-1", "created": 1770624000000, "messages": [{"messageId": n, **one} for n, one in enumerate(messages)]}).encode()


def test_a_message_of_amps_is_told_when_it_is_whole():
    """Text that is still being written is not told; tokens once, whenever they come."""
    usage = {"model": "m", "inputTokens": 3, "outputTokens": 7, "timestamp": "2026-02-09T08:00:01Z"}
    text, call = {"type": "text", "text": "I look."}, {"type": "tool_use", "id": "c", "name": "Bash", "input": {"cmd": "ls"}}
    states = [
        amp({"role": "assistant", "content": [{"type": "text", "text": "I lo"}], "state": {"type": "streaming"}}),
        amp({"role": "assistant", "content": [text, call], "state": {"type": "streaming"}}),
        amp({"role": "assistant", "content": [text, call], "state": {"type": "complete", "stopReason": "tool_use"}, "usage": usage}),
    ]
    events = rewritten("amp", states)
    assert types(events) == ["session_start", "agent_output", "tool_call", "usage"]
    assert of_type(events, "agent_output")[0]["output"] == "I look."


@pytest.mark.parametrize(
    ("run", "failed"),
    [
        pytest.param({"status": "done", "result": {"output": "fine", "exitCode": 0}}, False, id="done"),
        pytest.param({"status": "done", "result": {"output": "no such file", "exitCode": 2}}, True, id="a command that failed"),
        pytest.param({"status": "error", "error": {"message": "no such tool"}}, True, id="a tool that failed"),
        pytest.param({"status": "cancelled"}, False, id="cancelled by the user"),
        pytest.param({"status": "rejected-by-user"}, False, id="refused by the user"),
    ],
)
def test_the_end_of_a_tool_of_amps(run, failed):
    """What a person did is no failure of the agent's."""
    result = {"role": "user", "content": [{"type": "tool_result", "toolUseID": "c", "run": run}]}
    waiting = {"role": "user", "content": [{"type": "tool_result", "toolUseID": "c", "run": {"status": "in-progress"}}]}
    events = rewritten("amp", [amp(waiting), amp(result), amp(result)])
    assert [data["is_error"] for data in of_type(events, "tool_result")] == [failed]


# SWE-agent and mini-swe-agent


def test_the_end_of_a_run_is_told_once():
    """With its totals, which grow with each step."""
    step = {"action": "ls -F", "observation": "a\nb", "thought": "I look."}
    info = {"model_stats": {"instance_cost": 0.5, "tokens_sent": 100, "tokens_received": 10}}
    states = [
        {"trajectory": [step], "history": [], "info": info},
        {
            "trajectory": [step, step],
            "history": [],
            "info": {"model_stats": {"instance_cost": 0.75, "tokens_sent": 150, "tokens_received": 10}, "exit_status": "submitted"},
        },
    ]
    events = rewritten("swe-agent", [json.dumps(state).encode() for state in (*states, states[-1])])
    assert sum(data["cost_usd"] for data in of_type(events, "usage")) == pytest.approx(0.75)
    assert [data["completion_status"] for data in of_type(events, "session_end")] == ["success"]
    assert len(of_type(events, "tool_call")) == 2


def test_another_run_that_writes_to_the_same_file_begins_anew():
    """It is shorter, or begins with something else."""
    first, second = ({"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Done."}]} for text in ("one", "two"))
    events = rewritten("swe-agent", [json.dumps(first).encode(), json.dumps(second).encode()])
    assert [data["output"] for data in of_type(events, "user_message")] == ["one", "two"]


def test_no_memory_grows_with_a_document():
    """It is saved with every checkpoint."""
    _, memory, _ = told("gemini-document", gemini(*[said(n % 60, id=f"x{n}") for n in range(2000)]), NO_MEMORY)
    assert len(memory) < 20_000
