"""Blobs from a source into a folder of blobs: whole and verified, or absent."""

from __future__ import annotations

from pathlib import Path

from converter.atomic import make_directory
from converter.events import Monitor, StepFinished, StepStarted
from converter.image.digest import Digest
from converter.image.model import Descriptor
from converter.image.partial import is_whole, partial_blob
from converter.image.source import Source

PARALLEL_FETCHES = 4  # at a time, unless somebody says otherwise


def blob_path(blobs: Path, digest: Digest) -> Path:
    """Return where a blob lies in the folder `blobs`: `<algorithm>/<hex>`, as in an OCI layout."""
    return blobs / digest.algorithm / digest.encoded


def fetch_blob(
    source: Source, descriptor: Descriptor, blobs: Path, monitor: Monitor, *, step: str = ""
) -> Path:
    """Make sure that the folder `blobs` has the blob, and return its path there.

    A file of the right size is taken as it is: it got its name only after it was verified. When
    several want the same blob at once, one fetches it and the others wait for it; after an error or
    a crash the next one goes on where it stopped. `step` names the work for the
    monitor. Raises IntegrityError, OSError, and what the source raises; then no file has the final
    name.
    """
    step = step or f"pull {descriptor.digest.encoded[:12]}"
    path = blob_path(blobs, descriptor.digest)
    monitor(StepStarted(step, descriptor.size_bytes))
    if is_whole(path, descriptor.size_bytes):
        monitor(StepFinished(step, "already here"))
        return path
    make_directory(path.parent)
    with partial_blob(path, descriptor, step=step, monitor=monitor) as partial:
        if partial is None:
            monitor(StepFinished(step, "fetched by another process"))
            return path
        source.receive(descriptor, partial)
        partial.commit(path)
    monitor(StepFinished(step, f"{descriptor.size_bytes} bytes"))
    return path
