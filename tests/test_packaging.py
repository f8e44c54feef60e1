"""What is shipped: the wheel and the source distribution, built and installed as a user gets them."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from agentwatch import __version__

ROOT = Path(__file__).parents[1]


def build(source: Path, out: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", out], cwd=source, capture_output=True, check=True)


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The directory with both."""
    out = tmp_path_factory.mktemp("dist")
    build(ROOT, out)
    return out


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


def test_the_wheel_has_all_that_the_program_reads_and_nothing_else(dist):
    """Rules, units, prices, recordings, the manual page; no tests, and nothing that a run left behind."""
    names = set(contents(next(dist.glob("*.whl"))))
    data = f"agentwatch-{__version__}.data/data/share/man/man1/agentwatch.1"
    assert {"agentwatch/prices.json", "agentwatch/py.typed", "agentwatch/demo/stream.jsonl", data} <= names
    for folder in ("rules", "systemd"):
        shipped = {name.removeprefix("agentwatch/") for name in names if name.startswith(f"agentwatch/{folder}/")}
        assert shipped == {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}
    assert all(name.startswith(("agentwatch/", f"agentwatch-{__version__}.")) for name in names)
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".so"))]


def test_the_source_distribution_builds_the_same_wheel(dist, tmp_path):
    """Who packages it for a distribution starts there."""
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    build(tmp_path / f"agentwatch-{__version__}", tmp_path / "again")
    assert contents(next((tmp_path / "again").glob("*.whl"))) == contents(next(dist.glob("*.whl")))


def test_an_installed_wheel_works_outside_of_the_checkout(dist, tmp_path):
    """In an empty home, with nothing of the checkout on the path; its dependencies are those of this interpreter."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    target = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True).stdout.strip()
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as archive:
        archive.extractall(target)  # noqa: S202  # our own, built just now
    Path(target, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    def run(*arguments: str) -> str:
        done = subprocess.run([python, "-m", "agentwatch", *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    assert run("--version") == f"agentwatch {__version__}\n"
    where = subprocess.run(
        [python, "-c", "import agentwatch; print(agentwatch.__file__)"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )
    assert where.stdout.startswith(target)
    logs = tmp_path / ".cache/agent-work-logs"
    logs.mkdir(parents=True)
    (logs / "agent-work-stream.jsonl").write_bytes(Path(target, "agentwatch/demo/stream.jsonl").read_bytes())
    run("run", "--once")
    assert "error_loop" in run("alerts")
