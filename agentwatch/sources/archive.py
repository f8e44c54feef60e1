"""A gzipped log, read at offsets of what is inside."""

import gzip
import zlib
from pathlib import Path

CHUNK_BYTES = 1 << 20


class Archive:
    """Unpacks forward and keeps only what lies behind the last offset asked for, so that memory does not grow with the file.

    Reading before that offset starts again from the beginning. Where the archive is damaged, cut or still being written, it ends
    there and `damage` says why. Raises OSError where it cannot be read at all.
    """

    def __init__(self, path: Path) -> None:
        self._file = gzip.open(path, "rb")  # noqa: SIM115  # closed by `close`
        self._kept = b""
        self._start = 0
        self.damage: str | None = None

    def pread(self, size: int, offset: int) -> bytes:
        if offset < self._start:
            self._file.seek(0)
            self._kept, self._start, self.damage = b"", 0, None
        while self._start + len(self._kept) < offset + size:
            chunk = self._unpack()
            if not chunk:
                break
            end = self._start + len(self._kept)
            if end + len(chunk) <= offset:
                self._kept, self._start = chunk, end
            else:
                self._kept += chunk
        passed = min(offset - self._start, len(self._kept))
        self._kept = self._kept[passed:]
        self._start += passed
        return self._kept[:size] if self._start == offset else b""

    def data_from(self, offset: int) -> int:
        return offset

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()

    def _unpack(self) -> bytes:
        if self.damage is not None:
            return b""
        try:
            return self._file.read1(CHUNK_BYTES)  # what stands before the damage, where `read` would throw it away
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self.damage = str(error)
            return b""
