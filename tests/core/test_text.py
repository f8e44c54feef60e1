"""Text that is safe to show. Every secret here is invented, and put together so that no scanner takes this file for a leak."""

import json
import re
import subprocess
import sys
import unicodedata
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.core.text import _spans, clean, harmless_json, may_hold_secret, redact, safe, visible, withhold_keys

ALNUM = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0bX"
HEX = "0123456789abcdef" * 2
B64 = ALNUM + "+/xY4zA9q="[:8]
PEM_BODY = "\n".join(f"MIIE{ALNUM}{ALNUM[:28]}" for _ in range(12))


class Planted(NamedTuple):
    """`text` as it may stand in a log; `secret` must not survive; `shown` is what replaces it."""

    text: str
    secret: str
    kind: str


def planted(text: str, secret: str, kind: str) -> Planted:
    return Planted(text.format(secret), secret, kind)


SECRETS = {
    "Anthropic key": planted("{}", "sk-ant-" + "api03-" + ALNUM, "anthropic"),
    "OpenAI key": planted("{}", "sk-" + ALNUM, "openai"),
    "OpenAI project key": planted("{}", "sk-proj-" + ALNUM + "_" + ALNUM, "openai"),
    "OpenRouter key": planted("{}", "sk-or-v1-" + HEX, "openai"),
    "GitHub personal token": planted("{}", "ghp_" + ALNUM + "aB3d", "github"),
    "GitHub OAuth token": planted("{}", "gho_" + ALNUM + "aB3d", "github"),
    "GitHub server token": planted("{}", "ghs_" + ALNUM + "aB3d", "github"),
    "GitHub fine-grained token": planted("{}", "github_pat_" + "11" + ALNUM + "_" + ALNUM, "github"),
    "GitLab token": planted("{}", "glpat-" + ALNUM[:20], "gitlab"),
    "Slack bot token": planted("{}", "xoxb-" + "123456789012-" + ALNUM[:24], "slack"),
    "Slack webhook": planted("https://hooks.slack.com{}", "/services/" + "T0123/B0456/" + ALNUM[:24], "slack"),
    "AWS access key id": planted("{}", "AKIA" + "Z7QX3M5P" * 2, "aws-key-id"),
    "AWS secret beside its id": planted("AKIA" + "Z7QX3M5P" * 2 + ",{}", B64, "aws-secret"),
    "AWS secret by name": planted("aws_secret_access_key = {}", B64, "secret"),
    "AWS secret as the CLI prints it": planted('"SecretAccessKey": "{}"', B64, "secret"),
    "Google API key": planted("{}", "AIza" + ALNUM + "-_9", "google"),
    "Stripe secret key": planted("{}", "sk_live_" + ALNUM[:24], "stripe"),
    "Stripe restricted key": planted("{}", "rk_live_" + ALNUM[:24], "stripe"),
    "Telegram bot token": planted("{}", "123456789" + ":AA" + ALNUM + "a", "telegram"),
    "Telegram token in a URL": planted("https://api.telegram.org/bot{}/sendMessage", "123456789" + ":AA" + ALNUM + "a", "telegram"),
    "Telegram token of a test server": planted("http://127.0.0.1:8081/bot{}/getMe", "123" + ":SECRET", "telegram"),
    "npm token": planted("{}", "npm_" + ALNUM + "aB3d", "npm"),
    "PyPI token": planted("{}", "pypi-" + "AgEIcHlwaS5vcmc" + ALNUM * 3, "pypi"),
    "Hugging Face token": planted("{}", "hf_" + ALNUM, "huggingface"),
    "SendGrid key": planted("{}", "SG." + ALNUM[:22] + "." + ALNUM + ALNUM[:11], "sendgrid"),
    "Twilio key": planted("{}", "SK" + HEX, "twilio"),
    "Twilio account": planted("{}", "AC" + HEX, "twilio"),
    "JWT": planted("{}", "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0." + ALNUM, "jwt"),
    "JWT without its signature": planted("{}", "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0", "jwt"),
    "private key": planted("-----BEGIN RSA PRIVATE" + " KEY-----\n{}\n-----END RSA PRIVATE KEY-----", PEM_BODY, "private-key"),
    "private key without its end": planted("-----BEGIN PRIVATE" + " KEY-----\n{}", PEM_BODY, "private-key"),
    "private key in undecoded JSON": planted(
        "-----BEGIN OPENSSH PRIVATE" + " KEY-----\\n{}\\n-----END OPENSSH PRIVATE KEY-----", PEM_BODY.replace("\n", "\\n"), "private-key"
    ),
    "private key with line numbers": planted(
        "1→-----BEGIN EC PRIVATE" + " KEY-----\n{}\n9→-----END EC PRIVATE KEY-----", PEM_BODY.replace("MIIE", "  2→MIIE"), "private-key"
    ),
    "password in a URL": planted("https://bob:{}@example.com/x", "pa$$:word", "url-password"),
    "password of a database URL": planted("DATABASE_URL=postgres://app:{}@db:5432/app", "swordfish", "url-password"),
    "password of a Redis URL": planted("redis://:{}@cache:6379/0", "first.last", "url-password"),
    "token as the user of a URL": planted("https://{}@example.com/x.git", HEX + "01234567", "url-password"),
    "Authorization: Basic": planted("Authorization: Basic {}", "Ym9iOnN3b3JkZmlzaA==", "authorization"),
    "Authorization: Bearer": planted('"authorization": "Bearer {}"', "swordfishy", "authorization"),
    "Authorization: token": planted("curl -H 'Authorization: token {}'", HEX, "authorization"),
    "Bearer alone": planted("sent Bearer {}", ALNUM, "authorization"),
    "curl -u": planted("curl -u bob:{} https://example.com", "swordfish", "authorization"),
    "password=": planted("password={}", "hunter2", "password"),
    "password in an environment": planted("PGPASSWORD={} psql", "swordfish", "password"),
    "password in JSON": planted('{{"password": "{}"}}', "swordfish", "password"),
    "password in escaped JSON": planted('{{\\"password\\":\\"{}\\"}}', "swordfish", "password"),
    "password of several words": planted('"passphrase": "{}"', "correct horse battery staple", "password"),
    "password in YAML": planted("db_password: {}", "Tr0ub4dor&3"[:9], "password"),
    "password in XML": planted("<password>{}</password>", "hunter2!", "password"),
    "password in a form": planted("user=bob&password={}&x=1", "swordfish", "password"),
    "password in a connection string": planted("Server=db;Uid=app;Pwd={};", "hunter2!", "password"),
    "passwd": planted("passwd: {}", "hunter2", "password"),
    "--password": planted("mysql --password {}", "swordfish", "password"),
    "--db-password=": planted("tool --db-password={}", "swordfish", "password"),
    "client_secret": planted("client_secret={}", ALNUM, "secret"),
    "token=": planted("?access_token={}&x=1", ALNUM, "token"),
    "token before a Chinese comma": planted("token={},然后", ALNUM, "token"),
    "--token": planted("tool --token {}", ALNUM, "token"),
    "api_key": planted('"api_key": "{}"', ALNUM, "api-key"),
    "X-Api-Key": planted("X-Api-Key: {}", ALNUM, "api-key"),
    "--api-key": planted("tool --api-key {}", ALNUM, "token"),
    "access_key": planted("access_key='{}'", ALNUM, "api-key"),
    "private_key": planted("private_key: {}", ALNUM, "api-key"),
    "session cookie": planted("Cookie: theme=dark; session={}", ALNUM, "cookie"),
    "Set-Cookie": planted("set-cookie: sid={}; Path=/; HttpOnly", "s%3A" + ALNUM, "cookie"),
    "Azure storage key": planted("AccountName=x;AccountKey={};", ALNUM + ALNUM + "==", "azure"),
    "DigitalOcean token": planted("{}", "dop_v1_" + HEX + HEX, "digitalocean"),
    "Discord webhook": planted("https://discord.com/api/webhooks/{}", "123456789012345678/" + ALNUM, "discord"),
    "Groq key": planted("{}", "gsk_" + ALNUM, "vendor-token"),
    "Perplexity key": planted("{}", "pplx-" + ALNUM, "vendor-token"),
    "Notion token": planted("{}", "ntn_" + "12345" + ALNUM, "vendor-token"),
    "Tailscale key": planted("{}", "tskey-" + "auth-" + ALNUM, "vendor-token"),
    "Atlassian token": planted("{}", "ATATT3" + "xFfGF0" + ALNUM + "=", "vendor-token"),
    "Postman key": planted("{}", "PMAK-" + HEX[:24] + "-" + HEX, "vendor-token"),
    "Sentry token": planted("{}", "sntrys_" + ALNUM, "vendor-token"),
    "Grafana token": planted("{}", "glsa_" + ALNUM + "_1a2b3c4d", "vendor-token"),
    "Figma token": planted("{}", "figd_" + ALNUM, "vendor-token"),
    "RubyGems key": planted("{}", "rubygems_" + HEX, "vendor-token"),
    "PlanetScale token": planted("{}", "pscale_tkn_" + ALNUM, "vendor-token"),
    "Doppler token": planted("{}", "dp.pt." + ALNUM, "vendor-token"),
    "Square token": planted("{}", "sq0atp-" + ALNUM[:22], "vendor-token"),
    "age key": planted("{}", "AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2, "vendor-token"),
    "Mailgun key": planted("{}", "key-" + HEX, "vendor-token"),
    "New Relic key": planted("{}", "NRAK-" + "A1B2C3D4" * 4, "vendor-token"),
}

HARMLESS = {
    "empty": "",
    "UUID": "sessionId: 0b1f6c3e-3f0a-4f5e-9a51-0d8f8a1c2b3d",
    "session id in JSON": '{"session_id": "0199b26c3f0a4f5e9a510d8f8a1c2b3d", "sessionId": "abc123def456"}',
    "token of UUID form": 'token = "0b1f6c3e-3f0a-4f5e-9a51-0d8f8a1c2b3d"',
    "token limit": "max_tokens: 4096",
    "token count": "token_count=123, total_tokens: 45678",
    "usage of a message": '{"usage": {"input_tokens": 12, "output_tokens": 345, "cache_read_input_tokens": 1234567}}',
    "git sha": "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "epoch and sha": "1700000000:9fceb02d0ae598e95dc970b74767f19372d61af8",
    "file path": "secret: /run/secrets/db_password_1, token_file=/etc/token1.txt",
    "relative path": "password: config/db/pass1.yaml",
    "tool call id": '"tool_call_id": "toolu_01Ab3dE6gH9jK2mN5pQ8sT1v"',
    "type": "password: str, token: Optional[str] = None, privateKey: Uint8Array",
    "call": "token = get_token2(request), password=hash_password(word1)",
    "look-up": "api_key=os.environ['KEY1'], secret: process.env.MY_SECRET",
    "variable": "password=$DB_PASSWORD --token ${TOKEN2} password: {{ db_password1 }}",
    "placeholder of a manual": "--password <your-password1> password=**********",
    "sentence": '"password": "The password of the user, at least 8 characters."',
    "tokenizer": "tokenizer: cl100k_base, tiktoken==0.14.0",
    "authorization in prose": "fmt.Errorf: start authorization: loopback listener returned nothing",
    "bearer in prose": "a bearer certificate is needed",
    "class of scikit-learn": "sk-toggleable__label-arrow task-12345678901234567890abc",
    "URL with a port": "http://localhost:3000/@scope/package and git@github.com:owner/name.git",
    "Slack without a hook": "see hooks.slack.com",
    "base64 of JSON": "eyJ" + ALNUM,
    "key mentioned": 'if "-----BEGIN PRIVATE KEY-----" in text:',
    "flag after flag": "tool --password --verbose",
}


@pytest.mark.parametrize("case", SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_is_replaced_by_its_kind(case):
    """What was secret is gone, and the reader learns what it was."""
    shown = redact(f"before ({case.text}) after")
    assert case.secret not in shown
    assert f"[REDACTED:{case.kind}]" in shown
    assert shown.startswith("before (")


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_only_looks_secret_stays(text):
    """Ids, counters, paths, code and prose are what an alert is read for."""
    assert redact(text) == text


def test_two_secrets_in_one_text_are_both_replaced_and_the_rest_stays():
    """The text round a secret is untouched, also where lowering it would change its length."""
    text = f"İİ token=ghp_{ALNUM}aB3d, password=hunter2; İ"
    assert redact(text) == "İİ token=[REDACTED:github], password=[REDACTED:password]; İ"


def test_a_private_key_ends_where_it_ends():
    """What follows the key is shown."""
    assert redact(SECRETS["private key"].text + "\nexit 1") == "[REDACTED:private-key]\nexit 1"


@given(around=st.tuples(st.text(max_size=40), st.text(max_size=40)), case=st.sampled_from(list(SECRETS.values())))
@settings(max_examples=400)
def test_the_look_for_hints_misses_no_secret(around, case):
    """Whatever rule would find something by itself, the one look that comes before all rules lets its text through."""
    text = f"{around[0]} {case.text} {around[1]}"

    assert may_hold_secret(text) or not _spans(text)
    assert may_hold_secret(text.swapcase()) or not _spans(text.swapcase())


def is_harmless_json(encoded):
    """Whether it is, and is so between others too."""
    [alone] = harmless_json([encoded])
    assert harmless_json([b'"x"', encoded, b'"\\t"', encoded]) == [True, alone, False, alone]
    return alone


def texts_of(value):
    """Every text of a JSON value, names of fields too."""
    if isinstance(value, dict):
        return [text for item in (*value, *value.values()) for text in texts_of(item)]
    return [text for item in value for text in texts_of(item)] if isinstance(value, list) else [value]


@pytest.mark.parametrize("case", SECRETS.values(), ids=SECRETS.keys())
def test_json_with_a_secret_is_not_harmless(case):
    """In a text, in the name of a field, or told by that name."""
    for value in (case.text, {case.text: 1}, [[{"x": f"\n{case.text}"}]]):
        assert not is_harmless_json(orjson.dumps(value))
    assert not is_harmless_json(orjson.dumps({"password": "hunter2hunter2"}))


@pytest.mark.parametrize("character", ["\t", "\r", "\b", "\f", "\x00", "\x1b", "\x7f", "\x85", "\xad", "\u200b", "\u202e", "\u2028", "\ue000", "\U000e0041"])
def test_json_with_a_character_that_acts_is_not_harmless(character):
    """However JSON writes it."""
    assert not is_harmless_json(orjson.dumps({"output": f"before{character}after"}))
    assert not is_harmless_json(orjson.dumps(f"\\{character}"))


@pytest.mark.parametrize("text", ["npm test", "two\nlines", 'a "quoted" word', "C:\\Users\\me", "één 日本語 👩"])
def test_json_of_what_people_write_is_harmless(text):
    """Or each of its texts would be looked at one by one."""
    assert is_harmless_json(orjson.dumps({"output": text, "tool_call_id": "c-1", "exit_code": 1}))


@pytest.mark.parametrize("name", ["ap\u0130_key", "cook\u0130e: api_\u212aey", "pr\u0130vate_\u212aey", "to\u212aen", "SECRET_AP\u0130_KEY"])
def test_the_look_for_hints_lowers_letters_as_the_rules_do(name):
    """A dotted capital I and the sign for kelvin become an i and a k."""
    text = f"{name}={ALNUM}"

    assert _spans(text)
    assert may_hold_secret(text)
    assert ALNUM not in redact(text)


def test_without_the_library_for_hints_every_rule_looks_at_every_text():
    """Where RE2 cannot be installed nothing is let through."""
    texts = [case.text for case in SECRETS.values()]
    program = "import json, sys; sys.modules['re2'] = None; from agentwatch.core.text import redact; print(json.dumps([redact(text) for text in json.load(sys.stdin)]))"
    found = subprocess.run([sys.executable, "-c", program], input=json.dumps(texts), capture_output=True, text=True, check=True)

    assert json.loads(found.stdout) == [redact(text) for text in texts]


KEY_LINES = ("-----BEGIN RSA PRIVATE" + " KEY-----", *PEM_BODY.split("\n"), "aB3dE6gH9j==", "-----END RSA PRIVATE" + " KEY-----")


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(0, len(KEY_LINES), id="whole"),
        pytest.param(5, len(KEY_LINES), id="its beginning cut off"),
        pytest.param(0, 7, id="its end cut off"),
        pytest.param(3, 9, id="both cut off"),
    ],
)
def test_a_key_on_many_lines_is_withheld_line_by_line(first, last):
    """Each of its lines, whichever of them are there; those round it are shown."""
    shown = withhold_keys(["before the key", *KEY_LINES[first:last], "after it all is well"])
    assert shown == ["before the key", *["[REDACTED:private-key]"] * (last - first), "after it all is well"]


def test_a_key_that_is_only_mentioned_withholds_nothing():
    """Nor do paths, hashes and long words."""
    lines = [
        'if "-----BEGIN PRIVATE KEY-----" in text: return "-----END PRIVATE KEY-----"',
        "a" * 40,
        "/usr/lib/x86_64-linux-gnu/libfoo.so.1 mapped twice",
        "done",
    ]
    assert withhold_keys(lines) == lines


ESCAPES = {
    "colour": ("\x1b[1;31mred\x1b[0m", "red"),
    "C1 introducer": ("\x9b31mred", "red"),
    "cursor": ("a\x1b[2Jb\x1b[10;10Hc", "abc"),
    "title, closed by BEL": ("a\x1b]0;owned\x07b", "ab"),
    "hyperlink, closed by ST": ("\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", "click"),
    "title that is never closed hides nothing": ("a\x1b]0;error: failed", "a0;error: failed"),
    "DCS": ("a\x1bPq#0;2\x1b\\b", "ab"),
    "C1 string": ("a\x90q\x9cb", "ab"),
    "character set": ("\x1b(Bx", "x"),
    "reset": ("\x1bcx", "x"),
    "escape at the end": ("x\x1b", "x"),
    "sequence inside a sequence": ("\x1b\x1b[31m[31mx", "[31mx"),
    "bell and backspace": ("a\x07b\x08c", "a\ufffdb\ufffdc"),
    "DEL and C1": ("a\x7fb\x80c", "a\ufffdb\ufffdc"),
    "newlines": ("a\nb\r\nc\rd", "a b c d"),
    "other line breaks": ("a\x0bb\x0cc\x85d\u2028e\u2029f\x1eg", "a b c d e f g"),
    "tab": ("a\tb", "a b"),
    "bidi": ("a\u202eb\u2066c\u200fd", "abcd"),
    "zero width and BOM": ("a\u200bb\u200d\ufeffc\xad", "abc"),
    "tags": ("a\U000e0041\U000e0042b", "ab"),
    "hidden variation selectors": ("a\U000e0100b", "ab"),
    "private use": ("a\ue000b\U000f0000", "a\ufffdb\ufffd"),
    "lone surrogate": ("a\ud800b", "a\ufffdb"),
    "accents, CJK and emoji stay": ("é 漢字 🚀 ❤️ \xa0.", "é 漢字 🚀 ❤️ \xa0."),
}


@pytest.mark.parametrize(("text", "shown"), ESCAPES.values(), ids=ESCAPES.keys())
def test_what_acts_on_a_terminal_is_taken_out(text, shown):
    """Sequences and invisible characters go, other controls are seen, breaks are spaces."""
    assert clean(text) == shown


def test_newlines_stay_where_they_are_asked_for():
    """A traceback keeps its lines, whatever system wrote it; a lone return forges none."""
    assert clean("a\r\nb\n\tc\rd\x85e", newlines=True) == "a\nb\n c d e"


@pytest.mark.parametrize("newlines", [False, True])
def test_no_character_of_unicode_slips_through(newlines):
    """Every code point there is, against Python's own table."""
    shown = clean("".join(map(chr, range(0x110000))), newlines=newlines)
    shown.encode()
    left = {c for c in set(shown) if unicodedata.category(c) in {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}}
    assert left == ({"\n"} if newlines else set())


def is_harmless(text: str) -> bool:
    return not any(unicodedata.category(c) in {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"} for c in text)


# Every character, and often those and the words that the rules are about.
PIECES = st.sampled_from(
    [case.text for case in SECRETS.values()]
    + list(HARMLESS.values())
    + [text for text, _ in ESCAPES.values()]
    + [
        "password",
        "=",
        ":",
        '"',
        "'",
        "\\",
        "://",
        "@",
        " ",
        "\n",
        "--token ",
        "[REDACTED:",
        "[REDACTED:password]",
        "]",
        "-----BEGIN",
        "eyJ",
        "\x1b",
        "\x1b]",
        "…",
        "(",
        "İ",
    ]
)
ANY_TEXT = st.text(st.characters(codec=None)) | st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join)


@given(ANY_TEXT, st.integers(1, 600))
def test_safe_text_is_short_harmless_and_stays_as_it_is(text, limit):
    """At most `limit` characters, nothing that acts on a terminal, UTF-8, and the same when made safe again."""
    shown = safe(text, limit)
    assert len(shown) <= limit
    assert is_harmless(shown)
    shown.encode()
    assert safe(shown, limit) == shown


@given(ANY_TEXT)
def test_redacting_twice_is_redacting_once(text):
    """A placeholder is never taken for a secret."""
    once = redact(text)
    assert redact(once) == once


@given(st.recursive(ANY_TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3), max_leaves=4))
def test_no_text_of_harmless_json_would_be_changed(value):
    """One look at all of it lets nothing through that a look at each would have taken out."""
    try:
        encoded = orjson.dumps(value)
    except TypeError:  # half a pair of surrogates
        return
    if is_harmless_json(encoded):
        texts = texts_of(value)
        assert [redact(clean(text, newlines=True)) for text in texts] == texts


@given(ANY_TEXT)
def test_cleaning_twice_is_cleaning_once(text):
    """What is harmless is left alone."""
    assert clean(clean(text)) == clean(text)
    assert clean(clean(text, newlines=True), newlines=True) == clean(text, newlines=True)


# Ends of what stands round a secret without being part of it.
EDGES = st.sampled_from([" ", "\n", ")", ",", ";", "\x1b[31m", "\u200b", "\uff0c", "»"])


@pytest.mark.parametrize("case", SECRETS.values(), ids=SECRETS.keys())
@settings(max_examples=30)
@given(before=st.text(max_size=40), left=EDGES, right=EDGES, after=st.text(max_size=40), limit=st.integers(1, 1500))
def test_no_secret_survives_wherever_it_stands(case, before, left, right, after, limit):
    """Also across the limit: what is shown holds no half of a secret worth having."""
    shown = safe(before + left + case.text + right + after, limit)
    assert clean(case.secret) not in shown
    assert clean(case.secret)[-8:] not in shown or clean(case.secret)[-8:] in clean(before + left + right + after)


@pytest.mark.parametrize("case", SECRETS.values(), ids=SECRETS.keys())
@pytest.mark.parametrize("back", [0, 1, 5, 12, 40, 400])
def test_no_secret_survives_at_the_end_of_what_is_looked_at(case, back):
    """A secret cut in two by the bound on our own work does not come into view because what stands before it shrank."""
    bound = 500 + 16384
    shrinks = "\x1b[31m" * ((bound - back) // 5)
    shown = safe(shrinks + "x" * ((bound - back) % 5) + " " + case.text + " and more" * 5)
    for size in range(8, len(case.secret)):
        assert clean(case.secret)[:size] not in shown


def test_escape_sequences_inside_a_secret_do_not_hide_it():
    """`grep --color` paints the middle of a token, and a hostile log swallows its first letter."""
    token = "ghp_" + ALNUM + "aB3d"
    assert safe(f"{token[:6]}\x1b[01;31m{token[6:12]}\u200b{token[12:]}") == "[REDACTED:github]"
    assert ALNUM not in safe(f"\x1b({token}")


def test_the_cut_is_marked_and_never_goes_through_a_placeholder():
    """`…` says that there was more; a placeholder is whole or not there."""
    assert safe("word " * 200, 20) == "word word word word…"
    for limit in range(1, 60):
        shown = safe("key is hunter, password=hunter2, and more text follows here", limit)
        assert re.sub(r"\[REDACTED:password\]", "", shown).find("[REDACTED") == -1


def test_what_the_cut_made_a_secret_is_redacted_too():
    """A call is code and is shown; without its bracket the same letters are a value."""
    text = "password=hash_abc1(word) and more"
    assert safe(text) == text
    assert safe(text, 19) == "password=…"


# ------------------------------------------------------------------------------------------------------------------- visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain", "plain", id="plain"),
        pytest.param("\x1b[31mred\x1b[0m", "red", id="colours go"),
        pytest.param("\x1b[2J\x1b[H", r"\x1b[2J\x1b[H", id="clearing the screen"),
        pytest.param("\x1b]0;title\x07", r"\x1b]0;title\x07", id="a title and a bell"),
        pytest.param("a\rb", "a b", id="back to the line's beginning"),
        pytest.param("a\r\nb\tc\u2028d", "a b c d", id="line breaks and tabs"),
        pytest.param("user\u202etxt.exe", r"user\u202etxt.exe", id="reordering"),
        pytest.param("a\u200bb\ufeffc", r"a\u200bb\ufeffc", id="no width"),
        pytest.param("a\U000e0041b", r"a\U000e0041b", id="tags"),
        pytest.param("a\U000e0100b\ufe0fc", "abc", id="variation selectors"),
        pytest.param("a\xa0b\u3000c", "a b c", id="other spaces"),
        pytest.param("\ud800x\x9b31m", r"\ud800x", id="half a pair, and a colour in eight bits"),
        pytest.param("naïve 日本 👍", "naïve 日本 👍", id="other scripts"),
    ],
)
def test_on_a_screen_what_is_hidden_in_a_text_is_shown_by_its_code(text, shown):
    """Nothing of a log moves the cursor, rings, sets a title or hides; who looks for it sees it."""
    assert visible(text) == shown


def test_a_text_of_many_lines_keeps_them_where_that_is_asked_for():
    """Every kind of break is one, and a carriage return cannot go back over what was read."""
    assert visible("a\r\nb\rc\u2028d\x0be", newlines=True) == "a\nb\nc\nd\ne"


@given(
    st.text(alphabet=st.characters(), max_size=60)
    | st.lists(st.sampled_from(["\x1b[", "\x1b]", "31m", "\x9b", "m", "\x07", "a", "\u202e", "\r", "\n"]), max_size=20).map("".join)
)
def test_whatever_is_made_visible_is_printable_and_stays_as_it_is(text):
    """The promise that every screen rests on."""
    assert visible(text).isprintable()
    assert visible(visible(text)) == visible(text)
    whole = visible(text, newlines=True)
    assert all(line.isprintable() for line in whole.split("\n"))
    assert visible(whole, newlines=True) == whole
