"""Unit files of systemd: templates filled in, and text quoted as systemd.syntax(7) wants it. Knows no directory and no manager."""

import re
from collections.abc import Mapping, Sequence

_MARKER = re.compile(r"@([A-Z_]+)@")
_ALONE = re.compile(r"^@([A-Z_]+)@\n", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")
_PLAIN = re.compile(r"[A-Za-z0-9_:.]")


def filled_in(template: str, fragments: Mapping[str, str], values: Mapping[str, str]) -> str:
    """`template` with each `@NAME@` replaced by its fragment, markers in that too, or by its value, which is taken as it is.

    A line of nothing but a marker whose value is empty is left out. Raises KeyError for a marker that is neither.
    """
    while any(found[1] in fragments for found in _ALONE.finditer(template)):
        template = _ALONE.sub(lambda found: fragments.get(found[1], found[0]).rstrip("\n") + "\n", template)
    template = _ALONE.sub(lambda found: found[0] if values[found[1]] else "", template)
    template = _MARKER.sub(lambda found: values[found[1]], template)
    lines = "\n".join(line.rstrip() for line in template.splitlines())
    return _BLANK_LINES.sub("\n\n", lines) + "\n"


def word(text: str, *, is_command: bool = False) -> str:
    """`text` as one word of a setting that takes several; with `is_command` of a command line, where `$` means something, too.

    Control characters are escaped; what is no UTF-8 cannot be said in a unit file and raises ValueError.
    """
    text.encode()
    escaped = "".join(_escaped(character) for character in text).replace("%", "%%")
    if is_command:
        escaped = escaped.replace("$", "$$")
    return f'"{escaped}"' if escaped != text or not re.fullmatch(r"[\w@+=:,./-]+", text) else text


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return f"\\x{ord(character):02x}" if ord(character) < 32 or ord(character) == 127 else character


def bare(text: str) -> str:
    """`text` as the whole value of a setting that takes one path and knows no quotes. Raises ValueError for what cannot be said there."""
    text.encode()
    if any(ord(character) < 32 or ord(character) == 127 for character in text) or text != text.strip() or text.endswith("\\"):
        raise ValueError("control characters, or blanks at its ends")
    return text.replace("%", "%%")


def command_line(words: Sequence[str]) -> str:
    """The words of a command, as `ExecStart=` takes them."""
    return " ".join(word(one, is_command=True) for one in words)


def instance_of(path: str) -> str:
    """The name of a template's instance for an absolute path: what `systemd-escape --path` gives."""
    text = "/".join(part for part in path.split("/") if part)
    if not text:
        return "-"
    return "".join(
        "-" if one == "/" else one if _PLAIN.fullmatch(one) and not (number == 0 and one == ".") else "".join(f"\\x{byte:02x}" for byte in one.encode())
        for number, one in enumerate(text)
    )


def path_of(instance: str) -> str:
    """The absolute path that `instance_of` made an instance's name of."""
    text = "" if instance == "-" else instance.replace("-", "/")
    return "/" + re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode()).decode("utf-8", "replace")
