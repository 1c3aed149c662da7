"""What a template on vSphere is made of: streamOptimized disks, and the machine around them.

Owns the ways in which the disks can be had. A disk whose length has to be known before its first
byte goes lies in a file without a name until it has gone, maybe more than once: deflating it twice
would cost more than keeping it.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self, cast

from converter import __version__
from converter.atomic import TEMP_PREFIX
from converter.errors import UsageError
from converter.events import Event, Monitor
from converter.export.disks import stream_disk, stream_link
from converter.export.exportable import Exportable
from converter.export.settings import Export
from converter.image.digest import Digest
from converter.image.reference import (
    BundleReference,
    DockerArchiveReference,
    LayoutReference,
    RegistryReference,
    parse_source,
)
from converter.package.descriptor import encode_descriptor
from converter.package.model import Package, PackageDisk, PackageFile, portable_stem
from converter.vmdk.compression import Compressor, best
from converter.vmdk.stream import GRAIN_BYTES
from converter.vmdk.writing import LinkSummary, put

NETWORK = "network"  # the descriptor's name for it; whoever deploys says which one it is
DISK_NAME = "disk1.vmdk"  # in the stream, too: the same bytes whatever the template is called
# Machines that are cloned of it have what they ask for.
_MEMORY_MIB = 512
_PROCESSORS = 1
_DIGEST_DIGITS = 12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", re.ASCII)  # vSphere takes 80 characters
_ARCHIVE = "image"  # what one from standard input is called
_PIECE_BYTES = 1 << 20


def template_export(source: Exportable) -> Export:
    """Return how a template's disk is made of `source`."""
    return Export(
        kind="stream",
        source=source,
        file_name=DISK_NAME,
        codec=best(None),
        threads=len(os.sched_getaffinity(0)),
    )


@dataclass(frozen=True, slots=True)
class TemplateStream:
    """A disk that can be written now, as often as need be; None for a size that is not known."""

    size_bytes: int | None
    write: Callable[[BinaryIO], None]


@dataclass(frozen=True, slots=True)
class TemplateDisk:
    """A disk by its name in the descriptor; `open` makes it ready to be written."""

    name: str
    open: Callable[[], AbstractContextManager[TemplateStream]]


@dataclass(frozen=True, slots=True)
class TemplateContent:
    """The descriptor of a machine, and its disks, each behind the one that it stands on."""

    descriptor: str
    disks: tuple[TemplateDisk, ...]


def check_template_name(name: str) -> None:
    """Raise UsageError for a name that no template may have."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:100]!a} is no name for a template.",
            expected="at most 80 letters, digits, and - . _ behind the first",
        )


def template_name(reference: str, digest: Digest) -> str:
    """Return what a template of an image is called, if nobody says: its name and its digest."""
    digits = str(digest).partition(":")[2][:_DIGEST_DIGITS]
    return f"{portable_stem(_last_name(reference))}-{digits}"


def _last_name(reference: str) -> str:
    """Return the name that a person knows an image by, without folders, host and tag."""
    found = parse_source(reference)
    if isinstance(found, DockerArchiveReference) and found.name is not None:
        found = found.name
    if isinstance(found, RegistryReference):
        return found.repository.rpartition("/")[2]
    path = found.path if isinstance(found, LayoutReference | BundleReference) else found.file
    return _ARCHIVE if path is None else path.name


@contextmanager
def kept_disk(export: Export, folder: Path, monitor: Monitor) -> Iterator[TemplateContent]:
    """Yield a machine with one disk, which lies in a nameless file of `folder` until the end.

    Raises as `copy_disk`.
    """
    with _nameless(folder) as file:
        yield _kept_content(export, file, stream_disk(export, file, monitor))


class DiskAhead:
    """One disk as `kept_disk` has it, deflated while others get ready; a context manager.

    Whoever leaves it without having wanted the disk waits for the piece that is being written.
    """

    def __init__(self, export: Export, folder: Path, monitor: Monitor) -> None:
        """Prepare; `monitor` is called by a thread of its own."""
        self._export = export
        self._folder = folder
        self._monitor = monitor
        self._is_unwanted = False
        self._opened = ExitStack()
        self._thread = ThreadPoolExecutor(1, "disk")

    def __enter__(self) -> Self:
        """Begin."""
        self._file = self._opened.enter_context(_nameless(self._folder))
        self._summary = self._thread.submit(stream_disk, self._export, self._file, self._tell)
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop, and let the disk go."""
        self._is_unwanted = True
        self._thread.shutdown()
        self._opened.close()

    @contextmanager
    def content(self) -> Iterator[TemplateContent]:
        """Yield the machine when the disk is whole. Raises as `copy_disk`."""
        yield _kept_content(self._export, self._file, self._summary.result())

    def _tell(self, event: Event) -> None:
        if self._is_unwanted:
            raise CancelledError
        self._monitor(event)


def _kept_content(export: Export, file: BinaryIO, summary: LinkSummary) -> TemplateContent:
    disk = PackageDisk(
        file=PackageFile(name=export.file_name, size_bytes=summary.size_bytes),
        capacity_bytes=export.source.capacity_bytes,
        populated_bytes=summary.grains * GRAIN_BYTES,
    )
    stream = TemplateStream(summary.size_bytes, partial(_copy, file))
    return TemplateContent(
        _descriptor(export, [disk]), (TemplateDisk(disk.file.name, lambda: _as_is(stream)),)
    )


@contextmanager
def passing_disk(export: Export, monitor: Monitor) -> Iterator[TemplateContent]:
    """Yield a machine with one disk, which is deflated while it is written, and kept nowhere.

    Writing it raises as `copy_disk`.
    """

    def write(file: BinaryIO) -> None:
        stream_disk(export, file, monitor)

    disk = PackageDisk(
        file=PackageFile(name=export.file_name), capacity_bytes=export.source.capacity_bytes
    )
    yield TemplateContent(
        _descriptor(export, [disk]),
        (TemplateDisk(disk.file.name, lambda: _as_is(TemplateStream(None, write))),),
    )


@contextmanager
def linked_disks(export: Export, folder: Path, monitor: Monitor) -> Iterator[TemplateContent]:
    """Yield a machine whose disk stands on others, one for each link of the chain.

    Each lies in a nameless file of `folder` while it is open. Opening one raises as `copy_disk`.
    """
    source = export.source
    names = [f"{export.stem}-{number}.vmdk" for number in range(1, len(source.links) + 1)]
    disks = [
        PackageDisk(
            file=PackageFile(name=name), capacity_bytes=source.capacity_bytes, parent=parent
        )
        for name, parent in zip(names, [None, *names[:-1]], strict=True)
    ]
    with Compressor(export.codec, threads=export.threads) as compressor:

        @contextmanager
        def ready(number: int) -> Iterator[TemplateStream]:
            with _nameless(folder) as file:
                summary = stream_link(
                    source,
                    number,
                    file,
                    name=names[number],
                    parent=disks[number].parent,
                    compressor=compressor,
                    monitor=monitor,
                )
                yield TemplateStream(summary.size_bytes, partial(_copy, file))

        yield TemplateContent(
            _descriptor(export, disks),
            tuple(TemplateDisk(name, partial(ready, each)) for each, name in enumerate(names)),
        )


def _descriptor(export: Export, disks: list[PackageDisk]) -> str:
    image = export.source.image
    lines = (image.reference, str(image.digest), str(image.platform), f"saltflat {__version__}")
    package = Package(
        name=template_name(image.reference, image.digest),
        product=image.reference,
        version=str(image.digest),
        annotation="\n".join(lines),
        memory_mib=_MEMORY_MIB,
        processors=_PROCESSORS,
        disks=disks,
        networks=[NETWORK],
    )
    return encode_descriptor(package).decode()


@contextmanager
def _as_is(stream: TemplateStream) -> Iterator[TemplateStream]:
    yield stream


@contextmanager
def _nameless(folder: Path) -> Iterator[BinaryIO]:
    prefix = f"{TEMP_PREFIX}{os.getpid()}-"  # where the system cannot do without a name at first
    with tempfile.TemporaryFile(dir=folder, prefix=prefix, buffering=0) as file:
        yield cast("BinaryIO", file)


def _copy(kept: BinaryIO, file: BinaryIO) -> None:
    kept.seek(0)
    buffer = memoryview(bytearray(_PIECE_BYTES))  # one for all: fresh memory costs more
    while count := kept.readinto(buffer):  # type: ignore[attr-defined]  # an unbuffered file's
        put(file, buffer[:count])
