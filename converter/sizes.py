"""Sizes as people write them. Owns the one reading of them; pure."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]+)(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MOST_DIGITS = 18


def parse_size(text: str) -> int:
    """Read a size in bytes with Docker's suffixes, which are binary: 512m, 16G. Raises ValueError.

    Source: docker/go-units, RAMInBytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match or len(match[1]) > _MOST_DIGITS:
        raise ValueError(f"{text[:40]!r} is not a size; write for example 512m or 16G.")
    return int(match[1]) * _UNITS[(match[2] or "").lower()]
