"""A machine's volumes under QEMU: which disks it gets, and what the guest is told of them.

A volume that the machine may only read stands below an empty writable disk in the machine's folder,
new at each start. So several machines can share it, nothing reaches it, and the guest can still do
what even a reader of a disk must: replay the journal of a file system that lost its power.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from converter.machine.model import GuestVolume
from converter.vmdk.descriptor import ParentRef
from converter.vmdk.reader import read_sparse_link
from converter.vmdk.scratch import write_scratch
from converter.volume.mount import VolumeMount
from converter.volume.volumes import Lent, private

# What a guest's driver looks at on an adapter: targets 0 to 15 but for 7, the adapter's own. The
# root disk has the first place of the first adapter.
_PLACES = 15
_RESERVED_TARGET = 7


def make_overlays(folder: Path, lent: Sequence[Lent]) -> None:
    """Make the disks in the machine's `folder` that stand above volumes which are only read.

    Raises IntegrityError for a damaged volume, OSError.
    """
    for number, volume in enumerate(lent):
        if not volume.read_only:
            continue
        path = folder / _overlay(number)
        with suppress(FileNotFoundError):  # from the start before
            path.unlink()
        with read_sparse_link(volume.disk) as link:
            cid, capacity_bytes = link.descriptor.cid, link.capacity_bytes
        with open(path, "xb", buffering=0, opener=private) as file:
            write_scratch(
                file,
                capacity_bytes=capacity_bytes,
                cid=cid,
                parent=ParentRef(cid, volume.disk.name),  # nobody follows it, as for the root disk
                file_name=path.name,
            )


def volume_arguments(lent: Sequence[Lent]) -> list[str]:
    """Return QEMU's arguments for the volumes; the adapter `scsi` is there, with the root disk."""
    arguments: list[str] = []
    for number, volume in enumerate(lent):
        for node in _nodes(number, volume):
            arguments += ["-blockdev", json.dumps(node)]
        adapter, place = divmod(number + 1, _PLACES)
        name = f"scsi{adapter or ''}"
        if not place:
            arguments += ["-device", f"pvscsi,id={name}"]
        target = place + (place >= _RESERVED_TARGET)
        device = f"scsi-hd,bus={name}.0,scsi-id={target},drive=volume{number}"
        arguments += ["-device", f"{device},serial={volume.volume.serial}"]
    return arguments


def guest_volumes(mounts: Iterable[VolumeMount], lent: Iterable[Lent]) -> tuple[GuestVolume, ...]:
    """Return what the guest is told, in the order in which it shall mount."""
    serials = {volume.volume.name: volume.volume.serial for volume in lent}
    return tuple(
        GuestVolume(
            serial=serials[mount.name],
            path=mount.target,
            read_only=mount.read_only,
            copy=mount.copy,
        )
        for mount in mounts
    )


def _nodes(number: int, volume: Lent) -> Iterator[dict[str, Any]]:
    disk: dict[str, Any] = {"driver": "file", "filename": os.fspath(volume.disk)}
    if not volume.read_only:
        # A name of a parent in the descriptor, if somebody put one there, is not followed.
        yield {"driver": "vmdk", "node-name": f"volume{number}", "file": disk, "backing": None}
        return
    yield {
        "driver": "vmdk",
        "node-name": f"below{number}",
        "read-only": True,
        "file": {**disk, "read-only": True},
        "backing": None,
    }
    yield {
        "driver": "vmdk",
        "node-name": f"volume{number}",
        "file": {"driver": "file", "filename": _overlay(number)},
        "backing": f"below{number}",
        "cache": {"no-flush": True},  # it does not outlive the start
    }


def _overlay(number: int) -> str:
    return f"volume{number}.vmdk"
