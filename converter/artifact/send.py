"""A link's disk and state from the store into a registry: compressed once, sent if missing.

The compressed form is made in a file without a name in the store's folder, so that its digest and
size are known before a byte is sent, and a process that dies leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from converter.artifact import c_artifact as c
from converter.artifact.codec import Codec, encode
from converter.artifact.manifest import Parcel, disk_descriptor, state_descriptor
from converter.errors import IntegrityError, SaltflatError
from converter.events import Monitor, StepAdvanced, StepFinished, StepStarted
from converter.image.digest import Digest
from converter.image.model import Descriptor
from converter.registry.artifacts import ArtifactRepository
from converter.store.layout import Store
from converter.store.links import LinkRecord, disk_path, read_state

_CHUNK_BYTES = 1 << 20


def send_link(
    repository: ArtifactRepository,
    store: Store,
    record: LinkRecord,
    codec: Codec,
    *,
    known: Iterable[Parcel] = (),
    monitor: Monitor,
) -> Parcel:
    """Make sure that `repository` has the link's blobs, and return where.

    `known` are parcels that the repository is said to have: where one of them is this link's, in
    whatever transport form, its disk is neither compressed nor sent. Raises IntegrityError if the
    store's files are not as written, OSError, and the registry's errors.
    """
    if record.empty:
        return Parcel(record)
    step = f"push {record.link_id[:12]}"
    disk = _present(repository, record, known)
    if disk is None:
        monitor(StepStarted(step, record.size_bytes))
        disk = _send_disk(repository, store, record, codec, step, monitor)
    else:
        monitor(StepFinished(step, "already there", minor=True))
    state = state_descriptor(record)
    with tempfile.TemporaryFile(dir=store.cache) as file:
        file.write(read_state(store, record))
        repository.push_blob(file, digest=str(state.digest), size_bytes=state.size_bytes)
    return Parcel(record, disk, state)


def send_document(
    repository: ArtifactRepository,
    raw: bytes,
    media_type: str,
    *,
    scratch: Path,
    title: str | None = None,
) -> Descriptor:
    """Make sure that `repository` has the small blob `raw`, and return its descriptor."""
    annotations = {} if title is None else {c.ANNOTATION_TITLE: title}
    descriptor = Descriptor(media_type, Digest.of(raw), len(raw), annotations)
    with tempfile.TemporaryFile(dir=scratch) as file:
        file.write(raw)
        repository.push_blob(file, digest=str(descriptor.digest), size_bytes=len(raw))
    return descriptor


def _present(
    repository: ArtifactRepository, record: LinkRecord, known: Iterable[Parcel]
) -> Descriptor | None:
    for parcel in known:
        same = (parcel.record.link_id, parcel.record.sha256) == (record.link_id, record.sha256)
        if same and parcel.disk is not None and repository.has_blob(str(parcel.disk.digest)):
            return disk_descriptor(
                record,
                parcel.codec,
                digest=parcel.disk.digest,
                size_bytes=parcel.disk.size_bytes,
            )
    return None


def _send_disk(
    repository: ArtifactRepository,
    store: Store,
    record: LinkRecord,
    codec: Codec,
    step: str,
    monitor: Monitor,
) -> Descriptor:
    with tempfile.TemporaryFile(dir=store.cache) as file:
        hasher = hashlib.sha256()
        for data in encode(_disk(store, record, step, monitor), codec):
            hasher.update(data)
            file.write(data)
        size_bytes = file.tell()
        digest = Digest("sha256", hasher.hexdigest())
        sent = repository.push_blob(
            file,
            digest=str(digest),
            size_bytes=size_bytes,
            watch=lambda _sent: monitor(StepAdvanced(step, record.size_bytes)),
        )
        monitor(StepFinished(step, f"{size_bytes / 1e6:.1f} MB" if sent else "already there"))
        return disk_descriptor(record, codec, digest=digest, size_bytes=size_bytes)


def _disk(store: Store, record: LinkRecord, step: str, monitor: Monitor) -> Iterator[bytes]:
    """Yield a disk's bytes; raise IntegrityError at the end unless they are as written."""
    path = disk_path(store, record.link_id)
    hasher = hashlib.sha256()
    done_bytes = 0
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
                yield chunk
                done_bytes += len(chunk)
                monitor(StepAdvanced(step, done_bytes))
    except FileNotFoundError:
        raise SaltflatError(
            f"{path} is missing.", hint="Convert the image again; it makes the link anew."
        ) from None
    if hasher.hexdigest() != record.sha256:
        raise IntegrityError(
            f"{path} is not what was written.",
            expected=f"sha256 {record.sha256}",
            hint=f"Delete {path.with_suffix('.json')}; converting again makes the link anew.",
        )
