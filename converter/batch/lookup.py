"""From a batch's entries to images: tags listed, manifests read, policies asked. Fetches no layer.

What goes wrong with one image is that image's failure; the others are looked up all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event
from typing import TypeVar

from converter.batch.failure import Failure, failure_of
from converter.batch.sources import Sources
from converter.batch.tags import choose_tags
from converter.batch.wishes import Entry, TagWish, Treatment
from converter.errors import NotFoundError
from converter.image.model import Image
from converter.image.platform import Platform
from converter.image.reference import BundleReference, RegistryReference, parse_source
from converter.image.source import Origin
from converter.registry.listing import tags as list_tags
from converter.waiting import result_of

PARALLEL_LOOKUPS = 8
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class LookedUp:
    """An image of the batch, or why there is none: `image` and `failure` exclude each other."""

    line: int
    source: str
    platform: Platform
    treatment: Treatment
    image: Image | None = None
    failure: Failure | None = None

    @property
    def origin(self) -> Origin:
        """How the source is reached, for this platform."""
        return replace(self.treatment.origin, platform=self.platform)


def look_up(
    entries: Sequence[Entry], sources: Sources, told: Callable[[LookedUp], None]
) -> list[LookedUp]:
    """Return the images of `entries` in their order, each named once for each platform.

    `told` hears of each as it is looked up, from one thread at a time. An image that several
    entries mean with the same treatment comes once.
    """
    named: list[LookedUp] = []
    for group in _side_by_side(entries, lambda entry: _names(entry, sources), sources):
        named += group
    found: list[LookedUp] = []
    for one in _side_by_side(_once(named), lambda each: _resolve(each, sources), sources):
        told(one)
        found.append(one)
    return found


def _once(named: Iterable[LookedUp]) -> list[LookedUp]:
    seen: dict[tuple[object, ...], LookedUp] = {}
    for one in named:
        reference = str(parse_source(one.source)) if one.failure is None else one.source
        seen.setdefault((reference, one.platform, one.treatment), one)
    return list(seen.values())


def _side_by_side(
    items: Sequence[_Item], ask: Callable[[_Item], _Result], sources: Sources
) -> Iterable[_Result]:
    """Yield what `ask` says of each item, in their order; it is asked for several at a time.

    Whoever is interrupted does not wait for what `sources` are still being asked.
    """
    stopping = Event()

    def ask_on(item: _Item) -> _Result:
        if stopping.is_set():
            raise CancelledError
        return ask(item)

    with ThreadPoolExecutor(PARALLEL_LOOKUPS, thread_name_prefix="lookup") as threads:
        try:
            asked = deque(threads.submit(ask_on, item) for item in items)
            while asked:
                yield result_of(asked.popleft())
        except BaseException:
            stopping.set()
            sources.hang_up()
            raise


def _names(entry: Entry, sources: Sources) -> list[LookedUp]:
    """Return the images that an entry means, which nobody has asked for yet."""
    texts = [entry.source]
    failure = None
    if entry.tags is not None:
        try:
            texts = [f"{entry.source}:{tag}" for tag in _tags(entry, entry.tags, sources)]
        except CancelledError:
            raise
        except Exception as error:  # it is this entry's, and told as such
            failure = failure_of(error).at_line(entry.line)
    return [
        LookedUp(entry.line, text, platform, entry.treatment, failure=failure)
        for text in texts
        for platform in entry.treatment.platforms
    ]


def _tags(entry: Entry, wish: TagWish, sources: Sources) -> list[str]:
    reference = parse_source(entry.source)
    assert isinstance(reference, RegistryReference), "the file's reader has seen to that"
    entry.treatment.conversion.policy.check_reference(reference)
    client = sources.client(reference.api_host, entry.treatment.origin.access)
    found = choose_tags(wish, list_tags(client, reference.repository))
    if not found:
        raise NotFoundError(
            f"{reference.host}/{reference.repository} has no tag that fits "
            f"{', '.join(wish.patterns)}.",
            expected="one at least",
        )
    return found


def _resolve(one: LookedUp, sources: Sources) -> LookedUp:
    if one.failure is not None:
        return one
    try:
        reference = parse_source(one.source)
        assert not isinstance(reference, BundleReference), "the file's reader has seen to that"
        policy = one.treatment.conversion.policy
        policy.check_reference(reference)
        image = sources.open(one.source, one.treatment.origin).resolve(one.platform)
        policy.check_image(image)
    except CancelledError:
        raise
    except Exception as error:  # it is this image's, and told as such
        return replace(one, failure=failure_of(error).at_line(one.line))
    return replace(one, image=image)
