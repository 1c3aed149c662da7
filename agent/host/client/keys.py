"""The keys that detach, found in what the user types. Pure; knows no terminal."""

from __future__ import annotations

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"


def read_keys(text: str) -> bytes:
    """Return the bytes of "ctrl-p,ctrl-q" and its like, as docker writes them; "" for none.

    A key is one character, or ctrl- with a letter or one of @ [ \\ ] ^ _ . Raises ValueError.
    """
    return bytes(_read_key(key) for key in text.split(",")) if text else b""


def _read_key(key: str) -> int:
    name = key.strip()
    if len(name) == 1 and name.isascii():
        return ord(name)
    control = name.removeprefix("ctrl-").upper()
    if control != name.upper() and len(control) == 1 and "@" <= control <= "_":
        return ord(control) & 0x1F
    raise ValueError(f"{key!r} is no key: one character, or ctrl- and a letter or one of @[\\]^_")


class DetachKeys:
    """Find the sequence in input that comes in any pieces.

    The beginning of a sequence is held back until the next key says whether it is one.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what goes to the guest, and whether the sequence is complete."""
        if not self._keys:
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    self._matched = 0
                    return bytes(passed), True
                continue
            held = self._keys[: self._matched] + bytes((byte,))
            self._matched = 0
            while held:  # what is left may be the beginning of another
                if self._keys.startswith(held) and held != self._keys:
                    self._matched = len(held)
                    break
                passed.append(held[0])
                held = held[1:]
        return bytes(passed), False

    def rest(self) -> bytes:
        """Return what is held back: the input has ended."""
        held, self._matched = self._keys[: self._matched], 0
        return held
