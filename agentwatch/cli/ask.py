"""`agentwatch ask`: parses, asks an app, prints the answer as it comes."""

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from agentwatch.cli.common import as_json as json_text
from agentwatch.cli.common import commands, load, say
from agentwatch.cli.options import AsJson, Config, LogDir, examples, home, since
from agentwatch.errors import UsageError

if TYPE_CHECKING:
    from agentwatch.apps.ask import Answer


@commands.command(
    epilog=examples(
        'agentwatch ask "why did the last session fail?"',
        'agentwatch ask "what is wrong with the database?" --run latest',
        'agentwatch ask "where does ECONNREFUSED come from" --since 2h --show-prompt',
        "agentwatch ask what went wrong --json | jq -r .text",
    )
)
def ask(
    question: Annotated[list[str], typer.Argument(metavar="QUESTION...", help="In plain words.", show_default=False)],
    *,
    log_dir: LogDir = None,
    config: Config = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only about this run; `latest` is the newest. [env: AGENTWATCH_RUN]")] = None,
    after: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only what happened since then: 30m, 2h, 7d, or 2026-02-09T08:00:00Z.")] = None,
    days: Annotated[float | None, typer.Option("--days", min=0.01, max=36_500, metavar="DAYS", help="Only what happened in the last days.")] = None,
    attempt: Annotated[str | None, typer.Option("--attempt", metavar="ID", help="Only about this attempt. The beginning of its id is enough.")] = None,
    budget: Annotated[
        int | None,
        typer.Option("--budget", min=0, max=1_000_000_000, metavar="TOKENS", help="Of the run, or of the day, all its questions together. [default: 10000]"),
    ] = None,
    show_prompt: Annotated[bool, typer.Option("--show-prompt", help="Print what would be sent, and send nothing. With --json: the request itself.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask about the logs, in plain words.

    Issues, alerts, errors and lines that fit the question go to a model of any OpenAI-compatible server (OPENAI_API_KEY, OPENAI_BASE_URL, AGENTWATCH_ASK_MODEL), secrets taken out; the answer cites lines, which are checked. Without a key, network or budget the same is answered from rules and search alone.
    """
    from agentwatch.apps import ask as app

    if after is not None and days is not None:
        raise UsageError("`--since` and `--days` say two things", hint="give one of them")
    now = datetime.now(UTC)
    begin = now - timedelta(days=days) if days is not None else since("--since", after, now)
    loaded = load(log_dir, config)
    words = " ".join(question)
    if show_prompt:
        _show_request(app.request(words, loaded, os.environ, home(), run=run, since=begin, attempt=attempt), as_json=as_json)
        return
    if as_json:
        print(json_text(app.ask(words, loaded, os.environ, home(), run=run, since=begin, attempt=attempt, budget=budget)))
        return
    _tell(app.ask(words, loaded, os.environ, home(), run=run, since=begin, attempt=attempt, budget=budget, hear=_hear))


def _hear(text: str) -> None:
    print(text, end="", flush=True)


def _show_request(body: dict[str, object], *, as_json: bool) -> None:
    from agentwatch.core.text import visible

    if as_json:
        print(json_text(body))
        return
    messages = body.pop("messages")
    print(json_text(body))
    for message in messages:  # type: ignore[attr-defined]  # a list of objects
        print(f"\n--- {message['role']} ---\n{visible(message['content'], newlines=True)}")


def _tell(answer: "Answer") -> None:
    """What was not heard yet: the answer of the rules on stdout, what it cost and rests on beside it."""
    from agentwatch.core.words import money

    if answer.by == "model" or answer.partial:
        print()
    if answer.by == "rules":
        print(f"Answered without a model: {answer.why}.\n\n{answer.text}")
    for name, path in answer.sources.items():
        if f"{name}:" in answer.text and not path.endswith(name):
            say(f"{name} is {path}")
    unknown = sum(one.state == "unknown" for one in answer.citations)
    if unknown:
        say(f"{unknown} of its citations {'names a line' if unknown == 1 else 'name lines'} that {'is' if unknown == 1 else 'are'} not there")
    if answer.left_out:
        say("left out for want of room: " + ", ".join(f"{number} {name}" for name, number in answer.left_out.items()))
    for note in answer.notes:
        say(note)
    if answer.tokens is not None:
        used = answer.tokens
        spent = ""
        if used.prompt:
            cost = money(answer.cost_usd) if answer.cost_usd is not None else "at an unknown price"
            spent = f"{answer.model}: {used.prompt:,} tokens asked, {used.answer:,} answered{' (estimated)' if used.is_estimate else ''}, {cost}; "
        say(f"{spent}{used.left:,} of {used.budget:,} tokens left for {used.budget_is_for}")
