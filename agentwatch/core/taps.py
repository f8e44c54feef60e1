"""The buttons below a message, and what a tap on one says. Sixty-four bytes are all that Telegram carries for a button."""

import re
from typing import NamedTuple

HOUR_S = 3600.0
CONFIRM_S = 60.0
"""So long a question whether to run a command waits for its answer."""

MUTES = {"ah": ("attempt", HOUR_S), "ad": ("attempt", 24 * HOUR_S), "th": ("type", HOUR_S), "td": ("type", 24 * HOUR_S)}
"""What the second row of a mute says: what is muted, and for how long."""

_LABELS = {"ah": "attempt, 1 h", "ad": "attempt, 24 h", "th": "this type, 1 h", "td": "this type, 24 h"}
_TAP = re.compile(r"([a-z]{1,8}):([0-9]{1,15})")


class Button(NamedTuple):
    """What stands on it, and what comes back when it is tapped."""

    label: str
    data: str


Keyboard = tuple[tuple[Button, ...], ...]


class Tap(NamedTuple):
    """Which button of which card."""

    verb: str
    card: int


def parse(data: str) -> Tap | None:
    """None for what no keyboard of ours has sent."""
    found = _TAP.fullmatch(data)
    return Tap(found[1], int(found[2])) if found else None


def keyboard(card: int, menu: str, action: str | None, *, is_acked: bool, has_details: bool) -> Keyboard:
    """The buttons of a card. `menu` is the one that is open: `mute`, `run` or none. `action` is the command that could be run for it."""

    def button(label: str, verb: str) -> Button:
        return Button(label, f"{verb}:{card}")

    if menu == "mute":
        rows = [[button(_LABELS[verb], verb) for verb in pair] for pair in (("ah", "ad"), ("th", "td"))]
        return (*map(tuple, rows), (button("back", "back"),))
    if menu == "run":
        return ((button(f"yes, run {action}"[:60], "go"), button("no", "back")),)
    first = [*([] if is_acked else [button("✔ ack", "ack")]), button("🔇 mute …", "mute"), button("less" if has_details else "details", "more")]
    return (tuple(first), *([(button(f"▶ {action} …"[:60], "run"),)] if action else []))
