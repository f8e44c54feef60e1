"""The PowerShell logger, as far as it can be looked at without PowerShell, which is not to be had where these tests run.

The fixtures are lines as PowerShell writes them: `powershell-7` and `powershell-5.1` are those of `agent-work-logger.ps1` (5.1 escapes
quotes, angle brackets and ampersands), `powershell-5.1-add-content` those of the logger it follows, with the byte order mark and
line ends of `Add-Content -Encoding UTF8`.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentwatch.formats.canonical import Decoder
from agentwatch.model import decoded

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parent / "fixtures"
SCRIPT = ROOT / "integrations" / "agent-work-logger.ps1"
ATTEMPT = "ve-7c1d-windows-paths"

FUNCTIONS = {
    "Write-AgentWorkLog": "AttemptId! EventType! Data! TaskMetadata ExecutorInfo GitContext",
    "Start-AgentSession": "AttemptId! TaskMetadata! ExecutorInfo! GitContext Prompt PromptType FollowupReason",
    "Stop-AgentSession": "AttemptId! CompletionStatus! TotalTokens CostUSD Outcome",
    "Write-AgentError": "AttemptId! ErrorMessage! ErrorFingerprint ErrorCategory StackTrace",
    "Write-AgentFollowup": "AttemptId! Message! Reason",
    "Write-AgentStatusChange": "AttemptId! OldStatus! NewStatus! Reason",
    "Write-AgentSessionMetrics": "AttemptId! CompletionStatus DurationMs TotalTokens CostUSD Outcome",
    "Get-SessionMetrics": "LastNDays",
    "Get-ErrorClusters": "LastNDays TopN",
    "Show-AgentWorkSummary": "LastNDays",
}
"""The functions that scripts call, with their parameters in order; `!` marks those that must be given."""


def code_of(text):
    """A script without its comments and the insides of its strings."""
    return re.sub(r"<#.*?#>|'[^']*'|\"(?:[^\"`]|`.)*\"|#[^\n]*", lambda found: "''" if found[0][0] in "'\"" else "", text, flags=re.DOTALL)


def balanced(text, start):
    """The end of the bracket that opens at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise AssertionError("never closed")


def parameters(name):
    code = code_of(SCRIPT.read_text("ascii"))
    start = re.search(rf"^function {name} \{{\s*\[CmdletBinding\(\)\]\s*param", code, re.MULTILINE).end()
    block = code[start : balanced(code, start)]
    return " ".join(
        found[2] + ("!" if found[1] else "")
        for found in re.finditer(r"(?:(\[Parameter\(Mandatory\)\])\s*)?(?:\[ValidateSet\([^)]*\)\]\s*)?\[(?:string|hashtable|int|double)\]\$(\w+)", block)
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scripts_written_for_the_older_logger_find_what_they_call(name):
    """Same name, same parameters, same ones that must be given."""
    assert parameters(name) == FUNCTIONS[name]


def test_exactly_these_functions_are_exported():
    """As a module it offers what it promises."""
    exported = SCRIPT.read_text("ascii").partition("Export-ModuleMember -Function")[2]
    assert set(re.findall(r"'([\w-]+)'", exported)) == set(FUNCTIONS)


def test_windows_powershell_can_read_the_script():
    """ASCII, since 5.1 takes a file without a mark for the machine's own encoding; no syntax that came later; brackets that match."""
    code = code_of(SCRIPT.read_bytes().decode("ascii"))
    assert re.findall(r"\?\?|\?\.|&&|\|\||\s\?\s.+\s:\s|-AsHashtable|-Parallel", code) == []
    for opening, closing in ("()", "{}", "[]"):
        assert code.count(opening) == code.count(closing)
    called = set(re.findall(r"\b((?:Add|Get|Read|Write|Test|Show|Start|Stop)-Agent\w+)", code))
    assert called <= set(re.findall(r"^function ([\w-]+)", code, re.MULTILINE))


@pytest.mark.parametrize("name", ["powershell-5.1", "powershell-5.1-add-content", "powershell-7"])
def test_the_lines_of_each_powershell_are_read(name, tmp_path):
    """Seven fraction digits, byte order mark, CRLF and escapes: the same events without a fault, and the same alerts."""
    raw = (FIXTURES / f"{name}.jsonl").read_bytes()
    read, faults = [], []
    Decoder().read(raw.splitlines(keepends=True), 0, read.extend, lambda *fault: faults.append(fault))
    assert faults == []
    assert [event.event_type for event, _, _ in read] == ["session_start", *["error"] * 4, "followup_sent", "status_change", "session_end"]
    detail = Decoder().detail(read[0][2])
    assert decoded(detail.prompt) == "Fix <Path> & don't break C:\\src ü"
    (tmp_path / "agent-work-stream.jsonl").write_bytes(raw)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "AGENTWATCH_SOURCES": "none"}
    done = subprocess.run(
        [sys.executable, "-m", "agentwatch", "run", "--once", "--log-dir", str(tmp_path)],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    alerts = [json.loads(line) for line in (tmp_path / "agent-alerts.jsonl").read_bytes().splitlines()]
    assert {(alert["type"], alert["attempt_id"], alert["executor"]) for alert in alerts} >= {("error_loop", ATTEMPT, "COPILOT")}
