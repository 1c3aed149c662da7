"""The model against the product: a batch on this machine is predicted, and then run.

The batch is that of the tests (`tests.images.workload`), from a registry of its own on this
machine. Of the images the model knows sizes and counts of files, and of this machine its costs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from converter.batch.events import BatchFinished
from converter.batch.plan import Plan
from converter.batch.planning import WantedImage, WantedLayer, make_plan
from converter.image.fetch import PARALLEL_FETCHES
from converter.store.links import ChainParameters
from scripts.simulations.calibration import contents_of
from scripts.simulations.costs import Costs
from scripts.simulations.local import Content, Machine, simulate
from scripts.simulations.measure import REGISTRY, held_bytes
from scripts.simulations.together import batch_environment
from tests.images.prepared import SALTFLAT
from tests.images.raw_layout import RawLayer, digest_of
from tests.images.workload import WorkImage, work_images, work_layers
from tests.integration.direct_push import push_workload
from tests.integration.registry_server import registry_server

TOLERANCE = 0.15
_TIMEOUT_SECONDS = 1800
_CAPACITY_GIB = 16


@dataclass(frozen=True, slots=True)
class Figures:
    """What a batch took, or is to take: the time of all its tasks, and bytes.

    `sent_bytes` went to a cache, in the registry's own count of what it keeps.
    """

    seconds: float
    fetched_bytes: int
    written_bytes: int
    sent_bytes: int


def check(
    costs: Costs,
    *,
    count: int,
    flavour_files: int,
    jobs: Sequence[int],
    rounds: int,
    offers: bool,
    say: Callable[[str], None],
) -> int:
    """Say what a batch of `count` images is to take, then run it `rounds` times and compare.

    With `offers` its links go to a cache, in the registry that its images are from. Returns 0 if
    all is as near as TOLERANCE, or nothing is to be run; 1 if not.
    """
    images = work_images(count, flavour_files=flavour_files)
    layers = work_layers(images)
    plan, contents = planned(images, layers)
    say(
        f"{count} images, {plan.figures.blobs} blobs of {plan.figures.fetch_bytes / 1e6:.1f} MB, "
        f"{plan.figures.links} links; {os.cpu_count()} processors"
    )
    predicted = {}
    for number in jobs:
        predicted[number] = predict(plan, contents, costs, jobs=number, offers=offers)
        say(f"--jobs {number}: predicted {_words(predicted[number])}")
    worst = 0.0
    if rounds:
        measured = dict(
            zip(jobs, _run(images, layers, jobs, rounds=rounds, offers=offers), strict=True)
        )
        for number in jobs:
            say(f"--jobs {number}: measured {_words(measured[number])}")
            off = _off(predicted[number], measured[number])
            say(f"--jobs {number}: off by " + ", ".join(f"{name} {o:+.1%}" for name, o in off))
            worst = max([worst, *(abs(each) for _, each in off)])
    return 1 if worst > TOLERANCE else 0


def planned(
    images: Sequence[WorkImage], layers: Mapping[str, RawLayer]
) -> tuple[Plan, dict[str, Content]]:
    """Return the plan of the workload's images, and what is in their layers."""
    wanted = [
        WantedImage(
            f"{image.repository}:{image.tag}",
            "",
            "linux/amd64",
            tuple(
                WantedLayer(digest_of(layer.blob), len(layer.blob), layer.claimed)
                for layer in (layers[name] for name in image.layers)
            ),
            ChainParameters(),
        )
        for image in images
    ]
    return make_plan(wanted), contents_of(list(layers.values()))


def predict(
    plan: Plan, contents: dict[str, Content], costs: Costs, *, jobs: int, offers: bool
) -> Figures:
    """Return what the model says of a batch on this machine."""
    machine = Machine(len(os.sched_getaffinity(0)), jobs, PARALLEL_FETCHES, offers)
    *_, last = simulate(plan, contents, costs, machine)
    assert isinstance(last, BatchFinished)
    return Figures(last.at_seconds, last.fetched_bytes, last.written_bytes, last.sent_bytes)


def _run(
    images: Sequence[WorkImage],
    layers: Mapping[str, RawLayer],
    jobs: Sequence[int],
    *,
    rounds: int,
    offers: bool,
) -> Iterator[Figures]:
    """Run the batch with each number of jobs, in turns, from empty stores; yield the median."""
    program = shutil.which(REGISTRY)
    if program is None:
        raise FileNotFoundError(f"there is no {REGISTRY}: apt-get install {REGISTRY}")
    found: list[list[Figures]] = [[] for _ in jobs]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        with registry_server(program, folder / "registry") as server:
            references = push_workload(server.host, images, layers)
            batch = folder / "batch.jsonl"
            batch.write_text("".join(f"{json.dumps(each)}\n" for each in references))
            for turn in range(rounds):
                for place, number in enumerate(jobs):
                    store, before = folder / "store", held_bytes(server.storage)
                    # Other parameters are other links, of which the registry has no blob yet.
                    own_links = ["--capacity", f"{_CAPACITY_GIB + turn * len(jobs) + place}G"]
                    cache = ["--cache-repo", f"{server.host}/cache", "--cache-mode", "write"]
                    arguments = [*own_links, *cache] if offers else []
                    figures = _batch(batch, store, number, arguments)
                    sent_bytes = held_bytes(server.storage) - before
                    found[place].append(replace(figures, sent_bytes=sent_bytes))
                    shutil.rmtree(store)
    for own in found:
        yield sorted(own, key=lambda figures: figures.seconds)[len(own) // 2]


def _batch(batch: Path, store: Path, jobs: int, more: Sequence[str]) -> Figures:
    arguments = ["-q", "batch", "--plain-http", "--format", "json", "--jobs", str(jobs), *more]
    done = subprocess.run(
        [*SALTFLAT, *arguments, "--store", store, batch],
        stdout=subprocess.PIPE,
        env=batch_environment(store.with_name("bytecode")),
        timeout=_TIMEOUT_SECONDS,
        check=True,
    )
    result = json.loads(done.stdout)
    return Figures(result["seconds"], result["fetched_bytes"], result["written_bytes"], 0)


def _words(figures: Figures) -> str:
    return (
        f"{figures.seconds:.2f} s, {figures.fetched_bytes / 1e6:.1f} MB fetched, "
        f"{figures.written_bytes / 1e6:.1f} MB written, {figures.sent_bytes / 1e6:.1f} MB sent"
    )


def _off(predicted: Figures, measured: Figures) -> list[tuple[str, float]]:
    return [
        (field.name.partition("_")[0], getattr(predicted, field.name) / there - 1)
        for field in fields(Figures)
        if (there := getattr(measured, field.name))
    ]
