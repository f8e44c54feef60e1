"""The pages of a replay, on a screen and as HTML."""

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.core.story import Step, Story
from agentwatch.model import Context
from agentwatch.ui.replay import Replay, clock, help_lines, page, plain, shortened
from agentwatch.ui.replay_html import LONGEST_TEXT, html
from tests.ui.pages import is_golden, text_of
from tests.ui.test_console import hostile

START = datetime(2026, 2, 9, 8, tzinfo=UTC)


def step(number, second, kind, title, text="", **more):
    return Step(
        number,
        START + timedelta(seconds=second),
        timedelta(seconds=second),
        kind,
        more.pop("lane", ""),
        title,
        text,
        more.pop("is_bad", False),
        number * 900,
        number / 50,
        "stream.jsonl at byte 7",
        **more,
    )


STEPS = (
    step(1, 0, "asked", "starts", "Fix the login redirect.\nIt sends people to the wrong page."),
    step(2, 3, "thinks", "thinks", "The redirect is built in auth.py."),
    step(3, 4, "calls", "Edit", "src/auth.py", more="old_string: next\nnew_string: safe(next)"),
    step(4, 5, "returned", "Edit returned", "ok"),
    step(5, 9, "calls", "Grep", "redirect in src", lane="a9cad17"),
    step(6, 70, "calls", "Bash", "git push"),
    step(7, 72, "returned", "Bash failed (exit code 1)", "error: failed to push\n" + "hint: the branch is protected\n" * 30, is_bad=True),
    step(8, 4000, "alert", "error_loop (high)", "it is in an error loop\n  evidence", is_bad=True),
    step(9, 4010, "alert", "error_loop is over", "it does something else"),
    step(10, 4020, "says", "says", "I cannot push: 日本 <b>&amp;"),
)
CONTEXT = Context(task_title="Fix the login redirect", executor="CODEX", model="gpt-5-codex", project_id="/home/dev/site", branch="fix/login")
STORY = Story("attempt-101", CONTEXT, "stream.jsonl", STEPS, is_priced=True)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60)], ids=("80x24", "200x60"))
def test_a_step_stands_below_those_around_it(width, height):
    """The list of steps, and the whole of the one that was come to."""
    assert is_golden(f"replay-{width}x{height}.txt", text_of(page(Replay(STORY, at=6), width, height), width, height))


def test_the_whole_of_it_is_printed_where_there_is_no_screen():
    """Each step with when, what and how much; long texts cut."""
    lines = ["".join(word.text for word in block.words).rstrip() for block in plain(STORY, whole=False)]
    assert is_golden("replay-plain.txt", "".join(f"{line}\n" for line in lines))


def test_a_long_step_can_be_scrolled_to_its_end_and_not_beyond():
    """Where the text ends the page does too."""
    view = Replay(STORY, at=6, scroll=1000)
    shown = text_of(page(view, 80, 24), 80, 24)
    assert "at byte 7" in shown
    assert 0 < view.scroll < 1000


def test_help_lists_every_key():
    """And the marks, which do without colours."""
    text = "\n".join("".join(word.text for word in line) for line in help_lines())
    assert all(word in text for word in ("next error", "next alert", "play", "quit", "thinks"))


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (67, "1:07"), (3600 + 67, "1:01:07"), (-5, "0:00"), (90_000, "25:00:00")])
def test_a_time_since_the_beginning_is_told_as_a_clock_does(seconds, text):
    """Hours only where there are any; a clock that was set back does not count below nothing."""
    assert clock(timedelta(seconds=seconds)) == text


def test_what_was_left_out_of_a_text_is_told():
    """By lines as well as by characters."""
    assert shortened("a\nb", whole=False) == ("a\nb", "")
    assert shortened("x" * 5000, whole=False)[1] == "… 3,800 characters more (--full)"
    assert shortened("x" * 5000, whole=True) == ("x" * 5000, "")


class Text(HTMLParser):
    """The tags of a page, and what stands between them."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def parsed(story):
    page = Text()
    page.feed("\n".join(html(story, START)))
    return page


def test_the_file_holds_every_step_and_its_parameters():
    """Texts as text, sums on top, a timeline."""
    found = parsed(STORY)
    text = "".join(found.text)
    assert [attrs["id"] for tag, attrs in found.tags if tag == "li"] == [f"s{number}" for number in range(1, 11)]
    assert "new_string: safe(next)" in text
    assert "I cannot push: 日本 <b>&amp;" in text
    assert any(tag == "polyline" for tag, _ in found.tags)


def test_a_very_long_text_says_where_the_rest_of_it_stands():
    """A phone opens the file all the same."""
    long = Story("a", Context(), "s", (step(1, 0, "returned", "Read returned", "x" * 10**6),), is_priced=False)
    text = "\n".join(html(long, START))
    assert len(text) < 2 * LONGEST_TEXT + 10_000
    assert "980,000 characters more stand in the log: stream.jsonl at byte 7" in text


@settings(max_examples=60, deadline=None)
@given(st.lists(hostile, min_size=6, max_size=6))
def test_no_text_of_a_log_becomes_a_part_of_the_page(texts):
    """The same tags as with harmless texts, and nothing invisible in any of them; on a screen no line is forged."""
    markup = [f"{text}</pre><script>alert(1)</script>\"'><img src=x onerror=y>" for text in texts]
    steps = (step(1, 0, "calls", markup[0], markup[1], more=markup[2], lane=markup[3]), step(2, 1, "alert", markup[4], markup[5], is_bad=True))
    context = Context(task_title=markup[0], executor=markup[1], model=markup[2], project_id=markup[3], branch=markup[4])
    story = Story(markup[5], context, markup[0], steps, is_priced=True)
    found = parsed(story)
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "img"})
    assert all(character.isprintable() or character == "\n" for text in found.text for character in text)
    for width, height in ((80, 24), (20, 8), (5, 3)):
        text_of(page(Replay(story), width, height), width, height)


def test_an_empty_story_has_pages_too():
    """Nothing is divided by no time and no steps."""
    empty = Story("a", Context(), "", (), is_priced=True)
    assert "nothing happened" in text_of(page(Replay(empty), 80, 24), 80, 24)
    assert parsed(empty).tags
    assert list(plain(empty, whole=False))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed: it is what draws the page")
def test_in_a_browser_nothing_is_wider_than_the_window(tmp_path):
    """Laid out by a real one, at the least width that it takes: a phone shows it without scrolling sideways."""
    path = tmp_path / "x.html"
    measured = "document.title = document.documentElement.scrollWidth + ' of ' + window.innerWidth"
    text = "\n".join(html(STORY, START))
    # The page itself forbids scripts; this one only measures.
    path.write_text(re.sub("<meta http-equiv[^>]*>", "", text).replace("</body>", f"<script>{measured}</script></body>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--window-size=500,900", "--dump-dom"]
    done = subprocess.run([*command, f"file://{path}"], capture_output=True, text=True, timeout=120, check=False)
    widths = re.search(r"<title>(\d+) of (\d+)</title>", done.stdout)
    assert widths, done.stderr[-2000:]
    assert int(widths[1]) <= int(widths[2])
