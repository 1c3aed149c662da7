"""What names look like, each rule against the pattern in its documentation."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether import patterns

RULES = [getattr(patterns, name) for name in vars(patterns) if name.startswith("is_")]
_LONG = ["a" * 63, "a" * 64, "a" * 65, "a" * 252 + "b", "a" * 254]
_MAC, _UUID = "02:42:ac:11:00:02", "01234567-89ab-cdef-0123-456789abcdef"
_EDGES = [
    "",
    "a",
    "-",
    "a-",
    "-a",
    "a.",
    ".a",
    "_",
    "a_",
    "a\n",
    "\u0661",
    "\u00e9",
    "A",
    "/dev/tty",
]
_EDGES += [
    "/dev/tty",
    "/dev/ttyS0",
    "/dev/ttyS",
    "/dev/ttySSSSS0",
    "/dev/ttyS0000",
    "/dev/tty0",
    "/dev/ttyS0 ",
]
_EDGES += [
    *_LONG,
    _MAC,
    _MAC.upper(),
    _MAC + ":",
    _MAC[:-1],
    _UUID,
    _UUID.upper(),
    _UUID[:-1] + "g",
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@given(text=st.text("aAgz09_.-:/\n\u0661", max_size=6) | st.sampled_from(_EDGES))
def test_a_rule_is_its_pattern(rule: Callable[[str], bool], text: str) -> None:
    pattern = (rule.__doc__ or "").strip().strip("`.").rstrip("`")
    assert rule(text) == (re.fullmatch(pattern, text, re.ASCII) is not None)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_edges_are_their_patterns(rule: Callable[[str], bool]) -> None:
    pattern = (rule.__doc__ or "").strip().strip("`.").rstrip("`")
    for text in _EDGES:
        assert rule(text) == (re.fullmatch(pattern, text, re.ASCII) is not None), text
