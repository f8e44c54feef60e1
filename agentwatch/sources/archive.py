"""A gzipped log, read at offsets of what is inside."""

import gzip
import os
import zlib
from pathlib import Path

CHUNK_BYTES = 1 << 20


class Archive:
    """Unpacks forward and keeps only what lies behind the last offset asked for, so that memory does not grow with the file.

    Reading before that offset starts again from the beginning. Raises OSError where the archive is damaged or cut.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = gzip.open(path, "rb")  # noqa: SIM115  # closed by `close`
        self._kept = b""
        self._start = 0

    def pread(self, size: int, offset: int) -> bytes:
        try:
            return self._pread(size, offset)
        except (EOFError, zlib.error) as error:
            message = f"damaged or unfinished archive: {error}"
            raise OSError(message) from error

    def _pread(self, size: int, offset: int) -> bytes:
        if offset < self._start:
            self._file.seek(0)
            self._kept, self._start = b"", 0
        while self._start + len(self._kept) < offset + size:
            chunk = self._file.read(CHUNK_BYTES)
            if not chunk:
                break
            end = self._start + len(self._kept)
            if end + len(chunk) <= offset:
                self._kept, self._start = chunk, end
            else:
                self._kept += chunk
        if offset > self._start:
            self._kept = self._kept[offset - self._start :]
            self._start = offset
        return self._kept[:size]

    def size(self) -> int:
        """Bytes inside, modulo 2**32, as the archive's last four bytes say (RFC 1952). For a guess, never for a decision to drop."""
        with self._path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            return int.from_bytes(file.read(4), "little")

    def close(self) -> None:
        self._file.close()
