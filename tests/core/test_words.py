"""Events in the words of a person."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from agentwatch.core.words import LONGEST_RAW, action, count, money, parameters, said, thought, whole
from agentwatch.formats.canonical import Decoder
from agentwatch.formats.registry import FORMATS
from agentwatch.model import NO_MEMORY, NOTHING


def raw(value):
    return Raw(orjson.dumps(value))


def told(line):
    """The words for each event of a line of the canonical stream."""
    found = []
    decoder = Decoder()
    decoder.read(
        [orjson.dumps(line)], 0, lambda items: found.extend(said(event, text, whole(event, text, decoder.detail)) for event, _, text in items), lambda *_: None
    )
    return found


def event(event_type, **data):
    return {"timestamp": "2026-02-09T08:00:00Z", "attempt_id": "a-1", "event_type": event_type, "data": data}


@pytest.mark.parametrize(
    ("tool", "params", "words"),
    [
        pytest.param("Bash", {"command": "npm test", "description": "Run the tests"}, "Bash: npm test", id="a command"),
        pytest.param("shell", {"command": ["bash", "-lc", "cd x && make"]}, "shell: cd x && make", id="a command as a list, in a shell"),
        pytest.param("shell", {"command": ["git", "status"]}, "shell: git status", id="a command as a list"),
        pytest.param("exec_command", '{"cmd": "ls", "yield_time_ms": 1000}', "exec_command: ls", id="parameters as a text of JSON"),
        pytest.param("Edit", {"file_path": "src/x.py", "old_string": "a", "new_string": "b"}, "Edit: src/x.py", id="a file"),
        pytest.param("Read", {"file_path": "src/x.py", "offset": 20, "limit": 5}, "Read: src/x.py:20", id="a place in a file"),
        pytest.param("Read", {"file_path": "src/x.py", "limit": 5}, "Read: src/x.py (5 lines)", id="the beginning of a file"),
        pytest.param("str_replace_based_edit_tool", {"command": "view", "path": "src"}, "str_replace_based_edit_tool: view src", id="an editor's verb"),
        pytest.param("Grep", {"pattern": "TODO", "path": "src", "output_mode": "content"}, "Grep: TODO in src", id="what is sought, and where"),
        pytest.param("apply_patch", "*** Begin Patch\n*** Update File: a.py\n@@\n*** Add File: b.py\n", "apply_patch: a.py, 1 more", id="a patch"),
        pytest.param("apply_patch", {"input": "*** Begin Patch\n*** Delete File: a.py\n"}, "apply_patch: delete a.py", id="a patch in a field"),
        pytest.param(
            "TodoWrite",
            {"todos": [{"content": "x", "status": "completed"}, {"content": "y", "status": "in_progress", "activeForm": "Doing y"}]},
            "TodoWrite: 1 of 2 done, now: Doing y",
            id="a list of things to do",
        ),
        pytest.param("AskUserQuestion", {"questions": [{"question": "Which one?"}]}, "AskUserQuestion: Which one?", id="a question"),
        pytest.param("mcp__github__create_issue", {"title": "It fails"}, "github.create_issue: It fails", id="a tool of a server"),
        pytest.param("TaskUpdate", {"taskId": "1", "status": "completed"}, "TaskUpdate: taskId=1, status=completed", id="nothing that is known"),
        pytest.param("TaskList", {}, "TaskList", id="no parameters"),
        pytest.param(None, None, "unknown tool", id="nothing at all"),
        pytest.param("web_search", {"action": {"type": "search", "query": "python"}}, "web_search: python", id="an action within"),
    ],
)
def test_a_call_is_told_by_its_tool_and_the_parameter_that_says_most(tool, params, words):
    """What somebody sees of a call on one line is what they would ask for first."""
    assert action(tool, NOTHING if params is None else raw(params)).line == words


@pytest.mark.parametrize(
    ("line", "words", "is_bad"),
    [
        pytest.param(event("session_start", prompt="Fix it"), "starts: Fix it", False, id="start"),
        pytest.param(event("session_start", prompt="Again", prompt_type="retry"), "starts (retry): Again", False, id="retry"),
        pytest.param(event("session_end", completion_status="success"), "ends: success", False, id="success"),
        pytest.param(event("session_end", outcome={"status": "completed"}), "ends: completed", False, id="success in the other words"),
        pytest.param(event("session_end", completion_status="failed"), "ends: failed", True, id="failure"),
        pytest.param(event("user_message", output="Go on"), "user: Go on", False, id="user"),
        pytest.param(event("agent_output", output="Done"), "says: Done", False, id="output"),
        pytest.param(event("agent_thinking", thinking="Hm"), "thinks: Hm", False, id="thinking"),
        pytest.param(event("tool_result", tool_name="Bash", result="ok", is_error=False), "Bash returned: ok", False, id="result"),
        pytest.param(
            event("tool_result", tool_name="Bash", is_error=True, exit_code=2, error_message="no"), "Bash failed (exit code 2): no", True, id="failed result"
        ),
        pytest.param(event("tool_result", tool_name="Bash", result="error"), "Bash failed", True, id="a verdict in the older form"),
        pytest.param(event("error", error_message="boom", error_category="git"), "error (git): boom", True, id="error"),
        pytest.param(event("followup_sent", prompt="And?", followup_reason="ci"), "follow-up (ci): And?", False, id="follow-up"),
        pytest.param(event("status_change", new_status="review", reason="pr"), "status: review (pr)", False, id="status"),
        pytest.param(event("turn_end", reason="end_turn"), "hands over: end_turn", False, id="turn"),
        pytest.param(event("turn_end", interrupted=True), "interrupted", False, id="interrupted turn"),
        pytest.param(event("usage", usage={"input": 1200, "output": 30}, cost_usd=0.5), "usage: 1.2k in, 30 out, $0.50", False, id="usage"),
        pytest.param(event("from_the_future", x=1), "from the future", False, id="a type that nobody knows"),
    ],
)
def test_each_type_of_event_has_its_words(line, words, is_bad):
    """Title and text of every type of the canonical stream, and whether it is bad news."""
    [found] = told(line)
    assert (found.line, found.is_bad) == (words, is_bad)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        pytest.param({"message": {"content": [{"type": "thinking", "thinking": "Claude's"}]}}, "Claude's", id="Claude Code"),
        pytest.param(
            {"type": "response_item", "payload": {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Codex'"}]}}, "Codex'", id="Codex"
        ),
        pytest.param({"type": "item.completed", "item": {"type": "reasoning", "text": "exec's"}}, "exec's", id="codex exec"),
        pytest.param({"data": {"reasoningText": "Copilot's", "content": ""}}, "Copilot's", id="Copilot"),
        pytest.param({"thoughts": [{"subject": "Plan", "description": "Gemini's"}], "content": ""}, "Plan: Gemini's", id="Gemini"),
        pytest.param({"message": {"parts": [{"text": "Qwen's", "thought": True}]}}, "Qwen's", id="Qwen"),
        pytest.param({"say": "reasoning", "text": "Cline's", "ts": 1}, "Cline's", id="Cline"),
        pytest.param({"event": {"part": {"type": "think", "think": "Kimi's"}}}, "Kimi's", id="Kimi"),
        pytest.param({"action": "think", "args": {"thought": "OpenHands'"}}, "OpenHands'", id="OpenHands"),
        pytest.param({"payload": {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}}, "", id="encrypted"),
        pytest.param([1, "x", None], "", id="something else"),
    ],
)
def test_a_thought_is_found_under_the_name_that_its_agent_gives_it(line, text):
    """Detectors do not ask for thoughts, so formats do not tell them: they are found when they are shown."""
    assert thought(orjson.dumps(line)) == text


def test_what_is_too_long_to_be_decoded_is_shown_by_its_beginning():
    """A call that writes a file of megabytes costs no more than another."""
    params = raw({"content": "x" * (LONGEST_RAW + 1)})
    assert len(action("Write", params).text) < 500
    assert parameters(params) == ""
    assert thought(b'{"thinking": "' + b"x" * LONGEST_RAW + b'"}') == ""


def test_the_other_parameters_of_a_call_are_told_by_name():
    """What `action` has told already is not told again; texts of many lines begin on their own."""
    assert parameters(raw({"file_path": "x.py", "old_string": "a\nb", "replace_all": True})) == "old_string:\na\nb\nreplace_all: true"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1000, "1.0k"), (99_949, "99.9k"), (99_951, "100k"), (1_234_567, "1.2M"), (10**9, "1.0G")]
)
def test_a_count_takes_five_characters_at_most(number, text):
    """Columns keep their width."""
    assert count(number) == text
    assert len(count(number)) <= 5


@pytest.mark.parametrize(("usd", "text"), [(0, "$0.00"), (0.0421, "$0.042"), (0.5, "$0.50"), (12.345, "$12.35"), (1204.4, "$1,204")])
def test_money_is_as_exact_as_it_matters(usd, text):
    """Cents count, tenths of a cent only below ten."""
    assert money(usd) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["command", "path", "todos", "questions", "type", "thinking", "text", "x"]), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(json_values)
def test_whatever_a_call_or_a_line_holds_is_put_into_words(value):
    """Logs hold anything: nothing is raised, and what comes is text."""
    assert isinstance(action("Bash", raw(value)).line, str)
    assert isinstance(parameters(raw(value)), str)
    assert isinstance(thought(orjson.dumps(value)), str)
    for name in ("claude-code", "codex"):
        decoder = FORMATS[name].decoder("x", NO_MEMORY)
        decoder.read(
            [orjson.dumps({"type": "user", "sessionId": "s", "timestamp": "2026-01-01T00:00:00Z", "message": {"content": value}})],
            0,
            lambda items, read=decoder: [said(event, line, whole(event, line, read.detail)) for event, _, line in items],
            lambda *_: None,
        )
