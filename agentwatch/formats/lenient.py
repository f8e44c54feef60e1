"""Reading what the typed decoders refuse: as much of a JSON object as fits, for the few lines that are odd."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

import msgspec

REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a typed decoder raises for bytes that it does not take."""

BLANK = b"\0\r\n\t "
"""What a line may consist of that says nothing at all: NULs of a hole, white space."""

_UNCLEAN = re.compile(r"[^A-Za-z0-9_./-]")
_Shape = TypeVar("_Shape", bound=msgspec.Struct)


def kind_of(name: str) -> str:
    """A fault's kind for a line of a type that nobody knows: safe to print, and short."""
    return f"unknown_type:{_UNCLEAN.sub('?', name[:40])}"


def mended(text: bytes) -> bytes:
    r"""Write an object as JSON that msgspec can read; empty if it is no JSON object.

    Half an emoji (a lone `\ud83d`, from a text cut at a UTF-16 unit), bytes that are no UTF-8, NULs and a BOM are what msgspec refuses.
    """
    try:
        value = json.loads(text.strip(BLANK).decode("utf-8-sig", "replace"))
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="replace") if isinstance(value, dict) else b""
    except (ValueError, RecursionError):
        return b""


def salvaged(line: bytes, shape: type[_Shape]) -> _Shape | None:
    """As much of a line's object as fits `shape`; None if the line is no JSON object."""
    text = mended(line)
    return fit(text, shape) if text else None


def fit(raw: bytes | msgspec.Raw, shape: type[_Shape]) -> _Shape:
    """As much of a JSON object as fits `shape`: a field of another type than expected keeps its default, one that is a struct is fitted in turn."""
    kept: dict[str, Any] = {}
    members: dict[str, msgspec.Raw] = {}
    with suppress(*REFUSED):
        members = _decode_members(raw)
    for name, encoded, expected, decode in _fields(shape):
        value = members.get(encoded)
        if value is None:
            continue
        try:
            kept[name] = decode(value)
        except REFUSED:
            if (fitted := _fitted(value, expected)) is not None:
                kept[name] = fitted
    return shape(**kept)


@cache
def _fields(shape: type[msgspec.Struct]) -> tuple[tuple[str, str, Any, Callable[[msgspec.Raw], Any]], ...]:
    """Of each field its name, its name in JSON, its type and a decoder of it. Asking msgspec for them takes 0.5 ms."""
    return tuple((one.name, one.encode_name, one.type, msgspec.json.Decoder(one.type).decode) for one in msgspec.structs.fields(shape))


def _fitted(value: msgspec.Raw, expected: Any) -> msgspec.Struct | list[msgspec.Struct] | None:
    """The value fitted into the struct that a field may be, or into the list of structs."""
    is_object = bytes(value).lstrip().startswith(b"{")
    for part in get_args(expected) if isinstance(expected, UnionType) else (expected,):
        if is_object and isinstance(part, type) and issubclass(part, msgspec.Struct):
            return fit(value, part)
        inner = get_args(part)[0] if get_origin(part) is list else None
        if not is_object and isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            with suppress(*REFUSED):
                return [fit(item, inner) for item in _decode_items(value)]
    return None


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
