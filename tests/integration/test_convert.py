"""Conversion as a user sees it: results, errors, what is left in the store."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.images.prepared import SALTFLAT
from tests.integration.conftest import Saltflat
from tests.integration.elsewhere import disk_digests

pytestmark = pytest.mark.integration


def _convert(saltflat: Saltflat, store: Path, source: str, *options: str) -> dict[str, object]:
    output = saltflat.good("convert", "--store", store, "--format", "json", *options, source)
    document: dict[str, object] = json.loads(output)
    return document


def test_links_hash_to_what_the_result_says_and_are_named_by_their_parents(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path
) -> None:
    result = _convert(saltflat, tmp_path, f"oci:{corner_layout}:latest")
    links = result["links"]
    assert isinstance(links, list)
    assert len(links) == 4  # the corner image has five layers, one of them empty
    parent = ""
    for link in links:
        data = Path(link["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == link["sha256"]
        assert len(data) == link["size"]
        assert link["parent"] == parent
        assert (f'parentFileNameHint="{parent}.vmdk"'.encode() in data[:20480]) == bool(parent)
        assert Path(link["file"]).stat().st_mode & 0o777 == 0o444
        parent = link["link_id"]


def test_a_child_made_from_the_stored_state_equals_one_made_in_one_go(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path
) -> None:
    whole, stepwise = tmp_path / "whole", tmp_path / "stepwise"
    _convert(saltflat, whole, f"oci:{corner_layout}:latest")
    for prefix in range(1, 6):
        _convert(saltflat, stepwise, f"oci:{corner_layout}:prefix-{prefix}")
    assert disk_digests(whole) == disk_digests(stepwise)


def test_a_child_needs_its_parents_states_and_nothing_else_of_them(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path
) -> None:
    layout, store = tmp_path / "layout", tmp_path / "store"
    shutil.copytree(corner_layout, layout)
    whole = _convert(saltflat, tmp_path / "whole", f"oci:{corner_layout}:latest")
    below = _convert(saltflat, store, f"oci:{layout}:prefix-4")
    assert isinstance(below["links"], list)
    for link in below["links"]:
        disk = Path(link["file"])
        noise = os.urandom(link["size"])
        disk.chmod(0o644)
        disk.write_bytes(noise)  # of the right size, and no file system any more
    for layer in json.loads(saltflat.good("inspect", "--format", "json", f"oci:{layout}:prefix-4"))[
        "layers"
    ]:
        (layout / "blobs" / "sha256" / layer["digest"].partition(":")[2]).unlink()
    result = _convert(saltflat, store, f"oci:{layout}:latest")
    assert isinstance(whole["links"], list)
    assert isinstance(result["links"], list)
    assert [link["sha256"] for link in result["links"]] == [
        link["sha256"] for link in whole["links"]
    ]
    top = Path(result["links"][-1]["file"]).read_bytes()
    assert hashlib.sha256(top).hexdigest() == whole["links"][-1]["sha256"]


def test_a_second_conversion_touches_nothing(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path
) -> None:
    first = _convert(saltflat, tmp_path, f"oci:{corner_layout}:latest")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "links").iterdir()}
    assert _convert(saltflat, tmp_path, f"oci:{corner_layout}:latest") == first
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "links").iterdir()}


def test_processes_that_convert_the_same_image_at_once_agree(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path
) -> None:
    command = [*SALTFLAT, "convert", "--store", tmp_path, "--format", "json"]
    command.append(f"oci:{corner_layout}:latest")
    environment = {**os.environ, **saltflat.environment}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        for _ in range(4)
    ]
    results = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, results
    assert len({stdout for stdout, _ in results}) == 1
    assert not list((tmp_path / "links").glob(".tmp-*"))


def test_bundle_holds_the_image_byte_for_byte_and_shares_the_disks(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    result = _convert(
        saltflat, tmp_path / "store", f"oci:{corner_layout}:latest", "-o", str(bundle)
    )
    document = json.loads((bundle / "bundle.json").read_bytes())
    digest = str(result["digest"])
    assert document["schema"] == 1
    assert document["digest"] == digest
    manifest = (bundle / "manifest.json").read_bytes()
    assert "sha256:" + hashlib.sha256(manifest).hexdigest() == digest
    config = (bundle / "config.json").read_bytes()
    assert (
        json.loads(manifest)["config"]["digest"] == "sha256:" + hashlib.sha256(config).hexdigest()
    )
    for link in document["links"]:
        disk = bundle / link["file"]
        assert hashlib.sha256(disk.read_bytes()).hexdigest() == link["sha256"]
        assert disk.stat().st_mode & 0o222 == 0
    inspected = json.loads(saltflat.good("inspect", "--format", "json", bundle))
    assert inspected["digest"] == digest
    again = saltflat("convert", "--store", tmp_path / "store", f"oci:{corner_layout}:latest",
                     "-o", bundle)  # fmt: skip
    assert again.returncode == 2
    assert b"not empty" in again.stderr
    _convert(
        saltflat, tmp_path / "store", f"oci:{corner_layout}:latest", "-o", str(bundle), "--force"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "store"]


def test_force_never_replaces_a_folder_that_is_no_bundle(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("years of work")
    done = saltflat(
        "convert", "--store", tmp_path / "s", f"oci:{corner_layout}:latest", "-o", precious,
        "--force",
    )  # fmt: skip
    assert done.returncode == 2
    assert (precious / "thesis").read_text() == "years of work"


@pytest.mark.parametrize(
    ("name", "damage", "code", "message"),
    [
        ("store.json", b'{"schema": 2}', 1, b"schema 2"),
        ("store.json", b"{}", 5, b"no schema"),
        ("store.json", b"{", 5, b"not readable"),
    ],
)
def test_stores_of_another_schema_are_refused(
    saltflat: Saltflat,
    corner_layout: Path,
    tmp_path: Path,
    name: str,
    damage: bytes,
    code: int,
    message: bytes,
) -> None:
    (tmp_path / name).write_bytes(damage)
    done = saltflat("convert", "--store", tmp_path, f"oci:{corner_layout}:latest")
    assert done.returncode == code
    assert message in done.stderr


def test_newer_or_damaged_records_states_and_bundles_are_refused(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path
) -> None:
    source = f"oci:{corner_layout}:prefix-1"
    result = _convert(saltflat, tmp_path, source, "-o", str(tmp_path / "bundle"))
    links = result["links"]
    assert isinstance(links, list)
    record = tmp_path / "links" / f"{links[0]['link_id']}.json"
    good = record.read_text()
    record.unlink()
    record.write_text(good.replace('"schema": 1', '"schema": 2'))
    assert b"schema 2" in saltflat("convert", "--store", tmp_path, source).stderr
    record.write_text(good[:-20])
    assert saltflat("convert", "--store", tmp_path, source).returncode == 5
    record.write_text(good)
    state = record.with_suffix(".state")
    content = state.read_bytes()
    state.unlink()
    state.write_bytes(content[:-1])
    more = saltflat("convert", "--store", tmp_path, f"oci:{corner_layout}:prefix-2")
    assert more.returncode == 5
    assert b"is not what was written" in more.stderr
    description = tmp_path / "bundle" / "bundle.json"
    description.write_text(description.read_text().replace('"schema": 1', '"schema": 9'))
    assert b"schema 9" in saltflat("inspect", tmp_path / "bundle").stderr


def _layer(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def _image(folder: Path, layers: list[bytes], diff_ids: list[str] | None = None) -> str:
    """Write an OCI layout by hand, so that it can be wrong in every way. Return its SOURCE."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, media_type: str) -> dict[str, object]:
        encoded = hashlib.sha256(data).hexdigest()
        (blobs / encoded).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(data)}

    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {
            "type": "layers",
            "diff_ids": diff_ids or ["sha256:" + hashlib.sha256(x).hexdigest() for x in layers],
        },
    }
    kind = "application/vnd.oci.image."
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind + "manifest.v1+json",
        "config": blob(json.dumps(config).encode(), kind + "config.v1+json"),
        "layers": [
            blob(gzip.compress(layer, mtime=0), kind + "layer.v1.tar+gzip") for layer in layers
        ],
    }
    entry = blob(json.dumps(manifest).encode(), kind + "manifest.v1+json")
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return f"oci:{folder}"


def test_a_layer_that_is_not_what_the_config_says_is_an_integrity_error_and_nothing_stays(
    saltflat: Saltflat, tmp_path: Path
) -> None:
    source = _image(tmp_path / "image", [_layer(("a", b"a"))], ["sha256:" + "0" * 64])
    done = saltflat("convert", "--store", tmp_path / "store", source)
    assert done.returncode == 5
    assert b"layer 1/1 (sha256:" in done.stderr
    assert list((tmp_path / "store" / "links").iterdir()) == []


def test_a_changed_blob_in_a_layout_is_an_integrity_error_and_nothing_stays(
    saltflat: Saltflat, tmp_path: Path
) -> None:
    content = os.urandom(3000)
    source = _image(tmp_path / "image", [_layer(("a", content))])
    blobs = list((tmp_path / "image" / "blobs" / "sha256").iterdir())
    largest = max(blobs, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    done = saltflat("convert", "--store", tmp_path / "store", source)
    assert done.returncode == 5
    assert list((tmp_path / "store" / "links").iterdir()) == []


def test_what_came_before_a_broken_layer_stays_and_is_used(
    saltflat: Saltflat, tmp_path: Path
) -> None:
    good = _layer(("a", b"a"))
    broken = _layer(("h", b""))[:512].replace(b"0" * 7 + b"\0" + b" 0", b"0" * 7 + b"\0" + b" 1")
    source = _image(tmp_path / "image", [good, broken + b"junk" * 128])
    done = saltflat("convert", "--store", tmp_path / "store", source)
    assert done.returncode == 5
    assert b"layer 2/2" in done.stderr
    assert len(list((tmp_path / "store" / "links").glob("*.json"))) == 1
    assert not list((tmp_path / "store" / "links").glob(".tmp-*"))


@pytest.mark.parametrize("layers", [[], [_layer()], [_layer(), _layer()]])
def test_images_without_content_are_an_empty_file_system(
    saltflat: Saltflat, tmp_path: Path, layers: list[bytes]
) -> None:
    result = _convert(saltflat, tmp_path / "store", _image(tmp_path / "image", layers))
    links = result["links"]
    assert isinstance(links, list)
    assert len(links) == 1


def test_empty_layers_below_do_not_change_a_chain(saltflat: Saltflat, tmp_path: Path) -> None:
    layer = _layer(("a", b"a"))
    plain = _convert(saltflat, tmp_path / "store", _image(tmp_path / "one", [layer]))
    padded = _convert(
        saltflat, tmp_path / "store", _image(tmp_path / "two", [_layer(), layer, _layer()])
    )
    assert plain["links"] == padded["links"]


def test_capacity_too_small_is_said_with_the_layer_and_the_option(
    saltflat: Saltflat, tmp_path: Path
) -> None:
    source = _image(tmp_path / "image", [_layer(("a", os.urandom(70 << 20)))])
    done = saltflat("convert", "--store", tmp_path / "store", "--capacity", "64m", source)
    assert done.returncode == 1
    assert b"layer 1/1" in done.stderr
    assert b"--capacity" in done.stderr
    assert saltflat("convert", "--store", tmp_path, "--capacity", "7", source).returncode == 2
    assert saltflat("convert", "--store", tmp_path, "--capacity", "lots", source).returncode == 2
