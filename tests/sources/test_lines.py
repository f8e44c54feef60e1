"""Reading lines: offsets, halves, long lines, NULs. Numbers are the cases of `docs/design.md`, Faults."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentwatch.model import Cursor
from agentwatch.sources import lines as reading
from agentwatch.sources.lines import CHUNK_BYTES, TURN_BYTES, Fault, Found, OpenFile, head, read_turn
from tests.sources.harness import Tail, append, numbered, text


class Buffer:
    """A file that a test can fill as it likes; counts what is read of it."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.read_bytes = 0

    def pread(self, size: int, offset: int) -> bytes:
        found = bytes(self.data[offset : offset + size])
        self.read_bytes += len(found)
        return found

    def data_from(self, offset: int) -> int:
        return offset


class Reader:
    """Reads a file from its beginning as the tailer does: each line with its offset, each fault once."""

    def __init__(self, file, max_line_bytes: int = 1 << 20, turn_bytes: int = TURN_BYTES) -> None:
        self.file, self.max_line_bytes, self.turn_bytes = file, max_line_bytes, turn_bytes
        self.cursor: Cursor | None = None
        self.scanned = 0
        self.lines: list[tuple[int, bytes]] = []
        self.faults: list[Fault] = []
        self.found = Found.END

    def read(self) -> "Reader":
        """To the end of what is there. Fails where a turn brings nothing and yet says that there is more."""
        if self.cursor is None:
            found = head(self.file)
            if found is None:
                return self
            self.cursor = Cursor("a", "/a", found, 0)
        while True:
            turn, self.scanned = read_turn(self.file, self.cursor, self.scanned, self.max_line_bytes, self.turn_bytes)
            self.found = turn.found
            assert turn.found is not Found.REPLACED
            if turn.found is not Found.LINES:
                assert not turn.lines
                assert not turn.faults
                assert turn.end == self.cursor.offset
                return self
            assert turn.end > self.cursor.offset or turn.skipping > self.cursor.skipping, "an endless loop"
            offset = turn.offset
            for line in turn.lines:
                assert line.endswith(b"\n")
                if line.strip(b"\r\n \0"):
                    self.lines.append((offset, line))
                offset += len(line)
            self.faults += turn.faults
            self.cursor.offset, self.cursor.marker, self.cursor.skipping = turn.end, turn.marker, turn.skipping
            if not turn.more:
                return self


def expected(data: bytes, max_line_bytes: int) -> tuple[list[tuple[int, bytes]], list[tuple[int, str]]]:
    """What the rules make of complete lines: NULs at a line's beginning are passed over, what is too long is skipped."""
    lines, faults, offset = [], [], 0
    for line in data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]:
        bare = (line + b"\n").lstrip(b"\0")
        start = offset + len(line) + 1 - len(bare)
        if start > offset:
            faults.append((offset, "nul_hole"))
        if len(bare) > max_line_bytes:
            faults.append((start, "line_too_long"))
        elif bare.strip(b"\r\n \0"):
            lines.append((start, bare))
        offset += len(line) + 1
    return lines, faults


CONTENT = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"\n", b"\r\n", b"\0", b"\0" * 70, b"\xef\xbb\xbf{}\n", b"\xe2\x80\xa8", b"x" * 30, b"y" * 200 + b"\n", b'{"a":1}\n', b"\n\n"]),
    ),
    max_size=40,
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(
    data=CONTENT, cuts=st.lists(st.integers(0, 2000), max_size=12), turn_bytes=st.integers(1, 400), max_line_bytes=st.integers(1, 150), restart=st.booleans()
)
@example(data=b"a\n" + b"\0" * 100 + b"b\n", cuts=[1, 2, 50, 102], turn_bytes=7, max_line_bytes=20, restart=True)
@example(data=b"a\n" + b"x\0y" * 40, cuts=[], turn_bytes=16, max_line_bytes=50, restart=False)
def test_lines_and_faults_do_not_depend_on_how_a_file_grew_nor_on_how_it_was_read(data, cuts, turn_bytes, max_line_bytes, restart) -> None:
    """1, 4, 5, 7, 9, 11, 12, 14: any bytes, appended in any pieces, read in turns of any size."""
    data += b"end\n"
    file = Buffer()
    reader = Reader(file, max_line_bytes, turn_bytes)
    for end in [*sorted(cuts), len(data)]:
        file.data[:] = data[: max(end, len(file.data))]
        reader.read()
        if restart:
            reader.scanned = 0
        if reader.cursor is not None and not reader.cursor.skipping:
            assert (
                reader.cursor.offset <= data.rfind(b"\n", 0, len(file.data)) + 1
                or set(data[data.rfind(b"\n", 0, len(file.data)) + 1 : reader.cursor.offset]) == {0}
                or reader.faults
            )
    lines, faults = expected(data, max_line_bytes)
    assert reader.lines == lines
    assert [(fault.offset, fault.kind) for fault in reader.faults] == faults


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_a_line_written_in_two_pieces_is_read_once_and_whole(tmp_path: Path, ending: bytes) -> None:
    """1 and 7: cut at every place, in the middle of a character and between CR and LF too."""
    whole = '{"text":"grüße 🎉"}'.encode() + ending
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"")
    tail = Tail(tmp_path)
    for cut in range(1, len(whole)):
        append(path, whole[:cut])
        tail.hint(path)
        tail.read()
        assert len(tail.lines) == cut - 1
        append(path, whole[cut:])
        tail.hint(path)
        tail.read()
    assert tail.lines == [whole.rstrip()] * (len(whole) - 1)
    assert tail.offsets == [("a.jsonl", n * len(whole)) for n in range(len(whole) - 1)]


def test_half_a_line_at_a_kill_is_read_when_it_is_whole(tmp_path: Path) -> None:
    """2: its writer completes it while nobody looks."""
    path = tmp_path / "a.jsonl"
    first, second = numbered(0, 2)
    path.write_bytes(first + b"\n" + second[:9])
    tail = Tail(tmp_path).pump()
    assert tail.lines == [first]
    append(path, second[9:] + b"\n")
    assert tail.restart().pump().lines == [first, second]


def test_a_last_line_without_a_newline_is_told_once_and_never_read(tmp_path: Path) -> None:
    """3: after a minute, with its offset; and again only if another line stays unfinished."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"whole\nhalf")
    tail = Tail(tmp_path).pump().wait(30)
    assert tail.faults == []
    tail.wait(31).wait(61).wait(61)
    assert [(fault.offset, fault.kind) for fault in tail.faults] == [(6, "incomplete_line")]
    append(path, b" and the rest\nnext")
    tail.pump().wait(61).wait(61)
    assert tail.lines == [b"whole", b"half and the rest"]
    assert [fault.offset for fault in tail.faults] == [6, 24]


def test_an_unfinished_line_of_a_deleted_file_is_told_as_such(tmp_path: Path) -> None:
    """3: it is no gap, nobody lost a line that was one."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"whole\nhalf")
    tail = Tail(tmp_path).pump()
    path.unlink()
    tail.pump().wait(61).wait(1).wait(1)
    assert [(fault.offset, fault.kind) for fault in tail.faults] == [(6, "incomplete_line")]


LIMIT = 2 << 20


def test_a_line_longer_than_the_limit_is_skipped_in_bounded_memory_and_told_once(tmp_path: Path) -> None:
    """4: the line behind it is read; a kill in the middle of the skip goes on with the skip."""
    path = tmp_path / "a.jsonl"
    before, after = numbered(0, 2)
    path.write_bytes(before + b"\n" + b"x" * (10 * LIMIT))
    tail = Tail(tmp_path, max_line_bytes=LIMIT)
    tail.sweep()
    while tail.read(turns=7):
        tail.restart()
        tail.sweep()
    append(path, b"x" * LIMIT + b"\n" + after + b"\n")
    tail.pump()
    assert tail.lines == [before, after]
    assert [(fault.offset, fault.kind) for fault in tail.faults] == [(len(before) + 1, "line_too_long")]


def test_no_read_asks_for_more_than_the_limit_of_a_line() -> None:
    """4: of 20 MB without a newline."""
    file = Buffer(b"a\n" + b"x" * (20 << 20) + b"\nb\n")
    largest = 0
    plain = file.pread

    def measured(size: int, offset: int) -> bytes:
        nonlocal largest
        largest = max(largest, size)
        return plain(size, offset)

    file.pread = measured
    reader = Reader(file, max_line_bytes=8 << 20).read()
    assert [line for _, line in reader.lines] == [b"a\n", b"b\n"]
    assert largest <= max(8 << 20, CHUNK_BYTES)


def test_the_cursor_moves_though_every_line_is_too_long(tmp_path: Path) -> None:
    """5: to the end, with a fault for each."""
    (tmp_path / "a.jsonl").write_bytes((b"x" * 5000 + b"\n") * 20)
    tail = Tail(tmp_path, max_line_bytes=1000).pump()
    assert tail.lines == []
    assert [fault.offset for fault in tail.faults] == [n * 5001 for n in range(20)]
    assert tail.tailer.cursors()[0].offset == 20 * 5001


@pytest.mark.parametrize("length", [999, 1000, 1001], ids=["below", "at", "above"])
def test_the_limit_counts_the_newline(length: int) -> None:
    """4: the longest line that is read has exactly so many bytes."""
    for turn_bytes in (100, 5000):
        reader = Reader(Buffer(b"x" * (length - 1) + b"\n"), 1000, turn_bytes).read()
        assert len(reader.lines) == (length <= 1000)


def test_a_long_line_in_small_pieces_is_searched_once() -> None:
    """6: 4 MiB in pieces of 1 KiB cost a bounded read for each piece, not the whole line again."""
    file = Buffer(b"first\n")
    reader = Reader(file, max_line_bytes=8 << 20).read()
    pieces = 4096
    for _ in range(pieces):
        file.data += b"x" * 1024
        reader.read()
    file.data += b"\n"
    reader.read()
    assert len(reader.lines[-1][1]) == (4 << 20) + 1
    assert file.read_bytes < pieces * 2 * TURN_BYTES


def test_a_byte_order_mark_belongs_to_the_first_line(tmp_path: Path) -> None:
    """8: it is left to the format, which alone knows what a line means; offsets count it."""
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf{}\r\n{}\r\n")
    tail = Tail(tmp_path).pump()
    assert tail.lines == [b"\xef\xbb\xbf{}", b"{}"]
    assert tail.offsets == [("a.jsonl", 0), ("a.jsonl", 7)]


def test_a_writer_without_append_leaves_a_hole_that_is_passed_over(tmp_path: Path) -> None:
    """9: after a copytruncate its next line stands behind as many NULs as it had written before."""
    path = tmp_path / "a.jsonl"
    old, new = numbered(0, 100), numbered(100, 50)
    with path.open("wb", buffering=0) as writer:
        writer.write(text(old))
        tail = Tail(tmp_path).pump()
        os.truncate(path, 0)
        writer.write(text(new[:20]))
        tail.pump()
        writer.write(text(new[20:]))
        tail.pump()
    assert tail.lines == [*old, *new]
    assert [(fault.offset, fault.kind) for fault in tail.faults] == [(0, "nul_hole")]
    assert tail.offsets[100] == ("a.jsonl", len(text(old)))
    assert tail.restart().pump().lines == [*old, *new]


def test_a_hole_of_a_terabyte_takes_no_time(tmp_path: Path) -> None:
    """9: the file system knows where it ends; without that, reading its zeros takes minutes."""
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    tail = Tail(tmp_path).pump()
    with path.open("r+b") as file:
        file.seek((1 << 40) - 4096)
        file.write(b"line\n")
    assert tail.pump().lines == [b"line"]


def test_a_preallocated_file_is_read_as_it_is_filled(tmp_path: Path) -> None:
    """10: 64 KiB of NULs at first; the cursor never moves into them."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(bytes(64 << 10))
    tail = Tail(tmp_path).pump()
    lines = numbered(0, 300)
    position = 0
    with path.open("r+b", buffering=0) as file:
        for start in range(0, 300, 7):
            data = text(lines[start : start + 7])
            file.write(data[:50])
            tail.pump()
            file.write(data[50:])
            tail.pump()
            position += len(data)
            assert tail.tailer.cursors()[0].offset == position
    assert tail.wait(61).wait(61).lines == lines
    assert tail.faults == []


def test_nul_bytes_inside_a_line_stay_there(tmp_path: Path) -> None:
    """11: also in one longer than a turn; what the line means is for its format to say."""
    line = b"x\0y" * TURN_BYTES
    (tmp_path / "a.jsonl").write_bytes(b"a\n" + line + b"\nb\n")
    assert Tail(tmp_path).pump().lines == [b"a", line, b"b"]


ODD = [
    b"\xff\xfe not UTF-8",
    b'"\\ud800"',
    b"NaN",
    b"[" * 2000,
    b"{}{}",
    '{"a":"\u2028\u2029\x85\x0b\x0c\x1c"}'.encode(),
    b'{"a":1,"a":2}',
    b"123456789012345678901234567890",
    b"[1,2]",
    b"\ralone\rhere",
    b"\x1a",
]


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    """11 to 13: whatever stands in it; no other character of Unicode splits it, no nonsense stops the file."""
    (tmp_path / "a.jsonl").write_bytes(text([b"first", *ODD, b"last"]))
    assert [line.strip(b"\r") for line in Tail(tmp_path).pump().lines] == [b"first", *(line.strip(b"\r") for line in ODD), b"last"]


def test_blank_lines_move_the_cursor(tmp_path: Path) -> None:
    """14: in any number, also first and last."""
    (tmp_path / "a.jsonl").write_bytes(b"\n\r\n  \na\n\n\nb\n\n")
    tail = Tail(tmp_path).pump()
    assert tail.lines == [b"a", b"b"]
    assert tail.tailer.cursors()[0].offset == 13


def test_a_failed_read_keeps_the_cursor_and_waits_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO and ESTALE: told once, tried again later, nothing lost."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(text(numbered(0, 10)))
    tail = Tail(tmp_path).pump()
    append(path, text(numbered(10, 10)))
    real, calls = os.pread, 0

    def failing(fd: int, size: int, offset: int) -> bytes:
        nonlocal calls
        calls += 1
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", failing)
        for _ in range(50):
            tail.hint(path)
            tail.read()
        assert calls <= 2
        tail.wait(1.1)
        tail.wait(1.1)
        assert calls <= 10
    assert os.pread is real
    tail.wait(1.1)
    assert tail.lines == numbered(0, 20)
    assert [fault.kind for fault in tail.faults] == ["unreadable"]


def test_a_file_that_changes_while_it_is_read_gives_no_half_lines(tmp_path: Path) -> None:
    """18: truncated and refilled between any two reads, each line read is one that was written."""
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    path = tmp_path / "a.jsonl"
    tail = Tail(tmp_path)
    written: set[bytes] = set()
    for generation in range(60):
        lines = numbered(0, rng.randrange(1, 40), f"{seed}-{generation}")
        written.update(lines)
        if rng.random() < 0.5:
            path.write_bytes(b"")
        with path.open("r+b" if path.exists() else "wb") as file:
            file.write(text(lines))
            file.truncate()
        tail.sweep()
        tail.read(turns=rng.randrange(3))
    tail.pump().wait(1.1)
    assert set(tail.lines) <= written, seed
    assert len(tail.lines) == len(set(tail.lines)), seed
    assert set(lines) <= set(tail.lines), seed


def test_a_first_line_longer_than_what_identifies_a_file_is_recognised_again(tmp_path: Path) -> None:
    """24: its first 64 KiB decide."""
    path = tmp_path / "a.jsonl"
    first = b"x" * (3 * reading.HEAD_BYTES)
    path.write_bytes(text([first, b"b"]))
    tail = Tail(tmp_path).pump()
    path.rename(tmp_path / "a.jsonl.1")
    append(tmp_path / "a.jsonl.1", b"c\n")
    assert tail.restart().pump().lines == [first, b"b", b"c"]


def test_a_hole_is_known_by_the_file_system(tmp_path: Path) -> None:
    """9: and where it ends, too."""
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x")
        file.truncate(1 << 21)
    fd = os.open(path, os.O_RDONLY)
    file = OpenFile(fd)
    assert 0 < file.data_from(0) <= 1 << 20
    assert file.data_from(1 << 21) == 1 << 21
    os.close(fd)
