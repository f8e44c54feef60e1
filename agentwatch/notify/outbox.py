"""What the notifier remembers, in one SQLite file: alerts, who is still to be told of them, and what became of each message.

Every method is one transaction, durable when it returns. What is to be sent is written down before it is sent, and what became of it after:
a message that is found as sent without an answer was lost in a crash.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

import msgspec

from agentwatch.core.cards import Tally
from agentwatch.core.notices import FLEET_S, OUTAGE, RANK, Member, Mute, Queue, Sent, outage
from agentwatch.errors import StorageError
from agentwatch.model import Alert, Severity
from agentwatch.notify.feed import FeedCursor

NAME = "notify.sqlite"
VERSION = 2
KEPT_S = 14 * 86_400.0
"""So long alerts and messages are remembered after all is done with them."""

NOT_RUN = frozenset({"skipped", "dry_run"})
"""States of a command that was not run, so that somebody may still have it run."""

_SEVERITIES = tuple(Severity)

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE counted (name TEXT PRIMARY KEY, number INTEGER NOT NULL);
CREATE TABLE alert (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, seen_s REAL NOT NULL, line BLOB NOT NULL);
CREATE TABLE delivery (
    target TEXT NOT NULL, seq INTEGER NOT NULL, topic TEXT NOT NULL, at_s REAL NOT NULL, rank INTEGER NOT NULL, type TEXT NOT NULL,
    card INTEGER, PRIMARY KEY (target, seq)
) WITHOUT ROWID;
CREATE INDEX delivery_waiting ON delivery (target, seq) WHERE card IS NULL;
CREATE INDEX delivery_topic ON delivery (target, topic);
CREATE INDEX delivery_card ON delivery (card);
CREATE TABLE card (
    id INTEGER PRIMARY KEY, target TEXT NOT NULL, topic TEXT, state INTEGER NOT NULL, remote TEXT, made_s REAL NOT NULL, sent_s REAL,
    first INTEGER, last INTEGER, old INTEGER NOT NULL DEFAULT 0, version INTEGER NOT NULL DEFAULT 1, shown INTEGER NOT NULL DEFAULT 0,
    is_repeat INTEGER NOT NULL DEFAULT 0, menu TEXT NOT NULL DEFAULT '', menu_s REAL NOT NULL DEFAULT 0, has_details INTEGER NOT NULL DEFAULT 0,
    notes TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX card_topic ON card (target, topic);
CREATE INDEX card_unsent ON card (target, id) WHERE state IN (0, 1);
CREATE INDEX card_changed ON card (target, id) WHERE version > shown AND state = 2;
CREATE INDEX card_sent ON card (target, sent_s);
CREATE TABLE post (target TEXT NOT NULL, seq INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0, first_s REAL, due_s REAL NOT NULL, PRIMARY KEY (target, seq)) WITHOUT ROWID;
CREATE INDEX post_due ON post (target, due_s);
CREATE TABLE action (seq INTEGER PRIMARY KEY, name TEXT NOT NULL, attempt TEXT NOT NULL, state TEXT NOT NULL, said TEXT NOT NULL, at_s REAL NOT NULL);
CREATE INDEX action_attempt ON action (attempt, at_s);
CREATE TABLE fleet (
    target TEXT NOT NULL, topic TEXT NOT NULL, cause TEXT NOT NULL, attempt TEXT NOT NULL, at_s REAL NOT NULL, outage TEXT, PRIMARY KEY (target, topic)
) WITHOUT ROWID;
CREATE INDEX fleet_cause ON fleet (target, cause, at_s);
CREATE TABLE mute (target TEXT NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, until_s REAL NOT NULL, PRIMARY KEY (target, kind, value)) WITHOUT ROWID;
"""

_OLDEST = "CREATE INDEX IF NOT EXISTS delivery_oldest ON delivery (target, at_s) WHERE card IS NULL"
"""Came after the first files of this version were made."""

OLD, DROPPED, POSTED = -1, -2, -3
"""The cards of deliveries that are in no message: only counted for their age, muted while they waited, or posted to a web address."""


TEXT, PAGE = "text", "page"
"""The notes of a message that is about no alert: all that it says, and the path of the file that goes with it."""


class Standing(Enum):
    """Where a chat knows a topic from: nowhere (or it muted it), soon a message, a message of its own, a digest (or a message that was refused)."""

    UNKNOWN = "unknown"
    WAITING = "waiting"
    MESSAGE = "message"
    MENTIONED = "mentioned"


class State(IntEnum):
    """Of a message. READY: composed, not on its way. SENDING: on its way, or lost on it. SENT: answered. DEAD: refused for good."""

    READY = 0
    SENDING = 1
    SENT = 2
    DEAD = 3


class Card(msgspec.Struct, frozen=True):
    """A message and what it is about. `topic` is None for a digest; `first` and `last` are the alerts that it begins and ends with.

    `version` grows with every change of what it says, `shown` is the version that stands in the chat. `old` alerts are only counted in it.
    """

    id: int
    target: str
    topic: str | None
    state: State
    remote: str | None
    made_s: float
    first: int | None
    last: int | None
    old: int
    version: int
    is_repeat: bool
    menu: str
    menu_s: float
    has_details: bool
    notes: dict[str, str]


class Post(msgspec.Struct, frozen=True):
    """An alert that is to be posted to a web address: how often that was tried, and since when."""

    target: str
    seq: int
    tries: int
    first_s: float | None


_CARD = "id, target, topic, state, remote, made_s, first, last, old, version, is_repeat, menu, menu_s, has_details, notes"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Alert).decode


class Outbox:
    """Owned by one process, used by one thread. Raises StorageError where the disk does not let it be opened."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path) -> "tuple[Outbox, str | None]":
        """The outbox at `path`, and why the one that was there cannot be used, if it cannot: that one is set aside as `.bad`."""
        problem = None
        for last in (False, True):
            try:
                return cls(_connected(path)), problem
            except sqlite3.DatabaseError as error:
                if last or not _is_unusable(error):
                    raise StorageError(f"cannot use `{path}`: {error}", hint="make room, or mend its permissions") from error
                problem = str(error)
                for suffix in ("", "-wal", "-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        path.with_name(path.name + suffix).replace(path.with_name(f"{path.name}{suffix}.bad"))
        raise AssertionError

    @classmethod
    def copy(cls, path: Path) -> "Outbox":
        """What stands at `path`, in memory: for one who only looks. Empty where there is nothing that can be used."""
        copied = sqlite3.connect(":memory:", isolation_level=None)
        if path.exists():
            try:
                with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source:
                    _check(source)
                    source.backup(copied)
                copied.execute(_OLDEST)
                return cls(copied)
            except sqlite3.DatabaseError as error:
                if not _is_unusable(error):
                    raise StorageError(f"cannot read `{path}`: {error}", hint="ask as the user who runs the notifier") from error
        copied.executescript(f"{_SCHEMA} {_OLDEST};")
        return cls(copied)

    def close(self) -> None:
        self._database.close()

    # ------------------------------------------------------------------------------------------------------------- small things

    def value(self, name: str) -> str | None:
        row = self._one("SELECT value FROM meta WHERE name = ?", name)
        return row[0] if row else None

    def remember(self, name: str, value: str) -> None:
        with self.transaction():
            self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def cursor(self) -> FeedCursor | None:
        """How far the alert log was read; None where nothing was."""
        text = self.value("cursor")
        return msgspec.json.decode(text, type=FeedCursor) if text else None

    def count(self, name: str, number: int = 1) -> None:
        """Count something that is told nowhere else."""
        with self.transaction():
            self._database.execute("INSERT INTO counted VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET number = number + excluded.number", (name, number))

    def counted(self) -> dict[str, int]:
        return dict(self._database.execute("SELECT name, number FROM counted ORDER BY name"))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing; one inside another is part of it."""
        if self._database.in_transaction:
            yield
            return
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    # ------------------------------------------------------------------------------------------------------------------ alerts

    def add(self, alert: Alert, now: float) -> int | None:
        """Its number, in the order of arrival; None for one that was seen before."""
        with self.transaction():
            done = self._database.execute("INSERT OR IGNORE INTO alert (id, seen_s, line) VALUES (?, ?, ?)", (alert.alert_id, now, _encode(alert)))
        return done.lastrowid if done.rowcount else None

    def advance(self, cursor: FeedCursor) -> None:
        """So far the alert log was read."""
        self.remember("cursor", _encode(cursor).decode())

    def alert(self, seq: int) -> Alert:
        return _decode(self._one("SELECT line FROM alert WHERE seq = ?", seq)[0])

    def last_seq(self) -> int:
        """The number of the newest alert, 0 where there is none."""
        return int(self._one("SELECT COALESCE(MAX(seq), 0) FROM alert")[0])

    # ---------------------------------------------------------------------------------------------------------- who is to be told

    def deliver(self, target: str, seq: int, topic: str, alert: Alert, *, can_edit: bool = True) -> None:
        """Have `target` told of an alert: in the message of its topic where there is one that can be edited, else in a new one."""
        with self.transaction():
            find = "SELECT id FROM card WHERE target = ? AND topic = ? AND state != 3 ORDER BY id DESC LIMIT 1"
            card = self._one(find, target, topic) if can_edit else None
            self._database.execute(
                "INSERT OR IGNORE INTO delivery VALUES (?, ?, ?, ?, ?, ?, ?)",
                (target, seq, topic, alert.timestamp.timestamp(), RANK[alert.severity], alert.type, card[0] if card else None),
            )
            if card:
                self._database.execute("UPDATE card SET last = ?, version = version + 1 WHERE id = ?", (seq, card[0]))

    def topic_of(self, target: str, topic: str) -> str:
        """What `target` is told the topic in: an outage that it is a part of, else itself."""
        row = self._one("SELECT outage FROM fleet WHERE target = ? AND topic = ?", target, topic)
        return row[0] if row and row[0] else topic

    def join(self, target: str, seq: int, member: Member, cause: str, *, can_edit: bool = True) -> str:
        """What a new topic of that cause is told in. With the one that makes an outage of them, the others are moved into its message.

        What stands in a digest stays there: it is counted in it. So does, for a channel that cannot edit, what was told.
        """
        near = "FROM fleet WHERE target = ? AND cause = ? AND at_s BETWEEN ? AND ?"
        values = (target, cause, member.at_s - FLEET_S, member.at_s + FLEET_S)
        with self.transaction():
            found = self._one(f"SELECT outage {near} AND outage IS NOT NULL ORDER BY at_s DESC LIMIT 1", *values)
            running = found[0] if found else None
            others = () if running else self._database.execute(f"SELECT topic, attempt, at_s {near}", values).fetchall()
            parts = [] if running else outage(member, (Member(*row) for row in others))
            about = running or (f"{OUTAGE}{seq}" if parts else None)
            row = (target, member.topic, cause, member.attempt, member.at_s, about)
            self._database.execute("INSERT OR REPLACE INTO fleet VALUES (?, ?, ?, ?, ?, ?)", row)
            for part in parts:
                self._database.execute("UPDATE fleet SET outage = ? WHERE target = ? AND topic = ?", (about, target, part.topic))
                self._move(target, part.topic, str(about), f"↪ told with others in one message: {cause}", can_edit=can_edit)
        return about or member.topic

    def _move(self, target: str, topic: str, into: str, note: str, *, can_edit: bool) -> None:
        """Have alerts that wait, or have a message of their own, told anew in that of another topic."""
        self._database.execute("UPDATE delivery SET topic = ? WHERE target = ? AND topic = ? AND card IS NULL", (into, target, topic))
        cards = "SELECT id, state, is_repeat FROM card WHERE target = ? AND topic = ? AND state != ?"
        for card, state, is_repeat in self._database.execute(cards, (target, topic, State.DEAD)).fetchall() if can_edit else ():
            self._database.execute("UPDATE delivery SET topic = ?, card = NULL WHERE target = ? AND card = ?", (into, target, card))
            if state == State.READY and not is_repeat:
                self._database.execute("DELETE FROM card WHERE id = ?", (card,))
            else:
                self.note(card, "fleet", note)

    def standing(self, target: str, topic: str) -> Standing:
        """Where `target` knows the topic from."""
        # Left to itself SQLite goes through all deliveries, the newest first.
        row = self._one("SELECT card FROM delivery INDEXED BY delivery_topic WHERE target = ? AND topic = ? ORDER BY seq DESC LIMIT 1", target, topic)
        if row is None:
            return Standing.UNKNOWN
        if row[0] is None:
            return Standing.WAITING
        if row[0] == DROPPED:
            return Standing.UNKNOWN
        card = self._one("SELECT 1 FROM card WHERE id = ? AND topic IS NOT NULL AND state != 3", row[0])
        return Standing.MESSAGE if card else Standing.MENTIONED

    def drop_waiting(self, target: str, is_dropped: Callable[[Alert], bool]) -> int:
        """What waits for `target` and is not wanted any more; how many alerts those were."""
        rows = self._database.execute("SELECT seq, line FROM delivery JOIN alert USING (seq) WHERE target = ? AND card IS NULL", (target,)).fetchall()
        dropped = [(DROPPED, target, seq) for seq, line in rows if is_dropped(_decode(line))]
        with self.transaction():
            self._database.executemany("UPDATE delivery SET card = ? WHERE target = ? AND seq = ?", dropped)
        return len(dropped)

    def pass_over(self, target: str, before_s: float) -> None:
        """What waits for `target` and is older than that is only counted, in the next digest."""
        with self.transaction():
            done = self._database.execute("UPDATE delivery SET card = ? WHERE target = ? AND card IS NULL AND at_s < ?", (OLD, target, before_s))
            if done.rowcount:
                self.count(f"old:{target}", done.rowcount)

    def queue(self, target: str, most: int) -> tuple[Queue, int]:
        """What waits for a new message, topics counted up to `most`, and how many alerts are to be counted in it."""
        # Of a hundred thousand that wait nobody needs to know more than that they are too many: all of them would take seconds.
        # Left to itself SQLite goes through all that wait, here and below.
        waiting = "SELECT DISTINCT topic FROM delivery INDEXED BY delivery_waiting WHERE target = ? AND card IS NULL LIMIT ?"
        (topics,) = self._one(f"SELECT COUNT(*) FROM ({waiting})", target, most)  # noqa: S608  # a constant
        old = self._one("SELECT number FROM counted WHERE name = ?", f"old:{target}")
        return Queue(topics, self.oldest_waiting_s(target) or 0.0), old[0] if old else 0

    def oldest_waiting_s(self, target: str) -> float | None:
        """The time of the oldest alert that waits for a new message."""
        return self._one("SELECT MIN(at_s) FROM delivery INDEXED BY delivery_oldest WHERE target = ? AND card IS NULL", target)[0]  # type: ignore[no-any-return]  # a column

    # ---------------------------------------------------------------------------------------------------------------- messages

    def make_single(self, target: str, now: float) -> Card:
        """A message about the topic that has waited longest. There must be one."""
        with self.transaction():
            (topic,) = self._one("SELECT topic FROM delivery WHERE target = ? AND card IS NULL ORDER BY seq LIMIT 1", target)
            first, last = self._one("SELECT MIN(seq), MAX(seq) FROM delivery WHERE target = ? AND topic = ? AND card IS NULL", target, topic)
            card = self._made(target, topic, now, first=first, last=last)
            self._database.execute("UPDATE delivery SET card = ? WHERE target = ? AND topic = ? AND card IS NULL", (card, target, topic))
        return self.card(card)

    def make_digest(self, target: str, now: float) -> Card:
        """A message about all that waits."""
        with self.transaction():
            old = self._one("SELECT COALESCE(SUM(number), 0) FROM counted WHERE name = ?", f"old:{target}")[0]
            card = self._made(target, None, now, old=old)
            self._database.execute("DELETE FROM counted WHERE name = ?", (f"old:{target}",))
            self._database.execute("UPDATE delivery SET card = ? WHERE target = ? AND card IS NULL", (card, target))
        return self.card(card)

    def announce(self, target: str, topic: str, text: str, page: str, now: float) -> None:
        """Have `target` sent a text that is about no alert, and the file at `page` with it where that is not empty."""
        with self.transaction():
            made = "INSERT INTO card (target, topic, state, made_s, notes) VALUES (?, ?, ?, ?, ?)"
            self._database.execute(made, (target, topic, State.READY, now, _encode({TEXT: text, PAGE: page}).decode()))

    def _made(self, target: str, topic: str | None, now: float, *, first: int | None = None, last: int | None = None, old: int = 0) -> int:
        made = self._database.execute(
            "INSERT INTO card (target, topic, state, made_s, first, last, old) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (target, topic, State.READY, now, first, last, old),
        )
        return made.lastrowid or 0

    def card(self, number: int) -> Card:
        return self._card(self._one(f"SELECT {_CARD} FROM card WHERE id = ?", number))  # noqa: S608  # a constant

    def find_card(self, number: int) -> Card | None:
        row = self._one(f"SELECT {_CARD} FROM card WHERE id = ?", number)  # noqa: S608
        return self._card(row) if row else None

    def unsent(self, target: str, *, but: int | None = None) -> Card | None:
        """The oldest message that is not known to have arrived, `but` aside."""
        row = self._one(f"SELECT {_CARD} FROM card WHERE target = ? AND state IN (0, 1) AND id IS NOT ? ORDER BY id LIMIT 1", target, but)  # noqa: S608
        return self._card(row) if row else None

    def changed(self, target: str, *, but: int | None = None) -> Card | None:
        """The oldest message that says something else than what stands in the chat, `but` aside."""
        row = self._one(f"SELECT {_CARD} FROM card WHERE target = ? AND version > shown AND state = 2 AND id IS NOT ? ORDER BY id LIMIT 1", target, but)  # noqa: S608
        return self._card(row) if row else None

    def sending(self, card: int, now: float) -> None:
        """It goes on its way now."""
        with self.transaction():
            self._database.execute("UPDATE card SET state = ?, sent_s = ? WHERE id = ?", (State.SENDING, now, card))

    def sent(self, card: int, remote: str | None, version: int) -> None:
        """It arrived, as it was in that version. `remote` is None where it cannot be edited."""
        with self.transaction():
            self._database.execute(
                "UPDATE card SET state = ?, remote = COALESCE(?, remote), shown = CASE WHEN ? IS NULL THEN version ELSE ? END WHERE id = ?",
                (State.SENT, remote, remote, version, card),
            )

    def not_sent(self, card: int) -> None:
        """It did not arrive, and that is certain."""
        with self.transaction():
            self._database.execute("UPDATE card SET state = ?, remote = NULL WHERE id = ?", (State.READY, card))

    def unsure(self, card: int) -> None:
        """Nobody knows whether it arrived: sent again it is marked."""
        with self.transaction():
            self._database.execute("UPDATE card SET is_repeat = 1 WHERE id = ?", (card,))

    def dead(self, card: int) -> None:
        """It was refused for good."""
        with self.transaction():
            self._database.execute("UPDATE card SET state = ? WHERE id = ?", (State.DEAD, card))

    def shown(self, card: int, version: int) -> None:
        """The chat has that version now."""
        with self.transaction():
            self._database.execute("UPDATE card SET shown = ? WHERE id = ?", (version, card))

    def open_menu(self, card: int, menu: str, now: float) -> None:
        self._change(card, "menu = ?, menu_s = ?", menu, now)

    def toggle_details(self, card: int) -> None:
        self._change(card, "has_details = 1 - has_details")

    def note(self, card: int, key: str, text: str) -> None:
        """Have the message say so, in place of what it said under that key."""
        with self.transaction():
            notes = {**self.card(card).notes, key: text}
            self._change(card, "notes = ?, menu = ''", _encode(notes).decode())

    def _change(self, card: int, what: str, *values: object) -> None:
        with self.transaction():
            self._database.execute(f"UPDATE card SET {what}, version = version + 1 WHERE id = ?", (*values, card))  # noqa: S608  # constants

    def messages_since(self, target: str, since_s: float) -> list[Sent]:
        """What was sent to `target` after that, or may have been. What only counts old alerts is no digest."""
        is_digest = "topic IS NULL AND EXISTS (SELECT 1 FROM delivery WHERE delivery.card = card.id)"
        rows = self._database.execute(f"SELECT sent_s, {is_digest} FROM card WHERE target = ? AND sent_s > ?", (target, since_s))  # noqa: S608
        return [Sent(at_s, bool(is_digest)) for at_s, is_digest in rows]

    def tallies(self, card: int) -> list[Tally]:
        """What a digest is about, the worst first."""
        rows = self._database.execute(
            "SELECT type, rank, COUNT(*) AS alerts FROM delivery WHERE card = ? GROUP BY type, rank ORDER BY rank DESC, alerts DESC, type", (card,)
        )
        return [Tally(kind, _SEVERITIES[rank], alerts) for kind, rank, alerts in rows]

    def span_of(self, card: int) -> tuple[float, float] | None:
        """The times of the first and the last alert of a digest."""
        first, last = self._one("SELECT MIN(at_s), MAX(at_s) FROM delivery WHERE card = ?", card)
        return None if first is None else (first, last)

    def worst(self, card: int, most: int) -> list[Alert]:
        """The worst alerts of a digest, of those the oldest first."""
        rows = self._database.execute("SELECT line FROM delivery JOIN alert USING (seq) WHERE card = ? ORDER BY rank DESC, at_s, seq LIMIT ?", (card, most))
        return [_decode(line) for (line,) in rows.fetchall()]

    def alert_ids(self, card: int) -> list[str]:
        """The alerts that a message tells of."""
        return [identity for (identity,) in self._database.execute("SELECT id FROM delivery JOIN alert USING (seq) WHERE card = ? ORDER BY seq", (card,))]

    def alerts_of(self, card: int) -> Iterator[Alert]:
        """The alerts that a message tells of, in the order of arrival."""
        rows = self._database.execute("SELECT line FROM delivery JOIN alert USING (seq) WHERE card = ? ORDER BY seq", (card,))
        return (_decode(line) for (line,) in rows)

    def waiting(self, target: str) -> int:
        """How many alerts `target` is still to be told of."""
        unsent = "SELECT id FROM card WHERE target = ? AND state IN (0, 1)"
        return int(self._one(f"SELECT COUNT(*) FROM delivery WHERE target = ? AND (card IS NULL OR card IN ({unsent}))", target, target)[0])  # noqa: S608

    # -------------------------------------------------------------------------------------------------------------------- mutes

    def mute(self, target: str, mute: Mute) -> None:
        with self.transaction():
            self._database.execute("INSERT OR REPLACE INTO mute VALUES (?, ?, ?, ?)", (target, mute.kind, mute.value, mute.until_s))

    def unmute(self, target: str) -> None:
        with self.transaction():
            self._database.execute("DELETE FROM mute WHERE target = ?", (target,))

    def mutes(self, target: str, now: float) -> list[Mute]:
        """Those in force."""
        rows = self._database.execute("SELECT kind, value, until_s FROM mute WHERE target = ? AND until_s > ? ORDER BY until_s", (target, now))
        return [Mute(*row) for row in rows]

    # -------------------------------------------------------------------------------------------------------------------- posts

    def post(self, target: str, seq: int, topic: str, alert: Alert, now: float) -> None:
        """Have an alert posted to a web address."""
        with self.transaction():
            row = (target, seq, topic, alert.timestamp.timestamp(), RANK[alert.severity], alert.type, POSTED)
            self._database.execute("INSERT OR IGNORE INTO delivery VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            self._database.execute("INSERT OR IGNORE INTO post (target, seq, due_s) VALUES (?, ?, ?)", (target, seq, now))

    def posting_targets(self) -> list[str]:
        return [target for (target,) in self._database.execute("SELECT DISTINCT target FROM post ORDER BY target")]

    def next_post(self, target: str) -> tuple[Post, float] | None:
        """The one that is due first, and when that is."""
        row = self._one("SELECT seq, tries, first_s, due_s FROM post WHERE target = ? ORDER BY due_s, seq LIMIT 1", target)
        return (Post(target, *row[:3]), row[3]) if row else None

    def try_post_again(self, post: Post, due_s: float, now: float) -> None:
        with self.transaction():
            self._database.execute(
                "UPDATE post SET tries = tries + 1, first_s = COALESCE(first_s, ?), due_s = ? WHERE target = ? AND seq = ?", (now, due_s, post.target, post.seq)
            )

    def posted(self, post: Post) -> None:
        """It arrived, or is given up."""
        with self.transaction():
            self._database.execute("DELETE FROM post WHERE target = ? AND seq = ?", (post.target, post.seq))

    # ------------------------------------------------------------------------------------------------------------------ actions

    def claim_action(self, seq: int, name: str, attempt: str, state: str, said: str, now: float) -> bool:
        """Write down that an alert's command is going to run, or is not, and in words why; False where one was before: it is run once at most."""
        with self.transaction():
            before = self.action_state(seq)
            if before is not None and (before not in NOT_RUN or state in NOT_RUN):
                return False
            self._database.execute("INSERT OR REPLACE INTO action VALUES (?, ?, ?, ?, ?, ?)", (seq, name, attempt, state, said, now))
            self._touch(seq)
        return True

    def action_is(self, seq: int, state: str, said: str) -> None:
        """What has become of it; the messages of the alert say so."""
        with self.transaction():
            self._database.execute("UPDATE action SET state = ?, said = ? WHERE seq = ?", (state, said, seq))
            self._touch(seq)

    def action_state(self, seq: int) -> str | None:
        row = self._one("SELECT state FROM action WHERE seq = ?", seq)
        return row[0] if row else None

    def actions_in(self, state: str) -> list[tuple[int, str]]:
        """The alerts whose commands are in that state, and the commands' names."""
        return self._database.execute("SELECT seq, name FROM action WHERE state = ? ORDER BY seq", (state,)).fetchall()

    def actions_of(self, card: int, most: int) -> list[tuple[str, str]]:
        """The newest commands of the alerts in a message: their names, and in words what became of them."""
        rows = self._database.execute(
            "SELECT name, said FROM action JOIN delivery USING (seq) WHERE card = ? ORDER BY seq DESC LIMIT ?", (card, most)
        ).fetchall()
        return rows[::-1]

    def last_action_s(self, attempt: str) -> float | None:
        """When a command was run last for an attempt, or put in line for it."""
        return self._one("SELECT MAX(at_s) FROM action WHERE attempt = ? AND state NOT IN ('skipped', 'dry_run')", attempt)[0]  # type: ignore[no-any-return]

    def _touch(self, seq: int) -> None:
        self._database.execute("UPDATE card SET version = version + 1 WHERE topic IS NOT NULL AND id IN (SELECT card FROM delivery WHERE seq = ?)", (seq,))

    # --------------------------------------------------------------------------------------------------------------- housekeeping

    def forget(self, before_s: float) -> None:
        """What was seen before that and is done with."""
        with self.transaction():
            for statement in (
                "DELETE FROM card WHERE made_s < ? AND state > 1",
                "DELETE FROM delivery WHERE seq IN (SELECT seq FROM alert WHERE seen_s < ?) AND card IS NOT NULL AND card NOT IN (SELECT id FROM card)",
                "DELETE FROM mute WHERE until_s < ?",
                "DELETE FROM fleet WHERE at_s < ?",
                "DELETE FROM action WHERE at_s < ?",
                "DELETE FROM alert WHERE seen_s < ? AND seq NOT IN (SELECT seq FROM delivery) AND seq NOT IN (SELECT seq FROM post)",
            ):
                self._database.execute(statement, (before_s,))

    def _card(self, row: Sequence[Any]) -> Card:
        return msgspec.convert(dict(zip(Card.__struct_fields__, (*row[:-1], msgspec.json.decode(row[-1])), strict=True)), Card, strict=False)

    def _one(self, statement: str, *values: object) -> Any:
        return self._database.execute(statement, values).fetchone()


def _connected(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    try:
        path.chmod(0o600)
        _prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    if database.execute("PRAGMA user_version").fetchone()[0] == 0:
        database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
    _check(database)
    database.execute(_OLDEST)


def _check(database: sqlite3.Connection) -> None:
    """Raises DatabaseError for what cannot be used."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        raise sqlite3.DatabaseError(f"it is of another agentwatch: version {version}, this one has {VERSION}")
    if database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("it is damaged")


def _is_unusable(error: sqlite3.DatabaseError) -> bool:
    """Not so for a full disk or a file that may not be opened: those pass, and nothing must be thrown away for them."""
    return not isinstance(error, sqlite3.OperationalError)


def is_damaged(error: sqlite3.DatabaseError) -> bool:
    """Whether what the file holds is no database of ours any more, its tables gone or its pages unreadable: no later try will do better."""
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
