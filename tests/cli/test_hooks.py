"""`agentwatch hooks`: what Claude Code's transcripts leave out, told by its own hooks."""

import json
import subprocess

import pytest

SESSION = "5f3a9c1e-0000-4000-8000-000000000001"


def settings(place):
    done = place.run("hooks", "print", "claude-code")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)["hooks"]


def call(place, name, payload, cwd=None):
    """What Claude Code does: hand the payload to the command of each hook of that name, in a shell."""
    text = payload if isinstance(payload, str) else json.dumps({"session_id": SESSION, "hook_event_name": name, "cwd": "/src", **payload})
    for group in settings(place)[name]:
        for hook in group["hooks"]:
            assert hook["type"] == "command"
            done = subprocess.run(
                ["sh", "-c", hook["command"]], cwd=cwd or place.base, env=place.environ, input=text, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def events(place):
    return [json.loads(line) for line in place.stream.read_bytes().splitlines()] if place.stream.exists() else []


PAYLOADS = {
    "permission": ("Notification", {"message": "Claude needs your permission to use Bash", "notification_type": "permission_prompt"}, "permission_prompt"),
    "idle": ("Notification", {"message": "Claude is waiting for your input", "notification_type": "idle_prompt"}, "idle_prompt"),
    "before there were types": ("Notification", {"message": "Claude needs your permission to use Bash"}, "notification"),
    "stop": ("Stop", {"stop_hook_active": False}, "stop"),
}


@pytest.mark.parametrize(("name", "payload", "reason"), PAYLOADS.values(), ids=PAYLOADS.keys())
def test_a_session_that_waits_is_logged_as_handed_back(place, name, payload, reason):
    """As the attempt that its transcript is, in the log directory of whoever printed the hooks."""
    (place.base / "project").mkdir()
    call(place, name, payload, cwd=place.base / "project")
    (event,) = events(place)
    assert (event["attempt_id"], event["event_type"], event["data"]["reason"]) == (SESSION, "turn_end", reason)


SILENT = {
    "no wait": {"notification_type": "auth_success"},
    "another event": {"hook_event_name": "SessionStart"},
    "no session": {"session_id": None},
    "no JSON": "{",
    "nothing": "",
}


@pytest.mark.parametrize("payload", SILENT.values(), ids=SILENT.keys())
def test_what_says_nothing_of_waiting_is_passed_over(place, payload):
    """Quietly: what a hook prints, and an exit code of 2, would be told to the model."""
    call(place, "Notification", payload)
    assert events(place) == []


def transcript(place, *rows):
    folder = place.base / ".claude/projects/-src"
    folder.mkdir(parents=True)
    common = {"sessionId": SESSION, "cwd": "/src", "version": "2.1.330", "userType": "external", "isSidechain": False}
    lines = [json.dumps({**common, "uuid": f"u{number}", "timestamp": at, "type": kind, "message": message}) for number, (at, kind, message) in enumerate(rows)]
    (folder / f"{SESSION}.jsonl").write_text("\n".join(lines) + "\n")


def test_a_permission_prompt_is_no_hang(place):
    """A session with an open call that is silent for an hour is stuck, unless its hook has said that it asks its user."""
    asked = {"role": "user", "content": "list the files"}
    calls = {"id": "m1", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 1}}
    calls["content"] = [{"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}}]
    transcript(place, ("2026-02-09T08:00:00.000Z", "user", asked), ("2026-02-09T08:00:05.000Z", "assistant", calls))
    once = ("run", "--once", "--until", "2026-02-09T09:00:00Z")
    assert place.run(*once).stderr.startswith("2 new alerts")  # open, escalated
    place.alerts.unlink()
    place.write({"timestamp": "2026-02-09T08:00:06Z", "attempt_id": SESSION, "event_type": "turn_end", "data": {"reason": "permission_prompt"}})
    assert place.run(*once).stderr.startswith("0 new alerts")


def test_only_agents_with_hooks_are_offered(place):
    """Another name is refused with the one that there is."""
    done = place.run("hooks", "print", "vim")
    assert (done.returncode, done.stdout) == (2, "")
    assert "hint: it is `claude-code`" in done.stderr


@pytest.mark.parametrize("command", [(), ("print",)])
def test_help_fits_a_terminal_of_80_columns(place, command):
    """Every command has a page."""
    done = place.run("hooks", *command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
