"""How far a long look has come: a line on the terminal's stderr; nothing elsewhere, nor on a terminal that cannot write over a line."""

import os
import sys
import time
from types import TracebackType
from typing import Self

from agentwatch.ui.charts import BAR_CELLS, bar_text

PATIENCE_S, STEP_S = 0.4, 0.1


class Progress:
    """Called with how many bytes of how many are done. Shows nothing in the first moments: most looks are over by then."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began_s = self._told_s = time.monotonic()
        self._is_shown = False

    def __enter__(self) -> Self:
        return self

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._began_s < PATIENCE_S or now - self._told_s < STEP_S or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return
        self._told_s = now
        self._is_shown = True
        sys.stderr.write(f"\r{self._what}  {bar_text(done, total):{BAR_CELLS}}  {done / 1e6:,.0f} of {total / 1e6:,.0f} MB\x1b[K")
        sys.stderr.flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
