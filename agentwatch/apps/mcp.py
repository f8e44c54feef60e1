"""`agentwatch mcp`: the tools of `apps/tools.py` over the Model Context Protocol, on standard input and output. The one file that imports the SDK.

Both generations of the protocol are served, so a subscription comes in two ways: `resources/subscribe`, and `subscriptions/listen` (2026-07-28).
What is subscribed to is looked at by a task of its own; a tool works in a thread, so that neither waits for the other.
"""

import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import anyio
import anyio.to_thread
import mcp_types as types
import msgspec
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.session import ServerSession
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError

from agentwatch import __version__
from agentwatch.alert_log import NAME as ALERTS
from agentwatch.apps import runs as runs_app
from agentwatch.apps.holder import STATE_DIR
from agentwatch.apps.tools import TOOLS, UNTRUSTED, AlertsArguments, IssuesArguments, Place, Tool, Tools, current_run, log_alerts, log_issues
from agentwatch.core.text import safe
from agentwatch.errors import AgentwatchError
from agentwatch.store import runs
from agentwatch.store.issues import NAME as ISSUES

INSTRUCTIONS = f"""Logs of programs and coding agents on this machine, what rules found in them, and alerts about agents that loop, hang or burn money.
Begin with log_issues (what is wrong, new first) or log_status; log_raw shows the lines; log_query answers a question in plain words.
Before you try a fix, call log_clear and start the program with the environment that it gives back: what log_issues lists then is of that run alone.
{UNTRUSTED}"""

SCHEME = "agentwatch://"
RUNS_URI, ISSUES_URI, ALERTS_URI = f"{SCHEME}runs", f"{SCHEME}issues", f"{SCHEME}alerts"
RUN_TEMPLATE = f"{RUNS_URI}/{{run_id}}"
MOST_RUNS = 50
"""Of the runs, the newest are told as resources."""

LOOK_S = 0.25
"""How often it is looked whether anything changed, while somebody is subscribed: a few `stat`, and a list of the runs."""

SETTINGS_S = 10.0
"""So old may settings be for these looks."""

JSON = "application/json"
_Context = ServerRequestContext[Any]


def serve(tools: Tools, report: Callable[[str], None]) -> None:
    """Until standard input ends, or nobody reads standard output any more. That one has the protocol and nothing else; `report` is told what no client hears."""
    try:
        anyio.run(_Service(tools, report).run)
    except* BrokenPipeError:
        pass  # the client is gone, and with it whoever would read more


class _Service:
    """One client's server, and who is subscribed to what."""

    def __init__(self, tools: Tools, report: Callable[[str], None]) -> None:
        self._tools = tools
        self._report = report
        self._bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self._bus)
        self._subscribers: dict[str, ServerSession] = {}
        self._listeners = 0
        self._eyes = _Eyes(tools)
        self._server: Server[Any] = Server(
            "agentwatch",
            version=__version__,
            instructions=INSTRUCTIONS,
            lifespan=self._watching,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_subscribe_resource=self._subscribe,
            on_unsubscribe_resource=self._unsubscribe,
            on_subscriptions_listen=self._listened,
        )

    async def run(self) -> None:
        async with stdio_server() as (reader, writer):
            await self._server.run(reader, writer, self._server.create_initialization_options())

    # -- tools ----------------------------------------------------------------------------------------------------------------

    async def _list_tools(self, _context: _Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_described(tool) for tool in TOOLS.values()])

    async def _call_tool(self, _context: _Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            answer = await anyio.to_thread.run_sync(partial(self._tools.call, params.name, params.arguments or {}))
        except AgentwatchError as error:
            return _refused(f"{error}{f' Hint: {error.hint}.' if error.hint else ''}")
        except Exception as error:  # noqa: BLE001  # a fault of ours must not end what other calls rest on
            self._report(f"{params.name[:100]} failed:\n{traceback.format_exc()}")
            return _refused(f"{safe(params.name, 100)} failed inside agentwatch: {type(error).__name__}. Hint: its standard error says more.")
        text = msgspec.json.encode(answer)
        return types.CallToolResult(content=[types.TextContent(type="text", text=text.decode())], structured_content=msgspec.json.decode(text))

    # -- resources ------------------------------------------------------------------------------------------------------------

    async def _list_resources(self, _context: _Context, _params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        def resource(uri: str, name: str, description: str) -> types.Resource:
            return types.Resource(uri=uri, name=name, description=description, mime_type=JSON)

        found = await self._asked(lambda: sorted(runs.ids(self._tools.place.log_dir))[-MOST_RUNS:][::-1])
        return types.ListResourcesResult(
            resources=[
                resource(ISSUES_URI, "issues", "What is wrong in the current run. Subscribe to hear of new issues as they are found."),
                resource(ALERTS_URI, "alerts", "The newest alerts. Subscribe to hear of new ones."),
                resource(RUNS_URI, "runs", "All runs: age, size, logs, issues, alerts."),
                *(resource(f"{RUNS_URI}/{quote(run_id, safe='')}", f"run {run_id}", "Logs and issues of one run.") for run_id in found),
            ]
        )

    async def _list_templates(self, _context: _Context, _params: types.PaginatedRequestParams | None) -> types.ListResourceTemplatesResult:
        run = types.ResourceTemplate(uri_template=RUN_TEMPLATE, name="run", description="Logs and issues of one run; `latest` is the newest.", mime_type=JSON)
        return types.ListResourceTemplatesResult(resource_templates=[run])

    async def _read_resource(self, _context: _Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        uri = str(params.uri)
        content = await self._asked(lambda: self._content(uri))
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=params.uri, mime_type=JSON, text=msgspec.json.encode(content).decode())])

    def _content(self, uri: str) -> object:
        place = self._tools.place
        if uri == RUNS_URI:
            return {"runs": runs_app.listing(place.loaded.settings, datetime.now(UTC))[-MOST_RUNS:]}
        if uri == ISSUES_URI:
            return log_issues(place, IssuesArguments())
        if uri == ALERTS_URI:
            return log_alerts(place, AlertsArguments())
        run_id = runs.find(place.log_dir, unquote(uri.removeprefix(f"{RUNS_URI}/")), {}) if uri.startswith(f"{RUNS_URI}/") else None
        if run_id is None:
            raise AgentwatchError(f"there is no resource {safe(uri, 200)}", hint=f"there are {RUNS_URI}, {ISSUES_URI}, {ALERTS_URI} and {RUN_TEMPLATE}")
        row = next((row for row in runs_app.listing(place.loaded.settings, datetime.now(UTC)) if row.run_id == run_id), None)
        return {"run": row, "issues": log_issues(place, IssuesArguments(run=run_id))}

    async def _asked(self, ask: Callable[[], Any]) -> Any:
        """What `ask` gives, from a thread. What it refuses is an error of the protocol, for a resource has no other way to say so."""
        try:
            return await anyio.to_thread.run_sync(ask)
        except AgentwatchError as error:
            raise MCPError(types.INVALID_PARAMS, f"{error}{f' Hint: {error.hint}.' if error.hint else ''}") from error

    # -- subscriptions --------------------------------------------------------------------------------------------------------

    async def _subscribe(self, context: _Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        uri = str(params.uri)
        if not uri.startswith(SCHEME):
            raise MCPError(types.INVALID_PARAMS, f"there is no resource {safe(uri, 200)}")
        await self._asked(self._eyes.open)
        self._subscribers[uri] = context.session  # one process serves one client
        return types.EmptyResult()

    async def _unsubscribe(self, context: _Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        self._subscribers.pop(str(params.uri), None)
        return types.EmptyResult()

    async def _listened(self, context: _Context, params: types.SubscriptionsListenRequestParams) -> types.SubscriptionsListenResult:
        await self._asked(self._eyes.open)
        self._listeners += 1
        try:
            return await self._listen(context, params)
        finally:
            self._listeners -= 1

    @asynccontextmanager
    async def _watching(self, _server: Server[Any]) -> AsyncIterator[dict[str, Any]]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            yield {}
            tasks.cancel_scope.cancel()

    async def _watch(self) -> None:
        """Tell of what changed. While nobody listens nothing is looked at; what was there before is no news."""
        told_at = 0.0
        while True:
            await anyio.sleep(LOOK_S)
            if not (self._listeners or self._subscribers):
                self._eyes.close()
                continue
            try:
                changed = list(self._eyes.changes())
            except (AgentwatchError, OSError) as error:
                if time.monotonic() - told_at > 60:
                    told_at = time.monotonic()
                    self._report(f"not looked at: {error}")
                continue
            for uri in changed:
                await self._tell(uri)

    async def _tell(self, uri: str) -> None:
        await self._bus.publish(ResourceUpdated(uri=uri))
        if uri == RUNS_URI:
            await self._bus.publish(ResourcesListChanged())
        session = self._subscribers.get(uri)
        if session is not None:
            await session.send_resource_updated(uri)
            if uri == RUNS_URI:
                await session.send_resource_list_changed()


class _Seen(NamedTuple):
    """By what it is known that something changed."""

    issues: tuple[tuple[int, int, int], ...]
    run_id: str | None
    alerts: tuple[int, int, int]
    runs: tuple[str, ...]


class _Eyes:
    """Looks whether anything changed since the last look, and at nothing closer than that."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._place: Place | None = None
        self._placed_at = 0.0
        self._seen: _Seen | None = None

    def open(self) -> None:
        """From now on what changes is news, if it is not so already. Raises AgentwatchError."""
        if self._seen is None:
            self._seen = self._look()

    def changes(self) -> Iterator[str]:
        """The resources that may be different by now. Raises AgentwatchError."""
        seen = self._look()
        before, self._seen = self._seen or seen, seen
        if (seen.issues, seen.run_id) != (before.issues, before.run_id):
            yield ISSUES_URI
            if seen.run_id is not None:
                yield f"{RUNS_URI}/{quote(seen.run_id, safe='')}"
        if seen.alerts != before.alerts:
            yield ALERTS_URI
        if (seen.runs, seen.run_id) != (before.runs, before.run_id):
            yield RUNS_URI

    def close(self) -> None:
        """Forget what was seen."""
        self._place = self._seen = None

    def _look(self) -> _Seen:
        now = time.monotonic()
        if self._place is None or now - self._placed_at > SETTINGS_S:
            self._place, self._placed_at = self._tools.place, now
        log_dir = self._place.log_dir
        state = log_dir / STATE_DIR
        # What SQLite has written stands in one of these two files.
        return _Seen(
            (_stamp(state / ISSUES), _stamp(state / f"{ISSUES}-wal")), current_run(self._place), _stamp(log_dir / ALERTS), tuple(sorted(runs.ids(log_dir)))
        )


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0, 0
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _described(tool: Tool) -> types.Tool:
    hints = types.ToolAnnotations(
        title=tool.title, read_only_hint=tool.reads_only, destructive_hint=False, idempotent_hint=tool.reads_only, open_world_hint=tool.reaches_out
    )
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=hints,
    )


def _refused(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)
