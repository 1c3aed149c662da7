"""Pushing through oras, with requests of our own making. The only module that imports oras.

oras-py knows the order of a push: ask for the blob, open an upload, follow its location, send the
manifest that its schema allows. What it would do by itself between the lines is not for us: it
reads a blob into memory whole, sends without a timeout, repeats after any error with pauses of up
to 83 seconds, looks for credentials in fewer places, and lets exceptions of its libraries out. So
every request goes through `RegistryClient.exchange`, and blobs are streamed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import oras.container
import oras.provider
import requests

from converter.registry.artifacts import document_bytes
from converter.registry.auth.authenticator import PUSH, Scope
from converter.registry.client import RegistryClient
from converter.registry.push import push_blob

Watch = Callable[[int], None]  # is told after each read how many bytes of a blob have been sent

_EXPECTED = {
    "HEAD": (HTTPStatus.OK, HTTPStatus.NOT_FOUND),
    "PUT": (HTTPStatus.CREATED,),
}


class OrasPort(oras.provider.Registry):  # type: ignore[misc]  # oras ships no types
    """oras's registry, of one repository, over our client; for any number of threads."""

    def __init__(self, client: RegistryClient, repository: str) -> None:
        super().__init__(client.host)
        self._client = client
        self._repository = repository

    def has_blob(self, digest: str) -> bool:
        """Ask whether the repository has a blob. Raises the client's errors."""
        return bool(self.blob_exists({"digest": digest}, self.at()))

    def send_blob(self, path: Path, *, digest: str, size_bytes: int, watch: Watch) -> bool:
        """Upload the file at `path` unless its blob is there; tell whether it was sent.

        Digest and size are the caller's to know. Raises the client's errors, and whatever `watch`
        raises.
        """
        layer = {"digest": digest, "size": size_bytes, "watch": watch}
        answer: requests.Response = self.upload_blob(str(path), self.at(), layer)
        return answer.status_code == HTTPStatus.CREATED

    def send_manifest(self, document: Mapping[str, object], identifier: str) -> requests.Response:
        """Put a manifest, which fits oras's schema, under a tag or its digest.

        Raises the client's errors.
        """
        answer: requests.Response = self.upload_manifest(dict(document), self.at(identifier))
        return answer

    def send_index(self, raw: bytes, media_type: str, tag: str) -> None:
        """Put an index under a tag; oras has no word for it. Raises the client's errors."""
        url = f"{self.prefix}://{self.at().manifest_url(tag)}"
        self.do_request(url, "PUT", data=raw, headers={"Content-Type": media_type})

    def at(self, identifier: str = "") -> oras.container.Container:
        """Return oras's idea of our repository, at a tag or digest."""
        # Not parsed from a text: oras takes a first component with a dot for a host.
        place = oras.container.Container("repository", self.hostname)
        place.registry = self.hostname
        place.namespace, _, place.repository = self._repository.rpartition("/")
        if ":" in identifier:
            place.digest = identifier
        else:
            place.tag = identifier
        return place

    def put_upload(
        self, blob: str, container: oras.container.Container, layer: Mapping[str, Any]
    ) -> requests.Response:
        """Upload a file as a stream; oras would read it into memory."""
        push_blob(
            self._client,
            self._repository,
            layer["digest"],
            layer["size"],
            lambda: _Watched(blob, layer["watch"]),
        )
        done = requests.Response()
        done.status_code = HTTPStatus.CREATED
        return done

    def do_request(  # noqa: PLR0917 - as oras calls it
        self,
        url: str,
        method: str = "GET",
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """Make a request through our client, again where that helps. Raises its errors."""
        assert not stream, "oras is to push; what it would pull, it does not verify"
        body = data if json is None else document_bytes(json)
        parts = urlsplit(url)  # how the host is reached is our client's to know

        def attempt() -> requests.Response:
            with self._client.exchange(
                method,
                f"{parts.path}?{parts.query}" if parts.query else parts.path,
                Scope(self._repository, PUSH),
                f"what is pushed to {self.hostname}/{self._repository}",
                headers=headers or {},
                body=body,
                expect=_EXPECTED[method],
            ) as response:
                return response  # its body is gone, but oras looks at status and headers alone

        return self._client.patience().repeat(attempt)


class _Watched(io.FileIO):
    """A file that tells how far it has been read."""

    def __init__(self, path: str, watch: Watch) -> None:
        super().__init__(path, "rb")
        self._watch = watch

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(-1 if size is None else size)
        self._watch(self.tell())
        return data
