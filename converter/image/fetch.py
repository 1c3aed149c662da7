"""Blobs from a source into a folder of blobs: whole and verified, or absent."""

from __future__ import annotations

from pathlib import Path

from converter.atomic import atomic_file, make_directory
from converter.events import Monitor, StepAdvanced, StepFinished, StepStarted
from converter.image.digest import Digest
from converter.image.model import Descriptor
from converter.image.source import Source
from converter.image.verify import verified

_ADVANCE_BYTES = 1 << 20


def blob_path(blobs: Path, digest: Digest) -> Path:
    """Return where a blob lies in the folder `blobs`: `<algorithm>/<hex>`, as in an OCI layout."""
    return blobs / digest.algorithm / digest.encoded


def fetch_blob(
    source: Source, descriptor: Descriptor, blobs: Path, monitor: Monitor, *, step: str = ""
) -> Path:
    """Make sure that the folder `blobs` has the blob, and return its path there.

    A file of the right size is taken as it is: it got its name only after it was verified.
    Processes that fetch the same blob at once do not disturb each other; each renames equal content
    to the final name. `step` names the work for the monitor. Raises IntegrityError, OSError, and
    what the source raises; then no file has the final name.
    """
    step = step or f"pull {descriptor.digest.encoded[:12]}"
    path = blob_path(blobs, descriptor.digest)
    monitor(StepStarted(step, descriptor.size_bytes))
    if path.is_file() and path.stat().st_size == descriptor.size_bytes:
        monitor(StepFinished(step, "already here"))
        return path
    make_directory(path.parent)
    done_bytes = told_bytes = 0
    with atomic_file(path) as file, source.open_blob(descriptor) as chunks:
        for chunk in verified(chunks, descriptor):
            view = memoryview(chunk)
            while view:  # the file is unbuffered: a write may be short
                view = view[file.write(view) :]
            done_bytes += len(chunk)
            if done_bytes - told_bytes >= _ADVANCE_BYTES:
                told_bytes = done_bytes
                monitor(StepAdvanced(step, done_bytes))
    monitor(StepFinished(step, f"{done_bytes} bytes"))
    return path
