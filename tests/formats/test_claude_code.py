"""Claude Code's transcripts: each line's events, whatever the line."""

import csv
import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from agentwatch.formats import claude_code, places
from agentwatch.formats.claude_code import SILENT, Decoder, Memory
from agentwatch.model import Usage
from tests.formats import harness
from tests.formats.harness import CORPUS, broken_lines, lines_of, types, usages

GOLDEN = harness.GOLDEN / "claude-code"

ENVELOPE = {"sessionId": "s1", "uuid": "u1", "userType": "external", "timestamp": "2026-03-01T10:00:00.000Z", "version": "2.1.81"}


def decoded(lines, decoder=None):
    return harness.decoded(lines, decoder or Decoder())


def line(kind, /, **fields):
    return json.dumps(ENVELOPE | {"type": kind} | fields).encode() + b"\n"


def assistant(message_id, *blocks, usage=(3, 20, 0, 0), stop="tool_use", **fields):
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return line("assistant", message={"id": message_id, "content": list(blocks), "stop_reason": stop, "usage": dict(zip(names, usage, strict=True))}, **fields)


def call(call_id, name="Bash"):
    return {"type": "tool_use", "id": call_id, "name": name, "input": {"command": "ls"}}


def said(text="Hello"):
    return {"type": "text", "text": text}


def result(content, call_id="t1", **fields):
    return line("user", message={"role": "user", "content": [{"type": "tool_result", "tool_use_id": call_id, "content": content, **fields}]})


def prompt(text="Fix it", **fields):
    return line("user", message={"role": "user", "content": text}, **fields)


def test_the_memory_does_not_grow_with_the_file():
    """It is written with every checkpoint: of the calls, messages and sessions only the last few are kept."""
    decoder = Decoder()
    decoded([assistant(f"m{n}", call(f"t{n}"), sessionId=f"s{n}") for n in range(500)], decoder)
    assert len(decoder.memory.calls) == len(decoder.memory.billed) == len(decoder.memory.sessions) == claude_code.REMEMBERED
    assert len(msgspec.json.encode(decoder.memory)) < 16_000


def test_the_usage_of_a_message_is_counted_once_and_its_last_line_wins():
    """Every line of a message repeats its usage, and other lines may come between them."""
    lines = [
        assistant("m1", said(), usage=(3, 1, 10, 5)),
        assistant("m2", said(), usage=(7, 7, 0, 0)),
        assistant("m1", call("t1"), usage=(3, 40, 10, 5)),
        assistant("m1", said(), usage=(3, 40, 10, 5)),
    ]
    told = usages(decoded(lines))
    assert [Usage(**usage) for usage in told] == [Usage(3, 1, 10, 5), Usage(7, 7), Usage(0, 39)]


def test_what_is_cached_for_an_hour_is_told_apart():
    """From 2.1.29 on a session may cache for an hour, at a price of its own; such tokens are a part of `cache_write`."""
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 50, "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 40}}
    told = line("assistant", message={"id": "m1", "content": [said()], "usage": usage})
    assert [Usage(**usage) for usage in usages(decoded([told, told]))] == [Usage(3, cache_write=50, cache_write_1h=40)]


def test_a_placeholder_of_an_old_version_is_estimated_from_the_text():
    """Up to 2.1.58 the last line of a message may have counted its first tokens only; newer versions are believed."""
    lines = [assistant("m1", said("x" * 398), usage=(3, 1, 0, 0), stop=None, version=version) for version in ("2.1.12", "2.1.59")]
    assert [usages(decoded([line]))[0]["output"] for line in lines] == [100, 1]


def test_what_a_fork_copied_is_not_paid_again():
    """The copy has the session's own id; `requestSessionId` names the one that paid."""
    told = decoded([assistant("m1", said(), requestSessionId="parent"), assistant("m2", said(), requestSessionId="s1")])
    assert [("usage" in event["data"], event["event_type"]) for event in told] == [(False, "session_start"), (False, "agent_output"), (True, "agent_output")]


@pytest.mark.parametrize(
    ("content", "is_error", "reason", "exit_code"),
    [
        pytest.param("Exit code 127\nfoo: command not found", True, None, 127, id="a command failed"),
        pytest.param("<tool_use_error>File has not been read yet.</tool_use_error>", True, None, None, id="the harness refused"),
        pytest.param([{"type": "text", "text": "Exit code 1"}], True, None, 1, id="a list of blocks"),
        pytest.param(None, True, None, None, id="no text"),
        pytest.param("The user doesn't want to proceed with this tool use.", False, "refused", None, id="a person said no"),
        pytest.param("The user doesn't want to take this action right now.", False, "refused", None, id="a person said stop"),
        pytest.param("<tool_use_error>Sibling tool call errored</tool_use_error>", False, "sibling", None, id="a parallel call failed"),
        pytest.param("<tool_use_error>Cancelled: parallel tool call Bash(x) errored</tool_use_error>", False, "sibling", None, id="the same since 2.1.9x"),
    ],
)
def test_only_an_agents_own_failure_is_an_error(content, is_error, reason, exit_code):
    """What a person refused or a parallel call took with it says nothing about the agent."""
    _, _, told = decoded([assistant("m1", call("t1")), result(content, is_error=True)])
    assert (told["data"]["is_error"], told["data"].get("reason"), told["data"].get("exit_code")) == (is_error, reason, exit_code)
    assert told["data"]["tool_name"] == "Bash"
    assert "tool_use_error" not in told["data"]["error_message"]


@pytest.mark.parametrize("ends", [[0], [0, 1, 2], [1, 2], [2, 1], [3], [0, 3], [4]])
def test_a_turn_ends_once(ends):
    """Up to three lines say so; which ones depends on the version and on hooks."""
    said_so = [
        assistant("m1", said(), stop="end_turn"),
        line("system", subtype="stop_hook_summary"),
        line("system", subtype="turn_duration"),
        prompt("[Request interrupted by user]"),
        line("assistant", isApiErrorMessage=True, error="server_error", message={"id": "m2", "content": [said("API Error: 500")]}),
    ]
    hook = line("progress", data={"type": "hook_progress"})
    lines = [prompt(), *(line for index in ends for line in (said_so[index], hook))]
    assert types(decoded(lines)).count("turn_end") == 1


def test_an_idle_session_stays_idle_whatever_is_typed_into_its_prompt_line():
    """Local commands, injected context and summaries are no prompts: nobody waits for an answer."""
    lines = [
        prompt("<command-name>/clear</command-name>"),
        prompt("<local-command-stdout></local-command-stdout>"),
        prompt("<bash-stdout>x</bash-stdout>"),
        prompt("Caveat", isMeta=True),
        prompt("This session is being continued", isCompactSummary=True),
        line("system", subtype="turn_duration"),
    ]
    assert types(decoded(lines)) == ["session_start"]


def test_a_sub_agents_file_speaks_of_a_lane_of_its_parents_session():
    """It starts no session: the parent did."""
    told = decoded([prompt(agentId="a1", isSidechain=True), assistant("m1", said(), agentId="a1", isSidechain=True)])
    assert [(event["event_type"], event["attempt_id"], event["lane"]) for event in told] == [("user_message", "s1", "a1"), ("agent_output", "s1", "a1")]


def test_a_message_that_a_sub_agents_progress_repeats_is_not_counted_twice():
    """2.1.12 to 2.1.81 copied it into the parent's file; it stands in the sub-agent's own."""
    copied = {
        "type": "agent_progress",
        "agentId": "a1",
        "message": {"type": "assistant", "message": {"id": "m1", "usage": {"input_tokens": 5}, "content": [call("t1")]}},
    }
    assert [(event["event_type"], event["data"]) for event in decoded([prompt(), line("progress", data=copied)])][1:] == [("progress", {})]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param(b"// a comment\n", ["not_json"], id="a comment"),
        pytest.param(b"[1]\n", ["not_json"], id="a list"),
        pytest.param(b'{"type":"user","sessi\n', ["not_json"], id="half a line"),
        pytest.param(b'{"type":"user","n":NaN}\n', ["not_json"], id="NaN"),
        pytest.param(b'{"type":"user","n":' + b"[" * 100_000 + b"\n", ["not_json"], id="a well without a bottom"),
        pytest.param(b"\r\n", [], id="an empty line"),
        pytest.param(b"{}\n", ["no_type"], id="an empty object"),
        pytest.param(b'{"type":7}\n', ["no_type"], id="a type that is no text"),
        pytest.param(b'{"type":"user"}\n', ["no_session"], id="nobody's"),
        pytest.param(b'{"type":"user","sessionId":"s"}\n', ["no_time"], id="no time yet"),
        pytest.param(b'{"type":"user","sessionId":"s","timestamp":"yesterday"}\n', ["no_time"], id="a time that is none"),
        pytest.param(b'{"type":"new \\u001b[31m\\nthing"}\n', ["unknown_type:new???31m?thing"], id="a type from the future"),
        pytest.param(b'{"type":"%b"}\n' % (b"x" * 999), ["unknown_type:" + "x" * 40], id="a long type"),
        pytest.param(b'\xef\xbb\xbf{"type":"summary"}\r\n', [], id="BOM and CRLF"),
    ],
)
def test_a_line_that_is_nothing_is_a_fault_and_nothing_more(text, faults):
    """It is counted under a short kind that is safe to print, and the next line is read as ever."""
    told = decoded([text, prompt()])
    assert [fault["fault"] for fault in told if "fault" in fault] == faults
    assert told[-1] | {"offset": len(text)} == told[-1]
    assert told[-1]["event_type"] == "session_start"


def test_fields_of_unexpected_types_do_not_lose_the_line():
    """Shapes change with the releases: what fits is read, what does not is as if it were not there."""
    odd = {
        "id": "m1",
        "stop_reason": 7,
        "usage": {"input_tokens": "many", "output_tokens": 5},
        "content": ["?", said(), {**call("t1"), "name": None, "caller": 1}],
    }
    told = decoded([line("assistant", message=odd, agentId=None, isSidechain="no", version=2)])
    assert types(told) == ["session_start", "agent_output", "tool_call"]
    assert usages(told)[0]["output"] == 5
    assert told[2]["data"]["tool_call_id"] == "t1"


def test_half_an_emoji_is_read():
    """A text cut between two UTF-16 units leaves a lone surrogate, which strict decoders refuse."""
    text = prompt("cut here: @").replace(b"@", rb"\ud83d")
    assert decoded([text])[0]["data"]["prompt"] == "cut here: ?"


def test_bytes_that_are_no_text_are_read():
    """A disk or a shell may have put them there."""
    told = decoded([prompt("a\N{REPLACEMENT CHARACTER}b").replace(rb"\ufffd", b"\xff"), result("Exit code 1 @", is_error=True).replace(b"@", b"\xff")])
    assert told[0]["data"]["prompt"] == "a\N{REPLACEMENT CHARACTER}b"
    assert told[1]["data"]["error_message"] == "Exit code 1 \N{REPLACEMENT CHARACTER}"


@given(broken_lines([text for path in GOLDEN.glob("*[a-z].jsonl") if ".events." not in path.name for text in lines_of(path) if text.startswith(b"{")]))
def test_no_line_is_lost_without_a_fault(text):
    """Each release may change the shape of anything: a line says something, or is known to say nothing."""
    told = decoded([text], Decoder(Memory(time=msgspec.convert("2026-03-01T10:00:00Z", claude_code.Time))))
    if not told and text.strip():
        assert json.loads(text.decode("utf-8-sig", "replace"))["type"] in SILENT | {"system", "user"}


def test_the_context_of_a_line_says_who_it_speaks_of():
    """The model stands on assistant lines only, and a message made up by the program has none."""
    context = Decoder().context(line("assistant", cwd="/srv/app", gitBranch="main", message={"model": "claude-opus-4-6"}))
    assert (context.session_id, context.project_id, context.executor, context.model, context.branch) == ("s1", "/srv/app", "CLAUDE", "claude-opus-4-6", "main")
    assert Decoder().context(line("assistant", cwd=7, message={"model": "<synthetic>"})).model is None
    assert Decoder().context(line("assistant", cwd=7, message={"model": "m"})).model == "m"
    assert Decoder().context(b"nobody") == msgspec.convert({}, type(context))


@pytest.mark.parametrize(
    ("lines", "is_ours"),
    [
        ([b'{"type":"file-history-snapshot","messageId":"m","snapshot":{}}\n'], True),
        ([b'{"type":"summary","summary":"x","leafUuid":"u"}\n'], True),
        ([b'{"type":"permission-mode","permissionMode":"plan","sessionId":"s"}\n'], True),
        ([b"// a comment\n", prompt()], True),
        ([b'{"type":"hologram","sessionId":"s"}\n', prompt()], True),
        ([b'{"type":"hologram","sessionId":"s"}\n'], False),
        ([], False),
        ([b'{"timestamp":"2026-03-01T10:00:00Z","attempt_id":"a","event_type":"error","type":"user","data":{}}\n', prompt()], False),
        ([b'{"uuid":"u","sessionId":"s","type":"user","message":{"role":"user","parts":[]}}\n'], False),
        ([b'{"uuid":"u","sessionId":"s","type":"system","subtype":"ui_telemetry","systemPayload":{}}\n', prompt()], False),
        ([b'{"type":"system","subtype":"init","session_id":"s","uuid":"u"}\n'], False),
        ([b'{"type":"session","version":3,"id":"x","timestamp":"2026-03-01T10:00:00Z"}\n'], False),
        ([b'{"display":"x","pastedContents":{},"timestamp":1,"project":"/x","sessionId":"s"}\n'], False),
    ],
)
def test_a_transcript_is_known_by_its_lines(lines, is_ours):
    """Any line may be the first; imitations of the envelope and the canonical stream are left to others."""
    assert claude_code.recognise("x.jsonl", lines) is is_ours


@pytest.mark.parametrize(
    ("environ", "folders"),
    [
        ({}, ["/home/ann/.claude/projects", "/home/ann/.config/claude/projects"]),
        ({"XDG_CONFIG_HOME": "/xdg"}, ["/home/ann/.claude/projects", "/xdg/claude/projects"]),
        ({"CLAUDE_CONFIG_DIR": "/a, ~/b,/a,"}, ["/a/projects", "/home/ann/b/projects"]),
        ({"CLAUDE_CONFIG_DIR": ""}, ["/home/ann/.claude/projects", "/home/ann/.config/claude/projects"]),
    ],
)
def test_transcripts_are_looked_for_where_the_agent_puts_them(environ, folders):
    """The agent's own variable replaces the usual folders."""
    assert [str(place) for place in places.claude_code(environ, Path("/home/ann"))] == folders


# The whole corpus, where it is there: counted apart from this program.

# (first two characters of the file's name, column): ours, and why it is not the reference's.
EXPLAINED = {
    ("02", "ref_tok_in"): (3, "the copied messages were paid by the session that was forked"),
    ("02", "ref_tok_cache_read"): (1600, "the same"),
    ("16", "ref_tool_errors"): (0, "1 refused by the user"),
    ("18", "ref_tool_errors"): (1, "1 sibling of a failed call"),
    ("19", "ref_tool_errors"): (1, "4 siblings of a failed call"),
    ("23", "ref_tool_errors"): (1, "2 refused by the user"),
    ("27", "ref_tool_errors"): (1, "1 refused by the user"),
    ("31", "ref_tool_errors"): (0, "2 refused by the user"),
}


def corpus():
    for index in (CORPUS / "INDEX.tsv", CORPUS / "gen" / "GEN_INDEX.tsv"):
        if index.exists():
            with index.open() as rows:
                yield from (
                    row
                    for row in csv.DictReader(rows, delimiter="\t")
                    if "/claude-code/" in row["file"] and row["file"].endswith(".jsonl") and (CORPUS / row["file"]).exists()
                )


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real sessions is not beside the project")
def test_every_real_file_is_recognised_and_counted_as_it_was_by_hand():
    """Calls, failures, API failures, compactions and tokens equal the references, but where a difference has a reason."""
    differing, faults = {}, Counter()
    for row in corpus():
        lines = (CORPUS / row["file"]).read_bytes().splitlines(keepends=True)
        assert claude_code.recognise(row["file"], lines[:20]), row["file"]
        told = decoded(lines)
        number = Path(row["file"]).name[:2]
        faults.update(f"{number} {fault['fault']}" for fault in told if "fault" in fault)
        events = [(event["event_type"], event["data"]) for event in told if "event_type" in event]
        ours = {
            "ref_tool_calls": sum(kind == "tool_call" for kind, _ in events),
            "ref_tool_errors": sum(kind == "tool_result" and data["is_error"] for kind, data in events),
            "ref_api_errors": sum(kind == "error" and not data.get("retry") for kind, data in events),
            "ref_compactions": sum(kind == "compaction" for kind, _ in events),
            "ref_tok_in": sum(usage["input"] for usage in usages(told)),
            "ref_tok_cache_read": sum(usage["cache_read"] for usage in usages(told)),
        }
        differing |= {(number, column): count for column, count in ours.items() if row.get(column) is not None and str(count) != row[column]}
    assert differing == {key: count for key, (count, _) in EXPLAINED.items()}
    assert faults == {"09 not_json": 2, "10 not_json": 2, "11 not_json": 2}
