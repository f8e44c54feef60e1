"""The Node logger in the machine's own node, and its transport in the real Winston."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from agentwatch.formats.canonical import Decoder

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "integrations" / "agentwatch-logger.mjs"
WINSTON = "winston@3.19.0"

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on this machine")


@pytest.fixture(scope="session")
def winston(tmp_path_factory):
    """A directory whose programs can import Winston."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm on this machine")
    place = tmp_path_factory.mktemp("winston")
    (place / "package.json").write_text("{}")
    try:
        done = subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", WINSTON], cwd=place, capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm does not fetch {WINSTON} within 120 s")
    if done.returncode:
        pytest.skip(f"npm cannot install {WINSTON}: {done.stderr.strip()[:200]}")
    return place


def node(place, program, *, logs=None, check=True, **environ):
    """Run a program that has imported the logger."""
    script = place / "program.mjs"
    script.write_text(f"import {{ AgentLogger, winston_transport }} from {json.dumps(MODULE.as_uri())};\n{program}")
    environ = {"PATH": os.environ["PATH"], "AGENT_WORK_LOG_DIR": str(logs or place / "logs"), **environ}
    done = subprocess.run(["node", str(script)], cwd=place, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert not check or (done.returncode, done.stderr) == (0, "")
    return done


def lines_of(path):
    raw = path.read_bytes()
    assert raw.endswith(b"\n")
    return [json.loads(line) for line in raw.splitlines()]


SESSION = """
const log = new AgentLogger("a-1", { task_id: "T-1", executor: "codex" });
log.start("Fix the build");
log.output("looking");
log.thinking("hm");
const call = log.tool_call("Bash", { command: "make" });
log.tool_result("Bash", "boom", { tool_call_id: call, exit_code: 2 });
log.error(new TypeError("x is undefined"), { fingerprint: "type", category: "runtime" });
log.followup("again", { reason: "ci" });
log.usage({ input: 10, output: 5, cost_usd: 0.25 });
log.status_change("review", "running");
log.end("failed");
log.end("success");
"""


def test_a_session_is_written_as_the_contract_has_it(tmp_path):
    """Stream, transcript, errors and metrics, for their owner alone; the daemon reads them without a fault."""
    node(tmp_path, SESSION, AGENTWATCH_RUN="r-1")
    logs = tmp_path / "logs"
    events = lines_of(logs / "agent-work-stream.jsonl")
    assert [event["event_type"] for event in events] == [
        "session_start", "agent_output", "agent_thinking", "tool_call", "tool_result", "error", "followup_sent", "usage", "status_change", "session_end",
    ]  # fmt: skip
    assert {(event["attempt_id"], event["task_id"], event["run_id"]) for event in events} == {("a-1", "T-1", "r-1")}
    assert lines_of(logs / "agent-sessions" / "a-1.jsonl") == events
    assert lines_of(logs / "agent-errors.jsonl") == [events[5]]
    assert events[5]["data"]["error_message"] == "TypeError: x is undefined"
    (metrics,) = lines_of(logs / "agent-metrics.jsonl")
    assert (metrics["metrics"]["total_tokens"], metrics["metrics"]["errors"], metrics["outcome"]) == (15, 1, {"status": "failed"})
    assert {stat.S_IMODE(path.stat().st_mode) for path in logs.rglob("*.jsonl")} == {0o600}
    assert stat.S_IMODE(logs.stat().st_mode) == 0o700
    read, faults = [], []
    Decoder().read((logs / "agent-work-stream.jsonl").read_bytes().splitlines(keepends=True), 0, read.extend, lambda *fault: faults.append(fault))
    assert (len(read), faults) == (10, [])
    assert (read[4][0].data.is_error, read[7][0].data.usage.total) == (True, 15)


def test_events_go_into_the_runs_directory_where_there_is_one(tmp_path):
    """As those of the other loggers do; a name alone makes no directory, and metrics stand where all are."""
    logs = tmp_path / "logs"
    (logs / "runs/r-1").mkdir(parents=True)
    (logs / "runs/latest").symlink_to("r-1")
    (logs / "elsewhere").mkdir()
    (logs / "runs/link").symlink_to(logs / "elsewhere")
    for run in ("latest", "r-2", "link", "../elsewhere"):
        node(tmp_path, SESSION, AGENTWATCH_RUN=run)
    inside, outside = lines_of(logs / "runs/r-1/agent-work-stream.jsonl"), lines_of(logs / "agent-work-stream.jsonl")
    assert {event["run_id"] for event in inside} == {"r-1"}
    assert {event["run_id"] for event in outside} == {"r-2", "link", "../elsewhere"}
    assert [row.get("scope") for row in lines_of(logs / "agent-metrics.jsonl")] == ["runs/r-1", None, None, None]
    assert list((logs / "elsewhere").iterdir()) == []


def test_switched_off_means_that_nothing_is_made(tmp_path):
    """By the older name of the setting."""
    node(tmp_path, SESSION, AGENT_WORK_LOGGING_ENABLED="false")
    assert not (tmp_path / "logs").exists()


def test_values_that_json_cannot_hold_are_written_all_the_same(tmp_path):
    """What refers to itself, big integers, half a pair, texts that are too long, getters that throw."""
    node(
        tmp_path,
        """
        const log = new AgentLogger("a-1").start();
        const loop = { name: "loop" }; loop.self = loop; const twice = { x: 1 };
        log.tool_call("Bash", { loop, big: 10n, half: "\\ud800", nan: NaN, when: new Date(0), fails: () => 1, a: twice, b: twice });
        log.output("x".repeat(9_000_000));
        log.tool_call("Bash", { get bad() { throw new Error("no"); } });
        log.output(undefined);
        if (log.lost) throw new Error("lost");
        """,
    )
    raw = (tmp_path / "logs/agent-work-stream.jsonl").read_bytes()
    read, faults = [], []
    Decoder().read(raw.splitlines(keepends=True), 0, read.extend, lambda *fault: faults.append(fault))
    assert (len(read), faults) == (5, [])
    assert max(map(len, raw.splitlines())) <= 4 << 20
    params = json.loads(raw.splitlines()[1])["data"]["tool_params"]
    assert (params["loop"]["self"], params["big"], params["a"], params["b"]) == ("[circular]", "10", {"x": 1}, {"x": 1})


def test_a_full_disk_is_counted_and_told_once(tmp_path):
    """Nothing is thrown."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "agent-work-stream.jsonl").symlink_to("/dev/full")
    done = node(tmp_path, 'const log = new AgentLogger("a"); log.output("x"); log.output("y"); console.log(log.lost);', check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "3")
    assert len(done.stderr.splitlines()) == 1
    assert "ENOSPC" in done.stderr


def test_processes_of_node_and_python_share_a_stream(tmp_path):
    """Each line whole, none lost, long ones too."""
    logs = tmp_path / "logs"
    for number in range(4):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "program.mjs").write_text(
            f"import {{ AgentLogger }} from {json.dumps(MODULE.as_uri())};\n"
            f'const log = new AgentLogger("n-{number}").start();\n'
            "for (let i = 0; i < 500; i += 1) log.output(`${i}:` + 'x'.repeat(i % 10 ? 10 : 9000));"
        )
    python = "import sys; from agentwatch import AgentLogger\nlog = AgentLogger(sys.argv[1]).start()\nfor i in range(500): log.output(f'{i}:' + 'x' * (10 if i % 10 else 9000))"
    commands = [["node", str(tmp_path / str(number) / "program.mjs")] for number in range(4)] + [
        [sys.executable, "-c", python, f"p-{number}"] for number in range(4)
    ]
    environ = {"PATH": os.environ["PATH"], "AGENT_WORK_LOG_DIR": str(logs), "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen(command, env=environ, cwd=tmp_path) for command in commands]
    assert [process.wait(60) for process in processes] == [0] * 8
    lines = [line for line in (logs / "agent-work-stream.jsonl").read_bytes().splitlines() if line]
    assert Counter(json.loads(line)["attempt_id"] for line in lines) == {f"{kind}-{number}": 501 for kind in "np" for number in range(4)}


# ----------------------------------------------------------------------------------------------------------------- Winston

LOGGER = """
import winston from "winston";
import { existsSync, readFileSync } from "node:fs";
const options = { source: "main-app", ...JSON.parse(process.env.OPTIONS ?? "{}") };
const transport = winston_transport(winston, options);
const logger = winston.createLogger({ format: winston.format.combine(winston.format.errors({ stack: true }), winston.format.timestamp()), transports: [transport] });
const lines = (path) => (existsSync(path) ? readFileSync(path, "utf8").split("\\n").length - 1 : 0);
"""


def test_winston_lines_go_to_the_run(winston, tmp_path):
    """To a file of their source, in Winston's own words, with the run; metadata is kept."""
    node(winston, f'{LOGGER} logger.info("hello", {{ user: 7 }}); logger.error(new Error("boom")); logger.end();', logs=tmp_path, AGENTWATCH_RUN="r-1")
    info, error = lines_of(tmp_path / "runs/r-1/main-app.jsonl")
    assert (info["level"], info["message"], info["user"], info["source"], info["run_id"]) == ("info", "hello", 7, "main-app", "r-1")
    assert info["timestamp"].endswith("Z")
    assert (error["level"], error["message"], error["stack"].split("\n")[0]) == ("error", "boom", "Error: boom")
    assert "event_type" not in error


def test_the_latest_run_is_looked_up(winston, tmp_path):
    """And without a run the lines stand beside the stream."""
    (tmp_path / "runs/r-2").mkdir(parents=True)
    (tmp_path / "runs/latest").symlink_to("r-2")
    node(winston, f'{LOGGER} logger.info("x"); logger.end();', logs=tmp_path, AGENTWATCH_RUN="latest")
    node(winston, f'{LOGGER} logger.info("x"); logger.end();', logs=tmp_path)
    assert lines_of(tmp_path / "runs/r-2/main-app.jsonl")[0]["run_id"] == "r-2"
    assert "run_id" not in lines_of(tmp_path / "main-app.jsonl")[0]


def test_lines_of_an_attempt_are_its_events(winston, tmp_path):
    """Which the daemon reads: four errors are a loop."""
    program = f'{LOGGER} logger.info("begin"); for (let i = 0; i < 4; i += 1) logger.error("push failed"); logger.end();'
    node(winston, program, logs=tmp_path, OPTIONS='{"attempt_id": "a-1"}')
    events = lines_of(tmp_path / "main-app.jsonl")
    assert [event["event_type"] for event in events] == ["agent_output", *["error"] * 4]
    assert (events[0]["data"], events[1]["data"]) == ({"output": "begin", "stream_type": "log"}, {"error_message": "push failed"})
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "AGENTWATCH_SOURCES": "none"}
    command = [sys.executable, "-m", "agentwatch", "run", "--once", "--log-dir", str(tmp_path)]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.startswith("1 new alert")
    assert lines_of(tmp_path / "agent-alerts.jsonl")[0]["type"] == "error_loop"


def test_lines_are_written_in_batches(winston, tmp_path):
    """None before its time, a hundred at once, an error at once with all before it, the rest in time."""
    path = tmp_path / "main-app.jsonl"
    program = f"""{LOGGER}
        const path = {json.dumps(str(path))}, seen = [];
        const log = (level, count) => {{ for (let i = 0; i < count; i += 1) logger.log(level, `${{i}}`); seen.push(lines(path)); }};
        log("info", 1); log("info", 98); log("info", 1); log("info", 5); log("error", 1); log("info", 3);
        await new Promise((done) => setTimeout(done, 1000));
        seen.push(lines(path));
        console.log(JSON.stringify(seen));
    """
    done = node(winston, program, logs=tmp_path)
    assert json.loads(done.stdout) == [0, 0, 100, 100, 106, 106, 109]


ENDS = {
    "of the logger": "logger.end();",
    "of the process": "process.exit(0);",
    "by an empty loop": "",
    "of the transport": "logger.remove(transport);",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_no_line_is_lost_at_the_end(winston, tmp_path, end):
    """Whatever ends first."""
    node(winston, f"{LOGGER} for (let i = 0; i < 1234; i += 1) logger.info(`${{i}}`); {end}", logs=tmp_path)
    assert [line["message"] for line in lines_of(tmp_path / "main-app.jsonl")] == [str(number) for number in range(1234)]


def test_the_level_of_the_transport_holds(winston, tmp_path):
    """It is a transport like any other."""
    node(winston, f'{LOGGER} logger.info("no"); logger.warn("yes"); logger.end();', logs=tmp_path, OPTIONS='{"level": "warn"}')
    assert [line["message"] for line in lines_of(tmp_path / "main-app.jsonl")] == ["yes"]


SHOP = """
import { logger } from "./logger.mjs";

for (let i = 0; i < 4; i++) logger.error("order failed", new Error("connect ECONNREFUSED 127.0.0.1:5432"));
logger.info("working", { port: 8080 });
setTimeout(() => Promise.reject(new TypeError("Cannot read properties of undefined (reading 'id')")), 50);
"""


def test_the_documented_set_up_of_winston_tells_of_errors_with_their_stacks(winston):
    """From `runs new --export` and the lines in docs/programs.md to an alert and a search: a program that dies is heard to its last word."""
    document = (ROOT / "docs" / "programs.md").read_text("utf-8")
    (program,) = re.findall(r"^```js test\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    (winston / "logger.mjs").write_text(program)
    (winston / "shop.mjs").write_text(SHOP)
    environ = {"PATH": os.environ["PATH"], "HOME": str(winston), "PYTHONPATH": str(ROOT), "AGENTWATCH_SOURCES": "none"}

    def agentwatch(*arguments):
        command = [sys.executable, "-m", "agentwatch", *arguments, "--log-dir", "logs"]
        return subprocess.run(command, cwd=winston, env=environ, capture_output=True, text=True, timeout=60, check=False).stdout

    run_id = agentwatch("runs", "new").strip()
    environ |= {"AGENTWATCH_RUN": run_id, "AGENT_WORK_LOG_DIR": "logs"}
    died = subprocess.run(["node", "shop.mjs"], cwd=winston, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert died.returncode == 1
    agentwatch("run", "--once")
    (told,) = [alert for alert in map(json.loads, agentwatch("alerts", "--run", run_id, "--json").splitlines()) if alert["type"] == "error_loop"]
    assert (told["run_id"], told["attempt_id"], told["evidence"][0]["source"]) == (run_id, "main-app", f"runs/{run_id}/main-app.jsonl")
    assert "ECONNREFUSED" in told["sample_message"]
    (hit,) = map(json.loads, agentwatch("raw", "--grep", "unhandledRejection", "--json").splitlines())
    record = json.loads(hit["text"])
    assert (record["level"], hit["source"]) == ("error", f"runs/{run_id}/main-app.jsonl")
    assert "shop.mjs" in record["stack"]
    assert hit["timestamp"]
