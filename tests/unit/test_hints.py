"""agent.hints against typing: a tuple with names made by both is and does the same."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from agent import hints


def build(maker: Any) -> Any:
    class Made(maker.NamedTuple):  # type: ignore[misc] # either module's
        """What it is for."""

        first: int
        second: str = "none"
        third: maker.Optional[int] = None

        @property
        def both(self) -> str:
            return f"{self.first} {self.second}"

        def plus(self, more: int) -> Any:
            return self._replace(first=self.first + more)

    return Made


@pytest.mark.parametrize("maker", [hints, typing])
def test_a_named_tuple_is_what_the_standard_one_is(maker: Any) -> None:
    made = build(maker)
    value: Any = made(3, third=5)
    first, second, third = value
    assert (first, second, third) == (3, "none", 5) == value
    assert isinstance(value, tuple)
    assert repr(value) == "Made(first=3, second='none', third=5)"
    assert (made._fields, made._field_defaults) == (
        ("first", "second", "third"),
        {"second": "none", "third": None},
    )
    assert (made.__doc__, made.__module__) == ("What it is for.", __name__)
    assert made.__qualname__ == "build.<locals>.Made"
    assert (value.both, value.plus(4).first) == ("3 none", 7)
    assert hash(value) == hash((3, "none", 5))
    with pytest.raises(TypeError):
        made()
    with pytest.raises(AttributeError):
        value.first = 4


def test_every_name_is_one_of_typing() -> None:
    assert [name for name in hints.__all__ if not hasattr(typing, name)] == []
    assert [name for name in hints.__all__ if not hasattr(hints, name)] == []


def test_aliases_and_bases_can_be_written() -> None:
    assert hints.Callable[[int], hints.Optional[str]] is not None
    assert hints.TypeVar("Found").__name__ == "Found"

    class Loader(hints.Protocol):
        def load(self, name: str) -> bytes: ...

    class Has:
        def load(self, name: str) -> bytes:
            return name.encode()

    loader: Loader = Has()
    assert loader.load("a") == b"a"
