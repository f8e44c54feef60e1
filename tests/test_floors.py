"""The design's floors: a module imports what stands below it, never what stands beside or above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = [
    {"agentwatch", "agentwatch.model", "agentwatch.errors"},
    {"agentwatch.core"},
    {"agentwatch.formats"},
    {
        "agentwatch.sources",
        "agentwatch.alert_log",
        "agentwatch.checkpoint",
        "agentwatch.notify",
        "agentwatch.writer",
        "agentwatch.store",
        "agentwatch.llm",
        "agentwatch.ui",
        "agentwatch.settings",
        "agentwatch.pricing",
        "agentwatch.rulebook",
        "agentwatch.sdnotify",
        "agentwatch.voice",
        "agentwatch.logger",
    },
    {"agentwatch.apps"},
    {"agentwatch.cli"},
    {"agentwatch.__main__"},
]
"""What stands on each floor (docs/design.md), by the name of its module or package."""

EDGES = 3

FACE = ("agentwatch", "agentwatch.logger")
"""The package hands out the logger by its own name, and imports it when it is first asked for."""


def unit_of(module: str) -> str | None:
    """Return the module or package of `FLOORS` that `module` belongs to; None for what has no floor."""
    units = {unit for floor in FLOORS for unit in floor}
    parts = module.split(".")
    # `agentwatch` stands for its `__init__` alone, or every stray module would be at home on the ground.
    names = [".".join(parts[:length]) for length in range(len(parts), 1, -1)] or [module]
    return next((name for name in names if name in units), None)


def floor_of(unit: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if unit in floor)


def may_import(importer: str, imported: str) -> bool:
    """Return whether one unit may import another: what is its own or lies below, except that the edges know no format."""
    own, other = floor_of(importer), floor_of(imported)
    if importer == imported:
        return True
    if own == 0:
        return imported == "agentwatch" or (importer, imported) == FACE
    if own == EDGES:
        return other < EDGES - 1
    return other < own


def imports(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything of agentwatch that the file imports, wherever in it the import stands."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            # `from agentwatch import settings` imports a module, `from agentwatch import __version__` a name of the ground.
            names = [f"{base}.{alias.name}" if unit_of(f"{base}.{alias.name}") else base for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "agentwatch")


def violations(root: Path) -> list[str]:
    """Return a line for each import in the package below `root` that the floors forbid, and for each module without a floor."""
    found = []
    for path in sorted((root / "agentwatch").rglob("*.py")):
        place = path.relative_to(root)
        module = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
        unit = unit_of(module)
        if unit is None:
            found.append(f"{place}: stands on no floor")
            continue
        for line, name in imports(path, module):
            imported = unit_of(name)
            if imported is None:
                found.append(f"{place}:{line}: {name} stands on no floor")
            elif not may_import(unit, imported):
                found.append(f"{place}:{line}: {unit} may not import {name}")
    return found


def test_every_import_of_the_package_keeps_to_the_floors():
    """Nothing imports what stands beside or above it."""
    assert violations(ROOT) == []


def test_each_heavy_client_is_imported_in_one_file_at_most():
    """Libraries that reach out of the process have one owner, so that their errors are translated in one place."""
    heavy = {
        "openai",
        "mcp",
        "telegram",
        "tiktoken",
        "duckdb",
        "pyspark",
        "watchdog",
        "genai_prices",
        "dotenv",
        "httpx",
        "httpx2",
        "apprise",
        "re2",
    }
    owners: dict[str, set[str]] = {}
    for path in (ROOT / "agentwatch").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in {module.split(".")[0] for module in modules} & heavy:
                owners.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    assert {name: files for name, files in owners.items() if len(files) > 1} == {}


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        pytest.param("core/engine.py", "import agentwatch.formats.canonical", "core may not import agentwatch.formats.canonical", id="upwards"),
        pytest.param("core/engine.py", "from agentwatch import settings", "core may not import agentwatch.settings", id="upwards by name"),
        pytest.param("core/engine.py", "from .. import settings", "core may not import agentwatch.settings", id="upwards by dots"),
        pytest.param("core/detectors/x.py", "from ...formats import y", "core may not import agentwatch.formats", id="upwards by three dots"),
        pytest.param("core/__init__.py", "from ..formats import y", "core may not import agentwatch.formats", id="from a package's own file"),
        pytest.param("core/engine.py", "def f():\n    import agentwatch.apps.run", "core may not import agentwatch.apps.run", id="inside a function"),
        pytest.param("model.py", "from agentwatch.errors import AgentwatchError", "model may not import agentwatch.errors", id="on the ground"),
        pytest.param("settings.py", "from agentwatch.checkpoint import load", "settings may not import agentwatch.checkpoint", id="edge beside edge"),
        pytest.param("sources/reader.py", "from agentwatch.formats import registry", "sources may not import agentwatch.formats", id="edge and format"),
        pytest.param("apps/run.py", "from agentwatch.cli.main import app", "apps may not import agentwatch.cli.main", id="app and command line"),
        pytest.param("helpers.py", "", "helpers.py: stands on no floor", id="a stray module"),
        pytest.param("apps/run.py", "import agentwatch.helpers", "agentwatch.helpers stands on no floor", id="import of a stray module"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, file, line, complaint):
    """The checker sees each way to write an import, wherever it stands."""
    path = tmp_path / "agentwatch" / file
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    found = violations(tmp_path)
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        pytest.param("core/engine.py", "from agentwatch.core.window import Window", id="core and core"),
        pytest.param("core/engine.py", "from agentwatch import model", id="core and the ground"),
        pytest.param("formats/x.py", "from ..core import text", id="format and core"),
        pytest.param("sources/reader.py", "from agentwatch.sources.identity import FileId", id="within an edge"),
        pytest.param("settings.py", "from agentwatch.errors import SettingsError", id="edge and the ground"),
        pytest.param("apps/run.py", "from agentwatch import formats, settings", id="app and everything below"),
        pytest.param("apps/status.py", "from agentwatch.apps.common import paths", id="app and app"),
        pytest.param("cli/main.py", "from agentwatch import __version__", id="a name of the package itself"),
        pytest.param("__main__.py", "from agentwatch.cli.main import main", id="the entry point"),
        pytest.param("core/engine.py", "import logging, agentwatches", id="other people's modules"),
    ],
)
def test_an_allowed_import_is_let_through(tmp_path, file, line):
    """What the floors permit is not complained of."""
    path = tmp_path / "agentwatch" / file
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    assert violations(tmp_path) == []
