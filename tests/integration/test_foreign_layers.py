"""Layers from the addresses that an image names, as a user meets them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.integration.conftest import Saltflat
from tests.unit.registry.scripted_server import Answer, scripted_server

pytestmark = pytest.mark.integration

KIND = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


def test_on_request_alone(saltflat: Saltflat, corner_layout: Path, tmp_path: Path) -> None:
    good = saltflat.good(
        "convert", "--store", tmp_path / "a", "--format", "json", f"oci:{corner_layout}:prefix-1"
    )
    with scripted_server() as server:
        layout, layer = foreign(corner_layout, tmp_path / "layout", f"http://{server.host}/layer")
        server.answer = lambda _: Answer(body=layer)
        command = ["convert", "--store", tmp_path / "b", "--format", "json", f"oci:{layout}"]
        refused = saltflat(*command)
        assert refused.returncode == 3
        error = json.loads(refused.stderr.splitlines()[-1])["error"]
        assert "may not be distributed" in error["what"]
        assert "--foreign-layers" in error["hint"]
        insecure = saltflat(*command, "--foreign-layers")
        assert insecure.returncode == 5
        assert b"an https address" in insecure.stderr
        assert server.requests == []
        taken = saltflat.good(*command, "--foreign-layers", "--plain-http")
        assert server.paths() == ["/layer"]
        server.answer = lambda _: Answer(body=layer[:-1] + b"?")
        wrong = saltflat(
            "convert", "--store", tmp_path / "c", f"oci:{layout}", "--foreign-layers",
            "--plain-http",
        )  # fmt: skip
    assert wrong.returncode == 5
    assert list((tmp_path / "c" / "links").iterdir()) == []
    ours, theirs = json.loads(taken)["links"], json.loads(good)["links"]
    assert [link["sha256"] for link in ours] == [link["sha256"] for link in theirs]


def foreign(source: Path, target: Path, url: str) -> tuple[Path, bytes]:
    """Write a layout of the image `prefix-1` whose layer is at `url`; return it and the layer."""
    index = json.loads((source / "index.json").read_bytes())
    entry = next(e for e in index["manifests"] if "prefix-1" in e["annotations"].values())
    manifest = json.loads(blob(source, entry["digest"]).read_bytes())
    layer = blob(source, manifest["layers"][0]["digest"]).read_bytes()
    manifest["layers"][0] |= {"mediaType": KIND, "urls": [url]}
    raw = json.dumps(manifest).encode()
    changed = {**entry, "digest": f"sha256:{hashlib.sha256(raw).hexdigest()}", "size": len(raw)}
    (target / "blobs" / "sha256").mkdir(parents=True)
    blob(target, changed["digest"]).write_bytes(raw)
    config = manifest["config"]["digest"]
    blob(target, config).write_bytes(blob(source, config).read_bytes())
    (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [changed]}))
    (target / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return target, layer


def blob(layout: Path, digest: str) -> Path:
    """Return a blob's file."""
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")
