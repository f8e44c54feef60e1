"""Lines for people and programs: whole or not there."""

import json
import resource
import signal

import pytest

from agentwatch.notify.journal import append


def test_what_a_full_disk_takes_half_of_is_not_left_behind(tmp_path):
    """The next line would be glued to it; a limit on the size of files stands for the disk."""
    path = tmp_path / "actions.jsonl"
    append(path, {"text": "x" * 100})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, before[1]))
        with pytest.raises(OSError, match="50 of 112 bytes"):
            append(path, {"text": "y" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, was)
    append(path, {"text": "z"})
    assert [json.loads(line)["text"][0] for line in path.read_text().splitlines()] == ["x", "z"]
