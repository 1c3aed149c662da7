"""Conversions that nobody watches: nothing to do is seen at once, and a policy is kept."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Saltflat
from tests.integration.watching_proxy import WatchingProxy, watching_proxy

pytestmark = pytest.mark.integration

NAME = "unattended"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def proxy(registry: str) -> Iterator[WatchingProxy]:
    """Return what sees every request to the registry."""
    with watching_proxy(registry) as watching:
        yield watching


@pytest.fixture
def publish(registry: str, push: Callable[..., str], corner_layout: Path) -> Callable[[int], None]:
    """Return publish(layers): let the tag 1 be an index of the corner image's first layers."""

    def put(layers: int) -> None:
        push(corner_layout, f"prefix-{layers}", f"{NAME}:prefix-{layers}")
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                {
                    **_manifest(registry, f"prefix-{layers}"),
                    "platform": {"os": "linux", "architecture": "amd64"},
                }
            ],
        }
        _ask(registry, "PUT", "1", json.dumps(index).encode(), {"Content-Type": INDEX})

    return put


def _manifest(registry: str, tag: str) -> dict[str, object]:
    digest, raw = _ask(registry, "GET", tag, None, {"Accept": MANIFEST})
    return {"mediaType": MANIFEST, "digest": digest, "size": len(raw)}


def _ask(
    registry: str, method: str, tag: str, body: bytes | None, headers: dict[str, str]
) -> tuple[str | None, bytes]:
    """Ask for a manifest or put one; return its digest and what came."""
    with closing(http.client.HTTPConnection(registry, timeout=20)) as connection:
        connection.request(method, f"/v2/{NAME}/manifests/{tag}", body, headers)
        with connection.getresponse() as answer:
            assert answer.status in {200, 201}
            return answer.headers["Docker-Content-Digest"], answer.read()


def test_what_is_converted_already_costs_one_request(
    saltflat: Saltflat,
    publish: Callable[[int], None],
    proxy: WatchingProxy,
    tmp_path: Path,
) -> None:
    store, bundle = tmp_path / "store", tmp_path / "bundle"
    source = f"{proxy.host}/{NAME}:1"
    command = ["convert", "--store", str(store), "--plain-http", "--if-changed"]

    def convert(*options: str | Path) -> dict[str, Any]:
        proxy.asked.clear()
        done = saltflat.good(*command, "--format", "json", source, *options)
        document: dict[str, Any] = json.loads(done)
        return document

    publish(1)
    first = convert("-o", bundle)
    assert first["changed"] is True
    made = (bundle / "bundle.json").stat()

    again = convert("-o", bundle)
    assert [(one.method, one.path) for one in proxy.asked] == [("GET", f"/v2/{NAME}/manifests/1")]
    assert {**again, "changed": True} == first
    assert again["changed"] is False
    assert (bundle / "bundle.json").stat().st_ino == made.st_ino
    assert b"unchanged" in saltflat.good(*command, source)

    (bundle / "config.json").write_bytes(b"{}")  # no longer what it was
    assert saltflat(*command, source, "-o", bundle).returncode == 2
    assert convert("-o", bundle, "--force")["changed"] is True
    assert convert("-o", bundle)["changed"] is False

    Path(first["links"][-1]["file"]).unlink()
    assert convert()["changed"] is True


def test_other_options_and_a_tag_that_moved_are_changes(
    saltflat: Saltflat,
    publish: Callable[[int], None],
    proxy: WatchingProxy,
    tmp_path: Path,
) -> None:
    source = f"{proxy.host}/{NAME}:1"

    def changed(*options: str | Path) -> object:
        command = ["convert", "--store", tmp_path, "--plain-http", "--if-changed", source]
        return json.loads(saltflat.good(*command, "--format", "json", *options))["changed"]

    publish(1)
    assert changed() is True
    assert changed("--no-journal") is True
    assert changed() is False
    publish(2)
    assert changed() is True
    for record in (tmp_path / "images").iterdir():
        record.unlink()  # gc would take the links for nobody's
    assert changed() is True
    shutil.rmtree(tmp_path / "blobs")  # the manifest and the configuration, too
    assert changed() is True


def test_a_policy_refuses_before_anything_is_fetched(
    saltflat: Saltflat,
    publish: Callable[[int], None],
    proxy: WatchingProxy,
    tmp_path: Path,
) -> None:
    publish(2)
    source = f"{proxy.host}/{NAME}:1"
    policy = tmp_path / "policy.yaml"

    def refused(rules: str, *verb: str | Path) -> str:
        policy.write_text(f"schema: 1\n{rules}\n")
        proxy.asked.clear()
        arguments = [*(verb or ("convert",)), "--store", tmp_path / "store", "--plain-http"]
        done = saltflat(*arguments, "--policy", policy, "--format", "json", source)
        assert done.returncode == 7, done.stderr.decode()
        error = json.loads(done.stderr.splitlines()[-1])["error"]
        assert error["kind"] == "policy"
        assert f"rule {error['cause']} of {policy}" in error["what"]
        return str(error["cause"])

    assert refused("registries: [docker.io]") == "registries"
    assert refused("digest: required") == "digest"
    assert refused("registries: []", "pull") == "registries"
    assert proxy.asked == []
    output = tmp_path / "out.vmdk"
    assert refused("max-layers: 1", "export", "--type", "stream", "-o", output) == "max-layers"
    assert refused("user: numeric") == "user"
    assert len(proxy.paths("GET", "/blobs/")) == 1  # the configuration
    assert not list((tmp_path / "store").glob("blobs/*/*"))
    assert not output.exists()


def test_disks_that_grow_too_large_are_refused_made_or_cached(
    saltflat: Saltflat, corner_layout: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("schema: 1\nmax-disk-size: 300k\n")
    store, bundle = tmp_path / "store", tmp_path / "bundle"
    command = ["convert", "--store", store, f"oci:{corner_layout}:prefix-2"]
    assert saltflat(*command, "--policy", policy).returncode == 7
    assert not list((store / "images").iterdir())
    saltflat.good(*command, "-o", bundle)
    assert saltflat(*command, "--policy", policy).returncode == 7
    done = saltflat(*command, "--policy", policy, "--if-changed", "--format", "json")
    assert done.returncode == 7
    assert json.loads(done.stderr.splitlines()[-1])["error"]["cause"] == "max-disk-size"
    export = ["export", "--policy", policy, "--type", "stream", "-o", tmp_path / "out.vmdk"]
    assert saltflat(*export, "--store", store, bundle).returncode == 7
