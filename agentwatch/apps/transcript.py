"""The transcript beside a printed stream: what an agent spends stands there as it is spent, with the model that it was spent on.

Codex prints its tokens when a turn is over, and no model; Gemini CLI prints them when the run is over. A runaway would have paid by then.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from agentwatch.formats.registry import FORMATS
from agentwatch.model import NO_MEMORY, Data, Item

BESIDE = {"codex-exec": ("codex", "*/*/*/rollout-*-{}.jsonl"), "gemini-cli": ("gemini-cli", "*/chats/session-*-{:.8}.jsonl")}
"""For the format of a stream: that of the transcript, and how the name of the session's file ends below its place."""

MOST_BYTES = 8 << 20
"""Read in one go. A longer line is cut in pieces that say nothing."""

_ID = re.compile(r"[\w-]{8,128}")


class Transcript:
    """What a session spends from `since` on. `is_found` says that its file is there, and that all it spends is told from it."""

    def __init__(self, stream_format: str, session_id: str, since: datetime) -> None:
        name, shape = BESIDE[stream_format]
        self._format, self._session_id, self._since = FORMATS[name], session_id, since
        self._shape = shape.format(session_id) if _ID.fullmatch(session_id) else ""  # what a program prints must not choose files
        self._decoder = self._format.decoder("", NO_MEMORY)
        self._path: Path | None = None
        self._offset = 0

    @property
    def is_found(self) -> bool:
        return self._path is not None

    def news(self) -> list[Data]:
        """What was spent since the last call; each has its tokens or its USD, and the model where that is known. What cannot be read spends nothing."""
        if self._path is None:
            self._path = self._find()
        if self._path is None:
            return []
        spent: list[Data] = []

        def feed(items: Iterable[Item]) -> None:
            for event, _, line in items:
                if event.timestamp >= self._since and (event.data.usage is not None or event.data.cost_usd is not None):
                    model = event.data.model or self._decoder.context(line).model
                    spent.append(Data(usage=event.data.usage, cost_usd=event.data.cost_usd, model=model))

        with suppress(OSError), self._path.open("rb") as file:
            file.seek(self._offset)
            while data := file.read(MOST_BYTES):
                end = data.rfind(b"\n") + 1 or (MOST_BYTES if len(data) == MOST_BYTES else 0)
                if not end:
                    break
                self._decoder.read(data[:end].splitlines(keepends=True), self._offset, feed, lambda *_: None)
                self._offset = file.seek(self._offset + end)
        return spent

    def _find(self) -> Path | None:
        places = self._format.places(os.environ, Path.home()) if self._shape else []
        return next((path for place in places for path in place.glob(self._shape)), None)
