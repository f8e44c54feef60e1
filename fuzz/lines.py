"""The line reader: however a file's bytes arrive, its lines and faults are those of the whole file read at once."""

import atheris

from fuzz.target import run

with atheris.instrument_imports(include=["agentwatch"]):
    from agentwatch.model import Cursor
    from agentwatch.sources.lines import Found, head, read_turn

LONGEST = 64
TURN = 48


class Memory:
    """A file that grows."""

    def __init__(self) -> None:
        self.data = b""

    def pread(self, size: int, offset: int) -> bytes:
        return self.data[offset : offset + size]

    def data_from(self, offset: int) -> int:
        return offset


def told(pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], list[tuple[int, str]]]:
    """The lines and the faults of a file that is read after each piece."""
    file, cursor, scanned = Memory(), None, 0
    lines: list[tuple[int, bytes]] = []
    faults: list[tuple[int, str]] = []
    for piece in [*pieces, b""]:  # that a line without an end is too long is seen at the second look
        file.data += piece
        if cursor is None:
            first = head(file)
            if first is None:
                continue
            cursor = Cursor("a", "/a", first, 0)
        while True:
            turn, scanned = read_turn(file, cursor, scanned, LONGEST, TURN)
            assert turn.found is not Found.REPLACED
            if turn.found is not Found.LINES:
                break
            assert (turn.end, turn.skipping) != (cursor.offset, cursor.skipping), "a turn that gets nowhere"
            place = turn.offset
            for line in turn.lines:
                assert file.data[place : place + len(line)] == line or not line.strip()
                if line.strip():
                    lines.append((place, line))
                place += len(line)
            faults += [(fault.offset, fault.kind) for fault in turn.faults]
            cursor.offset, cursor.marker, cursor.skipping = turn.end, turn.marker, turn.skipping
    return lines, faults


def target(data: bytes) -> None:
    """The first bytes say where the rest is cut."""
    provider = atheris.FuzzedDataProvider(data)
    cuts = sorted(provider.ConsumeIntListInRange(provider.ConsumeIntInRange(0, 6), 0, 400))
    whole = provider.ConsumeBytes(400)
    if b"\n" not in whole:
        return
    ends = [min(cut, len(whole)) for cut in cuts]
    pieces = [whole[start:end] for start, end in zip([0, *ends], [*ends, len(whole)], strict=True)]
    assert told(pieces) == told([whole])


if __name__ == "__main__":
    run(target)
