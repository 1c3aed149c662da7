"""What is known of a volume, and how `volume.json` says it. Does no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from converter.errors import IntegrityError
from converter.volume.name import is_name

SCHEMA = 1
RECORD_LIMIT_BYTES = 1 << 20
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume. `uuid` is its file system's, `created_ns` nanoseconds since the epoch.

    `anonymous` says that nobody named it: it goes with the machine that it was made for.
    """

    name: str
    uuid: UUID
    size_bytes: int
    created_ns: int
    labels: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False

    @property
    def serial(self) -> str:
        """The serial number by which a guest knows the disk: 32 hexadecimal digits."""
        return self.uuid.hex

    def encode(self) -> bytes:
        """Return the volume's record."""
        document = {
            "schema": SCHEMA,
            "name": self.name,
            "uuid": str(self.uuid),
            "size": self.size_bytes,
            "created_ns": self.created_ns,
            "labels": dict(self.labels),
            "anonymous": self.anonymous,
        }
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def decode(raw: bytes, name: str) -> Volume:
    """Read the record of the volume `name`. Raises IntegrityError for anything that is none."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"it is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise _damaged(name, "it is no JSON object")
    schema = document.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise IntegrityError(
            f"The record of volume {name} has schema {schema!r}.",
            expected=f"schema {SCHEMA}",
            hint="A newer saltflat may have made it: use that one.",
        )
    labels = _typed(document, "labels", dict, name)
    if not all(isinstance(value, str) for value in labels.values()):
        raise _damaged(name, "its 'labels' are not text")
    if _typed(document, "name", str, name) != name or not is_name(name):
        raise _damaged(name, "it is the record of another volume")
    try:
        uuid = UUID(_typed(document, "uuid", str, name))
    except ValueError as error:
        raise _damaged(name, "its 'uuid' is none") from error
    return Volume(
        name=name,
        uuid=uuid,
        size_bytes=_typed(document, "size", int, name),
        created_ns=_typed(document, "created_ns", int, name),
        labels=labels,
        anonymous=_typed(document, "anonymous", bool, name),
    )


def _typed(document: dict[str, Any], key: str, kind: type[_Kind], name: str) -> _Kind:
    value = document.get(key)
    if type(value) is not kind or (isinstance(value, int) and value < 0):
        raise _damaged(name, f"its {key!r} is {value!r}")
    return value


def _damaged(name: str, what: str) -> IntegrityError:
    return IntegrityError(
        f"The record of volume {name} is damaged: {what}.",
        hint=f"Its disk may be whole: save it, then saltflat volume rm {name}",
    )
