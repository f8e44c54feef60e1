"""Claude Code and Codex themselves, against a model that loops, fails, hangs and finishes, while the daemon watches. `make e2e-agents` installs them."""

import json
import sys

import pytest

from agentwatch.formats import claude_code, claude_stream, codex, codex_exec
from tests.agents.model_server import Hang, Refuse, Run, Say
from tests.agents.watching import AGENTS, Agent, Scene
from tests.formats.harness import decoded, lines_of, of_type

pytestmark = pytest.mark.agents

AT_ONCE_S = 1.0
TICK_S = 1.0
"""Silences are looked at once a second: nothing is written that could wake anybody."""

SILENCE_S = 3.0

FORMATS = {"claude": (claude_code, claude_stream), "codex": (codex, codex_exec)}
"""What an agent writes, and what it prints."""

NOTES = Run("cat notes.txt")
MISSING = Run("cat missing.txt")
DONE = Say("All is done.")


def installed(name: str) -> Agent:
    agent = AGENTS[name]
    if not agent.is_installed:
        pytest.skip(f"`{agent.program}` is not in .cache/agents: `make e2e-agents` puts it there")
    return agent


@pytest.fixture(params=AGENTS)
def agent(request) -> Agent:
    return installed(request.param)


@pytest.fixture
def scene(tmp_path, agent):
    """Makes the scene for a script."""
    return lambda script, **settings: Scene(tmp_path, agent, script, **settings)


def told(alerts):
    """What was opened, and for whom."""
    return [(alert["type"], alert["attempt_id"]) for alert in alerts if alert["status"] == "open"]


def test_work_that_is_done_raises_no_alert(scene):
    """Two calls and an answer, with nothing left to say when the daemon has read all there is."""
    play = scene(lambda results, _: Run(f"echo step {results}") if results < 2 else DONE)
    with play.playing():
        assert play.ends() == 0
    assert play.alerts == []
    assert "All is done." in play.transcript.read_text()


def test_a_model_that_is_overloaded_for_a_moment_raises_no_alert(scene, agent):
    """Two refusals between two calls: the agent tries again, and that is all."""
    play = scene(lambda results, request: Refuse(agent.overloaded) if request in (1, 2) else NOTES if results < 2 else DONE)
    with play.playing():
        assert play.ends() == 0
    assert play.model.requests == 5
    assert play.alerts == []


@pytest.mark.parametrize(("step", "kind"), [(NOTES, "tool_loop"), (MISSING, "error_loop")], ids=["that goes well", "that fails"])
def test_the_same_call_again_and_again_is_told_at_once(scene, step, kind):
    """Eight times, with the same result: one incident, while it goes on."""
    play = scene(lambda results, _: step if results < 8 else DONE)
    with play.playing():
        play.has_alerted(kind)
        assert play.ends() == 0
    assert told(play.alerts) == [(kind, play.session)]
    assert 0 <= play.delay_s(play.alerts[0]) < AT_ONCE_S


def test_a_model_that_does_not_answer_is_told_when_the_time_is_up(scene):
    """After a call and its result; the agent waits, and so would a person."""
    play = scene(lambda results, _: NOTES if results < 1 else Hang(), AGENTWATCH_STUCK_THRESHOLD_MS=f"{SILENCE_S * 1000:.0f}")
    with play.playing():
        play.has_alerted("stuck_agent")
        assert play.process.poll() is None
        assert told(play.alerts) == [("stuck_agent", play.session)]
        assert play.alerts[0]["waiting_for"] == "model"
        assert play.alerts[0]["idle_time_ms"] == SILENCE_S * 1000
    assert SILENCE_S - AT_ONCE_S < play.delay_s(play.alerts[0]) < SILENCE_S + TICK_S + AT_ONCE_S


def test_a_model_that_refuses_for_ever_is_told_from_what_the_agent_prints(scene, agent):
    """Under `agentwatch exec`, for Codex keeps its tries out of its transcript: the daemon sees them in the stream, as they come."""
    play = scene(lambda _results, _request: Refuse(agent.overloaded))
    with play.playing(sys.executable, "-m", "agentwatch", "exec", "--attempt", "a-1", "--"):
        play.has_alerted("error_loop")
        assert play.ends() == 1
    assert told(play.alerts)[0] == ("error_loop", "a-1")
    assert {alert["attempt_id"] for alert in play.alerts} == {"a-1"}
    assert play.delay_s(play.alerts[0]) < AT_ONCE_S


def test_a_session_that_exec_records_is_told_once(scene):
    """The agent writes its transcript beside what it prints: one loop, for the attempt that its user knows."""
    play = scene(lambda results, _: MISSING if results < 8 else DONE)
    with play.playing(sys.executable, "-m", "agentwatch", "exec", "--attempt", "a-1", "--"):
        play.has_alerted("error_loop")
        assert play.ends() == 0
    assert told(play.alerts) == [("error_loop", "a-1")]
    assert play.alerts[0]["session_id"] == play.session
    spent = of_type([json.loads(line) for line in lines_of(play.logs / "agent-work-stream.jsonl")], "usage")
    assert spent
    assert all(data["model"] for data in spent)
    assert play.delay_s(play.alerts[0]) < AT_ONCE_S


def test_claude_codes_transcript_tells_of_a_model_that_refuses(tmp_path):
    """Each try is a line."""
    claude = installed("claude")
    play = Scene(tmp_path, claude, lambda _results, _request: Refuse(claude.overloaded))
    with play.playing():
        play.has_alerted("error_loop")
        assert play.ends() == 1
    assert told(play.alerts) == [("error_loop", play.session)]
    assert 0 <= play.delay_s(play.alerts[0]) < AT_ONCE_S


@pytest.mark.parametrize("ending", [DONE, None], ids=["and finishes", "and is refused"])
def test_what_an_agent_writes_and_what_it_prints_say_the_same(scene, agent, ending):
    """Without a line of an unknown kind in either."""
    play = scene(lambda results, _: (NOTES, MISSING)[results] if results < 2 else ending or Refuse(agent.overloaded))
    with play.playing():
        play.ends()
    written, printed = FORMATS[agent.program]
    stories = [
        decoded(lines_of(play.transcript), written.Decoder()),
        decoded(lines_of(play.printed), printed.Decoder(printed.Memory(time=play.began))),
    ]
    assert [event for story in stories for event in story if "fault" in event] == []
    first, second = ([(call["tool_name"], call["tool_call_id"]) for call in of_type(story, "tool_call")] for story in stories)
    assert len(first) == len(second) == 2
    first, second = ([(result["is_error"], result.get("exit_code") or 0) for result in of_type(story, "tool_result")] for story in stories)
    assert first == second == [(False, 0), (True, 1)]
