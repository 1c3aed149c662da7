"""A layer's blob as a stream of plain tar bytes, hashed on the way. Owns the threads for it.

Inflating and hashing happen in two threads of their own, beside the consumer's: the libraries
release the interpreter's lock while they work, so that on several cores the slowest of the three
sets the pace, not their sum. Formats are the business of `converter.layer.compression`, the
archive's content that of `converter.layer.tar`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from threading import Thread
from typing import BinaryIO, Self

from converter.errors import IntegrityError
from converter.image.digest import Digest, Hasher
from converter.image.model import Descriptor
from converter.image.verify import verified
from converter.layer.channel import Channel
from converter.layer.compression import decompress
from converter.layer.limits import DEFAULT_LIMITS, Limits, bounded

_READ_BYTES = 128 << 10
_DEPTH = 8  # chunks that wait between two threads: at most 2 MiB


def open_layer(
    file: BinaryIO,
    descriptor: Descriptor,
    *,
    verify_blob: bool = False,
    algorithm: str = "sha256",
    limits: Limits = DEFAULT_LIMITS,
) -> LayerStream:
    """Return the uncompressed bytes of the layer blob in `file`, from its current position on.

    `file` stays the caller's; until the stream is closed it may be asked for its position, nothing
    more. With `verify_blob`, the compressed bytes are checked against the descriptor as well, for
    files that were not verified when they were written. `algorithm` is that of the expected diffID.
    """
    return LayerStream(
        file, descriptor, verify_blob=verify_blob, algorithm=algorithm, limits=limits
    )


class LayerStream:
    """Iterate over a layer's uncompressed bytes, in chunks of at most 1 MiB.

    A context manager; leaving it, or `close`, ends the threads wherever they are. Iteration raises
    IntegrityError, which names the layer, for data that is damaged, truncated, followed by garbage,
    of an unknown format or beyond the limits, and OSError from the file.
    """

    def __init__(
        self,
        file: BinaryIO,
        descriptor: Descriptor,
        *,
        verify_blob: bool,
        algorithm: str,
        limits: Limits,
    ) -> None:
        self._descriptor = descriptor
        self._algorithm = algorithm
        self._limits = limits
        self._hasher = Digest(algorithm, "").hasher()
        self._plain: Channel[bytes] = Channel(_DEPTH)
        self._to_hash: Channel[bytes] = Channel(_DEPTH)
        self._chunks = self._read_to_end()
        self._diff_id: Digest | None = None
        compressed = iter(lambda: file.read(_READ_BYTES), b"")
        if verify_blob:
            compressed = verified(compressed, descriptor)
        # Daemons: a stream that nobody closed must not keep a failing program from ending.
        self._threads = (
            Thread(target=self._inflate, args=(compressed,), name="inflate", daemon=True),
            Thread(target=_hash, args=(self._to_hash, self._hasher), name="hash", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        """Return the one iterator over the chunks: a second loop goes on where the first ended."""
        return self._chunks

    def drain(self) -> None:
        """Read what is left, such as padding after the end of the archive. Raises as iteration."""
        for _ in self._chunks:
            pass

    @property
    def diff_id(self) -> Digest:
        """The digest of all uncompressed bytes, known when they have been read to the end."""
        if self._diff_id is None:
            raise RuntimeError("the layer has not been read to its end")
        return self._diff_id

    def check(self, expected: Digest) -> None:
        """Drain the stream; raise IntegrityError unless the content has the diffID `expected`."""
        self.drain()
        if self.diff_id != expected:
            raise IntegrityError(
                f"The content of layer {self._descriptor.digest} has the digest {self.diff_id}.",
                expected=f"{expected}, its diff_id in the image's configuration",
            )

    def close(self) -> None:
        """End the threads and wait for them; what was not read is lost. Twice is once."""
        self._plain.close()
        self._to_hash.close()
        for thread in self._threads:
            thread.join()
        self._chunks.close()

    def _read_to_end(self) -> Generator[bytes, None, None]:
        yield from self._plain
        for thread in self._threads:
            thread.join()
        self._diff_id = Digest(self._algorithm, self._hasher.hexdigest())

    def _inflate(self, compressed: Iterator[bytes]) -> None:
        error: BaseException | None = None
        what = f"Layer {self._descriptor.digest}"
        try:
            for chunk in bounded(
                decompress(compressed, what),
                what,
                compressed_bytes=self._descriptor.size_bytes,
                limits=self._limits,
            ):
                if not (self._to_hash.put(chunk) and self._plain.put(chunk)):
                    break
        except BaseException as raised:  # whatever it is, it is the consumer's to see
            error = raised
        self._to_hash.finish()
        self._plain.finish(error)


def _hash(chunks: Channel[bytes], hasher: Hasher) -> None:
    for chunk in chunks:
        hasher.update(chunk)
