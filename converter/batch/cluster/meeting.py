"""What workers with stores of their own leave for each other in the cache repository.

Links go there by the cache that every conversion knows. Blobs that several workers need do too, so
that each leaves its registry once: a blob of one link alone is fetched where that link is made, but
one of several links, on several chains, may be needed by any worker, and the first leaves it here.
A registry that collects garbage may take it away after a while, and then it is fetched anew.

Whatever fails here is a warning: what is not found is fetched or made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from converter.artifact.link_artifact import find_link_artifact
from converter.batch.events import LinkMade
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
    """Put a blob of the folder `blobs` into the repository."""
    with (
        _forgiving(repository, "a blob cannot be pushed", monitor),
        blob_path(blobs, blob.digest).open("rb") as file,
    ):
        repository.push_blob(file, digest=str(blob.digest), size_bytes=blob.size_bytes)


def is_lent(repository: ArtifactRepository, blob: Descriptor, *, monitor: Monitor) -> bool:
    """Tell whether somebody has put a blob there."""
    with _forgiving(repository, "a blob cannot be asked for", monitor):
        return repository.has_blob(str(blob.digest))
    return False


def borrow(
    repository: ArtifactRepository, blobs: Path, wanted: Iterable[Descriptor], *, monitor: Monitor
) -> None:
    """Bring what the repository has of blobs into the folder `blobs`."""
    source = _Repository(repository)
    for blob in wanted:
        with _forgiving(repository, "a blob cannot be fetched", monitor):
            fetch_blob(source, blob, blobs, monitor)


def made_elsewhere(
    repository: ArtifactRepository, identities: Sequence[str], *, monitor: Monitor
) -> tuple[LinkMade, ...]:
    """Return the links with these identities if the repository has them all, else none."""
    found = []
    with _forgiving(repository, "a link cannot be asked for", monitor):
        for identity in identities:
            parcel = find_link_artifact(repository, identity)
            if parcel is None:
                return ()
            record = parcel.record
            found.append(
                LinkMade(
                    identity,
                    record.size_bytes,
                    record.sha256,
                    is_new=True,
                    from_cache=True,
                    empty=record.empty,
                )
            )
    return tuple(found) if len(found) == len(identities) else ()


@contextmanager
def _forgiving(repository: ArtifactRepository, doing: str, monitor: Monitor) -> Iterator[None]:
    try:
        yield
    except (SaltflatError, OSError) as error:
        monitor(Note(f"cache {repository.name}: {doing}: {error}", warning=True))


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

    def hang_up(self) -> None:
        """Do nothing: the client is the cache's."""
