"""A blob's content out of a repository: held to the blob's digest and to the link's own hash."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from converter.artifact import c_artifact as c
from converter.artifact.codec import Codec, decode
from converter.image.model import Descriptor
from converter.image.verify import verified
from converter.registry.artifacts import ArtifactRepository


def content(
    repository: ArtifactRepository,
    blob: Descriptor,
    codec: Codec,
    look: Callable[[int], None],
) -> Iterator[bytes]:
    """Yield what `blob` unfolds to, as its annotations promise it.

    `look` is told how many bytes have arrived; what it raises ends it. Only when the iterator has
    ended without an error may anything be trusted. Raises IntegrityError, and the registry's
    errors.
    """

    def watched(chunks: Iterator[bytes]) -> Iterator[bytes]:
        arrived_bytes = 0
        for chunk in chunks:
            look(arrived_bytes)
            yield chunk
            arrived_bytes += len(chunk)

    with repository.blob(str(blob.digest)) as chunks:
        yield from decode(
            verified(watched(chunks), blob),
            codec,
            size_bytes=int(blob.annotations[c.ANNOTATION_SIZE]),
            sha256=blob.annotations[c.ANNOTATION_SHA256],
            what=blob.annotations[c.ANNOTATION_TITLE],
        )
