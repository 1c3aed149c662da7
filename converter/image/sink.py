"""What takes a blob's bytes as they come. The interface between sources and who keeps blobs."""

from __future__ import annotations

from typing import Protocol

from converter.image.files import Content


class CheckedSink(Protocol):
    """Takes a blob's bytes in order, knows whether they are right, and can begin anew."""

    @property
    def position(self) -> int:
        """How many bytes it has: where the next one belongs."""

    def write(self, chunk: bytes, /) -> None:
        """Take bytes. Raises IntegrityError when they are too many."""

    def check(self) -> None:
        """Raise IntegrityError unless the blob is whole and right."""

    def restart(self) -> None:
        """Forget all bytes."""

    def note(self, text: str, /) -> None:
        """Tell whoever watches."""


def copy_into(content: Content, into: CheckedSink) -> None:
    """Give a sink the bytes of a file, from its beginning, and check them.

    Raises as opening the content does, and IntegrityError.
    """
    into.restart()
    with content.chunks() as chunks:
        for chunk in chunks:
            into.write(chunk)
    into.check()
