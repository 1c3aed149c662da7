"""Boot images through a real registry, and artifacts that only say they are one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.artifact_places import KINDS, Place
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration

TAG = "stock"
REPOSITORY = "saltflat/boot"


@pytest.fixture
def place(place_of: Callable[[str], Place]) -> Place:
    return place_of(KINDS[0])


def refused(saltflat: Saltflat, code: int, *arguments: str | Path) -> str:
    done = saltflat(*arguments)
    assert done.returncode == code, done.stderr
    return done.stderr.decode()


def asked(saltflat: Saltflat, verb: str, store: Path, *arguments: str) -> dict[str, Any]:
    out = saltflat.good(
        "boot", verb, "--store", store, "--plain-http", "--format", "json", *arguments
    )
    document: dict[str, Any] = json.loads(out)
    return document


def files(store: Path) -> dict[str, bytes]:
    folders = [path for path in (store / "boot").iterdir() if path.is_dir()]
    return {
        str(path.relative_to(store)): path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_host_without_packages_gets_one(
    saltflat: Saltflat, place: Place, store: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    where = f"{place.host}/{REPOSITORY}"
    pushed = asked(saltflat, "push", store, f"{where}:{TAG}")
    there = tmp_path / "there"
    pulled = asked(saltflat, "pull", there, f"{where}:{TAG}")
    assert pulled["id"] == pushed["id"]
    assert files(there) == files(store)
    assert (there / "boot/default").read_text() == f"{pushed['id']}\n"
    # And again, when there is nothing to do; the digest names the same.
    fetched = place.proxy.paths("GET", "/blobs/")
    assert asked(saltflat, "pull", there, str(pushed["reference"])) == pulled
    assert len(place.proxy.paths("GET", "/blobs/")) == len(fetched) + 1  # its record
    # Media that were made since come along.
    tool("xorriso")
    saltflat.good("boot", "build", "--store", store, "--media", "iso", "--media", "uki")
    asked(saltflat, "push", store, f"{where}:{TAG}")
    asked(saltflat, "pull", there, f"{where}:{TAG}")
    assert files(there) == files(store)
    assert any(name.endswith("media/boot.iso") for name in files(there))
    # The artifact without them takes none away; one with others brings those.
    asked(saltflat, "pull", there, str(pushed["reference"]))
    assert files(there) == files(store)
    saltflat.good("boot", "build", "--store", store, "--media", "vmdk")
    asked(saltflat, "push", store, f"{where}:{TAG}")
    asked(saltflat, "pull", there, f"{where}:{TAG}")
    assert files(there) == files(store)


def test_what_is_none_is_refused(
    saltflat: Saltflat, place: Place, store: Path, corner_layout: Path, tmp_path: Path
) -> None:
    where = f"{place.host}/{REPOSITORY}"
    image = place.put_image(corner_layout, "latest", f"{REPOSITORY}:image")
    there = tmp_path / "there"
    options = ("--store", there, "--plain-http")
    assert "is not a boot image" in refused(saltflat, 2, "boot", "pull", *options, image)
    assert "not found" in refused(saltflat, 3, "boot", "pull", *options, f"{where}:none")
    said = refused(saltflat, 2, "boot", "push", "--store", store, "--plain-http", image)
    assert "is there and is not a boot image" in said

    asked(saltflat, "push", store, f"{where}:{TAG}")
    good = place.manifest(REPOSITORY, TAG)
    title = "org.opencontainers.image.title"
    kernel, initrd, *lists = good["layers"]
    for layers, why in (
        ([{**kernel, "annotations": {**kernel["annotations"], title: "../vmlinuz"}}], "has a file"),
        ([kernel, kernel], "has a file"),
        ([kernel], "initrd"),
        ([kernel, initrd, lists[0]], "boot.spdx.json: No such file"),
        ([{**kernel, "size": 1 << 40}, initrd], "1099511627776 bytes"),
        ([{**kernel, "annotations": {title: "vmlinuz"}}, initrd], "annotations of vmlinuz"),
        (
            [
                {**kernel, "annotations": {**kernel["annotations"], title: "initrd"}},
                {**initrd, "annotations": {**initrd["annotations"], title: "vmlinuz"}},
            ],
            "damaged",
        ),
    ):
        place.put_manifest(REPOSITORY, "bad", {**good, "layers": layers})
        assert why in refused(saltflat, 5, "boot", "pull", *options, f"{where}:bad")
        assert [path.name for path in (there / "boot").iterdir()] == []


def test_an_artifact_from_before_there_were_lists_is_taken(
    saltflat: Saltflat, place: Place, store: Path, tmp_path: Path
) -> None:
    asked(saltflat, "push", store, f"{place.host}/{REPOSITORY}:{TAG}")
    good = place.manifest(REPOSITORY, TAG)
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in good["layers"]]
    assert titles == ["vmlinuz", "initrd", "contents.json", "boot.spdx.json"]
    record = json.loads(place.get(f"{REPOSITORY}/blobs/{good['config']['digest']}"))
    old = {key: value for key, value in record.items() if key not in ("contents", "sbom")}
    config = place.put_blob(REPOSITORY, json.dumps(old).encode(), good["config"])
    layers = good["layers"][:2]
    place.put_manifest(REPOSITORY, "old", {**good, "config": config, "layers": layers})
    there = tmp_path / "there"
    asked(saltflat, "pull", there, f"{place.host}/{REPOSITORY}:old")
    assert {Path(name).name for name in files(there)} == {"vmlinuz", "initrd", "boot.json"}
    saltflat.good("boot", "verify", "--store", there)
    # A debug image is brought, and machines do not start with it.
    debug = place.put_blob(REPOSITORY, json.dumps({**old, "debug": True}).encode(), good["config"])
    place.put_manifest(REPOSITORY, "debug", {**good, "config": debug, "layers": layers})
    other = tmp_path / "other"
    assert asked(saltflat, "pull", other, f"{place.host}/{REPOSITORY}:debug")["debug"]
    assert not (other / "boot/default").exists()


def test_another_image_under_the_same_id_is_not_taken(
    saltflat: Saltflat, place: Place, store: Path
) -> None:
    asked(saltflat, "push", store, f"{place.host}/{REPOSITORY}:{TAG}")
    good = place.manifest(REPOSITORY, TAG)
    record = json.loads(place.get(f"{REPOSITORY}/blobs/{good['config']['digest']}"))
    forged = json.dumps({**record, "python": "3.12"}).encode()
    config = place.put_blob(REPOSITORY, forged, good["config"])
    place.put_manifest(REPOSITORY, "forged", {**good, "config": config})
    before = files(store)
    where = f"{place.host}/{REPOSITORY}:forged"
    said = refused(saltflat, 5, "boot", "pull", "--store", store, "--plain-http", where)
    assert "another boot image under the id" in said
    assert files(store) == before
