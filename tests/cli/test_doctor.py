"""`agentwatch doctor` on healthy and on broken machines."""

import os
import time

import orjson
import pytest

from agentwatch import __version__


def doctor(place, *arguments, **environ):
    done = place.run("doctor", "--json", *arguments, **environ)
    return done.returncode, orjson.loads(done.stdout)


def checks(report):
    return {check["name"]: check for check in report["checks"]}


def test_a_fresh_machine_is_in_order_and_left_as_it_is(place):
    """Nothing is broken where nothing is; doctor makes no directory."""
    code, report = doctor(place)
    assert code == 0
    assert {check["state"] for check in report["checks"]} <= {"ok", "warning"}
    assert not place.logs.exists()


def test_each_setting_stands_with_its_origin(place):
    """Value and where it comes from, for every key."""
    (place.base / "agentwatch.toml").write_text("[cost]\nusd_per_session = 7\n")
    _, report = doctor(place, AGENT_ERROR_LOOP_THRESHOLD="9")
    found = {value["key"]: (value["value"], value["origin"]) for value in report["settings"]}
    assert found["cost.usd_per_session"] == (7, f"`{place.base / 'agentwatch.toml'}`")
    assert found["error_loop.threshold"] == (9, "environment AGENT_ERROR_LOOP_THRESHOLD")
    assert found["stuck.threshold_ms"] == (300_000, "default")


def test_secrets_are_not_shown(place):
    """Whatever is set, no secret leaves through doctor."""
    secrets = {"AGENTWATCH_TELEGRAM_TOKEN": "123456:verysecret", "OPENAI_API_KEY": "sk-verysecret", "AGENTWATCH_WEBHOOK_SECRET": "verysecret"}
    for arguments in ((), ("--json",)):
        done = place.run("doctor", *arguments, **secrets)
        assert "verysecret" not in done.stdout + done.stderr


def test_what_would_be_watched_is_counted_and_named(place, errors):
    """Directories, files, and the newest file of each format; outputs are none of them."""
    place.write(errors(1))
    (place.logs / "notes.log").write_text("hello\n")
    place.alerts.write_text("{}\n")
    transcripts = place.base / ".claude" / "projects" / "p"
    transcripts.mkdir(parents=True)
    for number in (1, 2):
        (transcripts / f"{number}.jsonl").write_text("{}\n")
        os.utime(transcripts / f"{number}.jsonl", (number, number))
    _, report = doctor(place)
    logs, claude = report["places"][:2]
    assert (logs["files"], logs["newest"]) == (2, {"canonical": str(place.stream), "plain-text": str(place.logs / "notes.log")})
    assert (claude["files"], claude["directories"], claude["newest"]) == (2, 2, {"claude-code": str(transcripts / "2.jsonl")})


def test_documents_and_databases_are_among_what_would_be_watched(place):
    """With their places; of the many that Cline may have, those that are there, and none of an agent whose folder is in another place."""
    tasks = place.base / ".config" / "Cursor" / "User" / "globalStorage" / "saoudrizwan.claude-dev" / "tasks"
    database = place.base / ".local" / "share" / "opencode" / "opencode.db"
    events = place.base / ".openhands" / "conversations" / "c1" / "events"
    for folder in (tasks / "1", database.parent, events, place.logs):
        folder.mkdir(parents=True, exist_ok=True)
    for path in (tasks / "1" / "ui_messages.json", database, events / "event-00000-a.json", place.logs / "run.traj"):
        path.write_text("{}")
    places = {one["path"]: one for one in doctor(place)[1]["places"]}
    assert places[str(tasks)]["newest"] == {"cline": str(tasks / "1" / "ui_messages.json")}
    assert places[str(database.parent)]["newest"] == {"opencode": str(database)}
    assert places[str(events.parent.parent)]["newest"] == {"openhands": str(events)}
    assert places[str(place.logs)]["newest"]["swe-agent"] == str(place.logs / "run.traj")
    assert [path for path in places if "globalStorage" in path] == [str(tasks)]
    assert not places[str(place.base / ".local" / "share" / "amp" / "threads")]["exists"]


@pytest.mark.parametrize(
    ("toml", "hint"),
    [
        pytest.param("[error_lop]\nthreshold = 3\n", "the nearest known name is `error_loop`", id="unknown section"),
        pytest.param("[cost]\nusd_per_session = 'much'\n", "costs more", id="wrong type"),
        pytest.param("[logs]\nsources = ['nothing']\n", "known are all, none", id="unknown format"),
        pytest.param("[alerts]\noff = ['error_lop']\n", "known are error_loop", id="unknown type of alert"),
        pytest.param("rubbish", "texts need quotes", id="no TOML"),
    ],
)
def test_wrong_settings_are_told_with_the_rest(place, toml, hint):
    """Exit code 2; what does not hang on the settings is looked at all the same."""
    (place.base / "agentwatch.toml").write_text(toml)
    code, report = doctor(place)
    assert code == 2
    assert hint in checks(report)["settings"]["remedy"]
    assert {"disk", "inotify", "open files", "program"} <= checks(report).keys()


def test_another_program_of_the_name_is_named(place):
    """Two are on package registries; whoever comes first on PATH is what the user starts."""
    other = place.base / "bin" / "agentwatch"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    code, report = doctor(place, PATH=f"{other.parent}:{place.environ['PATH']}")
    assert code == 0
    program = checks(report)["program"]
    assert program["state"] == "warning"
    assert str(other) in program["found"]
    assert "agentwatch" in program["remedy"]


def test_a_state_directory_that_others_may_write_is_broken(place):
    """Its content is trusted: the daemon refuses it, and doctor says how to mend it."""
    state = place.logs / ".agentwatch"
    state.mkdir(parents=True)
    state.chmod(0o777)
    code, report = doctor(place)
    assert code == 1
    assert checks(report)["state directory"]["remedy"] == f"run `chmod 700 {state}`"


def test_a_log_directory_that_everybody_may_write_is_broken(place):
    """Before there is a state directory in it, too: the daemon would refuse to make it there."""
    place.logs.mkdir(parents=True)
    place.logs.chmod(0o777)
    code, report = doctor(place)
    assert code == 1
    assert checks(report)["log directory"]["state"] == "broken"
    assert checks(report)["log directory"]["remedy"].startswith(f"run `chmod o-w {place.logs}`")


@pytest.mark.parametrize("name", ["agent-alerts.jsonl", ".agentwatch", ".agentwatch/lock"])
@pytest.mark.parametrize("kind", ["link", "FIFO"])
def test_what_the_daemon_refuses_is_broken(place, name, kind):
    """Whoever was sent here by `run` finds what stands in the way."""
    path = place.logs / name
    path.parent.mkdir(parents=True, mode=0o700)
    path.symlink_to(place.base) if kind == "link" else os.mkfifo(path)
    assert place.run("run", "--once").returncode == 1
    code, report = doctor(place)
    assert code == 1
    assert any(f"`{path}` is " in one["found"] and one["state"] == "broken" for one in report["checks"])


def test_a_damaged_checkpoint_is_a_warning_with_what_will_happen(place):
    """The daemon mends it by itself."""
    state = place.logs / ".agentwatch"
    state.mkdir(parents=True, mode=0o700)
    (state / "checkpoint.json").write_text("rubbish")
    code, report = doctor(place)
    assert (code, checks(report)["checkpoint"]["state"]) == (0, "warning")


def test_a_log_directory_that_is_a_file_is_broken(place):
    """What cannot become a directory is said before the daemon says it."""
    place.logs.parent.mkdir()
    place.logs.write_text("")
    code, report = doctor(place, "--log-dir", place.logs)
    broken = [check for check in report["checks"] if check["state"] == "broken"]
    assert code == 2
    assert [(check["name"], check["remedy"]) for check in broken] == [("settings", "choose another with `--log-dir DIR`")]
    assert f"`{place.logs}` is no directory" in broken[0]["found"]


def test_people_see_every_problem_with_its_remedy(place):
    """What is wrong stands last, each with an arrow to what to do."""
    state = place.logs / ".agentwatch"
    state.mkdir(parents=True)
    state.chmod(0o777)
    shown = place.run("doctor").stdout.splitlines()
    problem = next(number for number, text in enumerate(shown) if text.lstrip().startswith("broken"))
    assert shown[problem + 1].strip() == f"-> run `chmod 700 {state}`"
    assert problem + 2 == len(shown)


def test_it_finds_the_running_daemon(place, daemon):
    """Who asks why nothing comes learns whether anything watches."""
    _, report = doctor(place)
    assert checks(report)["daemon"]["found"] == f"runs, pid {daemon.pid}"


def test_the_last_alerts_are_told(place, errors):
    """How many, and what the newest was about."""
    place.write(*(errors(minute) for minute in range(4)))
    place.run("run", "--once")
    _, report = doctor(place)
    assert checks(report)["alerts"]["found"].startswith("0 in the last day, 1 in all; the last ")
    assert "error_loop of a-1" in checks(report)["alerts"]["found"]


def test_a_log_of_the_future_is_a_wrong_clock(place, errors):
    """Silence is judged by the clock, so that it matters."""
    place.write(errors(1))
    future = time.time() + 3600
    os.utime(place.stream, (future, future))
    _, report = doctor(place)
    assert checks(report)["clock"]["state"] == "warning"
    assert "timedatectl" in checks(report)["clock"]["remedy"]


def test_alerts_that_nobody_carries_out_are_a_warning(place):
    """Somebody is to be notified, and no notifier runs."""
    code, report = doctor(place, AGENTWATCH_WEBHOOK_URL="https://hooks.example/x")
    assert (code, checks(report)["notifier"]["state"]) == (0, "warning")
    assert "service install --notify" in checks(report)["notifier"]["remedy"]


def test_messages_that_were_given_up_are_counted(place):
    """They stand in a file that nobody would look for."""
    state = place.logs / ".agentwatch"
    state.mkdir(parents=True, mode=0o700)
    (state / "notify.dead.jsonl").write_text("{}\n{}\n")
    _, report = doctor(place)
    assert "2 messages were given up" in checks(report)["notifier"]["found"]


def test_versions_are_told(place):
    """What whoever helps asks first."""
    _, report = doctor(place)
    assert checks(report)["python"]["found"].startswith(f"agentwatch {__version__} on Python 3.")


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [("none", None, "is not there"), ("file", "", "is no directory"), ("rules", "rule = ", "x.toml`: not TOML")],
    ids=["no directory", "a file", "a file that is no TOML"],
)
def test_rules_that_cannot_be_used_are_broken(place, name, text, found):
    """With file and reason: the daemon says so once, when nobody looks."""
    path = place.base / name
    if name == "rules":
        path.mkdir()
        (path / "x.toml").write_text(text)
    elif text is not None:
        path.write_text(text)
    code, report = doctor(place, AGENTWATCH_RULES_DIR=str(path))
    assert code == 1
    assert checks(report)["rules"]["state"] == "broken"
    assert found in checks(report)["rules"]["found"]


def test_a_command_that_mends_can_be_pasted(place):
    """Whatever the directory is called."""
    logs = place.base / "my logs"
    (logs / ".agentwatch").mkdir(parents=True)
    (logs / ".agentwatch").chmod(0o777)
    _, report = doctor(place, "--log-dir", str(logs))
    assert checks(report)["state directory"]["remedy"] == f"run `chmod 700 '{logs}/.agentwatch'`"
    assert checks(report)["privacy"]["remedy"] == f"run `chmod o-rwx '{logs}'`"
