"""Text that is safe to show. The one place that takes secrets out and makes what is left harmless; every way out goes through it.

Nothing here can be made slow by what stands in a log: a pattern either consumes what it has looked at (possessive, judged in
Python afterwards) or is bounded, no quantifier stands inside another over the same characters, and `safe` bounds the text first.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from math import log2
from typing import NamedTuple

from agentwatch.core.lazy import lazy
from agentwatch.core.linear import LinePattern, Sought

# ---------------------------------------------------------------------------------------------------------------- harmless

# A string sequence (OSC, DCS, SOS, PM, APC) that is never closed loses only its introducer: a log must not be able to hide the rest
# of a line from us by opening one.
_ESCAPES = lazy(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}+[ -/]{0,8}+[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])(?:[^\x00-\x1f\x7f-\x9f]*+(?:\x07|\x1b\\|\x9c))?"
    r"|\x1b[ -/]{0,4}+[0-~]?"
)
_BREAKS = lazy("\r\n?|[\t\n\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")
_BREAKS_BUT_NEWLINES = lazy("\r(?!\n)|[\t\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")
# Category Cf, and the supplementary variation selectors, which carry hidden messages as well as the tags do. Written out, since asking
# unicodedata for 1.1 million characters costs 150 ms at import; the test asks it.
_INVISIBLE = lazy(
    "[\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_UNSHOWABLE = lazy("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\uf8ff\ufffe\uffff\U000f0000-\U0010ffff]")


def clean(text: str, *, newlines: bool = False) -> str:
    r"""`text` without anything that moves a cursor, rings, sets a title, forges a line or reorders what is read.

    Escape sequences and invisible characters (Unicode Cf: bidi, zero-width, tags) go; other controls, private use and lone
    surrogates become U+FFFD; tabs and every kind of line break become a space. With `newlines`, `\n` stays and `\r\n` becomes it.
    The result encodes to UTF-8. Removing can join what was apart, so redact after cleaning, as `safe` does.
    """
    plain = text.replace("\r\n", "\n").replace("\t", " ")
    flat = plain.replace("\n", " ")
    if flat.isprintable() and (flat.isascii() or not _INVISIBLE.search(flat)):
        return plain if newlines else flat
    text = _ESCAPES.sub("", text)
    text = _BREAKS_BUT_NEWLINES.sub(" ", text).replace("\r\n", "\n") if newlines else _BREAKS.sub(" ", text)
    return _UNSHOWABLE.sub("\ufffd", _INVISIBLE.sub("", text))


_COLOUR = lazy(r"(?:\x1b\[|\x9b)[0-9;:]{0,64}+m")
_SELECTORS = lazy("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Variation selectors: terminals do not agree on how wide what they follow becomes, and the supplementary ones carry hidden messages."""


def visible(text: str, *, newlines: bool = False) -> str:
    r"""`text` with all that could move a cursor, ring, set a title, forge a line or reorder what is read shown as its code: `\x1b`, `\u202e`.

    For screens, where somebody looks for what a log hides; `clean` is for what leaves. Colours go; tabs, line breaks and other white space
    become a space. With `newlines`, `\n` stays, and every other break becomes it. All of the result but that is printable, and
    `visible(visible(text)) == visible(text)`.
    """
    plain = text.replace("\r\n", "\n").replace("\t", " ")
    if not newlines:
        plain = plain.replace("\n", " ")
    if plain.isascii() and plain.replace("\n", "").isprintable():
        return plain
    lines = _BREAKS_BUT_NEWLINES.sub("\n", _SELECTORS.sub("", _COLOUR.sub("", plain))).split("\n")
    return ("\n" if newlines else " ").join(line if line.isprintable() else "".join(map(_seen, line)) for line in lines)


def _seen(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


# ----------------------------------------------------------------------------------------------------------------- secrets


class _Rule(NamedTuple):
    """How one kind of secret looks. Searched only where a hint stands; what it found is group 1, or all of it, if `judge` agrees."""

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    judge: Callable[[re.Match[str]], bool] = lambda _: True


def _shape(kind: str, hints: str, pattern: str, judge: Callable[[re.Match[str]], bool] = lambda _: True) -> _Rule:
    return _Rule(kind, tuple(hints.split()), lazy(pattern, re.ASCII), judge)


class _Rules:
    """Rules in their order, searched for one by one only where their hints stand: most texts have none."""

    def __init__(self, *rules: _Rule) -> None:
        self._rules = rules
        self.hints = tuple((hint, i) for i, rule in enumerate(rules) for hint in rule.hints)

    def hinted(self, text: str) -> list[_Rule]:
        return [self._rules[i] for i in sorted({i for hint, i in self.hints if hint in text})]


def _has_digit(found: re.Match[str]) -> bool:
    return any(c.isdigit() for c in found[0])


_EDGE = lazy(r"(?:^|[^A-Za-z0-9]|\\[nrt]|\x1b\[[0-9;]{0,12}m)\Z")


def _stands_alone(found: re.Match[str]) -> bool:
    # No part of a word or of base64. An undecoded JSON line has the letter of its "\n" in front, a coloured one that of its colour.
    return _EDGE.search(found.string[max(found.start() - 16, 0) : found.start()]) is not None


def _is_openai(found: re.Match[str]) -> bool:
    # Without the digit scikit-learn's "sk-toggleable__label-arrow" is a key; alone, since there are "task-…" and "disk-…".
    return len(found[0]) >= 23 and _has_digit(found) and _stands_alone(found)


def _is_jwt(found: re.Match[str]) -> bool:
    return ".eyJ" in found[0] or found[0].count(".") == 4  # the second is the encrypted form


def _is_telegram(found: re.Match[str]) -> bool:
    return re.fullmatch("[0-9a-f-]+", found[0].partition(":")[2]) is None  # "1700000000:<git sha or UUID>"


# Case matters in these, which is most of what makes them precise. Order decides whose name stays where two overlap.
_SHAPES = _Rules(
    # With END whatever stands between, so that line numbers, quotes and diff marks of a tool's output do not help; without, what may
    # stand in a key and in such marks. The look-ahead stops both at the next five dashes: no text is looked at twice.
    _shape(
        "private-key",
        "PRIVATE",
        r"-----BEGIN [A-Z0-9 ]{0,32}?PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[^-]*+(?:-(?!----)[^-]*+)*+-----END [A-Z0-9 ]{0,40}-----|(?:[\w+/=\s\\:,|>\"'→]|-(?!----)){16,}+)",
    ),
    _shape("anthropic", "sk-ant-", r"sk-ant-[\w-]{8,}"),
    _shape("openai", "sk-", r"sk-(?!ant-)[\w-]*+", _is_openai),
    _shape("github", "ghp_ gho_ ghs_ ghu_ ghr_ github_pat_", r"(?:gh[pousr]|github_pat)_\w{16,}"),
    _shape("gitlab", "glpat- gldt- glptt- glrt- glcbt- glft- glsoat- glagent-", r"gl(?:pat|dt|ptt|rt|cbt|ft|soat|agent)-[\w.-]{16,}"),
    _shape("slack", "xox xapp- hooks.slack.com", r"(?:xox[a-z]|xapp)-[\w-]{10,}|(?<=hooks\.slack\.com)/(?:services|workflows|triggers)/[\w/-]{8,}"),
    _shape("aws-secret", "AKIA ASIA", r"A[KS]IA[A-Z0-9]{16}[^\w/+=]{1,5}([\w/+]{40})(?![\w/+=])"),
    _shape("aws-key-id", "AKIA ASIA", r"A[KS]IA[A-Z0-9]{16}"),
    _shape("google", "AIza ya29. GOCSPX-", r"AIza[\w-]{30,}|ya29\.[\w.-]{20,}|GOCSPX-[\w-]{20,}"),
    _shape("stripe", "_live_ _test_ whsec_", r"[sr]k_(?:live|test)_\w{10,}|whsec_[\w+/=]{16,}"),
    _shape("telegram", "/bot", r"(?<=/bot)[0-9]{1,20}:[\w-]{3,}"),
    _shape("telegram", ":", r"[0-9]{6,12}:[\w-]{34,50}+", _is_telegram),
    _shape("npm", "npm_", r"npm_[A-Za-z0-9]{30,}"),
    _shape("pypi", "pypi-", r"pypi-[\w-]{30,}+", _has_digit),
    _shape("huggingface", "hf_", r"hf_[A-Za-z0-9]{20,}", _stands_alone),
    _shape("sendgrid", "SG.", r"SG\.[\w-]{16,64}\.[\w-]{16,}"),
    _shape("twilio", "SK AC", r"(?:SK|AC)[0-9a-f]{32}(?![0-9A-Za-z])", _stands_alone),
    _shape("jwt", "eyJ", r"eyJ[\w-]*+(?:\.[\w-]*+){0,4}+", _is_jwt),
    _shape("azure", "AccountKey= SharedAccessKey= sig=", r"(?:AccountKey|SharedAccessKey|[?&;]sig)=([\w+/%=-]{20,})"),
    _shape("digitalocean", "_v1_", r"do[oprt]_v1_[0-9a-f]{20,}"),
    _shape("discord", "/api/webhooks/", r"(?<=/api/webhooks/)[0-9]{5,24}/[\w-]{10,}"),
    _shape(
        "vendor-token",
        "gsk_ xai- nvapi- dapi hvs. r8_ lin_api_ shpat_ dckr_pat_ sbp_",
        r"(?:gsk_|xai-|nvapi-|dapi|hvs\.|r8_|lin_api_|shpat_|dckr_pat_|sbp_)[\w-]{24,}+",
        lambda found: _has_digit(found) and _stands_alone(found),
    ),
    _shape(
        "vendor-token",
        "pplx- ntn_ tskey- TT3 PMAK- NRAK- sntry glsa_ figd_ rubygems_ pscale_ dp.pt. sq0 AGE-SECRET-KEY-1 key-",
        r"(?:pplx-|ntn_|tskey-[a-z]{2,12}-|AT[AC]TT3|PMAK-|NRAK-|sntry[su]_|glsa_|figd_|rubygems_|pscale_(?:tkn|pw)_|dp\.pt\.|sq0[a-z]{3}-"
        r"|AGE-SECRET-KEY-1|key-(?=[0-9a-f]{32}\b))[\w.=-]{20,}+",
        lambda found: _has_digit(found) and _stands_alone(found),
    ),
)

# What may follow a secret's name. Matched against lower-cased text, where a pattern that starts with plain letters is found ten times
# faster than one that ignores case; names ("api_key") are therefore searched one by one.
_BARE = r"[^\s\"'`,;&<>()\[\]{}|\\]{1,8192}"
_BARE_ASCII = r"[!#$%*+./0-9:=?@A-Z^_a-z~-]{1,8192}"
_TAIL = r"s?[0-9]{0,2}(?P<suffix>[_-][\w-]{0,24}+)?\\{0,3}[\"'`]?\s{0,3}(?P<sign>=>|:=|==?|:|>(?!\s))\s{0,3}"


def _value(bare: str) -> str:
    return rf"\\{{0,3}}(?:\"(?P<double>[^\"\n]{{0,4096}}?)\\{{0,3}}\"|'(?P<single>[^'\n]{{0,4096}}?)\\{{0,3}}'|[\"'`]?(?P<bare>{bare}))"


def _named(kind: str, hints: str, pattern: str) -> _Rule:
    # A password may have any letter; after a token may come a Chinese comma.
    bare = _BARE if kind in ("password", "secret") else _BARE_ASCII
    return _Rule(kind, tuple(hints.split()), lazy(pattern + _TAIL + _value(bare)))


_NAMED = _Rules(
    _named("password", "passw", r"passw(?:or)?d"),
    _named("password", "passphrase", r"passphrase"),
    _named("password", "pwd", r"pwd"),
    _named("secret", "secret", r"secret(?:[_-]?(?:access)?[_-]?key)?"),
    _named("token", "token", r"token"),
    _named("token", "credential", r"credential"),
    _named("api-key", "apikey api_key api-key", r"api[_-]?key"),
    _named("api-key", "accesskey access_key access-key", r"access[_-]?key"),
    _named("api-key", "privatekey private_key private-key", r"private[_-]?key"),
    _named("api-key", "authkey auth_key auth-key", r"auth[_-]?key"),
    _named("api-key", "encryption", r"encryption[_-]?key"),
    _named("api-key", "signing", r"signing[_-]?key"),
)
_FLAGS = tuple(
    (kind, lazy(rf"--(?:[a-z0-9]{{1,20}}[_-]){{0,4}}(?:{names})(?:=|\s{{1,3}}){_value(bare)}"))
    for kind, names, bare in (
        ("password", "passw(?:or)?d|passphrase|pwd", _BARE),
        ("secret", "secret", _BARE),
        ("token", "token|credential|(?:api|access|private|auth|secret)[_-]?key", _BARE_ASCII),
    )
)
_AUTHORIZATION = lazy(
    r"authorization\\{0,3}[\"'`]?\s{0,3}[:=,]\s{0,3}\\{0,3}[\"'`]?(?P<scheme>(?:basic|bearer|token|digest|negotiate|apikey|key)\s{1,3})?(?P<value>[^\s\"'`\\,;<>\[]{1,8192})"
)
_BEARER = lazy(r"bearer\s{1,3}([\w.~+/=-]{12,})")
_USER = lazy(rf"(?:\s-u|--user)[ =]{{0,2}}[\"']?[\w.@+-]{{1,64}}:({_BARE})")
_URL = lazy(r"://([\w-]{20,255})(?::x-oauth-basic)?@|://[^\s:/@\"'`<>]{0,128}+:([^\s/\"'`<>]{1,512})@")
_COOKIE = lazy(
    r"cookie(?:\\{0,3}[\"'`]?\s{0,3}[:=]|(?<=--cookie)\s)\s{0,3}\\{0,3}[\"'`]?"
    r"([^\s;=,\"'`\\]{1,128}+=[^\s;,\"'`\\]++(?:;\s{0,3}[^\s;=,\"'`\\]{1,128}+(?:=[^\s;,\"'`\\]*+)?)*+)"
)

_PLACEHOLDER = lazy(r"\[REDACTED:[a-z-]{1,32}\]")
_UUID = lazy(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_NUMBER = lazy(r"[-+]?[0-9][0-9.,:_]*[a-z%]{0,2}", re.IGNORECASE)
# Stands for a value that is somewhere else, or was taken out. bcrypt's "$2b$" does not.
_STAND_IN = lazy(r"\$[{(]|\$[A-Za-z_]+$|%\w{1,2}$|%\w+%$|\{.*\}$|<.*>$|\[.*\]$|\*+$|\.{2,}$|…$")
_PATH = lazy(r"https?://|[A-Za-z]:[\\/]|(?:~|\.{0,2})/[\w./@+-]*$|[\w-]+(?:/[\w-]+)+\.\w{1,5}$")
_DOTTED = lazy(r"[A-Za-z_]+(?:\??\.[A-Za-z_]+)+:?$")
_TYPE_NAME = lazy(r"(?:[A-Z][a-z]+[0-9]{0,3})+")
_NAME_IN_CODE = lazy(r"(?=.*[_.]|[^0-9]*$)[^0-9]*(?:[0-9][^0-9]*){0,2}")
_WORDS = lazy(r"[A-Za-z]?[a-z]*(?:[A-Z][a-z]+)*|[A-Z_]+|[a-z]+(?:[-_./:][a-z]+)*")
_SENTENCE_MARKS = lazy(r"[A-Z.,:!?()]")
_NOT_SECRET = lazy(
    "passwords?|passwd|passphrase|pwd|secret|token|bearer|basic|string|str|text|none|null|nil|true|false|undefined|required|optional|hidden|number|boolean"
)
_SAYS_OTHER = lazy("counts?|ids?|type|limits?|name|file|path|ur[li]|endpoint|len|length|budget|usage|env|var|size|expiry|expires|hashing|threshold")


def _entropy(value: str) -> float:
    """Shannon's, in bits a character."""
    return -sum(n / len(value) * log2(n / len(value)) for n in Counter(value).values())


def _is_path(value: str) -> bool:
    if not _PATH.match(value):
        return False
    # A base64 secret may start with "/" too, but has a long stretch without dot, dash or underscore.
    return value.startswith("http") or all(len(part) < 20 or any(c in "._-" for c in part) for part in value.split("/"))


def _is_plain(value: str) -> bool:
    """Whether `value` is no secret whatever its name: a word for nothing, a stand-in, a path, an id."""
    if len(value) < 3 or _NOT_SECRET.fullmatch(value.lower()) or _STAND_IN.match(value):
        return True
    return bool(_PLACEHOLDER.search(value) or _UUID.fullmatch(value)) or _is_path(value)


def _was_chosen(value: str, *, is_literal: bool) -> bool:
    """Pass what people choose: anything but an identifier or a sentence. `is_literal` means that code cannot stand there."""
    if re.search(r"\s", value):
        return is_literal and not _SENTENCE_MARKS.search(value)
    if value.isdigit():
        return len(value) >= 4
    return is_literal or not (_WORDS.fullmatch(value) or _DOTTED.fullmatch(value))


def _was_drawn(value: str) -> bool:
    """Pass what machines draw: letters with digits, or more bits a character than names and words reach."""
    if len(value) < 8 or not value.isascii() or re.search(r"\s", value):
        return False
    if _NUMBER.fullmatch(value) or _DOTTED.fullmatch(value) or _TYPE_NAME.fullmatch(value):
        return False
    if any(c.isdigit() for c in value) and any(c.isalpha() for c in value):
        return len(set(value)) >= 5
    return (len(value) >= 16 and not _WORDS.fullmatch(value)) or (len(value) >= 24 and _entropy(value) > 4)


def _is_secret(found: re.Match[str], text: str, kind: str, *, is_flag: bool) -> bool:
    group = found.lastgroup or "bare"
    start, end = found.span(group)
    value = text[start:end]
    if _is_plain(value) or (is_flag and value.startswith("-")):
        return False
    # `PGPASSWORD=word psql`, `?password=word`
    name = text[max(found.start() - 1, 0) : found.start() + 3]
    is_assigned = not is_flag and found["sign"] == "=" and (name[0] in "?&" or name[1:].isupper())
    is_literal = is_flag or is_assigned or group != "bare"
    if not is_literal and text[end : end + 1] in ("(", "[", "{") and _NAME_IN_CODE.fullmatch(value):
        return False
    return _was_chosen(value, is_literal=is_literal) if kind in ("password", "secret") else _was_drawn(value)


def _by_name(text: str, low: str) -> Iterator[tuple[int, int, str]]:
    for kind, _, pattern, _ in _NAMED.hinted(low):
        for found in pattern.finditer(low):
            suffix = found["suffix"]
            if suffix and _SAYS_OTHER.fullmatch(re.split("[_-]", suffix)[-1]):
                continue
            if _is_secret(found, text, kind, is_flag=False):
                yield (*found.span(found.lastgroup or "bare"), kind)
    if "--" in low:
        for kind, pattern in _FLAGS:
            for found in pattern.finditer(low):
                if _is_secret(found, text, kind, is_flag=True):
                    yield (*found.span(found.lastgroup or "bare"), kind)


def _by_place(text: str, low: str) -> Iterator[tuple[int, int, str]]:
    """Where the place gives it away: headers, cookies, the user part of a URL."""
    if "authorization" in low:
        for found in _AUTHORIZATION.finditer(low):
            start, end = found.span("value")
            value = text[start:end]
            if _was_drawn(value) or (found["scheme"] and len(value) >= 4 and not _is_plain(value)):
                yield start, end, "authorization"
    if "bearer" in low:
        yield from ((*found.span(1), "authorization") for found in _BEARER.finditer(low) if _was_drawn(text[found.start(1) : found.end(1)]))
    if "cookie" in low:
        yield from ((*found.span(1), "cookie") for found in _COOKIE.finditer(low) if not _PLACEHOLDER.search(text, *found.span(1)))
    if "://" in low and "@" in low:
        for found in _URL.finditer(low):
            span = found.span(found.lastindex or 0)
            if not _STAND_IN.match(text[slice(*span)]) and not _PLACEHOLDER.search(text, *found.span()):
                yield (*span, "url-password")
    if "curl" in low:
        yield from ((*found.span(1), "authorization") for found in _USER.finditer(low) if not _STAND_IN.match(text[found.start(1) : found.end(1)]))


def _by_shape(text: str) -> Iterator[tuple[int, int, str]]:
    for kind, _, pattern, judge in _SHAPES.hinted(text):
        yield from ((*found.span(found.lastindex or 0), kind) for found in pattern.finditer(text) if judge(found))


def redact(text: str) -> str:
    """`text` with `[REDACTED:kind]` in place of each secret; the same kind always has the same placeholder.

    Known by shape (vendors' prefixes, JWT, PEM also without its end), by place (Authorization, cookies, URL passwords), or by name
    (`password=`, `"api_key":`, `--token`), the last with a gate: numbers, UUIDs, paths, references (`$TOKEN`, `os.environ`), code and
    words pass. Not found: secrets without any of these, and an unquoted password that is one plain word in what may be code.
    Give it whole texts: a secret cut in two is not recognised.
    """
    if not may_hold_secret(text):
        return text
    spans = _spans(text)
    while spans:
        text = _replaced(text, spans)
        # Without its neighbour a secret may stand alone that did not before. Placeholders are not looked at again, so this ends.
        spans = [span for span in _spans(text) if not _PLACEHOLDER.search(text, *span[:2])]
    return text


def _spans(text: str) -> list[tuple[int, int, str]]:
    low = text.lower()
    if len(low) != len(text):  # only İ grows when lowered
        low = text.replace("İ", "i").lower()
    return [*_by_shape(text), *_by_place(text, low), *_by_name(text, low)]


def _replaced(text: str, spans: list[tuple[int, int, str]]) -> str:
    spans = sorted(spans, key=lambda span: span[0])  # stable: shapes before places before names
    pieces: list[str] = []
    done = 0
    for start, end, kind in spans:
        if start >= done:
            pieces += text[done:start], f"[REDACTED:{kind}]"
        done = max(done, end)
    return "".join(pieces) + text[done:]


_KEY_BEGINS, _KEY_ENDS = lazy(r"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY"), lazy(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY")
_LONGEST_KEY_LINES = 200
_BASE64_ALONE = lazy(r"[\s>|\"',]{0,16}[A-Za-z0-9+/]{44,128}={0,2}[\s\"',\\]{0,16}")
WITHHELD = "[REDACTED:private-key]"


def withhold_keys(lines: Sequence[str]) -> list[str]:
    """`lines` of one log, in their order, with `[REDACTED:private-key]` in place of each that is a part of a private key.

    A key stands on many lines of a plain log, and no single one of them looks like it. Neither beginning nor end need be there: a line that is
    nothing but base64 is taken for a part as well. All else a line may hold is left to `redact`.
    """
    if not any("PRIVATE KEY" in line or len(line) >= 44 for line in lines):
        return list(lines)
    found = list(lines)
    begun: int | None = None
    for number, line in enumerate(lines):
        begins, ends = _KEY_BEGINS.search(line), _KEY_ENDS.search(line)
        if begun is not None and number - begun > _LONGEST_KEY_LINES:
            begun = None
        if ends and not (begins and begins.start() < ends.start()):
            first = begun if begun is not None else _first_of_key(lines, number)
            found[first : number + 1] = [WITHHELD] * (number + 1 - first)
            begun = None
        elif begins and not ends:
            begun = number
            found[number] = WITHHELD
        elif _BASE64_ALONE.fullmatch(line):
            found[number] = WITHHELD
    return found


def _first_of_key(lines: Sequence[str], last: int) -> int:
    """Where a key begins whose beginning was cut off: the lines before its end that have no space in them."""
    first = last
    while first and last - first < _LONGEST_KEY_LINES and len(lines[first - 1].split()) == 1:
        first -= 1
    return first


# -------------------------------------------------------------------------------------------------------------------- both

# A 4096-bit key in PEM is 3.3 kB, the largest JWT that servers take in a header 8 kB.
_LONGEST_SECRET = 8192


def safe(text: str, limit: int = 500) -> str:
    """`text` as an alert may carry it: one line, redacted, harmless, at most `limit` (1 or more) characters, cut with `…`.

    Of a long text only the first 16 kB and `limit` are looked at. `safe(safe(text)) == safe(text)`.
    """
    bound = limit + 2 * _LONGEST_SECRET
    shown = redact(text[:bound])
    harmless = clean(shown)
    if harmless != shown:
        # Redacted twice: an escape sequence may swallow the first letter of a secret, or stand in the middle of one.
        shown = redact(harmless)
    if len(text) > bound:
        # What was cut in two stands at the end, unrecognised, and must not move into view because something before it shrank.
        shown = shown[:-_LONGEST_SECRET] + "…"
    # The cut may take away what made a value harmless (`token=next(…`). Each round takes out one secret more, so there is a last.
    while (cut := _cut(shown, limit)) != shown:
        shown = redact(cut)
    return shown


def safe_each(texts: Sequence[str], limit: int = 500) -> list[str]:
    """`safe` for several texts that are shown together, at the price of one look where none of them holds anything suspicious."""
    together = "\n".join(texts)
    is_plain = len(together) <= _LONGEST_SECRET and together.isascii() and together.count("\n") < len(texts) and together.replace("\n", "").isprintable()
    if is_plain and not may_hold_secret(together):
        return [text if len(text) <= limit else _cut(text, limit) for text in texts]
    return [safe(text, limit) for text in texts]


_ANY_CASE = (*sorted({hint for hint, _ in _NAMED.hints}), "authorization", "bearer", "cookie", "curl", "--", "://")
_VAGUE = {":": r"\d:[A-Za-z0-9_-]{8}", "AC": "AC[0-9a-f]{8}", "SK": "SK[0-9a-f]{8}", "sk-": r"sk-[\w-]{20}", "key-": "key-[0-9a-f]{20}"}
"""Hints that stand in half of all texts, and what must stand there at least for their rule to find something."""


@cache
def _hint() -> Callable[[str], bool]:
    """Whether any hint stands in a text: in one pass, where a look for each of a hundred takes seven to twenty-five times as long."""
    try:
        return Sought(_hints())
    except ImportError:
        return bool


def _hints() -> str:
    exact = "|".join(_VAGUE.get(hint) or re.escape(hint) for hint in sorted({hint for hint, _ in _SHAPES.hints}))
    # The rules look at what Python has lowered, where İ becomes an i; in RE2 it is none of its capitals.
    return f"{exact}|(?i:{'|'.join(map(re.escape, _ANY_CASE)).replace('i', '[iİ]')})"


def may_hold_secret(text: str) -> bool:
    """Whether any rule could find anything. Never False where `redact` would change the text."""
    return _hint()(text)


_ESCAPED = r"\\[bfrtu]"
_escaped = lazy(_ESCAPED)


@cache
def _doubt() -> Callable[[bytes, int], tuple[int, int] | None]:
    """Where in lines of JSON something stands that has to be looked at closer."""
    try:
        return LinePattern(f"{_hints()}|{_ESCAPED}|[^\\x00-\\x7e]").span
    except ImportError:
        return lambda text, start: (start, start) if start < len(text) else None


def harmless_json(lines: Sequence[bytes]) -> list[bool]:
    """Of each line of JSON, as orjson writes it, whether nothing in it is to be cleaned (but for newlines) or redacted: one look in place of one at each text.

    Never True where `clean` or `redact` would change a text of it; False also where only a field's name looks as if.
    """
    together, ends = b"\n".join(lines), list(accumulate(len(line) + 1 for line in lines))
    found = [True] * len(lines)
    start = 0
    while (span := _doubt()(together, start)) is not None:
        number = bisect_right(ends, span[0])
        found[number] = _is_harmless(lines[number].decode())
        start = ends[number]
    return found


def _is_harmless(json: str) -> bool:
    return ("\\" not in json or not _escaped.search(json)) and clean(json, newlines=True) == json and not may_hold_secret(json)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    end = limit - 1
    start = text.rfind("[REDACTED:", max(0, end - 48), end + len("[REDACTED"))
    placeholder = _PLACEHOLDER.match(text, start) if start >= 0 else None
    if placeholder and placeholder.end() > end:
        end = start
    return text[:end] + "…"
