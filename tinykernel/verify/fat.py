"""Read one file out of a FAT image in memory. Owns the way from its path to its bytes; pure.

Only short names, which is what firmware looks for. An image may come from anywhere: whatever it
says is held against its size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from converter.errors import IntegrityError
from tinykernel.verify import c_fat as c


def read_fat_file(image: bytes, path: tuple[str, ...]) -> bytes:
    """Return the content of the file `path`, names in capitals. Raises IntegrityError."""
    volume = _Volume.of(image)
    content = volume.root()
    for depth, name in enumerate(path):
        is_last = depth == len(path) - 1
        entry = next((entry for entry in _entries(content) if entry.name == name), None)
        if entry is None or entry.is_directory == is_last:
            raise IntegrityError(f"the FAT file system has no {'/'.join(path)}")
        content = volume.chain(entry.cluster)
        if is_last:
            if entry.size_bytes > len(content):
                raise IntegrityError(f"{name} in the FAT file system is cut short")
            content = content[: entry.size_bytes]
    return content


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    is_directory: bool
    cluster: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Volume:
    """The parts of a FAT image, in bytes from its start."""

    image: bytes
    table_at: int
    root_at: int
    data_at: int
    cluster_bytes: int
    clusters: int

    @classmethod
    def of(cls, image: bytes) -> _Volume:
        if len(image) < c.BOOT_SECTOR_BYTES:
            raise IntegrityError("there is no FAT file system")
        sector, per_cluster, reserved, tables, root_entries, small, table16, large = (
            c.BPB.unpack_from(image, c.BPB_OFFSET)
        )
        table = table16 or struct.unpack_from("<I", image, c.BPB_FATSZ32)[0]
        root_at = (reserved + tables * table) * sector
        data_at = root_at + root_entries * c.DIRECTORY_ENTRY
        end = (small or large) * sector
        cluster = sector * per_cluster
        if not cluster or not reserved or not table or not data_at < end <= len(image):
            raise IntegrityError("there is no sound FAT file system: its sizes do not fit")
        clusters = (end - data_at) // cluster
        if clusters * 3 // 2 > table * sector:
            raise IntegrityError("there is no sound FAT file system: its table is too short")
        return cls(image, reserved * sector, root_at, data_at, cluster, clusters)

    def root(self) -> bytes:
        """Return the root folder's entries: a place of its own, or a chain on FAT32."""
        if self.clusters < c.FAT16_CLUSTERS_END:
            return self.image[self.root_at : self.data_at]
        return self.chain(struct.unpack_from("<I", self.image, c.BPB_ROOTCLUS)[0])

    def chain(self, cluster: int) -> bytes:
        """Return what the clusters from `cluster` on hold."""
        pieces = []
        last = c.FIRST_CLUSTER + self.clusters
        while c.FIRST_CLUSTER <= cluster < last:
            at = self.data_at + (cluster - c.FIRST_CLUSTER) * self.cluster_bytes
            pieces.append(self.image[at : at + self.cluster_bytes])
            if len(pieces) > self.clusters:
                raise IntegrityError("the FAT file system has a chain without an end")
            cluster = self._next(cluster)
        return b"".join(pieces)

    def _next(self, cluster: int) -> int:
        if self.clusters < c.FAT12_CLUSTERS_END:
            pair = int.from_bytes(self._table(cluster * 3 // 2, 2), "little")
            return pair >> 4 if cluster % 2 else pair & 0xFFF
        if self.clusters < c.FAT16_CLUSTERS_END:
            return int.from_bytes(self._table(cluster * 2, 2), "little")
        return int.from_bytes(self._table(cluster * 4, 4), "little") & 0x0FFF_FFFF

    def _table(self, at: int, size: int) -> bytes:
        return self.image[self.table_at + at : self.table_at + at + size]


def _entries(folder: bytes) -> Iterator[_Entry]:
    for at in range(0, len(folder) - c.DIRECTORY_ENTRY + 1, c.DIRECTORY_ENTRY):
        name, attributes, high, low, size = c.DIR.unpack_from(folder, at)
        if name[0] == c.DIR_END:
            return
        if name[0] == c.DIR_FREE or attributes & c.ATTR_VOLUME_ID:
            continue
        text = name.decode("ascii", "replace")
        stem, extension = text[:8].rstrip(), text[8:].rstrip()
        yield _Entry(
            f"{stem}.{extension}" if extension else stem,
            bool(attributes & c.ATTR_DIRECTORY),
            high << 16 | low,
            size,
        )
