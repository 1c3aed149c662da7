"""The QEMU driver. Owns making a machine's folder and what is in it, and starting QEMU there."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from converter.errors import HypervisorError, UsageError
from converter.events import Monitor
from converter.machine.kvm import choose_accelerator
from converter.machine.model import MachineSpec
from converter.machine.process import QemuProcess, qemu_version
from converter.machine.qemu_command import (
    CONFIG_FILE,
    SCRATCH_FILE,
    Accelerator,
    machine_arguments,
)
from converter.vmdk.c_vmdk import CAPACITY_MAX, SECTOR
from converter.vmdk.descriptor import ParentRef
from converter.vmdk.reader import read_link
from converter.vmdk.scratch import write_scratch

_PARENT_HINT = "chain.vmdk"
_DISK_BACKED_TEMP = "/var/tmp"  # noqa: S108  # mkdtemp makes a fresh name of mode 0700 there


@dataclass(frozen=True, slots=True)
class QemuDriver:
    """Start machines under QEMU on this host.

    `kvm_record` is the file that remembers whether KVM works here. `accelerator` "tcg" or "kvm"
    takes that one without asking; None probes. A machine ends with the thread that started it.
    """

    kvm_record: Path
    monitor: Monitor
    accelerator: str | None = None

    def start(self, spec: MachineSpec, *, channel: Path) -> QemuProcess:
        """Start a machine on a fresh scratch disk above its chain; see driver.Driver.

        Raises NotFoundError when QEMU is missing, IntegrityError for a damaged link, UsageError
        when the folder of a named machine exists, HypervisorError when it cannot be made.
        """
        version = qemu_version()
        accelerator = self._choose(spec, version)
        # Absolute: QEMU's working directory is the machine's folder.
        chain = tuple(link.absolute() for link in spec.chain)
        boot = replace(spec.boot, folder=spec.boot.folder.absolute())
        spec = replace(spec, chain=chain, boot=boot)
        folder = _private_folder(spec.folder)
        try:
            _make_scratch(folder / SCRATCH_FILE, chain[-1], spec.capacity_bytes)
            with _private_file(folder / CONFIG_FILE) as file:
                file.write(spec.guest.encode(spec.channel))
            arguments = machine_arguments(spec, accelerator, channel=channel.absolute())
            return QemuProcess(arguments, folder, temporary=spec.folder is None)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise HypervisorError(
                    f"the machine's folder cannot be filled: {error}",
                    hint="set TMPDIR to a folder with room for the machine's disk",
                ) from error
            raise

    def _choose(self, spec: MachineSpec, version: tuple[int, int]) -> Accelerator:
        if self.accelerator is not None:
            return Accelerator(self.accelerator, version)
        return choose_accelerator(
            spec.boot, qemu_version=version, record=self.kvm_record, monitor=self.monitor
        )


def _private_folder(named: Path | None) -> Path:
    """Make the machine's folder, which nobody else can enter: it holds the channel's key."""
    if named is None:
        # Not /tmp, often a small one in memory: the scratch disk can grow to the disk's capacity.
        parent = os.environ.get("TMPDIR") or _DISK_BACKED_TEMP
        try:
            return Path(tempfile.mkdtemp(prefix="saltflat-run-", dir=parent)).absolute()
        except OSError as error:
            raise HypervisorError(
                f"there is no place for the machine's folder: {error}",
                hint="set TMPDIR to a folder that you may write to",
            ) from error
    try:
        named.mkdir(mode=0o700)
    except FileExistsError as error:
        raise UsageError(
            f"a machine in {named} exists already", hint="choose another name"
        ) from error
    return named.absolute()


def _make_scratch(path: Path, top: Path, capacity_bytes: int) -> None:
    """Make the machine's own disk, an empty child of `top`, at least as large as that."""
    with read_link(top) as link:
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
    with _private_file(path) as file:
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
