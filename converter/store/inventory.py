"""What lies in a store: images, links, blobs, boot images, leftovers, and who needs what.

Looks at names, sizes and records only; `converter.store.verify` reads contents. Changes nothing.
"""

from __future__ import annotations

import enum
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from converter.atomic import TEMP_PREFIX
from converter.errors import SaltflatError
from converter.image.digest import Digest
from converter.store.bootimages import default_boot_id
from converter.store.images import ImageRecord, read_image_record
from converter.store.layout import Store
from converter.store.links import LinkRecord, read_link_record
from converter.store.pins import pins
from tinykernel.record import RECORD_FILE

_LINK_FILE = re.compile(r"([0-9a-f]{64})\.(json|vmdk|state)")
_BOOT_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """An image record's file; `record` is None where `problem` says why it cannot be read.

    `used_ns` is when the image was last converted or run, in nanoseconds since the epoch.
    """

    path: Path
    record: ImageRecord | None
    problem: SaltflatError | None
    size_bytes: int
    used_ns: int


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """A link that has a record; `record` is None where `problem` says why it cannot be read.

    The sizes are those of the files as they are, None for a file that is not there.
    """

    link_id: str
    record: LinkRecord | None
    problem: SaltflatError | None
    record_bytes: int
    disk_bytes: int | None
    state_bytes: int | None

    @property
    def size_bytes(self) -> int:
        """All that the link takes."""
        return self.record_bytes + (self.disk_bytes or 0) + (self.state_bytes or 0)


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """A blob under its final name."""

    digest: str
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BootEntry:
    """A boot image's folder; `default` marks the one that machines start with."""

    id: str
    path: Path
    size_bytes: int
    default: bool


class LeftoverKind(enum.StrEnum):
    """What a file or folder is that belongs to nothing."""

    UNFINISHED = "unfinished"  # a temporary name: its writer is at work, or dead
    NO_RECORD = "no record"  # disk or state without a link's record
    HALF_MADE = "half made"  # a boot image's folder without its record
    UNKNOWN = "unknown"  # not ours


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that belongs to nothing; while others convert, it may yet become something."""

    path: Path
    kind: LeftoverKind
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that a store has but its cache and its locks. `pinned` ids are what machines stand on."""

    images: tuple[ImageEntry, ...]
    links: Mapping[str, LinkEntry]
    blobs: Mapping[str, BlobEntry]
    boot_images: tuple[BootEntry, ...]
    leftovers: tuple[Leftover, ...]
    pinned: frozenset[str]

    @property
    def size_bytes(self) -> int:
        """The sum of all sizes."""
        rooms: tuple[Iterable[ImageEntry | LinkEntry | BlobEntry | BootEntry | Leftover], ...] = (
            self.images,
            self.links.values(),
            self.blobs.values(),
            self.boot_images,
            self.leftovers,
        )
        return sum(entry.size_bytes for room in rooms for entry in room)

    def links_by_image(self) -> dict[Path, frozenset[str]]:
        """Return, by image record, the links that the image uses and that are here.

        Records of empty links count where a conversion of the image would come upon them.
        """
        empty: dict[str, list[LinkRecord]] = defaultdict(list)
        for link in self.links.values():
            if link.record is not None and link.record.empty:
                empty[link.record.parent].append(link.record)
        found = {}
        for image in self.images:
            if image.record is not None:
                used = {*image.record.links} & self.links.keys()
                used.update(_empty_links(image.record, empty))
                found[image.path] = frozenset(used)
        return found

    def images_by_link(self) -> dict[str, tuple[ImageEntry, ...]]:
        """Return, by link, the images that use it; a link that none uses is left out."""
        found: dict[str, list[ImageEntry]] = defaultdict(list)
        links = self.links_by_image()
        for image in self.images:
            for identity in sorted(links.get(image.path, ())):
                found[identity].append(image)
        return {identity: tuple(images) for identity, images in found.items()}

    def is_complete(self, image: ImageRecord) -> bool:
        """Say whether every link of `image` has its record and its files."""
        for identity in image.links:
            link = self.links.get(identity)
            if link is None or link.record is None or None in (link.disk_bytes, link.state_bytes):
                return False
        return True


def take_inventory(store: Store) -> Inventory:
    """Look through `store`. Exact while the store is held; else things may come and go meanwhile.

    Raises OSError for a folder that cannot be read, IntegrityError for a pin that cannot.
    """
    leftovers: list[Leftover] = []
    held, _void = pins(store)
    images = tuple(_images(store, leftovers))
    links = {link.link_id: link for link in _links(store, leftovers)}
    blobs = {blob.digest: blob for blob in _blobs(store, leftovers)}
    boot_images = tuple(_boot_images(store, leftovers))
    for folder in (store.root, store.cache, store.pins):
        for path, size_bytes in _files(folder):
            if path.name.startswith(TEMP_PREFIX):
                leftovers.append(Leftover(path, LeftoverKind.UNFINISHED, size_bytes))
    return Inventory(images, links, blobs, boot_images, tuple(leftovers), held)


def _empty_links(image: ImageRecord, empty: Mapping[str, list[LinkRecord]]) -> Iterator[str]:
    diff_ids = {layer.diff_id for layer in image.layers}
    for parent in ("", *image.links):
        for record in empty.get(parent, ()):
            if record.parameters == image.parameters and diff_ids.issuperset(record.diff_ids):
                yield record.link_id


def _images(store: Store, leftovers: list[Leftover]) -> Iterator[ImageEntry]:
    for path, size_bytes in _files(store.images):
        if path.name.startswith(TEMP_PREFIX) or path.suffix != ".json":
            leftovers.append(Leftover(path, _kind(path), size_bytes))
            continue
        record = problem = None
        try:
            used_ns = path.stat().st_mtime_ns
            record = read_image_record(path)
        except FileNotFoundError:
            continue
        except SaltflatError as error:
            problem = error
        yield ImageEntry(path, record, problem, size_bytes, used_ns)


def _links(store: Store, leftovers: list[Leftover]) -> Iterator[LinkEntry]:
    found: dict[str, dict[str, tuple[Path, int]]] = defaultdict(dict)
    for path, size_bytes in _files(store.links):
        match = _LINK_FILE.fullmatch(path.name)
        if match:
            found[match[1]][match[2]] = (path, size_bytes)
        else:
            leftovers.append(Leftover(path, _kind(path), size_bytes))
    for identity, files in found.items():
        if "json" not in files:
            for path, size_bytes in files.values():
                leftovers.append(Leftover(path, LeftoverKind.NO_RECORD, size_bytes))
            continue
        record = problem = None
        try:
            record = read_link_record(store, identity)
        except SaltflatError as error:
            problem = error
        sizes = {suffix: size_bytes for suffix, (_path, size_bytes) in files.items()}
        yield LinkEntry(
            identity, record, problem, sizes["json"], sizes.get("vmdk"), sizes.get("state")
        )


def _blobs(store: Store, leftovers: list[Leftover]) -> Iterator[BlobEntry]:
    for folder in sorted(path for path in store.blobs.iterdir() if path.is_dir()):
        for path, size_bytes in _files(folder):
            digest = None
            with suppress(ValueError):
                digest = Digest.parse(f"{folder.name}:{path.name}")
            if digest is None:
                leftovers.append(Leftover(path, _kind(path), size_bytes))
            else:
                yield BlobEntry(str(digest), path, size_bytes)


def _boot_images(store: Store, leftovers: list[Leftover]) -> Iterator[BootEntry]:
    default = default_boot_id(store)
    for path in sorted(store.boot.iterdir()):
        if not path.is_dir():
            if path.name.startswith(TEMP_PREFIX):
                leftovers.append(Leftover(path, LeftoverKind.UNFINISHED, path.lstat().st_size))
            continue
        size_bytes = sum(size for _path, size in _files(path))
        if not _BOOT_ID.fullmatch(path.name):
            leftovers.append(Leftover(path, _kind(path), size_bytes))
        elif not (path / RECORD_FILE).is_file():
            leftovers.append(Leftover(path, LeftoverKind.HALF_MADE, size_bytes))
        else:
            yield BootEntry(path.name, path, size_bytes, path.name == default)


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the files of `folder` itself with their sizes, sorted by name."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        with suppress(FileNotFoundError):  # somebody's temporary name
            if not entry.is_dir(follow_symlinks=False):
                yield Path(entry.path), entry.stat(follow_symlinks=False).st_size


def _kind(path: Path) -> LeftoverKind:
    unfinished = path.name.startswith(TEMP_PREFIX)
    return LeftoverKind.UNFINISHED if unfinished else LeftoverKind.UNKNOWN
