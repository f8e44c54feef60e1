"""The same work again and again, where calls carry their parameters and results."""

import re
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

from agentwatch.core.alerts import Finding, Reporter, Spot, milliseconds, span
from agentwatch.core.limits import Limits
from agentwatch.core.signatures import blanked_signature, call_signature, normalise_result, operation, result_text
from agentwatch.core.state import Cycle, Lane, Loops, Same, Session
from agentwatch.model import Alert, Data, Event, Status, decoded

POLL_TOOLS = frozenset({"BashOutput", "TaskOutput", "AgentOutput", "write_stdin", "read_bash", "read_output", "wait", "wait_agent", "process", "task_list"})
"""Tools whose purpose is to be asked again (detection.md, section 5)."""

PLANS = frozenset({"TodoWrite", "TodoRead", "update_plan", "todo_write", "write_todos", "todowrite"})
"""They answer the same text whatever they are given (detection.md, section 7)."""

POLL_REPEATS, POLLED_FOR = 8, timedelta(seconds=20)
SLOW_POLL, SLOW_REPEATS, SLOWLY_POLLED_FOR = timedelta(seconds=15), 20, timedelta(minutes=20)
"""Equal polls in a row that are a loop: healthy sessions reach 7, the poll storms ran 192 to 283. Polls of 15 s and more wait by
themselves: Codex waits 34 times 30 s for a healthy build (detection.md, section 5)."""

INTERLEAVED = 6
"""The same call with the same result so often, whatever stands between unless it changed something: 5 to 8 find the same incidents, 4 two healthy sessions."""

NEAR, NEAR_BYTES = 6, 40
"""Calls that differ in numbers and paths alone, with the very same result of at least so many bytes: 4 would find seven healthy sessions (section 6.5)."""

ROUNDS, LONGEST_PERIOD = 3, 5
"""So many rounds of 2 to 5 steps are a cycle: two are found in seven healthy sessions (section 5)."""

EDITS = frozenset(
    {"Edit", "MultiEdit", "Write", "NotebookEdit", "apply_patch", "replace", "write_file", "edit", "write", "patch", "create_file", "insert_edit_into_file"}
)
EDIT_COMMANDS = frozenset({"str_replace", "create", "insert", "undo_edit"})
EDITORS = frozenset({"str_replace_editor", "str_replace_based_edit_tool", "edit_file", "file_editor"})

_SHELLS = frozenset(
    {"Bash", "bash", "shell", "shell_command", "exec_command", "execute_bash", "run_shell_command", "run_in_terminal", "terminal", "exec", "local_shell"}
)
_POLLS = (b"sleep ", b"--watch", b"--follow", b"gh pr checks", b"gh run ", b"kubectl get ", b"kubectl rollout status")
"""Commands that ask for what may not be there yet, or wait for it."""

_LOOKS = frozenset(
    [
        "ls",
        "cat",
        "head",
        "tail",
        "less",
        "wc",
        "grep",
        "rg",
        "egrep",
        "find",
        "fd",
        "tree",
        "stat",
        "file",
        "diff",
        "cmp",
        "echo",
        "printf",
        "pwd",
        "which",
        "type",
        "env",
        "date",
        "ps",
        "top",
        "df",
        "du",
        "free",
        "sort",
        "uniq",
        "cut",
        "tr",
        "awk",
        "jq",
        "yq",
        "sed",
        "nl",
        "xxd",
        "od",
        "md5sum",
        "sha256sum",
        "test",
        "[",
        "true",
        "whoami",
        "id",
        "uname",
        "hostname",
        "sleep",
        "pytest",
        "jest",
        "vitest",
        "tox",
        "mypy",
        "ruff",
        "eslint",
        "tsc",
        "flake8",
        "pylint",
        "ctest",
        "phpunit",
        "rspec",
        "curl",
        "wget",
        "ping",
        "git:status",
        "git:log",
        "git:diff",
        "git:show",
        "git:branch",
        "git:blame",
        "git:ls-files",
        "git:rev-parse",
        "git:remote",
        "git:fetch",
        "git:describe",
        "git:grep",
        "git:reflog",
        "git:config",
        "npm:test",
        "npm:run",
        "npm:ls",
        "yarn:test",
        "pnpm:test",
        "bun:test",
        "cargo:test",
        "cargo:check",
        "cargo:build",
        "cargo:clippy",
        "go:test",
        "go:vet",
        "go:build",
        "make:test",
        "make:check",
        "make:lint",
        "make:build",
        "make:all",
        "gh:pr",
        "gh:run",
        "gh:issue",
        "gh:api",
        "gh:repo",
        "docker:ps",
        "docker:logs",
        "docker:inspect",
        "kubectl:get",
        "kubectl:describe",
        "kubectl:logs",
    ]
)
"""Programs that look, test or build. Any other command may have changed something: better one loop told later than healthy work told as one."""

_REDIRECTS = re.compile(rb"(?<![0-9&=-])>(?!&)(?!\s*/dev/null)|<<").search
_READS = re.compile(r"(?:^|[_.-])(?:read|grep|glob|search|find|list|ls|view|get|fetch|query|cat|show|look|check|status|open)(?![a-z])", re.IGNORECASE).search
_ACTS = re.compile(
    r"(?:^|[_.:-])(?:edit|write|replace|insert|create|update|delete|remove|rename|move|apply|patch|set|add|post|put|send|run|execute|task|agent|spawn|close|merge|commit|push)"
    r"(?![a-z])",
    re.IGNORECASE,
).search
_PRESSES = re.compile(r"(?:^|[_.:-])(?:press|click|scroll|swipe|type|key|tab|next|navigate|wait|step|continue|move)(?![a-z])", re.IGNORECASE).search
_GOES_ON = re.compile(rb"--(?:continue|skip|next)\b").search
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])")

MAY_DIFFER = re.compile(rb'"(?:description|explanation|justification|thought|timeout|yield_time|max_output_tokens|task_progress|security_risk)').search
"""Calls that say the same differ in such a field at most. Without one they are equal byte for byte or not at all, which costs a
checksum and no decoding."""

STEPS = 32
"""So many of a lane's latest steps are known by checksum. A call that is not among them is new work, and costs no more than that."""

MOST_SAME = 32
FORGOTTEN_AFTER = 5
"""A loop that was told is over when so many other steps have come."""


def call_key(call: Data) -> int:
    """Equal for calls that do the same. Not 0."""
    params = call.tool_params
    if MAY_DIFFER(params):
        return int(call_signature(call.tool_name or "unknown", decoded(params))[:8], 16) or 1
    return crc32(params, len(call.tool_name or "")) or 1


def result_shape(call: Data, result: Data) -> int:
    """Equal for results of one tool that may be the very same; 0 for those too short to say anything."""
    size = len(result.result)
    return 0 if size < NEAR_BYTES + 2 or result.is_error else (size << 6 | len(call.tool_name or "") & 63) & 0xFFFFFFFF


CHANGE = bytes(4)
"""Stands in a lane's ring of keys behind a step that changed something."""


@lru_cache(maxsize=512)
def acts(tool: str) -> bool:
    """Whether a tool's name says that it changes something; a shell's command says it itself."""
    words = _HUMPS.sub("_", tool)
    return tool in EDITS or (tool not in _SHELLS and _ACTS(words) is not None and _READS(words) is None)


@lru_cache(maxsize=512)
def presses(tool: str) -> bool:
    """Whether a tool is one whose purpose is to be used again and again: a key, a wheel, the next page."""
    return _PRESSES(_HUMPS.sub("_", tool)) is not None


@lru_cache(maxsize=512)
def reads(tool: str) -> bool:
    """Whether a tool's name says that it looks for something."""
    return _READS(_HUMPS.sub("_", tool)) is not None


def moves_on(call: Data) -> bool:
    """Whether a call does something else each time it is made, though it says the same."""
    return presses(call.tool_name or "") or _GOES_ON(call.tool_params) is not None


def edits(call: Data) -> bool:
    """Whether a call that succeeded has changed something: known by the tool, and by an editor's command."""
    name = call.tool_name or ""
    if name not in EDITORS:
        return acts(name)
    params = decoded(call.tool_params)
    return not isinstance(params, dict) or params.get("command") in EDIT_COMMANDS or "command" not in params


def writes(call: Data) -> bool:
    """Whether a shell command that succeeded may have changed something. Costs as much as all else that is done for a step."""
    if call.tool_name not in _SHELLS:
        return False
    if _REDIRECTS(call.tool_params):
        return True
    program, _, subcommand = operation(call.tool_name, decoded(call.tool_params)).partition(" ")
    return (program not in _LOOKS and f"{program}:{subcommand.partition(' ')[0]}" not in _LOOKS) or (program == "sed" and b" -i" in bytes(call.tool_params))


class _Step(NamedTuple):
    """A call that has brought its result, with the checksums of both and the text of the result; `spot` is where the call stands."""

    call: Data
    event: Event
    key: int
    result: int
    turn: str | int
    text: str
    spot: Spot
    place: int


class CallLoop:
    """Five rules over the steps of a lane, a step being a call and its result. Parallel calls of one message are one turn.

    - *repeat*: the same call with the same result `repeats` turns in a row (4), nothing else between. Of 2,083 real sessions none had
      exactly three in a row, and all with four or more were true loops (detection.md, section 4).
    - *poll*: the same for calls whose purpose is to be made again, see `POLL_REPEATS`.
    - *interleaved*: the same 6 times with other work between that changed nothing.
    - *near_identical*: calls in a row that differ in numbers and paths alone, with the very same result, 6 times.
    - *cycle*: three rounds of the same 2 to 5 steps.

    A call is compared by its checksum with the last 32 of its lane. Results are looked at from the second time on: that of the first
    is taken to have been the same, and so is that of a cycle's first round.
    """

    def __init__(self, limits: Limits, reporter: Reporter) -> None:
        self._repeats = limits.tool_loop_repeats
        self._reporter = reporter

    def step(self, session: Session, lane: Lane, call: Event, event: Event, key: int, shape: int, place: int, out: list[Alert]) -> None:
        """A step that may be one of the lane's latest again, or one while there are such. The ring does not have it yet."""
        loops = lane.loops
        if loops is None:
            loops = lane.loops = Loops()
        loops.steps += 1
        if _find(lane.recent, key) < 0:
            loops.fresh += 1
            if loops.fresh > STEPS and not loops.told:
                lane.loops = None
                return
        else:
            loops.fresh = 0
        turn = call.data.msg_id or lane.turn
        if loops.last == key and turn == loops.turn:
            return
        said = decoded(event.data.result)
        text = normalise_result(result_text(said))
        # What is no valid text is compared as it stands: two such results are not equal for being unreadable.
        result = crc32(text.encode("utf-8", "surrogatepass") if said is not None else event.data.result)
        spot = Spot(call.timestamp, lane.call_place if call is lane.call else place, f"{call.data.tool_name or 'unknown'}, the first of these calls")
        step = _Step(call.data, event, key, result, turn, text, spot, place)
        loops.trail = [*loops.trail[-2 * LONGEST_PERIOD :], key << 32 | result]
        if event.data.is_error:
            loops.same.pop(key, None)
            self._over(session, loops, f"{key:08x}", event, place, out)
        if not self._cycle(session, lane, loops, step, out) and not event.data.is_error:
            same = self._same(session, lane, loops, step, out)
            if same.count == 1 and shape and shape == lane.step_shape and _looks(call.data):
                self._near(session, loops, step, out)
        loops.last, loops.turn = key, turn
        for name in [name for name, at in loops.told.items() if loops.steps - at > FORGOTTEN_AFTER]:
            self._over(session, loops, name, event, place, out)

    def changed(self, session: Session, lane: Lane, key: int, event: Event, place: int, out: list[Alert]) -> None:
        """The step with this key has changed something: what comes again now is another try."""
        loops = lane.loops
        if loops is None:
            return
        for other, same in loops.same.items():
            if other != key:
                same.row = 0
            same.count = same.row
        loops.near.clear()
        loops.trail, loops.cycle = [], None
        for name in [name for name in loops.told if not name.endswith(f"{key:08x}")]:
            self._over(session, loops, name, event, place, out)

    def reset(self, session: Session, lane: Lane, event: Event, place: int, out: list[Alert]) -> None:
        """A person spoke: whatever went round in circles before has ended."""
        loops = lane.loops
        lane.recent, lane.loops = b"", None
        for name in list(loops.told) if loops is not None else ():
            self._over(session, loops, name, event, place, out)  # type: ignore[arg-type]  # there is one, else no names

    def _same(self, session: Session, lane: Lane, loops: Loops, step: _Step, out: list[Alert]) -> Same:
        call, event, key, result, turn, _, spot, place = step
        same = loops.same.get(key)
        if same is None:
            keys = _keys(lane.recent)
            in_a_row = next((one for one in reversed(keys) if one), 0) == key and lane.step_turn != turn
            known = 2 if in_a_row or _find(lane.recent, key) > _find(lane.recent, 0) else 1
            if in_a_row and lane.step_at is not None:
                spot = Spot(lane.step_at, lane.step_place, spot.text)
            same = Same(result, known, 2 if in_a_row else 1, turn, spot.at, spot.place)
            if len(loops.same) >= MOST_SAME:
                del loops.same[next(iter(loops.same))]
            loops.same[key] = same
        elif same.result == result:
            if turn == same.turn:
                return same
            same.row = same.row + 1 if loops.last == key else 1
            same.count, same.turn = same.count + 1, turn
            if same.count == 1:
                same.first_at, same.first_place = spot.at, spot.place
        else:
            self._over(session, loops, f"{key:08x}", event, place, out)
            same.result, same.count, same.row, same.turn = result, 1, 1, turn
            same.first_at, same.first_place = spot.at, spot.place
        lasted = event.timestamp - same.first_at
        is_patient = polls(call) or moves_on(call)
        crossed = in_vain(same.row, lasted) if is_patient else same.row >= self._repeats or same.count >= INTERLEAVED
        in_a_row = same.row >= same.count
        rule = "interleaved" if not in_a_row else "poll" if is_patient else "repeat"
        how = "" if in_a_row else ", other calls between that changed nothing,"
        self._tell(session, loops, step, f"{key:08x}", same, rule, how, out, crossed=crossed)
        return same

    def _near(self, session: Session, loops: Loops, step: _Step, out: list[Alert]) -> None:
        key = int(blanked_signature(step.call.tool_name or "unknown", decoded(step.call.tool_params))[:8], 16)
        same = loops.near.get(key)
        if same is None or same.result != step.result:
            if len(loops.near) >= MOST_SAME:
                del loops.near[next(iter(loops.near))]
            loops.near[key] = Same(step.result, 2, 0, step.turn, step.spot.at, step.spot.place)
            return
        if step.turn == same.turn:
            return
        same.turn, same.count = step.turn, same.count + 1
        how = " with other numbers or paths"
        self._tell(session, loops, step, f"near {key:08x}", same, "near_identical", how, out, crossed=same.count >= NEAR)

    def _cycle(self, session: Session, lane: Lane, loops: Loops, step: _Step, out: list[Alert]) -> bool:
        """Whether the lane goes round in a circle of several steps; told when it has done so three times."""
        cycle, trail = loops.cycle, loops.trail
        if cycle is not None:
            if len(trail) > cycle.period and trail[-1] == trail[-1 - cycle.period]:
                cycle.steps += 1
                cycle.polls = cycle.polls or polls(step.call)
                self._round(session, loops, cycle, step, out)
                return True
            loops.cycle = None
            self._over(session, loops, f"cycle {cycle.key:08x}", step.event, step.place, out)
        keys = [one for one in _keys(lane.recent) if one]
        keys.append(step.key)
        for period in range(2, LONGEST_PERIOD + 1):
            last = keys[-period:]
            if (
                len(trail) >= 2 * period
                and len(keys) >= ROUNDS * period
                and trail[-period:] == trail[-2 * period : -period]
                and last == keys[-2 * period : -period] == keys[-3 * period : -2 * period]
                and len(set(last)) > 1
            ):
                cycle = loops.cycle = Cycle(
                    crc32(b"".join(one.to_bytes(4, "little") for one in sorted(last))), period, ROUNDS * period, step.spot.at, step.spot.place, polls(step.call)
                )
                self._round(session, loops, cycle, step, out)
                return True
        return False

    def _round(self, session: Session, loops: Loops, cycle: Cycle, step: _Step, out: list[Alert]) -> None:
        if cycle.steps % cycle.period:
            return
        rounds = cycle.steps // cycle.period
        crossed = not cycle.polls or in_vain(rounds, step.event.timestamp - cycle.first_at)
        same = Same(0, rounds, rounds, 0, cycle.first_at, cycle.first_place)
        how = f" and {cycle.period - 1} other calls in turn"
        self._tell(session, loops, step._replace(text=""), f"cycle {cycle.key:08x}", same, "cycle", how, out, crossed=crossed)

    def _tell(self, session: Session, loops: Loops, step: _Step, name: str, same: Same, rule: str, how: str, out: list[Alert], *, crossed: bool) -> None:
        event, text = step.event, step.text
        tool = step.call.tool_name or "unknown"
        key = f"{event.lane or ''}:{tool}:{name}"

        def describe(count: int, status: Status) -> Finding:
            again, began = "repeats", same.first_at
            if status is Status.ESCALATED and session.episodes:
                again, began = "is still repeating", session.episodes[f"tool_loop:{key}"].opened_at
            lasted = span(event.timestamp - began)
            brought = f": {text[:120]}" if text else ""
            summary = f"{session.attempt_id} {again} the same {tool} call{how}: {count} times in {lasted}, and nothing new came back{brought}"
            return _finding(key, tool, same, event, step.place, count, summary, rule)

        before = len(out)
        self._reporter.count(session, "tool_loop", key, event.timestamp, crossed=crossed, size=max(same.count, same.row), describe=describe, out=out)
        if len(out) > before or name in loops.told:
            loops.told[name] = loops.steps
            loops.tools[name] = tool

    def _over(self, session: Session, loops: Loops, name: str, event: Event, place: int, out: list[Alert]) -> None:
        if loops.told.pop(name, None) is None:
            return
        tool = loops.tools.pop(name)
        key = f"{event.lane or ''}:{tool}:{name}"
        episode = session.episodes.get(f"tool_loop:{key}") if session.episodes else None
        if episode is None:
            return
        same = Same(0, episode.count, 0, 0, episode.opened_at, place)
        text = f"{session.attempt_id} stopped repeating {tool} after {episode.count} times in {span(event.timestamp - episode.opened_at)}"
        self._reporter.recover(session, _finding(key, tool, same, event, place, episode.count, text), out)


def _finding(key: str, tool: str, same: Same, event: Event, place: int, count: int, summary: str, rule: str | None = None) -> Finding:
    return Finding(
        type="tool_loop",
        key=key,
        at=event.timestamp,
        spots=[Spot(same.first_at, same.first_place, f"{tool}, the first of these calls"), Spot(event.timestamp, place, "the latest line")],
        summary=summary,
        detail={"tool_name": tool, "occurrences": count, "window_ms": milliseconds(event.timestamp - same.first_at)},
        rule=rule,
    )


def _keys(ring: bytes) -> list[int]:
    return memoryview(ring).cast("I").tolist()


def _find(ring: bytes, key: int) -> int:
    """Where the key stands last; -1 if nowhere."""
    keys = _keys(ring)
    return len(keys) - 1 - keys[::-1].index(key) if key in keys else -1


def _looks(call: Data) -> bool:
    """Whether a call only looks for something, so that other numbers in it are no other work: issue 7 is not issue 8."""
    name = call.tool_name or ""
    return name not in PLANS and not polls(call) and (not writes(call) if name in _SHELLS else reads(name) and not edits(call))


def in_vain(polls: int, lasted: timedelta) -> bool:
    """Whether so many equal polls in that time are too many."""
    if lasted < (polls - 1) * SLOW_POLL:
        return polls >= POLL_REPEATS and lasted >= POLLED_FOR
    return polls >= SLOW_REPEATS and lasted >= SLOWLY_POLLED_FOR


def polls(call: Data) -> bool:
    """Whether a call asks for what may not be there yet."""
    return call.tool_name in POLL_TOOLS or any(word in bytes(call.tool_params) for word in _POLLS)
