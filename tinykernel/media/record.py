"""Which media of a boot image there are. Owns media.json, its schema, and loading it with proof."""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.errors import IntegrityError
from tinykernel.record import BootImage

SCHEMA = 1
MEDIA_FOLDER = "media"  # of a boot image's folder
RECORD_FILE = "media.json"
_RECORD_LIMIT_BYTES = 1 << 20


class Kind(enum.StrEnum):
    """What a machine can boot from; its value names it on the command line."""

    UKI = "uki"
    ISO = "iso"
    VMDK = "vmdk"
    STREAM = "stream"

    @property
    def file_name(self) -> str:
        """The file's name in the media folder."""
        return _FILE_NAMES[self]


_FILE_NAMES = {
    Kind.UKI: "boot.efi",
    Kind.ISO: "boot.iso",
    Kind.VMDK: "boot.vmdk",
    Kind.STREAM: "boot-stream.vmdk",
}


@dataclass(frozen=True, slots=True)
class Medium:
    """One medium on disk."""

    kind: Kind
    path: Path
    sha256: str
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return its part of media.json."""
        return {
            "kind": self.kind.value,
            "file": self.path.name,
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
        }


@dataclass(frozen=True, slots=True)
class Media:
    """The media of one boot image that were made from the same inputs, which `inputs` names."""

    inputs: str
    command_line: str
    signed: bool
    media: tuple[Medium, ...]

    def encode(self) -> bytes:
        """Return the exact bytes of media.json."""
        document = {
            "schema": SCHEMA,
            "inputs": self.inputs,
            "command_line": self.command_line,
            "signed": self.signed,
            "media": [medium.to_json() for medium in self.media],
        }
        return json.dumps(document, indent=2).encode() + b"\n"


def load_media(image: BootImage) -> Media | None:
    """Return the media of a boot image, proven whole; None when none were made.

    Raises IntegrityError when one is damaged or the record is not readable.
    """
    media = read_media(image)
    for medium in () if media is None else media.media:
        folder = medium.path.parent
        try:
            found = digest_of(medium.path)
        except OSError as error:
            raise _damaged(folder, f"{medium.path.name}: {error.strerror}") from error
        if found != medium.sha256:
            raise _damaged(folder, f"{medium.path.name} has sha256 {found}, not {medium.sha256}")
    return media


def read_media(image: BootImage) -> Media | None:
    """Return what media.json says of the media of a boot image; nothing of it is proven.

    Raises IntegrityError when the record is not readable.
    """
    folder = image.folder / MEDIA_FOLDER
    try:
        with (folder / RECORD_FILE).open("rb") as file:
            data = file.read(_RECORD_LIMIT_BYTES)
    except FileNotFoundError:
        return None
    try:
        document = json.loads(data)
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']!r}")
        return Media(
            inputs=str(document["inputs"]),
            command_line=str(document["command_line"]),
            signed=document["signed"] is True,
            media=tuple(
                Medium(
                    kind := Kind(entry["kind"]),
                    folder / kind.file_name,
                    str(entry["sha256"]),
                    int(entry["size_bytes"]),
                )
                for entry in document["media"]
            ),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(folder, f"{RECORD_FILE}: {error!r}") from error


def digest_of(path: Path) -> str:
    """Return a file's sha256. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(folder: Path, reason: str) -> IntegrityError:
    return IntegrityError(
        f"The media in {folder} are damaged: {reason}.",
        hint="Remove that folder and make them anew: saltflat boot build --media",
    )
