"""From an image and where it is from to the lists of contents (SBOMs) that it carries."""

from __future__ import annotations

from converter.artifact.sbom import Sbom, find_sboms
from converter.artifact.sbom_places import LayoutCarrier, RepositoryCarrier
from converter.events import Monitor
from converter.image.archive import open_archive
from converter.image.files import Folder
from converter.image.model import Image
from converter.image.reference import (
    LayoutArchiveReference,
    LayoutReference,
    RegistryReference,
    SourceReference,
)
from converter.image.source import Origin
from converter.registry.artifacts import ArtifactRepository
from converter.registry.client import RegistryClient
from converter.store.layout import Store


def sboms_of(
    reference: SourceReference, image: Image, origin: Origin, store: Store, *, monitor: Monitor
) -> tuple[Sbom, ...]:
    """Return what refers to `image`, which is `reference`'s, where that keeps referrers.

    A registry is asked itself, not its mirrors. Bundles and docker's archives carry nothing, and
    standard input cannot be read a second time. Raises IntegrityError, OSError, the registry's
    errors.
    """
    if isinstance(reference, RegistryReference):
        with RegistryClient(reference.api_host, origin.access) as client:
            repository = ArtifactRepository(client, reference.repository, host=reference.host)
            return find_sboms(RepositoryCarrier(repository), image.digest, monitor=monitor)
    if isinstance(reference, LayoutReference):
        return find_sboms(LayoutCarrier(Folder(reference.path)), image.digest, monitor=monitor)
    if isinstance(reference, LayoutArchiveReference) and reference.file is not None:
        with open_archive(reference.file, spool=store.root, monitor=monitor) as files:
            return find_sboms(LayoutCarrier(files), image.digest, monitor=monitor)
    return ()
