"""What tests of artifacts share: both kinds of registry behind a proxy, images in them, regctl."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.referrers_registry import referrers_registry
from tests.integration.registry_server import registry_server
from tests.integration.watching_proxy import WatchingProxy, watching_proxy

KINDS = ("without referrers API", "with referrers API")
CHAIN_TYPE = "application/vnd.saltflat.chain.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Place:
    """A registry, seen through a proxy that counts."""

    kind: str
    proxy: WatchingProxy
    skopeo: str
    regctl: Path

    @property
    def host(self) -> str:
        """Where clients reach it."""
        return self.proxy.host

    def put_image(self, layout: Path, tag: str, name: str) -> str:
        """Push an image with skopeo; return its reference."""
        command = [self.skopeo, "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
        command += [f"oci:{layout}:{tag}", f"docker://{self.host}/{name}"]
        subprocess.run(command, check=True, timeout=100)
        return f"{self.host}/{name}"

    def ask_regctl(self, *arguments: str, home: Path) -> str:
        """Run regctl, which is told that the registry speaks http; return what it prints."""
        config = home / "regctl.json"
        config.write_text(json.dumps({"hosts": {self.host: {"tls": "disabled"}}}))
        done = subprocess.run(
            [self.regctl, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "REGCTL_CONFIG": str(config), "HOME": str(home)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, path: str) -> bytes:
        """Return what the registry answers."""
        request = urllib.request.Request(f"http://{self.host}/v2/{path}")
        request.add_header("Accept", f"{OCI_MANIFEST}, {OCI_INDEX}")
        with urllib.request.urlopen(request, timeout=30) as response:
            content: bytes = response.read()
            return content

    def manifest(self, repository: str, identifier: str) -> dict[str, Any]:
        """Return a manifest's JSON."""
        document: dict[str, Any] = json.loads(self.get(f"{repository}/manifests/{identifier}"))
        return document

    def put_blob(self, repository: str, content: bytes, like: Mapping[str, Any]) -> dict[str, Any]:
        """Put a blob; return its descriptor, otherwise `like` the one given."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = urllib.request.Request(
            f"http://{self.host}/v2/{repository}/blobs/uploads/", data=b"", method="POST"
        )
        with urllib.request.urlopen(begun, timeout=30) as response:
            location = response.headers["Location"]
        if location.startswith("/"):
            location = f"http://{self.host}{location}"
        mark = "&" if "?" in location else "?"
        put = urllib.request.Request(f"{location}{mark}digest={digest}", data=content, method="PUT")
        put.add_header("Content-Type", "application/octet-stream")
        urllib.request.urlopen(put, timeout=30).close()
        return {**like, "digest": digest, "size": len(content)}

    def put_manifest(self, repository: str, identifier: str, document: Mapping[str, Any]) -> str:
        """Put a manifest, under its digest if `identifier` is empty; return its digest."""
        raw = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        put = urllib.request.Request(
            f"http://{self.host}/v2/{repository}/manifests/{identifier or digest}",
            data=raw,
            method="PUT",
        )
        put.add_header("Content-Type", str(document.get("mediaType", OCI_MANIFEST)))
        urllib.request.urlopen(put, timeout=30).close()
        return digest


@contextmanager
def serve_place(
    kind: str, folder: Path, *, tool: Callable[[str], str], go_tools: Path
) -> Iterator[Place]:
    """Serve an empty registry of that kind, with its files in `folder`, until the block ends."""
    with ExitStack() as running:
        if kind == KINDS[0]:
            server = registry_server(tool("docker-registry"), folder)
            backend = running.enter_context(server).host
        else:
            backend = running.enter_context(referrers_registry(go_tools / "registry", folder))
        proxy = running.enter_context(watching_proxy(backend))
        yield Place(kind, proxy, tool("skopeo"), go_tools / "regctl")
