"""What a volume may be called: Docker's rule, which is also what makes a name a safe file name."""

from __future__ import annotations

import re
import secrets

from converter.errors import UsageError

# Docker Engine, daemon/names: RestrictedNamePattern.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_NAME_MAX = 200  # a temporary name that has it must fit into a file name of 255
_ANONYMOUS_BYTES = 32


def is_name(text: str) -> bool:
    """Say whether `text` may name a volume."""
    return _NAME.fullmatch(text) is not None and len(text) <= _NAME_MAX


def check_name(text: str) -> None:
    """Raise UsageError unless `text` may name a volume."""
    if is_name(text):
        return
    if len(text) == 1 and text.isascii() and text.isalnum():
        raise UsageError(
            f"The volume name {text!r} is too short.", expected="at least two characters"
        )
    raise UsageError(
        f"{text!r} cannot name a volume.",
        expected="letters, digits, '_', '.' and '-', the first a letter or digit, "
        f"2 to {_NAME_MAX} of them",
        hint="Folders of this host cannot be mounted: a machine shares no file system with it.",
    )


def new_name() -> str:
    """Return a name for a volume that nobody named: 64 random hexadecimal digits."""
    return secrets.token_hex(_ANONYMOUS_BYTES)
