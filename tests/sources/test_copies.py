"""Copies, and files that change their names while they are looked at: each test is a fault that `tests/torture` has found."""

import gzip
import os
import shutil
from pathlib import Path

import pytest

from agentwatch.sources import adoption, tailer
from tests.sources.harness import Tail, append, numbered, text

FIRST = numbered(0, 40)
MORE = numbered(40, 30)
LAST = numbered(70, 20)

RUNNING_OR_DOWN = pytest.mark.parametrize("is_down", [False, True], ids=["running", "down"])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


@pytest.fixture
def read(tmp_path: Path, log: Path) -> Tail:
    """A tailer that has read `FIRST` from `log`."""
    log.write_bytes(text(FIRST))
    return Tail(tmp_path).pump()


@RUNNING_OR_DOWN
@pytest.mark.parametrize("lines", [1, 10], ids=["its first line", "ten lines"])
@pytest.mark.parametrize("gone", ["deleted", "emptied"])
def test_a_copy_of_a_logs_beginning_is_not_read_when_the_log_is_gone(read: Tail, log: Path, lines: int, gone: str, *, is_down: bool) -> None:
    """A copytruncate whose writer wrote on between the copy and the truncation leaves just that, and so does a backup."""
    log.with_name("a.jsonl.1").write_bytes(text(FIRST[:lines]))
    read.pump()
    if gone == "deleted":
        log.unlink()
    else:
        os.truncate(log, 0)
    tail = read.restart() if is_down else read
    tail.pump().wait(100)
    assert tail.restart().pump().lines == FIRST


@pytest.mark.parametrize("name", ["a.jsonl.1", "b.jsonl"])
def test_a_copy_of_a_logs_beginning_is_not_read_before_the_log_after_a_restart(read: Tail, log: Path, name: str) -> None:
    """The copy is the older file and is looked at first, when its log seems to be carried by none."""
    copy = log.with_name(name)
    copy.write_bytes(text(FIRST[:10]))
    os.utime(copy, (1, 1))
    append(log, text(MORE))
    assert read.restart().pump().lines == [*FIRST, *MORE]


def test_a_log_whose_first_line_alone_was_copied_is_read_once(tmp_path: Path, log: Path) -> None:
    """What goes on where a copy ends is the same log, also where the copy is a single line."""
    log.write_bytes(text(FIRST))
    shutil.copyfile(log, log.with_name("b.jsonl"))
    log.with_name("a.jsonl.1").write_bytes(text(FIRST[:1]))
    os.utime(log.with_name("a.jsonl.1"), (1, 1))
    assert Tail(tmp_path).pump().lines == FIRST


@pytest.mark.parametrize("lines", [1, 40], ids=["a log of one line", "a log"])
def test_a_log_rewritten_with_more_lines_is_read_on(tmp_path: Path, log: Path, lines: int) -> None:
    """As editors save, by a rename over it."""
    log.write_bytes(text(FIRST[:lines]))
    tail = Tail(tmp_path).pump()
    (tmp_path / "a.tmp").write_bytes(text([*FIRST[:lines], *MORE]))
    (tmp_path / "a.tmp").rename(log)
    assert tail.pump().lines == [*FIRST[:lines], *MORE]


def test_a_copy_that_grows_while_it_is_compared_is_still_a_copy(read: Tail, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison sees half of it, the question whether it goes on sees all."""
    copy, whole, shared = log.with_name("a.jsonl.1"), log.read_bytes(), adoption.shared

    def grows(*arguments) -> int:
        common = shared(*arguments)
        copy.write_bytes(whole)
        return common

    copy.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(adoption, "shared", grows)
    assert read.pump().lines == FIRST


def test_an_unopened_files_inode_used_again_in_another_directory_takes_no_stream_along(tmp_path: Path, log: Path) -> None:
    """After a restart a file that is read to its end is not opened, so nothing keeps its inode from being used again."""
    log.write_bytes(text(FIRST))
    other = tmp_path / "runs" / "r1" / "a.jsonl"
    other.parent.mkdir(parents=True)
    tail = Tail(tmp_path).pump().restart()
    tail.pump()
    packed = gzip.compress(log.read_bytes())
    log.rename(other)  # the inode of one file is that of another, by the shortest way
    other.write_bytes(text(LAST))
    log.with_name("a.jsonl.1.gz").write_bytes(packed)
    assert tail.pump().has_exactly(*FIRST, *LAST)


@pytest.mark.parametrize("ending", ["", ".gz"], ids=["plain", "packed"])
def test_a_name_that_belongs_to_another_file_by_now_is_not_opened(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotated between the look at the directory and the opening: each is read once, the older first."""
    pack = gzip.compress if ending else bytes
    older, newer = tmp_path / f"a.jsonl.2{ending}", tmp_path / f"a.jsonl.1{ending}"
    older.write_bytes(pack(text(FIRST)))
    newer.write_bytes(pack(text(MORE)))
    os.utime(older, (1, 1))
    os.utime(newer, (2, 2))
    identify = tailer.Tailer._identify
    rotated = []

    def rotate_first(self, file, **options) -> bool:
        if not rotated:
            rotated.append(older.rename(tmp_path / f"a.jsonl.3{ending}"))
            newer.rename(older)
        return identify(self, file, **options)

    monkeypatch.setattr(tailer.Tailer, "_identify", rotate_first)
    assert Tail(tmp_path).pump().lines == [*FIRST, *MORE]


def test_of_two_rotated_files_of_one_time_the_higher_number_is_read_first(tmp_path: Path, log: Path) -> None:
    """A copytruncate and a refill within one tick of the clock leave two such files."""
    names = [log.with_name(name) for name in ("a.jsonl.10", "a.jsonl.9.gz", "a.jsonl.1")]
    for path, lines in zip(names, (FIRST, MORE, LAST), strict=True):
        path.write_bytes(gzip.compress(text(lines)) if path.suffix == ".gz" else text(lines))
        os.utime(path, (1, 1))
    assert Tail(tmp_path).pump().lines == [*FIRST, *MORE, *LAST]


def test_many_logs_that_begin_alike_are_told_apart_without_comparing_each_with_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that begins each of its logs with the same line: the second one tells. 500 of them took a minute."""
    compared = []
    compare = adoption.Adoption._compare
    monkeypatch.setattr(adoption.Adoption, "_compare", lambda *arguments: compared.append(1) or compare(*arguments))
    for number in range(300):
        (tmp_path / f"{number}.jsonl").write_bytes(b"started\n" + text(numbered(0, 2, f"log {number}")))
    tail = Tail(tmp_path).pump()
    assert tail.has_exactly(*[b"started"] * 300, *(line for number in range(300) for line in numbered(0, 2, f"log {number}")))
    assert len(compared) < 300
    tail.restart().pump()
    assert len(tail.seen) == 900
