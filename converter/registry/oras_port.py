"""Pushing through oras, with requests of our own making. The only module that imports oras.

oras-py knows the order of a push: ask for the blob, open an upload, follow its location, send the
manifest that its schema allows. What it would do by itself between the lines is not for us: it
reads a blob into memory whole, sends without a timeout, repeats after whatever error with pauses of
up to a minute and a half, looks for credentials in fewer places, and lets exceptions of its
libraries out. So every request goes through `RegistryClient.exchange`, and blobs are streamed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jsonschema
import oras.container
import oras.provider
import oras.utils
import requests

from converter.errors import UnavailableError, UsageError
from converter.registry.artifacts import manifest_bytes
from converter.registry.auth.authenticator import Scope
from converter.registry.client import RegistryClient
from converter.registry.transport import MakeBody

Watch = Callable[[int], None]  # is told after each read how many bytes of a blob have been sent

_EXPECTED = {
    "HEAD": (HTTPStatus.OK, HTTPStatus.NOT_FOUND),
    "POST": (HTTPStatus.ACCEPTED,),
    "PUT": (HTTPStatus.CREATED, HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT),
}


class OrasPort(oras.provider.Registry):  # type: ignore[misc]  # oras ships no types
    """oras's registry, of one repository, over our client; for any number of threads."""

    def __init__(self, client: RegistryClient, repository: str) -> None:
        super().__init__(client.host, insecure=client.options.plain_http)
        self._client = client
        self._repository = repository
        self._scope = Scope(repository, ("pull", "push"))

    def has_blob(self, digest: str) -> bool:
        """Ask whether the repository has a blob. Raises the client's errors."""
        found: bool = self._client.patience().repeat(
            lambda: self.blob_exists({"digest": digest}, self.at())
        )
        return found

    def send_blob(self, path: Path, *, digest: str, size_bytes: int, watch: Watch) -> None:
        """Upload the file at `path`; its digest and size are the caller's to know. Blocks.

        Raises the client's errors, and whatever `watch` raises.
        """
        layer = {"digest": digest, "size": size_bytes, "watch": watch}
        self._client.patience().repeat(lambda: self.put_upload(str(path), self.at(), layer))

    def send_manifest(self, document: Mapping[str, object], identifier: str) -> requests.Response:
        """Put a manifest under a tag or its digest. Raises the client's errors, UsageError."""
        try:
            answer: requests.Response = self._client.patience().repeat(
                lambda: self.upload_manifest(dict(document), self.at(identifier))
            )
        except jsonschema.ValidationError as error:
            raise UsageError(f"This is not a manifest: {error.message}.") from error
        return answer

    def send_index(self, raw: bytes, media_type: str, tag: str) -> None:
        """Put an index under a tag; oras has no word for it. Raises the client's errors."""
        url = f"{self.prefix}://{self.at().manifest_url(tag)}"
        headers = {"Content-Type": media_type}
        self._client.patience().repeat(
            lambda: self.do_request(url, "PUT", data=raw, headers=headers)
        )

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
        """Upload a file, as oras does, but as a stream."""
        begun = self.do_request(f"{self.prefix}://{container.upload_blob_url()}", "POST", data=b"")
        session = self._get_location(begun, container)
        if not session:
            raise UnavailableError(
                f"{self.hostname} does not say where blobs are to be uploaded.",
                expected="a Location header",
            )
        return self.do_request(
            oras.utils.append_url_params(session, {"digest": layer["digest"]}),
            "PUT",
            data=lambda: _Watched(blob, layer["watch"]),
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(layer["size"]),
            },
        )

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: bytes | MakeBody | None = None,
        headers: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """Make one request through our client. Raises its errors, Transient among them."""
        body = data if json is None else manifest_bytes(json)
        what = f"the upload to {self.hostname}/{self._repository}"
        with self._client.exchange(
            method,
            url,
            self._scope,
            what,
            headers=headers or {},
            body=body,
            expect=_EXPECTED.get(method, (HTTPStatus.OK,)),
        ) as response:
            return response  # closed, but oras looks at status and headers alone


class _Watched(io.FileIO):
    """A file that tells how far it has been read."""

    def __init__(self, path: str, watch: Watch) -> None:
        super().__init__(path, "rb")
        self._watch = watch

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(-1 if size is None else size)
        self._watch(self.tell())
        return data
