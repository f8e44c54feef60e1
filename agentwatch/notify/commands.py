"""Runs a command for an alert: no shell, the alert on its standard input, within a time limit, without our secrets."""

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Mapping

import msgspec

from agentwatch.core.text import safe

MOST_OUTPUT_BYTES = 1 << 16
GRACE_S = 3.0
"""So long a command that was told to end has for it, before it is killed."""


class Result(msgspec.Struct, frozen=True):
    """What came of a command. `outcome` is done, failed, timeout, not_started or interrupted; `output` is the end of what it said."""

    outcome: str
    exit_code: int | None = None
    duration_ms: int = 0
    output: str = ""


async def run(command: list[str], stdin: bytes, *, timeout_s: float, environ: Mapping[str, str]) -> Result:
    """Run it in a session of its own, so that at the end of its time all that it started ends with it. Cancelled, it is ended, and the result says so.

    What it leaves running in the background when it ends by itself goes on, and is not waited for.
    """
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    tail = bytearray()
    # Pipes of our own: asyncio's `wait` would wait until the last process that holds one has ended.
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    try:
        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            process = await asyncio.create_subprocess_exec(*command, stdin=given, stdout=write_fd, stderr=write_fd, env=dict(environ), start_new_session=True)
        loop.add_reader(read_fd, _read, read_fd, tail)
        outcome = await _outcome(process, timeout_s)
        _read(read_fd, tail)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Result("not_started", output=safe(f"`{command[0]}`: {reason}"))
    finally:
        loop.remove_reader(read_fd)
        os.close(read_fd)
        os.close(write_fd)
    lines = bytes(tail).decode("utf-8", "replace").strip().splitlines()
    return Result(outcome, process.returncode, round((time.monotonic() - started) * 1000), safe(lines[-1] if lines else "", 300))


async def _outcome(process: asyncio.subprocess.Process, timeout_s: float) -> str:
    try:
        async with asyncio.timeout(timeout_s):
            return "failed" if await process.wait() else "done"
    except TimeoutError:
        outcome = "timeout"
    except asyncio.CancelledError:
        outcome = "interrupted"
    await _end(process)
    return outcome


def _read(fd: int, tail: bytearray) -> None:
    """What it has said by now, or the pipe holds of it."""
    with contextlib.suppress(BlockingIOError):
        tail += os.read(fd, MOST_OUTPUT_BYTES)
        del tail[:-MOST_OUTPUT_BYTES]


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the command and what it started."""
    for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await process.wait()
                return
