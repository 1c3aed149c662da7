"""The agent's own `json` against the standard one, on values, on texts, and on what is neither."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent import bare_json

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_marks = ["{", "}", "[", "]", ",", ":", '"', '"a"', "1", "-0.5e3", "NaN", "-Infinity", "null"]
_others = ["tru", " ", "\t", "\n", "\f", "\\u00e9", "\ufeff", "\0", "\u00a0"]
_pieces = st.sampled_from([*_marks, *_others])


def outcome(call: Callable[[], object]) -> object:
    """Return what a call gives, so that NaN is itself, or what it raises."""
    try:
        return repr(call())
    except (ValueError, TypeError, RecursionError) as error:
        return type(error), str(error)


@given(_values)
def test_values_are_written_alike(value: object) -> None:
    assert bare_json.dumps(value) == json.dumps(value)
    short = (",", ":")
    assert bare_json.dumps(value, separators=short) == json.dumps(value, separators=short)
    assert outcome(lambda: bare_json.loads(json.dumps(value))) == repr(
        json.loads(json.dumps(value))
    )


@given(st.lists(_pieces, max_size=8).map("".join) | st.text(max_size=8))
@example("")
@example("[" * 100_000)
def test_texts_are_read_alike(text: str) -> None:
    assert outcome(lambda: bare_json.loads(text)) == outcome(lambda: json.loads(text))


def _in_itself() -> object:
    value: list[object] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, {(1, 2): 3}, b"x", {"a": {"b": {1}}}, _in_itself()]
)
def test_what_has_no_json_is_refused_alike(value: object) -> None:
    assert outcome(lambda: bare_json.dumps(value)) == outcome(lambda: json.dumps(value))
