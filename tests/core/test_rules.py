"""Rules: which of them a text is a case of, and that looking for all of them takes time linear in the text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.core.linear import Pattern, PatternError, Patterns
from agentwatch.core.rules import LOOKED_AT, Examples, Rule, RuleError, Rules, check
from agentwatch.model import Severity


def rule(name="r", *patterns, **more):
    fields = {"title": "Title", "severity": Severity.MEDIUM, "category": "c", "recommendation": "Do it."} | more
    return Rule(id=name, patterns=patterns or ("boom",), **fields)


def found(rules, text, slot="error", format_name="plain-text"):
    match = Rules(rules).find(slot, format_name, text)
    return match and match.rule.id


def test_a_text_is_a_case_of_the_rule_whose_pattern_it_has():
    """The line that was found and the named groups come with it."""
    match = Rules([rule("a", r"port (?P<port>\d+)(?P<not>x)?"), rule("b", "nothing")]).find("error", "plain-text", "first\non port 17 now\nlast")
    assert (match.rule.id, match.line, match.groups) == ("a", "on port 17 now", {"port": "17"})
    assert found([rule("a", "port")], "no such word") is None


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param([rule("mild"), rule("bad", severity=Severity.HIGH)], "bad", id="the more severe"),
        pytest.param([rule("vague", severity=Severity.HIGH, general=True), rule("exact", severity=Severity.LOW)], "exact", id="the one that says more"),
        pytest.param([rule("first"), rule("second")], "first", id="the first of equals"),
        pytest.param([rule("but", unless=("not this",)), rule("other")], "other", id="one without an exception on the line"),
    ],
)
def test_of_several_rules_one_counts(rules, expected):
    """One line is one issue, or each failure would be told by every rule that fits."""
    assert found(rules, "boom, but not this") == expected


def test_an_exception_is_looked_for_on_the_line_that_was_found():
    """What stands elsewhere in a stack does not excuse it."""
    assert found([rule("a", unless=("fine",))], "boom\nall fine") == "a"
    assert found([rule("a", unless=("fine",))], "boom is fine") is None


@pytest.mark.parametrize(
    ("more", "slots"),
    [
        ({}, {"error", "trace"}),
        ({"level": "any"}, {"output", "error", "trace"}),
        ({"fields": ("message",)}, {"error"}),
        ({"fields": ("trace",), "level": "any"}, {"trace"}),
        ({"where": ("agent",)}, {"agent"}),
        ({"where": ("program", "tool"), "level": "any"}, {"output", "error", "trace", "tool"}),
    ],
)
def test_a_rule_looks_at_what_it_says_it_applies_to(more, slots):
    """Level, field and speaker decide; an error word in healthy output is none."""
    assert {slot for slot in ("output", "error", "trace", "agent", "tool") if found([rule("a", **more)], "boom", slot)} == slots


def test_a_rule_may_be_for_some_formats_alone():
    """By the names of the registry."""
    assert found([rule("a", formats=("winston",))], "boom", format_name="winston") == "a"
    assert found([rule("a", formats=("winston",))], "boom") is None


@pytest.mark.parametrize(
    ("one", "complaint"),
    [
        pytest.param(rule("a", "(boom"), "`patterns`: not a regular expression: missing ): (boom", id="no pattern"),
        pytest.param(rule("a", "boom(?=x)"), "invalid perl operator: (?=", id="look-ahead"),
        pytest.param(rule("a", r"(a)\1"), r"invalid escape sequence: \1", id="backreference"),
        pytest.param(rule("a", "((a{100}){100}){100}"), "not a regular expression", id="too large"),
        pytest.param(rule("a", "x*"), "matches an empty text", id="matches everything"),
        pytest.param(rule("a", "boom", "a|"), "matches an empty text", id="one of them matches everything"),
        pytest.param(rule("a", "\ud800"), "it is no valid text", id="no valid text"),
        pytest.param(rule("a", unless=("[",)), "`unless`: not a regular expression", id="an exception that is none"),
        pytest.param(rule("a", severity=Severity.HIGH, level="any"), "cannot be high", id="high at any level"),
        pytest.param(rule("a", fingerprint=("port",)), "no pattern has a group `port`", id="a group that is not there"),
        pytest.param(rule("a", examples=Examples(match=("bang",))), "is not found in 'bang'", id="an example that does not match"),
        pytest.param(rule("a", examples=Examples(no_match=("a boom",))), "is found in 'a boom'", id="an example that must not match"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_with_its_reason(one, complaint):
    """Before it is used, and in words that name the key."""
    with pytest.raises(RuleError) as caught:
        check(one)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("text", ["", "\0boom\0", "bo\ud800om boom", "böom 爆 boom 😀", "\x1b[31mboom", "x" * 100_000 + "boom", "boom" + "\n" * 100_000])
def test_any_text_is_looked_at(text):
    """Whatever a log holds, nothing is raised; of a long one beginning and end count."""
    assert found([rule("a")], text) == ("a" if text else None)


def test_the_middle_of_a_very_long_text_is_not_looked_at():
    """As docs/rules.md says."""
    assert found([rule("a")], "x" * LOOKED_AT + "boom" + "x" * LOOKED_AT) is None


@given(st.text(max_size=300), st.sampled_from(["output", "error", "trace", "agent", "tool"]))
def test_whatever_is_found_stands_in_the_text(text, slot):
    """The line is one of its lines."""
    match = Rules([rule("a", r"[a-e]\d?", level="any", where=("program", "agent", "tool")), rule("b", "é|\\s", level="any")]).find(slot, "winston", text)
    if match is not None:
        assert match.line in text.encode(errors="replace").decode().split("\n")


EVIL = {
    "nested repetition": (r"(a+)+$", "a" * 8000 + "!"),
    "alternation that overlaps": (r"(a|aa)+$", "a" * 8000 + "!"),
    "dots": (r"(.*)*x(.*)*y(.*)*z", "x" * 8000),
    "quadratic search": (r"a*b", "a" * 8000),
    "bounded repetition": (r"(x+x+){1,20}y", "x" * 8000),
    "email": (r"^([a-zA-Z0-9])(([\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}(([a-z]{2,3})|([a-z]{2,3}[.]{1}[a-z]{2,3}))$", "a" * 8000),
}


@pytest.mark.parametrize(("pattern", "text"), EVIL.values(), ids=EVIL.keys())
def test_a_pattern_that_would_take_for_ever_elsewhere_takes_no_time(pattern, text):
    """Twice the text takes about twice the time; Python's own engine takes years for most of these."""
    compiled, automaton = Pattern(pattern), Patterns([pattern, "b"])
    took = []
    for size in (2000, 8000):
        began = time.perf_counter()
        for _ in range(5):
            compiled.search(text[:size].encode())
            automaton.matching(text[:size].encode())
        took.append(time.perf_counter() - began)
    assert took[1] < 1.0


def test_many_patterns_find_what_each_finds_alone():
    """One pass says the same as one search each."""
    texts = [rf"\b{word}\w*{number}\b" for number in range(10) for word in ("time", "conn", "err")]
    automaton, alone = Patterns(texts), [Pattern(text) for text in texts]
    line = "timeout3 connection7 err0 nothing error9 time"
    assert sorted(automaton.matching(line.encode())) == [number for number, one in enumerate(alone) if one.search(line.encode())]
    assert Patterns([]).matching(b"x") == []


def test_more_patterns_than_one_automaton_holds_are_looked_for_all_the_same():
    """None is left out in silence."""
    texts = [rf"(?i)\bword{number}x[^\n]*\w+ (?:failed|error|refused) \S+x" for number in range(6000)]
    automaton = Patterns(texts)
    for number in (0, 2999, 3000, 5999):
        assert automaton.matching(f"a word{number}x thing of it failed yyx".encode()) == [number]


@given(
    st.lists(st.sampled_from(["a{2,3}", "[ab]{0,2}", "b{1,}c", r"\{1,2}", "[{1,2}]", "(?:ab){2,2}", "a{3}", r"\d{1,2}?", "x"]), min_size=1, max_size=4).map(
        "".join
    ),
    st.text("abc{}12,x", max_size=20),
)
def test_what_a_pattern_finds_the_pass_over_all_patterns_does_not_miss(pattern, text):
    """There counted repetitions have no end; it may only find more."""
    if Pattern(pattern).search(text.encode()) is not None:
        assert Patterns(["never", pattern]).matching(text.encode()) == [1]


def test_a_line_that_is_made_to_be_slow_is_no_worse_than_ten_times_its_length():
    """Counted gaps in many patterns, and a text that keeps all of their counters going."""
    patterns = [rf"(?i)\b(?:memory|heap|rss|{word})\b[^\n]{{0,60}}\b(?:query|task|{word})\b[^\n]{{0,40}}\bend{word}\b" for word in "abcdefghijklmnop"]
    automaton = Patterns(patterns)
    line = ("memory heap rss query task a b c d " * 400)[:4096].encode()
    automaton.matching(line)
    began = time.perf_counter()
    for _ in range(20):
        automaton.matching(line)
    assert (time.perf_counter() - began) / 20 < 0.05


def test_what_is_no_pattern_is_refused_without_a_word_on_stderr(capfd):
    """The library would write its own message there."""
    with pytest.raises(PatternError, match="missing"):
        Pattern("(a")
    assert capfd.readouterr() == ("", "")
