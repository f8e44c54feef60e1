"""What people get wrong, on the command line, in the environment and in settings files: exit code 2, one message that names the thing, one next step."""

import os

import pytest

COMMAND_LINE = {
    # the command line as a whole
    "no such command": (["watch"], "watch"),
    "a command in capitals": (["RUN"], "RUN"),
    "no such option": (["run", "--logdir", "x"], "--logdir"),
    "an option without its value": (["run", "--log-dir"], "--log-dir"),
    "an argument too many": (["status", "now"], "now"),
    "no such sub-command": (["report", "everything"], "everything"),
    "a value for a switch": (["run", "--once=yes"], "--once"),
    "an option of another command": (["status", "--once"], "--once"),
    # paths
    "an empty log directory": (["run", "--log-dir", ""], "--log-dir"),
    "an empty settings file's name": (["run", "--config", ""], "--config"),
    "a settings file that is not there": (["run", "--config", "none.toml"], "none.toml"),
    "a directory as settings file": (["run", "--config", "."], "cannot be read"),
    # times
    "no time at all": (["run", "--once", "--until", "yesterday"], "--until yesterday"),
    "a day that does not exist": (["run", "--once", "--until", "2026-02-30"], "--until 2026-02-30"),
    "an end without a single pass": (["run", "--until", "2026-02-09T08:00Z"], "--until"),
    "a span without a unit": (["alerts", "--since", "30"], "--since 30"),
    "a span below nothing": (["alerts", "--since", "-2h"], "--since -2h"),
    "a span in words": (["tail", "--since", "an hour"], "--since an hour"),
    # numbers
    "letters for a number": (["summary", "--days", "seven"], "--days"),
    "a number below its range": (["demo", "--speed", "0"], "--speed"),
    "a number above its range": (["demo", "--speed", "1000"], "--speed"),
    "no money": (["exec", "--max-cost", "-1", "--", "true"], "--max-cost"),
    "a span of nonsense": (["exec", "--max-idle", "soon", "--", "true"], "--max-idle soon"),
    # choices
    "no such choice": (["exec", "--on-alert", "shout", "--", "true"], "--on-alert"),
    "no such key of a cost report": (["report", "cost", "--by", "colour"], "--by"),
    "no such format of messages": (["run", "--log-format", "xml"], "--log-format"),
    "no such agent": (["hooks", "print", "emacs"], "emacs"),
    # what does not go together
    "a notifier for a single pass": (["run", "--once", "--with-notify"], "--with-notify"),
    "two kinds of output": (["report", "errors", "--json", "--csv"], "--json"),
    "JSON of a notifier that runs": (["notify", "--json"], "--json"),
    "no command to run": (["exec"], "CMD"),
    "nobody to notify": (["notify"], "nobody is to be notified"),
    "a test message to nobody": (["doctor", "--send-test"], "nobody is to be notified"),
    # values of keys
    "a value without a key": (["backtest", "--set", "9"], "--set"),
    "a key that does not exist": (["backtest", "--set", "error_loop.treshold=9"], "error_loop.treshold"),
    "a value out of range": (["backtest", "--set", "error_loop.threshold=0"], "error_loop.threshold"),
    "a service for nobody": (["service", "install", "--print", "--system", "--as", "nobody-of-this-name"], "nobody-of-this-name"),
    "a service's logs in a place that is cleared": (["service", "install", "--print", "--log-dir", "/tmp/logs"], "/tmp/logs"),  # noqa: S108
}

ENVIRONMENT = {
    "a misspelt name": ({"AGENTWATCH_ERORR_LOOP_THRESHOLD": "3"}, "AGENTWATCH_ERORR_LOOP_THRESHOLD"),
    "a section without a key": ({"AGENTWATCH_COST": "3"}, "AGENTWATCH_COST"),
    "letters for a number": ({"AGENT_ERROR_LOOP_THRESHOLD": "many"}, "AGENT_ERROR_LOOP_THRESHOLD"),
    "a fraction of a count": ({"AGENTWATCH_TOOL_LOOP_THRESHOLD": "2.5"}, "AGENTWATCH_TOOL_LOOP_THRESHOLD"),
    "less than nothing": ({"AGENT_STUCK_THRESHOLD_MS": "-1"}, "AGENT_STUCK_THRESHOLD_MS"),
    "no truth value": ({"AGENT_WORK_ANALYZER_ENABLED": "maybe"}, "AGENT_WORK_ANALYZER_ENABLED"),
    "no day": ({"AGENT_ANALYTICS_REPORT_DAY": "someday"}, "AGENT_ANALYTICS_REPORT_DAY"),
    "no hour": ({"AGENT_ANALYTICS_REPORT_HOUR": "24"}, "AGENT_ANALYTICS_REPORT_HOUR"),
    "no format": ({"AGENTWATCH_SOURCES": "nothing-known"}, "nothing-known"),
    "no type of alert": ({"AGENTWATCH_ALERTS_OFF": "error_lop"}, "error_lop"),
    "all but one": ({"AGENTWATCH_SOURCES": "all,codex"}, "AGENTWATCH_SOURCES"),
    "no quiet hours": ({"AGENTWATCH_TELEGRAM_QUIET": "at night"}, "AGENTWATCH_TELEGRAM_QUIET"),
    "no web address": ({"AGENTWATCH_WEBHOOK_URL": "ftp://x"}, "AGENTWATCH_WEBHOOK_URL"),
    "a settings file that is not there": ({"AGENTWATCH_CONFIG": "none.toml"}, "none.toml"),
    "no chat": ({"AGENTWATCH_TELEGRAM_CHATS": "me"}, "`telegram.chats`: not of the form that is asked for - at `$[0]`: 'me'"),
}

SETTINGS = {
    "no TOML": ("threshold: 3", "agentwatch.toml"),
    "no UTF-8": (b"[cost]\n# \xff\n", "agentwatch.toml"),
    "no section of this name": ("[error_lop]\nthreshold = 3", "error_lop"),
    "no key of this name": ("[error_loop]\ntreshold = 3", "error_loop.treshold"),
    "a key in no section": ("threshold = 3", "threshold"),
    "a section as a key": ("error_loop = 3", "error_loop"),
    "a text for a number": ("[cost]\nusd_per_session = 'much'", "cost.usd_per_session"),
    "a number out of range": ("[context]\nshare = 1.5", "context.share"),
    "no number": ("[cost]\nusd_per_session = nan", "cost.usd_per_session"),
    "a list for a number": ("[stuck]\nthreshold_ms = [1]", "stuck.threshold_ms"),
    "the same twice": ("[cost]\nusd_per_session = 1\nusd_per_session = 2", "agentwatch.toml"),
    "a secret": ("[telegram]\ntoken = '123456:secret'", "telegram.token"),
    "a command in a file that lies there": ("[actions]\ntrigger_ai_autofix = ['true']", "actions"),
    "an address in a file that lies there": ("[webhook]\nurl = 'https://x'", "webhook.url"),
    "no limit of single executors": ("[executor.CODEX.logs]\ndir = 'x'", "executor.CODEX.logs"),
    "no key of single projects": ("[project.'/srv/*'.cost]\nusd = 1", "cost.usd"),
    "a path with a NUL": ('[logs]\ndir = "a\\u0000b"', "logs.dir"),
    "brackets without end": ("a = " + "[" * 100_000, "agentwatch.toml"),
    "a number of ten thousand digits": ("[cost]\nusd_per_session = " + "9" * 10_000, "agentwatch.toml"),
    "fifty megabytes": ("#" * 50_000_000, "agentwatch.toml"),
}


def refused(done, thing):
    """Exit code 2, an error of one line with the thing in it, a hint, and nothing else."""
    assert done.returncode == 2, done.stderr + done.stdout
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: "), done.stderr
    assert thing in lines[0], done.stderr
    assert len(lines) == 3, done.stderr
    assert (lines[1], lines[2][:6]) == ("", "hint: ")
    assert "secret" not in done.stderr.replace("is a secret", "").replace("secrets come from", "")


def test_there_are_fifty_of_them():
    """More than that: what is no kind of its own may be left out."""
    assert len(COMMAND_LINE) + len(ENVIRONMENT) + len(SETTINGS) >= 50


@pytest.mark.parametrize(("arguments", "thing"), COMMAND_LINE.values(), ids=COMMAND_LINE)
def test_a_wrong_command_line_is_refused(place, arguments, thing):
    """With what is wrong and what to do, before anything is done."""
    refused(place.run(*arguments), thing)
    assert not place.logs.exists()


@pytest.mark.parametrize(("environ", "thing"), ENVIRONMENT.values(), ids=ENVIRONMENT)
def test_a_wrong_environment_is_refused(place, environ, thing):
    """By the name of the variable, or what it names."""
    refused(place.run("run", "--once", **environ), thing)
    assert not place.logs.exists()


@pytest.mark.parametrize(("text", "thing"), SETTINGS.values(), ids=SETTINGS)
def test_a_wrong_settings_file_is_refused(place, text, thing):
    """By file and key; nothing of it holds."""
    (place.base / "agentwatch.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(place.run("run", "--once"), thing)
    assert not place.logs.exists()


def test_what_is_no_file_is_no_settings_file(place):
    """A pipe of that name would be waited for without end."""
    os.mkfifo(place.base / "agentwatch.toml")
    refused(place.run("run", "--once"), "agentwatch.toml")


def test_a_settings_file_without_end_is_refused(place):
    """It is not read until the memory is full."""
    refused(place.run("run", "--once", "--config", "/dev/zero"), "/dev/zero")


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            ["run", "--once"],
            ["status"],
            ["alerts"],
            ["issues"],
            ["tail", "--json"],
            ["raw", "--grep", "x"],
            ["summary"],
            ["report", "weekly"],
            ["replay", "latest"],
        ),
        *(
            ["rotate"],
            ["runs", "list"],
            ["ask", "why?"],
            ["notify", "--dry-run"],
            ["mcp"],
            ["backtest", "--set", "error_loop.threshold=3"],
            ["service", "install", "--print"],
        ),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_file_is_no_log_directory(place, arguments):
    """Nor is what would lie below one: that there are no alerts would be an answer about another place."""
    (place.base / "afile").write_text("")
    for name in ("afile", "afile/logs"):
        refused(place.run(*arguments, AGENT_WORK_LOG_DIR=name), "AGENT_WORK_LOG_DIR")
