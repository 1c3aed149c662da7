"""Bounds of the product that a target lowers while it takes one input, and no longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def lowered(module: ModuleType, name: str, value: int) -> Iterator[None]:
    """Let the constant `name` of `module` be `value`; also a decorator."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
