"""Inputs that are a few edits of a sound original. Owns their bytes and how they are varied.

An image, a chain of disks or of states is large and mostly zeros, so an input names one of the
target's originals and lists what to change: u8 original, u8 options, then per edit u8 kind, u32
place, u16 length and as many bytes. What kind and place mean is the target's. Any bytes are an
input: what is cut short is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from struct import Struct
from typing import NamedTuple

_HEAD = Struct("<BB")
_EDIT = Struct("<BIH")
_MAX_EDITS = 40
_INTERESTING = (
    *(0, 1, 2, 3, 4, 7, 8, 11, 12, 16, 60, 127, 128, 255, 256, 511, 512, 1023, 1024),
    *(4095, 4096, 8191, 8192, 32767, 32768, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1),
)


class Edit(NamedTuple):
    """One change."""

    kind: int
    place: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Script:
    """An input taken apart."""

    original: int
    options: int
    edits: tuple[Edit, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Script:
        """Read any bytes as a script."""
        original, options = _HEAD.unpack_from(data.ljust(_HEAD.size, b"\0"))
        at = _HEAD.size
        edits = []
        while at + _EDIT.size <= len(data):
            kind, place, length = _EDIT.unpack_from(data, at)
            at += _EDIT.size
            edits.append(Edit(kind, place, data[at : at + length]))
            at += length
        return cls(original, options, tuple(edits))

    def dump(self) -> bytes:
        """Return the bytes of the script."""
        parts = [_HEAD.pack(self.original, self.options)]
        for kind, place, data in self.edits:
            parts += [_EDIT.pack(kind, place, len(data)), data]
        return b"".join(parts)


def mutate_script(
    data: bytes, choose: Random, new_edit: Callable[[Script, Random], Sequence[Edit]]
) -> bytes:
    """Vary an input. `new_edit` invents edits that make sense for the original of a script."""
    script = Script.parse(data)
    for _ in range(choose.choice((1, 1, 1, 2, 3))):
        script = _step(script, choose, new_edit)
    return script.dump()


def _step(
    script: Script, choose: Random, new_edit: Callable[[Script, Random], Sequence[Edit]]
) -> Script:
    edits = list(script.edits)
    step = choose.randrange(12) if edits else choose.choice((0, 0, 0, 0, 11))
    if step <= 5:
        at = choose.randint(0, len(edits))
        edits[at:at] = new_edit(script, choose)
    elif step == 6:
        del edits[choose.randrange(len(edits))]
    elif step == 7:
        edits.insert(choose.randint(0, len(edits)), choose.choice(edits))
    elif step in {8, 9}:
        at = choose.randrange(len(edits))
        edit = edits[at]
        edits[at] = edit._replace(data=mutate_bytes(edit.data, choose))
    elif step == 10:
        at = choose.randrange(len(edits))
        edit = edits[at]
        place = edit.place + choose.choice((-8, -4, -2, -1, 1, 2, 4, 8, 12, 16, 256, 4096))
        edits[at] = edit._replace(place=max(0, min(place, (1 << 32) - 1)))
    else:
        return replace(script, original=choose.randrange(8), options=choose.randrange(256))
    return replace(script, edits=tuple(edits[-_MAX_EDITS:]))


def mutate_bytes(data: bytes, choose: Random) -> bytes:
    """Return bytes of about the same length with a small change."""
    if not data:
        return bytes(choose.randrange(256) for _ in range(choose.randint(1, 4)))
    at = choose.randrange(len(data))
    step = choose.randrange(6)
    if step == 0:
        return data[:at] + bytes([data[at] ^ 1 << choose.randrange(8)]) + data[at + 1 :]
    if step == 1:
        return data[:at] + bytes([choose.randrange(256)]) + data[at + 1 :]
    if step == 2:
        return data[:at] + data[at + 1 :]
    if step == 3:
        return data[:at] + bytes([choose.randrange(256)]) + data[at:]
    width = choose.choice((1, 2, 4))
    near = int.from_bytes(data[at : at + width], "little")
    return data[:at] + interesting(choose, width, near) + data[at + width :]


def interesting(choose: Random, width: int, near: int) -> bytes:
    """Return a number of `width` bytes, little-endian: any, a border, or one near `near`."""
    kind = choose.randrange(5)
    if kind == 0:
        number = near + choose.choice((-2, -1, 1, 2))
    elif kind == 1:
        number = near ^ 1 << choose.randrange(8 * width)
    elif kind == 2:
        number = choose.getrandbits(8 * width)
    elif kind == 3:
        number = choose.choice((0, -1))
    else:
        number = choose.choice(_INTERESTING)
    return (number % (1 << 8 * width)).to_bytes(width, "little")
