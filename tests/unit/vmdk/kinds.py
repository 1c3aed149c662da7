"""Links of every kind that can be written, for tests: a disk as bytes in, files in a folder out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from converter.vmdk import c_vmdk as c
from converter.vmdk.compression import Codec, Compressor
from converter.vmdk.cowd_writer import CowdWriter
from converter.vmdk.descriptor import Descriptor, Extent, ParentRef, link_descriptor, render
from converter.vmdk.flat_writer import FlatWriter
from converter.vmdk.scratch import WritableWriter
from converter.vmdk.sparse import LinkWriter
from converter.vmdk.stream import StreamWriter
from converter.vmdk.writing import DiskWriter
from tests.unit.vmdk.chains import cid_of
from tests.unit.vmdk.sesparse_writer import GRAIN_BYTES as SESPARSE_GRAIN_BYTES
from tests.unit.vmdk.sesparse_writer import write_sesparse

UNIT = 512  # changes begin and end anywhere
K64 = 65536


@dataclass(frozen=True)
class Job:
    """One link to be written: the whole disk as it then is, and where it differs from below."""

    path: Path
    disk: bytes
    changes: tuple[tuple[int, int], ...]  # byte offset, length
    cid: int
    parent: ParentRef | None

    @property
    def long_content_id(self) -> str:
        return f"{self.cid:032x}"

    def grains(self, grain_bytes: int) -> Iterator[tuple[int, bytes]]:
        """Yield the grains that the changes touch, whole, in order: (byte offset, content)."""
        touched = {
            number
            for offset, length in self.changes
            for number in range(offset // grain_bytes, (offset + length - 1) // grain_bytes + 1)
        }
        for number in sorted(touched):
            yield number * grain_bytes, self.disk[number * grain_bytes :][:grain_bytes]

    def describe(self, create_type: str, file_name: str) -> bytes:
        return render(
            link_descriptor(
                len(self.disk),
                cid=self.cid,
                long_content_id=self.long_content_id,
                parent=self.parent,
                file_name=file_name,
                create_type=create_type,
            )
        )

    def beside(self, what: str) -> Path:
        return self.path.with_name(f"{self.path.stem}-{what}.vmdk")


def _feed(writer: DiskWriter, pieces: Iterable[tuple[int, bytes]], path: Path) -> None:
    for offset, data in pieces:
        writer.write(offset, data)
    assert writer.finish().size_bytes == path.stat().st_size


def _sparse(job: Job, grain_bytes: int) -> None:
    with job.path.open("xb+", buffering=0) as file:
        writer = LinkWriter(
            file,
            capacity_bytes=len(job.disk),
            grain_bytes=grain_bytes,
            cid=job.cid,
            long_content_id=job.long_content_id,
            parent=job.parent,
            file_name=job.path.name,
        )
        _feed(writer, job.grains(grain_bytes), job.path)


def _writable(job: Job) -> None:
    with job.path.open("xb+", buffering=0) as file:
        writer = WritableWriter(
            file,
            capacity_bytes=len(job.disk),
            cid=job.cid,
            parent=job.parent,
            file_name=job.path.name,
        )
        _feed(writer, job.grains(K64), job.path)


def _stream(job: Job, *, in_front: bool, codec: Codec, threads: int) -> None:
    with (
        job.path.open("xb" if not in_front else "xb+", buffering=0) as file,
        Compressor(codec, threads=threads) as compressor,
    ):
        writer = StreamWriter(
            file,
            capacity_bytes=len(job.disk),
            cid=job.cid,
            long_content_id=job.long_content_id,
            parent=job.parent,
            file_name=job.path.name,
            compressor=compressor,
            directory_in_front=in_front,
        )
        _feed(writer, job.grains(K64), job.path)


def _flat(job: Job, create_type: str) -> None:
    raw = job.beside("flat")
    job.path.write_bytes(job.describe(create_type, raw.name))
    with raw.open("xb", buffering=0) as file:
        writer = FlatWriter(file, capacity_bytes=len(job.disk))
        _feed(writer, job.grains(writer.grain_bytes), raw)


def _cowd(job: Job, grain_bytes: int) -> None:
    delta = job.beside("delta")
    job.path.write_bytes(job.describe(c.CREATE_TYPE_VMFS_SPARSE, delta.name))
    with delta.open("xb", buffering=0) as file:
        writer = CowdWriter(
            file,
            capacity_bytes=len(job.disk),
            grain_bytes=grain_bytes,
            has_parent=job.parent is not None,
        )
        _feed(writer, job.grains(grain_bytes), delta)


def _sesparse(job: Job, first_place: int) -> None:
    delta = job.beside("sesparse")
    extent = Extent("RW", len(job.disk) // c.SECTOR, c.EXTENT_TYPE_SE_SPARSE, delta.name)
    descriptor = Descriptor(job.cid, c.CREATE_TYPE_SE_SPARSE, (extent,), job.parent)
    job.path.write_bytes(render(descriptor))
    grains = {
        offset // SESPARSE_GRAIN_BYTES: data for offset, data in job.grains(SESPARSE_GRAIN_BYTES)
    }
    write_sesparse(delta, len(job.disk), grains, first_place=first_place)


@dataclass(frozen=True)
class Kind:
    """How one kind of link is written."""

    name: str
    write: Callable[[Job], None]
    may_be_child: bool = True


_ZLIB = Codec("zlib", 1)
KINDS = (
    *(
        Kind(f"sparse, {sectors} sectors", partial(_sparse, grain_bytes=sectors * 512))
        for sectors in (8, 16, 32, 64, 128)
    ),
    Kind("sparse, every table", _writable),
    Kind("stream, footer", partial(_stream, in_front=False, codec=_ZLIB, threads=1)),
    Kind("stream, front", partial(_stream, in_front=True, codec=_ZLIB, threads=2)),
    Kind("flat", partial(_flat, create_type=c.CREATE_TYPE_MONOLITHIC_FLAT), may_be_child=False),
    Kind("vmfs", partial(_flat, create_type=c.CREATE_TYPE_VMFS), may_be_child=False),
    *(
        Kind(f"COWD, {sectors} sectors", partial(_cowd, grain_bytes=sectors * 512))
        for sectors in (1, 8, 128)
    ),
    Kind("seSparse", partial(_sesparse, first_place=4095)),
)
SMALL_SESPARSE = Kind("seSparse, small", partial(_sesparse, first_place=0))
CHILDREN = tuple(kind for kind in KINDS if kind.may_be_child)
Changes = tuple[tuple[int, bytes], ...]  # byte offset, new content


def write_links(
    folder: Path, links: Sequence[tuple[Kind, Changes]], capacity_bytes: int
) -> list[tuple[Path, bytes]]:
    """Write a chain, base first; return each link's file and the disk up to it."""
    disk = bytearray(capacity_bytes)
    parent: ParentRef | None = None
    written = []
    for number, (kind, changes) in enumerate(links):
        for offset, data in changes:
            disk[offset : offset + len(data)] = data
        path = folder / f"link-{number}.vmdk"
        places = tuple((offset, len(data)) for offset, data in changes if data)
        kind.write(Job(path, bytes(disk), places, cid_of(number), parent))
        written.append((path, bytes(disk)))
        parent = ParentRef(cid_of(number), path.name)
    return written


def random_changes(dice: Random, capacity_bytes: int) -> Changes:
    """Return some runs of sectors: noise, one byte often, or zeros; some over grains' borders."""
    changes = []
    for _ in range(dice.randint(1, 6)):
        sectors = dice.choice((1, 7, 8, 9, 127, 128, 300))
        offset = dice.randrange(capacity_bytes // UNIT - sectors) * UNIT
        border = dice.choice((None, 2 << 20, 16 << 20, 32 << 20))
        if border is not None and border + sectors * UNIT <= capacity_bytes:
            offset = border - sectors // 2 * UNIT
        length = sectors * UNIT
        content = dice.choice((bytes(length), dice.randbytes(length), dice.randbytes(1) * length))
        changes.append((offset, content))
    return tuple(changes)
