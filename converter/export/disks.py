"""Write a chain as one disk: streamOptimized, flat or monolithicSparse. In one pass, bounded.

Owns which writer a type has and the content ids of what it writes. What the bytes of the formats
are is `converter.vmdk`'s.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from converter.atomic import EagerFile
from converter.errors import IntegrityError
from converter.events import Monitor, StepAdvanced, StepFinished, StepStarted
from converter.export.companions import write_companions
from converter.export.exportable import Exportable
from converter.export.settings import Export
from converter.vmdk.c_vmdk import CREATE_TYPE_MONOLITHIC_FLAT
from converter.vmdk.chain import Chain, open_chain
from converter.vmdk.compression import Compressor
from converter.vmdk.content_id import content_id, long_content_id
from converter.vmdk.descriptor import ParentRef, link_descriptor, render
from converter.vmdk.flat_writer import FlatWriter
from converter.vmdk.scratch import WritableWriter
from converter.vmdk.stream import GRAIN_BYTES, StreamWriter
from converter.vmdk.writing import DiskWriter, LinkSummary

DISK = "disk"  # the content has one id, whatever it is wrapped in
FLAT_ENDING = "-flat.vmdk"  # as VMware's tools name the extent beside its descriptor
ADVANCE_BYTES = 32 << 20  # of the disk between two events


def write_stream(export: Export, folder: Path, monitor: Monitor) -> None:
    """Fill `folder` with one streamOptimized disk: the same bytes that a pipe gets."""
    with new_file(folder / export.file_name) as file:
        pipe_stream(export, file, monitor)
    write_companions(export, folder, [export.file_name], monitor, codec_counts=True)


def pipe_stream(export: Export, file: BinaryIO, monitor: Monitor) -> None:
    """Write one streamOptimized disk to `file`, which need not be seekable."""
    stream_disk(export, file, monitor)


def stream_disk(export: Export, file: BinaryIO, monitor: Monitor) -> LinkSummary:
    """Write one streamOptimized disk to `file`, as `pipe_stream`, and say what came of it."""
    with Compressor(export.codec, threads=export.threads) as compressor:
        return stream_link(
            export.source,
            None,
            file,
            name=export.file_name,
            parent=None,
            compressor=compressor,
            monitor=monitor,
        )


def stream_link(
    source: Exportable,
    link: int | None,
    file: BinaryIO,
    *,
    name: str,
    parent: str | None,
    compressor: Compressor,
    monitor: Monitor,
) -> LinkSummary:
    """Write a streamOptimized disk called `name` of what a link changes, with None of all there is.

    `link` is a number of `source.links`, `parent` what the disk of the link below it is called.
    Raises as `copy_disk`.
    """
    identity = source.identity(DISK) if link is None else source.links[link].link_id
    below = source.links[link - 1].link_id if link else ""
    writer = StreamWriter(
        file,
        capacity_bytes=source.capacity_bytes,
        cid=content_id(identity),
        long_content_id=long_content_id(identity),
        parent=None if parent is None else ParentRef(content_id(below), parent),
        file_name=name,
        compressor=compressor,
    )
    if link is None:
        return copy_disk(source, writer, step=name, monitor=monitor)
    with open_source(source, links=link + 1) as chain:
        monitor(StepStarted(name))
        for offset, data in chain.changes(GRAIN_BYTES):
            writer.write(offset, data)
        summary = writer.finish()
        monitor(StepFinished(name, f"{summary.size_bytes / 1e6:,.1f} MB"))
    return summary


def write_flat(export: Export, folder: Path, monitor: Monitor) -> None:
    """Fill `folder` with a descriptor and a raw file, a hole wherever the disk is zeros."""
    extent_name = f"{export.stem}{FLAT_ENDING}"
    with new_file(folder / extent_name) as file:
        writer = FlatWriter(file, capacity_bytes=export.source.capacity_bytes)
        copy_disk(export.source, writer, step=export.file_name, monitor=monitor)
    identity = export.source.identity(DISK)
    descriptor = link_descriptor(
        export.source.capacity_bytes,
        cid=content_id(identity),
        long_content_id=long_content_id(identity),
        parent=None,
        file_name=extent_name,
        create_type=CREATE_TYPE_MONOLITHIC_FLAT,
    )
    (folder / export.file_name).write_bytes(render(descriptor))
    write_companions(export, folder, [export.file_name, extent_name], monitor)


def write_sparse(export: Export, folder: Path, monitor: Monitor) -> None:
    """Fill `folder` with one monolithicSparse disk with every grain table, to be written to."""
    with new_file(folder / export.file_name) as file:
        writer = WritableWriter(
            file,
            capacity_bytes=export.source.capacity_bytes,
            cid=content_id(export.source.identity(DISK)),
            file_name=export.file_name,
        )
        copy_disk(export.source, writer, step=export.file_name, monitor=monitor)
    write_companions(export, folder, [export.file_name], monitor)


@contextmanager
def new_file(path: Path, *, is_private: bool = False) -> Iterator[BinaryIO]:
    """Yield a new file, seekable and unbuffered, whose bytes go to the disk while more come.

    One that `is_private`, with a key in it, is for its owner alone.
    """
    mode = 0o600 if is_private else 0o666
    with EagerFile(path, "x+", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        yield file


@contextmanager
def open_source(source: Exportable, *, links: int | None = None) -> Iterator[Chain]:
    """Yield the source's chain, or its lowest `links`, of the files that it names and no others.

    Raises IntegrityError for a damaged link, or a bundle whose links are not those of its list.
    """
    paths = [link.path for link in source.links[:links]]
    with open_chain(paths[-1]) as chain:
        if [link.path for link in chain.links] != paths:
            raise IntegrityError(
                f"{paths[-1]} stands on other links than those that are listed with it.",
                expected=", ".join(path.name for path in paths),
            )
        if chain.capacity_bytes != source.capacity_bytes:
            raise IntegrityError(
                f"{paths[-1]} has {chain.capacity_bytes} bytes of capacity.",
                expected=f"{source.capacity_bytes} bytes",
            )
        yield chain


def copy_disk(
    source: Exportable, writer: DiskWriter, *, step: str, monitor: Monitor
) -> LinkSummary:
    """Write all that the disk of `source` holds, finish, and return what `finish` does.

    Raises as `open_source`, and what the writer raises.
    """
    with open_source(source) as chain:
        monitor(StepStarted(step, chain.capacity_bytes))
        told = 0
        for offset, data in chain.contents(writer.grain_bytes):
            writer.write(offset, data)
            if offset - told >= ADVANCE_BYTES:
                told = offset
                monitor(StepAdvanced(step, offset))
    summary = writer.finish()
    data_bytes = summary.grains * writer.grain_bytes
    monitor(StepFinished(step, f"{data_bytes / 1e6:,.1f} MB of data"))
    return summary
