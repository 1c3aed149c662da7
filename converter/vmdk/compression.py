"""Deflate grains on several cores. Owns the codecs, and that what comes out is in order.

The same grains give the same bytes for one codec, whatever the number of threads: each grain is a
stream of its own. Another codec or level gives other bytes, so whoever promises the same bytes
names the codec.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

try:
    import isal
    from isal import isal_zlib
except ImportError:  # the extra `fast`
    isal_zlib = None  # type: ignore[assignment]  # a module or nothing: mypy has no word for it

ZLIB, ISAL = "zlib", "isal"
LEVELS = {ZLIB: range(1, 10), ISAL: range(4)}
GRAINS_PER_BATCH = 16  # 1 MiB of the usual ones: what is handed to a thread at once
_BATCHES_PER_THREAD = 2  # one at work, one that waits


@dataclass(frozen=True, slots=True)
class Codec:
    """A library and its level: what the bytes of a compressed disk depend on, beside its content.

    zlib has the levels 1 to 9, isal (igzip) 0 to 3. Raises ValueError for others.
    """

    library: str
    level: int

    def __post_init__(self) -> None:
        """Refuse what is no codec."""
        if self.level not in LEVELS.get(self.library, ()):
            raise ValueError(f"codec {self}")

    def __str__(self) -> str:
        """Return what is recorded: "zlib-6"."""
        return f"{self.library}-{self.level}"

    @property
    def is_available(self) -> bool:
        """Say whether the library is installed."""
        return self.library == ZLIB or isal_zlib is not None

    @property
    def version(self) -> str:
        """Return the version of the library, which has to be installed: bytes depend on it too."""
        return isal.ISAL_VERSION if self.library == ISAL else zlib.ZLIB_RUNTIME_VERSION

    def deflated(self, data: bytes) -> bytes:
        """Return a zlib stream, which readers take, not the bare one of the specification."""
        if self.library == ISAL:
            return isal_zlib.compress(data, self.level)
        return zlib.compress(data, self.level)


DEFAULT = Codec(ZLIB, 6)


def best(library: str | None = None) -> Codec:
    """Return the codec for disks that are given away, at its usual level: small, and soon there.

    Without `library` it is isal where it is installed, else zlib. Raises KeyError for one that
    there is not.
    """
    usual = {ISAL: Codec(ISAL, 3), ZLIB: DEFAULT}
    if library is not None:
        return usual[library]
    return usual[ISAL] if usual[ISAL].is_available else usual[ZLIB]


class Compressor:
    """Deflates batches of grains on `threads`; a context manager that ends them.

    With one thread there is none beside the caller's, and nothing to end.
    """

    def __init__(self, codec: Codec = DEFAULT, *, threads: int = 1) -> None:
        """Raise ValueError for a codec whose library is not there, or for no threads."""
        if not codec.is_available or threads < 1:
            raise ValueError(f"codec {codec} on {threads} threads")
        self.codec = codec
        self.batches_max = 1 if threads == 1 else _BATCHES_PER_THREAD * threads
        self._pool: ThreadPoolExecutor | None = None
        if threads > 1:
            # Who has no threads does not wait for what they need.
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - see above

            self._pool = ThreadPoolExecutor(threads, "deflate")

    def __enter__(self) -> Self:
        """Return the compressor itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Wait for the threads; what they have not begun is dropped."""
        self.close()

    def close(self) -> None:
        """End the threads; a second time does nothing."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def begin(self, grains: Sequence[bytes]) -> Callable[[], list[bytes]]:
        """Begin to deflate a batch; what is returned waits for it and returns the streams.

        At most `batches_max` should be under way, or memory grows with the disk.
        """
        if self._pool is None:
            return lambda: self._batch(grains)
        return self._pool.submit(self._batch, grains).result

    def _batch(self, grains: Sequence[bytes]) -> list[bytes]:
        return [self.codec.deflated(grain) for grain in grains]
