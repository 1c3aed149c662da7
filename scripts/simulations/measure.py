"""The model's costs on this machine: tasks of the product, one at a time, by a clock.

Each task is carried out as a worker does it (`converter.batch.work.perform`), against a registry of
its own on this machine, with nothing beside it. What several at once do to each other is for the
model to say; a batch that is measured as a whole says whether it is right.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from converter.artifact.cache import CacheMode
from converter.batch.events import Outcome
from converter.batch.orders import CacheOrder, ConvertOrder, FetchOrder, Order, RecordOrder
from converter.batch.work import Workplace, open_cache, perform
from converter.events import ignore
from converter.image.model import Image
from converter.pipeline import Chain, find_converted
from converter.store.layout import Store
from converter.store.locks import using
from scripts.simulations.calibration import (
    APART,
    FIRST,
    REAL,
    Calibration,
    calibrations,
    content_of,
)
from scripts.simulations.costs import Costs, spared_bytes
from scripts.simulations.fit import Row, fit
from scripts.simulations.local import Content
from scripts.simulations.together import (
    OPTIONS,
    ORIGIN,
    beginning,
    conversion_processors,
    fetch_processors,
    resolve,
)
from tests.images.workload import WorkImage, documents
from tests.integration.direct_push import DirectPush
from tests.integration.registry_server import RegistryServer, registry_server

_T = TypeVar("_T", "_Timed", "_Converted")
REGISTRY = "docker-registry"
_LITTLE_BYTES = 100_000  # of content: less takes no time beside what any link takes
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class _Timed:
    """A task that was carried out: what it took, in all and of processors, and what came of it."""

    seconds: float
    processor_seconds: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _Converted:
    """A conversion's columns and what it took."""

    links: int
    blob_bytes: int
    content: Content
    files_below: int
    timed: _Timed

    @property
    def seconds(self) -> float:
        return self.timed.seconds


def measure(rounds: int, scale: int) -> Costs:
    """Carry out each task `rounds` times, in turns; return what the median of each says.

    The fastest would say what a task takes when all goes well, which of a whole batch is never so.

    Raises FileNotFoundError where there is no docker-registry, and the errors of conversions.
    """
    program = shutil.which(REGISTRY)
    if program is None:
        raise FileNotFoundError(f"there is no {REGISTRY}: apt-get install {REGISTRY}")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        with registry_server(program, folder / "registry") as server:
            return _Bench(server, folder, calibrations(scale)).costs(rounds)


@dataclass(slots=True)
class _Exchanged:
    """What it took to send links and to bring them back, by the columns of a fit.

    The bytes are those of the one image with real content.
    """

    pushes: list[tuple[Row, float]] = field(default_factory=list)
    pulls: list[tuple[Row, float]] = field(default_factory=list)
    regained_bytes: int = 0  # that blobs had and their disks, as they were sent, had not
    spared_bytes: int = 0
    state_bytes: int = 0
    files: int = 0


class _Bench:
    """A registry with the images, and room for stores."""

    def __init__(
        self, server: RegistryServer, folder: Path, images: tuple[Calibration, ...]
    ) -> None:
        self._server = server
        self._folder = folder
        self._images = images
        self._contents = [[content_of(layer.blob) for layer in image.layers] for image in images]
        self._sources = {image.name: f"{server.host}/{image.name}:1" for image in images}
        self._stores = 0
        push = DirectPush(server.host)
        for image in images:
            names = tuple(f"{image.name}-{number}" for number in range(len(image.layers)))
            config, manifest = documents(WorkImage(image.name, "1", names), image.layers)
            for data in (*(layer.blob for layer in image.layers), config):
                push.blob(image.name, data)
            push.manifest(image.name, "1", manifest)
        push.close()

    def costs(self, rounds: int) -> Costs:
        self._chains(self._store())  # once for nothing: modules are loaded, files are in memory
        repeated = []
        for turn in range(rounds):
            last = self._store()
            repeated.append(self._chains(last))
            if turn < rounds - 1:
                shutil.rmtree(last)
        fetches = [_usual(each) for each in zip(*(one[0] for one in repeated), strict=True)]
        conversions = [_usual(each) for each in zip(*(one[1] for one in repeated), strict=True)]
        records = [_usual(each) for each in zip(*(one[2] for one in repeated), strict=True)]
        task, link, content, spared, file, below = fit(
            [
                (
                    (
                        1,
                        each.links,
                        each.content.content_bytes,
                        spared_bytes(each.blob_bytes, each.content.content_bytes),
                        each.content.files,
                        each.files_below,
                    ),
                    each.timed.seconds,
                )
                for each in conversions
            ]
        )
        fetch, fetch_byte = fit(
            [((1, timed.outcome.fetched_bytes), timed.seconds) for timed in fetches]
        )
        disk_link, disk_byte, disk_file = fit(
            [
                (
                    (each.links, each.content.block_bytes, each.content.files),
                    each.timed.outcome.written_bytes,
                )
                for each in conversions
            ]
        )
        exchanged = self._exchanged(last, rounds)
        push, push_byte = fit(exchanged.pushes)
        pull, pull_byte = fit(exchanged.pulls)
        alone = task + link + file * self._contents[0][0].files
        sources = self._sources
        firsts = [beginning(sources[FIRST], self._store()) for _ in range(rounds)]
        return Costs(
            begin_seconds=median(each.begin_seconds for each in firsts),
            worker_seconds=max(median(each.first_seconds for each in firsts) - alone, 0.0),
            task_seconds=task,
            link_seconds=link,
            spared_byte_seconds=spared,
            content_byte_seconds=content,
            file_seconds=file,
            file_below_seconds=below,
            content_processors=conversion_processors(list(sources.values()), self._store, rounds),
            other_processors=_processors(
                [each.timed for each in conversions if each.content.content_bytes <= _LITTLE_BYTES]
            ),
            fetch_seconds=fetch,
            fetch_byte_seconds=fetch_byte,
            fetch_processors=fetch_processors(
                sources[APART], [self._store() for _ in range(2 * rounds)], rounds
            ),
            record_seconds=median(timed.seconds for timed in records),
            disk_bytes=disk_byte,
            disk_file_bytes=disk_file,
            disk_link_bytes=disk_link,
            regained_bytes=exchanged.regained_bytes / exchanged.spared_bytes,
            state_bytes=exchanged.state_bytes / exchanged.files,
            push_seconds=push,
            push_byte_seconds=push_byte,
            pull_seconds=pull,
            pull_byte_seconds=pull_byte,
        )

    def _chains(self, store: Path) -> tuple[list[_Timed], list[_Converted], list[_Timed]]:
        """Convert every image link by link, and the last one at once; return what each took."""
        fetches, conversions, records = [], [], []
        with Workplace() as workplace:
            for number in range(len(self._images)):
                image, source = self._resolve(number, store, workplace)
                contents = self._contents[number]
                for layer in image.layers:
                    order = FetchOrder(store, source, ORIGIN, layer.descriptor)
                    timed = self._timed(order, workplace)
                    if timed.outcome.fetched_bytes:
                        fetches.append(timed)
                step = len(image.layers) if number == len(self._images) - 1 else 1
                for skip in range(0, len(image.layers), step):
                    layers = image.layers[skip : skip + step]
                    convert = ConvertOrder(store, source, ORIGIN, image, skip + step, skip, OPTIONS)
                    timed = self._timed(convert, workplace)
                    if not timed.outcome.is_changed:
                        continue  # a link of an image before
                    own = contents[skip : skip + step]
                    conversions.append(
                        _Converted(
                            step,
                            sum(layer.descriptor.size_bytes for layer in layers),
                            Content(
                                sum(each.content_bytes for each in own),
                                sum(each.files for each in own),
                                sum(each.block_bytes for each in own),
                            ),
                            sum(each.files for each in contents[:skip]),
                            timed,
                        )
                    )
                record = RecordOrder(store, source, ORIGIN, image, OPTIONS)
                records.append(self._timed(record, workplace))
        return fetches, conversions, records

    def _exchanged(self, store: Path, rounds: int) -> _Exchanged:
        """Send the links of a store to caches, bring them back, and return what that takes."""
        found = _Exchanged()
        with Workplace() as workplace:
            for number in range(1, len(self._images) - 1):
                image, _ = self._resolve(number, store, workplace)
                chain = find_converted(image, Store(store), OPTIONS, monitor=ignore)
                assert chain is not None, "it was converted a moment ago"
                contents = self._contents[number]
                pushes, pulls, sent_bytes = [], [], 0
                for turn in range(rounds):
                    cache = CacheOrder(
                        f"{self._server.host}/{self._images[number].name}/cache{turn}",
                        CacheMode.BOTH.value,
                        verify=False,
                        origin=ORIGIN,
                    )
                    before = held_bytes(self._server.storage)
                    with open_cache(cache, Store(store), workplace, ignore) as opened:
                        pushes.append([_seconds(partial(opened.offer, r)) for r in chain.links])
                    if not turn:  # later ones are the same blobs, of which one copy is kept
                        sent_bytes = held_bytes(self._server.storage) - before
                    pulls.append(self._pulled(cache, chain, workplace))
                for content, *seconds in zip(contents, *pushes, strict=True):
                    found.pushes.append(((1, content.content_bytes), median(seconds)))
                found.pulls.append(((len(chain.links), sent_bytes), median(pulls)))
                if self._images[number].name == REAL:
                    states = (Store(store).links / f"{link.link_id}.state" for link in chain.links)
                    found.state_bytes = sum(path.stat().st_size for path in states)
                    blobs = [layer.descriptor.size_bytes for layer in image.layers]
                    found.regained_bytes = sum(blobs) - (sent_bytes - found.state_bytes)
                    found.spared_bytes = sum(
                        spared_bytes(size, content.content_bytes)
                        for size, content in zip(blobs, contents, strict=True)
                    )
                    found.files = sum(content.files for content in contents)
        return found

    def _pulled(self, cache: CacheOrder, chain: Chain, workplace: Workplace) -> float:
        """Bring a chain into an empty store, and return how long that takes."""
        store = Store(self._store())
        with (
            using(store, monitor=ignore),
            open_cache(cache, store, workplace, ignore) as opened,
        ):
            links = [link.diff_ids for link in chain.links]
            seconds = _seconds(partial(opened.bring, links, chain.parameters))
        shutil.rmtree(store.root)
        return seconds

    def _store(self) -> Path:
        self._stores += 1
        return self._folder / f"store-{self._stores}"

    def _resolve(self, number: int, store: Path, workplace: Workplace) -> tuple[Image, str]:
        source = self._sources[self._images[number].name]
        return resolve(source, store, workplace), source

    def _timed(self, order: Order, workplace: Workplace) -> _Timed:
        with _processor_seconds(self._server.process) as used:
            began = time.perf_counter()
            outcome = perform(order, ignore, workplace)
            seconds = time.perf_counter() - began
        return _Timed(seconds, used(), outcome)


def _usual(repeated: Iterable[_T]) -> _T:
    """Return the median, or the longer one of the two in the middle."""
    ordered = sorted(repeated, key=lambda one: one.seconds)
    return ordered[len(ordered) // 2]


def _processors(timed: list[_Timed]) -> float:
    return sum(each.processor_seconds for each in timed) / sum(each.seconds for each in timed)


@contextmanager
def _processor_seconds(other: int) -> Iterator[Callable[[], float]]:
    """Yield what returns the processor time of this process and of `other` in the block."""
    before = time.process_time() + _used(other)
    found = [0.0]
    yield lambda: found[0]
    found[0] = time.process_time() + _used(other) - before


def _used(process: int) -> float:
    # proc_pid_stat(5): utime and stime are the 14th and 15th field; a name may have blanks in it.
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def held_bytes(storage: Path) -> int:
    """Return what a registry keeps: blobs and manifests, each once."""
    return sum(path.stat().st_size for path in storage.rglob("data"))
