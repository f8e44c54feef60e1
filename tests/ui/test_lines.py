"""Texts that fit a screen, whatever script they are in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.core.text import visible
from agentwatch.ui.lines import cut, fit, pad, spark, width_of, wrap
from agentwatch.ui.page import Word

texts = st.text(max_size=60).map(visible)


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        pytest.param("whole", 5, "whole", id="fits"),
        pytest.param("whole", 4, "who…", id="cut"),
        pytest.param("日本語", 6, "日本語", id="wide fits"),
        pytest.param("日本語", 5, "日本…", id="wide cut"),
        pytest.param("日本語", 4, "日…", id="no half of a character"),
        pytest.param("x", 0, "", id="no room"),
    ],
)
def test_a_text_is_cut_by_columns_and_says_so(text, width, shown):
    """Wide characters take two columns; what is left out is told by an ellipsis."""
    assert cut(text, width) == shown


@given(texts, st.integers(0, 40))
def test_what_is_cut_or_padded_has_the_width_that_was_asked_for(text, width):
    """Columns stand below one another."""
    assert width_of(cut(text, width)) <= width
    assert width_of(pad(text, width)) == width
    assert width_of(pad(text, width, right=True)) == width


@given(st.lists(texts, max_size=4), st.integers(1, 40))
def test_words_on_a_line_do_not_run_over_its_end(words, width):
    """Filled up where a style is given, so that a bar reaches the edge."""
    assert sum(width_of(word.text) for word in fit(map(Word, words), width)) <= width
    assert sum(width_of(word.text) for word in fit(map(Word, words), width, "bar")) == width


@given(texts, st.integers(2, 40))
def test_wrapped_lines_hold_all_that_is_no_space(text, width):
    """Nothing is lost between two lines."""
    lines = list(wrap(text, width))
    assert all(width_of(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_lines_are_broken_at_spaces_where_there_are_any():
    """A path that is longer than the line is broken anywhere."""
    assert list(wrap("one two three\nfour", 8)) == ["one two", "three", "four"]
    assert list(wrap("a/very/long/path", 8)) == ["a/very/l", "ong/path"]
    assert list(wrap("", 8)) == [""]


def test_a_sparkline_has_a_bar_for_each_count():
    """None is a dot, little is something, and a terminal without Unicode has its own."""
    assert spark([0, 1, 100, 50]) == "·▁█▄"
    assert spark([0, 1, 100, 50], plain=True) == ".:@+"
    assert spark([]) == ""
