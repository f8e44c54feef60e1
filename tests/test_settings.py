"""The layers of settings, where each value came from, and what is refused."""

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.errors import SettingsError
from agentwatch.settings import KEYS, OLDER_NAMES, SECRET_NAMES, Loaded, Settings, load, secret


@pytest.fixture
def place(tmp_path):
    """Make a home and, elsewhere, a project with a folder in it to stand in."""
    (tmp_path / "home").mkdir()
    (tmp_path / "project" / "sub").mkdir(parents=True)
    return tmp_path


def read(place: Path, environ=None, **more) -> Loaded:
    return load(cwd=place / "project" / "sub", environ=environ or {}, home=place / "home", **more)


def user_file(place: Path, text: str) -> Path:
    return write(place / "home" / ".config" / "agentwatch" / "agentwatch.toml", text)


def nearest_file(place: Path, text: str) -> Path:
    return write(place / "project" / "agentwatch.toml", text)


def env_file(place: Path, text: str) -> Path:
    return write(place / "project" / "sub" / ".env", text)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def threshold(value: int) -> str:
    return f"[error_loop]\nthreshold = {value}\n"


def test_the_defaults_are_those_of_the_contract(place):
    """Who sets nothing gets error loop 4 in 10 min, tool loop 10 in 60 s or 4 in a row, stuck after 300 s, 1 USD, runs of 24 h."""
    loaded = read(place)
    settings = loaded.settings
    assert (settings.error_loop.threshold, settings.error_loop.window_s) == (4, 600)
    assert (settings.tool_loop.threshold, settings.tool_loop.window_s, settings.tool_loop.repeats) == (10, 60, 4)
    assert (settings.stuck.threshold_ms, settings.cost.usd_per_session, settings.runs.ttl_h) == (300_000, 1.0, 24)
    assert settings.logs.dir == place / "project" / "sub" / ".cache" / "agent-work-logs"
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.files == ()


def test_each_layer_wins_over_those_below_it(place):
    """Defaults < user file < nearest file < `--config` < `.env` < older name < new name < flag, each with its origin."""
    given = write(place / "given.toml", threshold(13))
    seen = []

    def look(environ=None, **more):
        loaded = read(place, environ, **more)
        assert loaded.explicit("error_loop.threshold") == (loaded.settings.error_loop.threshold != 4)
        seen.append((loaded.settings.error_loop.threshold, loaded.origins["error_loop.threshold"]))

    look()
    user = user_file(place, threshold(11))
    look()
    nearest = nearest_file(place, threshold(12))
    look()
    look(config=given)
    dotenv = env_file(place, "AGENT_ERROR_LOOP_THRESHOLD=14\n")
    look(config=given)
    older = {"AGENT_ERROR_LOOP_THRESHOLD": "15"}
    look(older, config=given)
    newer = older | {"AGENTWATCH_ERROR_LOOP_THRESHOLD": "16"}
    look(newer, config=given)
    look(newer, config=given, flags={"error_loop.threshold": 17})
    assert seen == [
        (4, "default"),
        (11, f"`{user}`"),
        (12, f"`{nearest}`"),
        (13, f"`{given}`"),
        (14, f"`{dotenv}` AGENT_ERROR_LOOP_THRESHOLD"),
        (15, "environment AGENT_ERROR_LOOP_THRESHOLD"),
        (16, "environment AGENTWATCH_ERROR_LOOP_THRESHOLD"),
        (17, "flag"),
    ]
    assert read(place, config=given).files == (user, nearest, given, dotenv)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["FIFO", "directory"])
@pytest.mark.parametrize("name", ["project/agentwatch.toml", "home/.config/agentwatch/agentwatch.toml"], ids=["nearest", "user's"])
def test_what_is_no_file_is_refused_and_not_waited_for(place, name, make):
    """Whoever may write to a directory above could hang every command that loads settings."""
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    with pytest.raises(SettingsError, match=f"`{path}`: no regular file"):
        read(place)


def test_a_pipe_may_be_named(place):
    """`--config <(…)` of a shell."""
    path = place / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(threshold(13),))
    writer.start()
    assert read(place, config=path).settings.error_loop.threshold == 13
    writer.join()


def test_layers_are_merged_key_by_key(place):
    """A section that several files speak of keeps what the lower one says and the higher one does not."""
    user_file(place, "[error_loop]\nthreshold = 5\nwindow_s = 30\n")
    nearest_file(place, threshold(6))
    settings = read(place).settings
    assert (settings.error_loop.threshold, settings.error_loop.window_s) == (6, 30)


def test_a_file_can_be_named_by_the_environment(place):
    """For programs that start this one and cannot give it flags. It is trusted and ranks like `--config`, which wins over it."""
    nearest_file(place, threshold(12))
    named = write(place / "named.toml", threshold(13))
    given = write(place / "given.toml", threshold(14))
    for text in (str(named), "../../named.toml"):
        loaded = read(place, {"AGENTWATCH_CONFIG": text})
        assert loaded.settings.error_loop.threshold == 13
        assert loaded.files[-1].samefile(named)
    write(place / "home" / "mine.toml", threshold(15))
    assert read(place, {"AGENTWATCH_CONFIG": "~/mine.toml"}).settings.error_loop.threshold == 15
    assert read(place, {"AGENTWATCH_CONFIG": str(named)}, config=given).settings.error_loop.threshold == 14
    assert read(place, {"AGENTWATCH_CONFIG": ""}).settings.error_loop.threshold == 12


def test_a_file_that_the_environment_names_must_be_there(place):
    """The message says which variable it was."""
    with pytest.raises(SettingsError, match=r"^environment AGENTWATCH_CONFIG: there is no file `.*nowhere.toml`$") as caught:
        read(place, {"AGENTWATCH_CONFIG": "nowhere.toml"})
    assert "AGENTWATCH_CONFIG" in caught.value.hint


def test_the_nearest_file_hides_those_further_up(place):
    """Only the first `agentwatch.toml` on the way up is read, beyond a repository's root too."""
    write(place / "agentwatch.toml", threshold(8))
    (place / "project" / ".git").mkdir()
    assert read(place).settings.error_loop.threshold == 8
    nearest_file(place, "[cost]\nusd_per_session = 2\n")
    assert read(place).settings.error_loop.threshold == 4


def test_the_user_file_follows_xdg_config_home(place):
    """An absolute XDG_CONFIG_HOME is used, a relative one is ignored, and without a home there is no user file."""
    write(place / "xdg" / "agentwatch" / "agentwatch.toml", threshold(9))
    user_file(place, threshold(7))
    assert read(place, {"XDG_CONFIG_HOME": str(place / "xdg")}).settings.error_loop.threshold == 9
    assert read(place, {"XDG_CONFIG_HOME": "xdg"}).settings.error_loop.threshold == 7
    assert load(cwd=place, environ={}, home=None).settings.error_loop.threshold == 4


def test_a_user_file_that_is_also_the_nearest_is_read_once_and_trusted(place):
    """Standing in the folder of the user's file does not make it a file that merely lies there."""
    user = user_file(place, threshold(7))
    assert load(cwd=user.parent, environ={}, home=place / "home").files == (user,)


@pytest.mark.parametrize("name", sorted(OLDER_NAMES))
def test_every_older_name_still_works(place, name):
    """A value under an older name arrives at its key, and the origin says which name it was."""
    key = KEYS[OLDER_NAMES[name]]
    loaded = read(place, {name: SAMPLES.get(key.path) or {bool: "no", Path: "/logs", tuple: "canonical"}.get(type(key.default), "3")})
    assert loaded.origins[key.path] == f"environment {name}"
    assert value_of(loaded.settings, key.path) != key.default


def value_of(settings: Settings, path: str) -> object:
    section, name = path.split(".")
    return getattr(getattr(settings, section), name)


SAMPLES = {
    "rules.dir": "/etc/agentwatch/rules",
    "telegram.chats": "1, -100/7",
    "telegram.users": "5,6",
    "telegram.base_url": "http://127.0.0.1:8081/bot",
    "telegram.quiet": "22:00-07:00",
    "telegram.routes": '[{"chat": -100, "types": ["error_loop"]}]',
    "webhook.url": "https://hooks.example/a?b=c",
    "apprise.quiet": "22:00-07:00",
    "ask.base_url": "http://127.0.0.1:11434/v1",
    "report.history": "s3://bucket/history",
    "actions.commands": '{"fresh_session": ["again.sh", "{attempt_id}"]}',
}
"""A value for each key of which the default is nothing, which in a variable would count as not set."""


@pytest.mark.parametrize("path", sorted(KEYS))
def test_every_key_has_an_environment_name_and_a_help_text(place, path):
    """Each key can be set by AGENTWATCH_<SECTION>_<KEY>, and `doctor` and the documentation find something to say about it."""
    key = KEYS[path]
    name = "AGENTWATCH_" + path.upper().replace(".", "_")
    text = SAMPLES.get(path) or (",".join(key.default) if isinstance(key.default, tuple) else str(key.default))
    assert read(place, {name: text}).origins[path] == f"environment {name}"
    assert key.names[-1] == name
    assert key.help.endswith(".")


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        pytest.param("AGENTWATCH_SOURCES", "canonical, claude-code", "logs.sources", ("canonical", "claude-code"), id="names with a space"),
        pytest.param("AGENTWATCH_SOURCES", "none", "logs.sources", ("none",), id="none of them"),
        pytest.param("AGENT_ANALYTICS_REPORT_DAY", "Monday", "report.day", 1, id="day by name"),
        pytest.param("AGENT_ANALYTICS_REPORT_DAY", "sat", "report.day", 6, id="day cut to three letters"),
        pytest.param("AGENT_ANALYTICS_REPORT_DAY", "0", "report.day", 0, id="day by number, 0 is Sunday"),
        pytest.param("AGENT_WORK_ANALYZER_ENABLED", "off", "logs.enabled", False, id="off"),
        pytest.param("AGENT_WORK_ANALYZER_ENABLED", "FALSE", "logs.enabled", False, id="capitals"),
        pytest.param("AGENT_WORK_ANALYZER_ENABLED", "1", "logs.enabled", True, id="one"),
        pytest.param("AGENT_COST_ANOMALY_THRESHOLD", "2.5", "cost.usd_per_session", 2.5, id="fraction"),
    ],
)
def test_text_is_read_as_a_person_means_it(place, name, text, path, value):
    """Environment variables hold words; they become the value's type."""
    assert value_of(read(place, {name: text}).settings, path) == value


def test_a_variable_that_is_empty_counts_as_not_set(place):
    """`AGENT_WORK_LOG_DIR=` does not mean the current directory."""
    env_file(place, "AGENT_TOOL_LOOP_THRESHOLD=\nAGENTWATCH_WEBHOOK_URL=\n")
    assert set(read(place, {"AGENT_WORK_LOG_DIR": ""}).origins.values()) == {"default"}


def test_a_flag_that_was_not_given_leaves_the_layers_below(place):
    """None from the command line means that nobody said anything."""
    assert read(place, flags={"logs.dir": None}).origins["logs.dir"] == "default"


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        pytest.param("logs", "project/logs", id="relative to the file"),
        pytest.param("~/logs", "home/logs", id="tilde"),
        pytest.param("/var/logs", "/var/logs", id="absolute"),
    ],
)
def test_a_path_in_a_file_counts_from_that_file(place, text, folder):
    """The same file means the same folder wherever below it the command is called."""
    nearest_file(place, f'[logs]\ndir = "{text}"\n')
    assert read(place).settings.logs.dir == place / folder


def test_a_path_on_the_command_line_counts_from_the_working_directory(place):
    """`--log-dir logs` is the folder that the shell would complete."""
    assert read(place, flags={"logs.dir": Path("logs")}).settings.logs.dir == place / "project" / "sub" / "logs"


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        pytest.param("error_loop.threshold", "1", "expected `int` >= 2: 1", id="one error is no loop"),
        pytest.param("tool_loop.threshold", "2.5", "expected `int`, got `float`: 2.5", id="half a call"),
        pytest.param("tool_loop.window_s", "0", "expected `float` > 0.0: 0", id="no window"),
        pytest.param("error_loop.window_s", "inf", "expected `float` <= 1000000000.0: inf", id="endless window"),
        pytest.param("error_loop.window_s", "nan", "expected `float` > 0.0: nan", id="no number"),
        pytest.param("stuck.threshold_ms", "-1", "expected `int` >= 1: -1", id="negative silence"),
        pytest.param("cost.usd_per_session", '"much"', "expected `float`, got `str`: 'much'", id="a word for a number"),
        pytest.param("cost.usd_per_session", "true", "expected `float`, got `bool`: True", id="a truth for a number"),
        pytest.param("report.hour", "24", "expected `int` <= 23: 24", id="a 25th hour"),
        pytest.param("report.day", "7", "expected `int` <= 6: 7", id="an eighth day"),
        pytest.param("report.day", '"someday"', "expected a day of the week: 'someday'", id="no weekday"),
        pytest.param("report.weekly", '"perhaps"', "expected true or false (or yes, no, on, off, 1, 0): 'perhaps'", id="neither true nor false"),
        pytest.param("logs.dir", "5", "expected a path: 5", id="a number for a path"),
        pytest.param("logs.dir", '""', "expected a path: ''", id="an empty path"),
        pytest.param("logs.sources", "[]", "expected `array` of length >= 1: []", id="an empty list"),
        pytest.param("logs.sources", '"all,codex"', "expected `all` or `none` to stand alone: 'all,codex'", id="all and one more"),
        pytest.param("runs.ttl_h", "{}", "expected `float`, got `object`: {}", id="a table for a number"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_origin(place, path, text, complaint):
    """The message says where the value stands, what was expected and what was found; the hint says what the key is for."""
    section, name = path.split(".")
    file = nearest_file(place, f"[{section}]\n{name} = {text}\n")
    with pytest.raises(SettingsError) as caught:
        read(place)
    assert str(caught.value) == f"`{file}`, `{path}`: {complaint}"
    assert caught.value.hint == KEYS[path].help


def test_a_wrong_value_in_the_environment_names_the_variable(place):
    """Who set the older name is not told about a name they never used."""
    with pytest.raises(SettingsError, match=r"^environment AGENT_ERROR_LOOP_THRESHOLD, `error_loop.threshold`: expected `int`, got `str`: 'x'$"):
        read(place, {"AGENT_ERROR_LOOP_THRESHOLD": "x"})


@pytest.mark.parametrize(
    ("text", "complaint", "nearest"),
    [
        pytest.param("[error_loop]\ntreshold = 5\n", "unknown key: `error_loop.treshold`", "error_loop.threshold", id="key"),
        pytest.param("[eror_loop]\nthreshold = 5\n", "unknown section: `eror_loop`", "error_loop", id="section"),
        pytest.param("[restart]\n", "unknown section: `restart`", "restarts", id="empty section"),
    ],
)
def test_an_unknown_name_in_a_file_is_refused_with_the_nearest_known_one(place, text, complaint, nearest):
    """A misspelt key is never ignored."""
    file = user_file(place, text)
    with pytest.raises(SettingsError) as caught:
        read(place)
    assert str(caught.value) == f"`{file}`: {complaint}"
    assert caught.value.hint == f"the nearest known name is `{nearest}`"


def test_a_section_that_is_given_a_value_is_refused(place):
    """`cost = 5` is neither silently dropped nor a traceback."""
    nearest_file(place, "cost = 5\n")
    with pytest.raises(SettingsError, match="`cost` is a section, not a key: 5"):
        read(place)


@pytest.mark.parametrize("in_file", [pytest.param(False, id="environment"), pytest.param(True, id="env file")])
def test_an_unknown_variable_of_ours_is_refused_with_the_nearest_known_one(place, in_file):
    """AGENTWATCH_ERROR_LOOP_TRESHOLD is a mistake; other programs' variables are none of our business."""
    wrong = "AGENTWATCH_ERROR_LOOP_TRESHOLD"
    if in_file:
        env_file(place, f"OTHER=1\n{wrong}=5\n")
    with pytest.raises(SettingsError, match=f"{wrong}: unknown setting") as caught:
        read(place, {} if in_file else {wrong: "5", "AGENT_SMITH": "x"})
    assert caught.value.hint == "the nearest known name is `AGENTWATCH_ERROR_LOOP_THRESHOLD`"


def test_names_that_other_parts_read_are_accepted(place):
    """A run id, a bot's token or a model's key in the environment is not taken for a misspelt setting."""
    names = [*SECRET_NAMES, *(f"{name}_FILE" for name in SECRET_NAMES), "AGENTWATCH_RUN"]
    assert set(read(place, dict.fromkeys(names, "x")).origins.values()) == {"default"}


def test_the_server_that_other_programs_ask_is_not_taken_from_a_file_that_lies_there(place):
    """A project's `.env` has OPENAI_BASE_URL for the project itself: that is no mistake, and nothing of ours goes there."""
    env_file(place, "OPENAI_BASE_URL=http://evil.example/v1\nOPENAI_API_KEY=x\nAGENTWATCH_ASK_MODEL=small\n")
    loaded = read(place)
    assert loaded.settings.ask.base_url == ""
    assert loaded.settings.ask.model == "small"
    assert read(place, {"OPENAI_BASE_URL": "http://mine.example/v1"}).settings.ask.base_url == "http://mine.example/v1"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('[actions]\non_alert = "rm -rf /"\n', id="a command"),
        pytest.param('[[actions]]\ncommand = "rm -rf /"\n', id="a list of commands"),
        pytest.param('[telegram]\nbase_url = "http://evil.example/bot"\n', id="an address of the Bot API"),
        pytest.param('[webhook]\nurl = "http://evil.example"\n', id="an address of a webhook"),
        pytest.param('[ask]\nbase_url = "http://evil.example/v1"\n', id="an address of a model"),
    ],
)
def test_what_runs_commands_or_sends_data_may_not_stand_in_a_file_that_lies_there(place, text):
    """A cloned repository cannot run anything, nor have anything sent to its author."""
    file = nearest_file(place, text)
    with pytest.raises(SettingsError) as caught:
        read(place)
    assert f"`{file}`" in str(caught.value)
    assert "may not stand in a file that merely lies in the directory" in str(caught.value)
    assert "--config" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "name", ["AGENTWATCH_CONFIG", "AGENTWATCH_TELEGRAM_BASE_URL", "AGENTWATCH_TELEGRAM_TOKEN", "AGENTWATCH_WEBHOOK_URL", "AGENTWATCH_ACTIONS_ON_ALERT"]
)
def test_the_env_file_is_no_more_trusted_than_the_nearest_file(place, name):
    """The same holds for a `.env` that came with the repository."""
    env_file(place, f"export {name}='http://evil.example'\n")
    with pytest.raises(SettingsError, match=f"`{name}` may not stand in a file"):
        read(place)


def test_a_trusted_file_is_not_told_that_it_lies_in_the_directory(place):
    """The user's file and `--config` may hold such keys."""
    given = write(place / "given.toml", '[webhook]\nurl = "http://hooks.example"\n')
    user_file(place, "[telegram]\nchats = [17, -100]\n")
    settings = read(place, config=given).settings
    assert settings.webhook.url == "http://hooks.example"
    assert settings.telegram.chats == ("17", "-100")


def test_a_command_stands_under_the_recommendation_that_it_answers(place):
    """Any list in `[actions]` is a command; what is no list there must be a key that is known."""
    user_file(place, '[actions]\ntrigger_ai_autofix = ["fix.sh", "{attempt_id}"]\ntimeout_s = 5\n')
    actions = read(place).settings.actions
    assert (actions.commands, actions.timeout_s) == ({"trigger_ai_autofix": ("fix.sh", "{attempt_id}")}, 5)
    user_file(place, "[actions]\ntimout_s = 5\n")
    with pytest.raises(SettingsError, match=r"unknown key: `actions\.timout_s`") as caught:
        read(place)
    assert caught.value.hint == "the nearest known name is `actions.timeout_s`"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param('[telegram]\nchats = ["@name"]\n', "telegram.chats", id="a name for a chat's id"),
        pytest.param('[telegram]\nquiet = "22-7"\n', "telegram.quiet", id="hours without minutes"),
        pytest.param('[telegram]\nroutes = [{chat = 5, type = ["x"]}]\n', "telegram.routes", id="an unknown name in a route"),
        pytest.param('[telegram]\nbase_url = "ftp://x"\n', "telegram.base_url", id="no web address"),
        pytest.param('[webhook]\nurl = "https://user:pw@hooks.example"\n', "webhook.url", id="a password in an address"),
        pytest.param('[webhook]\nurl = "file:///etc/passwd"\n', "webhook.url", id="a file for an address"),
        pytest.param("[actions]\nfresh_session = []\n", "actions.commands", id="an empty command"),
        pytest.param('[actions]\nfresh_session = "again.sh"\n', "actions.commands", id="a text for a command"),
        pytest.param("[actions]\nfresh_session = [1]\n", "actions.commands", id="a number for a program"),
    ],
)
def test_what_a_channel_cannot_use_is_refused_at_the_start(place, text, complaint):
    """Not when the first alert comes."""
    user_file(place, text)
    with pytest.raises(SettingsError, match=f"`{complaint}`: "):
        read(place)


@pytest.mark.parametrize("key", ["telegram.token", "webhook.secret", "ask.api_key", "logs.password", "openai_api_key", "telegram.bot-token"])
def test_a_secret_in_a_settings_file_is_refused_and_not_shown(place, key):
    """Not even the user's own file may hold one; the message says where it belongs and does not repeat it."""
    section, _, name = key.rpartition(".")
    user_file(place, f'[{section}]\n{name} = "hunter2"\n' if section else f'{name} = "hunter2"\n')
    with pytest.raises(SettingsError, match="is a secret") as caught:
        read(place)
    assert "hunter2" not in f"{caught.value}{caught.value.hint}"
    assert "CREDENTIALS_DIRECTORY" in (caught.value.hint or "")


def test_an_env_file_cannot_quote_the_environment(place, monkeypatch):
    """`${NAME}` in `.env` stays as it is: the process's own environment is nobody's template."""
    monkeypatch.setenv("LEAK", "3")
    env_file(place, "AGENT_ERROR_LOOP_THRESHOLD=${LEAK}\n")
    with pytest.raises(SettingsError, match="LEAK"):
        read(place)


def test_a_folder_called_env_is_somebody_elses(place):
    """`python -m venv .env` is no settings file."""
    (place / "project" / "sub" / ".env").mkdir()
    assert read(place).files == ()


def test_files_written_on_windows_are_read(place):
    """A byte order mark and CRLF are no error, in either kind of file."""
    nearest_file(place, "\ufeff[error_loop]\r\nthreshold = 5\r\n")
    env_file(place, "\ufeffAGENT_TOOL_LOOP_THRESHOLD=6\r\n")
    settings = read(place).settings
    assert (settings.error_loop.threshold, settings.tool_loop.threshold) == (5, 6)


def test_a_file_that_cannot_be_read_is_named(place):
    """A folder in the place of the file, and a `--config` that is not there, end in one line."""
    with pytest.raises(SettingsError, match=r"nowhere.toml`: cannot be read: No such file or directory"):
        read(place, config=Path("nowhere.toml"))
    with pytest.raises(SettingsError, match=r"project`: cannot be read: Is a directory"):
        read(place, config=place / "project")


@given(content=st.binary(max_size=200))
def test_no_file_makes_it_fail_otherwise_than_by_a_settings_error(tmp_path_factory, content):
    """Whatever bytes lie in the directory, the outcome is settings or a message."""
    folder = tmp_path_factory.mktemp("cwd")
    (folder / "agentwatch.toml").write_bytes(content)
    (folder / ".env").write_bytes(content)
    with suppress(SettingsError):
        assert isinstance(load(cwd=folder, environ={}, home=None), Loaded)


@given(
    section=st.sampled_from([*{path.split(".")[0] for path in KEYS}, "telegram", "nowhere"]),
    name=st.sampled_from(["threshold", "dir", "sources", "day", "weekly", "window_s", "url"]),
    value=st.sampled_from(["1", "-0.0", "1e400", "true", '"x"', '"all"', "[]", "[1]", '["a", "b"]', "{a = 1}", "2026-01-01", "12:00:00", "[[1]]", '"\\u0000"']),
)
def test_no_toml_value_makes_it_fail_otherwise_than_by_a_settings_error(tmp_path_factory, section, name, value):
    """Each of TOML's types, under each name: settings or a message."""
    folder = tmp_path_factory.mktemp("cwd")
    (folder / "agentwatch.toml").write_text(f"[{section}]\n{name} = {value}\n")
    with suppress(SettingsError):
        assert isinstance(load(cwd=folder, environ={}, home=None), Loaded)


def test_a_secret_comes_from_the_variable_then_its_file_then_the_credentials(tmp_path):
    """The first of the three places that has it wins; white space around it is dropped."""
    named = write(tmp_path / "named", "from file\n")
    write(tmp_path / "credentials" / "agentwatch-telegram-token", "from credentials\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    name = "AGENTWATCH_TELEGRAM_TOKEN"
    assert secret(name, environ) == "from credentials"
    assert secret(name, environ | {f"{name}_FILE": str(named)}) == "from file"
    assert secret(name, environ | {f"{name}_FILE": str(named), name: " from variable "}) == "from variable"
    assert secret("OPENAI_API_KEY", environ) is None
    assert secret(name, {}) is None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [pytest.param(None, "No such file", id="missing"), pytest.param(b" \n", "empty", id="empty"), pytest.param(b"hunter2\xff", "not UTF-8", id="binary")],
)
def test_a_secret_file_that_cannot_be_used_is_an_error_without_its_content(tmp_path, content, complaint):
    """Going on without a secret that somebody meant to give would look like a rejected password much later."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=complaint) as caught:
        secret("OPENAI_API_KEY", {"OPENAI_API_KEY_FILE": str(path)})
    assert str(path) in str(caught.value)
    assert "hunter2" not in f"{caught.value}{caught.value.hint}"


def test_loading_settings_does_not_load_pydantic(tmp_path):
    """The library's own converter would import it (25 MiB, because the price table needs it); ours does not."""
    program = (
        "import sys; from pathlib import Path; from agentwatch.settings import load; load(cwd=Path(), environ={}, home=None); print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout == "False\n"


OVERRIDES_REFUSED = {
    "an unknown section": ("[executor.CODEX.report]\nday = 1", "`executor.CODEX.report` cannot be set for single attempts"),
    "an unknown key": ("[executor.CODEX.stuck]\nthreshold = 1", "unknown key: `executor.CODEX.stuck.threshold`"),
    "a budget of all attempts": ("[project.'*'.cost]\nusd_per_day = 1", "unknown key: `project.*.cost.usd_per_day`"),
    "a value out of range": ("[executor.CODEX.stuck]\nthreshold_ms = 0", "`stuck.threshold_ms`"),
    "a key in place of a section": ("[executor.CODEX]\nstuck = 1", "`executor.CODEX.stuck` is no table"),
    "no pattern": ("executor = 'CODEX'", "`executor` is no table"),
}


@pytest.mark.parametrize(("text", "said"), OVERRIDES_REFUSED.values(), ids=OVERRIDES_REFUSED.keys())
def test_what_cannot_hold_for_single_attempts_is_refused(tmp_path, text, said):
    """With the file, the name and a way out."""
    (tmp_path / "agentwatch.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(cwd=tmp_path, environ={}, home=None)
    assert said in str(caught.value)
    assert caught.value.hint


def test_settings_may_hold_for_one_executor_or_project(tmp_path):
    """A project's stand above an executor's, and a nearer file's above the user's."""
    user = tmp_path / "home" / ".config" / "agentwatch" / "agentwatch.toml"
    user.parent.mkdir(parents=True)
    user.write_text("[project.'/srv/*'.stuck]\nthreshold_ms = 3\n[executor.CODEX.stuck]\nthreshold_ms = 1")
    (tmp_path / "agentwatch.toml").write_text("[executor.CODEX.stuck]\nthreshold_ms = 2")
    loaded = load(cwd=tmp_path, environ={}, home=tmp_path / "home")
    assert [(one.kind, one.pattern, one.values) for one in loaded.overrides] == [
        ("executor", "CODEX", {"stuck.threshold_ms": 1}),
        ("executor", "CODEX", {"stuck.threshold_ms": 2}),
        ("project", "/srv/*", {"stuck.threshold_ms": 3}),
    ]
