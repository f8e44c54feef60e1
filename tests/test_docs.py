"""The documentation leads somewhere: links, anchors, and the tests that it names."""

import re
from pathlib import Path

import pytest
import typer

from agentwatch.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "agentwatch/formats/README.md", ROOT / "fuzz/README.md"])


def anchors(page: Path) -> set[str]:
    """Those that a page has, as GitHub and MkDocs make them of its titles."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    """To a file of the project, and to a title of it where it names one."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        led = (page.parent / target).resolve() if target else page
        assert led.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(led), f"{page.name}: {target}#{anchor}"


def test_every_test_that_a_fault_names_exists():
    """docs/reliability.md promises nothing that is not held."""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs/reliability.md").read_text("utf-8"))
    assert len(named) > 50
    for file, test in named:
        assert re.search(rf"^(async )?def {test}\(", (ROOT / "tests" / file).read_text("utf-8"), re.MULTILINE), f"{file}::{test}"


def test_every_option_of_a_command_that_is_named_exists():
    """Whoever renames one finds the places; what stands in a text is tried as it stands."""
    top = typer.main.get_command(app)
    tried = 0
    for page in PAGES:
        for words in re.findall(r"\bagentwatch ([a-z][^\n`\"|#;&<>)…]*)", re.sub(r".*npx .*", "", page.read_text("utf-8"))):
            command, rest = top, words.split()
            while rest and rest[0] in getattr(command, "commands", {}):
                command = command.get_command(typer.Context(command), rest.pop(0))
            if command is top:
                continue  # "agentwatch reads …": a sentence
            known = {"--help", *(name for option in command.params for name in (*option.opts, *option.secondary_opts))}
            own = rest[: rest.index("--")] if "--" in rest else rest
            named = {word.partition("=")[0].rstrip(",.:") for word in own if re.match(r"--[a-z]", word)}
            assert named <= known, f"{page.name}: agentwatch {words}"
            tried += len(named)
    assert tried > 50
