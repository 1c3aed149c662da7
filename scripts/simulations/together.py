"""What tasks of a batch do to each other, and what a batch takes to begin. Owns the clock for that.

How many processors a task wants is found by letting so many of them go at once that they get in
each other's way: more than its own processor time says, for they share caches, memory, one disk and
one registry.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from converter.batch.orders import ConvertOrder, FetchOrder
from converter.batch.work import Workplace, perform
from converter.convert_options import ConvertOptions
from converter.events import ignore
from converter.image.fetch import PARALLEL_FETCHES
from converter.image.model import Image
from converter.image.source import Origin, SourceOptions
from converter.store.layout import Store
from tests.images.cache import ROOT
from tests.images.prepared import SALTFLAT

ORIGIN = Origin(access=SourceOptions(plain_http=True))
OPTIONS = ConvertOptions()
_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Beginning:
    """A batch of one conversion: when that begins, and what it takes; seconds."""

    begin_seconds: float
    first_seconds: float


def resolve(source: str, store: Path, workplace: Workplace) -> Image:
    """Return the image that `source` names."""
    return workplace.sources(Store(store)).open(source, ORIGIN).resolve(ORIGIN.platform)


def fetch_all(source: str, store: Path, workplace: Workplace, *, threads: int = 1) -> float:
    """Have an image's blobs in a store, so many at once; return how many seconds that takes."""
    image = resolve(source, store, workplace)
    orders = [FetchOrder(store, source, ORIGIN, layer.descriptor) for layer in image.layers]
    with ThreadPoolExecutor(threads) as pool:
        return _seconds(
            lambda: list(pool.map(lambda order: perform(order, ignore, workplace), orders))
        )


def fetch_processors(source: str, stores: Sequence[Path], rounds: int) -> float:
    """Return how many processors a fetch of one of the blobs of `source` wants.

    Takes two empty stores for each round. The blobs are alike, and as many as are fetched at once:
    threads of one process, which ask one registry.
    """
    alone: list[float] = []
    together: list[float] = []
    for turn in range(rounds):
        for store, threads, found in (
            (stores[2 * turn], 1, alone),
            (stores[2 * turn + 1], PARALLEL_FETCHES, together),
        ):
            with Workplace() as workplace:
                found.append(fetch_all(source, store, workplace, threads=threads))
            shutil.rmtree(store)
    return _processors() * median(together) / median(alone)


def conversion_processors(
    sources: Sequence[str], store_of: Callable[[], Path], rounds: int
) -> float:
    """Return how many processors a conversion wants: of images in stores from `store_of`.

    As many processes as there are processors do the same side by side, each in a store of its own.
    """
    count = _processors()
    alone, together = [], []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:

        def convert(processes: int) -> float:
            stores = [store_of() for _ in range(processes)]
            work = [list(sources)] * processes
            list(pool.map(_prepare, work, stores, timeout=_TIMEOUT_SECONDS))
            seconds = sum(pool.map(_convert_all, work, stores, timeout=_TIMEOUT_SECONDS))
            for store in stores:
                shutil.rmtree(store)
            return seconds / processes

        convert(count)  # once for nothing: all processes are started, and have their modules
        for _ in range(rounds):
            alone.append(convert(1))
            together.append(convert(count))
    return median(together) / median(alone)


def _prepare(sources: Sequence[str], store: Path) -> None:
    with Workplace() as workplace:
        for source in sources:
            fetch_all(source, store, workplace)


def _convert_all(sources: Sequence[str], store: Path) -> float:
    """Convert images link by link; return how many seconds that takes."""
    with Workplace() as workplace:
        orders = [
            ConvertOrder(store, source, ORIGIN, image, skip + 1, skip, OPTIONS)
            for source in sources
            for image in (resolve(source, store, workplace),)
            for skip in range(len(image.layers))
        ]
        return _seconds(lambda: [perform(order, ignore, workplace) for order in orders])


def beginning(source: str, store: Path) -> Beginning:
    """Run a batch of one link of next to nothing, whose blob is here already.

    In a process of its own, as batches are: what this one has loaded and started it would find.
    """
    with Workplace() as workplace:
        fetch_all(source, store, workplace)
    done = subprocess.run(
        [*SALTFLAT, "--progress", "json", "batch", "--plain-http", "--store", store, "-"],
        input=json.dumps(source).encode(),
        capture_output=True,
        env=batch_environment(store.with_name("bytecode")),
        timeout=_TIMEOUT_SECONDS,
        check=True,
    )
    events = map(json.loads, done.stderr.splitlines())
    ((started, ended),) = (
        (event["started_seconds"], event["at_seconds"])
        for event in events
        if event["event"] == "task-finished" and event["kind"] == "convert"
    )
    return Beginning(started, ended - started)


def batch_environment(bytecode: Path) -> dict[str, str]:
    """Return the environment of a batch that finds its modules compiled, as an installed one does.

    They are kept in `bytecode`: to compile them anew in each process is no cost of a batch.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "PYTHONPATH": os.fspath(ROOT),
        "PYTHONPYCACHEPREFIX": os.fspath(bytecode),
    }


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
