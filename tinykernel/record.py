"""What a finished boot image is. Owns boot.json, its schema, and loading an image with proof.

A boot image is a folder with `vmlinuz`, `initrd` and `boot.json`, named by its id. What it is made
of is told by `contents.json` and `boot.spdx.json`, which images from before these have not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from converter.errors import IntegrityError, NotFoundError

SCHEMA = 1
KERNEL_FILE = "vmlinuz"
INITRD_FILE = "initrd"
CONTENTS_FILE = "contents.json"
SBOM_FILE = "boot.spdx.json"
RECORD_FILE = "boot.json"
STOCK_FLAVOUR = "stock"

_RECORD_LIMIT_BYTES = 1 << 20
_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PackageRecord:
    """A distribution package that bytes of the image came from."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class BootImage:
    """A boot image on disk, proven whole when it was loaded."""

    folder: Path
    id: str
    arch: str
    kernel_package: str
    kernel_version: str
    kernel_sha256: str
    initrd_sha256: str
    packages: tuple[PackageRecord, ...]
    python: str
    compiled_by: str | None  # the CPython whose bytecode it holds; None when it holds sources
    protocol: int
    modules: tuple[str, ...]
    kernel_flavour: str = STOCK_FLAVOUR
    contents_sha256: str | None = None
    sbom_sha256: str | None = None
    debug: bool = False  # whether it has a shell for who looks for a fault

    @property
    def name(self) -> str:
        """What kind of image it is, for a person: its kernel, and that it is a debug image."""
        return f"{self.kernel_flavour}-debug" if self.debug else self.kernel_flavour

    @property
    def kernel(self) -> Path:
        """The kernel's file."""
        return self.folder / KERNEL_FILE

    @property
    def initrd(self) -> Path:
        """The initramfs's file."""
        return self.folder / INITRD_FILE

    def digests(self) -> dict[str, str]:
        """Return name -> SHA-256 of every file of the folder that boot.json proves."""
        digests = {KERNEL_FILE: self.kernel_sha256, INITRD_FILE: self.initrd_sha256}
        lists = {CONTENTS_FILE: self.contents_sha256, SBOM_FILE: self.sbom_sha256}
        return digests | {name: digest for name, digest in lists.items() if digest is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the document that boot.json holds; the folder is not part of it."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "arch": self.arch,
            "kernel": {
                "flavour": self.kernel_flavour,
                "package": self.kernel_package,
                "version": self.kernel_version,
                "sha256": self.kernel_sha256,
            },
            "initrd": {"sha256": self.initrd_sha256},
            "packages": [asdict(package) for package in self.packages],
            "python": self.python,
            "compiled_by": self.compiled_by,
            "protocol": self.protocol,
            "modules": list(self.modules),
            "debug": self.debug,
            "contents": _proof(self.contents_sha256),
            "sbom": _proof(self.sbom_sha256),
        }


def encode_record(image: BootImage) -> bytes:
    """Return the exact bytes of boot.json."""
    return json.dumps(image.to_json(), indent=2, ensure_ascii=True).encode() + b"\n"


def load_boot_image(folder: Path) -> BootImage:
    """Read the boot image in `folder` and prove its files against their digests.

    Raises NotFoundError when there is none, IntegrityError when it is damaged or of a newer schema.
    """
    image = read_record(folder)
    for name, sha256 in image.digests().items():
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _damaged(folder, f"{name}: {error.strerror}") from error
        if found != sha256:
            raise _damaged(folder, f"{name} has sha256 {found}, not {sha256}")
    return image


def read_record(folder: Path) -> BootImage:
    """Return what boot.json says of the boot image in `folder`; nothing of it is proven.

    Raises as `load_boot_image` does.
    """
    try:
        with (folder / RECORD_FILE).open("rb") as file:
            data = file.read(_RECORD_LIMIT_BYTES + 1)
    except OSError as error:
        raise NotFoundError(
            f"there is no boot image in {folder}", hint="make one: saltflat boot build"
        ) from error
    if len(data) > _RECORD_LIMIT_BYTES:
        raise _damaged(folder, f"{RECORD_FILE} is larger than {_RECORD_LIMIT_BYTES} bytes")
    try:
        document = json.loads(data)
        schema = document["schema"]
        if isinstance(schema, int) and schema > SCHEMA:
            raise IntegrityError(
                f"the boot image in {folder} has schema {schema}",
                expected=f"schema {SCHEMA} or older",
                hint="use a newer saltflat, or build the boot image anew: saltflat boot build",
            )
        return decode_record(folder, document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder, f"{RECORD_FILE}: {error!r}") from error


def protocol_fault(identity: str, protocol: int) -> IntegrityError | None:
    """Return why this saltflat cannot talk to that boot image's tether; None when it can."""
    # It brings the whole protocol along, and many verbs only look whether a record is there.
    from agent.wire.c_frame import OLDEST_VERSION, PROTOCOL_VERSION  # noqa: PLC0415 - see above

    if OLDEST_VERSION <= protocol <= PROTOCOL_VERSION:
        return None
    older = protocol < OLDEST_VERSION
    return IntegrityError(
        f"the boot image {identity} speaks protocol {protocol}",
        expected=f"protocol {PROTOCOL_VERSION}, which this saltflat speaks",
        hint="build it anew: saltflat boot build" if older else "use a newer saltflat",
    )


def decode_record(folder: Path, document: Mapping[str, Any]) -> BootImage:
    """Return the boot image that `document`, of `to_json`, describes; its files are not looked at.

    Raises KeyError, TypeError, ValueError or AttributeError for what is no such document.
    """
    kernel, initrd = document["kernel"], document["initrd"]
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']!r}")
    compiled_by = document.get("compiled_by")
    return BootImage(
        folder=folder,
        id=_digest(document["id"]),
        arch=_text(document["arch"]),
        kernel_package=_text(kernel["package"]),
        kernel_version=_text(kernel["version"]),
        kernel_sha256=_digest(kernel["sha256"]),
        initrd_sha256=_digest(initrd["sha256"]),
        packages=tuple(
            PackageRecord(_text(item["name"]), _text(item["version"]), _digest(item["sha256"]))
            for item in document["packages"]
        ),
        python=_text(document["python"]),
        compiled_by=None if compiled_by is None else _text(compiled_by),
        protocol=_number(document["protocol"]),
        modules=tuple(_text(name) for name in document["modules"]),
        # Records from before there was a choice have none.
        kernel_flavour=_text(kernel.get("flavour", STOCK_FLAVOUR)),
        contents_sha256=_proven(document, "contents"),
        sbom_sha256=_proven(document, "sbom"),
        debug=_truth(document.get("debug", False)),
    )


def _proof(sha256: str | None) -> dict[str, str] | None:
    return None if sha256 is None else {"sha256": sha256}


def _proven(document: Mapping[str, Any], key: str) -> str | None:
    proof = document.get(key)
    return None if proof is None else _digest(proof["sha256"])


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a number")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _digest(value: object) -> str:
    text = _text(value)
    if not _HEX_DIGEST.fullmatch(text):
        raise ValueError(f"{text!r} is not a sha256")
    return text


def _damaged(folder: Path, reason: str) -> IntegrityError:
    return IntegrityError(
        f"the boot image in {folder} is damaged: {reason}",
        hint="remove it and make it anew: saltflat boot build",
    )
