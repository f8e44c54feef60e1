"""`agentwatch doctor --bundle FILE`: what leaves the machine, and what does not."""

import json
import os
import stat
import tarfile

import orjson
import pytest

# Each is nobody's; in pieces, so that no scanner of repositories takes this file for a leak.
SECRETS = {
    "openai": "sk-" + "proj-Zq3vT8xK1mNp7RwY5bJd2HgF9sLc4AeU6oQiXtVzBnMk",
    "anthropic": "sk-ant-" + "api03-Zq3vT8xK1mNp7RwY5bJd2HgF9sLc4AeU6oQiXtVzBnMkZq3vT8xK1mNp7RwY5bJd2HgF",
    "github": "ghp_" + "Zq3vT8xK1mNp7RwY5bJd2HgF9sLc4AeU6oQi",
    "aws": "AKIA" + "Q3VT8XK1MNP7RWY5",
    "telegram": "123456789:" + "AAFq3vT8xK1mNp7RwY5bJd2HgF9sLc4AeU6",
    "slack": "xoxb-" + "123456789012-123456789012-Zq3vT8xK1mNp7RwY5bJd2HgF",
    "jwt": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    "password": "hunter2-" + "Zq3vT8xK1m",
}


@pytest.fixture
def bundle(place):
    """A machine with a secret in every corner; the texts of its bundle, by name."""
    place.logs.mkdir(parents=True)
    quoted = f"curl -H 'Authorization: Bearer {SECRETS['openai']}' failed; password={SECRETS['password']}; {SECRETS['jwt']}"
    alert = {
        "timestamp": "2026-02-09T08:00:00.000Z",
        "alert_id": "x",
        "type": "error_loop",
        "severity": "high",
        "attempt_id": f"a-{SECRETS['github']}",
        "recommendation": "trigger_ai_autofix",
        "summary": quoted,
        "evidence": [{"source": "s", "offset": 0, "timestamp": "2026-02-09T08:00:00.000Z", "text": f"key {SECRETS['aws']} in {place.base}/project"}],
        SECRETS["slack"]: "a key may hold one, too",
    }
    place.alerts.write_bytes(orjson.dumps(alert) + b"\n")
    (place.logs / f"{SECRETS['anthropic']}.jsonl").write_text("{}\n")
    folder = place.base / ".config" / "agentwatch"
    folder.mkdir(parents=True)
    (folder / "agentwatch.toml").write_text(
        f"[webhook]\nurl = 'https://hooks.example/{SECRETS['password']}'\n[actions]\ntrigger_ai_autofix = ['deploy', '{SECRETS['password']}']\n"
    )
    environ = {"AGENTWATCH_TELEGRAM_TOKEN": SECRETS["telegram"], "AGENTWATCH_TELEGRAM_CHATS": "4711", "OPENAI_API_KEY": SECRETS["openai"]}
    done = place.run("doctor", "--bundle", "bundle.tar.gz", **environ)
    assert done.returncode == 0, done.stdout
    place.told = done.stderr
    with tarfile.open(place.base / "bundle.tar.gz") as opened:
        return {member.name: opened.extractfile(member).read().decode() for member in opened}


@pytest.mark.parametrize("kind", SECRETS)
def test_no_secret_is_in_it(bundle, kind):
    """Neither of settings, environment and alerts, nor of a file's name."""
    assert [name for name, text in bundle.items() if SECRETS[kind] in text] == []


def test_who_and_where_is_left_out(bundle, place):
    """The home is `~`; chats, addresses and commands are only said to be set."""
    everything = "\n".join(bundle.values())
    assert str(place.base) not in everything
    assert "4711" not in everything
    assert "hooks.example" not in everything
    assert "deploy" not in everything
    settings = {one["key"]: one["value"] for one in json.loads(bundle["agentwatch-bundle/doctor.json"])["settings"]}
    assert (settings["webhook.url"], settings["telegram.chats"], settings["error_loop.threshold"]) == ("set", "set", 4)


def test_what_helps_is_in_it(bundle):
    """Versions, settings, checks, state, alerts, the names of files; and a page that says so."""
    names = {name.removeprefix("agentwatch-bundle/") for name in bundle}
    assert names == {"README.txt", "versions.txt", "doctor.json", "doctor.txt", "status.json", "service.json", "alerts.jsonl", "files.txt"}
    assert bundle["agentwatch-bundle/versions.txt"].startswith("agentwatch ")
    assert "agent-alerts.jsonl" in bundle["agentwatch-bundle/files.txt"]
    assert json.loads(bundle["agentwatch-bundle/alerts.jsonl"])["type"] == "error_loop"
    assert "[REDACTED:" in bundle["agentwatch-bundle/alerts.jsonl"]


def test_it_is_for_its_owner_alone_and_replaces_nothing(bundle, place):
    """Mode 0600 from the first byte on; a file of that name is left as it is, as is what a link of that name leads to."""
    path = place.base / "bundle.tar.gz"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    done = place.run("doctor", "--bundle", "bundle.tar.gz")
    assert done.returncode == 1
    assert "is there already" in done.stderr
    (place.base / "link").symlink_to(place.base / "elsewhere")
    assert place.run("doctor", "--bundle", "link").returncode == 1
    assert not (place.base / "elsewhere").exists()


def test_settings_that_cannot_be_used_are_no_reason_not_to_help(place):
    """That is when one is asked for."""
    (place.base / "agentwatch.toml").write_text("rubbish")
    assert place.run("doctor", "--bundle", "bundle.tar.gz").returncode == 2
    assert (place.base / "bundle.tar.gz").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_is_told(place):
    """With the path, and no traceback."""
    done = place.run("doctor", "--bundle", "/proc/bundle.tar.gz")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
