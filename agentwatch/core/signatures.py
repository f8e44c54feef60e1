r"""What makes two calls, two results or two errors "the same again". Pure functions of JSON values and text.

The rules are those of 2,128 real sessions: volatile parts out, names and other numbers kept. A progress counter is progress, and
blanking what is quoted calls a healthy chase from one missing module to the next a loop.

No text costs more than its first and last `_LOOKED_AT` characters. What lies between stands as its length and digest, so that two
long results that differ anywhere are different. Every pattern is anchored to a literal or bounded.
"""

import json
import re
from collections.abc import Callable
from hashlib import blake2b

from agentwatch.core.lazy import lazy
from agentwatch.core.text import clean, redact

_LOOKED_AT = 16_384
"""Characters of either end of a text that are normalised (5 ms at most): a clock in the middle of a longer one hides a loop, never makes one."""


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()


# A digest that is not blanked as one: g to v for 0 to f.
_IN_LETTERS = str.maketrans("0123456789abcdef", "ghijklmnopqrstuv")


def _ends(text: str, size: int) -> str:
    if len(text) <= 2 * size:
        return text
    middle = text[size:-size]
    return f"{text[:size]} [{len(middle)} characters {_digest(middle).translate(_IN_LETTERS)}] {text[-size:]}"


# ------------------------------------------------------------------------------------------------------------------- calls

_SAYS_WHY = frozenset({"description", "explanation", "justification", "thought", "task_progress", "security_risk"})
_SAYS_HOW_LONG = lazy(r"timeout\w*|\w+_timeout(?:_ms|_secs?|_seconds)?|yield_time_ms|max_output_tokens", re.IGNORECASE)
_HERE = lazy(r"(?<![\w./])\./")


def call_signature(tool_name: str, params: object) -> str:
    """16 hex digits, equal for calls that do the same.

    `params` is the decoded JSON, or a string of JSON as some agents log it. Ignored: the order of keys, white space, "./", and the
    parameters that say why or how long (`description`, `timeout`, …) — unless a call has no others, as a tool for thinking.
    """
    params = _decoded(params)
    if isinstance(params, dict):
        params = {key: value for key, value in params.items() if key not in _SAYS_WHY and not _SAYS_HOW_LONG.fullmatch(key)} or params
    return _digest(f"{tool_name}\0{_canonical(_squeezed(params))}")


_ONE_THING = lazy(r"\"[^\"\\]{0,256}\"|'[^']{0,256}'|(?:~|\.{1,2})?(?:/[\w.@+-]{1,128}){1,32}/?|[0-9]+(?:\.[0-9]+)?")


def blanked_signature(tool_name: str, params: object) -> str:
    """16 hex digits, equal for calls that differ in numbers, paths and what stands in quotes alone."""
    return _digest(f"{tool_name}\0{_canonical(_blank(_decoded(params)))}")


def _blank(value: object, depth: int = 0) -> object:
    if isinstance(value, str):
        return _ONE_THING.sub("#", value[:_LOOKED_AT])
    if isinstance(value, bool) or value is None or depth == 8:
        return value
    if isinstance(value, dict):
        return {key: _blank(item, depth + 1) for key, item in value.items() if not isinstance(item, int | float) or isinstance(item, bool)}
    if isinstance(value, list):
        return [_blank(item, depth + 1) for item in value]
    return "#"


def _decoded(params: object) -> object:
    if not isinstance(params, str) or params.lstrip()[:1] not in ("{", "["):
        return params
    try:
        return json.loads(params)
    except (ValueError, RecursionError):
        return params


def _squeezed(value: object, depth: int = 0) -> object:
    if isinstance(value, str):
        return _HERE.sub("", " ".join(value.split())) if len(value) <= 2 * _LOOKED_AT else value
    if depth == 8:  # real parameters are 4 deep
        return value
    if isinstance(value, dict):
        return {key: _squeezed(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_squeezed(item, depth + 1) for item in value]
    return value


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


_SHELL = lazy(
    "(?:ba)?sh|shell|powershell|terminal|exec|container.exec|exec_command|execute_(?:command|bash)|local_shell|shell_command|run_(?:shell_)?command|run_terminal_cmd"
)
_HAS_SUBCOMMANDS = lazy(
    "apt(?:-get)?|aws|brew|bunx?|cargo|composer|deno|docker|podman|dotnet|gcloud|gh|git|go|gradle|helm|just|kubectl|make|mvn|npm|npx|nx|pip[3x]?|pnpm|poetry"
    "|rtk|rustup|systemctl|terraform|tox|turbo|uvx?|yarn"
)
_RUNNERS = frozenset({"run", "exec", "x", "tool"})
_BEFORE = lazy(
    r"\s*+(?:#[^\n]*\n"
    r"|(?:cd|pushd|source|\.|set|export|umask|ulimit)\s[^\n;&|]{0,512}(?:&&|\n|;)"
    r"|[A-Za-z_]\w{0,64}=(?:\"[^\"]{0,512}\"|'[^']{0,512}'|[^\s\"']{0,512})(?=\s)"
    r"|(?:sudo|env|nohup|time|command|exec|then|do|\()(?=\s)(?:\s+-[A-Za-z]+)*+"
    r"|timeout(?:\s+-{1,2}[\w=-]+(?:\s+[\d.]+[smhd]?(?=\s+[\d.]))?)*+\s+[\d.]+[smhd]?(?=\s))"
)
_PYTHON = lazy(r"python[\d.]*")
_WITH_VALUE = frozenset({"-C", "-c", "--prefix", "--cwd", "--git-dir", "--directory", "-f", "-n", "--namespace"})
_WORD = lazy(r"[A-Za-z][\w:.@-]{0,40}")


def operation(tool_name: str, params: object) -> str:
    """Name what a call does, coarser than its signature: the success of an operation says that its errors are over.

    For a shell `program` or `program subcommand` (`npm run build`, `pytest`), past `cd … &&`, variables, sudo, timeout and `python -m`;
    for a tool of several commands `tool:command` (to view a file is not to edit it); else the tool.
    """
    params = _decoded(params)
    if _SHELL.fullmatch(tool_name.lower()):
        command = params
        if isinstance(params, dict):
            command = next((params[key] for key in ("command", "cmd", "script", "input") if params.get(key)), None)
        if isinstance(command, list):  # ["bash", "-lc", "cd x && make"]
            command = command[-1] if len(command) > 2 and command[1] in ("-lc", "-c") else " ".join(map(str, command))
        return (_program(command) if isinstance(command, str) else "") or tool_name
    if isinstance(params, dict):
        command = params.get("command") or params.get("action")
        if isinstance(command, str) and _WORD.fullmatch(command):
            return f"{tool_name}:{command}"
    return tool_name


def _program(command: str) -> str:
    command = command[:4096]
    start = 0
    while before := _BEFORE.match(command, start):
        start = before.end()
    words = re.split(r"\s+", re.split(r"[\n|;]|&&", command[start:], maxsplit=1)[0].strip())
    program = words[0].rsplit("/", 1)[-1].strip("\"'()`{}")
    if _PYTHON.fullmatch(program):
        if len(words) > 2 and words[1] == "-m":
            words = words[2:]
            program = words[0]
        else:
            return program.rstrip("0123456789.")
    if not _HAS_SUBCOMMANDS.fullmatch(program):
        return program[:64]
    return " ".join([program, *_subcommand(words[1:])])


def _subcommand(words: list[str]) -> list[str]:
    found: list[str] = []
    skip = False
    for word in words:
        if skip or word.startswith("-"):
            skip = not skip and word in _WITH_VALUE
            continue
        if not _WORD.fullmatch(word):
            break
        found.append(word)
        if word not in _RUNNERS:
            break
    return found


# ----------------------------------------------------------------------------------------------------------------- results


def result_text(result: object) -> str:
    """Give the text of a tool's result: a string as it is, the texts of a list of blocks, anything else as canonical JSON; "" for none.

    A block without text (an image) stands as its type and digest, so that two different ones differ.
    """
    if result is None:
        return ""
    if isinstance(result, str):
        return result
    if isinstance(result, list):
        return "\n".join(map(_block_text, result))
    return _canonical(result)


def _block_text(block: object) -> str:
    if isinstance(block, str):
        return block
    if isinstance(block, dict):
        if isinstance(block.get("text"), str):
            return str(block["text"])
        return f"[{block.get('type', 'block')} {_digest(_canonical(block))}]"
    return _canonical(block)


def _without_duration(found: re.Match[str]) -> str:
    # "3 seconds" may be a countdown, which is progress; "1.46s", "34ms" and "in 3 seconds" are how long it took.
    measured = found["fine"] or "." in found[0] or _MEASURED.search(found.string, max(0, found.start() - 24), found.start())
    return "#s" if measured else found[0]


def _without_hex(found: re.Match[str]) -> str:
    # "defaced" is a word, 12345678 a count.
    return found[0] if found[0].isalpha() or found[0].isdecimal() else "#hex"


_MEASURED = lazy(r"\b(?:in|took|(?:time|duration|elapsed)[\"']?:?) {0,3}\Z", re.IGNORECASE)
_H = "[0-9a-fA-F]"
# (one of these stands in the text, or nothing said; what is volatile; what is put in its place). A row replaces no more than the value
# itself, never "the rest": a pattern that ran over line ends took the whole output after Codex's "Chunk ID" with it, and made every
# poll equal. They start with letters or a class of characters, not with "\b", which costs five times as much.
_VOLATILE: tuple[tuple[tuple[str, ...], re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (hints, lazy(pattern), blank)
    for hints, pattern, blank in (
        (("<timestamp>",), r"<timestamp>[^<]{0,64}</timestamp>", "<timestamp>"),
        (("Chunk ID",), rf"(Chunk ID:? ?){_H}{{4,16}}\b", r"\1#"),
        (("Wall time",), r"(Wall time:? ?)[0-9.]{1,16} ?(?:seconds|s)?", r"\1#"),
        (("oken count", "okens used"), r"((?:[Tt]oken count|[Tt]okens used):? ?)[0-9,]{1,16}", r"\1#"),
        (
            (":",),
            r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?",
            "#time",
        ),
        # "10:25" alone is a line and a column more often than a time; with seconds, "AM" or a month before it is a time.
        ((":",), r"[0-9](?<![\w:.].)[0-9]?:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?(?![\w:])(?: ?[AaPp][Mm]\b)?| ?[AaPp][Mm]\b)", "#time"),
        ((":",), r"((?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}[0-9]{1,2} )[0-9]{2}:[0-9]{2}\b", r"\1#time"),
        (
            ("toolu_", "call_", "msg_", "req_", "resp_", "chatcmpl-"),
            r"(?:toolu_|call_|msg_|req_|resp_|chatcmpl-)(?=[A-Za-z]*[0-9])[A-Za-z0-9]{8,64}\b",
            "#id",
        ),
        (("0x",), rf"0x{_H}{{1,16}}\b", "#hex"),
        ((), rf"{_H}(?<!\w.){_H}{{6,127}}(?:-{_H}{{4}}-{_H}{{4}}-{_H}{{4}}-{_H}{{12}})?\b", _without_hex),
        ((), r"[0-9](?<!\w.)[0-9]{0,14}(?:\.[0-9]{1,9})? ?(?:(?P<fine>ms|µs|us|ns)|s|secs?|seconds?|m|mins?|minutes?)\b", _without_duration),
        (
            ("duration", "elapsed", "took", "wall_time"),
            r"((?:duration|elapsed|took|wall_time)(?:[_A-Z]\w{0,16})?[\"']? ?[:=] ?)[0-9]{1,12}(?:\.[0-9]{1,12})?",
            r"\1#s",
        ),
        (
            ("pid", "PID", "Pid", "ession", "port", "Port", "(node:"),
            r"((?:pid|PID|Pid|[Ss]ession(?:[ _]?(?:id|ID|Id))?|[Pp]ort|\(node)[\"']? ?[:=#]? ?)[0-9]{3,12}\b",
            r"\1#",
        ),
    )
)
_REMINDER = "<system-reminder>", "</system-reminder>"


def _without_reminders(text: str) -> str:
    opening, closing = _REMINDER
    while (start := text.find(opening)) >= 0 and (end := text.find(closing, start)) >= 0:
        text = text[:start] + text[end + len(closing) :]
    return text


def _blanked(text: str) -> str:
    for hints, pattern, blank in _VOLATILE:
        if not hints or any(hint in text for hint in hints):
            text = pattern.sub(blank, text)
    return text


def normalise_result(text: str) -> str:
    r"""`text` without what changes although nothing has: two results that normalise alike brought nothing new.

    Out: escape sequences, system reminders, times of day, durations, ids (UUID, tool call, 7 or more hex digits), the numbers of
    processes, sessions and ports, Codex's chunk id, wall time and token count; runs of spaces are one. All other numbers stay.
    """
    text = _without_reminders(clean(_ends(text, _LOOKED_AT), newlines=True))
    return "\n".join(" ".join(line.split()) for line in _blanked(text).split("\n") if line and not line.isspace())


# ------------------------------------------------------------------------------------------------------------------ errors

_SLUG_CHARACTERS = 64


def fingerprint(message: str) -> str:
    """Name an error to which the log gave no name: `the-first-words-of-it-1a2b3c4d`, at most 80 characters.

    The words are for people, the 8 hex digits decide: they are of the whole message, redacted, with only its volatile parts blanked.
    Names and numbers make another error. Never empty.
    """
    text = normalise_result(redact(_ends(message, _LOOKED_AT)))
    words = re.findall(r"[a-z0-9]+", re.sub(r"#\w*|\[REDACTED:[a-z-]+\]", " ", text[:400]).lower())
    slug = ""
    for word in words:
        if len(slug) + 1 + len(word) > _SLUG_CHARACTERS:
            break
        slug = f"{slug}-{word}" if slug else word
    return f"{slug or 'error'}-{_digest(text)[:8]}"


def error_cluster(message: str) -> str:
    """Name the kind of errors that `message` is one of, over many sessions: like `fingerprint`, but numbers, paths and what is quoted make no other kind.

    For reports alone. A loop is not counted by it: "No module named 'a'" and "… 'b'" are two steps of a healthy chase (detection.md, section 2).
    """
    said = salient(redact(_ends(message, _LOOKED_AT))) or message
    return fingerprint(_ONE_THING.sub("#", said[:_LOOKED_AT]))


# "ModuleNotFoundError: …", "E   AssertionError", "Caused by: java.lang.IllegalStateException: …", Rust's and Go's panics.
_EXCEPTION = lazy(
    r"(?:E {1,8}|Caused by: |Uncaught |Unhandled )?(?:[A-Za-z_][\w.$]{0,120}(?:Error|Exception|Fault)(?: ?\[\w{1,40}\])?:(?=.{2})|panic: |thread '[^']{0,80}' panicked)"
)
_ERROR_LIKE = lazy(
    r"error|fail|fatal|cannot|can't|could not|couldn't|unable|no such|not found|not exist|doesn't|does not|denied|refused|rejected|unrecogni[sz]ed|invalid|unknown"
    r"|undefined|unexpected|missing|must |timed out|timeout|conflict|aborted|already exists|no module|not performed|no replacement|occurrences|required|not allowed"
)
# Also source that a linter quotes, tests that passed, and the command itself.
_NO_ERROR = lazy(r"\b(?:0|no) (?:errors?|failures?|failed)|errors?: 0\b|--[\w-]{0,40}error|│|\bpassed\b|--- pass|^[$>] ")
# Said round an error, whatever the error.
_ENVELOPE = lazy(
    r"(?:Output:?|Exit code:? [0-9]+|Process exited with code [0-9]+|Error: Exit code [0-9]+|Command failed with exit code [0-9]+\.?|Chunk ID.*|Wall time.*|.*token count.*"
    r"|Traceback \(most recent call last\):|\(no output\)|[\s|/\\\-⠀-⣿.]*(?:\^C)?)",
    re.IGNORECASE,
)
_TAG = lazy(r"</?(?:tool_use_error|error|stderr|stdout|returncode|output)>")
_INFORMS = lazy(r"\b(?!(?:errors?|fail(?:ed|ure)?|fatal|exit(?:ed)?|code|status|with|the|and|command|process|returned)\b)[^\W\d_]{2,}", re.IGNORECASE)
_LONGEST_LINE = 500


def salient(text: str) -> str | None:
    """Find the line of a failed result that says what failed, volatile parts blanked; None where there is no text to go by.

    The last line of the form of an exception, else the first that speaks of an error; never an exit code, a heading or a spinner.
    Where that line has fewer than 3 words that inform ("FAIL"), the whole text decides: its beginning and a digest.
    """
    whole = normalise_result(_TAG.sub("\n", _ends(text, _LOOKED_AT)))
    lines = [line.strip()[:_LONGEST_LINE] for line in whole.split("\n")]
    lines = [line for line in lines if not _ENVELOPE.fullmatch(line)]
    if not lines:
        return None
    line = next((line for line in reversed(lines) if _EXCEPTION.match(line)), None)
    if line is None:
        line = next((line for line in lines if _ERROR_LIKE.search(low := line.lower()) and not _NO_ERROR.search(low)), None)
    if line is not None and _informs(line):
        return line
    rest = "\n".join(lines)
    return rest if len(rest) <= _LONGEST_LINE else f"{rest[:_LONGEST_LINE]}… {_digest(rest)}"


def _informs(line: str) -> bool:
    return len(_INFORMS.findall(line)) >= 3


_STATUS = r"(?:http(?:/[0-9.]{1,3})?|status(?:[ _]?code)?|api error|error code|error|code|response)[\"']?[\s:=(]{1,3}"
_SPEAKS_OF_RETRYING = lazy(
    rf"\b{_STATUS}(?:408|425|429|5(?:00|02|03|04|20|21|22|23|24|29))\b"
    r"|\b(?:429|5[0-9]{2})\b\W{1,3}(?:too many|internal|bad gateway|service|gateway|server|overloaded)"
    r"|overloaded|rate[ _-]?limit|too many requests|server_error|internal server error|bad gateway|service unavailable|temporarily unavailable"
    r"|timed[ _-]?out|(?<!-)(?<!set)time-?out|deadline exceeded|\b(?:etimedout|econnreset|econnrefused|econnaborted|epipe|enotfound|eai_again|enetunreach|ehostunreach)\b"
    r"|socket hang up|fetch failed|network (?:error|is unreachable|failure)|connection ?(?:reset|refused|aborted|closed|error|lost)|peer closed|stream disconnected"
    r"|temporary failure|try again (?:later|in)|apiconnectionerror"
)
_STAYS_WRONG = lazy(
    rf"\b{_STATUS}(?:400|401|402|403|404|405|413|422)\b"
    r"|\b(?:400|401|403)\b\W{1,3}(?:bad request|unauthori[sz]ed|forbidden)"
    r"|insufficient[_ ]quota|credit balance|billing|invalid[_ ](?:api[_ ]key|request)|authentication[_ ](?:error|failed)|permission[_ ](?:denied|error)"
)
_TRANSIENT_CATEGORIES = frozenset({"network", "api", "transient", "connection"})


def is_transient(*texts: str | None) -> bool:
    """Whether an error may go away by itself: 429, 5xx, overload, rate limits, time-outs, lost connections.

    `texts` are whatever the log says of it: message, category, fingerprint; None and "" say nothing. The categories `network` and
    `api` (agents log their retries as such) are believed, unless a text names what retrying does not cure: 400, 401, 403, a used-up
    quota, a wrong key. That outweighs all else, since such messages often advise to try again. Only the first and last 2 kB count.
    """
    told = [_ends(text, 2048).lower() for text in texts if text]
    if any(_STAYS_WRONG.search(text) for text in told):
        return False
    return any(text in _TRANSIENT_CATEGORIES or _SPEAKS_OF_RETRYING.search(text) for text in told)


_NOT_OWN = lazy(
    r"(?:<tool_use_error>|error: |exit code [0-9]+\s)*\s*(?:the user (?:doesn't want|does not want|rejected|declined|denied|cancelled)|user (?:rejected|declined|denied|cancelled|aborted)"
    r"|sibling tool call errored|\[request interrupted by user|tool (?:use|call) was rejected by the user|request (?:was )?(?:aborted|cancelled) by (?:the )?user"
    r"|(?:(?:operation|command|tool execution) )?(?:was )?(?:aborted|cancelled|interrupted) by (?:the )?user|cancelled: parallel tool call)"
)


def is_own_failure(text: str) -> bool:
    """Whether a failed result is the tool's or agent's own. A person's no, an interrupt and a sibling's error are not.

    One edit that fails in a batch of nine is told nine times, eight of them as "Sibling tool call errored". Only the beginning counts:
    a result may quote such a text.
    """
    return _NOT_OWN.match(text[:400].lower().replace("\u2019", "'").lstrip()) is None
