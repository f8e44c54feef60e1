"""What kind of error a message speaks of. Stands alone: who logs an error loads little more than this."""

import re

from agentwatch.core.lazy import lazy

_CATEGORIES = tuple(
    (category, lazy(pattern, re.IGNORECASE))
    for category, pattern in (
        ("rate_limit", r"rate[ _-]?limit|too many requests|\b429\b|quota|overloaded|usage limit"),
        (
            "auth",
            r"\b40[13]\b|unauthori[sz]ed|forbidden|authenticat|(?:invalid|expired|bad|missing|rejected).{0,20}(?:token|credential|api.?key)|token (?:rejected|expired)",
        ),
        (
            "network",
            (
                r"timed?[ _-]?out|\bE(?:CONN|HOST|NET|TIMEDOUT|NOTFOUND|AI_)\w*|could not resolve host|connection (?:reset|refused|closed|aborted|error)|socket hang up|\b50[234]\b"
                r"|network|getaddrinfo"
            ),
        ),
        ("git", r"\bgit\b|failed to push|merge conflict|rebase|detached head|CONFLICT \("),
        ("dependency", r"no module named|modulenotfound|cannot find module|npm err|could not find a version|unresolved import|package .{1,80} not found"),
        ("permission", r"permission denied|operation not permitted|\bEACCES\b|\bEPERM\b|read-only file system"),
        ("resource", r"out of memory|\bENOMEM\b|heap|no space left|\bENOSPC\b|too many open files|memoryerror"),
        ("filesystem", r"no such file|filenotfound|\bENOENT\b|not a directory|is a directory|\bEEXIST\b|file exists"),
        ("test", r"assertion|\btests? failed|\d+ failed|expected .{1,80} (?:but|got|received)"),
        ("syntax", r"syntax ?error|unexpected token|parse error|indentationerror|unterminated"),
        ("build", r"compil|\berror TS\d+|\berror\[E\d+\]|linker|build failed|undefined reference"),
    )
)
"""The first that fits. The words are those of the ancestor's categories; what waiting cures comes first, then what is more special."""


def category_of(message: str) -> str:
    """What kind of error a message speaks of; `runtime` where nothing fits. Only its first 4,000 characters count."""
    head = message[:4000]
    return next((category for category, pattern in _CATEGORIES if pattern.search(head)), "runtime")
