"""A link's disk and state from the store into a registry: compressed once, sent if missing.

The compressed form is made in a file without a name in the store's folder, so that its digest and
size are known before a byte is sent, and a process that dies leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator

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

DEFAULT_CODEC = Codec.ZSTD
_CHUNK_BYTES = 1 << 20


class Sender:
    """Send what `store` has to `repository`, disks in the form `codec`; for any number of threads.

    Its methods raise IntegrityError if the store's files are not as written, OSError, the
    registry's errors, and what `monitor` raises.
    """

    def __init__(
        self,
        repository: ArtifactRepository,
        store: Store,
        *,
        codec: Codec = DEFAULT_CODEC,
        monitor: Monitor,
    ) -> None:
        self._repository = repository
        self._store = store
        self._codec = codec
        self._monitor = monitor

    def link(self, record: LinkRecord, known: Iterable[Parcel] = ()) -> Parcel:
        """Make sure that the repository has the link's blobs, and return where.

        `known` are parcels that the repository is said to have: where one of them is this link's,
        in whatever form, its disk is neither compressed nor sent.
        """
        if record.empty:
            return Parcel(record)
        step = f"push {record.link_id[:12]}"
        disk = self._present(record, known)
        if disk is None:
            self._monitor(StepStarted(step, record.size_bytes))
            disk = self._send_disk(record, step)
        else:
            self._monitor(StepFinished(step, "already there", minor=True))
        state = state_descriptor(record)
        self._send_bytes(read_state(self._store, record), state.digest)
        return Parcel(record, disk, state)

    def document(self, raw: bytes, media_type: str, *, title: str | None = None) -> Descriptor:
        """Make sure that the repository has the small blob `raw`, and return its descriptor."""
        annotations = {} if title is None else {c.ANNOTATION_TITLE: title}
        descriptor = Descriptor(media_type, Digest.of(raw), len(raw), annotations)
        self._send_bytes(raw, descriptor.digest)
        return descriptor

    def _present(self, record: LinkRecord, known: Iterable[Parcel]) -> Descriptor | None:
        for parcel in known:
            theirs, disk = parcel.record, parcel.disk
            same = (theirs.link_id, theirs.sha256) == (record.link_id, record.sha256)
            if same and disk is not None and self._repository.has_blob(str(disk.digest)):
                return disk_descriptor(
                    record, parcel.codec, digest=disk.digest, size_bytes=disk.size_bytes
                )
        return None

    def _send_bytes(self, raw: bytes, digest: Digest) -> None:
        with tempfile.TemporaryFile(dir=self._store.cache) as file:
            file.write(raw)
            self._repository.push_blob(file, digest=str(digest), size_bytes=len(raw))

    def _send_disk(self, record: LinkRecord, step: str) -> Descriptor:
        with tempfile.TemporaryFile(dir=self._store.cache) as file:
            hasher = hashlib.sha256()
            for data in encode(self._disk(record, step), self._codec):
                hasher.update(data)
                file.write(data)
            size_bytes = file.tell()
            digest = Digest("sha256", hasher.hexdigest())
            sent = self._repository.push_blob(
                file,
                digest=str(digest),
                size_bytes=size_bytes,
                watch=lambda _sent: self._monitor(StepAdvanced(step, record.size_bytes)),
            )
            summary = f"{size_bytes / 1e6:.1f} MB" if sent else "already there"
            self._monitor(StepFinished(step, summary))
            return disk_descriptor(record, self._codec, digest=digest, size_bytes=size_bytes)

    def _disk(self, record: LinkRecord, step: str) -> Iterator[bytes]:
        """Yield a disk's bytes; raise IntegrityError at the end unless they are as written."""
        path = disk_path(self._store, record.link_id)
        hasher = hashlib.sha256()
        done_bytes = 0
        try:
            with open(path, "rb", buffering=0) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    hasher.update(chunk)
                    yield chunk
                    done_bytes += len(chunk)
                    self._monitor(StepAdvanced(step, done_bytes))
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
