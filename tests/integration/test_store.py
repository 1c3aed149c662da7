"""The store verbs on real chains: sharing, gc beside conversions and machines, gc killed."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from converter.events import ignore
from converter.machine.local import LocalMachines
from converter.store.gc import collect_garbage
from converter.store.inventory import Inventory, take_inventory
from converter.store.layout import Store
from scripts.soaks import gc as gc_soak
from tests.images.prepared import SALTFLAT
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration

MOST_ROUNDS = 30  # of conversions, to have something to collect beside


def _json(saltflat: Saltflat, *arguments: str | Path) -> Any:
    return json.loads(saltflat.good(*arguments, "--format", "json"))


def _convert(saltflat: Saltflat, store: Path, layout: Path, tag: str, *options: str) -> Any:
    return _json(saltflat, "convert", "--store", store, *options, f"oci:{layout}:{tag}")


def _inventory(store: Path) -> Inventory:
    return take_inventory(Store(store))


def test_who_shares_what_of_the_corner_prefixes(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path
) -> None:
    chains = {
        tag: [link["link_id"] for link in _convert(saltflat, tmp_path, corner_layout, tag)["links"]]
        for tag in ("prefix-1", "prefix-3", "prefix-4", "latest")
    }
    listing = _json(saltflat, "store", "ls", "--store", tmp_path)
    assert listing["schema"] == 1
    names = {image["reference"].rpartition(":")[2]: image["name"] for image in listing["images"]}
    images = {image["name"]: image for image in listing["images"]}
    assert {tag: images[name]["links"] for tag, name in names.items()} == chains
    users = {
        link["link_id"]: {tag for tag, name in names.items() if name in link["images"]}
        for link in listing["links"]
    }
    sizes = {link["link_id"]: link["size"] for link in listing["links"]}
    base, *middle, top = chains["latest"]
    assert users[base] == {"prefix-1", "prefix-3", "prefix-4", "latest"}
    assert all(users[link] == {"prefix-3", "prefix-4", "latest"} for link in middle)
    assert users[top] == {"latest"}
    (empty,) = [link["link_id"] for link in listing["links"] if link["empty"]]
    assert users[empty] == {"prefix-4", "latest"}
    latest = images[names["latest"]]
    assert latest["own"] == sizes[top]
    assert latest["shared"] == sum(sizes[link] for link in (base, *middle, empty))
    assert images[names["prefix-1"]]["own"] == 0
    for link in chains["latest"]:
        files = [tmp_path / "links" / f"{link}.{suffix}" for suffix in ("vmdk", "state", "json")]
        assert sizes[link] == sum(file.stat().st_size for file in files)
    text = saltflat.good("store", "ls", "--store", tmp_path).decode()
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    assert len(rows[top[:12]].split()) == 4
    assert rows[top[:12]].endswith(f"  {latest['digest'][7:19]}")


def test_gc_deletes_what_a_withdrawn_image_alone_used(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    _convert(saltflat, store, corner_layout, "prefix-2")
    kept = {path for path in store.rglob("*") if path.is_file() and path.parent.name != "locks"}
    chain = _convert(saltflat, store, corner_layout, "latest")
    own = [link["link_id"] for link in chain["links"][2:]]
    (record,) = (store / "images").glob(f"{chain['digest'][7:]}-*.json")
    bundle = tmp_path / "bundle"
    _convert(saltflat, store, corner_layout, "latest", "-o", str(bundle), "--copy")
    assert all(path.stat().st_nlink == 1 for path in (bundle / "disk").iterdir())
    assert _json(saltflat, "store", "gc", "--store", store)["links"] == []
    record.unlink()
    dry = _json(saltflat, "store", "gc", "--dry-run", "--store", store)
    done = _json(saltflat, "store", "gc", "--store", store)
    assert dry == {**done, "dry_run": True}
    assert set(own) < set(done["links"])  # and the record of the empty layer
    assert len(done["links"]) == len(own) + 1
    left = {path for path in store.rglob("*") if path.is_file() and path.parent.name != "locks"}
    assert left == kept
    saltflat.good("store", "verify", "--store", store)
    assert json.loads((bundle / "bundle.json").read_bytes())["digest"] == chain["digest"]


def test_verify_names_the_fault_and_the_way_out(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path
) -> None:
    chain = _convert(saltflat, tmp_path, corner_layout, "prefix-2")
    disk = Path(chain["links"][1]["file"])
    whole = disk.read_bytes()
    disk.chmod(0o644)
    with disk.open("r+b") as file:
        file.seek(len(whole) // 2)
        file.write(bytes([whole[len(whole) // 2] ^ 0x10]))
    done = saltflat("store", "verify", "--store", tmp_path, "--format", "json")
    assert done.returncode == 5
    document = json.loads(done.stdout)
    assert [fault["file"] for fault in document["faults"]] == [f"links/{disk.name}"] * 2
    assert "mode 0644" in document["faults"][0]["what"]
    assert "not what was written" in document["faults"][1]["what"]
    disk.with_suffix(".json").unlink()  # as the hint says
    _convert(saltflat, tmp_path, corner_layout, "prefix-2")
    assert disk.read_bytes() == whole
    saltflat.good("store", "verify", "--store", tmp_path)


@pytest.mark.parametrize("limit", [None, 0], ids=["unused", "everything"])
def test_gc_beside_three_conversions_breaks_none(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path, limit: int | None
) -> None:
    jobs = [["latest"], ["prefix-4", "--capacity", "1G"], ["prefix-3"]]
    store = Store(tmp_path)
    ended = threading.Event()
    collections = 0

    def convert(job: list[str]) -> list[Any]:
        tag, *options = job
        found = []
        while len(found) < 3 or (collections < 3 and len(found) < MOST_ROUNDS):
            found.append(_convert(saltflat, tmp_path, corner_layout, tag, *options))
        return found

    def collect() -> None:
        nonlocal collections
        collect_garbage(store, max_store_bytes=limit, timeout_seconds=60, monitor=ignore)
        collections += 1

    def collect_until_ended() -> None:
        while not ended.wait(0.1):  # conversions need a chance to begin
            collect()

    with ThreadPoolExecutor(4) as pool:
        collector = pool.submit(collect_until_ended)
        results = [pool.submit(convert, job) for job in jobs]
        try:
            chains = [result.result(100) for result in results]
        finally:
            ended.set()
        collector.result(60)
    collect()  # the last conversion may have ended behind the collector's last round
    assert all(chain == rounds[0] for rounds in chains for chain in rounds)
    assert collections >= 3
    saltflat.good("store", "verify", "--store", tmp_path)
    inventory = _inventory(tmp_path)
    assert not inventory.leftovers
    assert all(image.record and inventory.is_complete(image.record) for image in inventory.images)
    assert len(inventory.images) == (len(jobs) if limit is None else 0)


def test_ten_of_fifty_kills_of_gc(corner_layout: Path) -> None:
    assert gc_soak.COUNT == 50
    assert gc_soak.run(10, seed=3, source=corner_layout) == []


@pytest.mark.vm
def test_gc_leaves_a_machine_its_disks(
    saltflat: Saltflat, demo_layout: Path, store: Path, tmp_path: Path
) -> None:
    command = [*SALTFLAT, "run", "--store", str(store), "--state", str(tmp_path / "state")]
    command += ["-i", "--entrypoint", "cat", f"oci:{demo_layout}:prefix-1"]
    machine = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **saltflat.environment},
    )
    with machine:
        assert machine.stdin is not None
        assert machine.stdout is not None
        machine.stdin.write(b"up\n")
        machine.stdin.flush()
        assert machine.stdout.readline() == b"up\n"
        (image,) = _json(saltflat, "store", "ls", "--store", store)["images"]
        assert image["in_use"]
        done = saltflat("store", "gc", "--store", store, "--max-store-size", "0")
        assert done.returncode == 1
        assert b"in use" in done.stderr
        assert _inventory(store).is_complete(_only_record(store))
        machine.stdin.close()
        assert machine.wait(60) == 0
    # It has ended, but can be started again.
    done = saltflat("store", "gc", "--store", store, "--max-store-size", "0")
    assert done.returncode == 1
    assert _inventory(store).is_complete(_only_record(store))
    machines = LocalMachines(tmp_path / "state")
    machines.remove(machines.list()[0].id)
    saltflat("store", "gc", "--store", store, "--max-store-size", "0")
    inventory = _inventory(store)
    assert not inventory.images
    assert not inventory.links
    assert len(inventory.boot_images) == 1  # the default is a root


def _only_record(store: Path) -> Any:
    (image,) = _inventory(store).images
    return image.record
