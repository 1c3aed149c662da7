"""The one place where content meets its digest. Does no I/O of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from converter.errors import IntegrityError
from converter.image.digest import Digest
from converter.image.model import Descriptor


def verified(chunks: Iterable[bytes], descriptor: Descriptor) -> Iterator[bytes]:
    """Pass `chunks` through; raise IntegrityError unless they are exactly what was described.

    Only when the iterator has ended without an error may anything that was yielded be trusted. It
    stops at the first byte too many, so a stream without end costs no more than the blob.
    """
    hasher = descriptor.digest.hasher()
    got_bytes = 0
    for chunk in chunks:
        got_bytes += len(chunk)
        if got_bytes > descriptor.size_bytes:
            raise IntegrityError(
                f"Blob {descriptor.digest} is longer than its descriptor says.",
                expected=f"{descriptor.size_bytes} bytes",
            )
        hasher.update(chunk)
        yield chunk
    if got_bytes != descriptor.size_bytes:
        raise IntegrityError(
            f"Blob {descriptor.digest} is {got_bytes} bytes long.",
            expected=f"{descriptor.size_bytes} bytes",
        )
    got = Digest(descriptor.digest.algorithm, hasher.hexdigest())
    if got != descriptor.digest:
        raise IntegrityError(
            f"Blob {descriptor.digest} has the digest {got}.", expected=str(descriptor.digest)
        )


def verify_document(raw: bytes, digest: Digest, *, what: str) -> None:
    """Check a document that is held whole. Raises IntegrityError."""
    got = Digest.of(raw, digest.algorithm)
    if got != digest:
        raise IntegrityError(f"{what} has the digest {got}.", expected=str(digest))
