"""The same call again and again, where calls carry their parameters: with nothing new coming back it is a loop, else it is work."""

import pytest

POLL = {"bash_id": "b1"}


def test_the_fourth_equal_call_with_equal_results_is_a_loop(log):
    """Three are not; of 2,083 real sessions none had exactly three that were no loop, and none four."""
    for _ in range(3):
        log.both()
    assert log.starts("tool_loop") == 0
    log.both()
    (alert,) = log.alerts()
    assert (alert.type, alert.detail["tool_name"], alert.detail["occurrences"]) == ("tool_loop", "Bash", 4)
    assert "nothing new came back" in alert.summary
    assert alert.evidence[0].offset == 0


SAME = {
    "described otherwise": ({"command": "make", "description": "Build"}, {"command": "make", "description": "Build again"}),
    "given more time": ({"command": "make", "timeout": 1000}, {"command": "make", "timeout": 2000}),
    "as a string of JSON": ('{"cmd":"make","yield_time_ms":1000}', '{"cmd":"make","yield_time_ms":5000}'),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME.keys())
def test_what_says_why_or_how_long_makes_no_other_call(new_log, one, other):
    """The parameters are compared as signatures."""
    log = new_log()
    for params in (one, other, one, other):
        log.add("tool_call", tool_name="shell", tool_call_id="c1", tool_params=params).result("ok", number=1)
    assert log.starts("tool_loop") == 1


VOLATILE = {
    "a clock": ("10:00:0{n} running", 1),
    "a duration": ("done in {n}.31s", 1),
    "a process id": ("pid: 123{n} waiting", 1),
    "a Codex chunk": ("Chunk ID: abc12{n}\nWall time: 0.{n} seconds\nOutput:\nnothing", 1),
    "a counter": ("{n} of 9 files", 0),
    "a name": ("no module named m{n}", 0),
}


@pytest.mark.parametrize(("text", "loops"), VOLATILE.values(), ids=VOLATILE.keys())
def test_a_clock_is_nothing_new_and_a_counter_is(log, text, loops):
    """Volatile parts of results do not count; other numbers are progress."""
    for n in range(6):
        log.both(text=text.format(n=n))
    assert log.starts("tool_loop") == loops


def test_two_different_results_below_one_chunk_heading_differ(log):
    """A pattern that once swallowed all that followed `Chunk ID` made every result equal."""
    for n in range(12):
        log.both("write_stdin", {"session_id": 1, "chars": ""}, f"Chunk ID: abcd1{n % 10}\nOutput:\nline {n}")
    assert log.told() == []


def test_another_result_starts_the_count_anew(log):
    """Four equal ones from there on."""
    log.both().both().both().both(text="new").both(text="new").both(text="new")
    assert log.starts("tool_loop") == 0
    log.both(text="new")
    assert log.starts("tool_loop") == 1


def test_unreadable_results_are_not_equal_for_being_unreadable(log):
    """Bytes that are no UTF-8 are compared as they stand."""
    for n in range(6):
        log.both(text=f"@{n}")
    log.lines = [line.replace(b"@", b"\xff") for line in log.lines]
    assert log.told() == []


BREAKS = {
    "another call": lambda log: log.both("Read", {"path": "src/a.py"}),
    "a call without parameters": lambda log: log.both("ListFiles", {}),
    "a user message": lambda log: log.add("user_message", output="go on"),
    "a follow-up": lambda log: log.add("followup_sent", prompt="go on"),
    "a failure": lambda log: log.both(text="no", is_error=True),
}


@pytest.mark.parametrize("other", BREAKS.values(), ids=BREAKS.keys())
def test_whatever_comes_between_ends_the_row(new_log, other):
    """Three and two are not four in a row."""
    log = new_log()
    for _ in range(3):
        log.both()
    other(log)
    for _ in range(2):
        log.both()
    assert log.starts("tool_loop") == 0


def reads(log, count=6):
    for n in range(count):
        log.both("Read", {"path": f"src/{log.calls}.py"}, f"text {n}")
    return log


ENDS = {
    "other work": reads,
    "a user message": BREAKS["a user message"],
    "a follow-up": BREAKS["a follow-up"],
    "a failure": BREAKS["a failure"],
    "another result": lambda log: log.both(text="something new"),
}


@pytest.mark.parametrize("other", ENDS.values(), ids=ENDS.keys())
def test_a_loop_that_was_told_is_told_to_be_over(new_log, other):
    """Once, when it ends."""
    log = new_log()
    for _ in range(5):
        log.both()
    other(log)
    log.both()
    assert log.told() == [("tool_loop", "open"), ("tool_loop", "recovered")]


def test_the_same_six_times_is_a_loop_whatever_stands_between(log):
    """Looking elsewhere changes nothing; the sixth time it is one."""
    for n in range(5):
        log.both().both("Read", {"path": f"src/{n}.py"}, f"text {n}")
    assert log.starts("tool_loop") == 0
    log.both()
    assert log.starts("tool_loop") == 1


CHANGES = {
    "an edit": ("Edit", {"path": "a.py", "new": "{n}"}),
    "an editor's command": ("str_replace_based_edit_tool", {"command": "str_replace", "new_str": "{n}"}),
    "a redirection": ("Bash", {"command": "echo {n} > a.txt"}),
    "sed": ("Bash", {"command": "sed -i s/a/{n}/ a.txt"}),
    "a commit": ("Bash", {"command": "git commit -m {n}"}),
    "an installation": ("Bash", {"command": "npm install left-pad@{n}"}),
}


@pytest.mark.parametrize(("tool", "params"), CHANGES.values(), ids=CHANGES.keys())
def test_the_same_after_a_change_is_another_try(new_log, tool, params):
    """Running the tests again after each change is what one does."""
    log = new_log()
    for n in range(12):
        log.both(params="make test", text="1 failed").both(tool, {key: value.replace("{n}", str(n)) for key, value in params.items()}, "done")
    assert log.told() == []


LOOKS = {
    "an editor's view": ("str_replace_based_edit_tool", {"command": "view", "path": "{n}"}),
    "what is thrown away": ("Bash", {"command": "ls {n} 2>/dev/null"}),
    "an arrow": ("Bash", {"command": "grep -n 'a => {n}' src"}),
}


@pytest.mark.parametrize(("tool", "params"), LOOKS.values(), ids=LOOKS.keys())
def test_looking_changes_nothing(new_log, tool, params):
    """However much it looks like writing."""
    log = new_log()
    for n in range(6):
        log.both(params="make test", text="1 failed").both(tool, {key: value.replace("{n}", str(n)) for key, value in params.items()}, f"text {n}")
    assert log.starts("tool_loop") == 1


def circle(log, *names, rounds=1, text="the same"):
    for _ in range(rounds):
        for name in names:
            log.both("Read", {"path": name}, text)
    return log


@pytest.mark.parametrize("period", [2, 3, 4, 5])
def test_three_rounds_of_the_same_steps_are_a_cycle(log, period):
    """Told once, with the last step of the third round, and over with the first other step."""
    names = [f"{n}.py" for n in range(period)]
    circle(log, *names, rounds=3)
    log.lines.pop()
    assert log.starts("tool_loop") == 0
    log.result("the same")
    circle(log, *names, rounds=2)
    assert log.told() == [("tool_loop", "open")]
    assert "in turn" in log.alerts()[0].summary
    circle(log, "other.py", "another.py")
    assert log.told() == [("tool_loop", "open"), ("tool_loop", "recovered")]


def test_a_circle_that_brings_something_new_is_work(log):
    """The same three files, each time with other contents."""
    for n in range(5):
        circle(log, "a", "b", "c", text=f"version {n}")
    assert log.told() == []


def test_six_that_differ_in_a_number_and_bring_the_very_same_are_a_loop(log):
    """Only the limit of the search moves."""
    found = "src/a.py:1: nothing of interest here\nsrc/b.py:2: nor here"
    for n in range(8):
        log.both("Grep", {"pattern": "sink", "head_limit": 10 * n}, found)
    assert log.starts("tool_loop") == 1


def test_short_answers_and_plans_that_are_alike_say_nothing(log):
    """`ok` and "Todos have been modified" come whatever was asked."""
    for n in range(12):
        log.both("Set", {"line": n}, "ok")
        log.both("TodoWrite", {"todos": [{"content": f"step {n}", "id": n}]}, "Todos have been modified successfully. Ensure that you continue.")
    assert log.told() == []


def test_the_same_failing_call_is_an_error_loop(log):
    """Told once, not as two types."""
    for _ in range(6):
        log.both(text="make: *** no rule to make target", is_error=True, error_message="make: *** no rule to make target")
    assert log.told() == [("error_loop", "open")]


def test_edits_between_builds_are_work(log):
    """`npm run build` with the same line of success 33 times in a session was healthy."""
    for n in range(33):
        log.both(params="npm run build", text="built").both("Edit", {"path": "a.ts", "old": f"v{n}", "new": f"v{n + 1}"}, "ok")
    assert log.told() == []


def test_a_to_do_list_that_moves_on_is_work(log):
    """Its answer is always the same, its parameters are not."""
    for n in range(20):
        log.both("TodoWrite", {"todos": [{"content": "a", "done": n}]}, "Todos have been modified successfully")
    assert log.told() == []


POLLS = {
    "of a poll tool": ("BashOutput", POLL),
    "by sleeping": ("Bash", {"command": "sleep 3 && cat out.log"}),
    "by watching": ("Bash", {"command": "gh run view 1 --watch"}),
}


@pytest.mark.parametrize(("tool", "params"), POLLS.values(), ids=POLLS.keys())
def test_eight_equal_polls_are_a_loop(new_log, tool, params):
    """Healthy polls reach seven."""
    log = new_log()
    for _ in range(7):
        log.both(tool, params, "running").wait(2)
    assert log.starts("tool_loop") == 0
    log.both(tool, params, "running")
    assert log.starts("tool_loop") == 1


def test_a_burst_of_polls_waits_for_twenty_seconds(log):
    """Eight polls in a few seconds are impatience."""
    for _ in range(9):
        log.both("BashOutput", POLL, "running")
    assert log.starts("tool_loop") == 0
    log.both("BashOutput", POLL, "running").both("BashOutput", POLL, "running")
    assert log.starts("tool_loop") == 1


def test_polls_that_wait_by_themselves_are_given_twenty_minutes(log):
    """Codex waited 34 times 30 s for a healthy build."""
    for _ in range(39):
        log.both("write_stdin", {"session_id": 1, "chars": ""}, "").wait(28)
    assert log.starts("tool_loop") == 0
    for _ in range(3):
        log.both("write_stdin", {"session_id": 1, "chars": ""}, "").wait(28)
    assert log.starts("tool_loop") == 1


def test_polls_that_bring_something_are_work(log):
    """50 reads of an output that grows."""
    for n in range(50):
        log.both("BashOutput", POLL, f"{n} tests run").wait(3)
    assert log.told() == []


def test_calls_in_parallel_count_once(log):
    """Four equal calls of one model message are one turn."""
    for n in range(4):
        log.call(msg_id="m1")
        assert log.calls == n + 1
    for n in range(4):
        log.result(number=n + 1)
    assert log.told() == []


def test_parallel_calls_of_a_log_without_message_ids_count_once_too(log):
    """A turn begins with the first word of the model after a result, in whichever order results come back."""
    for _ in range(3):
        log.call()
    for number in (3, 1, 2):
        log.result(number=number)
    log.both().both()
    assert log.told() == []
    log.both()
    assert log.starts("tool_loop") == 1


def test_a_late_result_of_an_earlier_call_is_not_compared(log):
    """Results come back out of order."""
    log.call("Read", {"path": "src/a.py"})
    for n in range(6):
        log.call()
        if n == 1:
            log.result("text of a.py", number=1)
        log.result()
    assert log.starts("tool_loop") == 1


def test_sub_agents_do_not_repeat_each_other(log):
    """Each lane is judged by itself."""
    for n in range(8):
        log.both(lane=f"agent{n % 4}")
    assert log.starts("tool_loop") == 0


def test_two_sub_agents_in_the_same_circle_are_two_incidents(log):
    """However slowly they take turns, none of their lines is written twice."""
    for n in range(40):
        log.both(lane=("s1", "s2")[n // 4 % 2]).wait(100 if n % 4 else 700)
    alerts = [alert for alert in log.alerts() if alert.type == "tool_loop"]
    assert [str(alert.status) for alert in alerts] == ["open"] * 2 + ["escalated"] * 4
    assert len({alert.alert_id for alert in alerts}) == 6
    assert len({alert.episode_id for alert in alerts}) == 2


def test_long_parameters_are_compared_too(log):
    """All of them, though only a checksum is kept."""
    for n in range(4):
        log.both("Write", {"path": "a", "content": "x" * 100_000 + str(n)}, "ok")
    assert log.starts("tool_loop") == 0
    for _ in range(4):
        log.both("Write", {"path": "a", "content": "x" * 100_000}, "ok")
    assert log.starts("tool_loop") == 1


def test_a_loop_that_goes_on_is_told_again_when_it_has_grown_fourfold(log):
    """4, 16, 64: not every time, and each time more urgent."""
    for _ in range(70):
        log.both()
    alerts = log.alerts()
    assert [(alert.detail["occurrences"], str(alert.status), str(alert.severity)) for alert in alerts] == [
        (4, "open", "medium"),
        (16, "escalated", "high"),
        (64, "escalated", "high"),
    ]
    assert len({alert.episode_id for alert in alerts}) == 1
    assert len({alert.alert_id for alert in alerts}) == 3


def test_a_loop_that_stops_and_starts_is_one_incident(log):
    """Within the cool-down it is counted, and told when it has grown."""
    for _ in range(8):
        for _ in range(5):
            log.both()
        reads(log)
    alerts = log.alerts()
    assert [str(alert.status) for alert in alerts] == ["open", "recovered", "escalated", "recovered"]
    assert len({alert.episode_id for alert in alerts}) == 1
    assert len({alert.alert_id for alert in alerts}) == 4


def test_after_the_cool_down_it_is_another_incident(log):
    """Ten minutes after the last of the loop."""
    for _ in range(4):
        log.both()
    log.both("Read", {"path": "src/a.py"}).add("turn_end").wait(700).add("user_message", output="again")
    for _ in range(4):
        log.both()
    opened = [alert for alert in log.alerts() if alert.status == "open"]
    assert len({alert.episode_id for alert in opened}) == 2


def test_a_loop_that_goes_round_more_slowly_than_the_cool_down_is_one_incident(log):
    """It never ended: its first line is not written again."""
    for _ in range(20):
        log.both().wait(700)
    alerts = [alert for alert in log.alerts() if alert.type == "tool_loop"]
    assert [str(alert.status) for alert in alerts] == ["open", "escalated"]
    assert len({alert.alert_id for alert in alerts}) == 2


WORK = {
    "edits by a server's tool": lambda log, n: log.both(params="npm test", text="ok").both("mcp__serena__replace_symbol_body", {"name": f"f{n}"}, "OK"),
    "sub-agents": lambda log, n: log.both(params="npm test", text="ok").both("Task", {"prompt": f"do step {n}"}, "done"),
    "scripts": lambda log, n: log.both(params="npm test", text="ok").both(params=f"python3 tools/rename.py fn{n}", text="renamed"),
    "one commit a file": lambda log, n: (
        log.both("NextFile", {}, "ok").both(params="pytest", text="5 passed").both(params="git commit -am migrate", text="committed")
    ),
    "issues closed": lambda log, n: log.both("mcp__github__close_issue", {"number": n}, "The issue was closed and its author was told so."),
    "keys pressed": lambda log, n: log.both("browser_press_key", {"key": "ArrowDown"}, "Pressed ArrowDown on the page") if n < 7 else log,
    "a rebase that goes on": lambda log, n: log.both(params="git rebase --continue", text="Successfully rebased") if n < 7 else log,
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
def test_work_that_moves_on_is_no_loop(new_log, work):
    """However alike its steps look."""
    log = new_log()
    for n in range(8):
        work(log, n)
    assert log.told() == []


def test_paragraphs_without_a_word_of_whose_they_are_are_no_monologue(log):
    """A final answer that is logged line by line."""
    log.both()
    for n in range(9):
        log.add("agent_output", output=f"Paragraph {n} of the summary.")
    assert log.told() == []


def test_six_messages_without_a_call_are_a_monologue(log):
    """Each an answer of the model, which is what the cost says."""
    log.both()
    for n in range(5):
        log.add("agent_output", output=f"I will think about {n}", cost_usd=0.01)
    assert log.starts("tool_loop") == 0
    log.add("agent_output", output="", cost_usd=0.01)
    log.both()
    assert log.told() == [("tool_loop", "open"), ("tool_loop", "recovered")]


def test_the_same_message_three_times_is_a_monologue(log):
    """Two might be a slip."""
    log.both()
    for n in range(2):
        log.add("agent_output", output="I am done with the task.", msg_id=f"m{n}")
    assert log.starts("tool_loop") == 0
    log.add("agent_output", output="I am done with the task.", msg_id="m3")
    assert log.starts("tool_loop") == 1


def test_a_message_that_goes_round_in_itself_is_told(log):
    """Code and lists do so healthily."""
    passage = "and then the parser reads the next token and returns to its start, "
    log.both().add("agent_output", output="```\n" + f"{passage}\n" * 60 + "```", msg_id="m1").both(params="ls src")
    assert log.told() == []
    log.add("agent_output", output=passage * 60, msg_id="m2")
    assert log.starts("tool_loop") == 1
