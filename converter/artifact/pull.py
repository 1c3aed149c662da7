"""Pull a chain: find the artifact, bring its links into the store, record the image.

TARGET is an artifact, by tag or digest, or an image that chains refer to; then the one that fits
what the user asks for is taken. Two that differ only in how their links travel are the same chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from converter.artifact import c_artifact as c
from converter.artifact.content import document
from converter.artifact.image_documents import assemble_image, check_layers
from converter.artifact.manifest import (
    Artifact,
    Parcel,
    chain_annotations,
    parcels_of,
    parse_artifact,
)
from converter.artifact.receive import receive
from converter.artifact.records import ChainRecord, parse_chain
from converter.artifact.referrers import Referrer, list_chains
from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.events import Monitor, Note
from converter.image import c_oci
from converter.image.digest import Digest
from converter.image.model import Descriptor, Image
from converter.image.verify import verify_document
from converter.registry.artifacts import ArtifactRepository
from converter.store.images import record_image
from converter.store.layout import Store
from converter.store.links import LinkRecord


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of several chains of an image; None stands for any."""

    capacity_bytes: int | None = None
    journal: bool | None = None

    def allows(self, referrer: Referrer) -> bool:
        """Say whether a chain, by its annotations, is one of those."""
        notes = referrer.descriptor.annotations
        capacity, journal = self.capacity_bytes, self.journal
        return (capacity is None or notes.get(c.ANNOTATION_CAPACITY) == str(capacity)) and (
            journal is None or notes.get(c.ANNOTATION_JOURNAL) == ("true" if journal else "false")
        )


@dataclass(frozen=True, slots=True)
class FoundChain:
    """An artifact that was read and is consistent; of its links nothing has been fetched yet."""

    digest: Digest
    image: Image
    record: ChainRecord
    parcels: tuple[Parcel, ...]


def find_chain(
    repository: ArtifactRepository,
    identifier: str,
    resolve: Callable[[], Image],
    wanted: Wanted,
    *,
    monitor: Monitor,
) -> FoundChain:
    """Find the chain that a tag or digest names, or that refers to the image that it names.

    `resolve` finds that image, in case it is one. Raises NotFoundError, UsageError with a list if
    chains are to be chosen from, IntegrityError, and the registry's errors.
    """
    what = _named(repository, identifier)
    answer = repository.manifest(identifier, accept=c_oci.ACCEPTED_DOCUMENTS)
    if answer is None:
        raise NotFoundError(f"{what} was not found.", hint="Check the name and the tag.")
    artifact = parse_artifact(answer.raw, what=what)
    if artifact is not None:
        digest = Digest.parse(identifier) if ":" in identifier else Digest.of(answer.raw)
        return read_chain(repository, answer.raw, digest)
    image = resolve()
    chosen = _choose(repository, image, wanted)
    monitor(Note(f"{what} has the chain {chosen.descriptor.digest}", minor=True))
    digest = chosen.descriptor.digest
    answer = repository.manifest(str(digest), accept=(c_oci.OCI_MANIFEST,))
    if answer is None:
        raise NotFoundError(
            f"{repository.name} lists the chain {digest}, but has it no more.",
            hint="Push it again, or convert the image.",
        )
    found = read_chain(repository, answer.raw, digest)
    if found.image.digest != image.digest:
        raise IntegrityError(
            f"The chain {digest} is that of another image: {found.image.digest}.",
            expected=f"{image.digest}, to which it refers",
        )
    return found


def read_chain(repository: ArtifactRepository, raw: bytes, digest: Digest) -> FoundChain:
    """Read a chain's manifest, fetch its small documents, and check that all agree.

    Raises IntegrityError, UsageError if it is no chain, SaltflatError for a newer schema or a codec
    that this program lacks, and the registry's errors.
    """
    what = f"{repository.name}@{digest}"
    verify_document(raw, digest, what=what)
    artifact = parse_artifact(raw, what=what)
    if artifact is None or artifact.artifact_type != c.CHAIN:
        raise UsageError(f"{what} is not a chain.", expected=f"an artifact of type {c.CHAIN}")
    named = f"{what}: its record"
    record = parse_chain(document(repository, artifact.config, what=named), what=named)
    if any(
        artifact.annotations.get(name) != text for name, text in chain_annotations(record).items()
    ):
        raise IntegrityError(f"{what} is annotated as another chain than its record's.")
    documents, blobs = _sorted_layers(artifact, what)
    parcels = parcels_of(record.links, blobs, what=what)
    manifest, config = documents
    subject = artifact.subject
    if subject is None or (subject.digest, subject.size_bytes) != (
        manifest.digest,
        manifest.size_bytes,
    ):
        raise IntegrityError(
            f"The chain {what} refers to {subject.digest if subject else 'nothing'}.",
            expected=f"{manifest.digest}, the image whose manifest it has",
        )
    image = assemble_image(
        record.reference,
        record.platform,
        manifest.digest,
        manifest_raw=document(repository, manifest, what=f"{what}: its image's manifest"),
        config_raw=document(repository, config, what=f"{what}: its image's configuration"),
    )
    check_layers(image, record.links)
    return FoundChain(digest, image, record, parcels)


def pull_chain(
    repository: ArtifactRepository, found: FoundChain, store: Store, *, monitor: Monitor
) -> tuple[LinkRecord, ...]:
    """Bring a chain into `store` and record its image; return its disks' links, base first.

    To be called while the store is in use (`converter.store.locks.using`). Raises as `receive`.
    """
    receive(repository, store, found.parcels, monitor=monitor)
    record_image(store, found.image, found.record.parameters, found.record.disks)
    return found.record.disks


def _choose(repository: ArtifactRepository, image: Image, wanted: Wanted) -> Referrer:
    """Take the chain that fits; of those that differ in how they travel, the lowest digest."""
    chains = list_chains(repository, image.digest)
    if not chains:
        raise NotFoundError(
            f"{repository.name} has no chain of the image {image.digest}.",
            hint="Push one: saltflat push IMAGE TARGET. Or convert the image here.",
        )
    fitting = [referrer for referrer in chains if wanted.allows(referrer)]
    by_top: dict[str, Referrer] = {}
    for referrer in sorted(fitting, key=lambda referrer: str(referrer.descriptor.digest)):
        by_top.setdefault(referrer.descriptor.annotations.get(c.ANNOTATION_TOP, ""), referrer)
    if len(by_top) == 1:
        return next(iter(by_top.values()))
    listed = "; ".join(_described(by_top.values() if by_top else chains))
    if not by_top:
        raise NotFoundError(
            f"No chain of {image.digest} in {repository.name} is as asked for.",
            expected=f"one of: {listed}",
        )
    raise UsageError(
        f"{repository.name} has several chains of the image {image.digest}: {listed}.",
        hint=f"Choose with --capacity and --journal, or name one: {repository.name}@DIGEST",
    )


def _described(chains: Iterable[Referrer]) -> list[str]:
    names = {
        "capacity": c.ANNOTATION_CAPACITY,
        "journal": c.ANNOTATION_JOURNAL,
        "links": c.ANNOTATION_LINKS,
        "writer": c.ANNOTATION_WRITER,
    }
    described = []
    for chain in chains:
        notes = chain.descriptor.annotations
        says = ", ".join(f"{name} {notes.get(key, '?')[:30]}" for name, key in names.items())
        described.append(f"{chain.descriptor.digest} ({says})".encode("ascii", "replace").decode())
    return described


def _sorted_layers(
    artifact: Artifact, what: str
) -> tuple[tuple[Descriptor, Descriptor], tuple[Descriptor, ...]]:
    """Return the image's manifest and configuration, and the blobs of links."""
    head = artifact.layers[:2]
    if tuple(blob.media_type for blob in head) != (c.IMAGE_MANIFEST, c.IMAGE_CONFIG):
        raise IntegrityError(
            f"{what} does not begin with the documents of its image.",
            expected=f"{c.IMAGE_MANIFEST}, then {c.IMAGE_CONFIG}",
        )
    return (head[0], head[1]), artifact.layers[2:]


def _named(repository: ArtifactRepository, identifier: str) -> str:
    return f"{repository.name}{'@' if ':' in identifier else ':'}{identifier}"
