"""Every decoder of lines, and the engine behind it: whatever the lines say, nothing is raised, no detector fails, and a restart changes nothing.

`make fuzz` starts from the golden files, and from what broke it once (`fuzz/seeds`).
"""

import atheris

from fuzz.target import Judge, run, silent

with atheris.instrument_imports(include=["agentwatch"]):
    import msgspec

    from agentwatch.formats.registry import FORMATS, Row, recognise
    from agentwatch.model import NO_MEMORY


def target(data: bytes) -> None:
    """All formats read the same bytes: whatever recognises a file, another may have to read it after a change of heart."""
    lines = data.splitlines(keepends=True)
    recognise("any.jsonl", lines)
    for row in FORMATS.values():
        at_once, restarted = Judge(), Judge()
        _read(row, [lines], at_once)
        at_once.finish()
        half = len(lines) // 2
        _read(row, [lines[:half], lines[half:]], restarted)
        assert at_once.events == restarted.events, row.name


def _read(row: Row, pieces: list[list[bytes]], judge: Judge) -> None:
    """Each piece by a decoder of its own, which remembers what the one before it did."""
    memory, offset = NO_MEMORY, 0
    for lines in pieces:
        decoder = row.decoder("any.jsonl", memory)
        decoder.read(lines, offset, lambda items, decoder=decoder: judge.feed(items, decoder), silent)  # type: ignore[misc]  # a default binds it now
        memory = msgspec.Raw(msgspec.json.encode(decoder.memory))
        offset += sum(map(len, lines))


if __name__ == "__main__":
    run(target)
