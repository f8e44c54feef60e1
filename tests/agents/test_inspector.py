"""`agentwatch mcp` driven by the protocol's own inspector: every tool, with good and with broken arguments. `make e2e-agents` installs it."""

import json
import os
import subprocess
import sys

import pytest

from tests.agents.watching import PROGRAMS, ROOT

INSPECTOR = PROGRAMS / "mcp-inspector"

pytestmark = [
    pytest.mark.agents,
    pytest.mark.skipif(not INSPECTOR.exists(), reason="`mcp-inspector` is not in .cache/agents: `make e2e-agents` puts it there"),
]

REFUSED = 5
"""Its exit code for a tool that reports an error."""


@pytest.fixture
def inspect(tmp_path):
    """Run the inspector against a server; it needs a newer Node than most machines have, which is installed beside it."""
    run = tmp_path / ".cache/agent-work-logs/runs/r1"
    run.mkdir(parents=True)
    (run / "app.log").write_text("2026-02-09T08:00:00Z ERROR connect ECONNREFUSED 127.0.0.1:5432\n" * 3)
    environ = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "AGENTWATCH_SOURCES": "none"}
    server = [sys.executable, "-m", "agentwatch", "mcp"]

    def call(*arguments):
        command = [str(INSPECTOR), "--cli", *server, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False)

    return call


def tool(inspect, name, *arguments):
    pairs = [part for argument in arguments for part in ("--tool-arg", argument)]
    return inspect("--method", "tools/call", "--tool-name", name, *pairs)


def test_its_schemas_are_ones_that_every_client_takes(inspect):
    """The inspector's strict look at them finds nothing."""
    done = inspect("--method", "tools/list", "--strict")
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert len(json.loads(done.stdout)["tools"]) == 7


@pytest.mark.parametrize(
    ("name", "arguments", "key", "value"),
    [
        pytest.param("log_status", (), "latest_run_id", None, id="log_status"),
        pytest.param("log_raw", ("grep=ECONN[A-Z]+", "limit=2", "context=1", "ignore_case=true"), "total", 3, id="log_raw"),
        pytest.param("log_issues", ("samples=0",), "total", 0, id="log_issues"),
        pytest.param("log_alerts", ("since=7d",), "total", 0, id="log_alerts"),
        pytest.param("log_sessions", ("days=0.5",), "total", 0, id="log_sessions"),
        pytest.param("log_query", ("question=what is refused?",), "by", "rules", id="log_query"),
        pytest.param("log_clear", ("name=inspected",), "previous_run_id", None, id="log_clear"),
    ],
)
def test_each_tool_answers(inspect, name, arguments, key, value):
    """With what the inspector makes of texts: numbers and truths."""
    done = tool(inspect, name, *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["structuredContent"][key] == value


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        pytest.param("log_raw", ("grep=(",), "not a regular expression", id="pattern"),
        pytest.param("log_raw", ("limit=0",), "`$.limit`", id="range"),
        pytest.param("log_raw", ("grp=x",), "unknown field `grp`", id="name"),
        pytest.param("log_raw", ("run=nope",), "there is no run `nope`", id="run"),
        pytest.param("log_query", (), "question", id="missing"),
        pytest.param("log_issues", ("min_severity=urgent",), "urgent", id="severity"),
        pytest.param("log_clear", ("name=../x",), "cannot be part of a run's id", id="hostile name"),
        pytest.param("log_sessions", ("days=-1",), "`$.days`", id="number"),
        pytest.param("log_alerts", ("cursor=x",), "without `cursor`", id="cursor"),
        pytest.param("log_nothing", (), "log_nothing", id="tool"),
    ],
)
def test_broken_arguments_are_told(inspect, name, arguments, said):
    """By the server or by the inspector itself, and never by a crash."""
    done = tool(inspect, name, *arguments)
    assert done.returncode in (1, REFUSED)
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_resources_are_listed_and_read(inspect):
    """Those of the runs among them."""
    done = inspect("--method", "resources/list")
    assert "agentwatch://runs/r1" in [one["uri"] for one in json.loads(done.stdout)["resources"]]
    done = inspect("--method", "resources/read", "--uri", "agentwatch://runs/r1")
    assert json.loads(json.loads(done.stdout)["contents"][0]["text"])["run"]["sources"] == ["app"]
