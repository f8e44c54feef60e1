"""Every other service, through apprise: one address a channel. The one file that imports it, and that ever holds these addresses."""

import logging
from types import ModuleType

from agentwatch.core.cards import as_text
from agentwatch.errors import SettingsError
from agentwatch.notify.channel import Delivered, Job, Outcome, Unsure

MOST_CHARS = 2000
"""What nearly all services take; apprise cuts further where one takes less."""


class Other:
    """A channel. Raises SettingsError, which does not show the address, where it is none or apprise is not installed."""

    def __init__(self, number: int, address: str) -> None:
        apprise = _library()
        self._service = apprise.Apprise()
        self._errors = (OSError, ValueError)
        where = address if "?" in address else f"{address}?"
        if not self._service.add(f"{where}&overflow=truncate"):
            raise SettingsError(f"AGENTWATCH_APPRISE_URLS: number {number} is no address that apprise knows", hint="see its list of services")

    async def deliver(self, job: Job) -> Outcome:
        """Send once. What went wrong apprise does not say."""
        title, _, body = as_text(job.lines, MOST_CHARS).partition("\n")
        try:
            done = await self._service.async_notify(title=title, body=body or title)
        except self._errors as error:
            return Unsure(type(error).__name__)
        return Delivered() if done else Unsure("apprise could not deliver it")

    async def close(self) -> None:
        """Nothing is kept open."""


def _library() -> ModuleType:
    try:
        import apprise  # noqa: PLC0415  # an extra
    except ImportError:
        raise SettingsError("AGENTWATCH_APPRISE_URLS is set, but apprise is not installed", hint="install `agentwatch[apprise]`") from None
    # It logs addresses with what is secret in them.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    return apprise
