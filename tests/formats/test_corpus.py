"""Every file of the corpus of real and generated sessions: each is read by one format, hardly a line is of an unknown kind, and each fault has a reason."""

import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from agentwatch.apps.pipeline import RECOGNISE_LINES
from agentwatch.formats.registry import CONTAINERS, FORMATS, recognise
from agentwatch.model import NO_MEMORY
from tests.formats.harness import CORPUS, decoded, lines_of
from tests.formats.wholes import ORIGIN, told

pytestmark = pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real sessions is not beside the project")

LEAST_KNOWN = 0.995

NOT_READ = {
    "open/cursor/01-git-ai-cursor-session-simple.jsonl": "no times, ids, results or tokens",
    "open/droid/02-git-ai-droid-session.settings.json": "a running total beside the session",
    "gen/qwen-code/usage-token-usage-2026-11.jsonl": "a ledger that repeats the tokens of the chats",
    "gen/qwen-code/usage_record.jsonl": "a ledger that repeats the tokens of the chats",
    **{
        f"gen/claude-code/03-subagents/subagents/agent-{agent}.meta.json": "what a sub-agent was started for; its parent's call says it"
        for agent in ("a1cce58380162aa3e", "a6fc31de0f70dbb3e", "ad580ea4f8341f44c")
    },
    "gen/opencode/01-event-table.jsonl": "a table of the database, taken out of it for tests",
    "gen/opencode-run-json/01-loop.jsonl": "a stream that the database repeats",
}
"""Why a file is read by no format. The same stands in `agentwatch/formats/README.md`, under The corpus."""

FAULTS = {
    "open/claude-code/09-session-share-2.1.27-edit-tool-variants.jsonl": {"not_json": 2},
    "open/claude-code/10-session-share-2.1.29-images-in-user-messages.jsonl": {"not_json": 2},
    "open/claude-code/11-session-share-2.1.25-read-tool-variants.jsonl": {"not_json": 2},
    "gen/winston/default.log": {"no_time": 7},
}
"""The faults that are right: `//` comments on top of a test suite's fixtures, and a log whose writer gives no times. Also in that README."""

OTHER_NAMES = {
    "codex-exec-json": "codex-exec",
    "gemini-stream-json": "gemini-cli",
    "qwen-fixture": "qwen-code",
    "opencode-db": "opencode",
    "mini-swe-agent": "swe-agent",
    "openhands-v0": "openhands",
    "openhands-v1": "openhands",
}
"""Folders of the corpus that have not the name of their format."""


def files():
    return {str(path.relative_to(CORPUS)): path for path in sorted(CORPUS.glob("*/*/**/*")) if path.is_file()}


def format_of(name):
    """Say which format a file must be read by."""
    folder = Path(name).parts[1]
    if name.endswith("base_state.json"):
        return "openhands-state"
    if folder == "gemini-cli" and name.endswith(".json"):
        return "gemini-document"
    return OTHER_NAMES.get(folder, folder)


def faults_of(events):
    return Counter(event["fault"] for event in events if "fault" in event)


def test_no_file_of_the_corpus_is_forgotten():
    """What is read by nothing is named, and what is named is there."""
    missing = [name for name in (*NOT_READ, *FAULTS) if name not in files()]
    unread = [name for name in files() if name not in NOT_READ and format_of(name) not in (*FORMATS, *CONTAINERS)]
    assert (missing, unread) == ([], [])


def test_each_log_is_recognised_as_its_agents_and_as_no_others():
    """Two decoders for one file would double what it says; what is not read is claimed by none."""
    for name, path in files().items():
        if path.suffix not in (".jsonl", ".log"):
            continue
        lines = lines_of(path)[:RECOGNISE_LINES]
        own = None if name in NOT_READ else format_of(name)
        assert recognise(str(path), lines) == own, name
        agents = [other for other, row in FORMATS.items() if other not in ("fluent-bit", "winston", "plain-text") and row.recognise(str(path), lines)]
        assert agents in ([own], []), name


def test_hardly_a_line_is_of_a_kind_that_nobody_knows():
    """By format and over all; and no line is a fault without a reason."""
    lines_by_format, unknown, faults = Counter(), Counter(), {}
    for name, path in files().items():
        if name in NOT_READ or format_of(name) not in FORMATS:
            continue
        lines, found = lines_of(path), format_of(name)
        told_of = faults_of(decoded(lines, FORMATS[found].decoder(name, NO_MEMORY)))
        lines_by_format[found] += len(lines)
        unknown[found] += sum(count for kind, count in told_of.items() if kind.startswith("unknown_type:"))
        if told_of:
            faults[name] = told_of
    assert faults == FAULTS
    assert all(1 - unknown[found] / count >= LEAST_KNOWN for found, count in lines_by_format.items()), unknown


def test_every_log_gives_the_same_events_wherever_the_daemon_is_restarted():
    """The property of the golden files, on all the others."""
    rng = random.Random(7)
    for name, path in files().items():
        if name in NOT_READ or format_of(name) not in FORMATS:
            continue
        lines, row = lines_of(path), FORMATS[format_of(name)]
        pieces, memory, offset, start = [], NO_MEMORY, 0, 0
        while start < len(lines):
            end = start + rng.randrange(1, 30)
            decoder = row.decoder(name, memory)
            pieces += decoded(lines[start:end], decoder, offset)
            memory, offset, start = msgspec.Raw(msgspec.json.encode(decoder.memory)), offset + sum(map(len, lines[start:end])), end
        assert pieces == decoded(lines, row.decoder(name, NO_MEMORY)), name


def test_every_document_folder_and_database_is_understood():
    """Whole, with events in it, and without a fault."""
    for name, path in files().items():
        if name in NOT_READ or format_of(name) in FORMATS:
            continue
        events, understood = read_whole(name, path)
        assert understood is not None, name
        assert faults_of(events) == FAULTS.get(name, {}), name
        assert events, name


def read_whole(name, path):
    """Read a document, a file of a folder, or a database to its end; its events, and how much was understood."""
    found, origin = format_of(name), ORIGIN._replace(source=name)
    match CONTAINERS[found].kind:
        case "document":
            events, _, understood = told(found, path.read_bytes(), origin=origin)
        case "folder" if Path(name).parts[1] == "openhands-v0":  # a trajectory that was put into one file
            entries = msgspec.json.decode(path.read_bytes(), type=list[msgspec.Raw])
            events, _, understood = told(found, [(number, bytes(entry)) for number, entry in enumerate(entries)], origin=origin)
        case "folder":
            numbered = sorted((int(CONTAINERS[found].files.fullmatch(file.name)[1]), file.read_bytes()) for file in path.parent.iterdir())
            events, _, understood = told(found, numbered, origin=origin)
        case "database":
            with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
                connection.text_factory = bytes
                events, _, understood = told(found, lambda questions: [connection.execute(*question).fetchall() for question in questions], origin=origin)
    return events, understood
