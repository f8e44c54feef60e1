"""The daemon beside documents that are rewritten, and beside a database that is written: each element and each row once, whatever happens."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime

import pytest

from tests.e2e.test_faults import Daemon, burst
from tests.sources.harness import append, eventually


@pytest.fixture
def daemon(tmp_path):
    home, logs = tmp_path / "home", tmp_path / "logs"
    home.mkdir()
    logs.mkdir()
    daemon = Daemon(logs, home)
    yield daemon
    if daemon.process is not None:
        daemon.kill()


def trajectory(count: int, begun: float) -> list[dict]:
    """So many failing commands of mini-swe-agent, each with its result; four of a kind are an error loop."""
    messages = [{"role": "system", "content": "You help."}, {"role": "user", "content": "Mend it."}]
    for n in range(count):
        at = begun + n / 100
        messages.append({"role": "assistant", "content": "", "extra": {"actions": [{"command": f"make {n}", "tool_call_id": f"c{n}"}], "timestamp": at}})
        failed = {"returncode": 2, "raw_output": f"{'x' * (n * 37 % 900)}make: no rule to make {n // 10}", "timestamp": at}
        messages.append({"role": "tool", "content": "", "tool_call_id": f"c{n}", "extra": failed})
    return messages


def in_place(path, text):
    path.write_text(text)


def by_rename(path, text):
    new = path.with_name("new.tmp")
    new.write_text(text)
    new.replace(path)


def slowly(path, text):
    """Truncated, and written in pieces with time between to look at it."""
    with path.open("w") as file:
        for start in range(0, len(text), len(text) // 4 + 1):
            file.write(text[start : start + len(text) // 4 + 1])
            file.flush()
            time.sleep(0.03)  # a writer's own pace, not a wait for the daemon


@pytest.mark.parametrize("write", [in_place, by_rename, slowly], ids=["in place", "by rename", "slowly"])
def test_each_element_of_a_rewritten_document_is_told_once(daemon, write):
    """Rewritten twenty times, with five kills between: as many events as one reading of the last state gives."""
    rng = random.Random(11)
    messages = trajectory(100, time.time() - 60)
    path = daemon.log_dir / "run.traj.json"
    kills = set(rng.sample(range(20), 5))
    daemon.start()
    for step in range(20):
        write(path, json.dumps({"info": {}, "messages": messages[: 2 + 10 * (step + 1)], "trajectory_format": "mini-swe-agent-1.1"}))
        if step in kills:
            if rng.random() < 0.5:
                eventually(lambda: daemon.checkpoint["events"] > 0)
            daemon.kill().start()
    daemon.wait_for_events(len(messages))
    daemon.kill().start()
    rest(daemon, len(messages))
    assert daemon.faults == set()
    ids = Counter(alert["alert_id"] for alert in daemon.alerts)
    assert ids
    assert max(ids.values()) == 1
    daemon.kill()
    assert alerts_of_one_reading(daemon, path) == set(ids)


def rest(daemon, events):
    """All is read that there is, twice: a line that comes now is the only new event."""
    eventually(lambda: daemon.status.get("pid") == daemon.process.pid)
    append(daemon.log_dir / "a.jsonl", burst("last", 1))
    daemon.wait_for_events(events + 1)


def alerts_of_one_reading(daemon, *paths):
    """The ids that `run --once` gives for the same documents in another directory."""
    other = daemon.home / "other"
    other.mkdir()
    for path in paths:
        (other / path.name).write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "agentwatch", "run", "--once", "--log-dir", str(other)]
    subprocess.run(command, cwd=daemon.home, env=daemon.environ, check=True, capture_output=True)
    found = [json.loads(line) for line in (other / "agent-alerts.jsonl").read_text().splitlines()]
    return {alert["alert_id"] for alert in found if alert["type"] == "error_loop"}


WRITER = """
import json, sqlite3, sys, time
path, steps, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
owner = sqlite3.connect(path, isolation_level=None, timeout=0)
owner.execute("PRAGMA journal_mode=WAL")
owner.execute("PRAGMA synchronous=OFF")
owner.execute("CREATE TABLE session (id TEXT PRIMARY KEY, parent_id TEXT, directory TEXT NOT NULL, time_created INTEGER NOT NULL, time_updated INTEGER NOT NULL)")
owner.execute("CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT NOT NULL, time_created INTEGER NOT NULL, time_updated INTEGER NOT NULL, data TEXT NOT NULL)")
owner.execute("CREATE TABLE part (id TEXT PRIMARY KEY, message_id TEXT NOT NULL, session_id TEXT NOT NULL, time_created INTEGER NOT NULL, time_updated INTEGER NOT NULL, data TEXT NOT NULL)")
owner.execute("CREATE INDEX part_message_id_id_idx ON part (message_id, id)")
now = lambda: int(time.time() * 1000)
def put(table, name, *columns, **data):
    at = now()
    marks = ",".join("?" * (len(columns) + 4))
    owner.execute(f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET data = excluded.data, time_updated = excluded.time_updated", (name, *columns, at, at, json.dumps(data)))
owner.execute("INSERT INTO session VALUES ('ses_1', NULL, '/project', ?, ?)", (now(), now()))
put("message", "msg_0", "ses_1", role="user", time={"created": now()})
put("part", "prt_0", "msg_0", "ses_1", type="text", text="Mend it")
for n in range(1, steps + 1):
    message, created = f"msg_{n:05}", now()
    info = dict(role="assistant", modelID="m", time={"created": created}, tokens={"input": 0, "output": 0})
    put("message", message, "ses_1", **info)
    state = dict(status="pending", input={})
    part = dict(type="tool", tool="bash", callID=f"call_{n}")
    put("part", f"prt_{n:05}", message, "ses_1", **part, state=state)
    time.sleep(pause)
    state = dict(status="running", input={"command": f"make {n}"}, time={"start": now()})
    put("part", f"prt_{n:05}", message, "ses_1", **part, state=state)
    time.sleep(pause)
    state |= dict(status="completed", output=f"make: no rule {n // 10}", metadata={"exit": 2}, time={"start": now(), "end": now()})
    put("part", f"prt_{n:05}", message, "ses_1", **part, state=state)
    info |= dict(time={"created": created, "completed": now()}, finish="tool-calls", cost=0.01, tokens={"input": 10, "output": 5})
    put("message", message, "ses_1", **info)
    if n % 50 == 0:
        owner.execute("PRAGMA wal_checkpoint(TRUNCATE)")
owner.close()
"""


def test_each_row_of_a_database_is_told_once_and_its_owner_never_waits(daemon):
    """Another process writes in WAL mode and waits 0 ms for any lock; the daemon is killed five times meanwhile, and asked by a restart afterwards."""
    folder = daemon.home / ".local" / "share" / "opencode"
    folder.mkdir(parents=True)
    daemon.environ["AGENTWATCH_SOURCES"] = "opencode"
    daemon.start()
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder / "opencode.db"), "300", "0.01"], stderr=subprocess.PIPE, text=True)
    rng = random.Random(5)
    for kill in range(1, 6):
        eventually(lambda reached=kill * 100: daemon.checkpoint["events"] >= reached)
        time.sleep(rng.random() / 10)  # anywhere in the daemon's work
        daemon.kill().start()
    assert writer.communicate(timeout=60) == (None, "")
    expected = 2 + 3 * 300  # the session's start, its prompt, and of each step the call, its result and its cost
    daemon.wait_for_events(expected)
    daemon.kill().start()
    rest(daemon, expected)
    session = daemon.checkpoint["engine"]["scopes"][""]["sessions"]["ses_1"]
    assert session["cost_usd"] == pytest.approx(3.0)
    assert session["tokens"] == 300 * 15
    assert daemon.faults == set()
    assert max(Counter(alert["alert_id"] for alert in daemon.alerts).values()) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["opencode.db"]


def test_each_file_of_a_folder_is_told_once(daemon):
    """OpenHands writes one an event; some are seen half, and the daemon is killed between."""
    folder = daemon.home / ".openhands" / "conversations" / "abc" / "events"
    folder.mkdir(parents=True)
    daemon.environ["AGENTWATCH_SOURCES"] = "openhands"
    daemon.start()
    begun = time.time() - 60
    for n in range(60):
        stamp = datetime.fromtimestamp(begun + n / 10).isoformat()  # noqa: DTZ006  # as OpenHands writes it: without a zone
        call = {"kind": "ActionEvent", "timestamp": stamp, "tool_name": "terminal", "tool_call_id": f"c{n}", "action": {"command": f"make {n}"}}
        result = {"exit_code": 2, "content": [{"type": "text", "text": f"no rule {n // 10}"}]}
        answer = {"kind": "ObservationEvent", "timestamp": stamp, "tool_name": "terminal", "tool_call_id": f"c{n}", "observation": result}
        for number, event in ((2 * n, call), (2 * n + 1, answer)):
            write = slowly if n % 10 == 3 else in_place
            write(folder / f"event-{number:05}-x.json", json.dumps(event))
        if n % 17 == 5:
            daemon.kill().start()
    daemon.wait_for_events(1 + 120)
    daemon.kill().start()
    rest(daemon, 1 + 120)
    assert daemon.faults == set()
    assert max(Counter(alert["alert_id"] for alert in daemon.alerts).values()) == 1


def test_status_lists_what_was_read_of_them(daemon):
    """With how far: the index behind the last element, and the last row."""
    (daemon.log_dir / "run.traj.json").write_text(json.dumps({"messages": trajectory(3, time.time())}))
    folder = daemon.home / ".local" / "share" / "opencode"
    folder.mkdir(parents=True)
    daemon.environ["AGENTWATCH_SOURCES"] = "opencode"
    subprocess.run([sys.executable, "-c", WRITER, str(folder / "opencode.db"), "3", "0"], check=True)
    daemon.start()
    daemon.wait_for_events(8 + 2 + 9)

    def look():
        command = [sys.executable, "-m", "agentwatch", "status", "--json", "--log-dir", str(daemon.log_dir)]
        files = json.loads(subprocess.run(command, cwd=daemon.home, env=daemon.environ, check=False, capture_output=True).stdout)["files"]
        return {(file["format"], file["elements"], file["lag_bytes"]) for file in files}

    eventually(lambda: look() == {("swe-agent", 8, 0), ("opencode", 4, 0)})
