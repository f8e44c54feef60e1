"""Every setting with its unit, range and default, and the layers it may come from. Reads nothing that it is not handed.

Layers, the lowest first: defaults, the user's file, the nearest `agentwatch.toml` upwards, the file named by `--config` or, where
that is not given, by `AGENTWATCH_CONFIG`, `.env`, the environment, flags. A file that merely lies in the directory (the nearest one, `.env`) may not set what runs a command or sends
data away: a cloned repository must not be able to do either. docs/adr/0001-settings-library.md says why no library of settings is used.
"""

import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

import msgspec
from msgspec import Meta

from agentwatch.errors import SettingsError
from agentwatch.model import Severity

FILE_NAME = "agentwatch.toml"
MOST_BYTES = 1 << 20
"""Of a settings file, as of a file of rules: one with every key and its explanation has some 10 kB."""
PREFIX = "AGENTWATCH_"
DEFAULT = "default"
FLAG = "flag"

LONGEST = 1_000_000_000
"""The upper end of every number here: 31 years in seconds, and short of what a `timedelta` or a deque refuses."""

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")


class Logs(msgspec.Struct, frozen=True, kw_only=True):
    """What is read, and where the outcome goes."""

    dir: Annotated[Path, Meta(description="The log directory. A relative path in a file counts from that file, elsewhere from the working directory.")] = Path(
        ".cache/agent-work-logs"
    )
    sources: Annotated[
        tuple[Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]*$")], ...],
        Meta(min_length=1, description="Formats that are watched, separated by commas; `all`, or `none` for the log directory alone."),
    ] = ("all",)
    history_s: Annotated[float, Meta(ge=0, le=LONGEST, description="On the first start, native transcripts older than this are not read.")] = 86_400.0
    max_line_bytes: Annotated[int, Meta(ge=1024, le=LONGEST, description="A line longer than this is skipped and counted.")] = 8 << 20
    enabled: Annotated[bool, Meta(description="Whether logs are analysed at all.")] = True
    logging_enabled: Annotated[bool, Meta(description="Whether the logger writes events.")] = True


class ErrorLoop(msgspec.Struct, frozen=True, kw_only=True):
    """When the same error again and again is an alert."""

    threshold: Annotated[int, Meta(ge=2, le=LONGEST, description="Errors with one fingerprint within the window that make a loop.")] = 4
    window_s: Annotated[float, Meta(gt=0, le=LONGEST, description="How far apart the first and the last of them may be.")] = 600.0


class ToolLoop(msgspec.Struct, frozen=True, kw_only=True):
    """When the same call again and again is an alert."""

    threshold: Annotated[int, Meta(ge=2, le=LONGEST, description="Where only names are logged: calls of one tool within the window that make a loop.")] = 10
    window_s: Annotated[float, Meta(gt=0, le=LONGEST, description="How far apart the first and the last of them may be.")] = 60.0
    repeats: Annotated[
        int, Meta(ge=2, le=LONGEST, description="Where parameters are logged: equal calls in a row, with nothing new coming back, that make a loop.")
    ] = 4


class Stuck(msgspec.Struct, frozen=True, kw_only=True):
    """When silence is an alert."""

    threshold_ms: Annotated[int, Meta(ge=1, le=LONGEST, description="An attempt that owes something and is silent for this long is stuck.")] = 300_000


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """When money is an alert."""

    usd_per_session: Annotated[float, Meta(gt=0, le=LONGEST, description="A session that costs more than this is an anomaly.")] = 1.0
    usd_per_day: Annotated[float, Meta(ge=0, le=LONGEST, description="Budget of a day (UTC) for all attempts together; 0: none.")] = 0.0
    usd_per_project_day: Annotated[float, Meta(ge=0, le=LONGEST, description="Budget of a day (UTC) for each project; 0: none.")] = 0.0
    usd_per_subagent: Annotated[float, Meta(ge=0, le=LONGEST, description="Budget of each sub-agent inside an attempt; 0: none.")] = 0.0


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """When an agent that waits for its user is an alert. It is not stuck: many people do not want to hear of it."""

    after_s: Annotated[float, Meta(ge=0, le=LONGEST, description="Seconds after which it is told that an agent waits for its user; 0: never.")] = 0.0


class ContextWindow(msgspec.Struct, frozen=True, kw_only=True):
    """When a full context window is an alert, where the log tells its size."""

    share: Annotated[float, Meta(ge=0.5, le=1, description="Part of the window that is used.")] = 0.95


class Issues(msgspec.Struct, frozen=True, kw_only=True):
    """When what rules find is an alert."""

    threshold: Annotated[
        int,
        Meta(
            ge=1,
            le=LONGEST,
            description="Occurrences of an issue in one run after which it is told, once; a rule may have a number of its own. What an agent runs into is told by no fewer than a loop of errors takes, and one.",
        ),
    ] = 3


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Which rules are looked for in logs, beside those that are shipped and those in `$XDG_CONFIG_HOME/agentwatch/rules`."""

    dir: Annotated[str, Meta(pattern="^$|^(/|~/)", description="One more directory of rule files: an absolute path, or one that begins with `~/`.")] = ""
    off: Annotated[
        tuple[Annotated[str, Meta(pattern="^[a-z0-9]+(-[a-z0-9]+)*$")], ...],
        Meta(min_length=1, description="Rules, or categories of rules, that are not looked for, separated by commas; `all` or `none`."),
    ] = ("none",)


class Restarts(msgspec.Struct, frozen=True, kw_only=True):
    """When starting over is an alert."""

    threshold: Annotated[int, Meta(ge=1, le=LONGEST, description="Restarts of one attempt or task within the window that are too many.")] = 3
    window_s: Annotated[float, Meta(gt=0, le=LONGEST, description="How far apart the first and the last of them may be.")] = 3600.0


class FailedSession(msgspec.Struct, frozen=True, kw_only=True):
    """When a session's end is an alert."""

    threshold: Annotated[int, Meta(ge=1, le=LONGEST, description="Errors in a session that failed from which on it is worth a look.")] = 4


class Alerts(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as one incident."""

    cooldown_s: Annotated[float, Meta(ge=0, le=LONGEST, description="The same pattern again within this time belongs to the same episode.")] = 600.0
    off: Annotated[
        tuple[Annotated[str, Meta(pattern="^[a-z]+(_[a-z]+)*$")], ...],
        Meta(min_length=1, description="Types of alerts that are not wanted, separated by commas, or `none`."),
    ] = ("none",)


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept."""

    sessions: Annotated[int, Meta(ge=1, le=LONGEST, description="Session files of the logger that are kept.")] = 100
    stream_mb: Annotated[float, Meta(gt=0, le=LONGEST, description="The stream is rotated at this size (1 MB is 1,000,000 bytes).")] = 500.0
    daily: Annotated[bool, Meta(description="Whether a stream of 10 MB and more is rotated each day, too (UTC).")] = True
    errors_days: Annotated[float, Meta(gt=0, le=LONGEST, description="Rotated files of the logger's copies of errors older than this are deleted.")] = 90.0
    archive_days: Annotated[float, Meta(gt=0, le=LONGEST, description="Archives older than this are deleted, but for the metrics.")] = 180.0
    automatic: Annotated[bool, Meta(description="Whether the daemon rotates by itself, once an hour.")] = True


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """When the weekly report is made."""

    weekly: Annotated[bool, Meta(description="Whether it is made at all.")] = True
    day: Annotated[int, Meta(ge=0, le=6, description="Day of the week: 0 (Sunday) to 6, or its English name.")] = 0
    hour: Annotated[int, Meta(ge=0, le=23, description="Hour of that day, local time.")] = 9
    history: Annotated[
        str,
        Meta(description="Where `report --compact` keeps finished days as Parquet: a directory, or s3://BUCKET/PATH. Empty: `history` in the log directory."),
    ] = ""


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    """How long a run's logs are kept."""

    ttl_h: Annotated[
        float, Meta(gt=0, le=LONGEST, description="Hours without a write after which a run's directory is removed, unless it is the latest or in use.")
    ] = 24.0


Quiet = Annotated[str, Meta(pattern=r"^$|^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")]
"""Local times of day between which nothing is sent, as in `22:00-07:00`; empty for none."""

ChatName = Annotated[str, Meta(pattern=r"^-?\d{1,19}(/\d{1,10})?$")]
"""A chat's id, with a slash and a topic's id behind it where the chat has topics."""


class Notify(msgspec.Struct, frozen=True, kw_only=True):
    """When many alerts become one message."""

    storm_per_min: Annotated[int, Meta(ge=1, le=LONGEST, description="Messages a minute and chat; what comes on top becomes one digest.")] = 10
    late_s: Annotated[float, Meta(gt=0, le=LONGEST, description="Alerts that could not be told for so long are told together, in a digest.")] = 600.0
    max_age_h: Annotated[float, Meta(gt=0, le=LONGEST, description="Alerts that are older when their turn comes are only counted.")] = 24.0


class TelegramRoute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one chat, or one topic of a chat, is told. Empty lists mean all."""

    chat: ChatName
    types: tuple[str, ...] = ()
    executors: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    min_severity: Severity | None = None
    quiet: Quiet | None = None


class Telegram(msgspec.Struct, frozen=True, kw_only=True):
    """Which chats are told what, and whose taps and commands are obeyed. The bot's token is a secret and stands elsewhere."""

    chats: Annotated[tuple[ChatName, ...], Meta(description="Chats that are told everything: ids, separated by commas; `ID/TOPIC` for a topic.")] = ()
    users: Annotated[
        tuple[int, ...], Meta(description="Users who are obeyed: ids, separated by commas. The other side of a configured private chat always is.")
    ] = ()
    base_url: Annotated[str, Meta(pattern=r"^$|^https?://", description="A Bot API server of your own, as in `http://127.0.0.1:8081/bot`.")] = ""
    polling: Annotated[bool, Meta(description="Whether taps and commands are fetched. One notifier a bot can do that.")] = True
    min_severity: Annotated[Severity, Meta(description="Alerts below are not sent: low, medium or high.")] = Severity.LOW
    quiet: Annotated[Quiet, Meta(description="Local times between which nothing is sent, as in `22:00-07:00`.")] = ""
    routes: Annotated[
        tuple[TelegramRoute, ...],
        Meta(description="Chats that are told a part: `[[telegram.routes]]` with `chat`, `types`, `executors`, `projects`, `min_severity`, `quiet`."),
    ] = ()


WEB_ADDRESS = r"https?://[^/@?#\s]+([/?#]\S*)?"
"""Where something may be posted to: no user and no password stand in it."""


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Where alerts are posted to. The secret that signs them stands elsewhere."""

    url: Annotated[str, Meta(pattern=rf"^$|^{WEB_ADDRESS}$", description="An address that every alert is posted to, http or https.")] = ""
    min_severity: Annotated[Severity, Meta(description="Alerts below are not posted: low, medium or high.")] = Severity.LOW
    allow_private: Annotated[
        bool, Meta(description="Whether names and callbacks may lead to private addresses. One that `webhook.url` spells out always may.")
    ] = False
    timeout_s: Annotated[float, Meta(gt=0, le=600, description="How long one request may take, answer included.")] = 15.0
    give_up_h: Annotated[float, Meta(gt=0, le=LONGEST, description="After so long of trying an alert goes to the dead-letter file.")] = 48.0


class Apprise(msgspec.Struct, frozen=True, kw_only=True):
    """What the channels in AGENTWATCH_APPRISE_URLS are told; these addresses hold secrets and stand elsewhere."""

    min_severity: Annotated[Severity, Meta(description="Alerts below are not sent: low, medium or high.")] = Severity.LOW
    quiet: Annotated[Quiet, Meta(description="Local times between which nothing is sent, as in `22:00-07:00`.")] = ""


class Actions(msgspec.Struct, frozen=True, kw_only=True):
    """Which command answers which alert. Any other key of this section that holds a list is a command too."""

    commands: Annotated[
        dict[str, Annotated[tuple[str, ...], Meta(min_length=1)]],
        Meta(description='Commands by recommendation or type of an alert, as in `trigger_ai_autofix = ["fix.sh", "{attempt_id}"]`.'),
    ] = msgspec.field(default_factory=dict)
    automatic: Annotated[bool, Meta(description="Whether they run by themselves, or only when somebody taps the button.")] = True
    dry_run: Annotated[bool, Meta(description="Whether they are only written down, and not run.")] = False
    timeout_s: Annotated[float, Meta(gt=0, le=LONGEST, description="A command that takes longer is ended.")] = 600.0
    at_once: Annotated[int, Meta(ge=1, le=64, description="How many commands may run at the same time.")] = 1
    cooldown_s: Annotated[float, Meta(ge=0, le=LONGEST, description="How long an attempt is left alone by itself after a command was run for it.")] = 900.0


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers questions about the logs, and what that may take. The key is a secret and stands elsewhere (`OPENAI_API_KEY`)."""

    # Any text: other programs have this name in the environment too, and a daemon that asks nobody is not to refuse what they have there.
    base_url: Annotated[str, Meta(description="An OpenAI-compatible server, as in `http://127.0.0.1:11434/v1`; empty for OpenAI's.")] = ""
    model: Annotated[str, Meta(min_length=1, max_length=200, description="The model that is asked, by the server's name for it.")] = "gpt-5.4-mini"
    context_tokens: Annotated[int, Meta(ge=1000, le=LONGEST, description="Tokens of a question with all that is sent with it.")] = 7000
    answer_tokens: Annotated[int, Meta(ge=100, le=LONGEST, description="Tokens of an answer, those of its reasoning included.")] = 1500
    budget_tokens: Annotated[int, Meta(ge=0, le=LONGEST, description="Tokens of all questions about a run; about no run: of a day (UTC).")] = 10_000
    timeout_s: Annotated[float, Meta(gt=0, le=600, description="How long a model may take to answer.")] = 30.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, by section. Every value has passed its range."""

    logs: Logs = Logs()
    error_loop: ErrorLoop = ErrorLoop()
    tool_loop: ToolLoop = ToolLoop()
    stuck: Stuck = Stuck()
    cost: Cost = Cost()
    waiting: Waiting = Waiting()
    context: ContextWindow = ContextWindow()
    restarts: Restarts = Restarts()
    failed_session: FailedSession = FailedSession()
    issues: Issues = Issues()
    rules: Rules = Rules()
    alerts: Alerts = Alerts()
    retention: Retention = Retention()
    report: Report = Report()
    runs: Runs = Runs()
    notify: Notify = Notify()
    telegram: Telegram = Telegram()
    webhook: Webhook = Webhook()
    apprise: Apprise = Apprise()
    actions: Actions = Actions()
    ask: Ask = Ask()

    def value(self, path: str) -> Any:
        """The value of `section.key`."""
        section, _, name = path.partition(".")
        return getattr(getattr(self, section), name)

    def with_value(self, path: str, value: Any) -> "Settings":
        """The same with another value of `section.key`."""
        section, _, name = path.partition(".")
        return msgspec.structs.replace(self, **{section: msgspec.structs.replace(getattr(self, section), **{name: value})})


class Key(msgspec.Struct, frozen=True):
    """One setting as documentation and `doctor` need it. `names` are its environment names; where several are set the last wins."""

    path: str
    help: str
    default: Any
    names: tuple[str, ...]
    type: Any


class Override(msgspec.Struct, frozen=True):
    """What holds for the attempts of one executor or project alone: `values` by `section.key`. `pattern` is a shell's."""

    kind: str
    pattern: str
    values: dict[str, Any]
    origin: str


class Loaded(msgspec.Struct, frozen=True):
    """The settings, where each value came from (by `section.key`), and the files that were read, the lowest layer first.

    `overrides` are in the order in which they take effect: later ones above earlier ones.
    """

    settings: Settings
    origins: dict[str, str]
    files: tuple[Path, ...]
    overrides: tuple[Override, ...] = ()

    def explicit(self, path: str) -> bool:
        """Whether somebody set `section.key`, be it to its default."""
        return self.origins[path] != DEFAULT


OLDER_NAMES = {
    "AGENT_WORK_LOG_DIR": "logs.dir",
    "AGENTWATCH_SOURCES": "logs.sources",
    "AGENT_WORK_ANALYZER_ENABLED": "logs.enabled",
    "AGENT_WORK_LOGGING_ENABLED": "logs.logging_enabled",
    "AGENT_ERROR_LOOP_THRESHOLD": "error_loop.threshold",
    "AGENT_TOOL_LOOP_THRESHOLD": "tool_loop.threshold",
    "AGENT_STUCK_THRESHOLD_MS": "stuck.threshold_ms",
    "AGENT_COST_ANOMALY_THRESHOLD": "cost.usd_per_session",
    "AGENT_SESSION_LOG_RETENTION": "retention.sessions",
    "AGENT_WORK_LOG_MAX_SIZE_MB": "retention.stream_mb",
    "AGENT_ANALYTICS_WEEKLY_REPORT": "report.weekly",
    "AGENT_ANALYTICS_REPORT_DAY": "report.day",
    "AGENT_ANALYTICS_REPORT_HOUR": "report.hour",
    "OPENAI_BASE_URL": "ask.base_url",
}
"""Names from before there were sections, and those that other programs read too. They go on working; the name made of section and key wins where both are set."""

SECRET_NAMES = ("AGENTWATCH_TELEGRAM_TOKEN", "AGENTWATCH_WEBHOOK_SECRET", "AGENTWATCH_APPRISE_URLS", "OPENAI_API_KEY")

CONFIG_NAME = f"{PREFIX}CONFIG"
"""Names a settings file as `--config` does, for a program that starts this one and can only set its environment."""

RESERVED_NAMES = frozenset(
    {
        CONFIG_NAME,
        *SECRET_NAMES,
        *(f"{name}_FILE" for name in SECRET_NAMES),
        "AGENTWATCH_RUN",
    }
)
"""Names that are read for themselves, by this file and the logger: no settings, yet not misspelt."""

# A chat id or a bot's token decides where data goes as much as an address does, and a user id who is obeyed.
TRUSTED_ONLY = ("actions", "apprise", "rules.dir", "telegram", "webhook", "ask.base_url", "report.history")
"""Sections and keys that run a command or send data away, or say where such may be asked for (a rule's recommendation may name a command): taken from the user's file, `--config` and the environment alone."""

_WHERE_TRUSTED = "set it in the environment, in `$XDG_CONFIG_HOME/agentwatch/agentwatch.toml`, or in a file given by `--config FILE`"
_WHERE_SAFE = "secrets come from the environment, from a file named by `…_FILE`, or from systemd's `$CREDENTIALS_DIRECTORY`"
_SECRET_KEY = re.compile(r"(^|[._-])(token|secret|api_?key|password)s?$", re.IGNORECASE)


def _environment_name(path: str) -> str:
    return PREFIX + path.upper().replace(".", "_")


def _help(annotated: object) -> str:
    description: str = next(meta.description for meta in get_args(annotated)[1:] if meta.description)
    return description


_SECTIONS: dict[str, type[msgspec.Struct]] = {field.name: field.type for field in msgspec.structs.fields(Settings)}

KEYS = {
    path: Key(
        path,
        _help(field.type),
        {} if field.default is msgspec.NODEFAULT else field.default,
        (*(old for old, new in OLDER_NAMES.items() if new == path), _environment_name(path)),
        field.type,
    )
    for section, cls in _SECTIONS.items()
    for field in msgspec.structs.fields(cls)
    for path in [f"{section}.{field.name}"]
}
"""All settings by `section.key`, in the order of the documentation."""

OVERRIDES = ("executor", "project")
"""Tables of settings that hold for some attempts alone: `[executor.CODEX.stuck]`, `[project."/srv/*".cost]`."""

OVERRIDABLE = ("error_loop", "tool_loop", "stuck", "cost", "waiting", "context", "restarts", "failed_session", "alerts")
"""Sections that are about single attempts. Budgets of a day are of all of them."""

_PATTERN = re.compile(r"Expected `str` matching regex '.*'(?= - at `|$)")
"""What msgspec says of a text that is none of ours: the hint says it in words."""

_NEVER_OVERRIDDEN = frozenset({"cost.usd_per_day", "cost.usd_per_project_day"})

_NAMES = frozenset(name for key in KEYS.values() for name in key.names)


class Given(NamedTuple):
    """A value as a layer has it: from where, and the directory that a relative path counts from."""

    value: Any
    origin: str
    base: Path


Layer = dict[str, Given]
"""What one place sets, by `section.key`."""


def load(*, cwd: Path, environ: Mapping[str, str], home: Path | None, flags: Mapping[str, object] | None = None, config: Path | None = None) -> Loaded:
    """Put together the settings in force for a process in `cwd` with this environment.

    `home` is None where the user has none (a systemd unit with DynamicUser). `flags` maps `section.key` to what the command line
    said; None there means not said. An environment variable that is empty counts as not set, as does one in `.env`.

    Raises SettingsError for a key that is unknown, out of range, or stands where it may not, and for a file that cannot be read.
    """
    cwd = cwd.absolute()
    files = _files(cwd, environ, home, config)
    layers: list[Layer] = [{key.path: Given(key.default, DEFAULT, cwd) for key in KEYS.values()}]
    tables = [_toml_layer(path, is_trusted=is_trusted) for path, is_trusted in files]
    layers += [layer for layer, _ in tables]
    env_file = cwd / ".env"
    # A folder of this name is somebody's virtual environment.
    if env_file.is_file():
        values = _env_values(env_file)
        _refuse_untrusted(values, env_file)
        layers.append(_name_layer(_without_shared(values), f"`{env_file}` ", cwd))
        files.append((env_file, False))
    layers.append(_name_layer(environ, "environment ", cwd))
    layers.append({path: Given(value, FLAG, cwd) for path, value in (flags or {}).items() if value is not None})

    values_by_section: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    merged = ChainMap(*reversed(layers))
    for path, key in KEYS.items():
        section, _, name = path.partition(".")
        values_by_section[section][name] = _value(key, merged[path], home)
    sections: dict[str, Any] = {section: cls(**values_by_section[section]) for section, cls in _SECTIONS.items()}
    return Loaded(
        settings=Settings(**sections),
        origins={path: merged[path].origin for path in KEYS},
        files=tuple(path for path, _ in files),
        overrides=tuple(sorted((one for _, found in tables for one in found), key=lambda one: OVERRIDES.index(one.kind))),
    )


def secret(name: str, environ: Mapping[str, str]) -> str | None:
    """Fetch the secret called `name` from the variable itself, the file that `name`_FILE names, or systemd's credentials directory.

    There its file is called like the variable, in lower case with dashes. White space around the secret is dropped; None when it
    is nowhere. Raises SettingsError, which never shows the content, when the file is named or there and cannot be used.
    """
    if value := environ.get(name, "").strip():
        return value
    if named := environ.get(f"{name}_FILE"):
        return _secret_file(Path(named), f"{name}_FILE")
    if credentials := environ.get("CREDENTIALS_DIRECTORY"):
        path = Path(credentials, name.lower().replace("_", "-"))
        if _is_there(path):
            return _secret_file(path, "CREDENTIALS_DIRECTORY")
    return None


def _secret_file(path: Path, variable: str) -> str:
    hint = f"{variable} leads to a file that this user may read and that holds the secret and nothing else"
    try:
        value = path.read_text("utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{variable}, `{path}`: cannot be read: {error.strerror}", hint=hint) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{variable}, `{path}`: not UTF-8 text", hint=hint) from None
    if not value:
        raise SettingsError(f"{variable}, `{path}`: empty", hint=hint)
    return value


def _files(cwd: Path, environ: Mapping[str, str], home: Path | None, config: Path | None) -> list[tuple[Path, bool]]:
    """Find the settings files, the lowest layer first, and whether each is trusted. One that is found twice is read once, as trusted."""
    given = cwd / config if config else _named_file(cwd, environ, home)
    user = _user_file(environ, home)
    nearest = _nearest_file(cwd)
    if nearest and any(_is_there(path) and nearest.samefile(path) for path in (user, given) if path):
        nearest = None
    for found in (user, nearest):
        # Who names a pipe wants it read; one that is found in the way would be waited for without end.
        if found and not found.is_file():
            raise SettingsError(f"`{found}`: no regular file", hint="move it away: settings are read from what has this name")
    return [(path, is_trusted) for path, is_trusted in ((user, True), (nearest, False), (given, True)) if path]


def _named_file(cwd: Path, environ: Mapping[str, str], home: Path | None) -> Path | None:
    name = environ.get(CONFIG_NAME)
    if not name:
        return None
    path = _path_of(name, cwd, home)
    if not _is_there(path):
        raise SettingsError(f"environment {CONFIG_NAME}: there is no file `{path}`", hint=f"name a settings file, or unset {CONFIG_NAME}")
    return path


def _user_file(environ: Mapping[str, str], home: Path | None) -> Path | None:
    folder = Path(environ.get("XDG_CONFIG_HOME", ""))
    # The XDG specification has a relative path ignored.
    if not folder.is_absolute():
        if home is None:
            return None
        folder = home / ".config"
    path = folder / "agentwatch" / FILE_NAME
    return path if _is_there(path) else None


def _nearest_file(cwd: Path) -> Path | None:
    # A parent that this user may not look into ends the search.
    with suppress(PermissionError):
        return next((path for folder in (cwd, *cwd.parents) if (path := folder / FILE_NAME).exists()), None)
    return None


def _is_there(path: Path) -> bool:
    # With somebody else's HOME (sudo -E), `exists` raises for a folder that this user may not look into.
    with suppress(PermissionError):
        return path.exists()
    return False


def _text(path: Path, errors: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"`{path}`: cannot be read: {error.strerror}", hint="mend its permissions, or take it away") from None
    if len(data) > MOST_BYTES:
        raise SettingsError(f"`{path}`: more than {MOST_BYTES:,} bytes, which no settings have", hint="name another file, or move this one away")
    # Editors on Windows begin a file with a byte order mark.
    return data.decode("utf-8-sig", errors)


def _toml_layer(path: Path, *, is_trusted: bool) -> tuple[Layer, list[Override]]:
    import tomllib  # noqa: PLC0415  # 5 ms, for those who have such a file

    try:
        data = tomllib.loads(_text(path, "strict"))
    # Numbers of thousands of digits are a plain ValueError.
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"`{path}`: not TOML: {error}", hint="texts need quotes; sections stand in square brackets") from None
    overrides = [one for kind in OVERRIDES for one in _overrides(kind, data.pop(kind, {}), path)]
    layer: Layer = {}
    for section, keys in data.items():
        names = [f"{section}.{name}" for name in keys] if isinstance(keys, dict) else []
        for name in names or [section]:
            _check_trust(name, path, is_trusted=is_trusted)
        if section == "actions" and isinstance(keys, dict):
            names = [f"{section}.{name}" for name in _with_commands(keys)]
        for name in names or [section]:
            _check_key(name, path)
        if not isinstance(keys, dict):
            raise SettingsError(f"`{path}`: `{section}` is a section, not a key: {keys!r:.100}", hint=f"begin it with a line `[{section}]`")
        layer |= {f"{section}.{name}": Given(value, f"`{path}`", path.parent) for name, value in keys.items()}
    return layer, overrides


def _overrides(kind: str, table: object, file: Path) -> Iterator[Override]:
    """What a file sets for single executors or projects: by pattern, section and key."""
    example = f"write it as `[{kind}.PATTERN.stuck]`, with its keys below"
    for pattern, sections in _items(table, f"`{file}`: `{kind}`", example):
        values: dict[str, Any] = {}
        for section, keys in _items(sections, f"`{file}`: `{kind}.{pattern}`", example):
            if section not in OVERRIDABLE:
                raise SettingsError(
                    f"`{file}`: `{kind}.{pattern}.{section}` cannot be set for single attempts", hint=f"those that can are {', '.join(OVERRIDABLE)}"
                )
            for name, value in _items(keys, f"`{file}`: `{kind}.{pattern}.{section}`", example):
                path = f"{section}.{name}"
                if path not in KEYS or path in _NEVER_OVERRIDDEN:
                    near = _nearest_name(path, (key for key in KEYS if key.startswith(f"{section}.") and key not in _NEVER_OVERRIDDEN))
                    raise SettingsError(f"`{file}`: unknown key: `{kind}.{pattern}.{path}`", hint=near)
                values[path] = _value(KEYS[path], Given(value, f"`{file}`", file.parent), None)
        yield Override(kind, pattern, values, f"`{file}`")


def _items(table: object, what: str, hint: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(table, dict):
        raise SettingsError(f"{what} is no table: {table!r:.100}", hint=hint)
    return table.items()


def _check_trust(path: str, file: Path, *, is_trusted: bool) -> None:
    if path not in KEYS and path not in _SECTIONS and _SECRET_KEY.search(path):
        raise SettingsError(f"`{file}`: `{path}` is a secret and may not stand in a settings file", hint=_WHERE_SAFE)
    if not is_trusted and _is_reserved(path):
        raise SettingsError(f"`{file}`: `{path}` may not stand in a file that merely lies in the directory", hint=_WHERE_TRUSTED)


def _is_reserved(path: str) -> bool:
    """Whether `section.key`, or a whole section, is one of those that only trusted places may set."""
    return any(f"{path}.".startswith(f"{reserved}.") for reserved in TRUSTED_ONLY)


def _with_commands(keys: dict[str, Any]) -> dict[str, Any]:
    """The section `[actions]`, with each list that stands there under a recommendation or type moved to where commands are.

    A text too: whoever writes a command as one is told that it is a list.
    """
    names = [name for name, value in keys.items() if isinstance(value, list | str) and f"actions.{name}" not in KEYS]
    commands = {name: keys.pop(name) for name in names}
    if commands:
        keys["commands"] = {**keys.get("commands", {}), **commands}
    return keys


def _check_key(path: str, file: Path) -> None:
    section = path.partition(".")[0]
    if path in KEYS or path in _SECTIONS:
        return
    if section in _SECTIONS:
        raise SettingsError(f"`{file}`: unknown key: `{path}`", hint=_nearest_name(path, KEYS))
    raise SettingsError(f"`{file}`: unknown section: `{section}`", hint=_nearest_name(section, _SECTIONS))


def _nearest_name(name: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415  # 3 ms, for those who misspelt something

    return f"the nearest known name is `{difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]}`"


def _env_values(path: Path) -> dict[str, str]:
    import dotenv  # noqa: PLC0415  # 10 ms, for those who have such a file

    # Most of the file is other programs' business: bytes that are not UTF-8 there are no error of ours. Interpolation would let it
    # quote this process's environment.
    values = dotenv.dotenv_values(stream=StringIO(_text(path, "replace")), interpolate=False)
    return {name: value for name, value in values.items() if value}


def _refuse_untrusted(names: Iterable[str], file: Path) -> None:
    for name in names:
        if name == CONFIG_NAME or any(f"{name}_".startswith(f"{_environment_name(reserved)}_") for reserved in TRUSTED_ONLY):
            raise SettingsError(f"`{file}`: `{name}` may not stand in a file that merely lies in the directory", hint=_WHERE_TRUSTED)


def _without_shared(values: Mapping[str, str]) -> dict[str, str]:
    """Without the names that lead to trusted settings and are not ours alone: other programs have them in such a file with every right."""
    return {name: value for name, value in values.items() if name.startswith(PREFIX) or not _is_reserved(OLDER_NAMES.get(name, ""))}


def _name_layer(values: Mapping[str, str], where: str, base: Path) -> Layer:
    """What variables set; the origin of a value is its variable."""
    for name, value in values.items():
        if value and name.startswith(PREFIX) and name not in _NAMES and name not in RESERVED_NAMES:
            raise SettingsError(f"{where}{name}: unknown setting", hint=_nearest_name(name, _NAMES | RESERVED_NAMES))
    return {key.path: Given(text, where + name, base) for key in KEYS.values() for name in key.names if (text := values.get(name))}


def _value(key: Key, given: Given, home: Path | None) -> object:
    """Bring a value into its type and range."""
    value, origin, base = given
    try:
        if isinstance(key.default, Path):
            return _path_of(value, base, home)
        return msgspec.convert(_READERS.get(key.path, _as_is)(value), key.type, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        text = _PATTERN.sub("not of the form that is asked for", str(error))
        raise SettingsError(f"{origin}, `{key.path}`: {text[0].lower()}{text[1:]}: {value!r:.100}", hint=key.help) from None


def _path_of(value: Any, base: Path, home: Path | None) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("expected a path")
    path = Path(value)
    if home and path.parts[:1] == ("~",):
        return home.joinpath(*path.parts[1:])
    return base / path


def check_directory(loaded: Loaded) -> None:
    """Raises SettingsError where the log directory cannot be one, because something else has its name or that of one above."""
    path = loaded.settings.logs.dir
    with suppress(OSError):  # what may not be looked at is told by who needs it
        blocked = next(one for one in (path, *path.parents) if one.exists())
        if not blocked.is_dir():
            raise SettingsError(f"{loaded.origins['logs.dir']}, `logs.dir`: `{blocked}` is no directory", hint="choose another with `--log-dir DIR`")


_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _as_is(value: Any) -> Any:
    return value


def _truth(value: Any) -> bool:
    truth = _TRUTHS.get(str(value).lower())
    if truth is None:
        raise ValueError("expected true or false (or yes, no, on, off, 1, 0)")
    return truth


def _names(value: Any) -> Any:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if isinstance(names, list | tuple) and len(names) > 1 and not {"all", "none"}.isdisjoint(names):
        raise ValueError("expected `all` or `none` to stand alone")
    return names


def _weekday(value: Any) -> Any:
    if not isinstance(value, str) or not value.isalpha():
        return value
    for number, name in enumerate(WEEKDAYS):
        if len(value) >= 3 and name.startswith(value.lower()):
            return number
    raise ValueError("expected a day of the week")


def _ids(value: Any) -> Any:
    """Numbers or texts, in a list or separated by commas."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    return [str(part).strip() for part in parts if str(part).strip()]


def _routes(value: Any) -> Any:
    rows = _json(value)
    return (
        [{**row, "chat": str(row["chat"])} if isinstance(row, dict) and isinstance(row.get("chat"), int) else row for row in rows]
        if isinstance(rows, list)
        else rows
    )


def _json(value: Any) -> Any:
    """What an environment variable holds for a key that is no single value."""
    return msgspec.json.decode(value) if isinstance(value, str) else value


_READERS: dict[str, Callable[[Any], Any]] = {
    "logs.sources": _names,
    "alerts.off": _names,
    "rules.off": _names,
    "report.day": _weekday,
    "telegram.chats": _ids,
    "telegram.users": _ids,
    "telegram.routes": _routes,
    "actions.commands": _json,
    **{key.path: _truth for key in KEYS.values() if isinstance(key.default, bool)},
}
