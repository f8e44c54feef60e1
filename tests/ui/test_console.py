"""The pages of the live console."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.ui.console import AlertRow, AttemptRow, EventRow, View, details, help_lines, leaf, overlay, page, short, window
from agentwatch.ui.page import Word
from tests.ui.pages import is_golden, text_of

NOW = datetime(2026, 2, 9, 3, 12, 44, tzinfo=UTC)
SIZES = ((80, 24), (200, 60))

ROW = AttemptRow(
    key=("", "a"),
    state="working",
    waiting_for="model",
    attempt_id="attempt-101-login",
    task="Fix the login redirect",
    executor="CODEX",
    model="gpt-5-codex",
    age=timedelta(minutes=42),
    silent=timedelta(seconds=4),
    action="Bash: npm test -- --watch=false",
    action_is_bad=False,
    tokens=1_234_567,
    usd=3.4567,
    errors=0,
    pace=(0, 0, 1, 4, 9, 2, 0, 0, 3, 5, 8, 1),
    alarm="",
)
ROWS = [
    ROW._replace(key=("", "s"), state="stuck", attempt_id="attempt-7", task="Speed up the tests", silent=timedelta(minutes=12), alarm="medium", errors=3),
    ROW._replace(key=("", "l"), alarm="high", action="Bash failed (exit code 1): error: failed to push some refs to 'origin'", action_is_bad=True, errors=17),
    ROW._replace(
        key=("", "w"),
        state="user",
        attempt_id="0ccf1a04-1b4c-43b6-8aa5-79e41db43a68",
        executor="CLAUDE",
        model="claude-opus-4-5-20251101",
        task="Write poems about 日本のカレー and about Thai curry",
        action="AskUserQuestion: Which one do you like best?",
        usd=None,
    ),
    ROW._replace(key=("", "t"), state="tool", attempt_id="attempt-9", tokens=0, usd=0.0, action="WebFetch: https://example.org/a/page"),
    ROW._replace(key=("", "d"), state="done", attempt_id="attempt-3", action="ends: success"),
]
ALERTS = [
    AlertRow(
        NOW - timedelta(seconds=5),
        "high",
        "error_loop",
        "open",
        "attempt-101-login",
        "attempt-101-login is in an error loop: git_push_failed, 4 times in 2 min. error: failed to push some refs to 'origin': the branch is protected",
        "trigger_ai_autofix",
        (("03:10:31", "error: failed to push some refs"), ("03:12:39", "error: failed to push some refs to 'origin'")),
    ),
    AlertRow(
        NOW - timedelta(minutes=7), "medium", "stuck_agent", "open", "attempt-7", "attempt-7 has been silent for 5 min, waiting for tool Bash", "check", ()
    ),
    AlertRow(NOW - timedelta(days=1), "medium", "tool_loop", "recovered", "attempt-9", "attempt-9 does something else now", "fresh_session", ()),
]
EVENTS = [
    EventRow(
        NOW - timedelta(seconds=60 - number), "attempt-101-login" if number % 3 else "0ccf1a04-1b4c-43b6-8aa5-79e41db43a68", lane, title, text, kind, is_bad
    )
    for number, (lane, title, text, kind, is_bad) in enumerate(
        [
            ("", "Bash", "npm test", "tool_call", False),
            ("", "Bash failed (exit code 1)", "error: failed to push some refs to 'origin'", "tool_result", True),
            ("a9cad17", "says", "I look at the other branch first, and then at the one that is protected.", "agent_output", False),
            ("", "thinks", "The branch is protected.", "agent_thinking", False),
            ("", "error (git)", "failed to push", "error", True),
        ]
        * 11
    )
]


def view(rows=ROWS, alerts=ALERTS, events=EVENTS, **more):
    live = [row for row in rows if row.state not in ("done", "failed")]
    return View(
        now=NOW,
        rows=lambda start, count: rows[start : start + count],
        row_count=len(rows),
        numbers=(len(live), sum(row.state == "stuck" for row in live), sum(row.state == "user" for row in live), sum(bool(row.alarm) for row in live)),
        alerts=alerts,
        events=lambda count, back: events[max(0, len(events) - back - count) : len(events) - back],
        event_count=len(events),
        watcher="daemon 4711 watches",
        rate="12/s",
        **more,
    )


@pytest.mark.parametrize(("width", "height"), SIZES, ids=("80x24", "200x60"))
def test_the_page_is_the_one_that_was_agreed_on(width, height):
    """Attempts by what needs attention, alerts with their evidence, events; the words alone do where there are no colours."""
    assert is_golden(f"console-{width}x{height}.txt", text_of(page(view(), width, height), width, height))


@pytest.mark.parametrize(("width", "height"), SIZES, ids=("80x24", "200x60"))
def test_a_page_of_nothing_says_so(width, height):
    """Before anything happens, and where nothing passes the filters."""
    shown = text_of(page(view([], [], [], filters="only attempt x"), width, height), width, height)
    assert "no attempt is live" in shown
    assert "nothing that passes the filter" in shown
    assert is_golden(f"console-empty-{width}x{height}.txt", shown)


@pytest.mark.parametrize(("width", "height"), SIZES, ids=("80x24", "200x60"))
def test_of_500_attempts_a_page_is_shown_below_the_names_of_the_columns(width, height):
    """The header never scrolls away, and how much there is besides is told."""
    rows = [ROW._replace(key=("", str(number)), attempt_id=f"attempt-{number}") for number in range(500)]
    shown = text_of(page(view(rows, selected={"attempts": 321, "alerts": 0, "events": 0}), width, height), width, height).splitlines()
    assert shown[0].startswith(" agentwatch  500 live")
    assert "STATE" in shown[1]
    assert " of 500" in shown[1]
    assert any("attempt-321 " in line for line in shown)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_paused_page_says_so_however_much_there_is_to_say(width):
    """Nobody must wait for what he has stopped himself."""
    busy = view(is_paused=True)
    busy.numbers, busy.rate, busy.watcher = (519, 70, 16, 69), "1,519/s", "no daemon runs: judged here"
    assert "PAUSED" in text_of(page(busy, width, 24), width, 24).splitlines()[0]


@pytest.mark.parametrize(
    ("attempt_id", "shown"),
    [
        pytest.param("0ccf1a04-1b4c-43b6-8aa5-79e41db43a68", "0ccf1a04", id="random"),
        pytest.param("01a200da-81e0-7180-8bd5-5d5d4e4c72c4", "01a200da-81e0", id="begins with its time"),
        pytest.param("attempt-101-login", "attempt-101-login", id="a name"),
        pytest.param("a-name-of-thirty-six-letters-or-so-1", "a-name-of-thirty-six-letters-or-so-1", id="a name as long as a UUID"),
    ],
)
def test_a_short_id_tells_attempts_apart(attempt_id, shown):
    """Sessions that were started within a minute differ in it, too: a UUID of version 7 has the minute in its first 8 digits."""
    assert short(attempt_id) == shown


def test_what_is_selected_is_always_among_what_is_shown():
    """Pages, not a list that creeps."""
    for number, room in ((500, 7), (7, 7), (8, 7), (1, 1), (13, 5)):
        for selected in range(number):
            start = window(number, selected, room)
            assert start <= selected < start + room
            assert 0 <= start <= max(0, number - room)


def test_help_and_details_stand_below_the_header():
    """An open page leaves the numbers in sight, and says how to get back."""
    shown = text_of(overlay(view(), "help", help_lines(), 0, 80, 24), 80, 24)
    assert is_golden("console-help-80x24.txt", shown)
    lines = details([("state", "stuck"), ("task", "word " * 40), ("none", "")], 40)
    assert ["".join(word.text for word in line).strip() for line in lines][:2] == ["state         stuck", "task          word word word word word"]


def test_a_long_page_says_how_much_of_it_is_shown():
    """Lines from where it was scrolled to."""
    lines = [(Word(f"line {number}"),) for number in range(100)]
    shown = text_of(leaf("x", lines, 80, 24, 50), 80, 24).splitlines()
    assert shown[0] == " x  72 of 100 lines"
    assert (shown[1], shown[22]) == ("line 50", "line 71")


hostile = st.text(max_size=80) | st.lists(
    st.sampled_from(["\x1b[2J", "\x1b]0;owned\x07", "\x9b1;1H", "\r", "\n", "\u202e", "\u2066", "\x08", "日本", "e\u0301", "\U000e0041", "\ud800", "a" * 500]),
    max_size=8,
).map("".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(hostile, min_size=9, max_size=9), st.integers(1, 120), st.integers(1, 40), st.sampled_from(["attempts", "alerts", "events"]))
def test_no_text_of_a_log_moves_the_cursor_or_forges_a_line_on_any_screen(texts, width, height, focus):
    """Whatever stands in a log: every line printable, none too wide, exactly as many as the screen has."""
    rows = [ROW._replace(attempt_id=texts[0], task=texts[1], executor=texts[2], model=texts[3], action=texts[4])] * 3
    alerts = [AlertRow(NOW, texts[5], texts[6], "open", texts[0], texts[7], texts[8], ((texts[1], texts[2]),))] * 3
    events = [EventRow(NOW, texts[0], texts[1], texts[2], texts[3], texts[4], is_bad=False)] * 5
    shown = view(
        rows, alerts, events, focus=focus, filters=texts[5], typing=texts[6], notice=texts[7], selected=dict.fromkeys(("attempts", "alerts", "events"), 2)
    )
    text_of(page(shown, width, height), width, height)
    text_of(overlay(shown, texts[8], details([(texts[0][:5], texts[1])], width), 0, width, max(height, 3)), width, max(height, 3))
