"""`agentwatch notify` as a process, against a Bot API on loopback."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from botapi import BAD, BLOCKED, CUT, ERROR, FLOOD, GATEWAY, LOST, PORTAL, TOKEN

from agentwatch.core.cards import REPEAT


def messages(api, number):
    return api.wait(lambda: len(api.messages) >= number and api.messages)


def edited(api, message, text):
    return api.wait(lambda: text in message["text"] and message)


def test_an_alert_arrives_as_the_card_that_was_agreed_on(place, api, line):
    """What a phone shows: what, who, which error and how often, what to do, the summary and the best line of evidence."""
    place.start()
    place.write(line(1, attempt_id="ve-a1b2-implement-auth", error_fingerprint="git_push_failed", occurrences=4, window_ms=600_000, at_s=1_770_000_000 + 10**9))
    (message,) = messages(api, 1)
    assert message["text"].splitlines()[:-1] == [
        "❌ ERROR LOOP DETECTED",
        "Attempt: ve-a1b2-implement-auth",
        "Executor: CODEX",
        "Error: git_push_failed (4 occurrences in 10 min)",
        "Recommendation: trigger_ai_autofix",
        "",
        "attempt-1 is in an error loop: git_push_failed, 4 times in 10 min",
        "error: failed to push some refs",
    ]
    assert [[key["text"] for key in row] for row in message["keyboard"]] == [["✔ ack", "🔇 mute …", "details"]]


def test_what_was_written_while_nobody_ran_is_told_at_the_start_and_not_again_at_the_next(place, api, line):
    """The cursor survives; so does a line that was half written."""
    place.write(line(1))
    first = place.start()
    messages(api, 1)
    first.terminate()
    assert first.wait(20) == 0
    place.write(line(2))
    with place.path.open("ab") as file:
        file.write(orjson.dumps(line(3))[:50])
    place.start()
    messages(api, 2)
    with place.path.open("ab") as file:
        file.write(orjson.dumps(line(3))[50:] + b"\n")
    messages(api, 3)
    assert [message["text"].splitlines()[1] for message in api.messages] == [f"Attempt: attempt-{number}" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("fault", "copies"),
    [
        pytest.param(CUT, 1, id="cut before it was accepted"),
        pytest.param(LOST, 2, id="cut after it was accepted"),
        pytest.param(GATEWAY, 2, id="lost behind a proxy"),
        pytest.param(ERROR, 1, id="server error"),
        pytest.param(PORTAL, 1, id="answered by something in between"),
        pytest.param(FLOOD, 1, id="asked to wait"),
    ],
)
def test_a_fault_loses_nothing_and_a_repeat_is_marked(place, api, line, fault, copies):
    """Two messages only where the answer to the first was lost."""
    api.faults.append(fault)
    place.start()
    place.write(line(1))
    found = messages(api, copies)
    time.sleep(0.5)
    assert len(found) == copies
    assert (REPEAT in found[-1]["text"]) == (fault in (CUT, LOST, GATEWAY, ERROR, PORTAL))
    assert REPEAT not in found[0]["text"] or copies == 1
    assert "Traceback" not in place.stderr
    assert "trying again every" not in place.stderr


def test_a_flood_wait_is_kept_to_the_second(place, api, line):
    """The next request comes after what the server asked for, not before."""
    api.retry_after = 2
    api.faults.append(FLOOD)
    place.start()
    place.write(line(1))
    messages(api, 1)
    first, second = (at for at, *_ in api.requests)
    assert 2 <= second - first < 4


def test_a_message_that_is_refused_is_sent_once_more_as_plain_text(place, api, line):
    """An alert is never dropped for its marks."""
    api.faults.append(BAD)
    place.start()
    place.write(line(1))
    (message,) = messages(api, 1)
    assert "parse_mode" not in api.requests[1][2]
    assert message["text"].startswith("❌ ERROR LOOP")


def test_what_is_refused_for_good_stands_in_the_dead_letter_file(place, api, line):
    """With the reason, what it said and about which alerts; what follows arrives."""
    api.faults.extend([BAD, BAD])
    place.start()
    place.write(line(1))
    place.write(line(2))
    (message,) = messages(api, 1)
    assert "attempt-2" in message["text"]
    (letter,) = [orjson.loads(text) for text in (place.state / "notify.dead.jsonl").read_text().splitlines()]
    assert (letter["target"], letter["alert_ids"]) == ("telegram:7", ["id-1"])
    assert "BUTTON_DATA_INVALID" in letter["reason"].upper()
    assert letter["text"].startswith("❌ ERROR LOOP DETECTED")


def test_a_missing_topic_sends_to_the_chat_itself_and_says_so(place, api, line):
    """Somebody closed the topic; the alert arrives."""
    place.start("notify", AGENTWATCH_TELEGRAM_CHATS="-100/9")
    place.write(line(1))
    (message,) = messages(api, 1)
    assert message["topic"] is None
    assert "sent here because topic 9 is gone or closed" in message["text"]


def test_the_general_topic_is_the_group_itself(place, api, line):
    """It has the number 1, and the server knows no thread of that number."""
    place.start("notify", AGENTWATCH_TELEGRAM_CHATS="-100/1")
    place.write(line(1))
    (message,) = messages(api, 1)
    assert message["topic"] is None
    assert "topic" not in message["text"]


def test_a_command_in_a_reply_is_answered_in_the_group_and_one_in_a_topic_there(place, api):
    """A reply has the number of a thread, too, in which nothing can be sent."""
    api.topics.add(9)
    place.start("notify", AGENTWATCH_TELEGRAM_CHATS="-100", AGENTWATCH_TELEGRAM_USERS="7")
    api.say("/help", chat=-100, message_thread_id=33)
    api.say("/help", chat=-100, message_thread_id=9, is_topic_message=True)
    first, second = messages(api, 2)
    assert [(one["topic"], "gone or closed" in one["text"]) for one in (first, second)] == [(None, False), ("9", False)]


def test_a_topic_and_a_chat_that_moved_are_found(place, api, line):
    """Message threads are used; a group that became a supergroup is followed."""
    api.topics.add(9)
    api.moved[-5] = -1005
    place.start("notify", AGENTWATCH_TELEGRAM_CHATS="-100/9,-5")
    place.write(line(1))
    found = messages(api, 2)
    assert sorted((message["chat"], str(message["topic"])) for message in found) == [(-1005, "None"), (-100, "9")]


def test_a_chat_that_blocked_the_bot_is_told_to_the_operator(place, api, line):
    """In one line on stderr, without the token."""
    api.faults.append(BLOCKED)
    place.start()
    place.write(line(1))
    api.wait(lambda: "blocked by the user" in place.stderr)
    assert TOKEN not in place.stderr


def test_a_kill_after_the_send_gives_one_marked_repeat(place, api, line):
    """SIGKILL between the server's acceptance and the answer."""
    api.slow_s = 30
    api.faults.append("slow")
    process = place.start()
    place.write(line(1))
    messages(api, 1)
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    place.start()
    first, second = messages(api, 2)
    assert second["text"].splitlines()[1] == REPEAT
    assert second["text"].replace(f"{REPEAT}\n", "") == first["text"]


def test_a_memory_that_is_damaged_while_it_runs_ends_it_and_is_set_aside_by_the_next(place, api, line):
    """Tried again it would fail for ever, with nobody told of anything any more."""
    process = place.start()
    place.write(line(1))
    messages(api, 1)
    time.sleep(0.5)
    for path in place.state.glob("notify.sqlite*"):
        path.write_bytes(b"x" * path.stat().st_size)
    place.write(line(2))
    assert process.wait(20) == 1
    assert "damaged" in place.stderr
    place.start()
    api.wait(lambda: any("attempt-2" in message["text"] for message in api.messages))


def test_a_rotated_log_is_read_to_its_end_and_then_the_new_one(place, api, line):
    """By renaming and by copying and truncating; nothing twice."""
    place.start()
    place.write(line(1))
    messages(api, 1)
    place.write(line(2))
    place.path.rename(place.path.with_name("agent-alerts.jsonl.1"))
    place.write(line(3))
    messages(api, 3)
    place.path.with_name("agent-alerts-20260209.jsonl").write_bytes(place.path.read_bytes())
    os.truncate(place.path, 0)
    place.write(line(4))
    found = messages(api, 4)
    assert sorted(message["text"].splitlines()[1] for message in found) == [f"Attempt: attempt-{number}" for number in (1, 2, 3, 4)]


def test_a_backlog_of_many_megabytes_is_one_digest(place, api, line):
    """It is read to its end before anything is told of it."""
    place.write(*(line(number, at_s=time.time() - 1200) for number in range(6000)))
    assert place.path.stat().st_size > 2 << 20
    place.start()
    (message,) = messages(api, 1)
    assert message["text"].startswith("❌ 6,000 alerts, ")


def test_lines_that_are_no_alerts_are_passed_over(place, api, line):
    """Whoever else writes into the file does no harm."""
    with place.path.open("ab") as file:
        file.write(b'not json\n[]\n{"alert_id": 5}\n\xff\xfe\n\n' + b"[" * 100_000 + b"\n" + b"x" * (9 << 20) + b"\n")
    place.write({"alert_id": "odd", "type": "x", "severity": [], "evidence": {"a": 1}, "timestamp": 5, "occurrences": {"a": []}, "summary": None}, line(1))
    place.start()
    found = messages(api, 2)
    assert found[-1]["text"].startswith("❌ ERROR LOOP") or found[0]["text"].startswith("❌ ERROR LOOP")


# ------------------------------------------------------------------------------------------------------- taps and commands


def test_buttons_acknowledge_mute_and_show_details(place, api, line):
    """By long polling: there is no server of ours."""
    place.start()
    place.write(line(1, run_id="run-7"))
    (message,) = messages(api, 1)
    api.tap(message, "ack")
    edited(api, message, "✔ acknowledged by User7")
    assert not any("ack" in key["text"] for row in message["keyboard"] for key in row)
    api.tap(message, "details")
    edited(api, message, "agent-work-stream.jsonl at byte 17")
    assert "run_id: run-7" in message["text"]
    api.tap(message, "mute")
    api.wait(lambda: any("attempt, 1 h" in key["text"] for row in message["keyboard"] for key in row))
    api.tap(message, "this type, 1 h")
    edited(api, message, "🔇 error_loop muted until")
    place.write(line(2), line(3, kind="tool_loop"))
    assert "attempt-3" in messages(api, 2)[1]["text"]


def test_a_button_of_an_old_message_works(place, api, line):
    """The server does not say any more what stands in it."""
    place.start()
    place.write(line(1))
    (message,) = messages(api, 1)
    api.tap(message, "ack", is_old=True)
    edited(api, message, "✔ acknowledged by User7")
    api.wait(lambda: api.answers == ["acknowledged"])


def test_another_bot_is_listened_to_from_its_own_beginning(place, api, line):
    """Each numbers what happens to it in its own way."""
    first = place.start()
    for number in (1, 2):
        api.say("/help")
        messages(api, number)
    first.terminate()
    first.wait(20)
    other = TOKEN.replace("123456789", "987654321")
    api.tokens, api._number, api.updates = {other}, 10, []
    place.start("notify", AGENTWATCH_TELEGRAM_TOKEN=other)
    api.say("/help")
    messages(api, 3)


def test_commands_are_answered(place, api, line):
    """Status, alerts, summary, mutes, help; what is no command is not."""
    place.write(line(1))
    place.start()
    messages(api, 1)
    for number, (said, expected) in enumerate(
        [
            ("/status", "not running"),
            ("/alerts 5", "attempt-1 is in an error loop"),
            ("/summary", "1 error_loop"),
            ("/summary", "No sessions are known"),
            ("/mute attempt attempt-9 1h", "🔇 attempt attempt-9 muted until"),
            ("/mute", "attempt attempt-9 until"),
            ("/mute off", "nothing is muted"),
            ("/mute type", "/mute 1h  tell nothing for an hour"),
            ("/help@agentwatch_test_bot", "/status"),
            ("/nonsense", "/status"),
        ],
        2,
    ):
        api.say("hello, bot")
        api.say(said)
        assert expected in messages(api, number)[-1]["text"]


def test_summary_has_the_figures_of_the_week_for_a_phone(place, api, line):
    """Those of `agentwatch summary --days 7`, from what is stored; taps are answered while they are made."""
    at = datetime.now(UTC) - timedelta(days=1)
    place.write(line(1))
    stored = [
        {"timestamp": at.isoformat(), "attempt_id": f"a{number}", "outcome": {"status": status}, "metrics": {"cost_usd": 1.5, "duration_ms": 60_000}}
        for number, status in enumerate(["success", "success", "success", "failed"])
    ]
    (place.logs / "agent-metrics.jsonl").write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in stored))
    place.start()
    messages(api, 1)
    api.say("/summary")
    text = messages(api, 2)[-1]["text"]
    assert text.splitlines() == ["The last 7 days", "Sessions: 4 (1 failed)", "Success: 75.0 %", "Cost: $6.00", "Incidents: 1", "  1 error_loop"]


def test_strangers_and_forged_taps_are_ignored(place, api, line):
    """Another chat, another user in the chat, a button that was made up, a card of another chat: nothing happens, and it is counted."""
    api.topics.add(1)
    place.start("notify", AGENTWATCH_TELEGRAM_CHATS="7,-100", AGENTWATCH_TELEGRAM_USERS="7")
    place.write(line(1))
    messages(api, 2)
    mine = next(message for message in api.messages if message["chat"] == 7)
    group = next(message for message in api.messages if message["chat"] == -100)
    api.tap(mine, "ack", chat=666, user=666)
    api.tap(group, "ack", user=666)
    api.say("/status", chat=666, user=666)
    api.say("/status", chat=-100, user=666)
    api.say("/status", chat=666, user=7)
    card_of_group = group["keyboard"][0][0]["callback_data"].partition(":")[2]
    for data in ("go:1", f"ack:{card_of_group}", "ack:999999", "drop table:1", "", "ack:" + "9" * 30, "x" * 64):
        api.tap(mine, "", data=data)
    api.say("/status", chat=7, user=7)
    answer = messages(api, 3)[2]
    assert "strangers: 5" in answer["text"]
    assert "forged taps: 6" in answer["text"]
    assert mine["edits"] == group["edits"] == []
    assert "not obeyed: user 666 in chat 666" in place.stderr


def test_a_second_poller_does_not_stop_the_messages(place, api, line):
    """One bot serves one poller; the other says so, and goes on sending."""
    api.polling = 1
    place.start()
    api.wait(lambda: "another program fetches them" in place.stderr)
    place.write(line(1))
    messages(api, 1)


# -------------------------------------------------------------------------------------------------------------- secrets


def test_the_token_is_nowhere(place, api, line):
    """In no log, error, traceback, file or process list, whatever goes wrong."""
    api.faults.extend([CUT, ERROR, FLOOD, BAD])
    process = place.start("notify", PYTHONASYNCIODEBUG="1", PYTHONDEVMODE="1")
    for number in range(4):
        place.write(line(number))
    messages(api, 4)
    assert TOKEN.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    api.close()
    place.write(line(9))
    api.wait(lambda: place.stderr.count("trying again") >= 2)
    process.terminate()
    process.wait(20)
    wrong = place.run("notify", AGENTWATCH_TELEGRAM_TOKEN="hunter2 is no token")  # noqa: S106
    assert wrong.returncode == 2
    assert "hunter2" not in wrong.stderr
    refused = place.run("doctor", "--send-test")
    assert refused.returncode == 1
    doctor = place.run("doctor", "--json")
    for text in (place.stderr, refused.stdout, refused.stderr, doctor.stdout, doctor.stderr):
        assert TOKEN not in text
        assert TOKEN.partition(":")[2] not in text
    for path in place.base.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("ending", ["", "/", "/bot", "/bot/"])
def test_a_server_of_ones_own_is_named_with_or_without_what_comes_behind(place, api, ending):
    """Nobody has to know how the library puts an address together."""
    done = place.run("doctor", "--send-test", AGENTWATCH_TELEGRAM_BASE_URL=api.url.removesuffix("/bot") + ending)
    assert done.returncode == 0, done.stdout


def test_the_token_may_come_from_a_file_and_from_the_credentials_directory(place, api, line, tmp_path):
    """As systemd hands it over."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "agentwatch-telegram-token").write_text(f"{TOKEN}\n")
    for environ in ({"AGENTWATCH_TELEGRAM_TOKEN_FILE": str(folder / "agentwatch-telegram-token")}, {"CREDENTIALS_DIRECTORY": str(folder)}):
        before = len(api.messages)
        done = place.run("doctor", "--send-test", AGENTWATCH_TELEGRAM_TOKEN="", **environ)
        assert done.returncode == 0, done.stdout
        assert "telegram:7 by @agentwatch_test_bot: taken" in done.stdout
        assert len(api.messages) == before + 1


# ------------------------------------------------------------------------------------------------------------ as a program


def test_a_dry_run_prints_and_does_nothing(place, api, line):
    """No request, no memory, no directory; the same when it is called again."""
    place.write(line(1, error_fingerprint="push"))
    (place.base / "config.toml").write_text('[actions]\ntrigger_ai_autofix = ["touch", "made-{attempt_id}"]\n')
    first = place.run("notify", "--dry-run", "--config", "config.toml")
    second = place.run("notify", "--dry-run", "--config", "config.toml", AGENTWATCH_WEBHOOK_URL="http://127.0.0.1:9/x")
    assert first.returncode == second.returncode == 0
    assert "message to telegram:7\n  ❌ ERROR LOOP DETECTED\n  Attempt: attempt-1\n" in first.stdout
    assert "command to command trigger_ai_autofix\n  touch made-attempt-1\n" in first.stdout
    assert "post to webhook\n" in second.stdout
    as_json = place.run("notify", "--dry-run", "--json")
    assert orjson.loads(as_json.stdout)["alert_ids"] == ["id-1"]
    assert api.requests == []
    assert not place.state.exists()


@pytest.mark.parametrize("content", [b"no database" * 1000, b""], ids=["damaged", "empty"])
def test_a_dry_run_beside_a_memory_that_cannot_be_used_shows_what_a_start_would_send(place, api, line, content):
    """And leaves it alone; a directory may be called what it likes."""
    logs = place.base / "what? 100%#1"
    (logs / ".agentwatch").mkdir(parents=True, mode=0o700)
    (logs / ".agentwatch" / "notify.sqlite").write_bytes(content)
    (logs / "agent-alerts.jsonl").write_bytes(orjson.dumps(line(1), option=orjson.OPT_APPEND_NEWLINE))
    done = place.run("notify", "--dry-run", "--log-dir", str(logs))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Attempt: attempt-1" in done.stdout
    assert (logs / ".agentwatch" / "notify.sqlite").read_bytes() == content


def test_an_alert_of_long_ago_is_counted(place, api, line):
    """One that comes later than the notifier remembers: nothing ends nowhere."""
    place.write(line(1))
    place.start()
    messages(api, 1)
    place.write(line(2, at_s=time.time() - 30 * 86_400), line(3))
    messages(api, 2)
    api.say("/status")
    assert "older than two weeks: 1" in messages(api, 3)[-1]["text"]


def test_a_second_notifier_is_refused(place, api, line):
    """Two would tell everything twice."""
    place.write(line(1))
    place.start()
    messages(api, 1)
    second = place.run("notify")
    assert second.returncode == 1
    assert "another agentwatch" in second.stderr


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        pytest.param({"AGENTWATCH_TELEGRAM_TOKEN": ""}, "there is no AGENTWATCH_TELEGRAM_TOKEN", id="chats without a token"),
        pytest.param({"AGENTWATCH_TELEGRAM_TOKEN": "", "AGENTWATCH_TELEGRAM_CHATS": ""}, "nobody is to be notified", id="nothing"),
        pytest.param({"AGENTWATCH_TELEGRAM_CHATS": "@me"}, "telegram.chats", id="a name for an id"),
        pytest.param({"AGENTWATCH_APPRISE_URLS": "nonsense://x"}, "number 1 is no address that apprise knows", id="an address that apprise does not know"),
    ],
)
def test_what_is_configured_by_half_is_refused(place, environ, message):
    """Exit code 2, in two lines."""
    done = place.run("notify", **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "\nhint: " in done.stderr


def test_without_a_chat_the_bot_says_which_id_to_configure(place, api):
    """Nobody knows the id of their own chat."""
    place.start("notify", AGENTWATCH_TELEGRAM_CHATS="")
    api.say("hello", chat=4711, user=4711)
    api.wait(lambda: "user 4711 in chat 4711" in place.stderr)
    assert api.messages == []


def test_an_alert_leaves_within_a_third_of_a_second(place, api, line):
    """From the line in the file to the request. The figures are in benchmarks; here it must hold once."""
    place.start()
    place.write(line(0))
    messages(api, 1)
    time.sleep(4)
    written = time.time()
    place.write(line(1))
    messages(api, 2)
    assert api.requests[-1][0] - written < 1.0
