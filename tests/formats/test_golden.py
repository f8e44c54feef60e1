"""All formats alike: their golden files give the events beside them, wherever the daemon was restarted, whatever becomes of a part."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.formats.registry import CONTAINERS, FORMATS, recognise
from agentwatch.model import NO_MEMORY
from tests.formats.golden import SAMPLES, Sample
from tests.formats.harness import JSON_VALUES, broken_lines, decoded
from tests.formats.wholes import alike, broken_documents, told

EACH = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample.format}-{sample.path.name}")
LINES = [sample for sample in SAMPLES if sample.kind == "lines"]
EACH_OF_LINES = pytest.mark.parametrize("sample", LINES, ids=lambda sample: f"{sample.format}-{sample.path.name}")


def test_every_format_has_a_golden_file():
    """A format that joins the registry brings one."""
    assert {sample.format for sample in SAMPLES} == {*FORMATS, *CONTAINERS}


@EACH
def test_a_session_gives_the_events_beside_it(sample: Sample):
    """They were read off it by hand once, and every rule of the format stands in one of its files."""
    assert sample.told() == sample.expected()


@EACH
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_session_that_grows_while_the_daemon_is_restarted_gives_the_same_events(sample: Sample, data):
    """Whichever of its states are seen: what is remembered goes through JSON between any two, as it does in the checkpoint."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sample.steps())), max_size=6)))
    seen, whole = sample.told(cuts), sample.expected()
    assert seen == whole if sample.kind in ("lines", "folder") else alike(seen) == alike(whole)


@EACH_OF_LINES
def test_a_file_is_recognised_by_its_lines(sample: Sample):
    """By its own format and by none that is asked before it."""
    assert recognise(str(sample.path), sample.steps()[:50]) == sample.format


@EACH_OF_LINES
def test_bytes_that_are_no_text_are_survived(sample: Sample):
    """In any of a line's texts: a disk or a shell may have put them there, and a whole daemon must not end of it."""
    for line in sample.steps():
        for end in (at.end() for at in re.finditer(rb'": ?"', line[:2000])):
            torn = line[:end] + b"\xff" + line[end:]
            recognise(str(sample.path), [torn])
            decoded([torn], FORMATS[sample.format].decoder(sample.source, NO_MEMORY))


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40, deadline=None)
@given(text=st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_survived(name, text):
    """A file may hold anything."""
    line = text.replace(b"\n", b" ") + b"\n"
    recognise("x.log", [line])
    decoder = FORMATS[name].decoder("x.log", NO_MEMORY)
    decoded([line, line], decoder)
    decoder.context(line)


@EACH_OF_LINES
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_session_with_a_broken_line_is_survived(sample: Sample, data):
    """Each release may change the shape of anything, and a torn write anything else: the lines round it are read as ever."""
    lines = sample.steps()
    broken = data.draw(broken_lines([line for line in lines if line.startswith(b"{")] or [b'{"a":1}\n']))
    at = data.draw(st.integers(0, len(lines)))
    before = sum(map(len, lines[:at]))
    decoder = FORMATS[sample.format].decoder(sample.source, NO_MEMORY)
    events = decoded([*lines[:at], broken, broken, *lines[at:]], decoder)
    decoder.context(broken)
    recognise("x.jsonl", [broken])
    assert [one for one in events if one["offset"] < before] == [one for one in sample.expected() if one["offset"] < before]


@pytest.mark.parametrize("sample", [sample for sample in SAMPLES if sample.kind == "document"], ids=lambda sample: f"{sample.format}-{sample.path.name}")
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_broken_document_is_survived(sample: Sample, data):
    """Wrong types, renamed keys, torn bytes; and the right one after it, by a decoder that remembers the wrong one."""
    whole = sample.path.read_bytes()
    _, memory, _ = told(sample.format, data.draw(broken_documents(whole)), origin=sample.origin)
    told(sample.format, whole, memory, sample.origin)


@pytest.mark.parametrize("sample", [sample for sample in SAMPLES if sample.kind == "folder"], ids=lambda sample: f"{sample.format}-{sample.path.name}")
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_broken_file_of_a_folder_is_survived(sample: Sample, data):
    """The files behind it are read once it is given up."""
    files = sample.steps()
    at = data.draw(st.integers(0, len(files) - 1))
    broken = [*files[:at], (files[at][0], data.draw(broken_documents(files[at][1]))), *files[at + 1 :]]
    _, memory, understood = told(sample.format, broken, origin=sample.origin)
    told(sample.format, broken[(understood or 0) + 1 :], memory, sample.origin)
