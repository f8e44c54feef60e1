"""Which command answers an alert, and with which arguments. Runs nothing."""

import re
from collections.abc import Mapping

import msgspec

from agentwatch.model import Alert, Status

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]{0,63})\}")


class RefusedError(ValueError):
    """A command cannot be called for this alert; the text says why."""


def name_for(alert: Alert, commands: Mapping[str, object]) -> str | None:
    """Under which name a command for the alert stands: its recommendation or, where none does, its type. None for one that is over."""
    if alert.status is Status.RECOVERED:
        return None
    return next((name for name in (alert.recommendation, alert.type) if name in commands), None)


def arguments(template: tuple[str, ...], alert: Alert) -> list[str]:
    """The command with the alert's fields in place of `{field}`; a field that it does not have is an empty text.

    Each argument stays one argument, whatever stands in the log. Raises RefusedError where one would be read as an option only because
    of what a log says: `{attempt_id}` with an attempt called `--force`.
    """
    fields = {
        **{name: value for name, value in alert.detail.items() if not isinstance(value, list)},
        **{name: value for name, value in msgspec.structs.asdict(alert).items() if isinstance(value, str)},
    }

    def value(found: re.Match[str]) -> str:
        return str(fields.get(found[1], ""))

    filled = [template[0]]
    for pattern in template[1:]:
        text = _PLACEHOLDER.sub(value, pattern)
        if text.startswith("-") and not pattern.startswith("-"):
            raise RefusedError(f"`{pattern}` would begin with a dash, and be read as an option")
        filled.append(text)
    return filled
