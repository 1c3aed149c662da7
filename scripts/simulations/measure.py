"""The model's costs on this machine: tasks of the product, one at a time, by a clock.

Each task is carried out as a worker does it (`converter.batch.work.perform`), against a registry of
its own on this machine, with nothing beside it. What several at once do to each other is for the
model to say; a batch that is measured as a whole says whether it is right.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from converter.artifact.cache import CacheMode
from converter.batch.events import Outcome
from converter.batch.orders import CacheOrder, ConvertOrder, FetchOrder, Order, RecordOrder
from converter.batch.work import Workplace, open_cache, perform
from converter.convert_options import ConvertOptions
from converter.events import ignore
from converter.image.fetch import PARALLEL_FETCHES
from converter.image.model import Image
from converter.image.source import Origin, SourceOptions
from converter.pipeline import Chain, find_converted
from converter.store.layout import Store
from converter.store.locks import using
from scripts.simulations.calibration import APART, REAL, Calibration, calibrations, content_of
from scripts.simulations.costs import Costs
from scripts.simulations.fit import Row, fit
from scripts.simulations.local import Content
from tests.images.cache import ROOT
from tests.images.prepared import SALTFLAT
from tests.images.workload import WorkImage, documents
from tests.integration.direct_push import DirectPush
from tests.integration.registry_server import RegistryServer, registry_server

REGISTRY = "docker-registry"
_ORIGIN = Origin(access=SourceOptions(plain_http=True))
_OPTIONS = ConvertOptions()
_TIMEOUT_SECONDS = 60
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


def measure(rounds: int, scale: int) -> Costs:
    """Carry out each task `rounds` times, in turns; return what the fastest of each say.

    Whatever else the machine does only adds to a task's time, and is none of its costs.

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
    blob_bytes: int = 0
    disk_bytes: int = 0  # of disks as they were sent
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
        self._apart = next(n for n, image in enumerate(images) if image.name == APART)
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
        stores = [self._store() for _ in range(rounds)]
        repeated, last = [self._chains(store) for store in stores], stores[-1]
        fetches = [_fastest(each) for each in zip(*(one[0] for one in repeated), strict=True)]
        conversions = [
            min(each, key=lambda one: one.timed.seconds)
            for each in zip(*(one[1] for one in repeated), strict=True)
        ]
        records = [_fastest(each) for each in zip(*(one[2] for one in repeated), strict=True)]
        task, link, blob, content, file, below = fit(
            [
                (
                    (
                        1,
                        each.links,
                        each.blob_bytes,
                        each.content.content_bytes,
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
        return Costs(
            worker_seconds=max(min(self._first() for _ in range(rounds)) - alone, 0.0),
            task_seconds=task,
            link_seconds=link,
            blob_byte_seconds=blob,
            content_byte_seconds=content,
            file_seconds=file,
            file_below_seconds=below,
            content_processors=_processors(
                [each.timed for each in conversions if each.content.content_bytes > _LITTLE_BYTES]
            ),
            other_processors=_processors(
                [each.timed for each in conversions if each.content.content_bytes <= _LITTLE_BYTES]
            ),
            fetch_seconds=fetch,
            fetch_byte_seconds=fetch_byte,
            fetch_processors=min(self._together() for _ in range(rounds)),
            record_seconds=median(timed.seconds for timed in records),
            disk_bytes=disk_byte,
            disk_file_bytes=disk_file,
            disk_link_bytes=disk_link,
            sent_bytes=exchanged.disk_bytes / exchanged.blob_bytes,
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
                    order = FetchOrder(store, source, _ORIGIN, layer.descriptor)
                    timed = self._timed(order, workplace)
                    if timed.outcome.fetched_bytes:
                        fetches.append(timed)
                step = len(image.layers) if number == len(self._images) - 1 else 1
                for skip in range(0, len(image.layers), step):
                    layers = image.layers[skip : skip + step]
                    convert = ConvertOrder(
                        store, source, _ORIGIN, image, skip + step, skip, _OPTIONS
                    )
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
                record = RecordOrder(store, source, _ORIGIN, image, _OPTIONS)
                records.append(self._timed(record, workplace))
        return fetches, conversions, records

    def _together(self) -> float:
        """Return how many processors a fetch wants, by how long several at once take.

        They are threads of one process, write to one disk and ask one registry: so it is more than
        they use. Were they not in each other's way, all would take as long as one.
        """
        seconds: list[float] = []
        for threads in (1, PARALLEL_FETCHES):
            store = self._store()
            with Workplace() as workplace, ThreadPoolExecutor(threads) as pool:
                image, source = self._resolve(self._apart, store, workplace)
                orders = [
                    FetchOrder(store, source, _ORIGIN, layer.descriptor) for layer in image.layers
                ]
                began = time.perf_counter()
                list(pool.map(lambda order: perform(order, ignore, workplace), orders))
                seconds.append(time.perf_counter() - began)
        one_by_one, together = seconds
        return len(os.sched_getaffinity(0)) * together / one_by_one

    def _first(self) -> float:
        """Return how long the first conversion of a batch takes that is of next to nothing.

        In a process of its own, for what this one has started it would find.
        """
        store = self._store()
        with Workplace() as workplace:
            image, source = self._resolve(0, store, workplace)
            fetch = FetchOrder(store, source, _ORIGIN, image.layers[0].descriptor)
            perform(fetch, ignore, workplace)
        done = subprocess.run(
            [*SALTFLAT, "--progress", "json", "batch", "--plain-http", "--store", store, "-"],
            input=json.dumps(source).encode(),
            capture_output=True,
            env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
            timeout=_TIMEOUT_SECONDS,
            check=True,
        )
        events = map(json.loads, done.stderr.splitlines())
        (seconds,) = (
            event["at_seconds"] - event["started_seconds"]
            for event in events
            if event["event"] == "task-finished" and event["kind"] == "convert"
        )
        return float(seconds)

    def _exchanged(self, store: Path, rounds: int) -> _Exchanged:
        """Send the links of a store to caches, bring them back, and return what that takes."""
        found = _Exchanged()
        with Workplace() as workplace:
            for number in range(1, len(self._images) - 1):
                image, _ = self._resolve(number, store, workplace)
                chain = find_converted(image, Store(store), _OPTIONS, monitor=ignore)
                assert chain is not None, "it was converted a moment ago"
                contents = self._contents[number]
                pushes, pulls, sent_bytes = [], [], 0
                for turn in range(rounds):
                    cache = CacheOrder(
                        f"{self._server.host}/{self._images[number].name}/cache{turn}",
                        CacheMode.BOTH.value,
                        verify=False,
                        origin=_ORIGIN,
                    )
                    before = held_bytes(self._server.storage)
                    with open_cache(cache, Store(store), workplace, ignore) as opened:
                        pushes.append([_seconds(partial(opened.offer, r)) for r in chain.links])
                    if not turn:  # later ones are the same blobs, of which one copy is kept
                        sent_bytes = held_bytes(self._server.storage) - before
                    pulls.append(self._pulled(cache, chain, workplace))
                for content, *seconds in zip(contents, *pushes, strict=True):
                    found.pushes.append(((1, content.content_bytes), min(seconds)))
                found.pulls.append(((len(chain.links), sent_bytes), min(pulls)))
                if self._images[number].name == REAL:
                    states = (Store(store).links / f"{link.link_id}.state" for link in chain.links)
                    found.state_bytes = sum(path.stat().st_size for path in states)
                    found.disk_bytes = sent_bytes - found.state_bytes
                    found.blob_bytes = sum(layer.descriptor.size_bytes for layer in image.layers)
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
            return _seconds(partial(opened.bring, links, chain.parameters))

    def _store(self) -> Path:
        self._stores += 1
        return self._folder / f"store-{self._stores}"

    def _resolve(self, number: int, store: Path, workplace: Workplace) -> tuple[Image, str]:
        source = f"{self._server.host}/{self._images[number].name}:1"
        opened = workplace.sources(Store(store)).open(source, _ORIGIN)
        return opened.resolve(_ORIGIN.platform), source

    def _timed(self, order: Order, workplace: Workplace) -> _Timed:
        with _processor_seconds(self._server.process) as used:
            began = time.perf_counter()
            outcome = perform(order, ignore, workplace)
            seconds = time.perf_counter() - began
        return _Timed(seconds, used(), outcome)


def _fastest(repeated: Iterable[_Timed]) -> _Timed:
    return min(repeated, key=lambda one: one.seconds)


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
