"""What a member may be called. Owns the rules for paths inside an image and how messages show them.

Knows nothing of archives: a path comes in as bytes, from whatever header it stood in.
"""

from __future__ import annotations

import re

from converter.errors import IntegrityError

MAX_PATH_BYTES = 4095  # Linux's PATH_MAX without its NUL: no unpacker could make a longer one
MAX_NAME_BYTES = 255  # the file system's limit for one component

# Components of 1 to 255 bytes, none of them dots, and no slash at either end: nearly every path.
# One way only leads through a path, so it is given up after about one pass. Not with possessive
# quantifiers, though: those of Python 3.11.2 (Debian 12) match what they must not: b"a/..", say.
_COMPONENT = rb"(?!\.{1,2}(?:/|\Z))[^/\0]{1,255}"
_NORMALISED = re.compile(_COMPONENT + rb"(?:/" + _COMPONENT + rb")*")


def normalise(path: bytes) -> bytes:
    """Return `path` as an `Entry` has it: relative to the root, dots resolved, never above it.

    `..` is resolved by its text and stops at the root, as umoci and containerd do. Raises
    IntegrityError for a name that no file system could hold.
    """
    if len(path) > MAX_PATH_BYTES:
        raise IntegrityError(
            f"A path in the archive is {len(path)} bytes long: {show(path[:80])}...",
            expected=f"at most {MAX_PATH_BYTES} bytes, the kernel's limit",
        )
    stripped = path.rstrip(b"/")
    if _NORMALISED.fullmatch(stripped):
        return stripped
    if b"\0" in path:
        raise IntegrityError(f"A path in the archive contains a NUL byte: {show(path)}.")
    components: list[bytes] = []
    for component in path.split(b"/"):
        if component in {b"", b"."}:
            continue
        if component == b"..":
            if components:
                components.pop()
            continue
        if len(component) > MAX_NAME_BYTES:
            raise IntegrityError(
                f"A name in the archive is {len(component)} bytes long: {show(component[:80])}...",
                expected=f"at most {MAX_NAME_BYTES} bytes, the file system's limit",
            )
        components.append(component)
    return b"/".join(components)


def show(path: bytes) -> str:
    """Return `path` for a message: readable on one line, in quotes, and not too long."""
    text = path[:200].decode("utf-8", "backslashreplace")
    printable = "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )
    return f"'{printable}'"
