"""Other services through apprise, one of which is a plain web address: what arrives, and what is kept quiet."""

import json
import time

import pytest
from conftest import alert_line
from test_webhook import Receiver

from agentwatch.core.cards import REPEAT

pytest.importorskip("apprise", reason="the extra `apprise` is not installed")


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def hooked(place, receiver):
    place.environ.update(
        AGENTWATCH_TELEGRAM_TOKEN="", AGENTWATCH_TELEGRAM_CHATS="", AGENTWATCH_APPRISE_URLS=f"json://user:Passw0rdOfMine@127.0.0.1:{receiver.port}/"
    )
    return place


def test_each_step_of_an_incident_is_a_message(hooked, receiver):
    """Title and text, without marks; what cannot be edited is told again."""
    hooked.start()
    hooked.write(alert_line(1, episode="e"))
    receiver.wait(1)
    hooked.write(alert_line(2, episode="e", status="recovered"))
    found = [json.loads(body) for *_, body in receiver.wait(2)]
    assert [one["title"] for one in found] == ["❌ ERROR LOOP DETECTED", "✅ RECOVERED: ERROR LOOP"]
    assert found[0]["message"].startswith("Attempt: attempt-1\nExecutor: CODEX\n")


def test_what_was_not_taken_is_sent_again_marked_and_addresses_are_told_to_nobody(hooked, receiver):
    """Apprise does not say whether it may have arrived."""
    receiver.answers.append(500)
    hooked.start()
    hooked.write(alert_line(1))
    found = [json.loads(body) for *_, body in receiver.wait(2)]
    assert REPEAT not in found[0]["message"]
    assert REPEAT in found[1]["message"]
    until = time.time() + 5
    while "trying again" not in hooked.stderr:
        assert time.time() < until
        time.sleep(0.05)
    assert "Passw0rd" not in hooked.stderr
    for path in hooked.state.iterdir():
        assert b"Passw0rd" not in path.read_bytes()


def test_a_storm_is_a_digest_here_too(hooked, receiver):
    """The same limits for everybody."""
    hooked.start()
    hooked.write(*(alert_line(number) for number in range(50)))
    (post,) = receiver.wait(1)
    assert json.loads(post[3])["title"].startswith("❌ 50 alerts")
