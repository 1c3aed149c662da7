"""Blobs that several workers need, by way of the cache repository: each leaves its registry once.

A blob of one link alone is fetched where that link is made. One of several links, on several
chains, may be needed by any worker: the first leaves it in the repository, where the links are too.
A registry that collects garbage may take it from there after a while, and then it is fetched anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from converter.errors import SaltflatError
from converter.events import Monitor, Note
from converter.image.fetch import blob_path, fetch_blob
from converter.image.files import Content
from converter.image.model import Descriptor, Image
from converter.image.platform import Platform
from converter.image.sink import CheckedSink
from converter.registry.artifacts import ArtifactRepository


def lend(
    repository: ArtifactRepository, blobs: Path, blob: Descriptor, *, monitor: Monitor
) -> None:
    """Put a blob of the folder `blobs` into the repository. What fails is a warning."""
    try:
        with blob_path(blobs, blob.digest).open("rb") as file:
            repository.push_blob(file, digest=str(blob.digest), size_bytes=blob.size_bytes)
    except (SaltflatError, OSError) as error:
        _warn(repository, f"a blob cannot be pushed: {error}", monitor)


def borrow(
    repository: ArtifactRepository, blobs: Path, wanted: Iterable[Descriptor], *, monitor: Monitor
) -> None:
    """Bring what the repository has of blobs into the folder `blobs`. What fails is a warning."""
    source = _Repository(repository)
    for blob in wanted:
        try:
            fetch_blob(source, blob, blobs, monitor)
        except (SaltflatError, OSError) as error:
            _warn(repository, f"a blob cannot be fetched: {error}", monitor)


def _warn(repository: ArtifactRepository, text: str, monitor: Monitor) -> None:
    monitor(Note(f"cache {repository.name}: {text}", warning=True))


class _Repository:
    """The repository as a source of blobs; there is no image in it."""

    def __init__(self, repository: ArtifactRepository) -> None:
        self._repository = repository

    def resolve(self, platform: Platform) -> Image:
        raise NotImplementedError(f"no image for {platform}: only blobs are asked for")

    def receive(self, descriptor: Descriptor, into: CheckedSink) -> None:
        """Complete a blob in `into`. Raises the registry's errors, and IntegrityError."""
        self._repository.download(str(descriptor.digest), descriptor.size_bytes, into)
        into.check()

    def local_blob(self, _descriptor: Descriptor) -> Content | None:
        return None
