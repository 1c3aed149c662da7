"""The tar header on disk: POSIX.1-2017 pax "ustar Interchange Format", and GNU's extensions.

Only names and numbers: the field names are those of the specification's table 4-14, and those of
GNU tar's manual, "Basic Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

from struct import Struct

BLOCK_SIZE = 512

# name 100, mode 8, uid 8, gid 8, size 12, mtime 12, chksum 8, typeflag 1, linkname 100,
# magic+version 8, (uname 32, gname 32), devmajor 8, devminor 8, prefix 155, 12 unused
HEADER = Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12x")

CHKSUM_OFFSET = 148
CHKSUM_SIZE = 8

USTAR_MAGIC = b"ustar\x00"  # of POSIX; its version is 00, but not all writers have it
GNU_MAGIC = b"ustar  \x00"  # magic and version of GNU tar, whose prefix field holds other things
MAGICS = (USTAR_MAGIC, GNU_MAGIC)  # without, nothing is known behind linkname: as in 1979

GNU_TIMES = Struct("12s12s131x")  # atime, ctime in place of the prefix

REGTYPE = b"0"
AREGTYPE = b"\x00"  # a regular file of a pre-POSIX tar; a directory if its name ends in a slash
LNKTYPE = b"1"
SYMTYPE = b"2"
CHRTYPE = b"3"
BLKTYPE = b"4"
DIRTYPE = b"5"
FIFOTYPE = b"6"
CONTTYPE = b"7"  # "contiguous file": treated as regular by everybody
PAX_HEADER = b"x"
PAX_GLOBAL_HEADER = b"g"
SOLARIS_HEADER = b"X"  # as PAX_HEADER
GNU_LONGNAME = b"L"
GNU_LONGLINK = b"K"
GNU_SPARSE = b"S"

# Where GNU's long names stand among a member's pax records: no key of those has an equals sign.
LONG_NAME = b"=path"
LONG_LINK = b"=linkpath"

# A number that does not fit into octal digits: GNU's base-256 form, marked by the top bit.
BASE256_POSITIVE = 0x80
BASE256_NEGATIVE = 0xFF

PAX_XATTR_SCHILY = b"SCHILY.xattr."  # raw value (star, GNU tar, Go's archive/tar, every builder)
PAX_XATTR_LIBARCHIVE = b"LIBARCHIVE.xattr."  # name percent-encoded, value base64 (bsdtar)

# Sparse files. In a header of type GNU_SPARSE: sp (four of SPARSE), isextended, realsize; while
# isextended is set, a block of 21 of them and another isextended follows.
OLDGNU_HEADER_SPARSE = Struct("386x96sc12s17x")
SPARSE_HEADER = Struct("504sc7x")
SPARSE = Struct("12s12s")  # offset, numbytes

# In pax records: version 0.0 repeats offset and numbytes, 0.1 has them in map with commas between,
# 1.0 (major, minor) puts the map in front of the data. name, where there is one, is the path.
PAX_SPARSE = b"GNU.sparse."
PAX_SPARSE_OFFSET = b"GNU.sparse.offset"
PAX_SPARSE_NUMBYTES = b"GNU.sparse.numbytes"
PAX_SPARSE_MAP = b"GNU.sparse.map"
PAX_SPARSE_MAJOR = b"GNU.sparse.major"
PAX_SPARSE_MINOR = b"GNU.sparse.minor"
PAX_SPARSE_NAME = b"GNU.sparse.name"
PAX_SPARSE_SIZE = b"GNU.sparse.size"  # of the whole file, in 0.0 and 0.1
PAX_SPARSE_REALSIZE = b"GNU.sparse.realsize"  # the same in 1.0
