"""When two calls, results or errors are the same again."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.core.signatures import call_signature, fingerprint, is_own_failure, is_transient, normalise_result, operation, result_text, salient

SESSIONS = Path(__file__).parents[2].parent / "shared" / "data" / "detection" / "open"

SAME_CALLS = {
    "order of keys": ({"path": "a.py", "line": 1}, {"line": 1, "path": "a.py"}),
    "white space": ({"command": "ls  -l\n\tsrc "}, {"command": "ls -l src"}),
    "dot slash": ({"command": "cat ./src/a.py && ./run.sh"}, {"command": "cat src/a.py && run.sh"}),
    "description": ({"command": "ls", "description": "List"}, {"command": "ls", "description": "List again"}),
    "thought": ({"command": "ls", "thought": "hm", "security_risk": "LOW", "task_progress": "1/3"}, {"command": "ls"}),
    "time-outs": ({"command": "ls", "timeout": 1, "yield_time_ms": 5, "max_output_tokens": 9}, {"command": "ls", "timeout_ms": 7, "timeoutMs": 8}),
    "JSON as a string": ('{"cmd": "ls"}', {"cmd": "ls"}),
    "nested white space": ({"edits": [{"new": "a  b"}]}, {"edits": [{"new": "a b"}]}),
    "nothing": ({}, "{}"),
}

OTHER_CALLS = {
    "a number": ({"offset": 10}, {"offset": 20}),
    "a string": ({"path": "a.py"}, {"path": "b.py"}),
    "parent is not here": ({"path": "../a.py"}, {"path": "./a.py"}),
    "a hidden file": ({"path": ".env"}, {"path": "env"}),
    "only a thought": ({"thought": "first"}, {"thought": "second"}),
    "text that is no JSON": ("{ls", "{cat"),
    "the middle of a long text": ({"content": "a" * 40_000 + "b" + "a" * 40_000}, {"content": "a" * 40_000 + "c" + "a" * 40_000}),
    "null and absent text": ({"path": None}, {"path": "None"}),
}


@pytest.mark.parametrize(("one", "other"), SAME_CALLS.values(), ids=SAME_CALLS.keys())
def test_calls_that_do_the_same_have_one_signature(one, other):
    """What says why or how long, and how it is written down, makes no other call."""
    assert call_signature("Tool", one) == call_signature("Tool", other)


@pytest.mark.parametrize(("one", "other"), OTHER_CALLS.values(), ids=OTHER_CALLS.keys())
def test_calls_that_do_something_else_have_another(one, other):
    """The next page of a file, another file and another thought are new."""
    assert call_signature("Tool", one) != call_signature("Tool", other)


def test_the_tool_is_part_of_the_signature():
    """Reading is not writing."""
    assert call_signature("Read", {"path": "a"}) != call_signature("Write", {"path": "a"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=4),
    max_leaves=20,
)


@given(st.text(st.characters(codec=None)), JSON)
def test_any_json_has_a_signature_a_text_and_an_operation(name, value):
    """Lone surrogates, huge numbers and NaN stop nothing."""
    assert len(bytes.fromhex(call_signature(name, value))) == 8
    assert isinstance(operation(name, value), str)
    assert isinstance(operation("Bash", {"command": value}), str)
    assert isinstance(result_text(value), str)


def test_deep_json_has_a_signature():
    """As deep as a decoder returns it."""
    deep = json.loads("[" * 400 + "]" * 400)
    assert call_signature("Tool", deep) != call_signature("Tool", [deep])


OPERATIONS = {
    "program": ("Bash", {"command": "pytest -q tests"}, "pytest"),
    "program and subcommand": ("Bash", {"command": "git status --short"}, "git status"),
    "script of a package": ("Bash", {"command": "npm run build -- --watch"}, "npm run build"),
    "past cd": ("Bash", {"command": "cd /a/b && git -C x diff HEAD"}, "git diff"),
    "past cd with a semicolon": ("bash", {"command": "cd 'a b'; make test"}, "make test"),
    "past variables": ("Bash", {"command": "CI=1 A='b c' cargo test foo"}, "cargo test"),
    "past export and source": ("Bash", {"command": "export A=1; source .venv/bin/activate && python -m pytest -x"}, "pytest"),
    "past sudo and timeout": ("Bash", {"command": "sudo -E timeout -k 5 120s apt-get install -y jq"}, "apt-get install"),
    "past a comment": ("Bash", {"command": "# run them\nset -e\ngo test ./..."}, "go test"),
    "past env": ("Bash", {"command": "env A=1 docker compose up"}, "docker compose"),
    "path of a program": ("Bash", {"command": "/usr/bin/grep -n x y"}, "grep"),
    "pipe": ("Bash", {"command": "cat a | grep b"}, "cat"),
    "Python script": ("Bash", {"command": "python3.11 script.py"}, "python"),
    "here document": ("Bash", {"command": "python - <<'EOF'\nprint(1)\nEOF"}, "python"),
    "argument list of Codex": ("shell", {"command": ["bash", "-lc", "cd x && make"]}, "make"),
    "arguments without a shell": ("shell", {"command": ["git", "log", "-1"]}, "git log"),
    "Codex with cmd": ("exec_command", {"cmd": "rg foo"}, "rg"),
    "parameters as a string": ("exec_command", '{"cmd": "rg foo"}', "rg"),
    "subcommand that is a path": ("Bash", {"command": "make ./x"}, "make"),
    "view": ("str_replace_based_edit_tool", {"command": "view", "path": "a"}, "str_replace_based_edit_tool:view"),
    "action": ("process", {"action": "poll"}, "process:poll"),
    "tool": ("Read", {"file_path": "a"}, "Read"),
    "shell without a command": ("Bash", {}, "Bash"),
    "only cd": ("Bash", {"command": "cd /tmp"}, "cd"),
    "no parameters": ("Bash", None, "Bash"),
}


@pytest.mark.parametrize(("tool_name", "params", "expected"), OPERATIONS.values(), ids=OPERATIONS.keys())
def test_an_operation_is_a_program_or_a_tool_and_its_command(tool_name, params, expected):
    """Coarse enough that the success of a test run ends what its failures began."""
    assert operation(tool_name, params) == expected


RESULTS = {
    "nothing": (None, ""),
    "string": ("ok\n", "ok\n"),
    "blocks": ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
    "strings": (["a", "b"], "a\nb"),
    "object": ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
    "number": (3, "3"),
    "empty": ([], ""),
}


@pytest.mark.parametrize(("result", "text"), RESULTS.values(), ids=RESULTS.keys())
def test_a_result_has_one_text_whatever_its_form(result, text):
    """A string, blocks, or an object in canonical order."""
    assert result_text(result) == text


def test_two_images_are_two_results():
    """They have no text, and are not the same for that."""
    one, other = ([{"type": "image", "source": {"data": data}}] for data in ("AAAA", "BBBB"))
    assert result_text(one) != result_text(other)


SAME_RESULTS = {
    "ISO time": ("at 2026-02-18T00:15:56.794Z ok", "at 2026-02-18 01:16:57,1+01:00 ok"),
    "clock": ("12:00:01 waiting", "9:59:59.123 PM waiting"),
    "time of ls": ("-rw-r--r-- 1 a a 10 Nov 22 03:14 x", "-rw-r--r-- 1 a a 10 Nov 22 04:15 x"),
    "UUID": ("job 0b1f6c3e-3f0a-4f5e-9a51-0d8f8a1c2b3d runs", "job aaaaaaaa-bbbb-4f5e-9a51-0d8f8a1c2b3e runs"),
    "tool call id": ("for toolu_01Ab3dE6gH9jK2", "for toolu_01Zz9xY8wV7uT6"),
    "hex": ("commit 9fceb02d0", "commit 1a2b3c4d5e6f"),
    "address": ("object at 0x7f3a2b", "object at 0x55d"),
    "duration of pytest": ("5 passed in 0.12s", "5 passed in 3.4s"),
    "duration of vitest": ("✓ a.test.ts (3 tests) 5ms\n Duration  1.46s", "✓ a.test.ts (3 tests) 12ms\n Duration  2.05s"),
    "whole seconds": ("took 3 seconds", "took 14 seconds"),
    "duration in JSON": ('{"output":"x","metadata":{"duration_seconds":0.1}}', '{"output":"x","metadata":{"duration_seconds":12.7}}'),
    "process": ("(node:12345) Warning, pid 777", "(node:54321) Warning, pid 888"),
    "session and port": ("session ID 25207 on port 5173", "session ID 31234 on port 5174"),
    "Codex header": (
        "Chunk ID: 6fcccf\nWall time: 30.0009 seconds\nProcess running with session ID 25207\nOriginal token count: 0\nOutput:\n",
        "Chunk ID: 0b1a2c\nWall time: 29.9 seconds\nProcess running with session ID 25208\nOriginal token count: 12\nOutput:\n",
    ),
    "timestamp of a background shell": (
        "<status>running</status>\n<timestamp>2026-01-01T00:00:00Z</timestamp>",
        "<status>running</status>\n<timestamp>x</timestamp>",
    ),
    "system reminder": ("ok<system-reminder>\nbe good\n</system-reminder>", "ok"),
    "colour": ("\x1b[31mred\x1b[0m", "red"),
    "indentation and line ends": ("a  b\r\n\n  c \n", "a b\nc"),
}

OTHER_RESULTS = {
    # detection.md, section 7, trap 1: a pattern that ran over line ends took everything after "Chunk ID" with it.
    "output after a Codex header": ("Chunk ID: 6fcccf\nWall time: 1 seconds\nOutput:\nfirst", "Chunk ID: 0b1a2c\nWall time: 2 seconds\nOutput:\nsecond"),
    "output after a Codex header on one line": ("Chunk ID: 6fcccf Output: first", "Chunk ID: 6fcccf Output: second"),
    "progress": ("Processing 17 of 42", "Processing 18 of 42"),
    "chunks": ("Extracting from chunk 39/1287...", "Extracting from chunk 40/1287..."),
    "percent": ("12.5 % done", "13.5 % done"),
    "count": ("12345678 rows", "12345679 rows"),
    "line and column": ("  10:25  error  no-unused-vars", "  11:25  error  no-unused-vars"),
    "place in a file": ("a.ts:10:25 bad", "a.ts:10:26 bad"),
    "name in quotes": ("No module named 'jupyterlab'", "No module named 'json5'"),
    "countdown": ("30 seconds left", "20 seconds left"),
    "exit code": ("Process exited with code 1", "Process exited with code 0"),
    "date": ("report of 2026-02-18", "report of 2026-02-19"),
    "version": ("v2.1.9", "v2.1.10"),
    "word of hex letters": ("it was defaced", "it was effaced"),
    "text between two reminders": (
        "<system-reminder>a</system-reminder>x<system-reminder>b</system-reminder>",
        "<system-reminder>a</system-reminder>y<system-reminder>b</system-reminder>",
    ),
    "text after a reminder that is never closed": ("<system-reminder>a", "<system-reminder>b"),
    "the middle of a long text": ("a\n" * 40_000 + "b" + "a\n" * 40_000, "a\n" * 40_000 + "c" + "a\n" * 40_000),
}


@pytest.mark.parametrize(("one", "other"), SAME_RESULTS.values(), ids=SAME_RESULTS.keys())
def test_a_result_in_which_only_the_clock_moved_is_the_same(one, other):
    """A clock in the output hid 280 equal polls from those who compare bytes."""
    assert normalise_result(one) == normalise_result(other)


@pytest.mark.parametrize(("one", "other"), OTHER_RESULTS.values(), ids=OTHER_RESULTS.keys())
def test_a_result_that_brings_something_new_is_another(one, other):
    """Progress counters, names, places and whatever stands beside a volatile part decide."""
    assert normalise_result(one) != normalise_result(other)


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_normalised_and_fingerprinted(text):
    """No text stops it, and a fingerprint is a plain name of at most 80 characters."""
    normalise_result(text).encode()
    name = fingerprint(text)
    assert len(name) <= 80
    assert name.isascii()
    assert name.replace("-", "").isalnum()
    assert salient(text) is None or salient(text)
    assert is_transient(text) in (True, False)
    assert is_own_failure(text) in (True, False)


def test_a_fingerprint_is_read_by_people():
    """Its words are the first of the message."""
    assert fingerprint("ModuleNotFoundError: No module named 'json5'").startswith("modulenotfounderror-no-module-named-json5-")
    assert fingerprint("漢字").startswith("error-")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        pytest.param("failed at 12:00:01 pid 4711", "failed at 13:30:59 pid 4812", True, id="clock and process"),
        pytest.param("request req_011CabcDEF234 failed in 1.5 s", "request req_011CxyzGHI567 failed in 0.2 s", True, id="id and duration"),
        pytest.param("No module named 'jupyterlab'", "No module named 'json5'", False, id="name"),
        pytest.param("Operation timed out after 30s", "Operation timed out after 60s", False, id="number"),
        pytest.param("same beginning " * 20 + "one", "same beginning " * 20 + "two", False, id="the end of a long message"),
    ],
)
def test_a_fingerprint_forgets_what_is_volatile_and_nothing_else(one, other, is_same):
    """Errors are the same when they name the same things."""
    assert (fingerprint(one) == fingerprint(other)) is is_same


def test_a_fingerprint_holds_no_secret():
    """It stands in alerts, and two keys that are refused are one error."""
    one, other = (fingerprint(f"invalid key {'sk-ant-' + c * 20} refused") for c in "aB")
    assert one == other
    assert "aaaa" not in one


SALIENT = {
    "the last exception": (
        "Exit code 1\nTraceback (most recent call last):\n  File \"a.py\", line 1\nKeyError: 'a thing'\n\nDuring handling\nModuleNotFoundError: No module named 'json5'\n",
        "ModuleNotFoundError: No module named 'json5'",
    ),
    "exception of pytest": ("E   AssertionError: one is not two\nFAILED a.py::test_b", "E AssertionError: one is not two"),
    "exception of Java": (
        "x\nCaused by: java.lang.IllegalStateException: pool is closed\n\tat A.b",
        "Caused by: java.lang.IllegalStateException: pool is closed",
    ),
    "panic": ("goroutine\npanic: runtime error: index out of range [5]\n", "panic: runtime error: index out of range [5]"),
    "the first that speaks of an error": ("Building\nsh: 1: vitest: not found\nerror: failed again somehow", "sh: 1: vitest: not found"),
    "of the harness": ("<tool_use_error>String to replace not found in file.\nString: x</tool_use_error>", "String to replace not found in file."),
    # detection.md, section 6.2: "Output:" as error text was the one false loop of the frozen prototype.
    "never the heading": (
        "Chunk ID: 6fcccf\nWall time: 1.0 seconds\nProcess exited with code 2\nOutput:\ncat: a b c: No such file or directory",
        "cat: a b c: No such file or directory",
    ),
    "never the command": (
        "Exit code 1\n$ biome check --error-on-warnings\nThe imports are not sorted\nlint script failed with some error",
        "lint script failed with some error",
    ),
    "never a test that passed": ("tests/a.py::test_error_handling PASSED\nE   ValueError: too many values", "E ValueError: too many values"),
    "clock blanked": ("12:00:01 could not reach the database", "#time could not reach the database"),
    "too little: the whole text": ("FAIL\nexpected 3 of these", "FAIL\nexpected 3 of these"),
    "no error word: the whole text": ("Patch is empty", "Patch is empty"),
}


@pytest.mark.parametrize(("text", "line"), SALIENT.values(), ids=SALIENT.keys())
def test_the_salient_line_says_what_failed(text, line):
    """Exceptions first, then the first line about an error; what stands round every error does not count."""
    assert salient(text) == line


@pytest.mark.parametrize("text", ["", " \n", "Exit code 1", "Process exited with code 1\nOutput:\n", "⠼⠴⠦⠧⠇^C", "(no output)"], ids=repr)
def test_without_text_there_is_no_evidence(text):
    """An exit code alone cannot be told from another failure's."""
    assert salient(text) is None


def test_a_long_text_without_a_salient_line_is_told_by_its_digest():
    """Two that differ at the end are two."""
    one, other = (salient("FAIL\n" + "ok here\n" * 500 + end) for end in ("a", "b"))
    assert one is not None
    assert other is not None
    assert one != other
    assert len(one) < 600


TRANSIENT = {
    "429": ("API Error: 429 Too Many Requests",),
    "overload of Anthropic": ('API Error: 529 {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',),
    "500": ("HTTP 500 Internal Server Error",),
    "status field": ('{"statusCode": 503}',),
    "rate limit as a category": ("rate_limit", "slow down"),
    "network as a category": ("network", "Queue failed"),
    "retry notice without text": ("api", None, ""),
    "server error as a category": ("server_error",),
    "time-out": ("Operation timed out after 30s",),
    "timeout as a fingerprint": ("timeout",),
    "Python client": ("openai.APITimeoutError: Request timed out.",),
    "lost connection": ("read ECONNRESET",),
    "refused connection": ("code: ConnectionRefused",),
    "hang up": ("socket hang up",),
    "name server": ("getaddrinfo EAI_AGAIN api.example.com",),
    "cut stream": ("stream disconnected before completion",),
}

LASTING = {
    "nothing": (None, ""),
    "no text at all": (),
    "400": ("api", "Error code: 400 - {'message': 'content cannot be empty'}"),
    "401": ("API Error: 401 Unauthorized, try again later",),
    "403": ("api", "403 Forbidden"),
    "wrong key": ("api", "authentication_failed"),
    "used-up quota": ("Error code: 429 - insufficient_quota: You exceeded your current quota",),
    "format": ("format", "No tool calls found in the response."),
    "line 500": ("a.py line 500: syntax error",),
    "502 of something": ("502 tests failed",),
    "code of a timer": ("setTimeout(resolve) is not a function",),
    "flag": ("unknown option --timeout",),
    "missing module": ("ModuleNotFoundError: No module named 'json5'",),
}


@pytest.mark.parametrize("texts", TRANSIENT.values(), ids=TRANSIENT.keys())
def test_what_may_go_away_by_itself_is_transient(texts):
    """Waiting helps."""
    assert is_transient(*texts)


@pytest.mark.parametrize("texts", LASTING.values(), ids=LASTING.keys())
def test_what_waiting_does_not_cure_is_not_transient(texts):
    """A wrong request, key or quota outweighs the advice to try again."""
    assert not is_transient(*texts)


NOT_OWN = {
    # detection.md, section 7, trap 2: one failed edit of a batch makes nine errors.
    "sibling": "<tool_use_error>Sibling tool call errored</tool_use_error>",
    "a person's no": "The user doesn't want to proceed with this tool use. The tool use was rejected (eg. …)",
    "a person's no, typeset": "The user doesn\u2019t want to take this action right now.",
    "permission": "Error: The user rejected permission to use this specific tool call.",
    # trap 4
    "interrupt": "[Request interrupted by user for tool use]",
    "interrupt of a command": "Exit code 137\n[Request interrupted by user for tool use]\n\nFound 42 books",
    "interrupt of Codex": "aborted by user after 12.3s",
}


@pytest.mark.parametrize("text", NOT_OWN.values(), ids=NOT_OWN.keys())
def test_a_no_an_interrupt_and_a_siblings_error_are_no_failure_of_the_agent(text):
    """Counting them makes loops of one failed edit, or of a person who says no."""
    assert not is_own_failure(text)


@pytest.mark.parametrize(
    "text",
    ["", "Exit code 1", "File does not exist.", "notes.md:3: [Request interrupted by user]", "exit code 2\nuser not found"],
    ids=["nothing", "exit code", "missing file", "quoted", "about a user"],
)
def test_other_failures_are_the_agents_own(text):
    """Also where such a text is only quoted."""
    assert is_own_failure(text)


@pytest.mark.skipif(not SESSIONS.is_dir(), reason="the recorded sessions (../shared/data/detection) are not here")
def test_polls_of_recorded_storms_are_the_same_and_other_results_of_a_session_are_not():
    """In the labelled poll storms of real sessions, equal runs of BashOutput are found through their clocks."""
    longest = 0
    for path in sorted(SESSIONS.glob("brain-*.jsonl")):
        run, last = 0, None
        for line in path.read_bytes().splitlines():
            event = json.loads(line)
            if event["event_type"] == "tool_result" and event["data"].get("tool_name") == "BashOutput":
                text = normalise_result(result_text(event["data"].get("result")))
                run, last = (run + 1 if text == last else 1), text
                longest = max(longest, run)
    assert longest >= 190
