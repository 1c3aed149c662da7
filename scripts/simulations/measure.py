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
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from converter.batch.events import Outcome, TaskFinished
from converter.batch.local import LocalExecutor
from converter.batch.orders import CacheOrder, ConvertOrder, FetchOrder, Order, RecordOrder
from converter.batch.plan import Task, TaskKind
from converter.batch.planning import WantedImage, WantedLayer, make_plan
from converter.batch.work import Workplace, perform
from converter.convert_options import ConvertOptions
from converter.events import ignore
from converter.image.model import Image
from converter.image.source import Origin, SourceOptions
from converter.store.layout import Store
from scripts.simulations.calibration import Calibration, calibrations, content_of
from scripts.simulations.costs import Costs
from scripts.simulations.fit import fit
from scripts.simulations.local import Content
from tests.images.workload import WorkImage, documents
from tests.integration.direct_push import DirectPush
from tests.integration.registry_server import RegistryServer, registry_server

REGISTRY = "docker-registry"
_ORIGIN = Origin(access=SourceOptions(plain_http=True))
_OPTIONS = ConvertOptions()
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


class _Bench:
    """A registry with the images, and room for stores."""

    def __init__(
        self, server: RegistryServer, folder: Path, images: tuple[Calibration, ...]
    ) -> None:
        self._server = server
        self._folder = folder
        self._images = images
        self._contents = [[content_of(layer.blob) for layer in image.layers] for image in images]
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
        repeated = [self._chains(self._store()) for _ in range(rounds)]
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
        sent, state = self._sent()
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
            fetch_processors=_processors(fetches),
            record_seconds=median(timed.seconds for timed in records),
            disk_bytes=disk_byte,
            disk_file_bytes=disk_file,
            disk_link_bytes=disk_link,
            sent_bytes=sent,
            state_bytes=state,
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

    def _first(self) -> float:
        """Return how long the first conversion of a batch takes that is of next to nothing."""
        store = self._store()
        with Workplace() as workplace:
            image, source = self._resolve(0, store, workplace)
            fetch = FetchOrder(store, source, _ORIGIN, image.layers[0].descriptor)
            perform(fetch, ignore, workplace)
            layers = tuple(
                WantedLayer(
                    str(layer.descriptor.digest),
                    layer.descriptor.size_bytes,
                    str(layer.diff_id),
                    is_here=True,
                )
                for layer in image.layers
            )
            wanted = WantedImage(
                image.reference, str(image.digest), "linux/amd64", layers, _OPTIONS.parameters
            )
            plan = make_plan([wanted])
            ends: dict[TaskKind, TaskFinished] = {}

            def order_of(task: Task) -> Order:
                if task.kind is TaskKind.CONVERT:
                    return ConvertOrder(store, source, _ORIGIN, image, len(layers), 0, _OPTIONS)
                return RecordOrder(store, source, _ORIGIN, image, _OPTIONS)

            LocalExecutor(1, fetches=1, workplace=workplace).run(
                plan,
                order_of,
                lambda event: (
                    ends.update({event.task.kind: event})
                    if isinstance(event, TaskFinished)
                    else None
                ),
                keep_going=False,
            )
        end = ends[TaskKind.CONVERT]
        return end.at_seconds - end.started_seconds

    def _sent(self) -> tuple[float, float]:
        """Return bytes that go to a cache for each byte of a blob, and of states for each file."""
        sent = states = blobs = files = 0
        for number in range(1, len(self._images) - 1):
            store = self._store()
            with Workplace() as workplace:
                image, source = self._resolve(number, store, workplace)
                cache = CacheOrder(
                    f"{self._server.host}/cache{number}", "write", verify=False, origin=_ORIGIN
                )
                before = _held_bytes(self._server.storage)
                order = ConvertOrder(
                    store, source, _ORIGIN, image, len(image.layers), 0, _OPTIONS, cache
                )
                perform(order, ignore, workplace)
            state = sum(path.stat().st_size for path in Store(store).links.glob("*.state"))
            sent += _held_bytes(self._server.storage) - before - state
            states += state
            blobs += sum(layer.descriptor.size_bytes for layer in image.layers)
            files += sum(content.files for content in self._contents[number])
        return sent / blobs, states / files

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


def _held_bytes(storage: Path) -> int:
    return sum(path.stat().st_size for path in storage.rglob("data"))
