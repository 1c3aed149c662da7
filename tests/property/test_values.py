"""agent.values against the standard dataclasses: the same class, made by both, does the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import values

NAMES = ("a", "b", "c", "d")


@st.composite
def shapes(draw: st.DrawFn) -> list[tuple[str, str, bool]]:
    """Describe fields: (name, kind of default, whether compared), those with a default last."""
    count = draw(st.integers(1, len(NAMES)))
    plain = draw(st.integers(0, count))
    kinds = st.sampled_from(["value", "field", "factory"])
    return [
        (name, "none", True) if index < plain else (name, draw(kinds), draw(st.booleans()))
        for index, name in enumerate(NAMES[:count])
    ]


def build(maker: Any, shape: list[tuple[str, str, bool]], *, frozen: bool) -> Any:
    """Make the class with one of the two modules."""
    body: dict[str, Any] = {"__annotations__": {name: "int" for name, _, _ in shape}}
    for name, kind, compare in shape:
        if kind == "value":
            body[name] = 7
        elif kind == "field":
            body[name] = maker.field(default=8, compare=compare)
        elif kind == "factory":
            body[name] = maker.field(default_factory=list, compare=compare)
    return maker.dataclass(frozen=frozen)(type("Made", (), body))


def outcome(call: Callable[[], Any]) -> object:
    """Return what a call gives, or the kind of its error."""
    try:
        return call()
    except (TypeError, AttributeError) as error:
        return TypeError if isinstance(error, TypeError) else AttributeError


changed = st.dictionaries(st.sampled_from([*NAMES, "other"]), st.integers(0, 2), max_size=4)
arguments = st.tuples(st.lists(st.integers(0, 2), max_size=5), changed)


def told(maker: Any, shape: list[tuple[str, str, bool]], given: Any, *, frozen: bool) -> object:
    """Return all that the class of one of the two modules does."""
    made = build(maker, shape, frozen=frozen)
    (places, names), (other_places, other_names), changes = given
    one = outcome(lambda: made(*places, **names))
    other = outcome(lambda: made(*other_places, **other_names))
    results = [repr(one), repr(other), one == other, one != other]
    if one is not TypeError:
        results += [
            vars(one),
            one == (1,),
            outcome(lambda: repr(maker.replace(one, **changes))),
            outcome(lambda: hash(one) == hash(made(**vars(one)))),
            outcome(lambda: setattr(one, "a", 5)),
            repr(one),
            outcome(lambda: delattr(one, "a")),
        ]
    return results


@given(shapes(), st.tuples(arguments, arguments, changed), st.booleans())
def test_the_same_class_does_the_same(shape, given, frozen):
    expected = told(dataclasses, shape, given, frozen=frozen)
    assert told(values, shape, given, frozen=frozen) == expected


@pytest.mark.parametrize("frozen", [False, True])
def test_other_classes_with_the_same_fields_are_not_equal(frozen):
    shape = [("a", "none", True)]
    one, other = (build(values, shape, frozen=frozen) for _ in range(2))
    assert one(1) == one(1)
    assert one(1) != other(1)
