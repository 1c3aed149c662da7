"""Images put into a registry blob by blob, over plain HTTP: each blob's bytes go there once.

The other repositories mount it, so sixty images cost little more than what is in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import requests

from tests.images.raw_layout import RawLayer, digest_of
from tests.images.workload import MANIFEST_TYPE, WorkImage, documents

_TIMEOUT_SECONDS = 60


class DirectPush:
    """Put blobs and manifests into the registry at `host` ("127.0.0.1:port")."""

    def __init__(self, host: str) -> None:
        self._root = f"http://{host}/v2"
        self._session = requests.Session()
        self._first: dict[str, str] = {}  # which repository has a blob, by digest

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()

    def blob(self, repository: str, data: bytes) -> str:
        """Put a blob where it is missing; return its digest. Raises requests' errors."""
        digest = digest_of(data)
        uploads = f"{self._root}/{repository}/blobs/uploads/"
        if digest in self._first:
            mount = {"mount": digest, "from": self._first[digest]}
            begun = self._send("POST", uploads, params=mount)
            if begun.status_code == requests.codes.created:
                return digest
        else:
            begun = self._send("POST", uploads)
        self._send("PUT", begun.headers["Location"], params={"digest": digest}, data=data)
        self._first.setdefault(digest, repository)
        return digest

    def manifest(self, repository: str, tag: str, data: bytes) -> None:
        """Put a manifest whose blobs are there. Raises requests' errors."""
        url = f"{self._root}/{repository}/manifests/{tag}"
        self._send("PUT", url, data=data, headers={"Content-Type": MANIFEST_TYPE})

    def _send(
        self,
        method: str,
        url: str,
        *,
        params: dict[str, str] | None = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        answer = self._session.request(
            method, url, params=params, data=data, headers=headers, timeout=_TIMEOUT_SECONDS
        )
        answer.raise_for_status()
        return answer


def push_workload(
    host: str, images: Sequence[WorkImage], layers: Mapping[str, RawLayer]
) -> list[str]:
    """Put images whose `layers` are given by name into a registry; return their references."""
    push = DirectPush(host)
    references = []
    try:
        for image in images:
            own = [layers[name] for name in image.layers]
            config, manifest = documents(image, own)
            for data in (*(layer.blob for layer in own), config):
                push.blob(image.repository, data)
            push.manifest(image.repository, image.tag, manifest)
            references.append(f"{host}/{image.repository}:{image.tag}")
    finally:
        push.close()
    return references
