"""A blob's content out of a repository: held to the blob's digest and to the link's own hash.

What travels is first kept in a file without a name, so that a fetch that breaks goes on where it
was, and what is in the store's folder takes no more than the compressed form beside the link.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from converter.artifact import c_artifact as c
from converter.artifact.codec import Codec, decode
from converter.errors import IntegrityError
from converter.image.model import Descriptor
from converter.image.verify import verified
from converter.registry.artifacts import ArtifactRepository

_READ_BYTES = 256 << 10

Look = Callable[[int], None]  # is told how many bytes have arrived; what it raises ends the fetch


def content(
    repository: ArtifactRepository, blob: Descriptor, codec: Codec, *, scratch: Path, look: Look
) -> Iterator[bytes]:
    """Yield what `blob` unfolds to, as its annotations promise it; `scratch` is a folder for it.

    Only when the iterator has ended without an error may anything be trusted. Raises
    IntegrityError, OSError, and the registry's errors.
    """
    with tempfile.TemporaryFile(dir=scratch, buffering=0) as file:
        repository.download(
            str(blob.digest), blob.size_bytes, _Arriving(file, blob.size_bytes, look)
        )
        file.seek(0)
        yield from decode(
            verified(iter(lambda: file.read(_READ_BYTES), b""), blob),
            codec,
            size_bytes=int(blob.annotations[c.ANNOTATION_SIZE]),
            sha256=blob.annotations[c.ANNOTATION_SHA256],
            what=blob.annotations[c.ANNOTATION_TITLE],
        )


def document(
    repository: ArtifactRepository,
    descriptor: Descriptor,
    *,
    what: str,
    limit: int = c.MAX_DOCUMENT_BYTES,
) -> bytes:
    """Return a blob of at most `limit` bytes, verified; `what` names it.

    Raises IntegrityError, and the registry's errors.
    """
    if descriptor.size_bytes > limit:
        raise IntegrityError(
            f"{what} is to be {descriptor.size_bytes} bytes long.", expected=f"at most {limit}"
        )
    whole = io.BytesIO()
    arriving = _Arriving(whole, descriptor.size_bytes, lambda _bytes: None)
    repository.download(str(descriptor.digest), descriptor.size_bytes, arriving)
    return b"".join(verified([whole.getvalue()], descriptor))


class _Arriving:
    """A file that a blob is written to. Says how far it is, and takes no more than the blob."""

    def __init__(self, file: BinaryIO, size_bytes: int, look: Look) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self._look = look
        self.position = 0

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises IntegrityError when they are too many."""
        self.position += len(chunk)
        if self.position > self._size_bytes:
            raise IntegrityError(
                "A blob is longer than its descriptor says.", expected=f"{self._size_bytes} bytes"
            )
        self._look(self.position)
        view = memoryview(chunk)
        while view:  # an unbuffered file may take less
            view = view[self._file.write(view) :]
