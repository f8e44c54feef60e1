"""Unit files: markers and quoting, the latter judged by systemd's own tools where they are installed."""

import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentwatch.core.units import bare, command_line, filled_in, instance_of, path_of, word

needs_systemd = pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="systemd is not installed")

PATHS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30).map(
    lambda text: "/" + "/".join(part for part in text.split("/") if part not in ("", ".", ".."))
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param("a\n@EMPTY@\nb\n", "a\nb\n", id="a line of an empty value is left out"),
        pytest.param("X=@VALUE@ @EMPTY@\n", "X=@EMPTY@\n", id="values are not looked at again"),
        pytest.param("@FRAGMENT@\n", "# of\n@EMPTY@\n", id="fragments are"),
        pytest.param("a\n\n@EMPTY@\n\nb\n", "a\n\nb\n", id="no holes"),
    ],
)
def test_a_template_is_filled_in(template, expected):
    """Fragments may hold markers, values may hold anything."""
    assert filled_in(template, {"FRAGMENT": "# of\n@VALUE@\n@EMPTY@"}, {"EMPTY": "", "VALUE": "@EMPTY@"}) == expected


def test_a_marker_without_a_value_is_a_mistake():
    """It would end in a unit file."""
    with pytest.raises(KeyError):
        filled_in("@NOBODY@", {}, {})


@pytest.mark.parametrize(
    ("text", "as_word", "as_argument"),
    [
        pytest.param("/srv/logs", "/srv/logs", "/srv/logs", id="plain"),
        pytest.param("/a b", '"/a b"', '"/a b"', id="blank"),
        pytest.param("50%", '"50%%"', '"50%%"', id="specifier"),
        pytest.param("$HOME", '"$HOME"', '"$$HOME"', id="variable, in commands alone"),
        pytest.param('a"b\\c', '"a\\"b\\\\c"', '"a\\"b\\\\c"', id="quote and backslash"),
        pytest.param("a\nExecStart=/bin/sh", '"a\\x0aExecStart=/bin/sh"', '"a\\x0aExecStart=/bin/sh"', id="a line of its own"),
        pytest.param("", '""', '""', id="empty"),
    ],
)
def test_words_are_quoted(text, as_word, as_argument):
    """What systemd would read a meaning into is escaped."""
    assert (word(text), word(text, is_command=True)) == (as_word, as_argument)


@pytest.mark.parametrize("path", ["/a\nb", "/a ", "/a\\", "/a\x7f"])
def test_what_stands_without_quotes_can_not_be_everything(path):
    """A path that would not come out as it went in is refused."""
    with pytest.raises(ValueError, match="control characters"):
        bare(path)


@given(PATHS)
@example("/")
@example("/.a/-x\\y")
def test_an_instance_is_its_path_again(path):
    """Whatever the directory is called."""
    assert path_of(instance_of(path)) == path


@needs_systemd
@settings(max_examples=40)
@given(PATHS)
@example("/")
@example("/.hidden/a b-c:é%")
def test_instances_are_named_as_systemd_names_them(path):
    """What `systemd-escape --path` says."""
    done = subprocess.run(["systemd-escape", "--path", "--", path], capture_output=True, text=True, check=True)
    assert instance_of(path) == done.stdout.removesuffix("\n")


def test_a_command_line_is_one_line():
    """Its words, in their order."""
    assert command_line(["/opt/my python", "-m", "x", "%$"]) == '"/opt/my python" -m x "%%$$"'
