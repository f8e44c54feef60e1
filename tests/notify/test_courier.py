"""Which message goes out when, and what becomes of it: outbox and courier together, on a clock that is set by hand."""

import random
import time
from collections import Counter
from datetime import UTC, datetime

import pytest
from conftest import alert_line
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.core.cards import REPEAT, as_text
from agentwatch.core.notices import Limits, Mute, Target, Wait, received
from agentwatch.notify import courier as courier_module
from agentwatch.notify.channel import Blocked, Delivered, Gone, Job, Moved, NotSent, Refused, Unsure
from agentwatch.notify.courier import BLOCKED_S, Courier, Rates, enqueue
from agentwatch.notify.outbox import NAME, Outbox, State

NOW = 1_770_000_000.0
CHAT = Target(name="telegram:7", chat=7)
USUAL = Limits()
AT_ONCE = Rates(*([(1_000_000, 1e-9)] * 3))


class Desk:
    """An outbox, a courier and a clock; `sent` are the messages that stand in chats, by what names them there."""

    def __init__(self, path, *targets, limits=USUAL, rates=AT_ONCE, zone=UTC):
        self.zone = zone
        self.path, self.targets, self.limits, self.rates = path, targets or (CHAT,), limits, rates
        self.now = NOW
        self.sent = {}
        self.history = []
        self.told = []
        self.buried = []
        self.outbox = None
        self.start()

    def start(self):
        """As after a crash: nothing is left but the file."""
        if self.outbox is not None:
            self.outbox.close()
        self.outbox, _ = Outbox.open(self.path)
        self.courier = Courier(
            self.outbox,
            self.targets,
            self.limits,
            zone=self.zone,
            chance=lambda: 0.5,
            tell=self.told.append,
            bury=lambda job, why: self.buried.append((job.card, why)),
            rates=self.rates,
        )

    def take(self, *lines):
        with self.outbox.transaction():
            for line in lines:
                alert = received(line, datetime.fromtimestamp(self.now, UTC))
                seq = self.outbox.add(alert, self.now)
                if seq is not None:
                    enqueue(self.outbox, seq, alert, self.targets, self.now)
        self.courier.wake()

    def alert(self, number, **more):
        self.take(alert_line(number, **{"at_s": self.now, **more}))

    def next(self):
        return self.courier.next(self.now)

    def deliver(self, job):
        remote = job.remote or str(len(self.sent) + 1)
        text = as_text(job.lines)
        self.sent[remote] = text
        self.history.append((self.now, job.target.name, job.remote, text))
        return Delivered(remote)

    def settle(self, job, outcome):
        self.courier.settle(job, outcome, self.now)

    def carry(self):
        """Send all that may go out now; how many requests those were."""
        count = 0
        while isinstance(job := self.next(), Job):
            self.settle(job, self.deliver(job))
            count += 1
        return count

    def run(self, seconds):
        """Let time pass, and everything be sent when it may."""
        until = self.now + seconds
        while True:
            self.carry()
            wait = self.next()
            if wait.until_s > until:
                self.now = until
                return
            self.now = max(wait.until_s, self.now + 0.001)


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path / NAME)


def texts(desk):
    return list(desk.sent.values())


def test_an_alert_is_a_message_and_is_told_once(desk):
    """The same line again, after a restart too, is no news."""
    desk.alert(1)
    assert desk.carry() == 1
    desk.alert(1)
    desk.start()
    assert desk.carry() == 0
    assert texts(desk)[0].startswith("❌ ERROR LOOP DETECTED\nAttempt: attempt-1\nExecutor: CODEX\n")


def test_a_problem_that_goes_on_edits_its_message_and_its_end_is_told_there(desk):
    """One incident is one message, from open to recovered."""
    desk.alert(1, episode="e", occurrences=4, error_fingerprint="push", window_ms=600_000)
    desk.carry()
    desk.now += 100
    desk.alert(2, episode="e", status="escalated", occurrences=16, error_fingerprint="push")
    desk.carry()
    assert len(desk.sent) == 1
    assert "Error: push (16 occurrences)" in texts(desk)[0]
    assert "last seen" in texts(desk)[0]
    desk.now += 60
    desk.alert(3, episode="e", status="recovered")
    desk.carry()
    assert len(desk.sent) == 1
    assert texts(desk)[0].startswith("✅ RECOVERED: ERROR LOOP\n")
    assert "after 3 min" in texts(desk)[0]


def test_what_grew_before_it_was_told_is_one_message_about_where_it_stands(desk):
    """Nobody needs yesterday's count first."""
    desk.alert(1, episode="e")
    desk.alert(2, episode="e", status="recovered")
    assert desk.carry() == 1
    assert texts(desk)[0].startswith("✅ RECOVERED")


def test_the_end_of_what_was_never_told_is_not_told(desk):
    """It was below the chat's severity, or somebody muted it."""
    desk.alert(1, episode="e", status="recovered")
    assert desk.carry() == 0


@pytest.mark.parametrize(
    ("target", "is_sent"),
    [
        pytest.param(Target(name="t"), True, id="everything"),
        pytest.param(Target(name="t", min_severity="high"), False, id="below its severity"),
        pytest.param(Target(name="t", types=("tool_loop",)), True, id="its type"),
        pytest.param(Target(name="t", types=("error_loop",)), False, id="another type"),
        pytest.param(Target(name="t", executors=("codex",)), True, id="its executor"),
        pytest.param(Target(name="t", executors=("CODEX",)), True, id="its executor, as a message writes it"),
        pytest.param(Target(name="t", executors=("claude-code",)), False, id="another executor"),
        pytest.param(Target(name="t", projects=("shop",)), True, id="its project"),
        pytest.param(Target(name="t", projects=("bank",)), False, id="another project"),
    ],
)
def test_a_chat_is_told_what_its_route_says(tmp_path, target, is_sent):
    """By severity, type, executor and project."""
    desk = Desk(tmp_path / NAME, target)
    desk.alert(1, kind="tool_loop", severity="medium", project_id="shop")
    assert desk.carry() == is_sent


def test_an_issue_of_a_run_is_one_message_however_often_it_matches(desk):
    """At most one notification per fingerprint and run; in another run it is another."""
    for number in range(5):
        desk.alert(number, kind="rule_match", run_id="r1", issue_fingerprint="oom", occurrences=number + 1, rule_id="oom")
        desk.carry()
    assert len(desk.sent) == 1
    assert "Rule: oom (5 occurrences)" in texts(desk)[0]
    desk.alert(9, kind="rule_match", run_id="r2", issue_fingerprint="oom", rule_id="oom")
    desk.carry()
    assert len(desk.sent) == 2


def test_an_issue_that_a_digest_has_told_is_not_told_again(desk):
    """A storm is no reason for a second message about the same issue."""
    for number in range(30):
        desk.alert(number, kind="rule_match", run_id="r1", issue_fingerprint=f"f{number}")
    desk.run(10)
    desk.alert(99, kind="rule_match", run_id="r1", issue_fingerprint="f3")
    desk.run(100)
    assert len(desk.sent) == 1


def test_more_than_the_limit_in_a_minute_become_one_digest(desk):
    """Ten by themselves, then all others together, a minute apart."""
    for number in range(10):
        desk.alert(number)
        desk.run(1)
    assert len(desk.sent) == 10
    for number in range(10, 40):
        desk.alert(number)
    desk.run(1)
    assert len(desk.sent) == 11
    assert texts(desk)[10].startswith("❌ 30 alerts, ")
    for number in range(40, 80):
        desk.alert(number)
    desk.run(30)
    assert len(desk.sent) == 11
    desk.run(60)
    assert len(desk.sent) == 12
    assert texts(desk)[11].startswith("❌ 40 alerts, ")


def test_ten_thousand_alerts_in_a_minute_are_a_handful_of_messages_the_worst_first(desk):
    """Which are all that a person could read; nothing is lost, what is not named is counted."""
    total = 10_000
    for second in range(60):
        numbers = range(second, total, 60)
        severities = ["high" if number % 1000 == 999 else "medium" if number % 7 else "low" for number in numbers]
        desk.take(*(alert_line(number, at_s=desk.now, severity=severity) for number, severity in zip(numbers, severities, strict=True)))
        desk.run(1)
    desk.run(120)
    counted = [int(text.split()[1].replace(",", "")) for text in texts(desk) if " alerts, " in text]
    assert sum(counted) + len(desk.sent) - len(counted) == total
    assert len(desk.sent) <= 12
    largest = next(text for text in texts(desk) if text.split()[1].replace(",", "") == str(max(counted)))
    listed = [text[0] for text in largest.split("\n\n")[1].splitlines()]
    assert listed[:-1] == sorted(listed[:-1], key="❌⚠".index)
    assert listed.count("❌") >= 9


def test_a_day_without_network_is_a_digest_afterwards_and_few_tries_meanwhile(desk):
    """The backlog waits, a try a minute looks whether the network is back, and then there is one message, the oldest first."""
    tries = 0
    end = NOW + 86_000
    next_alert, number = NOW, 0
    while desk.now < end:
        if desk.now >= next_alert:
            desk.alert(number)
            number, next_alert = number + 1, next_alert + 600
        found = desk.next()
        if isinstance(found, Job):
            tries += 1
            desk.settle(found, NotSent("no network"))
        else:
            desk.now = min(max(found.until_s, desk.now + 0.001), next_alert)
    desk.run(600)
    assert number == 144
    assert tries < 86_000 / 30
    assert len(desk.sent) == 2  # the one that was on its way when the network went, and the digest
    assert texts(desk)[1].startswith("❌ 143 alerts, ")
    assert texts(desk)[1].index("attempt-1 ") < texts(desk)[1].index("attempt-20 ")


def test_alerts_older_than_a_day_are_only_counted(desk):
    """Who starts the notifier on a log of last year is not told all of it."""
    for number in range(5):
        desk.alert(number, at_s=NOW - 90_000)
    desk.alert(6)
    desk.run(1)
    assert texts(desk)[0].startswith("❌ ERROR LOOP DETECTED\nAttempt: attempt-6\n")
    assert texts(desk)[1] == "5 alerts older than 24 h only counted: `agentwatch alerts` lists them"


def test_late_alerts_come_together_in_one_digest(desk):
    """After an outage, or a night in which the notifier did not run."""
    desk.alert(1, at_s=NOW - 7000)
    desk.alert(2, at_s=NOW - 5000)
    desk.run(1)
    assert len(desk.sent) == 1
    assert texts(desk)[0].startswith("❌ 2 alerts, 02 Feb 00:43:20 to 02 Feb 01:16:40")


def test_after_a_digest_a_single_alert_does_not_wait(desk):
    """A storm that is over keeps nobody waiting."""
    desk.alert(1, at_s=NOW - 7000)
    desk.alert(2, at_s=NOW - 5000)
    desk.run(5)
    desk.alert(3)
    desk.run(1)
    assert len(desk.sent) == 2


def test_nothing_is_sent_in_quiet_hours_and_all_of_it_after_them(tmp_path):
    """At 02:40 the phone is silent; at 07:00 there is one message. Edits make no sound, and go on."""
    desk = Desk(tmp_path / NAME, Target(name="telegram:7", chat=7, quiet="22:00-07:00"))
    assert datetime.fromtimestamp(NOW, UTC).hour == 2
    for number in range(5):
        desk.alert(number)
        desk.run(600)
    assert desk.sent == {}
    desk.run(4 * 3600)
    assert [datetime.fromtimestamp(at, UTC).strftime("%H:%M") for at, *_ in desk.history] == ["07:00"]
    assert texts(desk)[0].startswith("❌ 5 alerts")


def test_quiet_hours_end_by_the_wall_clock_in_the_night_in_which_it_is_set_forward(tmp_path, monkeypatch):
    """At seven, and not an hour after; in the machine's own zone."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        target = Target(name="telegram:7", chat=7, quiet="22:00-07:00")
        desk = Desk(tmp_path / NAME, target, zone=None)
        for number, at in enumerate([datetime(2026, 3, 28, 22, 30, tzinfo=UTC), datetime(2026, 10, 24, 22, 30, tzinfo=UTC)]):
            desk.now = at.timestamp()
            desk.alert(number)
            desk.run(12 * 3600)
        assert [datetime.fromtimestamp(at, UTC) for at, *_ in desk.history] == [datetime(2026, 3, 29, 5, tzinfo=UTC), datetime(2026, 10, 25, 6, tzinfo=UTC)]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_end_of_what_was_muted_while_it_waited_is_not_told(desk):
    """Nobody knows what would be over."""
    desk.alert(1, episode="e")
    desk.outbox.drop_waiting(CHAT.name, lambda alert: True)
    desk.alert(2, episode="e", attempt_id="attempt-1", status="recovered")
    assert desk.carry() == 0


def test_a_muted_attempt_is_not_told_until_the_mute_is_over(desk):
    """What waits already, too; others are."""
    desk.outbox.mute(CHAT.name, Mute("attempt", "attempt-1", NOW + 3600))
    desk.alert(1)
    desk.alert(2)
    desk.run(1)
    assert len(desk.sent) == 1
    assert desk.outbox.counted()["muted"] == 1
    desk.now = NOW + 3601
    desk.take(alert_line(3, at_s=desk.now, attempt_id="attempt-1"))
    desk.run(1)
    assert len(desk.sent) == 2


@pytest.mark.parametrize(
    ("outcome", "is_marked"),
    [
        pytest.param(NotSent("refused"), False, id="certainly not sent"),
        pytest.param(NotSent("flood", 5.0), False, id="asked to wait"),
        pytest.param(Blocked("blocked"), False, id="blocked"),
        pytest.param(Moved(-1007), False, id="moved"),
        pytest.param(Unsure("timed out"), True, id="no answer"),
    ],
)
def test_what_may_have_arrived_is_marked_when_it_is_sent_again(desk, outcome, is_marked):
    """And what certainly did not is not."""
    desk.alert(1)
    desk.settle(desk.next(), outcome)
    desk.run(BLOCKED_S + 1)
    assert len(desk.sent) == 1
    assert (REPEAT in texts(desk)[0]) == is_marked


def test_a_message_whose_answer_was_lost_in_a_crash_is_sent_again_and_marked(desk):
    """The only way to a second message for the same alert."""
    desk.alert(1)
    desk.deliver(desk.next())
    desk.start()
    desk.run(1)
    first, second = texts(desk)
    assert [text for text in second.splitlines() if text != REPEAT] == first.splitlines()
    assert second.splitlines()[1] == REPEAT


def test_a_crash_between_alert_and_message_loses_nothing(desk):
    """Neither one that was not looked at yet nor one that was."""
    desk.alert(1)
    desk.start()
    desk.alert(2)
    desk.start()
    desk.run(5)
    assert len(desk.sent) == 2
    assert not any(REPEAT in text for text in texts(desk))


def test_when_asked_to_wait_the_whole_queue_waits(tmp_path):
    """Other chats too: nobody knows which limit was meant."""
    desk = Desk(tmp_path / NAME, CHAT, Target(name="telegram:8", chat=8))
    desk.alert(1)
    desk.settle(desk.next(), NotSent("flood", 30.0))
    assert desk.next() == Wait(NOW + 30)
    desk.run(29)
    assert desk.sent == {}
    desk.run(2)
    assert len(desk.sent) == 2


def test_a_blocked_chat_keeps_no_other_chat_waiting(tmp_path):
    """It is tried again every five minutes, and told to the operator."""
    desk = Desk(tmp_path / NAME, CHAT, Target(name="telegram:8", chat=8))
    desk.alert(1)
    blocked = desk.next()
    desk.settle(blocked, Blocked("Forbidden"))
    assert desk.carry() == 1
    desk.run(BLOCKED_S + 1)
    assert len(desk.sent) == 2
    assert any("Forbidden" in text for text in desk.told)


def test_a_refused_message_is_given_up_and_what_follows_is_not(desk):
    """A poisoned alert is not tried for ever; the end of its episode is a message of its own."""
    desk.alert(1, episode="e")
    job = desk.next()
    desk.settle(job, Refused("bad"))
    assert desk.outbox.card(job.card).state is State.DEAD
    desk.alert(2)
    desk.alert(3, episode="e", status="recovered")
    desk.run(5)
    assert len(desk.sent) == 2


def test_a_message_that_somebody_deleted_is_sent_anew(desk):
    """An incident that goes on is told, whatever became of its message."""
    desk.alert(1, episode="e")
    desk.carry()
    desk.alert(2, episode="e", status="escalated")
    desk.settle(desk.next(), Gone())
    desk.run(5)
    assert len(desk.sent) == 2
    assert "last seen" not in texts(desk)[0]
    assert "last seen" in texts(desk)[1]


def test_a_chat_that_moved_is_written_to_under_its_new_id(desk):
    """A group that becomes a supergroup loses no alert, also after a restart."""
    desk.alert(1)
    desk.settle(desk.next(), Moved(-100123))
    desk.start()
    assert desk.courier.chat_of(CHAT) == -100123


def test_a_chat_gets_a_message_a_second_and_a_group_twenty_a_minute(tmp_path):
    """Telegram's limits, kept by ourselves."""
    targets = (CHAT, Target(name="telegram:-9", chat=-9))
    desk = Desk(tmp_path / NAME, *targets, limits=Limits(storm_per_min=60), rates=Rates())
    for number in range(50):
        desk.alert(number)
    desk.run(59)
    counts = Counter(name for _, name, *_ in desk.history)
    assert counts["telegram:7"] == 50
    assert 18 <= counts["telegram:-9"] <= 20
    assert max(sum(at <= other < at + 60 for other, name, *_ in desk.history if name == "telegram:-9") for at, *_ in desk.history) <= 20
    worst = max(sum(at <= other < at + 1 for other, name, *_ in desk.history if name == "telegram:7") for at, *_ in desk.history)
    assert worst <= 4


def test_topics_of_a_group_share_what_the_group_is_allowed(tmp_path):
    """Telegram counts by chat."""
    targets = tuple(Target(name=f"telegram:-9/{topic}", chat=-9, topic_id=topic) for topic in (1, 2, 3))
    desk = Desk(tmp_path / NAME, *targets, limits=Limits(storm_per_min=60), rates=Rates())
    for number in range(30):
        desk.alert(number)
    desk.run(59)
    assert len(desk.history) <= 20
    assert {name for _, name, *_ in desk.history} == {target.name for target in targets}


def test_a_clock_that_is_set_back_silences_nobody(desk):
    """A correction by an hour is not an hour of waiting."""
    desk.alert(1)
    desk.settle(desk.next(), NotSent("flood", 60.0))
    desk.now -= 3600
    assert desk.carry() == 1


def test_a_channel_that_cannot_edit_is_told_of_each_step(tmp_path):
    """Open, grown, over: three messages."""
    desk = Desk(tmp_path / NAME, Target(name="apprise:1", can_edit=False))
    for number, status in enumerate(("open", "escalated", "recovered")):
        desk.alert(number, episode="e", status=status)
        job = desk.next()
        desk.settle(job, Delivered(None))
        assert isinstance(desk.next(), Wait)


def test_a_damaged_memory_is_set_aside(tmp_path):
    """And is no reason not to start."""
    (tmp_path / NAME).write_bytes(b"SQLite format 3\0" + random.Random(1).randbytes(9000))
    outbox, problem = Outbox.open(tmp_path / NAME)
    assert problem
    assert outbox.last_seq() == 0
    outbox.close()
    assert (tmp_path / f"{NAME}.bad").exists()


def test_what_is_done_with_is_forgotten_and_what_waits_is_not(desk):
    """Memory follows two weeks of alerts, not all of history."""
    desk.alert(1)
    desk.carry()
    desk.alert(2)
    desk.outbox.forget(NOW + 1)
    assert desk.outbox.last_seq() == 2
    assert desk.run(5) is None
    assert len(desk.sent) == 2
    desk.outbox.forget(NOW + 1000)
    assert desk.outbox.last_seq() == 0


STEPS = st.lists(st.sampled_from(["alert", "grow", "end", "ok", "ok", "not", "unsure", "lost", "asked", "crash", "crash sent", "time"]), max_size=60)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_whatever_happens_every_alert_is_told_and_a_second_message_is_marked(tmp_path_factory, steps):
    """Faults, crashes before and after the send, in any order: nothing is lost, and an unmarked repeat never happens."""
    desk = Desk(tmp_path_factory.mktemp("desk") / NAME, limits=Limits(storm_per_min=60))
    number = 0
    for step in steps:
        if step == "alert":
            number += 1
            desk.alert(number)
        elif step in ("grow", "end") and number:
            desk.take(alert_line(f"{number}-{step}-{desk.now}", at_s=desk.now, episode=f"id-{number}", status="escalated" if step == "grow" else "recovered"))
        elif step == "crash":
            desk.start()
        elif step == "time":
            desk.now += 61
        elif isinstance(job := desk.next(), Job):
            delivered = desk.deliver(job) if step in ("ok", "lost", "crash sent") else None
            if step == "crash sent":
                desk.start()
            else:
                desk.settle(job, {"ok": delivered, "lost": Unsure("cut"), "unsure": Unsure("cut"), "not": NotSent("no"), "asked": NotSent("no", 30.0)}[step])
    desk.run(1000)
    new = [text for _, _, remote, text in desk.history if remote is None]
    for alert in range(1, number + 1):
        about = [text for text in new if f"Attempt: attempt-{alert}\n" in text or f"Attempt: attempt-{alert}-" in text]
        assert about, f"attempt-{alert} is lost"
        assert all(REPEAT in text for text in about[1:])


# ------------------------------------------------------------------------------------------------------------------ outages


def limited(desk, number, **more):
    desk.alert(number, fleet="usage limit of codex", kind="limit_reached", **more)


def test_an_outage_of_three_attempts_is_one_message_that_further_ones_edit(desk):
    """The first two were told by themselves, and say where they are told now."""
    for number in range(1, 6):
        limited(desk, number)
        desk.run(60)
    assert [text.splitlines()[0] for text in texts(desk)] == ["❌ LIMIT REACHED", "❌ LIMIT REACHED", "❌ FLEET: USAGE LIMIT OF CODEX, 5 ATTEMPTS"]
    assert all(text.splitlines()[-1] == "↪ told with others in one message: usage limit of codex" for text in texts(desk)[:2])
    assert "Executor: CODEX 5" in texts(desk)[2]
    assert all(f"attempt-{number} is" in texts(desk)[2] for number in range(1, 6))
    for number in range(1, 6):
        desk.take(alert_line(f"{number}-over", at_s=desk.now, kind="limit_reached", episode=f"id-{number}", attempt_id=f"attempt-{number}", status="recovered"))
        desk.run(5)
    assert texts(desk)[2].startswith("✅ FLEET: USAGE LIMIT OF CODEX, 5 ATTEMPTS\nExecutor: CODEX 5\nOver: 5 of 5\n")
    assert len(desk.sent) == 3


def test_what_waits_is_told_in_the_outage_alone(desk):
    """Three at once are one message."""
    for number in range(1, 4):
        limited(desk, number)
    desk.run(60)
    assert [text.splitlines()[0] for text in texts(desk)] == ["❌ FLEET: USAGE LIMIT OF CODEX, 3 ATTEMPTS"]


@pytest.mark.parametrize(
    ("steps", "messages"),
    [
        pytest.param([(1, 0), (1, 10), (1, 20)], 3, id="one attempt"),
        pytest.param([(1, 0), (2, 10)], 2, id="two attempts"),
        pytest.param([(1, 0), (2, 160), (3, 320)], 3, id="too far apart"),
        pytest.param([(1, 0), (2, 150), (3, 300)], 1, id="just within five minutes"),
        pytest.param([(1, 0), (2, 150), (3, 300), (4, 590), (5, 880)], 1, id="an outage that goes on"),
        pytest.param([(1, 0), (2, 150), (3, 300), (4, 601)], 2, id="after it"),
        pytest.param([(3, 300), (1, 0), (2, 150)], 1, id="not in the order of time"),
    ],
)
def test_three_attempts_within_five_minutes_are_an_outage(desk, steps, messages):
    """As docs/detection.md has it, by the times of the alerts."""
    desk.now += 900
    for number, (attempt, at_s) in enumerate(steps):
        limited(desk, number, attempt_id=f"attempt-{attempt}", at_s=NOW + 300 + at_s)
    desk.limits = Limits(late_s=1e9)
    desk.start()
    desk.run(60)
    assert len(desk.sent) == messages


def test_an_episode_that_changes_its_type_changes_the_title_of_its_message(desk):
    """From a loop of errors to a session that failed: one message."""
    desk.alert(1, episode="e")
    desk.carry()
    desk.alert(2, episode="e", kind="failed_session_high_errors")
    desk.carry()
    assert [text.splitlines()[0] for text in texts(desk)] == ["❌ SESSION FAILED WITH MANY ERRORS"]


FLEET_STEPS = st.lists(
    st.sampled_from(["codex", "codex", "claude", "again", "end", "ok", "ok", "not", "unsure", "crash sent", "crash", "minute", "hour"]), max_size=50
)


@settings(max_examples=60, deadline=None)
@given(steps=FLEET_STEPS, can_edit=st.booleans())
def test_whatever_happens_each_alert_is_counted_in_exactly_one_message(tmp_path_factory, steps, can_edit):
    """Outages among faults, crashes and digests: no alert is lost, none is counted twice, and its attempt is named where it is counted."""
    desk = Desk(tmp_path_factory.mktemp("desk") / NAME, Target(name="telegram:7", chat=7, can_edit=can_edit), limits=Limits(storm_per_min=4, max_age_s=1e9))
    number = 0
    for step in steps:
        if step in ("codex", "claude"):
            number += 1
            desk.alert(number, fleet=f"usage limit of {step}", executor=step)
        elif step in ("again", "end") and number:
            status = "escalated" if step == "again" else "recovered"
            desk.alert(f"{number}-{step}-{desk.now}", attempt_id=f"attempt-{number}", episode=f"id-{number}", status=status)
        elif step == "crash":
            desk.start()
        elif step in ("minute", "hour"):
            desk.now += 61 if step == "minute" else 3600
        elif isinstance(job := desk.next(), Job):
            delivered = desk.deliver(job) if step in ("ok", "crash sent") else None
            if step == "crash sent":
                desk.start()
            else:
                desk.settle(job, {"ok": delivered, "unsure": Unsure("cut"), "not": NotSent("no")}[step])
    desk.run(1000)
    database = desk.outbox._database
    told = database.execute(
        "SELECT alert.id, card.id, card.state FROM alert LEFT JOIN delivery USING (seq) LEFT JOIN card ON card.id = delivery.card"
    ).fetchall()
    assert len(told) == desk.outbox.last_seq()
    for identity, card, state in told:
        assert state == State.SENT, identity
        text = as_text(desk.courier.lines(desk.outbox.card(card)))
        assert f"attempt-{identity.removeprefix('id-').split('-')[0]}" in text or " more: " in text
    for (card,) in database.execute("SELECT id FROM card WHERE topic LIKE 'fleet:%'").fetchall():
        attempts = {alert.attempt_id for alert in desk.outbox.alerts_of(card)}
        assert len(attempts) == 1 or f", {len(attempts)} ATTEMPTS" in as_text(desk.courier.lines(desk.outbox.card(card)))


# ------------------------------------------------------------------------------------------------------- what never gets through


class Poisoned(Desk):
    """A desk whose server fails at messages about one attempt, and takes all others."""

    def carry_with(self, is_poison, seconds):
        until = self.now + seconds
        while self.now < until:
            job = self.next()
            if isinstance(job, Wait):
                self.now = min(until, max(job.until_s, self.now + 0.001))
            else:
                self.settle(job, Unsure("answered 500") if is_poison(as_text(job.lines)) else self.deliver(job))


def test_a_message_at_which_the_server_always_fails_keeps_no_other_waiting_and_is_given_up(tmp_path):
    """Others of the same chat pass it; after it has failed again and again beside others that arrive it goes to the dead letters."""
    desk = Poisoned(tmp_path / NAME)
    desk.alert(1)
    for number in range(2, 8):
        desk.alert(number)
        desk.carry_with(lambda text: "attempt-1\n" in text, 900)
    assert {text.splitlines()[1] for text in desk.sent.values()} == {f"Attempt: attempt-{number}" for number in range(2, 8)}
    assert [why for _, why in desk.buried] == ["answered 500"]
    assert not isinstance(desk.next(), Job)


def test_an_edit_at_which_the_server_always_fails_keeps_no_other_waiting(tmp_path):
    """Nor are its tries endless."""
    desk = Poisoned(tmp_path / NAME)
    desk.alert(1, episode="a")
    desk.alert(2, episode="b")
    desk.carry()
    desk.alert(3, episode="a", attempt_id="attempt-1", status="escalated")
    for number in range(4, 10):
        desk.alert(number, episode="b", attempt_id="attempt-2", occurrences=number, error_fingerprint="push")
        desk.carry_with(lambda text: "attempt-1\n" in text, 900)
        assert f"{number} occurrences" in desk.sent["2"]
    assert isinstance(desk.next(), Wait)
    assert any("an edit is given up" in text for text in desk.told)


def test_an_outage_gives_nothing_up_however_long_it_lasts(tmp_path):
    """Where no message arrives none of them is to blame."""
    desk = Poisoned(tmp_path / NAME)
    for number in range(5):
        desk.alert(number)
        desk.carry_with(lambda text: True, 3600)
    desk.carry_with(lambda text: False, 600)
    assert desk.buried == []
    told = "\n".join(desk.sent.values())
    assert all(f"attempt-{number}" in told for number in range(5))


def test_a_message_that_cannot_be_put_together_says_so_and_holds_nothing_up(desk, monkeypatch):
    """Whatever a later version of an alert may bring: somebody is told that there is one."""
    make = courier_module.card

    def broken(first, last, notes, zone):
        if first.attempt_id == "attempt-1":
            raise OverflowError("date value out of range")
        return make(first, last, notes, zone)

    monkeypatch.setattr(courier_module, "card", broken)
    desk.alert(1)
    desk.alert(2)
    desk.carry()
    first, second = texts(desk)
    assert first == "⚠️ an alert that cannot be shown: `agentwatch alerts` has it\nid-1"
    assert "attempt-2" in second
    assert any("OverflowError" in text for text in desk.told)
