"""What QEMU finds in a machine's folder: the machine's own disk and the guest's document."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from converter.errors import NotFoundError, UsageError
from converter.machine.model import GuestVolume, MachineSpec
from converter.machine.qemu_command import CONFIG_FILE, SCRATCH_FILE
from converter.network.user import guest_network, host_domains
from converter.vmdk.c_vmdk import CAPACITY_MAX, SECTOR
from converter.vmdk.descriptor import ParentRef
from converter.vmdk.reader import read_sparse_link
from converter.vmdk.scratch import write_scratch

_PARENT_HINT = "chain.vmdk"


def write_guest_document(
    folder: Path, spec: MachineSpec, key: bytes, volumes: Sequence[GuestVolume] = ()
) -> None:
    """Write the document that the guest reads at its next boot; it holds the key. Raises OSError.

    Not durable: each boot has another.
    """
    path = folder / CONFIG_FILE
    path.unlink(missing_ok=True)
    network = None
    if spec.networking.cards:
        network = guest_network(spec.networking, search_domains=host_domains())
    with _private_file(path) as file:
        file.write(spec.guest.encode(spec.channel, key, volumes, network))


def check_disks(folder: Path, spec: MachineSpec) -> None:
    """Raise NotFoundError when a file is gone that the machine cannot start without."""
    for path in (*spec.chain, folder / SCRATCH_FILE, spec.boot.kernel, spec.boot.initrd):
        if not path.is_file():
            raise NotFoundError(
                f"{path} is gone, and the machine cannot start without it.",
                hint="Put the file back, or remove the machine.",
            )


def make_scratch(folder: Path, spec: MachineSpec) -> None:
    """Make the machine's own disk, an empty child of the chain, at least as large as that.

    Raises UsageError for a size that cannot be, IntegrityError for a damaged link, OSError.
    """
    capacity_bytes = spec.capacity_bytes
    with read_sparse_link(spec.chain[-1]) as link:
        if capacity_bytes < link.capacity_bytes:
            raise UsageError(
                f"a disk of {capacity_bytes} bytes is smaller than the chain that it stands on",
                expected=f"at least {link.capacity_bytes} bytes",
            )
        if capacity_bytes > CAPACITY_MAX * SECTOR:
            raise UsageError(
                f"a disk of {capacity_bytes} bytes is more than a VMDK can have",
                expected=f"at most {CAPACITY_MAX * SECTOR} bytes",
            )
        cid, grain_bytes = link.descriptor.cid, link.grain_bytes
    with _private_file(folder / SCRATCH_FILE) as file:
        write_scratch(
            file,
            capacity_bytes=capacity_bytes,
            grain_bytes=grain_bytes,
            cid=cid,  # of the content, which is still the parent's; QEMU's first write changes it
            # A name in this folder; nobody follows it, QEMU is given every backing node. So the
            # chain's files may have names that a descriptor cannot hold.
            parent=ParentRef(cid, _PARENT_HINT),
            file_name=SCRATCH_FILE,
        )


def _private_file(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "wb")
