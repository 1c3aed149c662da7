"""An empty volume's disk: one ext4 file system with a journal, in a VMDK that QEMU writes to.

Owns what is in it at first, nothing afterwards. The same UUID, size and label give the same bytes.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO
from uuid import UUID

from converter.errors import UsageError
from converter.ext4.c_ext4 import BLOCK_SIZE
from converter.ext4.filesystem import FileSystem
from converter.ext4.geometry import MAX_CAPACITY, MIB, MIN_CAPACITY, Geometry
from converter.ext4.superblock import Identity
from converter.ext4.writer import write_layer
from converter.vmdk.scratch import write_disk

_LABEL_BYTES = 16  # s_volume_name
_CID_MASK = 0x7FFFFFFF  # keeps clear of the two reserved values


def whole_size(size_bytes: int) -> int:
    """Return `size_bytes` rounded up to what a disk may have. Raises UsageError if none is near."""
    rounded = -(-size_bytes // MIB) * MIB
    if not MIN_CAPACITY <= rounded <= MAX_CAPACITY:
        raise UsageError(
            f"A volume of {size_bytes} bytes is not possible.",
            expected=f"{MIN_CAPACITY >> 20} MiB to {MAX_CAPACITY >> 30} GiB",
            hint="Choose another size, for example --size 20G; unused space costs nothing.",
        )
    return rounded


def write_volume(file: BinaryIO, *, size_bytes: int, uuid: UUID, label: str) -> None:
    """Make the empty `file` a volume's disk of `size_bytes`, see `whole_size`. Raises OSError.

    `label` is for people who meet the disk elsewhere; what does not fit of it is left out.
    """
    seed = hashlib.sha256(b"hash seed\0" + uuid.bytes).digest()[:16]
    identity = Identity(uuid.bytes, seed, label.encode()[:_LABEL_BYTES])
    filesystem = FileSystem.create(Geometry(size_bytes), identity)
    write_disk(
        file,
        capacity_bytes=size_bytes,
        cid=int.from_bytes(uuid.bytes[:4], "big") & _CID_MASK,
        writes=(
            (block * BLOCK_SIZE, data) for block, data in write_layer(filesystem, (), first=True)
        ),
        file_name="disk.vmdk",
    )
