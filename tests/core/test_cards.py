"""What a message says, and that whatever a log says it arrives as text."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwatch.core.cards import MOST_UNITS, Digest, Notes, Span, Tally, as_html, as_text, card, digest, fitting, line, units
from agentwatch.core.notices import MOST_FIELDS, received, topic
from agentwatch.core.text import clean
from agentwatch.model import Alert, Severity

NOW = datetime(2026, 2, 9, 8, 14, tzinfo=UTC)

TYPES = {
    "error_loop": ({"error_fingerprint": "push", "occurrences": 4, "window_ms": 600_000}, "Error: push (4 occurrences in 10 min)"),
    "tool_loop": ({"tool_name": "Grep", "occurrences": 10, "window_ms": 36_000}, "Tool: Grep (10 calls in 36 s)"),
    "stuck_agent": ({"idle_time_ms": 300_000, "threshold_ms": 300_000, "waiting_for": "model"}, "Silent: 5 min, waiting for model, limit 5 min"),
    "cost_anomaly": ({"cost_usd": 25.3, "threshold_usd": 1.0, "duration_ms": 6000}, "Cost: $25.30, in 6 s, limit $1.00"),
    "excessive_restarts": ({"restart_count": 4, "last_reason": "crash"}, "Restarts: 4, the last: crash"),
    "failed_session_high_errors": ({"error_count": 9, "error_fingerprints": ["a", "b"]}, "Errors: 9, a, b"),
    "failed_session_transient_errors": ({"error_count": 9}, "Errors: 9"),
    "limit_reached": ({"limit_kind": "usage", "resets_at": "2026-02-09T12:00:00Z"}, "Limit: usage, resets 2026-02-09T12:00:00Z"),
    "context_exhaustion": ({"context_used": 190_000, "context_window": 200_000}, "Context: 190,000 tokens, of 200,000 tokens"),
    "rule_match": ({"rule_id": "oom", "issue_fingerprint": "f", "occurrences": 2, "run_id": "r1"}, "Rule: oom (2 occurrences), run r1"),
}

HOSTILE = [
    "<b>bold</b><script>alert(1)</script>",
    "*bold* _it_ [x](http://evil.example) `code` ||spoiler||",
    "\x1b[31mred\x1b]0;title\x07\x1b]8;;http://evil.example\x1b\\link",
    "\u202egnihtyna\u2066\u200f\u061c",
    "&lt;b&gt; &amp; &#60;",
    "x" * 1_000_000,
    "\ud800 \x00 \ufffe",
    "😀" * 3000,
]

SECRETS = [
    "sk-ant-api03-" + "Ab1" * 20,
    "sk-proj-" + "Ab1c" * 12,
    "ghp_" + "Ab1" * 12,
    "github_pat_" + "A1b2" * 12,
    "glpat-" + "Ab1cD2eF3gH4iJ5kL6m7",
    "xoxb-1234567890-" + "Ab1" * 8,
    "AKIAIOSFODNN7EXAMPL3",
    "AIza" + "Ab1_" * 9,
    "sk_live_" + "Ab1c" * 6,
    "123456789:AA" + "Ab1cD2eF3" * 4,
    "npm_" + "Ab1c" * 9,
    "pypi-" + "Ab1c" * 10,
    "hf_" + "Ab1c" * 9,
    "SG." + "Ab1cD2eF3gH4iJ5k" * 2 + "." + "Ab1cD2eF3gH4iJ5k" * 2,
    "SK" + "0123456789abcdef" * 2,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcDEF123_-abcDEF123",
    "dop_v1_" + "0123456789abcdef" * 4,
    "gsk_" + "Ab1cD2eF3gH4" * 4,
    "whsec_" + "Ab1cD2eF3gH4" * 3,
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq\n-----END RSA PRIVATE KEY-----",
]


def alert(kind="error_loop", **more):
    fields = {"timestamp": "2026-02-09T08:14:00Z", "alert_id": "id-1", "type": kind, "severity": "high", "attempt_id": "attempt-1", "summary": "it loops"}
    return received({**fields, "recommendation": "fix", "episode_id": "e", **more}, NOW)


def shown(*alerts, **notes):
    return as_text(card(alerts[0], alerts[-1], Notes(**notes), UTC))


def read(html):
    """What a phone shows. Fails where Telegram's parser would."""
    opened = []
    for found in re.finditer(r"<(/?)(\w+)>", html):
        if found[1]:
            assert opened.pop() == found[2]
        else:
            assert found[2] in ("b", "i", "code", "pre")
            opened.append(found[2])
    assert not opened
    bare = re.sub(r"</?(?:b|i|code|pre)>", "", html)
    assert "<" not in bare
    assert ">" not in bare
    assert not re.search(r"&(?!(?:lt|gt|amp);)", bare)
    return unescape(bare)


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_each_type_says_what_only_it_has(kind):
    """And nothing where the fields are missing or of another kind."""
    fields, expected = TYPES[kind]
    assert expected in shown(alert(kind, **fields)).splitlines()
    for odd in ({}, dict.fromkeys(fields, None), dict.fromkeys(fields, -1), dict.fromkeys(fields, float("nan"))):
        assert not any(text.endswith((":", ": ")) for text in shown(alert(kind, **odd)).splitlines())


def test_severities_have_their_icons_and_the_end_its_own():
    """A cross, a warning sign, an i, and a tick when it is over."""
    icons = [shown(alert(severity=severity))[0] for severity in ("high", "medium", "low")]
    assert icons == ["❌", "⚠", "\N{INFORMATION SOURCE}"]
    assert shown(alert(status="recovered")).startswith("✅ RECOVERED: ERROR LOOP\n")
    assert "Recommendation" not in shown(alert(status="recovered"))


def test_a_message_that_was_edited_says_since_when_and_until_when():
    """Count and last seen; at the end how long it took."""
    first, last = alert(), alert(alert_id="id-2", timestamp="2026-02-09T08:20:30Z", status="escalated")
    assert "since 09 Feb 08:14:00, last seen 09 Feb 08:20:30" in shown(first, last)
    over = alert(alert_id="id-3", timestamp="2026-02-09T08:30:00Z", status="recovered")
    assert "since 09 Feb 08:14:00, recovered 09 Feb 08:30:00, after 16 min" in shown(first, over)


def test_evidence_that_the_summary_says_already_is_not_said_twice():
    """The newest line that adds something."""
    evidence = [{"source": "s", "offset": 1, "timestamp": "2026-02-09T08:14:00Z", "text": text} for text in ("what happened", "it loops")]
    assert shown(alert(evidence=evidence)).splitlines()[5:7] == ["it loops", "what happened"] or "what happened" in shown(alert(evidence=evidence))


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret[:12])
def test_no_secret_leaves_in_any_field(secret):
    """Twenty kinds, in each text of an alert that somebody else wrote into the log."""
    body = secret.splitlines()[1] if "\n" in secret else secret
    for name in ("attempt_id", "summary", "recommendation", "executor", "model", "task_title", "error_fingerprint", "last_reason", "run_id", "branch"):
        text = shown(alert(**{name: f"before {secret} after"}), has_details=True)
        assert body not in text
    evidence = [{"source": secret, "offset": 1, "timestamp": "2026-02-09T08:14:00Z", "text": f"token={secret}"}]
    assert body not in shown(alert(evidence=evidence), has_details=True)


ENDS = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"]
ANY = st.one_of(st.text(max_size=40), st.sampled_from(HOSTILE + SECRETS + ENDS))
VALUES = st.one_of(ANY, st.none(), st.booleans(), st.integers(), st.floats(), st.lists(ANY, max_size=3), st.dictionaries(st.text(max_size=3), ANY, max_size=2))
NAMES = st.sampled_from(
    ["timestamp", "severity", "status", "attempt_id", "summary", "recommendation", "episode_id", "evidence", "executor", "model", "task_title", "run_id",
     "occurrences", "window_ms", "error_fingerprint", "error_fingerprints", "tool_name", "idle_time_ms", "waiting_for", "cost_usd", "resets_at", "issue_fingerprint"]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    kind=st.one_of(ANY, st.sampled_from(sorted(TYPES))),
    fields=st.dictionaries(NAMES, VALUES, max_size=8),
    texts=st.lists(ANY, max_size=6),
    offset=VALUES,
    zone=st.sampled_from([UTC, ZoneInfo("Asia/Tokyo"), ZoneInfo("America/New_York")]),
)
def test_whatever_stands_in_a_line_arrives_as_text_within_the_limit(kind, fields, texts, offset, zone):
    """Never an exception, a broken tag, a control character, a secret, or more than a message holds; remembered it is the same."""
    evidence = [{"source": text, "offset": offset, "timestamp": text, "text": text} for text in texts]
    one = received({"evidence": evidence, "alert_id": "id", "type": kind, **fields}, NOW)
    if one is None:
        assert not kind.strip() or not kind.isprintable()
        return
    assert topic(one)
    assert msgspec.json.decode(msgspec.json.encode(one), type=Alert).evidence == one.evidence
    told = Digest([Tally(one.type, one.severity, 70)], [one] * 40, NOW, NOW + timedelta(hours=1), 3)
    for lines in (card(one, one, Notes(("note",), is_repeat=True, has_details=True), zone), fitting(told, zone, 24.0)):
        html = as_html(lines)
        assert units(html) <= MOST_UNITS
        text = read(html)
        assert text == as_text(lines, 1 << 30) or text.endswith("…")
        assert clean(text, newlines=True) == text
        assert not any(secret in text for secret in SECRETS)


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(
        st.lists(st.builds(Span, st.text(st.characters(codec="utf-8"), max_size=30), st.sampled_from(["", "b", "i", "code", "pre"])), max_size=4), max_size=6
    ),
    limit=st.integers(10, 200),
)
def test_a_cut_never_breaks_a_tag_or_an_entity(parts, limit):
    """At every limit, with emoji, ampersands and angle brackets."""
    html = as_html([tuple(spans) for spans in parts], limit)
    assert units(html) <= limit
    read(html)


def test_a_digest_says_how_many_of_what_and_names_the_worst():
    """What is not named is counted."""
    told = Digest(
        [Tally("error_loop", Severity.HIGH, 2), Tally("tool_loop", Severity.MEDIUM, 5)],
        [alert(), alert(kind="tool_loop", severity="medium")],
        NOW,
        NOW + timedelta(minutes=5),
        3,
    )
    assert as_text(digest(told, UTC, 24.0)).splitlines() == [
        "❌ 7 alerts, 09 Feb 08:14:00 to 09 Feb 08:19:00",
        "❌ 2 error_loop",
        "⚠️ 5 tool_loop",
        "",
        "❌ 08:14 it loops",
        "⚠️ 08:14 it loops",
        "and 5 more: `agentwatch alerts` lists them all",
        "3 alerts older than 24 h only counted: `agentwatch alerts` lists them",
    ]


def test_a_digest_of_long_texts_still_ends_with_what_is_not_named():
    """The count of the rest is never what is cut off."""
    told = Digest([Tally("x", Severity.HIGH, 100)], [alert(summary="<&>" * 60)] * 40, NOW, NOW, 0)
    text = as_text(fitting(told, UTC, 24.0))
    assert re.search(r"and (\d+) more", text)
    assert text.count("08:14") == 1 + 100 - int(re.search(r"and (\d+) more", text)[1])


def test_fields_are_bounded_in_number_and_kind():
    """What a hostile line brings does not grow what is kept."""
    one = alert(**{f"field_{number}": "x" for number in range(500)}, nested={"a": 1}, UPPER=1, big=2**70)
    assert len(one.detail) <= MOST_FIELDS
    assert not {"nested", "UPPER", "big"} & set(one.detail)
    assert line("x") == (Span("x"),)
