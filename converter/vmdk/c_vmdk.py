"""Facts of the VMDK formats, named as the specification names them. Owns numbers, no behaviour.

Sources, cited at each fact:
  TN  VMware, "Virtual Disk Format 5.0" technical note: fields, layouts, terms
  OV  VMware, open-vmdk: the vendor's names of constants, and what its own writer emits
  Q   QEMU, block/vmdk.c: what that reader takes and refuses

All integers are little-endian. Everything is counted in sectors unless its name says bytes.
"""
# ruff: noqa: N815 - fields carry the specification's names

from __future__ import annotations

import struct
from typing import NamedTuple

SECTOR = 512  # bytes, whatever the device's own sector size (TN)

# --- Hosted sparse extent (TN "Hosted Sparse Extents") -------------------------------------------

SPARSE_MAGICNUMBER = b"KDMV"  # 0x564d444b, little-endian (TN)

SPARSE_VERSION_PLAIN = 1  # what every reader knows (TN)
SPARSE_VERSION_MAGIC_GTE = 2  # may have SPARSEFLAG_MAGIC_GTE (TN)
SPARSE_VERSION_STREAM = 3  # what vSphere asks of streamOptimized; Q writes it (OV, Q)
SPARSE_VERSION_TRACKED = 3  # of grains that are not compressed: their changes are tracked (OV)

SPARSEFLAG_VALID_NEWLINE_DETECTOR = 1 << 0  # the four newline bytes are valid (TN, OV)
SPARSEFLAG_USE_REDUNDANT = 1 << 1  # rgdOffset leads to a second copy of every table (TN, OV)
SPARSEFLAG_MAGIC_GTE = 1 << 2  # SPARSE_GTE_ZEROED means zeros, else 1 is a sector (TN, OV)
SPARSEFLAG_COMPRESSED = 1 << 16  # grains are deflated (TN, OV)
SPARSEFLAG_EMBEDDED_LBA = 1 << 17  # markers stand between grains (TN, OV)
SPARSEFLAG_INCOMPAT_FLAGS = 0xFFFF_0000  # who does not know one of these must refuse (TN, OV)

SPARSE_GD_AT_END = 0xFFFF_FFFF_FFFF_FFFF  # gdOffset is in the footer: streamOptimized (TN, OV)

SPARSE_SINGLE_END_LINE_CHAR = b"\n"  # all four find a transfer that rewrote line ends (TN, OV)
SPARSE_NON_END_LINE_CHAR = b" "
SPARSE_DOUBLE_END_LINE_CHAR1 = b"\r"
SPARSE_DOUBLE_END_LINE_CHAR2 = b"\n"

SPARSE_COMPRESSALGORITHM_NONE = 0  # compressAlgorithm (TN, OV)
SPARSE_COMPRESSALGORITHM_DEFLATE = 1  # zlib streams, in fact (TN; Q, OV)

DESCRIPTOR_OFFSET = 1  # Q looks for the text there, whatever the header says
DESCRIPTOR_SIZE = 20  # TN; VirtualBox and Q rewrite the text in place and want the room
DESCRIPTOR_SIZE_MAX = 128  # ours: bounds what a reader takes into memory

GRAIN_SIZE_MIN = 8  # 4 KiB: TN asks for more than 8, Q and OV take 8
GRAIN_SIZE_MAX = 128  # 64 KiB, which is also the default (TN); OV refuses more
GRAIN_SIZE_READ_MAX = 2048  # 1 MiB; ours: others' grains are read from 1 sector to this, Q has more

CAPACITY_MAX = 1 << 32  # ours, 2 TiB: about what entries can address when all is allocated
DIRECTORY_ENTRIES_MAX = 1 << 20  # ours: bounds what a reader takes into memory, to 4 MiB
SECTOR_LIMIT = 1 << 32  # entries are u32, so nothing that they point to begins here or after (TN)

NUM_GTES_PER_GT = 512  # the one value that every implementation takes (TN, Q, OV)
ENTRY_BYTES = 4  # a grain directory entry (GDE) or grain table entry (GTE) (TN)
GT_SIZE = 4  # sectors of one grain table: 512 entries of 4 bytes (TN)
GDES_PER_SECTOR = 128  # a grain directory is padded to a sector (TN)

SPARSE_GDE_EMPTY = 0  # no table: every grain of its region is absent (Q)
SPARSE_GTE_EMPTY = 0  # absent: the parent's grain, or zeros where there is no parent (TN, OV)
SPARSE_GTE_ZEROED = 1  # zeros whatever the parent holds, iff SPARSEFLAG_MAGIC_GTE (TN)


class SparseExtentHeader(NamedTuple):
    """The first sector of a hosted sparse extent (TN "Hosted Sparse Extent Header")."""

    magicNumber: bytes  # 0: SPARSE_MAGICNUMBER
    version: int  # 4: SPARSE_VERSION_*
    flags: int  # 8: SPARSEFLAG_*
    capacity: int  # 12: sectors of the disk that this extent stands for, a multiple of grainSize
    grainSize: int  # 20: sectors of one grain, a power of two
    descriptorOffset: int  # 28: sector of the embedded descriptor, 0 for none
    descriptorSize: int  # 36: its sectors
    numGTEsPerGT: int  # 44: NUM_GTES_PER_GT
    rgdOffset: int  # 48: sector of the redundant grain directory, 0 for none
    gdOffset: int  # 56: sector of the grain directory
    overHead: int  # 64: sectors before the first grain, a multiple of grainSize
    uncleanShutdown: int  # 72: non-zero while a VM has the file open for writing
    singleEndLineChar: bytes  # 73: SPARSE_SINGLE_END_LINE_CHAR
    nonEndLineChar: bytes  # 74: SPARSE_NON_END_LINE_CHAR
    doubleEndLineChar1: bytes  # 75: SPARSE_DOUBLE_END_LINE_CHAR1
    doubleEndLineChar2: bytes  # 76: SPARSE_DOUBLE_END_LINE_CHAR2
    compressAlgorithm: int  # 77: SPARSE_COMPRESSALGORITHM_*
    # 79: pad to a sector


SPARSE_EXTENT_HEADER = struct.Struct("<4s I I Q Q Q Q I Q Q Q B c c c c H 433x")
assert SPARSE_EXTENT_HEADER.size == SECTOR

# --- Stream-optimized extent (TN "Stream-Optimized Compressed Sparse Extents") -------------------

# What a marker of size 0 announces.
MARKER_EOS = 0  # the end
MARKER_GT = 1  # a grain table
MARKER_GD = 2  # the grain directory
MARKER_FOOTER = 3  # a copy of the header whose gdOffset is true; at the third sector from the end
FOOTER_TAIL = 3  # sectors at the end of a stream: the footer's marker, the footer, the end (TN, Q)


class GrainMarker(NamedTuple):
    """Before a compressed grain, whose data follows at once and is padded to a sector."""

    lba: int  # the grain's first sector on the disk
    size: int  # of the compressed data, bytes; never 0


class MetadataMarker(NamedTuple):
    """A sector of its own before metadata."""

    numSectors: int  # of what follows
    size: int  # 0, which tells it from a grain's
    type: int  # MARKER_*


GRAIN_MARKER = struct.Struct("<Q I")
METADATA_MARKER = struct.Struct("<Q I I 496x")
assert METADATA_MARKER.size == SECTOR

# --- Descriptor (TN "The Descriptor File") -------------------------------------------------------

DESCRIPTOR_SIGNATURE = "# Disk DescriptorFile"  # first line (TN)
DESCRIPTOR_VERSION = 1  # the text's own version, not the extent's (TN)
DESCRIPTOR_ENCODING = "UTF-8"

CID_NOPARENT = 0xFFFF_FFFF  # parentCID of a base link (TN)
CID_LONG_ID_ONLY = 0xFFFF_FFFE  # seen as "use the long content ID"; OV avoids it for a real CID
CID_DIGITS = 8
LONG_CONTENT_ID_DIGITS = 32  # ddb.longContentID; its last 8 digits are the CID (OV)

CREATE_TYPE_MONOLITHIC_SPARSE = "monolithicSparse"  # one file, descriptor embedded (TN)
CREATE_TYPE_STREAM_OPTIMIZED = "streamOptimized"  # the same, compressed, written in one pass (TN)
CREATE_TYPE_TWO_GB_SPARSE = "twoGbMaxExtentSparse"  # sparse extents, each of less than 2 GiB (TN)
CREATE_TYPE_TWO_GB_FLAT = "twoGbMaxExtentFlat"  # the same, flat (TN)
CREATE_TYPE_MONOLITHIC_FLAT = "monolithicFlat"  # one flat extent (TN)
CREATE_TYPE_VMFS = "vmfs"  # the same on ESXi, which writes this for thick and thin (Q)
CREATE_TYPE_VMFS_THIN = "vmfsThin"  # the names that the specification has for that (TN)
CREATE_TYPE_VMFS_PREALLOCATED = "vmfsPreallocated"
CREATE_TYPE_VMFS_ZEROED_THICK = "vmfsEagerZeroedThick"
CREATE_TYPE_VMFS_SPARSE = "vmfsSparse"  # COWD, a child on ESXi (TN)
CREATE_TYPE_SE_SPARSE = "seSparse"  # a child on VMFS 6 (Q)
CREATE_TYPE_VMFS_SE_SPARSE = "vmfsSeSparse"  # its name in the specification (TN)
CREATE_TYPE_CUSTOM = "custom"  # extents of any kind (TN)

EXTENT_ACCESS_RW = "RW"  # Q skips every line with another access
EXTENT_ACCESS_RDONLY = "RDONLY"
EXTENT_ACCESS_NOACCESS = "NOACCESS"
EXTENT_TYPE_SPARSE = "SPARSE"  # hosted sparse (TN)
EXTENT_TYPE_FLAT = "FLAT"  # raw, from an offset in a file on (TN)
EXTENT_TYPE_ZERO = "ZERO"  # zeros, without a file (TN); Q skips it, which makes the disk shorter
EXTENT_TYPE_VMFS = "VMFS"  # raw, from the beginning of a file on (TN)
EXTENT_TYPE_VMFS_SPARSE = "VMFSSPARSE"  # COWD (TN)
EXTENT_TYPE_SE_SPARSE = "SESPARSE"  # Q

FILE_NAME_BYTES_MAX = 255  # of a Linux file system; Q takes 511

ADAPTER_LSILOGIC = "lsilogic"  # what VMware writes for SCSI disks, on a PVSCSI adapter too (OV)
VIRTUAL_HW_VERSION = "4"  # obsolete; every writer puts it (Q, OV)

GEOMETRY_HEADS = 255  # BIOS translation for disks that are not IDE (Q, OV)
GEOMETRY_SECTORS = 63
GEOMETRY_CYLINDERS_MAX = 65535  # OV
