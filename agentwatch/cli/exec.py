"""`agentwatch exec`: runs an agent, and records what it says."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agentwatch.cli.common import commands, load, say
from agentwatch.cli.options import Config, LogDir, examples
from agentwatch.core.runs import LATEST, VARIABLE
from agentwatch.errors import UsageError

SETTINGS = {"allow_interspersed_args": False}
"""What follows the command's name is the command's own."""

_DURATION = re.compile(r"(\d{1,7}(?:\.\d{1,3})?)(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class OnAlert(StrEnum):
    """What an alert about the agent leads to."""

    STOP = "stop"
    NONE = "none"


@commands.command(
    "exec",
    context_settings=SETTINGS,
    epilog=examples(
        "agentwatch exec -- claude",
        'agentwatch exec --task T-17 --max-cost 5 --on-alert stop -- codex exec --json "Fix the login redirect"',
        "agentwatch exec --max-idle 10m -- make agent",
    ),
)
def execute(
    command: Annotated[list[str], typer.Argument(metavar="CMD...", help="The agent and its arguments, behind `--`.", show_default=False)],
    *,
    task: Annotated[str | None, typer.Option("--task", metavar="ID", help="The task that it works on.")] = None,
    executor: Annotated[str | None, typer.Option("--executor", metavar="NAME", help="The agent. [default: by the command's name]")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="The run. [env: AGENTWATCH_RUN]")] = None,
    attempt: Annotated[str | None, typer.Option("--attempt", metavar="ID", help="The attempt. [default: a new id]")] = None,
    log_dir: LogDir = None,
    config: Config = None,
    max_cost: Annotated[float | None, typer.Option("--max-cost", min=0, metavar="USD", help="Stop it when it has cost more.")] = None,
    max_idle: Annotated[str | None, typer.Option("--max-idle", metavar="DURATION", help="Stop it when it says nothing for so long: 90s, 10m, 1h.")] = None,
    on_alert: Annotated[OnAlert, typer.Option("--on-alert", help="Whether an alert about it stops it.")] = OnAlert.NONE,
    grace: Annotated[str, typer.Option("--grace", metavar="DURATION", help="How long it has to end after SIGINT, and again after SIGTERM.")] = "5s",
) -> int:
    """Run an agent, and record what it says.

    Its console passes through unchanged; on a terminal it gets a terminal. Events go to the log directory: the text, and what agents say as stream JSON
    (claude -p --output-format stream-json, codex exec --json, gemini --output-format stream-json). The exit code is the agent's own; 128 and the signal if
    one killed it; 1 if it was stopped and says 0; 127 if there is no such command, 126 if it cannot be run.
    """
    from agentwatch.apps.exec import Patience, Runner
    from agentwatch.apps.record import Judging, Recorder, Subject, executor_of, model_of
    from agentwatch.store.runs import latest, resolve

    idle_s, grace_s = _seconds("--max-idle", max_idle), _seconds("--grace", grace)
    loaded = load(log_dir, config, is_agents=True)
    logs = loaded.settings.logs
    if run:
        os.environ[VARIABLE] = str(resolve(logs.dir, run, {}))  # read by our logger, and by those that the agent itself calls
    elif os.environ.get(VARIABLE) == LATEST and (found := latest(logs.dir)) is not None:
        os.environ[VARIABLE] = found  # it may be another by the time at which they are called
    subject = Subject(
        attempt_id=attempt or f"attempt-{os.urandom(6).hex()}",
        place={"log_dir": Path(logs.dir).absolute(), "enabled": logs.logging_enabled},
        executor=executor or executor_of(command),
        task_id=task,
        model=model_of(command),
        is_attended=os.isatty(0) and os.isatty(1),
    )
    stops = on_alert is OnAlert.STOP
    judging = Judging(loaded, max_cost, heeds_alerts=stops) if stops or max_cost is not None else None
    runner = Runner(command, Recorder(subject, judging), Patience(idle_s, grace_s or 0.0), lambda message: say(f"agentwatch: {message}"))
    return runner.run()


def _seconds(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    found = _DURATION.fullmatch(text)
    if not found:
        raise UsageError(f"`{option} {text}` is no duration", hint="give it as in 90s, 10m or 1h")
    return float(found[1]) * _UNITS[found[2]]
