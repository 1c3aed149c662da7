"""Facts of seSparse, the delta disks of VMFS 6. Owns numbers, no behaviour.

VMware has not published the format. Source: Q (QEMU, block/vmdk.c), whose names these are. All
integers are little-endian and of 64 bits; everything is counted in sectors.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

SESPARSE_CONST_HEADER_MAGIC = 0x0000_0000_CAFE_BABE
SESPARSE_VOLATILE_HEADER_MAGIC = 0x0000_0000_CAFE_CAFE
SESPARSE_VERSION = 0x0000_0002_0000_0001  # 2.1, the one that Q takes

SESPARSE_GRAIN_SIZE = 8  # 4 KiB, the one that Q takes
SESPARSE_GRAIN_TABLE_SIZE = 64  # the one that Q takes
SESPARSE_ENTRY_BYTES = 8
SESPARSE_NUM_GTES_PER_GT = 4096  # of 64 sectors
SESPARSE_CAPACITY_MAX = 1 << 35  # ours, 16 TiB: bounds the directory that is read, 8 MiB

SESPARSE_GDE_EMPTY = 0  # no table
SESPARSE_GDE_TYPE_MASK = 0xFFFF_FFFF_0000_0000
SESPARSE_GDE_ALLOCATED = 0x1000_0000_0000_0000  # the low half is the table's number
SESPARSE_GDE_INDEX_MASK = 0x0000_0000_FFFF_FFFF

SESPARSE_GTE_TYPE_MASK = 0xF000_0000_0000_0000
SESPARSE_GTE_UNALLOCATED = 0x0000_0000_0000_0000  # absent: the parent's grain
SESPARSE_GTE_UNMAPPED = 0x1000_0000_0000_0000  # given back by SCSI UNMAP: zeros (Q)
SESPARSE_GTE_ZERO = 0x2000_0000_0000_0000  # zeros
SESPARSE_GTE_ALLOCATED = 0x3000_0000_0000_0000
# A grain's number is stored rotated: its low 12 bits stand in bits 48 to 59, the rest below.
SESPARSE_GTE_LOW_MASK = 0x0FFF_0000_0000_0000
SESPARSE_GTE_LOW_SHIFT = 48
SESPARSE_GTE_HIGH_MASK = 0x0000_FFFF_FFFF_FFFF
SESPARSE_GTE_HIGH_SHIFT = 12


class SESparseConstHeader(NamedTuple):
    """The first sector of a seSparse extent, which nobody rewrites."""

    magic: int
    version: int
    capacity: int
    grain_size: int
    grain_table_size: int
    flags: int
    reserved1: int
    reserved2: int
    reserved3: int
    reserved4: int
    volatile_header_offset: int
    volatile_header_size: int
    journal_header_offset: int
    journal_header_size: int
    journal_offset: int
    journal_size: int
    grain_dir_offset: int
    grain_dir_size: int
    grain_tables_offset: int
    grain_tables_size: int
    free_bitmap_offset: int
    free_bitmap_size: int
    backmap_offset: int
    backmap_size: int
    grains_offset: int
    grains_size: int


class SESparseVolatileHeader(NamedTuple):
    """What changes while somebody writes."""

    magic: int
    free_gt_number: int
    next_txn_seq_number: int
    replay_journal: int  # non-zero: the journal has what the tables lack


SESPARSE_CONST_HEADER = struct.Struct("<26Q 304x")
SESPARSE_VOLATILE_HEADER = struct.Struct("<4Q 480x")
assert SESPARSE_CONST_HEADER.size == SESPARSE_VOLATILE_HEADER.size == 512
