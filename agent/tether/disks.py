"""Disks: the root found by its file system's UUID; any grown to the disk's size, mounted, released.

Owns block devices and what the ext4 superblock says of them. It knows nothing of namespaces.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from agent.hints import List, Optional, Tuple
from agent.tether import c_ext4, c_linux, log, syscalls
from agent.tether.errors import StartError
from agent.tether.uevents import UeventListener
from agent.values import dataclass

BLOCK_DEVICES = "/sys/class/block"
SCSI_HOSTS = "/sys/class/scsi_host"
USUAL_PLACE = "0 0 0"  # of the root disk, on each adapter: channel, target, lun

# The first look covers the usual place of the root disk (target 0 of each adapter); only then are
# all targets scanned, which takes up to a second.
FIRST_LOOK_SECONDS = 2.0
WIDE_LOOK_SECONDS = 5.0

# New block groups have inode tables of 4 MiB for each 128 MiB. With this option the kernel zeroes
# them while it grows the file system; without it, in the background, some seconds later. So it is
# set right after the growth, which stops the background's work. All those zeros would go into the
# writable link of the chain, and for nothing: what is behind the old end reads as zeros.
_KEEP_TABLES = "noinit_itable"


@dataclass(frozen=True)
class Ext4Superblock:
    """What a start needs to know of an ext4 file system."""

    uuid: str
    block_bytes: int
    block_count: int


def parse_superblock(raw: bytes) -> Ext4Superblock | None:
    """Return the superblock in these 1024 bytes, or None when they are not an ext4 one."""
    if len(raw) < c_ext4.SUPERBLOCK_BYTES:
        return None
    (magic,) = struct.unpack_from("<H", raw, c_ext4.S_MAGIC)
    (log_block_size,) = struct.unpack_from("<I", raw, c_ext4.S_LOG_BLOCK_SIZE)
    if magic != c_ext4.EXT4_SUPER_MAGIC or log_block_size > c_ext4.EXT4_MAX_BLOCK_LOG_SIZE:
        return None
    (blocks,) = struct.unpack_from("<I", raw, c_ext4.S_BLOCKS_COUNT_LO)
    (features,) = struct.unpack_from("<I", raw, c_ext4.S_FEATURE_INCOMPAT)
    if features & c_ext4.INCOMPAT_64BIT:
        blocks |= struct.unpack_from("<I", raw, c_ext4.S_BLOCKS_COUNT_HI)[0] << 32
    digits = raw[c_ext4.S_UUID : c_ext4.S_UUID + 16].hex()
    uuid = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return Ext4Superblock(uuid, 1024 << log_block_size, blocks)


def find_root(uuid: str, events: UeventListener) -> Tuple[str, Ext4Superblock]:
    """Wait for the disk with this file system and return its node; StartError("disk") if none.

    The drivers must have been loaded, after `events` was opened.
    """
    scan_scsi(USUAL_PLACE)  # again: what is known already costs nothing
    found = events.wait_until(lambda: _look_for(uuid), FIRST_LOOK_SECONDS)
    if found is None:
        scan_scsi("- - -")
        found = events.wait_until(lambda: _look_for(uuid), WIDE_LOOK_SECONDS)
    if found is None:
        seen = ", ".join(_describe_disks()) or "none at all"
        raise StartError(
            "disk", "no disk has the ext4 file system {} (disks seen: {})".format(uuid, seen)
        )
    return found


def mount(device: str, superblock: Ext4Superblock, target: str, what: str) -> None:
    """Mount a file system and grow it to its disk; StartError("disk") when it cannot.

    `what` names the disk in messages.
    """
    os.makedirs(target, exist_ok=True)
    try:
        blocks = growth_in_blocks(superblock, _size_in_bytes(device))
        syscalls.mount(device, target, "ext4", 0, _KEEP_TABLES if blocks is None else None)
    except OSError as error:
        raise StartError(
            "disk", "{} {} cannot be mounted: {}".format(what, device, error.strerror)
        ) from error
    if blocks is None:
        return
    try:
        _grow(target, blocks)
        log.info("{} grown from {} to {} blocks".format(what, superblock.block_count, blocks))
    except OSError as error:
        # The process can still run in the space that there is.
        log.error("{} was not grown: {}".format(what, error))
    try:
        syscalls.mount(None, target, None, c_linux.MS_REMOUNT, _KEEP_TABLES)
    except OSError as error:
        log.error("new inode tables are zeroed in the background: {}".format(error))


def grow_mounted(device: str, target: str) -> None:
    """Grow a file system that is in use to its disk, if that has grown; a failure is logged."""
    superblock = read_superblock(device)
    if superblock is None:
        return
    try:
        blocks = growth_in_blocks(superblock, _size_in_bytes(device))
        if blocks is not None:
            _grow(target, blocks)
            log.info("{} grown from {} to {} blocks".format(device, superblock.block_count, blocks))
    except OSError as error:
        log.error("{} was not grown: {}".format(device, error))


def release(target: str) -> None:
    """Unmount a file system; freeze it when something still holds it, so that it is clean.

    The process's namespaces must be gone: they hold the file system too.
    """
    try:
        syscalls.unmount(target)
    except OSError as error:
        log.error("{} is still in use, freezing it: {}".format(target, error))
        os.sync()
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, c_linux.FIFREEZE, 0)
        finally:
            os.close(descriptor)


def growth_in_blocks(superblock: Ext4Superblock, disk_bytes: int) -> int | None:
    """Return the block count that fills the disk, or None when the file system does already."""
    blocks = disk_bytes // superblock.block_bytes
    return blocks if blocks > superblock.block_count else None


def _size_in_bytes(device: str) -> int:
    disk = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(disk, c_linux.BLKGETSIZE64, bytes(8))
    finally:
        os.close(disk)
    size_bytes: int = struct.unpack("=Q", answer)[0]
    return size_bytes


def _grow(target: str, blocks: int) -> None:
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(root, c_linux.EXT4_IOC_RESIZE_FS, struct.pack("=Q", blocks))
    finally:
        os.close(root)


def _look_for(uuid: str) -> Optional[Tuple[str, Ext4Superblock]]:
    for name in disk_names():
        superblock = read_superblock("/dev/" + name)
        if superblock is not None and superblock.uuid == uuid:
            return "/dev/" + name, superblock
    return None


def disk_names() -> List[str]:
    """Return the names of all block devices."""
    return sorted(os.listdir(BLOCK_DEVICES)) if os.path.isdir(BLOCK_DEVICES) else []


def read_superblock(device: str) -> Ext4Superblock | None:
    """Return the ext4 superblock of a block device, None if it has or gives none (yet)."""
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        # The node comes before the disk: the uevent that follows brings us here again.
        if error.errno not in (errno.ENXIO, errno.ENOENT, errno.ENOMEDIUM):
            log.info("{} cannot be opened: {}".format(device, error.strerror))
        return None
    try:
        return parse_superblock(
            os.pread(descriptor, c_ext4.SUPERBLOCK_BYTES, c_ext4.SUPERBLOCK_OFFSET)
        )
    except OSError as error:
        log.info("{} cannot be read: {}".format(device, error.strerror))
        return None
    finally:
        os.close(descriptor)


def _describe_disks() -> List[str]:
    descriptions = []
    for name in disk_names():
        superblock = read_superblock("/dev/" + name)
        descriptions.append(
            "{} ({})".format(name, superblock.uuid if superblock else "no ext4 file system")
        )
    return descriptions


def scan_scsi(address: str) -> None:
    """Make each SCSI adapter look at "channel target lun"; a dash stands for all of them.

    Not AHCI: it finds its disks itself, and would be reset to look again.
    """
    for host in sorted(os.listdir(SCSI_HOSTS)) if os.path.isdir(SCSI_HOSTS) else ():
        try:
            with open(os.path.join(SCSI_HOSTS, host, "proc_name"), encoding="utf-8") as file:
                if file.read().strip() == "ahci":
                    continue
            with open(os.path.join(SCSI_HOSTS, host, "scan"), "w", encoding="utf-8") as file:
                file.write(address)
        except OSError as error:
            log.error("{} could not be scanned: {}".format(host, error.strerror))
