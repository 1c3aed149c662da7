"""Superblock, group descriptors and the empty journal as bytes. Pure encoders of the state.

The feature set is one that every kernel from 4.4 on mounts and grows online, and e2fsprogs 1.46
checks: no 64bit, no metadata_csum (crc32c costs too much in Python), GDT_CSUM so that groups in
which nothing is stored need no bitmap at all, sparse_super since sparse_super2 refuses to grow.
"""

from __future__ import annotations

from dataclasses import dataclass

from converter.ext4 import c_ext4 as c
from converter.ext4.allocator import Allocator
from converter.ext4.geometry import INODES_PER_GROUP


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same up the whole chain: `uuid` and `hash_seed` of 16 bytes, a label."""

    uuid: bytes
    hash_seed: bytes
    label: bytes = b"saltflat"


def encode_superblock(
    allocator: Allocator, identity: Identity, journal_i_block: bytes, *, group: int = 0
) -> bytes:
    """Return the 1024 bytes of the superblock, or of its copy in block group `group`.

    `journal_i_block` is i_block of the journal's inode, b"" without one.
    """
    geometry = allocator.geometry
    inodes = geometry.groups * INODES_PER_GROUP
    compat = c.EXT4_FEATURE_COMPAT_EXT_ATTR | c.EXT4_FEATURE_COMPAT_DIR_INDEX
    journal_backup = b""
    if geometry.journal:
        compat |= c.EXT4_FEATURE_COMPAT_HAS_JOURNAL
        size = geometry.journal_blocks * c.BLOCK_SIZE
        journal_backup = (
            journal_i_block
            + (size >> 32).to_bytes(4, "little")
            + (size & 0xFFFFFFFF).to_bytes(4, "little")
        )
    return c.SUPERBLOCK.pack(
        inodes,
        geometry.blocks,
        0,
        sum(allocator.free_blocks),
        inodes - sum(allocator.used_inodes.values()),
        0,
        c.LOG_BLOCK_SIZE,
        c.LOG_BLOCK_SIZE,
        c.BLOCKS_PER_GROUP,
        c.BLOCKS_PER_GROUP,
        INODES_PER_GROUP,
        0,
        0,
        0,
        c.EXT4_DFL_MAX_MNT_COUNT,
        c.EXT4_SUPER_MAGIC,
        c.EXT4_VALID_FS,
        c.EXT4_ERRORS_CONTINUE,
        0,
        0,
        0,
        0,
        c.EXT4_DYNAMIC_REV,
        0,
        0,
        c.EXT4_GOOD_OLD_FIRST_INO,
        c.INODE_SIZE,
        group,
        compat,
        c.EXT4_FEATURE_INCOMPAT_FILETYPE
        | c.EXT4_FEATURE_INCOMPAT_EXTENTS
        | c.EXT4_FEATURE_INCOMPAT_FLEX_BG,
        c.EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER
        | c.EXT4_FEATURE_RO_COMPAT_LARGE_FILE
        | c.EXT4_FEATURE_RO_COMPAT_HUGE_FILE
        | c.EXT4_FEATURE_RO_COMPAT_GDT_CSUM
        | c.EXT4_FEATURE_RO_COMPAT_DIR_NLINK
        | c.EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE,
        identity.uuid,
        identity.label,
        b"",
        0,
        0,
        0,
        0,
        b"",
        c.EXT4_JOURNAL_INO if geometry.journal else 0,
        0,
        0,
        identity.hash_seed,
        c.DX_HASH_HALF_MD4,
        c.EXT3_JNL_BACKUP_BLOCKS if geometry.journal else 0,
        0,
        c.EXT4_DEFM_XATTR_USER | c.EXT4_DEFM_ACL,
        0,
        1,  # s_mkfs_time: a constant, but not 0, which e2fsck takes for a fault
        journal_backup,
        0,
        0,
        0,
        c.INODE_EXTRA_ISIZE,
        c.INODE_EXTRA_ISIZE,
        c.EXT2_FLAGS_SIGNED_HASH,
        0,
        0,
        0,
        0,
        4,
    )


def encode_descriptors(allocator: Allocator, identity: Identity) -> bytes:
    """Return the group descriptor table, padded to whole blocks."""
    geometry = allocator.geometry
    seed = _crc16(0xFFFF, identity.uuid)
    table = bytearray(geometry.descriptor_blocks * c.BLOCK_SIZE)
    for group in range(geometry.groups):
        flags = c.EXT4_BG_INODE_ZEROED  # absent means zero: nothing is left to initialise lazily
        if group not in allocator.inode_bitmaps:
            flags |= c.EXT4_BG_INODE_UNINIT
        if group not in allocator.block_bitmaps:
            flags |= c.EXT4_BG_BLOCK_UNINIT
        at = group * c.GROUP_DESC_SIZE
        c.GROUP_DESC.pack_into(
            table,
            at,
            geometry.block_bitmaps[group],
            geometry.inode_bitmaps[group],
            geometry.inode_tables[group],
            allocator.free_blocks[group],
            INODES_PER_GROUP - allocator.used_inodes.get(group, 0),
            allocator.used_directories.get(group, 0),
            flags,
            0,
            0,
            0,
            INODES_PER_GROUP - allocator.highest_inode.get(group, 0),
        )
        checksum = _crc16(seed, group.to_bytes(4, "little"))
        checksum = _crc16(checksum, table[at : at + c.GROUP_DESC_CHECKSUM_OFFSET])
        table[at + c.GROUP_DESC_CHECKSUM_OFFSET : at + c.GROUP_DESC_SIZE] = checksum.to_bytes(
            2, "little"
        )
    return bytes(table)


def encode_journal(blocks: int, identity: Identity) -> bytes:
    """Return the first block of a clean, empty journal of `blocks` blocks; all others are zero."""
    return c.JOURNAL_SUPERBLOCK.pack(
        c.JBD2_MAGIC_NUMBER,
        c.JBD2_SUPERBLOCK_V2,
        0,
        c.BLOCK_SIZE,
        blocks,
        1,
        1,
        0,
        0,
        0,
        0,
        0,
        identity.uuid,
        1,
    ).ljust(c.BLOCK_SIZE, b"\0")


def _crc16_table() -> tuple[int, ...]:
    """Tabulate crc16 as the kernel's lib/crc16.c has it: polynomial 0x8005, reflected."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1  # noqa: PLW2901 - the register
        table.append(value)
    return tuple(table)


_CRC16_TABLE = _crc16_table()


def _crc16(crc: int, data: bytes | bytearray) -> int:
    for byte in data:
        crc = crc >> 8 ^ _CRC16_TABLE[(crc ^ byte) & 0xFF]
    return crc
