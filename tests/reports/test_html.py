"""HTML reports: one file that needs nothing, drawn by a real browser."""

import json
import re
import shutil
import struct
import subprocess
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from agentwatch.core.reports.cost import Spending
from agentwatch.core.reports.summary import TokenSums
from agentwatch.ui.charts import Bar, Bars, Columns, Heading, Mark, Span, Timeline
from agentwatch.ui.html import document
from agentwatch.ui.page import Table, Word, para
from agentwatch.ui.report_pages import spending

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None)
AT = datetime(2026, 2, 9, tzinfo=UTC)
EVIL = "<img src=x onerror=alert(1)>\x1b[2J\"'&"
VOID = {"meta", "rect", "line", "path"}

BLOCKS = [
    Heading(EVIL),
    para(Word(EVIL, "bad"), EVIL),
    Table((EVIL, ">number"), [(Word(EVIL), Word("5"))]),
    Bars(EVIL, [Bar(EVIL, 0.5, EVIL, "good", 0.2, 0.8)], full=1.0),
    Columns(EVIL, [EVIL, "2026-02-09"], [0.0, 5.0], [EVIL, EVIL], EVIL),
    Timeline([Span(EVIL, AT, AT + timedelta(hours=1), EVIL, "bad", [Mark(AT, EVIL)])]),
]


class Checked(HTMLParser):
    """Raises where a tag is not closed, and collects what the document consists of."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def checked(text):
    parser = Checked()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_every_text_is_escaped_and_nothing_is_fetched_or_run():
    """Whatever stands in a log, in every kind of block; the document's own policy forbids the rest."""
    text = document(EVIL, EVIL, BLOCKS)
    found = checked(text)
    assert found.tags.isdisjoint({"script", "img", "link", "iframe", "object", "a"})
    assert not any(name.startswith("on") or name in ("src", "href") for _, name, _ in found.attributes)
    assert "url(" not in text
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "default-src 'none'" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "block",
    [
        Bars("x", []),
        Bars("x", [Bar("a", 0.0, "0")]),
        Columns("x", [], [], [], ""),
        Columns("x", ["a"], [0.0], ["0"], ""),
        Timeline([]),
        Timeline([Span("a", AT, AT, "")]),
        Table(("a",), []),
        para(),
    ],
    ids=lambda block: f"{type(block).__name__} {len(block[-1]) if isinstance(block[-1], list) else ''}",
)
def test_charts_of_nothing_are_no_error(block):
    """No division by nothing."""
    assert "nan" not in document("t", "s", [block]).partition("<body>")[2].lower()
    checked(document("t", "s", [block]))


def test_a_day_on_which_nothing_was_spent_has_its_place():
    """The second column stands three days after the first; a name that is no day has none."""
    found = [Spending(key, 1, TokenSums(), usd) for key, usd in (("2026-02-09", 1.0), ("2026-02-12", 3.0), ("x", 5.0))]
    [columns] = [block for block in spending(found, "day", []) if isinstance(block, Columns)]
    assert (columns.labels, columns.values) == (["2026-02-09", "2026-02-10", "2026-02-11", "2026-02-12"], [1.0, 0.0, 0.0, 3.0])


def test_no_drawing_is_higher_than_a_sheet_of_paper():
    """Printed, it would be pushed from sheet to sheet, and cut in the end."""
    text = document("t", "s", [Timeline([Span("a", AT, AT + timedelta(hours=number), "") for number in range(61)])])
    sizes = [tuple(map(int, size)) for size in re.findall(r'viewBox="0 0 (\d+) (\d+)"', text)]
    assert len(sizes) == 3
    assert all(height <= width for width, height in sizes)


@pytest.fixture
def reports(place, make_session):
    """A week with two executors, failures, errors and an alert."""
    now = datetime.now(UTC)
    for number in range(60):
        begun = now - timedelta(hours=2 * number + 1)
        errors = ["test_failed"] * (number % 3)
        place.write(*make_session(
            f"a{number}", begun, status="failed" if number % 4 == 0 else "success", errors=errors, usage=[{"input": 900, "output": 90, "cost": 0.3}], minutes=40,
            executor=("CODEX", "CLAUDE")[number % 2], model=("gpt-5-codex", "claude-sonnet-4-5")[number % 2], task_id=f"t{number // 2}", task_title=f"[m] task {number // 2}",
        ))  # fmt: skip
    alert = {"timestamp": now.isoformat(), "alert_id": "1", "type": "error_loop", "status": "open", "attempt_id": "a1"}
    (place.logs / "agent-alerts.jsonl").write_text(json.dumps(alert) + "\n")
    names = {"summary": ["summary"]} | {name: ["report", name] for name in ("errors", "executors", "tasks", "sessions", "cost", "weekly")}
    for name, arguments in names.items():
        done = place.run(*arguments, "--html", f"{name}.html", AGENTWATCH_SOURCES="none")
        assert (done.returncode, done.stderr) == (0, "")
    return {name: place.base / f"{name}.html" for name in names}


def test_every_report_is_one_well_formed_file(reports):
    """With a chart where one says more than numbers."""
    for name, path in reports.items():
        found = checked(path.read_text())
        assert ("svg" in found.tags) is (name != "tasks"), name


def drawn(path, width, height, *flags):
    """The picture of a document: its size and its bytes."""
    out = path.with_suffix(".png")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--window-size={width},{height}",
        *flags,
        f"--screenshot={out}",
        path.as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=path.parent)
    data = out.read_bytes()
    return struct.unpack(">II", data[16:24]), data


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_draws_it_in_light_in_dark_and_on_a_phone(reports):
    """Three different pictures of the same page, none of them empty."""
    page = reports["weekly"]
    pictures = [drawn(page, 1000, 1400), drawn(page, 1000, 1400, "--blink-settings=preferredColorScheme=0"), drawn(page, 500, 900)]
    assert [size for size, _ in pictures] == [(1000, 1400), (1000, 1400), (500, 900)]
    assert len({data for _, data in pictures}) == 3
    assert all(len(data) > 20_000 for _, data in pictures)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_nothing_is_wider_than_a_phone(reports):
    """No report has to be scrolled sideways: a browser that measures says so."""
    for name, path in reports.items():
        probe = path.with_name(f"probe-{name}.html")
        text = re.sub(r"<meta http-equiv[^>]*>", "", path.read_text())
        script = "<script>document.title=document.documentElement.scrollWidth+' of '+innerWidth</script>"
        probe.write_text(text.replace("</body>", script + "</body>"))
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900", "--dump-dom", probe.as_uri()]
        dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
        width, screen = map(int, re.search(r"<title>(\d+) of (\d+)</title>", dom).groups())
        assert width <= screen, name
