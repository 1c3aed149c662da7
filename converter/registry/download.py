"""One blob over as many connections as it takes. Owns where to go on; verifies nothing.

Bytes go to a sink, which knows what it has and checks it. What arrived once is never asked for
again: after a break the next request begins at the sink's position, and where a server has no
ranges, what comes twice is dropped.
"""

from __future__ import annotations

from typing import Protocol

from converter.errors import IntegrityError
from converter.registry.failures import TransientError
from converter.registry.parts import BlobPlace, RangeRefusedError

# After so much of a blob, earlier failures are forgotten: a long blob may break often.
RENEWING_BYTES = 8 << 20


class Sink(Protocol):
    """Takes a blob's bytes in order."""

    @property
    def position(self) -> int:
        """How many bytes it has: where the next one belongs."""

    def write(self, chunk: bytes, /) -> None:
        """Take bytes. Raises IntegrityError when they are too many."""


def download(place: BlobPlace, size_bytes: int, sink: Sink) -> int:
    """Fill `sink` up to `size_bytes`; return how many responses had a part in it.

    Raises TransientError once patience is at its end, IntegrityError when the place's blob has
    another size, and what the place raises.
    """
    patience = place.patience()
    ranges = True
    responses = 0
    renewed_at = sink.position
    while sink.position < size_bytes:
        before = sink.position
        error: TransientError | None = None
        try:
            with place.part(before if ranges else 0) as part:
                if part.size_bytes is not None and part.size_bytes > size_bytes:
                    raise _wrong_size(place, part.size_bytes, size_bytes)
                surplus = before - part.start
                for chunk in part.chunks:
                    if surplus >= len(chunk):
                        surplus -= len(chunk)
                        continue
                    sink.write(chunk[surplus:] if surplus else chunk)
                    surplus = 0
                if part.size_bytes == sink.position == before < size_bytes:
                    # Whole, short, and nothing new in it: this is all that there is.
                    raise _wrong_size(place, before, size_bytes)
        except TransientError as broken:
            error = broken
        except RangeRefusedError as refused:
            if refused.size_bytes is not None and refused.size_bytes <= before:
                raise _wrong_size(place, refused.size_bytes, size_bytes) from None
            if not ranges:
                raise
            ranges = False
            continue
        responses += sink.position > before
        if sink.position < size_bytes:
            if sink.position - renewed_at >= RENEWING_BYTES:
                renewed_at = sink.position
                patience.renew()
            patience.bear(error or _ended(place, sink.position, size_bytes))
    return responses


def _wrong_size(place: BlobPlace, got_bytes: int, expected_bytes: int) -> IntegrityError:
    return IntegrityError(
        f"The {place.what} is {got_bytes} bytes long at {place.host}.",
        expected=f"{expected_bytes} bytes",
    )


def _ended(place: BlobPlace, got_bytes: int, expected_bytes: int) -> TransientError:
    return TransientError(
        f"{place.host} ended {place.what} after {got_bytes} bytes.",
        expected=f"{expected_bytes} bytes",
        hint="Try again later.",
    )
