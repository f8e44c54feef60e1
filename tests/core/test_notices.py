"""What is taken from a line of the alert log, and when it is told: rates, quiet hours, waits."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.core.notices import DIGEST, SINGLE, Bucket, Gate, Limits, Queue, Sent, Wait, backoff, decide, quiet_until, received
from agentwatch.core.taps import keyboard, parse
from agentwatch.model import Evidence

NOW = 1_770_000_000.0
AT = datetime.fromtimestamp(NOW, UTC)


def one(**fields):
    return received({"alert_id": "id", "type": "error_loop", **fields}, AT)


@given(
    st.lists(
        st.one_of(st.text(min_size=1), st.sampled_from(["x" * 70 + end for end in "ab"] + ["ghp_" + end * 36 for end in "AB"])),
        unique=True,
        min_size=2,
        max_size=5,
    )
)
def test_two_alerts_stay_two_whatever_their_ids_are(ids):
    """An id that is cut or looks like a secret is not mistaken for another."""
    found = [alert.alert_id for alert in (one(alert_id=text) for text in ids if text.strip()) if alert is not None]
    assert len(set(found)) == len(found)
    assert one(alert_id="8c1f00aa8c1f00aa").alert_id == "8c1f00aa8c1f00aa"


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        ({"timestamp": "2026-02-09T10:00:00+02:00"}, "timestamp", datetime(2026, 2, 9, 8, tzinfo=UTC)),
        ({"timestamp": "2026-02-09T08:00:00"}, "timestamp", datetime(2026, 2, 9, 8, tzinfo=UTC)),
        ({"timestamp": "yesterday"}, "timestamp", AT),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "timestamp", AT),
        ({"severity": "worst"}, "severity", "medium"),
        ({"severity": ["high"]}, "severity", "medium"),
        ({"status": None}, "status", "open"),
        ({"episode_id": 7}, "episode_id", "7"),
        ({}, "episode_id", "id"),
        ({"evidence": "x"}, "evidence", ()),
        ({"recommendation": "Restart it. " * 20}, "recommendation", "Restart it. " * 20),  # as long as a rule's may be: an action may be named by it
        ({"evidence": [{"offset": True}]}, "evidence", (Evidence("", 0, AT, ""),)),
        ({"timestamp": "9999-12-31T23:59:59Z"}, "timestamp", AT),
        ({"timestamp": "0001-01-01T00:00:00Z"}, "timestamp", AT),
    ],
)
def test_what_a_line_leaves_open_has_a_meaning(fields, name, expected):
    """Whoever wrote it."""
    assert getattr(one(**fields), name) == expected


@pytest.mark.parametrize("line", [{}, {"alert_id": "x"}, {"alert_id": 5, "type": "x"}, {"alert_id": "x", "type": None}, {"alert_id": " ", "type": "x"}])
def test_a_line_without_an_id_or_a_type_is_no_alert(line):
    """There is nothing to know it by."""
    assert received(line, AT) is None


@pytest.mark.parametrize(
    ("topics", "age_s", "sent", "expected"),
    [
        pytest.param(1, 0, [], SINGLE, id="the first"),
        pytest.param(3, 0, [], SINGLE, id="as many as there is room for"),
        pytest.param(4, 0, [], DIGEST, id="more than that"),
        pytest.param(1, 0, [(10, False)] * 3, Wait(NOW + 50), id="one too many waits for room"),
        pytest.param(2, 0, [(10, False)] * 3, DIGEST, id="two too many do not"),
        pytest.param(2, 700, [], DIGEST, id="late ones together"),
        pytest.param(1, 700, [], SINGLE, id="a late one alone"),
        pytest.param(9, 0, [(20, True)], Wait(NOW + 40), id="a digest a minute"),
        pytest.param(1, 0, [(20, True)], SINGLE, id="a single one after a digest"),
        pytest.param(1, 0, [(61, False)] * 9, SINGLE, id="what was sent before counts no more"),
        pytest.param(1, 0, [(-5, False)] * 9, SINGLE, id="nor what was sent in the future, by another clock"),
    ],
)
def test_how_what_waits_is_told(topics, age_s, sent, expected):
    """With room for three messages in a minute."""
    past = [Sent(NOW - ago, is_digest) for ago, is_digest in sent]
    assert decide(Queue(topics, NOW - age_s), past, Limits(storm_per_min=3), NOW) == expected


@pytest.mark.parametrize(
    ("spec", "local", "until"),
    [
        ("", "03:00", None),
        ("22:00-07:00", "21:59", None),
        ("22:00-07:00", "22:00", "07:00"),
        ("22:00-07:00", "06:59", "07:00"),
        ("22:00-07:00", "07:00", None),
        ("12:00-13:30", "13:29", "13:30"),
        ("12:00-13:30", "11:59", None),
        ("08:00-08:00", "08:00", None),
    ],
)
def test_quiet_hours_end_when_they_say(spec, local, until):
    """Over midnight or not."""
    at = datetime.fromisoformat(f"2026-02-09T{local}:00+01:00")
    end = quiet_until(spec, at)
    assert (end.strftime("%H:%M") if end else None) == until
    assert end is None or timedelta() < end - at <= timedelta(days=1)


@given(st.integers(1, 20), st.floats(0.01, 10), st.lists(st.floats(0, 5), max_size=100))
def test_a_bucket_gives_no_more_than_its_rate(burst, every_s, pauses):
    """Whoever asks, and however often: at most the burst, and one more for each interval."""
    bucket, now, taken = Bucket(burst, every_s), NOW, []
    for pause in pauses:
        now += pause
        if bucket.ready_at(now) <= now:
            bucket.take(now)
            taken.append(now)
    assert len(taken) <= burst + (now - NOW) / every_s + 1e-6


def test_a_gate_opens_in_time_and_when_the_clock_is_set_back():
    """And is not opened early by a shorter wait."""
    gate = Gate()
    gate.close(NOW, 60)
    gate.close(NOW + 1, 5)
    assert gate.opens_at(NOW + 2) == NOW + 60
    assert gate.opens_at(NOW - 100) == NOW - 100


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_back_off_grows_to_its_end(failures, chance):
    """Between half a second and the end, jitter included."""
    assert 0.5 <= backoff(failures, chance) <= 60


@given(st.text(max_size=80))
def test_only_our_own_buttons_are_understood(text):
    """Whatever comes back; and all that we send fits into what Telegram carries."""
    tap = parse(text)
    assert tap is None or text == f"{tap.verb}:{text.partition(':')[2]}"
    for menu in ("", "mute", "run"):
        for row in keyboard(10**14, menu, "x" * 500, is_acked=False, has_details=False):
            for button in row:
                assert len(button.data.encode()) <= 64
                assert parse(button.data).card == 10**14
