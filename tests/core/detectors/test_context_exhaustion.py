"""Context windows that are full."""

import pytest

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


def test_without_numbers_nothing_is_claimed(log):
    """Which window a model has is not known from its name."""
    log.both().add("error", error_message="context_length_exceeded")
    assert log.told() == []
