"""Who a virtual machine says it is. Owns the reading of its claims; all of them are only claims."""

from __future__ import annotations

from dataclasses import dataclass

from agent.host.vspc.c_vspc import NAME_CHARACTERS

_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Claims:
    """What the other end of a connection has said so far; None is "not yet", empty is "nothing".

    `uuid` is the VC UUID, or the BIOS UUID of a VM that has none. `direction` ("client" or
    "server") and `uri` are those of the VM's serial port.
    """

    address: str
    uuid: str | None = None
    name: str | None = None
    location_uuid: str | None = None
    direction: str | None = None
    uri: str | None = None

    def __str__(self) -> str:
        known = [f"VM {self.uuid}" if self.uuid else "an unknown VM"]
        if self.name:
            known.append(f"({self.name})")
        return " ".join([*known, "at", self.address])


def read_uuid(text: bytes) -> str:
    """Return a UUID in its usual form (lower case, 8-4-4-4-12), or "" for none.

    VMware writes it as "50 1c 62 c0 ... -f1 37 ..."; spaces and dashes are no part of it. Raises
    ValueError when something else is there.
    """
    digits = text.decode("ascii").replace(" ", "").replace("-", "").strip("\0").lower()
    if digits and (len(digits) != 32 or not _HEX.issuperset(digits)):
        raise ValueError("not a UUID")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])).strip(
        "-"
    )


def read_text(text: bytes) -> str:
    """Return a name or URI fit for a log: one line, printable, of bounded length."""
    shown = text[: 4 * NAME_CHARACTERS].decode("utf-8", "replace")[:NAME_CHARACTERS]
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown)
