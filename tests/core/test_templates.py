"""What messages have in common."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.core.templates import LONGEST, template

SAME = {
    "numbers": ("user 17 has 3 items", "user 4 has 12,000.5 items", "user <num> has <num> items"),
    "addresses": ("connect 127.0.0.1:5432", "connect ::1:5432", "connect <ip>"),
    "hosts": ("getaddrinfo ENOTFOUND a.b.example.com", "getaddrinfo ENOTFOUND db.internal.lan", "getaddrinfo ENOTFOUND <host>"),
    "paths": ("open /srv/a/b.txt:12", "open /tmp/x", "open <path>"),
    "windows paths": (r"open C:\Users\a\b.txt", r"open D:\x", "open <path>"),
    "times": ("at 2026-02-09T10:00:00.123Z", "at 2026-12-31 23:59:59,1 UTC", "at <date>"),
    "times of day": ("at 10:00:00 sharp", "at 9:59:59.123 sharp", "at <time> sharp"),
    "ids": ("task 550e8400-e29b-41d4-a716-446655440000 died", "task 00000000-0000-4000-8000-000000000000 died", "task <uuid> died"),
    "hex": ("object 1a2b3c4d5e at 0x7fff", "object ffee0099aa at 0x1", "object <hex> at <hex>"),
    "quoted": ("reading 'id' of \"x\"", "reading 'name' of \"yy\"", "reading <quoted> of <quoted>"),
    "addresses of pages": ("GET https://a.example/x?y=1 failed", "GET http://b.example/ failed", "GET <url> failed"),
    "numbered workers": ("worker-3 died", "worker-12 died", "worker-<num> died"),
    "white space": ("a  b\tc", "a b c", "a b c"),
}


@pytest.mark.parametrize(("one", "other", "expected"), SAME.values(), ids=SAME.keys())
def test_what_differs_from_case_to_case_is_masked(one, other, expected):
    """Two cases of one thing have one template."""
    assert template(one) == template(other) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("error TS2345: no", "error TS2307: no"),
        ("ORA-00001: no", "ORA-00060: no"),
        ("connection refused", "connection reset"),
        ("E0308", "E0425"),
        ("ENOENT", "EACCES"),
    ],
)
def test_names_and_codes_make_another_template(one, other):
    """A code is what an error is called by."""
    assert template(one) != template(other)


@given(st.text(max_size=600))
def test_a_template_is_short_and_has_no_number_of_its_own(text):
    """Whatever comes in."""
    assert len(template(text)) <= LONGEST


@pytest.mark.parametrize("piece", ["a", "1:", "/", "a/", "'", "a.", "0", "_0", "a-", ":", "f", '"', "1.", "é/", "@a."])
def test_no_text_takes_long(piece):
    """It is bounded, and so is the time for it."""
    began = time.perf_counter()
    template(piece * 10_000)
    assert time.perf_counter() - began < 0.5
