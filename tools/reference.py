"""`make reference`: docs/commands.md, docs/settings.md and the manual page, made of the program itself. Knows no command and no setting by name.

`tests/test_reference.py` holds the files to what this gives.
"""

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import typer.main

from agentwatch import __version__
from agentwatch.cli.main import app
from agentwatch.settings import KEYS, OVERRIDABLE, SECRET_NAMES, TRUSTED_ONLY, Key, Settings

ROOT = Path(__file__).parents[1]
COMMANDS, SETTINGS, MANUAL = ROOT / "docs/commands.md", ROOT / "docs/settings.md", ROOT / "docs/agentwatch.1"


class Parameter(NamedTuple):
    """An option or argument: how it is given, and what it says of itself."""

    usage: str
    help: str


class Page(NamedTuple):
    """A command: its words, how it is called, what it promises, its parameters and its examples as they are shown."""

    name: str
    usage: str
    help: str
    parameters: list[Parameter]
    examples: list[str]


def pages() -> list[Page]:
    """Every command, subcommands behind their group, in the order of the help."""
    command = typer.main.get_command(app)
    return list(_walk(command, typer.Context(command, info_name="agentwatch")))


def _walk(command: Any, context: Any) -> Iterator[Page]:
    names = command.list_commands(context) if hasattr(command, "list_commands") else []
    yield Page(
        context.command_path,
        " ".join([context.command_path, *command.collect_usage_pieces(context)]),
        _text(command.help or ""),
        [_parameter(param, context) for param in command.get_params(context) if param.name != "help" and not getattr(param, "hidden", False)],
        _examples(command.epilog),
    )
    for name in names:
        child = command.get_command(context, name)
        if not child.hidden:
            yield from _walk(child, typer.Context(child, info_name=name, parent=context))


def _parameter(param: Any, context: Any) -> Parameter:
    record = param.get_help_record(context)
    if record is None:
        return Parameter(param.human_readable_name, _text(getattr(param, "help", None) or ""))
    return Parameter(*map(_text, record))


def _text(written: str) -> str:
    paragraphs = re.split(r"\n\s*\n", written.replace("\b\n", "").strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _examples(epilog: str | None) -> list[str]:
    return [line.strip() for line in (epilog or "").replace("\b", "").splitlines() if line.strip() and line.strip() != "Examples:"]


def commands_md() -> str:
    """The commands as Markdown."""
    parts = ["# Commands", "Made of the program's own help by `make reference`; `agentwatch COMMAND --help` says the same."]
    for page in pages():
        parts += [f"## {page.name}" if page.name.count(" ") < 2 else f"### {page.name}", page.help, f"```\n{page.usage}\n```"]
        if page.parameters:
            rows = [f"| `{parameter.usage}` | {_cell(parameter.help)} |" for parameter in page.parameters]
            parts.append("\n".join(["| option | does |", "|---|---|", *rows]))
        if page.examples:
            parts.append("```\n{}\n```".format("\n".join(page.examples)))
    return "\n\n".join(parts) + "\n"


def settings_md() -> str:
    """The settings as Markdown, a table a section."""
    trusted = ", ".join(f"`{name}`" for name in TRUSTED_ONLY)
    parts = [
        "# Settings",
        "Made of the program by `make reference`; `agentwatch doctor` shows the values in force, and where each comes from.",
        (
            "In a file a key stands in its section, as in `[stuck]` and `threshold_ms = 600000`. Where values come from, the later ones winning: the defaults,"
            " `$XDG_CONFIG_HOME/agentwatch/agentwatch.toml`, the nearest `agentwatch.toml` upwards, the file of `--config`, `.env`, the environment, flags."
        ),
        (
            f"{trusted} run commands or send data away: they are taken from the user's file, the file of `--config`, and the environment alone, never from a file that"
            " merely lies in the directory."
        ),
        (
            f"Secrets stand in no file of settings: {', '.join(f'`{name}`' for name in SECRET_NAMES)} come from the environment, from a file that"
            " the same name with `_FILE` names, or from systemd's credentials."
        ),
        f'For one executor or project alone: `[executor.CODEX.stuck]`, `[project."/srv/*".cost]`, with the keys of {", ".join(f"`{name}`" for name in OVERRIDABLE)}.',
    ]
    for field in msgspec.structs.fields(Settings):
        keys = [key for path, key in KEYS.items() if path.partition(".")[0] == field.name]
        rows = [f"| `{key.path.partition('.')[2]}` | {_value(key.default)} | {_cell(key.help)}{_range(key)} | {_names(key)} |" for key in keys]
        parts += [f"## [{field.name}]", field.type.__doc__ or "", "\n".join(["| key | default | means | environment |", "|---|---|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def _names(key: Key) -> str:
    return "<br>".join(f"`{name}`" for name in reversed(key.names))


def _value(default: Any) -> str:
    if isinstance(default, tuple):
        return f"`{','.join(map(str, default))}`" if default else "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, Enum):
        return f"`{default.value}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`" if default not in ("", {}, None) else "none"


def _range(key: Key) -> str:
    found = {bound: getattr(meta, bound) for meta in get_args(key.type)[1:] for bound in ("gt", "ge", "lt", "le") if getattr(meta, bound, None) is not None}
    found = {bound: value for bound, value in found.items() if abs(value) < 10**9}
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    return f" ({', '.join(f'{words[bound]} {value:g}' for bound, value in found.items())})" if found else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def manual() -> str:
    """The manual page, in the man macros: groff -man -Tutf8 docs/agentwatch.1."""
    everything = pages()
    top = everything[0]
    lines = [f'.TH AGENTWATCH 1 "" "agentwatch {__version__}" "User Commands"', ".SH NAME", f"agentwatch \\- {_roff(_title(top.help))}"]
    lines += [".SH SYNOPSIS", ".B agentwatch", r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGS\fR]...", ".SH DESCRIPTION", _roff(top.help), ".SH COMMANDS"]
    for page in everything[1:]:
        lines += [f".SS {_roff(page.name)}", _roff(page.help), ".PP", f"\\fB{_roff(page.usage)}\\fR"]
        for parameter in page.parameters:
            lines += [".TP", f"\\fB{_roff(parameter.usage)}\\fR", _roff(parameter.help) or "\\&"]
    lines += [".SH FILES"]
    for path, meaning in (
        (".cache/agent-work-logs/", "the log directory: what is read, and what is written"),
        (".cache/agent-work-logs/agent-alerts.jsonl", "the alerts, one JSON object a line"),
        ("$XDG_CONFIG_HOME/agentwatch/agentwatch.toml", "the user's settings"),
        ("agentwatch.toml", "the settings of a directory and of what lies below it"),
    ):
        lines += [".TP", f"\\fI{_roff(path)}\\fR", _roff(meaning)]
    lines += [".SH ENVIRONMENT", r"Every setting has a name here: \fBAGENTWATCH_\fISECTION\fB_\fIKEY\fR.", ".PP", _roff(", ".join(KEYS)) + "."]
    lines += [".SH EXIT STATUS", "0 done; 1 the answer is no, or the work failed; 2 wrong usage, settings or rule file; 130 interrupted."]
    return "\n".join(line for line in lines if line) + "\n"


def _title(text: str) -> str:
    return text[0].lower() + text[1:].rstrip(".")


def _roff(text: str) -> str:
    escaped = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text.replace("\\", "\\e").replace("-", "\\-"))
    return "\n.PP\n".join(f"\\&{paragraph}" if paragraph.startswith((".", "'")) else paragraph for paragraph in escaped.split("\n\n"))


FILES = {COMMANDS: commands_md, SETTINGS: settings_md, MANUAL: manual}


def main() -> None:
    for path, content in FILES.items():
        path.write_text(content(), "utf-8")


if __name__ == "__main__":
    main()
