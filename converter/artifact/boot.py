"""Boot images as artifacts, for hosts that cannot build one: pushed as they are, pulled whole.

The configuration is boot.json, the blobs are the files of the folder with their names in it. What
is pulled is held to the artifact's digests and then to boot.json and media.json as any boot image
is; who made it is trusted for what is in it.
"""

from __future__ import annotations

import os
from pathlib import Path

from converter.artifact import c_artifact as c
from converter.artifact.codec import Codec
from converter.artifact.content import content, document
from converter.artifact.manifest import Artifact, manifest_document, parse_artifact
from converter.artifact.tags import check_tag
from converter.artifact.target import Target
from converter.atomic import atomic_directory, write_atomic
from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.events import Monitor, StepAdvanced, StepFinished, StepStarted
from converter.image import c_oci
from converter.image.digest import Digest
from converter.image.json_object import JsonObject
from converter.image.model import Descriptor
from converter.image.verify import verify_document
from converter.registry.artifacts import ArtifactRepository, manifest_digest
from converter.store.layout import Store
from tinykernel.media.record import MEDIA_FOLDER, Kind, digest_of, load_media
from tinykernel.media.record import RECORD_FILE as MEDIA_RECORD
from tinykernel.record import (
    CONTENTS_FILE,
    INITRD_FILE,
    KERNEL_FILE,
    RECORD_FILE,
    SBOM_FILE,
    BootImage,
    decode_record,
    load_boot_image,
)

# Every name that a file of a boot image may have; a registry cannot choose others.
_MEDIA_FILES = (*(kind.file_name for kind in Kind), MEDIA_RECORD)
_FILES = (
    *(KERNEL_FILE, INITRD_FILE, CONTENTS_FILE, SBOM_FILE),
    *(f"{MEDIA_FOLDER}/{name}" for name in _MEDIA_FILES),
)


def push_boot_image(
    image: BootImage, repository: ArtifactRepository, target: Target, *, monitor: Monitor
) -> Digest:
    """Push a boot image and the media that were made of it; return the artifact's digest.

    Raises UsageError if the tag is that of something else, IntegrityError if a medium is damaged,
    OSError, and the registry's errors.
    """
    if target.tag is not None:
        check_tag(repository, target.tag, c.BOOT)
    media = load_media(image)
    names = list(image.digests())
    if media is not None:
        names += [f"{MEDIA_FOLDER}/{medium.path.name}" for medium in media.media]
        names.append(f"{MEDIA_FOLDER}/{MEDIA_RECORD}")
    layers = tuple(
        _send(image.folder / name, name, repository, c.BOOT_FILE, monitor) for name in names
    )
    record = _send(image.folder / RECORD_FILE, RECORD_FILE, repository, c.BOOT, monitor)
    manifest = manifest_document(Artifact(c.BOOT, record, layers))
    digest = manifest_digest(manifest)
    repository.push_manifest(manifest, target.tag or digest)
    return Digest.parse(digest)


def pull_boot_image(
    repository: ArtifactRepository, identifier: str, store: Store, *, monitor: Monitor
) -> BootImage:
    """Bring the boot image of that tag or digest into `store`, or find it there.

    To be called while the store is in use. Raises NotFoundError, UsageError for what is no boot
    image, IntegrityError for one that is not what its digests and its record say, or whose name a
    different one has in the store; OSError, and the registry's errors.
    """
    artifact, what = _find(repository, identifier)
    raw = document(repository, artifact.config, what=f"{what}: its record")
    fields = JsonObject.parse(raw, what=f"{what}: its record", limit=c.MAX_DOCUMENT_BYTES)
    try:
        claimed = decode_record(store.boot, fields.members)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{what} has no record of a boot image: {error!r}.") from error
    folder = store.boot / claimed.id
    present = _present(folder, raw)
    if present is not None and all(_is_there(folder, blob) for blob in artifact.layers):
        monitor(StepFinished("pull boot image", "already there"))
        return present
    # What is there is damaged, or the same with other media.
    with atomic_directory(folder) as temp:
        for blob in artifact.layers:
            _fetch(repository, blob, temp, what=what, monitor=monitor)
        write_atomic(temp / RECORD_FILE, raw)
        load_media(load_boot_image(temp))
    return load_boot_image(folder)


def _send(
    path: Path, name: str, repository: ArtifactRepository, media_type: str, monitor: Monitor
) -> Descriptor:
    """Make sure that the repository has a file, and return its descriptor."""
    size, sha256 = path.stat().st_size, digest_of(path)
    step = f"push {name}"
    monitor(StepStarted(step, size))
    with path.open("rb") as file:
        sent = repository.push_blob(
            file,
            digest=f"sha256:{sha256}",
            size_bytes=size,
            watch=lambda count: monitor(StepAdvanced(step, count)),
        )
    monitor(StepFinished(step, f"{size / 1e6:.1f} MB" if sent else "already there"))
    annotations = {
        c.ANNOTATION_TITLE: name,
        c.ANNOTATION_SIZE: str(size),
        c.ANNOTATION_SHA256: sha256,
    }
    return Descriptor(media_type, Digest("sha256", sha256), size, annotations)


def _find(repository: ArtifactRepository, identifier: str) -> tuple[Artifact, str]:
    """Return the artifact, whose blobs have names and sizes that may be, and what to call it."""
    what = f"{repository.name}{'@' if ':' in identifier else ':'}{identifier}"
    answer = repository.manifest(identifier, accept=c_oci.ACCEPTED_DOCUMENTS)
    if answer is None:
        raise NotFoundError(f"{what} was not found.", hint="Check the name and the tag.")
    if ":" in identifier:
        verify_document(answer.raw, Digest.parse(identifier), what=what)
    artifact = parse_artifact(answer.raw, what=what)
    if artifact is None or artifact.artifact_type != c.BOOT:
        raise UsageError(f"{what} is not a boot image.", expected=f"an artifact of type {c.BOOT}")
    names = [blob.annotations.get(c.ANNOTATION_TITLE, "") for blob in artifact.layers]
    for blob, name in zip(artifact.layers, names, strict=True):
        if name not in _FILES or names.count(name) > 1:
            raise IntegrityError(
                f"{what} has a file {name[:100]!r}.", expected=f"each once of {', '.join(_FILES)}"
            )
        if blob.size_bytes > c.MAX_BOOT_FILE_BYTES:
            raise IntegrityError(
                f"{what}: {name} is to be {blob.size_bytes} bytes long.",
                expected=f"at most {c.MAX_BOOT_FILE_BYTES}",
            )
    return artifact, what


def _is_there(folder: Path, blob: Descriptor) -> bool:
    """Say whether a file is there as the artifact has it."""
    try:
        return digest_of(folder / blob.annotations[c.ANNOTATION_TITLE]) == blob.digest.encoded
    except OSError:
        return False


def _present(folder: Path, raw: bytes) -> BootImage | None:
    """Return the boot image that is there, if it is sound; it must have the same record."""
    try:
        image = load_boot_image(folder)
    except (NotFoundError, IntegrityError):
        return None
    if (folder / RECORD_FILE).read_bytes() != raw:
        raise IntegrityError(
            f"The store has another boot image under the id {image.id}.",
            expected="the same boot.json as the artifact's",
            hint=f"If the artifact is to be trusted rather than the store, remove {folder}.",
        )
    return image


def _fetch(
    repository: ArtifactRepository, blob: Descriptor, folder: Path, *, what: str, monitor: Monitor
) -> None:
    """Fetch one file, verified, into `folder`, durable."""
    name, size = blob.annotations[c.ANNOTATION_TITLE], blob.size_bytes
    wanted = {c.ANNOTATION_SIZE: str(size), c.ANNOTATION_SHA256: blob.digest.encoded}
    if any(blob.annotations.get(key) != text for key, text in wanted.items()):
        raise IntegrityError(f"{what}: the annotations of {name} are not those of its blob.")
    step = f"pull {name}"
    monitor(StepStarted(step, size))
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    with path.open("xb") as file:
        for chunk in content(
            repository,
            blob,
            Codec.NONE,
            scratch=folder,
            look=lambda count: monitor(StepAdvanced(step, count)),
        ):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    monitor(StepFinished(step, f"{size / 1e6:.1f} MB"))
