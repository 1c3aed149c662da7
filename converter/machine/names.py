"""Names of machines: docker's rule for them, and names for those who were given none."""

from __future__ import annotations

import re
import secrets
from collections.abc import Container

from converter.errors import UsageError

NAME_RULE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")  # docker's

_ATTEMPTS = 32
_DIGITS = 10_000
_MANNERS = (
    *("arid", "bright", "broad", "calm", "clear", "distant", "dry", "dusty", "early", "even"),
    *("flat", "gentle", "glassy", "golden", "hazy", "level", "light", "lone", "mild", "open"),
    *("pale", "plain", "quiet", "remote", "salty", "silent", "silver", "smooth", "still", "sunny"),
    *("vast", "warm", "white", "wide", "windy", "wintry"),
)
_PLACES = (
    *("basin", "bay", "beach", "bluff", "brook", "butte", "canyon", "cliff", "cove", "crater"),
    *("delta", "dune", "fjord", "glen", "gorge", "grotto", "gulch", "hollow", "island", "knoll"),
    *("lagoon", "ledge", "marsh", "meadow", "mesa", "oasis", "pan", "pass", "playa", "plateau"),
    *("pond", "ravine", "reef", "ridge", "shoal", "spring", "steppe", "strand", "terrace", "vale"),
)


def check_name(name: str) -> None:
    """Raise UsageError when `name` may not be a machine's."""
    if not NAME_RULE.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a machine.",
            expected="letters, digits, _ . and -, at least two, a letter or digit first",
        )


def new_name(taken: Container[str]) -> str:
    """Return a name of two words that is not in `taken`, with digits when those are scarce."""
    for _ in range(_ATTEMPTS):
        name = f"{secrets.choice(_MANNERS)}_{secrets.choice(_PLACES)}"
        if name not in taken:
            return name
    while (numbered := f"{name}{secrets.randbelow(_DIGITS)}") in taken:
        pass
    return numbered
