"""Fairness, limits, time, unreadable things, and what one look at the tree does. Numbers are the cases of `docs/design.md`, Faults."""

import gc
import os
import random
import shutil
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentwatch.sources import streams
from tests.sources.harness import Tail, append, numbered, text


class _Unheard(list):
    """Keeps nothing, so that what it is given is not counted as kept."""

    def append(self, item: object) -> None:
        pass


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_far_behind_does_not_keep_live_ones_waiting(tmp_path: Path) -> None:
    """64: each of 20 live files has its turn within one round, and the one behind no more than one."""
    (tmp_path / "big.jsonl").write_bytes(b"x" * 100 + b"\n")
    for n in range(20):
        (tmp_path / f"live{n}.jsonl").write_bytes(b"%d\n" % n)
    tail = Tail(tmp_path).pump()
    append(tmp_path / "big.jsonl", (b"y" * 999 + b"\n") * 20_000)
    tail.hint(tmp_path / "big.jsonl")
    for _ in range(5):
        for n in range(20):
            append(tmp_path / f"live{n}.jsonl", b"more\n")
            tail.hint(tmp_path / f"live{n}.jsonl")
        before = len(tail.seen)
        tail.read(turns=21)
        read = tail.seen[before:]
        assert sum(source != "big.jsonl" for source, _ in read) == 20
        assert sum(len(line) + 1 for source, line in read if source == "big.jsonl") <= 256 << 10


def test_an_older_generation_is_read_before_the_newer_one(tmp_path: Path) -> None:
    """16: within a source the order is that of writing, however much the older has left."""
    (tmp_path / "a.jsonl.2").write_bytes(text(numbered(0, 9000, "2")))
    (tmp_path / "a.jsonl.1").write_bytes(text(numbered(0, 9000, "1")))
    (tmp_path / "a.jsonl").write_bytes(text(numbered(0, 10, "0")))
    for age, name in enumerate(("a.jsonl", "a.jsonl.1", "a.jsonl.2")):
        os.utime(tmp_path / name, (2e9 - age, 2e9 - age))
    assert Tail(tmp_path).pump().lines == numbered(0, 9000, "2") + numbered(0, 9000, "1") + numbered(0, 10, "0")


@pytest.mark.parametrize("most_open", [1, 4, 50])
def test_more_files_than_may_be_open_are_all_read(tmp_path: Path, most_open: int) -> None:
    """62: whatever is open at once stays below the limit."""
    before = open_files()
    written = []
    for n in range(300):
        lines = numbered(0, 3, f"f{n}")
        (tmp_path / f"{n}.jsonl").write_bytes(text(lines))
        written += lines
    tail = Tail(tmp_path, most_open=most_open)
    tail.sweep()
    assert open_files() - before <= most_open + 1
    while tail.read(turns=17):
        assert open_files() - before <= most_open + 1
    for n in range(300):
        append(tmp_path / f"{n}.jsonl", b"last%d\n" % n)
        written.append(b"last%d" % n)
    tail.pump()
    assert tail.has_exactly(*written)
    assert tail.faults == []


def test_a_rotated_file_that_is_closed_waits_for_no_newer_one_that_is_open(tmp_path: Path) -> None:
    """62: where all that may be open is in use by those behind it in the queue, they make room."""
    for n in range(6):
        (tmp_path / f"{n}.jsonl").write_bytes(text(numbered(0, 3, f"f{n}")))
    tail = Tail(tmp_path, most_open=3).pump()
    for n in range(6):
        append(tmp_path / f"{n}.jsonl", text(numbered(3, 3, f"f{n}")))
        (tmp_path / f"{n}.jsonl").rename(tmp_path / f"{n}.jsonl.1")
        (tmp_path / f"{n}.jsonl").write_bytes(text(numbered(6, 3, f"f{n}")))
    tail.pump()
    for n in range(6):
        assert [line for source, line in tail.seen if source == f"{n}.jsonl"] == numbered(0, 9, f"f{n}")


@pytest.mark.parametrize("jump_s", [-3600.0, 86_400.0 + 60], ids=["back an hour", "on a day"])
def test_a_clock_that_jumps_changes_nothing_that_is_read(tmp_path: Path, jump_s: float) -> None:
    """63: also in the middle of a rotation."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(text(numbered(0, 10)))
    tail = Tail(tmp_path).pump()
    append(path, text(numbered(10, 10)))
    tail.wall += jump_s
    path.rename(tmp_path / "a.jsonl.1")
    path.write_bytes(text(numbered(20, 10)))
    tail.pump()
    tail.wall += jump_s
    assert tail.restart().pump().lines == numbered(0, 30)


@pytest.mark.parametrize("mtime", [0, 4e9], ids=["1970", "the future"])
def test_times_of_files_do_not_matter(tmp_path: Path, mtime: float) -> None:
    """63: a file is read again when its size or its time is another one, not a later one."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(text(numbered(0, 10)))
    os.utime(path, (mtime, mtime))
    tail = Tail(tmp_path).pump()
    append(path, text(numbered(10, 10)))
    os.utime(path, (mtime - 10, mtime - 10))
    assert tail.pump().lines == numbered(0, 20)
    os.utime(path, (5, 5))
    assert tail.pump().restart().pump().lines == numbered(0, 20)


def test_nothing_is_opened_that_did_not_change_while_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart beside 10,000 old transcripts costs one look at each, not one reading."""
    for n in range(50):
        (tmp_path / f"{n}.jsonl").write_bytes(text(numbered(0, 3, f"f{n}")))
    tail = Tail(tmp_path).pump()
    append(tmp_path / "7.jsonl", b"new\n")
    tail.restart()
    opened = []
    real = os.open

    def noted(path, *args, **kwargs):
        opened.append(path)
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", noted)
        tail.pump()
    assert [Path(path).name for path in opened] == ["7.jsonl"]
    assert tail.lines[-1] == b"new"


def test_a_file_appended_between_the_look_and_the_reading_is_read_to_its_end(tmp_path: Path) -> None:
    """52: what came after the size was taken is found by the next look at the latest."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(text(numbered(0, 10)))
    tail = Tail(tmp_path)
    tail.sweep()
    append(path, text(numbered(10, 10)))
    tail.read()
    append(path, text(numbered(20, 10)))
    tail.sweep()
    tail.read()
    assert tail.lines == numbered(0, 30)


def test_a_write_by_mmap_is_found_by_the_sweep(tmp_path: Path) -> None:
    """50: it makes no event at all, but moves the file's time when it is flushed."""
    import mmap

    path = tmp_path / "a.jsonl"
    path.write_bytes(b"first\n" + bytes(4090))
    tail = Tail(tmp_path).pump()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as memory:
        memory[6:13] = b"second\n"
        memory.flush()
    tail.pump()
    assert tail.lines == [b"first", b"second"]
    assert tail.tailer.found_by_sweep == 1


def test_a_sweep_alone_finds_everything(tmp_path: Path) -> None:
    """51 and 38: without a single event, as on 9p, NFS and after an overflow; and it is counted."""
    rng = random.Random(51)
    tail = Tail(tmp_path).pump()
    written = []
    paths: list[Path] = []
    for round_ in range(8):
        for n in range(25):
            path = tmp_path / f"d{rng.randrange(6)}" / f"{round_}-{n}.jsonl"
            path.parent.mkdir(exist_ok=True)
            paths.append(path)
        for path in rng.sample(paths, 20):
            lines = numbered(0, 2, f"{path.stem}{rng.random()}")
            append(path, text(lines))
            written += lines
        tail.pump()
        assert tail.has_exactly(*written)
    assert tail.tailer.found_by_sweep > 0


def test_the_root_may_come_and_go(tmp_path: Path) -> None:
    """47 and 48: missing at the start, removed, made again, renamed; each file of it is read."""
    root = tmp_path / "log"
    tail = Tail(root).pump()
    root.mkdir()
    (root / "a.jsonl").write_bytes(text(numbered(0, 3)))
    tail.pump()
    shutil.rmtree(root)
    tail.pump()
    root.mkdir()
    (root / "a.jsonl").write_bytes(text(numbered(3, 3)))
    tail.pump()
    root.rename(tmp_path / "old")
    root.mkdir()
    (root / "a.jsonl").write_bytes(text(numbered(6, 3)))
    tail.pump()
    assert tail.lines == numbered(0, 9)
    assert "unreadable_directory" not in tail.kinds


def test_a_directory_of_files_moved_in_is_read(tmp_path: Path) -> None:
    """42: filled elsewhere, and moved into the tree as a whole; one event is told for it."""
    root = tmp_path / "log"
    root.mkdir()
    tail = Tail(root).pump()
    filled = tmp_path / "filled" / "deep"
    filled.mkdir(parents=True)
    (filled / "a.jsonl").write_bytes(text(numbered(0, 3)))
    (tmp_path / "filled").rename(root / "filled")
    tail.tailer.hint_directory(tail.roots[0], "filled")
    tail.tailer.settle()
    tail.read()
    assert tail.lines == numbered(0, 3)


def test_a_file_moved_to_another_directory_is_not_read_again(tmp_path: Path) -> None:
    """48: nor is a whole directory that was renamed."""
    (tmp_path / "one").mkdir()
    path = tmp_path / "one" / "a.jsonl"
    path.write_bytes(text(numbered(0, 5)))
    tail = Tail(tmp_path).pump()
    (tmp_path / "one").rename(tmp_path / "two")
    append(tmp_path / "two" / "a.jsonl", text(numbered(5, 5)))
    tail.pump()
    (tmp_path / "two").rename(tmp_path / "three")
    assert tail.restart().pump().lines == numbered(0, 10)


def test_many_files_deleted_at_once_are_let_go_quickly(tmp_path: Path) -> None:
    """53: 3,000 streams, each with no more work than the others."""
    for n in range(3000):
        (tmp_path / f"{n}.jsonl").write_bytes(b"%d\n" % n)
    tail = Tail(tmp_path, most_open=200).pump()
    shutil.rmtree(tmp_path)
    started = time.process_time()
    tail.pump().wait(61).wait(1)
    assert time.process_time() - started < 3.0  # 0.2 s here; 20 s when each looked at all others
    assert len(tail.seen) == 3000


def test_a_stream_whose_file_is_gone_for_a_day_is_forgotten(tmp_path: Path) -> None:
    """Memory follows what is there."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(text(numbered(0, 5)))
    tail = Tail(tmp_path).pump().wait(10 * streams.FORGET_S)
    assert len(tail.tailer.cursors()) == 1
    path.unlink()
    tail.pump().wait(61).wait(streams.FORGET_S - 100)
    assert len(tail.tailer.cursors()) == 1
    tail.wait(200)
    assert tail.tailer.cursors() == []


def test_a_stream_whose_file_vanished_while_nobody_looked_is_kept_a_day_from_then(tmp_path: Path) -> None:
    """Nobody knows when that was: a file that nobody wrote to for weeks may have stood there until now."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(text(numbered(0, 5)))
    tail = Tail(tmp_path).pump().wait(10 * streams.FORGET_S)
    path.unlink()
    tail.restart().pump().wait(streams.FORGET_S - 100)
    assert len(tail.tailer.cursors()) == 1
    tail.wait(200)
    assert tail.tailer.cursors() == []


@pytest.mark.parametrize("is_restarted", [False, True], ids=["running", "after a restart"])
def test_an_idle_file_takes_little_memory(tmp_path: Path, *, is_restarted: bool) -> None:
    """53: 1,100 bytes each here, 1,200 after a restart; half of that are names, digests and numbers."""
    root = tmp_path / "a-log-directory"
    for n in range(1000):
        path = root / "runs" / f"run-{n % 50}" / f"agent-{n}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'{"n":%d}\n' % n * 50)
    tail = Tail(root, most_open=1)
    if is_restarted:
        tail.pump()
    tail.seen, tail.offsets = _Unheard(), _Unheard()
    tracemalloc.start()
    (tail.restart() if is_restarted else tail).pump()
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / 1000 < 1400


def test_a_file_that_cannot_be_opened_is_told_once_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """46: permission restored, everything is read."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(text(numbered(0, 5)))
    real = os.open

    def refusing(name, *args, **kwargs):
        if str(name).endswith("a.jsonl"):
            raise PermissionError(13, "Permission denied")
        return real(name, *args, **kwargs)

    tail = Tail(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refusing)
        for _ in range(10):
            tail.pump()
    assert tail.kinds == ["unreadable"]
    assert tail.pump().lines == numbered(0, 5)


def test_running_out_of_descriptors_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """62: EMFILE at any opening, by whoever else uses them up."""
    rng = random.Random(62)
    real = os.open

    def scarce(*args, **kwargs):
        if rng.random() < 0.3:
            raise OSError(24, "Too many open files")
        return real(*args, **kwargs)

    tail = Tail(tmp_path, most_open=5)
    written = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", scarce)
        for round_ in range(10):
            for n in range(20):
                lines = numbered(round_ * 2, 2, f"f{n}")
                append(tmp_path / f"{n}.jsonl", text(lines))
                written += lines
            tail.pump()
    assert tail.pump().has_exactly(*written)


ACTION = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 6)),
    st.tuples(st.just("half"), st.integers(1, 20)),
    st.tuples(st.sampled_from(["rename", "copytruncate", "pump", "sweep", "restart", "hint", "compress", "copy"]), st.just(0)),
    st.tuples(st.just("turns"), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.sampled_from([1, 2, 61])),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=st.lists(ACTION, max_size=40), most_open=st.sampled_from([1, 3, 64]), same_head=st.booleans())
def test_any_program_of_appends_rotations_copies_and_restarts_reads_each_line_once(
    tmp_path_factory: pytest.TempPathFactory, program: list[tuple[str, int]], most_open: int, *, same_head: bool
) -> None:
    """15 to 18 and 25 to 29, mixed: whatever is written is read exactly once."""
    root = tmp_path_factory.mktemp("log")
    path = root / "a.jsonl"
    path.touch()
    tail = Tail(root, most_open=most_open)
    written: list[bytes] = []
    rest = b""
    serial = 0
    for action, number in program:
        if action == "append":
            lines = numbered(serial, number)
            if same_head and path.stat().st_size == 0:
                lines.insert(0, b"header")
            serial += number
            append(path, rest + text(lines))
            written += lines
            rest = b""
        elif action == "half" and not rest:
            line = numbered(serial, 1)[0]
            serial += 1
            append(path, line[:number])
            rest = line[number:] + b"\n"
            written.append(line)
        elif action in ("rename", "copytruncate"):
            append(path, rest)
            rest = b""
            rotated = sorted(root.glob("a.jsonl.*"), key=lambda one: int(one.name.split(".")[2]), reverse=True)
            for older in rotated:
                first, second, age, *ending = older.name.split(".")
                older.rename(root / ".".join([first, second, str(int(age) + 1), *ending]))
            if action == "rename":
                path.rename(root / "a.jsonl.1")
                path.touch()
            else:
                shutil.copyfile(path, root / "a.jsonl.1")
                os.truncate(path, 0)
        elif action == "compress":
            plain = root / "a.jsonl.1"
            if plain.exists():
                import gzip

                (root / "a.jsonl.1.gz").write_bytes(gzip.compress(plain.read_bytes()))
                plain.unlink()
        elif action == "copy":
            shutil.copyfile(path, root / "b.jsonl")
        elif action == "pump":
            tail.pump()
        elif action == "sweep":
            tail.sweep()
        elif action == "restart":
            tail.restart()
        elif action == "hint":
            tail.hint(path)
        elif action == "wait":
            tail.wait(number)
        elif action == "turns":
            tail.read(turns=number)
    append(path, rest)
    tail.pump().wait(2).wait(120)
    assert tail.has_exactly(*written)
    tail.tailer.close()
    shutil.rmtree(root)
