"""What names in a document look like, by rules that need no `re`: loading it costs 8 ms of a start.

Owns the rules; what a name is for is its reader's matter. A property test holds each of them
against the pattern that it stands for.
"""

from __future__ import annotations

_DIGITS = "0123456789"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_HEX = "0123456789abcdef"
_UUID_GROUPS = [8, 4, 4, 4, 12]
_TTY = "/dev/tty"


def is_uuid(text: str) -> bool:
    """`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`."""
    groups = text.split("-")
    return [len(group) for group in groups] == _UUID_GROUPS and _only(_HEX, "".join(groups))


def is_mac(text: str) -> bool:
    """`[0-9a-f]{2}(:[0-9a-f]{2}){5}`."""
    groups = text.split(":")
    return [len(group) for group in groups] == [2] * 6 and _only(_HEX, "".join(groups))


def is_host_name(text: str) -> bool:
    """`[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?`."""
    return (
        0 < len(text) <= 64
        and _only(_LETTERS + _DIGITS, text[0] + text[-1])
        and _only(_LETTERS + _DIGITS + "._-", text)
    )


def is_domain(text: str) -> bool:
    """`[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?`."""
    first = _LETTERS + _DIGITS + "_"
    return (
        0 < len(text) <= 253
        and _only(first, text[0])
        and (len(text) == 1 or _only(first + ".", text[-1]))
        and _only(first + ".-", text)
    )


def is_serial_number(text: str) -> bool:
    """`[a-z0-9-]{1,64}`."""
    return 0 < len(text) <= 64 and _only(_LETTERS[26:] + _DIGITS + "-", text)


def is_serial_device(text: str) -> bool:
    """`/dev/tty[A-Za-z]{1,4}[0-9]{1,3}`."""
    name = text[len(_TTY) :]
    kind = name.rstrip(_DIGITS)
    return (
        text.startswith(_TTY)
        and 1 <= len(kind) <= 4
        and _only(_LETTERS, kind)
        and 1 <= len(name) - len(kind) <= 3
    )


def _only(allowed: str, text: str) -> bool:
    return not text.strip(allowed)
