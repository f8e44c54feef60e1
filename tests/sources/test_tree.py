"""Which files are logs, and to which source they belong."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentwatch.sources.tree import Root, is_output, look, scope_of, shown, source_of, walk
from tests.sources.harness import Tail, append, numbered, text

NAMES = {
    "agent-work-stream.jsonl": ("agent-work-stream.jsonl", False, False),
    "x.log": ("x.log", False, False),
    "x.ndjson": ("x.ndjson", False, False),
    "x.jsonl.1": ("x.jsonl", True, False),
    "x.jsonl.12.gz": ("x.jsonl", True, True),
    "x.jsonl.gz": ("x.jsonl", False, True),
    "x.jsonl-20260209": ("x.jsonl", True, False),
    "x.jsonl-20260209.gz": ("x.jsonl", True, True),
    "x.jsonl-20260209-1542": ("x.jsonl", True, False),
    "x.jsonl.2026-02-09T10": ("x.jsonl", True, False),
    "x-20260209.jsonl": ("x.jsonl", True, False),
    "x-20260209_154200.jsonl.gz": ("x.jsonl", True, True),
    "a.b-c.log.3": ("a.b-c.log", True, False),
    "x-2026.jsonl": ("x-2026.jsonl", False, False),
    "x-1.jsonl": ("x-1.jsonl", False, False),
    ".jsonl": None,
    "jsonl": None,
    "x.json": None,
    "x.jsonl.bak": None,
    "x.jsonl~": None,
    "x.jsonl.swp": None,
    "x.jsonl.new": None,
    "x.gz": None,
    "": None,
}


@pytest.mark.parametrize(("name", "found"), NAMES.items(), ids=[name or "empty" for name in NAMES])
def test_a_name_tells_its_source(name: str, found: tuple[str, bool, bool] | None) -> None:
    """Source, whether it is a rotated sibling, whether it is compressed."""
    assert source_of(name) == found


PIECES = st.lists(
    st.one_of(st.sampled_from([".jsonl", ".log", ".gz", ".1", "-20260209", "-", ".", "T", "_", "x", "\n", "\udcff", "20"]), st.text(max_size=3)), max_size=40
)


@settings(deadline=None)
@given(PIECES.map("".join))
@example("a-20260209-20260209.jsonl")
def test_any_name_has_one_source_and_a_source_is_its_own(name: str) -> None:
    """A name without its rotation is no rotated one, so that siblings meet in one source; nothing is raised, and nothing takes long."""
    found = source_of(name)
    if found is None:
        return
    source, is_rotated, is_archive = found
    assert name.startswith(source.rpartition(".")[0])
    assert is_archive == (name.endswith(".gz") and source != name)
    if not is_rotated and not is_archive:
        assert source == name
    assert source_of(f"{source}.1") == (source, True, False)
    shown(source).encode()


OUTPUTS = [
    "agent-alerts.jsonl",
    "agent-alerts.jsonl.1",
    "agent-alerts.jsonl.2.gz",
    "agent-alerts.jsonl-20260209",
    "agent-alerts-20260209.jsonl",
    "agent-alerts-20260209.jsonl.gz",
    "agent-metrics.jsonl",
    "agent-metrics-20260209.jsonl",
    "agent-errors.jsonl",
    "agent-errors.jsonl.1",
    "agent-sessions/attempt.jsonl",
    "agent-sessions/attempt.jsonl.1.gz",
    "archive/agent-work-stream-20260101.jsonl.gz",
    "archive/2026/x.jsonl",
    ".agentwatch/debug.log",
    "runs/7/agent-alerts.jsonl",
]


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_agentwatch_and_its_logger_write_is_never_read(tmp_path: Path, name: str) -> None:
    """Contract, section 1: whoever reads outputs back counts every error twice."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text(numbered(0, 3)) if not name.endswith(".gz") else b"")
    tail = Tail(tmp_path).pump()
    append(path, text(numbered(3, 3)))
    tail.hint(path)
    tail.tailer.hint_directory(tail.roots[0], str(path.parent.relative_to(tmp_path)).removeprefix("."))
    tail.pump()
    assert tail.seen == []
    assert tail.faults == []


@pytest.mark.parametrize(
    "name", ["agent-work-stream.jsonl", "agent-alerts-of-mine.jsonl", "errors.jsonl", "runs/7/x.jsonl", "sub/archive/x.jsonl", "deep/er/still/x.log"]
)
def test_everything_else_is_read(tmp_path: Path, name: str) -> None:
    """Also what only looks like an output."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text(numbered(0, 3)))
    assert Tail(tmp_path).pump().seen == [(name, line) for line in numbered(0, 3)]


def test_a_run_is_read_once_though_latest_links_to_it(tmp_path: Path) -> None:
    """`runs/latest` is the same directory under another name."""
    (tmp_path / "runs" / "7").mkdir(parents=True)
    (tmp_path / "runs" / "latest").symlink_to("7")
    path = tmp_path / "runs" / "7" / "x.jsonl"
    path.write_bytes(text(numbered(0, 3)))
    tail = Tail(tmp_path).pump()
    tail.tailer.hint_directory(tail.roots[0], "runs/latest")
    tail.tailer.hint(tail.roots[0], "runs/latest/x.jsonl")
    assert tail.pump().lines == numbered(0, 3)
    assert look(tail.roots[0], "runs/latest/x.jsonl") is None
    assert [place for place, _ in walk(tail.roots[0], "runs/latest")] == []


@pytest.mark.parametrize(("directory", "scope"), [("", ""), ("runs", ""), ("runs/7", "runs/7"), ("runs/7/deep", "runs/7"), ("other/7", "")])
def test_each_run_has_attempts_of_its_own(directory: str, scope: str) -> None:
    """Two runs may use the same attempt id."""
    assert scope_of(Root(Path("/log"), is_log_dir=True), directory) == scope
    assert scope_of(Root(Path("/home"), is_log_dir=False), directory) == ""


def test_an_agents_own_folder_has_no_outputs_and_no_rotation(tmp_path: Path) -> None:
    """Its files are named by date and id: two of one day are two sources."""
    for name in ("rollout-20260209.jsonl", "rollout-20260210.jsonl", "agent-errors.jsonl"):
        (tmp_path / name).write_bytes(text(numbered(0, 2, name)))
    tail = Tail(tmp_path, is_log_dir=False).pump()
    assert {source for source, _ in tail.seen} == {
        f"{tmp_path.name}/{name}" for name in ("rollout-20260209.jsonl", "rollout-20260210.jsonl", "agent-errors.jsonl")
    }


def test_history_in_an_agents_own_folder_is_passed_over(tmp_path: Path) -> None:
    """Files that nothing was written to for long are begun at their end; what comes then is read."""
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_bytes(text(numbered(0, 5, "old")) + b"ha")
    new.write_bytes(text(numbered(0, 5, "new")))
    os.utime(old, (1e9, 1e9))
    tail = Tail(tmp_path, is_log_dir=False, history_s=3600).pump()
    assert tail.lines == numbered(0, 5, "new")
    append(old, b"lf\n" + text(numbered(5, 2, "old")))
    tail.restart().pump()
    assert tail.lines == [*numbered(0, 5, "new"), b"half", *numbered(5, 2, "old")]


@settings(deadline=None)
@given(st.text(st.characters(blacklist_categories=()), max_size=20))
def test_any_path_can_be_shown(path: str) -> None:
    """Bytes that are no UTF-8 become visible; what is text stays as it is."""
    try:
        plain = path.encode()
    except UnicodeEncodeError:
        return
    assert shown(path).encode() == plain
    raw = os.fsdecode(plain + b"\xff\xfe")
    assert shown(raw) == path + "\\xff\\xfe"


@pytest.mark.parametrize("name", ["agent-alerts", "agent-alertsx.jsonl", "my-agent-alerts.jsonl", "agent-metrics.json"])
def test_only_the_outputs_names_are_outputs(name: str) -> None:
    """A prefix is not enough."""
    assert not is_output(name)
