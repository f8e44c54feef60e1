"""What the programs that we start are given."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_command_gets_no_secret_of_the_notifier(tmp_path):
    """Neither the secrets nor the way to the files that they stand in; the rest of the environment it has."""
    told = tmp_path / "environ.json"
    write = f"import json, os; open({str(told)!r}, 'w').write(json.dumps(dict(os.environ)))"
    config = tmp_path / "settings.toml"
    config.write_text(f"[actions]\ntrigger_ai_autofix = ['{sys.executable}', '-c', '''{write}''']\n")
    secret = tmp_path / "webhook-secret"
    secret.write_text("whsec_c2VjcmV0IG9mIG5vYm9keQ==")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "AGENTWATCH_WEBHOOK_SECRET_FILE": str(secret),
        "AGENTWATCH_APPRISE_URLS": "",
        "AGENTWATCH_TELEGRAM_TOKEN": "",
        "CREDENTIALS_DIRECTORY": str(credentials),
        "ITS_OWN": "value",
    }
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o700)
    at = datetime.now(UTC).isoformat()
    alert = {
        "timestamp": at,
        "alert_id": "x",
        "type": "error_loop",
        "severity": "high",
        "attempt_id": "a-1",
        "recommendation": "trigger_ai_autofix",
        "summary": "x",
    }
    (logs / "agent-alerts.jsonl").write_text(json.dumps({**alert, "status": "open", "episode_id": "x", "evidence": []}) + "\n")
    command = [sys.executable, "-m", "agentwatch", "notify", "--log-dir", str(logs), "--config", str(config)]
    process = subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while not (told.exists() and told.read_text()):
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        process.terminate()
        process.wait(20)
    given = json.loads(told.read_text())
    assert given["ITS_OWN"] == "value"
    assert {"AGENTWATCH_WEBHOOK_SECRET_FILE", "AGENTWATCH_WEBHOOK_SECRET", "AGENTWATCH_TELEGRAM_TOKEN", "CREDENTIALS_DIRECTORY"} & given.keys() == set()
