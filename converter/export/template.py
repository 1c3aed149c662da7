"""What a template on vSphere is made of: one streamOptimized disk, and the machine around it.

The disk lies in a file without a name until it is sent: its length has to be known before its first
byte goes, and it may have to go twice. Deflating it twice would cost more than keeping it.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from converter import __version__
from converter.atomic import TEMP_PREFIX
from converter.events import Monitor
from converter.export.disks import stream_disk
from converter.export.settings import Export
from converter.image.model import Image
from converter.package.descriptor import encode_descriptor
from converter.package.model import Package, PackageDisk, PackageFile, portable_stem
from converter.vmdk.stream import GRAIN_BYTES
from converter.vmdk.writing import put

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

NETWORK = "network"  # the descriptor's name for it; whoever deploys says which one it is
DISK_NAME = "disk1.vmdk"  # in the stream, too: the same bytes whatever the template is called
# Machines that are cloned of it have what they ask for.
_MEMORY_MIB = 512
_PROCESSORS = 1
_DIGEST_DIGITS = 12


@dataclass(frozen=True, slots=True)
class TemplateDisk:
    """The stream in `file`, and the descriptor of a machine with it alone."""

    file: BinaryIO
    size_bytes: int
    sha1: str  # what vSphere has for what it received
    descriptor: bytes


def template_name(image: Image) -> str:
    """Return what a template of an image is called, if nobody says: its name and its digest."""
    last = image.reference.partition("@")[0].rstrip("/").rpartition("/")[2]
    stem = portable_stem(last.partition(":")[0])
    return f"{stem}-{str(image.digest).partition(':')[2][:_DIGEST_DIGITS]}"


@contextmanager
def template_disk(export: Export, folder: Path, monitor: Monitor) -> Iterator[TemplateDisk]:
    """Yield what a template is made of, in a nameless file of `folder`. Raises as `copy_disk`."""
    prefix = f"{TEMP_PREFIX}{os.getpid()}-"  # where the system cannot do without a name at first
    with tempfile.TemporaryFile(dir=folder, prefix=prefix, buffering=0) as file:
        hashed = _Hashed(cast("BinaryIO", file))
        summary = stream_disk(export, cast("BinaryIO", hashed), monitor)
        source = export.source
        image = source.image
        lines = (image.reference, str(image.digest), str(image.platform), f"saltflat {__version__}")
        package = Package(
            name=template_name(image),
            product=image.reference,
            version=str(image.digest),
            annotation="\n".join(lines),
            memory_mib=_MEMORY_MIB,
            processors=_PROCESSORS,
            disks=[
                PackageDisk(
                    file=PackageFile(name=export.file_name, size_bytes=hashed.size_bytes),
                    capacity_bytes=source.capacity_bytes,
                    populated_bytes=summary.grains * GRAIN_BYTES,
                )
            ],
            networks=[NETWORK],
        )
        yield TemplateDisk(
            cast("BinaryIO", file),
            hashed.size_bytes,
            hashed.sha1.hexdigest(),
            encode_descriptor(package),
        )


class _Hashed(io.RawIOBase):
    """Passes what is written on, and knows its SHA-1 and how much it was."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha1 = hashlib.sha1(usedforsecurity=False)
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data).cast("B")
        self.size_bytes += len(view)
        self.sha1.update(view)
        put(self._file, view)
        return len(view)
