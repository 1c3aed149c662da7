"""Where our guest is meant to show something else than runc, and why: docs/docker-compat.md.

Owns the whole list. What it does not name must be equal.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.cases.observe import Sight


@dataclass(frozen=True)
class Difference:
    """In the value of `name`, runc's text `theirs` is `ours` here."""

    name: str
    theirs: str
    ours: str
    why: str


DIFFERENCES = (
    Difference(
        "mounts./",
        "relatime rw",
        "relatime rw,noinit_itable",
        "the root is the machine's own disk, and a grown one is not filled with zeros",
    ),
    Difference(
        "mounts./sys",
        "relatime ro",
        "relatime rw",
        "one sysfs shows one network, which process and agent share: only the mount is read-only",
    ),
)


def as_ours(sight: Sight) -> Sight:
    """Return what we have to show where runc shows `sight`."""
    changed = dict(sight)
    for difference in DIFFERENCES:
        value = changed.get(difference.name)
        if isinstance(value, str) and value.endswith(difference.theirs):
            changed[difference.name] = value[: -len(difference.theirs)] + difference.ours
    return changed
