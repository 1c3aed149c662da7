"""One repository as a place for artifacts: blobs, manifests, referrers.

Pulls are our client's own work, pushes go through oras (`converter.registry.oras_port`). Hands out
bytes that nobody has verified. What an artifact is made of is `converter.artifact`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from converter.errors import NotFoundError
from converter.registry.client import ManifestAnswer, RegistryClient
from converter.registry.download import Sink, download
from converter.registry.listing import referrers

if TYPE_CHECKING:
    from converter.registry.oras_port import OrasPort

SUBJECT_HEADER = "OCI-Subject"  # distribution-spec 1.1, "Pushing Manifests with Subject"


def _unwatched(_sent_bytes: int) -> None:
    """Be told how much was sent, and do nothing."""


def document_bytes(document: Mapping[str, object]) -> bytes:
    """Return the one form in which documents of ours are written and sent."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def manifest_digest(document: Mapping[str, object]) -> str:
    """Return the digest that a manifest of ours will have."""
    return f"sha256:{hashlib.sha256(document_bytes(document)).hexdigest()}"


class ArtifactRepository:
    """A repository through `client`, which the caller owns; for any number of threads.

    `name` is its full name, for messages. All methods raise the client's errors.
    """

    def __init__(self, client: RegistryClient, repository: str, *, host: str = "") -> None:
        """Take the repository's name; `host` is how people call the registry, if not as its API."""
        self.name = f"{host or client.host}/{repository}"
        self._client = client
        self._repository = repository

    def download(self, digest: str, size_bytes: int, sink: Sink) -> None:
        """Fetch a blob into `sink`, not verified, over as many connections as it takes."""
        download(self._client.place_of(self._repository, digest), size_bytes, sink)

    def manifest(self, identifier: str, *, accept: tuple[str, ...]) -> ManifestAnswer | None:
        """Fetch a manifest by tag or digest; None if there is none of that name."""
        try:
            return self._client.manifest(self._repository, identifier, accept=accept)
        except NotFoundError:
            return None

    def referrers(self, digest: str, artifact_type: str) -> list[object] | None:
        """List descriptors (JSON values) of what names `digest` as its subject.

        The type is a wish: there may be others in the list. None where the registry has no such
        API. Registries that have it answer with an empty list when there is nothing, even for a
        repository that they do not know.
        """
        try:
            return list(
                referrers(self._client, self._repository, digest, artifact_type=artifact_type)
            )
        except NotFoundError:
            return None

    def has_blob(self, digest: str) -> bool:
        """Ask whether the repository has a blob."""
        return self._oras.has_blob(digest)

    def push_blob(
        self,
        file: BinaryIO,
        *,
        digest: str,
        size_bytes: int,
        watch: Callable[[int], None] = _unwatched,
    ) -> bool:
        """Upload the whole `file`, unless its blob is there; tell whether it was sent.

        The caller knows its digest and size. `watch` is told now and then how many bytes have
        gone; what it raises ends the upload.
        """
        file.flush()
        # Each attempt opens the file anew, for itself: it may have no name any more.
        path = Path(f"/proc/self/fd/{file.fileno()}")
        return self._oras.send_blob(path, digest=digest, size_bytes=size_bytes, watch=watch)

    def push_manifest(self, document: Mapping[str, object], identifier: str) -> bool:
        """Put a manifest under a tag or its digest; tell whether its subject was taken note of.

        Where it was not, the registry may know referrers all the same: some say nothing.
        """
        answer = self._oras.send_manifest(document, identifier)
        return SUBJECT_HEADER in answer.headers

    def push_index(self, document: Mapping[str, object], media_type: str, tag: str) -> None:
        """Put an index under a tag."""
        self._oras.send_index(document_bytes(document), media_type, tag)

    @cached_property
    def _oras(self) -> OrasPort:
        # oras and the JSON schemas that it loads cost a tenth of a second; only pushes need them.
        from converter.registry.oras_port import OrasPort  # noqa: PLC0415 - see above

        return OrasPort(self._client, self._repository)
