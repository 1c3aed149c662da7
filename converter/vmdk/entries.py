"""Arrays of grain directory and grain table entries. Owns their byte order, not their meaning."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable

from converter.vmdk.c_vmdk import ENTRY_BYTES

_U32 = "I"
assert array(_U32).itemsize == ENTRY_BYTES


def entries(values: Iterable[int]) -> array[int]:
    """Return `values` as entries. Raises OverflowError for one that has more than 32 bits."""
    return array(_U32, values)


def to_bytes(table: array[int]) -> bytes:
    """Return `table` as it stands on disk, little-endian."""
    if sys.byteorder == "big":
        table = table[:]
        table.byteswap()
    return table.tobytes()


def from_bytes(data: bytes) -> array[int]:
    """Return the entries that stand on disk as `data`, a multiple of 4 bytes."""
    table = array(_U32, data)
    if sys.byteorder == "big":
        table.byteswap()
    return table
