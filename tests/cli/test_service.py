"""`agentwatch service` where no systemd runs: the units that it would write, and what it says. tests/systemd/ has the rest."""

import configparser
import os
import plistlib
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agentwatch.apps import service
from agentwatch.formats import places

ROOT = Path(__file__).parents[2]
ME = pwd.getpwuid(os.geteuid()).pw_name
TELEGRAM = {"AGENTWATCH_TELEGRAM_TOKEN": "123456789:AAFsecretsecretsecretsecretsecretsec", "AGENTWATCH_TELEGRAM_CHATS": "7"}

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
has_no_systemd = pytest.mark.skipif(service.BOOTED.is_dir(), reason="a systemd runs here, and would be changed")


@pytest.fixture
def place(place):
    """Not below /tmp, which a service refuses; nothing is written there."""
    place.options = ("--print", "--log-dir", "/srv/agents/logs")
    return place


def units(place, *options, **environ):
    """The files that would be written, by name."""
    done = place.run("service", "install", *place.options, *options, **environ)
    assert done.returncode == 0, done.stderr
    parts = re.split(r"^# (/\S+)\n", done.stdout, flags=re.MULTILINE)[1:]
    return {Path(path).name: text for path, text in zip(parts[::2], parts[1::2], strict=True)}


@pytest.fixture(params=["--user", "--system"])
def every_unit(place, request):
    """All that can be installed for one manager."""
    options = [request.param, *(["--as", ME] if request.param == "--system" else [])]
    found = units(place, *options, AGENTWATCH_RETENTION_AUTOMATIC="no") | units(place, *options, "--notify", **TELEGRAM) | units(place, *options, "--add")
    assert len(found) == 7
    return request.param, found


@needs_analyze
def test_systemd_has_nothing_to_complain_of(every_unit, tmp_path):
    """No key is misspelt, no value misunderstood; `systemd-analyze verify` says so on stderr, and exits 0 all the same."""
    manager, found = every_unit
    for name, text in found.items():
        (tmp_path / name).write_text(text)
    names = [str(tmp_path / name.replace("@.", "@srv-more.")) for name in found]
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", manager, *names], capture_output=True, text=True, env=environ, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_analyze
@pytest.mark.parametrize(
    "name", ["agentwatch.service", "agentwatch@.service", "agentwatch-notify.service", "agentwatch-rotate.service", "agentwatch-weekly-report.service"]
)
def test_the_systems_units_are_exposed_by_no_more_than_two(place, tmp_path, name):
    """Of ten, by `systemd-analyze security`: the threshold of a hardened service."""
    options = ["--system", "--as", ME, *(["--notify"] if "notify" in name else []), *(["--add"] if "@" in name else [])]
    found = units(place, *options, AGENTWATCH_RETENTION_AUTOMATIC="no", **TELEGRAM)
    unit = tmp_path / name
    unit.write_text(found[name])
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr
    assert "Overall exposure" in done.stdout


def test_the_watcher_reaches_no_network_and_the_notifier_no_more_than_that(place):
    """Each has the sockets that it needs."""
    found = units(place, "--system", "--as", ME, "--notify", **TELEGRAM)
    watcher, notifier = found["agentwatch.service"], found["agentwatch-notify.service"]
    assert "PrivateNetwork=yes" in watcher
    assert "RestrictAddressFamilies=AF_UNIX\n" in watcher
    assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n" in notifier
    assert "IPAddressDeny=link-local multicast" in notifier


def test_no_secret_stands_in_a_unit(place):
    """They come by LoadCredential; neither output nor environment has them."""
    done = place.run("service", "install", *place.options, "--notify", **TELEGRAM, AGENTWATCH_WEBHOOK_SECRET="whsec_verysecretvalue")  # noqa: S106  # nobody's
    assert "LoadCredential=agentwatch-telegram-token:" in done.stdout
    assert "LoadCredential=agentwatch-webhook-secret:" in done.stdout
    assert "secretsecret" not in done.stdout + done.stderr
    assert "whsec" not in done.stdout + done.stderr


def test_a_secret_in_a_file_stays_where_it_is(place):
    """Who has put it into a file already is not given a second one."""
    token = place.base / "token"
    token.write_text("123456789:AAFsecretsecretsecretsecretsecretsec")
    found = units(place, "--notify", AGENTWATCH_TELEGRAM_TOKEN_FILE=str(token), AGENTWATCH_TELEGRAM_CHATS="7")
    assert f"LoadCredential=agentwatch-telegram-token:{token}\n" in found["agentwatch-notify.service"]


def test_the_services_do_what_this_call_would(place):
    """Settings of this environment, folders of agents and the settings file go with them; in words on stderr."""
    (place.base / "my settings.toml").write_text("")
    environ = {"AGENT_ERROR_LOOP_THRESHOLD": "9", "CODEX_HOME": "/srv/my codex", "UNRELATED": "x"}
    found = units(place, "--config", "my settings.toml", **environ)["agentwatch.service"]
    assert "Environment=AGENT_ERROR_LOOP_THRESHOLD=9\n" in found
    assert 'Environment="CODEX_HOME=/srv/my codex"\n' in found
    assert f'--config "{place.base}/my settings.toml"\n' in found
    assert f"WorkingDirectory=-{place.base}\n" in found
    assert "UNRELATED" not in found


def test_every_variable_of_an_agents_folder_is_known():
    """What `formats/places.py` asks for is what a service is given."""
    asked = set(re.findall(r'environ\.get\("(\w+)"', (ROOT / "agentwatch/formats/places.py").read_text()))
    assert asked == set(places.VARIABLES)


def test_what_would_be_done_twice_is_not_installed(place):
    """The daemon rotates, and a notifier makes the weekly report: timers are for those who have neither."""
    assert units(place).keys() == {"agentwatch.service", "agentwatch-weekly-report.service", "agentwatch-weekly-report.timer"}
    assert units(place, "--notify", **TELEGRAM).keys() == {"agentwatch.service", "agentwatch-notify.service"}
    assert (
        "OnCalendar=Tue *-*-* 07:00:00" in units(place, AGENT_ANALYTICS_REPORT_DAY="tuesday", AGENT_ANALYTICS_REPORT_HOUR="7")["agentwatch-weekly-report.timer"]
    )
    assert "agentwatch-weekly-report.timer" not in units(place, AGENT_ANALYTICS_WEEKLY_REPORT="no")


def test_a_notifier_that_runs_commands_is_not_confined_and_that_is_said(place):
    """What mends a repository must be able to write there."""
    folder = place.base / ".config" / "agentwatch"
    folder.mkdir(parents=True)
    (folder / "agentwatch.toml").write_text("[actions]\ntrigger_ai_autofix = ['true']\n")
    done = place.run("service", "install", *place.options, "--notify")
    assert "the notifier is not confined: it runs the commands" in done.stderr
    notifier = done.stdout.partition("agentwatch-notify.service\n")[2]
    assert "ProtectSystem" not in notifier
    assert "ProtectSystem" in done.stdout


@pytest.mark.parametrize(
    ("options", "environ", "message"),
    [
        pytest.param(["--notify"], {}, "nobody is to be notified", id="a notifier for nobody"),
        pytest.param(["--add", "--notify"], TELEGRAM, "`--add` is for a further log directory alone", id="two things at once"),
        pytest.param(["--system"], {"SUDO_USER": ""}, "whose agents are to be watched?", id="the system's, for nobody"),
        pytest.param(["--system", "--as", "nobody-of-this-name"], {}, "there is no user `nobody-of-this-name`", id="for nobody of this name"),
        pytest.param(["--as", ME], {}, "`--as` is for `--system`", id="a user's, for another"),
        pytest.param(["--log-dir", "/tmp/logs"], {}, "`/tmp/logs` does not last", id="logs that are gone with the next start"),  # noqa: S108
        pytest.param(["--log-dir", "/srv/a\nb"], {}, "a unit file cannot name it", id="a path with a line break"),
    ],
)
def test_what_cannot_be_installed_is_refused(place, options, environ, message):
    """Exit code 2, before anything is written."""
    done = place.run("service", "install", *place.options, *options, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


@has_no_systemd
def test_without_systemd_it_says_what_else_there_is(place):
    """Exit code 1 and where the recipes for launchd and supervisor stand; nothing is written."""
    done = place.run("service", "install", "--log-dir", "/srv/agents/logs")
    assert (done.returncode, done.stdout) == (1, "")
    assert "systemd does not run here" in done.stderr
    assert "docs/service.md" in done.stderr
    assert not (place.base / ".config").exists()


def test_where_nothing_is_installed_status_and_uninstall_say_so(place):
    """A status of nothing is a no; to take away nothing is done."""
    done = place.run("service", "status")
    assert done.returncode == 1
    assert "no units are installed" in done.stderr
    assert place.run("service", "status", "--json").stdout == "[]\n"
    done = place.run("service", "uninstall")
    assert done.returncode == 0
    assert "nothing is installed" in done.stderr


@has_no_systemd
def test_units_of_a_systemd_that_is_not_there_are_no_riddle(place):
    """A home that was copied, a container: said is that there is no systemd, not how it was asked."""
    units = place.base / ".config" / "systemd" / "user"
    units.mkdir(parents=True)
    (units / "agentwatch.service").touch()
    done = place.run("service", "status")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "error: systemd does not run here")


def test_the_templates_are_in_the_wheel_too(tmp_path):
    """Whoever installs with pipx has no checkout."""
    wheel = ROOT / "pyproject.toml"
    assert 'systemd = "agentwatch/systemd"' in wheel.read_text()
    assert service.template("agentwatch.service").startswith("# Watches")


def test_the_recipes_for_other_managers_can_be_read(tmp_path):
    """A plist and an ini file as their readers read them; what they call exists."""
    text = (ROOT / "docs/service.md").read_text("utf-8")
    plist = plistlib.loads(text.partition("```xml\n")[2].partition("```")[0].encode())
    ini = configparser.RawConfigParser()
    ini.read_string(text.partition("```ini\n")[2].partition("```")[0])
    for command in (plist["ProgramArguments"], ini["program:agentwatch"]["command"].split()):
        options = {word for word in command if word.startswith("--")}
        assert options <= set(re.findall(r"--[\w-]+", (ROOT / "tests/cli/golden/run.txt").read_text()))
    assert plist["Umask"] == 0o077


@pytest.fixture
def installed(place):
    """A home in which units lie already, by name."""

    def put(*names):
        folder = place.base / ".config" / "systemd" / "user"
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_text("[Service]\nType=oneshot\nExecStart=true\n")

    return put


def test_a_notifier_that_is_there_makes_the_weekly_report(place, installed):
    """Called again without `--notify`, nothing is installed that would make it a second time; that the notifier stays as it is is said."""
    installed("agentwatch-notify.service")
    done = place.run("service", "install", *place.options)
    assert "weekly" not in done.stdout
    assert "the notifier stays as it was installed" in done.stderr


def test_what_a_notifier_makes_needless_goes(place, installed):
    """The timer of an earlier call without `--notify` would make the report a second time."""
    installed("agentwatch.service", "agentwatch-weekly-report.service", "agentwatch-weekly-report.timer")
    done = place.run("service", "install", *place.options, "--notify", **TELEGRAM)
    assert "would be removed: agentwatch-weekly-report.timer, agentwatch-weekly-report.service" in done.stderr


def test_a_token_that_was_put_away_counts(place):
    """Called again from another shell, it need not be there a second time."""
    folder = place.base / ".config" / "agentwatch" / "credentials"
    folder.mkdir(parents=True)
    (folder / "agentwatch-telegram-token").write_text(TELEGRAM["AGENTWATCH_TELEGRAM_TOKEN"])
    notifier = units(place, "--notify", AGENTWATCH_TELEGRAM_CHATS="7")["agentwatch-notify.service"]
    assert f"LoadCredential=agentwatch-telegram-token:{folder}/agentwatch-telegram-token\n" in notifier
