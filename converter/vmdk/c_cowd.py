"""Facts of COWD, the redo log of ESX that descriptors call VMFSSPARSE. Owns numbers, no behaviour.

Sources, as in `converter.vmdk.c_vmdk`: TN "ESX Server Sparse Extents", Q. All integers are
little-endian and of 32 bits; everything is counted in sectors.
"""
# ruff: noqa: N815 - fields carry the specification's names

from __future__ import annotations

import struct
from typing import NamedTuple

COWD_MAGICNUMBER = b"COWD"  # 0x44574f43, little-endian (TN)
COWD_VERSION = 1  # TN
COWD_FLAGS = 3  # TN
COWD_HEADER_SECTORS = 4  # TN

COWD_GD_OFFSET = 4  # right behind the header (TN)
COWD_NUM_GTES_PER_GT = 4096  # TN, Q; no field says so
COWD_GT_SIZE = 32  # sectors of one grain table: 4096 entries of 4 bytes

COWD_GRAIN_SIZE_MAX = 2048  # 1 MiB (TN)

COWD_GDE_EMPTY = 0  # no table (TN)
COWD_GTE_EMPTY = 0  # absent: the parent's grain. There is no entry for zeros (TN)


class COWDisk_Header(NamedTuple):  # noqa: N801 - its name in the specification
    """The first four sectors of a COWD extent (TN "COWDisk_Header"), without what is unused.

    The union `u`, which holds a root's geometry or the name of a child's parent, is among the
    unused: the descriptor says both.
    """

    magicNumber: bytes  # 0: COWD_MAGICNUMBER
    version: int  # 4: COWD_VERSION
    flags: int  # 8: COWD_FLAGS
    numSectors: int  # 12: of the disk that this extent stands for
    grainSize: int  # 16: sectors of one grain, a power of two
    gdOffset: int  # 20: sector of the grain directory
    numGDEntries: int  # 24: its entries
    freeSector: int  # 28: where the next grain or table would go: the length of the file
    # 32: union u[1028], generation, name[60], description[512]; 1636: savedGeneration, reserved[8]
    uncleanShutdown: int  # 1648: non-zero while somebody writes
    # 1652: padding[396]


COWD_HEADER = struct.Struct("<4s 7I 1616x I 396x")
assert COWD_HEADER.size == COWD_HEADER_SECTORS * 512
