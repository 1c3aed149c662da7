"""Which words of a kernel's command line ask a debug image for a shell."""

from __future__ import annotations

import pytest

from agent.tether.debug import WORD


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("quiet tether.debug=ttyS2 panic=-1\n", ("ttyS2", "2", None)),
        ("tether.debug=ttyS0,start\n", ("ttyS0", "0", ",start")),
        ("tether.debug=ttyS2", ("ttyS2", "2", None)),
        ("quiet\n", None),
        ("tether.debug", None),
        ("tether.debug=", None),
        ("tether.debug=ttyS12", None),
        ("tether.debug=ttyS2,stop", None),
        ("tether.debug=/dev/ttyS2", None),
        ("not.tether.debug=ttyS2", None),
        ("x=tether.debug=ttyS2", None),
    ],
)
def test_words(line: str, found: tuple[str | None, ...] | None) -> None:
    word = WORD.search(line)
    assert (None if word is None else word.groups()) == found
