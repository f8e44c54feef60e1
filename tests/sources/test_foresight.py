"""What the unread part of a log directory says of recorded sessions, before anything is judged."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.apps.foresight import CHUNK, MARK, _has_mark


@given(before=st.integers(CHUNK - 2 * len(MARK), CHUNK + 2), after=st.integers(0, 20), start=st.integers(0, 30))
@settings(max_examples=60)
def test_the_mark_is_found_wherever_pieces_of_the_file_meet(tmp_path_factory, before, after, start):
    """A file is read in pieces; a mark may lie across two of them, at its end, or begin before the byte from which on is asked."""
    path = tmp_path_factory.mktemp("mark") / "stream.jsonl"
    path.write_bytes(b"x" * before + MARK + b"y" * after)

    assert _has_mark(path, start)
    assert not _has_mark(path, before + 1)

    path.write_bytes(b"x" * before + MARK[:-1] + b"y" * after)
    assert not _has_mark(path, start)
