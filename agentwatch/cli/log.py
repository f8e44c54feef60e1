"""`agentwatch log …`: the logger for shells. One call writes one event; what it is about is read from the attempt's own file."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentwatch.cli.common import commands, load
from agentwatch.cli.options import Config, LogDir, examples
from agentwatch.errors import UsageError

if TYPE_CHECKING:
    from agentwatch.logger import AgentLogger

log_app = typer.Typer(
    name="log",
    help="Write events of an attempt, for shells and other orchestrators.",
    rich_markup_mode=None,
    epilog=examples(
        "id=$(agentwatch log start --task T-17 --executor codex)",
        'agentwatch log tool --attempt "$id" Bash --params \'{"command": "make"}\'',
        'agentwatch log error --attempt "$id" "git push failed"',
        'agentwatch log end --attempt "$id" success',
    ),
)
commands.add_typer(log_app)

Attempt = Annotated[str, typer.Option("--attempt", metavar="ID", help="The attempt that the event belongs to.")]
Lane = Annotated[str | None, typer.Option("--lane", metavar="ID", help="The sub-agent inside the attempt.")]
Run = Annotated[str | None, typer.Option("--run", metavar="ID", help="The run. [env: AGENTWATCH_RUN]")]
Text = Annotated[str, typer.Argument(metavar="TEXT", help="The text, or `-` to read it from standard input.", show_default=False)]

COMPLETIONS = ("success", "failed", "timeout", "interrupted")
NOT_WAITING = frozenset({"auth_success", "elicitation_complete", "elicitation_response"})
"""Notifications of Claude Code that ask nothing of the user; every other one does."""


@log_app.command(epilog=examples("agentwatch log start --attempt a-17 --task T-17 --executor codex", "git log -1 | agentwatch log start --prompt -"))
def start(
    *,
    attempt: Annotated[str | None, typer.Option("--attempt", metavar="ID", help="The attempt. [default: a new id]")] = None,
    task: Annotated[str | None, typer.Option("--task", metavar="ID")] = None,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="The task in a few words.")] = None,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT")] = None,
    project: Annotated[str | None, typer.Option("--project", metavar="ID")] = None,
    executor: Annotated[str | None, typer.Option("--executor", metavar="NAME", help="The agent: codex, claude, …")] = None,
    variant: Annotated[str | None, typer.Option("--variant", metavar="NAME", help="Which kind of it.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME")] = None,
    branch: Annotated[str | None, typer.Option("--branch", metavar="NAME")] = None,
    base_branch: Annotated[str | None, typer.Option("--base-branch", metavar="NAME")] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="ID")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="What the agent was asked, or `-` for standard input.")] = None,
    prompt_type: Annotated[str, typer.Option("--prompt-type", metavar="TYPE", help="initial, followup or retry.")] = "initial",
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why it was asked again.")] = None,
    run: Run = None,
    log_dir: LogDir = None,
    config: Config = None,
) -> int:
    """A session begins.

    Prints the attempt's id, for the calls that follow.
    """
    from agentwatch.logger import AgentLogger

    logger = AgentLogger(
        attempt,
        **_place(log_dir, config, run),
        task_id=task,
        task_title=title,
        task_description=description,
        project_id=project,
        executor=executor,
        executor_variant=variant,
        model=model,
        branch=branch,
        base_branch=base_branch,
        session_id=session,
    )
    logger.start(_text(prompt) if prompt is not None else None, prompt_type=prompt_type, followup_reason=reason)
    print(logger.attempt_id)
    return _code(logger)


@log_app.command(
    epilog=examples(
        'agentwatch log event --attempt a-17 agent_output --data \'{"output": "done"}\'',
        "make 2>&1 | agentwatch log event --attempt a-17 agent_output --text -",
    )
)
def event(
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="Its type: agent_output, usage, turn_end, …", show_default=False)],
    *,
    attempt: Attempt,
    data: Annotated[str | None, typer.Option("--data", metavar="JSON", help="Its data, or `-` to read them from standard input.")] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="TEXT", help="The text of an output, a thought or a message, or `-`.")] = None,
    lane: Lane = None,
    run: Run = None,
    log_dir: LogDir = None,
    config: Config = None,
) -> int:
    """Any event."""
    told = _object("--data", data)
    if text is not None:
        told["thinking" if kind == "agent_thinking" else "output"] = _text(text)
    return _write(attempt, lane, run, log_dir, config, lambda logger: logger.event(kind, **told))


@log_app.command(
    epilog=examples(
        'agentwatch log tool --attempt a-17 Bash --params \'{"command": "make"}\'',
        "agentwatch log tool --attempt a-17 Bash --call ID --exit-code 2",
    )
)
def tool(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tool.", show_default=False)],
    *,
    attempt: Attempt,
    params: Annotated[str | None, typer.Option("--params", metavar="JSON", help="What it is called with.")] = None,
    call: Annotated[str | None, typer.Option("--call", metavar="ID", help="The call that the result belongs to.")] = None,
    result: Annotated[str | None, typer.Option("--result", metavar="TEXT", help="What came back, or `-` for standard input.")] = None,
    exit_code: Annotated[int | None, typer.Option("--exit-code", metavar="N")] = None,
    is_error: Annotated[bool, typer.Option("--error", help="The call failed.")] = False,
    lane: Lane = None,
    run: Run = None,
    log_dir: LogDir = None,
    config: Config = None,
) -> int:
    """A tool is called, or has answered.

    Without a result the call is logged and its id printed; with --result, --exit-code or --error the result is, and the call too if --call does not say which one it belongs to.
    """
    has_result = result is not None or exit_code is not None or is_error
    told = _json_value("--params", params)
    answer = _text(result) if result is not None else None

    def write(logger: "AgentLogger") -> None:
        call_id = call if call is not None and has_result else logger.tool_call(name, told, tool_call_id=call)
        if has_result:
            logger.tool_result(name, answer, tool_call_id=call_id, exit_code=exit_code, is_error=is_error or None)
        else:
            print(call_id)

    return _write(attempt, lane, run, log_dir, config, write)


@log_app.command(
    epilog=examples('agentwatch log error --attempt a-17 "git push failed" --fingerprint git_push', "agentwatch log error --attempt a-17 - < stderr.txt")
)
def error(
    message: Text,
    *,
    attempt: Attempt,
    fingerprint: Annotated[str | None, typer.Option("--fingerprint", metavar="NAME", help="What makes it the same error. [default: from the text]")] = None,
    category: Annotated[str | None, typer.Option("--category", metavar="NAME", help="Its kind. [default: from the text]")] = None,
    stack: Annotated[str | None, typer.Option("--stack", metavar="TEXT", help="Its stack trace.")] = None,
    lane: Lane = None,
    run: Run = None,
    log_dir: LogDir = None,
    config: Config = None,
) -> int:
    """Something failed."""
    text = _text(message)
    return _write(attempt, lane, run, log_dir, config, lambda logger: logger.error(text, fingerprint=fingerprint, category=category, stack_trace=stack))


@log_app.command(epilog=examples('agentwatch log followup --attempt a-17 "The tests fail" --reason ci'))
def followup(
    message: Text,
    *,
    attempt: Attempt,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT")] = None,
    lane: Lane = None,
    run: Run = None,
    log_dir: LogDir = None,
    config: Config = None,
) -> int:
    """The agent was sent another message."""
    text = _text(message)
    return _write(attempt, lane, run, log_dir, config, lambda logger: logger.followup(text, reason=reason))


@log_app.command(epilog=examples("agentwatch log status --attempt a-17 review --old running"))
def status(
    new: Annotated[str, typer.Argument(metavar="STATUS", show_default=False)],
    *,
    attempt: Attempt,
    old: Annotated[str | None, typer.Option("--old", metavar="STATUS")] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT")] = None,
    run: Run = None,
    log_dir: LogDir = None,
    config: Config = None,
) -> int:
    """The attempt is in another state."""
    return _write(attempt, None, run, log_dir, config, lambda logger: logger.status_change(new, old, reason=reason))


@log_app.command(epilog=examples("agentwatch log end --attempt a-17 success", "agentwatch log end --attempt a-17 failed --tokens 81000 --cost 0.42"))
def end(
    completion: Annotated[str, typer.Argument(metavar="STATUS", help="success, failed, timeout or interrupted.")] = "success",
    *,
    attempt: Attempt,
    tokens: Annotated[int | None, typer.Option("--tokens", metavar="N", min=0, help="Of the whole session. [default: the sum of what was logged]")] = None,
    cost: Annotated[float | None, typer.Option("--cost", metavar="USD", min=0, help="Of the whole session. [default: the sum of what was logged]")] = None,
    outcome: Annotated[str | None, typer.Option("--outcome", metavar="JSON", help="status, pr_created, pr_number, …")] = None,
    run: Run = None,
    log_dir: LogDir = None,
    config: Config = None,
) -> int:
    """The session is over."""
    if completion not in COMPLETIONS:
        raise UsageError(f"`{completion}` is no way to end", hint=f"it is one of {', '.join(COMPLETIONS)}")
    came_of_it = _object("--outcome", outcome) or None
    return _write(attempt, None, run, log_dir, config, lambda logger: logger.end(completion, total_tokens=tokens, cost_usd=cost, outcome=came_of_it))


@log_app.command(epilog=examples("agentwatch hooks print claude-code    prints the settings that call this"))
def hook(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="claude-code.", show_default=False)],
    *,
    log_dir: LogDir = None,
    config: Config = None,
) -> int:
    """What an agent's own hook says on standard input.

    A session that waits for its user is logged as turn_end, so that its silence is not taken for a hang. Anything else is passed over.
    """
    if agent != "claude-code":
        raise UsageError(f"`{agent}` has no hooks that are understood", hint="it is `claude-code`")
    told = _object("standard input", "-")
    session_id, reason = told.get("session_id"), told.get("notification_type") or told.get("hook_event_name")
    waits = told.get("hook_event_name") in ("Notification", "Stop") and reason not in NOT_WAITING
    if not waits or not isinstance(session_id, str) or not session_id:
        return 0
    from agentwatch.logger import AgentLogger

    # The transcript has the session's start, and the attempt is known by its session id there.
    logger = AgentLogger.join(session_id, **_place(log_dir, config), session_id=session_id, executor="claude-code")
    logger.event("turn_end", reason=str(reason).lower(), message=told.get("message"))
    return _code(logger)


def _write(attempt: str, lane: str | None, run: str | None, log_dir: Path | None, config: Path | None, write: Callable[["AgentLogger"], object]) -> int:
    from agentwatch.logger import AgentLogger

    if not attempt:
        raise UsageError("`--attempt` is empty", hint="give the id that `agentwatch log start` printed")
    logger = AgentLogger.join(attempt, **_place(log_dir, config, run), lane=lane)
    write(logger)
    return _code(logger)


def _place(log_dir: Path | None, config: Path | None, run: str | None = None) -> dict[str, Any]:
    """Where the daemon looks, by the same settings. Without `run` the logger asks the environment."""
    logs = load(log_dir, config, is_agents=True).settings.logs
    place = {"log_dir": logs.dir, "enabled": logs.logging_enabled}
    if not run:
        return place
    from agentwatch.store.runs import resolve

    return {**place, "run_id": resolve(logs.dir, run, {})}


def _code(logger: "AgentLogger") -> int:
    return 1 if logger.lost else 0


def _text(text: str) -> str:
    return sys.stdin.buffer.read().decode("utf-8", "replace").removesuffix("\n") if text == "-" else text


def _json_value(option: str, text: str | None) -> Any:
    if text is None:
        return None
    import json

    try:
        return json.loads(_text(text))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{option} is no JSON: {error}", hint="put it in single quotes, and its names in double ones") from None


def _object(option: str, text: str | None) -> dict[str, Any]:
    value = _json_value(option, text)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{option} is no JSON object: a {type(value).__name__}", hint='give it as in \'{"output": "done"}\'')
    return value
