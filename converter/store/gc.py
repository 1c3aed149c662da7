"""Delete what nobody needs. Owns what is needed (the roots), and the order of deletion.

Roots are the image records, what machines stand on (`converter.store.pins`), and the
default boot image. A complete image needs its links and its two documents, but not the blobs of its
layers: they are a cache, and go unless they are asked to be kept. An incomplete one needs its blobs
too.

Everything is deleted before what it stands on: image records, then the records of links, children
first, then files, each durable before the next. So whatever a gc leaves that was killed, or that
lost its power, is a good store with leftovers in it.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from converter.atomic import is_abandoned, sync_directory
from converter.errors import IntegrityError
from converter.events import Monitor
from converter.store.inventory import (
    BlobEntry,
    BootEntry,
    ImageEntry,
    Inventory,
    Leftover,
    LeftoverKind,
    LinkEntry,
    take_inventory,
)
from converter.store.layout import Store
from converter.store.locks import LINK_PREFIX, MARK_PREFIX, SWEEP_TIMEOUT_SECONDS, sweeping
from converter.store.names import forget_names
from converter.store.pins import pins
from tinykernel.record import RECORD_FILE


@dataclass(frozen=True, slots=True)
class Plan:
    """What gc deletes, each in its order; `before_bytes` and `after_bytes` are the store's."""

    images: tuple[ImageEntry, ...]
    links: tuple[LinkEntry, ...]
    blobs: tuple[BlobEntry, ...]
    boot_images: tuple[BootEntry, ...]
    leftovers: tuple[Leftover, ...]
    before_bytes: int
    after_bytes: int


def collect_garbage(
    store: Store,
    *,
    max_store_bytes: int | None = None,
    keep_blobs: bool = False,
    dry_run: bool = False,
    timeout_seconds: float = SWEEP_TIMEOUT_SECONDS,
    monitor: Monitor,
) -> Plan:
    """Delete what nobody needs, and the least recently used images above `max_store_bytes`.

    Waits until no conversion is at work; returns what was deleted, or with `dry_run` would be.
    Raises SaltflatError after `timeout_seconds`, or when a record is newer than this program;
    IntegrityError when an image's record cannot be read.
    """
    with sweeping(store, timeout_seconds=timeout_seconds, monitor=monitor):
        now = time.time()
        plan = plan_collection(
            take_inventory(store),
            max_store_bytes=max_store_bytes,
            keep_blobs=keep_blobs,
            is_dead=lambda leftover: _is_dead(store, leftover, now),
        )
        if not dry_run:
            _delete(store, plan)
    return plan


def plan_collection(
    inventory: Inventory,
    *,
    max_store_bytes: int | None,
    keep_blobs: bool,
    is_dead: Callable[[Leftover], bool],
) -> Plan:
    """Choose what to delete; pure. Images that were used at the same time go in order of name.

    Raises as `collect_garbage`.
    """
    _refuse_unreadable(inventory)
    chosen = _Needs(inventory, keep_blobs=keep_blobs)
    boot_images = _dispensable_boot_images(inventory)
    leftovers = tuple(leftover for leftover in inventory.leftovers if is_dead(leftover))
    after_bytes = inventory.size_bytes - chosen.unneeded_bytes()
    after_bytes -= sum(image.size_bytes for image in boot_images)
    after_bytes -= sum(leftover.size_bytes for leftover in leftovers)
    evicted: list[ImageEntry] = []
    staying = sorted(inventory.images, key=lambda image: (image.used_ns, image.path.name))
    staying = [image for image in staying if not chosen.is_in_use(image)]
    while staying and max_store_bytes is not None and after_bytes > max_store_bytes:
        # An image whose links are all shared would be lost for nothing, unless all are like that.
        image = next(filter(chosen.has_own_links, staying), staying[0])
        after_bytes -= chosen.evict(image)
        evicted.append(image)
        staying.remove(image)
    return Plan(
        images=tuple(evicted),
        links=_children_first(inventory, chosen.unneeded(inventory.links)),
        blobs=tuple(inventory.blobs[digest] for digest in chosen.unneeded(inventory.blobs)),
        boot_images=boot_images,
        leftovers=leftovers,
        before_bytes=inventory.size_bytes,
        after_bytes=after_bytes,
    )


class _Needs:
    """Who needs which link (by id) and which blob (by digest), as images are given up."""

    def __init__(self, inventory: Inventory, *, keep_blobs: bool) -> None:
        self._pinned = inventory.pinned
        self._sizes = {
            **{identity: link.size_bytes for identity, link in inventory.links.items()},
            **{digest: blob.size_bytes for digest, blob in inventory.blobs.items()},
        }
        self._kept = {*inventory.pinned, *(inventory.blobs if keep_blobs else ())}
        links = inventory.links_by_image()
        self._of_image = {
            image.path: links[image.path] | _blobs_of(image, inventory)
            for image in inventory.images
        }
        self._count = Counter(key for keys in self._of_image.values() for key in keys)

    def unneeded(self, keys: Iterable[str]) -> list[str]:
        """Return those of `keys`, sorted, that no image and no machine needs."""
        return sorted(key for key in keys if not self._count[key] and key not in self._kept)

    def unneeded_bytes(self) -> int:
        """Return the size of all that nobody needs."""
        return sum(self._sizes[key] for key in self.unneeded(self._sizes))

    def is_in_use(self, image: ImageEntry) -> bool:
        """Say whether a machine stands on this image."""
        return image.record is not None and image.record.links[-1] in self._pinned

    def has_own_links(self, image: ImageEntry) -> bool:
        """Say whether deleting `image` would delete links."""
        assert image.record is not None, "unreadable records were refused"
        return any(
            self._count[identity] == 1 and identity not in self._kept
            for identity in image.record.links
        )

    def evict(self, image: ImageEntry) -> int:
        """Give up `image`; return how many bytes nobody needs any more."""
        freed_bytes = image.size_bytes
        for key in self._of_image[image.path]:
            self._count[key] -= 1
            if not self._count[key] and key not in self._kept:
                freed_bytes += self._sizes.get(key, 0)
        return freed_bytes


def _blobs_of(image: ImageEntry, inventory: Inventory) -> frozenset[str]:
    record = image.record
    assert record is not None, "unreadable records were refused"
    if inventory.is_complete(record):
        return frozenset(record.documents)
    return frozenset({*record.documents, *(layer.digest for layer in record.layers)})


def _refuse_unreadable(inventory: Inventory) -> None:
    """Raise where deleting would be guessing.

    The damaged record of a link is no such case: images name all their links.
    """
    problems = [image.problem for image in inventory.images]
    problems += [
        link.problem
        for link in inventory.links.values()
        if not isinstance(link.problem, IntegrityError)  # of a newer schema
    ]
    for problem in filter(None, problems):
        problem.add_context("Nothing was deleted")
        raise problem


def _dispensable_boot_images(inventory: Inventory) -> tuple[BootEntry, ...]:
    """Return all but the default and those in use; none without a default, for which to choose?"""
    if not any(image.default for image in inventory.boot_images):
        return ()
    return tuple(
        image
        for image in inventory.boot_images
        if not image.default and image.id not in inventory.pinned
    )


def _children_first(inventory: Inventory, identities: Iterable[str]) -> tuple[LinkEntry, ...]:
    heights: dict[str, int] = {}

    def height(identity: str) -> int:
        """Return how many links, of those that are here, stand below this one."""
        path = []
        while identity in inventory.links and identity not in heights and identity not in path:
            path.append(identity)
            record = inventory.links[identity].record
            identity = record.parent if record is not None else ""
        below = heights.get(identity, -1)
        for number, above in enumerate(reversed(path), start=1):
            heights[above] = below + number
        return below + len(path)

    ordered = sorted(identities, key=lambda identity: (-height(identity), identity))
    return tuple(inventory.links[identity] for identity in ordered)


def _is_dead(store: Store, leftover: Leftover, now: float) -> bool:
    """Say whether nobody will finish this. The store is ours alone, so no conversion will."""
    if leftover.kind is LeftoverKind.UNKNOWN:
        return False
    if leftover.path.parent not in {store.root, store.cache, store.boot}:
        return True
    # Written by processes that need not hold the store.
    return is_abandoned(leftover.path, now)


def _delete(store: Store, plan: Plan) -> None:
    for image in plan.images:
        image.path.unlink()
    sync_directory(store.images)
    below: set[str] = set()  # whose children's records are deleted, but not yet for good
    for link in plan.links:
        if link.link_id in below:
            sync_directory(store.links)
            below.clear()
        (store.links / f"{link.link_id}.json").unlink()
        if link.record is not None:
            below.add(link.record.parent)
    sync_directory(store.links)
    for link in plan.links:
        for suffix in ("vmdk", "state"):
            (store.links / f"{link.link_id}.{suffix}").unlink(missing_ok=True)
    for blob in plan.blobs:
        blob.path.unlink()
    for boot_image in plan.boot_images:
        _delete_boot_folder(boot_image.path)
    for leftover in plan.leftovers:
        if leftover.path.is_dir():
            _delete_boot_folder(leftover.path)
        else:
            leftover.path.unlink()
    forget_names(store)
    _delete_locks(store)


def _delete_boot_folder(folder: Path) -> None:
    (folder / RECORD_FILE).unlink(missing_ok=True)  # first: without it the rest is no boot image
    sync_directory(folder)
    shutil.rmtree(folder)


def _delete_locks(store: Store) -> None:
    """Delete what nobody holds: locks of links, for the store is ours, and what the dead left."""
    for prefix in (LINK_PREFIX, MARK_PREFIX):
        for path in store.locks.glob(f"{prefix}*"):
            path.unlink()
    for path in pins(store)[1]:
        path.unlink(missing_ok=True)
