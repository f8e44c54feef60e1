"""A hook of MkDocs: pages of docs/ link into the rest of the project, as a reader of plain Markdown needs it; here those files join the site."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
ELSEWHERE = "project"
"""Where in the site a file stands that is not below docs/."""

_TESTED = re.compile(r"^(```\w+) test$", re.MULTILINE)
"""The mark of examples that tests run, which Markdown's renderer does not expect."""

_LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)\s#]+)(?=[)#])")


def on_files(files: Any, config: Any) -> Any:
    """Add what pages link to, and what that links to."""
    todo = [(f"docs/{file.src_uri}", file.content_string) for file in files if file.is_documentation_page()]
    added = set()
    while todo:
        path, text = todo.pop()
        for target in {posixpath.normpath(posixpath.join(posixpath.dirname(path), link)) for link in _LINK.findall(text)}:
            if target in added or target.startswith("docs/") or not (ROOT / target).is_file():
                continue
            added.add(target)
            files.append(File.generated(config, f"{ELSEWHERE}/{target}", abs_src_path=str(ROOT / target)))
            if target.endswith(".md"):
                todo.append((target, (ROOT / target).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links as they lead in the site. A directory outside docs/ has no page: its name stays."""
    uri = page.file.src_uri
    path = uri.removeprefix(f"{ELSEWHERE}/") if uri.startswith(f"{ELSEWHERE}/") else f"docs/{uri}"

    def led(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), found[1]))
        there = target.removeprefix("docs/") if target.startswith("docs/") else f"{ELSEWHERE}/{target}"
        return posixpath.relpath(there, posixpath.dirname(uri)) if files.get_file_from_path(there) is not None else found[0]

    return _LINK.sub(led, _TESTED.sub(r"\1", markdown))
