"""What bit those who measured the rules (detection.md, section 7): each once, by number."""

from datetime import timedelta

import pytest

from agentwatch.core.signatures import normalise_result
from agentwatch.formats.claude_code import Decoder as ClaudeCode

CHUNK = "Chunk ID: {chunk}\nWall time: 30.0 seconds\nOutput:\n{text}"


def of(log, *kinds, **more):
    return [found for found in log.told(**more) if found[0] in kinds]


def test_1_two_different_results_of_a_poll_differ(log):
    """What stands behind a line that changes each time must not be swallowed with it."""
    assert normalise_result(CHUNK.format(chunk="a1b2c3", text="compiling core")) != normalise_result(CHUNK.format(chunk="d4e5f6", text="compiling ui"))
    for number in range(40):
        log.both("write_stdin", {"session_id": 1}, CHUNK.format(chunk=f"{number:06x}", text=f"step {number} of 40")).wait(5)
    assert of(log, "tool_loop") == []


def test_1_the_same_result_of_a_poll_is_the_same(log):
    """Though its chunk and its clock change."""
    for number in range(12):
        log.both("write_stdin", {"session_id": 1}, CHUNK.format(chunk=f"{number:06x}", text="waiting")).wait(2)
    assert log.starts("tool_loop") == 1


def test_2_one_failed_edit_of_a_batch_is_one_error(log):
    """The nine that were cancelled with it are nobody's failure, and a batch is one turn."""
    for _ in range(10):
        log.call("Edit", {"file_path": "a.py"}, msg_id="m1")
    for number in range(1, 11):
        text = "String to replace not found" if number == 1 else "<tool_use_error>Sibling tool call errored</tool_use_error>"
        log.result(text, number=number, is_error=True)
    assert of(log, "error_loop") == []


def test_3_a_comment_before_each_call_is_no_monologue(log):
    """Only messages without a call after them count."""
    for number in range(30):
        log.add("agent_output", output="Now I will look at the next file.").both("Read", {"path": f"{number}.py"}, f"text {number}")
    assert of(log, "tool_loop") == []


NO_PROMPTS = ["<command-name>/exit</command-name>", "Stop hook feedback: tests not run", "[Request interrupted by user]"]


@pytest.mark.parametrize("text", NO_PROMPTS)
def test_4_what_looks_like_a_prompt_asks_nothing(text):
    """The model owes no answer to it."""
    lines = [
        '{"type":"user","uuid":"u1","sessionId":"s1","timestamp":"2026-02-09T10:00:00Z","message":{"role":"user","content":"go"}}',
        (
            '{"type":"assistant","uuid":"u2","sessionId":"s1","timestamp":"2026-02-09T10:00:01Z","message":{"id":"m1","role":"assistant","model":"claude-opus-4-5",'
            '"content":[{"type":"text","text":"Done."}],"stop_reason":"end_turn"}}'
        ),
        '{"type":"user","uuid":"u3","sessionId":"s1","timestamp":"2026-02-09T10:00:02Z","message":{"role":"user","content":"' + text + '"}}',
    ]
    assert silences_of([line.encode() + b"\n" for line in lines]) == []


def test_4_an_answer_to_nothing_asks_nothing(log):
    """As the agent writes it for its user."""
    log.both().add("agent_output", output="Done.").add("user_message", output="No response requested.")
    assert of(log, "stuck_agent", until=log.at + timedelta(hours=2)) == []


def silences_of(lines):
    """What is told of two hours of silence after lines of Claude Code."""
    from agentwatch.core.engine import Engine
    from agentwatch.core.limits import Limits

    engine, decoder, out = Engine(Limits(), lambda *_: None), ClaudeCode(None), []
    decoder.read(lines, 0, lambda items: engine.feed("log", "", items, decoder, out), pytest.fail)
    engine.finish(engine.newest + timedelta(hours=2), out)
    return [alert.type for alert in out]


def test_5_the_end_of_a_file_is_no_silence(log):
    """A transcript may be cut with a call open; only the clock says that nothing came."""
    log.call("Bash", "make")
    assert of(log, "stuck_agent") == []
    assert of(log, "stuck_agent", until=log.at + timedelta(minutes=10)) == [("stuck_agent", "open")]


def test_6_a_lane_waits_until_all_parallel_calls_are_back(log):
    """Whichever comes first."""
    log.call("Read", {"path": "a"}).call("Task", {"prompt": "look"}).call("Read", {"path": "b"}).result(number=3).result(number=1)
    (alert,) = (alert for alert in log.alerts(until=log.at + timedelta(minutes=40)) if alert.type == "stuck_agent")
    assert alert.detail["waiting_for"] == "sub-agent"


def test_6_a_question_among_them_waits_for_the_user(log):
    """However long."""
    log.call("Read", {"path": "a"}).call("AskUserQuestion", {"question": "Which?"}).result(number=1)
    assert of(log, "stuck_agent", until=log.at + timedelta(hours=9)) == []


def test_7_a_plan_that_is_kept_up_to_date_is_no_loop(log):
    """It answers the same each time, and says something else."""
    for number in range(30):
        log.both("TodoWrite", {"todos": [{"content": "build", "status": f"step {number}"}]}, "Todos have been modified successfully. Ensure that you use it.")
    assert of(log, "tool_loop") == []


def test_8_a_build_after_each_change_is_no_loop(log):
    """With the same one line of success 33 times."""
    for number in range(33):
        log.both("Edit", {"file_path": "a.ts", "new_string": f"{number}"}, "The file has been updated.").both(params="npm run build", text="built in 1.2s")
    assert of(log, "tool_loop") == []


def test_9_long_thought_is_work_and_a_time_out_is_not(new_log):
    """Reasoning of 300 to 480 s happens; a client's time-out of 606 s is told before it is over."""
    assert of(new_log().both().wait(470).both(), "stuck_agent") == []
    assert of(new_log().both().wait(606).both(), "stuck_agent") == [("stuck_agent", "open"), ("stuck_agent", "recovered")]


def test_10_usage_that_is_repeated_on_every_line_of_a_message_counts_once():
    """Else cost doubles."""
    line = (
        '{"type":"assistant","uuid":"u%d","sessionId":"s1","timestamp":"2026-02-09T10:00:01Z","message":{"id":"m1","role":"assistant","model":"claude-opus-4-5",'
        '"content":[{"type":"text","text":"part %d"}],"usage":{"input_tokens":100,"output_tokens":50}}}\n'
    )
    items = []
    ClaudeCode(None).read([(line % (n, n)).encode() for n in range(5)], 0, items.extend, pytest.fail)
    assert sum(event.data.usage.total for event, _, _ in items if event.data.usage) == 150
