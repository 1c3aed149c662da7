"""A batch as a whole: images looked up, a plan, the orders of its tasks, and its run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from converter.batch.claims import check_claims
from converter.batch.events import BatchFinished, BatchPlanned, TaskEvent, Watch
from converter.batch.executor import Executor
from converter.batch.failure import Failure, failure_of
from converter.batch.lookup import LookedUp
from converter.batch.orders import (
    CacheOrder,
    ConvertOrder,
    FetchOrder,
    Order,
    OutputOrder,
    RecordOrder,
)
from converter.batch.outputs import check_boot
from converter.batch.places import fill
from converter.batch.plan import PlannedOutput, Task, TaskKind, Whereabouts
from converter.batch.planning import (
    NOT_FOUND,
    FindLink,
    FoundLink,
    WantedImage,
    WantedLayer,
    make_plan,
)
from converter.batch.tally import Tally
from converter.batch.treatments import check_place
from converter.batch.wishes import OutputWish
from converter.convert_options import ConvertOptions
from converter.errors import SaltflatError, UsageError
from converter.groups import group_layers
from converter.image.fetch import blob_path
from converter.image.model import Descriptor, Image, Layer
from converter.image.partial import is_whole
from converter.image.platform import Platform
from converter.image.reference import LayoutReference, RegistryReference, parse_source
from converter.image.source import Origin
from converter.layer.limits import Limits
from converter.policy import ANYTHING
from converter.store.layout import Store
from converter.store.links import find_link

_MOST_ELSEWHERE = 3  # registries to ask for a blob that the first does not give


class Batch:
    """What was looked up, planned: `order_of` says of each task of `plan` what a worker is told."""

    def __init__(
        self,
        images: Sequence[LookedUp],
        store: Store,
        *,
        cache: CacheOrder | None = None,
        is_cached: Callable[[Sequence[str]], Mapping[str, FoundLink]] | None = None,
        shares_store: bool = True,
    ) -> None:
        """Plan the conversion of `images` into `store`; to be called while the store is in use.

        `is_cached` says of links, by their identities, which of them `cache` has. What the store
        has counts only if it is where workers look: if it is shared. Raises UsageError
        when two outputs would lie in one place.
        """
        self._store = store
        self._shares_store = shares_store
        self._cache = cache
        self._boots: dict[tuple[OutputWish, Platform], Failure | None] = {}
        self._images = [self._filled(one) for one in images]
        check_claims(self._images)
        wanted = [self._wanted(one) for one in self._images]
        self.plan = make_plan(wanted, self._find)
        if is_cached is not None:
            missing = [
                key for key, link in self.plan.links.items() if link.where is Whereabouts.MISSING
            ]
            cached = is_cached(missing)
            if not shares_store:  # the cache is what workers have for a store
                cached = {
                    key: replace(link, where=Whereabouts.STORE) for key, link in cached.items()
                }
            self.plan = make_plan(wanted, _with(cached, self._find))

    def order_of(self, task: Task) -> Order:
        """Return what the worker that does `task` is told."""
        one = self._images[task.images[0]]
        image, options = one.image, one.treatment.conversion
        assert image is not None, "an image that failed has no tasks"
        if task.kind is TaskKind.FETCH:
            blob = _descriptor(image, task.blob)
            others = self._elsewhere(one, task.images)
            return FetchOrder(self._store.root, one.source, one.origin, blob, others)
        place = (self._store.root, one.source, one.origin, image)
        if task.kind is TaskKind.CONVERT:
            skip, count = self._span(task)
            users = [self._images[number] for number in task.images]
            shared = _shared([user.treatment.conversion for user in users])
            at_hand = _in_folder(users, image.layers[skip:count]) or one
            place = (self._store.root, at_hand.source, at_hand.origin, image)
            return ConvertOrder(*place, count, skip, shared, self._cache)
        if task.kind is TaskKind.RECORD:
            return RecordOrder(*place, options, self._cache)
        return OutputOrder(*place, options, one.treatment.outputs[task.output], self._cache)

    def _elsewhere(self, one: LookedUp, numbers: Sequence[int]) -> tuple[tuple[str, Origin], ...]:
        """Return images of `numbers` that are in other registries than `one`, one of each."""
        found: dict[str, tuple[str, Origin]] = {}
        for other in (self._images[number] for number in numbers):
            host = _host(other)
            if host not in ("", _host(one)) and len(found) < _MOST_ELSEWHERE:
                found.setdefault(host, (other.source, other.origin))
        return tuple(found.values())

    def _span(self, task: Task) -> tuple[int, int]:
        """Return how many layers of the task's image lie below its links, and up to their end."""
        keys = self.plan.images[task.images[0]].links
        below = keys[: keys.index(task.links[0])]
        own = [key for key in keys if key in task.links]
        skip = sum(len(self.plan.links[key].diff_ids) for key in below)
        return skip, skip + sum(len(self.plan.links[key].diff_ids) for key in own)

    def _wanted(self, one: LookedUp) -> WantedImage:
        options = one.treatment.conversion
        image = one.image
        layers = image.layers if image is not None else ()
        in_folder = isinstance(parse_source(one.source), LayoutReference)
        failure = one.failure
        try:
            group_layers(layers, options.max_links)
        except UsageError as error:
            failure = failure_of(error)
        return WantedImage(
            one.source if image is None else image.reference,
            "" if image is None else str(image.digest),
            str(one.platform if image is None else image.platform),
            tuple(self._layer(layer, in_folder=in_folder) for layer in layers),
            options.parameters,
            options.max_links,
            tuple(PlannedOutput(wish.kind, wish.place) for wish in one.treatment.outputs),
            one.line,
            failure,
        )

    def _layer(self, layer: Layer, *, in_folder: bool) -> WantedLayer:
        blob = layer.descriptor
        return WantedLayer(
            str(blob.digest),
            blob.size_bytes,
            str(layer.diff_id),
            # A folder's layers are read where they lie, and foreign ones are not in it.
            is_here=(in_folder and not blob.urls)
            or (
                self._shares_store
                and is_whole(blob_path(self._store.blobs, blob.digest), blob.size_bytes)
            ),
        )

    def _filled(self, one: LookedUp) -> LookedUp:
        """Return the image with its outputs' templates filled, or why one of them cannot be."""
        if one.image is None:
            return one
        image = one.image
        outputs: tuple[OutputWish, ...] = tuple(
            replace(wish, place=fill(wish.place, one.source, image))
            for wish in one.treatment.outputs
        )
        for wish in outputs:
            failure = self._fault_of(wish, image.platform)
            if failure is not None:
                return replace(one, image=None, failure=failure.at_line(one.line))
        return replace(one, treatment=replace(one.treatment, outputs=outputs))

    def _fault_of(self, wish: OutputWish, platform: Platform) -> Failure | None:
        """Return why an output cannot be made, whatever becomes of its image."""
        try:
            check_place(wish)
        except UsageError as error:
            return failure_of(error)
        if not self._shares_store:
            return None  # whoever makes it has boot images of its own
        anywhere = (replace(wish, place=""), platform)
        if anywhere not in self._boots:
            self._boots[anywhere] = None
            try:
                check_boot(wish, platform, self._store)
            except SaltflatError as error:
                self._boots[anywhere] = failure_of(error)
        return self._boots[anywhere]

    def _find(self, identity: str) -> FoundLink:
        if not self._shares_store:
            return NOT_FOUND
        with suppress(SaltflatError):  # a damaged one: whoever converts says what to do about it
            record = find_link(self._store, identity)
            if record is not None:
                return FoundLink(Whereabouts.STORE, record.empty)
        return NOT_FOUND


def run_batch(
    batch: Batch,
    executor: Executor,
    watch: Watch,
    *,
    keep_going: bool,
) -> BatchFinished:
    """Do what `batch` plans; `watch` hears of everything, from one thread at a time.

    To be called while the store is in use. KeyboardInterrupt goes on to the caller, after the last
    events; nothing of the batch runs any more then.
    """
    plan = batch.plan
    tally = Tally(plan)
    began = time.monotonic()

    def hear(event: TaskEvent) -> None:
        watch(event)
        for end in tally.take(event):
            watch(end)

    watch(BatchPlanned(plan, executor.workers))
    for end in tally.begin():
        watch(end)
    try:
        if keep_going or not tally.ended:
            executor.run(plan, batch.order_of, hear, keep_going=keep_going)
    except BaseException as error:
        for last in tally.finish(time.monotonic() - began, stopped_by=error):
            watch(last)
        raise
    *skipped, finished = tally.finish(time.monotonic() - began)
    for last in (*skipped, finished):
        watch(last)
    assert isinstance(finished, BatchFinished), "it is the last one's type"
    return finished


def _host(one: LookedUp) -> str:
    """Return the registry that an image is in, "" if it is in none."""
    reference = parse_source(one.source)
    return reference.host if isinstance(reference, RegistryReference) else ""


def _in_folder(users: Sequence[LookedUp], layers: Sequence[Layer]) -> LookedUp | None:
    """Return one of the images that lies in a folder with just these layers, if there is one.

    Its blobs were planned to be read where they are.
    """
    wanted = {layer.descriptor.digest for layer in layers}
    for user in users:
        found = user.image.layers if user.image is not None else ()
        is_folder = isinstance(parse_source(user.source), LayoutReference)
        if is_folder and wanted <= {layer.descriptor.digest for layer in found}:
            return user
    return None


def _descriptor(image: Image, digest: str) -> Descriptor:
    return next(
        layer.descriptor for layer in image.layers if str(layer.descriptor.digest) == digest
    )


def _shared(options: Sequence[ConvertOptions]) -> ConvertOptions:
    """Return how links are converted that images with these options share.

    What refuses one image must not refuse the others. So the laxest limits hold for the links, and
    a policy only if all have it; each image's own is asked again when it is recorded.
    """
    limits = [each.limits for each in options]
    policies = {each.policy for each in options}
    return replace(
        options[0],
        limits=Limits(
            max(each.max_entries for each in limits),
            max(each.max_layer_bytes for each in limits),
            max(each.max_ratio for each in limits),
        ),
        policy=options[0].policy if len(policies) == 1 else ANYTHING,
    )


def _with(cached: Mapping[str, FoundLink], find: FindLink) -> FindLink:
    def look(identity: str) -> FoundLink:
        found = find(identity)
        return cached.get(identity, found) if found.where is Whereabouts.MISSING else found

    return look
