"""Patterns that are compiled when they are first used: a hundred of them cost 25 ms of a start that may never need one."""

import re
from typing import Any, cast


class _Lazy:
    """Stands for a compiled pattern; becomes as fast as one with the first use, since its methods then stand in it."""

    def __init__(self, pattern: str | bytes, flags: int) -> None:
        self._pattern, self._flags = pattern, flags

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(self._pattern, self._flags)
        for method in ("search", "match", "fullmatch", "finditer", "findall", "split", "sub", "pattern"):
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def lazy(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """As `re.compile`, but a mistake in the pattern shows at its first use."""
    return cast("re.Pattern[str]", _Lazy(pattern, flags))
