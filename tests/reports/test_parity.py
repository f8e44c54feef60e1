"""The same figures as others: the ancestor's analyses on its own sample, and the reference counts of real sessions."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from agentwatch.apps import scan
from agentwatch.core.metrics import sessions
from agentwatch.settings import load

DATA = Path(__file__).parents[3] / "shared" / "data"
ANCESTOR, FORMATS = DATA / "ancestor", DATA / "formats"


@pytest.mark.skipif(not ANCESTOR.is_dir(), reason="the ancestor's sample is not here (../shared/data/ancestor)")
def test_the_clusters_of_the_ancestor(place):
    """Its error-correlation report: the same clusters with the same counts, tasks, times, executors, sizes."""
    for name in ("errors", "metrics"):
        (place.logs / f"agent-{name}.jsonl").write_bytes((ANCESTOR / f"agent-{name}-sample.jsonl").read_bytes())
    expected = json.loads((ANCESTOR / "error-correlation.expected.json").read_text())["correlations"]
    found = place.json("report", "errors", "--days", "36500", AGENTWATCH_SOURCES="none")

    def facts(cluster, count, tasks, labels):
        times = [cluster[name] and cluster[name][:19] for name in ("first_seen", "last_seen")]
        return count, tasks, cluster["sample_message"], *times, *(labels(cluster[f"by_{name}"]) for name in ("executor", "model", "size", "complexity"))

    theirs = [facts(one, one["count"], one["task_count"], lambda rows: {row["label"]: row["count"] for row in rows}) for one in expected]
    ours = [facts(one, one["occurrences"], one["tasks"], dict) for one in found]
    assert ours == theirs
    named = [one["fingerprint"] for one in expected if "#" not in one["fingerprint"]]
    assert [one["fingerprint"] for one in found if one["fingerprint"] in named] == named


@pytest.mark.skipif(not ANCESTOR.is_dir(), reason="the ancestor's sample is not here (../shared/data/ancestor)")
def test_the_executors_of_the_ancestor(place):
    """Sessions, success and cost of each, counted from its metrics by hand."""
    lines = [json.loads(line) for line in (ANCESTOR / "agent-metrics-sample.jsonl").read_text().splitlines()]
    (place.logs / "agent-metrics.jsonl").write_bytes((ANCESTOR / "agent-metrics-sample.jsonl").read_bytes())
    found = {one["executor"]: one for one in place.json("report", "executors", "--days", "36500", AGENTWATCH_SOURCES="none")}
    counts = Counter(line["executor"] for line in lines)
    wins = Counter(line["executor"] for line in lines if line["outcome"]["status"] == "completed")
    assert {name: one["sessions"] for name, one in found.items()} == counts
    for name, one in found.items():
        assert one["success_rate"] == pytest.approx(wins[name] / counts[name])
        assert one["cost_usd_total"] == pytest.approx(sum(line["metrics"]["cost_usd"] for line in lines if line["executor"] == name))


EXPLAINED = {
    "08-agent-sessions-trimmed-for-fix-small.jsonl": "the reference counts token records that this trimmed file has lost",
}
"""Files whose sums are not the reference's, and why (agentwatch/formats/README.md)."""


def references():
    """Real sessions whose tokens were counted by other means: (file, agent, input, output, cache read)."""
    if not (FORMATS / "INDEX.tsv").exists():
        return []
    with (FORMATS / "INDEX.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["agent"] in ("claude-code", "codex") and row["ref_tok_in"]]
    return [pytest.param(row, id=name[:60]) for row in rows if (FORMATS / row["file"]).exists() and (name := row["file"].rpartition("/")[2]) not in EXPLAINED]


@pytest.mark.skipif(not references(), reason="the real sessions are not here (../shared/data/formats)")
@pytest.mark.parametrize("row", references())
def test_the_tokens_of_real_sessions(tmp_path, row):
    """What a session's row says equals the reference count of its file, by kind.

    The references count Codex's cached tokens as a part of its input, as its log does. Claude Code's output is at least the reference's:
    where a log has a placeholder of a few tokens, it is estimated from the text.
    """
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "session.jsonl").write_bytes((FORMATS / row["file"]).read_bytes())
    loaded = load(cwd=tmp_path, environ={"AGENTWATCH_SOURCES": "none"}, home=tmp_path, flags={"logs.dir": logs})
    rows, _ = scan.scan_rows(loaded, scan.files(loaded, {}, tmp_path, None, pytest.fail), lambda *_: None)
    found = sessions(rows)
    told = Counter()
    for one in found:
        tokens = one.metrics.tokens
        told.update(input=tokens.input, output=tokens.output, cache_read=tokens.cache_read, cache_write=tokens.cache_write)
    asked, answered, cached = (int(row[f"ref_tok_{name}"] or 0) for name in ("in", "out", "cache_read"))
    if row["agent"] == "codex":
        told["input"] += told["cache_read"] + told["cache_write"]
        assert told["output"] == answered
    assert (told["input"], told["cache_read"]) == (asked, cached)
    assert told["output"] >= answered
