"""What errors say of limits, in the words of those who say it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwatch.core.quotas import LONGEST, limit_kind, resets_at

AT = datetime(2026, 2, 9, 10, tzinfo=UTC)
IN_AN_HOUR = AT + timedelta(hours=1)

WORDINGS = {
    "Claude Code, session": ("You've hit your session limit · resets 3pm (Europe/Berlin)", "usage", datetime(2026, 2, 9, 14, tzinfo=UTC)),
    "Claude Code, week": ("You've hit your weekly limit · resets Feb 12, 5:30am (UTC)", "usage", datetime(2026, 2, 12, 5, 30, tzinfo=UTC)),
    "Claude Code, a zone of two words": ("You've hit your limit · resets 9am (America/New_York)", "usage", datetime(2026, 2, 9, 14, tzinfo=UTC)),
    "Claude Code, older": (f"Claude AI usage limit reached|{int(IN_AN_HOUR.timestamp())}", "usage", IN_AN_HOUR),
    "Claude Code, money": ("You've hit your monthly spend limit", "usage", None),
    "Claude Code, a clock without a zone": ("5-hour limit reached ∙ resets 3pm", "usage", None),
    "Codex": (
        "You've hit your usage limit. Upgrade to Pro (https://example.com/pro) or try again in 2 days 3 hours 5 minutes.",
        "usage",
        AT + timedelta(days=2, hours=3, minutes=5),
    ),
    "Codex, in the machine's zone": ("You've hit your usage limit. Try again at 9:34 PM.", "usage", None),
    "Codex, rollout": ("usage limit reached: primary; resets at 2026-02-09T11:00:00+00:00", "usage", IN_AN_HOUR),
    "OpenAI, quota": ("You exceeded your current quota, please check your plan and billing details.", "quota", None),
    "OpenAI, a minute": ("Rate limit reached for gpt-5 on tokens per min (TPM). Please try again in 1.898s.", "rate", AT + timedelta(seconds=1.898)),
    "OpenAI, milliseconds": ("Rate limit reached. Please try again in 120ms.", "rate", AT + timedelta(milliseconds=120)),
    "Anthropic, a minute": ('429 {"type":"error","error":{"type":"rate_limit_error","message":"Number of requests has exceeded"}}', "rate", None),
    "Anthropic, tokens a minute": (
        "This request would exceed the rate limit of 40,000 input tokens per minute. Please reduce the prompt length or the maximum tokens requested.",
        "rate",
        None,
    ),
    "Anthropic, money": ("Your credit balance is too low to access the Anthropic API.", "quota", None),
    "Google, a minute": (
        'RESOURCE_EXHAUSTED: Quota exceeded for metric generate_content_requests. Please retry in 12.5s. "retryDelay": "12s"',
        "rate",
        AT + timedelta(seconds=12.5),
    ),
    "Google, a day": ("You have exhausted your daily quota on this model.", "quota", None),
    "OpenRouter": ("Insufficient credits. Add more to continue.", "quota", None),
    "any proxy": ("HTTP 429 Too Many Requests", "rate", None),
}

OTHERS = [
    "error: failed to push some refs",
    "529 overloaded_error",
    "maximum context length is 200000 tokens",
    "context limit exceeded",
    "prompt is too long: 205000 tokens > 200000 maximum",
    "TypeError: limit is not a function",
    "ulimit: open files: cannot modify limit",
    "expected 4290 to equal 1",
    "EDQUOT: disk quota exceeded, write",
    "QuotaExceededError: the quota has been exceeded",
    "memory usage limit reached: container killed",
    "reached the limit of 25 tool calls",
    "test 'daily limit is enforced' failed",
    "the free limit of the demo plan must be positive",
    "",
]


@pytest.mark.parametrize(("message", "kind", "until"), WORDINGS.values(), ids=WORDINGS.keys())
def test_a_limit_is_known_by_its_wording(message, kind, until):
    """Which one, and when it is over where the message says so."""
    assert limit_kind(message) == kind
    assert resets_at(message, AT) == until


@pytest.mark.parametrize("message", OTHERS)
def test_other_errors_speak_of_no_limit(message):
    """Numbers and the word alone are not enough."""
    assert limit_kind(message) is None
    assert resets_at(message, AT) is None


def test_the_category_decides_where_the_message_does_not():
    """Agents file them under names of their own."""
    assert limit_kind("the turn failed", "usage_limit_exceeded") == "usage"
    assert limit_kind("You've hit your usage limit", "rate_limit") == "usage"


def test_a_clock_that_has_passed_today_means_tomorrow():
    """A time without a date is the next one."""
    assert resets_at("session limit, resets 9am (UTC)", AT) == datetime(2026, 2, 10, 9, tzinfo=UTC)
    assert resets_at("weekly limit, resets Jan 3, 9am (UTC)", datetime(2026, 12, 30, tzinfo=UTC)) == datetime(2027, 1, 3, 9, tzinfo=UTC)


@given(text=st.text() | st.from_regex(r"(resets|try again|retry|limit reached).{0,3}(in|at|\|)? ?[0-9]{1,20} ?(s|ms|d|days|am|pm)?.{0,5}\(?[A-Z/a-z]{0,9}\)?"))
def test_any_text_gives_a_sensible_answer(text):
    """No failure, no time in the past, none beyond a month."""
    limit_kind(text, text)
    until = resets_at(text, AT)
    assert until is None or AT <= until <= AT + LONGEST


@pytest.mark.parametrize("part", ["try again in ", "1 day 2 hours, and ", "resets jan 1", "0" * 50, "limit reached|", "[0-9]" * 5])
def test_a_long_message_is_read_in_linear_time(part):
    """Only its beginning is looked at."""
    limit_kind(part * 500_000)
    assert resets_at(part * 500_000, AT) is None or part.startswith(("try", "1"))
