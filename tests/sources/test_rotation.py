"""Rotation, truncation, copies, deletion: which file continues which stream. Numbers are the cases of `docs/design.md`, Faults."""

import gzip
import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.sources.harness import Tail, append, numbered, text

FIRST = numbered(0, 40)
MORE = numbered(40, 30)
LAST = numbered(70, 20)
SAME_HEAD = b'{"header":"%s"}' % (b"h" * 1100)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


@pytest.fixture
def read(tmp_path: Path, log: Path) -> Tail:
    """A tailer that has read `FIRST` from `log`."""
    log.write_bytes(text(FIRST))
    return Tail(tmp_path).pump()


def down(tail: Tail, *, is_down: bool) -> Tail:
    """Whether what follows happens while nobody looks."""
    return tail.restart() if is_down else tail


RUNNING_OR_DOWN = pytest.mark.parametrize("is_down", [False, True], ids=["running", "down"])


@RUNNING_OR_DOWN
def test_a_renamed_file_is_read_on_under_its_new_name_while_its_writer_keeps_it(read: Tail, log: Path, *, is_down: bool) -> None:
    """15: both files exact."""
    with log.open("ab") as writer:
        log.rename(log.with_name("a.jsonl.1"))
        log.write_bytes(text(LAST))
        down(read, is_down=is_down)
        read.pump()
        writer.write(text(MORE))
    read.pump()
    assert read.has_exactly(*FIRST, *MORE, *LAST)
    assert read.lines.index(LAST[0]) > read.lines.index(FIRST[-1])


@pytest.mark.parametrize("is_known", [False, True], ids=["met", "known"])
def test_a_file_that_was_nowhere_when_its_turn_came_is_read_where_it_turns_up(tmp_path: Path, *, is_known: bool) -> None:
    """16: renamed while it is looked for, it can be missed in the old place and in the new one; it has changed nothing but its name."""
    logs, elsewhere = tmp_path / "logs", tmp_path / "elsewhere.jsonl"
    logs.mkdir()
    log, other = logs / "a.jsonl", logs / "b.jsonl"
    other.write_bytes(text(MORE))
    tail = Tail(logs, most_open=1).pump()
    log.write_bytes(text(FIRST))
    if is_known:
        tail.hint(log)
    else:
        tail.tailer.hint(tail.roots[0], log.name)
    log.rename(elsewhere)
    tail.hint(log)
    tail.tailer.turn()
    elsewhere.rename(log.with_name("a.jsonl.1"))
    tail.pump()
    assert tail.has_exactly(*FIRST, *MORE)


@RUNNING_OR_DOWN
def test_two_renames_at_once_lose_nothing(read: Tail, log: Path, *, is_down: bool) -> None:
    """16: all three generations exact, and in order."""
    append(log, text(MORE))
    log.rename(log.with_name("a.jsonl.2"))
    log.with_name("a.jsonl.1").write_bytes(text(LAST))
    newest = numbered(0, 9, "new")
    log.write_bytes(text(newest))
    down(read, is_down=is_down).pump()
    assert read.lines == [*FIRST, *MORE, *LAST, *newest]


@RUNNING_OR_DOWN
@pytest.mark.parametrize("copy", ["a.jsonl.1", "a-20260209.jsonl", "b.jsonl"])
@pytest.mark.parametrize("hint", [None, "copy", "log"])
def test_what_was_unread_at_a_copytruncate_is_read_from_the_copy(read: Tail, log: Path, copy: str, hint: str | None, *, is_down: bool) -> None:
    """17: the rest comes from the copy, the original starts again, nothing twice, whichever is heard of first."""
    append(log, text(MORE))
    shutil.copyfile(log, log.with_name(copy))
    os.truncate(log, 0)
    down(read, is_down=is_down)
    if hint:
        read.hint(log if hint == "log" else log.with_name(copy))
        read.read()
    append(log, text(LAST))
    read.pump()
    assert read.has_exactly(*FIRST, *MORE, *LAST)
    assert "gap" not in read.kinds


@RUNNING_OR_DOWN
@pytest.mark.parametrize(
    "refill",
    [numbered(0, 90, "later"), numbered(0, 40, "z"), numbered(0, 3, "few")],
    ids=["18: past our offset", "19 and 20: to the same size", "to less"],
)
def test_a_file_truncated_and_refilled_is_a_new_stream(read: Tail, log: Path, refill: list[bytes], *, is_down: bool) -> None:
    """18 to 20: exact, whatever the size says."""
    if refill[0].startswith(b'{"who":"z"'):
        assert len(text(refill)) == len(text(FIRST))
    log.write_bytes(text(refill))
    down(read, is_down=is_down).pump()
    assert read.lines == [*FIRST, *refill]


@RUNNING_OR_DOWN
@pytest.mark.parametrize("size", [1, 60], ids=["smaller", "larger"])
def test_generations_with_the_same_long_first_line_are_told_apart(tmp_path: Path, log: Path, size: int, *, is_down: bool) -> None:
    """21: the first 1,100 bytes are the same in all of them."""
    log.write_bytes(text([SAME_HEAD, *FIRST]))
    tail = Tail(tmp_path).pump()
    log.write_bytes(text([SAME_HEAD, *numbered(0, size, "next")]))
    down(tail, is_down=is_down).pump().wait(1.5)
    assert tail.lines == [SAME_HEAD, *FIRST, SAME_HEAD, *numbered(0, size, "next")]


@RUNNING_OR_DOWN
def test_generations_with_the_same_first_line_are_told_apart_after_a_rename(tmp_path: Path, log: Path, *, is_down: bool) -> None:
    """21: the older one keeps its stream under its new name."""
    log.write_bytes(text([SAME_HEAD, *FIRST]))
    tail = Tail(tmp_path).pump()
    append(log, text(MORE))
    log.rename(log.with_name("a.jsonl.1"))
    log.write_bytes(text([SAME_HEAD, *LAST]))
    down(tail, is_down=is_down).pump()
    assert tail.lines == [SAME_HEAD, *FIRST, *MORE, SAME_HEAD, *LAST]


@RUNNING_OR_DOWN
def test_a_file_deleted_and_made_again_is_new_even_with_the_same_inode(read: Tail, log: Path, *, is_down: bool) -> None:
    """22: read from its beginning."""
    if is_down:
        read.tailer.close()
    log.unlink()
    log.write_bytes(text(MORE))
    down(read, is_down=is_down).pump()
    assert read.lines == [*FIRST, *MORE]


@RUNNING_OR_DOWN
@pytest.mark.parametrize("continues", [False, True], ids=["other content", "same content and more"])
def test_a_file_replaced_by_a_rename_over_it_is_new_unless_it_continues(read: Tail, log: Path, *, is_down: bool, continues: bool) -> None:
    """23: content decides, not the inode."""
    fresh = log.with_name("tmp")
    fresh.write_bytes(text([*FIRST, *MORE] if continues else MORE))
    fresh.rename(log)
    down(read, is_down=is_down).pump()
    assert read.lines == [*FIRST, *MORE]


@pytest.mark.parametrize("other", ["b.jsonl", "sub/a.jsonl"])
def test_files_with_the_same_first_line_are_two_streams(tmp_path: Path, log: Path, other: str) -> None:
    """24: both exact, in one directory and in two, however their growth interleaves."""
    second = tmp_path / other
    second.parent.mkdir(exist_ok=True)
    log.write_bytes(text([SAME_HEAD]))
    second.write_bytes(text([SAME_HEAD]))
    tail = Tail(tmp_path).pump()
    append(second, text(MORE[:3]))
    tail.pump()
    append(log, text(FIRST))
    tail.pump()
    append(second, text(MORE[3:]))
    tail.pump().restart().pump()
    assert tail.has_exactly(SAME_HEAD, *FIRST, SAME_HEAD, *MORE)


@RUNNING_OR_DOWN
def test_a_copy_is_ignored_until_it_diverges(read: Tail, log: Path, *, is_down: bool) -> None:
    """25: a backup is no second log; what only it has is read."""
    copy = log.with_name("backup.jsonl")
    shutil.copyfile(log, copy)
    down(read, is_down=is_down).pump()
    append(log, text(MORE))
    read.pump()
    assert read.lines == [*FIRST, *MORE]
    append(copy, text(LAST))
    down(read, is_down=is_down).pump()
    assert read.has_exactly(*FIRST, *MORE, *LAST)


def test_a_copy_that_diverged_while_its_original_was_unread_is_noticed(tmp_path: Path, log: Path) -> None:
    """25: what the copy has beyond our place in the original is compared too."""
    log.write_bytes(text([*FIRST, *MORE]))
    log.with_name("b.jsonl").write_bytes(text([*FIRST, *LAST]))
    tail = Tail(tmp_path).pump()
    assert tail.has_exactly(*FIRST, *MORE, *LAST)


def test_a_copy_in_progress_gives_no_line_twice(read: Tail, log: Path) -> None:
    """26: seen after each few bytes of it."""
    whole = log.read_bytes()
    for name in ("a.jsonl.1", "other.jsonl"):
        copy = log.with_name(name)
        for start in range(0, len(whole), 777):
            append(copy, whole[start : start + 777])
            read.hint(copy)
            read.read()
        read.pump()
    assert read.lines == FIRST


def test_a_copy_rewritten_as_something_else_is_read(read: Tail, log: Path) -> None:
    """25: that it once was a copy says nothing about what it is now."""
    copy = log.with_name("b.jsonl")
    shutil.copyfile(log, copy)
    read.pump()
    copy.write_bytes(text([FIRST[0], *LAST]))
    read.pump()
    assert read.has_exactly(*FIRST, FIRST[0], *LAST)


@RUNNING_OR_DOWN
@pytest.mark.parametrize("refill", [numbered(0, 9, "new"), numbered(0, 90, "new")], ids=["shorter", "longer"])
def test_a_file_refilled_before_its_first_byte_was_read_is_read_as_it_is_now(tmp_path: Path, log: Path, refill: list[bytes], *, is_down: bool) -> None:
    """27: at offset 0 there are no bytes before the cursor; the first line decides."""
    log.write_bytes(text(FIRST))
    tail = Tail(tmp_path)
    tail.sweep()
    assert tail.tailer.is_behind
    log.write_bytes(text(refill))
    down(tail, is_down=is_down).pump()
    assert tail.lines == refill


def test_a_file_compressed_while_running_is_not_read_again(read: Tail, log: Path) -> None:
    """28: its lines were read, and the archive is known for a copy, also after the original is forgotten and after a restart."""
    append(log, text(MORE))
    read.pump()
    log.with_name("a.jsonl.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    log.write_bytes(text(LAST))
    read.pump().wait(30).wait(90).restart().pump()
    assert read.lines == [*FIRST, *MORE, *LAST]
    assert read.faults == []


@pytest.mark.parametrize("name", ["a.jsonl.1.gz", "a.jsonl-20260209.gz", "a-20260209.jsonl.gz"])
def test_the_rest_of_a_file_compressed_while_down_is_read_once(read: Tail, log: Path, name: str) -> None:
    """29: the archive is recognised by its first line, and what was read is skipped."""
    read.tailer.close()
    log.with_name(name).write_bytes(gzip.compress(text([*FIRST, *MORE])))
    log.unlink()
    log.write_bytes(text(LAST))
    read.restart().pump()
    assert read.lines == [*FIRST, *MORE, *LAST]
    assert read.restart().pump().wait(120).lines == [*FIRST, *MORE, *LAST]
    assert read.faults == []


def test_an_archive_cut_in_the_middle_is_read_up_to_the_cut_and_told_once(tmp_path: Path) -> None:
    """29: what can be unpacked is read; when the rest comes, it is read too."""
    path = tmp_path / "a.jsonl.1.gz"
    packed = gzip.compress(text(FIRST), mtime=0)
    path.write_bytes(packed[: len(packed) * 2 // 3])
    tail = Tail(tmp_path).pump()
    got = len(tail.lines)
    assert 0 < got < len(FIRST)
    assert tail.lines == FIRST[:got]
    assert tail.faults == []
    assert "damaged_archive" in tail.wait(61).wait(61).wait(61).kinds
    assert tail.kinds.count("damaged_archive") == 1
    path.write_bytes(packed)
    assert tail.pump().lines == FIRST


@pytest.mark.parametrize("content", [b"", b"\x1f", b"no archive at all\n" * 10, gzip.compress(b"")], ids=["empty", "one byte", "text", "of nothing"])
def test_what_is_no_archive_in_spite_of_its_name_disturbs_nobody(tmp_path: Path, log: Path, content: bytes) -> None:
    """29: garbage gives a fault at most."""
    log.write_bytes(text(FIRST))
    log.with_name("a.jsonl.2.gz").write_bytes(content)
    tail = Tail(tmp_path).pump().wait(61).wait(61).wait(61)
    assert tail.lines == FIRST
    assert len(tail.faults) <= 1


def test_an_archive_of_two_members_is_read_through(tmp_path: Path) -> None:
    """`gzip >>` makes such."""
    (tmp_path / "a.jsonl.1.gz").write_bytes(gzip.compress(text(FIRST)) + gzip.compress(text(MORE)))
    assert Tail(tmp_path).pump().lines == [*FIRST, *MORE]


def test_a_file_deleted_while_it_is_behind_is_read_to_its_end(tmp_path: Path, log: Path) -> None:
    """30: the descriptor keeps it."""
    lines = numbered(0, 40_000)
    log.write_bytes(text(lines))
    tail = Tail(tmp_path)
    tail.sweep()
    assert tail.read(turns=1) == 1
    log.unlink()
    tail.pump()
    assert tail.lines == lines
    assert tail.faults == []


def test_a_file_deleted_while_it_is_written_is_read_as_long_as_its_writer_writes(read: Tail, log: Path) -> None:
    """30 and 32: for a minute after its last growth."""
    with log.open("ab", buffering=0) as writer:
        log.unlink()
        read.pump()
        writer.write(text(MORE))
        read.wait(40)
        writer.write(text(LAST))
        read.wait(40)
    assert read.lines == [*FIRST, *MORE, *LAST]


def test_a_file_deleted_while_down_with_unread_bytes_is_told_once(tmp_path: Path, log: Path) -> None:
    """31: a gap, with its path and its first byte; of what was read to its end nothing is said."""
    log.write_bytes(text(numbered(0, 40_000)))
    log.with_name("read.jsonl").write_bytes(text(FIRST))
    tail = Tail(tmp_path)
    tail.sweep()
    tail.read(turns=3)
    offset = next(cursor.offset for cursor in tail.tailer.cursors() if cursor.source == "a.jsonl")
    tail.tailer.close()
    log.unlink()
    log.with_name("read.jsonl").unlink()
    tail.restart().pump().wait(61).restart().pump().wait(61)
    assert [(fault.path, fault.offset, fault.kind) for fault in tail.faults] == [("a.jsonl", offset, "gap")]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_deleted_files_are_let_go(tmp_path: Path) -> None:
    """32: 200 of them; descriptors are free a minute after the last growth, and never more than may be open."""
    before = open_files()
    paths = [tmp_path / f"{n}.jsonl" for n in range(200)]
    for n, path in enumerate(paths):
        path.write_bytes(text(numbered(0, 5, f"f{n}")))
    tail = Tail(tmp_path, most_open=50).pump()
    assert open_files() - before <= 52
    for path in paths:
        path.unlink()
    tail.pump()
    assert open_files() - before <= 52
    tail.wait(61).wait(1)
    assert open_files() == before
    assert len(tail.lines) == 1000
    assert tail.faults == []


def test_lingering_deleted_files_do_not_keep_others_from_being_read(tmp_path: Path) -> None:
    """32 and 62: at the limit of open files the one deleted longest is let go."""
    for n in range(8):
        (tmp_path / f"{n}.jsonl").write_bytes(text(numbered(0, 5, f"f{n}")))
    tail = Tail(tmp_path, most_open=4).pump()
    for n in range(8):
        append(tmp_path / f"{n}.jsonl", text(numbered(5, 1, f"f{n}")))
        tail.hint(tmp_path / f"{n}.jsonl")
        tail.read()
        (tmp_path / f"{n}.jsonl").unlink()
        tail.hint(tmp_path / f"{n}.jsonl")
    (tmp_path / "new.jsonl").write_bytes(text(FIRST))
    tail.pump()
    assert len(tail.lines) == 8 * 6 + len(FIRST)


def test_a_size_that_lags_for_a_moment_is_no_truncation(read: Tail, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """33: a shrunken file with the same first line is looked at again a second later."""
    file = next(iter(read.tailer.files()))
    cursor = read.tailer.cursors()[0]
    real_fstat, real_pread = os.fstat, os.pread
    shown = cursor.offset - 500

    def lagging_fstat(fd: int) -> os.stat_result:
        stat = real_fstat(fd)
        return os.stat_result([*stat[:6], min(stat.st_size, shown), *stat[7:]])

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", lagging_fstat)
        patched.setattr(os, "pread", lambda fd, size, offset: real_pread(fd, size, offset)[: max(0, shown - offset)])
        append(log, text(MORE))
        read.hint(log)
        read.read()
        assert file.stream is not None
    read.hint(log)
    read.wait(1.1)
    assert read.lines == [*FIRST, *MORE]


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    """34: neither to files nor to directories, in the tree or out of it, nor in a circle; re-targeting changes nothing."""
    tree = tmp_path / "tree"
    outside = tmp_path / "outside"
    for directory in (tree / "runs" / "1", outside):
        directory.mkdir(parents=True)
    (tree / "runs" / "1" / "a.jsonl").write_bytes(text(FIRST))
    (outside / "secret.jsonl").write_bytes(text(MORE))
    links = {
        "current.jsonl": tree / "runs" / "1" / "a.jsonl",
        "out.jsonl": outside / "secret.jsonl",
        "out": outside,
        "loop": tree,
        "loop.jsonl": tree / "loop.jsonl",
        "dead.jsonl": tree / "nothing",
    }
    for name, target in links.items():
        (tree / name).symlink_to(target)
    (tree / "runs" / "latest").symlink_to("1")
    tail = Tail(tree).pump()
    for name in (*links, "runs/latest", "runs/latest/a.jsonl", "out/secret.jsonl"):
        tail.tailer.hint(tail.roots[0], name)
        tail.tailer.hint_directory(tail.roots[0], name)
        tail.tailer.settle()
    (tree / "current.jsonl").unlink()
    (tree / "current.jsonl").symlink_to(outside / "secret.jsonl")
    tail.pump()
    assert tail.lines == FIRST


@RUNNING_OR_DOWN
def test_a_hard_link_is_no_second_stream(read: Tail, log: Path, *, is_down: bool) -> None:
    """35: whichever of its names goes away."""
    other = log.with_name("b.jsonl")
    other.hardlink_to(log)
    append(other, text(MORE))
    down(read, is_down=is_down).pump()
    log.unlink()
    append(other, text(LAST))
    down(read, is_down=is_down).pump()
    assert read.lines == [*FIRST, *MORE, *LAST]


def test_what_is_no_regular_file_is_left_alone(tmp_path: Path, log: Path) -> None:
    """36: a FIFO does not block, a socket, a directory and a device are not opened."""
    log.write_bytes(text(FIRST))
    os.mkfifo(tmp_path / "fifo.jsonl")
    (tmp_path / "dir.jsonl").mkdir()
    if os.geteuid() == 0:
        os.mknod(tmp_path / "zero.jsonl", 0o20644, os.makedev(1, 5))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jsonl"))
        tail = Tail(tmp_path).pump()
    for name in ("fifo.jsonl", "socket.jsonl", "zero.jsonl"):
        tail.hint(tmp_path / name)
    assert tail.pump().lines == FIRST
    assert tail.faults == []


@pytest.mark.parametrize("replacement", ["fifo", "directory", "link"])
def test_a_file_that_became_something_else_is_let_go(read: Tail, log: Path, replacement: str) -> None:
    """36: between the look and the opening, or later."""
    log.unlink()
    {"fifo": lambda: os.mkfifo(log), "directory": log.mkdir, "link": lambda: log.symlink_to("/etc/passwd")}[replacement]()
    assert read.pump().wait(61).lines == FIRST


@pytest.mark.parametrize("name", [b"with\nnewline.jsonl", b"with  spaces .jsonl", b"\xff\xfe\x80.jsonl", b"-.jsonl", "ümläut.jsonl".encode(), b"%s\\x.jsonl"])
def test_any_file_name_is_read(tmp_path: Path, name: bytes) -> None:
    """37: what is saved is text, and found again after a restart."""
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))  # noqa: PTH118
    path.write_bytes(text(FIRST))
    tail = Tail(tmp_path).pump().restart().pump()
    append(path, text(MORE))
    tail.hint(path)
    tail.read()
    assert tail.lines == [*FIRST, *MORE]
    path.rename(path.with_name(path.name + ".1"))
    append(path.with_name(path.name + ".1"), text(LAST))
    assert tail.restart().pump().lines == [*FIRST, *MORE, *LAST]
    assert all(source.isprintable() or "\n" in source for source, _ in tail.seen)


def test_a_rotation_in_the_middle_of_a_line_joins_nothing(read: Tail, log: Path) -> None:
    """A line whose rest went into the next file is no line, and takes none with it."""
    append(log, b'{"half":')
    read.pump()
    log.rename(log.with_name("a.jsonl.1"))
    log.write_bytes(b"1}\n" + text(MORE))
    read.pump()
    assert read.has_exactly(*FIRST, b"1}", *MORE)


def test_a_file_renamed_to_another_source_keeps_its_stream(read: Tail, log: Path) -> None:
    """15: content, not the name."""
    append(log, text(MORE))
    moved = log.parent / "runs" / "1" / "b.jsonl"
    moved.parent.mkdir(parents=True)
    log.rename(moved)
    read.pump()
    append(moved, text(LAST))
    assert read.pump().lines == [*FIRST, *MORE, *LAST]


def test_an_inode_used_again_under_another_name_is_another_source(read: Tail, log: Path, tmp_path: Path) -> None:
    """22: its lines are told as those of the new name."""
    read.tailer.close()
    log.unlink()
    (tmp_path / "b.jsonl").write_bytes(text(MORE))
    read.pump()
    assert read.seen == [("a.jsonl", line) for line in FIRST] + [("b.jsonl", line) for line in MORE]


@pytest.mark.parametrize("rotate", ["rename", "copytruncate"])
def test_three_rotations_in_a_row_beside_a_restart_lose_and_repeat_nothing(tmp_path: Path, log: Path, rotate: str) -> None:
    """16 and 17: the stress test that Promtail skips, green."""
    tail = Tail(tmp_path)
    written: list[bytes] = []
    for generation in range(6):
        for part in range(3):
            lines = numbered(part * 50, 50, f"g{generation}")
            append(log, text(lines))
            written += lines
            if part == generation % 3:
                tail.pump()
        for older in range(generation, 0, -1):
            log.with_name(f"a.jsonl.{older}").rename(log.with_name(f"a.jsonl.{older + 1}"))
        if rotate == "rename":
            log.rename(log.with_name("a.jsonl.1"))
        else:
            shutil.copyfile(log, log.with_name("a.jsonl.1"))
            os.truncate(log, 0)
        if generation % 2:
            tail.restart()
    assert tail.pump().has_exactly(*written)
