"""A power cut at any instant must leave a good store, good bundles, and nothing that stays.

Three commands are recorded as strace sees them: a conversion with a bundle into no store at all;
one of more layers that replaces that bundle by copies; a garbage collection that deletes
everything. From each recording `_crash_states`, whose docstring is the model, makes the disks that
a cut may leave. For each of them:

- `store verify` finds no fault: whatever has a record is what the record says;
- a bundle under its name is whole, byte for byte the old one or the new one;
- a conversion with a bundle succeeds and gives the undisturbed run's files exactly;
- the next gc ends as it would have; no temporary name is left in the store or beside the bundle;
- if the command had ended with success, its result is there whatever was lost.

The recording is of a real run of several threads, so which states there are differs a little from
run to run; the seed chooses among them.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.atomic import TEMP_PREFIX
from converter.convert_options import ConvertOptions
from converter.errors import SaltflatError
from converter.events import ignore
from converter.image.files import Folder
from converter.image.layout import LayoutSource
from converter.image.platform import Platform
from converter.image.reference import LayoutReference, parse_source
from converter.pipeline import convert
from converter.store.bundle import read_bundle, write_bundle
from converter.store.gc import collect_garbage
from converter.store.inventory import take_inventory
from converter.store.layout import Store
from converter.store.links import ChainParameters
from converter.store.locks import using
from converter.store.verify import verify_store
from scripts.soaks._crash_states import History, State, crash_states
from scripts.soaks._recording import record
from tests.images.cache import ROOT
from tests.images.prepared import SALTFLAT, corner_layout

STORE = Path("data/store")
BUNDLE = Path("out/bundle")
COUNT = 10_000  # more than there are: all of them
_CHOICES_PER_CUT = 96
_CAPACITY_BYTES = 64 << 20
_LONG_AGO = 1  # seconds since the epoch: leftovers younger than an hour may be somebody's
_TIMEOUT_SECONDS = 100
_MEMORY = Path("/dev/shm")  # states are judged there if it is there: what they lose, they have lost


@dataclass(frozen=True, slots=True)
class Scene:
    """A command to record, given what was done before; `prefix` is the image that it converts.

    `collects` for a garbage collection of everything, else a conversion with a bundle.
    """

    name: str
    before: tuple[tuple[str, ...], ...]
    prefix: str
    options: tuple[str, ...] = ()
    collects: bool = False


SCENES = (
    Scene("first conversion", (), "latest"),
    Scene("replaced bundle", (("prefix-3",),), "latest", ("--force", "--copy")),
    Scene("collection", (("prefix-3",), ("latest", "--force")), "latest", collects=True),
)


def run(count: int, seed: int, source: Path | None = None) -> list[str]:
    """Judge `count` states, spread over the scenes, of the OCI layout `source` (corner image)."""
    layout = source or corner_layout()
    failures: list[str] = []
    for number, scene in enumerate(SCENES):
        share = count if count >= COUNT else (count + len(SCENES) - 1 - number) // len(SCENES)
        failures += failures_of(scene, share, seed, layout)
    return failures


def failures_of(
    scene: Scene, count: int, seed: int, layout: Path, *, defect: str = ""
) -> Iterator[str]:
    """Yield what is wrong with up to `count` states of a scene, chosen by `seed`.

    `defect` is Python that the recorded program, and only that, runs before it begins.
    """
    with tempfile.TemporaryDirectory(prefix="saltflat-powercut-") as temp:
        judge = _Judge(scene, layout, Path(temp))
        states = crash_states(judge.record(defect), limit=_CHOICES_PER_CUT, seed=seed)
        for state in states if count >= COUNT else _chosen(list(states), count, seed):
            for line in judge.judge(state):
                yield f"{scene.name}, seed {seed}, {state.where}: {line}"


def _chosen(states: Sequence[State], count: int, seed: int) -> list[State]:
    """Return `count` of `states`, a fifth of them of the end, when the most is promised."""
    choose = random.Random(seed)
    ends = [state for state in states if state.finished]
    others = [state for state in states if not state.finished]
    share = min(len(ends), -(-count // 5))
    return choose.sample(others, min(len(others), count - share)) + choose.sample(ends, share)


class _Judge:
    """Records a scene in `work`, and holds the states against an undisturbed run of it."""

    def __init__(self, scene: Scene, layout: Path, work: Path) -> None:
        self._scene = scene
        self._layout = layout
        self._disk = work / "disk"
        self._serial = itertools.count()
        self._work = work
        self._disk.mkdir()
        for tag, *options in scene.before:
            _run(self._conversion(self._disk, tag, *options))
        if scene.collects:
            _litter(self._disk / STORE)
        self._old_bundle = _contents(self._disk / BUNDLE)
        self._links: dict[str, str] = {}
        self._bundle: dict[str, str] = {}
        self._collected: set[str] = set()  # what is left when everything was collected
        self._kept: set[str] = set()  # what is left after a conversion and a usual collection

    def record(self, defect: str) -> History:
        """Record the scene's command with `defect` in it; learn from one without."""
        undisturbed = self._work / "undisturbed"
        shutil.copytree(self._disk, undisturbed)
        _age(undisturbed)
        _run(self._command(undisturbed))
        if self._scene.collects:
            self._collected = _names(undisturbed / STORE)
            self._convert(undisturbed)
        self._bundle = _contents(undisturbed / BUNDLE)
        self._links = _contents(undisturbed / STORE / "links")
        _collect(undisturbed)
        self._kept = _names(undisturbed / STORE)
        command = self._command(self._disk)
        if defect:
            program = f"{defect}\nfrom converter.cli import main\nmain()"
            command = [sys.executable, "-c", program, *command[len(SALTFLAT) :]]
        return record(command, self._disk, environment=_environment())

    def judge(self, state: State) -> Iterator[str]:
        """Yield what is wrong with `state`."""
        place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="saltflat-cut-", dir=place) as temp:
            disk = Path(temp)
            _materialise(state, disk)
            try:
                yield from self._faults(state, disk)
            except (SaltflatError, OSError) as error:
                yield f"{type(error).__name__}: {error}"

    def _faults(self, state: State, disk: Path) -> Iterator[str]:
        if state.finished:
            yield from self._broken_promises(disk)
        bundle = _contents(disk / BUNDLE)
        if bundle and bundle not in (self._old_bundle, self._bundle):
            yield f"the bundle is neither the old one nor the new one: {sorted(bundle)}"
        store = Store(disk / STORE)
        for fault in verify_store(store, take_inventory(store), monitor=ignore):
            yield f"after the cut: {fault.path.name}: {fault.what}"
        if self._scene.collects:
            _collect(disk, limit_bytes=0)
            if _names(store.root) != self._collected:
                difference = sorted(_names(store.root) ^ self._collected)
                yield f"the next gc ended differently: {difference}"
        self._convert(disk)
        for fault in verify_store(store, take_inventory(store), monitor=ignore):
            yield f"after the next conversion: {fault.path.name}: {fault.what}"
        links = _contents(store.links)
        wrong = [name for name in self._links if links.get(name) != self._links[name]]
        if wrong:
            yield f"the next conversion made others: {wrong}"
        if _contents(disk / BUNDLE) != self._bundle:
            yield "the next conversion made another bundle"
        _collect(disk)
        if _names(store.root) != self._kept:
            yield f"gc left {sorted(_names(store.root) ^ self._kept)}"
        beside = {path.name for path in (disk / BUNDLE).parent.iterdir()} - {BUNDLE.name}
        if beside:
            yield f"left beside the bundle: {sorted(beside)}"

    def _broken_promises(self, disk: Path) -> Iterator[str]:
        """Yield what a command that ended with success has not made durable."""
        if self._scene.collects:
            images = disk / STORE / "images"
            if list(images.glob("[!.]*")):
                yield "an image that was deleted is back"
            return
        links = _contents(disk / STORE / "links")
        lost = [name for name in self._links if links.get(name) != self._links[name]]
        if lost:
            yield f"lost though the command had ended: {lost}"
        if not list((disk / STORE / "images").glob("[!.]*")):
            yield "the image's record is lost though the command had ended"
        if _contents(disk / BUNDLE) != self._bundle:
            yield "the bundle is lost though the command had ended"

    def _convert(self, disk: Path) -> None:
        """Do what the command line does for `convert -o`, in this process for speed."""
        store = Store(disk / STORE)
        reference = parse_source(f"oci:{self._layout}:{self._scene.prefix}")
        assert isinstance(reference, LayoutReference), "that is what oci: means"
        source = LayoutSource(reference, Folder(reference.path))
        options = ConvertOptions(ChainParameters(capacity_bytes=_CAPACITY_BYTES))
        with using(store):
            image = source.resolve(Platform.parse("linux/amd64"))
            chain = convert(image, source, store, options, monitor=ignore)
            write_bundle(
                disk / BUNDLE,
                chain.image,
                chain.parameters,
                chain.links,
                chain.disks,
                force=True,
            )
        read_bundle(disk / BUNDLE)

    def _command(self, disk: Path) -> list[str]:
        if self._scene.collects:
            store = os.fspath(disk / STORE)
            return [*SALTFLAT, "store", "gc", "--store", store, "--max-store-size", "0"]
        return self._conversion(disk, self._scene.prefix, *self._scene.options)

    def _conversion(self, disk: Path, tag: str, *options: str) -> list[str]:
        command = [*SALTFLAT, "convert", "--store", os.fspath(disk / STORE)]
        command += ["--capacity", f"{_CAPACITY_BYTES}", "-o", os.fspath(disk / BUNDLE)]
        return [*command, *options, f"oci:{self._layout}:{tag}"]


def _materialise(state: State, disk: Path) -> None:
    """Put the files of `state` into the folder `disk`, hard links as such, all of them old."""
    first: dict[int, Path] = {}
    for folder in state.folders:
        (disk / folder).mkdir()
    for name, file in state.files.items():
        path, node = disk / name, state.nodes[name]
        if node in first:
            path.hardlink_to(first[node])
            continue
        first[node] = path
        path.write_bytes(file.data)
        path.chmod(file.mode)
    _age(disk)


def _age(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (_LONG_AGO, _LONG_AGO))


def _litter(store: Path) -> None:
    """Leave what gc must delete beside images: a blob, a disk, a temp, all of nobody."""
    content = b"blob of nobody"
    (store / "blobs" / "sha256" / hashlib.sha256(content).hexdigest()).write_bytes(content)
    (store / "links" / f"{TEMP_PREFIX}1-0-half").write_bytes(b"half")
    (store / "links" / f"{0:064x}.vmdk").write_bytes(b"disk without a record")


def _collect(disk: Path, *, limit_bytes: int | None = None) -> None:
    collect_garbage(Store(disk / STORE), max_store_bytes=limit_bytes, monitor=ignore)


def _run(command: Sequence[str]) -> None:
    subprocess.run(
        command, capture_output=True, timeout=_TIMEOUT_SECONDS, check=True, env=_environment()
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file in `folder` that has a final name; nothing if it is not."""
    return {
        os.fspath(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(TEMP_PREFIX)
    }


def _names(store: Path) -> set[str]:
    """Return all that is in a store, but locks and folders."""
    return {
        os.fspath(path.relative_to(store))
        for path in store.rglob("*")
        if path.is_file() and path.parent.name != "locks"
    }
