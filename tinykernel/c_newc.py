"""The "newc" cpio format (SVR4 without CRC), field by field as cpio(5) and the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst name them. No logic.
"""

from __future__ import annotations

import re

MAGIC = b"070701"

# After the magic: thirteen numbers, each eight upper-case hexadecimal digits.
FIELDS = (
    "ino",
    "mode",
    "uid",
    "gid",
    "nlink",
    "mtime",
    "filesize",
    "devmajor",
    "devminor",
    "rdevmajor",
    "rdevminor",
    "namesize",  # includes the terminating NUL
    "check",  # zero in newc; "070702" archives would put a byte sum here
)
HEADER_SIZE = len(MAGIC) + 8 * len(FIELDS)
HEADER = re.compile(MAGIC + rb"([0-9A-Fa-f]{%d})" % (8 * len(FIELDS)))

ALIGNMENT = 4  # both the name and the data are padded with NULs to this
TRAILER = "TRAILER!!!"
