"""The keys that detach, in whatever pieces they come."""

from __future__ import annotations

import pytest

from agent.host.client import read_keys
from agent.host.client.keys import DetachKeys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a,ctrl-@,ctrl-_", b"a\0\x1f"),
        ("", b""),
        ("ctrl-[", b"\x1b"),
    ],
)
def test_keys_are_written_as_docker_writes_them(text, keys):
    assert read_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-ab", "ab", "ctrl-1", "a,,b", "é"])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match="no key"):
        read_keys(text)


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ("xaab", "x", True),
        ("aaab", "a", True),
        ("aabtail", "", True),
        ("aac", "aac", False),
        ("aa", "", False),
        ("ab", "ab", False),
    ],
)
def test_the_sequence_is_found_in_pieces_and_nothing_else_is_swallowed(typed, passed, detached):
    for split in range(len(typed) + 1):
        keys = DetachKeys(b"aab")
        out, found = keys.feed(typed[:split].encode())
        if not found:
            more, found = keys.feed(typed[split:].encode())
            out += more
        assert (out, found) == (passed.encode(), detached)
        assert found or out + keys.rest() == typed.encode()
