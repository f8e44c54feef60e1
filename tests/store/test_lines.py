"""The lines of the store: gone through again and again, the same each time, and never all in memory."""

import gzip
import tracemalloc

import pytest

from agentwatch.store import history
from agentwatch.store.history import Lines


def told(lines):
    return [line for block in lines for line in block.lines.splitlines()]


def test_each_pass_says_the_same_whatever_happens_meanwhile(tmp_path):
    """What is written, rotated or deleted after the file was added is for the next look."""
    path = tmp_path / "agent-metrics.jsonl"
    path.write_bytes(b"1\n2\n")
    packed = tmp_path / "agent-metrics-2026-01.jsonl.gz"
    packed.write_bytes(gzip.compress(b"0\n"))
    with history.lines(tmp_path, None, pytest.fail, "") as lines:
        first = told(lines)
        with path.open("ab") as file:
            file.write(b"3\n")
        path.unlink()
        packed.unlink()
        assert first == told(lines) == [b"0", b"1", b"2"]


def test_a_file_that_was_cut_meanwhile_ends_where_it_ends(tmp_path):
    """Nobody should, and nothing hangs."""
    path = tmp_path / "agent-metrics.jsonl"
    path.write_bytes(b"1\n2\n")
    with history.lines(tmp_path, None, pytest.fail, "") as lines:
        path.write_bytes(b"1\n")
        assert told(lines) == [b"1"]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_no_more_than_a_block_is_in_memory(tmp_path, monkeypatch, ending):
    """Packed or not, however much it is."""
    monkeypatch.setattr(history, "MOST_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / f"months.{ending}"
    with (gzip.open if ending.endswith("gz") else open)(path, "wb") as file:
        file.write(b"x" * 99 + b"\n")
        for _ in range(200):
            file.write((b"y" * 99 + b"\n") * 1000)
    tracemalloc.start()
    try:
        with Lines() as lines:
            lines.add(path, pytest.fail)
            assert [sum(map(len, (block.lines for block in lines))) for _ in range(2)] == [20_000_100] * 2
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


def test_what_cannot_be_opened_is_told(tmp_path):
    """The other files count."""
    problems = []
    with Lines() as lines:
        lines.add(tmp_path / "gone.jsonl", problems.append)
        lines.add(tmp_path / "gone.jsonl.gz", problems.append)
        assert told(lines) == []
    assert problems == ["`gone.jsonl` cannot be read: No such file or directory", "`gone.jsonl.gz` cannot be read: No such file or directory"]
