"""Context windows that are full."""

import json

import pytest

from agentwatch.core.engine import Engine
from agentwatch.core.limits import Limits
from agentwatch.formats.codex import Decoder

WINDOW = 258_400
"""95 % of 272,000, as Codex logs it. It compacts at 244,800."""

SAID = {
    "Anthropic": ("prompt is too long: 205,123 tokens > 200,000 maximum", 205_123, 200_000),
    "OpenAI": ("This model's maximum context length is 128000 tokens. However, your messages resulted in 130012 tokens.", 130_012, 128_000),
    "Google": ("The input token count (1048801) exceeds the maximum number of tokens allowed (1048576).", 1_048_801, 1_048_576),
}


@pytest.mark.parametrize(("message", "used", "window"), SAID.values(), ids=SAID.keys())
def test_a_prompt_that_no_longer_fits_is_told(log, message, used, window):
    """With both numbers, as the provider gives them."""
    log.both().add("error", error_message=message)
    (alert,) = log.alerts()
    assert (alert.type, alert.severity, alert.recommendation) == ("context_exhaustion", "low", "fresh_session")
    assert (alert.detail["context_used"], alert.detail["context_window"]) == (used, window)


def test_a_full_window_is_one_incident_until_it_is_compacted(log):
    """Then it may be full again."""
    for number in range(3):
        log.both(params=f"cat {number}").add("error", error_message=SAID["Anthropic"][0])
    log.add("compaction").both(params="ls").add("error", error_message=SAID["Anthropic"][0])
    assert log.told() == [("context_exhaustion", "open"), ("context_exhaustion", "recovered"), ("context_exhaustion", "open")]


def codex(*steps):
    """What is told of a rollout whose requests read so many tokens each; 0 is a compaction."""
    lines = [("session_meta", {"id": "t1"})]
    total = 0
    for tokens in steps:
        total += tokens
        info = {"total_token_usage": {"input_tokens": total}, "last_token_usage": {"input_tokens": tokens}, "model_context_window": WINDOW}
        lines.append(("event_msg", {"type": "token_count", "info": info}) if tokens else ("compacted", {"message": "What was done so far."}))
    rows = [
        json.dumps({"timestamp": f"2026-06-01T10:00:{second:02}Z", "type": kind, "payload": payload}).encode() + b"\n"
        for second, (kind, payload) in enumerate(lines)
    ]
    engine, decoder, out = Engine(Limits(), lambda *_: None, None, pytest.fail), Decoder(), []
    decoder.read(rows, 0, lambda items: engine.feed("log", "", items, decoder, out), pytest.fail)
    return [str(alert.status) for alert in out]


def test_codex_is_given_the_time_to_compact():
    """Its log tells 95 % of the window, of the whole of which it uses 90: a step above, and the one that makes the summary."""
    healthy = [220_000, 235_000, 244_000, 250_000, 252_000, 0, 30_000]
    assert codex(*healthy * 4) == []


def test_codex_that_does_not_compact_is_told():
    """At the third step in a row."""
    assert codex(240_000, 246_000, 247_000) == []
    assert codex(240_000, 246_000, 247_000, 248_000, 249_000, 0, 30_000) == ["open", "recovered"]


def test_a_window_of_no_tokens_is_nonsense(log):
    """Nothing is told of it, and nothing fails."""
    log.both().add("error", error_message="prompt is too long: 100 tokens > 000 maximum")
    log.add("error", error_message="requested 100 tokens of a maximum of 200 tokens")
    assert log.told() == []


def test_without_numbers_nothing_is_claimed(log):
    """Which window a model has is not known from its name."""
    log.both().add("error", error_message="context_length_exceeded")
    assert log.told() == []
