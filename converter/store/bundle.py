"""Bundles: one image's chain in a folder of its own, complete and movable.

bundle.json           what is here (schema 1, docs/formats.md)
manifest.json         the image's manifest, byte for byte
config.json           the image's configuration, byte for byte
disk/<link id>.vmdk   the links, the same files that the store has
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from converter import __version__
from converter.atomic import (
    atomic_directory,
    make_directory,
    remove_abandoned,
    sync_directory,
    write_atomic,
)
from converter.errors import IntegrityError, NotFoundError, SaltflatError, UsageError
from converter.image.model import Image
from converter.store.bundle_boot import BundleBoot
from converter.store.links import ChainParameters, LinkRecord
from converter.store.room import room_for

SCHEMA = 1
_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file


@dataclass(frozen=True, slots=True)
class BundleLink:
    """One link as bundle.json lists it: `file` is relative to the bundle, `size` in bytes."""

    file: str
    link_id: str
    parent: str
    layers: tuple[str, ...]
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read: its folder, what bundle.json says, the image's configuration."""

    folder: Path
    reference: str
    digest: str
    platform: str
    parameters: ChainParameters
    links: tuple[BundleLink, ...]
    config_raw: bytes
    boot: BundleBoot | None = None  # what it is meant to start with; None: whatever the host has

    @property
    def disks(self) -> tuple[Path, ...]:
        """The links' files, base first."""
        return tuple(self.folder / link.file for link in self.links)


def source_at(path: Path) -> str | None:
    """Return how the bundle, layout or archive at `path` is named as a SOURCE; None without any.

    Looks at names alone. What a file is, whoever has named it knows better.
    """
    if (path / "bundle.json").is_file():
        return f"bundle:{path}"
    if (path / "oci-layout").is_file():
        return f"oci:{path}"
    if path.is_file():
        return f"docker-archive:{path} or oci-archive:{path}"
    return None


def refuse_occupied(folder: Path, *, force: bool) -> None:
    """Raise UsageError unless a bundle can be made in `folder`, or replaced there with `force`."""
    a_file = folder.exists() and not folder.is_dir()
    occupied = a_file or (folder.exists() and any(folder.iterdir()))
    if occupied and not (force and (folder / "bundle.json").is_file()):
        raise UsageError(
            f"{folder} is a file." if a_file else f"{folder} exists and is not empty.",
            expected="a new folder; with --force a bundle, which is then replaced",
        )


def write_bundle(
    folder: Path,
    image: Image,
    parameters: ChainParameters,
    links: tuple[LinkRecord, ...],
    disks: tuple[Path, ...],
    *,
    boot: BundleBoot | None = None,
    force: bool = False,
    copy: bool = False,
) -> None:
    """Make `folder` a bundle of `image`. It appears whole or not at all.

    The disks share their blocks with the store's where the file system can, unless `copy` is set.
    To be called while the store is in use (`converter.store.locks.using`). Raises UsageError if
    something is there already and `force` is not set.

    Power that fails between the two renames of a replacement leaves the old and the new bundle
    whole under temporary names. The next bundle of this name removes what such attempts left.
    """
    refuse_occupied(folder, force=force)
    make_directory(folder.parent)
    with room_for(f"the bundle {folder}"), atomic_directory(folder) as temp:
        (temp / "disk").mkdir()
        for disk in disks:
            (_copy if copy else _share)(disk, temp / "disk" / disk.name)
        sync_directory(temp / "disk")
        write_atomic(temp / "manifest.json", image.manifest_raw)
        write_atomic(temp / "config.json", image.config_raw)
        document = _document(image, parameters, links, boot)
        write_atomic(temp / "bundle.json", json.dumps(document, indent=1).encode() + b"\n")
    remove_abandoned(folder)


def _document(
    image: Image,
    parameters: ChainParameters,
    links: tuple[LinkRecord, ...],
    boot: BundleBoot | None,
) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "reference": image.reference,
        "digest": str(image.digest),
        "platform": str(image.platform),
        "capacity": parameters.capacity_bytes,
        "format": "monolithicSparse",
        "links": [
            {
                "file": f"disk/{link.link_id}.vmdk",
                "link_id": link.link_id,
                "parent": link.parent,
                "layers": list(link.diff_ids),
                "size": link.size_bytes,
                "sha256": link.sha256,
            }
            for link in links
        ],
        "boot": None if boot is None else boot.to_json(),
        "tool": f"saltflat {__version__}",
        "parameters": asdict(parameters),
    }


def read_bundle(folder: Path) -> Bundle:
    """Read the bundle in `folder`; sizes of its disks are compared, not their content.

    Raises NotFoundError if there is none, SaltflatError if its schema is newer, IntegrityError if
    it is damaged.
    """
    path = folder / "bundle.json"
    try:
        document: Any = json.loads(path.read_bytes())
        config_raw = (folder / "config.json").read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        named = source_at(folder)
        raise NotFoundError(
            f"{folder} is not a bundle: {Path(error.filename).name} is missing.",
            hint=f"What is there is called {named}."
            if named
            else "Make one with: saltflat convert IMAGE -o DIR",
        ) from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is not readable JSON: {error}.") from error
    try:
        if document["schema"] > SCHEMA:
            raise SaltflatError(
                f"{path} has schema {document['schema']}; this program reads up to {SCHEMA}.",
                hint="Use a newer saltflat.",
            )
        links = tuple(
            BundleLink(
                link["file"],
                link["link_id"],
                link["parent"],
                tuple(link["layers"]),
                link["size"],
                link["sha256"],
            )
            for link in document["links"]
        )
        bundle = Bundle(
            folder,
            document["reference"],
            document["digest"],
            document["platform"],
            ChainParameters.parse(document["parameters"]),
            links,
            config_raw,
            BundleBoot.parse(document.get("boot")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"{path} is not a bundle's description: {error!r}.") from error
    _check_files(bundle)
    return bundle


def _check_files(bundle: Bundle) -> None:
    if not bundle.links:
        raise IntegrityError(f"{bundle.folder} has no links.")
    for link, disk in zip(bundle.links, bundle.disks, strict=True):
        if link.file != f"disk/{link.link_id}.vmdk":
            raise IntegrityError(f"{bundle.folder}: {link.file!r} is not where a link lies.")
        size = disk.stat().st_size if disk.is_file() else None
        if size != link.size:
            what = "is missing" if size is None else f"has {size} bytes"
            raise IntegrityError(f"{disk} {what}.", expected=f"a file of {link.size} bytes")


def is_bundle_of(
    folder: Path,
    image: Image,
    parameters: ChainParameters,
    links: tuple[LinkRecord, ...],
    boot: BundleBoot | None,
) -> bool:
    """Tell whether `write_bundle` would write into `folder` what is there.

    Documents are compared byte for byte, disks by their size. Raises as `read_bundle` does.
    """
    read_bundle(folder)
    document = json.loads((folder / "bundle.json").read_bytes())
    wanted = _document(image, parameters, links, boot)
    return (
        {**document, "tool": wanted["tool"]} == json.loads(json.dumps(wanted))
        and (folder / "manifest.json").read_bytes() == image.manifest_raw
        and (folder / "config.json").read_bytes() == image.config_raw
    )


def _share(source: Path, target: Path) -> None:
    """Give `source` a second name: a reflink, else a hard link, else a copy; read-only always."""
    if not (_reflink(source, target) or _hard_link(source, target)):
        _copy(source, target)


def _reflink(source: Path, target: Path) -> bool:
    """Let `target` share the blocks of `source` until either changes, where that is possible."""
    with open(source, "rb") as reader, open(target, "xb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            target.unlink()
            return False
        os.fchmod(writer.fileno(), 0o444)
        os.fsync(writer.fileno())
    return True


def _hard_link(source: Path, target: Path) -> bool:
    """Let `target` be the same file, where that is possible."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
            raise
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    """Let `target` be a file of its own, which nothing done to the other can touch."""
    shutil.copyfile(source, target)
    with open(target, "rb") as copied:
        os.fchmod(copied.fileno(), 0o444)
        os.fsync(copied.fileno())
