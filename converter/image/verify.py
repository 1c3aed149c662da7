"""The one place where content meets its digest. Does no I/O of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from converter.errors import IntegrityError
from converter.image.digest import Digest
from converter.image.model import Descriptor


class Verifier:
    """Compare a blob with its descriptor while it passes. Only `finish` says that it is right."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._hasher = descriptor.digest.hasher()
        self.got_bytes = 0

    def update(self, chunk: bytes) -> None:
        """Take the next bytes. Raises IntegrityError at the first byte too many."""
        self.got_bytes += len(chunk)
        if self.got_bytes > self._descriptor.size_bytes:
            raise IntegrityError(
                f"Blob {self._descriptor.digest} is longer than its descriptor says.",
                expected=f"{self._descriptor.size_bytes} bytes",
            )
        self._hasher.update(chunk)

    def finish(self) -> None:
        """Raise IntegrityError unless all bytes together are exactly what was described."""
        digest = self._descriptor.digest
        if self.got_bytes != self._descriptor.size_bytes:
            raise IntegrityError(
                f"Blob {digest} is {self.got_bytes} bytes long.",
                expected=f"{self._descriptor.size_bytes} bytes",
            )
        got = Digest(digest.algorithm, self._hasher.hexdigest())
        if got != digest:
            raise IntegrityError(f"Blob {digest} has the digest {got}.", expected=str(digest))


def verified(chunks: Iterable[bytes], descriptor: Descriptor) -> Iterator[bytes]:
    """Pass `chunks` through; raise IntegrityError unless they are exactly what was described.

    Only when the iterator has ended without an error may anything that was yielded be trusted. It
    stops at the first byte too many, so a stream without end costs no more than the blob.
    """
    verifier = Verifier(descriptor)
    for chunk in chunks:
        verifier.update(chunk)
        yield chunk
    verifier.finish()


def verify_document(raw: bytes, digest: Digest, *, what: str) -> None:
    """Check a document that is held whole. Raises IntegrityError."""
    got = Digest.of(raw, digest.algorithm)
    if got != digest:
        raise IntegrityError(f"{what} has the digest {got}.", expected=str(digest))
