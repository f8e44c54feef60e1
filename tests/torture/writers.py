"""Programs that write logs, and what is done to their files: appended to in pieces, rotated, truncated, copied, replaced, packed, deleted."""

import gzip
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from oracle import Oracle

SAMPLES = ("expected 3, got 4: naïve Prüfung", "模块没有找到", "panic 🦀 in `main`", "assertion `a == b` does not hold")
SHORTEST_PADDED = 400
"""A line can be made to be any number of bytes from this on."""


class Author:
    """Makes lines of attempts and tells the oracle of each. Every line is unlike every other."""

    def __init__(self, rng: random.Random, oracle: Oracle) -> None:
        self._rng = rng
        self._oracle = oracle
        self._attempts = 0

    def lines(self, live: list[str], count: int) -> bytes:
        """`count` lines of the attempts in `live`, which come and go."""
        if live and self._rng.random() < 0.1:  # a loop that runs away
            attempt = self._rng.choice(live)
            return b"".join(self._error(attempt, "fp-0") for _ in range(count * 3))
        return b"".join(self._line(live) for _ in range(count))

    def exactly(self, live: list[str], size: int) -> bytes:
        """Lines of `size` bytes together, which must be `SHORTEST_PADDED` at least."""
        text = b""
        while size - len(text) > 20 * SHORTEST_PADDED:
            text += self._line(live, plain=True)
        line = self._say(self._attempt([]), 0)
        return text + line.replace(b'"output": "', b'"output": "' + b"x" * (size - len(text) - len(line)))

    def _line(self, live: list[str], *, plain: bool = False) -> bytes:
        attempt = self._attempt(live)
        dice = self._rng.random()
        if dice < 0.62:
            return self._error(attempt, f"fp-{int(self._rng.random() < 0.2)}")
        if dice < 0.92 or plain:
            return self._say(attempt, 0 if plain else self._rng.choices((0, 5_000, 300_000), (968, 30, 2))[0])
        if self._rng.random() < 0.8:
            live.remove(attempt)
        status = self._rng.choice(("success", "failed", "interrupted"))
        self._oracle.end(attempt, status)
        return self._encode(attempt, "session_end", {"completion_status": status})

    def _attempt(self, live: list[str]) -> str:
        if not live or self._rng.random() < 0.15:
            self._attempts += 1
            live.append(f"attempt-{self._attempts}")
        return self._rng.choice(live)

    def _error(self, attempt: str, fingerprint: str) -> bytes:
        self._oracle.error(attempt, fingerprint)
        return self._encode(attempt, "error", {"error_fingerprint": fingerprint, "error_message": self._rng.choice(SAMPLES)})

    def _say(self, attempt: str, length: int) -> bytes:
        if self._oracle.has_ended(attempt):
            self._oracle.start(attempt)
            return self._encode(attempt, "session_start", {"prompt_type": "initial"})
        self._oracle.sign_of_life(attempt)
        return self._encode(attempt, "agent_output", {"output": "é" * (length // 2)})

    def _encode(self, attempt: str, kind: str, data: dict[str, str]) -> bytes:
        event = {"timestamp": datetime.now(UTC).isoformat(), "attempt_id": attempt, "event_type": kind, "data": data, "sequence_num": self._oracle.lines}
        return json.dumps(event, ensure_ascii=False).encode() + b"\n"


class Generation:
    """What one file holds from its creation, or its last truncation, on: who writes to it and how much of a line is still to come."""

    def __init__(self, path: Path, live: list[str]) -> None:
        self.path = path
        self.live = live
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self.held = b""

    def flush(self) -> None:
        self._write(self.held)
        self.held = b""

    def append(self, text: bytes, rng: random.Random) -> None:
        """Whole, in pieces that are cut anywhere, or but for a rest that follows with the next."""
        text = self.held + text
        self.held = b""
        dice = rng.random()
        if dice < 0.5 or len(text) < 2:
            self._write(text)
            return
        cuts = sorted(rng.randrange(1, len(text)) for _ in range(rng.randint(1, 5)))
        if dice < 0.7:
            text, self.held = text[: cuts[-1]], text[cuts[-1] :]
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            self._write(text[start:end])
            if rng.random() < 0.3:
                time.sleep(rng.random() * 0.004)

    def close(self) -> None:
        self.flush()
        os.close(self.fd)

    def _write(self, text: bytes) -> None:
        while text:
            text = text[os.write(self.fd, text) :]


class Log:
    """One log: the file that has its name, older ones, and those which a writer has not let go of yet.

    `wait_until_read` is called before anything is destroyed that has no copy: nobody can read what is gone. `delete_held` deletes
    a file after a last line, where the daemon can still read it.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        author: Author,
        rng: random.Random,
        *,
        spans: bool,
        destroys: bool,
        wait_until_read: Callable[[], None],
        delete_held: Callable[[Path, Callable[[], None]], bool],
    ) -> None:
        self._directory = directory
        self.name = name
        self._author = author
        self._rng = rng
        self._spans = spans
        self._destroys = destroys
        self._wait_until_read = wait_until_read
        self._delete_held = delete_held
        self._is_dated = rng.random() < 0.3
        self._days = 0
        self._rotated: list[Path] = []
        self._late: list[Generation] = []
        self._current: Generation | None = None

    @property
    def newest(self) -> Path | None:
        """The file that has the plain name, if there is one."""
        return self._current.path if self._current else None

    # -- what writers do -------------------------------------------------------------------------------------------------------

    def append(self) -> None:
        """To the newest file, or to one that was renamed under its writer."""
        generation = self._rng.choice(self._late) if self._late and self._rng.random() < 0.6 else self._newest()
        generation.append(self._author.lines(generation.live, self._rng.choice((1, 1, 2, 5, 20))), self._rng)

    def let_go(self) -> None:
        """A writer notices that its file was renamed: what it says next goes to the newest one."""
        if self._late:
            generation = self._late.pop(0)
            generation.close()
            if self._spans:
                self._newest().live.extend(generation.live)

    def flush(self) -> None:
        """Every line that was begun is ended."""
        for generation in [*self._late, *([self._current] if self._current else [])]:
            generation.flush()

    def pause(self) -> None:
        time.sleep(self._rng.random() * 0.2)

    # -- what happens to files that stay readable ------------------------------------------------------------------------------

    def rotate(self) -> None:
        """Rename; the writer keeps its descriptor for a while, or opens the new file at once."""
        generation = self._current
        if generation is None:
            return
        generation.path.rename(self._make_room())
        generation.path = self._rotated[0]
        self._late.append(generation)
        self._current = None
        if self._rng.random() < 0.4:
            self.let_go()
        if self._rng.random() < 0.5:
            self.append()

    def copy_and_truncate(self) -> None:
        """As logrotate does for writers that cannot reopen; the file fills again at once, also to the size that it had, or beyond."""
        generation = self._newest()
        generation.flush()
        copied = self._make_room()
        size = self._copy(generation.path, copied)
        if self._destroys and self._rng.random() < 0.2:  # lines that come between the two are in no copy
            generation.append(self._author.lines(generation.live, 2), self._rng)
            generation.flush()
            self._wait_until_read()
        os.ftruncate(generation.fd, 0)
        if not self._spans:
            generation.live.clear()
        refill = self._rng.choice(("later", "little", "same", "more"))
        if refill == "little":
            generation.append(self._author.lines(generation.live, 1), self._rng)
        elif refill != "later" and size >= SHORTEST_PADDED:
            generation.append(self._author.exactly(generation.live, size + (refill == "more") * self._rng.randrange(2000)), self._rng)

    def rewrite(self) -> None:
        """An editor's way to save: a new file with the same lines and some more takes the name."""
        generation = self._newest()
        generation.flush()
        temporary = generation.path.with_name(f"{self.name}.tmp")
        self._copy(generation.path, temporary)
        os.close(generation.fd)
        generation.fd = os.open(temporary, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        if self._rng.random() < 0.5:
            generation.append(self._author.lines(generation.live, 3), self._rng)
        temporary.rename(generation.path)

    def back_up(self) -> None:
        """A copy in the same directory, left as it is while the original grows."""
        if self._current is not None and not self._current.held:
            self._days += 1
            self._copy(self._current.path, self._current.path.with_name(f"{self.name}-2025{self._days:04}"))

    def pack(self) -> None:
        """What logrotate does to a rotated file that nobody writes to any more: the archive grows beside it, then it goes."""
        busy = {generation.path for generation in self._late}
        for index, path in enumerate(self._rotated):
            if path.suffix != ".gz" and path not in busy:
                stat = path.stat()
                packed = path.with_name(f"{path.name}.gz")
                self._trickle(packed, gzip.compress(path.read_bytes()))
                os.utime(packed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
                path.unlink()
                self._rotated[index] = packed
                return

    # -- what destroys ---------------------------------------------------------------------------------------------------------

    def replace(self) -> None:
        """Another file takes the name, by rename."""
        generation = self._newest()
        generation.flush()
        self._wait_until_read()
        os.close(generation.fd)
        self._current = Generation(generation.path.with_name(f"{self.name}.tmp"), [])
        self._current.append(self._author.lines(self._current.live, 4), self._rng)
        self._current.path = self._current.path.rename(generation.path)

    def delete(self) -> None:
        """Gone, and perhaps there again at once, with the inode that has just become free."""
        generation = self._newest()
        generation.flush()
        self._wait_until_read()
        os.close(generation.fd)
        generation.path.unlink()
        self._current = None
        if self._rng.random() < 0.6:
            self.append()

    def delete_unread(self) -> None:
        """Gone with lines that nobody has read yet, but for one who has it open."""
        generation = self._newest()

        def append() -> None:
            generation.append(self._author.lines(generation.live, 20), self._rng)
            generation.flush()

        append()
        if self._delete_held(generation.path, append):
            os.close(generation.fd)
            self._current = None

    def truncate(self) -> None:
        """Emptied without a copy."""
        generation = self._newest()
        generation.flush()
        self._wait_until_read()
        os.ftruncate(generation.fd, 0)
        generation.live.clear()
        if self._rng.random() < 0.6:
            generation.append(self._author.lines(generation.live, 4), self._rng)

    def drop_oldest(self) -> None:
        """Retention."""
        if len(self._rotated) > 2 and not any(generation.path == self._rotated[-1] for generation in self._late):
            self._wait_until_read()
            self._rotated.pop().unlink()

    # --------------------------------------------------------------------------------------------------------------------------

    def _newest(self) -> Generation:
        if self._current is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._current = Generation(self._directory / self.name, [])
        return self._current

    def _make_room(self) -> Path:
        """The name that the newest rotated file is to have; older ones move on.

        An attempt that goes on in the next file is read in order as long as the files' times tell which is older: two rotations
        within one tick of the kernel's clock (4 ms) would be two files of the same time.
        """
        if self._spans:
            time.sleep(0.01)
        if self._is_dated:
            self._days += 1
            stem, _, ending = self.name.rpartition(".")
            self._rotated.insert(0, self._directory / f"{stem}-2026{self._days:04}.{ending}")
            return self._rotated[0]
        for number in range(len(self._rotated), 0, -1):
            old = self._rotated[number - 1]
            new = self._directory / (f"{self.name}.{number + 1}" + (".gz" if old.suffix == ".gz" else ""))
            self._rotated[number - 1] = old.rename(new)
            for generation in self._late:
                if generation.path == old:
                    generation.path = new
        self._rotated.insert(0, self._directory / f"{self.name}.1")
        return self._rotated[0]

    def _copy(self, source: Path, target: Path) -> int:
        if self._rng.random() < 0.5:
            shutil.copyfile(source, target)
        else:
            self._trickle(target, source.read_bytes())
        return target.stat().st_size

    def _trickle(self, path: Path, data: bytes) -> None:
        """Written so that it can be seen half done."""
        step = len(data) // self._rng.randint(1, 4) + 1
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(data), step):
                file.write(data[start : start + step])
                if self._rng.random() < 0.5:
                    time.sleep(self._rng.random() * 0.005)
