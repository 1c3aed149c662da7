"""How much a layer may ask of us before it is refused. Owns the limits, not where they apply.

Without them a blob of a few kilobytes can claim days of work: zstd packs 128 KiB of zeros into four
bytes, and a tar header of 512 zeros-and-digits is a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from converter.errors import IntegrityError

# A layer that unpacks to less is never refused for its ratio: zeros are legitimate content.
RATIO_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """What one layer may have; each field is an option of the command line.

    `max_entries` counts its members, `max_layer_bytes` its uncompressed bytes. `max_ratio` is of
    uncompressed to compressed bytes, beyond the first `RATIO_FREE_BYTES`: deflate cannot exceed
    1032, so the default refuses no gzip layer, while zstd reaches 32,768.
    """

    max_entries: int = 2_000_000
    max_layer_bytes: int = 64 << 30
    max_ratio: int = 1100


DEFAULT_LIMITS = Limits()


def bounded(
    chunks: Iterable[bytes], what: str, *, compressed_bytes: int, limits: Limits
) -> Iterator[bytes]:
    """Yield the uncompressed `chunks` of a layer while they are within `limits`.

    Raises IntegrityError, in which `what` names the layer, with the chunk that exceeds them.
    """
    by_ratio = max(RATIO_FREE_BYTES, limits.max_ratio * compressed_bytes)
    size_bytes = 0
    for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes > limits.max_layer_bytes:
            raise IntegrityError(
                f"{what} unpacks to more than {limits.max_layer_bytes} bytes.",
                expected=f"at most {limits.max_layer_bytes} bytes (--max-layer-size)",
                hint="If you trust the image, allow more with --max-layer-size.",
            )
        if size_bytes > by_ratio:
            raise IntegrityError(
                f"{what} has {compressed_bytes} bytes and unpacks to more than {by_ratio}.",
                expected=f"at most {limits.max_ratio} times as much (--max-ratio)",
                hint="If you trust the image, allow more with --max-ratio.",
            )
        yield chunk
