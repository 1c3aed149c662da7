"""Which tags of a repository are meant: globs, regular expressions, the newest. Pure.

A registry does not tell when a tag was made, so the newest are the highest by version: numbers by
their value, what stands before a version's number for nothing, and a candidate (`-rc1`, `-beta`)
below what it is one for.

Tags that only list what refers to an image, signatures and chains of ours among it, are no images:
where a registry has no API for that, they stand among the others. They are never meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from converter.batch.wishes import TagWish

_REGEX = "regex:"
# OCI distribution specification 1.1, "Referrers Tag Schema": an algorithm and a digest's first 64
# digits, which are all that sha256 has; cosign puts an ending of its own behind them (`.sig`).
_REFERRERS = re.compile(r"sha(256|512)-[0-9a-f]{64}(\..*)?")
_PARTS = re.compile(r"[0-9]+|[A-Za-z]+")
_CANDIDATES = frozenset({"alpha", "a", "beta", "b", "rc", "c", "pre", "preview", "dev", "snapshot"})


def choose_tags(wish: TagWish, tags: Iterable[str]) -> list[str]:
    """Return the tags that are meant, the highest versions first."""
    found = {
        tag
        for tag in tags
        if any(_fits(pattern, tag) for pattern in wish.patterns) and not _REFERRERS.fullmatch(tag)
    }
    ordered = sorted(found, key=lambda tag: (_version(tag), tag), reverse=True)
    return ordered if wish.newest is None else ordered[: wish.newest]


def _fits(pattern: str, tag: str) -> bool:
    if pattern.startswith(_REGEX):
        return re.fullmatch(pattern.removeprefix(_REGEX), tag) is not None
    return fnmatchcase(tag, pattern)


def _version(tag: str) -> tuple[tuple[int, int, str], ...]:
    """Return what versions are compared by: a candidate < the end < a further word < a number."""
    parts = _PARTS.findall(tag.removeprefix("v"))
    key = []
    for part in parts:
        if part.isdecimal():
            key.append((3, int(part), ""))
        elif part.lower() in _CANDIDATES:
            key.append((0, 0, part.lower()))
        else:
            key.append((2, 0, part))
    return (*key, (1, 0, ""))
