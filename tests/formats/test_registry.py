"""The tables of formats: what their rows say without loading a decoder is what the decoders say."""

from datetime import UTC, datetime

import msgspec
import pytest

from agentwatch.formats.documents import Origin
from agentwatch.formats.registry import CONTAINERS, FORMATS

NOTHING = msgspec.Raw(b"null")


@pytest.mark.parametrize("row", FORMATS.values(), ids=FORMATS)
def test_a_row_leads_to_the_decoder_of_its_name(row):
    """What a checkpoint calls a format finds the decoder that calls itself so, and that is asked for its first lines."""
    assert row.decoder("runs/r1/x.log", NOTHING).name == row.name
    assert not row.recognise("x", [])


@pytest.mark.parametrize("row", CONTAINERS.values(), ids=CONTAINERS)
def test_a_containers_row_leads_to_the_decoder_of_its_name(row):
    """Documents, folders and databases, too."""
    now = datetime(2026, 2, 9, tzinfo=UTC)
    assert row.decoder(NOTHING, Origin("x", now, now)).name == row.name
