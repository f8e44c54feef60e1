"""Lines that the typed decoders refuse: as much of them as fits is kept, and nothing is of another type than expected."""

import json

import msgspec
import pytest
from hypothesis import given

from agentwatch.formats.lenient import fit, kind_of, mended, salvaged
from tests.formats.harness import JSON_VALUES


class Part(msgspec.Struct):
    name: str = ""
    size: int | None = None


class Whole(msgspec.Struct, rename="camel"):
    part: Part | None = None
    parts: list[Part] | str | None = None
    only_parts: list[Part] = []
    words: dict[str, int] | None = None
    is_good: bool | None = None


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        pytest.param({"isGood": True, "words": 7}, Whole(is_good=True), id="a field of another type is as if it were not there"),
        pytest.param({"part": {"name": 1, "size": 2}}, Whole(part=Part(size=2)), id="an object is fitted in turn"),
        pytest.param({"parts": [{"name": "a", "size": "b"}, 7]}, Whole(parts=[Part("a"), Part()]), id="so are those of a list"),
        pytest.param({"part": [1], "parts": {}, "onlyParts": {}}, Whole(), id="a list is no object, and an object no list"),
        pytest.param({"isGood": None, "parts": "text"}, Whole(parts="text"), id="null and another of the types"),
    ],
)
def test_what_fits_is_kept(value, kept):
    """Field by field."""
    assert salvaged(json.dumps(value).encode(), Whole) == kept


@given(part=JSON_VALUES, parts=JSON_VALUES, only_parts=JSON_VALUES, words=JSON_VALUES, is_good=JSON_VALUES)
def test_what_is_kept_is_of_the_type_expected(**values):
    """Whatever stands in the line: it can be written and read strictly."""
    raw = json.dumps({msgspec.structs.fields(Whole)[at].encode_name: value for at, value in enumerate(values.values())}).encode()
    found = fit(mended(raw), Whole)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Whole) == found


@pytest.mark.parametrize("line", [b"", b"\n", b"[1]\n", b"no JSON\n", b'{"n":NaN}\n', b"[" * 100_000])
def test_what_is_no_object_is_nothing(line):
    """Also where it nests without end."""
    assert salvaged(line, Whole) is None


@pytest.mark.parametrize(
    "line", [b'\xef\xbb\xbf{"isGood":true}\r\n', b'\0\0{"isGood":true}\n', b'{"isGood":true,"x":"\xff"}\n', rb'{"isGood":true,"x":"\ud83d"}']
)
def test_marks_and_torn_texts_are_mended(line):
    """A byte order mark, NULs of a hole, bytes that are no UTF-8, half an emoji."""
    assert salvaged(line, Whole) == Whole(is_good=True)


def test_a_kind_of_fault_is_short_and_safe_to_print():
    """It names a type that somebody else chose."""
    assert kind_of("a/b.c\x1b[31m" + "x" * 100) == "unknown_type:a/b.c??31m" + "x" * 30
