"""Fluent Bit's `out_file`: its default lines, `format plain`, and the `json_lines` of its other outputs. The facts stand in `README.md`."""

import re
from datetime import datetime, timedelta

import msgspec

from agentwatch.formats.program import Log, Memory, json_fields
from agentwatch.model import EPOCH

NAME = "fluent-bit"

_LINE = re.compile(rb"(?P<tag>[^\x00-\x1f{}\"]{1,200}?): \[(?P<seconds>\d{1,10})\.(?P<fraction>\d{9}), (?P<record>\{.*\})\]\s*\Z", re.DOTALL)


class Decoder(Log):
    """Decodes one file. The time before a record is when it was taken in; one that stands in the record itself is believed first."""

    name = NAME

    def unwrap(self, line: bytes) -> tuple[datetime | None, bytes]:
        """`<tag>: [<seconds>.<nanoseconds>, <record>]`, or the bare record."""
        found = _LINE.match(line)
        if found is None:
            return None, line
        since = timedelta(seconds=int(found["seconds"]), microseconds=int(found["fraction"]) // 1000)
        return EPOCH + since, found["record"]


def recognise(_path: str, lines: list[bytes]) -> bool:
    """Whether one of a file's first lines is a default line, or a record with the key of a shipped line."""
    if any(map(_LINE.match, lines)):
        return True
    return any(fields.log or (fields.date and fields.message) for fields in filter(None, map(json_fields, lines)))


def decoder(source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a log."""
    return Decoder(source, msgspec.json.decode(memory, type=Memory | None))
