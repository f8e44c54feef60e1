"""JSON lines as Winston writes them, and pino, bunyan and others like it. The facts stand in `README.md` beside this file."""

import msgspec

from agentwatch.formats.program import Log, Memory, json_fields

NAME = "winston"


class Decoder(Log):
    """Decodes one log. What stands between the objects (a crash's stack trace on the same stream) is read as text."""

    name = NAME


def recognise(_path: str, lines: list[bytes]) -> bool:
    """Whether one of a file's first lines is an object with a level, or one of Logstash's shape. Claude Code's transcripts have levels, too."""
    found = [fields for line in lines if (fields := json_fields(line)) and not (b'"sessionId"' in line and b'"uuid"' in line)]
    return any(fields.level or (fields.severity and fields.message) or (fields.at_timestamp and fields.at_message) for fields in found)


def decoder(source: str, memory: msgspec.Raw) -> Decoder:
    """Continue a log."""
    return Decoder(source, msgspec.json.decode(memory, type=Memory | None))
