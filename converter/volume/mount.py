"""A volume as a machine has it, and how the machine's record says so. Does no I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from converter.volume.name import is_name

_KINDS = {"name": str, "target": str, "read_only": bool, "copy": bool, "anonymous": bool}


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    """The volume `name` at `target` in the guest.

    `copy` lets an empty volume take over what the image has there. An `anonymous` one was made for
    this machine, without a name of the user's, and goes with it.
    """

    name: str
    target: str
    read_only: bool = False
    copy: bool = True
    anonymous: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the entry in the machine's record."""
        return asdict(self)


def read_mount(document: object) -> VolumeMount:
    """Read an entry of a machine's record. Raises ValueError for anything that is none."""
    if (
        not isinstance(document, dict)
        or any(type(document.get(key)) is not kind for key, kind in _KINDS.items())
        or not is_name(document["name"])
        or not document["target"].startswith("/")
    ):
        raise ValueError(f"{document!r} is no volume of a machine")
    return VolumeMount(**{key: document[key] for key in _KINDS})
