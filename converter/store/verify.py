"""Is everything in the store what it was when it was written? Reads all of it, changes nothing.

What belongs to nothing (`converter.store.inventory.Leftover`) is no fault: gc removes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from converter.errors import SaltflatError
from converter.events import Monitor, StepAdvanced, StepFinished, StepStarted
from converter.image.digest import Digest
from converter.store.bootimages import default_boot_id
from converter.store.images import ImageRecord
from converter.store.inventory import ImageEntry, Inventory, LinkEntry
from converter.store.layout import Store
from tinykernel.record import load_boot_image

_CHUNK_BYTES = 1 << 20
_WRITE_BITS = 0o222
_STEP = "verify store"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not as it was written: the file, what is wrong, and what to do."""

    path: Path
    what: str
    hint: str


def verify_store(store: Store, inventory: Inventory, *, monitor: Monitor) -> Iterator[Fault]:
    """Yield every fault of the store that `inventory` was just taken of.

    To be consumed while the store is in use (`converter.store.locks.using`). A file that cannot be
    read is a fault too.
    """
    # Records are small, and the inventory has read them.
    total_bytes = sum(blob.size_bytes for blob in inventory.blobs.values())
    total_bytes += sum(image.size_bytes for image in inventory.boot_images)
    for link in inventory.links.values():
        total_bytes += (link.disk_bytes or 0) + (link.state_bytes or 0)
    monitor(StepStarted(_STEP, total_bytes))
    done_bytes = 0

    def advance(size_bytes: int) -> None:
        nonlocal done_bytes
        done_bytes += size_bytes
        monitor(StepAdvanced(_STEP, done_bytes))

    for image in inventory.images:
        yield from _image_faults(image, inventory)
    for link in inventory.links.values():
        yield from _link_faults(store, link, inventory, advance)
    for blob in inventory.blobs.values():
        digest = Digest.parse(blob.digest)
        if _content(blob.path, digest.algorithm, advance) != digest.encoded:
            hint = "Delete it; it is fetched again when it is needed."
            yield Fault(blob.path, "its content is not what its name says", hint)
    yield from _boot_faults(store, inventory, advance)
    monitor(StepFinished(_STEP, f"{done_bytes / 1e6:.1f} MB read"))


def _image_faults(image: ImageEntry, inventory: Inventory) -> Iterator[Fault]:
    record = image.record
    if record is None:
        yield _unreadable(image.path, image.problem)
        return
    yield from _writable(image.path)
    again = f"Convert {record.reference} again, or delete this record and run: saltflat store gc"
    for digest in record.documents:
        if digest not in inventory.blobs:
            yield Fault(image.path, f"its blob {digest} is missing", again)
    parent = ""
    for identity in record.links:
        link = inventory.links.get(identity)
        if link is None:
            yield Fault(image.path, f"its link {identity} is missing", again)
        elif link.record is not None and link.record.parent != parent:
            yield Fault(image.path, f"its link {identity} stands on another parent", again)
        parent = identity


def _link_faults(
    store: Store, link: LinkEntry, inventory: Inventory, advance: Callable[[int], None]
) -> Iterator[Fault]:
    path = store.links / f"{link.link_id}.json"
    record = link.record
    if record is None:
        yield _unreadable(path, link.problem)
        return
    yield from _writable(path)
    if record.parent and record.parent not in inventory.links:
        image = _first_image(inventory, link.link_id)
        yield Fault(
            path,
            f"its parent {record.parent} is missing",
            f"Convert {image.reference} again." if image else "No image uses it: saltflat store gc",
        )
    if record.empty:
        return
    anew = f"Delete {path}; converting again makes the link anew."
    for suffix, size_bytes, sha256 in (
        ("vmdk", record.size_bytes, record.sha256),
        ("state", record.state_size_bytes, record.state_sha256),
    ):
        file = path.with_suffix(f".{suffix}")
        try:
            found_bytes = file.stat().st_size
        except FileNotFoundError:
            yield Fault(file, "it is missing, though it has a record", anew)
            continue
        yield from _writable(file)
        if found_bytes != size_bytes:
            yield Fault(file, f"it has {found_bytes} bytes, not {size_bytes} as written", anew)
        elif _content(file, "sha256", advance) != sha256:
            yield Fault(file, "its content is not what was written", anew)


def _boot_faults(
    store: Store, inventory: Inventory, advance: Callable[[int], None]
) -> Iterator[Fault]:
    for image in inventory.boot_images:
        try:
            found = load_boot_image(image.path)
        except SaltflatError as error:
            yield _unreadable(image.path, error)
        else:
            if found.id != image.id:
                hint = "Delete it and run: saltflat boot build"
                yield Fault(image.path, f"it holds the boot image {found.id}", hint)
        advance(image.size_bytes)
    default = default_boot_id(store)
    if default is not None and not any(image.default for image in inventory.boot_images):
        hint = "Run: saltflat boot build"
        yield Fault(store.boot / "default", f"the boot image {default} is missing", hint)


def _content(path: Path, algorithm: str, advance: Callable[[int], None]) -> str:
    """Return the hex digest of a file, or what prevents reading it."""
    hasher = hashlib.new(algorithm)
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
                advance(len(chunk))
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return hasher.hexdigest()


def _writable(path: Path) -> Iterator[Fault]:
    mode = path.stat().st_mode
    if mode & _WRITE_BITS:
        yield Fault(path, f"it may be written (mode {mode & 0o7777:04o})", f"chmod a-w {path}")


def _unreadable(path: Path, problem: SaltflatError | None) -> Fault:
    assert problem is not None, "an entry has a record or a problem"
    return Fault(path, problem.what, problem.hint or "Delete it.")


def _first_image(inventory: Inventory, identity: str) -> ImageRecord | None:
    for image in inventory.images:
        if image.record is not None and identity in image.record.links:
            return image.record
    return None
