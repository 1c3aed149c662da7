"""A batch of images that share most of what they are: each blob fetched once, each link made once.

The images and what they share are tests/images/workload.py's; the registry counts what is asked of
it, and how many blobs and links there must be follows from the names of the layers. Held as well:

- the peak memory of all processes together, what they share counted once: 150 MB and 1 KB for each
  file of the largest image, for each job, of which there are as many as processors (`taskset -c 0`
  makes it one);
- with all 60 images, that the whole takes at most 1.15 times as long as as many processes take that
  convert the same links and nothing else, their blobs at hand;
- with all 60 images, that a second run takes less than 3 % of the first.

The figures go to stderr.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree

import converter
from converter.image.source import SourceOptions
from scripts.soaks._batch_run import BatchRun, run_batch
from tests.images.cache import ROOT
from tests.images.heavy import bound_bytes
from tests.images.prepared import SALTFLAT
from tests.images.raw_layout import RawLayer, digest_of
from tests.images.workload import (
    FEW_FILES,
    FLAVOURS,
    MANY_FILES,
    WorkImage,
    unique_links,
    work_images,
    work_layers,
)
from tests.integration.direct_push import push_workload
from tests.integration.registry_server import registry_server

COUNT = 60
_TIME_RATIO = 1.15
_SECOND_RUN_RATIO = 0.03
_VERIFY_TIMEOUT_SECONDS = 600


def run(count: int, _seed: int) -> list[str]:
    """Convert the first `count` images of the workload; return what was wrong."""
    whole = count == COUNT
    jobs = len(os.sched_getaffinity(0))
    images = work_images(count, flavour_files=MANY_FILES if whole else FEW_FILES)
    layers = work_layers(images)
    with tempfile.TemporaryDirectory(prefix="saltflat-batch-") as name:
        folder = Path(name)
        with registry_server("docker-registry", folder / "registry", access_log=True) as registry:
            references = push_workload(registry.host, images, layers)
            file, store = folder / "images.yaml", folder / "store"
            file.write_text(batch_file(references))
            options = ("--store", str(store), "--plain-http", "--jobs", str(jobs))
            first = run_batch(file, *options)
            fetched = Counter(registry.fetched())
            failures = _ended_well(first)
            failures += _shared(images, layers, fetched, first, store)
            failures += verified(store)
            second = run_batch(file, *options)
            failures += _ended_well(second) + _nothing_again(second, registry.fetched(), fetched)
            alone_seconds = _alone(references, store, folder / "alone", jobs) if whole else None
    bound = jobs * bound_bytes(_most_members(images, layers))
    if first.peak_bytes > bound:
        failures.append(f"peak memory {first.peak_bytes} bytes, expected at most {bound}")
    _print("first run", f"{first.seconds:.2f} s with {jobs} jobs")
    _print("peak memory", f"{first.peak_bytes / 1e6:.0f} MB of {bound / 1e6:.0f}")
    _print("second run", f"{second.seconds:.2f} s, {second.seconds / first.seconds:.2%}")
    if alone_seconds is not None:
        ratio = first.seconds / alone_seconds
        _print("links alone", f"{alone_seconds:.2f} s; the batch takes {ratio:.3f} times as long")
        if ratio > _TIME_RATIO:
            failures.append(f"{ratio:.3f} times as long as the links alone, goal {_TIME_RATIO}")
        if second.seconds > _SECOND_RUN_RATIO * first.seconds:
            failures.append(
                f"the second run took {second.seconds / first.seconds:.2%} of the first"
            )
    return failures


def batch_file(references: Iterable[str]) -> str:
    """Return the text of a file for `saltflat batch`."""
    return "\n".join(["images:", *(f"  - {reference}" for reference in references)]) + "\n"


def verified(store: Path) -> list[str]:
    """Say what `saltflat store verify` finds wrong in a store."""
    done = subprocess.run(
        [*SALTFLAT, "store", "verify", "--store", str(store)],
        capture_output=True,
        text=True,
        timeout=_VERIFY_TIMEOUT_SECONDS,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    return [] if done.returncode == 0 else [f"store verify: {done.stdout}{done.stderr}"]


def link_digests(stores: Iterable[Path]) -> dict[str, str]:
    """Return the digest of every file of the good links in `stores`, by name.

    A file that two stores have must be the same in both.
    """
    found: dict[str, str] = {}
    for path in sorted(path for store in stores for path in (store / "links").glob("[!.]*")):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[path.name] = digest if found.get(path.name, digest) == digest else "two of one name"
    return found


def _ended_well(ran: BatchRun) -> list[str]:
    return [] if ran.exit_code == 0 else [f"exit code {ran.exit_code}: {' '.join(ran.said)}"]


def _shared(
    images: Sequence[WorkImage],
    layers: Mapping[str, RawLayer],
    fetched: Counter[str],
    ran: BatchRun,
    store: Path,
) -> list[str]:
    """Say what was fetched or made another number of times than once."""
    blobs = {digest_of(layer.blob) for layer in layers.values()}
    made = Counter(ran.links_made())
    links = len(unique_links(images))
    there = {path.stem for path in store.glob("links/*.vmdk")}
    _print("blobs", f"{len(blobs)} of {sum(len(image.layers) for image in images)} layers")
    _print("requests", f"{fetched.total()} for blobs, {len(images)} of them configurations")
    _print("links", f"{made.total()} made, {len(there)} in the store, {links} expected")
    wrong = [f"{blob} was fetched {times} times" for blob, times in fetched.items() if times > 1]
    wrong += [f"{blob} was never fetched" for blob in sorted(blobs - fetched.keys())]
    wrong += [f"link {link} was made {times} times" for link, times in made.items() if times > 1]
    if not len(there) == len(made) == links or there != made.keys():
        wrong.append(f"{len(made)} links made, {len(there)} in the store, expected {links}")
    return wrong


def _nothing_again(ran: BatchRun, asked: list[str], before: Counter[str]) -> list[str]:
    again = Counter(asked) - before
    wrong = [f"the second run fetched {digest}" for digest in again]
    return wrong + [f"the second run made link {link}" for link in ran.links_made()]


def _alone(references: Sequence[str], full: Path, store: Path, jobs: int) -> float:
    """Return how long `jobs` processes take that do nothing but make the links.

    Each takes the images of one base after another; the blobs are in the store beforehand.
    """
    (store / "blobs").mkdir(parents=True)
    (full / "blobs").rename(store / "blobs")
    rmtree(full)  # a disk may be too small for both
    os.sync()
    bases = [references[at : at + len(FLAVOURS)] for at in range(0, len(references), len(FLAVOURS))]
    started = time.monotonic()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(_convert, base, store) for base in bases]:
            done.result()
    return time.monotonic() - started


def _convert(references: Sequence[str], store: Path) -> None:
    origin = converter.Origin(access=SourceOptions(plain_http=True))
    for reference in references:
        converter.convert(reference, store=store, origin=origin)


def _most_members(images: Sequence[WorkImage], layers: Mapping[str, RawLayer]) -> int:
    """Return how many members the layers of one image have: at least as many as it has files."""
    counts = {}
    for name, layer in layers.items():
        with tarfile.open(fileobj=BytesIO(layer.blob)) as archive:
            counts[name] = sum(1 for _ in archive)
    return max(sum(counts[name] for name in image.layers) for image in images)


def _print(what: str, figure: str) -> None:
    print(f"{what:12} {figure}", file=sys.stderr)
