"""Tokens, USD and CPU seconds beside ccusage's, over the same transcripts of Claude Code and rollouts of Codex.

`python -m benchmarks.ccusage --with PATH_TO_CCUSAGE --claude DIR … --codex DIR …` prints a row for each session that the two count
differently (`--all`: for each), then the CPU time of both over the same files, repeated under new ids up to `--megabytes`. PATH_TO_CCUSAGE is the
native program of ccusage 20 (`node_modules/@ccusage/ccusage-linux-x64/bin/ccusage`), so that no start of node is measured.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from agentwatch.formats import claude_code, codex
from agentwatch.model import Item
from agentwatch.pricing import Prices
from benchmarks.__main__ import cpu_and_peak

DECODERS = {"claude": claude_code.Decoder, "codex": codex.Decoder}
KINDS = ("input", "output", "cache_read", "cache_write")
THEIR_KINDS = ("inputTokens", "outputTokens", "cacheReadTokens", "cacheCreationTokens")
BLOCK = 1 << 20
ROUNDS = 3
IDS = re.compile(rb'"(msg_|req_|resp_)')

Row = list[float]
"""Tokens in the order of `KINDS`, then USD."""


def sessions(folders: Iterable[Path]) -> Iterator[tuple[str, Path, list[Path]]]:
    """Each session's name and file, and its sub-agents' files."""
    for folder in folders:
        for path in sorted(folder.rglob("*.jsonl")):
            if path.parent.name != "subagents":
                yield path.stem, path, sorted((path.parent / path.stem / "subagents").glob("*.jsonl"))


def lay(home: Path, agent: str, folders: Iterable[Path], megabytes: float = 0) -> int:
    """Lay the sessions out as the agent does, once or until `megabytes` are reached; give the bytes laid."""
    laid, copy = 0, 0
    originals = list(sessions(folders))
    while originals and (not copy or laid < megabytes * 1e6):
        for name, path, subagents in originals:
            named = f"{name}-{copy}" if copy else name
            root = home / ("projects" if agent == "claude" else "sessions") / named
            for source, target in ((path, root / f"{named}.jsonl"), *((one, root / named / "subagents" / one.name) for one in subagents)):
                target.parent.mkdir(parents=True, exist_ok=True)
                laid += target.write_bytes(_renamed(source.read_bytes(), copy))
        copy += 1
    return laid


def _renamed(content: bytes, copy: int) -> bytes:
    """Another session's transcript: ccusage counts a message once, in whichever files it stands."""
    return IDS.sub(rb'"\g<1>%d_' % copy, content) if copy else content


def ours(home: Path, agent: str) -> dict[str, Row]:
    """What the decoder tells of each session, priced event by event."""
    price = Prices()
    rows: dict[str, Row] = defaultdict(lambda: [0.0] * 5)
    for name, path, subagents in sessions([home]):
        row = rows[name]
        for file in (path, *subagents):
            _add(file, agent, row, price)
    return {name: row for name, row in rows.items() if any(row)}


def _add(file: Path, agent: str, row: Row, price: Prices) -> None:
    decoder, offset, model = DECODERS[agent](), 0, None

    def feed(items: Iterable[Item]) -> None:
        nonlocal model
        for event, _, line in items:
            if (usage := event.data.usage) is None:
                continue
            for index, kind in enumerate(KINDS):
                row[index] += getattr(usage, kind)
            model = event.data.model or decoder.context(line).model or model
            row[4] += (price(model, usage, event.timestamp) if model else None) or 0.0

    with file.open("rb", buffering=BLOCK) as lines:
        while block := lines.readlines(BLOCK):
            decoder.read(block, offset, feed, lambda *_: None)
            offset += sum(map(len, block))


def environ_of(home: Path) -> dict[str, str]:
    """An environment whose only transcripts are those of `home`, with neither settings nor caches."""
    return {"PATH": os.environ["PATH"], "HOME": str(home / "nobody"), "CLAUDE_CONFIG_DIR": str(home), "CODEX_HOME": str(home)}


def theirs(program: str, home: Path, agent: str) -> dict[str, Row]:
    """What ccusage tells of each session."""
    said = subprocess.run([program, agent, "session", "--json", "--offline"], env=environ_of(home), check=True, capture_output=True).stdout
    rows: dict[str, Row] = {}
    for session in json.loads(said)["sessions"]:
        name = session["sessionId"].rpartition("/")[2]
        rows[name] = [*(float(session[kind]) for kind in THEIR_KINDS), session.get("totalCost", session.get("costUSD"))]
    return rows


def compare(program: str, home: Path, agent: str, *, is_all: bool) -> None:
    mine, other = ours(home, agent), theirs(program, home, agent)
    nothing: Row = [0.0] * 5
    different = [name for name in sorted({*mine, *other}) if not _is_same(mine.get(name, nothing), other.get(name, nothing))]
    print(f"{agent}: {len({*mine, *other})} sessions, {len(different)} counted differently (agentwatch / ccusage)")
    for name in sorted({*mine, *other}) if is_all else different:
        pairs = zip((*KINDS, "USD"), mine.get(name, nothing), other.get(name, nothing), strict=True)
        print(f"  {name[:48]:48}", *(f"{kind} {a:.10g} / {b:.10g}" if a != b else f"{kind} {a:.10g}" for kind, a, b in pairs), sep="  ")


def _is_same(mine: Row, other: Row) -> bool:
    return mine[:4] == other[:4] and abs(mine[4] - other[4]) < 1e-6


def race(program: str, home: Path, agent: str, megabytes: float) -> None:
    """Print the CPU seconds that both take to sum all up, a process for each, one after the other in every round."""
    summing = [sys.executable, "-c", "import sys; from pathlib import Path; from benchmarks.ccusage import ours; ours(Path(sys.argv[1]), sys.argv[2])"]
    rounds = []
    for _ in range(ROUNDS):
        other, _ = cpu_and_peak([program, agent, "session", "--json", "--offline"], env=environ_of(home))
        mine, _ = cpu_and_peak([*summing, str(home), agent])
        rounds.append((mine / other, mine, other))
    ratio, mine, other = sorted(rounds)[ROUNDS // 2]
    print(f"{agent}: {megabytes:.0f} MB: agentwatch {mine:.2f} s, ccusage {other:.2f} s of CPU time: {ratio:.1f} x (best of {ROUNDS}: {min(rounds)[0]:.1f} x)")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ccusage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--with", dest="program", required=True, metavar="PATH_TO_CCUSAGE")
    parser.add_argument("--claude", type=Path, nargs="+", default=[], metavar="DIR", help="folders with transcripts")
    parser.add_argument("--codex", type=Path, nargs="+", default=[], metavar="DIR", help="folders with rollouts")
    parser.add_argument("--megabytes", type=float, default=200, help="how much of each agent is measured")
    parser.add_argument("--all", action="store_true", help="rows of equal sessions too")
    parser.add_argument("--as-written", action="store_true", help="estimate no output of Claude Code: its placeholders count as they stand, as in ccusage")
    options = parser.parse_args()
    if options.as_written:
        claude_code.PLACEHOLDER_OUTPUT = -1
    for agent in DECODERS:
        if not (folders := getattr(options, agent)):
            continue
        with tempfile.TemporaryDirectory(prefix="agentwatch-bench-") as scratch:
            lay(Path(scratch), agent, folders)
            compare(options.program, Path(scratch), agent, is_all=options.all)
        with tempfile.TemporaryDirectory(prefix="agentwatch-bench-") as scratch:
            laid = lay(Path(scratch), agent, folders, options.megabytes)
            race(options.program, Path(scratch), agent, laid / 1e6)


if __name__ == "__main__":
    main()
