"""Who holds a log directory's state: asked by all who only look."""

import fcntl
import os
from pathlib import Path

from agentwatch.errors import StorageError

STATE_DIR = ".agentwatch"


def holder_of(state: Path, name: str = "lock") -> int | None:
    """Whose the lock is: the pid that its owner wrote there, 0 if it says none; None if nobody has it. Raises StorageError where this user may not look."""
    try:
        fd = os.open(state / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"cannot look into `{state}`: {error.strerror}", hint="ask as the user who runs the daemon") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, 20, 0)
        return int(pid) if pid.isdigit() else 0
    finally:
        os.close(fd)
    return None
