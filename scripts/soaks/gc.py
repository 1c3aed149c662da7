"""A garbage collection killed between any two of its deletions must leave a good store.

Each round takes a store with three images and every kind of garbage, lets gc delete some of it and
kills it right before a deletion chosen at random (a process can die at other instants, but only
these differ in what they leave). Then `verify` must find nothing, a conversion must work and give
the same links, and the next gc must leave what an undisturbed one leaves.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from converter.events import ignore
from converter.store.gc import Plan, collect_garbage
from converter.store.inventory import take_inventory
from converter.store.layout import Store
from converter.store.verify import verify_store
from tests.images.cache import ROOT
from tests.images.prepared import SALTFLAT, corner_layout

COUNT = 50
_TIMEOUT_SECONDS = 100
_IMAGES = (("latest",), ("prefix-2",), ("prefix-4", "--capacity", "1G"))

# Runs the command line and dies by SIGKILL right before its n-th deletion.
_MORTAL = """
import os, signal, sys
left = int(sys.argv.pop(1))
def count(event, _arguments):
    global left
    if event in ("os.remove", "os.rmdir"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
from converter.cli import main
main()
"""


def run(count: int, seed: int, source: Path | None = None) -> list[str]:
    """Kill `count` collections in stores made of the OCI layout `source` (the corner image)."""
    layout = source or corner_layout()
    choose = random.Random(seed)
    failures: list[str] = []
    links: dict[str, str] = {}  # of the first image
    with tempfile.TemporaryDirectory(prefix="saltflat-gc-") as folder:
        template = Path(folder) / "template"
        for number, (tag, *options) in enumerate(_IMAGES):
            _convert(template, layout, tag, *options)
            for path in (template / "images").iterdir():
                if path.stat().st_mtime > len(_IMAGES):
                    os.utime(path, (number, number))  # least recently used first
            links = links or _links(template)
        _litter(Store(template))
        for number in range(1, count + 1):
            limit = choose.randrange(take_inventory(Store(template)).size_bytes)
            undisturbed = _clone(template, Path(folder) / f"undisturbed-{number}")
            plan = _collect(undisturbed, limit)
            # Half of the rounds among the records, where the order matters most.
            records, deletions = len(plan.images) + len(plan.links), _deletions(plan)
            instant = choose.randint(1, choose.choice([records or deletions, deletions]))
            store = _clone(template, Path(folder) / f"store-{number}")
            where = f"seed {seed}, round {number}, limit {limit}, deletion {instant}/{deletions}"
            if _killed_collection(store, limit, instant) != -signal.SIGKILL:
                failures.append(f"{where}: gc was not killed")
            failures += [
                f"{where}: {line}" for line in _judge(store, undisturbed, limit, layout, links)
            ]
    return failures


def _judge(
    store: Store, undisturbed: Store, limit: int, layout: Path, links: dict[str, str]
) -> list[str]:
    found = [f"after the kill: {line}" for line in _faults(store)]
    again = _clone(store.root, store.root.with_name(f"{store.root.name}-again"))
    _collect(again, limit)
    if _names(again) != _names(undisturbed):
        difference = sorted(_names(again) ^ _names(undisturbed))
        found.append(f"the next gc ended differently: {difference}")
    try:
        _convert(store.root, layout, *_IMAGES[0])
    except subprocess.CalledProcessError as error:
        return [*found, f"the next conversion failed: {error.stderr.decode(errors='replace')}"]
    found += [f"after the conversion: {line}" for line in _faults(store)]
    if not links.items() <= _links(store.root).items():
        found.append("the next conversion made other links")
    return found


def _litter(store: Store) -> None:
    """Leave what killed conversions and withdrawn images leave."""
    for number in range(5):
        content = b"blob of nobody %d" % number
        (store.blobs / "sha256" / hashlib.sha256(content).hexdigest()).write_bytes(content)
        (store.links / f".tmp-1-{number}-half").write_bytes(b"half")
        (store.links / f"{number:064x}.vmdk").write_bytes(b"disk without a record")


def _collect(store: Store, limit: int) -> Plan:
    return collect_garbage(store, max_store_bytes=limit, monitor=ignore)


def _deletions(plan: Plan) -> int:
    """Return how many deletions `plan` takes at least: lock files come on top."""
    return len(plan.images) + 3 * len(plan.links) + len(plan.blobs) + len(plan.leftovers)


def _killed_collection(store: Store, limit: int, instant: int) -> int:
    command = [sys.executable, "-c", _MORTAL, str(instant), "store", "gc"]
    command += ["--store", os.fspath(store.root), "--max-store-size", str(limit)]
    return subprocess.run(
        command, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False, env=_environment()
    ).returncode


def _convert(store: Path, layout: Path, tag: str, *options: str) -> None:
    command = [*SALTFLAT, "convert", "--store", os.fspath(store), *options, f"oci:{layout}:{tag}"]
    subprocess.run(
        command, capture_output=True, timeout=_TIMEOUT_SECONDS, check=True, env=_environment()
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _clone(template: Path, target: Path) -> Store:
    """Return a copy made of hard links: neither gc nor a conversion writes into finished files."""
    for path in sorted(template.rglob("*")):
        clone = target / path.relative_to(template)
        if path.is_dir():
            clone.mkdir(parents=True)
        else:
            clone.parent.mkdir(parents=True, exist_ok=True)
            clone.hardlink_to(path)
    return Store(target)


def _faults(store: Store) -> list[str]:
    faults = verify_store(store, take_inventory(store), monitor=ignore)
    return [f"{fault.path.name}: {fault.what}" for fault in faults]


def _links(store: Path) -> dict[str, str]:
    """Return the digest of every file of a good link."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((store / "links").iterdir())
    }


def _names(store: Store) -> set[str]:
    return {
        os.fspath(path.relative_to(store.root))
        for path in store.root.rglob("*")
        if path.parent != store.locks
    }
