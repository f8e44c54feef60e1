"""A thousand alerts, a Bot API that fails in every way it can, and a notifier that is killed again and again."""

import itertools
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from botapi import CUT, ERROR, FLOOD, GATEWAY, LOST, OK, SLOW
from conftest import alert_line

from agentwatch.core.cards import REPEAT

FAULTS = {OK: 84, CUT: 3, LOST: 3, GATEWAY: 3, ERROR: 3, SLOW: 2, FLOOD: 2}
UNSURE = {LOST, GATEWAY, ERROR, CUT, SLOW}


def start(place):
    with (place.base / "stderr.txt").open("ab") as stderr:
        command = [sys.executable, str(Path(__file__).with_name("hurrying.py"))]
        process = subprocess.Popen(command, cwd=place.base, env=place.environ, stderr=stderr)
    place.processes.append(process)
    return process


@pytest.mark.parametrize(
    ("alerts", "kills"), [pytest.param(60, 3, id="60 alerts, 3 kills"), pytest.param(1000, 50, id="1,000 alerts, 50 kills", marks=pytest.mark.torture)]
)
def test_nothing_is_lost_and_a_repeat_is_marked(place, api, alerts, kills, capsys):
    """0 lost; a second message only where an answer was lost, and then marked."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    place.environ["AGENTWATCH_NOTIFY_STORM_PER_MIN"] = "1000000"
    drawn = Counter()

    def choose():
        fault = chance.choices(list(FAULTS), list(FAULTS.values()))[0]
        drawn[fault] += 1
        return fault

    api.choose, api.slow_s = choose, 0.3
    process = start(place)
    numbers = iter(range(alerts))
    for _ in range(kills):
        place.write(*(alert_line(number) for number in itertools.islice(numbers, alerts // kills)))
        # So many requests later, wherever in its work it is then.
        goal = len(api.requests) + chance.randint(1, 2 * alerts // kills)
        until = time.time() + 8
        while len(api.requests) < goal and time.time() < until and len(api.messages) < alerts:
            time.sleep(0.005)
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.wait(20)
        process = start(place)
    place.write(*(alert_line(number) for number in numbers))
    api.choose = lambda: OK

    def told():
        return {re.search("Attempt: (.*)", message["text"])[1] for message in api.messages}

    api.wait(lambda: len(told()) == alerts, timeout=120)
    time.sleep(1)
    copies = Counter(re.search("Attempt: (.*)", message["text"])[1] for message in api.messages)
    marked = sum(REPEAT in message["text"] for message in api.messages)
    unmarked = Counter(re.search("Attempt: (.*)", message["text"])[1] for message in api.messages if REPEAT not in message["text"])
    extra = copies.total() - alerts
    with capsys.disabled():
        print(f"\n{alerts} alerts, {kills} kills, {copies.total()} messages: 0 lost, {extra} repeats, {marked} marked; faults {dict(drawn)}")
    assert max(unmarked.values()) == 1
    assert extra <= kills + sum(drawn[fault] for fault in UNSURE)


@pytest.mark.torture
@pytest.mark.parametrize("total", [pytest.param(1000, id="1,000"), pytest.param(10_000, id="10,000")])
def test_a_storm_is_a_handful_of_messages_in_flat_memory(place, api, total, capsys):
    """The worst first, nothing lost: what is not named is counted."""
    process = place.start()
    place.write(alert_line("first"))
    api.wait(lambda: api.messages)
    time.sleep(1)
    before = psutil.Process(process.pid).memory_info().rss
    severities = ("low", "medium", "high")
    seconds = 60 if total == 10_000 else 6
    for second in range(seconds):
        began = time.time()
        place.write(*(alert_line(number, severity=severities[(number % 50 == 0) + (number % 2)]) for number in range(second, total, seconds)))
        time.sleep(max(0.0, 1 - (time.time() - began)))

    def counted():
        return sum(int(found[1].replace(",", "")) if (found := re.search(r"([\d,]+) alerts, ", message["text"])) else 1 for message in api.messages)

    api.wait(lambda: counted() == total + 1, timeout=90)
    grown = (psutil.Process(process.pid).memory_info().rss - before) / 1e6
    with capsys.disabled():
        print(f"\n{total} alerts in {seconds} s: {len(api.messages)} messages, {grown:.1f} MB more memory")
    assert len(api.messages) <= 13
    assert grown < 30
    largest = max(api.messages, key=lambda message: len(message["text"]))
    listed = [text[0] for text in largest["text"].split("\n\n")[1].splitlines()[:-1]]
    assert listed == sorted(listed, key="❌⚠\N{INFORMATION SOURCE}".index)
