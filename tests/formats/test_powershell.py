"""The ancestor's PowerShell logger: what Windows PowerShell 5.1 and PowerShell 7 write is one and the same stream."""

import msgspec
import pytest

from agentwatch.formats import canonical, registry
from agentwatch.formats.canonical import Decoder
from agentwatch.model import Context
from tests.formats.harness import GOLDEN, decoded, lines_of

FOLDER = GOLDEN / "powershell"
NAMES = ["5.1", "7-windows", "7-linux"]


def read(name):
    lines = lines_of(FOLDER / f"{name}.jsonl")
    details = [msgspec.json.decode(msgspec.json.encode(Decoder().detail(line))) for line in lines]
    return [event | {"offset": None, "data": detail} for event, detail in zip(decoded(lines, Decoder()), details, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_an_event(name):
    """A byte order mark, CRLF, escaped signs, 7 digits of a second and keys in any order are no faults."""
    assert [event.get("event_type") for event in read(name)] == ["session_start", "error", "followup_sent", "status_change", "session_end"]
    assert registry.recognise("agent-work-stream.jsonl", lines_of(FOLDER / f"{name}.jsonl")) == canonical.NAME


@pytest.mark.parametrize("name", NAMES[1:])
def test_all_versions_say_the_same(name):
    """Whatever they escape, and however they end a line."""
    assert read(name) == read("5.1")


@pytest.mark.parametrize("name", NAMES)
def test_the_texts_and_the_outcome_arrive(name):
    """Both vocabularies of success, and signs that one version escapes."""
    start, error, followup, status, end = lines_of(FOLDER / f"{name}.jsonl")
    decoder = Decoder()
    assert bytes(decoder.detail(start).prompt) in (rb'"Fix the build of \u0027core\u0027 \u0026 \u003cui\u003e"', b"\"Fix the build of 'core' & <ui>\"")
    assert decoder.detail(error).error_message == "The term 'cargo' is not recognized: Größe 5 > 3 \N{EN DASH} naïve 😀"
    assert decoder.detail(error).error_fingerprint == "build_error"
    assert decoder.detail(followup).followup_reason == "compile error"
    assert decoder.detail(status).new_status == "inreview"
    ended = decoder.detail(end)
    assert (ended.completion_status, ended.outcome.status, ended.cost_usd, ended.duration_ms) == ("success", "completed", 0.25, 4321)
    assert decoder.context(start) == Context(
        task_id="T-1", task_title="[m] Fix", executor="CODEX", executor_variant="DEFAULT", model="gpt-5.1-codex", branch="ve/a1-fix"
    )


def test_a_file_that_two_versions_have_written_is_read_whole():
    """One machine's scheduled tasks may run one, its shells the other; a mark stands wherever a new file was appended."""
    lines = [line for name in NAMES for line in lines_of(FOLDER / f"{name}.jsonl")]
    told = decoded([*lines, *lines], Decoder())
    assert len(told) == 6 * 5
    assert not [event for event in told if "fault" in event]
