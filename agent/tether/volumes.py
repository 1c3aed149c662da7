"""Volumes: further disks, found by their serial numbers, and how the process's world gets them.

Owns the way from a disk to a mount in that world. The agent mounts each disk in its own world, out
of the process's reach, so that it has the last hold on it and can leave it clean. The child that
becomes the process takes mounts of its own from there (`hold`), fills what is empty (`fill`), and
puts them where they belong (`place`, `finish`) once the rest of its world is there.
"""

from __future__ import annotations

import os

from agent.hints import Dict, Mapping, Optional, Sequence, Tuple
from agent.tether import copy_up, disks, log, syscalls
from agent.tether.config import Volume
from agent.tether.errors import StartError
from agent.tether.uevents import UeventListener
from agent.values import dataclass

FOLDER = "/volumes"  # in the agent's world, a folder for each disk

_TARGETS = 16  # of an adapter
_SERIAL_HEADER_BYTES = 4  # of SCSI's page 0x80: device type, page, length


@dataclass(frozen=True)
class Held:
    """A volume and the descriptor of a mount of it that is nowhere yet."""

    volume: Volume
    tree: int


def mount_disks(wanted: Sequence[Volume], events: UeventListener) -> Mapping[str, str]:
    """Mount the disks that `wanted` names in the agent's world; return serial -> mount point.

    The drivers must have been loaded. Raises StartError("disk") when one is not there or is no
    file system.
    """
    serials = list(dict.fromkeys(volume.serial for volume in wanted))
    mounted: Dict[str, str] = {}
    if not serials:
        return mounted
    found = _find(serials, events)
    for number, serial in enumerate(serials):
        device, superblock = found[serial]
        mounted[serial] = "{}/{}".format(FOLDER, number)
        disks.mount(device, superblock, mounted[serial], "the volume's disk")
    log.info("{} volumes mounted".format(len(mounted)))
    return mounted


def release_disks() -> None:
    """Leave all volumes clean. The process's namespaces must be gone."""
    for name in sorted(os.listdir(FOLDER)) if os.path.isdir(FOLDER) else ():
        target = os.path.join(FOLDER, name)
        if os.path.ismount(target):
            disks.release(target)


def hold(wanted: Sequence[Volume], mounted: Mapping[str, str]) -> Tuple[Held, ...]:
    """Take a mount of each volume from the agent's world, before that is left behind."""
    return tuple(Held(volume, syscalls.open_tree(mounted[volume.serial])) for volume in wanted)


def fill(held: Sequence[Held]) -> None:
    """Let empty volumes take over what the image has at their paths; nothing else is mounted yet.

    Raises StartError("volume").
    """
    for one in held:
        if one.volume.copy:
            with _explained(one.volume, "cannot take over what the image has there"):
                copy_up.fill(_resolve(one.volume), one.tree)


def place(held: Sequence[Held]) -> None:
    """Mount the volumes, outer ones first, and make missing folders; StartError("volume")."""
    for one in sorted(held, key=lambda one: one.volume.path.count("/")):
        with _explained(one.volume, "cannot be mounted"):
            target = _resolve(one.volume)
            os.makedirs(target, 0o755, exist_ok=True)
            syscalls.move_mount(one.tree, target)


def finish(held: Sequence[Held]) -> None:
    """Make those read-only that shall be, now that all folders in them are made."""
    for one in held:
        if one.volume.read_only:
            with _explained(one.volume, "cannot be made read-only"):
                syscalls.make_read_only(one.tree)


def read_serial(name: str, folder: str = disks.BLOCK_DEVICES) -> Optional[str]:
    """Return the serial number of a block device by its name, None if it has or tells none."""
    base = os.path.join(folder, name)
    page = _read(os.path.join(base, "device/vpd_pg80"))  # SCSI
    if page is not None:
        return _text(page[_SERIAL_HEADER_BYTES:])
    for place_of_it in ("serial", "device/serial"):  # virtio-blk; NVMe
        raw = _read(os.path.join(base, place_of_it))
        if raw is not None:
            return _text(raw)
    return None


def _find(
    serials: Sequence[str], events: UeventListener
) -> Mapping[str, Tuple[str, disks.Ext4Superblock]]:
    def look() -> Optional[Dict[str, Tuple[str, disks.Ext4Superblock]]]:
        found = _look_for(serials)
        return found if len(found) == len(serials) else None

    # They follow the root disk, but for the one number that is an adapter's own, and then begin
    # again on another adapter.
    for target in range(min(len(serials) + 2, _TARGETS)):
        disks.scan_scsi("0 {} 0".format(target))
    found = events.wait_until(look, disks.FIRST_LOOK_SECONDS)
    if found is None:
        disks.scan_scsi("- - -")
        found = events.wait_until(look, disks.WIDE_LOOK_SECONDS)
    if found is None:
        there = _look_for(serials)
        missing = [serial for serial in serials if serial not in there]
        seen = ["{} ({})".format(name, read_serial(name)) for name in disks.disk_names()]
        raise StartError(
            "disk",
            "no disk with an ext4 file system has the serial number {} (disks seen: {})".format(
                " or ".join(missing), ", ".join(seen) or "none at all"
            ),
        )
    return found


def _look_for(serials: Sequence[str]) -> Dict[str, Tuple[str, disks.Ext4Superblock]]:
    found = {}
    for name in disks.disk_names():
        serial = read_serial(name)
        if serial in serials and serial is not None:
            superblock = disks.read_superblock("/dev/" + name)
            if superblock is not None:
                found[serial] = ("/dev/" + name, superblock)
    return found


def _resolve(volume: Volume) -> str:
    """Return the path in the image's world with all links followed, whether it is there or not."""
    target = os.path.realpath(volume.path)
    if target in ("/", "/proc") or target.startswith("/proc/"):
        raise StartError(
            "volume", "the volume for {} would be mounted at {}".format(volume.path, target)
        )
    return target


class _explained:  # noqa: N801 - a function to who uses it
    """Turn an OSError into a StartError that names the volume."""

    def __init__(self, volume: Volume, what: str) -> None:
        self._what = "the volume for {} {}".format(volume.path, what)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError):
            why = error.strerror or error
            raise StartError("volume", "{}: {}".format(self._what, why)) from error


def _read(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read(4096)
    except OSError:
        return None


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip(" \0\n").lower()
