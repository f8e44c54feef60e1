"""What the notifier takes from others: lines of the alert log, which anybody in a shared directory can write, taps of buttons, and addresses of callbacks.

Whatever they are, nothing is raised; what goes to a phone is bounded and holds no mark that was not put there; a command has as many arguments as were configured.
"""

import re
from contextlib import suppress
from datetime import UTC

import atheris

from fuzz.target import ANY_TIME, run

with atheris.instrument_imports(include=["agentwatch"]):
    from agentwatch.alert_log import as_line
    from agentwatch.apps.alerts import parse
    from agentwatch.core import taps
    from agentwatch.core.actions import RefusedError, arguments
    from agentwatch.core.cards import MOST_UNITS, Notes, as_html, as_text, card, fleet, together, units
    from agentwatch.core.notices import received
    from agentwatch.notify.webhook import is_public

TAG = re.compile(r"</?(?:b|i|code|pre|blockquote(?: expandable)?)>")
ENTITY = re.compile(r"&(?:lt|gt|amp|quot|#x27);")
TEMPLATE = ("fix", "{attempt_id}", "--about={summary}")


def target(data: bytes) -> None:
    """Each line of the bytes is an alert, a tap and an address. `make fuzz` starts from alerts of every type."""
    alerts = []
    for line in data.splitlines():
        text = line.decode("utf-8", "replace")
        taps.parse(text)
        with suppress(ValueError):  # what is no address
            is_public(text)
        told = parse(line)
        alert = received(told, ANY_TIME) if told is not None else None
        if alert is None:
            continue
        alerts.append(alert)
        as_line(alert)
        lines = card(alert, alert, Notes(), UTC)
        html, plain = as_html(lines), as_text(lines)
        assert units(plain) <= MOST_UNITS
        rest = ENTITY.sub("", TAG.sub("", html))
        assert "<" not in rest, html
        assert "&" not in rest, html
        assert "\x1b" not in html + plain
        with suppress(RefusedError):
            assert len(arguments(TEMPLATE, alert)) == len(TEMPLATE)
    if alerts:
        lines = fleet(together(alerts), alerts[-1], Notes(), UTC)
        assert units(as_text(lines)) <= MOST_UNITS


if __name__ == "__main__":
    run(target)
