"""Push a chain: its links, the image's documents, and the manifest that refers to the image.

Nothing is sent that the repository has: blobs are asked for by digest, and disks that are there in
another transport form are found through the artifacts that name them.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from converter.artifact import c_artifact as c
from converter.artifact.codec import Codec
from converter.artifact.empty_links import with_empty_links
from converter.artifact.image_documents import check_layers
from converter.artifact.link_artifact import find_link_artifact
from converter.artifact.manifest import (
    Artifact,
    Parcel,
    chain_annotations,
    manifest_document,
)
from converter.artifact.pull import read_chain
from converter.artifact.records import ChainRecord, dump_chain
from converter.artifact.referrers import attach, index_entry, list_chains
from converter.artifact.send import DEFAULT_CODEC, Sender
from converter.artifact.tags import check_tag
from converter.artifact.target import Target
from converter.errors import SaltflatError
from converter.events import Event, Monitor
from converter.image import c_oci
from converter.image.digest import Digest
from converter.image.model import Descriptor, Image
from converter.registry.artifacts import ArtifactRepository, manifest_digest
from converter.store.layout import Store
from converter.store.links import LinkRecord
from converter.store.locks import locked

_LOCAL = frozenset({"oci", "dir"})  # containers-transports(5)
_ARCHIVE = "-archive"
PARALLEL_SENDS = 2  # compressing is what takes time, and zstd keeps a processor busy


@dataclass(frozen=True, slots=True)
class Pushed:
    """A chain in a registry: the artifact's digest, and its links with their transport forms."""

    digest: Digest
    parcels: tuple[Parcel, ...]


def push_chain(
    image: Image,
    links: tuple[LinkRecord, ...],
    store: Store,
    repository: ArtifactRepository,
    target: Target,
    *,
    codec: Codec = DEFAULT_CODEC,
    monitor: Monitor,
) -> Pushed:
    """Push the chain of `image`, whose `links` are in `store`, base first.

    To be called while the store is in use (`converter.store.locks.using`). Raises UsageError if the
    tag is that of something else, IntegrityError if the links are not the image's or the store's
    files not as written, OSError, and the registry's errors.
    """
    check_layers(image, links)
    if target.tag is not None:
        check_tag(repository, target.tag, c.CHAIN)
    stopping = threading.Event()

    def watched(event: Event) -> None:
        if stopping.is_set():
            raise CancelledError
        monitor(event)

    sender = Sender(repository, store, codec=codec, monitor=watched)
    known = tuple(_known(repository, image.digest))

    def send(link: LinkRecord) -> Parcel:
        mine = [parcel for parcel in known if parcel.record.link_id == link.link_id]
        return sender.link(link, mine or _cached(repository, link))

    with ThreadPoolExecutor(PARALLEL_SENDS, thread_name_prefix="send") as senders:
        sending = [senders.submit(send, link) for link in links]
        try:
            parcels = tuple(future.result() for future in sending)
        except BaseException:
            stopping.set()
            senders.shutdown(wait=False, cancel_futures=True)
            raise
    whole = with_empty_links(image, links, store)
    record = ChainRecord(_public_reference(image.reference), image.platform, whole)
    artifact = Artifact(
        c.CHAIN,
        sender.document(dump_chain(record), c.CHAIN),
        (
            sender.document(image.manifest_raw, c.IMAGE_MANIFEST, title="manifest.json"),
            sender.document(image.config_raw, c.IMAGE_CONFIG, title="config.json"),
            *(blob for parcel in parcels for blob in (parcel.disk, parcel.state) if blob),
        ),
        Descriptor(image.manifest.media_type, image.digest, len(image.manifest_raw)),
        chain_annotations(record),
    )
    digest = _put(repository, artifact, image.digest, target.tag, store)
    return Pushed(digest, parcels)


def _put(
    repository: ArtifactRepository,
    artifact: Artifact,
    subject: Digest,
    tag: str | None,
    store: Store,
) -> Digest:
    document = manifest_document(artifact)
    digest = Digest.parse(manifest_digest(document))
    if not repository.push_manifest(document, tag or str(digest)):
        place = hashlib.sha256(f"{repository.name}@{subject}".encode()).hexdigest()
        turn = locked(store.locks / f"referrers-{place[:32]}")
        attach(repository, subject, index_entry(document, digest), turn=turn)
    return digest


def _cached(repository: ArtifactRepository, link: LinkRecord) -> tuple[Parcel, ...]:
    """Return what a cache has of the link, if the repository is one."""
    with suppress(SaltflatError):  # a broken artifact is as good as none
        found = find_link_artifact(repository, link.link_id)
        return () if found is None else (found,)
    return ()


def _known(repository: ArtifactRepository, image: Digest) -> Iterator[Parcel]:
    """Yield what chains of the same image have: the same links, perhaps in another form."""
    for referrer in list_chains(repository, image):
        with suppress(SaltflatError):  # a broken artifact is as good as none
            answer = repository.manifest(
                str(referrer.descriptor.digest), accept=(c_oci.OCI_MANIFEST,)
            )
            if answer is not None:
                yield from read_chain(repository, answer.raw, referrer.descriptor.digest).parcels


def _public_reference(reference: str) -> str:
    """Return a reference without the folders of this machine, which are nobody else's business."""
    transport, colon, rest = reference.partition(":")
    if colon and (transport in _LOCAL or transport.endswith(_ARCHIVE)):
        path, colon, tag = rest.partition(":")
        name = path.rstrip("/").rpartition("/")[2]
        return f"{transport}:{name or path}{colon}{tag}"
    return reference
