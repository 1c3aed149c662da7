"""What a worker does: an order carried out, wherever that is. Prints nothing and knows no plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

from converter.batch.events import LinkMade, Outcome
from converter.batch.orders import (
    CacheOrder,
    ConvertOrder,
    FetchOrder,
    Order,
    OutputOrder,
    RecordOrder,
)
from converter.batch.outputs import make_output
from converter.batch.sources import Sources, StoreFirst
from converter.errors import SaltflatError
from converter.events import Monitor, Note
from converter.groups import group_layers
from converter.image.fetch import blob_path, fetch_blob
from converter.image.model import Layer
from converter.image.partial import is_whole
from converter.linkcache import NO_CACHE, LinkCache
from converter.pipeline import Chain, bring_links, convert, find_converted
from converter.store.layout import Store
from converter.store.links import ChainParameters, LinkRecord, find_link, link_id
from converter.store.locks import using
from converter.store.room import room_in

if TYPE_CHECKING:
    from converter.registry.artifacts import ArtifactRepository


class Workplace:
    """What a worker keeps from one order to the next: clients, and archives that it has open.

    For any number of threads; a context manager.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._sources: dict[Path, Sources] = {}
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def sources(self, store: Store) -> Sources:
        """Return the sources whose copies lie in `store`."""
        with self._lock:
            if store.root not in self._sources:
                self._sources[store.root] = self._stack.enter_context(Sources(store))
            return self._sources[store.root]

    def hang_up(self) -> None:
        """Cancel what threads are asking of registries; see `Sources.hang_up`."""
        for sources in list(self._sources.values()):
            sources.hang_up()


def perform(order: Order, monitor: Monitor, workplace: Workplace | None = None) -> Outcome:
    """Carry out `order`; `monitor` hears how it goes, from any thread, and may raise to end it.

    Raises the errors of converter.errors, and OSError. What is done stays done: the same order may
    come again, here or elsewhere, after any end.
    """
    if workplace is None:
        with Workplace() as alone:
            return perform(order, monitor, alone)
    store = Store(order.store)
    with using(store, monitor=monitor):
        if isinstance(order, FetchOrder):
            with room_in(store):
                return _fetch(order, store, workplace, monitor)
        if isinstance(order, ConvertOrder):
            return _convert(order, store, workplace, monitor)
        if isinstance(order, RecordOrder):
            return _record(order, store, workplace, monitor)
        chain = _chain(order, store, workplace, monitor)
        return make_output(order, chain, store, workplace.sources(store), monitor)


def _fetch(order: FetchOrder, store: Store, workplace: Workplace, monitor: Monitor) -> Outcome:
    blob = order.blob
    if is_whole(blob_path(store.blobs, blob.digest), blob.size_bytes):
        return Outcome("already here", is_changed=False)
    places = ((order.source, order.origin), *order.others)
    for number, (text, origin) in enumerate(places, 1):
        try:
            source = workplace.sources(store).open(text, origin)
            fetch_blob(source, blob, store.blobs, monitor)
            break
        except SaltflatError as error:
            if number == len(places):
                raise
            monitor(Note(f"{error.what} Asking for it elsewhere.", warning=True))
    return Outcome(f"{blob.size_bytes / 1e6:.1f} MB", fetched_bytes=blob.size_bytes)


def _convert(order: ConvertOrder, store: Store, workplace: Workplace, monitor: Monitor) -> Outcome:
    layers = order.image.layers[: order.layers]
    parameters = order.options.parameters
    groups = group_layers(layers, order.options.max_links)
    here = {record.link_id for record in _links(store, groups, parameters)}
    absent = [layer.descriptor for layer in layers[order.skip :] if not _is_here(store, layer)]
    with open_cache(order.cache, store, workplace, monitor) as cache:
        brought = bring_links(
            order.image,
            StoreFirst(workplace.sources(store), order.source, order.origin),
            store,
            order.options,
            layers=order.layers,
            monitor=monitor,
            cache=cache,
        )
    links: list[LinkMade] = []
    for begin, record in zip(_begins(groups), _links(store, groups, parameters), strict=False):
        is_made = record.link_id in brought.made
        # What is neither ours nor was here came from the cache, or others have just made it.
        is_cached = order.cache is not None and not is_made and record.link_id not in here
        if begin >= order.skip:
            links.append(
                LinkMade(
                    record.link_id,
                    record.size_bytes,
                    record.sha256,
                    is_new=is_made or is_cached,
                    from_cache=is_cached,
                    empty=record.empty,
                )
            )
    fetched = [
        blob for blob in absent if is_whole(blob_path(store.blobs, blob.digest), blob.size_bytes)
    ]
    written_bytes = sum(link.size_bytes for link in links if link.is_new)
    return Outcome(
        f"{written_bytes / 1e6:.1f} MB",
        fetched_bytes=sum(blob.size_bytes for blob in fetched),
        written_bytes=written_bytes,
        links=tuple(links),
        is_changed=any(link.is_new for link in links),
    )


def _record(order: RecordOrder, store: Store, workplace: Workplace, monitor: Monitor) -> Outcome:
    if find_converted(order.image, store, order.options, monitor=monitor) is not None:
        return Outcome("converted before", is_changed=False)
    return Outcome(f"{len(_chain(order, store, workplace, monitor).links)} links")


def _chain(
    order: RecordOrder | OutputOrder, store: Store, workplace: Workplace, monitor: Monitor
) -> Chain:
    """Return the image's chain, which is in the store unless somebody has taken it away."""
    found = find_converted(order.image, store, order.options, monitor=monitor)
    if found is not None:
        return found
    source = StoreFirst(workplace.sources(store), order.source, order.origin)
    with open_cache(order.cache, store, workplace, monitor) as cache:
        return convert(order.image, source, store, order.options, monitor=monitor, cache=cache)


def _links(
    store: Store, groups: list[tuple[Layer, ...]], parameters: ChainParameters
) -> Iterator[LinkRecord]:
    """Yield the links of a chain, empty ones too, up to the first that the store lacks."""
    top = ""
    for group in groups:
        diff_ids = tuple(str(layer.diff_id) for layer in group)
        record = find_link(store, link_id(top, diff_ids, parameters))
        if record is None:
            return
        yield record
        top = top if record.empty else record.link_id


def _begins(groups: list[tuple[Layer, ...]]) -> Iterator[int]:
    """Yield how many layers lie below each group."""
    return accumulate((len(group) for group in groups), initial=0)


def _is_here(store: Store, layer: Layer) -> bool:
    blob = layer.descriptor
    return is_whole(blob_path(store.blobs, blob.digest), blob.size_bytes)


@contextmanager
def open_cache(
    order: CacheOrder | None, store: Store, workplace: Workplace, monitor: Monitor
) -> Iterator[LinkCache]:
    """Yield the cache that an order names; nothing is contacted before it is used."""
    if order is None:
        yield NO_CACHE
        return
    # Half of what this loads is for pushing; who has no cache need not wait for it.
    from converter.artifact.cache import (  # noqa: PLC0415 - see above
        CacheMode,
        CachePolicy,
        RepositoryCache,
    )

    repository = cache_repository(order, store, workplace)
    policy = CachePolicy(CacheMode(order.mode), order.verify)
    yield RepositoryCache(repository, store, policy, monitor=monitor)


def cache_repository(order: CacheOrder, store: Store, workplace: Workplace) -> ArtifactRepository:
    """Return the repository of a cache; it is good for as long as `workplace` is open."""
    from converter.artifact.target import parse_target  # noqa: PLC0415 - as in open_cache
    from converter.registry.artifacts import ArtifactRepository  # noqa: PLC0415 - likewise

    place = parse_target(order.repository).reference
    client = workplace.sources(store).client(place.api_host, order.origin.access)
    return ArtifactRepository(client, place.repository, host=place.host)
