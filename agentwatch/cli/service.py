"""`agentwatch service …`: the daemon and the notifier as services of systemd."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentwatch.cli.common import as_json as json_text
from agentwatch.cli.common import commands, say
from agentwatch.cli.options import AsJson, Config, LogDir, examples, home

if TYPE_CHECKING:
    from agentwatch.apps.service import Place

service_app = typer.Typer(
    name="service",
    help="Keep it running: as services of systemd.",
    rich_markup_mode=None,
    epilog=examples("agentwatch service install --notify", "agentwatch service status", "agentwatch service uninstall"),
)
commands.add_typer(service_app)

System = Annotated[bool, typer.Option("--system/--user", help="Of the system's manager, or of this user's. [default: user]", show_default=False)]
As = Annotated[str | None, typer.Option("--as", metavar="NAME", help="With --system: the user whose agents are watched. [default: who called sudo]")]


@service_app.command(
    epilog=examples(
        "agentwatch service install",
        "agentwatch service install --notify --log-dir ~/project/logs",
        "agentwatch service install --add --log-dir ~/other/logs",
        "sudo agentwatch service install --system --as dev",
        "agentwatch service install --print      the units, and nothing is changed",
    )
)
def install(
    *,
    is_system: System = False,
    owner: As = None,
    log_dir: LogDir = None,
    config: Config = None,
    notify: Annotated[bool, typer.Option("--notify", help="Install the notifier, too.")] = False,
    add: Annotated[
        bool, typer.Option("--add", help="Watch this log directory in addition to the one that is watched, and without the agents' own logs.")
    ] = False,
    only_print: Annotated[bool, typer.Option("--print", help="Print the units; change nothing.")] = False,
) -> int:
    """Write units for systemd, start them, and have them started with the machine.

    The services run with the settings that hold where this is called, in that directory, confined to the log directory. Called again, it writes them anew. Secrets of this
    environment go to files for their owner alone, from which systemd hands them to the notifier.
    """
    from agentwatch import settings
    from agentwatch.apps import service
    from agentwatch.errors import UsageError

    if add and notify:
        raise UsageError("`--add` is for a further log directory alone", hint="call it twice, once with `--notify`")
    place = _place(is_system=is_system, owner=owner)
    directory, whose_home = Path.cwd(), home()
    if place.owner is not None:
        whose_home = Path(place.owner.pw_dir)
        directory = directory if directory.stat().st_uid == place.owner.pw_uid else whose_home
    loaded = settings.load(
        cwd=directory, environ=os.environ, home=whose_home, flags={"logs.dir": log_dir and log_dir.absolute()}, config=config and config.absolute()
    )
    settings.check_directory(loaded)
    if not only_print:
        service.require(place.manager)
    wanted = service.Wanted(loaded.settings.logs.dir, directory, config and config.absolute(), notify, add)
    can_confine = is_system or only_print or service.has_namespaces()
    made = service.plan(place, wanted, loaded, os.environ, version=service.version(), has_namespaces=can_confine)
    for remark in made.remarks:
        say(remark)
    if only_print:
        print(service.shown(made.units.items()), end="")
        for path in made.secrets:
            say(f"{path} would hold a secret of this environment")
        if made.obsolete:
            say(f"would be removed: {', '.join(made.obsolete)}")
        return 0
    service.install(place, made)
    for name in made.obsolete:
        say(f"removed: {place.units / name}")
    for path in (*made.secrets, *made.units):
        say(f"written: {path}")
    say(f"runs, and starts with the machine: {', '.join(made.enabled)}; alerts are in {made.directories[0]}")
    if not is_system and not service.lingers(_user()):
        say("it ends when you log out; `loginctl enable-linger` lets it run on, and start with the machine")
    return 0


@service_app.command(epilog=examples("agentwatch service status", "agentwatch service status --json | jq '.[] | select(.state != \"running\")'"))
def status(*, is_system: System = False, as_json: AsJson = False) -> int:
    """How the services do, in words. Exits 1 when one does not run, or none is installed."""
    from agentwatch.apps import service
    from agentwatch.ui.page import show

    place = _place(is_system=is_system, owner=None)
    found = service.states(place) if service.installed(place) else []
    if as_json:
        print(json_text(found))
    elif found:
        show(service.page(found), sys.stdout)
    else:
        say(f"no units are installed in {place.units}; `agentwatch service install` does it")
    return 0 if found and all(one.state in ("running", "waiting", "reloading") for one in found) else 1


@service_app.command(epilog=examples("agentwatch service uninstall"))
def uninstall(*, is_system: System = False) -> int:
    """Stop the services and take away all that install wrote, secrets included. Logs, alerts and reports stay."""
    from agentwatch.apps import service

    place = _place(is_system=is_system, owner=None)
    if service.installed(place):
        service.require(place.manager)
    gone = service.uninstall(place)
    for path in gone:
        say(f"removed: {path}")
    if not gone:
        say(f"nothing is installed in {place.units}")
    return 0


def _place(*, is_system: bool, owner: str | None) -> "Place":
    from agentwatch.apps.service import place_of

    return place_of("system" if is_system else "user", os.environ, home(), owner)


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name
