"""SIGHUP to the notifier: other chats, other commands, and nothing lost on the way."""

import signal
import sys
import time


def until(condition):
    end = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def settings(place, toml):
    folder = place.base / ".config" / "agentwatch"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agentwatch.toml").write_text(toml)


def begun(place):
    process = place.start()
    until(lambda: "notifying about" in place.stderr)
    return process


def test_another_chat_is_told_from_the_reload_on(place, api, line):
    """What went out before went to the first chat, once; what comes after goes to the second."""
    place.environ.pop("AGENTWATCH_TELEGRAM_CHATS")
    settings(place, "[telegram]\nchats = [7]\n")
    process = begun(place)
    place.write(line(1))
    api.wait(lambda: len(api.messages) == 1)
    settings(place, "[telegram]\nchats = [8]\n")
    process.send_signal(signal.SIGHUP)
    until(lambda: "changed: `telegram.chats`" in place.stderr and place.stderr.count("notifying about") == 2)
    place.write(line(2))
    api.wait(lambda: len(api.messages) == 2)
    assert [message["chat"] for message in api.messages] == [7, 8]
    assert "taps and commands are not fetched" not in place.stderr
    process.terminate()
    assert process.wait(20) == 0


def test_settings_that_cannot_be_used_silence_nobody(place, api, line):
    """Neither a mistake in the file, nor in a value, nor a chat that is told twice."""
    process = begun(place)
    routes = "[[telegram.routes]]\nchat = 9\n"
    for number, toml in enumerate(("rubbish", "[cost]\nusd_per_session = -1\n", 2 * routes), 1):
        settings(place, toml)
        process.send_signal(signal.SIGHUP)
        until(lambda number=number: place.stderr.count("settings stay as they were") == number)
    place.write(line(1))
    api.wait(lambda: api.messages)


def test_a_command_that_runs_is_not_interrupted(place, api, line):
    """The reload waits for its end; a repair cut off in the middle would be worse than the mistake it mends."""
    go = place.base / "go"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.05)\nprint('well done')"
    settings(place, f"[actions]\ntrigger_ai_autofix = ['{sys.executable}', '-c', '''{wait}''']\n")
    process = begun(place)
    place.write(line(1))
    until(lambda: b"running" in (place.state / "notify.sqlite-wal").read_bytes() if (place.state / "notify.sqlite-wal").exists() else True)
    api.wait(lambda: api.messages)
    time.sleep(0.5)
    process.send_signal(signal.SIGHUP)
    until(lambda: "settings read again" in place.stderr)
    time.sleep(0.5)
    assert place.stderr.count("notifying about") == 1
    go.touch()
    until(lambda: place.stderr.count("notifying about") == 2)
    journal = (place.state / "actions.jsonl").read_text()
    assert '"outcome":"done"' in journal
    assert "well done" in journal


def test_a_stop_during_a_reload_is_a_stop(place, api):
    """Whoever stops it while it begins anew has stopped it."""
    for number in range(1, 4):
        process = place.start()
        until(lambda number=number: place.stderr.count("notifying about") >= number)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_daemon_hands_the_reload_on_to_its_notifier(place, api, line):
    """`run --with-notify`: one signal, both read their settings again."""
    place.environ.pop("AGENTWATCH_TELEGRAM_CHATS")
    place.environ["AGENTWATCH_SOURCES"] = "none"
    settings(place, "[telegram]\nchats = [7]\n")
    process = place.start("run", "--with-notify")
    until(lambda: "notifying about" in place.stderr and "watching" in place.stderr)
    settings(place, "[telegram]\nchats = [8]\n")
    process.send_signal(signal.SIGHUP)
    until(lambda: place.stderr.count("changed: `telegram.chats`") == 2 and place.stderr.count("notifying about") == 2)
