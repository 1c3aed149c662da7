"""A volume as a machine has it, and how the machine's record says so. Does no I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from converter.errors import IntegrityError
from converter.volume.name import is_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """The volume `name` at `target` in the guest.

    `copy` lets an empty volume take over what the image has there. `anonymous`: it was made for
    this machine, without a name, and goes with it.
    """

    name: str
    target: str
    read_only: bool
    copy: bool
    anonymous: bool

    def to_json(self) -> dict[str, Any]:
        """Return the entry in the machine's record."""
        return asdict(self)


def mounted_from_json(document: object) -> Mounted:
    """Read an entry of a machine's record. Raises IntegrityError for anything that is none."""
    fields = {"name": str, "target": str} | dict.fromkeys(("read_only", "copy", "anonymous"), bool)
    if (
        not isinstance(document, dict)
        or any(type(document.get(key)) is not kind for key, kind in fields.items())
        or not is_name(document["name"])
        or not document["target"].startswith("/")
    ):
        raise IntegrityError(f"The machine's record has {document!r} where a volume should be.")
    return Mounted(**{key: document[key] for key in fields})
