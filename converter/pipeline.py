"""The whole order: image -> layers -> tree -> ext4 -> VMDK -> store. The only module that knows it.

A layer streams through in one pass, from the blob to the disk file; nothing layer-sized is ever in
memory or in a temporary file. While one layer is written, the next blobs are fetched and the
previous link is hashed and committed.
"""

from __future__ import annotations

from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from threading import Event

from converter import __version__
from converter.convert_options import ConvertOptions
from converter.errors import SaltflatError
from converter.events import (
    CONVERT,
    PULL,
    Monitor,
    Note,
    StepAdvanced,
    StepFinished,
    StepStarted,
    WorkPlanned,
)
from converter.events import Event as ProgressEvent
from converter.ext4 import c_ext4
from converter.ext4.filesystem import FileSystem
from converter.ext4.geometry import Geometry
from converter.ext4.state import dump_state, load_states
from converter.ext4.writer import write_layer
from converter.groups import group_layers
from converter.identity import identity_of
from converter.image.fetch import fetch_blob
from converter.image.files import whole_file
from converter.image.model import Image, Layer
from converter.image.source import Source
from converter.linkcache import NO_CACHE, LinkCache
from converter.rootfs.apply import apply_layers
from converter.store.chains import find_chain
from converter.store.images import is_recorded, record_image
from converter.store.layout import Store
from converter.store.links import (
    ChainParameters,
    LinkRecord,
    PendingLink,
    begin_link,
    disk_path,
    find_link,
    link_id,
    read_states,
)
from converter.store.locks import using
from converter.store.room import room_in
from converter.unpacking import Blob, Unpacking
from converter.vmdk.content_id import content_id, long_content_id
from converter.vmdk.sparse import LinkWriter, ParentRef
from converter.waiting import result_of

PARALLEL_OFFERS = 2
_ADVANCE_BYTES = 1 << 20  # of progress between two events


@dataclass(frozen=True, slots=True)
class Chain:
    """An image converted: its links in the store, base first, none of them empty."""

    image: Image
    parameters: ChainParameters
    links: tuple[LinkRecord, ...]
    disks: tuple[Path, ...]


def convert(
    image: Image,
    source: Source,
    store: Store,
    options: ConvertOptions,
    *,
    monitor: Monitor,
    cache: LinkCache = NO_CACHE,
) -> Chain:
    """Bring every link of `image` into `store`, making those that neither it nor `cache` has.

    Raises the errors of source and store; IntegrityError names the layer that is at fault,
    PolicyError the rule. What was finished before an error stays and is used by the next attempt.
    """
    options.policy.check_image(image)
    with using(store, monitor=monitor), room_in(store):
        links = bring_links(image, source, store, options, monitor=monitor, cache=cache).links
        record_image(store, image, options.parameters, links)
    disks = tuple(disk_path(store, record.link_id) for record in links)
    return Chain(image, options.parameters, links, disks)


@dataclass(frozen=True, slots=True)
class Brought:
    """Links in the store, base first, none of them empty; `made` are the ids of all made here."""

    links: tuple[LinkRecord, ...]
    made: frozenset[str]


def bring_links(
    image: Image,
    source: Source,
    store: Store,
    options: ConvertOptions,
    *,
    layers: int | None = None,
    monitor: Monitor,
    cache: LinkCache = NO_CACHE,
) -> Brought:
    """Bring the links of the lowest `layers` of `image` into `store`: of all, if that is None.

    They are the links that `convert` would make of them; `layers` must end one. Images that share
    these layers can then be converted by several processes, each of which finds them. To be called
    while the store is in use; the image is not recorded. Raises as `convert`.
    """
    count = len(image.layers) if layers is None else layers
    conversion = _Conversion(image, source, store, options, monitor=monitor, cache=cache)
    with room_in(store), conversion:
        links = conversion.run(count)
    return Brought(links, frozenset(conversion.made))


def find_converted(
    image: Image, store: Store, options: ConvertOptions, *, monitor: Monitor
) -> Chain | None:
    """Return the chain of `image` if `convert` with these options would find nothing to do.

    It then counts as used just now. Nothing is asked of a source. Raises PolicyError, the store's
    errors.
    """
    options.policy.check_image(image)
    groups = [_diff_ids(group) for group in group_layers(image.layers, options.max_links)]
    with using(store, monitor=monitor):
        links = find_chain(store, groups, options.parameters)
        if links is None or not is_recorded(store, image, links):
            return None
        options.policy.check_disks(image.reference, sum(link.size_bytes for link in links))
        record_image(store, image, options.parameters, links)
    disks = tuple(disk_path(store, record.link_id) for record in links)
    return Chain(image, options.parameters, links, disks)


class _Conversion:
    """One image on its way up its chain: the links so far and the state of the topmost."""

    def __init__(
        self,
        image: Image,
        source: Source,
        store: Store,
        options: ConvertOptions,
        *,
        monitor: Monitor,
        cache: LinkCache,
    ) -> None:
        self._cache = cache
        self._image = image
        self._source = source
        self._store = store
        self._parameters = options.parameters
        self._max_links = options.max_links
        self._count = len(image.layers)  # of the layers that are wanted
        self._limits = options.limits
        self._policy = options.policy
        self._disk_bytes = 0  # of the links so far
        self._monitor = monitor
        self._stopping = Event()
        self._top = ""  # id of the last link
        self._links: list[Future[LinkRecord]] = []
        self._filesystem: FileSystem | None = None  # the top's state, while it is in memory
        self._blobs: dict[Layer, Future[Blob]] = {}
        self._fetcher = ThreadPoolExecutor(options.parallel_fetches, thread_name_prefix="fetch")
        # One thread only: no link is committed before its parent.
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._offerer = ThreadPoolExecutor(PARALLEL_OFFERS, thread_name_prefix="offer")
        self._offers: list[Future[None]] = []
        self.made: list[str] = []  # ids of links that were neither in the store nor in the cache

    def __enter__(self) -> _Conversion:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        self._stopping.set()
        if kind is not None and not issubclass(kind, Exception):  # somebody wants to end at once
            self._source.hang_up()
        self._fetcher.shutdown(cancel_futures=True)
        self._committer.shutdown()
        if kind is not None:
            self._cache.stop()
        self._offerer.shutdown(cancel_futures=True)

    def run(self, count: int) -> tuple[LinkRecord, ...]:
        """Go up the chain as far as the lowest `count` layers lead."""
        self._count = count
        layers = self._image.layers[:count]
        groups = group_layers(layers, self._max_links)
        self._cache.bring([_diff_ids(group) for group in groups], self._parameters)
        first = 0
        for group in groups:
            last = first + len(group)
            span = f"layer {last}" if len(group) == 1 else f"layers {first + 1}-{last}"
            self._bring(f"{span}/{len(self._image.layers)}", group, layers[first:])
            first = last
        if not self._links and count == len(self._image.layers):
            self._bring("empty image", (), ())
        links = tuple(map(result_of, self._links))
        for offer in self._offers:
            offer.result()
        return links

    def _bring(self, step: str, layers: tuple[Layer, ...], missing: tuple[Layer, ...]) -> None:
        """Find the link of `layers` or make it; `missing` are the layers to fetch if it must be.

        Without a layer it is the file system of an image that has no content at all.
        """
        diff_ids = _diff_ids(layers)
        draft = LinkRecord(
            link_id(self._top, diff_ids, self._parameters),
            self._top,
            diff_ids,
            self._parameters,
            producer=f"saltflat {__version__}",
        )
        found: LinkRecord | PendingLink | None = find_link(self._store, draft.link_id)
        if found is None:
            found = self._cache.fetch(draft, below=self._wait_for_commits)
        if found is None:
            self._fetch(missing)
            waiting = Note(f"{step}: another process converts it, waiting")
            found = begin_link(self._store, draft, on_wait=lambda: self._monitor(waiting))
        if isinstance(found, LinkRecord):
            summary = "changes nothing" if found.empty else "cached"
            self._monitor(StepStarted(step, _size_bytes(layers), CONVERT))
            self._monitor(StepFinished(step, summary, minor=True, phase=CONVERT))
            if not found.empty:
                self._filesystem = None
                self._allow(found.size_bytes)
                self._disk_bytes += found.size_bytes
                self._append(draft.link_id, self._committer.submit(lambda: found))
            return
        self.made.append(draft.link_id)
        try:
            self._make(step, layers, draft, found)
        except BaseException:
            found.discard()
            raise

    def _wait_for_commits(self) -> None:
        for link in self._links:
            link.result()

    def _commit_and_offer(
        self, pending: PendingLink, below: Future[LinkRecord] | None, grains: int, state: bytes
    ) -> LinkRecord:
        record = _commit(pending, below, grains, state)
        self._offer(record)
        return record

    def _offer(self, record: LinkRecord) -> None:
        self._offers.append(self._offerer.submit(self._cache.offer, record))

    def _allow(self, size_bytes: int) -> None:
        """Let the policy refuse a further disk that has so many bytes, or so many already."""
        self._policy.check_disks(self._image.reference, self._disk_bytes + size_bytes)

    def _append(self, identity: str, link: Future[LinkRecord]) -> None:
        self._top = identity
        self._links.append(link)

    def _fetch(self, missing: tuple[Layer, ...]) -> None:
        """Fetch the blobs of the upper layers `missing`, unless that goes on already."""
        if missing and not self._blobs:
            self._monitor(WorkPlanned(len(missing), _size_bytes(missing)))
        count = len(self._image.layers)
        for number, layer in enumerate(missing, self._count - len(missing) + 1):
            if layer not in self._blobs:
                step = f"layer {number}/{count}"
                self._blobs[layer] = self._fetcher.submit(self._fetch_one, layer, step)

    def _fetch_one(self, layer: Layer, step: str) -> Blob:
        local = self._source.local_blob(layer.descriptor)
        if local is not None:
            return Blob(local, verified=False)
        blobs, watch = self._store.blobs, self._watch_fetch
        path = fetch_blob(self._source, layer.descriptor, blobs, watch, step=step)
        return Blob(whole_file(path), verified=True)

    def _watch_fetch(self, event: ProgressEvent) -> None:
        """Pass on a fetch's progress, and end the fetch when nobody wants the blob any more."""
        if self._stopping.is_set():
            raise CancelledError
        if isinstance(event, StepFinished):
            event = replace(event, phase=PULL, minor=True)  # the layer's own end is yet to come
        elif isinstance(event, StepStarted | StepAdvanced):
            event = replace(event, phase=PULL)
        self._monitor(event)

    def _make(
        self, step: str, layers: tuple[Layer, ...], draft: LinkRecord, pending: PendingLink
    ) -> None:
        """Write the link; its hash and its commit go on in the background."""
        below = self._links[-1] if self._links else None
        filesystem = self._state(draft)
        link = LinkWriter(
            pending.file,
            capacity_bytes=self._parameters.capacity_bytes,
            grain_bytes=self._parameters.grain_bytes,
            cid=content_id(draft.link_id),
            long_content_id=long_content_id(draft.link_id),
            file_name=disk_path(self._store, draft.link_id).name,
            parent=ParentRef(content_id(draft.parent), f"{draft.parent}.vmdk")
            if draft.parent
            else None,
        )
        written = self._write(step, layers, filesystem, link)
        if not written:
            self._filesystem = filesystem if draft.parent else None
            if below is not None:
                below.result()  # nothing is recorded before what it stands on
            self._offer(pending.commit_empty())
            self._monitor(StepFinished(step, "changes nothing", phase=CONVERT))
            return
        summary = link.finish()
        self._allow(summary.size_bytes)
        self._disk_bytes += summary.size_bytes
        # Takes as long as the state does; what it raises is raised again by the commit.
        self._committer.submit(pending.hash_disk)
        state = dump_state(filesystem, parent=draft.parent)
        self._filesystem = filesystem
        commit = self._committer.submit(
            self._commit_and_offer, pending, below, summary.grains, state
        )
        self._append(draft.link_id, commit)
        size = f"{summary.size_bytes / 1e6:.1f} MB"
        self._monitor(StepFinished(step, size, phase=CONVERT))

    def _state(self, draft: LinkRecord) -> FileSystem:
        """Return the state that the new link starts from, for it alone to change."""
        filesystem, self._filesystem = self._filesystem, None
        if filesystem is not None:
            return filesystem
        if self._links:
            return load_states(read_states(self._store, self._links[-1].result()))
        geometry = Geometry(self._parameters.capacity_bytes, journal=self._parameters.journal)
        return FileSystem.create(geometry, identity_of(draft.link_id))

    def _write(
        self, step: str, layers: tuple[Layer, ...], filesystem: FileSystem, link: LinkWriter
    ) -> bool:
        """Stream `layers` from their blobs into `link`; tell whether anything was written."""
        reading = Unpacking(self._blobs, self._limits)
        entries = reading.entries(layers)
        written = False
        told = unseen = 0
        with closing(entries):
            try:
                reading.wait(layers)
                self._monitor(StepStarted(step, _size_bytes(layers), CONVERT))
                changes = apply_layers(filesystem.tree, entries, filesystem.allocator)
                head = next(changes, None)
                first = not self._links
                if head is None and first and layers:
                    return False
                for block, data in write_layer(
                    filesystem, chain(() if head is None else (head,), changes), first=first
                ):
                    link.write(block * c_ext4.BLOCK_SIZE, data)
                    written = True
                    unseen += len(data)  # a layer of little may unpack to much
                    if unseen >= _ADVANCE_BYTES:
                        unseen = 0
                        self._allow(link.size_bytes)
                    position = reading.position()
                    if position - told >= _ADVANCE_BYTES:
                        told = position
                        self._monitor(StepAdvanced(step, position, CONVERT))
            except SaltflatError as error:
                if reading.layer is not None:
                    error.add_context(f"{step} ({reading.layer.descriptor.digest})")
                raise
        return written


def _diff_ids(layers: tuple[Layer, ...]) -> tuple[str, ...]:
    return tuple(str(layer.diff_id) for layer in layers)


def _size_bytes(layers: tuple[Layer, ...]) -> int:
    return sum(layer.descriptor.size_bytes for layer in layers)


def _commit(
    pending: PendingLink, below: Future[LinkRecord] | None, grains: int, state: bytes
) -> LinkRecord:
    """Make a link good, but not before the one that it stands on, or without it."""
    try:
        if below is not None:
            below.result()
        return pending.commit(grains=grains, state=state)
    except BaseException:
        pending.discard()
        raise
